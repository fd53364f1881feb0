//! The in-memory model passes the suite, and fails when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use std::sync::{Arc, Mutex};

use wharf_store::{
    Books, Objects, Queue, StoreError,
    conformance::fixture::{NOW, accept, claim, creating, wait_until},
    memory::{Fault, MemoryStore},
};

async fn make() -> (Books, ()) {
    (Arc::new(MemoryStore::new()), ())
}

wharf_store::conformance_tests!(make);

#[tokio::test]
async fn a_call_that_fails_before_does_nothing() {
    let store = MemoryStore::new();
    store.fault_hook(Box::new(|method, _| if method == "accept" { Fault::FailBefore } else { Fault::None }));
    let failed = store.accept(accept("1", |_, _| creating("1"), NOW)).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    store.clear_fault_hook();
    assert_eq!(store.queue_counts().await.unwrap().live, 0);
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_done() {
    let store = Arc::new(MemoryStore::new());
    let books: Books = store.clone();
    books.accept(accept("1", |_, _| creating("1"), NOW)).await.unwrap();
    let run = claim(&books, NOW).await;
    store.fault_hook(Box::new(
        |method, nth| {
            if (method, nth) == ("commit", 3) { Fault::FailAfter } else { Fault::None }
        },
    ));
    let commit = wharf_store::Commit::new(run.claim, NOW, wait_until(NOW + 5));
    let lost = store.commit(commit.clone()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(store.queue_counts().await.unwrap().claimed, 0, "the claim was given back");
    let again = store.commit(commit).await;
    assert!(matches!(again, Err(StoreError::ClaimLost)), "a refusal is no lost answer: {again:?}");
}

#[tokio::test]
async fn writing_calls_are_counted_with_or_without_a_hook_and_reads_are_not() {
    let store = MemoryStore::new();
    store.put_secret("a", "b", &[1], NOW).await.unwrap();
    store.secret("a", "b").await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tell = seen.clone();
    store.fault_hook(Box::new(move |method, nth| {
        tell.lock().unwrap().push((method, nth));
        Fault::None
    }));
    store.delete_secret("a", "b").await.unwrap();
    store.wake_topic("x", NOW).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [("delete_secret", 2), ("wake_topic", 3)]);
    assert_eq!(store.writes(), 3);
}
