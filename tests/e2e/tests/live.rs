//! The conformance kit in a zone of a real PowerDNS.

use std::path::PathBuf;

use serde_json::json;
use wharf_conformance::{Kit, LiveSubject, all};
use wharf_e2e::powerdns::{Dns, PowerDns};
use wharf_plugins::Compiler;

#[tokio::test(flavor = "multi_thread")]
async fn the_kit_plays_in_a_live_zone_and_leaves_it_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let dns = PowerDns::start(&dir.path().join("dns"), "a-key-of-this-test", Dns::Any).await.unwrap();
    dns.create_zone("example.com.").await.unwrap();
    dns.add("example.com.", "www.example.com.", "A", "198.51.100.7").await.unwrap();
    let before = dns.get("/api/v1/servers/localhost/zones/example.com.").await.unwrap()["rrsets"].clone();
    let plugins = std::env::var_os("WHARF_PLUGINS_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")), PathBuf::from);
    let subject = LiveSubject {
        component: std::fs::read(plugins.join("dns-powerdns.wasm")).expect("run `cargo xtask plugins` first"),
        zone: "example.com.".into(),
        settings: json!({"server-url": dns.api, "api-key": dns.key}),
        private_origins: [dns.api.clone()].into(),
        facade: None,
        compiler: Compiler::InProcess,
    };
    let kit = Kit::open_live(subject, dir.path()).await.unwrap();
    assert_eq!(kit.others().await.unwrap().len(), 1);
    let mut results = Vec::new();
    for case in all() {
        assert_eq!(kit.sweep().await.unwrap(), [] as [String; 0]);
        results.push(kit.run(case).await);
    }
    let report = kit.report(results);
    println!("against {}: {report}", dns.what());
    let (passed, failed, _) = report.counts();
    assert!(failed == 0 && passed >= 18, "see above");
    assert_eq!(kit.sweep().await.unwrap(), [] as [String; 0]);
    let without_serial = |sets: &serde_json::Value| {
        let mut sets: Vec<_> = sets.as_array().unwrap().iter().filter(|s| s["type"] != "SOA").cloned().collect();
        sets.sort_by_key(ToString::to_string);
        sets
    };
    let after = dns.get("/api/v1/servers/localhost/zones/example.com.").await.unwrap()["rrsets"].clone();
    assert_eq!(without_serial(&after), without_serial(&before));
}
