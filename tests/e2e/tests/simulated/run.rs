//! Plays a plan: hosts that are killed, frozen and set to another time, panels that send again what was not answered, and an
//! admin who clears up after a rebooted node.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use pve_sim::{Sim, faults::Condition, state::SimConfig};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use wharf_capabilities::http::Sender;
use wharf_engine::{
    EngineConfig,
    wish::{Idempotency, Wish, WishError},
};
use wharf_model::{
    Clock,
    object::ObjectKind,
    operation::{OperationId, Status},
};
use wharf_plugins::Runtime;
use wharf_store::{
    Accepted, NewAudit,
    memory::{Fault, MemoryStore, Mutant},
};

use super::{
    Missing, Played, Trace,
    auditor::Auditor,
    plan::{Asked, Kind, Mishap, Plan, Trouble, Wished},
};
use crate::world::{Host, TOKEN, World};

/// A panel waits so long for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// When nothing goes wrong any more, all must have come to rest within this: two hours are the farthest that a clock which
/// was wrong can have put anything off, and a dead copy is found out after ten minutes.
const REST: Duration = Duration::from_secs(4 * 3_600);
/// An admin has seen what a rebooted node left behind: soon after, or when the host has given it up itself.
const ADMIN: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(1_200)];

/// A host's own clock.
#[derive(Debug)]
struct Skewed(Arc<dyn Clock>, AtomicI64);

impl Clock for Skewed {
    fn now_ms(&self) -> i64 {
        self.0.now_ms() + self.1.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Up,
    Frozen,
    Dead,
}

/// How a host is, and who waits for it. Not tokio's `watch`: that wakes who waits in a random order.
struct Lives {
    now: Mutex<Life>,
    changed: Notify,
}

impl Lives {
    fn get(&self) -> Life {
        *self.now.lock().unwrap()
    }

    fn set(&self, life: Life) {
        *self.now.lock().unwrap() = life;
        self.changed.notify_waiters();
    }

    /// From this to that, if it is this.
    fn turn(&self, from: Life, to: Life) -> bool {
        let fits = self.get() == from;
        if fits {
            self.set(to);
        }
        fits
    }

    async fn until(&self, wanted: impl Fn(Life) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if wanted(self.get()) {
                return;
            }
            changed.await;
        }
    }
}

/// A machine on which one host after the other runs.
struct Machine {
    clock: Arc<Skewed>,
    running: Mutex<Option<(Host, Arc<Lives>)>>,
    starts: AtomicI64,
}

/// How the books shall fail.
#[derive(Default)]
struct BooksFault {
    until: Option<Instant>,
    percent: u32,
    lose: u32,
}

/// Everything that the tasks of a simulation share.
pub struct Stage {
    pub world: World,
    pub trace: Arc<Trace>,
    seed: u64,
    machines: Vec<Machine>,
    books_fault: Arc<Mutex<BooksFault>>,
    struck: Arc<Mutex<BTreeMap<Kind, u32>>>,
    /// The next host that comes to an edge between a commit and a call is stopped there.
    traps: Arc<Mutex<VecDeque<oneshot::Sender<usize>>>>,
    /// What was answered, by key.
    pub answers: Mutex<BTreeMap<String, Vec<Option<OperationId>>>>,
}

/// The plugin is compiled, linked and loaded once for all seeds; what a call leaves behind is in books and binding only.
fn loaded() -> Arc<Runtime> {
    static LOADED: OnceLock<Arc<Runtime>> = OnceLock::new();
    let open = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(SimConfig::default()).await;
            world.tune = |config| config.interrupt = false;
            world.runtime().await
        })
    };
    Arc::clone(LOADED.get_or_init(open))
}

/// Plays a seed.
pub fn play(seed: u64, missing: Missing) -> Played {
    let loaded = loaded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async move {
        let plan = Plan::new(seed);
        let stage = Arc::new(stage(seed, &plan, missing, loaded).await);
        let outcome = AssertUnwindSafe(act(&stage, &plan)).catch_unwind().await;
        let failure = outcome.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "a panic".into())
        });
        let mut struck = std::mem::take(&mut *stage.struck.lock().unwrap());
        for (kind, counted) in stage.world.sim.struck() {
            let kind = match kind {
                "refuse" => Kind::ServerError,
                "slow-answer" | "slow-start" => Kind::Timeout,
                "lose-reply" => Kind::ReplyLost,
                "late" => Kind::LatePost,
                "lock-timeout" => Kind::LockTimeout,
                "stub" => Kind::RebootStub,
                "thief" => Kind::Thief,
                _ => continue,
            };
            *struck.entry(kind).or_default() += counted;
        }
        let trace = stage.trace.render(stage.world.sim.log());
        Played { struck, trace, failure }
    })
}

async fn stage(seed: u64, plan: &Plan, missing: Missing, loaded: Arc<Runtime>) -> Stage {
    let store = MemoryStore::mutant(if let Missing::Books(mutant) = missing { mutant } else { Mutant::None });
    let mut world = World::in_cluster(store, Sim::new(plan.cluster.clone()), Sender::new()).await;
    world.blind = missing == Missing::Probe;
    world.hasty = missing == Missing::Wait;
    world.loaded = Some(loaded);
    world.skew_ms = plan.skew_ms;
    let server = json!({"urls": ["http://sim"], "token_id": TOKEN, "clones_per_storage": plan.cap});
    world.put(ObjectKind::Server, "pve", server).await;
    let pool = json!({
        "server": "pve", "bridge": "vmbr0", "first": "192.0.2.10", "last": "192.0.2.250", "prefix_length": 24,
        "gateway": "192.0.2.1", "nameservers": ["192.0.2.53"], "quarantine_s": plan.quarantine_s,
    });
    world.put(ObjectKind::Pool, "v4", pool).await;
    let machines = (0..plan.hosts).map(|_| Machine {
        clock: Arc::new(Skewed(Arc::clone(&world.clock), AtomicI64::new(0))),
        running: Mutex::default(),
        starts: AtomicI64::new(0),
    });
    let stage = Stage {
        machines: machines.collect(),
        world,
        trace: Arc::new(Trace::new()),
        seed,
        books_fault: Arc::default(),
        struck: Arc::default(),
        traps: Arc::default(),
        answers: Mutex::default(),
    };
    stage.arm_books();
    stage
}

/// The whole history, and what the auditor says of it.
async fn act(stage: &Arc<Stage>, plan: &Plan) {
    for host in 0..plan.hosts {
        stage.start(host).await;
    }
    let auditor = Arc::new(Auditor::new(Arc::clone(stage), plan));
    let watching = tokio::spawn(Arc::clone(&auditor).watch());
    let mut panels = JoinSet::new();
    for wished in plan.wishes.clone() {
        panels.spawn(Arc::clone(stage).panel(wished));
    }
    let mut mishaps = JoinSet::new();
    for mishap in plan.mishaps.clone() {
        mishaps.spawn(Arc::clone(stage).mishap(mishap));
    }
    finish(mishaps, "a mishap").await;
    stage.world.sim.clear_faults();
    *stage.books_fault.lock().unwrap() = BooksFault::default();
    stage.trace.say("from here on nothing goes wrong");
    finish(panels, "a panel").await;
    stage.rest(&auditor).await;
    stage.world.audit().await;
    if stage.resume_all().await {
        stage.rest(&auditor).await;
    }
    // Whatever was still on its way arrives, and changes nothing.
    sleep(Duration::from_secs(90)).await;
    watching.abort();
    auditor.at_rest().await;
}

/// Ends when all have ended; fails with the first that fails.
async fn finish(mut tasks: JoinSet<()>, what: &str) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    };
    assert!(timeout(REST, all).await.is_ok(), "{what} did not end");
}

impl Stage {
    fn strike(&self, kind: Kind) {
        *self.struck.lock().unwrap().entry(kind).or_default() += 1;
    }

    fn arm_books(&self) {
        let (fault, struck, trace) = (Arc::clone(&self.books_fault), Arc::clone(&self.struck), Arc::clone(&self.trace));
        let chance = Mutex::new(StdRng::seed_from_u64(self.seed ^ 0xB00C));
        self.world.store.fault_hook(Box::new(move |method, _| {
            let mut fault = fault.lock().unwrap();
            if fault.lose > 0 && matches!(method, "commit" | "accept") {
                fault.lose -= 1;
                trace.say(format!("books: the answer of {method} is lost"));
                *struck.lock().unwrap().entry(Kind::CommitReplyLost).or_default() += 1;
                return Fault::FailAfter;
            }
            if fault.until.is_some_and(|until| Instant::now() < until)
                && chance.lock().unwrap().random_range(0..100) < fault.percent
            {
                trace.say(format!("books: {method} fails"));
                *struck.lock().unwrap().entry(Kind::StoreError).or_default() += 1;
                return Fault::FailBefore;
            }
            Fault::None
        }));
    }

    async fn start(&self, at: usize) {
        let machine = &self.machines[at];
        let nth = machine.starts.fetch_add(1, Ordering::SeqCst).unsigned_abs();
        let config = EngineConfig {
            seed: Some(self.seed.wrapping_mul(1_000_003) ^ (u64::try_from(at).unwrap() << 32) ^ nth),
            ..EngineConfig::default()
        };
        let life = Arc::new(Lives { now: Mutex::new(Life::Up), changed: Notify::new() });
        let own = Arc::clone(&life);
        let (trace, traps) = (Arc::clone(&self.trace), Arc::clone(&self.traps));
        // Tasks run in the order in which they were woken: without this a renewal would never come right beside a commit, or a
        // wake-up between a look for work and the sleep after it.
        let order = Arc::new(Mutex::new(StdRng::seed_from_u64(config.seed.unwrap_or_default() ^ 0x0DE4)));
        let clock = Arc::clone(&machine.clock) as Arc<dyn Clock>;
        let host = self
            .world
            .host_by(clock, config, |engine| {
                engine.set_kill_hook(Arc::new(move |edge| {
                    let (own, trace, traps) = (Arc::clone(&own), Arc::clone(&trace), Arc::clone(&traps));
                    let order = Arc::clone(&order);
                    async move {
                        let chance: u32 = order.lock().unwrap().random_range(0..64);
                        match chance {
                            0..16 => {
                                for _ in 0..=chance % 4 {
                                    tokio::task::yield_now().await;
                                }
                            }
                            16..20 => sleep(Duration::from_millis(u64::from(chance - 15) * 9)).await,
                            _ => {}
                        }
                        if edge.contains(':') {
                            trace.edge(at, edge);
                            // Taking a wish on holds no claim.
                            if own.get() == Life::Up
                                && !edge.starts_with("commit:accept")
                                && let Some(trap) = spring(&traps)
                            {
                                own.set(Life::Frozen);
                                let _ = trap.send(at);
                            }
                        }
                        // Whoever is dead never goes on.
                        own.until(|life| life == Life::Up).await;
                    }
                    .boxed()
                }));
            })
            .await;
        *machine.running.lock().unwrap() = Some((host, life));
        self.trace.say(format!("host {at} runs"));
    }

    /// A panel, which does not know what became of a wish until it is told.
    async fn panel(self: Arc<Self>, wished: Wished) {
        sleep(Duration::from_millis(wished.at_ms)).await;
        let mut chance = StdRng::seed_from_u64(wished.seed);
        self.send(&wished, &mut chance).await;
        if let Some(again_ms) = wished.again_ms {
            sleep(Duration::from_millis(again_ms)).await;
            self.send(&wished, &mut chance).await;
        }
    }

    async fn send(&self, wished: &Wished, chance: &mut StdRng) {
        let Wished { reference, asked, key, .. } = wished;
        loop {
            let at = chance.random_range(0..self.machines.len());
            let engine = self.machines[at].running.lock().unwrap().as_ref().map(|(host, _)| Arc::clone(&host.engine));
            if let Some(engine) = engine {
                let idempotency = Idempotency { scope: "shop".into(), key: key.clone(), fingerprint: key.clone() };
                let (target, wish) = (World::target(reference), wish(*asked));
                // On the host: it goes on there, whether the panel waits or not.
                let answer = tokio::spawn(async move { engine.wish(&target, wish, Some(idempotency)).await });
                match timeout(ANSWER, answer).await.map(Result::unwrap) {
                    Ok(Ok(Accepted::Done { operation, replayed, .. })) => {
                        let generation = operation.as_ref().map(|o| o.generation);
                        self.trace.say(format!(
                            "panel: {asked:?} {key} of {reference} accepted by {at}: {generation:?} {replayed}"
                        ));
                        let mut answers = self.answers.lock().unwrap();
                        answers.entry(key.clone()).or_default().push(operation.map(|o| o.id));
                        return;
                    }
                    Ok(Err(WishError::Refused { code, .. })) => {
                        self.trace.say(format!("panel: {asked:?} {key} of {reference} refused by {at}: {code}"));
                        return;
                    }
                    Ok(Err(WishError::NoService)) => {
                        self.trace.say(format!("panel: {asked:?} {key} of {reference}: no such service"));
                        return;
                    }
                    Ok(Err(WishError::Store(_))) | Err(_) => {
                        self.trace.say(format!("panel: {asked:?} {key} of {reference}: no answer of {at}"));
                    }
                    other => panic!("{asked:?} {key} of {reference}: {other:?}"),
                }
            }
            sleep(Duration::from_millis(chance.random_range(500..3_000))).await;
        }
    }

    async fn mishap(self: Arc<Self>, mishap: Mishap) {
        sleep(Duration::from_millis(mishap.at_ms)).await;
        self.trace.say(format!("mishap: {:?}", mishap.what));
        match mishap.what {
            Trouble::Kill { host, down_ms, ambush } => {
                let host = if ambush { self.ambush().await.unwrap_or(host) } else { host };
                let running = self.machines[host].running.lock().unwrap().take();
                let Some((running, life)) = running else { return };
                self.strike(Kind::Kill);
                life.set(Life::Dead);
                running.kill();
                sleep(Duration::from_millis(down_ms)).await;
                self.start(host).await;
            }
            Trouble::Pause { host, ms, ambush } => {
                let host = if ambush { self.ambush().await.unwrap_or(host) } else { host };
                let Some(life) = self.life(host) else { return };
                life.set(Life::Frozen);
                sleep(Duration::from_millis(ms)).await;
                // Unless it was killed meanwhile.
                if life.turn(Life::Frozen, Life::Up) {
                    self.strike(Kind::Pause);
                }
            }
            Trouble::StoreError { ms, percent } => {
                let until = Instant::now() + Duration::from_millis(ms);
                {
                    let mut fault = self.books_fault.lock().unwrap();
                    fault.until = Some(until);
                    fault.percent = percent;
                }
                sleep(Duration::from_millis(ms)).await;
            }
            Trouble::CommitReplyLost(times) => {
                self.books_fault.lock().unwrap().lose += times;
                sleep(Duration::from_secs(15)).await;
            }
            Trouble::Server(_, fault) => {
                self.world.sim.fault(fault);
                sleep(Duration::from_secs(15)).await;
            }
            Trouble::Hold { nth, ms } => {
                let Some(vmid) = self.soon(|sim| sim.guests().into_keys().nth(nth % sim.guests().len().max(1))).await
                else {
                    return;
                };
                self.world.sim.condition(Condition::Hold(vmid));
                sleep(Duration::from_millis(ms)).await;
                self.world.sim.condition(Condition::LetGo(vmid));
            }
            Trouble::Reboot { ms } => {
                let copying = |sim: &Sim| sim.running().into_iter().find(|(_, kind)| kind == "qmclone").map(|(n, _)| n);
                let Some(node) = self.soon(copying).await else { return };
                self.trace.say(format!("{node} reboots"));
                self.world.sim.condition(Condition::Reboot(node, ms));
                sleep(Duration::from_millis(ms)).await;
            }
            Trouble::Clock { host, by_ms, ms } => {
                self.strike(Kind::ClockJump);
                self.machines[host].clock.1.store(by_ms, Ordering::SeqCst);
                sleep(Duration::from_millis(ms)).await;
                self.machines[host].clock.1.store(0, Ordering::SeqCst);
            }
        }
    }

    fn life(&self, host: usize) -> Option<Arc<Lives>> {
        self.machines[host].running.lock().unwrap().as_ref().map(|(_, life)| Arc::clone(life))
    }

    /// Waits until a host is in the middle of something, and stops it there.
    async fn ambush(&self) -> Option<usize> {
        let (trap, caught) = oneshot::channel();
        self.traps.lock().unwrap().push_back(trap);
        timeout(Duration::from_secs(20), caught).await.ok()?.ok()
    }

    /// What is to be seen in the cluster within the next seconds.
    async fn soon<T>(&self, look: impl Fn(&Sim) -> Option<T>) -> Option<T> {
        for _ in 0..200 {
            if let Some(seen) = look(&self.world.sim) {
                return Some(seen);
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }

    /// Waits until no operation is open and no task runs.
    async fn rest(&self, auditor: &Auditor) {
        let began = Instant::now();
        let mut cleared = false;
        loop {
            auditor.alive();
            let live = self.world.books.queue_counts().await.unwrap().live;
            if live == 0 && self.world.sim.running().is_empty() {
                self.trace.say("at rest");
                return;
            }
            if began.elapsed() > ADMIN[usize::from(self.seed.is_multiple_of(16))] && !cleared {
                cleared = true;
                self.clear_up();
            }
            assert!(began.elapsed() < REST, "{live} operations are open after {REST:?}:\n{}", self.tell().await);
            let pause = if began.elapsed() < Duration::from_secs(120) { 500 } else { 10_000 };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// As the host's own words ask for it: `qm unlock` and `qm destroy` of what a copy has left that nobody carries on.
    fn clear_up(&self) {
        for (vmid, vm) in self.world.sim.guests() {
            if vm.lock().is_some_and(|lock| matches!(lock, "clone" | "destroyed")) {
                self.trace.say(format!("admin: VM {vmid} is cleared up"));
                self.world.sim.condition(Condition::Remove(vmid));
            }
        }
    }

    /// An admin lets everything go on that had stopped. True if there was anything.
    async fn resume_all(&self) -> bool {
        self.clear_up();
        let mut any = false;
        for service in self.world.services().await {
            for operation in self.world.books.operations(service.id, 50).await.unwrap() {
                if operation.status != Status::NeedsAdmin {
                    continue;
                }
                self.trace.say(format!(
                    "admin: {} of {} needs me: {:?}",
                    operation.kind,
                    service.reference,
                    operation.reason.map(|r| r.code)
                ));
                let audit = NewAudit {
                    actor: "admin".into(),
                    action: "resume".into(),
                    subject: service.reference.clone(),
                    body: serde_json::Value::Null,
                };
                any |= self.world.books.resume(operation.id, None, audit, self.world.clock.now_ms()).await.is_ok();
            }
        }
        any
    }

    /// The history of all services in words, for failures.
    pub async fn tell(&self) -> String {
        let mut text = String::new();
        for service in self.world.services().await {
            text.push_str(&format!("service {} is {}\n", service.reference, service.phase));
            text.push_str(&self.world.tell(&service.reference).await);
        }
        text
    }
}

/// The first trap that somebody still waits at.
fn spring(traps: &Mutex<VecDeque<oneshot::Sender<usize>>>) -> Option<oneshot::Sender<usize>> {
    let mut traps = traps.lock().unwrap();
    while let Some(trap) = traps.pop_front() {
        if !trap.is_closed() {
            return Some(trap);
        }
    }
    None
}

fn wish(asked: Asked) -> Wish {
    match asked {
        Asked::Deploy => World::order("small", &[("System Disk", "5")]),
        Asked::Change => World::order("small", &[("System Disk", "5"), ("RAM", "2")]),
        Asked::Suspend => Wish::Suspend,
        Asked::Unsuspend => Wish::Unsuspend,
        Asked::Terminate => Wish::Terminate,
    }
}
