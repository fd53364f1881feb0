//! Marked secrets go in, peers echo them in every coding, and nothing that is stored, logged or shown has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    collector::Collector,
    journey::{Built, House, Secrets, Setup},
    whmcs::{params, sign},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Every one is unique, and has characters that codings change.
fn marked() -> Secrets {
    Secrets {
        pve: "Mark-pve/7f3a+9c&1.b2e4d6".into(),
        dns: "Mark-dns/51c8+0a&7=f3e9b1".into(),
        panel: format!("whsec_{}", STANDARD.encode("Mark-panel>?>?-a secret of thirty bytes")),
        hook: format!("whsec_{}", STANDARD.encode("Mark-hook<?<?~another of thirty-odd bytes")),
    }
}

/// WHMCS hands these to a module with every call; they are none of the host's business.
const SERVER_PASSWORD: &str = "Mark-whmcs/server+0b4d=77";
const ACCOUNT_PASSWORD: &str = "Mark-whmcs/account+e1f2=88";

/// What an admin may have put into the settings, where the host does not know it.
const STORE_PASSWORD: &str = "Mark-store/9d2e+4f&6-c8a1";

/// RFC 3986 leaves these as they are.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a value looks like in the codings that peers, logs and books use.
fn codings(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let percent = percent_encode(bytes, NON_ALPHANUMERIC).to_string();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let json = json!(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let mut all = vec![
        value.to_owned(),
        json.replace('/', "\\/"),
        json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"),
        json.replace('&', "\\u0026").replace('<', "\\u003C").replace('>', "\\u003E").replace('+', "\\u002B"),
        json,
        percent_encode(bytes, NON_ALPHANUMERIC)
            .map(|part| if part.len() == 3 { part.to_lowercase() } else { part.to_owned() })
            .collect(),
        percent,
        percent_encode(bytes, UNRESERVED).to_string(),
        hex.to_uppercase(),
        hex,
        value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
    ];
    // Wherever in a longer text it stands: what the bytes around it have no part in.
    for before in 0..3 {
        let text = [vec![b'.'; before], bytes.to_vec()].concat();
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let whole = engine.encode(&text);
            all.push(whole[(before * 8).div_ceil(6)..text.len() * 8 / 6].to_owned());
        }
    }
    all.sort();
    all.dedup();
    all
}

/// What is looked for, and what was looked through.
#[derive(Default)]
struct Search {
    needles: Vec<(String, String)>,
    places: usize,
    found: Vec<String>,
    /// Where the host has put something in the place of a secret.
    taken_out: BTreeMap<String, usize>,
}

impl Search {
    fn add(&mut self, name: &str, value: &str) {
        self.needles.extend(codings(value).into_iter().map(|coding| (name.to_owned(), coding)));
        if let Some(bare) = value.strip_prefix("whsec_") {
            self.add(name, bare);
        }
    }

    fn look(&mut self, place: &str, bytes: &[u8]) {
        self.places += 1;
        for (name, needle) in &self.needles {
            if let Some(at) = memmem(bytes, needle.as_bytes()) {
                let around = &bytes[at.saturating_sub(60)..(at + needle.len() + 20).min(bytes.len())];
                self.found.push(format!("{name} stands in {place}: {}", String::from_utf8_lossy(around)));
            }
        }
        for slot in ["secret", "api-key", "os-password"] {
            if memmem(bytes, format!("[secret {slot}]").as_bytes()).is_some() {
                *self.taken_out.entry(slot.to_owned()).or_default() += 1;
            }
        }
    }

    fn look_into(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.look_into(&path);
            } else {
                self.look(&path.display().to_string(), &std::fs::read(&path).unwrap());
            }
        }
    }
}

fn memmem(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| b == first).map(|at| from + at) {
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// A peer that stands in front of PowerDNS, and is a webhook receiver: it passes on or, when told so, answers with an error
/// that quotes what it was sent, each time in another coding. It keeps what it got.
#[derive(Clone)]
struct Mirror {
    url: String,
    upstream: String,
    /// What it quotes besides what it was sent.
    knows: Vec<String>,
    quoting: Arc<AtomicBool>,
    turn: Arc<AtomicUsize>,
    /// Method, URL, headers and body of each request.
    got: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Mirror {
    async fn start(upstream: &str, knows: &[&str]) -> Self {
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

    fn quote(&self, on: bool) {
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

/// Text that a peer says everything in.
fn everything(values: &[&str]) -> String {
    let all: Vec<String> = values.iter().flat_map(|value| codings(value)).collect();
    format!("what I was given: {}", all.join(" , "))
}

async fn fault(house: &House, method: &str, path: &str, times: u32, what: Value) {
    let body = json!({"method": method, "path": path, "times": times, "what": what});
    let answer = http().post(format!("{}/_sim/fault", house.sim.url)).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn put(house: &House, path: &str, body: Value) {
    house.client.put(&format!("/v1/admin/{path}"), &body).await.unwrap();
}

/// `$params` with the passwords that WHMCS adds.
fn order(service: u32, plan: &str, domain: &str) -> Value {
    let mut order = params(service, plan, domain, json!({}));
    order["serverpassword"] = json!(SERVER_PASSWORD);
    order["serveraccesshash"] = json!(SERVER_PASSWORD);
    order["password"] = json!(ACCOUNT_PASSWORD);
    order
}

/// Waits for a VM of ours to have been given a password, and returns it.
async fn os_password(house: &House) -> String {
    let begun = Instant::now();
    loop {
        let cluster = house.cluster().await.unwrap();
        let passwords = cluster["vms"].as_object().unwrap().values().filter_map(|vm| vm["cipassword"].as_str());
        if let Some(password) = passwords.map(str::to_owned).next() {
            return password;
        }
        assert!(begun.elapsed() < PATIENCE, "no VM was given a password");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every address that answers a GET, by the host's own description of itself, with every name that there is.
async fn addresses(house: &House, references: &[&str]) -> Vec<String> {
    let document = house.client.get("/v1/openapi.json").await.unwrap();
    let mut operations = Vec::new();
    for reference in references {
        let service = house.client.get(&format!("/v1/services/shop:{reference}")).await.unwrap();
        operations.push(service["operation"]["id"].as_str().unwrap().to_owned());
    }
    let kinds = ["servers", "images", "plans", "pools", "zones", "panels", "hooks", "grants"];
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if item["get"].is_null() {
            continue;
        }
        match path.as_str() {
            "/v1/admin/{kind}" => all.extend(kinds.map(|kind| format!("/v1/admin/{kind}"))),
            "/v1/admin/{kind}/{name}" => {
                for kind in kinds {
                    for object in house.client.get(&format!("/v1/admin/{kind}")).await.unwrap().as_array().unwrap() {
                        all.push(format!("/v1/admin/{kind}/{}", object["name"].as_str().unwrap()));
                    }
                }
            }
            "/v1/admin/jobs/{name}" => {
                for job in house.client.get("/v1/admin/jobs").await.unwrap().as_array().unwrap() {
                    all.push(format!("/v1/admin/jobs/{}", job["name"].as_str().unwrap()));
                }
            }
            path if path.starts_with("/v1/admin/zones/{name}/") => {
                for zone in house.client.get("/v1/admin/zones").await.unwrap().as_array().unwrap() {
                    all.push(path.replace("{name}", zone["name"].as_str().unwrap()));
                }
            }
            path if path.starts_with("/v1/services/{id}") => {
                all.extend(references.iter().map(|r| path.replace("{id}", &format!("shop:{r}"))));
            }
            path if path.starts_with("/v1/operations/{id}") => {
                all.extend(operations.iter().map(|id| path.replace("{id}", id)));
            }
            path => {
                assert!(!path.contains('{'), "this test does not know what to put into {path}");
                all.push(path.to_owned());
            }
        }
    }
    all
}

/// Requests with a secret in the wrong place, as made by admins in a hurry: what is answered.
async fn mistakes(house: &House, secrets: &Secrets) -> Vec<(String, Vec<u8>)> {
    let Secrets { pve, dns, panel, hook } = secrets;
    let server = |key: &str, value: Value| {
        let mut body = json!({"urls": [house.sim.url], "token_id": "wharf@pve!wharf"});
        body[key] = value;
        ("PUT", "/v1/admin/servers/another".to_owned(), body.to_string())
    };
    let zone = |settings: Value| {
        let body = json!({"zone": "example.org", "plugin": "dns-powerdns", "settings": settings});
        ("PUT", "/v1/admin/zones/another".to_owned(), body.to_string())
    };
    let hooked = |settings: Value| {
        let body = json!({"plugin": "hook-webhook", "settings": settings});
        ("PUT", "/v1/admin/hooks/another".to_owned(), body.to_string())
    };
    let paneled = |key: &str, value: &str| {
        let mut body = json!({"plugin": "panel-whmcs", "plans": []});
        body[key] = json!(value);
        ("PUT", "/v1/admin/panels/another".to_owned(), body.to_string())
    };
    let requests = [
        server("secret", json!({"value": pve})),
        server("secret", json!([pve])),
        server("secrets", json!(pve)),
        server("urls", json!(pve)),
        server("urls", json!([pve])),
        server("timeout_ms", json!(pve)),
        server("token_id", json!(pve)),
        ("PUT", "/v1/admin/servers/another".into(), format!("{{\"secret\": \"{pve}\"")),
        ("PUT", "/v1/admin/servers/another".into(), format!("secret={pve}")),
        ("PUT", "/v1/admin/servers/another".into(), json!(pve).to_string()),
        ("GET", format!("/v1/services?token={}", percent_encode(pve.as_bytes(), NON_ALPHANUMERIC)), String::new()),
        zone(json!(dns)),
        zone(json!({"server-url": dns, "api-key": dns})),
        zone(json!({"server-url": format!("ftp://admin:{dns}@ns1"), "api-key": dns})),
        zone(json!({"server-url": house.dns.api, "api-key": [dns]})),
        zone(json!({"server-url": house.dns.api, "api-key": dns, "server-id": dns})),
        zone(json!({"server-url": house.dns.api, "api_key": dns})),
        hooked(json!({"url": house.receiver.url, "secret": hook.trim_start_matches("whsec_")})),
        hooked(json!({"url": house.receiver.url, "secret": format!("{hook}!")})),
        hooked(json!({"url": hook, "secret": hook})),
        hooked(json!({"url": house.receiver.url, "secret": hook, "events": [hook]})),
        hooked(json!({"url": house.receiver.url, "secret": hook, "source": 5, "key": hook})),
        paneled("secret", panel.trim_start_matches("whsec_")),
        paneled("secret", &format!("{panel}!")),
        paneled("plans", panel),
        paneled("secret_next", panel),
    ];
    let mut answers = Vec::new();
    for (method, path, body) in requests {
        let answer = http()
            .request(method.parse().unwrap(), format!("{}{path}", house.client.url))
            .bearer_auth(&house.client.token)
            .header("content-type", "application/json")
            .body(body.clone())
            .send()
            .await
            .unwrap();
        // Some are no mistakes to the host, which keeps the text of what it was given.
        let status = answer.status();
        assert!(status.is_client_error() || body.contains("api-key\":["), "{method} {path} {body}: {status}");
        answers.push((format!("the answer to {method} {path} {body}"), answer.bytes().await.unwrap().to_vec()));
    }
    for (name, value) in
        [("authorization", format!("Bearer {pve}")), ("authorization", format!("Basic {}", STANDARD.encode(pve)))]
    {
        let answer = http().get(format!("{}/v1/services", house.client.url)).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        answers.push((format!("the answer to a wrong {name}"), answer.bytes().await.unwrap().to_vec()));
    }
    // A hook whose signature is the secret itself, and one with a good signature and a bad body.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let bad = format!("{{\"serverpassword\": \"{SERVER_PASSWORD}\"");
    let good = sign(panel, "msg_bad", &now, bad.as_bytes()).unwrap();
    for signature in [panel.clone(), good] {
        let answer = http()
            .post(format!("{}/hooks/shop/create", house.client.url))
            .header("content-type", "application/json")
            .header("webhook-id", "msg_bad")
            .header("webhook-timestamp", &now)
            .header("webhook-signature", signature)
            .body(bad.clone())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_client_error(), "{}", answer.status());
        answers.push(("the answer to a bad hook".into(), answer.bytes().await.unwrap().to_vec()));
    }
    answers
}

/// The files of a support bundle, made with settings that hold a password under two keys, one of them misspelt.
async fn support_bundle(house: &House) -> Vec<(String, Vec<u8>)> {
    let place = |name: &str| house.dir.join(name);
    let url = format!("postgres://wharf:{STORE_PASSWORD}@db/wharf");
    let settings =
        format!("# {STORE_PASSWORD}\nlisten = \"x\"\n[store]\nurl = {url:?}\npassword = {STORE_PASSWORD:?}\n");
    std::fs::write(place("support.toml"), settings).unwrap();
    let output = tokio::process::Command::new(Built::in_target().unwrap().wharf)
        .args(["support-bundle", "--output"])
        .arg(place("support.tar.gz"))
        .arg("--config")
        .arg(place("support.toml"))
        .arg("--host-log")
        .arg(place("wharf.log"))
        .envs([("WHARF_URL", house.client.url.as_str()), ("WHARF_TOKEN", &house.client.token)])
        .env("WHARF_STORE__PASSWORD", STORE_PASSWORD)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::create_dir(place("support")).unwrap();
    let mut unpack = tokio::process::Command::new("tar");
    unpack.arg("-xzf").arg(place("support.tar.gz")).arg("-C").arg(place("support"));
    assert!(unpack.status().await.unwrap().success());
    std::fs::remove_file(place("support.toml")).unwrap();
    let mut files = vec![("what the bundling says".to_owned(), [output.stdout, output.stderr].concat())];
    let mut open = vec![place("support")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push((
                path.strip_prefix(place("support")).unwrap().display().to_string(),
                std::fs::read(&path).unwrap(),
            ));
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_secret_is_found_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = marked();
    let collector = Collector::start(0).await.unwrap();
    let setup = Setup {
        secrets: secrets.clone(),
        log: "trace".into(),
        settings: format!("[traces]\nendpoint = {}\n", json!(collector.url)),
        server: json!({"timeout_ms": 4_000, "heavy_timeout_ms": 4_000}),
        ..Setup::default()
    };
    let house = House::with(dir.path(), Built::in_target().unwrap(), setup).await.unwrap();
    let mirror = Mirror::start(&house.dns.api, &[]).await;
    let receiver = Mirror::start("", &[&secrets.hook]).await;
    for (plugin, origins) in [("dns-powerdns", vec![&mirror.url]), ("hook-webhook", vec![&receiver.url])] {
        let mut grant = house.client.get(&format!("/v1/admin/grants/{plugin}")).await.unwrap()["body"].clone();
        grant["private_origins"] = json!(origins);
        put(&house, &format!("grants/{plugin}"), grant).await;
    }
    for (name, zone) in
        [("forward", "example.com"), ("reverse-v4", "2.0.192.in-addr.arpa"), ("reverse-v6", "8.b.d.0.1.0.0.2.ip6.arpa")]
    {
        // Without the key: what is stored stays.
        let settings = json!({"server-url": mirror.url});
        put(&house, &format!("zones/{name}"), json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings}))
            .await;
    }
    let events = format!("{}/events", receiver.url);
    put(&house, "hooks/receiver", json!({"plugin": "hook-webhook", "settings": {"url": events}})).await;

    // Everything that can fail fails, and says why at length.
    let mut answers = Vec::new();
    mirror.quote(true);
    for _ in 0..codings(&secrets.dns).len() {
        let test = house.client.post("/v1/admin/zones/forward/test", &json!({})).await.unwrap();
        assert_eq!(test["ok"], false);
        answers.push(("the test of a zone".to_owned(), test.to_string().into_bytes()));
    }
    let token = everything(&[&secrets.pve]);
    fault(&house, "GET", "", 8, json!({"refuse": {"status": 500, "text": token}})).await;
    let test = house.client.post("/v1/admin/servers/pve/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], false);
    answers.push(("the test of a server".to_owned(), test.to_string().into_bytes()));
    http().delete(format!("{}/_sim/fault", house.sim.url)).send().await.unwrap();
    fault(&house, "GET", "", 2, json!({"refuse": {"status": 500, "text": token}})).await;
    fault(&house, "POST", "/clone", 1, json!({"refuse": {"status": 500, "text": token}})).await;
    fault(&house, "POST", "/clone", 1, json!({"task-fails": token})).await;
    fault(&house, "POST", "/status/start", 1, json!({"refuse": {"status": 500, "text": token}})).await;
    let (status, body) = house.whmcs.post("create", &order(6201, "dual-stack", "")).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    let password = os_password(&house).await;
    let both = everything(&[&password, &secrets.pve]);
    fault(&house, "POST", "/status/start", 1, json!({"task-fails": both})).await;
    fault(&house, "POST", "/status/start", 1, json!({"refuse": {"status": 500, "text": both}})).await;
    house.until("6201", "active", PATIENCE).await.unwrap();
    answers.extend(mistakes(&house, &secrets).await);
    // With its zones as they should be, the rest goes well.
    mirror.quote(false);
    for zone in ["forward", "reverse-v4", "reverse-v6"] {
        let shown = house.client.get(&format!("/v1/admin/zones/{zone}")).await.unwrap();
        put(&house, &format!("zones/{zone}"), shown["body"].clone()).await;
    }
    let (status, body) = house.whmcs.post("create", &order(6202, "linked", "")).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    house.until("6202", "active", PATIENCE).await.unwrap();
    let begun = Instant::now();
    while house.dns.dig("42-6202.example.com", "A").await.unwrap().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "DNS does not go on");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fault(&house, "POST", "/status/shutdown", 1, json!({"refuse": {"status": 500, "text": both}})).await;
    fault(&house, "DELETE", "/qemu/", 1, json!({"task-fails": both})).await;
    for phase in ["needs-admin", "terminated"] {
        assert_eq!(house.whmcs.post("terminate", &order(6201, "dual-stack", "")).await.unwrap().0, 200);
        let service = house.until("6201", phase, PATIENCE).await.unwrap();
        let log = house.client.text("/v1/services/shop:6201/log").await.unwrap();
        answers.push((format!("a service that is {phase}, and its log"), format!("{service}\n{log}").into_bytes()));
        if phase == "needs-admin" {
            let files = support_bundle(&house).await;
            let file = |end: &str| {
                let found = files.iter().find(|(name, _)| name.ends_with(end));
                let (_, bytes) = found.unwrap_or_else(|| panic!("{end} is not in {:?}", files.iter().map(|f| &f.0)));
                String::from_utf8_lossy(bytes).into_owned()
            };
            // All that it is for is in it.
            assert!(!file("README.txt").contains("Not in it"), "{}", file("README.txt"));
            let id = service["id"].as_str().unwrap();
            assert!(file(&format!("services/{id}.log")).contains("stuck"), "{}", file(&format!("services/{id}.log")));
            assert!(file(&format!("services/{id}.json")).contains("needs-admin") && file("services.json").contains(id));
            assert!(file("metrics.txt").contains("wharf_operations{status=\"needs-admin\"} 1"));
            for (name, part) in [
                ("machine.txt", "wharf 0."),
                ("host.log", "TRACE"),
                ("plugins.json", "proxmox-kvm"),
                ("objects/servers.json", "wharf@pve!wharf"),
                ("audit.json", "token.create"),
                ("settings.json", "WHARF_STORE__PASSWORD"),
            ] {
                assert!(file(name).contains(part), "{name}: {}", &file(name)[..file(name).len().min(2_000)]);
            }
            answers.extend(files);
        }
    }

    // Webhooks of both services, each refused once.
    let begun = Instant::now();
    while receiver.got.lock().unwrap().len() < 9 {
        assert!(begun.elapsed() < PATIENCE, "webhooks are not delivered");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let mut search = Search::default();
    let Secrets { pve, dns, panel, hook } = &secrets;
    let (_, api_token) = house.client.token.rsplit_once('_').unwrap();
    for (name, value) in [
        ("the token's secret", pve.as_str()),
        ("the DNS key", dns),
        ("the panel's secret", panel),
        ("the hook's secret", hook),
        ("the OS password", &password),
        ("WHMCS' password for the server", SERVER_PASSWORD),
        ("WHMCS' password for the account", ACCOUNT_PASSWORD),
        ("the API token", api_token),
        ("the password in the settings", STORE_PASSWORD),
    ] {
        search.add(name, value);
    }
    // What peers got: the OS password in its field, the key in its header, and nothing else.
    let journal: Value = http().get(format!("{}/_sim/log", house.sim.url)).send().await.unwrap().json().await.unwrap();
    let mut given = 0;
    for entry in journal.as_array().unwrap() {
        let mut entry = entry.clone();
        if let Some(field) = entry["params"].as_object_mut().and_then(|params| params.remove("cipassword")) {
            given += usize::from(field == json!(password));
        }
        search.look("a request to the cluster", entry.to_string().as_bytes());
    }
    assert_eq!(given, 1, "the password is given once");
    for (line, headers, body) in mirror.got.lock().unwrap().iter().chain(receiver.got.lock().unwrap().iter()) {
        let mut headers = headers.clone();
        headers.remove("x-api-key");
        search.look("a request to PowerDNS or a webhook", format!("{line}\n{headers:?}\n").as_bytes());
        search.look("the body of a request to PowerDNS or a webhook", body);
    }
    for event in &house.receiver.seen().events {
        search.look("a webhook", event.to_string().as_bytes());
    }
    for (place, bytes) in &answers {
        search.look(place, bytes);
    }
    // What the host shows, live logs included.
    let shown = addresses(&house, &["6201", "6202"]).await;
    assert!(shown.len() > 40, "{shown:?}");
    for path in &shown {
        for accept in ["*/*", "text/event-stream"] {
            if accept != "*/*" && !path.ends_with("/log") {
                continue;
            }
            let request = http().get(format!("{}{path}", house.client.url)).bearer_auth(&house.client.token);
            let answer = request.header("accept", accept).send().await.unwrap();
            // One zone's provider can't be asked: what is said of that must hold no secret either.
            let asked = path.starts_with("/v1/admin/zones/another/") && answer.status().as_u16() == 502;
            assert!(answer.status().is_success() || asked, "{path}: {}", answer.status());
            let bytes = answer.bytes().await.unwrap();
            assert!(!bytes.is_empty(), "{path}");
            search.look(path, &bytes);
        }
    }
    let unknown =
        http().get(format!("{}/v1/services/shop:{}", house.client.url, "none")).bearer_auth(&house.client.token);
    search.look("an unknown service", &unknown.send().await.unwrap().bytes().await.unwrap());
    // What it keeps and logs, while it runs and afterwards.
    search.look_into(&house.dir.join("data"));
    search.look("the host's log", &std::fs::read(house.dir.join("wharf.log")).unwrap());
    let mut house = house;
    house.wharf.take().unwrap().stop(Duration::from_secs(20)).await.unwrap();
    search.look_into(&house.dir.join("data"));
    let log = std::fs::read(house.dir.join("wharf.log")).unwrap();
    assert!(memmem(&log, b"TRACE").is_some(), "it does not log all that it could");
    search.look("the host's log", &log);
    let spans = collector.got();
    assert!(spans.spans.len() > 100, "{} spans were sent", spans.spans.len());
    for body in &spans.bodies {
        search.look("spans that were sent to the collector of traces", body);
    }
    assert!(search.found.is_empty(), "{} places:\n{}", search.places, search.found.join("\n"));
    println!("{} places, {} codings of {} secrets", search.places, search.needles.len(), 9);
    // The host has seen them: had the echoes not reached it, nothing would be shown by this.
    for slot in ["secret", "api-key", "os-password"] {
        assert!(search.taken_out.get(slot).is_some_and(|n| *n > 0), "{slot} was not echoed: {:?}", search.taken_out);
    }
}

/// As the telltale writes what it found: hex of each byte XOR 0xa5.
fn disguised(text: &str) -> String {
    text.bytes().map(|b| format!("{:02x}", b ^ 0xa5)).collect()
}

fn undisguised(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap() ^ 0xa5)
        .collect()
}

/// The memory of a component can't be read from outside, so a plugin of ours looks through its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_meets_no_secret_in_what_it_gets_nor_in_its_memory() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let mirror = Mirror::start("", &[]).await;
    let component = std::fs::read(Built::in_target().unwrap().plugins.join("telltale.wasm")).unwrap();
    let wants = "wharf:base/common,wharf:dns/zones,wharf:base/log,wharf:http/client,wharf:dns/calls";
    house.client.upload(&format!("/v1/admin/plugins?allow={wants}"), component).await.unwrap();
    let mut grant = house.client.get("/v1/admin/grants/telltale").await.unwrap()["body"].clone();
    grant["private_origins"] = json!([mirror.url]);
    put(&house, "grants/telltale", grant).await;
    let key = "Mark-key/7d0e+44&5<a1b2c3";
    let codings = codings(key);
    // Besides the secret something that the peer echoes and that is none: were it not found, the search would be blind.
    let mut sought: Vec<String> = codings.iter().map(|coding| disguised(coding)).collect();
    sought.push(disguised("x-quoted"));
    let settings = json!({"server-url": mirror.url, "api-key": key, "sought": sought.join(" ")});
    put(&house, "zones/told", json!({"zone": "told.example", "plugin": "telltale", "settings": settings})).await;
    let test = house.client.post("/v1/admin/zones/told/test", &json!({})).await.unwrap();
    let lines: Vec<(&str, &str)> = test["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["step"].as_str().unwrap(), line["detail"].as_str().unwrap()))
        .collect();
    let of = |step: &str| lines.iter().filter(|(s, _)| *s == step).map(|(_, d)| *d).collect::<Vec<_>>();

    // The peer got the secret, at both places where the manifest allows it.
    let got = mirror.got.lock().unwrap().clone();
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(got[0].1["x-api-key"].to_str().unwrap(), key);
    let form = percent_encode(key.as_bytes(), NON_ALPHANUMERIC).to_string().replace("%2D", "-");
    assert_eq!(String::from_utf8_lossy(&got[1].2), format!("key={form}"));

    // What came back to the plugin has a word in its place, in all codings.
    let echoes = of("echo");
    assert_eq!(echoes.len(), 2, "{lines:?}");
    for echo in echoes {
        let echo = undisguised(echo);
        let text = String::from_utf8_lossy(&echo);
        assert!(text.contains("[secret api-key]"), "{text}");
        for coding in &codings {
            assert!(memmem(&echo, coding.as_bytes()).is_none(), "{coding}: {text}");
        }
    }
    assert_eq!(of("setting"), [""], "a secret is no setting");
    let found = of("memory");
    let (control, secret) = found.split_last().unwrap();
    assert_ne!(*control, "0", "it does not find what must be there");
    assert_eq!(secret.len(), codings.len());
    assert!(secret.iter().all(|n| *n == "0"), "{secret:?}");

    for step in [
        "url",
        "host",
        "query",
        "query-name",
        "header",
        "header-name",
        "record-value",
        "record-name",
        "field",
        "field-name",
        "method",
    ] {
        assert_eq!(of(step), ["secret-position"], "{step}");
    }
}

/// What a customer or an admin enters can't become a placeholder: no name of a record has braces.
#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_in_a_name_reaches_no_provider() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let mirror = Mirror::start(&house.dns.api, &[]).await;
    let mut grant = house.client.get("/v1/admin/grants/dns-powerdns").await.unwrap()["body"].clone();
    grant["private_origins"] = json!([house.dns.api, mirror.url]);
    put(&house, "grants/dns-powerdns", grant).await;
    let settings = json!({"server-url": mirror.url});
    for (name, zone) in [("forward", "example.com"), ("reverse-v4", "2.0.192.in-addr.arpa")] {
        put(&house, &format!("zones/{name}"), json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings}))
            .await;
    }
    let slot = "{{api-key}}";
    let (status, body) =
        house.whmcs.post("create", &order(6301, "linked", &format!("{slot}.example.com"))).await.unwrap();
    println!("{status} {body}");
    if status == 200 {
        house.until("6301", "active", PATIENCE).await.unwrap();
    }
    let settings_of_plan = json!({"image": "debian-12", "main-domain": format!("{slot}.example.com")});
    let plan = json!({"plugin": "proxmox-kvm", "server": "pve", "settings": settings_of_plan});
    let text = format!("{:#}", house.client.put("/v1/admin/plans/braces", &plan).await.unwrap_err());
    assert!(text.contains("main-domain"), "{text}");
    let zone = json!({"zone": format!("{slot}.example.com"), "plugin": "dns-powerdns", "settings": settings});
    let refused = house.client.put("/v1/admin/zones/braces", &zone).await;
    println!("{refused:?}");
    for (line, _, body) in mirror.got.lock().unwrap().iter() {
        let text = format!("{line} {}", String::from_utf8_lossy(body));
        assert!(
            !text.contains('{') || !text.contains(slot) && !text.contains(house.setup.secrets.dns.as_str()),
            "{text}"
        );
    }
    for zone in wharf_e2e::journey::ZONES {
        for (name, _, value) in house.dns.records(zone).await.unwrap() {
            assert!(!format!("{name} {value}").contains(['{', '}']), "{name} {value}");
        }
    }
}
