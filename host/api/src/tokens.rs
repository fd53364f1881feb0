//! Bearer tokens: `wharf_<id>_<secret>`, of which only a hash is kept.

use rand::RngExt;
use sha2::{Digest, Sha256};
use wharf_model::object::{ObjectKind, Token};
use wharf_store::{Books, NewAudit};

/// Every scope there is. `admin` includes all others.
pub const SCOPES: [&str; 5] = ["admin", "services:read", "services:write", "events:read", "plugins:write"];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// As it is stored.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Makes a token; what is returned is shown once and kept nowhere.
pub async fn create(
    books: &Books,
    scopes: Vec<String>,
    panel: Option<String>,
    note: String,
    actor: &str,
    now: i64,
) -> wharf_store::Result<String> {
    let id: [u8; 6] = rand::rng().random();
    let secret: [u8; 32] = rand::rng().random();
    let (id, secret) = (hex(&id), hex(&secret));
    let token = Token { hash: hash(&secret), scopes, panel, note, expires_ms: None };
    let body = serde_json::to_value(&token).map_err(|e| wharf_store::StoreError::Corrupt(e.to_string()))?;
    let audit = NewAudit {
        actor: actor.to_owned(),
        action: "token.create".into(),
        subject: format!("token/{id}"),
        body: serde_json::json!({"scopes": token.scopes, "panel": token.panel, "note": token.note}),
    };
    books.put_object(ObjectKind::Token, &id, body, Some(0), Some(audit), now).await?;
    Ok(format!("wharf_{id}_{secret}"))
}
