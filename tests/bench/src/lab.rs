//! The plugin runtime, or the whole engine, inside this process: for figures that a network would drown.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};

use anyhow::{Context, Result};
use serde_json::json;
use wharf_capabilities::{
    call::{Lender, ZoneBinding},
    http::Sender,
    proxmox::Servers,
    secrets::Keyring,
};
use wharf_model::{Clock, SystemClock, manifest::SECTION, object::Zone};
use wharf_plugins::{GrantRequest, Runtime, RuntimeConfig};
use wharf_store::Books;
use wharf_store_sqlite::SqliteStore;

/// Runtime and books as production has them: SQLite, limits, compiling in a child process.
pub struct Lab {
    pub books: Books,
    pub clock: Arc<dyn Clock>,
    pub lender: Arc<Lender>,
    pub runtime: Arc<Runtime>,
}

impl Lab {
    /// In `dir`, where a lab before may have left its books. `wharf` compiles.
    pub async fn open(dir: &Path, wharf: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let books: Books = Arc::new(SqliteStore::open(dir.join("wharf.db")).await?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keyring = Arc::new(Keyring::new([7; 32]));
        let lender = Arc::new(Lender {
            books: Arc::clone(&books),
            clock: Arc::clone(&clock),
            servers: Arc::new(Servers::new(Arc::clone(&books), Arc::clone(&keyring))),
            sender: Arc::new(Sender::new()),
            keyring,
        });
        let runtime = Runtime::open(RuntimeConfig::new(dir, wharf), Arc::clone(&lender)).await?;
        Ok(Self { books, clock, lender, runtime })
    }

    /// Installs with everything granted that it wants; returns id and microseconds.
    pub async fn install(&self, component: Vec<u8>) -> Result<(String, f64)> {
        let manifest = Runtime::inspect(&component)?.manifest;
        let wants: BTreeSet<String> = manifest.wants.keys().cloned().collect();
        let begun = Instant::now();
        self.runtime.install(component, "bench", GrantRequest::Allow(wants)).await?;
        Ok((manifest.id, begun.elapsed().as_secs_f64() * 1e6))
    }
}

/// A zone of this plugin. Nothing is asked of any server.
pub fn zone(plugin: &str) -> ZoneBinding {
    ZoneBinding {
        name: "bench".into(),
        zone: Zone {
            zone: bench_logic::ZONE.into(),
            plugin: plugin.into(),
            settings: json!({"server-url": "http://127.0.0.1:1", "api-key": "none"}),
            ..Zone::default()
        },
        idempotency_key: String::new(),
        learnt: Vec::new(),
        progress: Default::default(),
        cancelled: Arc::default(),
    }
}

/// The same code under another version: what an upgrade looks like to the host.
pub fn reissued(component: &[u8], version: &str) -> Result<Vec<u8>> {
    let (preamble, mut rest) = component.split_at_checked(8).context("it is no component")?;
    let (mut out, mut manifest) = (preamble.to_vec(), None);
    // Sections follow each other as number, length, contents.
    while let Some((number, after)) = rest.split_first() {
        let (length, contents) = leb128_of(after)?;
        let (contents, next) = contents.split_at_checked(length).context("a section is cut off")?;
        let named = if *number == 0 {
            let (length, text) = leb128_of(contents)?;
            text.split_at_checked(length)
        } else {
            None
        };
        match named {
            Some((name, data)) if name == SECTION.as_bytes() => {
                let mut own: serde_json::Value = serde_json::from_slice(data)?;
                if let Some(fields) = own.as_object_mut() {
                    fields.insert("version".into(), json!(version));
                }
                manifest = Some(own);
            }
            _ => out.extend(rest.get(..rest.len() - next.len()).unwrap_or_default()),
        }
        rest = next;
    }
    let data = serde_json::to_vec(&manifest.context("it has no manifest")?)?;
    let mut section = leb128(SECTION.len());
    section.extend(SECTION.as_bytes());
    section.extend(data);
    out.push(0);
    out.extend(leb128(section.len()));
    out.extend(section);
    Ok(out)
}

fn leb128(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn leb128_of(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let length = bytes.iter().position(|b| b & 0x80 == 0).context("a number is cut off")? + 1;
    let (number, rest) = bytes.split_at(length);
    Ok((number.iter().rev().fold(0, |n, b| (n << 7) | usize::from(b & 0x7f)), rest))
}
