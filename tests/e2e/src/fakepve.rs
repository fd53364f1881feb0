//! The second opinion: `fakepve`, a simulated Proxmox VE by other hands, as a process of its own.
//!
//! It is AGPL: it is run, nothing of it is copied. `cargo xtask test --only setup` installs the pinned version into `.venv`.
//! It speaks TLS, so the host meets it as it meets a real node: by a pinned
//! certificate. What it knows of the world, and the endpoint for its faults, is in `fakepve_launch.py`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::{client::http, peer::Peer};

/// Privileges by path, as a token holds them.
pub type Privileges = BTreeMap<String, Vec<String>>;

/// What deploy, suspend and terminate of all plans may need. `docs/second-opinion.md` shows what stops without each.
pub const LEAST: [(&str, &[&str]); 4] = [
    ("/", &["Sys.Audit"]),
    ("/sdn", &["SDN.Use"]),
    ("/storage", &["Datastore.AllocateSpace", "Datastore.Audit"]),
    (
        "/vms",
        &[
            "VM.Allocate",
            "VM.Audit",
            "VM.Backup",
            "VM.Clone",
            "VM.Config.CDROM",
            "VM.Config.CPU",
            "VM.Config.Cloudinit",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.Migrate",
            "VM.PowerMgmt",
        ],
    ),
];

/// [`LEAST`], as it is sent.
pub fn least() -> Privileges {
    LEAST
        .iter()
        .map(|(path, names)| ((*path).to_owned(), names.iter().map(|name| (*name).to_owned()).collect()))
        .collect()
}

/// A running fakepve. Dropping it ends it.
pub struct Fakepve {
    /// Its API: `https://127.0.0.1:port`.
    pub url: String,
    /// SHA-256 of its certificate, as an admin enters it.
    pub fingerprint: String,
    pub certificate: Vec<u8>,
    pub version: String,
    control: Peer,
}

impl Fakepve {
    /// Starts it in `dir`. `settings` are pve-sim's (nodes, storages, templates, tokens), with `privileges` by token and
    /// `time_scale`.
    pub async fn start(dir: &Path, settings: &Value) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?.self_signed(&key)?;
        let fingerprint =
            Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let file = |name: &str| dir.join(name);
        let shown = pem("CERTIFICATE", certificate.der());
        std::fs::write(file("fakepve.crt"), &shown)?;
        std::fs::write(file("fakepve.key"), pem("PRIVATE KEY", key.serialized_der()))?;
        std::fs::write(file("fakepve.json"), settings.to_string())?;
        let mut command = Command::new(python()?);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fakepve_launch.py"))
            .args([file("fakepve.json"), file("fakepve.crt"), file("fakepve.key")])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let control = Peer::start("fakepve", command, &file("fakepve.log"), Duration::from_secs(30)).await?;
        let mut started =
            Self { url: String::new(), fingerprint, certificate: shown.into_bytes(), version: String::new(), control };
        let state = started.state().await?;
        state["api"].as_str().context("fakepve did not say where it is")?.clone_into(&mut started.url);
        state["version"].as_str().unwrap_or_default().clone_into(&mut started.version);
        Ok(started)
    }

    /// VMs, volumes and requests as they stand.
    pub async fn state(&self) -> Result<Value> {
        Ok(http().get(format!("{}/state", self.control.url)).send().await?.json().await?)
    }

    /// Begins or ends one of its scenarios.
    pub async fn call(&self, what: &str, args: Value, kwargs: Value) -> Result<()> {
        self.post("call", &json!({"what": what, "args": args, "kwargs": kwargs})).await
    }

    /// From now on this token holds these, and nobody anything else.
    pub async fn privileges(&self, token: &str, privileges: &Privileges) -> Result<()> {
        self.post("privileges", &json!({token: privileges})).await
    }

    /// From now on these tokens are known, and no other.
    pub async fn secrets(&self, secrets: &Value) -> Result<()> {
        self.post("secrets", secrets).await
    }

    /// How a guest behaves: `{"acpi": false}` ignores a shutdown.
    pub async fn guest(&self, vmid: u64, behaviour: &Value) -> Result<()> {
        self.post(&format!("guest/{vmid}"), behaviour).await
    }

    /// Ends what [`Self::call`] began, as far as it hits requests.
    pub async fn clear_faults(&self) -> Result<()> {
        http().delete(format!("{}/faults", self.control.url)).send().await?.error_for_status()?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<()> {
        let answer = http().post(format!("{}/{path}", self.control.url)).json(body).send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{path} of fakepve: {status}: {}", answer.text().await?);
        }
        Ok(())
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// The interpreter of the environment that has fakepve.
fn python() -> Result<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    anyhow::ensure!(
        python.exists(),
        "{} is missing: run `cargo xtask test --only setup`, which installs fakepve there",
        python.display()
    );
    Ok(python)
}
