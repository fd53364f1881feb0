//! The bench itself: every figure gives its rows, on a handful of samples. Nothing is said about speed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// Where a folder of built things is.
fn built(variable: &str, folder: &str) -> PathBuf {
    let target = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target"));
    std::env::var_os(variable).map_or_else(|| target.join(folder), PathBuf::from)
}

/// Measures these and returns the report's sections, each with its rows.
fn measured(names: &[&str]) -> Vec<Value> {
    let out = tempfile::tempdir().unwrap();
    let wharf = built("", "debug/wharf");
    assert!(wharf.exists(), "{} is missing: run `cargo build --workspace --all-targets`", wharf.display());
    let mut bench = Command::new(env!("CARGO_BIN_EXE_wharf-bench"));
    bench.arg("--smoke").arg("--wharf").arg(wharf).arg("--stdio").arg(env!("CARGO_BIN_EXE_bench-stdio"));
    bench.arg("--plugins").arg(built("WHARF_PLUGINS_DIR", "plugins"));
    let ran = bench.arg("--out").arg(out.path()).args(names).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(out.path().join("report.json")).unwrap()).unwrap();
    let sections = report["sections"].as_array().unwrap().clone();
    assert_eq!(sections.iter().map(|s| s["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    for section in &sections {
        assert!(section["rows"].as_array().unwrap().len() > 2 && section["failure"].is_null(), "{section}");
    }
    let table = std::fs::read_to_string(out.path().join("report.md")).unwrap();
    for part in ["fsync", "load average", "commit", "measured"] {
        assert!(table.contains(part), "{table}");
    }
    sections
}

fn row<'a>(sections: &'a [Value], what: &str) -> &'a Value {
    let rows = sections.iter().flat_map(|s| s["rows"].as_array().unwrap());
    rows.into_iter().find(|r| r["what"].as_str().unwrap().starts_with(what)).unwrap_or_else(|| panic!("{what}"))
}

#[test]
fn figures_of_hooks_deploys_and_calls_give_their_rows() {
    let sections = measured(&["hooks", "deploy", "step", "calls", "peers"]);
    // That holds on any machine, however slow.
    assert_eq!(row(&sections, "writes to Proxmox")["met"], true);
    for what in
        ["compiled", "start of a runtime", "its first call", "linear memory of a call", "resident memory of one more"]
    {
        assert!(row(&sections, &format!("Rust: {what}"))["number"].as_f64().unwrap() > 0.0, "{what}");
    }
}

#[test]
fn the_figure_of_idle_services_gives_its_rows() {
    measured(&["idle-services"]);
}

#[test]
fn figures_of_swaps_memory_and_deploys_in_flight_give_their_rows() {
    let sections = measured(&["in-flight", "swap", "idle-memory"]);
    assert_eq!(row(&sections, "orders or deploys that failed")["number"], 0.0);
    assert_eq!(row(&sections, "VMs or clones more than orders")["number"], 0.0);
}
