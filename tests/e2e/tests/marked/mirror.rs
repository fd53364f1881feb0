//! A peer that says again whatever it is told.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;
use wharf_e2e::client::http;

use super::search::codings;

/// A peer that stands in front of PowerDNS, and is a webhook receiver: it passes on or, when told so, answers with an error
/// that quotes what it was sent, each time in another coding. It keeps what it got.
#[derive(Clone)]
pub struct Mirror {
    pub url: String,
    upstream: String,
    /// What it quotes besides what it was sent.
    knows: Vec<String>,
    quoting: Arc<AtomicBool>,
    turn: Arc<AtomicUsize>,
    /// Method, URL, headers and body of each request.
    pub got: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Mirror {
    pub async fn start(upstream: &str, knows: &[&str]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mirror = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            upstream: upstream.to_owned(),
            knows: knows.iter().map(|text| (*text).to_owned()).collect(),
            quoting: Arc::default(),
            turn: Arc::default(),
            got: Arc::default(),
            told: Arc::default(),
        };
        let app = Router::new().fallback(reflect).with_state(mirror.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        mirror
    }

    pub fn quote(&self, on: bool) {
        self.quoting.store(on, Ordering::SeqCst);
    }

    /// All that it knows and was sent, in a coding whose turn it is.
    fn echo(&self, headers: &HeaderMap) -> String {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        let key = headers.get("x-api-key").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let coded = |text: &String| {
            let all = codings(text);
            all[turn % all.len()].clone()
        };
        let values = self.knows.iter().cloned().chain([key]).filter(|text| !text.is_empty());
        values.map(|text| format!("I know {} or {text}", coded(&text))).collect::<Vec<_>>().join("; ")
    }
}

async fn reflect(State(mirror): State<Mirror>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let line = format!("{} {}", parts.method, parts.uri);
    mirror.got.lock().unwrap().push((line, parts.headers.clone(), body.clone()));
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    if parts.uri.path() == "/echo" {
        // Everything that it was sent, as it is and coded.
        let sent = format!("{:?}\n{}", parts.headers, String::from_utf8_lossy(&body));
        let coded: Vec<String> =
            parts.headers.get("x-api-key").into_iter().flat_map(|v| codings(v.to_str().unwrap())).collect();
        return ([("x-quoted", header("x-api-key"))], format!("{sent}\n{}", coded.join("\n"))).into_response();
    }
    if parts.uri.path() == "/events" {
        // Each event is refused once.
        let again = !mirror.told.lock().unwrap().insert(header("webhook-id"));
        if again {
            return StatusCode::NO_CONTENT.into_response();
        }
        return (StatusCode::INTERNAL_SERVER_ERROR, mirror.echo(&parts.headers)).into_response();
    }
    if mirror.quoting.load(Ordering::SeqCst) {
        let status = [401, 422, 500, 418][mirror.turn.load(Ordering::SeqCst) % 4];
        let text = mirror.echo(&parts.headers);
        let status = StatusCode::from_u16(status).unwrap();
        return (status, [("x-quoted", header("x-api-key"))], json!({"error": text}).to_string()).into_response();
    }
    let answer = http()
        .request(parts.method, format!("{}{}", mirror.upstream, parts.uri))
        .header("x-api-key", header("x-api-key"))
        .body(body)
        .send()
        .await
        .unwrap();
    let (status, json) = (answer.status(), answer.headers().get("content-type").cloned());
    let mut response = (status, answer.bytes().await.unwrap()).into_response();
    if let Some(json) = json {
        response.headers_mut().insert("content-type", json);
    }
    response
}
