//! The document of the API and the API itself are the same thing.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::{Value, json};
use wharf_api::{BODY_BYTES, COMPONENT_BYTES};

use crate::world::{Answer, World, document};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Every documented operation: method in upper case, path, description.
pub fn operations() -> Vec<(String, String, &'static Value)> {
    let mut all = Vec::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                all.push((method.to_uppercase(), path.clone(), operation));
            }
        }
    }
    all
}

/// A path with something plausible in its parameters.
pub fn filled(path: &str) -> String {
    let id = if path.contains("/operations/") {
        "0192f0c1-2345-7abc-8def-0123456789ab"
    } else if path.contains("/services/") {
        "shop:1"
    } else {
        "something"
    };
    path.replace("{id}", id)
        .replace("{panel}", "shop")
        .replace("{verb}", "create")
        .replace("{kind}", "servers")
        .replace("{name}", "pve")
        .replace("{address}", "192.0.2.10")
}

/// The scope that the document names, if any token is needed.
pub fn scope(operation: &Value) -> Option<&str> {
    operation["security"].as_array()?.iter().find_map(|s| s["token"][0].as_str())
}

fn documented(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let mut best: Option<(usize, &Value)> = None;
    for (template, item) in document()["paths"].as_object().unwrap() {
        let (want, have): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        let literal = want.iter().filter(|w| !w.starts_with('{')).count();
        let fits = want.len() == have.len() && want.iter().zip(&have).all(|(w, h)| w.starts_with('{') || w == h);
        if fits && best.is_none_or(|(n, _)| literal > n) {
            best = Some((literal, item));
        }
    }
    best?.1.get(method.to_lowercase())
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(at) => document().pointer(at.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{at} leads nowhere")),
        None => value,
    }
}

/// Holds an answer against the document.
pub fn check(method: &str, path: &str, answer: &Answer) {
    let Some(operation) = documented(method, path) else {
        assert!([404, 405, 413].contains(&answer.status), "{method} {path} is not documented: {}", answer.text);
        return;
    };
    let responses = &operation["responses"];
    let by_status = responses.get(answer.status.to_string());
    assert!(
        by_status.is_some() || answer.status >= 400,
        "{method} {path} answers {}, which is not documented",
        answer.status
    );
    let described = resolved(by_status.unwrap_or(&responses["default"]));
    let essence = answer.header("content-type").split(';').next().unwrap().to_owned();
    let content = described["content"].as_object().unwrap();
    if path.starts_with("/hooks/") && essence != "application/problem+json" {
        return;
    }
    let kind = content.get(&essence).unwrap_or_else(|| {
        panic!("{method} {path} {}: `{essence}` is none of {:?}", answer.status, content.keys().collect::<Vec<_>>())
    });
    if essence.ends_with("json") {
        let schema = json!({"allOf": [kind["schema"]], "components": document()["components"]});
        let wrong: Vec<_> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&answer.json())
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{method} {path} {}: {wrong:?}\n{}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn every_route_stands_in_the_document_and_every_path_of_the_document_is_a_route() {
    let world = World::new().await;
    // The router names its paths in its debug output, and nowhere else: `RouteId(3): "/v1/events"`.
    let debug = format!("{:?}", world.router);
    let served: BTreeSet<&str> = debug
        .split("RouteId(")
        .filter_map(|part| part.split_once("): \"")?.1.split('"').next())
        // Besides, the fallback's.
        .filter(|path| *path != "/" && !path.contains("__private"))
        .collect();
    let described: BTreeSet<&str> = document()["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(served.len() > 10, "the router's debug output has another form now: {debug}");
    assert_eq!(served, described);
}

#[tokio::test]
async fn every_path_takes_the_methods_of_the_document_and_no_others() {
    let world = World::new().await;
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in METHODS {
            let answer = world.call(&method.to_uppercase(), &filled(path)).nobody().peer("192.0.2.77").send().await;
            if item.get(method).is_some() {
                assert_ne!(answer.status, 405, "{method} {path}");
            } else {
                assert_eq!(answer.refusal(), (405, "method".to_owned()), "{method} {path}");
                let allow = answer.header("allow");
                let documented =
                    METHODS.into_iter().filter(|m| item.get(m).is_some()).all(|m| allow.contains(&m.to_uppercase()));
                assert!(documented, "{path}: Allow: {allow}");
            }
        }
    }
}

#[test]
fn the_document_is_openapi_3_1_and_complete() {
    assert!(document()["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let at = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{at}: its id stands there twice");
        for text in [&operation["summary"], &operation["tags"][0]] {
            assert!(text.as_str().is_some_and(|t| !t.is_empty()), "{at}");
        }
        let open = ["/healthz", "/readyz", "/v1/openapi.json", "/v1/names"].contains(&path.as_str());
        assert_eq!(open, operation["security"].is_null(), "{at}: who may call it");
        let scope = scope(operation);
        assert!(open || path.starts_with("/hooks/") || wharf_api::tokens::SCOPES.contains(&scope.unwrap()), "{at}");
        let problem = resolved(&operation["responses"]["default"]);
        assert!(problem["content"]["application/problem+json"]["schema"]["$ref"].is_string(), "{at}");
        for name in path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')) {
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "path"), "{at}: {name}");
        }
        let good = operation["responses"].as_object().unwrap().iter().any(|(s, _)| s.starts_with('2'));
        assert!(good, "{at}");
    }
    let mut open = vec![document()];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if map.get("$ref").is_some_and(Value::is_string) {
                    resolved(value);
                }
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_document_needs_no_token_and_is_what_the_types_say() {
    let world = World::new().await;
    let answer = world.call("GET", "/v1/openapi.json").nobody().send().await;
    assert_eq!((answer.status, &answer.json()), (200, document()));
}

#[tokio::test]
async fn unknown_parameters_are_refused_by_every_route_and_named() {
    let world = World::new().await;
    for (method, path, operation) in operations() {
        // What the query of a hook means is the adapter's business.
        if path.starts_with("/hooks/") {
            continue;
        }
        let mut call = world.call(&method, &format!("{}?no-such=1", filled(&path)));
        if operation["requestBody"].is_object() {
            call = call.json(&json!({}));
        }
        let answer = call.send().await;
        assert_eq!(answer.refusal(), (400, "query".to_owned()), "{method} {path}");
        assert_eq!(answer.json()["errors"][0]["field"], "no-such", "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_its_remedy() {
    let world = World::new().await;
    for (path, code, field, remedy) in [
        ("/v1/services?limit=0", "query", "limit", "1 to 200"),
        ("/v1/services?limit=201", "query", "limit", "1 to 200"),
        ("/v1/services?limit=many", "query", "limit", "whole number"),
        ("/v1/services?limit=1&limit=2", "query", "limit", "once"),
        ("/v1/services?phase=activ", "query", "phase", "active"),
        ("/v1/services?after=x", "query", "after", "UUID"),
        ("/v1/events?after=first", "query", "after", "whole number"),
        ("/v1/admin/audit?limit=1000", "query", "limit", "1 to 200"),
        ("/v1/operations/17", "path", "id", "UUID"),
        ("/v1/operations/17/log", "path", "id", "UUID"),
        ("/v1/services/%ff", "path", "id", "UTF-8"),
        ("/v1/services/shop", "service-id", "id", "panel:ref"),
        ("/v1/services/shop:", "service-id", "id", "panel:ref"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.refusal(), (400, code.to_owned()), "{path}");
        let body = answer.json();
        assert_eq!(body["errors"][0]["field"], field, "{path}: {body}");
        assert!(body["detail"].as_str().unwrap().contains(remedy), "{path}: {body}");
    }
}

#[tokio::test]
async fn what_axum_would_refuse_by_itself_is_a_problem_with_a_stable_code() {
    let world = World::with_shop().await;
    let put = |body: &'static str| world.call("PUT", "/v1/services/shop:1").body(body);
    let json = "application/json";
    assert_eq!(world.get("/nowhere").await.refusal(), (404, "no-such-path".into()));
    assert_eq!(world.call("PATCH", "/v1/events").send().await.refusal(), (405, "method".into()));
    assert_eq!(put("{}").send().await.refusal(), (415, "content-type".into()));
    assert_eq!(put("{}").header("content-type", "text/plain").send().await.refusal(), (415, "content-type".into()));
    assert_eq!(put("{").header("content-type", json).send().await.refusal(), (400, "json".into()));
    assert_eq!(put("").header("content-type", json).send().await.refusal(), (400, "json".into()));
    assert_eq!(put("{\"plan\": 5}").header("content-type", json).send().await.refusal(), (422, "fields".into()));
    assert_eq!(put("[]").header("content-type", json).send().await.refusal(), (422, "fields".into()));
    let good = put("{\"plan\": \"mild\"}").header("content-type", "application/json; charset=utf-8").send().await;
    assert_eq!(good.status, 202, "{}", good.text);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_anyone_asks_who_sends_it() {
    let world = World::new().await;
    let paths = [("PUT", "/v1/services/shop:1"), ("POST", "/hooks/shop/create"), ("PUT", "/v1/admin/servers/pve")];
    for (method, path) in paths {
        // By what it says of itself, with nothing read and nobody known.
        let size = (BODY_BYTES + 1).to_string();
        let answer = world.call(method, path).nobody().header("content-length", &size).send().await;
        assert_eq!(answer.refusal(), (413, "body-too-large".into()), "{method} {path}");
    }
    let large = (COMPONENT_BYTES + 1).to_string();
    let answer = world.call("POST", "/v1/admin/plugins").nobody().header("content-length", &large).send().await;
    assert_eq!(answer.refusal(), (413, "body-too-large".into()));
    // A component may be larger than other bodies.
    let answer = world.call("POST", "/v1/admin/plugins").body(vec![0_u8; BODY_BYTES + 1]).send().await;
    assert_eq!(answer.refusal(), (422, "not-wasm".into()));

    // One that doesn't say its size is cut off while it is read.
    let endless = || Body::from_stream(futures::stream::repeat(Ok::<_, std::convert::Infallible>("x".repeat(65_536))));
    for (method, path) in paths {
        let answer = world.call(method, path).header("content-type", "application/json").body(endless()).send().await;
        assert_eq!(answer.refusal(), (413, "body-too-large".into()), "{method} {path}");
    }
    // A stranger's is not read at all.
    let answer = world.call("PUT", "/v1/services/shop:1").nobody().body(endless()).send().await;
    assert_eq!(answer.refusal(), (401, "token".into()));
}
