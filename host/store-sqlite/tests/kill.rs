//! Nothing that was acknowledged is lost when the process is killed, at whatever moment.
//!
//! The test runs itself as a child that commits and prints what was acknowledged, and kills it with SIGKILL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rand::RngExt;
use wharf_store::{
    Books, Events, Services, StoreError,
    conformance::fixture::{self, NOW},
};
use wharf_store_sqlite::SqliteStore;

const FILE: &str = "WHARF_TEST_KILL_FILE";
const ROUND: &str = "WHARF_TEST_KILL_ROUND";
const KILLS: usize = 20;

/// Commits without end from many tasks; a line is printed once a commit was acknowledged.
async fn child(path: std::ffi::OsString, round: String) {
    let books: Books = Arc::new(SqliteStore::open(path).await.unwrap());
    println!("open");
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (books, round) = (books.clone(), round.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let reference = format!("{round}.{task}.{n}");
                    let (tell, owned) = (reference.clone(), reference.clone());
                    let decide = move |_: Option<&_>, _: &[_]| {
                        let new = fixture::service(&owned);
                        let events = vec![fixture::event(Some(&new), "service.accepted")];
                        let operation = fixture::operation("deploy");
                        wharf_store::Decision::Create { service: Box::new(new), operation, events }
                    };
                    let accepted: Result<_, StoreError> = books.accept(fixture::accept(&reference, decide, NOW)).await;
                    accepted.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {tell}").unwrap();
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_to_twenty_kills() {
    if let Some(path) = std::env::var_os(FILE) {
        return child(path, std::env::var(ROUND).unwrap()).await;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("books.db");
    let mut acknowledged = BTreeSet::new();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_acknowledged_is_lost_to_twenty_kills", "--nocapture"])
            .env(FILE, &path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().any(|line| line.unwrap() == "open"), "the child opens the books");
        let reading = std::thread::spawn(move || {
            // A line that was cut by the kill was not acknowledged whole.
            lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("ack ").map(str::to_owned)).collect::<Vec<_>>()
        });
        let moment = rand::rng().random_range(20..200);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reading.join().unwrap());

        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.integrity_check().await.unwrap().is_empty(), "round {round}");
    }
    assert!(acknowledged.len() > KILLS, "the children did commit: {}", acknowledged.len());
    let store = SqliteStore::open(&path).await.unwrap();
    for reference in &acknowledged {
        let service = store.service_by_ref("shop", reference).await.unwrap();
        let service = service.unwrap_or_else(|| panic!("{reference} was acknowledged and is lost"));
        assert_eq!(store.operations(service.id, 10).await.unwrap().len(), 1, "whole or not at all");
    }
    let all = store.services(wharf_store::ServiceFilter { limit: usize::MAX, ..Default::default() }).await.unwrap();
    let events = store.events_after(0, None, usize::MAX).await.unwrap();
    assert_eq!(events.len(), all.len(), "each has its event");
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "the feed has no gaps");
}
