//! Secrets, sealed at rest: AES-256-GCM-SIV, a key of its own for each value, wrapped by the master key.
//!
//! The additional data names owner, slot and key version, so that a ciphertext can't be moved to another place. Values in
//! memory are wiped when they are dropped.

use std::{
    collections::BTreeMap,
    fmt,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use aes_gcm_siv::{
    Aes256GcmSiv, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngExt;
use sha2::Sha256;
use wharf_store::queue::secret_owner;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    call::{Bound, CallState},
    scrub::Scrubber,
};

/// A value in the clear, wiped on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Version byte of the sealed form: form, key version, wrapped key (12 + 48), nonce (12), ciphertext.
const FORM: u8 = 1;
const NONCE: usize = 12;
const WRAPPED: usize = 32 + 16;

/// Why a secret or a key can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error(
        "the secret was sealed with another master key, or its row was changed: restore the key file, or enter the secret again"
    )]
    Unreadable,
    #[error(
        "the secret was sealed with version {0} of the master key, which is not in the key file: restore that line"
    )]
    NoKey(u8),
    #[error(
        "a master key must have 32 bytes, written as 64 hex digits; after a change of key a line for each, `1:` and `2:` in front"
    )]
    BadKey,
    #[error("the key file {path} can't be used: {why}")]
    File { path: String, why: String },
}

/// Seals and opens secrets. The newest master key seals; older ones still open, until everything is sealed anew.
pub struct Keyring {
    masters: BTreeMap<u8, Zeroizing<[u8; 32]>>,
    newest: Zeroizing<[u8; 32]>,
    version: u8,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Keyring {
    /// One key, version 1.
    pub fn new(master: [u8; 32]) -> Self {
        Self { masters: BTreeMap::from([(1, Zeroizing::new(master))]), newest: Zeroizing::new(master), version: 1 }
    }

    /// From the text of a key file: 64 hex digits, or a line for each version, `version:digits`. The highest version
    /// seals.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let mut masters = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (version, digits) = match line.split_once(':') {
                Some((version, digits)) => (version.trim().parse().map_err(|_| SecretError::BadKey)?, digits.trim()),
                None => (1, line),
            };
            if masters.insert(version, unhex(digits)?).is_some() {
                return Err(SecretError::BadKey);
            }
        }
        let (version, newest) = masters.last_key_value().map(|(v, k)| (*v, k.clone())).ok_or(SecretError::BadKey)?;
        Ok(Self { masters, newest, version })
    }

    /// From a file that nobody but its owner may read.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |why: String| SecretError::File { path: path.display().to_string(), why };
        let mode = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(failed("others may read it: set its mode to 0400".to_owned()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?);
        Self::parse(&text).map_err(|error| failed(error.to_string()))
    }

    /// Makes a key and a file for it, mode 0400. A file that stands there is left alone and is an error.
    pub fn create(path: &Path) -> Result<Self, SecretError> {
        let failed =
            |error: std::io::Error| SecretError::File { path: path.display().to_string(), why: error.to_string() };
        let text = Self::generate_key();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path).map_err(failed)?;
        file.write_all(format!("{}\n", *text).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Self::parse(&text)
    }

    /// A new key, as the text of a key file.
    pub fn generate_key() -> Zeroizing<String> {
        let key: [u8; 32] = rand::rng().random();
        Zeroizing::new(key.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
    }

    /// For storing.
    pub fn seal(&self, owner: &str, slot: &str, value: &[u8]) -> Vec<u8> {
        let place = place(owner, slot, self.version);
        let mut own: [u8; 32] = rand::rng().random();
        let wrapped = encrypt(&self.newest, &place, &own);
        let sealed = encrypt(&own, &place, value);
        own.zeroize();
        let mut all = vec![FORM, self.version];
        all.extend(wrapped);
        all.extend(sealed);
        all
    }

    /// From what was stored, for the same owner and slot only.
    pub fn open(&self, owner: &str, slot: &str, sealed: &[u8]) -> Result<SecretBytes, SecretError> {
        let [FORM, version, rest @ ..] = sealed else { return Err(SecretError::Unreadable) };
        let master = self.masters.get(version).ok_or(SecretError::NoKey(*version))?;
        let place = place(owner, slot, *version);
        let (wrapped, value) = rest.split_at_checked(NONCE + WRAPPED).ok_or(SecretError::Unreadable)?;
        let own = Zeroizing::new(decrypt(master, &place, wrapped)?);
        let own: &[u8; 32] = own.as_slice().try_into().map_err(|_| SecretError::Unreadable)?;
        decrypt(own, &place, value).map(Zeroizing::new)
    }

    /// Whether the newest key sealed it; else it should be opened and sealed anew.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        matches!(sealed, [FORM, version, ..] if *version == self.version)
    }

    /// 16 hex digits that tell two values apart and say nothing else. They change with the master key.
    pub fn fingerprint(&self, owner: &str, slot: &str, value: &[u8]) -> String {
        let Ok(mut mac) = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.newest.as_slice()) else {
            return String::new();
        };
        // Lengths keep owner, slot and value apart; the first word keeps this use of the key apart from others.
        for part in [b"fingerprint".as_slice(), owner.as_bytes(), slot.as_bytes(), value] {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
}

/// Additional data: a ciphertext opens at this place only.
fn place(owner: &str, slot: &str, version: u8) -> Vec<u8> {
    format!("{owner}\0{slot}\0{version}").into_bytes()
}

fn unhex(text: &str) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let mut key = Zeroizing::new([0; 32]);
    // `from_str_radix` would take a sign for a digit.
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SecretError::BadKey);
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| SecretError::BadKey)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| SecretError::BadKey)?;
    }
    Ok(key)
}

fn encrypt(key: &[u8; 32], place: &[u8], value: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = rand::rng().random();
    let cipher = Aes256GcmSiv::new(&Key::<Aes256GcmSiv>::from(*key));
    // Fails only for values beyond 64 GiB.
    let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: value, aad: place }).unwrap_or_default();
    [nonce.as_slice(), &sealed].concat()
}

fn decrypt(key: &[u8; 32], place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SecretError> {
    let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or(SecretError::Unreadable)?;
    let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| SecretError::Unreadable)?;
    let cipher = Aes256GcmSiv::new(&Key::<Aes256GcmSiv>::from(*key));
    cipher.decrypt(&Nonce::from(nonce), Payload { msg: sealed, aad: place }).map_err(|_| SecretError::Unreadable)
}

/// Letters, digits and `-_.+`, beginning with a letter: safe in shells, URLs and configuration files.
pub fn random_text(length: u32) -> Zeroizing<String> {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const ALL: &[u8; 66] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+";
    let mut rng = rand::rng();
    let mut pick = |from: &[u8]| from.get(rng.random_range(0..from.len())).map_or('x', |b| char::from(*b));
    let first = pick(LETTERS);
    Zeroizing::new(std::iter::once(first).chain((1..length).map(|_| pick(ALL))).collect())
}

/// A secret that has to do with a call.
pub(crate) struct Known {
    pub(crate) slot: String,
    pub(crate) value: SecretBytes,
    /// Whether the plugin may have it put into its requests; else it is only looked for and taken out.
    pub(crate) owned: bool,
}

impl CallState {
    /// Owners of the secrets that could turn up in this call; true = the plugin may use them.
    fn secret_owners(&self) -> Vec<(String, bool)> {
        match &self.bound {
            Bound::Nothing => Vec::new(),
            Bound::Server(name) => vec![(format!("server/{name}"), false)],
            Bound::Zone(binding) => vec![(format!("zone/{}", binding.name), true)],
            Bound::Hook(binding) => vec![(format!("hook/{}", binding.name), true)],
            Bound::Operation(binding) => {
                let service = &binding.run.service;
                vec![(secret_owner(service.id), true), (format!("server/{}", service.server), false)]
            }
        }
    }

    /// Opens all secrets that could turn up in this call.
    ///
    /// # Errors
    /// A sentence, if one of them can't be read: then nothing may be let out.
    pub(crate) async fn secrets_of_call(&mut self) -> Result<Vec<Known>, String> {
        let mut known = Vec::new();
        let (books, keyring) = (&self.lender.books, &self.lender.keyring);
        for (owner, owned) in self.secret_owners() {
            for slot in books.secret_slots(&owner).await.map_err(|e| e.to_string())? {
                let Some(sealed) = books.secret(&owner, &slot).await.map_err(|e| e.to_string())? else { continue };
                let value =
                    keyring.open(&owner, &slot, &sealed).map_err(|e| format!("the secret `{slot}` of {owner}: {e}"))?;
                known.push(Known { slot, value, owned });
            }
        }
        Ok(known)
    }

    /// What takes this call's secrets out of a text. Made once a call, and again after a secret was made in it.
    ///
    /// # Errors
    /// As [`Self::secrets_of_call`].
    pub async fn scrubber(&mut self) -> Result<Arc<Scrubber>, String> {
        if let Some(scrubber) = &self.log.scrubber {
            return Ok(Arc::clone(scrubber));
        }
        let known = self.secrets_of_call().await?;
        let scrubber = Arc::new(Scrubber::of(known.iter().map(|k| (k.slot.as_str(), k.value.as_slice()))));
        self.log.scrubber = Some(Arc::clone(&scrubber));
        Ok(scrubber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_and_nowhere_else() {
        let keyring = Keyring::new([7; 32]);
        let sealed = keyring.seal("zone/a", "key", b"value");
        assert_eq!(keyring.open("zone/a", "key", &sealed).unwrap().as_slice(), b"value");
        assert_eq!(keyring.open("zone/b", "key", &sealed), Err(SecretError::Unreadable));
        assert_eq!(keyring.open("zone/a", "other", &sealed), Err(SecretError::Unreadable));
        assert_eq!(Keyring::new([8; 32]).open("zone/a", "key", &sealed), Err(SecretError::Unreadable));
    }

    #[test]
    fn a_changed_or_short_row_is_unreadable_and_never_a_panic() {
        let keyring = Keyring::new([7; 32]);
        let sealed = keyring.seal("o", "s", b"value");
        for cut in 0..sealed.len() {
            assert!(keyring.open("o", "s", &sealed[..cut]).is_err());
        }
        for at in 2..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(keyring.open("o", "s", &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_key_file_makes_the_round_trip() {
        let text = Keyring::generate_key();
        let sealed = Keyring::parse(&text).unwrap().seal("o", "s", b"v");
        assert!(Keyring::parse(&format!("{}\n", *text)).unwrap().open("o", "s", &sealed).is_ok());
        assert_eq!(Keyring::parse("short").unwrap_err(), SecretError::BadKey);
    }

    #[test]
    fn after_a_change_of_key_old_secrets_still_open_and_new_ones_use_the_new_key() {
        let (one, two) = (Keyring::generate_key(), Keyring::generate_key());
        let old = Keyring::parse(&one).unwrap().seal("o", "s", b"v");
        let both = Keyring::parse(&format!("1:{}\n2:{}\n", *one, *two)).unwrap();
        assert_eq!(both.open("o", "s", &old).unwrap().as_slice(), b"v");
        assert!(!both.is_current(&old));
        let new = both.seal("o", "s", b"v");
        assert!(both.is_current(&new));
        assert_eq!(Keyring::parse(&one).unwrap().open("o", "s", &new).unwrap_err(), SecretError::NoKey(2));
        // The version is part of the place: its byte can't be turned back.
        let mut forged = new.clone();
        forged[1] = 1;
        assert_eq!(both.open("o", "s", &forged).unwrap_err(), SecretError::Unreadable);
        assert!(Keyring::parse(&format!("1:{}\n1:{}\n", *one, *two)).is_err());
        assert!(Keyring::parse(&"+1".repeat(32)).is_err());
    }

    #[test]
    fn a_key_file_is_made_once_and_refused_when_others_may_read_it() {
        let dir = std::env::temp_dir().join(format!("wharf-key-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("key");
        let sealed = Keyring::create(&path).unwrap().seal("o", "s", b"v");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert!(Keyring::read(&path).unwrap().open("o", "s", &sealed).is_ok());
        assert!(Keyring::create(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
        assert!(Keyring::read(&path).unwrap_err().to_string().contains("0400"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_fingerprint_tells_values_and_places_apart() {
        let keyring = Keyring::new([7; 32]);
        let print = keyring.fingerprint("o", "s", b"v");
        assert_eq!(print.len(), 16);
        assert_eq!(print, keyring.fingerprint("o", "s", b"v"));
        for other in [
            keyring.fingerprint("o", "s", b"w"),
            keyring.fingerprint("os", "", b"v"),
            Keyring::new([8; 32]).fingerprint("o", "s", b"v"),
        ] {
            assert_ne!(print, other);
        }
    }

    #[test]
    fn random_text_has_the_length_and_begins_with_a_letter() {
        let text = random_text(24);
        assert_eq!(text.len(), 24);
        assert!(text.starts_with(|c: char| c.is_ascii_alphabetic()));
    }
}
