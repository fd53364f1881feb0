//! Steps: which version runs, and what is made of its answer.

use crate::common::{Lab, binding, hook, hook_manifest, provisioner, provisioner_manifest, run, signed};
use semver::Version;
use wharf_plugins::{
    GrantRequest,
    report::{Action, Cause, Heard, How, Outcome},
};

const WAIT: &str = "(i32.const 1024)";
const REACH: &str = "(i32.const 1152)";

async fn install(lab: &Lab, body: &str, version: &str, reads: (u32, u32), writes: u32) {
    let component = signed(provisioner(body), &provisioner_manifest(version, reads, writes));
    let allow = GrantRequest::Allow(["wharf:proxmox/vms".to_owned()].into());
    lab.runtime.install(component, "tester", allow).await.unwrap();
}

async fn version_at(lab: &Lab, state_version: u32) -> String {
    lab.runtime.step(run(state_version)).await.unwrap().version.to_string()
}

#[tokio::test]
async fn a_step_runs_on_the_newest_version_that_reads_its_state_else_on_the_one_that_wrote_it() {
    let lab = Lab::new().await;
    install(&lab, WAIT, "1.0.0", (1, 1), 1).await;
    assert_eq!(version_at(&lab, 1).await, "1.0.0");
    // Reads nothing old: what is under way stays where it began.
    install(&lab, WAIT, "2.0.0", (2, 2), 2).await;
    assert_eq!(version_at(&lab, 1).await, "1.0.0");
    assert_eq!(version_at(&lab, 2).await, "2.0.0");
    // Reads everything: all move.
    install(&lab, WAIT, "3.0.0", (1, 3), 3).await;
    for state in 1..=3 {
        assert_eq!(version_at(&lab, state).await, "3.0.0");
    }
    // Back to 2: what 3 wrote stays with 3; what 1 wrote is loaded again for it.
    lab.runtime.rollback("maker", "tester").await.unwrap();
    assert_eq!(version_at(&lab, 1).await, "1.0.0");
    assert_eq!(version_at(&lab, 2).await, "2.0.0");
    assert_eq!(version_at(&lab, 3).await, "3.0.0");
    let error = lab.runtime.step(run(9)).await.unwrap_err();
    assert_eq!(error.cause, Cause::NotInstalled);
    assert!(error.text.contains("state version 9") && error.text.contains("1.0.0, 2.0.0 and 3.0.0"), "{}", error.text);
    assert_eq!(lab.runtime.manifest_for_state("maker", 1).unwrap().version, Version::new(1, 0, 0));
}

#[tokio::test]
async fn a_step_that_waits_says_how_long() {
    let lab = Lab::new().await;
    install(&lab, WAIT, "1.0.0", (1, 1), 1).await;
    let report = lab.runtime.step(run(1)).await.unwrap();
    assert_eq!(report.answer, Ok(Outcome::Waiting { after_ms: 5_000, topic: None, reason: String::new() }));
    assert_eq!((report.writes, report.submitted), (1, None));
}

#[tokio::test]
async fn a_step_that_reaches_the_next_state_is_believed() {
    let lab = Lab::new().await;
    install(&lab, REACH, "1.0.0", (1, 1), 1).await;
    let Ok(Outcome::Reached(states)) = lab.runtime.step(run(1)).await.unwrap().answer else { panic!("it is reached") };
    assert_eq!((states.len(), states[0].state.as_str(), &states[0].how), (1, "done", &How::Done));
    // From the last state there is nothing left to reach.
    let mut over = run(1);
    over.operation.state = "done".into();
    let failure = lab.runtime.step(over).await.unwrap().answer.unwrap_err();
    assert_eq!((failure.action, failure.code.as_str()), (Action::ReportBug, "bad-answer"));
}

#[tokio::test]
async fn an_answer_submitted_without_a_write_is_the_plugins_bug() {
    let lab = Lab::new().await;
    install(&lab, "(i32.store8 (i32.const 1028) (i32.const 1)) (i32.const 1024)", "1.0.0", (1, 1), 1).await;
    let failure = lab.runtime.step(run(1)).await.unwrap().answer.unwrap_err();
    assert!(failure.message.contains("submitted no write"), "{}", failure.message);
}

#[tokio::test]
async fn a_trap_in_a_step_names_plugin_version_and_export() {
    let lab = Lab::new().await;
    install(&lab, "unreachable", "1.0.0", (1, 1), 1).await;
    let error = lab.runtime.step(run(1)).await.unwrap_err();
    assert_eq!(error.cause, Cause::Trap);
    assert!(error.text.starts_with("`maker` 1.0.0 failed in `step`: trap: "), "{}", error.text);
}

#[tokio::test]
async fn a_plan_check_without_the_export_finds_nothing() {
    let lab = Lab::new().await;
    install(&lab, WAIT, "1.0.0", (1, 1), 1).await;
    assert_eq!(lab.runtime.check_plan("maker", "pve", &serde_json::json!({})).await.unwrap(), []);
}

#[tokio::test]
async fn a_hook_is_told_and_one_without_the_export_is_not_asked() {
    let lab = Lab::new().await;
    let component = signed(
        hook("", "(call $done (local.get 0)) (i32.const 1024)"),
        &hook_manifest("teller", &["wharf:hook/events"]),
    );
    lab.install(component).await;
    assert_eq!(lab.runtime.tell("teller", binding()).await.unwrap().answer, Ok(Heard::Delivered));
    assert!(lab.runtime.ask("teller", binding()).await.unwrap().answer.is_none());
    // A hook is no provisioner, whoever says so.
    let mut mistaken = run(1);
    mistaken.operation.plugin = "teller".into();
    let error = lab.runtime.step(mistaken).await.unwrap_err();
    assert!(error.text.contains("not a provisioner"), "{}", error.text);
}
