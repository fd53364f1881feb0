//! Sessions with DNS providers: one store a call, one version a session, and no answer believed that can't be.

use crate::common;
use std::sync::Arc;

use crate::common::{Lab, good, signed};
use wharf_capabilities::call::ZoneBinding;
use wharf_model::object::Zone;
use wharf_plugins::dns::{Capabilities, Change, DnsSession, Edit, ProblemAction, RrSet, Selector, Value, ZoneRef};

/// A provider that answers zeros to everything: `ok` of empty things.
fn provider(version: &str) -> Vec<u8> {
    let answers = |name: &str, inputs: usize| {
        let drop = if name == "normalize" { "" } else { "(call $done (local.get 0))" };
        format!(
            r#"(func (export "wharf:dns/provider@0.1.0#{name}") (param {}) (result i32) {drop} (i32.const 1024))"#,
            "i32 ".repeat(inputs)
        )
    };
    let functions = [
        ("normalize", 1),
        ("probe", 3),
        ("test-connection", 5),
        ("list-zones", 1),
        ("read", 8),
        ("apply", 7),
        ("poll", 7),
    ]
    .map(|(name, inputs)| answers(name, inputs))
    .concat();
    let component = common::component(
        "dns-provider",
        &format!(
            r#"(module
                (import "wharf:dns/calls@0.1.0" "[resource-drop]call" (func $done (param i32)))
                (memory (export "memory") 4)
                (global $next (mut i32) (i32.const 65536))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.set $next (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                {functions})"#
        ),
    );
    signed(
        component,
        &serde_json::json!({"id": "names", "name": "Names", "version": version, "world": "dns-provider",
            "licence": "Apache-2.0", "wants": {"wharf:dns/calls": "0.1.0"}}),
    )
}

async fn session(lab: &Lab, plugin: &str) -> Result<DnsSession, wharf_plugins::report::CallError> {
    let binding = ZoneBinding {
        name: "main".into(),
        zone: Zone {
            zone: "example.".into(),
            plugin: plugin.into(),
            settings: serde_json::json!({}),
            ..Zone::default()
        },
        idempotency_key: "k".into(),
        learnt: Vec::new(),
        progress: Default::default(),
        cancelled: Arc::default(),
    };
    lab.runtime.dns(binding).await
}

fn zone() -> ZoneRef {
    ZoneRef { id: "1".into(), name: "example.".into() }
}

#[tokio::test]
async fn every_call_of_a_session_has_a_store_of_its_own() {
    let lab = Lab::new().await;
    lab.install(provider("1.0.0")).await;
    let mut session = session(&lab, "names").await.unwrap();
    let probed = session.probe("example.").await.unwrap().answer.unwrap();
    assert_eq!(probed.can.parallel_per_zone, 1, "0 counts as 1");
    assert_eq!(session.list_zones().await.unwrap().answer, Ok(Vec::new()));
    assert_eq!(session.test_connection(None, false).await.unwrap().answer, Vec::new());
    let keys = Selector::Keys(vec![("a.example.".into(), "A".into())]);
    assert!(!session.read(&zone(), keys).await.unwrap().answer.unwrap().complete);
    assert!(session.poll(&zone(), "x").await.unwrap().answer.is_ok());
    assert!(session.publish(&zone()).await.unwrap().answer.is_none());
    assert_eq!((lab.runtime.in_use(), lab.runtime.max_in_use()), (0, 1));
}

#[tokio::test]
async fn a_report_that_leaves_a_change_out_means_look_again() {
    let lab = Lab::new().await;
    lab.install(provider("1.0.0")).await;
    let mut session = session(&lab, "names").await.unwrap();
    let change = Change {
        id: 1,
        name: "a.example.".into(),
        rtype: "A".into(),
        ttl: Some(60),
        edit: Edit::AddValues(vec![Value::new("192.0.2.1")]),
        expect: None,
        owner: None,
    };
    let problem = session.apply(&zone(), vec![change]).await.unwrap().answer.unwrap_err();
    assert_eq!(problem.action, ProblemAction::Verify);
    assert!(session.apply(&zone(), Vec::new()).await.unwrap().answer.is_ok());
}

#[tokio::test]
async fn verdicts_must_be_as_many_as_the_questions() {
    let lab = Lab::new().await;
    lab.install(provider("1.0.0")).await;
    let mut session = session(&lab, "names").await.unwrap();
    let can = Capabilities::default();
    assert_eq!(session.normalize(can.clone(), "example.", Vec::new()).await.unwrap().answer, Ok(Vec::new()));
    let problem = session.normalize(can, "example.", vec![RrSet::default()]).await.unwrap().answer.unwrap_err();
    assert_eq!(problem.action, ProblemAction::ReportBug);
}

#[tokio::test]
async fn a_session_stays_with_its_version_through_a_swap() {
    let lab = Lab::new().await;
    lab.install(provider("1.0.0")).await;
    let mut old = session(&lab, "names").await.unwrap();
    lab.install(provider("2.0.0")).await;
    assert_eq!(old.list_zones().await.unwrap().version.to_string(), "1.0.0");
    assert_eq!(session(&lab, "names").await.unwrap().version().to_string(), "2.0.0");
}

#[tokio::test]
async fn a_plugin_of_another_world_is_no_provider() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    let error = session(&lab, "good").await.err().unwrap();
    assert!(error.text.contains("not a DNS provider"), "{}", error.text);
}
