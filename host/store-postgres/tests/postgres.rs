//! The suite on PostgreSQL, and what only a server can show: many hosts, cut connections, restarts, a host that froze.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use postgres_peer::{How, Server};
use rand::RngExt;
use tokio::sync::broadcast::error::TryRecvError;
use uuid::Uuid;
use wharf_model::{lease::Range, object::ObjectKind};
use wharf_store::{
    Addresses, Books, Commit, Events, LeaseSet, LeaseWish, Queue, Signal, Signals, StoreError, Then,
    conformance::fixture::{self, NOW, TTL},
};
use wharf_store_postgres::PostgresStore;

/// A server whose database `empty` has the tables; nobody is connected to it.
async fn server() -> Server {
    let server = Server::start();
    let store = PostgresStore::open(&server.database("empty", None), 2).await.unwrap();
    store.close().await;
    drop(store);
    server
}

async fn store(server: &Server, name: &str) -> PostgresStore {
    PostgresStore::open(&server.database(name, Some("empty")), 8).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_keeps_every_promise_of_the_books() {
    let server = server().await;
    let store = store(&server, "books").await;
    let tables = server.sql("books", "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%'");
    let empty = format!("TRUNCATE {tables} RESTART IDENTITY CASCADE; INSERT INTO publisher VALUES (1, 0, 0)");
    wharf_store::conformance::all(async || {
        server.sql("books", &empty);
        (Arc::new(store.clone()) as Books, ())
    })
    .await;
    assert!(!server.log().contains("deadlock"), "{}", server.log());
}

/// One host among several: takes wishes on, claims, commits, leases, wants records, as fast as it can.
async fn busy(books: Books, host: usize, rounds: usize) -> Vec<String> {
    let owner = Uuid::new_v4();
    let mut refused = Vec::new();
    for n in 0..rounds {
        let reference = rand::rng().random_range(0..24_u8).to_string();
        let now = NOW + i64::try_from(n).unwrap() * 50;
        let mut hear = |what: &str, error: StoreError| match error {
            // Somebody else was first: part of the game.
            StoreError::ClaimLost | StoreError::Conflict(_) => {}
            other => refused.push(format!("{what} of host {host}: {other}")),
        };
        let owned = reference.clone();
        let preempt = n % 3 == 0;
        let wish = fixture::accept(
            &reference,
            move |there, open| match there {
                None => fixture::creating(&owned),
                Some(there) => wharf_store::Decision::Change {
                    patch: wharf_store::ServicePatch { suspended: Some(preempt), ..Default::default() },
                    operation: (open.len() < 3).then(|| fixture::operation("change")),
                    cancel: Vec::new(),
                    preempt,
                    events: vec![fixture::event(Some(there), "service.changed")],
                },
            },
            now,
        );
        let service = match books.accept(wish).await {
            Ok(accepted) => fixture::done(accepted).0,
            Err(error) => {
                hear("accept", error);
                continue;
            }
        };
        for run in books.claim(owner, TTL, 3, now).await.unwrap() {
            let begin = Commit {
                effect: Some(fixture::write(Some(("pool", 2)))),
                events: vec![fixture::event(Some(&run.service), "service.step")],
                log: vec![fixture::step(1)],
                ..Commit::new(run.claim, now, Then::Keep)
            };
            match books.commit(begin).await {
                Ok(wharf_store::Committed::Released { .. }) => continue,
                Ok(wharf_store::Committed::Held { .. }) => {}
                Err(error) => {
                    hear("commit", error);
                    continue;
                }
            }
            let ended = Commit {
                effect: Some(fixture::succeeded()),
                events: vec![fixture::event(Some(&run.service), "service.done")],
                ..Commit::new(run.claim, now, fixture::succeed())
            };
            if let Err(error) = books.commit(ended).await {
                hear("finish", error);
            }
        }
        let range = Range {
            pool: "p".into(),
            domain: if n % 2 == 0 { "a" } else { "b" }.into(),
            first: "192.0.2.1".parse().unwrap(),
            last: "192.0.2.200".parse().unwrap(),
            excluded: Vec::new(),
            network: wharf_model::lease::Network {
                prefix_length: 24,
                gateway: None,
                nameservers: Vec::new(),
                bridge: "vmbr0".into(),
                vlan: None,
            },
        };
        let wish = LeaseWish { service: service.id, sets: vec![LeaseSet { family: 4, count: 1, ranges: vec![range] }] };
        if let Err(error) = books.lease(None, wish, now).await {
            hear("lease", error);
        }
        if let Err(error) = books.reserve_vmid(None, "pve", service.id, 100, &[101], now).await {
            hear("reserve_vmid", error);
        }
        let key = wharf_model::record::RecordKey {
            zone: "z".into(),
            name: format!("n{}.", n % 3),
            rtype: "A".into(),
            value: "192.0.2.1".into(),
            service_id: service.id,
        };
        let queues = std::collections::BTreeMap::from([("z".to_owned(), "q".to_owned())]);
        if let Err(error) = books.want_records(None, service.id, vec![(key, None)], queues, now).await {
            hear("want_records", error);
        }
        for claim in books.claim_dns(owner, TTL, 1, now).await.unwrap() {
            let due: Vec<_> =
                books.due_records(&claim, 10, now).await.unwrap_or_default().into_iter().map(|r| r.key).collect();
            if let Err(error) = books.mark_sent(&claim, &due, now).await {
                hear("mark_sent", error);
            }
            let outcomes = due.into_iter().map(|k| (k, wharf_store::RecordOutcome::Done)).collect();
            if let Err(error) = books.settle_records(&claim, outcomes, now).await {
                hear("settle_records", error);
            }
            if let Err(error) = books.release_dns(&claim, now).await {
                hear("release_dns", error);
            }
        }
        books.wake_topic("topic", now).await.unwrap();
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_hosts_at_once_share_everything_and_never_wait_for_each_other_in_a_circle() {
    let server = server().await;
    let url = server.database("books", Some("empty"));
    let mut hosts = Vec::new();
    let mut tasks = Vec::new();
    for host in 0..3 {
        let store = PostgresStore::open(&url, 8).await.unwrap();
        for _ in 0..3 {
            tasks.push(tokio::spawn(busy(Arc::new(store.clone()), host, 60)));
        }
        hosts.push(store);
    }
    // A reader that polls the feed through it all.
    let (reader, over) = (hosts[0].clone(), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&over);
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let last = done.load(Ordering::SeqCst);
            let more = reader.events_after(seen.last().copied().unwrap_or(0), None, 7).await.unwrap();
            let none = more.is_empty();
            seen.extend(more.into_iter().map(|e| e.seq));
            if last && none {
                return seen;
            }
        }
    });
    let mut refused = Vec::new();
    for task in tasks {
        refused.extend(task.await.unwrap());
    }
    over.store(true, Ordering::SeqCst);
    assert!(refused.is_empty(), "{refused:#?}");
    let seen = reading.await.unwrap();
    let expected: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
    assert_eq!(seen, expected, "no gap and no repeat for who polls");
    assert!(seen.len() > 100, "{} events", seen.len());
    let books = &hosts[1];
    assert!(books.slots().await.unwrap().values().all(|held| held.len() <= 2));
    let leases = books.leases_in("p").await.unwrap();
    let addresses: BTreeSet<_> = leases.iter().map(|l| (l.domain.clone(), l.address)).collect();
    assert_eq!(addresses.len(), leases.len());
    let numbers: BTreeSet<_> = books.vmids("pve").await.unwrap().into_iter().map(|(n, ..)| n).collect();
    assert_eq!(numbers.len(), 24);
    assert_eq!(books.integrity_check().await.unwrap(), Vec::<String>::new());
    assert!(!server.log().contains("deadlock"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_on_one_host_wakes_another_also_after_its_connection_was_lost() {
    let server = server().await;
    let url = server.database("books", Some("empty"));
    let one: Books = Arc::new(PostgresStore::open(&url, 4).await.unwrap());
    let two = PostgresStore::open(&url, 4).await.unwrap();
    let mut heard = two.signals().unwrap();
    let until = async |heard: &mut tokio::sync::broadcast::Receiver<Signal>, wanted: Signal| {
        tokio::time::timeout(Duration::from_secs(20), async { while heard.recv().await.unwrap() != wanted {} })
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} was not heard"));
    };
    // Listening has begun.
    until(&mut heard, Signal::All).await;
    fixture::create(&one, "1", NOW).await;
    until(&mut heard, Signal::Queue).await;

    while !matches!(heard.try_recv(), Err(TryRecvError::Empty)) {}
    server.sql("books", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    until(&mut heard, Signal::All).await;
    fixture::create(&one, "2", NOW).await;
    until(&mut heard, Signal::Queue).await;
    one.append_events(vec![fixture::event(None, "wharf.x")], NOW).await.unwrap();
    until(&mut heard, Signal::Events).await;
    one.put_object(ObjectKind::Plan, "p", serde_json::json!({}), None, None, NOW).await.unwrap();
    until(&mut heard, Signal::Objects).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_crashes_and_work_goes_on_when_it_is_back() {
    let mut server = server().await;
    let books: Books = Arc::new(store(&server, "books").await);
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let over = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (books, over) = (books.clone(), Arc::clone(&over));
                tokio::spawn(async move {
                    let mut done = Vec::new();
                    for n in 0.. {
                        if over.load(Ordering::SeqCst) {
                            break;
                        }
                        let reference = format!("{round}.{task}.{n}");
                        let owned = reference.clone();
                        let wish = fixture::accept(&reference, move |_, _| fixture::creating(&owned), NOW);
                        match books.accept(wish).await {
                            Ok(_) => done.push(reference),
                            // In doubt: it may be there or not.
                            Err(StoreError::Unavailable(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    done
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(100..300))).await;
        let stopped = tokio::task::spawn_blocking(move || {
            server.stop(How::Crash);
            server.run();
            server
        });
        server = stopped.await.unwrap();
        over.store(true, Ordering::SeqCst);
        for task in tasks {
            acknowledged.extend(task.await.unwrap());
        }
    }
    assert!(acknowledged.len() > 50, "{} were acknowledged", acknowledged.len());
    for reference in &acknowledged {
        let there = books.service_by_ref("shop", reference).await.unwrap();
        assert!(there.is_some(), "{reference} was acknowledged and is gone");
    }
    fixture::create(&books, "after", NOW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_froze_within_a_transaction_is_ended_before_its_locks_stop_the_others() {
    let server = server().await;
    let url = server.database("books", Some("empty"));
    let books: Books = Arc::new(PostgresStore::open(&url, 4).await.unwrap());
    fixture::create(&books, "1", NOW).await;
    // Freezes within the accepting transaction, under the lock of the service. A host of its own, that stands still whole.
    let (frozen, thaw) = (url.clone(), Arc::new(AtomicBool::new(false)));
    let thawed = Arc::clone(&thaw);
    let (holding, held) = std::sync::mpsc::channel();
    let zombie = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
            let store = PostgresStore::open(&frozen, 4).await.unwrap();
            let wish = fixture::accept(
                "1",
                move |_, _| {
                    holding.send(()).unwrap();
                    while !thawed.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    fixture::adding("change")
                },
                NOW,
            );
            store.accept(wish).await
        })
    });
    held.recv().unwrap();
    let mut tries = 0;
    let after = loop {
        let wish = fixture::accept("1", |_, _| fixture::adding("change"), NOW);
        match books.accept(wish).await {
            Ok(accepted) => break fixture::done(accepted).1.unwrap(),
            Err(StoreError::Unavailable(_)) if tries < 3 => tries += 1,
            Err(other) => panic!("{other}"),
        }
    };
    thaw.store(true, Ordering::SeqCst);
    let refused = zombie.join().unwrap();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    let service = books.service_by_ref("shop", "1").await.unwrap().unwrap();
    let operations = books.operations(service.id, 10).await.unwrap();
    assert_eq!(operations.len(), 2, "what the frozen host had decided is not there");
    assert_eq!(operations[0].id, after.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_own_clock_is_wrong_takes_its_time_from_the_database() {
    let server = server().await;
    let store = store(&server, "books").await;
    let said: i64 =
        server.sql("books", "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT").parse().unwrap();
    let clock = store.clock();
    let now = clock.now_ms();
    assert!((now - said).abs() < 2_000, "{now} and {said}");
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert!((100..2_000).contains(&(clock.now_ms() - now)), "it goes on by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_have_the_columns_that_sqlite_has() {
    let server = server().await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("books.db");
    drop(wharf_store_sqlite::SqliteStore::open(&path).await.unwrap());
    let mut file =
        <sqlx::SqliteConnection as sqlx::Connection>::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let sqlite: BTreeSet<String> = sqlx::query_scalar(
        "SELECT m.name || '.' || c.name || ' ' || CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE 'text' END
                || CASE c.\"notnull\" WHEN 1 THEN ' not null' ELSE '' END
         FROM sqlite_master m JOIN pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
    )
    .fetch_all(&mut file)
    .await
    .unwrap()
    .into_iter()
    .collect();
    let postgres: BTreeSet<String> = server
        .sql(
            "empty",
            "SELECT table_name || '.' || column_name || ' ' || data_type || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
             FROM information_schema.columns WHERE table_schema = 'public'
               AND table_name NOT IN ('_sqlx_migrations', 'pending', 'publisher')",
        )
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(sqlite.len() > 100);
    assert_eq!(sqlite, postgres);
}
