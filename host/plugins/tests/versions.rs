//! Swaps: installs, rollbacks, grants, restarts.

use std::sync::Arc;

use crate::common::{ANSWER, Lab, adapter, good, manifest, signed};
use semver::Version;
use serde_json::json;
use wharf_model::object::{Grant, ObjectKind};
use wharf_plugins::report::PanelHook;
use wharf_plugins::{GrantRequest, Runtime, RuntimeConfig, report::Cause};

#[tokio::test]
async fn an_install_is_live_at_once_and_a_rollback_too() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    let second = lab.install(good("good", "2.0.0")).await;
    assert_eq!(second.previous, Some(Version::new(1, 0, 0)));
    assert_eq!(lab.ask("good").await.unwrap(), "2.0.0");
    lab.runtime.rollback("good", "tester").await.unwrap();
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    lab.runtime.roll_out("good", &Version::new(2, 0, 0), "tester").await.unwrap();
    assert_eq!(lab.ask("good").await.unwrap(), "2.0.0");
    let actions: Vec<_> = lab.lender.books.audit_log(10).await.unwrap().into_iter().map(|a| a.action).collect();
    for action in ["plugin.install", "plugin.roll-out", "plugin.rollback"] {
        assert!(actions.iter().any(|a| a == action), "{actions:?}");
    }
}

#[tokio::test]
async fn there_is_nothing_to_roll_back_to_at_first() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    assert_eq!(lab.runtime.rollback("good", "tester").await.unwrap_err().code(), "no-previous");
    let missing = lab.runtime.roll_out("good", &Version::new(9, 0, 0), "tester").await.unwrap_err();
    assert_eq!(missing.code(), "no-such-version");
    assert_eq!(lab.runtime.rollback("nobody", "tester").await.unwrap_err().code(), "no-such-version");
}

#[tokio::test]
async fn a_plugin_that_is_off_says_so() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    lab.runtime.set_enabled("good", false, "tester").await.unwrap();
    let error = lab.ask("good").await.unwrap_err();
    assert_eq!(error.cause, Cause::NotInstalled);
    assert!(error.text.contains("switched off"), "{}", error.text);
    assert!(lab.runtime.manifest("good").is_some());
    lab.runtime.set_enabled("good", true, "tester").await.unwrap();
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_under_load_fails_nobody() {
    let lab = Arc::new(Lab::new().await);
    lab.install(good("good", "1.0.0")).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (lab, stop) = (lab.clone(), stop.clone());
            tokio::spawn(async move {
                let mut seen = std::collections::BTreeSet::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    seen.insert(lab.ask("good").await.unwrap());
                }
                seen
            })
        })
        .collect();
    lab.install(good("good", "2.0.0")).await;
    lab.runtime.rollback("good", "tester").await.unwrap();
    lab.install(good("good", "3.0.0")).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for caller in callers {
        let seen = caller.await.unwrap();
        assert!(seen.iter().all(|v| ["1.0.0", "2.0.0", "3.0.0"].contains(&v.as_str())), "{seen:?}");
    }
    assert_eq!(lab.ask("good").await.unwrap(), "3.0.0");
}

#[tokio::test]
async fn a_restart_finds_everything_in_the_books_and_compiles_nothing() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    lab.install(good("good", "2.0.0")).await;
    let mut config = RuntimeConfig::for_tests(lab.dir.path());
    // A compiler that does not exist: the artefacts are there.
    config.compiler = wharf_plugins::Compiler::Child("/nowhere".into());
    let again = Runtime::open(config, lab.lender.clone()).await.unwrap();
    assert_eq!(again.translate("good", &PanelHook::default()).await.unwrap().version, Version::new(2, 0, 0));
    again.rollback("good", "tester").await.unwrap();
    assert_eq!(again.translate("good", &PanelHook::default()).await.unwrap().version, Version::new(1, 0, 0));
}

#[tokio::test]
async fn a_version_that_no_longer_loads_hurts_only_itself() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    lab.install(good("other", "1.0.0")).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let mut config = RuntimeConfig::for_tests(elsewhere.path());
    config.compiler = wharf_plugins::Compiler::Child("/nowhere".into());
    // No artefact and no compiler: the host opens, and says at each call why.
    let again = Runtime::open(config, lab.lender.clone()).await.unwrap();
    let error = again.translate("good", &PanelHook::default()).await.unwrap_err();
    assert_eq!(error.cause, Cause::NotInstalled);
    assert!(error.text.contains("/nowhere"), "{}", error.text);
    assert!(again.plugins()[0].versions[0].problem.is_some());
}

#[tokio::test]
async fn another_hosts_swap_is_seen_after_a_refresh() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    let other = Runtime::open(RuntimeConfig::for_tests(lab.dir.path()), lab.lender.clone()).await.unwrap();
    other.install(good("good", "2.0.0"), "tester", GrantRequest::Keep).await.unwrap();
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    lab.runtime.refresh().await.unwrap();
    assert_eq!(lab.ask("good").await.unwrap(), "2.0.0");
}

#[tokio::test]
async fn a_plugin_that_was_never_installed_is_named() {
    let lab = Lab::new().await;
    let error = lab.ask("nobody").await.unwrap_err();
    assert_eq!(error.cause, Cause::NotInstalled);
    assert!(error.text.contains("`nobody`") && error.text.contains("wharf plugin install"), "{}", error.text);
}

#[tokio::test]
async fn grants_of_admins_survive_an_upgrade() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    let mut body = lab.lender.books.object(ObjectKind::Grant, "good").await.unwrap().unwrap().body;
    body["private_origins"] = json!(["http://10.0.0.1:8081"]);
    lab.lender.books.put_object(ObjectKind::Grant, "good", body, None, None, 0).await.unwrap();
    lab.install(good("good", "2.0.0")).await;
    let grant: Grant =
        serde_json::from_value(lab.lender.books.object(ObjectKind::Grant, "good").await.unwrap().unwrap().body)
            .unwrap();
    assert!(grant.private_origins.contains("http://10.0.0.1:8081"));
}

#[tokio::test]
async fn a_plugin_gets_the_limits_that_its_manifest_asks_for() {
    let lab = Lab::with(|config| config.call_ms = 60_000).await;
    let mut short = manifest("bad", "1.0.0");
    short["limits"] = json!({"call_ms": 150});
    lab.install(signed(adapter("x", "(loop $l (br $l)) unreachable", ""), &short)).await;
    let error = lab.ask("bad").await.unwrap_err();
    assert!(error.text.contains("150 ms"), "{}", error.text);
    let mut large = manifest("large", "1.0.0");
    large["limits"] = json!({"memory_mib": 200});
    lab.install(signed(adapter("x", ANSWER, "(memory $big 2000)"), &large)).await;
    assert_eq!(lab.ask("large").await.unwrap(), "x");
}
