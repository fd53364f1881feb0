//! Whole books go from SQLite to PostgreSQL and back, row by row the same, also when the copy was ended in the middle.
//!
//! `WHARF_TEST_LONG=1` plays the full size: 100,000 services and 500,000 operations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};

use async_trait::async_trait;
use postgres_peer::Server;
use rand::RngExt;
use sqlx::Connection;
use uuid::Uuid;
use wharf_model::{object::ObjectKind, operation::Reason};
use wharf_store::{
    Books, Commit, Events, Meta, Result, StoreError, Then,
    conformance::fixture::{self, NOW, TTL},
    copy::{Copied, copy, copy_snapshot},
    tables::{COPYING, Counters, Kind, Row, Rows, Snapshot, TABLES, Table, digest},
};
use wharf_store_postgres::PostgresStore;
use wharf_store_sqlite::SqliteStore;

const QUIET: &(dyn Fn(String) + Sync) = &|_| {};

/// Books in which every sort of row is likely.
async fn fill(books: &Books, services: usize) {
    let hook = serde_json::json!({ "plugin": "webhook" });
    books.put_object(ObjectKind::Hook, "h", hook, None, None, NOW).await.unwrap();
    let owner = Uuid::new_v4();
    for n in 0..services {
        let (service, _) = fixture::create(books, &format!("{n} \u{fc}\u{1f4a5} '\"\\"), NOW).await;
        let noise: Vec<u8> = (0..n % 40).map(|_| rand::rng().random()).collect();
        books.put_secret(&format!("service/{}", service.id), "password", &noise, NOW).await.unwrap();
        books.kv_set("p", &format!("k{n}"), &noise, 1_000_000).await.unwrap();
        books.reserve_vmid(None, "pve", service.id, 100, &[], NOW).await.unwrap();
        books.append_events(vec![fixture::event(Some(&service), "service.x")], NOW).await.unwrap();
        books.audit(fixture::audit("fill"), NOW).await.unwrap();
    }
    for run in books.claim(owner, TTL, services * 2 / 3, NOW).await.unwrap() {
        let slot = rand::rng().random_bool(0.5).then_some(("pool", 3));
        let begin = Commit {
            effect: Some(fixture::write(slot)),
            log: vec![fixture::step(1), fixture::line("\u{0}nul is escaped")],
            ..Commit::new(run.claim, NOW, Then::Keep)
        };
        let held = books.commit(begin).await.unwrap();
        if matches!(held, wharf_store::Committed::Held { .. }) && rand::rng().random_bool(0.5) {
            let end = Commit { effect: Some(fixture::succeeded()), ..Commit::new(run.claim, NOW, fixture::succeed()) };
            books.commit(end).await.unwrap();
        }
    }
}

async fn sqlite(folder: &Path, name: &str) -> SqliteStore {
    SqliteStore::open(folder.join(name)).await.unwrap()
}

async fn comes_to(books: &dyn Rows) -> String {
    digest(&mut *books.snapshot().await.unwrap()).await.unwrap().overall()
}

/// Books that end with an error after so many pages, as a process does that is killed.
struct Dying<'a> {
    books: &'a dyn Copied,
    pages: std::sync::atomic::AtomicI64,
}

#[async_trait]
impl Rows for Dying<'static> {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.books.snapshot().await
    }
    async fn write_rows(&self, table: &'static Table, rows: Vec<Row>) -> Result<()> {
        if self.pages.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) <= 0 {
            return Err(StoreError::Unavailable("killed".into()));
        }
        self.books.write_rows(table, rows).await
    }
    async fn clear(&self) -> Result<()> {
        self.books.clear().await
    }
    async fn set_counters(&self, counters: Counters) -> Result<()> {
        self.books.set_counters(counters).await
    }
}

#[async_trait]
impl Meta for Dying<'static> {
    async fn meta(&self, key: &str) -> Result<Option<String>> {
        self.books.meta(key).await
    }
    async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()> {
        self.books.set_meta(key, value).await
    }
    async fn stop_all(&self, reason: Reason, now: i64) -> Result<u64> {
        self.books.stop_all(reason, now).await
    }
    async fn merge(&self, merge: wharf_store::Merge) -> Result<()> {
        self.books.merge(merge).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_go_to_the_other_engine_and_back_and_work_goes_on() {
    let (server, folder) = (Server::start(), tempfile::TempDir::new().unwrap());
    let one = sqlite(folder.path(), "one.db").await;
    fill(&(Arc::new(one.clone()) as Books), 60).await;
    // The last numbers are of rows that are pruned: they must not come again.
    let file = format!("sqlite:{}", folder.path().join("one.db").display());
    let mut shell = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("DELETE FROM delivery; ").execute(&mut shell).await.unwrap();
    sqlx::query("DELETE FROM event").execute(&mut shell).await.unwrap();
    let postgres = PostgresStore::open(&server.database("two", None), 4).await.unwrap();
    let before = comes_to(&one).await;

    let done = copy(&one, &postgres, false, QUIET).await.unwrap();

    assert_eq!(done.digest.overall(), before);
    assert_eq!(done.written, done.digest.rows());
    assert_eq!(comes_to(&postgres).await, before);
    assert_eq!(postgres.meta(COPYING).await.unwrap(), None);
    assert_eq!(postgres.integrity_check().await.unwrap(), Vec::<String>::new());
    let books: Books = Arc::new(postgres.clone());
    books.append_events(vec![fixture::event(None, "wharf.x")], NOW).await.unwrap();
    let next = books.events_after(0, None, 10).await.unwrap();
    assert_eq!(next[0].seq, 61, "the feed goes on after what is pruned");
    // Those that wait for a slot keep their places before those that come.
    let late = fixture::create(&books, "late", NOW).await;
    let runs = books.claim(Uuid::new_v4(), TTL, 1_000, NOW + TTL).await.unwrap();
    let run = runs.iter().find(|r| r.service.id == late.0.id).unwrap();
    let parks = Commit { effect: Some(fixture::write(Some(("pool", 3)))), ..Commit::new(run.claim, NOW, Then::Keep) };
    books.commit(parks).await.unwrap();

    let back = sqlite(folder.path(), "back.db").await;
    books.append_events(vec![fixture::event(None, "wharf.unread")], NOW).await.unwrap();
    copy(&postgres, &back, false, QUIET).await.unwrap();

    assert_eq!(comes_to(&back).await, comes_to(&postgres).await);
    assert_eq!(back.integrity_check().await.unwrap(), Vec::<String>::new());
    let kinds: Vec<_> = back.events_after(61, None, 10).await.unwrap().into_iter().map(|e| e.event.kind).collect();
    assert_eq!(kinds.last().unwrap(), "wharf.unread", "also what nobody had read yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_ended_goes_on_where_it_was_and_only_with_the_same_source() {
    let (server, folder) = (Server::start(), tempfile::TempDir::new().unwrap());
    let one: &'static SqliteStore = Box::leak(Box::new(sqlite(folder.path(), "one.db").await));
    fill(&(Arc::new(one.clone()) as Books), 30).await;
    let two: &'static PostgresStore =
        Box::leak(Box::new(PostgresStore::open(&server.database("two", None), 4).await.unwrap()));
    let back: &'static SqliteStore = Box::leak(Box::new(sqlite(folder.path(), "back.db").await));
    for (from, to) in [(one as &'static dyn Copied, two as &'static dyn Copied), (two, back)] {
        for pages in [0, 1, 3, 7] {
            let dying = Dying { books: to, pages: pages.into() };
            let ended = copy(from, &dying, false, QUIET).await;
            assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
            assert!(to.meta(COPYING).await.unwrap().is_some());
        }
        let done = copy(from, to, false, QUIET).await.unwrap();
        assert!(done.found > 0 && done.written > 0, "{done:?}");
        assert_eq!(done.found + done.written, done.digest.rows());
        assert_eq!(comes_to(from).await, comes_to(to).await);
    }
    // Not empty any more.
    let again = copy(one, two, false, QUIET).await.unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");
    // The source goes on between two tries.
    let third = sqlite(folder.path(), "third.db").await;
    let third: &'static SqliteStore = Box::leak(Box::new(third));
    copy(one, &Dying { books: third, pages: 5.into() }, false, QUIET).await.unwrap_err();
    one.audit(fixture::audit("meanwhile"), NOW).await.unwrap();
    let refused = copy(one, third, false, QUIET).await.unwrap_err().to_string();
    assert!(refused.contains("--restart"), "{refused}");
    // What is not finished is no source.
    let refused = copy(third, back, false, QUIET).await.unwrap_err().to_string();
    assert!(refused.contains("unfinished copy"), "{refused}");
    copy(one, third, true, QUIET).await.unwrap();
    assert_eq!(comes_to(one).await, comes_to(third).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_differs_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let (one, two) = (sqlite(folder.path(), "one.db").await, sqlite(folder.path(), "two.db").await);
    fill(&(Arc::new(one.clone()) as Books), 10).await;
    let two: &'static SqliteStore = Box::leak(Box::new(two));
    copy(&one, &Dying { books: two, pages: 6.into() }, false, QUIET).await.unwrap_err();
    let file = format!("sqlite:{}", folder.path().join("two.db").display());
    let mut shell = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("UPDATE kv SET value = x'00' WHERE key = 'k7'").execute(&mut shell).await.unwrap();
    let refused = copy(&one, two, false, QUIET).await.unwrap_err().to_string();
    assert!(refused.contains("`kv`, first at p, k7"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_books_at_work_is_one_moment_of_them() {
    let (server, folder) = (Server::start(), tempfile::TempDir::new().unwrap());
    let postgres = PostgresStore::open(&server.database("books", None), 6).await.unwrap();
    let books: Books = Arc::new(postgres.clone());
    fill(&books, 30).await;
    let (working, over) = (books.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stop = Arc::clone(&over);
    let at_work = tokio::spawn(async move {
        for n in 0.. {
            if stop.load(std::sync::atomic::Ordering::SeqCst) {
                return n;
            }
            let (service, _) = fixture::create(&working, &format!("w{n}"), NOW).await;
            working.append_events(vec![fixture::event(Some(&service), "service.x")], NOW).await.unwrap();
        }
        0
    });
    for n in 0..5 {
        let backup = sqlite(folder.path(), &format!("{n}.db")).await;
        copy_snapshot(&postgres, &backup, QUIET).await.unwrap();
        assert_eq!(backup.integrity_check().await.unwrap(), Vec::<String>::new());
        let seen: Vec<i64> = backup.events_after(0, None, 1_000_000).await.unwrap().iter().map(|e| e.seq).collect();
        assert_eq!(seen, (1..=i64::try_from(seen.len()).unwrap()).collect::<Vec<_>>());
        let feed = books.events_after(0, None, seen.len()).await.unwrap();
        let copied = backup.events_after(0, None, seen.len()).await.unwrap();
        assert_eq!(feed, copied, "numbered as the feed is");
    }
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(at_work.await.unwrap() > 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_tables_is_that_of_both_engines() {
    let (server, folder) = (Server::start(), tempfile::TempDir::new().unwrap());
    drop(PostgresStore::open(&server.database("books", None), 2).await.unwrap());
    drop(sqlite(folder.path(), "books.db").await);
    let listed = |int: &str, blob: &str, text: &str| -> BTreeSet<String> {
        TABLES
            .iter()
            .flat_map(|t| {
                t.columns.iter().map(|(name, kind)| {
                    let kind = match kind {
                        Kind::Int => int,
                        Kind::Bytes => blob,
                        Kind::Text => text,
                    };
                    let place = t.key.iter().position(|k| k == name).map_or(0, |at| at + 1);
                    format!("{}.{name} {kind} {place}", t.name)
                })
            })
            .collect()
    };
    let file = format!("sqlite:{}", folder.path().join("books.db").display());
    let mut shell = sqlx::SqliteConnection::connect(&file).await.unwrap();
    let there: Vec<String> = sqlx::query_scalar(
        "SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.pk FROM sqlite_master m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\'
           AND m.name NOT IN ('host', 'watch')",
    )
    .fetch_all(&mut shell)
    .await
    .unwrap();
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), listed("INTEGER", "BLOB", "TEXT"));
    let there = server.sql(
        "books",
        "SELECT c.table_name || '.' || c.column_name || ' ' || c.data_type || ' ' || COALESCE(k.ordinal_position, 0)
         FROM information_schema.columns c
         LEFT JOIN information_schema.table_constraints t
           ON t.table_schema = 'public' AND t.table_name = c.table_name AND t.constraint_type = 'PRIMARY KEY'
         LEFT JOIN information_schema.key_column_usage k
           ON k.constraint_schema = 'public' AND k.constraint_name = t.constraint_name AND k.column_name = c.column_name
         WHERE c.table_schema = 'public'
           AND c.table_name NOT IN ('_sqlx_migrations', 'pending', 'publisher', 'host', 'watch')",
    );
    let there: BTreeSet<String> = there.lines().map(str::to_owned).collect();
    assert_eq!(there, listed("bigint", "bytea", "text"));
}

/// A large house: what a migration of a year's business takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_house_moves_to_postgresql() {
    let services = if std::env::var_os("WHARF_TEST_LONG").is_some() { 100_000 } else { 5_000 };
    let (server, folder) = (Server::start(), tempfile::TempDir::new().unwrap());
    let one = sqlite(folder.path(), "one.db").await;
    let file = format!("sqlite:{}", folder.path().join("one.db").display());
    let mut shell = sqlx::SqliteConnection::connect(&file).await.unwrap();
    for sql in include_str!("../../store-sqlite/tests/large_house.sql").trim().split_terminator(';') {
        sqlx::query(sql).bind(services).execute(&mut shell).await.unwrap();
    }
    drop(shell);
    let two = PostgresStore::open(&server.database("two", None), 4).await.unwrap();
    let begun = Instant::now();
    let done = copy(&one, &two, false, &|line| eprintln!("{line}")).await.unwrap();
    let (there, begun) = (begun.elapsed(), Instant::now());
    let operations = done.digest.tables.iter().find(|t| t.table == "operation").unwrap().rows;
    assert_eq!(operations, u64::try_from(services).unwrap() * 5);
    assert_eq!(two.integrity_check().await.unwrap(), Vec::<String>::new());
    let back = sqlite(folder.path(), "back.db").await;
    copy(&two, &back, false, &|line| eprintln!("{line}")).await.unwrap();
    assert_eq!(comes_to(&back).await, done.digest.overall());
    eprintln!("{} rows: to PostgreSQL in {there:?}, back in {:?}", done.digest.rows(), begun.elapsed());
}
