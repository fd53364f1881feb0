//! Who is let in, and to what.

use serde_json::json;
use wharf_api::{Settings, metrics::Exporter, tokens::SCOPES};
use wharf_model::object::ObjectKind;

use crate::{
    contract::{filled, operations, scope},
    world::{PANEL_SECRET, World},
};

#[tokio::test]
async fn every_route_refuses_who_has_no_token_before_it_looks_at_anything_else() {
    let world = World::new().await;
    for (n, (method, path, operation)) in operations().into_iter().enumerate() {
        let Some(_) = scope(operation) else { continue };
        let peer = format!("198.51.100.{n}");
        let plain = world.call(&method, &filled(&path)).nobody().peer(&peer).send().await;
        assert_eq!(plain.refusal(), (401, "token".into()), "{method} {path}");
        assert_eq!(plain.header("www-authenticate"), "Bearer");
        // Neither query, path nor body is looked at for a stranger.
        let nonsense = filled(&path).replace("0192f0c1", "nonsense").replace("shop:1", "%ff");
        let wrong = world
            .call(&method, &format!("{nonsense}?no-such=1"))
            .token("wharf_000000000000_00")
            .peer(&peer)
            .header("content-type", "application/json")
            .body("{ not json")
            .send()
            .await;
        assert_eq!(wrong.refusal(), (401, "token".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn every_route_refuses_a_token_that_lacks_its_scope_and_takes_one_that_has_no_other() {
    let world = World::new().await;
    for (method, path, operation) in operations() {
        let Some(scope) = scope(operation) else { continue };
        let others: Vec<&str> = SCOPES.into_iter().filter(|s| *s != scope && *s != "admin").collect();
        let lacking = world.token(&others, None).await;
        let answer = world.call(&method, &filled(&path)).token(&lacking).send().await;
        assert_eq!(answer.refusal(), (403, "scope".into()), "{method} {path}");
        assert!(answer.text.contains(scope), "{method} {path}: it names what is lacking");
        let having = world.token(&[scope], None).await;
        let answer = world.call(&method, &filled(&path)).token(&having).send().await;
        assert!(![401, 403].contains(&answer.status), "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_foreign_panels_service_and_its_operations_are_not_there() {
    let world = World::with_shop().await;
    let ordered = world.order("shop:77", "mild").await.json();
    let operation = ordered["operation"]["id"].as_str().unwrap();
    let rival = world.token(&["services:read", "services:write", "events:read"], Some("rival")).await;
    let own = world.token(&["services:read"], Some("shop")).await;

    for (method, tail, body) in [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PUT", "", Some(json!({"plan": "mild"}))),
        ("POST", "/actions", Some(json!({"verb": "suspend"}))),
        ("GET", "/log", None),
        ("GET", "/names", None),
        ("POST", "/names", None),
        ("PUT", "/names/192.0.2.10", Some(json!({"name": "mail.client.example"}))),
        ("DELETE", "/names/192.0.2.10", None),
    ] {
        let mut answers = Vec::new();
        for id in ["shop:77", "shop:no-such", "nobody:1"] {
            let mut call = world.call(method, &format!("/v1/services/{id}{tail}")).token(&rival);
            if let Some(body) = &body {
                call = call.json(body);
            }
            let answer = call.send().await;
            assert_eq!(answer.refusal(), (404, "not-found".into()), "{method} {id}{tail}");
            answers.push(answer.text);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "what is foreign and what is not there can be told apart: {answers:?}");
    }
    for tail in ["", "/log"] {
        let foreign = world.call("GET", &format!("/v1/operations/{operation}{tail}")).token(&rival).send().await;
        let missing = world.call("GET", &format!("/v1/operations/{}{tail}", uuid::Uuid::new_v4())).token(&rival);
        assert_eq!(foreign.refusal().0, 404);
        assert_eq!(foreign.text, missing.send().await.text);
        let seen = world.call("GET", &format!("/v1/operations/{operation}{tail}")).token(&own).send().await;
        assert_eq!(seen.status, 200);
    }
    for (path, empty) in [("/v1/services", json!([])), ("/v1/events", json!({"events": [], "next": 0}))] {
        assert_eq!(world.call("GET", path).token(&rival).send().await.json(), empty);
    }
}

#[tokio::test]
async fn a_token_bound_to_a_panel_orders_only_what_the_panel_was_granted_and_while_it_is_on() {
    let world = World::with_shop().await;
    let bound = world.token(&["services:read", "services:write"], Some("shop")).await;
    let order = async |plan: &str| {
        world.call("PUT", "/v1/services/shop:1").token(&bound).json(&json!({"plan": plan})).send().await
    };
    let (foreign, missing) = (order("hot").await, order("no-such").await);
    assert_eq!(foreign.refusal(), (422, "fields".into()));
    assert_eq!(foreign.text, missing.text, "a plan of others can't be told from one that is not there");
    assert_eq!(order("mild").await.status, 202);
    world.put("panels/shop", json!({"plugin": "panel-whmcs", "plans": ["mild"], "off": true})).await;
    assert_eq!(order("mild").await.refusal(), (403, "panel-off".into()));
    let delete = world.call("DELETE", "/v1/services/shop:1").token(&bound).send().await;
    assert_eq!(delete.refusal(), (403, "panel-off".into()));
    let read = world.call("GET", "/v1/services/shop:1").token(&bound).send().await;
    assert_eq!(read.status, 200, "reading harms nobody");
    // Even an admin sells nothing for a panel that there is not.
    assert_eq!(world.order("nobody:1", "mild").await.refusal(), (404, "not-found".into()));
}

#[tokio::test]
async fn a_token_bound_to_a_panel_is_no_admin_even_if_its_row_says_so() {
    let world = World::new().await;
    world.row(ObjectKind::Panel, "shop", json!({"plugin": "x", "plans": []})).await;
    for scope in ["admin", "plugins:write", "metrics:read"] {
        let body = json!({"scopes": [scope], "panel": "shop"});
        let made = world.call("POST", "/v1/admin/tokens").json(&body).send().await;
        assert_eq!(made.refusal(), (422, "fields".into()), "{scope}");
        let planted = world.token(&[scope], Some("shop")).await;
        for path in ["/v1/admin/servers", "/v1/admin/tokens", "/v1/admin/audit", "/v1/admin/plugins", "/metrics"] {
            assert_eq!(world.call("GET", path).token(&planted).send().await.refusal(), (403, "scope".into()), "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time_or_its_row() {
    let world = World::new().await;
    let body = json!({"scopes": ["services:read"], "note": "for an hour", "expires_in_s": 3600});
    let made = world.call("POST", "/v1/admin/tokens").json(&body).send().await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let made = made.json();
    let token = made["token"].as_str().unwrap();
    let get = async |token: &str| world.call("GET", "/v1/services").token(token).send().await;
    assert_eq!(get(token).await.status, 200);
    world.pass(3_599_999);
    assert_eq!(get(token).await.status, 200);
    world.pass(1);
    assert_eq!(get(token).await.refusal(), (401, "token-expired".into()));

    let other = world.token(&["services:read"], None).await;
    let id = other.split('_').nth(1).unwrap();
    assert_eq!(world.call("DELETE", &format!("/v1/admin/tokens/{id}")).send().await.status, 200);
    assert_eq!(get(&other).await.refusal(), (401, "token".into()));
}

#[tokio::test]
async fn what_is_wrong_with_a_wish_for_a_token_is_said() {
    let world = World::new().await;
    for (body, field) in [
        (json!({"scopes": []}), "scopes"),
        (json!({"scopes": ["service:read"]}), "scopes"),
        (json!({"scopes": ["services:read"], "panel": "nobody"}), "panel"),
        (json!({"scopes": ["services:read"], "expires": 5}), "expires"),
        (json!({}), "scopes"),
    ] {
        let answer = world.call("POST", "/v1/admin/tokens").json(&body).send().await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{body}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
    }
}

#[tokio::test]
async fn after_twenty_failures_in_a_minute_an_address_is_told_to_wait_but_who_has_a_right_is_let_in() {
    let world = World::new().await;
    let fail =
        async |peer: &str| world.call("GET", "/v1/services").token("wharf_000000000000_00").peer(peer).send().await;
    for _ in 0..20 {
        assert_eq!(fail("203.0.113.7").await.refusal(), (401, "token".into()));
        world.pass(1_000);
    }
    let answer = fail("203.0.113.7").await;
    assert_eq!(answer.refusal(), (429, "too-many-failures".into()));
    assert_eq!(answer.header("retry-after"), "40");
    assert_eq!(fail("203.0.113.8").await.status, 401, "another address has its own count");
    let good = world.call("GET", "/v1/services").peer("203.0.113.7").send().await;
    assert_eq!(good.status, 200, "behind one proxy a good token doesn't pay for a bad one");
    world.pass(40_000);
    assert_eq!(fail("203.0.113.7").await.status, 401);
}

#[tokio::test]
async fn wrong_signatures_are_counted_too_and_a_good_one_is_let_in_meanwhile() {
    let world = World::with_shop().await;
    let now = 1_790_000_000;
    let stranger = "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy";
    for n in 0..20 {
        let answer = world.hook_at(&format!("m{n}"), "create", "{}", now, stranger).send().await;
        assert_eq!(answer.refusal(), (401, "signature".into()));
    }
    let answer = world.hook_at("m20", "create", "{}", now, stranger).send().await;
    assert_eq!(answer.refusal(), (429, "too-many-failures".into()));
    let body = json!({"serviceid": 1, "configoption1": "mild"}).to_string();
    let good = world.hook_at("m21", "create", &body, now, PANEL_SECRET).send().await;
    assert_eq!(good.status, 200, "{}", good.text);
}

#[tokio::test]
async fn metrics_need_a_token_unless_they_are_set_open() {
    let world = World::new().await;
    assert_eq!(world.call("GET", "/metrics").nobody().send().await.refusal(), (401, "token".into()));
    let (_, exporter) = Exporter::build().unwrap();
    let open =
        World::with(Settings { metrics: Some(exporter), metrics_open: true, plugin_slots: 8, ..Settings::default() })
            .await;
    assert_eq!(open.call("GET", "/metrics").nobody().send().await.status, 200);
    assert_eq!(open.call("GET", "/v1/services").nobody().send().await.status, 401, "and nothing else is open");
}
