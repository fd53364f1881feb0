//! Bearer tokens: `wharf_<id>_<secret>`, of which only a hash is kept.

use rand::RngExt;
use sha2::{Digest, Sha256};
use wharf_model::{
    Millis,
    object::{ObjectKind, Token},
};
use wharf_store::{Books, NewAudit, StoreError};

/// Every scope there is. `admin` includes all others.
pub const SCOPES: [&str; 6] =
    ["admin", "services:read", "services:write", "events:read", "plugins:write", "metrics:read"];
/// Scopes that a token bound to one panel can have: the others reach beyond any panel.
pub const PANEL_SCOPES: [&str; 3] = ["services:read", "services:write", "events:read"];

/// A token to be made.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    pub scopes: Vec<String>,
    /// Bound to this panel; none = all.
    pub panel: Option<String>,
    pub note: String,
    pub expires_ms: Option<Millis>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// As it is stored.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Whether a token may do what needs `scope`. One that is bound to a panel may never do what reaches beyond it.
pub fn allows(token: &Token, scope: &str) -> bool {
    let bound = token.panel.is_some();
    token.scopes.iter().any(|own| own == scope || own == "admin") && (!bound || PANEL_SCOPES.contains(&scope))
}

/// What is wrong with a wish for a token: field and remedy.
pub fn problem(new: &NewToken) -> Option<(&'static str, String)> {
    if new.scopes.is_empty() {
        return Some(("scopes", format!("name at least one of {}", SCOPES.join(", "))));
    }
    let known: &[&str] = if new.panel.is_some() { &PANEL_SCOPES } else { &SCOPES };
    let unknown = new.scopes.iter().find(|scope| !known.contains(&scope.as_str()))?;
    let whose = if SCOPES.contains(&unknown.as_str()) { "no scope of a token bound to a panel" } else { "no scope" };
    Some(("scopes", format!("`{unknown}` is {whose}: use one of {}", known.join(", "))))
}

/// Makes a token; what is returned is shown once and kept nowhere.
///
/// # Errors
/// Books that can't be written. The wish itself is checked by [`problem`].
pub async fn create(books: &Books, new: NewToken, actor: &str, now: Millis) -> wharf_store::Result<String> {
    let id: [u8; 6] = rand::rng().random();
    let secret: [u8; 32] = rand::rng().random();
    let (id, secret) = (hex(&id), hex(&secret));
    let NewToken { scopes, panel, note, expires_ms } = new;
    let token = Token { hash: hash(&secret), scopes, panel, note, expires_ms };
    let body = serde_json::to_value(&token).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let audit = NewAudit {
        actor: actor.to_owned(),
        action: "token.create".into(),
        subject: format!("token/{id}"),
        body: serde_json::json!({
            "scopes": token.scopes, "panel": token.panel, "note": token.note, "expires_ms": token.expires_ms,
        }),
    };
    books.put_object(ObjectKind::Token, &id, body, Some(0), Some(audit), now).await?;
    Ok(format!("wharf_{id}_{secret}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(scopes: &[&str], panel: Option<&str>) -> Token {
        Token {
            hash: String::new(),
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            panel: panel.map(str::to_owned),
            note: String::new(),
            expires_ms: None,
        }
    }

    #[test]
    fn a_token_bound_to_a_panel_never_reaches_beyond_it_whatever_its_scopes_say() {
        let bound = token(&["admin", "plugins:write"], Some("shop"));
        assert!(allows(&bound, "services:read") && allows(&bound, "events:read"));
        assert!(!allows(&bound, "admin") && !allows(&bound, "plugins:write") && !allows(&bound, "metrics:read"));
        assert!(SCOPES.iter().all(|scope| allows(&token(&["admin"], None), scope)));
    }

    #[test]
    fn a_wish_for_a_scope_that_there_is_not_or_that_reaches_too_far_is_refused() {
        let new = |scope: &str, panel: Option<&str>| NewToken {
            scopes: vec![scope.to_owned()],
            panel: panel.map(str::to_owned),
            ..NewToken::default()
        };
        assert_eq!(problem(&new("services:read", Some("shop"))), None);
        assert!(problem(&new("admin", Some("shop"))).unwrap().1.contains("bound to a panel"));
        assert!(problem(&new("service:read", None)).unwrap().1.contains("services:read"));
        assert!(problem(&NewToken::default()).is_some());
    }
}
