//! A PowerDNS of our own, for machines where the real one can't be had: as much of its HTTP API as a DNS provider uses, and
//! answers over UDP.
//!
//! Strict where the real one is, with its statuses and texts (4.7.3, which knows REPLACE and DELETE only; a test asks both the
//! same). Zones are kept in memory. Types that no service has are refused rather than stored unchecked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

use crate::dns::{self, Found, Line};

const VERSION: &str = "4.7.3";
/// Serial of a new zone; the real one takes today's date.
const FIRST_SERIAL: u32 = 2_026_010_101;
/// What the real one gives zones that are made by its API.
const OWN_TTL: u32 = 3600;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct FakePowerDns {
    pub api: String,
    pub dns_port: u16,
    tasks: Vec<JoinHandle<()>>,
}

impl FakePowerDns {
    /// Listens on free ports. The API key is `key`.
    pub async fn start(key: &str) -> Result<Self> {
        let shared = Shared { key: key.to_owned(), zones: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let api = format!("http://{}", listener.local_addr()?);
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let dns_port = socket.local_addr().context("no port")?.port();
        let zones = Arc::clone(&shared.zones);
        let app = router(shared);
        let tasks = vec![
            tokio::spawn(async move {
                let _ = axum::serve(listener, app).await;
            }),
            tokio::spawn(dns::serve(socket, move |name, rtype| find(&lock(&zones), name, rtype))),
        ];
        Ok(Self { api, dns_port, tasks })
    }
}

impl Drop for FakePowerDns {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Clone)]
struct Shared {
    key: String,
    zones: Arc<Mutex<Zones>>,
}

type Zones = BTreeMap<String, Zone>;

fn lock(zones: &Mutex<Zones>) -> MutexGuard<'_, Zones> {
    zones.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone)]
struct Zone {
    kind: String,
    serial: u32,
    /// By name and type.
    sets: BTreeMap<(String, String), Set>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    ttl: u32,
    records: Vec<Record>,
}

/// A disabled one is stored and not served.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    content: String,
    disabled: bool,
}

impl Zone {
    fn soa(&self, name: &str) -> String {
        format!("a.misconfigured.dns.server.invalid. hostmaster.{name} {} 10800 3600 604800 {OWN_TTL}", self.serial)
    }

    /// All sets, the SOA among them.
    fn all(&self, name: &str) -> BTreeMap<(String, String), Set> {
        let soa = Set { ttl: OWN_TTL, records: vec![Record { content: self.soa(name), disabled: false }] };
        let mut all = self.sets.clone();
        all.insert((name.to_owned(), "SOA".to_owned()), soa);
        all
    }

    fn meta(&self, name: &str) -> Value {
        let id = id_of(name);
        json!({
            "account": "", "catalog": "", "id": id, "kind": self.kind, "last_check": 0, "masters": [], "name": name,
            "notified_serial": 0, "serial": self.serial, "url": format!("/api/v1/servers/localhost/zones/{id}"),
        })
    }

    fn shown(&self, name: &str, rrsets: Option<Vec<Value>>) -> Value {
        let mut all = self.meta(name);
        all["api_rectify"] = json!(false);
        all["dnssec"] = json!(false);
        all["edited_serial"] = json!(self.serial);
        all["master_tsig_key_ids"] = json!([]);
        all["nsec3narrow"] = json!(false);
        all["nsec3param"] = json!("");
        all["slave_tsig_key_ids"] = json!([]);
        all["soa_edit"] = json!("");
        all["soa_edit_api"] = json!("DEFAULT");
        if let Some(rrsets) = rrsets {
            all["rrsets"] = json!(rrsets);
        }
        all
    }
}

/// A slash can't stand in an id.
fn id_of(name: &str) -> String {
    name.replace('/', "=2F")
}

fn shown((name, rtype): &(String, String), set: &Set, disabled_too: bool) -> Option<Value> {
    let records: Vec<Value> = set
        .records
        .iter()
        .filter(|r| disabled_too || !r.disabled)
        .map(|r| json!({"content": r.content, "disabled": r.disabled}))
        .collect();
    (!records.is_empty())
        .then(|| json!({"comments": [], "name": name, "records": records, "ttl": set.ttl, "type": rtype}))
}

/// A refusal, as the real one words it.
enum Refusal {
    /// Plain text: the status' own words.
    Plain(StatusCode),
    /// 422 with `error`.
    Error(String),
}

impl Refusal {
    fn of<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::Error(text.into()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Plain(status) => (status, status.canonical_reason().unwrap_or_default()).into_response(),
            Self::Error(text) => (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(json!({"error": text}))).into_response(),
        }
    }
}

type Answer<T> = std::result::Result<T, Refusal>;

const NOT_FOUND: Refusal = Refusal::Plain(StatusCode::NOT_FOUND);

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/api/v1/servers/{server}", get(server))
        .route("/api/v1/servers/{server}/zones", get(list).post(create))
        .route("/api/v1/servers/{server}/zones/{zone}", get(show).patch(patch))
        .route("/api/v1/servers/{server}/search-data", get(search))
        .fallback(async || NOT_FOUND)
        .method_not_allowed_fallback(async || Refusal::Plain(StatusCode::METHOD_NOT_ALLOWED))
        .layer(from_fn_with_state(shared.clone(), authenticate))
        .with_state(shared)
}

async fn authenticate(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if request.headers().get("x-api-key").is_some_and(|key| key.as_bytes() == shared.key.as_bytes()) {
        return next.run(request).await;
    }
    let mut refusal = Refusal::Plain(StatusCode::UNAUTHORIZED).into_response();
    let asks = HeaderValue::from_static("X-API-Key realm=\"PowerDNS\"");
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
    refusal
}

fn known(server: &str) -> Answer<()> {
    if server == "localhost" { Ok(()) } else { Err(NOT_FOUND) }
}

async fn server(Path(server): Path<String>) -> Answer<axum::Json<Value>> {
    known(&server)?;
    let at = "/api/v1/servers/localhost";
    Ok(axum::Json(json!({
        "autoprimaries_url": format!("{at}/autoprimaries{{/autoprimary}}"), "config_url": format!("{at}/config{{/config_setting}}"),
        "daemon_type": "authoritative", "id": "localhost", "type": "Server", "url": at, "version": VERSION,
        "zones_url": format!("{at}/zones{{/zone}}"),
    })))
}

async fn list(
    State(shared): State<Shared>,
    Path(server): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer<axum::Json<Value>> {
    known(&server)?;
    let wanted = query.get("zone").map(|zone| canonical(zone)).transpose()?;
    let zones = lock(&shared.zones);
    let all = zones.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|w| w == *name));
    Ok(axum::Json(all.map(|(name, zone)| zone.meta(name)).collect()))
}

fn read(body: &Bytes) -> Answer<Value> {
    serde_json::from_slice(body).map_err(|_| Refusal::Plain(StatusCode::BAD_REQUEST))
}

fn text<'a>(body: &'a Value, key: &str) -> Answer<&'a str> {
    body[key].as_str().ok_or_else(|| Refusal::Error(format!("Key '{key}' not present or not a String")))
}

async fn create(State(shared): State<Shared>, Path(server): Path<String>, body: Bytes) -> Answer<impl IntoResponse> {
    known(&server)?;
    let body = read(&body)?;
    let name = canonical(text(&body, "name")?)?;
    let kind = text(&body, "kind")?.to_owned();
    let mut zone = Zone { kind, serial: FIRST_SERIAL, sets: BTreeMap::new() };
    let mut servers = Vec::new();
    for server in body["nameservers"].as_array().into_iter().flatten() {
        let server = server.as_str().ok_or_else(|| Refusal::Error("Nameservers must be strings".into()))?;
        if !server.ends_with('.') {
            return Refusal::of(format!("Nameserver is not canonical: '{server}'"));
        }
        servers.push(Record { content: server.to_owned(), disabled: false });
    }
    if !servers.is_empty() {
        zone.sets.insert((name.clone(), "NS".into()), Set { ttl: OWN_TTL, records: servers });
    }
    let mut zones = lock(&shared.zones);
    if zones.contains_key(&name) {
        return Err(Refusal::Plain(StatusCode::CONFLICT));
    }
    let rrsets = zone.all(&name).iter().filter_map(|(key, set)| shown(key, set, true)).collect();
    let answer = zone.shown(&name, Some(rrsets));
    zones.insert(name, zone);
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// The zone of an id, and its name.
fn zone_mut<'a>(zones: &'a mut Zones, server: &str, id: &str) -> Answer<(String, &'a mut Zone)> {
    known(server)?;
    let name = id.replace("=2F", "/").to_ascii_lowercase();
    match zones.get_mut(&name) {
        Some(zone) => Ok((name, zone)),
        None => Err(NOT_FOUND),
    }
}

/// One name (and type) by `rrset_name` (and `rrset_type`): disabled values are left out then, as the real one does.
async fn show(
    State(shared): State<Shared>,
    Path((server, id)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer<axum::Json<Value>> {
    let mut zones = lock(&shared.zones);
    let (name, zone) = zone_mut(&mut zones, &server, &id)?;
    let wanted = query.get("rrset_name").map(|name| canonical(name)).transpose()?;
    let rtype = query.get("rrset_type");
    let rrsets = (query.get("rrsets").map(String::as_str) != Some("false")).then(|| {
        let all = zone.all(&name);
        let fits = |(at, own): &&(String, String)| {
            wanted.as_ref().is_none_or(|w| w == at) && rtype.is_none_or(|t| wanted.is_none() || t == own)
        };
        all.iter().filter(|(key, _)| fits(key)).filter_map(|(key, set)| shown(key, set, wanted.is_none())).collect()
    });
    Ok(axum::Json(zone.shown(&name, rrsets)))
}

/// Whether a text is what was searched for; `*` stands for any text, `?` for one character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, behind))) => glob(rest, text) || glob(pattern, behind),
        (Some((b'?', rest)), Some((_, behind))) => glob(rest, behind),
        (Some((a, rest)), Some((b, behind))) => a.eq_ignore_ascii_case(b) && glob(rest, behind),
        _ => false,
    }
}

async fn search(
    State(shared): State<Shared>,
    Path(server): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer<axum::Json<Value>> {
    known(&server)?;
    let q = query.get("q").filter(|q| !q.is_empty());
    let q = q.ok_or_else(|| Refusal::Error("Query q can't be blank".into()))?.trim_end_matches('.');
    let most: usize = query.get("max").and_then(|m| m.parse().ok()).unwrap_or(100);
    let kind = query.get("object_type").map_or("all", String::as_str);
    let hits = |text: &str| glob(q.as_bytes(), text.trim_end_matches('.').as_bytes());
    let mut found = Vec::new();
    for (name, zone) in lock(&shared.zones).iter() {
        if matches!(kind, "all" | "zone") && hits(name) {
            found.push(json!({"name": name, "object_type": "zone", "zone_id": id_of(name)}));
        }
        if !matches!(kind, "all" | "record") {
            continue;
        }
        for ((at, rtype), set) in zone.all(name) {
            for record in set.records.iter().filter(|r| hits(&at) || hits(&r.content)) {
                found.push(json!({
                    "content": record.content, "disabled": record.disabled, "name": at, "object_type": "record",
                    "ttl": set.ttl, "type": rtype, "zone": name, "zone_id": id_of(name),
                }));
            }
        }
    }
    found.truncate(most);
    Ok(axum::Json(Value::Array(found)))
}

/// All sets of the request, in its order, or none.
async fn patch(
    State(shared): State<Shared>,
    Path((server, id)): Path<(String, String)>,
    body: Bytes,
) -> Answer<impl IntoResponse> {
    let mut zones = lock(&shared.zones);
    let (name, zone) = zone_mut(&mut zones, &server, &id)?;
    let body = read(&body)?;
    let rrsets = body["rrsets"].as_array().ok_or_else(|| Refusal::Error("No rrsets given in update request".into()))?;
    let mut sets = zone.sets.clone();
    let mut seen = BTreeSet::new();
    for rrset in rrsets {
        change(&name, &mut sets, &mut seen, rrset)?;
    }
    zone.sets = sets;
    // Even for what was so already.
    zone.serial += 1;
    let serial = HeaderValue::from(zone.serial);
    Ok((StatusCode::NO_CONTENT, [("x-pdns-old-serial", serial.clone()), ("x-pdns-new-serial", serial)]))
}

fn change(
    zone: &str,
    sets: &mut BTreeMap<(String, String), Set>,
    seen: &mut BTreeSet<(String, String, String)>,
    rrset: &Value,
) -> Answer<()> {
    let name = canonical(text(rrset, "name")?)?;
    let rtype = text(rrset, "type")?.to_owned();
    if !matches!(rtype.as_str(), "A" | "AAAA" | "CNAME" | "NS" | "PTR" | "TXT") {
        return Refusal::of(format!("RRset {name} IN {rtype}: unknown type given"));
    }
    let changetype = text(rrset, "changetype")?.to_ascii_uppercase();
    if !seen.insert((name.clone(), rtype.clone(), changetype.clone())) {
        return Refusal::of(format!("Duplicate RRset {name} IN {rtype} with changetype: {changetype}"));
    }
    let key = (name.clone(), rtype.clone());
    match changetype.as_str() {
        "DELETE" => {
            sets.remove(&key);
            return Ok(());
        }
        "REPLACE" => {}
        _ => return Refusal::of("Changetype not understood"),
    }
    if name != zone && !name.ends_with(&format!(".{zone}")) {
        return Refusal::of(format!("RRset {name} IN {rtype}: Name is out of zone"));
    }
    let Some(given) = rrset["records"].as_array() else {
        return Refusal::of(format!("No change for RRset {name} IN {rtype}"));
    };
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let ttl = number(&rrset["ttl"]).ok_or_else(|| Refusal::Error("Key 'ttl' not an Integer or not present".into()))?;
    let mut records: Vec<Record> = Vec::new();
    for record in given {
        let content = checked(&name, &rtype, text(record, "content")?)?;
        if records.iter().any(|r| r.content == content) {
            return Refusal::of(format!("Duplicate record in RRset {name} IN {rtype} with content \"{content}\""));
        }
        records.push(Record { content, disabled: record["disabled"].as_bool().unwrap_or(false) });
    }
    if records.is_empty() {
        sets.remove(&key);
        return Ok(());
    }
    let clash =
        |(at, other): &(String, String)| *at == name && *other != rtype && (rtype == "CNAME" || other == "CNAME");
    if sets.keys().any(clash) {
        return Refusal::of(format!("RRset {name} IN {rtype}: Conflicts with pre-existing RRset"));
    }
    sets.insert(key, Set { ttl: u32::try_from(ttl).unwrap_or(u32::MAX), records });
    Ok(())
}

/// A name with its dot, in lower case.
fn canonical(name: &str) -> Answer<String> {
    if !name.ends_with('.') {
        return Refusal::of(format!("DNS Name '{name}' is not canonical"));
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.split('.').any(|label| label.is_empty() || label.len() > 63) || name.len() > 254 {
        return Refusal::of(format!("Unable to parse DNS Name '{name}'"));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "_/.-".contains(c));
    if bare.strip_prefix("*.").unwrap_or(bare).contains(odd) {
        return Refusal::of(format!("Name '{name}' contains unsupported characters"));
    }
    Ok(name.to_ascii_lowercase())
}

/// A value as it is stored.
fn checked(name: &str, rtype: &str, content: &str) -> Answer<String> {
    let refused = |why: String| Refusal::Error(format!("Record {name}/{rtype} '{content}': {why}"));
    let no_address =
        || refused("Parsing record content (try 'pdnsutil check-zone'): unable to parse IP address".into());
    let other_form = |form: String| refused(format!("Not in expected format (parsed as '{form}')"));
    match rtype {
        "A" => content.parse::<Ipv4Addr>().map(|ip| ip.to_string()).map_err(|_| no_address()),
        "AAAA" => {
            content.parse::<Ipv6Addr>().map(|ip| ip.to_string()).map_err(|_| refused("Invalid IPv6 address".into()))
        }
        "TXT" if !content.starts_with('"') || !content.ends_with('"') || content.len() < 2 => {
            Err(other_form(format!("\"{content}\"")))
        }
        "TXT" => Ok(content.to_owned()),
        _ if !content.ends_with('.') => Err(other_form(format!("{content}."))),
        _ => Ok(content.to_owned()),
    }
}

/// What is answered to a question, from the zone that is nearest.
fn find(zones: &Zones, name: &str, rtype: &str) -> Found {
    let name = name.to_ascii_lowercase();
    let holds = |zone: &str| name == zone || name.ends_with(&format!(".{zone}"));
    let Some((apex, zone)) = zones.iter().filter(|(zone, _)| holds(zone)).max_by_key(|(zone, _)| zone.len()) else {
        return Found::Elsewhere;
    };
    let all = zone.all(apex);
    let lines = |at: &str, rtype: &str| -> Vec<Line> {
        let set = all.get(&(at.to_owned(), rtype.to_owned()));
        let line = |set: &Set, r: &Record| Line {
            name: at.to_owned(),
            ttl: set.ttl,
            rtype: rtype.to_owned(),
            content: r.content.clone(),
        };
        set.into_iter().flat_map(|s| s.records.iter().filter(|r| !r.disabled).map(|r| line(s, r))).collect()
    };
    let mut answers = lines(&name, rtype);
    if answers.is_empty() {
        answers = lines(&name, "CNAME");
    }
    let below = format!(".{name}");
    let served = all.iter().filter(|(_, set)| set.records.iter().any(|r| !r.disabled));
    let exists = served.map(|((at, _), _)| at).any(|at| *at == name || at.ends_with(&below));
    Found::Here { answers, exists, soa: lines(apex, "SOA") }
}
