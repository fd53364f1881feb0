//! A DNS provider that wants to be elsewhere than it was granted, through the runtime that providers run in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use crate::world::{World, component, install};
use async_trait::async_trait;
use pve_sim::state::SimConfig;
use serde_json::json;
use wharf_capabilities::{
    call::ZoneBinding,
    http::{Answer, Lost, Prepared, Resolver, Sender, Transport},
};
use wharf_model::object::Zone;

const SECRET: &str = "k3y-of-the-zone-0123456789";

/// An Internet of one machine, and names that point wherever they like. What it answers sends everybody elsewhere.
#[derive(Default)]
struct Trap {
    /// Answers by name, in turn; the last one stays.
    names: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    /// Where connections went: the address, and what was asked for.
    reached: Mutex<Vec<(SocketAddr, String)>>,
}

impl Trap {
    fn name(&self, name: &str, answers: &[&[&str]]) {
        let parsed = answers.iter().map(|list| list.iter().map(|a| a.parse().unwrap()).collect()).collect();
        self.names.lock().unwrap().insert(name.to_owned(), parsed);
    }

    fn take(&self) -> Vec<(SocketAddr, String)> {
        std::mem::take(&mut *self.reached.lock().unwrap())
    }
}

#[async_trait]
impl Transport for Trap {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        let what = format!("{} {}", request.method, request.url);
        self.reached.lock().unwrap().extend(request.addresses.iter().map(|a| (*a, what.clone())));
        let elsewhere = ("location".to_owned(), "https://evil.test/collect".to_owned());
        Ok(Answer { status: 302, headers: vec![elsewhere], body: b"go there".to_vec() })
    }
}

#[async_trait]
impl Resolver for Trap {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let mut names = self.names.lock().unwrap();
        let answers = names.get_mut(host).ok_or_else(|| std::io::Error::other("no such name"))?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

/// What became of each try of a provider whose zone is set to this address: (try, code).
async fn tries(trap: &Arc<Trap>, server: &str, tries: &[&str]) -> BTreeMap<String, String> {
    let world = World::with(SimConfig::default(), Sender::with_transport(trap.clone()).resolving(trap.clone())).await;
    let runtime = world.runtime().await;
    install(&runtime, component("telltale")).await;
    world.secret("zone/own", "api-key", SECRET).await;
    let settings = json!({"server-url": server, "tries": tries.join("\n")});
    let zone = Zone { zone: "own.example.".into(), plugin: "telltale".into(), settings, ..Zone::default() };
    let mut session = runtime.dns(ZoneBinding::new("own", zone, "key")).await.unwrap();
    let checks = session.test_connection(None, false).await.unwrap().answer;
    let of_tries = checks.into_iter().filter(|c| c.step == "try");
    of_tries
        .map(|check| {
            assert!(!check.detail.contains(SECRET), "{}", check.detail);
            let (code, what) = check.detail.split_once(": ").unwrap();
            (what.to_owned(), code.to_owned())
        })
        .collect()
}

#[tokio::test]
async fn a_provider_reaches_the_host_that_was_granted_and_no_other_by_any_spelling_or_redirect() {
    let trap = Arc::new(Trap::default());
    for name in ["api.test", "evil.test", "api.test.evil.test", "xapi.test"] {
        trap.name(name, &[&["1.1.1.1"]]);
    }
    let elsewhere = [
        "https://evil.test/x",
        "https://api.test.evil.test/x",
        "https://xapi.test/x",
        "https://api.test./x",
        "https://api.test:8443/x",
        "http://api.test/x",
        "https://1.1.1.1/x",
        "https://127.0.0.1/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://017700000001/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[::1]/x",
        "https://169.254.169.254/x",
        "https://api.test/x/../../y/z",
        "https://api.test@evil.test/x",
        "https://evil.test#@api.test/x",
        "https://evil.test\\@api.test/x",
        "https:evil.test/x",
        "//evil.test/x",
        "file:///etc/passwd",
        "ftp://api.test/x",
    ];
    let asked: Vec<String> = elsewhere.iter().map(|url| format!("GET {url}")).collect();
    let mut all: Vec<&str> = asked.iter().map(String::as_str).collect();
    all.push("GET https://api.test/x");
    let became = tries(&trap, "https://api.test", &all).await;
    assert_eq!(became["GET https://api.test/x"], "answered 302", "the one that was granted");
    for one in &asked {
        assert!(matches!(became[one].as_str(), "rule" | "malformed"), "{one}: {}", became[one]);
    }
    // The redirect was shown to the plugin, and followed by nobody.
    for (address, what) in trap.take() {
        assert_eq!(address, "1.1.1.1:443".parse().unwrap());
        assert!(what.split(' ').nth(1).unwrap().starts_with("https://api.test/"), "{what}");
        assert!(!what.contains(SECRET), "{what}");
    }
}

#[tokio::test]
async fn a_granted_name_that_leads_inside_is_not_followed_there_and_neither_is_one_that_changes() {
    let trap = Arc::new(Trap::default());
    trap.name("inside.test", &[&["10.0.0.5"]]);
    trap.name("mixed.test", &[&["1.1.1.1", "169.254.169.254"]]);
    for host in ["inside.test", "mixed.test", "127.1", "0x7f000001", "2130706433", "017700000001", "[::ffff:10.0.0.1]"]
    {
        let one = format!("GET https://{host}/x");
        let became = tries(&trap, &format!("https://{host}"), &[&one]).await;
        assert_eq!(became[&one], "address-refused", "{host}");
    }
    assert!(trap.take().is_empty());

    // DNS rebinding: good when it was looked at, bad when it is used. What was looked at is what is used; asked again it is refused.
    let good: &[&str] = &["1.1.1.1"];
    // Before its tries the plugin makes three requests that may be made.
    trap.name("rebound.test", &[good, good, good, good, &["127.0.0.1"]]);
    let became =
        tries(&trap, "https://rebound.test", &["GET https://rebound.test/1", "GET https://rebound.test/2"]).await;
    assert_eq!(became["GET https://rebound.test/1"], "answered 302");
    assert_eq!(became["GET https://rebound.test/2"], "address-refused");
    assert!(trap.take().iter().all(|(address, _)| *address == "1.1.1.1:443".parse().unwrap()));
}

#[tokio::test]
async fn credentials_that_reach_more_zones_are_good_for_the_zone_at_hand_alone() {
    let trap = Arc::new(Trap::default());
    trap.name("api.test", &[&["1.1.1.1"]]);
    let own = [
        "PUT https://api.test/zones/own.example/records",
        "POST https://api.test/panel/run domain=own.example",
        "POST https://api.test/panel/run domain=OWN.example.",
    ];
    let sibling = [
        "PUT https://api.test/zones/sibling.example/records",
        "PUT https://api.test/zones/own.example%2F..%2Fsibling.example/records",
        "PUT https://api.test/zones/own.example/../sibling.example/records",
        "POST https://api.test/panel/run domain=sibling.example",
        "POST https://api.test/panel/run domain=own.example&domain=sibling.example",
        "POST https://api.test/panel/run domain=own.example&domain[]=sibling.example",
        "POST https://api.test/panel/run?domain=sibling.example domain=own.example",
        "POST https://api.test/panel/run",
    ];
    let became = tries(&trap, "https://api.test", &[own.as_slice(), sibling.as_slice()].concat()).await;
    for one in own {
        assert_eq!(became[one], "answered 302", "{one}");
    }
    for one in sibling {
        assert_eq!(became[one], "rule", "{one}");
    }
    assert!(trap.take().iter().all(|(_, what)| !what.contains("sibling")));
}
