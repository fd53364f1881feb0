//! The façade of deSEC, asked by a client of other hands: that it works there makes the façade credible.
//!
//! The client is `desec-dns` 1.5.0 of PyPI (<https://github.com/s-hamann/desec-dns>), which `.ci/requirements.txt` pins. What it does is
//! in `clients/desec_client.py`.

use wharf_testkit::{
    facade::{Refusal, Wait},
    facades::desec::Desec,
    faults::{Fault, Mishap, Target},
    peer::Peer,
};

use crate::script;

const ZONE: &str = "example.test.";

async fn peer(foreign: usize) -> Peer {
    let peer = Peer::start(Box::new(Desec::of_pages(100))).await.unwrap();
    peer.add_zone(ZONE, foreign);
    peer
}

/// Lets the client do one of its parts.
async fn client(peer: &Peer, what: &str) {
    let settings = peer.zone_settings(ZONE);
    let text = |key: &str| settings[key].as_str().unwrap();
    script::run("desec_client.py", &[text("server-url"), text("token"), what]).await;
}

#[tokio::test]
async fn domains_and_records_are_listed_page_by_page_and_filtered() {
    let peer = peer(350).await;
    for n in 0..259 {
        peer.add_zone(&format!("z{n}.test."), 0);
    }
    client(&peer, "lists").await;
    let log = peer.take_log();
    assert!(log.iter().filter(|asked| asked.status == Some(400)).count() == 2, "pages were asked for after a refusal");
}

#[tokio::test]
async fn bulk_writes_make_change_and_delete_sets_and_an_exclusive_one_clears_the_rest() {
    let peer = peer(3).await;
    let serial = peer.model().zone(ZONE).unwrap().serial;
    client(&peer, "bulk").await;
    {
        let model = peer.model();
        let zone = model.zone(ZONE).unwrap();
        assert_eq!(zone.data("www.example.test.", "A"), ["192.0.2.2"]);
        assert_eq!(zone.data("text.example.test.", "TXT"), [r#""a \"b\"" "\195\188""#]);
        assert!(zone.data("gone.example.test.", "AAAA").is_empty());
        assert_eq!(
            (zone.records.len(), zone.serial),
            (3 + 2 + 2, serial + 2),
            "one for each write that changed something"
        );
    }
    client(&peer, "exclusive").await;
    assert_eq!(peer.model().zone(ZONE).unwrap().sets().len(), 2);
}

#[tokio::test]
async fn what_is_refused_arrives_as_the_clients_own_errors() {
    let peer = peer(1).await;
    client(&peer, "refused").await;
    peer.arm(Fault::once(Target::Any, Mishap::Refused(Refusal::RateLimited(Wait::Seconds(1)))));
    client(&peer, "limited").await;
    peer.arm(Fault::once(Target::Any, Mishap::Refused(Refusal::Forbidden)));
    client(&peer, "forbidden").await;
}
