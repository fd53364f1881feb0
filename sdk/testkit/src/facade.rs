//! What an API is to the test kit: one type that answers requests over the model.

use std::time::{Duration, SystemTime};

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
    /// What [`Facade::is_write`] said; none = by the method.
    pub is_write: Option<bool>,
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
        self.is_write.unwrap_or(!matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS"))
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

/// A point in time as HTTP headers write it (RFC 9110 §5.6.7).
pub fn http_date(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1970-01-01 to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let from = days + 719_468;
    let (era, of_era) = (from / 146_097, from % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400 + u64::from(month >= 10);
    let name = |list: &[&'static str], at: u64| {
        usize::try_from(at).ok().and_then(|n| list.get(n)).copied().unwrap_or_default()
    };
    let weekday = name(&["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"], days % 7);
    let month = name(&["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"], month);
    format!("{weekday}, {day:02} {month} {year} {:02}:{:02}:{:02} GMT", rest / 3_600, rest / 60 % 60, rest % 60)
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

/// What of a zone an API can show, beside names, types, values and TTLs. Cases that need what is not here don't apply to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Records are listed page by page.
    pub pages: bool,
    /// Records are changed and deleted by ids ([`crate::model::Record::id`]), which the API gives and checks.
    pub ids: bool,
    /// A record can be there and not be an ordinary one that is served: [`crate::model::Record::disabled`].
    pub disabled: bool,
    /// Comments of records or of sets are kept: [`crate::model::Record::comment`], [`crate::model::Zone::notes`].
    pub comments: bool,
    /// A zone can be shown that takes no writes, or loses them: [`crate::model::Zone::writable`].
    pub read_only: bool,
    /// The API refuses records that are too many: [`Refusal::Quota`].
    pub quota: bool,
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

    /// Whether a request asks for a change, where the method does not tell: in an API that only knows POST.
    fn is_write(&self, request: &Request) -> bool {
        request.writes()
    }

    /// What the real one answers when it refuses.
    fn refusal(&self, why: Refusal) -> Response;

    /// How long the real one takes for this request; [`crate::peer::Peer`] answers so much later.
    fn pause(&self, _request: &Request) -> Duration {
        Duration::ZERO
    }

    /// What of a zone it can show.
    fn features(&self) -> Features {
        Features::default()
    }

    /// How a zone of this name is put into the model: with an id and the records that the API makes by itself (SOA, NS).
    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_headers_want_it() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_445_412_480, "Wed, 21 Oct 2015 07:28:00 GMT"),
        ] {
            assert_eq!(http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
