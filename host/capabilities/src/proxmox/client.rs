//! One server's API: transport, time-outs, and errors told apart by what must be done about them.
//!
//! Reads may be repeated, writes never are. Facts: pveproxy closes idle connections after 5 s; the text of a 500 stands in
//! the reason phrase (a JSON `message` only since libpve-http-server 5.2.0); 595, 596 and 599 are made by the node that was
//! asked, so the work of a write may still be going on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::Instant,
};
use tracing::{Instrument, Span};
use wharf_model::{TRACES, object::Server};
use zeroize::Zeroizing;

use super::{inventory::Resources, template::template};
use crate::scrub::Scrubber;

/// Short protected calls at once on one node: pvedaemon has three workers, and the admin's own session needs one.
const WRITES_PER_NODE: usize = 2;
/// With less time left a write is not begun.
const LEAST_TIME: Duration = Duration::from_secs(1);
/// How old a shared look at the cluster may be.
const RESOURCES_AGE: Duration = Duration::from_millis(1_000);

/// A request to the API.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    /// Below `/api2/json`, percent-encoded.
    pub path: String,
    pub params: Vec<(String, String)>,
    pub timeout: Duration,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub body: Vec<u8>,
}

/// No answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    #[error("{0}")]
    NotSent(String),
    #[error("{0}")]
    MaybeSent(String),
}

/// How requests leave: over TLS, or in process in tests.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// `authorization` is the whole header value.
    async fn send(&self, base: &str, authorization: &str, request: &Request) -> Result<Response, TransportError>;
}

/// What went wrong, by what must be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PveError {
    /// Locked, overloaded, no quorum: ask again. Surely not done.
    #[error("{0}")]
    Busy(String),
    /// Never reached the server, or a read that got no answer. Says which server or node.
    #[error("{0}")]
    Unreachable(String),
    /// A write that may have been done. Says which server or node.
    #[error("{0}")]
    InDoubt(String),
    /// Token refused; the server is parked.
    #[error("{0}")]
    Unauthorized(String),
    /// `path` and `privilege` as Proxmox names them; of alternatives it names none, and both are empty.
    #[error("{}", forbidden(.path, .privilege))]
    Forbidden { path: String, privilege: String },
    /// 400: (parameter, text).
    #[error("refused: {}", .0.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join("; "))]
    Parameter(Vec<(String, String)>),
    /// No such VM on that node.
    #[error("{0}")]
    Missing(String),
    /// Everything else that the server said.
    #[error("{0}")]
    Failed(String),
    /// The server's row is missing or can't be used.
    #[error("{0}")]
    Config(String),
}

/// A server and a token. One for each server object and revision of it.
pub struct Client {
    pub name: String,
    pub config: Server,
    authorization: Zeroizing<String>,
    /// Takes the token out of whatever the server, or a proxy before it, says.
    scrubber: Scrubber,
    pub(super) stamp: (i64, Vec<u8>),
    transport: Arc<dyn Transport>,
    parked: Mutex<Option<String>>,
    nodes: Mutex<HashMap<String, Arc<Semaphore>>>,
    pub(super) resources: AsyncMutex<Option<(Instant, Arc<Resources>)>>,
    pub(super) version: AsyncMutex<Option<String>>,
}

impl Client {
    pub(super) fn new(
        name: &str,
        config: Server,
        secret: &str,
        stamp: (i64, Vec<u8>),
        transport: Arc<dyn Transport>,
    ) -> Self {
        let authorization = Zeroizing::new(format!("PVEAPIToken={}={secret}", config.token_id));
        Self {
            name: name.to_owned(),
            config,
            authorization,
            scrubber: Scrubber::of([("secret", secret.as_bytes())]),
            stamp,
            transport,
            parked: Mutex::new(None),
            nodes: Mutex::new(HashMap::new()),
            resources: AsyncMutex::new(None),
            version: AsyncMutex::new(None),
        }
    }

    /// Why nothing is sent to it, if so.
    pub fn parked(&self) -> Option<String> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn unpark(&self) {
        *self.parked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn resources_age() -> Duration {
        RESOURCES_AGE
    }

    /// A read: tried at each address, twice.
    pub async fn get(&self, path: &str, params: &[(&str, &str)]) -> Result<Value, PveError> {
        self.get_even_parked(path, params, false).await
    }

    pub(super) async fn get_even_parked(
        &self,
        path: &str,
        params: &[(&str, &str)],
        even_parked: bool,
    ) -> Result<Value, PveError> {
        if let (Some(reason), false) = (self.parked(), even_parked) {
            return Err(PveError::Unauthorized(reason));
        }
        let request = Request {
            method: "GET",
            path: path.to_owned(),
            params: params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            timeout: Duration::from_millis(u64::from(self.config.timeout_ms)),
        };
        let mut last = PveError::Config(format!("server `{}` has no URL: enter one", self.name));
        for _ in 0..2 {
            for url in &self.config.urls {
                match self.once(url, &request).await {
                    Err(PveError::InDoubt(text) | PveError::Unreachable(text)) => last = PveError::Unreachable(text),
                    other => return other,
                }
            }
        }
        Err(last)
    }

    /// A write, sent once: at the first address that takes a connection. `node` bounds how many run there at a time.
    /// After `end` nothing is sent any more: whoever looks for it then must not be overtaken by it.
    pub async fn write(
        &self,
        method: &'static str,
        node: &str,
        path: &str,
        params: Vec<(String, String)>,
        end: Instant,
    ) -> Result<Value, PveError> {
        if let Some(reason) = self.parked() {
            return Err(PveError::Unauthorized(reason));
        }
        if let Some((key, _)) = params.iter().find(|(k, _)| k.is_empty()) {
            return Err(PveError::Parameter(vec![(key.clone(), "a parameter without a name would be sent".into())]));
        }
        if self.config.paused {
            return Err(PveError::Busy(format!("server `{}` is paused by an admin", self.name)));
        }
        let gate = {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(nodes.entry(node.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(WRITES_PER_NODE))))
        };
        let crowded = || PveError::Busy(format!("node {node} has {WRITES_PER_NODE} writes in flight already"));
        // Half of the time at most: a write that leaves with too little of it left would end in doubt for nothing.
        let patience = end.saturating_duration_since(Instant::now()) / 2;
        let _permit = tokio::time::timeout(patience, gate.acquire()).await.map_err(|_| crowded())?;
        let mut answer = Err(PveError::Config(format!("server `{}` has no URL: enter one", self.name)));
        for url in &self.config.urls {
            let left = end.saturating_duration_since(Instant::now());
            if left < LEAST_TIME {
                return Err(crowded());
            }
            let request = Request {
                method,
                path: path.to_owned(),
                params: params.clone(),
                timeout: left.min(Duration::from_millis(u64::from(self.config.heavy_timeout_ms))),
            };
            answer = self.once(url, &request).await;
            // No connection was made, so another address may be tried.
            if !matches!(answer, Err(PveError::Unreachable(_))) {
                break;
            }
        }
        // Whatever was written, what was seen before is old.
        *self.resources.lock().await = None;
        answer
    }

    async fn once(&self, url: &str, request: &Request) -> Result<Value, PveError> {
        let span = self.span(request);
        let send = self.transport.send(url, &self.authorization, request).instrument(span.clone());
        let sent = tokio::time::timeout(request.timeout, send).await;
        note(&span, &sent);
        let answer = match sent {
            Err(_) => {
                let text = format!("server `{}` did not answer within {} ms", self.name, request.timeout.as_millis());
                return Err(PveError::InDoubt(text));
            }
            Ok(Err(TransportError::NotSent(text))) => {
                return Err(PveError::Unreachable(format!("server `{}` can't be reached: {text}", self.name)));
            }
            Ok(Err(TransportError::MaybeSent(text))) => {
                return Err(PveError::InDoubt(format!("server `{}` did not answer: {text}", self.name)));
            }
            Ok(Ok(answer)) => answer,
        };
        let reason = self.scrubber.text(&answer.reason);
        let body = self.scrubber.bytes(answer.body);
        self.judge(request, Response { reason, body, ..answer })
    }

    /// Of one request. What it names (nodes, VMs, tasks) and its parameters are left out.
    fn span(&self, request: &Request) -> Span {
        tracing::info_span!(
            target: TRACES,
            "proxmox",
            otel.name = format!("{} {}", request.method, template(&request.path)),
            otel.kind = "client",
            http.request.method = request.method,
            url.template = template(&request.path),
            server = self.name,
            http.response.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        )
    }

    fn judge(&self, request: &Request, answer: Response) -> Result<Value, PveError> {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if (200..300).contains(&answer.status) {
            return match body {
                Value::Object(mut map) => Ok(map.remove("data").unwrap_or(Value::Null)),
                _ => {
                    let text =
                        format!("the answer of server `{}` is not JSON: is there a proxy in between?", self.name);
                    Err(if request.method == "GET" { PveError::Unreachable(text) } else { PveError::InDoubt(text) })
                }
            };
        }
        // Once more, now that it is decoded: JSON has many ways to write a secret.
        let clean = |text: &str| self.scrubber.text(text);
        let text = clean(&text_of(&answer, &body));
        match answer.status {
            401 => {
                let reason = format!(
                    "server `{}` refused the token {} ({text}): enter its secret again, or test the server after mending it",
                    self.name, self.config.token_id
                );
                let before = self.parked.lock().unwrap_or_else(PoisonError::into_inner).replace(reason.clone());
                if before.is_none() {
                    tracing::error!(server = self.name, reason, "server parked: nothing is sent to it any more");
                }
                Err(PveError::Unauthorized(reason))
            }
            403 => {
                let inner =
                    text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inner, _)| inner);
                let (path, privilege) = inner.split_once(',').unwrap_or_default();
                Err(PveError::Forbidden { path: path.trim().to_owned(), privilege: privilege.trim().to_owned() })
            }
            400 => {
                let errors = body.get("errors").and_then(Value::as_object);
                let errors = errors
                    .map(|map| map.iter().map(|(k, v)| (clean(k), clean(&plain(v)))).collect())
                    .unwrap_or_default();
                Err(PveError::Parameter(if Vec::is_empty(&errors) { vec![("request".into(), text)] } else { errors }))
            }
            503 | 429 => Err(PveError::Busy(text)),
            // The server answered, but could not hand the request on to the node that it is for.
            595 | 596 | 599 | 502 | 504 => {
                let node = request.path.strip_prefix("/nodes/").and_then(|rest| rest.split('/').next());
                let whom = node.map_or_else(String::new, |node| format!("node {node} of "));
                let text = format!("{whom}server `{}` can't be reached: {text}", self.name);
                let unseen = answer.status == 595 && request.method == "GET";
                Err(if unseen { PveError::Unreachable(text) } else { PveError::InDoubt(text) })
            }
            500 if is_missing(&text) => Err(PveError::Missing(text)),
            500 if is_busy(&text) => Err(PveError::Busy(text)),
            _ => Err(PveError::Failed(text)),
        }
    }
}

fn note(span: &Span, sent: &Result<Result<Response, TransportError>, tokio::time::error::Elapsed>) {
    let error = match sent {
        Ok(Ok(answer)) => {
            span.record("http.response.status_code", i64::from(answer.status));
            (answer.status >= 400).then(|| answer.status.to_string())
        }
        Ok(Err(TransportError::NotSent(_))) => Some("not-sent".to_owned()),
        Ok(Err(TransportError::MaybeSent(_))) => Some("no-answer".to_owned()),
        Err(_) => Some("timeout".to_owned()),
    };
    if let Some(error) = error {
        span.record("error.type", error).record("otel.status_code", "ERROR");
    }
}

fn forbidden(path: &str, privilege: &str) -> String {
    if privilege.is_empty() {
        return "the token may not do this, and the server does not say which privilege it lacks: test the server, which \
                names what is missing"
            .to_owned();
    }
    format!(
        "the token may not do this: it lacks the privilege {privilege} on {path}; add it to the token's and the user's role"
    )
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).trim().to_owned()
}

fn text_of(answer: &Response, body: &Value) -> String {
    let message = body.get("message").and_then(Value::as_str).map(str::trim).filter(|m| !m.is_empty());
    let reason = answer.reason.trim();
    match (message, reason) {
        (Some(message), _) => message.to_owned(),
        (None, "") => format!("HTTP {}", answer.status),
        (None, reason) => reason.to_owned(),
    }
}

/// No such configuration file on the node that was asked: gone, or moved.
pub fn is_missing(text: &str) -> bool {
    text.contains("Configuration file 'nodes/") && text.contains("does not exist")
}

/// Contention that passes by itself. A guest that does not shut down says `got timeout` too, and is none.
pub fn is_busy(text: &str) -> bool {
    [
        "can't lock file",
        "VM is locked",
        "got lock request timeout",
        "no quorum",
        "cluster not ready",
        "unable to acquire lock",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// A path segment.
pub fn segment(text: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEEP).collect()
}

/// Numbers come as numbers or as text.
pub fn number(value: &Value, key: &str) -> Option<u64> {
    let value = value.get(key)?;
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|f| f.max(0.0) as u64))
        .or_else(|| value.as_str().and_then(|s| s.parse().ok()))
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
