//! The façade of Hetzner Cloud's DNS, asked by Hetzner's own Python client: that it works there makes the façade credible.
//!
//! The client is `hcloud` 2.27.0 of PyPI, which `.ci/requirements.txt` pins. What it does is in `clients/hetzner_client.py`.

use wharf_testkit::{facades::hetzner::Hetzner, peer::Peer};

use crate::script;

const ZONE: &str = "example.test.";

async fn peer(foreign: usize) -> Peer {
    let peer = Peer::start(Box::new(Hetzner::default())).await.unwrap();
    peer.add_zone(ZONE, foreign);
    peer
}

/// Lets the client do one of its parts.
async fn client(peer: &Peer, what: &str) {
    let settings = peer.zone_settings(ZONE);
    script::run("hetzner_client.py", &[&peer.url, settings["api-token"].as_str().unwrap(), what]).await;
}

#[tokio::test]
async fn zones_are_listed_and_found() {
    let peer = peer(0).await;
    for n in 1..60 {
        peer.add_zone(&format!("z{n}.test."), 0);
    }
    client(&peer, "zones").await;
}

#[tokio::test]
async fn sets_are_listed_page_by_page_and_filtered() {
    client(&peer(250).await, "pages").await;
}

#[tokio::test]
async fn sets_are_made_changed_and_deleted_by_actions_that_the_client_waits_for() {
    let peer = peer(2).await;
    let serial = peer.model().zone(ZONE).unwrap().serial;
    client(&peer, "sets").await;
    let model = peer.model();
    let zone = model.zone(ZONE).unwrap();
    assert_eq!(zone.serial, serial + 7 + 5, "once for each write that was done");
    assert_eq!(zone.data("_x.example.test.", "TXT"), [r#""a \"b\"" "c""#]);
    assert_eq!(zone.records.len(), 3 + 2 + 3, "of others nothing was touched");
}

#[tokio::test]
async fn what_is_refused_arrives_as_the_clients_own_errors() {
    let peer = peer(0).await;
    client(&peer, "errors").await;
    assert_eq!(peer.model().zone(ZONE).unwrap().records.len(), 4);
}
