//! The wire: routing, tokens, faults, the journal.

use std::collections::BTreeMap;

use axum::{
    Router,
    body::Body,
    extract::{Request, State as AxumState},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
    routing::any,
};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    Answer, Call, Params, Refusal, Sim,
    faults::{Condition, Fault, What},
    state::Entry,
};

/// Largest body, as pveproxy has it.
const MAX_POST: usize = 512 * 1024;

impl Sim {
    /// The API and `/_sim/…`.
    pub fn router(&self) -> Router {
        Router::new().route("/_sim/{what}", any(control)).fallback(api).with_state(self.clone())
    }

    /// The same for serving over TCP, where lost replies break connections.
    pub fn serving(&self) -> Router {
        let sim = Self { served: true, ..self.clone() };
        sim.router()
    }
}

async fn control(
    AxumState(sim): AxumState<Sim>,
    axum::extract::Path(what): axum::extract::Path<String>,
    request: Request,
) -> Response {
    let method = request.method().clone();
    let body = read(request).await.unwrap_or_default();
    let answer: Result<Value, String> = match (method, what.as_str()) {
        (Method::GET, "state") => serde_json::to_value(sim.snapshot()).map_err(|e| e.to_string()),
        (Method::GET, "log") => serde_json::to_value(sim.log()).map_err(|e| e.to_string()),
        (Method::GET, "schema-violations") => Ok(json!(sim.schema_violations())),
        (Method::POST, "fault") => serde_json::from_slice::<Fault>(&body)
            .map(|f| sim.fault(f))
            .map(|()| Value::Null)
            .map_err(|e| e.to_string()),
        (Method::POST, "condition") => serde_json::from_slice::<Condition>(&body)
            .map(|c| sim.condition(c))
            .map(|()| Value::Null)
            .map_err(|e| e.to_string()),
        (Method::DELETE, "fault") => {
            sim.clear_faults();
            Ok(Value::Null)
        }
        _ => Err("known: GET state, log, schema-violations; POST fault, condition; DELETE fault".into()),
    };
    match answer {
        Ok(value) => reply(StatusCode::OK, None, &value),
        Err(text) => reply(StatusCode::BAD_REQUEST, None, &json!({"error": text})),
    }
}

async fn read(request: Request) -> Option<Vec<u8>> {
    let bytes = request.into_body().collect().await.ok()?.to_bytes();
    (bytes.len() <= MAX_POST).then(|| bytes.to_vec())
}

fn reply(status: StatusCode, reason: Option<&str>, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", axum::http::HeaderValue::from_static("application/json;charset=UTF-8"));
    if let Some(reason) = reason {
        let clean: String = reason.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { ' ' }).collect();
        if let Ok(phrase) = hyper::ext::ReasonPhrase::try_from(clean) {
            response.extensions_mut().insert(phrase);
        }
    }
    response
}

fn refuse(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut value = json!({"data": null, "message": format!("{}\n", refusal.text)});
    if !refusal.errors.is_empty()
        && let Some(map) = value.as_object_mut()
    {
        map.insert("errors".into(), json!(refusal.errors));
    }
    reply(status, Some(&refusal.text), &value)
}

/// A connection that breaks. In process it is a marked 599; over TCP the body ends before it has begun.
fn broken(served: bool) -> Response {
    if served {
        let stream =
            futures::stream::once(async { Err::<axum::body::Bytes, _>(std::io::Error::other("connection broken")) });
        return Response::new(Body::from_stream(stream));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(599).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert("x-sim-lost", axum::http::HeaderValue::from_static("1"));
    response
}

async fn api(AxumState(sim): AxumState<Sim>, request: Request) -> Response {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().strip_prefix("/api2/json").unwrap_or(request.uri().path()).to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let headers = request.headers().clone();
    let Some(body) = read(request).await else {
        return refuse(&Refusal::new(413, "for data too large"));
    };
    let token = match authenticate(&sim, &headers) {
        Ok(token) => token,
        Err(refusal) => {
            Sim::sleep(sim.timing().denied).await;
            return refuse(&refusal);
        }
    };
    if method == "DELETE" && !body.is_empty() {
        return refuse(&Refusal::new(501, "Unexpected content for method 'DELETE'"));
    }
    let params = match params(&query, &headers, &body) {
        Ok(params) => params,
        Err(refusal) => return refuse(&refusal),
    };
    let faults = take_faults(&sim, &method, &path);
    let call = Call { method, path, params, user: token };
    for fault in &faults {
        match fault {
            What::SlowStart(ms) => Sim::sleep(*ms).await,
            What::Refuse { status, text } => {
                let refusal = Refusal::new(*status, text);
                journal(&sim, &call, *status);
                return refuse(&refusal);
            }
            What::DropBefore => return broken(sim.served),
            What::Thief => {
                if let Some(vmid) = call.params.get("newid").and_then(|v| v.parse().ok()) {
                    let mut state = sim.lock();
                    let node = state.config.nodes.last().map(|n| n.name.clone()).unwrap_or_default();
                    state.foreign(vmid, &node);
                }
            }
            What::Late(ms) => {
                let (sim, ms) = (sim.clone(), *ms);
                tokio::spawn(async move {
                    Sim::sleep(ms).await;
                    let answer = dispatch(&sim, &call).await;
                    journal(&sim, &call, answer.map_or_else(|r| r.status, |_| 200));
                });
                return refuse(&Refusal::new(596, "Connection timed out"));
            }
            What::TaskFails(_) | What::TaskWarns => sim.lock().next_task = Some(fault.clone()),
            What::SlowAnswer(_) | What::LoseReply => {}
        }
    }
    let timing = sim.timing();
    Sim::sleep(if call.method == "GET" { timing.read } else { timing.write }).await;
    let answer = dispatch(&sim, &call).await;
    journal(&sim, &call, answer.as_ref().map_or_else(|r| r.status, |_| 200));
    for fault in &faults {
        match fault {
            What::SlowAnswer(ms) => Sim::sleep(*ms).await,
            What::LoseReply => return broken(sim.served),
            _ => {}
        }
    }
    match answer {
        Ok(data) => reply(StatusCode::OK, None, &json!({"data": data})),
        Err(refusal) => refuse(&refusal),
    }
}

fn authenticate(sim: &Sim, headers: &HeaderMap) -> Result<String, Refusal> {
    let denied = || Refusal::new(401, "No ticket");
    let text = headers.get("authorization").and_then(|v| v.to_str().ok()).ok_or_else(denied)?;
    let (id, secret) = text.strip_prefix("PVEAPIToken=").and_then(|t| t.rsplit_once('=')).ok_or_else(denied)?;
    match sim.lock().config.tokens.get(id) {
        Some(known) if known == secret => Ok(id.to_owned()),
        _ => Err(Refusal::new(401, "invalid token value!")),
    }
}

fn params(query: &str, headers: &HeaderMap, body: &[u8]) -> Result<Params, Refusal> {
    let mut all = Params::new();
    let mut take = |text: &str| {
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |t: &str| percent_decode_str(&t.replace('+', " ")).decode_utf8_lossy().into_owned();
            all.insert(decode(key), decode(value));
        }
    };
    take(query);
    let kind = headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") && !body.is_empty() {
        let map: BTreeMap<String, Value> =
            serde_json::from_slice(body).map_err(|e| Refusal::new(400, format!("bad JSON: {e}")))?;
        for (key, value) in map {
            let text = match value {
                Value::String(text) => text,
                Value::Bool(b) => i32::from(b).to_string(),
                Value::Null => continue,
                other => other.to_string(),
            };
            all.insert(key, text);
        }
    } else {
        take(&String::from_utf8_lossy(body));
    }
    Ok(all)
}

fn take_faults(sim: &Sim, method: &str, path: &str) -> Vec<What> {
    let mut state = sim.lock();
    let mut taken = Vec::new();
    for fault in &mut state.faults {
        if fault.hits(method, path) {
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
            taken.push(fault.what.clone());
        }
    }
    state.faults.retain(|f| f.times != Some(0));
    for what in &taken {
        state.strike(what.kind());
    }
    taken
}

fn journal(sim: &Sim, call: &Call, status: u16) {
    let t_ms = sim.now_ms();
    let mut state = sim.lock();
    let seq = state.fresh();
    let in_path = call.path.split('/').skip_while(|s| *s != "qemu").nth(1).and_then(|v| v.parse().ok());
    let vmid = call.params.get("newid").and_then(|v| v.parse().ok()).or(in_path);
    if let (Some(vmid), true) = (vmid, call.method != "GET") {
        *state.writes.entry(vmid).or_default() += 1;
    }
    state.log.push(Entry {
        seq,
        t_ms,
        token: call.user.clone(),
        method: call.method.clone(),
        path: call.path.clone(),
        params: call.params.clone(),
        status,
        vmid,
    });
}

async fn dispatch(sim: &Sim, call: &Call) -> Answer {
    let decoded: Vec<String> = call
        .path
        .split('/')
        .filter(|s| !s.is_empty())
        .map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let p = &call.params;
    if let Some(schema) = &sim.schema {
        let wrong = schema.check(&call.method, &parts, p);
        sim.lock().violations.extend(wrong);
    }
    if call.method != "GET" && !sim.lock().quorate {
        return Err(Refusal::die("cluster not ready - no quorum?"));
    }
    let forbidden =
        sim.lock().forbidden.iter().find(|(t, path, _)| *t == call.user && call.path.contains(path.as_str())).cloned();
    if let Some((_, path, privilege)) = forbidden {
        return Err(Refusal::new(403, format!("Permission check failed ({path}, {privilege})")));
    }
    sim.lock().permit(call, &parts)?;
    // Writes are pvedaemon's: a call that waits for a lock keeps one of its workers from all others.
    let workers = match (call.method.as_str(), parts.as_slice()) {
        ("GET", _) => None,
        (_, ["nodes", node, ..]) => Some(sim.workers(node)),
        _ => None,
    };
    let _worker = match &workers {
        Some(workers) => workers.acquire().await.ok(),
        None => None,
    };
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", ["version"]) => sim.version(),
        ("GET", ["access", "permissions"]) => sim.permissions(&call.user),
        ("GET", ["cluster", "resources"]) => sim.resources(p, &call.user),
        ("GET", ["cluster", "status"]) => sim.cluster_status(),
        ("GET", ["cluster", "nextid"]) => sim.nextid(p),
        ("GET", ["cluster", "firewall", "options"]) => sim.cluster_firewall(),
        ("GET", ["nodes"]) => sim.nodes(),
        (_, ["nodes", node, rest @ ..]) => {
            let online = sim.lock().node(node).map(|n| n.online);
            match online {
                None => Err(Refusal::die(format!("hostname lookup '{node}' failed - failed to get address info"))),
                Some(false) => Err(Refusal::new(595, "No route to host")),
                Some(true) => on_node(sim, call, node, rest).await,
            }
        }
        _ => Err(Refusal::new(501, format!("Method '{} {}' not implemented", call.method, call.path))),
    }
}

async fn on_node(sim: &Sim, call: &Call, node: &str, rest: &[&str]) -> Answer {
    let (p, user) = (&call.params, call.user.as_str());
    match (call.method.as_str(), rest) {
        ("GET", ["status"]) => sim.node_status(node),
        ("GET", ["storage"]) => sim.storages(node, p),
        ("GET", ["storage", storage, "content"]) => sim.content(node, storage, p),
        ("DELETE", ["storage", _, "content", volume @ ..]) => sim.remove_volume(node, &volume.join("/"), user),
        ("GET", ["tasks"]) => sim.task_list(node, p),
        ("GET", ["tasks", upid, "status"]) => sim.task_status(node, upid),
        ("GET", ["tasks", upid, "log"]) => sim.task_log(upid),
        ("POST", ["vzdump"]) => sim.vzdump(node, p, user).await,
        ("GET", ["qemu"]) => sim.guests_of(node),
        (method, ["qemu", vmid, rest @ ..]) => {
            let vmid: u32 = vmid.parse().map_err(|_| Refusal::parameter("vmid", "type check ('integer') failed"))?;
            on_vm(sim, method, node, vmid, rest, p, user).await
        }
        _ => Err(Refusal::new(501, format!("Method '{} {}' not implemented", call.method, call.path))),
    }
}

async fn on_vm(sim: &Sim, method: &str, node: &str, vmid: u32, rest: &[&str], p: &Params, user: &str) -> Answer {
    match (method, rest) {
        ("GET", ["config"]) => sim.get_config(node, vmid, p),
        ("PUT", ["config"]) => sim.put_config(node, vmid, p).await,
        ("POST", ["config"]) => sim.post_config(node, vmid, p, user).await,
        ("GET", ["pending"]) => sim.get_pending(node, vmid),
        ("PUT", ["resize"]) => sim.resize(node, vmid, p, user).await,
        ("POST", ["clone"]) => sim.clone_vm(node, vmid, p, user),
        ("GET", ["migrate"]) => sim.migrate_check(node, vmid),
        ("POST", ["migrate"]) => sim.migrate(node, vmid, p, user).await,
        ("GET", ["status", "current"]) => sim.status(node, vmid),
        ("POST", ["status", "start"]) => sim.start(node, vmid, user).await,
        ("POST", ["status", "stop"]) => sim.stop(node, vmid, p, user).await,
        ("POST", ["status", "shutdown"]) => sim.shutdown(node, vmid, p, user).await,
        ("DELETE", []) => sim.destroy(node, vmid, user).await,
        ("GET", ["firewall", "options"]) => sim.fw_options(node, vmid),
        ("PUT", ["firewall", "options"]) => sim.fw_set_options(node, vmid, p),
        ("GET", ["firewall", "ipset"]) => sim.fw_sets(node, vmid),
        ("POST", ["firewall", "ipset"]) => sim.fw_new_set(node, vmid, p),
        ("GET", ["firewall", "ipset", name]) => sim.fw_entries(node, vmid, name),
        ("POST", ["firewall", "ipset", name]) => sim.fw_add_entry(node, vmid, name, p),
        ("DELETE", ["firewall", "ipset", name, cidr @ ..]) => sim.fw_remove_entry(node, vmid, name, &cidr.join("/")),
        ("POST", ["agent", "ping"]) => sim.agent_ping(),
        _ => Err(Refusal::new(
            501,
            format!("Method '{method} /nodes/{node}/qemu/{vmid}/{}' not implemented", rest.join("/")),
        )),
    }
}
