//! Calls to try capabilities with: books in memory, a manifest, a zone, a hook or an operation at hand.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use wasmtime::component::ResourceTable;
use wharf_capabilities::{
    call::{Bound, CallState, Caller, HookBinding, Lender, OperationBinding, ZoneBinding},
    http::{Answer, Lost, Prepared, Resolver, Sender, Transport},
    secrets::Keyring,
};
use wharf_model::{SystemClock, manifest::Manifest, object::Grant, plugin::PluginVersion, service::Service};
use wharf_store::{Accept, Books, Claim, Decision, NewAudit, NewOperation, Run, memory::MemoryStore};

/// Everything that calls are made from.
pub struct Lab {
    pub books: Books,
    pub keyring: Arc<Keyring>,
    pub sender: Arc<Sender>,
    pub manifest: Value,
    pub grant: Grant,
    pub budget: Duration,
}

pub const KEY: &str = "k3y/with\"signs+and=more";
pub const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Lab {
    pub fn new(sender: Sender) -> Self {
        Self {
            books: Arc::new(MemoryStore::default()),
            keyring: Arc::new(Keyring::new([7; 32])),
            sender: Arc::new(sender),
            manifest: json!({
                "id": "tested", "name": "Tested", "version": "1.0.0", "world": "dns-provider", "licence": "MIT",
                "wants": {"wharf:http/client": "0.1.0"},
                "settings": {"type": "object", "properties": {"marked": {"type": "string", "x-secret": true}, "server-id": {"default": "localhost"}}},
                "requests": [
                    {"methods": ["GET", "POST", "PATCH"], "origin": "{server-url}", "path": "/api/*"},
                    {"methods": ["GET"], "origin": "{server-url}", "path": "/servers/{server-id}"},
                    {"methods": ["POST"], "origin": "{server-url}", "path": "/cmd", "pinned": {"cmd": ["list"]}},
                ],
                "secrets": [
                    {"slot": "api-key", "positions": [{"header": "X-API-Key"}, {"form": "hash"}]},
                    {"slot": "signing", "positions": [{"sign": {"scheme": "standard-webhooks-v1", "header": "webhook-signature"}}]},
                    {"slot": "empty", "positions": [{"header": "X-Empty"}]},
                ],
            }),
            grant: Grant::default(),
            budget: Duration::from_secs(10),
        }
    }

    /// Lets the plugin reach this origin although it is private.
    pub fn granting(mut self, origin: &str) -> Self {
        self.grant.private_origins.insert(origin.to_owned());
        self
    }

    pub async fn secret(&self, owner: &str, slot: &str, value: &str) {
        let sealed = self.keyring.seal(owner, slot, value.as_bytes());
        self.books.put_secret(owner, slot, &sealed, 0).await.unwrap();
    }

    pub fn call(&self, bound: Bound) -> CallState {
        let manifest: Manifest = serde_json::from_value(self.manifest.clone()).unwrap();
        let now = tokio::time::Instant::now();
        CallState {
            table: ResourceTable::new(),
            caller: Caller {
                id: "tested".into(),
                version: semver::Version::new(1, 0, 0),
                manifest: Arc::new(manifest),
                grant: Arc::new(self.grant.clone()),
            },
            lender: Arc::new(Lender {
                books: self.books.clone(),
                clock: Arc::new(SystemClock),
                keyring: self.keyring.clone(),
                servers: Arc::new(wharf_capabilities::proxmox::Servers::new(self.books.clone(), self.keyring.clone())),
                sender: self.sender.clone(),
            }),
            bound,
            log: Default::default(),
            meter: Default::default(),
            deadline: now + self.budget,
            began: now,
        }
    }

    /// A call about a zone at this server, with its secrets stored.
    pub async fn zone(&self, server_url: &str) -> CallState {
        self.secret("zone/z", "api-key", KEY).await;
        self.secret("zone/z", "signing", SIGNING).await;
        let settings = json!({"server-url": server_url, "marked": "left by mistake", "api-key": "too", "number": 5});
        let zone =
            serde_json::from_value(json!({"zone": "example.com", "plugin": "tested", "settings": settings})).unwrap();
        self.call(Bound::Zone(Box::new(ZoneBinding {
            name: "z".into(),
            zone,
            idempotency_key: "once".into(),
            learnt: Vec::new(),
            progress: Default::default(),
            cancelled: Arc::new(AtomicBool::new(false)),
        })))
    }

    pub fn hook(&self, settings: Value) -> CallState {
        self.call(Bound::Hook(Box::new(HookBinding {
            name: "h".into(),
            settings,
            event: None,
            attempt: 2,
            question: None,
        })))
    }

    /// Puts the plugin into the books, as its current version.
    pub async fn installed(&self) {
        let manifest: Manifest = serde_json::from_value(self.manifest.clone()).unwrap();
        let version = manifest.version.clone();
        let audit =
            || NewAudit { actor: "t".into(), action: "install".into(), subject: "tested".into(), body: Value::Null };
        let row = PluginVersion {
            id: "tested".into(),
            version: version.clone(),
            digest: "0".into(),
            manifest,
            size: 1,
            installed_ms: 0,
            installed_by: "t".into(),
        };
        self.books.add_plugin(row, vec![0], audit()).await.unwrap();
        self.books.roll_out("tested", &version, audit(), 0).await.unwrap();
    }

    /// Puts the service `id` into the books.
    pub async fn accepted(&self, id: uuid::Uuid) {
        let decision = Decision::Create {
            service: Box::new(service(id)),
            operation: NewOperation {
                id: uuid::Uuid::new_v4(),
                kind: "deploy".into(),
                plugin: "tested".into(),
                state: "begun".into(),
                state_version: 1,
            },
            events: Vec::new(),
        };
        let decide = Box::new(move |_: Option<&Service>, _: &[wharf_model::operation::Operation]| decision);
        let accept = Accept { panel: "p".into(), reference: "1".into(), idempotency: None, decide, now: 0 };
        self.books.accept(accept).await.unwrap();
    }

    /// A step of the operation that was accepted, under a claim that counts.
    pub async fn claimed(&self) -> CallState {
        let run = self.books.claim(uuid::Uuid::new_v4(), 100_000_000, 1, 0).await.unwrap().remove(0);
        self.call(Bound::Operation(Box::new(OperationBinding::new(run))))
    }

    /// A step of an operation of the service `id`, which is in no books.
    pub fn operation(&self, id: uuid::Uuid) -> CallState {
        let service = service(id);
        let operation: wharf_model::operation::Operation = serde_json::from_value(json!({
            "id": uuid::Uuid::new_v4(), "service_id": id, "generation": 1, "kind": "deploy", "plugin": "tested", "status": "running",
            "state": "begun", "state_version": 1, "memo": null, "attempt": 0, "reason": null, "created_ms": 0, "started_ms": null,
            "state_ms": 0, "ended_ms": null,
        }))
        .unwrap();
        let claim = Claim { operation: operation.id, owner: uuid::Uuid::new_v4(), epoch: 1 };
        let run = Run { claim, service, operation, effect: None, preempted: false, taken_over: false };
        self.call(Bound::Operation(Box::new(OperationBinding::new(run))))
    }
}

fn service(id: uuid::Uuid) -> Service {
    serde_json::from_value(json!({
        "id": id, "panel": "p", "reference": "1", "plan": "s", "server": "pve", "plugin": "tested", "options": {}, "settings": {},
        "order": {}, "facts": {}, "phase": "provisioning", "suspended": false, "generation": 1, "state": "begun",
        "state_version": 1, "vmid": null, "absence_proven_ms": null, "created_ms": 0, "updated_ms": 0,
    }))
    .unwrap()
}

/// A resolver that answers from a list, the next answer each time, the last one for ever.
#[derive(Default)]
pub struct Names {
    answers: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    pub asked: Mutex<u32>,
}

impl Names {
    pub fn with(self, host: &str, answers: &[&[&str]]) -> Self {
        let parsed = answers.iter().map(|a| a.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.answers.lock().unwrap().insert(host.to_owned(), parsed);
        self
    }
}

#[async_trait]
impl Resolver for Names {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        *self.asked.lock().unwrap() += 1;
        let mut all = self.answers.lock().unwrap();
        let Some(answers) = all.get_mut(host) else { return Err(std::io::Error::other("no such name")) };
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

/// A transport that keeps what it was given and answers 200.
#[derive(Default)]
pub struct Recorder {
    pub seen: Mutex<Vec<Prepared>>,
    pub answer: Mutex<Option<Result<Answer, Lost>>>,
}

#[async_trait]
impl Transport for Recorder {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        self.seen.lock().unwrap().push(request);
        self.answer.lock().unwrap().clone().unwrap_or_else(|| Ok(Answer { status: 200, ..Answer::default() }))
    }
}

/// Serves on loopback; the address is bound when this returns.
pub async fn serve(app: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
