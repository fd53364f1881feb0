//! Who is calling, and what it may do. Settled before a body is read.
//!
//! [`Allowed`] is the first argument of every handler that needs a token, and its type names the scope, so that no path,
//! query or body is looked at for a stranger.

use std::{
    convert::Infallible,
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Deref,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use subtle::ConstantTimeEq;
use wharf_model::object::{ObjectKind, Token};

use crate::{Api, Problem, tokens};

/// Scopes as types.
pub mod scope {
    /// What a token can be allowed.
    pub trait Scope: Send + Sync + 'static {
        const NAME: &'static str;
    }

    macro_rules! scopes {
        ($($scope:ident = $name:literal),* $(,)?) => {
            $(
                #[derive(Debug)]
                pub struct $scope;
                impl Scope for $scope {
                    const NAME: &'static str = $name;
                }
            )*
        };
    }

    scopes! {
        Admin = "admin",
        ServicesRead = "services:read",
        ServicesWrite = "services:write",
        EventsRead = "events:read",
        PluginsWrite = "plugins:write",
        MetricsRead = "metrics:read",
    }
}

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

/// A caller whose token has this scope.
#[derive(Debug)]
pub struct Allowed<S> {
    caller: Caller,
    scope: PhantomData<S>,
}

impl<S> Deref for Allowed<S> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl<S: scope::Scope> FromRequestParts<Api> for Allowed<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let checked = require(api, &parts.headers, S::NAME).await;
        let caller = checked.map_err(|problem| Peer::of(parts).refused(api, "token", problem))?;
        Ok(Self { caller, scope: PhantomData })
    }
}

/// The address at the other end of the connection; unspecified where there is none (calls in process).
#[derive(Debug, Clone, Copy)]
pub struct Peer(IpAddr);

impl Peer {
    fn of(parts: &Parts) -> Self {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Self(info.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |info| info.0.ip()))
    }

    /// Whose request it is: the other end of the connection, or, where that is one of our proxies, whom the proxy names last in
    /// `X-Forwarded-For` (what stands before that is the client's own tale). None: a proxy that names nobody.
    pub fn behind(self, headers: &HeaderMap, proxies: &[IpAddr]) -> Option<IpAddr> {
        let peer = self.0.to_canonical();
        if !proxies.contains(&peer) {
            return Some(peer);
        }
        let said = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
        said.rsplit(',').next()?.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    }

    /// Passes a refusal on. One that says `code` means that a secret was wrong: those are counted, and many are too many.
    pub fn refused(self, api: &Api, code: &'static str, problem: Problem) -> Problem {
        if problem.code != code {
            return problem;
        }
        metrics::counter!("wharf_authentication_failures_total", "of" => code).increment(1);
        api.throttle.failed(self.0, api.lender.clock.now_ms(), problem)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// Lets a caller in that has this scope.
async fn require(api: &Api, headers: &HeaderMap, scope: &str) -> Result<Caller, Problem> {
    let denied = || {
        let text = "a valid token is needed: send `Authorization: Bearer wharf_…`, as `wharf token create` shows it";
        Problem::new(StatusCode::UNAUTHORIZED, "token", text)
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, token)| token.trim().strip_prefix("wharf_"))
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
    if !tokens::allows(&token, scope) {
        let text = format!("this token lacks the scope `{scope}`: use or make one that has it");
        return Err(Problem::new(StatusCode::FORBIDDEN, "scope", text));
    }
    Ok(Caller { name: format!("token/{}", object.name), panel: token.panel })
}
