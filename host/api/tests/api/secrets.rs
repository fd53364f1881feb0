//! Secrets go in and never come out: not shown, not listed, not in the audit log, in tests, refusals or events.

use axum::{Router, http::HeaderMap, routing::any};
use serde_json::{Value, json};

use crate::world::World;

/// Marked, so that they can be searched for.
const SERVER: &str = "marked-server-secret-4711";
const API_KEY: &str = "marked-api-key-4711";
const HOOK: &str = "whsec_bWFya2VkLWhvb2stc2VjcmV0LTQ3MTEtNDcxMS00NzEx";
const PANEL: &str = "whsec_bWFya2VkLXBhbmVsLXNlY3JldC00NzExLTQ3MTEtNDcx";
const NEXT: &str = "whsec_bWFya2VkLW5leHQtc2VjcmV0LTQ3MTEtNDcxMS00NzEx";
const MISPLACED: &str = "marked-and-misplaced-4711";

/// A provider that repeats what it was told, head and all.
async fn parrot() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let repeat = any(async |headers: HeaderMap| {
        (axum::http::StatusCode::UNAUTHORIZED, format!("{{\"error\": \"who is {headers:?}\"}}").replace("\\\"", "'"))
    });
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(repeat)).await });
    url
}

#[tokio::test]
async fn secrets_are_never_returned_whatever_is_asked() {
    let world = World::with_shop().await;
    world.install("dns-powerdns").await;
    world.install("hook-webhook").await;
    let provider = parrot().await;
    let grant = world.get("/v1/admin/grants/dns-powerdns").await.json();
    let mut grant = grant["body"].clone();
    grant["private_origins"] = json!([provider]);
    world.put("grants/dns-powerdns", grant).await;

    let server = json!({"urls": ["https://pve.test:8006"], "token_id": "a@pve!b", "secret": SERVER});
    world.put("servers/pve", server).await;
    let zone = json!({"zone": "example.com", "plugin": "dns-powerdns",
        "settings": {"server-url": provider, "api-key": API_KEY}});
    world.put("zones/forward", zone).await;
    world
        .put("hooks/told", json!({"plugin": "hook-webhook", "settings": {"url": "https://hook.test/", "secret": HOOK}}))
        .await;
    let panel = json!({"plugin": "panel-whmcs", "plans": ["mild"], "secret": PANEL, "secret-next": NEXT});
    world.put("panels/shop", panel).await;
    let token = world.call("POST", "/v1/admin/tokens").json(&json!({"scopes": ["events:read"]})).send().await.json();
    let token = token["token"].as_str().unwrap().to_owned();
    let (id, token_secret) = token.strip_prefix("wharf_").unwrap().split_once('_').unwrap();
    world.heard.lock().unwrap().clear();

    for (kind, name, set) in [
        ("servers", "pve", json!(["secret"])),
        ("zones", "forward", json!(["api-key"])),
        ("hooks", "told", json!(["secret"])),
        ("panels", "shop", json!(["secret", "secret-next"])),
        ("tokens", id, json!([])),
    ] {
        let shown = world.get(&format!("/v1/admin/{kind}/{name}")).await.json();
        assert_eq!(shown["secrets_set"], set, "{kind}");
        world.get(&format!("/v1/admin/{kind}")).await;
        // Put back as it is shown: the secrets stay, and stay hidden.
        if kind != "tokens" {
            world.put(&format!("{kind}/{name}"), shown["body"].clone()).await;
        }
    }
    world.get("/v1/admin/audit").await;
    world.get("/v1/admin/plugins").await;
    world.order("shop:1", "mild").await;
    world.get("/v1/services").await;
    world.get("/v1/events").await;

    // Both tests fail, and both peers repeat the secret in what they answer.
    let tested = world.call("POST", "/v1/admin/servers/pve/test").send().await;
    assert_eq!(tested.json()["ok"], false);
    let tested = world.call("POST", "/v1/admin/zones/forward/test").send().await;
    assert_eq!((tested.status, &tested.json()["ok"]), (200, &json!(false)), "{}", tested.text);

    // In the wrong place, or of the wrong kind.
    let wrong: [(&str, Value); 12] = [
        ("servers/x", json!({"urls": MISPLACED, "token_id": "a@pve!b", "secret": SERVER})),
        ("servers/x", json!({"urls": ["https://x"], "token_id": MISPLACED, "secret": SERVER})),
        ("servers/x", json!({"urls": ["https://x"], "token_id": "a@pve!b", "timeout_ms": MISPLACED, "secret": SERVER})),
        ("servers/x", json!({"urls": ["https://x"], "token_id": "a@pve!b", "secret": {"is": MISPLACED}})),
        ("servers/x", json!({"urls": ["https://x"], "token_id": "a@pve!b", "password": MISPLACED})),
        ("zones/x", json!({"zone": "x", "plugin": MISPLACED, "settings": {"api-key": API_KEY}})),
        ("zones/x", json!({"zone": "x", "plugin": "dns-powerdns", "settings": MISPLACED})),
        (
            "zones/x",
            json!({"zone": "x", "plugin": "dns-powerdns", "settings": {"server-url": "x", "api-key": API_KEY}}),
        ),
        ("hooks/x", json!({"plugin": "hook-webhook", "settings": {"url": "https://x", "secret": MISPLACED}})),
        ("hooks/x", json!({"plugin": "hook-webhook", "settings": {"url": "https://x", "secret": {"is": MISPLACED}}})),
        ("panels/x", json!({"plugin": "panel-whmcs", "plans": [], "secret": MISPLACED})),
        ("panels/x", json!({"plugin": "panel-whmcs", "plans": MISPLACED, "secret": PANEL})),
    ];
    for (path, body) in wrong {
        let answer = world.call("PUT", &format!("/v1/admin/{path}")).json(&body).send().await;
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text);
    }
    for text in [format!("{{\"secret\": \"{SERVER}\", "), format!("\"{MISPLACED}\""), MISPLACED.to_owned()] {
        let call = world.call("PUT", "/v1/admin/servers/x").header("content-type", "application/json");
        assert!([400, 422].contains(&call.body(text).send().await.status));
    }
    world.call("GET", "/v1/services").token(&format!("{token}x")).send().await;

    let heard = world.heard.lock().unwrap();
    for secret in [SERVER, API_KEY, HOOK, PANEL, NEXT, MISPLACED, token_secret] {
        let bare = secret.strip_prefix("whsec_").unwrap_or(secret);
        if let Some(line) = heard.lines().find(|l| l.contains(bare)) {
            panic!("{secret} came back: {line}");
        }
    }
    // Nor does a hash of a token, which could be tried offline.
    assert!(!heard.contains("\"hash\""));
    drop(heard);
    assert!(world.dir().exists());
}
