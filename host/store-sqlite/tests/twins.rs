//! The in-memory model and SQLite can't be told apart ([`twins`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use std::sync::Arc;

use wharf_store::{conformance::twins, memory::MemoryStore};
use wharf_store_sqlite::SqliteStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_and_sqlite_answer_alike_whatever_is_asked() {
    for seed in 0..twins::seeds(12) {
        let folder = tempfile::TempDir::new().unwrap();
        let sqlite = SqliteStore::open(folder.path().join("books.db")).await.unwrap();
        twins::play(seed, Arc::new(MemoryStore::new()), Arc::new(sqlite)).await;
    }
}
