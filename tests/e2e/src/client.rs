//! Talks to a host's API with a bearer token.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One client for all: loopback only, so no proxy and short time-outs.
pub fn http() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap_or_default()
    })
}

/// A host and a token.
#[derive(Debug, Clone)]
pub struct Client {
    pub url: String,
    pub token: String,
}

impl Client {
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(http().get(format!("{}{path}", self.url)), path).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(http().put(format!("{}{path}", self.url)).json(body), path).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(http().post(format!("{}{path}", self.url)).json(body), path).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.send(http().delete(format!("{}{path}", self.url)), path).await
    }

    pub async fn upload(&self, path: &str, bytes: Vec<u8>) -> Result<Value> {
        let request = http()
            .post(format!("{}{path}", self.url))
            .timeout(Duration::from_secs(180))
            .header("content-type", "application/wasm")
            .body(bytes);
        self.send(request, path).await
    }

    pub async fn text(&self, path: &str) -> Result<String> {
        let answer = http()
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header("accept", "text/plain")
            .send()
            .await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// The entries of an operation's log, by its live stream: which ends when the operation has.
    pub async fn log(&self, operation: &str) -> Result<Vec<Value>> {
        let answer = http()
            .get(format!("{}/v1/operations/{operation}/log", self.url))
            .bearer_auth(&self.token)
            .header("accept", "text/event-stream")
            .send()
            .await?;
        let text = answer.error_for_status()?.text().await?;
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let entries = data.map(|json| serde_json::from_str::<Value>(json.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().filter(|entry| entry.get("n").is_some()).collect())
    }

    async fn send(&self, request: reqwest::RequestBuilder, path: &str) -> Result<Value> {
        let answer = request.bearer_auth(&self.token).send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }
}
