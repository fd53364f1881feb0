//! Secrets, sealed at rest: AES-256-GCM-SIV, a key of its own for each value, wrapped by the master key.
//!
//! The additional data names owner, slot and key version, so that a ciphertext can't be moved to another place. Values in
//! memory are wiped when they are dropped.

use std::fmt;

use aes_gcm_siv::{
    Aes256GcmSiv, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngExt;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// A value in the clear, wiped on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Version byte of the sealed form: version, key version, wrapped key (12 + 48), nonce (12), ciphertext.
const FORM: u8 = 1;
const NONCE: usize = 12;
const WRAPPED: usize = 32 + 16;

/// Why a secret can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret was sealed with another master key, or its row was changed: restore the key file, or enter the secret again")]
    Unreadable,
    #[error("the master key must have 32 bytes, written as 64 hex digits")]
    BadKey,
}

/// Seals and opens secrets. One master key; its version is part of each sealed value, for a change of key.
pub struct Keyring {
    master: Zeroizing<[u8; 32]>,
    version: u8,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Keyring {
    pub fn new(master: [u8; 32]) -> Self {
        Self { master: Zeroizing::new(master), version: 1 }
    }

    /// From the text of a key file.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let mut key = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(SecretError::BadKey);
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| SecretError::BadKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| SecretError::BadKey)?;
        }
        let keyring = Self::new(key);
        key.zeroize();
        Ok(keyring)
    }

    /// A new key, as the text of a key file.
    pub fn generate_key() -> Zeroizing<String> {
        let key: [u8; 32] = rand::rng().random();
        Zeroizing::new(key.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
    }

    fn place(&self, owner: &str, slot: &str) -> Vec<u8> {
        format!("{owner}\0{slot}\0{}", self.version).into_bytes()
    }

    /// For storing.
    pub fn seal(&self, owner: &str, slot: &str, value: &[u8]) -> Vec<u8> {
        let place = self.place(owner, slot);
        let mut own: [u8; 32] = rand::rng().random();
        let wrapped = encrypt(&self.master, &place, &own);
        let sealed = encrypt(&own, &place, value);
        own.zeroize();
        let mut all = vec![FORM, self.version];
        all.extend(wrapped);
        all.extend(sealed);
        all
    }

    /// From what was stored, for the same owner and slot only.
    pub fn open(&self, owner: &str, slot: &str, sealed: &[u8]) -> Result<SecretBytes, SecretError> {
        let place = self.place(owner, slot);
        let [FORM, _, rest @ ..] = sealed else { return Err(SecretError::Unreadable) };
        let (wrapped, value) = rest.split_at_checked(NONCE + WRAPPED).ok_or(SecretError::Unreadable)?;
        let own = Zeroizing::new(decrypt(&self.master, &place, wrapped)?);
        let own: &[u8; 32] = own.as_slice().try_into().map_err(|_| SecretError::Unreadable)?;
        decrypt(own, &place, value).map(Zeroizing::new)
    }

    /// 16 hex digits that tell two values apart and say nothing else.
    pub fn fingerprint(&self, owner: &str, slot: &str, value: &[u8]) -> String {
        let Ok(mut mac) = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.master.as_slice()) else { return String::new() };
        mac.update(&self.place(owner, slot));
        mac.update(value);
        mac.finalize().into_bytes().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }
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
    fn random_text_has_the_length_and_begins_with_a_letter() {
        let text = random_text(24);
        assert_eq!(text.len(), 24);
        assert!(text.starts_with(|c: char| c.is_ascii_alphabetic()));
    }
}
