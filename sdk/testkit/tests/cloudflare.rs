//! The façade of Cloudflare, asked by Cloudflare's own Python client: that it works there makes the façade credible.
//!
//! The client is `cloudflare` 5.9.0 of PyPI, which `.ci/requirements.txt` pins; its answers are held against the types that it
//! brings along. What it does is in `clients/cloudflare_sdk.py`.

use crate::script;
use wharf_testkit::{
    facade::{Refusal, Wait},
    facades::cloudflare::Cloudflare,
    faults::{Fault, Mishap, Target},
    peer::Peer,
};

const ZONE: &str = "example.test.";

async fn peer(foreign: usize) -> Peer {
    let peer = Peer::start(Box::new(Cloudflare::default())).await.unwrap();
    peer.add_zone(ZONE, foreign);
    peer
}

/// Lets the client do one of its parts. Its traceback is the failure.
async fn client(peer: &Peer, what: &str) {
    let settings = peer.zone_settings(ZONE);
    let text = |key: &str| settings[key].as_str().unwrap().to_owned();
    script::run("cloudflare_sdk.py", &[&peer.url, &text("api-token"), &text("zone-id"), what]).await;
}

#[tokio::test]
async fn zones_are_listed_and_found() {
    let peer = peer(0).await;
    for n in 1..12 {
        peer.add_zone(&format!("z{n}.test."), 0);
    }
    client(&peer, "zones").await;
}

#[tokio::test]
async fn records_are_listed_page_by_page_and_filtered() {
    let peer = peer(230).await;
    client(&peer, "pages").await;
    assert!(peer.take_log().iter().all(|asked| asked.status == Some(200)));
}

#[tokio::test]
async fn single_records_are_made_changed_and_deleted() {
    let peer = peer(3).await;
    let serial = peer.model().zone(ZONE).unwrap().serial;
    client(&peer, "single").await;
    let model = peer.model();
    let zone = model.zone(ZONE).unwrap();
    assert_eq!(zone.data("7.example.test.", "PTR"), ["vm.example.test."]);
    assert_eq!(zone.records.len(), 4, "of others nothing was touched");
    assert_eq!(zone.serial, serial + 6 + 3 + 5, "once for each write that was done");
}

#[tokio::test]
async fn batches_are_done_in_their_order_and_whole_or_not_at_all() {
    let peer = peer(0).await;
    let serial = peer.model().zone(ZONE).unwrap().serial;
    client(&peer, "batches").await;
    let model = peer.model();
    let zone = model.zone(ZONE).unwrap();
    assert_eq!((zone.records.len(), zone.serial), (202, serial + 4));
    assert_eq!(zone.of("b3.example.test.", "A").next().unwrap().ttl, Some(900));
}

#[tokio::test]
async fn what_is_refused_arrives_as_the_clients_own_errors() {
    let peer = peer(0).await;
    client(&peer, "errors").await;
    assert_eq!(peer.model().zone(ZONE).unwrap().records.len(), 3);
    peer.arm(Fault::once(Target::Any, Mishap::Refused(Refusal::RateLimited(Wait::Seconds(7)))));
    client(&peer, "limited").await;
    peer.arm(Fault::once(Target::Any, Mishap::Refused(Refusal::Broken)));
    client(&peer, "broken").await;
    peer.model().zone_mut(ZONE).unwrap().records_max = Some(3);
    client(&peer, "full").await;
}
