//! A whole Wharf in one process and in virtual time: the real engine, runtime, capabilities and plugins on the in-memory
//! books, against a simulated cluster that is called without a socket.

pub mod dns;
pub mod elsewhere;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::body::Body;
use http_body_util::BodyExt;
use pve_sim::{Sim, state::SimConfig};
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};
use tower::ServiceExt;
use wharf_capabilities::{
    call::Lender,
    effects::{Effector, Execution, TaskView},
    http::Sender,
    proxmox::{Executor, Request, Response, Servers, Transport, TransportError},
    secrets::Keyring,
};
pub use wharf_e2e::component::{disguised, reissued};
use wharf_engine::{
    Engine, EngineConfig,
    wish::{Order, Target, Wish},
};
use wharf_model::{
    Clock, TokioClock,
    effect::Effect,
    object::ObjectKind,
    operation::{LogBody, LogEntry, Operation, Status, StepResult},
    service::{Phase, Service},
};
use wharf_plugins::{GrantRequest, Runtime, RuntimeConfig};
use wharf_store::{Accepted, Books, NewAudit, ServiceFilter, memory::MemoryStore};

pub const SECRET: &str = "11111111-2222-3333-4444-555555555555";
pub const TOKEN: &str = "wharf@pve!wharf";

/// Where `cargo xtask plugins` puts components.
pub fn plugins_dir() -> PathBuf {
    std::env::var_os("WHARF_PLUGINS_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")), PathBuf::from)
}

pub fn component(name: &str) -> Vec<u8> {
    let path = plugins_dir().join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{} ({e}): run `cargo xtask plugins` first", path.display()))
}

/// Calls the simulator's router; a marked 599 is a broken connection.
struct InProcess(axum::Router, BTreeMap<String, axum::Router>);

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, base: &str, authorization: &str, request: &Request) -> Result<Response, TransportError> {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let pairs: Vec<String> = request.params.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        let mut uri = format!("/api2/json{}", request.path);
        let mut body = String::new();
        if matches!(request.method, "GET" | "DELETE") {
            if !pairs.is_empty() {
                uri = format!("{uri}?{}", pairs.join("&"));
            }
        } else {
            body = pairs.join("&");
        }
        let mut built = http::Request::builder().method(request.method).uri(uri).header("authorization", authorization);
        if !body.is_empty() {
            built = built.header("content-type", "application/x-www-form-urlencoded");
        }
        let router = self.1.get(base).unwrap_or(&self.0).clone();
        let answer = router.oneshot(built.body(Body::from(body)).unwrap()).await.unwrap();
        if answer.headers().contains_key("x-sim-lost") {
            return Err(TransportError::MaybeSent("the connection broke".into()));
        }
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes().to_vec();
        Ok(Response { status, reason: String::new(), body: bytes })
    }
}

/// The books, the cluster, and everything that hosts share.
pub struct World {
    pub sim: Sim,
    /// The books, if they are in memory.
    pub store: Arc<MemoryStore>,
    pub books: Books,
    pub clock: Arc<dyn Clock>,
    pub keyring: Arc<Keyring>,
    pub sender: Arc<Sender>,
    /// Its hosts send again what they are in doubt about, without looking: for suites that must notice it.
    pub blind: bool,
    /// Its hosts don't wait until what they are in doubt about can't arrive any more.
    pub hasty: bool,
    /// Further clusters, by the URL that they answer at.
    pub others: BTreeMap<String, Sim>,
    /// What its hosts' runtimes are set to, beside what tests are run with anyway.
    pub tune: fn(&mut RuntimeConfig),
    /// How often what is waited for is looked at.
    pub look: Duration,
    /// How far the clocks of its hosts may be apart.
    pub skew_ms: i64,
    /// Plugins that are loaded already, for all hosts: else each opens a runtime of its own.
    pub loaded: Option<Arc<Runtime>>,
}

/// Executes as the real one does, but for what it lacks.
struct Careless {
    executor: Executor,
    /// Takes every doubt for a no.
    blind: bool,
    /// Takes every call for arrived or lost as soon as it is not answered.
    hasty: bool,
}

/// As if there were time: the executor itself refuses to send after the deadline.
fn in_time(effect: &Effect, ms: i64) -> Effect {
    Effect { deadline_ms: effect.deadline_ms + ms, ..effect.clone() }
}

#[async_trait]
impl Effector for Careless {
    async fn call_timeout_ms(&self, server: &str) -> i64 {
        if self.hasty { 0 } else { self.executor.call_timeout_ms(server).await }
    }

    async fn execute(&self, effect: &Effect, service: &Service) -> Execution {
        let ms = if self.hasty { self.executor.call_timeout_ms(&effect.server).await } else { 0 };
        self.executor.execute(&in_time(effect, ms), service).await
    }

    async fn probe(&self, effect: &Effect, service: &Service) -> Execution {
        if self.blind {
            self.executor.execute(&in_time(effect, 3_600_000), service).await
        } else {
            self.executor.probe(effect, service).await
        }
    }

    async fn task(&self, effect: &Effect, service: &Service) -> TaskView {
        self.executor.task(effect, service).await
    }

    async fn ended_tasks(&self, server: &str, tasks: &[String]) -> Vec<String> {
        self.executor.ended_tasks(server, tasks).await
    }
}

/// One host on these books.
pub struct Host {
    pub engine: Arc<Engine>,
    pub runtime: Arc<Runtime>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Host {
    /// As SIGKILL does: nothing more happens in it, at once.
    pub fn kill(self) {
        self.task.abort();
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.engine.nudge();
        let _ = self.task.await;
    }
}

impl World {
    pub async fn new(config: SimConfig) -> Self {
        Self::with(config, Sender::new()).await
    }

    pub async fn with(config: SimConfig, sender: Sender) -> Self {
        Self::on(MemoryStore::new(), config, sender).await
    }

    /// On these books.
    pub async fn on(store: MemoryStore, config: SimConfig, sender: Sender) -> Self {
        Self::in_cluster(store, Sim::new(config), sender).await
    }

    /// On these books and this cluster.
    pub async fn in_cluster(store: MemoryStore, sim: Sim, sender: Sender) -> Self {
        let store = Arc::new(store);
        let books: Books = Arc::clone(&store) as Books;
        Self::keeping(books, store, sim, sender).await
    }

    /// On books of another engine.
    pub async fn keeping_books(books: Books, config: SimConfig, sender: Sender) -> Self {
        Self::keeping(books, Arc::default(), Sim::new(config), sender).await
    }

    async fn keeping(books: Books, store: Arc<MemoryStore>, sim: Sim, sender: Sender) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(1_790_000_000_000));
        let keyring = Arc::new(Keyring::new([7; 32]));
        let world = Self {
            sim,
            store,
            books,
            clock,
            keyring,
            sender: Arc::new(sender),
            blind: false,
            hasty: false,
            others: BTreeMap::new(),
            tune: |_| {},
            look: Duration::from_millis(50),
            skew_ms: 0,
            loaded: None,
        };
        world.put(ObjectKind::Server, "pve", json!({"urls": ["http://sim"], "token_id": TOKEN})).await;
        world.secret("server/pve", "secret", SECRET).await;
        world
            .put(
                ObjectKind::Image,
                "debian-12",
                json!({"templates": [{"server": "pve", "vmid": 9000}, {"server": "pve", "vmid": 9001}]}),
            )
            .await;
        world.put(ObjectKind::Image, "debian-12-local", json!({"templates": [{"server": "pve", "vmid": 9000}]})).await;
        world.pool("v4", "192.0.2.10", "192.0.2.250", 24, "192.0.2.1").await;
        world.pool("v6", "2001:db8::10", "2001:db8::ff", 64, "2001:db8::1").await;
        world.plan("small", json!({})).await;
        world
    }

    pub async fn put(&self, kind: ObjectKind, name: &str, body: serde_json::Value) {
        self.books.put_object(kind, name, body, None, None, self.clock.now_ms()).await.unwrap();
    }

    pub async fn secret(&self, owner: &str, slot: &str, value: &str) {
        let sealed = self.keyring.seal(owner, slot, value.as_bytes());
        self.books.put_secret(owner, slot, &sealed, self.clock.now_ms()).await.unwrap();
    }

    pub async fn pool(&self, name: &str, first: &str, last: &str, length: u8, gateway: &str) {
        let body = json!({
            "server": "pve", "bridge": "vmbr0", "first": first, "last": last, "prefix_length": length, "gateway": gateway,
            "nameservers": ["192.0.2.53"], "quarantine_s": 3600,
        });
        self.put(ObjectKind::Pool, name, body).await;
    }

    /// A plan of the KVM provisioner; `settings` over its defaults.
    pub async fn plan(&self, name: &str, settings: serde_json::Value) {
        let mut all = json!({"image": "debian-12", "main-domain": "example.com"});
        for (key, value) in settings.as_object().unwrap() {
            all[key] = value.clone();
        }
        self.plan_of("proxmox-kvm", name, all).await;
    }

    /// A plan of any provisioner, with exactly these settings.
    pub async fn plan_of(&self, plugin: &str, name: &str, settings: serde_json::Value) {
        self.put(ObjectKind::Plan, name, json!({"plugin": plugin, "server": "pve", "settings": settings})).await;
    }

    /// Wakes those who wait for what an admin has just added or mended, as the admin's pages do.
    pub async fn announce(&self, host: &Host) {
        for topic in ["addresses", "room"] {
            self.books.wake_topic(topic, self.clock.now_ms()).await.unwrap();
        }
        host.engine.nudge();
    }

    pub async fn runtime(&self) -> Arc<Runtime> {
        self.runtime_on(self.servers(), Arc::clone(&self.clock)).await
    }

    async fn runtime_on(&self, servers: Arc<Servers>, clock: Arc<dyn Clock>) -> Arc<Runtime> {
        let lender = Arc::new(Lender {
            books: Arc::clone(&self.books),
            clock,
            keyring: Arc::clone(&self.keyring),
            servers,
            sender: Arc::clone(&self.sender),
        });
        if let Some(loaded) = &self.loaded {
            return loaded.lent(lender);
        }
        let mut config = RuntimeConfig::for_tests(shared_cache());
        (self.tune)(&mut config);
        let runtime = Runtime::open(config, lender).await.unwrap();
        for name in ["proxmox-kvm"] {
            if runtime.manifest(name).is_none() {
                install(&runtime, component(name)).await;
            }
        }
        runtime
    }

    pub fn servers(&self) -> Arc<Servers> {
        let others = self.others.iter().map(|(url, sim)| (url.clone(), sim.router())).collect();
        let transport = Arc::new(InProcess(self.sim.router(), others));
        Arc::new(Servers::with_transport(Arc::clone(&self.books), Arc::clone(&self.keyring), transport))
    }

    /// Starts a host. `prepare` may set its kill points before it runs.
    pub async fn host(&self, prepare: impl FnOnce(&Engine)) -> Host {
        self.host_with(EngineConfig::default(), prepare).await
    }

    pub async fn host_with(&self, config: EngineConfig, prepare: impl FnOnce(&Engine)) -> Host {
        self.host_by(Arc::clone(&self.clock), config, prepare).await
    }

    /// Starts a host that goes by a clock of its own.
    pub async fn host_by(&self, clock: Arc<dyn Clock>, config: EngineConfig, prepare: impl FnOnce(&Engine)) -> Host {
        // One set of connections for looks and writes: a server that is parked is parked for both.
        let servers = self.servers();
        let runtime = self.runtime_on(Arc::clone(&servers), Arc::clone(&clock)).await;
        let executor = Executor::new(servers, Arc::clone(&self.books), Arc::clone(&self.keyring), Arc::clone(&clock));
        let engine = Engine::new(
            Arc::clone(&self.books),
            clock,
            Arc::clone(&runtime),
            if self.blind || self.hasty {
                Arc::new(Careless { executor, blind: self.blind, hasty: self.hasty })
            } else {
                Arc::new(executor) as Arc<dyn Effector>
            },
            config,
        );
        prepare(&engine);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&engine).run(stopped));
        Host { engine, runtime, stop, task }
    }

    pub fn target(reference: &str) -> Target {
        Target { panel: "shop".into(), reference: reference.into() }
    }

    pub fn order(plan: &str, options: &[(&str, &str)]) -> Wish {
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        Wish::Provision(Order { plan: plan.into(), options: pairs(options), facts: pairs(&[("client-id", "42")]) })
    }

    pub async fn wish(&self, host: &Host, reference: &str, wish: Wish) -> Option<Box<Operation>> {
        match host.engine.wish(&Self::target(reference), wish, None).await.unwrap() {
            Accepted::Done { operation, .. } => operation,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub async fn service(&self, reference: &str) -> Service {
        self.books.service_by_ref("shop", reference).await.unwrap().expect("a service")
    }

    pub async fn services(&self) -> Vec<Service> {
        self.books.services(ServiceFilter { limit: 10_000, ..ServiceFilter::default() }).await.unwrap()
    }

    /// Waits (in virtual time) until the service is in this phase; tells what happened instead if it isn't.
    pub async fn until(&self, reference: &str, phase: Phase, patience: Duration) -> Service {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let service = self.service(reference).await;
            let open = self.books.operations(service.id, 1).await.unwrap();
            let settled = open.first().is_some_and(|o| o.status.is_final());
            if service.phase == phase && settled {
                return service;
            }
            if tokio::time::Instant::now() > deadline {
                panic!(
                    "{reference} is {} and not {phase} after {patience:?}:\n{}",
                    service.phase,
                    self.tell(reference).await
                );
            }
            tokio::time::sleep(self.look).await;
        }
    }

    pub async fn log(&self, reference: &str) -> Vec<(Operation, Vec<LogEntry>)> {
        let service = self.service(reference).await;
        let mut all = Vec::new();
        for operation in self.books.operations(service.id, 50).await.unwrap().into_iter().rev() {
            let log = self.books.log(operation.id, 0, 10_000).await.unwrap();
            all.push((operation, log));
        }
        all
    }

    /// The history of a service in words, for failures.
    pub async fn tell(&self, reference: &str) -> String {
        let mut text = String::new();
        for (operation, log) in self.log(reference).await {
            text.push_str(&format!(
                "{} {} {} {:?}\n",
                operation.kind,
                operation.status.as_str(),
                operation.state,
                operation.reason
            ));
            for entry in log {
                match entry.body {
                    LogBody::Step { number, label, from, to, result, effect, duration_ms, .. } => {
                        text.push_str(&format!(
                            "  [{number}] {label} ({from} -> {to}) {result:?} {effect:?} {duration_ms} ms\n"
                        ));
                    }
                    LogBody::Line { level, message, .. } => text.push_str(&format!("  {level}: {message}\n")),
                }
            }
        }
        text
    }

    /// States that the last operation of this kind has reached, in order.
    pub async fn reached(&self, reference: &str, kind: &str) -> Vec<String> {
        let log = self.log(reference).await;
        let (_, entries) = log.into_iter().rev().find(|(o, _)| o.kind == kind).expect("such an operation");
        entries
            .into_iter()
            .filter_map(|e| match e.body {
                LogBody::Step { to, result: StepResult::Success | StepResult::Skip { .. }, .. } => Some(to),
                _ => None,
            })
            .collect()
    }

    /// What must be true whatever happened: one VM a service and no other, no address or number twice, no slot held by
    /// nobody, epochs that never go back, one operation of a service at a time, no clone sent again that was carried out.
    pub async fn audit(&self) {
        // By a clock that is wrong an effect in doubt is looked for too early, and sent again: Proxmox refuses the number.
        if self.skew_ms == 0 {
            self.audit_clones().await;
        }
        self.audit_services().await;
        self.audit_order().await;
    }

    /// No clone was sent again that was carried out.
    pub async fn audit_clones(&self) {
        let mut carried_out = std::collections::BTreeSet::new();
        for entry in self.sim.log().into_iter().filter(|e| e.method == "POST" && e.path.ends_with("/clone")) {
            let number = entry.params["newid"].clone();
            // Refused, because it is there: a clone whose task had failed is taken on again.
            let doubled = entry.status == 500 && carried_out.contains(&number);
            assert!(!doubled, "the clone to {number} was sent again after it had been carried out");
            if entry.status == 200 {
                carried_out.insert(number);
            }
        }
        let services = self.services().await;
        for task in self.sim.snapshot().tasks.into_iter().filter(|t| t.kind == "qmclone") {
            let exit = task.exit.unwrap_or_default();
            let ours = services.iter().find(|s| {
                s.vmid.is_some_and(|n| exit.contains(&format!("unable to create VM {n}: config file already")))
            });
            assert!(ours.is_none(), "a clone was sent again after it had been carried out: {exit}");
        }
    }

    /// VMs, addresses and slots are those of the books, and no claim wrote after a newer one.
    pub async fn audit_services(&self) {
        let services = self.services().await;
        let guests = self.sim.guests();
        let mut addresses = std::collections::BTreeSet::new();
        for service in &services {
            let marker = wharf_capabilities::proxmox::marker(service.id);
            let own: Vec<u32> = guests
                .values()
                .filter(|vm| vm.config.get("description").is_some_and(|d| d.contains(&marker)))
                .map(|vm| vm.vmid)
                .collect();
            match service.phase {
                Phase::Active => assert_eq!(own, [service.vmid.unwrap()], "{}", self.tell(&service.reference).await),
                // By a clock that is wrong a request that is still on its way is given up too early, and arrives when the
                // service is gone: whoever is on call is told of what it made.
                Phase::Terminated if self.skew_ms != 0 && !own.is_empty() => {
                    let reported = self.reported_orphans().await;
                    assert!(own.iter().all(|n| reported.contains(n)), "{} left {own:?} unreported", service.reference);
                }
                Phase::Terminated => assert!(own.is_empty(), "{} left {own:?}", service.reference),
                _ => assert!(own.len() <= 1, "{} has {own:?}", service.reference),
            }
            for lease in self.books.leases_of(service.id).await.unwrap() {
                assert!(addresses.insert(lease.address), "{} is leased twice", lease.address);
                assert_ne!(service.phase, Phase::Terminated, "{} keeps {}", service.reference, lease.address);
            }
            for operation in self.books.operations(service.id, 50).await.unwrap() {
                let mut epoch = 0;
                for entry in self.books.log(operation.id, 0, 10_000).await.unwrap() {
                    if let LogBody::Step { epoch: now, .. } = entry.body {
                        assert!(now >= epoch, "an older claim wrote after a newer one");
                        epoch = now;
                    }
                }
            }
        }
        let marked = guests.values().filter(|vm| vm.config.contains_key("description")).count();
        let active = services.iter().filter(|s| s.phase == Phase::Active).count();
        assert!(marked >= active);
        for (pool, holders) in self.books.slots().await.unwrap() {
            for holder in holders {
                let operation = self.books.operation(holder).await.unwrap();
                let live = operation.is_some_and(|o| !o.status.is_final());
                assert!(live, "a slot of {pool} is held by an operation that is over");
            }
        }
    }

    /// The numbers of the VMs that the next report of orphans names.
    pub async fn reported_orphans(&self) -> std::collections::BTreeSet<u32> {
        let audit = NewAudit {
            actor: "admin".into(),
            action: "job.run".into(),
            subject: "orphans".into(),
            body: serde_json::Value::Null,
        };
        self.books.force_job("orphans", audit, self.clock.now_ms()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        let result = self.books.job("orphans").await.unwrap().unwrap().last_result.unwrap_or_default();
        let findings = result["findings"].as_array().cloned().unwrap_or_default();
        findings.iter().filter_map(|f| f["vmid"].as_u64().and_then(|n| u32::try_from(n).ok())).collect()
    }

    /// One operation of a service at a time.
    async fn audit_order(&self) {
        for service in self.services().await {
            let mut operations = self.books.operations(service.id, 50).await.unwrap();
            operations.sort_by_key(|o| o.generation);
            for pair in operations.windows(2) {
                let (former, next) = (&pair[0], &pair[1]);
                if let (Some(started), true) = (next.started_ms, former.started_ms.is_some()) {
                    assert!(
                        former.ended_ms.is_some_and(|ended| ended <= started + self.skew_ms),
                        "the {} began while the {} was still at work",
                        next.kind,
                        former.kind
                    );
                }
            }
        }
    }
}

/// Compiled components are the same for all tests, and compiling one takes seconds: one folder for all runs.
fn shared_cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("runtime")
}

/// Installs with everything granted that it wants.
pub async fn install(runtime: &Runtime, component: Vec<u8>) {
    let wants = Runtime::inspect(&component).unwrap().manifest.wants.keys().cloned().collect();
    runtime.install(component, "test", GrantRequest::Allow(wants)).await.unwrap_or_else(|e| panic!("{e}"));
}

/// Whether an operation has ended well.
pub fn succeeded(operation: &Operation) -> bool {
    operation.status == Status::Succeeded
}
