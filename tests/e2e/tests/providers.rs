//! DNS providers in other languages, through the real host binary into a real PowerDNS.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use wharf_e2e::{
    journey::{Built, DNS_KEY, House},
    whmcs::params,
};
use wharf_testkit::{
    facade::Refusal,
    facades::powerdns::PowerDns,
    faults::{Fault, Mishap, Target},
    peer::Peer,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Where `cargo xtask plugins` puts components.
fn provider(id: &str) -> Vec<u8> {
    let dir = std::env::var_os("WHARF_PLUGINS_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")), PathBuf::from);
    let path = dir.join(format!("{id}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{} ({e}): run `cargo xtask plugins` first", path.display()))
}

/// Deploys with all three zones at this provider, and terminates: A and PTR appear, and go again, and what others wrote
/// stays.
async fn names_a_vm(id: &str) {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let wants = "wharf:base/common,wharf:base/log,wharf:base/clock,wharf:base/entropy,wharf:http/client,wharf:dns/zones,wharf:dns/calls";
    house.client.upload(&format!("/v1/admin/plugins?allow={wants}"), provider(id)).await.unwrap();
    let mut grant = house.client.get(&format!("/v1/admin/grants/{id}")).await.unwrap()["body"].clone();
    grant["private_origins"] = json!([house.dns.api]);
    house.client.put(&format!("/v1/admin/grants/{id}"), &grant).await.unwrap();
    for (name, zone) in [("forward", "example.com"), ("reverse-v4", "2.0.192.in-addr.arpa")] {
        let settings = json!({"server-url": house.dns.api, "api-key": DNS_KEY});
        let body = json!({"zone": zone, "plugin": id, "settings": settings, "ttl": 300});
        house.client.put(&format!("/v1/admin/zones/{name}"), &body).await.unwrap();
        let test = house.client.post(&format!("/v1/admin/zones/{name}/test"), &json!({})).await.unwrap();
        assert_eq!(test["ok"], true, "{test}");
    }
    let stranger = "stranger.example.com.";
    house.dns.add("example.com.", stranger, "A", "198.51.100.7").await.unwrap();
    let (status, body) = house.whmcs.post("create", &params(6001, "linked", "", json!({}))).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    house.until("6001", "active", PATIENCE).await.unwrap();
    assert_eq!(
        house.dns.dig("10.2.0.192.in-addr.arpa", "PTR").await.unwrap(),
        ["42-6001.example.com."],
        "{}",
        house.client.text("/v1/services/shop:6001/log").await.unwrap()
    );
    assert_eq!(house.dns.dig("42-6001.example.com", "A").await.unwrap(), ["192.0.2.10"]);
    let log = house.client.text("/v1/services/shop:6001/log").await.unwrap();
    assert!(log.contains(&format!("rev OK  {id} reverse-v4")), "{log}");
    house.whmcs.post("terminate", &params(6001, "linked", "", json!({}))).await.unwrap();
    house.until("6001", "terminated", PATIENCE).await.unwrap();
    for (name, rtype) in [("10.2.0.192.in-addr.arpa", "PTR"), ("42-6001.example.com", "A")] {
        assert!(house.dns.dig(name, rtype).await.unwrap().is_empty(), "{name} {rtype} is left");
    }
    assert_eq!(house.dns.dig(stranger, "A").await.unwrap(), ["198.51.100.7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_in_javascript_names_a_vm_in_a_real_powerdns() {
    names_a_vm("test-provider-js").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_in_python_names_a_vm_in_a_real_powerdns() {
    names_a_vm("test-provider-python").await;
}

/// What is mended at the provider can't be seen here, so the button has to do it.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_zone_is_left_alone_until_the_test_of_an_admin_passes() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let peer = Peer::start(Box::new(PowerDns::default())).await.unwrap();
    peer.add_zone("example.com.", 3);
    let mut grant = house.client.get("/v1/admin/grants/dns-powerdns").await.unwrap()["body"].clone();
    grant["private_origins"] = json!([house.dns.api, peer.url]);
    house.client.put("/v1/admin/grants/dns-powerdns", &grant).await.unwrap();
    let zone = json!({"zone": "example.com", "plugin": "dns-powerdns", "settings": peer.zone_settings("example.com.")});
    house.client.put("/v1/admin/zones/forward", &zone).await.unwrap();
    peer.arm(Fault::always(Target::Any, Mishap::Refused(Refusal::Credentials)));

    let (status, body) = house.whmcs.post("create", &params(6401, "linked", "", json!({}))).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    house.until("6401", "active", PATIENCE).await.unwrap();
    let parked = async || house.client.get("/v1/admin/zones/forward").await.unwrap()["body"]["parked"].clone();
    let until = async |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let began = std::time::Instant::now();
        while !is_so(&parked().await) {
            assert!(began.elapsed() < PATIENCE, "{what}: {}", parked().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until("parked", &|parked| parked["reason"].is_string()).await;
    assert!(house.client.text("/metrics").await.unwrap().contains("wharf_zones_parked 1\n"));

    // Not mended: asked once for the test, and nothing else is sent.
    peer.take_log();
    let test = house.client.post("/v1/admin/zones/forward/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], false, "{test}");
    until("parked still", &|parked| parked["reason"].is_string()).await;
    assert_eq!(peer.take_log().len(), 1);

    peer.clear_faults();
    let test = house.client.post("/v1/admin/zones/forward/test", &json!({})).await.unwrap();
    assert_eq!(test["ok"], true, "{test}");
    until("released", &Value::is_null).await;
    let there = || !peer.model().zone("example.com.").unwrap().data("42-6401.example.com.", "A").is_empty();
    let began = std::time::Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(30), "its records are due at once");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
