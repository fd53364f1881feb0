//! The binary as a person uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// With an environment that says nothing of settings.
fn wharf(executable: &Path) -> Command {
    let mut command = Command::new(executable);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WHARF_")) {
        command.env_remove(name);
    }
    command
}

fn own() -> Command {
    wharf(Path::new(env!("CARGO_BIN_EXE_wharf")))
}

fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_wrong_key_of_the_file_is_named_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wharf.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\n[plugins]\nslot = 5\n").unwrap();
    for command in [&["serve"][..], &["token", "create"]] {
        let output = own().args(command).arg("--config").arg(&file).output().unwrap();
        let (good, _, error) = said(&output);
        assert!(!good, "{command:?}");
        for part in [file.to_str().unwrap(), "line 3", "`slot`", "`slots`"] {
            assert!(error.contains(part), "{command:?}: {part} is not in {error}");
        }
    }
    let (good, _, error) = said(&own().args(["serve", "--config", "/no/such.toml"]).output().unwrap());
    assert!(!good && error.contains("/no/such.toml"), "{error}");
}

#[test]
fn a_wrong_variable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let token = || {
        let mut command = own();
        command.args(["token", "create", "--data-dir"]).arg(dir.path());
        command
    };
    let (good, _, error) = said(&token().env("WHARF_FOO", "1").output().unwrap());
    assert!(!good && error.contains("WHARF_FOO") && error.contains("`listen`"), "{error}");
    let (good, _, error) = said(&token().env("WHARF_ENGINE__CONCURRENCY", "none").output().unwrap());
    assert!(!good && error.contains("WHARF_ENGINE__CONCURRENCY"), "{error}");
    assert!(!dir.path().join("wharf.db").exists(), "nothing was done");
    let (good, token, error) = said(&token().env("WHARF_PORT", "tcp://10.0.0.1:8480").output().unwrap());
    assert!(good && token.starts_with("wharf_"), "{error}");
}

#[test]
fn a_wrong_flag_or_scope_is_named() {
    let (good, _, error) = said(&own().args(["serve", "--lissten", "x"]).output().unwrap());
    assert!(!good && error.contains("--lissten") && error.contains("--listen"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    for (flags, part) in [
        (&["--scopes", "service:read"][..], "services:read"),
        (&["--scopes", "admin", "--panel", "shop"], "bound to a panel"),
        (&["--scopes", ""], "at least one"),
    ] {
        let output = own().args(["token", "create", "--data-dir"]).arg(dir.path()).args(flags).output().unwrap();
        let (good, _, error) = said(&output);
        assert!(!good && error.contains("--scopes") && error.contains(part), "{flags:?}: {error}");
    }
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let file = place("wharf.toml");
    std::fs::write(&file, format!("data_dir = {:?}\n", place("by-file"))).unwrap();
    let token = || {
        let mut command = own();
        command.args(["token", "create", "--config"]).arg(&file);
        command
    };
    assert!(token().output().unwrap().status.success());
    assert!(place("by-file/wharf.db").exists());
    assert!(token().env("WHARF_DATA_DIR", place("by-variable")).output().unwrap().status.success());
    assert!(place("by-variable/wharf.db").exists());
    let mut both = token();
    both.env("WHARF_DATA_DIR", place("by-nobody")).arg("--data-dir").arg(place("by-flag"));
    assert!(both.output().unwrap().status.success());
    assert!(place("by-flag/wharf.db").exists() && !place("by-nobody").exists());
}

#[test]
fn the_demo_is_run_if_it_is_beside_and_else_it_is_said_how_to_get_it() {
    // On the same file system as the executable, which is too large to be copied for this.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let executable = dir.path().join("wharf");
    std::fs::hard_link(env!("CARGO_BIN_EXE_wharf"), &executable).unwrap();
    let (good, _, error) = said(&wharf(&executable).args(["demo", "--once"]).output().unwrap());
    assert!(!good && error.contains("cargo xtask demo") && error.trim().lines().count() == 1, "{error}");

    let script = dir.path().join("wharf-demo");
    std::fs::write(&script, "#!/bin/sh\nfor a in \"$@\"; do echo \"$a\"; done\nexit 7\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(dir.path().join("plugins")).unwrap();
    let beside = |name: &str| dir.path().join(name).display().to_string();
    let output = wharf(&executable).args(["demo", "--once"]).output().unwrap();
    let (_, told, error) = said(&output);
    let expected =
        ["--wharf", &beside("wharf"), "--pve-sim", &beside("pve-sim"), "--plugins", &beside("plugins"), "--once"];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected, "{error}");
    assert_eq!(output.status.code(), Some(7), "its exit code is the demo's");
    let output =
        wharf(&executable).args(["demo", "--wharf=/x", "--pve-sim", "/y", "--plugins", "/z"]).output().unwrap();
    assert_eq!(said(&output).1.lines().collect::<Vec<_>>(), ["--wharf=/x", "--pve-sim", "/y", "--plugins", "/z"]);
}

/// A host of its own, stopped when dropped.
struct Host {
    child: Child,
    url: String,
    token: String,
}

impl Host {
    fn start(dir: &Path) -> Self {
        let mut child = own()
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap();
        let url = listening["listening"].as_str().unwrap().to_owned();
        let made = own().args(["token", "create", "--data-dir"]).arg(dir).output().unwrap();
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        Self { child, url, token }
    }

    fn ask(&self, arguments: &[&str]) -> (bool, String, String) {
        let mut command = own();
        command.env("WHARF_URL", &self.url).env("WHARF_TOKEN", &self.token).args(arguments);
        said(&command.output().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_host_serves_the_api_its_document_and_its_metrics_and_ends_when_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::start(dir.path());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str, token: Option<&str>| {
        let mut request = client.get(format!("{}{path}", host.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz", None).await, (200, "ok\n".to_owned()));
    let (status, document) = get("/v1/openapi.json", None).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((status, document["paths"]["/metrics"]["get"]["operationId"].as_str()), (200, Some("metrics")));
    assert_eq!(get("/metrics", None).await.0, 401);
    let (status, metrics) = get("/metrics", Some(&host.token)).await;
    assert!(status == 200 && metrics.contains("process_resident_memory_bytes"), "{metrics}");
    // The address of who fails is known here, and counted.
    let mut last = 0;
    for _ in 0..25 {
        last = get("/v1/services", Some("wharf_0_0")).await.0;
    }
    assert_eq!(last, 429);
    assert_eq!(get("/v1/services", Some(&host.token)).await, (200, "[]".to_owned()));

    assert_eq!(host.ask(&["service", "list"]), (true, String::new(), String::new()));
    let (good, plugins, _) = host.ask(&["plugin", "list"]);
    assert!(good && plugins.trim() == "[]", "{plugins}");
    let (good, _, error) = host.ask(&["service", "show", "shop:a/b c"]);
    assert!(!good && error.contains("there is no such service"), "{error}");
    let (good, _, error) = host.ask(&["service", "log", "shop"]);
    assert!(!good && error.contains("panel:ref"), "{error}");
    let (good, _, error) = host.ask(&["plugin", "rollback", "no-such"]);
    assert!(!good && error.contains("is not installed"), "{error}");

    let second = own().args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path()).output().unwrap();
    let (good, _, error) = said(&second);
    assert!(!good && error.contains("serves") && error.contains("--data-dir"), "{error}");

    let pid = i32::try_from(host.child.id()).unwrap();
    let stop = Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap();
    assert!(stop.success() && host.child.wait().unwrap().success());
}

#[test]
fn jobs_are_run_and_shown_and_pauses_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::start(dir.path());
    let (good, result, error) = host.ask(&["job", "run", "orphans", "--timeout", "60"]);
    assert!(good, "{error}");
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!((&result["findings"], &result["more"]), (&serde_json::json!([]), &serde_json::json!(0)));
    let (good, list, error) = host.ask(&["job", "list"]);
    assert!(good, "{error}");
    for name in ["drift  ", "orphans  ", "quarantine  ", "retention  "] {
        assert!(list.lines().any(|l| l.starts_with(name)), "{list}");
    }
    let orphans = list.lines().find(|l| l.starts_with("orphans")).unwrap();
    assert!(orphans.contains("every 60 min") && orphans.contains("s ago") && orphans.contains("findings 0"), "{list}");
    assert!(host.ask(&["job", "force", "drift"]).0);
    assert!(host.ask(&["job", "clear-locks", "retention"]).0 && host.ask(&["job", "clear-locks"]).0);
    let (good, _, error) = host.ask(&["job", "run", "orphan"]);
    assert!(!good && error.contains("the job orphan"), "{error}");

    let nothing = "nothing is paused\n".to_owned();
    assert_eq!(host.ask(&["pause", "list"]), (true, nothing.clone(), String::new()));
    let (good, _, error) = host.ask(&["pause", "add", "server:pve", "--reason", "new disks"]);
    assert!(!good && error.contains("no server `pve`"), "{error}");
    let (good, _, error) = host.ask(&["pause", "add", "everything", "--reason", "new disks"]);
    assert!(good, "{error}");
    let (_, list, _) = host.ask(&["pause", "list"]);
    assert!(list.starts_with("everything  ") && list.ends_with(": new disks\n"), "{list}");
    assert!(host.ask(&["pause", "remove", "everything"]).0);
    assert_eq!(host.ask(&["pause", "list"]).1, nothing);
    let (good, _, error) = host.ask(&["pause", "remove", "node:pve/a"]);
    assert!(!good && error.contains("such pause"), "{error}");
}

#[test]
fn without_a_host_it_is_said_where_none_answers() {
    let mut command = own();
    command.env("WHARF_URL", "http://127.0.0.1:1").env("WHARF_TOKEN", "wharf_a_b").args(["service", "list"]);
    let (good, _, error) = said(&command.output().unwrap());
    assert!(!good && error.contains("http://127.0.0.1:1") && error.contains("does the host run there"), "{error}");
    let (good, _, error) = said(&own().args(["service", "list"]).output().unwrap());
    assert!(!good && error.contains("--token"), "{error}");
}
