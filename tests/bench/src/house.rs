//! A real host process on SQLite, and a simulated cluster inside this process, so that each request to it is timed and counted
//! where it arrives.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use pve_sim::{
    Sim,
    state::{SimConfig, Timing},
};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinHandle};
use wharf_e2e::{client::Client, journey::Secrets, peer::Peer, whmcs::params};

use crate::{
    Bench,
    load::{self, Answer},
};

const TOKEN: &str = "wharf@pve!wharf";
/// The plugins that ship.
pub const SHIPPED: [&str; 4] = ["proxmox-kvm", "dns-powerdns", "hook-webhook", "panel-whmcs"];
const START: Duration = Duration::from_secs(60);

/// One request as the cluster saw it.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub came: Instant,
    pub left: Instant,
    pub write: bool,
    pub good: bool,
}

type Stamps = Arc<Mutex<Vec<Stamp>>>;

/// Everything that runs. Dropping it ends it.
pub struct House {
    pub dir: tempfile::TempDir,
    pub client: Client,
    pub sim: Sim,
    wharf: Option<Peer>,
    built: Bench,
    secrets: Secrets,
    settings: String,
    stamps: Stamps,
    serving: JoinHandle<()>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A cluster with room for thousands of VMs.
pub fn cluster(timing: Timing) -> SimConfig {
    let mut config = SimConfig { timing, ..SimConfig::default() };
    for node in &mut config.nodes {
        node.memory_mib = 64_000_000;
    }
    for storage in &mut config.storages {
        storage.total_mib = 4_000_000_000;
    }
    config
}

impl House {
    /// Starts both and tells the host of server, image, pool, plan and panel.
    pub async fn start(built: &Bench, config: SimConfig) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("house-").tempdir_in(&built.data)?;
        let secrets = Secrets::default();
        let mut config = config;
        config.tokens = [(TOKEN.to_owned(), secrets.pve.clone())].into();
        let sim = Sim::new(config);
        let stamps = Stamps::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let cluster = format!("http://{}", listener.local_addr()?);
        let app = sim.serving().layer(from_fn_with_state(Arc::clone(&stamps), stamp));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        let settings = "metrics_open = true\n".to_owned();
        let wharf = start_host(built, dir.path(), &settings).await?;
        let token = create_token(built, dir.path()).await?;
        let client = Client { url: wharf.url.clone(), token };
        let house =
            Self { dir, client, sim, wharf: Some(wharf), built: built.clone(), secrets, settings, stamps, serving };
        house.furnish(&cluster).await?;
        Ok(house)
    }

    async fn furnish(&self, cluster: &str) -> Result<()> {
        for name in SHIPPED {
            self.install(&self.built.plugins.join(format!("{name}.wasm"))).await?;
        }
        // So many clones at once as there are orders: the cluster, which is simulated, is not what is measured.
        let server = json!({
            "urls": [cluster], "token_id": TOKEN, "secret": self.secrets.pve, "clones_per_storage": 10_000,
        });
        self.put("servers/pve", server).await?;
        let test = self.client.post("/v1/admin/servers/pve/test", &json!({})).await?;
        ensure!(test["ok"] == true, "the server's test failed: {test}");
        // On shared storage: it can be copied to any node.
        self.put("images/debian-12", json!({"templates": [{"server": "pve", "vmid": 9001}]})).await?;
        let pool = json!({
            "server": "pve", "bridge": "vmbr0", "first": "10.64.0.10", "last": "10.64.255.250", "prefix_length": 16,
            "gateway": "10.64.0.1", "nameservers": ["192.0.2.53"],
        });
        self.put("pools/v4", pool).await?;
        let settings = json!({"image": "debian-12", "main-domain": "example.com"});
        self.put("plans/small", json!({"plugin": "proxmox-kvm", "server": "pve", "settings": settings})).await?;
        let panel = json!({"plugin": "panel-whmcs", "plans": ["small"], "secret": self.secrets.panel});
        self.put("panels/shop", panel).await
    }

    /// Uploads a component and allows all it wants. Returns how long the host took.
    pub async fn install(&self, file: &Path) -> Result<Duration> {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        self.upload(bytes).await
    }

    pub async fn upload(&self, bytes: Vec<u8>) -> Result<Duration> {
        let wants: Vec<String> = wharf_plugins::Runtime::inspect(&bytes)?.manifest.wants.keys().cloned().collect();
        let begun = Instant::now();
        self.client.upload(&format!("/v1/admin/plugins?allow={}", wants.join(",")), bytes).await?;
        Ok(begun.elapsed())
    }

    async fn put(&self, path: &str, body: Value) -> Result<()> {
        self.client.put(&format!("/v1/admin/{path}"), &body).await.map(drop)
    }

    pub fn addr(&self) -> Result<SocketAddr> {
        Ok(self.client.url.trim_start_matches("http://").parse()?)
    }

    pub fn pid(&self) -> Result<u32> {
        self.wharf.as_ref().and_then(Peer::pid).context("the host does not run")
    }

    pub fn books(&self) -> PathBuf {
        self.dir.path().join("data/wharf.db")
    }

    /// Stops the host as systemd does.
    pub async fn stop(&mut self) -> Result<()> {
        match self.wharf.take() {
            Some(wharf) => wharf.stop(Duration::from_secs(20)).await,
            None => Ok(()),
        }
    }

    /// A new process on the same books. Returns how long it took until it listened.
    pub async fn restart(&mut self) -> Result<Duration> {
        self.stop().await?;
        let begun = Instant::now();
        let wharf = start_host(&self.built, self.dir.path(), &self.settings).await?;
        let took = begun.elapsed();
        self.client.url.clone_from(&wharf.url);
        self.wharf = Some(wharf);
        Ok(took)
    }

    /// Signed orders of new services with these numbers.
    pub fn orders(&self, from: u32, count: usize) -> Result<Vec<Vec<u8>>> {
        let addr = self.addr()?;
        (from..).take(count).map(|n| load::hook(addr, &self.secrets.panel, "create", &order(n))).collect()
    }

    /// Orders one and returns when it was sent.
    pub async fn order(&self, number: u32) -> Result<(Instant, Answer)> {
        let request = self.orders(number, 1)?;
        let begun = Instant::now();
        let answer = load::fire(self.addr()?, request, 1_000).await?.into_iter().next().context("no answer")?;
        // The generator waits a little before the first.
        let sent = begun + begun.elapsed().saturating_sub(answer.served);
        ensure!(answer.accepted(), "the order {number} was answered {} {}", answer.status, answer.body);
        Ok((sent, answer))
    }

    /// Sends orders at a rate; an error if one was not accepted.
    pub async fn fire(&self, from: u32, count: usize, rate: u32) -> Result<Vec<Answer>> {
        let answers = load::fire(self.addr()?, self.orders(from, count)?, rate).await?;
        if let Some(bad) = answers.iter().find(|a| !a.accepted()) {
            let all = answers.iter().filter(|a| !a.accepted()).count();
            bail!("{all} of {count} orders were not accepted, the first with {} {}", bad.status, bad.body);
        }
        Ok(answers)
    }

    /// What a metric stands at, summed over all lines that begin so.
    pub async fn metric(&self, begins: &str) -> Result<f64> {
        let answer = wharf_e2e::client::http().get(format!("{}/metrics", self.client.url)).send().await?;
        let text = answer.error_for_status()?.text().await?;
        let lines = text.lines().filter(|line| line.starts_with(begins));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// Waits until so many services are active.
    pub async fn active(&self, count: usize, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let now = self.metric("wharf_services{phase=\"active\"}").await?;
            #[allow(clippy::cast_precision_loss, reason = "counts are small")]
            if now >= count as f64 {
                return Ok(());
            }
            if begun.elapsed() > patience {
                let stuck = self.metric("wharf_services{phase=\"needs-admin\"}").await?;
                bail!("{now} of {count} services are active after {patience:?}; {stuck} need an admin");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Requests that came to the cluster since `from`.
    pub fn stamps(&self, from: Instant) -> Vec<Stamp> {
        let all = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|s| s.came >= from).copied().collect()
    }
}

/// An order as WHMCS posts it.
pub fn order(number: u32) -> Value {
    params(number, "small", "", json!({"CPU Cores": "2|2 cores", "RAM": "2|2 GB", "System Disk": "10|10 GB"}))
}

async fn stamp(State(stamps): State<Stamps>, request: Request, next: Next) -> Response {
    let came = Instant::now();
    let write = request.method() != axum::http::Method::GET;
    let response = next.run(request).await;
    let seen = Stamp { came, left: Instant::now(), write, good: response.status().is_success() };
    stamps.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    response
}

async fn start_host(built: &Bench, dir: &Path, settings: &str) -> Result<Peer> {
    let file = dir.join("wharf.toml");
    std::fs::write(&file, settings)?;
    let mut command = Command::new(&built.wharf);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(dir.join("data"));
    command.arg("--config").arg(file).env_remove("WHARF_TOKEN");
    Peer::start("wharf", command, &dir.join("wharf.log"), START).await
}

async fn create_token(built: &Bench, dir: &Path) -> Result<String> {
    let out = Command::new(&built.wharf)
        .args(["token", "create", "--note", "bench", "--data-dir"])
        .arg(dir.join("data"))
        .output()
        .await?;
    ensure!(out.status.success(), "token create: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}
