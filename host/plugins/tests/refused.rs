//! Components that are never installed: each refusal says what is wrong and what to do, and changes nothing.

use crate::common;
use std::{collections::BTreeSet, fmt::Write};

use crate::common::{ANSWER, Lab, adapter, append, good, manifest, signed};
use serde_json::json;
use wharf_plugins::{CompileLimits, Compiler, GrantRequest, InstallError, Runtime};

async fn refused(lab: &Lab, component: Vec<u8>) -> InstallError {
    let before = lab.runtime.plugins();
    let error = lab.runtime.install(component, "tester", GrantRequest::Keep).await.unwrap_err();
    assert_eq!(lab.runtime.plugins(), before, "a refusal changed something");
    error
}

#[tokio::test]
async fn a_core_module_says_how_to_make_a_component_of_it() {
    let error = refused(&Lab::new().await, wat::parse_str("(module)").unwrap()).await;
    assert_eq!(error.code(), "core-module");
    assert!(error.to_string().contains("wasm-tools component new"));
}

#[tokio::test]
async fn a_truncated_file_says_so_wherever_it_ends() {
    let lab = Lab::new().await;
    let whole = good("good", "1.0.0");
    for end in [9, 20, whole.len() / 2, whole.len() - 1] {
        let error = refused(&lab, whole[..end].to_vec()).await;
        assert!(matches!(error.code(), "truncated" | "malformed"), "{end}: {error}");
    }
    assert_eq!(refused(&lab, whole[..whole.len() - 1].to_vec()).await.code(), "truncated");
    assert_eq!(refused(&lab, b"hello".to_vec()).await.code(), "not-wasm");
    assert_eq!(refused(&lab, Vec::new()).await.code(), "not-wasm");
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_by_size() {
    let mut big = good("good", "1.0.0");
    append(&mut big, "padding", &vec![0; 100 << 20]);
    let text = refused(&Lab::new().await, big).await.to_string();
    assert!(text.contains("101 MiB") && text.contains("64 MiB"), "{text}");
}

#[tokio::test]
async fn a_manifest_of_fifty_megabytes_is_refused_by_size() {
    let mut component = adapter("x", ANSWER, "");
    append(&mut component, "wharf:manifest", &vec![b' '; 50 << 20]);
    let error = refused(&Lab::new().await, component).await;
    assert_eq!(error.code(), "manifest");
    assert!(error.to_string().contains("52428800"), "{error}");
}

#[tokio::test]
async fn no_manifest_two_manifests_and_a_nested_one_are_told_apart() {
    let lab = Lab::new().await;
    assert_eq!(refused(&lab, adapter("x", ANSWER, "")).await.code(), "no-manifest");
    let twice = signed(good("good", "1.0.0"), &manifest("other", "1.0.0"));
    assert_eq!(refused(&lab, twice).await.code(), "second-manifest");
    // One in the core module does not speak for the component.
    let inner = r#"(@custom "wharf:manifest" "{}")"#;
    assert_eq!(refused(&lab, adapter("x", ANSWER, inner)).await.code(), "no-manifest");
    lab.install(signed(adapter("x", ANSWER, inner), &manifest("good", "1.0.0"))).await;
}

#[tokio::test]
async fn a_version_is_never_installed_with_other_contents() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    assert!(lab.install(good("good", "1.0.0")).await.again);
    let other = signed(adapter("other", ANSWER, ""), &manifest("good", "1.0.0"));
    let error = refused(&lab, other).await;
    assert_eq!(error.code(), "other-contents");
    assert!(error.to_string().contains("raise the version"), "{error}");
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn the_id_of_a_plugin_of_another_world_is_taken() {
    let lab = Lab::new().await;
    lab.install(good("good", "1.0.0")).await;
    let other = common::hook_manifest("good", &["wharf:hook/events"]);
    let error = refused(&lab, signed(common::hook("", "(i32.const 1024)"), &other)).await;
    assert_eq!(error.code(), "other-world", "{error}");
    assert!(error.to_string().contains("an id of its own"), "{error}");
}

#[tokio::test]
async fn what_it_wants_beyond_its_grant_is_named_and_installed_once_allowed() {
    let lab = Lab::new().await;
    let wants = ["wharf:http/client", "wharf:base/kv", "wharf:hook/events"];
    let component = signed(common::hook("", "(i32.const 1024)"), &common::hook_manifest("teller", &wants));
    let seen = Runtime::inspect(&component).unwrap();
    assert_eq!(seen.needs_grant, ["wharf:base/kv", "wharf:http/client"]);
    assert_eq!(seen.problems, Vec::<String>::new());
    let error = refused(&lab, component.clone()).await;
    assert_eq!(error.code(), "not-granted");
    assert!(error.to_string().contains("wharf:base/kv and wharf:http/client"), "{error}");
    let allow = GrantRequest::Allow(seen.needs_grant.into_iter().collect());
    let installed = lab.runtime.install(component.clone(), "tester", allow).await.unwrap();
    assert!(installed.granted.contains("wharf:base/kv"));
    // Again, and nobody is asked.
    lab.runtime.install(component, "tester", GrantRequest::Keep).await.unwrap();
}

#[tokio::test]
async fn an_import_that_the_manifest_keeps_silent_about_is_refused() {
    let lab = Lab::new().await;
    let import = r#"(import "wharf:http/client@0.1.0" "[constructor]outbound" (func $new (param i32 i32 i32 i32) (result i32)))"#;
    let component = common::hook(import, "(i32.const 1024)");
    let error = refused(&lab, signed(component, &common::hook_manifest("teller", &["wharf:hook/events"]))).await;
    assert!(error.to_string().contains("does not list `wharf:http/client` in `wants`"), "{error}");
}

#[tokio::test]
async fn allowing_what_nobody_wants_is_a_slip() {
    let lab = Lab::new().await;
    let allow = GrantRequest::Allow(BTreeSet::from(["wharf:http/cleint".to_owned()]));
    let error = lab.runtime.install(good("good", "1.0.0"), "tester", allow).await.unwrap_err();
    assert_eq!(error.code(), "not-wanted");
}

#[tokio::test]
async fn a_newer_contract_says_upgrade_the_host() {
    let lab = Lab::new().await;
    let mut newer = manifest("good", "1.0.0");
    newer["wants"] = json!({"wharf:base/log": "0.2.0"});
    let text = refused(&lab, signed(adapter("x", ANSWER, ""), &newer)).await.to_string();
    assert!(text.contains("it needs wharf:base/log@0.2.0, this host has 0.1.0: upgrade the host"), "{text}");
}

#[tokio::test]
async fn a_broken_schema_is_the_authors_mistake_and_found_at_once() {
    let lab = Lab::new().await;
    let mut broken = manifest("good", "1.0.0");
    broken["settings"] = json!({"type": "strnig"});
    let text = refused(&lab, signed(adapter("x", ANSWER, ""), &broken)).await.to_string();
    assert!(text.contains("manifest field `settings`"), "{text}");
}

#[tokio::test]
async fn a_memory_larger_than_a_call_may_have_is_found_at_the_start() {
    let lab = Lab::with(|config| config.memory_mib = 16).await;
    let error = refused(&lab, common::bad("bad", ANSWER, "(memory $big 400)")).await;
    assert_eq!(error.code(), "warm");
    assert!(error.to_string().contains("16 MiB"), "{error}");
}

/// Components that each hold the one before twice: `levels` doublings in a few bytes.
fn bomb(levels: u32) -> Vec<u8> {
    let mut text = String::from(
        "(component (component $c0 (core module $m (memory 0) (func (export \"f\"))) (core instance (instantiate $m)))\n",
    );
    for n in 1..=levels {
        let before = n - 1;
        writeln!(
            text,
            "(component $c{n} (alias outer 1 $c{before} (component $x)) (instance (instantiate $x)) (instance (instantiate $x)))"
        )
        .unwrap();
    }
    writeln!(text, "(instance (instantiate $c{levels})) (component $e) (instance $i (instantiate $e)) (export \"wharf:panel/adapter@0.1.0\" (instance $i)))")
        .unwrap();
    signed(wat::parse_str(&text).unwrap(), &manifest("bomb", "1.0.0"))
}

fn child(config: &mut wharf_plugins::RuntimeConfig) {
    config.compiler = Compiler::Child(env!("CARGO_BIN_EXE_wharf-compile").into());
}

#[tokio::test]
async fn a_compile_bomb_dies_in_its_child_and_the_host_stays_small() {
    let lab = Lab::with(|config| {
        child(config);
        config.compile = CompileLimits { memory_mib: 400, seconds: 60, output_mib: 64 };
    })
    .await;
    lab.install(good("good", "1.0.0")).await;
    let before = common::resident_mib();
    let component = bomb(24);
    assert!(component.len() < 4096);
    let error = refused(&lab, component).await;
    assert_eq!(error.code(), "compile");
    assert!(error.to_string().contains("400 MiB of memory"), "{error}");
    assert!(common::resident_mib() < before + 50);
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
}

#[tokio::test]
async fn a_bomb_that_compiles_has_more_parts_than_a_call_may_have() {
    let lab = Lab::new().await;
    let error = refused(&lab, bomb(8)).await;
    assert!(matches!(error.code(), "compile" | "warm"), "{error}");
}

#[tokio::test]
async fn the_child_compiles_what_the_host_runs_and_names_a_missing_compiler() {
    let lab = Lab::with(child).await;
    lab.install(good("good", "1.0.0")).await;
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    let lab = Lab::with(|config| config.compiler = Compiler::Child("/nowhere/wharf".into())).await;
    let error = refused(&lab, good("good", "1.0.0")).await;
    assert!(error.to_string().contains("/nowhere/wharf"), "{error}");
}

#[tokio::test]
async fn code_that_does_not_validate_is_the_compilers_word_not_a_crash() {
    let lab = Lab::with(child).await;
    let mut component = good("good", "1.0.0");
    // An unknown instruction in the body of `translate`: its `i32.const 1024`.
    let at = component.windows(4).position(|w| w == [0x41, 0x80, 0x08, 0x0b]).unwrap();
    component[at] = 0x1d;
    let error = refused(&lab, component).await;
    assert_eq!(error.code(), "compile", "{error}");
}
