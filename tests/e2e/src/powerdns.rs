//! A PowerDNS: the real one (Debian's `pdns-server` with `pdns-backend-sqlite3`), or the test kit's where it can't be had, which
//! answers over UDP too here. Read back with `dig`, or by our own questions where that is missing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    net::UdpSocket,
    process::{Child, Command},
    task::JoinHandle,
};
use wharf_testkit::{
    facades::powerdns,
    model::{Model, Record, Zone},
    peer::Peer,
};

use crate::{
    dns::{self, Found, Line},
    peer::{free_port, tail},
};

/// Where Debian puts the database's schema.
const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dns {
    Real,
    Ours,
    /// The real one where it is installed, else ours.
    Any,
}

/// A running server with an empty database.
#[derive(Debug)]
pub struct PowerDns {
    pub api: String,
    pub key: String,
    pub dns_port: u16,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Real { _child: Child },
    Ours { _server: Ours },
}

/// The test kit's, and its answers over UDP. Dropping it ends both.
struct Ours {
    api: Arc<Peer>,
    dns_port: u16,
    answering: JoinHandle<()>,
}

impl std::fmt::Debug for Ours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ours").field("api", &self.api.url).field("dns_port", &self.dns_port).finish()
    }
}

impl Ours {
    async fn start(key: &str) -> Result<Self> {
        let api = Arc::new(Peer::start(Box::new(powerdns::PowerDns::with_key(key))).await?);
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let dns_port = socket.local_addr().context("no port")?.port();
        let zones = Arc::clone(&api);
        let answering = tokio::spawn(dns::serve(socket, move |name, rtype| found(&zones.model(), name, rtype)));
        Ok(Self { api, dns_port, answering })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

/// What is answered to a question, from the zone that is nearest.
fn found(model: &Model, name: &str, rtype: &str) -> Found {
    let name = name.to_ascii_lowercase();
    let holds = |zone: &&Zone| name == zone.name || name.ends_with(&format!(".{}", zone.name));
    let Some(zone) = model.zones.iter().filter(holds).max_by_key(|zone| zone.name.len()) else {
        return Found::Elsewhere;
    };
    let served: Vec<Record> = powerdns::PowerDns::everything(zone).filter(|r| !r.disabled).collect();
    let lines = |at: &str, rtype: &str| -> Vec<Line> {
        let line = |r: &Record| Line {
            name: at.to_owned(),
            ttl: r.ttl.unwrap_or_default(),
            rtype: rtype.to_owned(),
            content: r.data.clone(),
        };
        served.iter().filter(|r| r.name == at && r.rtype == rtype).map(line).collect()
    };
    let mut answers = lines(&name, rtype);
    if answers.is_empty() {
        answers = lines(&name, "CNAME");
    }
    let below = format!(".{name}");
    let exists = served.iter().any(|r| r.name == name || r.name.ends_with(&below));
    Found::Here { answers, exists, soa: lines(&zone.name, "SOA") }
}

impl PowerDns {
    /// Starts it in `dir`. The API key is `key`.
    ///
    /// # Errors
    /// The real one is asked for and not installed, or does not start: what to do about it.
    pub async fn start(dir: &Path, key: &str, which: Dns) -> Result<Self> {
        let real = match which {
            Dns::Real => true,
            Dns::Ours => false,
            Dns::Any => ["pdns_server", "sqlite3"].iter().all(|p| find(p).is_some()) && Path::new(SCHEMA).exists(),
        };
        if real {
            return Self::start_real(dir, key).await;
        }
        let ours = Ours::start(key).await?;
        let (api, dns_port) = (ours.api.url.clone(), ours.dns_port);
        Ok(Self { api, key: key.to_owned(), dns_port, running: Running::Ours { _server: ours } })
    }

    /// For people: what it is.
    pub fn what(&self) -> &'static str {
        match self.running {
            Running::Real { .. } => "the real PowerDNS",
            Running::Ours { .. } => "a PowerDNS of our own (the real one is not installed)",
        }
    }

    async fn start_real(dir: &Path, key: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let program = find("pdns_server")
            .context("`pdns_server` is missing: apt-get install pdns-server pdns-backend-sqlite3")?;
        if !Path::new(SCHEMA).exists() {
            bail!("{SCHEMA} is missing: apt-get install pdns-backend-sqlite3");
        }
        let database = dir.join("pdns.sqlite3");
        let schema = std::fs::File::open(SCHEMA)?;
        let made = Command::new("sqlite3")
            .arg(&database)
            .stdin(schema)
            .status()
            .await
            .context("`sqlite3` is missing: apt-get install sqlite3")?;
        if !made.success() {
            bail!("sqlite3 could not make {}", database.display());
        }
        let log = dir.join("pdns.log");
        for _ in 0..5 {
            let (dns_port, api_port) = (free_port()?, free_port()?);
            let conf = format!(
                "launch=gsqlite3\ngsqlite3-database={}\nlocal-address=127.0.0.1\nlocal-port={dns_port}\nwebserver=yes\n\
                 webserver-address=127.0.0.1\nwebserver-port={api_port}\nwebserver-allow-from=127.0.0.1\napi=yes\napi-key={key}\n\
                 socket-dir={}\ndaemon=no\nguardian=no\ndisable-syslog=yes\nsecurity-poll-suffix=\ncache-ttl=0\n\
                 query-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\nreceiver-threads=1\ndistributor-threads=1\n",
                database.display(),
                dir.display()
            );
            std::fs::write(dir.join("pdns.conf"), conf)?;
            let err = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
            let child = Command::new(&program)
                .arg(format!("--config-dir={}", dir.display()))
                .stdin(Stdio::null())
                .stdout(err.try_clone()?)
                .stderr(err)
                .kill_on_drop(true)
                .spawn()?;
            let server = Self {
                api: format!("http://127.0.0.1:{api_port}"),
                key: key.to_owned(),
                dns_port,
                running: Running::Real { _child: child },
            };
            for _ in 0..100 {
                if server.get("/api/v1/servers/localhost").await.is_ok() {
                    return Ok(server);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        bail!("PowerDNS did not start; its log: {}", tail(&log))
    }

    /// GET of the API.
    pub async fn get(&self, path: &str) -> Result<serde_json::Value> {
        let answer =
            crate::client::http().get(format!("{}{path}", self.api)).header("X-API-Key", &self.key).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Makes a zone.
    pub async fn create_zone(&self, zone: &str) -> Result<()> {
        let answer = crate::client::http()
            .post(format!("{}/api/v1/servers/localhost/zones", self.api))
            .header("X-API-Key", &self.key)
            .json(&serde_json::json!({"name": zone, "kind": "Native", "nameservers": ["ns1.example.net."]}))
            .send()
            .await?;
        if !answer.status().is_success() {
            bail!("PowerDNS refused the zone {zone}: {}", answer.text().await?);
        }
        Ok(())
    }

    /// Writes a record set of one value, as other hands do.
    pub async fn add(&self, zone: &str, name: &str, rtype: &str, value: &str) -> Result<()> {
        self.set(zone, name, rtype, &[value]).await
    }

    /// The same with exactly these values, or none.
    pub async fn set(&self, zone: &str, name: &str, rtype: &str, values: &[&str]) -> Result<()> {
        let records: Vec<_> = values.iter().map(|v| serde_json::json!({"content": v, "disabled": false})).collect();
        let changetype = if records.is_empty() { "DELETE" } else { "REPLACE" };
        let set =
            serde_json::json!({"name": name, "type": rtype, "ttl": 60, "changetype": changetype, "records": records});
        let answer = crate::client::http()
            .patch(format!("{}/api/v1/servers/localhost/zones/{zone}", self.api))
            .header("X-API-Key", &self.key)
            .json(&serde_json::json!({"rrsets": [set]}))
            .send()
            .await?;
        if !answer.status().is_success() {
            bail!("PowerDNS refused {name} {rtype} {values:?}: {}", answer.text().await?);
        }
        Ok(())
    }

    /// All enabled A, AAAA and PTR records of a zone, as (name, type, value).
    pub async fn records(&self, zone: &str) -> Result<BTreeSet<(String, String, String)>> {
        let shown = self.get(&format!("/api/v1/servers/localhost/zones/{zone}")).await?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut all = BTreeSet::new();
        for set in shown["rrsets"].as_array().into_iter().flatten() {
            for record in set["records"].as_array().into_iter().flatten().filter(|r| r["disabled"] == false) {
                if matches!(set["type"].as_str(), Some("A" | "AAAA" | "PTR")) {
                    all.insert((text(&set["name"]), text(&set["type"]), text(&record["content"])));
                }
            }
        }
        Ok(all)
    }

    /// Values of a name and type, sorted: by `dig`, an independent witness, if it is there.
    pub async fn dig(&self, name: &str, rtype: &str) -> Result<Vec<String>> {
        let Some(dig) = find("dig") else { return crate::dns::query(self.dns_port, name, rtype).await };
        let out = Command::new(dig)
            .args([
                "+short",
                "+norecurse",
                "+time=2",
                "+tries=2",
                "@127.0.0.1",
                "-p",
                &self.dns_port.to_string(),
                name,
                rtype,
            ])
            .output()
            .await?;
        let mut values: Vec<String> =
            String::from_utf8_lossy(&out.stdout).lines().filter(|l| !l.starts_with(';')).map(str::to_owned).collect();
        values.sort();
        Ok(values)
    }
}

/// Where a program is.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| file.exists())
}
