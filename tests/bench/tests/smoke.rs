//! The bench itself: every figure gives its rows, on a handful of samples. Nothing is said about speed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// Where a folder of built things is.
fn built(variable: &str, folder: &str) -> PathBuf {
    let target = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"));
    std::env::var_os(variable).map_or_else(|| target.join(folder), PathBuf::from)
}

#[test]
fn every_figure_gives_its_rows_and_the_report_is_written() {
    let out = tempfile::tempdir().unwrap();
    let wharf = built("", "debug/wharf");
    assert!(wharf.exists(), "{} is missing: run `cargo build --workspace --all-targets`", wharf.display());
    let ran = Command::new(env!("CARGO_BIN_EXE_wharf-bench"))
        .arg("--smoke")
        .arg("--wharf")
        .arg(wharf)
        .arg("--stdio")
        .arg(env!("CARGO_BIN_EXE_bench-stdio"))
        .arg("--plugins")
        .arg(built("WHARF_PLUGINS_DIR", "plugins"))
        .arg("--providers")
        .arg(built("WHARF_PROVIDERS_DIR", "providers"))
        .arg("--out")
        .arg(out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(out.path().join("report.json")).unwrap()).unwrap();
    let sections = report["sections"].as_array().unwrap();
    let names: Vec<&str> = sections.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["hooks", "deploy", "step", "calls", "peers", "in-flight", "idle-services", "swap", "idle-memory"]
    );
    for section in sections {
        let rows = section["rows"].as_array().unwrap();
        assert!(rows.len() > 2 && section["failure"].is_null(), "{section}");
    }
    // These hold on any machine, however slow.
    let row = |name: &str, what: &str| {
        let section = sections.iter().find(|s| s["name"] == name).unwrap();
        let rows = section["rows"].as_array().unwrap();
        rows.iter()
            .find(|r| r["what"].as_str().unwrap().starts_with(what))
            .unwrap_or_else(|| panic!("{rows:?}"))
            .clone()
    };
    assert_eq!(row("deploy", "writes to Proxmox")["met"], true);
    assert_eq!(row("swap", "orders or deploys that failed")["number"], 0.0);
    assert_eq!(row("swap", "VMs or clones more than orders")["number"], 0.0);
    let table = std::fs::read_to_string(out.path().join("report.md")).unwrap();
    assert!(table.contains("fsync") && table.contains("load average") && table.contains("commit"), "{table}");
}
