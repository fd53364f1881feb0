//! What needs the writer's own connection to show.

use sqlx::query;
use wharf_store::{
    Events, StoreError,
    conformance::fixture::{NOW, audit},
};

use crate::SqliteStore;

/// Lets the file grow no further (`Some`), or as it likes.
async fn cap(store: &SqliteStore, pages: u32) {
    store
        .writer
        .run(move |c| {
            Box::pin(async move {
                let pragma = format!("PRAGMA max_page_count = {pages}");
                query(sqlx::AssertSqlSafe(pragma)).execute(&mut *c).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_unavailable_and_what_was_written_stays() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("books.db")).await.unwrap();
    store.audit(audit("before"), NOW).await.unwrap();
    // SQLite answers a file that may not grow as it answers a full disk: SQLITE_FULL.
    cap(&store, 1).await;
    let big = wharf_store::NewAudit { body: serde_json::json!("x".repeat(1_000_000)), ..audit("big") };
    let (one, two) = tokio::join!(store.audit(big.clone(), NOW), store.audit(big, NOW));
    for failed in [one, two] {
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    }
    cap(&store, u32::MAX - 1).await;
    store.audit(audit("after"), NOW).await.unwrap();
    let actions: Vec<_> = store.audit_log(10).await.unwrap().into_iter().map(|a| a.action).collect();
    assert_eq!(actions, ["after", "before"]);
    assert!(store.integrity_check().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_runs_as_durably_as_promised() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("books.db")).await.unwrap();
    let settings = store
        .writer
        .run(|c| {
            Box::pin(async move {
                let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *c).await?;
                let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *c).await?;
                let foreign: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut *c).await?;
                Ok((journal, synchronous, foreign))
            })
        })
        .await
        .unwrap();
    // 2 = FULL: https://www.sqlite.org/pragma.html#pragma_synchronous
    assert_eq!(settings, ("wal".to_owned(), 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_use_the_index_of_due_runs() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path().join("books.db")).await.unwrap();
    let mut reader = store.reader().await.unwrap();
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(
        "EXPLAIN QUERY PLAN SELECT operation_id FROM queue WHERE due_ms <= 1 AND wait_slot IS NULL
         ORDER BY due_ms, operation_id LIMIT 10",
    )
    .fetch_all(&mut *reader)
    .await
    .unwrap();
    let steps: Vec<_> = plan.into_iter().map(|p| p.3).collect();
    assert_eq!(steps.len(), 1, "no sorting, no second table: {steps:?}");
    assert!(steps[0].contains("USING INDEX queue_due (due_ms<?)"), "{steps:?}");
}
