//! Our PowerDNS against the real one, by requests and by clients that others wrote for it, and the demo's DNS on ours.

use crate::script;
use std::time::Duration;

use serde_json::{Value, json};
use wharf_e2e::{
    client::http,
    journey::{Built, House, Setup},
    powerdns::{Dns, PowerDns},
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Status, content type and body, without what is the server's own: dates in serials, and the order of what was found.
async fn ask(server: &PowerDns, key: &str, method: &str, path: &str, body: &str) -> (u16, String, Value) {
    let method = method.parse().unwrap();
    let url = format!("{}/api/v1/servers{path}", server.api);
    let answer = http().request(method, url).header("X-API-Key", key).body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    let header = answer.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let text = answer.text().await.unwrap();
    let mut value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    neutral(&mut value);
    (status, header.split(';').next().unwrap_or_default().to_owned(), value)
}

fn neutral(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(neutral);
            list.sort_by_key(Value::to_string);
        }
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::Number(number) if key.ends_with("serial") => *value = json!(number.as_u64() > Some(0)),
                    Value::String(text) if text.contains(" hostmaster.") => {
                        let words: Vec<&str> =
                            text.split(' ').enumerate().filter(|(n, _)| *n != 2).map(|w| w.1).collect();
                        *value = words.join(" ").into();
                    }
                    other => neutral(other),
                }
            }
        }
        _ => {}
    }
}

/// A request that replaces one set.
fn replace(name: &str, rtype: &str, values: &[&str]) -> Value {
    let records: Vec<Value> = values.iter().map(|v| json!({"content": v, "disabled": false})).collect();
    json!({"name": name, "type": rtype, "ttl": 300, "changetype": "REPLACE", "records": records})
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_answers_as_the_real_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let real = PowerDns::start(&dir.path().join("real"), "key", Dns::Real).await.unwrap();
    let ours = PowerDns::start(&dir.path().join("ours"), "key", Dns::Ours).await.unwrap();
    let zone = "/localhost/zones/example.com.";
    let of = |sets: Value| json!({"rrsets": sets}).to_string();
    let set = |name: &str, rtype: &str, values: &[&str]| of(json!([replace(name, rtype, values)]));
    let mut disabled = replace("a.example.com.", "A", &["192.0.2.1", "192.0.2.2"]);
    disabled["records"][1]["disabled"] = json!(true);
    let without = |key: &str| {
        let mut set = replace("w.example.com.", "A", &["192.0.2.1"]);
        set.as_object_mut().unwrap().remove(key);
        of(json!([set]))
    };
    let with = |key: &str, value: Value| {
        let mut set = replace("w.example.com.", "A", &["192.0.2.1"]);
        set[key] = value;
        of(json!([set]))
    };
    let delete = |name: &str, rtype: &str| json!({"name": name, "type": rtype, "changetype": "DELETE"});
    let new = |name: &str, server: &str| json!({"name": name, "kind": "Native", "nameservers": [server]}).to_string();
    let script: Vec<(&str, String, String)> = vec![
        ("GET", "/localhost".into(), String::new()),
        ("GET", "/elsewhere".into(), String::new()),
        ("GET", "/localhost/zones".into(), String::new()),
        ("POST", "/localhost/zones".into(), new("example.com.", "ns1.example.net.")),
        ("POST", "/localhost/zones".into(), new("example.com.", "ns1.example.net.")),
        ("POST", "/localhost/zones".into(), new("example.org", "ns1.example.net.")),
        ("POST", "/localhost/zones".into(), new("example.org.", "ns1.example.net")),
        ("POST", "/localhost/zones".into(), new("0/25.2.0.192.in-addr.arpa.", "ns1.example.net.")),
        ("GET", "/localhost/zones".into(), String::new()),
        ("GET", "/localhost/zones?zone=example.com.&dnssec=false".into(), String::new()),
        ("GET", "/localhost/zones?zone=example.net.".into(), String::new()),
        ("GET", "/localhost/zones/example.net.".into(), String::new()),
        ("GET", "/localhost/zones/0=2F25.2.0.192.in-addr.arpa.".into(), String::new()),
        ("PATCH", "/localhost/zones/example.net.".into(), set("a.example.net.", "A", &["192.0.2.1"])),
        ("PATCH", zone.into(), of(json!([disabled]))),
        ("GET", zone.into(), String::new()),
        ("GET", format!("{zone}?rrsets=false"), String::new()),
        ("GET", format!("{zone}?rrset_name=a.example.com.&rrset_type=A"), String::new()),
        ("GET", format!("{zone}?rrset_name=a.example.com.&rrset_type=AAAA"), String::new()),
        ("GET", format!("{zone}?rrset_name=a.example.com."), String::new()),
        ("GET", "/localhost/search-data?q=a.example.com&max=10&object_type=record".into(), String::new()),
        ("GET", "/localhost/search-data?q=example.com&max=10".into(), String::new()),
        ("GET", "/localhost/search-data?q=192.0.2.1&max=10&object_type=record".into(), String::new()),
        ("GET", "/localhost/search-data?q=nothing.example.com&max=10&object_type=record".into(), String::new()),
        ("PATCH", zone.into(), set("A.example.com.", "AAAA", &["2001:DB8:0::1"])),
        ("PATCH", zone.into(), set("p.example.com.", "PTR", &["VM1.example.test."])),
        ("PATCH", zone.into(), set("p.example.com.", "PTR", &["vm1.example.test"])),
        ("PATCH", zone.into(), set("p.example.com", "A", &["192.0.2.1"])),
        ("PATCH", zone.into(), set("p..example.com.", "A", &["192.0.2.1"])),
        ("PATCH", zone.into(), set("{{api-key}}.example.com.", "A", &["192.0.2.1"])),
        ("PATCH", zone.into(), set("p.example.net.", "A", &["192.0.2.1"])),
        ("PATCH", zone.into(), set("notexample.com.", "A", &["192.0.2.1"])),
        ("PATCH", zone.into(), set("p2.example.com.", "A", &["192.0.2.256"])),
        ("PATCH", zone.into(), set("p2.example.com.", "AAAA", &["192.0.2.1"])),
        ("PATCH", zone.into(), set("p2.example.com.", "A", &["192.0.2.1", "192.0.2.1"])),
        ("PATCH", zone.into(), set("p2.example.com.", "BOGUS", &["x"])),
        ("PATCH", zone.into(), set("t.example.com.", "TXT", &["bare"])),
        ("PATCH", zone.into(), set("t.example.com.", "TXT", &["\"quoted\""])),
        ("PATCH", zone.into(), set("a.example.com.", "CNAME", &["b.example.com."])),
        ("PATCH", zone.into(), set("c.example.com.", "CNAME", &["b.example.com."])),
        ("PATCH", zone.into(), set("c.example.com.", "A", &["192.0.2.3"])),
        ("PATCH", zone.into(), without("ttl")),
        ("PATCH", zone.into(), without("changetype")),
        ("PATCH", zone.into(), without("records")),
        ("PATCH", zone.into(), without("name")),
        ("PATCH", zone.into(), without("type")),
        ("PATCH", zone.into(), with("changetype", json!("EXTEND"))),
        ("PATCH", zone.into(), with("changetype", json!("replace"))),
        ("PATCH", zone.into(), with("ttl", json!("300"))),
        ("PATCH", zone.into(), with("ttl", json!(-1))),
        ("PATCH", zone.into(), with("records", json!([{"disabled": false}]))),
        ("PATCH", zone.into(), of(json!([delete("none.example.com.", "A")]))),
        (
            "PATCH",
            zone.into(),
            of(json!([delete("c.example.com.", "CNAME"), replace("c.example.com.", "A", &["192.0.2.4"])])),
        ),
        // Of a request with one bad set nothing is done.
        (
            "PATCH",
            zone.into(),
            of(json!([
                replace("good.example.com.", "A", &["192.0.2.5"]),
                replace("bad.example.com.", "A", &["192.0.2.256"])
            ])),
        ),
        (
            "PATCH",
            zone.into(),
            of(json!([replace("d.example.com.", "A", &["192.0.2.5"]), replace("d.example.com.", "A", &["192.0.2.6"])])),
        ),
        ("PATCH", zone.into(), set("t.example.com.", "TXT", &[])),
        ("PATCH", zone.into(), "{\"rrsets\": [".into()),
        ("PATCH", zone.into(), "{}".into()),
        ("GET", zone.into(), String::new()),
        ("PUT", format!("{zone}/notify"), String::new()),
        ("PUT", "/localhost/zones/example.net./notify".into(), String::new()),
    ];
    for (method, path, body) in script {
        let real = ask(&real, "key", method, &path, &body).await;
        assert_eq!(ask(&ours, "key", method, &path, &body).await, real, "{method} {path} {body}");
    }
    assert_eq!(
        ask(&ours, "another", "GET", "/localhost", "").await,
        ask(&real, "another", "GET", "/localhost", "").await
    );
    for (name, rtype) in [
        ("a.example.com", "A"),
        ("a.example.com", "AAAA"),
        ("A.EXAMPLE.com", "AAAA"),
        ("p.example.com", "PTR"),
        ("nothing.example.com", "A"),
        ("example.com", "NS"),
        ("example.net", "A"),
    ] {
        // Our own questions, too, are held against `dig`.
        let expected = real.dig(name, rtype).await.unwrap();
        assert_eq!(ours.dig(name, rtype).await.unwrap(), expected, "{name} {rtype}");
        match wharf_e2e::dns::query(ours.dns_port, name, rtype).await {
            Ok(values) => assert_eq!(values, expected, "{name} {rtype}"),
            Err(error) => assert!(name == "example.net" && error.to_string().contains("Refused"), "{error}"),
        }
        let asked = wharf_e2e::dns::query(real.dns_port, name, rtype).await;
        assert_eq!(asked.is_err(), name == "example.net", "{asked:?}");
    }
}

/// octoDNS and lexicon read the same from both after each of their parts.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_others_do_the_same_with_ours_as_with_the_real_one() {
    let dir = tempfile::tempdir().unwrap();
    let real = PowerDns::start(&dir.path().join("real"), "key", Dns::Real).await.unwrap();
    let ours = PowerDns::start(&dir.path().join("ours"), "key", Dns::Ours).await.unwrap();
    let settings = json!({"api-key": "key"}).to_string();
    let mut parts: Vec<(&str, &str, &str)> =
        ["build", "change", "retype", "clear"].map(|part| ("octodns_client.py", "example.com.", part)).to_vec();
    parts.push(("lexicon_client.py", "example.org.", "records"));
    parts.extend(["octodns_client.py", "lexicon_client.py"].map(|script| (script, "example.org.", "refused")));
    for server in [&real, &ours] {
        for zone in ["example.com.", "example.org."] {
            server.create_zone(zone).await.unwrap();
        }
    }
    for (script, zone, part) in parts {
        let said =
            async |server: &PowerDns| script::run(script, &["powerdns", &server.api, &settings, zone, part]).await;
        let expected = said(&real).await;
        assert_eq!(said(&ours).await, expected, "{script} {part}");
        assert!(part == "refused" || expected.len() > 10, "{script} {part}: {expected}");
        assert_eq!(ours.records(zone).await.unwrap(), real.records(zone).await.unwrap(), "{script} {part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_real_one_a_vm_is_named_in_ours() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { dns: Dns::Ours, ..Setup::default() };
    let house = House::with(dir.path(), Built::in_target().unwrap(), setup).await.unwrap();
    assert!(house.dns.what().contains("our own"));
    for zone in ["forward", "reverse-v4", "reverse-v6"] {
        let test = house.client.post(&format!("/v1/admin/zones/{zone}/test"), &json!({})).await.unwrap();
        assert_eq!(test["ok"], true, "{test}");
    }
    house.dns.add("example.com.", "stranger.example.com.", "A", "198.51.100.7").await.unwrap();
    let order = params(6101, "dual-stack", "", json!({}));
    let (status, body) = house.whmcs.post("create", &order).await.unwrap();
    assert_eq!((status, body.trim()), (200, "success"));
    let service = house.until("6101", "active", PATIENCE).await.unwrap();
    let expected = wharf_e2e::journey::names_of(&service, "42-6101.example.com.").unwrap();
    assert_eq!(expected.len(), 4, "A, AAAA and two PTR: {expected:?}");
    for (name, rtype, value) in &expected {
        // As the demo asks where `dig` is missing.
        let values = wharf_e2e::dns::query(house.dns.dns_port, name, rtype).await.unwrap();
        assert_eq!(&values, &[value.to_owned()], "{name} {rtype}");
    }
    let (status, _) = house.whmcs.post("terminate", &order).await.unwrap();
    assert_eq!(status, 200);
    house.until("6101", "terminated", PATIENCE).await.unwrap();
    for (name, rtype, _) in &expected {
        assert!(house.dns.dig(name, rtype).await.unwrap().is_empty(), "{name} {rtype} is left");
    }
    assert_eq!(house.dns.dig("stranger.example.com", "A").await.unwrap(), ["198.51.100.7"]);
}
