//! Every edge between a commit and a call of deploy and terminate, in virtual time: the host is killed there, or frozen beyond
//! its claim and thawed when another has finished, or the answer is lost. Always: one VM, one set of leases, no slot held.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::world::{
    Host, World,
    elsewhere::{self, Elsewhere},
};
use futures::FutureExt;
use pve_sim::{
    faults::What,
    state::{SimConfig, Timing},
};
use tokio::sync::watch;
use wharf_capabilities::http::Sender;
use wharf_engine::{
    Engine,
    wish::{Idempotency, Wish},
};
use wharf_model::{operation::Status, service::Phase};
use wharf_store::{
    Books,
    memory::{Fault, MemoryStore, Mutant},
};
use wharf_store_postgres::PostgresStore;
use wharf_store_sqlite::SqliteStore;

const PATIENCE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Only counts.
    Record,
    Kill,
    /// Thawed when another host has finished.
    Freeze,
    /// Thawed while another host is at work on the same operation.
    Zombie,
    LoseAnswer,
}

/// What is taken out of the house, so that the suite must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    Books(Mutant),
    /// Effects in doubt are sent again without a look.
    Probe,
}

/// What happens to the first host.
struct Fate {
    mode: Mode,
    at: usize,
    seen: AtomicUsize,
    names: Mutex<Vec<&'static str>>,
    /// Becomes true when the edge was reached.
    struck: watch::Sender<bool>,
    thawed: watch::Sender<bool>,
    lose_commit: AtomicBool,
}

impl Fate {
    fn new(mode: Mode, at: usize) -> Arc<Self> {
        Arc::new(Self {
            mode,
            at,
            seen: AtomicUsize::new(0),
            names: Mutex::default(),
            struck: watch::Sender::new(false),
            thawed: watch::Sender::new(false),
            lose_commit: AtomicBool::new(false),
        })
    }

    fn of_call(&self, method: &str) -> Fault {
        let lost = matches!(method, "commit" | "accept") && self.lose_commit.swap(false, Ordering::SeqCst);
        if lost { Fault::FailAfter } else { Fault::None }
    }

    fn bind(self: &Arc<Self>, engine: &Engine, world: &World) {
        let (fate, sim) = (Arc::clone(self), world.sim.clone());
        engine.set_kill_hook(Arc::new(move |edge| {
            let (fate, sim) = (Arc::clone(&fate), sim.clone());
            async move {
                let counts = ["commit:", "call:", "step:"].iter().any(|kind| edge.starts_with(kind));
                if counts {
                    fate.names.lock().unwrap().push(edge);
                    if fate.seen.fetch_add(1, Ordering::SeqCst) == fate.at {
                        match fate.mode {
                            Mode::Record => {}
                            Mode::Kill | Mode::Freeze | Mode::Zombie => {
                                fate.struck.send_replace(true);
                            }
                            Mode::LoseAnswer if edge == "call:execute:before" => sim.once("write", "", What::LoseReply),
                            Mode::LoseAnswer => fate.lose_commit.store(edge.starts_with("commit:"), Ordering::SeqCst),
                        }
                    }
                }
                if *fate.struck.borrow() {
                    match fate.mode {
                        Mode::Kill => futures::future::pending::<()>().await,
                        _ => {
                            let _ = fate.thawed.subscribe().wait_for(|t| *t).await;
                        }
                    }
                }
            }
            .boxed()
        }));
    }
}

/// The first host, and the one that takes over.
struct Fleet<'a> {
    world: &'a World,
    fate: Arc<Fate>,
    first: Option<Host>,
    second: Option<Host>,
}

impl Fleet<'_> {
    async fn take_over(&mut self) {
        if self.second.is_none() {
            if self.fate.mode == Mode::Kill
                && let Some(host) = self.first.take()
            {
                host.kill();
            }
            self.second = Some(self.world.host(|_| {}).await);
            if self.fate.mode == Mode::Zombie {
                let fate = Arc::clone(&self.fate);
                // The claim runs out 30 s after it was renewed last, and an effect in doubt is probed later still.
                let wait = Duration::from_millis(29_000 + 311 * u64::try_from(fate.at % 40).unwrap_or(0));
                tokio::spawn(async move {
                    tokio::time::sleep(wait).await;
                    fate.thawed.send_replace(true);
                });
            }
        }
    }

    /// A wish as a panel sends it: again with the same key until it is accepted.
    async fn wish(&mut self, key: &str, wish: Wish) {
        let idempotency = Idempotency { scope: "test".into(), key: key.into(), fingerprint: key.into() };
        for _ in 0..20 {
            let host = self.second.as_ref().or(self.first.as_ref()).expect("a host");
            let engine = Arc::clone(&host.engine);
            let mut struck = self.fate.struck.subscribe();
            let stranded = self.second.is_none();
            let target = World::target("1");
            let accepted = tokio::select! {
                accepted = engine.wish(&target, wish.clone(), Some(idempotency.clone())) => Some(accepted),
                _ = struck.wait_for(|s| *s), if stranded => None,
            };
            match accepted {
                Some(Ok(_)) => return,
                Some(Err(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
                None => self.take_over().await,
            }
        }
        panic!("the wish was not accepted");
    }

    async fn until(&mut self, phase: Phase) {
        let mut struck = self.fate.struck.subscribe();
        if self.second.is_none() {
            tokio::select! {
                _ = self.world.until("1", phase, PATIENCE) => return,
                _ = struck.wait_for(|s| *s) => {}
            }
            self.take_over().await;
        }
        self.world.until("1", phase, PATIENCE).await;
    }
}

fn config() -> SimConfig {
    // Quick writes, so that a host dies between them and not only within one.
    SimConfig {
        timing: Timing { clone_linked: 300, start: 200, destroy: 100, shutdown: 100, ..Timing::default() },
        ..SimConfig::default()
    }
}

/// Deploy and terminate with one mishap, on the books in memory; returns the edges that were passed.
async fn journey(mode: Mode, at: usize, missing: Missing) -> Vec<&'static str> {
    let store = MemoryStore::mutant(if let Missing::Books(mutant) = missing { mutant } else { Mutant::None });
    let mut world = World::on(store, config(), Sender::new()).await;
    world.blind = missing == Missing::Probe;
    let fate = Fate::new(mode, at);
    let watched = Arc::clone(&fate);
    world.store.fault_hook(Box::new(move |method, _| watched.of_call(method)));
    live_through(world, fate).await
}

/// The same on books in a file or on a server.
async fn journey_on(books: Books, mode: Mode, at: usize) -> Vec<&'static str> {
    let elsewhere = Elsewhere::new(books);
    let mut world = World::keeping_books(Arc::clone(&elsewhere) as Books, config(), Sender::new()).await;
    // Each look is a query.
    world.look = Duration::from_millis(500);
    let fate = Fate::new(mode, at);
    let watched = Arc::clone(&fate);
    elsewhere.fault_hook(Box::new(move |method| watched.of_call(method)));
    live_through(world, fate).await
}

async fn live_through(world: World, fate: Arc<Fate>) -> Vec<&'static str> {
    let (mode, at) = (fate.mode, fate.at);
    let first = world.host(|engine| fate.bind(engine, &world)).await;
    let mut fleet = Fleet { world: &world, fate: Arc::clone(&fate), first: Some(first), second: None };
    fleet.wish("order", World::order("small", &[("System Disk", "20")])).await;
    fleet.until(Phase::Active).await;
    assert_eq!(world.sim.guests().len(), 1, "{mode:?} at edge {at}: {}", world.tell("1").await);
    if mode == Mode::Freeze && *fate.struck.borrow() {
        fate.thawed.send_replace(true);
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert_eq!(world.service("1").await.phase, Phase::Active);
        assert_eq!(world.sim.guests().len(), 1, "a thawed host made another VM");
    }
    world.audit().await;
    fleet.wish("end", Wish::Terminate).await;
    fleet.until(Phase::Terminated).await;
    if mode == Mode::Freeze && *fate.struck.borrow() {
        fate.thawed.send_replace(true);
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    assert!(world.sim.guests().is_empty(), "{mode:?} at edge {at}: {}", world.tell("1").await);
    assert_eq!(world.service("1").await.phase, Phase::Terminated);
    world.audit().await;
    if let Some(host) = fleet.first.take() {
        host.kill();
    }
    if let Some(host) = fleet.second.take() {
        host.kill();
    }
    std::mem::take(&mut *fate.names.lock().unwrap())
}

/// Each edge of the recorded run, with this mishap.
async fn every_edge(mode: Mode) {
    let edges = journey(Mode::Record, usize::MAX, Missing::Nothing).await;
    assert!(edges.len() > 60, "only {} edges were passed", edges.len());
    let mut tried = 0;
    for (at, edge) in edges.iter().enumerate() {
        if mode == Mode::LoseAnswer && !edge.ends_with(":before") {
            continue;
        }
        tried += 1;
        journey(mode, at, Missing::Nothing).await;
    }
    println!("{mode:?}: {tried} of {} edges", edges.len());
}

#[tokio::test(start_paused = true)]
async fn a_host_killed_at_any_edge_loses_and_doubles_nothing() {
    every_edge(Mode::Kill).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_frozen_at_any_edge_and_thawed_later_changes_nothing() {
    every_edge(Mode::Freeze).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_frozen_at_any_edge_and_thawed_while_another_is_at_work_changes_nothing() {
    every_edge(Mode::Zombie).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_at_any_edge_is_found_out() {
    every_edge(Mode::LoseAnswer).await;
}

/// Each edge, on books that `make` makes anew each time.
async fn every_edge_on<Guard>(engine: &str, mode: Mode, make: impl AsyncFn(usize) -> (Books, Guard)) {
    let (books, guard) = make(usize::MAX).await;
    let edges = journey_on(books, Mode::Record, usize::MAX).await;
    drop(guard);
    assert!(edges.len() > 60, "only {} edges were passed", edges.len());
    let mut tried = 0;
    for (at, edge) in edges.iter().enumerate() {
        if mode == Mode::LoseAnswer && !edge.ends_with(":before") {
            continue;
        }
        tried += 1;
        let (books, guard) = make(at).await;
        journey_on(books, mode, at).await;
        drop(guard);
    }
    println!("{engine}, {mode:?}: {tried} of {} edges, 0 lost, 0 doubled", edges.len());
}

async fn every_edge_on_sqlite(mode: Mode) {
    every_edge_on("SQLite", mode, async |_| {
        let folder = tempfile::tempdir().unwrap();
        let _still = elsewhere::stand_still();
        let store = SqliteStore::open(folder.path().join("books.db")).await.unwrap();
        (Arc::new(store) as Books, folder)
    })
    .await;
}

async fn every_edge_on_postgresql(mode: Mode) {
    let server = postgres_peer::Server::start();
    let url = server.database("books", None);
    let still = elsewhere::stand_still();
    let store = PostgresStore::open(&url, 8).await.unwrap();
    drop(still);
    // Far quicker than TRUNCATE for a handful of rows.
    let empty = server.sql(
        "books",
        "SELECT string_agg('DELETE FROM ' || tablename, '; ') FROM pg_tables
         WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%'",
    );
    let empty = format!("SET session_replication_role = replica; {empty}; INSERT INTO publisher VALUES (1, 0, 0)");
    every_edge_on("PostgreSQL", mode, async |_| {
        server.sql("books", &empty);
        (Arc::new(store.clone()) as Books, ())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_host_killed_at_any_edge_loses_and_doubles_nothing_on_sqlite() {
    every_edge_on_sqlite(Mode::Kill).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_frozen_at_any_edge_and_thawed_while_another_is_at_work_changes_nothing_on_sqlite() {
    every_edge_on_sqlite(Mode::Zombie).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_at_any_edge_is_found_out_on_sqlite() {
    every_edge_on_sqlite(Mode::LoseAnswer).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_killed_at_any_edge_loses_and_doubles_nothing_on_postgresql() {
    every_edge_on_postgresql(Mode::Kill).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_frozen_at_any_edge_and_thawed_while_another_is_at_work_changes_nothing_on_postgresql() {
    every_edge_on_postgresql(Mode::Zombie).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_at_any_edge_is_found_out_on_postgresql() {
    every_edge_on_postgresql(Mode::LoseAnswer).await;
}

/// Whether a suite notices that something is missing: at least one of these runs must fail.
async fn is_noticed<R: Future<Output = ()>>(runs: impl IntoIterator<Item = R>) -> bool {
    // What these panics say is expected, and would bury the rest.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut noticed = false;
    for run in runs {
        noticed = std::panic::AssertUnwindSafe(run).catch_unwind().await.is_err();
        if noticed {
            break;
        }
    }
    std::panic::set_hook(hook);
    noticed
}

async fn an_edge_fails(mode: Mode, missing: Missing) -> bool {
    let edges = journey(Mode::Record, usize::MAX, Missing::Nothing).await.len();
    is_noticed((0..edges).map(async |at| {
        journey(mode, at, missing).await;
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn without_the_fence_these_tests_fail() {
    assert!(an_edge_fails(Mode::Zombie, Missing::Books(Mutant::NoFence)).await);
}

#[tokio::test(start_paused = true)]
async fn without_the_probe_of_what_is_in_doubt_these_tests_fail() {
    assert!(an_edge_fails(Mode::Kill, Missing::Probe).await);
}

/// A termination that comes while the deploy is under way, so many milliseconds after the order.
async fn overtaken(after_ms: u64, missing: Missing) {
    let store = MemoryStore::mutant(if let Missing::Books(mutant) = missing { mutant } else { Mutant::None });
    let world = World::on(store, config(), Sender::new()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[("System Disk", "20")])).await;
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    world.wish(&host, "1", Wish::Terminate).await;
    let service = world.service("1").await;
    let open = world.books.operations(service.id, 10).await.unwrap();
    let live = open.iter().filter(|o| matches!(o.status, Status::Running | Status::Waiting)).count();
    assert!(live <= 1, "{live} operations of one service are live");
    world.until("1", Phase::Terminated, PATIENCE).await;
    assert!(world.sim.guests().is_empty(), "{after_ms} ms: {}", world.tell("1").await);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(world.sim.guests().is_empty(), "something came back");
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_termination_overtakes_a_deploy_at_any_moment_and_leaves_nothing() {
    for after_ms in (0..4_000).step_by(130) {
        overtaken(after_ms, Missing::Nothing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_lock_of_the_service_these_tests_fail() {
    let missing = Missing::Books(Mutant::NoServiceLock);
    assert!(is_noticed((0..4_000).step_by(130).map(|after_ms| overtaken(after_ms, missing))).await);
}
