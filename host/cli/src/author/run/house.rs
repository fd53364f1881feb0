//! A host for one call: the real runtime with its limits, books in memory, and a transport that keeps what was asked.
//!
//! Compiled components are kept in the user's cache, as a host keeps them in its data folder; nothing else outlives the call.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde_json::{Value, json};
use wharf_capabilities::{
    call::Lender,
    http::{Answer, Lost, Network, Prepared, Resolver, Sender, Transport},
    proxmox::Servers,
    scrub::{SHORTEST, Scrubber},
    secrets::Keyring,
};
use wharf_model::SystemClock;
use wharf_plugins::{Runtime, RuntimeConfig};
use wharf_store::{Books, memory::MemoryStore};

use super::recording::{self, Entry, Recording};

/// Of bodies, this much is shown.
const SHOWN: usize = 4_096;

/// Secrets of the one zone: slot and value.
pub type Secrets = Vec<(String, String)>;

/// Who answers.
pub enum Peer {
    Live,
    /// This file.
    Recorded(PathBuf),
}

pub struct House {
    pub runtime: Arc<Runtime>,
    pub lender: Arc<Lender>,
    pub asked: Arc<Recorder>,
    /// Where there is no home: goes with the house.
    _place: Option<tempfile::TempDir>,
}

impl House {
    pub async fn open(secrets: Secrets, peer: Peer) -> Result<Self> {
        let exe = std::env::current_exe().context("can't find the host's own executable")?;
        let (folder, place) = place()?;
        let books: Books = Arc::new(MemoryStore::default());
        let keyring = Arc::new(Keyring::parse(&Keyring::generate_key())?);
        let asked = Arc::new(Recorder::new(&secrets, &peer)?);
        let mut sender = Sender::with_transport(Arc::clone(&asked) as Arc<dyn Transport>);
        if let Some(recording) = &asked.recording {
            sender = sender.resolving(Arc::clone(recording) as Arc<dyn Resolver>);
        }
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

/// Hands requests to the peer and keeps what went out and came back, without secrets.
pub struct Recorder {
    peer: Arc<dyn Transport>,
    /// The same, where it is one.
    recording: Option<Arc<Recording>>,
    scrubber: Scrubber,
    /// A secret that is too short to be looked for: bodies and headers stay untold then.
    discreet: bool,
    seen: Mutex<Vec<Value>>,
    entries: Mutex<Vec<Entry>>,
}

impl Recorder {
    fn new(secrets: &Secrets, peer: &Peer) -> Result<Self> {
        let scrubber = Scrubber::of(secrets.iter().map(|(slot, value)| (slot.as_str(), value.as_bytes())));
        let recording = match peer {
            Peer::Live => None,
            Peer::Recorded(file) => Some(Recording::read(file, scrubber.clone())?),
        };
        let peer = match &recording {
            None => Arc::new(Network::default()) as Arc<dyn Transport>,
            Some(recording) => Arc::clone(recording) as Arc<dyn Transport>,
        };
        let discreet = secrets.iter().any(|(_, value)| value.len() < SHORTEST);
        Ok(Self { peer, recording, scrubber, discreet, seen: Mutex::default(), entries: Mutex::default() })
    }

    /// Exchanges of the recording that nobody asked for.
    pub fn left(&self) -> Option<usize> {
        self.recording.as_ref().map(|recording| recording.left())
    }

    /// Whether a recording would be free of secrets.
    pub fn can_record(&self) -> Result<()> {
        if self.discreet {
            bail!("--record: a secret has fewer than {SHORTEST} bytes, so it can't be taken out of a recording");
        }
        Ok(())
    }

    /// Writes what was exchanged to a file.
    pub fn record(&self, file: &Path) -> Result<()> {
        recording::write(file, std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner)))
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
        let (began, start) = (Instant::now(), recording::now());
        let answer = self.peer.send(request.clone()).await;
        let entry = Entry::of(start, began.elapsed(), &request, &answer, &self.scrubber);
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
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
