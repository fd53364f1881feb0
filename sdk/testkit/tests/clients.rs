//! Façades asked by clients that others wrote for the real ones: that they work makes a façade credible.
//!
//! octoDNS and dns-lexicon are on PyPI; `.ci/requirements.txt` pins them. What they do is in `clients/`; both read back what they
//! wrote, so a façade that stores or shows something in another way than the real one does is found. A façade is one more entry in
//! the tables here and in the scripts. `tests/e2e/tests/powerdns.rs` lets them do the same with a real PowerDNS.

use crate::script;
use serde_json::{Value, json};
use wharf_testkit::{
    facade::Facade,
    facades::{cloudflare::Cloudflare, desec::Desec, powerdns::PowerDns},
    peer::{Asked, Peer},
};

const ZONE: &str = "example.com.";

/// The façades that octoDNS can be pointed at.
fn for_octodns() -> Vec<(&'static str, Box<dyn Facade>)> {
    vec![
        ("cloudflare", Box::<Cloudflare>::default()),
        ("desec", Box::<Desec>::default()),
        ("powerdns", Box::<PowerDns>::default()),
    ]
}

/// The façades that lexicon can be pointed at.
fn for_lexicon() -> Vec<(&'static str, Box<dyn Facade>)> {
    vec![("cloudflare", Box::<Cloudflare>::default()), ("powerdns", Box::<PowerDns>::default())]
}

async fn served(facade: Box<dyn Facade>, foreign: usize) -> Peer {
    let peer = Peer::start(facade).await.unwrap();
    peer.add_zone(ZONE, foreign);
    peer
}

/// Lets a client do one of its parts; what it printed.
async fn client(script: &str, api: &str, peer: &Peer, what: &str) -> Value {
    let settings = peer.zone_settings(ZONE).to_string();
    let said = script::run(script, &[api, &peer.url, &settings, ZONE, what]).await;
    serde_json::from_str(&said).unwrap_or(Value::Null)
}

fn data(peer: &Peer, name: &str, rtype: &str) -> Vec<String> {
    let model = peer.model();
    model.zone(ZONE).unwrap().data(&format!("{name}.{ZONE}"), rtype).into_iter().map(str::to_owned).collect()
}

fn refusals(asked: &[Asked]) -> Vec<String> {
    let bad = asked.iter().filter(|a| a.status.is_none_or(|s| s >= 400));
    bad.map(|a| format!("{:?} {} {}", a.status, a.request.method, a.request.path)).collect()
}

#[tokio::test]
async fn octodns_makes_a_zone_what_its_plan_says_and_then_finds_nothing_to_do() {
    for (api, facade) in for_octodns() {
        let peer = served(facade, 0).await;
        client("octodns_client.py", api, &peer, "build").await;
        assert_eq!(data(&peer, "www", "A"), ["192.0.2.1", "192.0.2.2"], "{api}");
        assert_eq!(data(&peer, "7", "PTR"), ["vm.example.com."], "{api}");
        assert_eq!(data(&peer, "host-119", "A"), ["198.51.100.120"], "{api}");
        client("octodns_client.py", api, &peer, "change").await;
        assert_eq!(data(&peer, "www", "A"), ["192.0.2.2", "192.0.2.3"], "{api}");
        assert_eq!(
            peer.model().zone(ZONE).unwrap().of("www.example.com.", "A").next().unwrap().ttl,
            Some(7200),
            "{api}"
        );
        assert!(data(&peer, "note", "TXT").is_empty(), "{api}");
        client("octodns_client.py", api, &peer, "retype").await;
        assert_eq!(data(&peer, "host-7", "CNAME"), ["www.example.com."], "{api}");
        assert!(data(&peer, "host-7", "A").is_empty(), "{api}");
        assert_eq!(data(&peer, "alias", "A"), ["192.0.2.77"], "{api}");
        let left = client("octodns_client.py", api, &peer, "clear").await;
        assert_eq!(left, json!([["last", "A", 3600, ["192.0.2.200"]]]), "{api}");
        assert_eq!(refusals(&peer.take_log()), Vec::<String>::new(), "{api}");
    }
}

#[tokio::test]
async fn lexicon_makes_changes_and_deletes_single_records_and_others_survive() {
    for (api, facade) in for_lexicon() {
        let peer = served(facade, 2).await;
        let before = peer.model().zone(ZONE).unwrap().picture();
        client("lexicon_client.py", api, &peer, "records").await;
        assert_eq!(data(&peer, "www", "A"), ["192.0.2.3"], "{api}");
        assert_eq!(data(&peer, "alias", "CNAME"), ["www.example.com."], "{api}");
        assert!(peer.model().zone(ZONE).unwrap().picture().is_superset(&before), "{api}: others' records were touched");
    }
}

#[tokio::test]
async fn lexicon_reads_every_page() {
    for (api, facade) in for_lexicon() {
        let peer = served(facade, 230).await;
        // Its zone is not on the first page of zones either.
        for n in 0..60 {
            peer.add_zone(&format!("a{n}.test."), 0);
        }
        client("lexicon_client.py", api, &peer, "pages").await;
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_in_words_that_the_clients_understand() {
    for (script, facades) in [("octodns_client.py", for_octodns()), ("lexicon_client.py", for_lexicon())] {
        for (api, facade) in facades {
            let peer = served(facade, 1).await;
            client(script, api, &peer, "refused").await;
            let log = peer.take_log();
            assert!(!log.is_empty() && log.iter().all(|a| matches!(a.status, Some(401 | 403))), "{api}: {log:?}");
        }
    }
}
