//! From an HTTP request to its answer: parameters, token, faults, node, workers, journal.
//!
//! A write is carried out by a task of its own, so it goes on when the caller hangs up, and when the 30 s of the proxy
//! are over. An answer that is to be lost has status 599 and the header `x-sim-lost: 1`; over TCP [`crate::serve`]
//! breaks the connection instead.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::State as Extract;
use axum::routing::{get, post};
use axum::{Json, http::Request, response::IntoResponse, response::Response};
use http::{HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use crate::api::{Ctx, dispatch, vmid_of};
use crate::error::{ApiError, Put};
use crate::faults::{Control, Plan};
use crate::sim::{Counted, Sim};
use crate::state::LogEntry;

/// In-process sign of an answer that never arrives.
pub const LOST_HEADER: &str = "x-sim-lost";
/// Bytes of a request's body that Proxmox accepts.
const MAX_BODY: usize = 512 * 1024;

impl Sim {
    /// The API below `/api2/json` and the control endpoints below `/_sim`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/_sim/state", get(|Extract(s): Extract<Self>| async move { Json(json!(s.snapshot())) }))
            .route("/_sim/log", get(|Extract(s): Extract<Self>| async move { Json(json!(s.log())) }))
            .route("/_sim/faults", get(|Extract(s): Extract<Self>| async move { Json(json!(s.faults())) }))
            .route("/_sim/counters", get(|Extract(s): Extract<Self>| async move { Json(json!(s.counters())) }))
            .route(
                "/_sim/schema-violations",
                get(|Extract(s): Extract<Self>| async move { Json(json!(s.schema_violations())) }),
            )
            .route("/_sim/control", post(control))
            .fallback(api)
            .with_state(self.clone())
    }
}

async fn control(Extract(sim): Extract<Sim>, body: bytes::Bytes) -> Response {
    let done = serde_json::from_slice::<Control>(&body).map_err(|e| e.to_string()).and_then(|c| sim.control(c));
    match done {
        Ok(v) => Json(json!({ "data": v })).into_response(),
        Err(text) => (StatusCode::BAD_REQUEST, Json(json!({ "error": text }))).into_response(),
    }
}

/// An answer of the API.
fn answer(sim: &Sim, result: Result<Value, ApiError>) -> Response {
    let (status, body, reason) = match result {
        Ok(v) => (200, json!({ "data": v }), None),
        Err(e) => {
            let mut body = json!({ "data": null });
            if !e.errors.is_empty() {
                body.put("errors", json!(e.errors));
            }
            if sim.config().json_message {
                body.put("message", json!(format!("{}\n", e.reason)));
            }
            (e.status, body, Some(e.reason))
        }
    };
    let mut response = Json(body).into_response();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let phrase = reason.map(|r| r.replace(['\r', '\n'], " ").trim_end().as_bytes().to_vec());
    if let Some(phrase) = phrase.and_then(|p| ReasonPhrase::try_from(p).ok()) {
        response.extensions_mut().insert(phrase);
    }
    if status >= 400 {
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn lost() -> Response {
    let mut r = Response::new(Body::empty());
    *r.status_mut() = StatusCode::from_u16(599).unwrap_or(StatusCode::BAD_GATEWAY);
    r.headers_mut().insert(LOST_HEADER, HeaderValue::from_static("1"));
    r
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A JSON value as Proxmox's parameter would be.
fn flat(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Bool(b) => u8::from(*b).to_string(),
        Value::Array(a) => a.iter().map(flat).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn parameters(method: &str, query: &str, kind: &str, body: &[u8]) -> Result<BTreeMap<String, String>, ApiError> {
    let mut out: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    if body.is_empty() {
        return Ok(out);
    }
    if !matches!(method, "POST" | "PUT") {
        return Err(ApiError::new(501, format!("Unexpected content for method '{method}'")));
    }
    if kind.starts_with("application/json") {
        let value: Value =
            serde_json::from_slice(body).map_err(|e| ApiError::new(400, format!("malformed JSON string: {e}")))?;
        let map = value.as_object().ok_or_else(|| ApiError::new(400, "JSON content is not an object"))?;
        out.extend(map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), flat(v))));
    } else {
        out.extend(url::form_urlencoded::parse(body).into_owned());
    }
    Ok(out)
}

/// Whose request it is.
fn token_of(sim: &Sim, header: Option<&str>) -> Result<String, String> {
    let Some(text) = header.and_then(|h| h.strip_prefix("PVEAPIToken=")) else { return Err("No ticket".into()) };
    let Some((id, secret)) = text.split_once('=') else { return Err("invalid PVE API token".into()) };
    sim.with(|st| match st.tokens.get(id) {
        None => Err(format!(
            "no such token '{}' for user '{}'",
            id.split('!').nth(1).unwrap_or(""),
            id.split('!').next().unwrap_or("")
        )),
        Some(_) if st.revoked.contains(id) => Err("invalid token value!".into()),
        Some(t) if t.secret == secret => Ok(id.to_owned()),
        Some(_) => Err("invalid token value!".into()),
    })
}

async fn api(Extract(sim): Extract<Sim>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method.as_str().to_owned();
    let header = |h: http::header::HeaderName| parts.headers.get(h).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let Some(path) = parts.uri.path().strip_prefix("/api2/json") else {
        return answer(&sim, Err(ApiError::new(501, format!("no such file '{}'", parts.uri.path()))));
    };
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(decode).collect();
    let body = match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(b) => b,
        Err(_) => return answer(&sim, Err(ApiError::new(501, "for data too large"))),
    };
    let kind = header(http::header::CONTENT_TYPE).unwrap_or_default();
    let params = parameters(&method, parts.uri.query().unwrap_or_default(), &kind, &body);
    let (params, bad_params) = match params {
        Ok(p) => (p, None),
        Err(e) => (BTreeMap::new(), Some(e)),
    };
    let token = token_of(&sim, header(http::header::AUTHORIZATION).as_deref());
    let vmid = vmid_of(&segments, &params);
    let path = format!("/{}", segments.join("/"));
    let seq = note(&sim, &method, &path, &params, token.as_deref().unwrap_or("-"), vmid);
    let token = match token {
        Ok(t) => t,
        Err(text) => {
            sim.sleep(sim.config().timings.auth_failure).await;
            let e = ApiError::new(401, text);
            close(&sim, seq, 401, &e.reason, false);
            return answer(&sim, Err(e));
        }
    };
    if let Some(e) = bad_params {
        close(&sim, seq, e.status, &e.reason, false);
        return answer(&sim, Err(e));
    }
    for schema in &sim.inner.schemas {
        let found = schema.check(&method, &segments, &params);
        sim.with(|st| st.violations.extend(found.into_iter().map(|v| v.in_request(seq))));
    }
    let cx = Ctx { sim: sim.clone(), method, segments, params, token };
    let plan = sim.with(|st| st.plan(&cx.method, &path, vmid));
    run(cx, plan, seq, vmid).await
}

/// Lets the faults work, then carries the request out.
async fn run(cx: Ctx, plan: Plan, seq: u64, vmid: Option<u32>) -> Response {
    let sim = cx.sim.clone();
    if let Some((status, text)) = plan.fail {
        sim.sleep(plan.delay).await;
        close(&sim, seq, status, &text, false);
        return answer(&sim, Err(ApiError::new(status, text)));
    }
    if plan.drop_before {
        sim.sleep(plan.delay).await;
        close(&sim, seq, 599, "", true);
        return lost();
    }
    let write = cx.method != "GET";
    let wait = plan.delay + plan.late.map_or(0, |(ms, _)| ms);
    let thief = plan.thief.zip(vmid);
    let quiet = plan.lose_after || plan.late.is_some();
    let work = async move {
        let sim = cx.sim.clone();
        sim.sleep(wait).await;
        if let Some((node, vmid)) = thief {
            let now = sim.now_ms();
            let here = cx.segments.get(1).cloned().unwrap_or_default();
            sim.with(|st| st.foreign(vmid, node.as_deref().unwrap_or(&here), now));
        }
        let result = carry_out(&cx, write).await;
        let (status, reason) = match &result {
            Ok(_) => (200, ""),
            Err(e) => (e.status, e.reason.as_str()),
        };
        close(&sim, seq, status, reason, quiet);
        result
    };
    if !write {
        let result = work.await;
        sim.sleep(plan.delay_answer).await;
        return if plan.lose_after { lost() } else { answer(&sim, result) };
    }
    let job = tokio::spawn(work);
    if let Some((_, answer_ms)) = plan.late {
        sim.sleep(answer_ms).await;
        return answer(&sim, Err(ApiError::new(596, "Connection timed out")));
    }
    let limit = sim.config().scaled(sim.config().timings.proxy);
    let result = match tokio::time::timeout(limit, job).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ApiError::die("worker died")),
        Err(_) => {
            sim.with(|st| entry(st, seq, |e| e.lost = true));
            return answer(&sim, Err(ApiError::new(596, "Broken pipe")));
        }
    };
    sim.sleep(plan.delay_answer).await;
    if plan.lose_after { lost() } else { answer(&sim, result) }
}

async fn carry_out(cx: &Ctx, write: bool) -> Result<Value, ApiError> {
    let sim = &cx.sim;
    let t = &sim.config().timings;
    let node = match cx.segments.as_slice() {
        [a, node, ..] if a == "nodes" => Some(node.clone()),
        _ => None,
    };
    if let Some(node) = &node {
        match sim.with(|st| st.nodes.get(node).map(|n| n.online)) {
            None => {
                return Err(ApiError::die(format!(
                    "hostname lookup '{node}' failed - failed to get address info for: {node}: Name or service not known"
                )));
            }
            Some(false) => {
                sim.sleep(t.read).await;
                return Err(ApiError::new(595, "No route to host"));
            }
            Some(true) => {}
        }
    }
    let protected = write || cx.segments.last().is_some_and(|s| s == "current");
    let slots = node.as_ref().filter(|_| protected).and_then(|n| sim.inner.workers.get(n).cloned());
    let limited = sim.with(|st| st.limit_workers);
    let _slot = match slots.filter(|_| limited) {
        Some(s) => s.acquire_owned().await.ok(),
        None => None,
    };
    let _count = node.filter(|_| protected).map(|n| Counted::new(sim, |c| &mut c.protected_by_node, &n));
    sim.sleep(if write { t.write } else { t.read }).await;
    if write && !sim.with(|st| st.quorate) {
        return Err(ApiError::die("cluster not ready - no quorum?"));
    }
    dispatch(cx).await
}

fn note(sim: &Sim, method: &str, path: &str, params: &BTreeMap<String, String>, token: &str, vmid: Option<u32>) -> u64 {
    let t_ms = sim.now_ms();
    sim.with(|st| {
        st.counters.requests += 1;
        if method != "GET" {
            st.counters.writes += 1;
            if let Some(id) = vmid {
                *st.counters.writes_by_vmid.entry(id).or_default() += 1;
            }
        }
        let seq = st.journal.back().map_or(st.counters.requests, |e| e.seq + 1);
        st.journal.push_back(LogEntry {
            seq,
            t_ms,
            took_ms: 0,
            token: token.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            params: params.clone(),
            status: 0,
            reason: String::new(),
            vmid,
            lost: false,
        });
        if st.journal.len() > st.cfg.journal_limit {
            st.journal.pop_front();
        }
        seq
    })
}

fn entry(st: &mut crate::state::State, seq: u64, f: impl FnOnce(&mut LogEntry)) {
    let first = st.journal.front().map_or(0, |e| e.seq);
    let at = seq.checked_sub(first).and_then(|i| usize::try_from(i).ok());
    if let Some(e) = at.and_then(|i| st.journal.get_mut(i)).filter(|e| e.seq == seq) {
        f(e);
    }
}

fn close(sim: &Sim, seq: u64, status: u16, reason: &str, lost: bool) {
    let now = sim.now_ms();
    sim.with(|st| {
        entry(st, seq, |e| {
            e.status = status;
            e.reason = reason.to_owned();
            e.took_ms = now.saturating_sub(e.t_ms);
            e.lost |= lost;
        });
    });
}
