//! Both clusters as processes, in the same world.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use wharf_e2e::{fakepve::Fakepve, journey::Built, opinions::Cluster, peer::Peer};

use crate::opinions::{SECRET, TOKEN, settings};

/// pve-sim and fakepve, side by side.
pub struct Pair {
    pub sim: Cluster,
    pub fake: Cluster,
    pub fakepve: Fakepve,
    _sim: Peer,
    _dir: TempDir,
}

impl Pair {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = Built::in_target().unwrap();
        std::fs::write(dir.path().join("pve-sim.json"), settings().to_string()).unwrap();
        let mut command = Command::new(&built.pve_sim);
        command.arg("--config").arg(dir.path().join("pve-sim.json"));
        let sim =
            Peer::start("pve-sim", command, &dir.path().join("pve-sim.log"), Duration::from_secs(20)).await.unwrap();
        let fakepve = Fakepve::start(&dir.path().join("fakepve"), &settings()).await.unwrap();
        let token = format!("{TOKEN}={SECRET}");
        let plain = wharf_e2e::client::http().clone();
        let root = reqwest::Certificate::from_pem(&fakepve.certificate).unwrap();
        let tls = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .timeout(Duration::from_secs(30))
            .tls_certs_only([root])
            .build()
            .unwrap();
        Self {
            sim: Cluster { url: sim.url.clone(), token: token.clone(), http: plain },
            fake: Cluster { url: fakepve.url.clone(), token, http: tls },
            fakepve,
            _sim: sim,
            _dir: dir,
        }
    }

    /// A lasting state of pve-sim.
    pub async fn condition(&self, condition: Value) {
        let url = format!("{}/_sim/condition", self.sim.url);
        let answer = self.sim.http.post(url).json(&condition).send().await.unwrap();
        assert!(answer.status().is_success(), "{condition}: {}", answer.text().await.unwrap());
    }
}
