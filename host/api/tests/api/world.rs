//! The real router on books in memory, with a clock of its own and a cluster that isn't there.
//!
//! Every answer that comes through [`World::send`] is held against the document of the API: an undocumented status or an
//! answer that its schema doesn't allow fails the test that asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use wharf_api::{
    Api, Settings,
    tokens::{self, NewToken},
};
use wharf_capabilities::{
    call::Lender,
    http::Sender,
    proxmox::{Executor, Request as PveRequest, Response as PveResponse, Servers, Transport, TransportError},
    secrets::Keyring,
};
use wharf_engine::{Engine, EngineConfig};
use wharf_model::{Clock, Millis, object::ObjectKind};
use wharf_plugins::{GrantRequest, Runtime, RuntimeConfig};
use wharf_store::{Books, memory::MemoryStore};

/// Signs the hooks of the panel `shop`.
pub const PANEL_SECRET: &str = "whsec_cGFuZWwtc2VjcmV0LWZvci1hcGktdGVzdHMtMTIzNA==";
/// Where the world's clock begins, in Unix milliseconds.
pub const BEGIN_MS: Millis = 1_790_000_000_000;

#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ms(&self) -> Millis {
        self.0.load(Ordering::Relaxed)
    }
}

/// A cluster that lets nobody in, and repeats what it was told: the worst that a test answer can be made of.
struct Parrot;

#[async_trait]
impl Transport for Parrot {
    async fn send(&self, _: &str, authorization: &str, request: &PveRequest) -> Result<PveResponse, TransportError> {
        let said = format!("invalid token: {authorization} for {}", request.path);
        Ok(PveResponse { status: 401, reason: said.clone(), body: said.into_bytes() })
    }
}

pub struct World {
    pub router: Router,
    pub api: Api,
    pub books: Books,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<TestClock>,
    /// May do everything.
    pub admin: String,
    /// Everything that was ever answered, heads and bodies.
    pub heard: Mutex<String>,
    dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Status and code of a refusal, which must be a problem document.
    pub fn refusal(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let body = self.json();
        assert_eq!(body["status"], self.status);
        assert_eq!(body["type"], format!("urn:wharf:problem:{}", body["code"].as_str().unwrap()));
        (self.status, body["code"].as_str().unwrap().to_owned())
    }
}

/// A request being made.
pub struct Call<'a> {
    world: &'a World,
    method: Method,
    path: String,
    token: Option<String>,
    peer: SocketAddr,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Call<'_> {
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn nobody(mut self) -> Self {
        self.token = None;
        self
    }

    pub fn peer(mut self, address: &str) -> Self {
        self.peer = SocketAddr::new(address.parse().unwrap(), 4711);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        let mut call = self.header("content-type", "application/json");
        call.body = Body::from(body.to_string());
        call
    }

    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    pub fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if let Some(token) = self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.extension(ConnectInfo(self.peer)).body(self.body).unwrap()
    }

    pub async fn send(self) -> Answer {
        let (world, method, path) = (self.world, self.method.clone(), self.path.clone());
        let answer = world.router.clone().oneshot(self.request()).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        world.heard.lock().unwrap().push_str(&format!("{method} {path} {status} {headers:?} {text}\n"));
        let answer = Answer { status, headers, text };
        crate::contract::check(method.as_str(), &path, &answer);
        answer
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        let books: Books = Arc::clone(&store) as Books;
        let clock = Arc::new(TestClock(AtomicI64::new(BEGIN_MS)));
        let keyring = Arc::new(Keyring::new([7; 32]));
        let servers = Arc::new(Servers::with_transport(Arc::clone(&books), Arc::clone(&keyring), Arc::new(Parrot)));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let lender = Arc::new(Lender {
            books: Arc::clone(&books),
            clock: Arc::clone(&shared),
            keyring: Arc::clone(&keyring),
            servers: Arc::clone(&servers),
            sender: Arc::new(Sender::new()),
        });
        let runtime = Runtime::open(RuntimeConfig::for_tests(dir.path()), Arc::clone(&lender)).await.unwrap();
        let executor = Executor::new(servers, Arc::clone(&books), keyring, Arc::clone(&shared));
        // It is not run: what is accepted stays as it was accepted.
        let engine =
            Engine::new(Arc::clone(&books), shared, Arc::clone(&runtime), Arc::new(executor), EngineConfig::default());
        let api = Api::new(engine, runtime, lender, settings);
        let router = wharf_api::router(api.clone());
        let new = NewToken { scopes: vec!["admin".into()], ..NewToken::default() };
        let admin = tokens::create(&books, new, "test", BEGIN_MS).await.unwrap();
        Self { router, api, books, store, clock, admin, heard: Mutex::default(), dir }
    }

    /// With what is needed to sell: a server, a provisioner, the plans `mild` and `hot`, the panels `shop` and `rival`.
    pub async fn with_shop() -> Self {
        let world = Self::new().await;
        world.install("provisioner-tiny").await;
        world.install("panel-whmcs").await;
        world
            .put("servers/pve", json!({"urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "secret": "s"}))
            .await;
        for (name, flavour) in [("mild", "mild"), ("hot", "hot")] {
            let settings = json!({"flavour": flavour, "image": "debian"});
            world
                .row(
                    ObjectKind::Plan,
                    name,
                    json!({"plugin": "provisioner-tiny", "server": "pve", "settings": settings}),
                )
                .await;
        }
        for (panel, plans) in [("shop", json!(["mild"])), ("rival", json!(["mild", "hot"]))] {
            world
                .put(
                    &format!("panels/{panel}"),
                    json!({"plugin": "panel-whmcs", "plans": plans, "secret": PANEL_SECRET}),
                )
                .await;
        }
        world
    }

    pub async fn install(&self, name: &str) {
        let dir = std::env::var_os("WHARF_PLUGINS_DIR").map_or_else(
            || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")),
            Into::into,
        );
        let path = dir.join(format!("{name}.wasm"));
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("{} ({e}): run `cargo xtask plugins` first", path.display()));
        let wants = Runtime::inspect(&bytes).unwrap().manifest.wants.keys().cloned().collect();
        self.api.runtime.install(bytes, "test", GrantRequest::Allow(wants)).await.unwrap_or_else(|e| panic!("{e}"));
    }

    /// Straight into the books.
    pub async fn row(&self, kind: ObjectKind, name: &str, body: Value) {
        self.books.put_object(kind, name, body, None, None, self.clock.now_ms()).await.unwrap();
    }

    pub async fn put(&self, path: &str, body: Value) -> Value {
        let answer = self.call("PUT", &format!("/v1/admin/{path}")).json(&body).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    pub async fn token(&self, scopes: &[&str], panel: Option<&str>) -> String {
        let new = NewToken {
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            panel: panel.map(str::to_owned),
            ..NewToken::default()
        };
        tokens::create(&self.books, new, "test", self.clock.now_ms()).await.unwrap()
    }

    /// As the admin, from 192.0.2.1.
    pub fn call(&self, method: &str, path: &str) -> Call<'_> {
        Call {
            world: self,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            token: Some(self.admin.clone()),
            peer: SocketAddr::from(([192, 0, 2, 1], 4711)),
            headers: Vec::new(),
            body: Body::empty(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    /// Orders as the panel's own module would, through the API.
    pub async fn order(&self, id: &str, plan: &str) -> Answer {
        self.call("PUT", &format!("/v1/services/{id}")).json(&json!({"plan": plan})).send().await
    }

    pub fn pass(&self, ms: Millis) {
        self.clock.0.fetch_add(ms, Ordering::Relaxed);
    }

    /// A signed hook of the panel `shop`, sent now.
    pub fn hook(&self, id: &str, verb: &str, body: &str) -> Call<'_> {
        self.hook_at(id, verb, body, self.clock.now_ms() / 1_000, PANEL_SECRET)
    }

    pub fn hook_at(&self, id: &str, verb: &str, body: &str, timestamp: i64, secret: &str) -> Call<'_> {
        self.call("POST", &format!("/hooks/shop/{verb}"))
            .nobody()
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp.to_string())
            .header("webhook-signature", &sign(secret, id, timestamp, body))
            .body(body.to_owned())
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// `v1,` + base64 of the HMAC over `id.timestamp.body`.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The document, once.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::to_value(wharf_api::openapi::document()).unwrap())
}
