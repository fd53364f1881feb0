//! Names of services that are said over HTTP.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;
use wharf_capabilities::dns::DECLARED;
use wharf_model::{
    lease::{Network, Range},
    object::ObjectKind,
    operation::Status,
    service::{Phase, Service},
};
use wharf_store::{Commit, LeaseSet, LeaseWish, ServicePatch, Then};

use crate::world::{Answer, World};

const OWN: &str = "/v1/services/shop:1/names/192.0.2.10";
const ALL: &str = "/v1/services/shop:1/names";

/// Ends the open operation of a service as its worker would, with what it found out.
async fn finish(world: &World, facts: &[(&str, &str)]) {
    let now = world.api.lender.clock.now_ms();
    let run = world.books.claim(Uuid::new_v4(), 60_000, 100, now).await.unwrap().remove(0);
    let facts = facts.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect();
    let then = Then::Finish { status: Status::Succeeded, phase: Phase::Active, reason: None };
    let service = ServicePatch { facts, ..ServicePatch::default() };
    world.books.commit(Commit { service, ..Commit::new(run.claim, now, then) }).await.unwrap();
}

async fn service(world: &World) -> Service {
    world.books.service_by_ref("shop", "1").await.unwrap().unwrap()
}

/// `shop:1` is being deployed with 192.0.2.10 and 192.0.2.11, and there is a zone for each direction.
async fn ordered() -> World {
    let world = World::with_shop().await;
    for (name, zone) in [("forward", "example.com"), ("reverse", "2.0.192.in-addr.arpa")] {
        world.row(ObjectKind::Zone, name, json!({"zone": zone, "plugin": "nobody", "ttl": 300})).await;
    }
    assert_eq!(world.order("shop:1", "mild").await.status, 202);
    let ip = |text: &str| text.parse().unwrap();
    let range = Range {
        pool: "p".into(),
        domain: "default".into(),
        first: ip("192.0.2.10"),
        last: ip("192.0.2.11"),
        excluded: Vec::new(),
        network: Network {
            prefix_length: 24,
            gateway: None,
            nameservers: Vec::new(),
            bridge: "vmbr0".into(),
            vlan: None,
        },
    };
    let sets = vec![LeaseSet { family: 4, count: 2, ranges: vec![range] }];
    let wish = LeaseWish { service: service(&world).await.id, sets };
    world.books.lease(None, wish, world.api.lender.clock.now_ms()).await.unwrap();
    world
}

/// The same, active, under the name `vm.example.com`.
async fn active() -> World {
    let world = ordered().await;
    finish(&world, &[(DECLARED, "vm.example.com.")]).await;
    world
}

/// The pointers that should be, by their names' first label.
async fn pointers(world: &World) -> BTreeMap<String, String> {
    let records = world.books.records_of(service(world).await.id).await.unwrap();
    let of_type = records.into_iter().filter(|r| r.wanted && r.key.rtype == "PTR");
    of_type.map(|r| (r.key.name.split('.').next().unwrap().to_owned(), r.key.value)).collect()
}

fn are(pairs: [(&str, &str); 2]) -> BTreeMap<String, String> {
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

async fn put(world: &World, name: &str) -> Answer {
    world.call("PUT", OWN).json(&json!({"name": name})).send().await
}

/// Who did what, newest first.
async fn audit(world: &World) -> Vec<Value> {
    let log = world.get("/v1/admin/audit").await.json();
    let rows = log.as_array().unwrap().iter();
    let own = |row: &&Value| row["action"].as_str().unwrap().starts_with("service.");
    rows.filter(own).map(|row| json!([row["action"], row["subject"], row["body"]])).collect()
}

#[tokio::test]
async fn an_address_gets_a_name_and_gives_it_back_and_all_names_are_said_anew() {
    let world = active().await;
    let said = world.call("POST", ALL).send().await;
    let expected = json!({"name": "vm.example.com.", "records": 4, "rechecked": 0, "warnings": [], "homeless": []});
    assert_eq!((said.status, said.json()), (202, expected.clone()), "{}", said.text);
    assert_eq!(pointers(&world).await, are([("10", "vm.example.com."), ("11", "vm.example.com.")]));

    let named = put(&world, "Mail.Client.Example").await;
    assert_eq!((named.status, named.json()), (202, expected.clone()), "{}", named.text);
    let own = are([("10", "mail.client.example."), ("11", "vm.example.com.")]);
    assert_eq!(pointers(&world).await, own);
    assert_eq!(world.call("POST", ALL).send().await.status, 202);
    assert_eq!(pointers(&world).await, own, "it stays");

    let back = world.call("DELETE", OWN).send().await;
    assert_eq!((back.status, back.json()), (202, expected), "{}", back.text);
    assert_eq!(pointers(&world).await, are([("10", "vm.example.com."), ("11", "vm.example.com.")]));
    let ptr = |name: Value| json!(["service.ptr", "shop:1", {"address": "192.0.2.10", "name": name}]);
    let all = json!(["service.names", "shop:1", {"name": "vm.example.com."}]);
    assert_eq!(audit(&world).await, [ptr(Value::Null), all.clone(), ptr(json!("mail.client.example.")), all]);
}

#[tokio::test]
async fn an_ipv6_address_is_known_however_it_is_written_and_names_without_a_zone_are_told() {
    let world = active().await;
    let id = service(&world).await.id;
    let range = Range {
        pool: "p6".into(),
        domain: "default".into(),
        first: "2001:db8::10".parse().unwrap(),
        last: "2001:db8::10".parse().unwrap(),
        excluded: Vec::new(),
        network: Network {
            prefix_length: 64,
            gateway: None,
            nameservers: Vec::new(),
            bridge: "vmbr0".into(),
            vlan: None,
        },
    };
    let wish = LeaseWish { service: id, sets: vec![LeaseSet { family: 6, count: 1, ranges: vec![range] }] };
    world.books.lease(None, wish, world.api.lender.clock.now_ms()).await.unwrap();
    let path = format!("{ALL}/2001:0DB8:0:0::10");
    let said = world.call("PUT", &path).json(&json!({"name": "six.client.example"})).send().await;
    assert_eq!(said.json()["homeless"], json!(["the reverse name of 2001:db8::10"]), "{}", said.text);
    let leases = world.books.leases_of(id).await.unwrap();
    let six = leases.iter().find(|lease| lease.address.is_ipv6()).unwrap();
    assert_eq!(six.ptr.as_deref(), Some("six.client.example."));
}

#[tokio::test]
async fn what_can_not_be_a_name_is_refused_by_its_field_and_nothing_is_stored() {
    let world = active().await;
    for bad in ["", "mail", "192.0.2.1", "a_b.example", "*.client.example", "marked value.example"] {
        let answer = put(&world, bad).await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{bad}");
        assert_eq!(answer.json()["errors"][0]["field"], "name", "{bad}");
        assert!(answer.text.contains("two labels") && !answer.text.contains("marked"), "{}", answer.text);
    }
    for (body, field) in [(json!({}), "name"), (json!({"name": null}), "name"), (json!({"name": "a.b", "x": 1}), "x")] {
        let answer = world.call("PUT", OWN).json(&body).send().await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{body}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
    }
    for method in ["PUT", "DELETE"] {
        let call = |address: &str| world.call(method, &format!("{ALL}/{address}"));
        let foreign = call("192.0.2.12").json(&json!({"name": "mail.client.example"})).send().await;
        assert_eq!(foreign.refusal(), (404, "not-found".into()), "{method}");
        let none = call("192.0.2.300").json(&json!({"name": "mail.client.example"})).send().await;
        assert_eq!(none.refusal(), (400, "path".into()), "{method}");
        assert_eq!(none.json()["errors"][0]["field"], "address", "{method}");
    }
    assert_eq!((pointers(&world).await, audit(&world).await), (BTreeMap::new(), Vec::new()));
    let leases = world.books.leases_of(service(&world).await.id).await.unwrap();
    assert!(leases.iter().all(|lease| lease.ptr.is_none()), "{leases:?}");
}

#[tokio::test]
async fn names_are_said_of_an_active_service_only_and_the_refusal_says_when_to_try_again() {
    let world = ordered().await;
    let refused = async |code: &str, why: &str| {
        for (method, path) in [("POST", ALL), ("PUT", OWN), ("DELETE", OWN)] {
            let answer = world.call(method, path).json(&json!({"name": "mail.client.example"})).send().await;
            assert_eq!(answer.refusal(), (409, code.into()), "{method} {path}");
            assert!(answer.text.contains(why), "{method} {path}: {}", answer.text);
        }
        assert_eq!((pointers(&world).await, audit(&world).await), (BTreeMap::new(), Vec::new()));
    };
    refused("not-active", "try again when it is active").await;
    finish(&world, &[]).await;
    refused("no-name", "no name was ever declared").await;
    assert_eq!(world.call("DELETE", "/v1/services/shop:1").send().await.status, 202);
    refused("not-active", "this service is terminating").await;
}

#[tokio::test]
async fn a_panel_says_the_names_of_its_own_services_while_it_is_on() {
    let world = active().await;
    let bound = world.token(&["services:write"], Some("shop")).await;
    let put = async || world.call("PUT", OWN).token(&bound).json(&json!({"name": "mail.client.example"})).send().await;
    assert_eq!(put().await.status, 202);
    world.put("panels/shop", json!({"plugin": "panel-whmcs", "plans": ["mild"], "off": true})).await;
    assert_eq!(put().await.refusal(), (403, "panel-off".into()));
    for (method, path) in [("POST", ALL), ("DELETE", OWN)] {
        let answer = world.call(method, path).token(&bound).send().await;
        assert_eq!(answer.refusal(), (403, "panel-off".into()), "{method}");
    }
    assert_eq!(pointers(&world).await["10"], "mail.client.example.");
}
