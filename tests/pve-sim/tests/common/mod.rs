//! A client that calls a simulator in-process, as the host's own does, and waits for tasks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use pve_sim::{DEFAULT_SECRET, DEFAULT_TOKEN, LOST_HEADER, Sim, SimConfig};
use serde_json::Value;
use tower::ServiceExt;

pub struct Answer {
    pub status: u16,
    pub reason: String,
    pub body: Value,
    pub lost: bool,
}

pub fn config() -> SimConfig {
    SimConfig { epoch_unix: Some(1_780_000_000), ..SimConfig::default() }
}

pub fn sim() -> Sim {
    Sim::new(config())
}

pub async fn call_as(sim: &Sim, auth: &str, method: &str, path: &str, params: &[(&str, &str)]) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    let in_body = matches!(method, "POST" | "PUT");
    let uri = if in_body || form.is_empty() { format!("/api2/json{path}") } else { format!("/api2/json{path}?{form}") };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", auth)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(if in_body { Body::from(form) } else { Body::empty() })
        .unwrap();
    let response = sim.router().oneshot(request).await.unwrap();
    let phrase = response.extensions().get::<hyper::ext::ReasonPhrase>();
    let reason = phrase.map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned()).unwrap_or_default();
    let (status, lost) = (response.status().as_u16(), response.headers().contains_key(LOST_HEADER));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, reason, body: serde_json::from_slice(&bytes).unwrap_or_default(), lost }
}

pub async fn call(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> Answer {
    call_as(sim, &format!("PVEAPIToken={DEFAULT_TOKEN}={DEFAULT_SECRET}"), method, path, params).await
}

/// Must answer 200; gives `data`.
pub async fn ok(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> Value {
    let a = call(sim, method, path, params).await;
    assert_eq!(a.status, 200, "{method} {path}: {} {}", a.reason, a.body);
    a.body["data"].clone()
}

/// Waits for a task and gives its exit status.
pub async fn wait(sim: &Sim, upid: &Value) -> String {
    let upid = upid.as_str().expect("a UPID").to_owned();
    let node = upid.split(':').nth(1).unwrap().to_owned();
    for _ in 0..10_000 {
        let t = ok(sim, "GET", &format!("/nodes/{node}/tasks/{}/status", upid.replace(':', "%3A")), &[]).await;
        if t["status"] == "stopped" {
            return t["exitstatus"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("task {upid} never ends");
}

/// A call that starts a task; gives the task's exit status.
pub async fn task(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> String {
    let upid = ok(sim, method, path, params).await;
    wait(sim, &upid).await
}

/// VM 100, a linked clone of 9000 on pve1.
pub async fn cloned() -> Sim {
    let s = sim();
    let p = [("newid", "100"), ("name", "vm100"), ("description", "svc:1")];
    assert_eq!(task(&s, "POST", "/nodes/pve1/qemu/9000/clone", &p).await, "OK");
    s
}
