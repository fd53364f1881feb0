//! A webhook receiver: checks Standard Webhooks signatures and keeps what came.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};

use crate::whmcs::sign;

/// What it has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Bodies with a good signature, in order of arrival.
    pub events: Vec<serde_json::Value>,
    /// Requests with a bad one.
    pub refused: u32,
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    secret: String,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    /// Listens; `secret` is `whsec_…`.
    pub async fn start(secret: &str) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Shared { secret: secret.to_owned(), seen: Arc::clone(&seen) };
        let app = Router::new().route("/events", post(receive)).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/events", listener.local_addr()?);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, seen, task })
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let good = check(&shared.secret, &headers, &body).is_ok();
    let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
    match (good, serde_json::from_slice(&body)) {
        (true, Ok(event)) => {
            seen.events.push(event);
            StatusCode::NO_CONTENT
        }
        _ => {
            seen.refused += 1;
            StatusCode::UNAUTHORIZED
        }
    }
}

fn check(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<()> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).with_context(|| format!("no {name}"));
    let expected = sign(secret, header("webhook-id")?, header("webhook-timestamp")?, body)?;
    anyhow::ensure!(header("webhook-signature")?.split(' ').any(|s| s == expected), "wrong signature");
    Ok(())
}
