use serde_json::json;
use wharf_sdk::dns::prelude::*;
use wharf_sdk::testing::Scripted;

use crate::{api::Api, work};

fn zone() -> ZoneRef {
    ZoneRef { id: "z1".into(), name: "example.com.".into() }
}

fn add(data: &str) -> Change {
    Change {
        id: 1,
        name: "www.example.com.".into(),
        rtype: "A".into(),
        ttl: Some(300),
        edit: Edit::AddValues(vec![Value::new(data)]),
        expect: None,
        owner: None,
        ext: Vec::new(),
    }
}

fn apply(script: &mut Scripted, change: Change) -> Outcome {
    let report = work::apply(&mut Api::new(script, "https://api.test"), &zone(), &[change], || false).unwrap();
    report.outcomes.into_iter().next().unwrap().1
}

fn holding(data: &str) -> serde_json::Value {
    json!({"records": [{"id": "r1", "name": "www.example.com", "type": "A", "data": data, "ttl": 600}],
        "total": 1, "next_page": null})
}

#[test]
fn a_value_is_added_beside_what_is_there() {
    let mut script = Scripted::default().answer(200, holding("192.0.2.1")).answer(201, "{}");
    let Outcome::Applied(set) = apply(&mut script, add("192.0.2.2")) else { panic!("not applied") };
    assert_eq!(set.values.len(), 2);
    assert_eq!(
        script.lines(),
        ["GET https://api.test/v1/zones/z1/records", "POST https://api.test/v1/zones/z1/records"]
    );
}

#[test]
fn what_is_so_already_is_not_written() {
    let mut script = Scripted::default().answer(200, holding("192.0.2.1"));
    assert!(matches!(apply(&mut script, add("192.0.2.1")), Outcome::Unchanged(_)));
    assert_eq!(script.asked.len(), 1);
}

#[test]
fn a_refused_token_is_for_the_admin_and_asked_once() {
    let mut script = Scripted::default().answer(401, "no such token");
    let problem = work::probe(&mut Api::new(&mut script, "https://api.test/"), "example.com.").unwrap_err();
    assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixConfig, "credentials"));
    assert_eq!(script.lines(), ["GET https://api.test/v1/zones"]);
}

#[test]
fn a_list_that_lacks_something_is_not_complete() {
    let mut script = Scripted::default().answer(200, json!({"records": [], "total": 2, "next_page": null}));
    let read = work::read(&mut Api::new(&mut script, "https://api.test"), &zone(), &Selector::All).unwrap();
    assert!(!read.complete);
}
