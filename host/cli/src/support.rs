//! `wharf support-bundle`: what somebody who helps needs to know, in one `.tar.gz`.
//!
//! No file that holds a secret is read: not the master key, not the books. What is read (the settings, the answers of the
//! API, the host's log) is free of secrets by its own rules; over all of it goes a filter once more, by the forms that
//! secrets have. What could not be had is said in the bundle: a host that is down is when it is needed most. Bounded by
//! [`SERVICES`], [`LOG_BYTES`] and the API's own pages.

use std::{
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use regex::Regex;
use serde_json::{Value, json};

use crate::{
    RemoteArguments,
    config::{self, DEFAULT_FILE},
    remote,
};

/// Services that need somebody, of which whole logs are taken: more don't make the cause clearer.
const SERVICES: usize = 50;
/// Of the host's log, the end.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
/// Lines that the journal is asked for: about as many bytes.
const JOURNAL_LINES: &str = "20000";
/// What an admin manages, as the API names it.
const KINDS: [&str; 9] = ["servers", "images", "pools", "zones", "plans", "panels", "hooks", "grants", "tokens"];

/// What `wharf support-bundle` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where to write it; without it, `wharf-support-<time>.tar.gz` in this folder.
    #[arg(long)]
    output: Option<PathBuf>,
    /// The host's log, if it does not go to the journal.
    #[arg(long, value_name = "FILE")]
    host_log: Option<PathBuf>,
    /// The settings file; /etc/wharf/wharf.toml if it is there.
    #[arg(long, env = "WHARF_CONFIG")]
    config: Option<PathBuf>,
    /// The running host.
    #[arg(long, env = "WHARF_URL", default_value = crate::DEFAULT_URL)]
    url: String,
    /// An admin's token; without one, what the API says is left out.
    #[arg(long, env = "WHARF_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Files by name, and what is missing.
struct Bundle {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
}

impl Bundle {
    fn add(&mut self, name: impl Into<String>, text: &str) {
        self.files.push((name.into(), clean(text).into_bytes()));
    }

    fn missing(&mut self, what: impl std::fmt::Display) {
        self.missing.push(clean(&what.to_string()));
    }
}

/// Writes the bundle and says where it is.
///
/// # Errors
/// Only that it can't be written: what can't be read is told in it.
pub async fn bundle(arguments: &Arguments) -> Result<()> {
    let mut bundle = Bundle { files: Vec::new(), missing: Vec::new() };
    bundle.add("machine.txt", &machine());
    settings(&mut bundle, arguments.config.as_deref());
    match &arguments.token {
        Some(token) => {
            let remote = RemoteArguments { url: arguments.url.clone(), token: token.clone() };
            from_api(&mut bundle, &remote).await;
        }
        None => bundle.missing("everything that the API says: there is no --token (WHARF_TOKEN)"),
    }
    if let Err(error) = remote::health(&arguments.url).await {
        bundle.missing(format!("a host that is well: {error:#}"));
    }
    host_log(&mut bundle, arguments.host_log.as_deref());

    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let output = arguments.output.clone().unwrap_or_else(|| format!("wharf-support-{now}.tar.gz").into());
    write(&output, bundle, now).with_context(|| format!("can't write {}", output.display()))?;
    println!("{}", output.display());
    eprintln!("wharf: names of services, addresses and servers are in it: look through it before you send it");
    Ok(())
}

/// Version and what it runs on.
fn machine() -> String {
    let mut text = format!("wharf {}\n", env!("CARGO_PKG_VERSION"));
    for file in ["/etc/os-release", "/proc/version", "/proc/loadavg", "/proc/meminfo", "/proc/pressure/io"] {
        if let Ok(found) = std::fs::read_to_string(file) {
            text.push_str(&format!("\n== {file}\n{found}"));
        }
    }
    for (program, arguments) in [("df", &["-h"][..]), ("systemctl", &["status", "--no-pager", "--lines=0", "wharf"])] {
        if let Some(found) = said(program, arguments) {
            text.push_str(&format!("\n== {program} {}\n{found}", arguments.join(" ")));
        }
    }
    text
}

/// Output of a program, if there is one.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| !text.trim().is_empty())
}

/// Keys and values of file and environment, those of secrets taken out. Comments are not taken along.
fn settings(bundle: &mut Bundle, named: Option<&Path>) {
    let file = named.unwrap_or(Path::new(DEFAULT_FILE));
    let read = std::fs::read_to_string(file).map_err(|e| e.to_string());
    // What the TOML crate says of a mistake quotes the line.
    let table = read.and_then(|text| text.parse::<toml::Table>().map_err(|_| "it is no TOML".to_owned()));
    let mut all = match table {
        Ok(table) => json!({ "file": table }),
        Err(error) => {
            bundle.missing(format!("the settings file {}: {error}", file.display()));
            json!({})
        }
    };
    let environment: serde_json::Map<String, Value> = config::environment()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned().into()))
        .collect();
    if let Some(map) = all.as_object_mut() {
        map.insert("environment".into(), environment.into());
    }
    without_secrets(&mut all);
    bundle.add("settings.json", &pretty(&all));
}

async fn from_api(bundle: &mut Bundle, remote: &RemoteArguments) {
    for (name, path) in [
        ("metrics.txt", "/metrics".to_owned()),
        ("plugins.json", "/v1/admin/plugins".to_owned()),
        ("audit.json", "/v1/admin/audit".to_owned()),
    ]
    .into_iter()
    .chain(KINDS.map(|kind| ("", format!("/v1/admin/{kind}"))))
    {
        let name =
            if name.is_empty() { format!("objects{}.json", path.trim_start_matches("/v1/admin")) } else { name.into() };
        match remote::answer(remote, &path).await {
            Ok(text) => match serde_json::from_str::<Value>(&text) {
                Ok(mut value) => {
                    without_secrets(&mut value);
                    bundle.add(name, &pretty(&value));
                }
                Err(_) => bundle.add(name, &text),
            },
            Err(error) => bundle.missing(format!("{path}: {error:#}")),
        }
    }
    if let Err(error) = services(bundle, remote).await {
        bundle.missing(format!("/v1/services: {error:#}"));
    }
}

/// A line for each service whose last operation is not done, and all that is known of those that need somebody.
async fn services(bundle: &mut Bundle, remote: &RemoteArguments) -> Result<()> {
    let mut open = Vec::new();
    let mut after = String::new();
    loop {
        let query = if after.is_empty() { String::new() } else { format!("?after={after}") };
        let page: Vec<Value> = serde_json::from_str(&remote::answer(remote, &format!("/v1/services{query}")).await?)?;
        let Some(last) = page.last() else { break };
        after = last.pointer("/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        open.extend(page.into_iter().filter(|service| {
            let status = service.pointer("/operation/status").and_then(Value::as_str).unwrap_or_default();
            !matches!(status, "succeeded" | "cancelled")
        }));
        if after.is_empty() {
            break;
        }
    }
    let needs = |service: &Value| {
        ["/phase", "/operation/status"]
            .iter()
            .any(|at| service.pointer(at).and_then(Value::as_str) == Some("needs-admin"))
    };
    // Those that need somebody first, then those that wait, until there are enough.
    open.sort_by_key(|service| !needs(service));
    for service in open.iter().take(SERVICES) {
        let part = |at: &str| service.pointer(at).and_then(Value::as_str).unwrap_or_default();
        // What a panel calls a service may have any character, and is no name for a file.
        let (file, name) = (part("/id"), format!("{}:{}", part("/panel"), part("/ref")));
        for (path, kind) in [("", "json"), ("/log", "log")] {
            match remote::answer(remote, &format!("/v1/services/{}{path}", remote::segment(&name))).await {
                Ok(text) => bundle.add(format!("services/{file}.{kind}"), &text),
                Err(error) => bundle.missing(format!("{name}{path}: {error:#}")),
            }
        }
    }
    if open.len() > SERVICES {
        bundle.missing(format!("the logs of {} more services that are not done", open.len() - SERVICES));
    }
    bundle.add("services.json", &pretty(&Value::Array(open)));
    Ok(())
}

fn host_log(bundle: &mut Bundle, file: Option<&Path>) {
    let text = match file {
        Some(file) => tail(file).map_err(|e| format!("{}: {e}", file.display())),
        None => said("journalctl", &["--unit=wharf", "--no-pager", "--output=short-iso", "--lines", JOURNAL_LINES])
            .ok_or_else(|| {
                "there is nothing in the journal (as whom is this run?), name a file with --host-log".to_owned()
            }),
    };
    match text {
        Ok(text) => bundle.add("host.log", &text),
        Err(error) => bundle.missing(format!("the host's log: {error}")),
    }
}

/// The end of a file, in whole lines.
fn tail(file: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(file)?;
    let from = file.metadata()?.len().saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        Some((_, whole)) if from > 0 => whole.to_owned(),
        _ => text,
    })
}

fn write(output: &Path, bundle: Bundle, now: u64) -> Result<()> {
    let Bundle { mut files, missing } = bundle;
    let mut about = format!("A support bundle of wharf {}, made at {now} (Unix time).\n", env!("CARGO_PKG_VERSION"));
    about.push_str("Secrets have been taken out; names of services, addresses and servers have not.\n");
    if !missing.is_empty() {
        about.push_str(&format!("\nNot in it:\n{}\n", missing.join("\n")));
    }
    files.insert(0, ("README.txt".into(), about.into_bytes()));
    // For nobody else: what was left in is somebody's business, too.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(output)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("wharf-support/{name}"), bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

const GONE: &str = "[taken out]";

/// Takes out what stands under a key that tells of a secret.
fn without_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if tells_of_a_secret(key) && inner.is_string() {
                    *inner = GONE.into();
                } else {
                    without_secrets(inner);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(without_secrets),
        _ => {}
    }
}

/// `api-key`, `WHARF_STORE__PASSWORD`, …; names of files and ids are no secrets.
fn tells_of_a_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let named = ["secret", "password", "passwd", "passphrase", "token", "api_key", "private", "credential"];
    let harmless = ["_file", "_id", "private_origins", "secrets_set"];
    named.iter().any(|word| key.contains(word)) && !harmless.iter().any(|end| key.ends_with(end))
}

/// Takes out what has the form of a secret: whatever a peer, a panel or an admin has put where none belongs.
fn clean(text: &str) -> String {
    static FORMS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let forms = [
            // Tokens of this host, of Proxmox, and of webhooks.
            (r"\bwharf_([0-9a-f]{12})_[0-9a-f]{16,}", "wharf_${1}_[taken out]"),
            (r"(PVEAPIToken=[^=\s]+=)[^\s\x22,]+", "$1[taken out]"),
            (r"\bwhsec_[A-Za-z0-9+/_=-]+", "whsec_[taken out]"),
            // Headers, and passwords in addresses, also when they were not coded as they should be.
            (r"(?i)\b(authorization\W{1,4}(?:bearer|basic|digest)\s+)[^\s\x22',]+", "$1[taken out]"),
            (r"(?i)\b(x-api-key\W{1,5})[^\s\x22',]+", "$1[taken out]"),
            (r"(\b[a-z][a-z0-9+.-]*://[^\s/:@\x22]*:)[^\s\x22]+@", "$1[taken out]@"),
            // A master key; digests of components stay readable by their first digits.
            (r"\b([0-9a-fA-F]{12})[0-9a-fA-F]{52}\b", "$1…[taken out]"),
            (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", "[taken out]"),
        ];
        forms.into_iter().filter_map(|(form, instead)| Some((Regex::new(form).ok()?, instead))).collect()
    });
    FORMS.iter().fold(text.to_owned(), |text, (form, instead)| form.replace_all(&text, *instead).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_form_of_a_secret_is_taken_out_and_the_rest_stays() {
        for (text, secret) in [
            ("token wharf_8f3b1c2d4e5f_60718293a4b5c6d7e8f90a1b2c3d4e5f refused", "60718293"),
            ("authorization: PVEAPIToken=wharf@pve!wharf=1111-2222 sent", "1111-2222"),
            ("secret \"whsec_Zm9v+/==\" is", "Zm9v"),
            ("{\"Authorization\": \"Bearer abc.def-ghi\"}", "abc.def"),
            ("authorization: Basic YWRtaW46eA==", "YWRtaW46"),
            ("\"x-api-key\": \"Mark/7+1\", next", "Mark/7"),
            ("url = postgres://wharf:p/a:s@s@db/wharf", "p/a:s@s"),
            ("at https://admin:hunter2@ns1:8081/api", "hunter2"),
            ("key 8f3b1c2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9.", "90a1b2c3"),
            ("a\n-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----\nz", "MHcCAQ"),
        ] {
            let cleaned = clean(text);
            assert!(!cleaned.contains(secret) && cleaned.contains("[taken out]"), "{text}: {cleaned}");
        }
        for text in [
            "operation 019a5f3e-7c1d-7f3a-9b2e-4d5c6b7a8f90 of shop:6201 waits: server `pve` can't be reached",
            "UPID:pve1:0003B1F2:01C2D3E4:691F0000:qmclone:9000:wharf@pve!wharf:",
            "wharf_operations{status=\"needs-admin\"} 1\nwharf_http_request_seconds_bucket{le=\"0.01\"} 7",
            "https://192.0.2.1:8006/api2/json answers 401 to wharf@pve!wharf",
            "2001:db8::10 08:00:27:aa:bb:cc vm-100-disk-0 net0: virtio=BC:24:11:00:00:01,bridge=vmbr0",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn what_stands_under_the_name_of_a_secret_is_taken_out() {
        let mut value = json!({
            "file": {"listen": "x:1", "master_key_file": "/k", "store": {"password": "p"}},
            "environment": {"WHARF_OTEL__API_KEY": "k", "WHARF_LISTEN": "y:2"},
            "list": [{"token_id": "wharf@pve!wharf", "secret": "s", "secrets_set": ["secret"], "api-key": "a"}],
        });
        without_secrets(&mut value);
        let expected = json!({
            "file": {"listen": "x:1", "master_key_file": "/k", "store": {"password": GONE}},
            "environment": {"WHARF_OTEL__API_KEY": GONE, "WHARF_LISTEN": "y:2"},
            "list": [{"token_id": "wharf@pve!wharf", "secret": GONE, "secrets_set": ["secret"], "api-key": GONE}],
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn of_a_long_log_the_end_is_taken_in_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        let line = format!("{}\n", "x".repeat(999));
        std::fs::write(&file, line.repeat(5_000)).unwrap();
        let end = tail(&file).unwrap();
        assert!(end.len() as u64 <= LOG_BYTES && end.len() > 4_000_000 && end.len().is_multiple_of(1_000));
    }
}
