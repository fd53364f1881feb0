//! The lending side of a host on a simulated cluster, in one process and in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::body::Body;
use http_body_util::BodyExt;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pve_sim::{Sim, state::SimConfig};
use serde_json::json;
use tower::ServiceExt;
use uuid::Uuid;
use wasmtime::component::Resource;
use wharf_capabilities::{
    bindings::wharf::{base::common::Failure, proxmox::vms::HostVm},
    call::{Bound, CallState, Caller, Lender, LogBuffer, Meter, OperationBinding, Submitted, VmHandle, VmView},
    effects::{Effector, Execution, TaskView},
    http::Sender,
    proxmox::{EffectBody, Executor, Request, Response, Servers, Transport, TransportError},
    secrets::Keyring,
};
use wharf_model::{
    Clock, Millis, TokioClock,
    effect::{Effect, EffectResult, EffectState},
    manifest::Manifest,
    object::{Grant, ObjectKind},
    operation::Operation,
    service::{Phase, Service},
};
use wharf_store::{
    Accept, Accepted, Books, Commit, Decision, NewOperation, Run, ServicePatch, Then, memory::MemoryStore,
};

pub const SERVER: &str = "lab";
pub const TOKEN: &str = "wharf@pve!wharf";
pub const TOKEN_SECRET: &str = "11111111-2222-3333-4444-555555555555";
/// When virtual time begins: the simulated cluster's clock says the same.
pub const NOW: Millis = 1_790_000_000_000;

/// Carries requests to the simulator. A lost reply is told from an answer of 599 by its mark.
pub struct InProcess {
    sim: Sim,
    /// Requests that left, refused ones too.
    sent: AtomicUsize,
    /// Addresses at which nobody listens.
    pub dead: Mutex<BTreeSet<String>>,
    /// Numbers that the token is not allowed to see in `cluster/resources`.
    pub unseen: Mutex<BTreeSet<u32>>,
}

fn encoded(params: &[(String, String)]) -> String {
    let one = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    params.iter().map(|(k, v)| format!("{}={}", one(k), one(v))).collect::<Vec<_>>().join("&")
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, base: &str, authorization: &str, request: &Request) -> Result<Response, TransportError> {
        if self.dead.lock().unwrap().contains(base) {
            return Err(TransportError::NotSent(format!("{base}: connection refused")));
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
        let in_query = matches!(request.method, "GET" | "DELETE");
        let mut uri = format!("/api2/json{}", request.path);
        if in_query && !request.params.is_empty() {
            uri = format!("{uri}?{}", encoded(&request.params));
        }
        let body = if in_query { Body::empty() } else { Body::from(encoded(&request.params)) };
        let http = axum::http::Request::builder()
            .method(request.method)
            .uri(uri)
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .unwrap();
        let answer = self.sim.router().oneshot(http).await.unwrap();
        if answer.headers().contains_key("x-sim-lost") {
            return Err(TransportError::MaybeSent("the connection broke".into()));
        }
        let status = answer.status().as_u16();
        let reason = answer
            .extensions()
            .get::<hyper::ext::ReasonPhrase>()
            .map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned())
            .unwrap_or_default();
        let mut body = answer.into_body().collect().await.unwrap().to_bytes().to_vec();
        let unseen = self.unseen.lock().unwrap().clone();
        if request.path == "/cluster/resources" && status == 200 && !unseen.is_empty() {
            let mut value: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let hidden = |row: &serde_json::Value| {
                row["vmid"].as_u64().is_some_and(|n| unseen.contains(&u32::try_from(n).unwrap()))
            };
            value["data"].as_array_mut().unwrap().retain(|row| !hidden(row));
            body = serde_json::to_vec(&value).unwrap();
        }
        Ok(Response { status, reason, body })
    }
}

/// Everything together.
pub struct Lab {
    pub sim: Sim,
    pub wire: Arc<InProcess>,
    pub books: Books,
    pub clock: Arc<dyn Clock>,
    pub keyring: Arc<Keyring>,
    pub servers: Arc<Servers>,
    pub lender: Arc<Lender>,
    pub executor: Executor,
}

impl Lab {
    pub async fn new() -> Self {
        let sim = Sim::new(SimConfig::default());
        let wire = Arc::new(InProcess {
            sim: sim.clone(),
            sent: AtomicUsize::new(0),
            dead: Mutex::default(),
            unseen: Mutex::default(),
        });
        let books: Books = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(NOW));
        let keyring = Arc::new(Keyring::new([7; 32]));
        let transport: Arc<dyn Transport> = wire.clone();
        let servers = Arc::new(Servers::with_transport(books.clone(), keyring.clone(), transport));
        let lender = Arc::new(Lender {
            books: books.clone(),
            clock: clock.clone(),
            keyring: keyring.clone(),
            servers: servers.clone(),
            sender: Arc::new(Sender::new()),
        });
        let executor = Executor::new(servers.clone(), books.clone(), keyring.clone(), clock.clone());
        let lab = Self { sim, wire, books, clock, keyring, servers, lender, executor };
        let row = json!({"urls": ["https://a:8006", "https://b:8006"], "token_id": TOKEN});
        lab.put(ObjectKind::Server, SERVER, row).await;
        lab.token_secret(TOKEN_SECRET).await;
        let templates = json!({"templates": [{"server": SERVER, "vmid": 9000}, {"server": SERVER, "vmid": 9001}]});
        lab.put(ObjectKind::Image, "debian", templates).await;
        lab
    }

    pub async fn put(&self, kind: ObjectKind, name: &str, body: serde_json::Value) {
        self.books.put_object(kind, name, body, None, None, self.clock.now_ms()).await.unwrap();
    }

    pub async fn token_secret(&self, value: &str) {
        let owner = format!("server/{SERVER}");
        let sealed = self.keyring.seal(&owner, "secret", value.as_bytes());
        self.books.put_secret(&owner, "secret", &sealed, self.clock.now_ms()).await.unwrap();
    }

    pub fn sent(&self) -> usize {
        self.wire.sent.load(Ordering::SeqCst)
    }

    /// A new service with a claimed deploy.
    pub async fn order(&self, reference: &str) -> Run {
        let service = Service {
            id: Uuid::now_v7(),
            panel: "shop".into(),
            reference: reference.into(),
            plan: "small".into(),
            server: SERVER.into(),
            plugin: "kvm".into(),
            options: BTreeMap::new(),
            settings: json!({}),
            order: BTreeMap::new(),
            facts: BTreeMap::new(),
            phase: Phase::Provisioning,
            suspended: false,
            generation: 0,
            state: "begun".into(),
            state_version: 1,
            vmid: None,
            absence_proven_ms: None,
            created_ms: 0,
            updated_ms: 0,
        };
        let operation = NewOperation {
            id: Uuid::now_v7(),
            kind: "deploy".into(),
            plugin: "kvm".into(),
            state: "begun".into(),
            state_version: 1,
        };
        let decide = move |_: Option<&Service>, _: &[Operation]| Decision::Create {
            service: Box::new(service),
            operation,
            events: Vec::new(),
        };
        let accept = Accept {
            panel: "shop".into(),
            reference: reference.into(),
            idempotency: None,
            decide: Box::new(decide),
            now: self.clock.now_ms(),
        };
        assert!(matches!(self.books.accept(accept).await.unwrap(), Accepted::Done { .. }));
        self.books.claim(Uuid::new_v4(), 100_000_000, 1, self.clock.now_ms()).await.unwrap().remove(0)
    }

    /// As it stands in the books.
    pub async fn again(&self, run: &Run) -> Run {
        self.books.reload(&run.claim).await.unwrap()
    }

    /// What the engine does with a proof of absence after the step.
    pub async fn commit_absence(&self, run: &Run, proven: Option<Millis>) {
        let service = ServicePatch { absence_proven_ms: proven.map(Some), ..ServicePatch::default() };
        let commit = Commit { service, ..Commit::new(run.claim, self.clock.now_ms(), Then::Keep) };
        self.books.commit(commit).await.unwrap();
    }

    /// A step of this run.
    pub fn step(&self, run: &Run) -> Step {
        let manifest = json!({
            "id": "kvm", "name": "kvm", "version": "1.0.0", "world": "provisioner", "licence": "MIT", "wants": {},
            "operations": [{"kind": "deploy", "label": "Deploy", "phase": "provisioning", "final_phase": "active",
                "states": [{"id": "begun"}, {"id": "done"}]}],
            "secrets": [{"slot": "os-password", "positions": [{"config": "cipassword"}]}]
        });
        let now = tokio::time::Instant::now();
        let mut state = CallState {
            table: wasmtime::component::ResourceTable::new(),
            caller: Caller {
                id: "kvm".into(),
                version: semver::Version::new(1, 0, 0),
                manifest: Arc::new(Manifest::parse(manifest.to_string().as_bytes()).unwrap()),
                grant: Arc::new(Grant::default()),
            },
            lender: self.lender.clone(),
            bound: Bound::Operation(Box::new(OperationBinding::new(run.clone()))),
            log: LogBuffer::default(),
            meter: Meter::default(),
            deadline: now + Duration::from_secs(30),
            began: now,
        };
        let vm = state.table.push(VmHandle).unwrap().rep();
        Step { state, vm }
    }

    /// The journal's row of a write of this run.
    pub fn effect(&self, run: &Run, body: serde_json::Value) -> Effect {
        let now = self.clock.now_ms();
        Effect {
            service_id: run.service.id,
            operation_id: run.operation.id,
            generation: run.operation.generation,
            sequence: 1,
            kind: "write".into(),
            server: SERVER.into(),
            body,
            slot: None,
            state: EffectState::Intent,
            task: None,
            deadline_ms: now + 60_000,
            result: None,
            created_ms: now,
            issued_ms: None,
            resolved_ms: None,
        }
    }

    pub fn write(&self, run: &Run, body: &EffectBody) -> Effect {
        self.effect(run, serde_json::to_value(body).unwrap())
    }

    /// Waits for the end of whatever came of sending, as the engine would; a result in doubt is an error here.
    pub async fn end(&self, run: &Run, effect: &Effect, execution: Execution) -> EffectResult {
        let mut effect = effect.clone();
        match execution {
            Execution::Done(result) => result,
            Execution::Task(task) => {
                effect.task = Some(task);
                for _ in 0..600 {
                    match self.executor.task(&effect, &self.again(run).await.service).await {
                        TaskView::Running => tokio::time::sleep(Duration::from_millis(500)).await,
                        TaskView::Ended(result) => return result,
                        other => panic!("{other:?}"),
                    }
                }
                panic!("the task never ends");
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn run(&self, run: &Run, body: &EffectBody) -> EffectResult {
        let effect = self.write(run, body);
        let execution = self.execute(run, &effect).await;
        self.end(run, &effect, execution).await
    }

    pub async fn execute(&self, run: &Run, effect: &Effect) -> Execution {
        self.executor.execute(effect, &self.again(run).await.service).await
    }

    /// After the call can't arrive any more.
    pub async fn probe_later(&self, run: &Run, effect: &Effect) -> Execution {
        tokio::time::sleep(Duration::from_secs(62)).await;
        self.executor.probe(effect, &self.again(run).await.service).await
    }

    /// A service with a number, and a linked clone under it.
    pub async fn deployed(&self, reference: &str) -> (Run, u32) {
        let run = self.order(reference).await;
        let vmid = self.step(&run).reserve(101).await.unwrap();
        let run = self.again(&run).await;
        let result = self.run(&run, &clone_of(vmid)).await;
        assert!(result.ok, "{result:?}");
        (run, vmid)
    }

    /// Requests to this VM that were to change it.
    pub fn writes_to(&self, vmid: u32) -> u32 {
        self.sim.snapshot().writes.get(&vmid).copied().unwrap_or(0)
    }
}

pub fn clone_of(vmid: u32) -> EffectBody {
    EffectBody::Clone { vmid, template: 9000, name: "vm.example.net".into(), full: false, options: BTreeMap::new() }
}

/// One call of a provisioner.
pub struct Step {
    pub state: CallState,
    vm: u32,
}

impl Step {
    pub fn vm(&self) -> Resource<VmHandle> {
        Resource::new_borrow(self.vm)
    }

    pub async fn reserve(&mut self, first: u32) -> Result<u32, Failure> {
        let vm = self.vm();
        self.state.reserve_number(vm, first).await.unwrap()
    }

    pub async fn look(&mut self) -> Result<VmView, Failure> {
        let vm = self.vm();
        let view = self.state.look(vm).await.unwrap()?;
        Ok(self.state.table.get(&view).unwrap().clone())
    }

    pub fn binding(&self) -> &OperationBinding {
        match &self.state.bound {
            Bound::Operation(binding) => binding,
            _ => panic!("no operation"),
        }
    }

    pub fn submitted(&self) -> &Submitted {
        self.binding().submitted.as_ref().expect("a write")
    }
}

/// Pairs of text.
pub fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}
