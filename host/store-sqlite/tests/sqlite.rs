//! The suite on SQLite, and what only a file can show: reopening, backup, many writers, foreign locks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use wharf_model::{object::ObjectKind, operation::Status};
use wharf_store::{
    Books, Commit, Decision, EffectChange, Events, Queue, StoreError, Then,
    conformance::fixture::{self, NOW, TTL},
};
use wharf_store_sqlite::SqliteStore;

async fn make() -> (Books, TempDir) {
    let folder = TempDir::new().unwrap();
    (open(folder.path()).await, folder)
}

async fn open(folder: &Path) -> Books {
    Arc::new(SqliteStore::open(folder.join("books.db")).await.unwrap())
}

wharf_store::conformance_tests!(make);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let books = open(folder.path()).await;
    let (service, operation) = fixture::create(&books, "1", NOW).await;
    let queued = fixture::add(&books, "1", "change", NOW).await;
    let run = fixture::claim(&books, NOW).await;
    let log = vec![fixture::step(1), fixture::line("x")];
    let events = vec![fixture::event(Some(&service), "service.changed")];
    let effect = Some(fixture::write(Some(("pool", 2))));
    books.commit(Commit { log, events, effect, ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
    fixture::change(&books, run.claim, EffectChange::Issued { task: "UPID:1".into() }, NOW).await;
    let before = books.reload(&run.claim).await.unwrap();
    let log = books.log(operation.id, 0, 10).await.unwrap();
    drop(books);

    let books = open(folder.path()).await;
    assert_eq!(books.reload(&run.claim).await.unwrap(), before, "claims, effects and all");
    assert_eq!(books.log(operation.id, 0, 10).await.unwrap(), log);
    assert_eq!(books.slots().await.unwrap()["pool"], [operation.id]);
    assert_eq!(books.operation(queued.id).await.unwrap().unwrap().status, Status::Queued);
    assert_eq!(books.events_after(0, None, 10).await.unwrap().len(), 1);
    let taken = fixture::claim(&books, NOW + TTL).await;
    assert!(taken.taken_over);
    assert_eq!(taken.effect, before.effect);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_writers_at_once_lose_nothing() {
    let folder = TempDir::new().unwrap();
    let books = open(folder.path()).await;
    let writers: Vec<_> = (0..64)
        .map(|n| {
            let books = books.clone();
            tokio::spawn(async move {
                let reference = n.to_string();
                let owned = reference.clone();
                let wish = fixture::accept(&reference, move |_, _| fixture::creating(&owned), NOW);
                let (service, _, _) = fixture::done(books.accept(wish).await.unwrap());
                for m in 0..5_i64 {
                    // Half of them fail: that must not touch the others in the same transaction.
                    let expect = if m % 2 == 0 { None } else { Some(99) };
                    let body = serde_json::json!({ "m": m });
                    let put = books.put_object(ObjectKind::Plan, &reference, body, expect, None, NOW).await;
                    assert_eq!(put.is_ok(), m % 2 == 0, "{put:?}");
                    books.append_events(vec![fixture::event(Some(&service), "service.x")], NOW).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(books.queue_counts().await.unwrap().live, 64);
    assert_eq!(books.events_after(0, None, 1_000).await.unwrap().len(), 320);
    let plans = books.objects(ObjectKind::Plan).await.unwrap();
    assert_eq!(plans.len(), 64);
    assert!(plans.iter().all(|p| p.revision == 3 && p.body["m"] == 4));
    assert_eq!(fixture::claim_all(&books, NOW).await.len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_panics_hurts_only_its_own_wish() {
    let folder = TempDir::new().unwrap();
    let books = open(folder.path()).await;
    let wish = fixture::accept("1", |_, _| -> Decision { panic!("a bug in a decision") }, NOW);
    let failed = books.accept(wish).await;
    assert!(matches!(failed, Err(StoreError::Corrupt(_))), "{failed:?}");
    fixture::create(&books, "2", NOW).await;
    assert_eq!(books.queue_counts().await.unwrap().live, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_complete_and_taken_while_work_goes_on() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("books.db")).await.unwrap();
    let books: Books = Arc::new(store.clone());
    fixture::create(&books, "1", NOW).await;
    let writing = {
        let books = books.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                books.audit(fixture::audit(&n.to_string()), NOW).await.unwrap();
            }
        })
    };
    let copy = folder.path().join("backup.db");
    store.backup(&copy).await.unwrap();
    writing.await.unwrap();
    let there = store.backup(&copy).await;
    assert!(matches!(there, Err(StoreError::Conflict(_))), "a backup is never overwritten: {there:?}");
    let nowhere = store.backup(folder.path().join("no/such/folder/backup.db")).await;
    assert!(matches!(nowhere, Err(StoreError::Unavailable(_))), "{nowhere:?}");

    let restored = SqliteStore::open(&copy).await.unwrap();
    assert_eq!(restored.integrity_check().await.unwrap(), Vec::<String>::new());
    assert_eq!(restored.queue_counts().await.unwrap().live, 1);
    assert_eq!(store.integrity_check().await.unwrap(), Vec::<String>::new());
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|n| !n.to_string_lossy().ends_with(".partial")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_locked_by_another_process_is_unavailable_and_heals() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("books.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let other = format!("sqlite:{}", path.display());
    let mut lock = <sqlx::SqliteConnection as sqlx::Connection>::connect(&other).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();
    let started = std::time::Instant::now();
    let failed = store.audit(fixture::audit("x"), NOW).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    assert!(started.elapsed() >= Duration::from_secs(4), "it waited for the lock first");
    assert!(store.audit_log(10).await.unwrap().is_empty(), "readers are not held up");
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    store.audit(fixture::audit("y"), NOW).await.unwrap();
    assert_eq!(store.audit_log(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("books.db");
    let text = "This is a letter, not a database. ".repeat(300);
    std::fs::write(&path, &text).unwrap();
    let refused = SqliteStore::open(&path).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let nowhere = SqliteStore::open(folder.path().join("no/such/folder/books.db")).await;
    assert!(matches!(nowhere, Err(StoreError::Unavailable(_))), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("books.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let mut newer =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)")
        .execute(&mut newer)
        .await
        .unwrap();
    let refused = SqliteStore::open(&path).await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("migration 9999") && message.contains("newer"), "{message}");
}
