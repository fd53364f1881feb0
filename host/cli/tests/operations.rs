//! What admins are handed beside the binary says what the code does: the handbook, the Proxmox roles, the dashboard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use regex::Regex;
use serde_json::Value;
use wharf_model::{operation::Status, service::Phase};
use wharf_plugins::report::Cause;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Rust files below a place, without tests and doubles.
fn sources(place: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(place)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "fake.rs" {
                found.push(path);
            }
        }
    }
    found
}

/// Codes of reasons, as the ways to make one write them down.
fn codes_in(text: &str) -> BTreeSet<String> {
    let own = text.split("#[cfg(test)]").next().unwrap();
    let ways = [
        r#"\bcode: "([a-z-]+)""#,
        r#"\bfailure\(\s*Action::\w+,\s*"([a-z-]+)""#,
        r#"\(Action::\w+,\s*"([a-z-]+)"\)"#,
        r#"\b(?:failed|not_sent|bug|refuse)\(\s*"([a-z-]+)""#,
        r#"\bresult\(\s*(?:true|false),\s*"([a-z-]+)""#,
        r#"\.wait(?:_failed)?\(run,[^"]*"([a-z-]+)""#,
        r#"\bFailure::(?:fix_input|fix_config|busy|retry|unknown|report_bug)\(\s*"([a-z-]+)""#,
        r#"\bSome\(\(\s*"([a-z-]+)",\s*(?:format!|")"#,
        r#"\blet code = if [^;]*?"([a-z-]+)""#,
        r#"\blet code = if [^;]*else \{ "([a-z-]+)" \}"#,
    ];
    ways.iter()
        .flat_map(|way| Regex::new(way).unwrap().captures_iter(own).map(|c| c[1].to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn the_handbook_explains_each_phase_each_status_and_each_reason_that_the_host_and_its_provisioner_give() {
    let mut codes = BTreeMap::new();
    for place in ["host/engine/src", "host/capabilities/src", "host/plugins/src/step.rs", "plugins/proxmox-kvm/src"] {
        for file in sources(place) {
            // These speak to DNS providers and lifecycle hooks, whose failures are no reasons of operations.
            if file.to_str().unwrap().contains("/capabilities/src/http") {
                continue;
            }
            for code in codes_in(&std::fs::read_to_string(&file).unwrap()) {
                codes.insert(code, file.clone());
            }
        }
    }
    for known in
        ["parked", "in-doubt", "task", "stuck", "effect-stuck", "locked", "task-failed", "number-taken", "marker"]
    {
        assert!(codes.contains_key(known), "`{known}` is not found any more: the ways to write codes have changed");
    }
    for cause in [Cause::NotInstalled, Cause::Trap, Cause::Timeout, Cause::Memory, Cause::Limit, Cause::Host] {
        codes.insert(format!("plugin-{}", cause.as_str()), "host/engine/src/step.rs".into());
    }
    for word in Phase::ALL.map(Phase::as_str).iter().chain(&Status::ALL.map(Status::as_str)) {
        codes.insert((*word).to_owned(), "host/model/src".into());
    }
    let book = read("docs/operate.md");
    let silent: Vec<_> = codes.iter().filter(|(code, _)| !book.contains(&format!("`{code}`"))).collect();
    assert!(silent.is_empty(), "docs/operate.md does not explain {silent:#?}");
}

/// A cluster's `pveum` and `pveversion` that remember what they were told.
fn pveum(dir: &Path, version: &str) {
    let script = |name: &str, text: String| {
        let file = dir.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("pveversion", format!("#!/bin/sh\necho 'pve-manager/{version}/0123456789abcdef (running kernel: 6.14)'\n"));
    let dir = dir.display();
    script(
        "pveum",
        format!(
            r#"#!/bin/sh
echo "$*" >>{dir}/calls
case "$1 $2" in
"role list") echo "[$(sed 's/.*/{{"privs":"","roleid":"&"}}/' {dir}/roles 2>/dev/null | paste -sd,)]" ;;
"role add") if grep -qx "$3" {dir}/roles 2>/dev/null; then echo "role '$3' already exists" >&2; exit 255; fi; echo "$3" >>{dir}/roles ;;
"role modify") grep -qx "$3" {dir}/roles || exit 255 ;;
"user list") [ -e {dir}/user ] && echo '[{{"enable":1,"userid":"'$(cat {dir}/user)'"}}]' || echo '[]' ;;
"user add") [ ! -e {dir}/user ] && echo "$3" >{dir}/user ;;
"user token") case "$3" in
    list) [ -e {dir}/token ] && echo '[{{"privsep":1,"tokenid":"'$(cat {dir}/token)'"}}]' || echo '[]' ;;
    add) [ ! -e {dir}/token ] && echo "$5" >{dir}/token ;;
    esac ;;
"acl modify") ;;
*) exit 255 ;;
esac
"#
        ),
    );
}

fn role_script(dir: &Path, arguments: &[&str]) -> Output {
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    Command::new("sh").arg(root().join("packaging/proxmox-role.sh")).args(arguments).env("PATH", path).output().unwrap()
}

/// Path to privileges, as granted to the user and to the token.
fn granted(dir: &Path) -> [BTreeMap<String, BTreeSet<String>>; 2] {
    let calls = std::fs::read_to_string(dir.join("calls")).unwrap();
    let mut roles = BTreeMap::new();
    let mut grants = [BTreeMap::new(), BTreeMap::new()];
    for call in calls.lines() {
        match call.split(' ').collect::<Vec<_>>()[..] {
            ["role", "add" | "modify", name, "--privs", privileges] => {
                roles.insert(name, privileges.split(',').map(str::to_owned).collect::<BTreeSet<_>>());
            }
            ["acl", "modify", path, kind, _, "--roles", role, "--propagate", _] => {
                let of = usize::from(kind == "--tokens");
                grants[of].insert(path.to_owned(), roles[role].clone());
            }
            _ => {}
        }
    }
    grants
}

#[test]
fn the_proxmox_roles_hold_what_the_hosts_test_asks_for_and_are_made_once() {
    for version in ["8.4.14", "9.1.4"] {
        let dir = tempfile::tempdir().unwrap();
        pveum(dir.path(), version);
        for round in 1..=2 {
            let output = role_script(dir.path(), &["--with", "agent,snapshots"]);
            assert!(output.status.success(), "{version}, round {round}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
        for once in ["role add WharfVM", "user add wharf@pve", "user token add wharf@pve wharf --privsep 1"] {
            assert_eq!(calls.matches(once).count(), 1, "{version}: {once}");
        }
        assert_eq!(calls.matches("role modify WharfVM").count(), 1, "{version}");
        let [user, token] = granted(dir.path());
        assert_eq!(user, token, "a token may do what both may");
        for (path, privileges) in wharf_capabilities::proxmox::NEEDED {
            for privilege in privileges {
                assert!(user[path].contains(*privilege), "{version}: {privilege} on {path}");
            }
        }
        let all: BTreeSet<_> = user.values().flatten().map(String::as_str).collect();
        let of_nine = ["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"].map(|p| all.contains(p));
        let expected = if version.starts_with('8') { (true, [false; 2]) } else { (false, [true; 2]) };
        assert_eq!((all.contains("VM.Monitor"), of_nine), expected, "{version}");
        // Beyond what is asked for: nothing that was not.
        let needed: BTreeSet<_> =
            wharf_capabilities::proxmox::NEEDED.iter().flat_map(|(_, p)| p.iter().copied()).collect();
        let beyond: Vec<_> = all.difference(&needed).copied().collect();
        let asked =
            ["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor", "VM.Snapshot", "VM.Snapshot.Rollback"];
        assert!(beyond.iter().all(|p| asked.contains(p)), "{version}: {beyond:?}");
    }
}

#[test]
fn the_proxmox_roles_can_be_narrowed_and_refuse_what_they_do_not_know() {
    let dir = tempfile::tempdir().unwrap();
    pveum(dir.path(), "9.0.3");
    let narrow = ["--user", "shop@pve", "--storages", "ceph,backup", "--networks", "localnetwork/vmbr1"];
    assert!(role_script(dir.path(), &narrow).status.success());
    let [_, token] = granted(dir.path());
    let paths: Vec<_> = token.keys().map(String::as_str).collect();
    let expected = ["/", "/nodes", "/sdn/zones/localnetwork/vmbr1", "/storage/backup", "/storage/ceph", "/vms"];
    assert_eq!(paths, expected);
    let print = role_script(dir.path(), &["--print", "8"]);
    let text = String::from_utf8(print.stdout).unwrap();
    assert!(print.status.success() && text.contains("pveum role add WharfVM --privs VM.Allocate,VM.Audit,"), "{text}");
    let other = tempfile::tempdir().unwrap();
    pveum(other.path(), "7.4-3");
    for (place, arguments, part) in [
        (other.path(), &[][..], "8 and 9"),
        (dir.path(), &["--with", "root"][..], "agent, console and snapshots"),
        (dir.path(), &["--user", "root@pam"][..], "not root"),
        (dir.path(), &["--usr", "x"][..], "--user"),
    ] {
        let output = role_script(place, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(part), "{arguments:?}: {said}");
    }
    assert!(!other.path().join("calls").exists(), "nothing was done on a version that is not known");
}

#[test]
fn proxmox_9_knows_each_privilege_of_the_roles_and_asks_no_other_for_the_hosts_calls() {
    let print = role_script(Path::new("/"), &["--print", "9", "--with", "agent,console,snapshots"]);
    let text = String::from_utf8(print.stdout).unwrap();
    let held: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_once("--privs "))
        .flat_map(|(_, privileges)| privileges.split(','))
        .collect();
    assert!(held.len() > 18, "{held:?}");
    for variable in ["WHARF_PVE_SCHEMA_91", "WHARF_PVE_SCHEMA_92"] {
        let file =
            std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: cargo xtask test sets it"));
        let schema = std::fs::read_to_string(file).unwrap();
        for privilege in &held {
            assert!(schema.contains(&format!("\"{privilege}\"")), "{variable} knows no {privilege}");
        }
        assert!(!schema.contains("\"VM.Monitor\""));
        let schema: Value = serde_json::from_str(&schema).unwrap();
        for (method, path) in [
            ("GET", "/cluster/status"),
            ("GET", "/cluster/firewall/options"),
            ("POST", "/nodes/{node}/qemu/{vmid}/clone"),
            ("GET", "/nodes/{node}/qemu/{vmid}/config"),
            ("POST", "/nodes/{node}/qemu/{vmid}/config"),
            ("PUT", "/nodes/{node}/qemu/{vmid}/resize"),
            ("POST", "/nodes/{node}/qemu/{vmid}/migrate"),
            ("PUT", "/nodes/{node}/qemu/{vmid}/firewall/options"),
            ("POST", "/nodes/{node}/qemu/{vmid}/firewall/ipset"),
            ("POST", "/nodes/{node}/qemu/{vmid}/firewall/ipset/{name}"),
            ("POST", "/nodes/{node}/qemu/{vmid}/status/start"),
            ("POST", "/nodes/{node}/qemu/{vmid}/status/stop"),
            ("POST", "/nodes/{node}/qemu/{vmid}/status/shutdown"),
            ("GET", "/nodes/{node}/qemu/{vmid}/status/current"),
            ("GET", "/nodes/{node}/storage/{storage}/content"),
            ("DELETE", "/nodes/{node}/qemu/{vmid}"),
        ] {
            let check = &schema["merged_endpoints"][path]["methods"][method]["permissions"]["check"];
            assert!(check.is_array(), "{variable}: {method} {path} says nothing of permissions");
            let named = privileges_in(check);
            assert!(!named.is_empty() && named.iter().all(|p| held.contains(p.as_str())), "{method} {path}: {named:?}");
        }
    }
}

fn privileges_in(check: &Value) -> BTreeSet<String> {
    let privilege = Regex::new("^(VM|Sys|Datastore|SDN|Pool)\\.[A-Za-z.]+$").unwrap();
    match check {
        Value::Array(parts) => parts.iter().flat_map(privileges_in).collect(),
        Value::String(text) if privilege.is_match(text) => [text.clone()].into(),
        _ => BTreeSet::new(),
    }
}

/// Everything under a key of that name, at any depth.
fn all_under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                match inner {
                    Value::String(text) if name == key => found.push(text),
                    inner => all_under(inner, key, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| all_under(inner, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_and_the_handbook_ask_for_metrics_that_the_host_has() {
    let exporter = read("host/api/src/metrics.rs");
    let mut known = BTreeMap::new();
    for found in Regex::new(r#"describe_(counter|gauge|histogram)!\("([a-z_]+)""#).unwrap().captures_iter(&exporter) {
        known.insert(found[2].to_owned(), found[1].to_owned());
    }
    assert!(known.len() >= 16, "{known:?}");
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/wharf.json")).unwrap();
    let mut queries = Vec::new();
    all_under(&dashboard, "expr", &mut queries);
    assert!(queries.len() >= 15, "{queries:?}");
    let name = Regex::new(r"\b(?:wharf|process)_[a-z_]+").unwrap();
    let asked = |text: &str| -> BTreeSet<String> { name.find_iter(text).map(|m| m.as_str().to_owned()).collect() };
    let mut shown = BTreeSet::new();
    for query in &queries {
        for series in asked(query) {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
            let base =
                of_histogram.filter(|b| known.get(*b).is_some_and(|kind| kind == "histogram")).unwrap_or(&series);
            assert!(known.contains_key(base), "`{query}`: the host has no {series}");
            let is_histogram = known[base] == "histogram";
            assert_eq!(is_histogram, base != series, "`{query}`: {series} is no series of its own");
            if known[base] == "counter" {
                assert!(query.contains("rate(") || query.contains("increase("), "`{query}` shows a bare counter");
            }
            shown.insert(base.to_owned());
        }
    }
    let missing: Vec<_> = known.keys().filter(|k| !shown.contains(*k)).collect();
    assert!(missing.is_empty(), "the dashboard shows nothing of {missing:?}");
    // One is a crate, in a filter of the log.
    for series in asked(&read("docs/operate.md")).into_iter().filter(|series| series != "wharf_engine") {
        assert!(known.contains_key(&series), "docs/operate.md: the host has no {series}");
    }
}
