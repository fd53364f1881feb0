//! Hooks, as a panel posts them.

use serde_json::json;

use crate::world::{BEGIN_MS, PANEL_SECRET, World};

const NOW: i64 = BEGIN_MS / 1_000;

fn order(service: u32) -> String {
    json!({"serviceid": service, "userid": 42, "configoption1": "mild", "configoptions": {}}).to_string()
}

#[tokio::test]
async fn the_same_webhook_id_gives_the_same_operation_and_with_another_body_409() {
    let world = World::with_shop().await;
    let first = world.hook("msg_1", "create", &order(1)).send().await;
    assert_eq!(first.status, 200, "{}", first.text);
    let operation = first.header("wharf-operation").to_owned();
    assert!(!operation.is_empty());
    // Sent again: with a new time and signature, as a panel's retry has.
    world.pass(30_000);
    let again = world.hook("msg_1", "create", &order(1)).send().await;
    assert_eq!((again.status, again.header("wharf-operation")), (200, operation.as_str()));
    assert_eq!(again.text, first.text);

    let other = world.hook("msg_1", "create", &order(2)).send().await;
    assert_eq!(other.status, 409, "{}", other.text);
    assert!(other.header("wharf-operation").is_empty());
    let verb = world.hook("msg_1", "suspend", &order(1)).send().await;
    assert_eq!(verb.status, 409, "another verb is another content");
    let query = world.hook("msg_1", "create?x=1", &order(1)).send().await;
    assert_eq!(query.status, 409, "so is another query");
    assert_eq!(world.get("/v1/services").await.json().as_array().unwrap().len(), 1, "nothing was done twice");
}

#[tokio::test]
async fn a_wrong_signature_is_401_before_anything_is_parsed() {
    let world = World::with_shop().await;
    let stranger = "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy";
    for body in ["{ not json", "", "\u{0}\u{1}", &order(1)] {
        let answer = world.hook_at("m", "create", body, NOW, stranger).send().await;
        assert_eq!(answer.refusal(), (401, "signature".into()), "{body:?}");
    }
    // With the right signature the same is read, and refused for what it is.
    let answer = world.hook("m", "create", "{ not json").send().await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let unsigned = world.call("POST", "/hooks/shop/create").nobody().body(order(1)).send().await;
    assert_eq!(unsigned.refusal(), (401, "signature".into()));
    // The admin's token opens no hook.
    let token = world.call("POST", "/hooks/shop/create").body(order(1)).send().await;
    assert_eq!(token.refusal(), (401, "signature".into()));
}

#[tokio::test]
async fn a_panel_that_is_not_there_is_told_nothing_else_than_a_wrong_signature_is() {
    let world = World::with_shop().await;
    let wrong = world.call("POST", "/hooks/shop/create").nobody().body("x").send().await;
    let nobody = world.call("POST", "/hooks/nobody/create").nobody().body("x").send().await;
    assert_eq!((wrong.status, wrong.text), (nobody.status, nobody.text));
}

#[tokio::test]
async fn a_timestamp_that_is_off_is_clock_skew_only_for_who_can_sign() {
    let world = World::with_shop().await;
    for (off, status) in [(-301, 401), (301, 401), (-300, 200), (300, 200)] {
        let answer = world.hook_at(&format!("m{off}"), "create", &order(1), NOW + off, PANEL_SECRET).send().await;
        assert_eq!(answer.status, status, "{off}: {}", answer.text);
        if status == 401 {
            assert_eq!(answer.refusal(), (401, "clock-skew".into()));
            assert!(answer.text.contains(&NOW.to_string()) && answer.text.contains("NTP"), "{}", answer.text);
        }
    }
    let stranger = "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy";
    let answer = world.hook_at("m", "create", &order(1), NOW - 1_000, stranger).send().await;
    assert_eq!(answer.refusal(), (401, "signature".into()));
}

#[tokio::test]
async fn both_secrets_are_good_during_a_rotation_and_afterwards_only_the_new_one() {
    let world = World::with_shop().await;
    let next = "whsec_bmV4dC1wYW5lbC1zZWNyZXQtZm9yLXRoZS10ZXN0cw==";
    world.put("panels/shop", json!({"plugin": "panel-whmcs", "plans": ["mild"], "secret-next": next})).await;
    for (id, secret) in [("a", PANEL_SECRET), ("b", next)] {
        assert_eq!(world.hook_at(id, "create", &order(1), NOW, secret).send().await.status, 200);
    }
    world.put("panels/shop", json!({"plugin": "panel-whmcs", "plans": ["mild"], "secret": next})).await;
    assert_eq!(world.hook_at("c", "create", &order(1), NOW, next).send().await.status, 200);
    assert_eq!(world.hook_at("d", "create", &order(1), NOW, PANEL_SECRET).send().await.status, 401);
}

#[tokio::test]
async fn what_is_not_granted_or_unknown_is_refused_in_the_panels_own_form_and_nothing_is_half_done() {
    let world = World::with_shop().await;
    for (service, plan, options) in
        [(1, "hot", json!({})), (2, "no-such", json!({})), (3, "mild", json!({"Flavor": "hot"}))]
    {
        let body = json!({"serviceid": service, "configoption1": plan, "configoptions": options}).to_string();
        let answer = world.hook(&format!("m{service}"), "create", &body).send().await;
        assert_eq!(answer.status, 422, "{plan}: {}", answer.text);
        assert!(!answer.text.contains("success"), "{}", answer.text);
        assert_eq!(world.get(&format!("/v1/services/shop:{service}")).await.status, 404);
    }
    world.put("panels/shop", json!({"plugin": "panel-whmcs", "plans": ["mild"], "off": true})).await;
    assert_eq!(world.hook("off", "create", &order(9)).send().await.refusal(), (403, "panel-off".into()));
}
