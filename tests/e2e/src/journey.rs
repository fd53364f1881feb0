//! A whole house for demo and tests: simulated cluster, PowerDNS, webhook receiver, and a host with all shipped plugins.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    client::Client,
    peer::Peer,
    powerdns::{Dns, PowerDns},
    receiver::Receiver,
    whmcs::Whmcs,
};

/// The zones that its services are named in.
pub const ZONES: [&str; 3] = ["example.com.", "2.0.192.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."];

/// What PowerDNS, unless a [`Setup`] says otherwise, is asked with.
pub const DNS_KEY: &str = "powerdns-key-for-demo-and-tests";
/// Id of the simulated cluster's token.
const TOKEN: &str = "wharf@pve!wharf";

/// What host and peers share.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Of the cluster's token.
    pub pve: String,
    /// API key of PowerDNS.
    pub dns: String,
    /// Signs hooks: `whsec_…`.
    pub panel: String,
    /// Signs webhooks: `whsec_…`.
    pub hook: String,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            pve: "11111111-2222-3333-4444-555555555555".into(),
            dns: DNS_KEY.into(),
            panel: "whsec_cGFuZWwtc2VjcmV0LWZvci1kZW1vLWFuZC10ZXN0cw==".into(),
            hook: "whsec_aG9vay1zZWNyZXQtZm9yLWRlbW8tYW5kLXRlc3RzISE=".into(),
        }
    }
}

/// What may differ from house to house.
#[derive(Debug, Clone)]
pub struct Setup {
    pub secrets: Secrets,
    /// The host's log filter.
    pub log: String,
    /// The host's settings file, as TOML.
    pub settings: String,
    /// More of the server's settings: `{"heavy_timeout_ms": …}`.
    pub server: Value,
    /// The simulator's settings; tokens are added.
    pub cluster: Value,
    pub dns: Dns,
    /// The books, if they are not to be SQLite in the data folder: `postgres://…`. Then more hosts may work on them.
    pub database: Option<String>,
    /// Of the pool of IPv4 addresses: first, last, length of the prefix, gateway.
    pub v4: (&'static str, &'static str, u8, &'static str),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            secrets: Secrets::default(),
            log: "info".into(),
            settings: String::new(),
            server: json!({}),
            cluster: json!({}),
            dns: Dns::Real,
            database: None,
            v4: ("192.0.2.10", "192.0.2.250", 24, "192.0.2.1"),
        }
    }
}

/// Where the built things are.
#[derive(Debug, Clone)]
pub struct Built {
    pub wharf: PathBuf,
    pub pve_sim: PathBuf,
    /// Folder of components.
    pub plugins: PathBuf,
}

impl Built {
    /// What `cargo build --workspace --all-targets` and `cargo xtask plugins` have made.
    ///
    /// # Errors
    /// It was not made yet.
    pub fn in_target() -> Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let plugins = std::env::var_os("WHARF_PLUGINS_DIR").map_or_else(|| target.join("plugins"), Into::into);
        let built = Self { wharf: target.join("debug/wharf"), pve_sim: target.join("debug/pve-sim"), plugins };
        for file in [&built.wharf, &built.pve_sim, &built.plugins] {
            anyhow::ensure!(
                file.exists(),
                "{} is missing: run `cargo build --workspace --all-targets` and `cargo xtask plugins`",
                file.display()
            );
        }
        Ok(built)
    }
}

/// Everything that runs. Dropping it ends it.
pub struct House {
    pub dir: PathBuf,
    pub wharf: Option<Peer>,
    pub sim: Peer,
    pub dns: PowerDns,
    pub receiver: Receiver,
    pub client: Client,
    pub whmcs: Whmcs,
    pub setup: Setup,
    built: Built,
}

impl House {
    /// Starts all of it in `dir` and tells the host of servers, images, plans, pools, zones, panel and hook.
    pub async fn build(dir: &Path, built: Built) -> Result<Self> {
        Self::with(dir, built, Setup::default()).await
    }

    /// The same, set up in another way.
    pub async fn with(dir: &Path, built: Built, setup: Setup) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut cluster = setup.cluster.clone();
        cluster["tokens"] = json!({TOKEN: setup.secrets.pve});
        std::fs::write(dir.join("pve-sim.json"), cluster.to_string())?;
        std::fs::write(dir.join("wharf.toml"), settings(dir, &setup)?)?;
        let mut command = Command::new(&built.pve_sim);
        command.arg("--config").arg(dir.join("pve-sim.json"));
        let sim = Peer::start("pve-sim", command, &dir.join("pve-sim.log"), Duration::from_secs(20)).await?;
        let dns = PowerDns::start(&dir.join("powerdns"), &setup.secrets.dns, setup.dns).await?;
        for zone in ZONES {
            dns.create_zone(zone).await?;
        }
        let receiver = Receiver::start(&setup.secrets.hook).await?;
        let wharf = start_host(&built, dir, &setup, "data", "wharf.log").await?;
        let token = create_token(&built, dir).await?;
        let client = Client { url: wharf.url.clone(), token };
        let whmcs = Whmcs { host: wharf.url.clone(), panel: "shop".into(), secret: setup.secrets.panel.clone() };
        let house = Self { dir: dir.to_owned(), wharf: Some(wharf), sim, dns, receiver, client, whmcs, setup, built };
        house.furnish().await?;
        Ok(house)
    }

    async fn furnish(&self) -> Result<()> {
        let host = self.client.url.clone();
        for name in ["proxmox-kvm", "dns-powerdns", "hook-webhook", "panel-whmcs"] {
            let bytes = self.component(name)?;
            let manifest: Value =
                serde_json::from_slice(&std::fs::read(plugin_manifest(name))?).context("a plugin's manifest.json")?;
            let wants: Vec<&str> =
                manifest["wants"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
            self.client.upload(&format!("/v1/admin/plugins?allow={}", wants.join(",")), bytes).await?;
        }
        let put = async |path: &str, body: Value| self.client.put(&format!("/v1/admin/{path}"), &body).await;
        let secrets = &self.setup.secrets;
        let mut server = self.setup.server.clone();
        // Another cluster than the simulated one, if its address is given.
        if server.get("urls").is_none() {
            server["urls"] = json!([self.sim.url]);
        }
        server["token_id"] = json!(TOKEN);
        server["secret"] = json!(secrets.pve);
        put("servers/pve", server).await?;
        let test = self.client.post("/v1/admin/servers/pve/test", &json!({})).await?;
        anyhow::ensure!(test["ok"] == true, "the server's test failed: {test}");
        let templates = json!({"templates": [{"server": "pve", "vmid": 9000}, {"server": "pve", "vmid": 9001}]});
        put("images/debian-12", templates).await?;
        // On one node's own storage: a VM for another node has to be migrated.
        put("images/debian-12-local", json!({"templates": [{"server": "pve", "vmid": 9000}]})).await?;
        let pool = |first: &str, last: &str, length: u8, gateway: &str| {
            json!({
                "server": "pve", "bridge": "vmbr0", "first": first, "last": last, "prefix_length": length, "gateway": gateway,
                "nameservers": ["192.0.2.53"],
            })
        };
        let (first, last, length, gateway) = self.setup.v4;
        put("pools/office-v4", pool(first, last, length, gateway)).await?;
        put("pools/office-v6", pool("2001:db8::10", "2001:db8::ff", 64, "2001:db8::1")).await?;
        for (grant, origin) in
            [("dns-powerdns", self.dns.api.clone()), ("hook-webhook", self.receiver.url.replace("/events", ""))]
        {
            let now = self.client.get(&format!("/v1/admin/grants/{grant}")).await?;
            let mut body = now["body"].clone();
            body["private_origins"] = json!([origin]);
            put(&format!("grants/{grant}"), body).await?;
        }
        for (name, zone) in [
            ("forward", "example.com"),
            ("reverse-v4", "2.0.192.in-addr.arpa"),
            ("reverse-v6", "8.b.d.0.1.0.0.2.ip6.arpa"),
        ] {
            let settings = json!({"server-url": self.dns.api, "api-key": secrets.dns});
            put(
                &format!("zones/{name}"),
                json!({"zone": zone, "plugin": "dns-powerdns", "settings": settings, "ttl": 300}),
            )
            .await?;
        }
        let plan = |settings: Value| {
            let mut all = json!({"image": "debian-12", "main-domain": "example.com"});
            for (key, value) in settings.as_object().into_iter().flatten() {
                all[key] = value.clone();
            }
            json!({"plugin": "proxmox-kvm", "server": "pve", "settings": all})
        };
        put("plans/linked", plan(json!({}))).await?;
        put("plans/migrated", plan(json!({"image": "debian-12-local", "clone": "full", "node": "pve3"}))).await?;
        put("plans/dual-stack", plan(json!({"ipv6-addresses": 1}))).await?;
        let panel =
            json!({"plugin": "panel-whmcs", "plans": ["linked", "migrated", "dual-stack"], "secret": secrets.panel});
        put("panels/shop", panel).await?;
        let hook = json!({"plugin": "hook-webhook", "settings": {"url": self.receiver.url, "secret": secrets.hook}});
        put("hooks/receiver", hook).await?;
        anyhow::ensure!(host == self.client.url, "the host moved");
        Ok(())
    }

    /// A new process on the same books, after the former was killed or stopped.
    pub async fn restart(&mut self) -> Result<()> {
        self.wharf = None;
        let wharf = self.another_host("wharf.log").await?;
        self.client.url.clone_from(&wharf.url);
        self.whmcs.host.clone_from(&wharf.url);
        self.wharf = Some(wharf);
        Ok(())
    }

    /// One more process on the same books; what it says goes to `log`, in the house's folder.
    pub async fn another_host(&self, log: &str) -> Result<Peer> {
        start_host(&self.built, &self.dir, &self.setup, "data", log).await
    }

    /// A host with a data folder of its own, on the same PostgreSQL. The one that is there from the beginning is number 1.
    pub async fn host(&self, number: usize) -> Result<Peer> {
        let (data, log) = match number {
            1 => ("data".to_owned(), "wharf.log".to_owned()),
            n => (format!("data-{n}"), format!("wharf-{n}.log")),
        };
        start_host(&self.built, &self.dir, &self.setup, &data, &log).await
    }

    /// A component as it was built.
    pub fn component(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.built.plugins.join(format!("{name}.wasm"));
        std::fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Waits until a service is in this phase and its last operation is over.
    pub async fn until(&self, reference: &str, phase: &str, patience: Duration) -> Result<Value> {
        let begun = Instant::now();
        let mut last = Value::Null;
        while begun.elapsed() < patience {
            if let Ok(service) = self.client.get(&format!("/v1/services/shop:{reference}")).await {
                let status = service["operation"]["status"].as_str().unwrap_or_default().to_owned();
                if service["phase"] == phase && matches!(status.as_str(), "succeeded" | "cancelled" | "needs-admin") {
                    return Ok(service);
                }
                last = service;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = self.client.text(&format!("/v1/services/shop:{reference}/log")).await.unwrap_or_default();
        bail!("service {reference} is not {phase} after {patience:?}: {last}\n{log}")
    }

    /// State of the simulated cluster.
    pub async fn cluster(&self) -> Result<Value> {
        Ok(crate::client::http().get(format!("{}/_sim/state", self.sim.url)).send().await?.json().await?)
    }

    /// Numbers of VMs that carry a service's marker.
    pub async fn guests(&self) -> Result<Vec<u64>> {
        let state = self.cluster().await?;
        Ok(state["vms"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, vm)| vm["config"]["description"].as_str().is_some_and(|d| d.contains("wharf:")))
            .filter_map(|(id, _)| id.parse().ok())
            .collect())
    }
}

/// The records that a service has by its addresses: A or AAAA of its name, and the PTR of each, as (name, type, value).
pub fn names_of(service: &Value, fqdn: &str) -> Result<BTreeSet<(String, String, String)>> {
    let mut all = BTreeSet::new();
    for address in service["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let ip: IpAddr = address.parse()?;
        let rtype = if ip.is_ipv4() { "A" } else { "AAAA" };
        all.insert((fqdn.to_owned(), rtype.to_owned(), ip.to_string()));
        all.insert((reverse_name(ip), "PTR".to_owned(), fqdn.to_owned()));
    }
    Ok(all)
}

/// Where the PTR of an address stands.
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let hex: String = v6.octets().iter().map(|b| format!("{b:02x}")).collect();
            hex.chars().rev().map(|c| format!("{c}.")).collect::<String>() + "ip6.arpa."
        }
    }
}

fn plugin_manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name).join("manifest.json")
}

/// The settings file: of all hosts.
fn settings(dir: &Path, setup: &Setup) -> Result<String> {
    let Some(database) = &setup.database else { return Ok(setup.settings.clone()) };
    let key = dir.join("master.key");
    if !key.exists() {
        write_key(&key)?;
    }
    // Keys without a section come first.
    Ok(format!("database_url = {}\nmaster_key_file = {}\n{}", json!(database), json!(key), setup.settings))
}

/// A new master key, as a host would make it.
///
/// # Errors
/// The file is there, or can't be written.
pub fn write_key(file: &Path) -> Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let text = format!("{:032x}{:032x}\n", rand::random::<u128>(), rand::random::<u128>());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}

async fn start_host(built: &Built, dir: &Path, setup: &Setup, data: &str, log: &str) -> Result<Peer> {
    let mut command = Command::new(&built.wharf);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log", &setup.log, "--data-dir"])
        .arg(dir.join(data))
        .arg("--config")
        .arg(dir.join("wharf.toml"))
        .env_remove("WHARF_TOKEN");
    Peer::start("wharf", command, &dir.join(log), Duration::from_secs(120)).await
}

async fn create_token(built: &Built, dir: &Path) -> Result<String> {
    let out = Command::new(&built.wharf)
        .args(["token", "create", "--note", "demo", "--data-dir"])
        .arg(dir.join("data"))
        .arg("--config")
        .arg(dir.join("wharf.toml"))
        .output()
        .await?;
    anyhow::ensure!(out.status.success(), "token create: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}
