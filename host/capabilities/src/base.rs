//! Log, clock, entropy, a plugin's own small store, and secrets by name.
//!
//! Bounded by the figures of `wit/deps/base/base.wit`: a log line 4 KiB, 200 lines or 64 KiB a call; 32 bytes of entropy a
//! call; a value 64 KiB, a plugin's store 4 MiB.

use rand::{TryRng, rngs::SysRng};
use wharf_store::{StoreError, queue::secret_owner};

use crate::{
    bindings::wharf::base::{
        clock,
        common::{Action, Failure},
        entropy, kv, log, secrets,
    },
    call::{Bound, CallState, LogBuffer, LogLine},
};

const LINE_BYTES: usize = 4 * 1024;
const LINES: usize = 200;
const LOG_BYTES: usize = 64 * 1024;
const FIELDS: usize = 32;
const KV_KEY_BYTES: usize = 200;
const KV_VALUE_BYTES: usize = 64 * 1024;
const KV_TOTAL_BYTES: usize = 4 * 1024 * 1024;
const KV_KEYS: usize = 1_000;

/// Cuts at a character, never inside one.
pub fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// A failure of the contract.
pub(crate) fn failure(action: Action, code: &str, message: impl Into<String>) -> Failure {
    Failure { action, code: code.into(), message: message.into(), retry_after_ms: None, ext: Vec::new() }
}

/// The books can't be used: a passing fault.
pub(crate) fn books(error: &StoreError) -> Failure {
    failure(Action::Retry, "books", format!("the host's books can't be used right now: {error}"))
}

impl LogBuffer {
    fn is_full(&self) -> bool {
        self.lines.len() >= LINES || self.bytes >= LOG_BYTES
    }

    /// Takes a line, cut and counted. Its secrets must be out already.
    pub fn push(&mut self, level: &str, message: &str, fields: Vec<(String, String)>) {
        if self.is_full() {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let message = cut(message, LINE_BYTES);
        let mut left = LINE_BYTES.saturating_sub(message.len());
        let mut kept = Vec::new();
        for (key, value) in fields.into_iter().take(FIELDS) {
            let (key, value) = (cut(&key, left.min(200)), cut(&value, left));
            left = left.saturating_sub(key.len() + value.len());
            kept.push((key, value));
        }
        self.bytes += message.len() + kept.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        self.lines.push(LogLine { level: level.to_owned(), message, fields: kept });
    }
}

impl log::Host for CallState {
    async fn write(
        &mut self,
        level: log::Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        self.charge(message.len() + fields.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
        if self.log.is_full() {
            self.log.dropped = self.log.dropped.saturating_add(1);
            return Ok(());
        }
        // Before it is cut: half a secret would not be found.
        match self.scrubber().await {
            Ok(scrubber) => {
                let fields =
                    fields.into_iter().take(FIELDS).map(|(k, v)| (scrubber.text(&k), scrubber.text(&v))).collect();
                self.log.push(level, &scrubber.text(&message), fields);
            }
            // What can't be checked for secrets is not kept.
            Err(why) => self.log.push("warn", &format!("a line of the plugin was left out: {why}"), Vec::new()),
        }
        Ok(())
    }
}

impl clock::Host for CallState {
    async fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.charge(0);
        Ok(u64::try_from(self.lender.clock.now_ms()).unwrap_or(0))
    }

    async fn monotonic_ms(&mut self) -> wasmtime::Result<u64> {
        self.charge(0);
        Ok(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    async fn budget_ms(&mut self) -> wasmtime::Result<u32> {
        self.charge(0);
        Ok(self.left_ms())
    }
}

impl CallState {
    /// Counts a host call and the bytes that crossed. Whoever runs the call ends it when it has used up too much.
    pub fn charge(&mut self, bytes: usize) {
        self.meter.calls = self.meter.calls.saturating_add(1);
        self.meter.bytes = self.meter.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// What is left of the call's wall-clock budget.
    pub fn left_ms(&self) -> u32 {
        let left = self.deadline.saturating_duration_since(tokio::time::Instant::now());
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
    }
}

impl entropy::Host for CallState {
    async fn fresh(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        self.charge(32);
        let mut bytes = vec![0; usize::try_from(len.min(32)).unwrap_or(32)];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|error| wasmtime::Error::msg(format!("the system has no randomness: {error}")))?;
        Ok(bytes)
    }
}

fn check_key(key: &str) -> Result<(), Failure> {
    if (1..=KV_KEY_BYTES).contains(&key.len()) {
        Ok(())
    } else {
        Err(failure(
            Action::FixInput,
            "kv-limit",
            format!("a key has 1 to {KV_KEY_BYTES} bytes, this one has {}", key.len()),
        ))
    }
}

impl kv::Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Failure>> {
        self.charge(key.len());
        if let Err(failure) = check_key(&key) {
            return Ok(Err(failure));
        }
        let found = self.lender.books.kv_get(&self.caller.id, &key).await.map_err(|e| books(&e));
        self.charge(found.as_ref().map_or(0, |value| value.as_ref().map_or(0, Vec::len)));
        Ok(found)
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Failure>> {
        self.charge(key.len() + value.len());
        if let Err(failure) = check_key(&key) {
            return Ok(Err(failure));
        }
        if value.len() > KV_VALUE_BYTES {
            let text = format!("a value has at most {KV_VALUE_BYTES} bytes, this one has {}", value.len());
            return Ok(Err(failure(Action::FixInput, "kv-limit", text)));
        }
        Ok(match self.lender.books.kv_set(&self.caller.id, &key, &value, KV_TOTAL_BYTES).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("the plugin's store is full ({KV_TOTAL_BYTES} bytes): delete keys first");
                Err(failure(Action::FixInput, "kv-limit", text))
            }
            Err(error) => Err(books(&error)),
        })
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Failure>> {
        self.charge(key.len());
        if let Err(failure) = check_key(&key) {
            return Ok(Err(failure));
        }
        Ok(self.lender.books.kv_delete(&self.caller.id, &key).await.map_err(|e| books(&e)))
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Result<Vec<String>, Failure>> {
        let found = self.lender.books.kv_keys(&self.caller.id, &prefix, KV_KEYS).await.map_err(|e| books(&e));
        self.charge(prefix.len() + found.as_ref().map_or(0, |keys| keys.iter().map(String::len).sum()));
        Ok(found)
    }
}

impl CallState {
    /// The service whose secrets are meant, if `name` is declared.
    fn secret_of_service(&self, name: &str) -> Result<String, Failure> {
        if self.caller.manifest.slot(name).is_none() {
            let text = format!("the manifest declares no secret `{name}`: add it, with the positions where it is put");
            return Err(failure(Action::FixConfig, "secret-not-declared", text));
        }
        match &self.bound {
            Bound::Operation(binding) => Ok(secret_owner(binding.run.service.id)),
            _ => Err(failure(
                Action::ReportBug,
                "no-service",
                "this call is about no service, so there are no secrets of one",
            )),
        }
    }
}

impl secrets::Host for CallState {
    async fn generate(&mut self, name: String, length: u32) -> wasmtime::Result<Result<(), Failure>> {
        self.charge(name.len());
        let owner = match self.secret_of_service(&name) {
            Ok(owner) => owner,
            Err(failure) => return Ok(Err(failure)),
        };
        if !(12..=128).contains(&length) {
            let text = format!("a secret has 12 to 128 characters, {length} were asked for");
            return Ok(Err(failure(Action::FixInput, "secret-length", text)));
        }
        let value = crate::secrets::random_text(length);
        let sealed = self.lender.keyring.seal(&owner, &name, value.as_bytes());
        // It is to be taken out of texts from now on.
        self.log.scrubber = None;
        // Once: whoever asks again gets the one that stands.
        Ok(self
            .lender
            .books
            .put_secret_once(&owner, &name, &sealed, self.lender.clock.now_ms())
            .await
            .map(|_| ())
            .map_err(|e| books(&e)))
    }

    async fn exists(&mut self, name: String) -> wasmtime::Result<Result<bool, Failure>> {
        self.charge(name.len());
        let owner = match self.secret_of_service(&name) {
            Ok(owner) => owner,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self.lender.books.secret(&owner, &name).await.map(|s| s.is_some()).map_err(|e| books(&e)))
    }

    async fn fingerprint(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, Failure>> {
        self.charge(name.len());
        let owner = match self.secret_of_service(&name) {
            Ok(owner) => owner,
            Err(failure) => return Ok(Err(failure)),
        };
        let sealed = match self.lender.books.secret(&owner, &name).await {
            Ok(sealed) => sealed,
            Err(error) => return Ok(Err(books(&error))),
        };
        let Some(sealed) = sealed else { return Ok(Ok(None)) };
        Ok(match self.lender.keyring.open(&owner, &name, &sealed) {
            Ok(value) => Ok(Some(self.lender.keyring.fingerprint(&owner, &name, &value))),
            Err(error) => Err(failure(Action::FixConfig, "secret-unreadable", error.to_string())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted() {
        let mut log = LogBuffer::default();
        for n in 0..1_000 {
            log.push("info", &format!("line {n}"), Vec::new());
        }
        assert_eq!(log.lines.len(), LINES);
        assert_eq!(log.dropped, 800);
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut log = LogBuffer::default();
        log.push("info", &"ä".repeat(LINE_BYTES), vec![("k".into(), "v".repeat(LINE_BYTES))]);
        assert!(log.lines[0].message.len() <= LINE_BYTES + 3);
        assert!(log.lines[0].message.ends_with('…'));
    }
}
