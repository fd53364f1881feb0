//! Façades of DNS providers in virtual time: the network of a world whose plugins speak to peers in this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use wharf_capabilities::http::{Answer, Lost, Prepared, Resolver, Sender, Transport};
use wharf_model::{object::ObjectKind, operation::LogBody};
use wharf_testkit::{
    facade::{Facade, Request},
    peer::Peer,
};

use crate::world::{Host, World};

/// The Internet: a name each for the peers, all at a public address.
#[derive(Default)]
pub struct Net {
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    /// Origins that accept no connection.
    down: Mutex<BTreeSet<String>>,
}

impl Net {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn sender(self: &Arc<Self>) -> Sender {
        Sender::with_transport(self.clone()).resolving(self.clone())
    }

    /// A peer at `https://{host}`.
    pub fn peer(&self, host: &str, facade: impl Facade + 'static) -> Arc<Peer> {
        let url = format!("https://{host}");
        let peer = Arc::new(Peer::in_process(&url, Box::new(facade)));
        self.peers.lock().unwrap().insert(url, Arc::clone(&peer));
        peer
    }

    pub fn set_down(&self, peer: &Peer, down: bool) {
        let mut all = self.down.lock().unwrap();
        if down {
            all.insert(peer.url.clone())
        } else {
            all.remove(&peer.url)
        };
    }
}

#[async_trait]
impl Transport for Net {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        let origin = request.url.origin().ascii_serialization();
        let peer = self.peers.lock().unwrap().get(&origin).cloned();
        let peer = peer.filter(|_| !self.down.lock().unwrap().contains(&origin));
        let lost = |maybe_sent, code, message: &str| Lost { maybe_sent, code, message: message.to_owned() };
        let peer = peer.ok_or_else(|| lost(false, "connect", "connection refused"))?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let asked = Request {
            method: request.method.to_string(),
            path: request.url.path().to_owned(),
            query: request.url.query_pairs().into_owned().collect(),
            headers: request.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: request.body.to_vec(),
            is_write: None,
        };
        match tokio::time::timeout(request.timeout, peer.ask(asked)).await {
            Ok(Some(answer)) => Ok(Answer { status: answer.status, headers: answer.headers, body: answer.body }),
            Ok(None) => Err(lost(true, "broken", "the connection broke before an answer came")),
            Err(_) => Err(lost(true, "timeout", "no whole answer came in time")),
        }
    }
}

#[async_trait]
impl Resolver for Net {
    async fn lookup(&self, _host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(vec!["1.1.1.1".parse().unwrap()])
    }
}

/// A zone at a peer, configured as an admin does it: settings in the row, secrets apart. `over` is laid over the peer's own
/// settings.
pub async fn zone_at(world: &World, host: &Host, name: &str, dns: &str, plugin: &str, peer: &Peer, over: Value) {
    let mut settings = peer.zone_settings(&format!("{}.", dns.trim_end_matches('.')));
    for (key, value) in over.as_object().unwrap() {
        settings[key] = value.clone();
    }
    let manifest = host.runtime.manifest(plugin).expect("it is installed");
    for (slot, value) in wharf_plugins::settings::take_secrets(&manifest.settings, &mut settings) {
        world.secret(&format!("zone/{name}"), &slot, &value).await;
    }
    world.put(ObjectKind::Zone, name, json!({"zone": dns, "plugin": plugin, "settings": settings, "ttl": 300})).await;
}

/// All lines of a service's logs that have this in them.
pub async fn lines(world: &World, reference: &str, part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (_, entries) in world.log(reference).await {
        found.extend(entries.into_iter().filter_map(|entry| match entry.body {
            LogBody::Line { message, .. } if message.contains(part) => Some(message),
            _ => None,
        }));
    }
    found
}

/// Waits, in virtual time, until something is so.
pub async fn until(what: &str, patience: Duration, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + patience;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "after {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What a zone holds at its provider, as (name, type, data).
pub fn picture(peer: &Peer, zone: &str) -> BTreeSet<(String, String, String)> {
    let model = peer.model();
    let zone = model.zone(zone).expect("the zone is there");
    zone.records.iter().map(|r| (r.name.clone(), r.rtype.clone(), r.data.clone())).collect()
}
