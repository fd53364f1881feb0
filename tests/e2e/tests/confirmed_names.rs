//! What the world sees of a VM's names, asked at a real PowerDNS: classless reverse zones, and names that lead there and back.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    journey::{Built, House, Setup},
    powerdns::{Dns, PowerDns},
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(120);
const KEY: &str = "key-of-the-world";
const PARENT: &str = "2.0.192.in-addr.arpa.";
const CLASSLESS: &str = "0/26.2.0.192.in-addr.arpa.";

fn wharf(house: &House, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = std::process::Command::new(Built::in_target().unwrap().wharf)
        .args(arguments)
        .args(["--url", &house.client.url, "--token", &house.client.token])
        .output()
        .unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// The service's one address, as the host sees it through its resolver.
async fn measured(house: &House) -> Value {
    house.client.get("/v1/services/shop:1/names").await.unwrap()[0].clone()
}

async fn until_verdict(house: &House, verdict: &str) -> Value {
    let begun = Instant::now();
    loop {
        let one = measured(house).await;
        if one["verdict"] == verdict {
            return one;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "not {verdict}: {one}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_in_a_classless_zone_is_confirmed_once_the_parent_has_its_part() {
    let folder = tempfile::tempdir().unwrap();
    // The world: one server that holds everything, and that the host asks as its resolver.
    let world = PowerDns::start(&folder.path().join("world"), KEY, Dns::Real).await.unwrap();
    for zone in ["example.com.", PARENT, CLASSLESS] {
        world.create_zone(zone).await.unwrap();
    }
    let settings =
        format!("[dns]\nresolvers = [\"127.0.0.1:{}\"]\n[names]\nallow = [\"127.0.0.0/8\"]\n", world.dns_port);
    let house =
        House::with(&folder.path().join("house"), Built::in_target().unwrap(), Setup { settings, ..Setup::default() })
            .await
            .unwrap();
    let mut grant = house.client.get("/v1/admin/grants/dns-powerdns").await.unwrap()["body"].clone();
    grant["private_origins"] = json!([house.dns.api, world.api]);
    house.client.put("/v1/admin/grants/dns-powerdns", &grant).await.unwrap();
    for (name, zone) in [("forward", "example.com"), ("reverse-v4", CLASSLESS)] {
        let settings = json!({"server-url": world.api, "api-key": KEY});
        let body = json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings, "ttl": 300});
        house.client.put(&format!("/v1/admin/zones/{name}"), &body).await.unwrap();
    }
    house.whmcs.post("create", &params(1, "linked", "", json!({}))).await.unwrap();
    house.until("1", "active", PATIENCE).await.unwrap();
    let address = house.client.get("/v1/services/shop:1").await.unwrap()["addresses"][0].as_str().unwrap().to_owned();
    let last = address.rsplit('.').next().unwrap().to_owned();
    let (plain, owner) = (format!("{last}.{PARENT}"), format!("{last}.{CLASSLESS}"));
    let begun = Instant::now();
    while world.dig(&owner, "PTR").await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the PTR does not come");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // Written, and nobody finds it: the parent has no CNAME.
    let lost = until_verdict(&house, "no-ptr").await;
    let begun = Instant::now();
    while measured(&house).await["warning"].is_null() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{lost}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (code, said) = wharf(&house, &["service", "names", "shop:1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("PTR written but unreachable") && said.contains("wharf zone parent reverse-v4"), "{said}");

    // What the parent must enter is told line by line, and is entered as it is told.
    let (code, said) = wharf(&house, &["zone", "parent", "reverse-v4"]);
    assert_eq!(code, Some(1), "{said}");
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("\tIN\t")).collect();
    assert_eq!(lines.iter().filter(|l| l.contains("\tCNAME\t")).count(), 64, "{said}");
    assert!(lines.iter().any(|l| l.starts_with(&format!("{CLASSLESS}\tIN\tNS\tns1.example.net."))), "{said}");
    let line = lines.iter().find(|l| l.starts_with(&format!("{plain}\tIN\tCNAME\t"))).unwrap();
    let target = line.split('\t').nth(3).unwrap();
    assert_eq!((target, line.ends_with("; missing")), (owner.as_str(), true), "{line}");
    world.set(PARENT, &plain, "CNAME", &[target]).await.unwrap();
    let (_, said) = wharf(&house, &["zone", "parent", "reverse-v4"]);
    assert!(said.lines().any(|l| l == format!("{plain}\tIN\tCNAME\t{target}")), "{said}");

    let good = until_verdict(&house, "pass").await;
    assert_eq!(good["by"], json!([owner]), "{good}");
    assert_eq!((&good["ptr"], &good["warning"]), (&json!(["42-1.example.com."]), &Value::Null));
    let (code, said) = wharf(&house, &["service", "names", "shop:1"]);
    assert_eq!(code, Some(0), "{said}");

    // Somebody else's hands at the server: each way to be wrong has its name.
    let forward = "42-1.example.com.";
    world.set("example.com.", forward, "A", &["198.51.100.7"]).await.unwrap();
    assert_eq!(until_verdict(&house, "mismatch").await["forward"], json!(["198.51.100.7"]));
    world.set("example.com.", forward, "A", &[]).await.unwrap();
    until_verdict(&house, "forward-missing").await;
    world.set(CLASSLESS, &owner, "PTR", &["42-1.example.com.", "other.example.com."]).await.unwrap();
    until_verdict(&house, "several-ptr").await;
    // Its name is in a zone that this server does not hold: it refuses to say anything.
    world.set(CLASSLESS, &owner, "PTR", &["vm.elsewhere.example."]).await.unwrap();
    let unknown = until_verdict(&house, "temp-error").await;
    assert!(unknown["error"].is_string(), "{unknown}");

    // The list for other people's tools needs no token, and an address that is listed.
    let answer = http().get(format!("{}/v1/names", house.client.url)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let listed: Value = answer.json().await.unwrap();
    let ours = listed.as_array().unwrap().iter().find(|n| n["ip"] == json!(address)).unwrap();
    assert_eq!(*ours, json!({"forward": forward, "ip": address, "reverse": forward}));

    // A zone of plain names has no such parent; a range that is none is refused before anything is kept.
    let (code, said) = wharf(&house, &["zone", "parent", "forward"]);
    assert!(code == Some(1) && said.contains("no classless reverse zone"), "{said}");
    let settings = json!({"server-url": world.api, "api-key": KEY});
    for (zone, covers) in
        [("rev.example.com", "192.0.2.64/24"), ("rev.example.com", "192.0.2.70/26"), (PARENT, "192.0.2.64/26")]
    {
        let body = json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings, "covers": covers});
        let request = http().put(format!("{}/v1/admin/zones/wrong", house.client.url)).bearer_auth(&house.client.token);
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 422, "{zone} {covers}");
        assert!(answer.text().await.unwrap().contains("covers"), "{zone} {covers}");
    }
}
