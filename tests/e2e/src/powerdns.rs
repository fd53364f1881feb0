//! A real PowerDNS (Debian's `pdns-server` with `pdns-backend-sqlite3`), read back with `dig`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::peer::{free_port, tail};

/// Where Debian puts the database's schema.
const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";

/// A running server with an empty database.
#[derive(Debug)]
pub struct PowerDns {
    pub api: String,
    pub key: String,
    pub dns_port: u16,
    _child: Child,
}

impl PowerDns {
    /// Starts it in `dir`. The API key is `key`.
    pub async fn start(dir: &Path, key: &str) -> Result<Self> {
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
            let server =
                Self { api: format!("http://127.0.0.1:{api_port}"), key: key.to_owned(), dns_port, _child: child };
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

    /// Values of a name and type, by `dig`, sorted.
    pub async fn dig(&self, name: &str, rtype: &str) -> Result<Vec<String>> {
        let out = Command::new("dig")
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
            .await
            .context("`dig` is missing: apt-get install dnsutils")?;
        let mut values: Vec<String> =
            String::from_utf8_lossy(&out.stdout).lines().filter(|l| !l.starts_with(';')).map(str::to_owned).collect();
        values.sort();
        Ok(values)
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| file.exists())
}
