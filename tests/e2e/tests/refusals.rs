//! What an admin reads at night: every wrong entry is refused with a sentence that names the field and the remedy.
//!
//! The sentences are printed (`--nocapture`), to be read as a whole by whoever changes one.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharf_e2e::{
    client::http,
    journey::{Built, House},
};

/// A wrong entry.
struct Wrong {
    what: &'static str,
    path: &'static str,
    body: Value,
    /// The field that is named, as the body has it.
    field: &'static str,
    /// Words of the reason and of the remedy.
    says: &'static [&'static str],
}

fn wrong(
    what: &'static str,
    path: &'static str,
    body: Value,
    field: &'static str,
    says: &'static [&'static str],
) -> Wrong {
    Wrong { what, path, body, field, says }
}

/// `body` with other values.
fn with(mut body: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn entries(house: &House) -> Vec<Wrong> {
    let server = json!({"urls": ["https://pve1:8006"], "token_id": "wharf@pve!wharf", "secret": "11111111-2222"});
    let pool = json!({
        "server": "pve", "bridge": "vmbr0", "first": "198.51.100.10", "last": "198.51.100.20", "prefix_length": 24,
        "gateway": "198.51.100.1",
    });
    let plan = |settings: Value| json!({"plugin": "proxmox-kvm", "server": "pve", "settings": settings});
    let zone = |settings: Value| json!({"zone": "example.net", "plugin": "dns-powerdns", "settings": settings});
    let hook = |settings: Value| json!({"plugin": "hook-webhook", "settings": settings});
    let panel = json!({"plugin": "panel-whmcs", "plans": ["linked"]});
    let dns = json!({"server-url": house.dns.api, "api-key": "a-key"});
    let key = "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy";
    vec![
        wrong(
            "a server's address without scheme",
            "servers/new",
            with(server.clone(), json!({"urls": ["pve1:8006"]})),
            "urls",
            &["https://"],
        ),
        wrong(
            "a server without address",
            "servers/new",
            with(server.clone(), json!({"urls": []})),
            "urls",
            &["at least one", "https://"],
        ),
        wrong(
            "a server's token without name",
            "servers/new",
            with(server.clone(), json!({"token_id": "root@pam"})),
            "token_id",
            &["user@realm!name"],
        ),
        wrong(
            "a server's secret under another name",
            "servers/new",
            with(server.clone(), json!({"token": "x"})),
            "token",
            &["not known", "`secret`"],
        ),
        wrong(
            "a new server without secret",
            "servers/new",
            with(server.clone(), json!({"secret": ""})),
            "secret",
            &["needed"],
        ),
        wrong(
            "a server's time-out in seconds",
            "servers/new",
            with(server, json!({"timeout_ms": 10})),
            "timeout_ms",
            &["1000"],
        ),
        wrong("an image without templates", "images/new", json!({"title": "Debian"}), "templates", &["missing"]),
        wrong(
            "an image's template as text",
            "images/new",
            json!({"templates": [{"server": "pve", "vmid": "nine"}]}),
            "templates[0].vmid",
            &["number"],
        ),
        wrong(
            "a pool across families",
            "pools/new",
            with(pool.clone(), json!({"last": "2001:db8::1"})),
            "last",
            &["family", "first"],
        ),
        wrong(
            "a pool the wrong way round",
            "pools/new",
            with(pool.clone(), json!({"last": "198.51.100.5"})),
            "last",
            &["before", "first"],
        ),
        wrong(
            "a pool larger than its net",
            "pools/new",
            with(pool.clone(), json!({"prefix_length": 28})),
            "last",
            &["inside", "198.51.100.0/28"],
        ),
        wrong(
            "a pool's address with its mask",
            "pools/new",
            with(pool.clone(), json!({"first": "198.51.100.10/24"})),
            "first",
            &["IPv4 or IPv6 address"],
        ),
        wrong(
            "a pool's VLAN too high",
            "pools/new",
            with(pool.clone(), json!({"vlan": 5000})),
            "vlan",
            &["4094", "untagged"],
        ),
        wrong(
            "a pool's bridge that is none",
            "pools/new",
            with(pool, json!({"bridge": "the bridge of pve1"})),
            "bridge",
            &["vmbr0"],
        ),
        wrong(
            "a plan of an unknown plugin",
            "plans/new",
            with(plan(json!({})), json!({"plugin": "proxmox-lxc"})),
            "plugin",
            &["installed", "name another"],
        ),
        wrong(
            "a plan of a plugin of another kind",
            "plans/new",
            with(plan(json!({})), json!({"plugin": "dns-powerdns"})),
            "plugin",
            &["provisioner", "name another"],
        ),
        wrong(
            "a plan on an unknown server",
            "plans/new",
            with(plan(json!({})), json!({"server": "pve9"})),
            "server",
            &["create it first"],
        ),
        wrong(
            "a plan without image",
            "plans/new",
            plan(json!({"main-domain": "example.com"})),
            "settings/image",
            &["no image", "Choose"],
        ),
        wrong(
            "a plan with an unknown image",
            "plans/new",
            plan(json!({"image": "debian-13", "main-domain": "example.com"})),
            "settings/image",
            &["debian-13", "debian-12"],
        ),
        wrong(
            "a plan's setting misspelt",
            "plans/new",
            plan(json!({"image": "debian-12", "main-domain": "example.com", "cpu-corse": 2})),
            "settings/cpu-corse",
            &["no such setting", "correct its name", "cpu-cores"],
        ),
        wrong(
            "a plan's number as text",
            "plans/new",
            plan(json!({"image": "debian-12", "main-domain": "example.com", "cpu-cores": "two"})),
            "settings/cpu-cores",
            &["integer"],
        ),
        wrong(
            "a zone of an unknown plugin",
            "zones/new",
            with(zone(json!({})), json!({"plugin": "dns-bind"})),
            "plugin",
            &["installed", "name another"],
        ),
        wrong(
            "a zone without address",
            "zones/new",
            zone(json!({"api-key": "a-key"})),
            "settings/server-url",
            &["missing", "give it a value"],
        ),
        wrong(
            "a zone's address without scheme",
            "zones/new",
            zone(with(dns.clone(), json!({"server-url": "ns1:8081"}))),
            "settings/server-url",
            &["https://ns1.example.com:8081"],
        ),
        wrong(
            "a zone's setting misspelt",
            "zones/new",
            zone(with(dns, json!({"api_key": "a-key"}))),
            "settings/api_key",
            &["correct its name", "api-key"],
        ),
        wrong(
            "a webhook's secret that is none",
            "hooks/new",
            hook(json!({"url": house.receiver.url, "secret": "hunter2"})),
            "settings/secret",
            &["whsec_ and 24 to 64 bytes in base64"],
        ),
        wrong(
            "a webhook's address with a query",
            "hooks/new",
            hook(json!({"url": "https://example.com/x?y=1", "secret": key})),
            "settings/url",
            &["Without query"],
        ),
        wrong(
            "a panel's secret that is none",
            "panels/new",
            with(panel.clone(), json!({"secret": "hunter2"})),
            "secret",
            &["whsec_", "24 bytes"],
        ),
        wrong("a panel's plans as text", "panels/new", with(panel, json!({"plans": "linked"})), "plans", &["list"]),
    ]
}

/// Status and refusal.
async fn refusal(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert!(
        answer.headers().get("content-type").is_some_and(|v| v == "application/problem+json"),
        "{status}: {}",
        answer.text().await.unwrap()
    );
    (status, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_entry_is_refused_with_its_field_and_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let mut unclear = Vec::new();
    for Wrong { what, path, body, field, says } in entries(&house) {
        let request = http().put(format!("{}/v1/admin/{path}", house.client.url)).bearer_auth(&house.client.token);
        let (status, problem) = refusal(request.json(&body).send().await.unwrap()).await;
        let detail = problem["detail"].as_str().unwrap();
        println!("{what}:\n    {status} {detail}");
        let named = problem["errors"].as_array().into_iter().flatten().any(|error| error["field"] == field);
        if !(400..500).contains(&status) || !named || !says.iter().all(|word| detail.contains(word)) {
            unclear.push(format!("{what} ({field}, {says:?}): {status} {problem}"));
        }
        let (kind, name) = path.split_once('/').unwrap();
        let there = house.client.get(&format!("/v1/admin/{kind}/{name}")).await;
        assert!(there.is_err(), "{what}: it is kept all the same");
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
}

/// A component with other bytes in place of some: `from` and `to` are of one length.
fn patched(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = component.to_vec();
    let mut at = 0;
    let mut found = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
        at += 1;
    }
    assert!(found > 0, "{from} is not in the component");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_can_not_run_is_refused_with_what_is_wrong_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let built = Built::in_target().unwrap();
    let house = House::build(dir.path(), built.clone()).await.unwrap();
    let good = std::fs::read(built.plugins.join("telltale.wasm")).unwrap();
    let all = "?allow=wharf:base/common,wharf:dns/zones,wharf:base/log,wharf:http/client,wharf:dns/calls";
    let uploads: Vec<(&str, &str, Vec<u8>, &[&str])> = vec![
        ("nothing", all, Vec::new(), &["not WebAssembly"]),
        ("a file that is no wasm", all, b"PK\x03\x04 a zip file".to_vec(), &["not WebAssembly"]),
        ("half of a component", all, good[..good.len() / 2].to_vec(), &["truncated", "upload it again"]),
        ("a core module", all, b"\0asm\x01\0\0\0".to_vec(), &["core module", "component"]),
        ("a component without manifest", all, b"\0asm\x0d\0\x01\0".to_vec(), &["manifest"]),
        (
            "a contract of tomorrow",
            all,
            patched(&good, "wharf:dns/calls@0.1.0", "wharf:dns/calls@0.9.0"),
            &["wharf:dns/calls", "0.9.0", "0.1.0", "upgrade the host"],
        ),
        (
            "an interface that there is not",
            all,
            patched(&good, "wharf:dns/calls@0.1.0", "wharf:dns/files@0.1.0"),
            &["wharf:dns/files"],
        ),
        ("one that wants more than it was granted", "", good, &["not granted", "--allow wharf:http/client"]),
    ];
    let mut unclear = Vec::new();
    for (what, query, bytes, says) in uploads {
        let answer = http()
            .post(format!("{}/v1/admin/plugins{query}", house.client.url))
            .bearer_auth(&house.client.token)
            .header("content-type", "application/wasm")
            .body(bytes)
            .send()
            .await
            .unwrap();
        let (status, problem) = refusal(answer).await;
        let detail = problem["detail"].as_str().unwrap();
        println!("{what}:\n    {status} {detail}");
        if !(400..500).contains(&status) || !says.iter().all(|word| detail.contains(word)) {
            unclear.push(format!("{what} {says:?}: {status} {problem}"));
        }
    }
    // 100 MB: the head alone is enough for a refusal, nothing of the body is waited for.
    let address = house.client.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/admin/plugins HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/wasm\r\n\
         content-length: {}\r\n\r\n",
        house.client.token,
        100 * 1024 * 1024
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(10), read).await.expect("it waits for the body").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let problem: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    println!("a plugin of 100 MB:\n    413 {}", problem["detail"].as_str().unwrap());
    if !answer.starts_with("HTTP/1.1 413") || !problem["detail"].as_str().unwrap().contains("64 MiB") {
        unclear.push(format!("a plugin of 100 MB: {answer}"));
    }
    assert!(unclear.is_empty(), "{}", unclear.join("\n"));
    assert!(house.client.get("/v1/admin/grants/telltale").await.is_err(), "nothing of it is kept");
}
