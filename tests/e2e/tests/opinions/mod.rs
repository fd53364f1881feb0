//! Both simulated clusters in the same world, and the tables of `docs/second-opinion.md`.

pub mod pair;
pub mod questions;

use std::{fmt::Write as _, path::Path};

use pve_sim::state::{SimConfig, Timing};
use serde_json::{Value, json};
use wharf_e2e::fakepve::least;

pub const TOKEN: &str = "wharf@pve!wharf";
pub const SECRET: &str = "11111111-2222-3333-4444-555555555555";

/// The world of both, where nothing takes time.
pub fn settings() -> Value {
    let timing = Timing {
        read: 0,
        write: 0,
        clone_linked: 0,
        clone_full: 0,
        clone_stub: 0,
        migrate: 0,
        configure: 0,
        resize: 0,
        start: 0,
        stop: 0,
        shutdown: 0,
        destroy: 0,
        remove_volume: 0,
        lock_wait: 0,
        denied: 0,
    };
    let mut all = serde_json::to_value(SimConfig { timing, ..SimConfig::default() }).unwrap();
    let mut held = least();
    held.entry("/vms".into()).or_default().push("VM.GuestAgent.Audit".into());
    all["privileges"] = json!({TOKEN: held});
    all
}

/// Rows as Markdown.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&head.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>());
    let _ = writeln!(text, "|{}", "---|".repeat(head.len()));
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

/// Compares a table with the committed one. `WRITE_DOCS=1` writes it instead.
pub fn committed(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/second-opinion.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no table {name} in {}", path.display()));
    let (old, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{found}{end}{after}")).unwrap();
        return;
    }
    let differ: Vec<String> = found
        .lines()
        .zip(old.lines().chain(std::iter::repeat("")))
        .filter(|(new, old)| new != old)
        .map(|(new, old)| format!("seen:      {new}\ncommitted: {old}"))
        .collect();
    assert!(
        old == found,
        "docs/second-opinion.md says other than what was seen (WRITE_DOCS=1 writes it):\n{}",
        differ.join("\n")
    );
}
