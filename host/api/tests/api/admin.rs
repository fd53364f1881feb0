//! What admins manage: every kind, every wrong field.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharf_model::object::{Grant, Hook, Image, ImageTemplate, Panel, Parked, Plan, Pool, Server, Token, Zone};

use crate::world::{World, document};

const KIND_AND_SCHEMA: [(&str, &str); 8] = [
    ("servers", "Server"),
    ("images", "Image"),
    ("plans", "Plan"),
    ("pools", "Pool"),
    ("zones", "Zone"),
    ("panels", "Panel"),
    ("hooks", "Hook"),
    ("grants", "Grant"),
];

/// A world where an object of every kind can be put.
async fn furnished() -> World {
    let world = World::with_shop().await;
    world.install("dns-powerdns").await;
    world.install("hook-webhook").await;
    world
}

/// Something good of each kind.
fn good(kind: &str) -> Value {
    match kind {
        "servers" => json!({"urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "secret": "s"}),
        "images" => json!({"templates": [{"server": "pve", "vmid": 9000}]}),
        // The provisioner has no plan check that would ask the cluster.
        "plans" => json!({"plugin": "provisioner-tiny", "server": "pve", "settings": {"image": "debian"}}),
        "pools" => json!({
            "server": "pve", "bridge": "vmbr0", "first": "192.0.2.10", "last": "192.0.2.20", "prefix_length": 24,
            "gateway": "192.0.2.1",
        }),
        "zones" => json!({"zone": "example.com", "plugin": "dns-powerdns",
            "settings": {"server-url": "http://ns.test:8081", "api-key": "k"}}),
        "panels" => json!({"plugin": "panel-whmcs", "plans": ["mild"]}),
        "hooks" => json!({"plugin": "hook-webhook", "settings": {"url": "https://hook.test/x",
            "secret": "whsec_aG9vay1zZWNyZXQtZm9yLWRlbW8tYW5kLXRlc3RzISE="}}),
        "grants" => json!({"interfaces": [], "private_origins": ["http://127.0.0.1:1"]}),
        other => panic!("{other}"),
    }
}

/// `good` with one member replaced (`null` removes it), at a pointer.
fn with(kind: &str, pointer: &str, value: Value) -> Value {
    let mut body = good(kind);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let map = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        map.remove(name);
    } else {
        map.insert(name.to_owned(), value);
    }
    body
}

#[tokio::test]
async fn a_wrong_field_of_every_kind_is_named_with_its_remedy() {
    let world = furnished().await;
    for (kind, at, value, field, remedy) in [
        ("servers", "/urls", json!([]), "urls", "https://node:8006"),
        ("servers", "/urls", json!(["pve.test"]), "urls", "https://node:8006"),
        ("servers", "/urls", json!("https://pve.test"), "urls", "a list"),
        ("servers", "/urls", Value::Null, "urls", "give it a value"),
        ("servers", "/token_id", json!("root"), "token_id", "user@realm!name"),
        ("servers", "/timeout_ms", json!(5), "timeout_ms", "1000 to 300000"),
        ("servers", "/timeout_ms", json!("soon"), "timeout_ms", "whole number"),
        ("servers", "/timeout_ms", json!(-1), "timeout_ms", "whole number"),
        ("servers", "/heavy_timeout_ms", json!(700_000), "heavy_timeout_ms", "600000"),
        ("servers", "/clones_per_storage", json!(0), "clones_per_storage", "1 or more"),
        ("servers", "/secret", Value::Null, "secret", "needed for a new server"),
        ("servers", "/secret", json!(5), "secret", "a text"),
        ("images", "/templates", json!([{"server": "pve"}]), "templates[0].vmid", "give it a value"),
        ("images", "/templates", json!([{"server": "pve", "vmid": "x"}]), "templates[0].vmid", "whole number"),
        ("images", "/templates", json!([{"server": "pve", "vmid": 1, "node": 1}]), "templates[0].node", "leave it out"),
        ("plans", "/plugin", json!("no-such"), "plugin", "install it"),
        ("plans", "/plugin", json!("panel-whmcs"), "plugin", "provisioner"),
        ("plans", "/server", json!("no-such"), "server", "create it"),
        ("plans", "/settings/image", Value::Null, "settings/image", "give it a value"),
        ("plans", "/settings/flavour", json!("sweet"), "settings/flavour", "mild"),
        ("plans", "/settings/flavor", json!("mild"), "settings/flavor", "remove it"),
        ("plans", "/settings", json!([]), "settings", "object"),
        ("pools", "/first", json!("192.0.2.300"), "first", "IPv4 or IPv6"),
        ("pools", "/last", json!("192.0.2.9"), "last", "before"),
        ("pools", "/last", json!("2001:db8::1"), "last", "family"),
        ("pools", "/last", json!("198.51.100.1"), "last", "192.0.2.0/24"),
        ("pools", "/prefix_length", json!(33), "prefix_length", "1 to 32"),
        ("pools", "/prefix_length", json!(300), "prefix_length", "0 to 255"),
        ("pools", "/gateway", json!("2001:db8::1"), "gateway", "family"),
        ("pools", "/vlan", json!(4095), "vlan", "1 to 4094"),
        ("pools", "/bridge", json!("a bridge with a long name"), "bridge", "vmbr0"),
        ("pools", "/nameservers", json!(["192.0.2.53", "ns1"]), "nameservers[1]", "IPv4 or IPv6"),
        ("zones", "/plugin", json!("hook-webhook"), "plugin", "dns-provider"),
        ("zones", "/settings/server-url", json!("ns.test"), "settings/server-url", "must match"),
        ("zones", "/settings/server-url", Value::Null, "settings/server-url", "give it a value"),
        ("zones", "/settings/api_key", json!("x"), "settings/api_key", "remove it"),
        ("zones", "/ttl", json!("1h"), "ttl", "whole number"),
        ("panels", "/plugin", json!("provisioner-tiny"), "plugin", "panel-adapter"),
        ("panels", "/plans", json!("mild"), "plans", "a list"),
        ("panels", "/plans", Value::Null, "plans", "give it a value"),
        ("panels", "/secret", json!("short"), "secret", "whsec_"),
        ("panels", "/secret-next", json!("whsec_c2hvcnQ="), "secret-next", "24 bytes"),
        ("hooks", "/plugin", json!("dns-powerdns"), "plugin", "lifecycle-hook"),
        ("hooks", "/settings/url", json!("ftp://x"), "settings/url", "must match"),
        ("hooks", "/settings/secret", json!("not-a-webhook-secret"), "settings/secret", "must match"),
        ("hooks", "/events", json!([5]), "events[0]", "a text"),
        ("hooks", "/off", json!("yes"), "off", "true or false"),
        ("grants", "/interfaces", json!("wharf:http/client"), "interfaces", "a list"),
    ] {
        let body = with(kind, at, value);
        let answer = world.call("PUT", &format!("/v1/admin/{kind}/new")).json(&body).send().await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{kind} {body}: {}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["errors"][0]["field"], field, "{kind} {body}: {problem}");
        assert!(problem["errors"][0]["message"].as_str().unwrap().contains(remedy), "{kind} {body}: {problem}");
        assert_eq!(world.get(&format!("/v1/admin/{kind}/new")).await.status, 404, "{kind}: nothing was kept");
    }
}

#[tokio::test]
async fn an_unknown_field_of_every_kind_is_refused_and_the_known_ones_are_named() {
    let world = furnished().await;
    for (kind, schema) in KIND_AND_SCHEMA {
        let body = with(kind, "/no-such", json!(1));
        let answer = world.call("PUT", &format!("/v1/admin/{kind}/new")).json(&body).send().await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{kind}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["field"], "no-such", "{kind}");
        let known = document()["components"]["schemas"][schema]["properties"].as_object().unwrap();
        for field in known.keys() {
            assert!(answer.text.contains(&format!("`{field}`")), "{kind}: `{field}` is not named: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn what_is_shown_can_be_put_back_as_it_is() {
    let world = furnished().await;
    for (kind, _) in KIND_AND_SCHEMA {
        let path = format!("{kind}/thing");
        let first = world.put(&path, good(kind)).await;
        let shown = world.get(&format!("/v1/admin/{path}")).await;
        assert_eq!(shown.header("etag"), "\"1\"");
        let shown = shown.json();
        assert_eq!(shown["body"], first["body"]);
        let again = world.put(&path, shown["body"].clone()).await;
        assert_eq!((&again["body"], &again["secrets_set"]), (&shown["body"], &shown["secrets_set"]), "{kind}");
        assert_eq!(again["revision"], 2);
        let list = world.get(&format!("/v1/admin/{kind}")).await.json();
        assert!(list.as_array().unwrap().iter().any(|o| o["name"] == "thing"), "{kind}");
        let gone = world.call("DELETE", &format!("/v1/admin/{path}")).send().await;
        assert_eq!(gone.status, 200);
        assert_eq!(world.get(&format!("/v1/admin/{path}")).await.status, 404);
        let again = world.call("DELETE", &format!("/v1/admin/{path}")).send().await;
        assert_eq!(again.refusal(), (404, "not-found".into()));
    }
}

#[test]
fn every_field_that_is_kept_can_be_sent_and_every_field_that_can_be_sent_is_kept() {
    let ip = "192.0.2.1".parse().unwrap();
    let text = String::new;
    let rows = [
        (
            "Server",
            json!(Server {
                urls: vec![],
                token_id: text(),
                fingerprints: vec![],
                ca_pem: None,
                timeout_ms: 1,
                heavy_timeout_ms: 1,
                clones_per_storage: 1,
                paused: false,
            }),
        ),
        ("Image", json!(Image { title: text(), templates: vec![] })),
        ("Template", json!(ImageTemplate { server: text(), vmid: 1 })),
        ("Plan", json!(Plan { title: text(), plugin: text(), server: text(), settings: json!({}) })),
        (
            "Pool",
            json!(Pool {
                server: text(),
                domain: text(),
                bridge: text(),
                vlan: None,
                first: ip,
                last: ip,
                prefix_length: 1,
                gateway: None,
                nameservers: vec![],
                excluded: vec![],
                quarantine_s: 1,
            }),
        ),
        (
            "Zone",
            json!(Zone {
                zone: text(),
                plugin: text(),
                settings: json!({}),
                ttl: None,
                off: false,
                covers: Some("192.0.2.64/26".parse().unwrap()),
                parked: Some(Parked { reason: text(), since_ms: 1 })
            }),
        ),
        ("Panel", json!(Panel { plugin: text(), plans: vec![], settings: json!({}), off: false })),
        (
            "Hook",
            json!(Hook {
                plugin: text(),
                settings: json!({}),
                events: vec![],
                panel: None,
                off: false,
                off_reason: None,
            }),
        ),
        ("Grant", json!(Grant::default())),
        ("Token", json!(Token { hash: text(), scopes: vec![], panel: None, note: text(), expires_ms: None })),
    ];
    for (schema, row) in rows {
        let sent: BTreeSet<&str> = document()["components"]["schemas"][schema]["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("there is no schema {schema}"))
            .iter()
            .filter(|(_, property)| property["writeOnly"] != true)
            .map(|(name, _)| name.as_str())
            .collect();
        let kept: BTreeSet<&str> =
            row.as_object().unwrap().keys().map(String::as_str).filter(|k| *k != "hash").collect();
        assert_eq!(sent, kept, "{schema}");
    }
}

#[tokio::test]
async fn if_match_guards_an_object_and_its_secrets() {
    let world = furnished().await;
    let path = "/v1/admin/servers/pve9";
    let put = |name: &str, tag: &str, secret: &str| {
        let body = json!({"urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "secret": secret});
        world.call("PUT", path).header(name, tag).json(&body)
    };
    let secret = async || world.books.secret("server/pve9", "secret").await.unwrap();
    assert_eq!(put("if-match", "*", "one").send().await.refusal(), (412, "precondition".into()));
    assert_eq!(secret().await, None, "the secret was not kept either");
    let made = put("if-none-match", "*", "one").send().await;
    assert_eq!((made.status, made.header("etag")), (200, "\"1\""));
    let first = secret().await;
    assert_eq!(put("if-none-match", "*", "two").send().await.refusal(), (412, "precondition".into()));
    let stale = put("if-match", "\"7\"", "two").send().await;
    assert_eq!(stale.refusal(), (412, "precondition".into()));
    assert!(stale.text.contains("read it again"), "the remedy: {}", stale.text);
    // What can't be read is never taken for "whatever is there".
    for nonsense in ["1", "W/\"1\"", "\"\"", ""] {
        assert_eq!(put("if-match", nonsense, "two").send().await.refusal(), (400, "condition".into()), "{nonsense}");
    }
    assert_eq!(secret().await, first, "the secret is the old one still");
    assert_eq!(put("if-match", "\"1\"", "two").send().await.header("etag"), "\"2\"");
    assert_ne!(secret().await, first);

    let delete = |tag: &str| world.call("DELETE", path).header("if-match", tag);
    assert_eq!(delete("\"1\"").send().await.refusal(), (412, "precondition".into()));
    assert_eq!(delete("\"2\"").send().await.status, 200);

    // Of many admins who have seen the same revision one writes.
    put("if-none-match", "*", "one").send().await;
    let answers = futures::future::join_all((0..20).map(|_| put("if-match", "\"1\"", "two").send())).await;
    assert_eq!(answers.iter().filter(|a| a.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|a| a.status == 412).count(), 19);
}

#[tokio::test]
async fn names_and_kinds_that_there_are_not_are_refused() {
    let world = World::new().await;
    let put = async |path: &str| world.call("PUT", path).json(&good("images")).send().await;
    for name in ["%20", "-a", "a%2Fb", "%C3%A4", &"a".repeat(101)] {
        let answer = put(&format!("/v1/admin/images/{name}")).await;
        assert_eq!(answer.refusal(), (400, "name".into()), "{name}");
        assert_eq!(answer.json()["errors"][0]["field"], "name");
    }
    for path in ["/v1/admin/image/x", "/v1/admin/secrets/x", "/v1/admin/plugins/x"] {
        let answer = put(path).await;
        assert_eq!(answer.refusal(), (404, "not-found".into()), "{path}");
        assert!(answer.text.contains("servers, images"), "{path}: {}", answer.text);
    }
    let token = world.call("PUT", "/v1/admin/tokens/x").json(&json!({"scopes": ["admin"]})).send().await;
    assert_eq!(token.refusal(), (400, "kind".into()));
    assert!(token.text.contains("POST /v1/admin/tokens"), "{}", token.text);
    let tested = world.call("POST", "/v1/admin/images/x/test").send().await;
    assert_eq!(tested.refusal(), (400, "kind".into()));
    for kind in ["servers", "zones"] {
        let tested = world.call("POST", &format!("/v1/admin/{kind}/x/test")).send().await;
        assert_eq!(tested.refusal(), (404, "not-found".into()));
    }
}

#[tokio::test]
async fn a_new_panels_secret_is_made_by_the_host_and_shown_once() {
    let world = furnished().await;
    let made = world.put("panels/new", good("panels")).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && made["secrets_set"] == json!(["secret"]));
    let again = world.put("panels/new", good("panels")).await;
    assert!(again.get("secret").is_none());
    let shown = world.get("/v1/admin/panels/new").await;
    assert!(!shown.text.contains(&secret));
}

#[tokio::test]
async fn plugins_are_installed_rolled_back_and_switched_with_codes_for_what_is_wrong() {
    let world = World::new().await;
    let install = |body: &'static [u8]| world.call("POST", "/v1/admin/plugins").body(body);
    assert_eq!(install(b"").send().await.refusal().0, 422);
    assert_eq!(install(b"not wasm").send().await.refusal(), (422, "not-wasm".into()));
    assert_eq!(install(b"\0asm\x01\0\0\0").send().await.refusal(), (422, "core-module".into()));
    world.install("panel-whmcs").await;
    let list = world.get("/v1/admin/plugins").await.json();
    assert_eq!((&list[0]["id"], &list[0]["enabled"]), (&json!("panel-whmcs"), &json!(true)));
    let post = async |path: &str| world.call("POST", &format!("/v1/admin/plugins/{path}")).send().await;
    assert_eq!(post("panel-whmcs/disable").await.json()["enabled"], false);
    assert_eq!(post("panel-whmcs/enable").await.json()["enabled"], true);
    assert_eq!(post("panel-whmcs/rollback").await.refusal(), (409, "no-previous".into()));
    for what in ["rollback", "enable", "disable"] {
        assert_eq!(post(&format!("no-such/{what}")).await.refusal(), (404, "no-such-version".into()));
    }
    let audit = world.get("/v1/admin/audit?limit=2").await.json();
    let actions: Vec<_> = audit.as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["plugin.enable", "plugin.disable"]);
}
