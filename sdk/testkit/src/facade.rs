//! What an API is to the test kit: one type that answers requests over the model.

use std::time::Duration;

use serde_json::Value;

use crate::model::Model;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    pub method: String,
    /// Still percent-encoded, without the query.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Segments of the path, decoded; none where it is not UTF-8.
    pub fn segments(&self) -> Vec<String> {
        self.path.trim_matches('/').split('/').map(decoded).collect()
    }

    /// None if it is no JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Fields of an `application/x-www-form-urlencoded` body.
    pub fn form(&self) -> Vec<(String, String)> {
        pairs(&String::from_utf8_lossy(&self.body))
    }

    /// Whether it asks for a change.
    pub fn writes(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

/// `a=b&c=d`, decoded.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(status: u16, content_type: &str, text: impl Into<String>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: text.into().into_bytes() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// How a provider says how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Unsaid,
    /// `Retry-After: 7`.
    Seconds(u64),
    /// `Retry-After: Wed, 21 Oct 2015 07:28:00 GMT`, so long from now.
    Date(Duration),
    /// In a header of the provider's own, where it has one; else as seconds.
    Own(u64),
}

/// What a provider refuses by itself, in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The credentials are wrong or revoked.
    Credentials,
    /// They are right and not allowed to do this.
    Forbidden,
    RateLimited(Wait),
    /// Something broke there, and nothing was written.
    Broken,
    /// No more records fit.
    Quota,
}

/// A provider's API.
///
/// It holds nothing but what the API holds beside zones (actions that are polled, counters): the zones are the model's.
pub trait Facade: Send {
    /// The provider's settings for a zone, secrets included, when it is reached at `base` (`http://127.0.0.1:port`).
    fn settings(&self, base: &str) -> Value;

    /// The settings for the zone of this very name, whether or not it is there, where they name it: by its id, say.
    fn zone_settings(&self, base: &str, _zone: &str) -> Value {
        self.settings(base)
    }

    /// Answers as the real one would. Credentials are checked here: wrong ones get what [`Facade::refusal`] says.
    fn answer(&mut self, model: &mut Model, request: &Request) -> Response;

    /// What the real one answers when it refuses.
    fn refusal(&self, why: Refusal) -> Response;

    /// How long the real one takes for this request; [`crate::peer::Peer`] answers so much later.
    fn pause(&self, _request: &Request) -> Duration {
        Duration::ZERO
    }

    /// How a zone of this name is put into the model: with an id and the records that the API makes by itself (SOA, NS).
    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
    }
}
