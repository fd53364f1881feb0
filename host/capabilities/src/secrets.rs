//! Secrets: sealed at rest.
/// Seals and opens secrets.
pub struct Keyring;
