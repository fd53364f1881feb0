//! Many services at once in the zones of one real PowerDNS, written to by two hosts.
//!
//! PowerDNS on SQLite answers 500 to writes at the same time and drops what they held, and raises a zone's serial for writes that
//! change nothing: so no two writes may be under way, and none may be sent in vain.

use crate::world;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::world::{Host, World, component, install};
use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use pve_sim::state::{SimConfig, Timing};
use serde_json::{Value, json};
use wharf_e2e::powerdns::{Dns, PowerDns};
use wharf_engine::wish::Wish;
use wharf_model::{object::ObjectKind, record::Record, service::Phase};

const KEY: &str = "key-of-the-crowded-powerdns";
const SERVICES: usize = 20;
const ZONES: [(&str, &str); 2] = [("forward", "example.com."), ("reverse", "2.0.192.in-addr.arpa.")];
const PATIENCE: Duration = Duration::from_secs(240);

/// One request as it went by.
#[derive(Debug)]
struct Seen {
    method: String,
    path: String,
    body: Value,
    status: u16,
}

/// Stands before PowerDNS and notes what is asked and answered.
struct Gate {
    url: String,
    shared: Arc<Noted>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Noted {
    to: String,
    seen: Mutex<Vec<Seen>>,
    /// Writes under way, and the most there ever were.
    writing: Mutex<(usize, usize)>,
}

impl Gate {
    async fn before(server: &PowerDns) -> Self {
        let shared = Arc::new(Noted { to: server.api.clone(), ..Noted::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, serving }
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    fn most_writes_at_once(&self) -> usize {
        self.shared.writing.lock().unwrap().1
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(noted): State<Arc<Noted>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 16 << 20).await.unwrap();
    let writes = head.method != "GET";
    if writes {
        let mut writing = noted.writing.lock().unwrap();
        writing.0 += 1;
        writing.1 = writing.1.max(writing.0);
    }
    let url = format!("{}{}", noted.to, head.uri);
    let mut on = wharf_e2e::client::http().request(head.method.clone(), url).body(body.clone());
    for (name, value) in head.headers.iter().filter(|(name, _)| *name == "x-api-key" || *name == "content-type") {
        on = on.header(name, value);
    }
    let answer = on.send().await.unwrap();
    if writes {
        noted.writing.lock().unwrap().0 -= 1;
    }
    let status = answer.status();
    noted.seen.lock().unwrap().push(Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        status: status.as_u16(),
    });
    let kind = answer.headers().get("content-type").cloned();
    let text: Bytes = answer.bytes().await.unwrap();
    let mut response = (status, text).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}

/// Far in the future, where PowerDNS adds one for each edit; else it would take a date, whatever was edited.
const FIRST_SERIAL: u64 = 4_000_000_000;

async fn serial(dns: &PowerDns, zone: &str) -> u64 {
    let shown = dns.get(&format!("/api/v1/servers/localhost/zones/{zone}?rrsets=false")).await.unwrap();
    shown["serial"].as_u64().unwrap()
}

async fn records(world: &World) -> Vec<Record> {
    let mut all = Vec::new();
    for (zone, _) in ZONES {
        all.extend(world.books.records_in(zone).await.unwrap());
    }
    all
}

/// Waits until no record is due or still to be written or removed.
async fn settled(world: &World) {
    let begun = Instant::now();
    while world.books.next_dns_due().await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE, "still to do: {:?}", records(world).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the writes that went by have changed, each once; and how many there were in each zone.
fn writes(seen: &[Seen]) -> (Vec<String>, [usize; 2]) {
    let (mut changed, mut count) = (Vec::new(), [0; 2]);
    assert!(seen.iter().all(|s| s.status < 500), "the server broke: {seen:#?}");
    for one in seen.iter().filter(|s| s.method != "GET") {
        assert_eq!((one.method.as_str(), one.status), ("PATCH", 204), "{one:?}");
        let at = ZONES.iter().position(|(_, zone)| one.path.ends_with(&format!("/zones/{zone}"))).unwrap();
        count[at] += 1;
        let sets = one.body["rrsets"].as_array().unwrap();
        assert!(!sets.is_empty(), "a write that changes nothing was sent");
        changed.extend(sets.iter().map(|s| format!("{} {} {}", s["changetype"], s["name"], s["type"])));
    }
    let once: BTreeSet<&String> = changed.iter().collect();
    assert_eq!(once.len(), changed.len(), "something was written twice: {changed:#?}");
    (changed, count)
}

/// Two hosts on the same books, with the provider allowed to ask the gate.
async fn hosts(world: &World, gate: &Gate) -> [Host; 2] {
    let first = world.host(|_| {}).await;
    install(&first.runtime, component("dns-powerdns")).await;
    let mut grant = world.books.object(ObjectKind::Grant, "dns-powerdns").await.unwrap().unwrap().body;
    grant["private_origins"] = json!([gate.url]);
    world.put(ObjectKind::Grant, "dns-powerdns", grant).await;
    first.runtime.refresh().await.unwrap();
    let second = world.host(|_| {}).await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_changes_at_once_are_written_one_after_the_other_each_once_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let dns = PowerDns::start(dir.path(), KEY, Dns::Real).await.unwrap();
    let gate = Gate::before(&dns).await;
    let timing = Timing { clone_linked: 50, clone_stub: 10, configure: 10, resize: 10, start: 20, ..Timing::default() };
    let timing = Timing { stop: 20, shutdown: 20, destroy: 20, write: 1, ..timing };
    let world = World::new(SimConfig { timing, ..SimConfig::default() }).await;
    let server = json!({"urls": ["http://sim"], "token_id": world::TOKEN, "clones_per_storage": SERVICES});
    world.put(ObjectKind::Server, "pve", server).await;
    for (name, zone) in ZONES {
        dns.create_zone(zone).await.unwrap();
        let soa = format!("ns1.example.net. hostmaster.{zone} {FIRST_SERIAL} 10800 3600 604800 3600");
        dns.set(zone, zone, "SOA", &[&soa]).await.unwrap();
        let settings = json!({"server-url": gate.url});
        let body =
            json!({"zone": zone.trim_end_matches('.'), "plugin": "dns-powerdns", "settings": settings, "ttl": 300});
        world.put(ObjectKind::Zone, name, body).await;
        world.secret(&format!("zone/{name}"), "api-key", KEY).await;
    }
    dns.add("example.com.", "stranger.example.com.", "A", "198.51.100.7").await.unwrap();
    let mut before = [serial(&dns, ZONES[0].1).await, serial(&dns, ZONES[1].1).await];
    assert!(before[0] >= FIRST_SERIAL && before[1] >= FIRST_SERIAL, "{before:?}");

    let hosts = hosts(&world, &gate).await;
    let references: Vec<String> = (1..=SERVICES).map(|n| n.to_string()).collect();
    let order = |n: usize| world.wish(&hosts[n % 2], &references[n], World::order("small", &[]));
    futures::future::join_all((0..SERVICES).map(order)).await;
    for reference in &references {
        world.until(reference, Phase::Active, PATIENCE).await;
    }
    settled(&world).await;
    let mut expected: BTreeSet<(String, String, String)> =
        [("stranger.example.com.".into(), "A".into(), "198.51.100.7".into())].into();
    for reference in &references {
        let service = world.service(reference).await;
        let leases = world.books.leases_of(service.id).await.unwrap();
        assert_eq!(leases.len(), 1);
        let (fqdn, address) = (format!("42-{reference}.example.com."), leases[0].address);
        expected.insert((wharf_e2e::journey::reverse_name(address), "PTR".into(), fqdn.clone()));
        expected.insert((fqdn, "A".into(), address.to_string()));
    }
    let mut there = dns.records("example.com.").await.unwrap();
    there.extend(dns.records("2.0.192.in-addr.arpa.").await.unwrap());
    assert_eq!(there, expected);
    let (changed, count) = writes(&gate.take());
    assert_eq!(changed.len(), 2 * SERVICES, "{changed:#?}");
    for (at, (_, zone)) in ZONES.iter().enumerate() {
        let now = serial(&dns, zone).await;
        assert_eq!(now - before[at], u64::try_from(count[at]).unwrap(), "{zone}: once for each write, and no oftener");
        before[at] = now;
    }

    // Everything is due again and as it should be: it is looked at, and nothing is written.
    let keys: Vec<_> = records(&world).await.into_iter().map(|r| r.key).collect();
    let rechecked = world.books.recheck_records(&keys, world.clock.now_ms()).await.unwrap();
    assert_eq!(rechecked, u64::try_from(2 * SERVICES).unwrap());
    hosts[0].engine.nudge();
    settled(&world).await;
    let seen = gate.take();
    assert!(seen.iter().any(|s| s.path.contains("/zones/")), "nothing was looked at: {seen:?}");
    assert_eq!(writes(&seen), (Vec::new(), [0; 2]));
    assert_eq!([serial(&dns, ZONES[0].1).await, serial(&dns, ZONES[1].1).await], before);

    let end = |n: usize| world.wish(&hosts[n % 2], &references[n], Wish::Terminate);
    futures::future::join_all((0..SERVICES).map(end)).await;
    for reference in &references {
        world.until(reference, Phase::Terminated, PATIENCE).await;
    }
    settled(&world).await;
    assert_eq!(dns.records("example.com.").await.unwrap().len(), 1, "the stranger's, and no other");
    assert_eq!(dns.records("2.0.192.in-addr.arpa.").await.unwrap(), BTreeSet::new());
    let (changed, count) = writes(&gate.take());
    assert_eq!(changed.len(), 2 * SERVICES, "{changed:#?}");
    for (at, (_, zone)) in ZONES.iter().enumerate() {
        assert_eq!(serial(&dns, zone).await - before[at], u64::try_from(count[at]).unwrap(), "{zone}");
    }
    assert_eq!(gate.most_writes_at_once(), 1, "two writes were under way");
    world.audit().await;
    for host in hosts {
        host.kill();
    }
}
