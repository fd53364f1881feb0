//! What a request makes its condition, and how long it would wait: `If-Match`, `If-None-Match`, `Idempotency-Key`, `Prefer`.
//!
//! Guarantees that a condition that can't be read is refused, never passed over; and that between the look at a condition and
//! the write nobody else writes the same thing through this process ([`Turns`]).

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use wharf_engine::wish::Idempotency;

use crate::{Problem, auth::Caller};

/// Longest key of an idempotent request.
const KEY_BYTES: usize = 255;
/// Longest wait of one request. Proxies give up after 60 s.
pub const LONGEST_WAIT_S: u64 = 30;

/// What has to be true for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `If-None-Match: *`: it must be new.
    New,
    /// `If-Match: *`: it must be there.
    There,
    /// `If-Match: "3"`: it must be one of these revisions.
    Is(Vec<i64>),
}

impl Condition {
    /// None = whatever is there.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let wrong = |name: &str, form: &str| {
            let message = format!("must be {form}, as a GET shows it in `ETag`");
            Problem::bad("condition", format!("{name}: {message}")).naming(vec![(name.to_owned(), message)])
        };
        let (matches, others) = (list(headers, header::IF_MATCH)?, list(headers, header::IF_NONE_MATCH)?);
        match (matches.as_slice(), others.as_slice()) {
            ([], []) => Ok(None),
            (_, []) if matches.iter().any(|tag| tag == "*") => Ok(Some(Self::There)),
            (_, []) => {
                let mut known = Vec::new();
                for tag in &matches {
                    let number = tag.strip_prefix('"').and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
                    known.push(number.ok_or_else(|| wrong("If-Match", "`\"<number>\"` or `*`"))?);
                }
                Ok(Some(Self::Is(known)))
            }
            ([], [star]) if star == "*" => Ok(Some(Self::New)),
            ([], _) => Err(wrong("If-None-Match", "`*`")),
            _ => Err(Problem::bad("condition", "send `If-Match` or `If-None-Match`, not both")),
        }
    }

    /// Holds it against what is there now; none = nothing is.
    pub fn check(&self, now: Option<i64>) -> Result<(), Problem> {
        let met = match (self, now) {
            (Self::New, now) => now.is_none(),
            (Self::There, now) => now.is_some(),
            (Self::Is(known), Some(now)) => known.contains(&now),
            (Self::Is(_), None) => false,
        };
        if met {
            return Ok(());
        }
        let text = match now {
            Some(now) if *self == Self::New => {
                format!("it exists already (\"{now}\"): read it, and send `If-Match` with its `ETag` to change it")
            }
            Some(now) => {
                format!("it was changed meanwhile and is \"{now}\" now: read it again, then repeat the change")
            }
            None => "it does not exist (any more): leave `If-Match` out to create it".to_owned(),
        };
        Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition", text))
    }
}

/// The members of a header that may come more than once.
fn list(headers: &HeaderMap, name: HeaderName) -> Result<Vec<String>, Problem> {
    let mut all = Vec::new();
    for value in headers.get_all(&name) {
        let text = value.to_str().map_err(|_| Problem::bad("condition", format!("{name}: must be plain ASCII")))?;
        all.extend(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned));
    }
    if all.is_empty() && headers.contains_key(&name) {
        return Err(Problem::bad("condition", format!("{name}: is empty: leave it out, or name an `ETag`")));
    }
    Ok(all)
}

/// The tag of a revision or generation.
pub fn etag(number: i64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{number}\"")).ok()
}

/// The key of an idempotent request, kept for the caller; `what` is everything that the request says.
pub fn idempotency(headers: &HeaderMap, caller: &Caller, what: &str) -> Result<Option<Idempotency>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default().trim();
    let key = key.strip_prefix('"').and_then(|k| k.strip_suffix('"')).unwrap_or(key);
    if key.is_empty() || key.len() > KEY_BYTES || headers.get_all("idempotency-key").iter().count() > 1 {
        let message = format!("must be one text of 1 to {KEY_BYTES} ASCII characters");
        return Err(Problem::bad("idempotency-key", format!("Idempotency-Key: {message}"))
            .naming(vec![("Idempotency-Key".to_owned(), message)]));
    }
    Ok(Some(Idempotency { scope: caller.name.clone(), key: key.to_owned(), fingerprint: crate::tokens::hash(what) }))
}

/// What the client would like (RFC 7240). What isn't known is passed over, as the RFC wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    /// Seconds; at most [`LONGEST_WAIT_S`].
    wait_s: Option<u64>,
    respond_async: bool,
}

impl Prefer {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let texts = headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok());
        for preference in texts.flat_map(|text| text.split(',')) {
            let token = preference.split(';').next().unwrap_or_default();
            let (name, value) = token.split_once('=').unwrap_or((token, ""));
            let name = name.trim();
            // Of one that comes twice the first counts.
            if name.eq_ignore_ascii_case("wait") && prefer.wait_s.is_none() {
                prefer.wait_s = value.trim().trim_matches('"').parse().ok().map(|n: u64| n.min(LONGEST_WAIT_S));
            } else if name.eq_ignore_ascii_case("respond-async") {
                prefer.respond_async = true;
            }
        }
        prefer
    }

    /// How long the answer may be held back.
    pub fn wait(self) -> Option<Duration> {
        self.wait_s.filter(|s| *s > 0).map(Duration::from_secs)
    }

    /// `Preference-Applied`: what was done of it.
    pub fn applied(self) -> Option<HeaderValue> {
        match (self.wait_s, self.respond_async) {
            (Some(seconds), false) => HeaderValue::from_str(&format!("wait={seconds}")).ok(),
            (Some(seconds), true) => HeaderValue::from_str(&format!("respond-async, wait={seconds}")).ok(),
            (None, true) => Some(HeaderValue::from_static("respond-async")),
            (None, false) => None,
        }
    }
}

/// Locks by name, so that looking at a condition and writing are one step among the requests of this process. The books of
/// one host are written by no other process but the command line, which changes nothing that has conditions.
#[derive(Debug)]
pub struct Turns {
    stripes: [RwLock<()>; 64],
    hasher: RandomState,
}

/// Held until the write is done.
#[derive(Debug)]
#[allow(dead_code, reason = "held, not read")]
pub enum Turn<'a> {
    Shared(RwLockReadGuard<'a, ()>),
    Alone(RwLockWriteGuard<'a, ()>),
}

impl Default for Turns {
    fn default() -> Self {
        Self { stripes: [const { RwLock::const_new(()) }; 64], hasher: RandomState::new() }
    }
}

impl Turns {
    /// A writer with a condition is alone with what it writes; those without one go beside each other.
    pub async fn take(&self, name: &str, conditional: bool) -> Turn<'_> {
        let [first, ..] = &self.stripes;
        let place = self.hasher.hash_one(name) % 64;
        let stripe = usize::try_from(place).ok().and_then(|n| self.stripes.get(n)).unwrap_or(first);
        if conditional { Turn::Alone(stripe.write().await) } else { Turn::Shared(stripe.read().await) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn conditions_are_read_or_refused_and_never_passed_over() {
        let of = |pairs: &[(&'static str, &str)]| Condition::of(&headers(pairs)).map_err(|p| p.status().as_u16());
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("if-match", "\"3\"")]), Ok(Some(Condition::Is(vec![3]))));
        assert_eq!(of(&[("if-match", "\"3\", \"4\"")]), Ok(Some(Condition::Is(vec![3, 4]))));
        assert_eq!(of(&[("if-match", "*")]), Ok(Some(Condition::There)));
        assert_eq!(of(&[("if-none-match", "*")]), Ok(Some(Condition::New)));
        for wrong in ["3", "W/\"3\"", "\"three\"", "", "\"3\", 4"] {
            assert_eq!(of(&[("if-match", wrong)]), Err(400), "{wrong}");
        }
        assert_eq!(of(&[("if-none-match", "\"3\"")]), Err(400));
        assert_eq!(of(&[("if-match", "*"), ("if-none-match", "*")]), Err(400));
    }

    #[test]
    fn a_condition_that_is_not_met_is_412_with_a_remedy() {
        assert!(Condition::Is(vec![2, 3]).check(Some(3)).is_ok());
        assert!(Condition::New.check(None).is_ok() && Condition::There.check(Some(9)).is_ok());
        for (condition, now, remedy) in [
            (Condition::Is(vec![3]), Some(4), "read it again"),
            (Condition::Is(vec![3]), None, "leave `If-Match` out"),
            (Condition::There, None, "leave `If-Match` out"),
            (Condition::New, Some(1), "send `If-Match`"),
        ] {
            let problem = condition.check(now).unwrap_err();
            assert!(problem.status().as_u16() == 412 && problem.detail.contains(remedy), "{}", problem.detail);
        }
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        let of = |text: &str| Prefer::of(&headers(&[("prefer", text)]));
        assert_eq!(of("wait=10").wait(), Some(Duration::from_secs(10)));
        assert_eq!(of("respond-async, WAIT=\"5\"; foo=bar").wait(), Some(Duration::from_secs(5)));
        assert_eq!(of("wait=600").wait(), Some(Duration::from_secs(LONGEST_WAIT_S)));
        assert_eq!(of("wait=600").applied().unwrap(), "wait=30");
        assert_eq!(of("wait=soon, handling=lenient"), Prefer::default());
        assert_eq!(of("wait=0").wait(), None);
        assert_eq!(of("respond-async").applied().unwrap(), "respond-async");
    }

    #[test]
    fn an_idempotency_key_that_can_not_be_kept_is_refused() {
        let caller = Caller { name: "token/a".into(), panel: None };
        let of = |value: &str| idempotency(&headers(&[("idempotency-key", value)]), &caller, "x");
        assert_eq!(of("\"k1\"").unwrap().unwrap().key, "k1");
        assert_eq!(of("k1").unwrap().unwrap().key, "k1");
        assert!(of("").is_err() && of("\"\"").is_err() && of(&"k".repeat(256)).is_err());
        assert!(idempotency(&HeaderMap::new(), &caller, "x").unwrap().is_none());
    }
}
