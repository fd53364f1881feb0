//! A host for one call: the real runtime with its limits, books in memory, and a transport that keeps what was asked.
//!
//! Compiled components are kept in the user's cache, as a host keeps them in its data folder; nothing else outlives the call.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::{Value, json};
use wharf_capabilities::{
    call::Lender,
    http::{Answer, Lost, Network, Prepared, Sender, Transport},
    proxmox::Servers,
    scrub::{SHORTEST, Scrubber},
    secrets::Keyring,
};
use wharf_model::SystemClock;
use wharf_plugins::{Runtime, RuntimeConfig};
use wharf_store::{Books, memory::MemoryStore};

/// Of bodies, this much is shown.
const SHOWN: usize = 4_096;

/// Secrets of the one zone: slot and value.
pub type Secrets = Vec<(String, String)>;

pub struct House {
    pub runtime: Arc<Runtime>,
    pub lender: Arc<Lender>,
    pub asked: Arc<Recorder>,
    /// Where there is no home: goes with the house.
    _place: Option<tempfile::TempDir>,
}

impl House {
    pub async fn open(secrets: Secrets) -> Result<Self> {
        let exe = std::env::current_exe().context("can't find the host's own executable")?;
        let (folder, place) = place()?;
        let books: Books = Arc::new(MemoryStore::default());
        let keyring = Arc::new(Keyring::parse(&Keyring::generate_key())?);
        let asked = Arc::new(Recorder::new(&secrets));
        let sender = Sender::with_transport(Arc::clone(&asked) as Arc<dyn Transport>);
        let lender = Arc::new(Lender {
            clock: Arc::new(SystemClock),
            servers: Arc::new(Servers::new(books.clone(), keyring.clone())),
            sender: Arc::new(sender),
            keyring,
            books,
        });
        let runtime = Runtime::open(RuntimeConfig::new(folder, exe), Arc::clone(&lender)).await?;
        Ok(Self { runtime, lender, asked, _place: place })
    }
}

/// Where compiled components are kept for the next time; without a home a folder that goes with its guard.
pub fn place() -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .filter(|home| home.is_absolute());
    Ok(match home {
        Some(home) => (home.join("wharf/plugin"), None),
        None => {
            let place = tempfile::tempdir()?;
            (place.path().to_owned(), Some(place))
        }
    })
}

/// Sends over the network and keeps what went out and came back, without secrets.
pub struct Recorder {
    network: Network,
    scrubber: Scrubber,
    /// A secret that is too short to be looked for: bodies and headers stay untold then.
    discreet: bool,
    seen: Mutex<Vec<Value>>,
}

impl Recorder {
    fn new(secrets: &Secrets) -> Self {
        Self {
            network: Network::default(),
            scrubber: Scrubber::of(secrets.iter().map(|(slot, value)| (slot.as_str(), value.as_bytes()))),
            discreet: secrets.iter().any(|(_, value)| value.len() < SHORTEST),
            seen: Mutex::default(),
        }
    }

    /// What was asked since this was called last.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A text without secrets.
    pub fn clean(&self, text: &str) -> String {
        self.scrubber.text(text)
    }

    fn body(&self, bytes: &[u8]) -> String {
        if self.discreet && !bytes.is_empty() {
            return format!("({} bytes, not shown: a secret has fewer than {SHORTEST} bytes)", bytes.len());
        }
        let text = self.clean(&String::from_utf8_lossy(bytes));
        match text.char_indices().nth(SHOWN) {
            Some((cut, _)) => format!("{}… ({} bytes)", text.get(..cut).unwrap_or_default(), bytes.len()),
            None => text,
        }
    }
}

#[async_trait]
impl Transport for Recorder {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        let headers: serde_json::Map<String, Value> = request
            .headers
            .iter()
            .map(|(name, value)| {
                let hidden = value.is_sensitive() && self.discreet;
                let text = if hidden { "[secret]".into() } else { String::from_utf8_lossy(value.as_bytes()) };
                (name.to_string(), self.clean(&text).into())
            })
            .collect();
        let url = self.clean(request.url.as_str());
        let (method, body) = (request.method.to_string(), self.body(&request.body));
        let began = Instant::now();
        let answer = self.network.send(request).await;
        let became = match &answer {
            Ok(answer) => json!({"status": answer.status, "body": self.body(&answer.body)}),
            Err(lost) => {
                let sent = if lost.maybe_sent { "maybe-sent" } else { "not-sent" };
                json!({"sent": sent, "code": lost.code, "message": self.clean(&lost.message)})
            }
        };
        let row = json!({
            "method": method, "url": url, "headers": headers, "body": body,
            "took_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            (if answer.is_ok() { "answer" } else { "lost" }): became,
        });
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        answer
    }
}
