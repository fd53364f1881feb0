//! Zones that are parked or switched off, and the list of names.

use serde_json::{Value, json};
use wharf_api::Settings;
use wharf_model::object::ObjectKind;

use crate::world::World;

fn zone() -> Value {
    json!({"zone": "example.com", "plugin": "dns-powerdns", "settings": {"server-url": "https://ns.test", "api-key": "wrong"}})
}

#[tokio::test]
async fn a_parked_zone_is_not_asked_until_it_is_saved() {
    let world = World::new().await;
    world.install("dns-powerdns").await;
    world.put("zones/forward", zone()).await;
    let mut body = world.books.object(ObjectKind::Zone, "forward").await.unwrap().unwrap().body;
    body["parked"] = json!({"reason": "the key was refused", "since_ms": 5});
    world.books.put_object(ObjectKind::Zone, "forward", body, None, None, 5).await.unwrap();
    let shown = world.get("/v1/admin/zones/forward").await.json();
    assert_eq!(shown["body"]["parked"], json!({"reason": "the key was refused", "since_ms": 5}));
    for path in ["plan", "records"] {
        let answer = world.get(&format!("/v1/admin/zones/forward/{path}")).await;
        assert_eq!(answer.refusal(), (409, "zone-parked".into()), "{path}");
        assert!(answer.text.contains("the key was refused"), "{}", answer.text);
    }
    // As it was shown: what is put ends it.
    let saved = world.call("PUT", "/v1/admin/zones/forward").json(&shown["body"]).send().await;
    assert_eq!((saved.status, &saved.json()["body"]["parked"]), (200, &Value::Null), "{}", saved.text);
}

#[tokio::test]
async fn a_zone_that_is_switched_off_can_not_be_repaired() {
    let world = World::new().await;
    world.install("dns-powerdns").await;
    let mut off = zone();
    off["off"] = json!(true);
    world.put("zones/forward", off).await;
    let answer = world.call("POST", "/v1/admin/zones/forward/repair").json(&json!({})).send().await;
    assert_eq!(answer.refusal(), (409, "zone-off".into()));
}

#[tokio::test]
async fn names_are_listed_for_machines_that_are_listed_and_for_nobody_who_says_that_he_is_one() {
    let closed = World::new().await;
    let answer = closed.call("GET", "/v1/names").send().await;
    assert_eq!(answer.refusal(), (403, "not-listed".into()), "nobody is listed unless somebody is");

    let world = World::with(Settings {
        names_allow: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        proxies: vec!["198.51.100.1".parse().unwrap()],
        ..Settings::default()
    })
    .await;
    for (peer, forwarded, status) in [
        ("192.0.2.7", None, 200),
        ("2001:db8::7", None, 200),
        ("::ffff:192.0.2.7", None, 200),
        ("198.51.100.9", None, 403),
        ("198.51.100.9", Some("192.0.2.7"), 403),
        ("198.51.100.1", None, 403),
        ("198.51.100.1", Some("192.0.2.7"), 200),
        ("198.51.100.1", Some("203.0.113.5, 192.0.2.7"), 200),
        ("198.51.100.1", Some("192.0.2.7, 203.0.113.5"), 403),
        ("198.51.100.1", Some("192.0.2.7, nonsense"), 403),
    ] {
        let mut call = world.call("GET", "/v1/names").nobody().peer(peer);
        if let Some(text) = forwarded {
            call = call.header("x-forwarded-for", text);
        }
        let answer = call.send().await;
        assert_eq!(answer.status, status, "{peer} {forwarded:?}: {}", answer.text);
        if status == 200 {
            assert_eq!(answer.json(), json!([]));
        }
    }
}
