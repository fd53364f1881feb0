//! Who is calling, and what it may do. Settled before a body is read.

use axum::http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq;
use wharf_model::object::{ObjectKind, Token};

use crate::{Api, Problem, tokens};

/// A known caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// For the audit log.
    pub name: String,
    /// Bound to this panel: everything of others does not exist for it.
    pub panel: Option<String>,
}

impl Caller {
    /// Whether something of this panel may be seen.
    pub fn sees(&self, panel: &str) -> bool {
        self.panel.as_deref().is_none_or(|own| own == panel)
    }
}

/// Lets a caller in that has this scope.
pub async fn require(api: &Api, headers: &HeaderMap, scope: &str) -> Result<Caller, Problem> {
    let denied = || Problem::new(StatusCode::UNAUTHORIZED, "token", "a valid bearer token is needed");
    let given = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .and_then(|v| v.strip_prefix("wharf_"))
        .and_then(|v| v.split_once('_'))
        .ok_or_else(denied)?;
    let object = api.lender.books.object(ObjectKind::Token, given.0).await?.ok_or_else(denied)?;
    let token: Token = serde_json::from_value(object.body).map_err(|_| denied())?;
    if !bool::from(tokens::hash(given.1).as_bytes().ct_eq(token.hash.as_bytes())) {
        return Err(denied());
    }
    if token.expires_ms.is_some_and(|end| end <= api.lender.clock.now_ms()) {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "token-expired", "this token has expired: make a new one"));
    }
    if !token.scopes.iter().any(|s| s == "admin" || s == scope) {
        let text = format!("this token lacks the scope `{scope}`");
        return Err(Problem::new(StatusCode::FORBIDDEN, "scope", text));
    }
    Ok(Caller { name: format!("token/{}", object.name), panel: token.panel })
}
