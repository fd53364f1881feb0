//! HTTP in two halves: a [`Request`] is plain data, so that building it and reading its [`Response`] can be tested on
//! any machine; a [`Transport`] sends it, and [`Host`] is the one that a component has.
//!
//! A request is sent once and never repeated here. Secrets are `{{slot}}`: the host puts the value in on the way out.

use serde::de::DeserializeOwned;

use self::bindings::wharf::http::client::Outbound;
pub use self::bindings::wharf::http::client::{Failure, Sent};

/// The generated items, whole.
#[allow(unsafe_code, clippy::all, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package wharf:sdk-http;
            world http {
              import wharf:http/client@0.1.0;
            }
        ",
        world: "wharf:sdk-http/http",
        generate_all,
        with: { "wharf:base/common@0.1.0": crate::base::bindings::wharf::base::common },
        additional_derives: [PartialEq, Eq],
    });
}

/// What a request carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Body {
    #[default]
    None,
    /// Content type and text.
    Text(String, String),
    /// `application/x-www-form-urlencoded`; the host encodes.
    Form(Vec<(String, String)>),
}

/// A signature that the host computes: over `payload`, with the secret in `slot`, into `header`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub slot: String,
    pub scheme: String,
    pub header: String,
    pub payload: Vec<u8>,
}

/// One request, not yet sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Absolute.
    pub url: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub signature: Option<Signature>,
    /// From connect to the last byte; none = the host's default of 10,000.
    pub timeout_ms: Option<u32>,
}

impl Request {
    /// A request without body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), ..Self::default() }
    }

    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// Appends a query pair.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Appends a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A JSON body.
    #[must_use]
    pub fn json(mut self, value: &serde_json::Value) -> Self {
        self.body = Body::Text("application/json".into(), value.to_string());
        self
    }

    /// A body of any type of text.
    #[must_use]
    pub fn text(mut self, content_type: impl Into<String>, text: impl Into<String>) -> Self {
        self.body = Body::Text(content_type.into(), text.into());
        self
    }

    /// Appends a form field, replacing a body of another kind.
    #[must_use]
    pub fn form(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let pair = (name.into(), value.into());
        match &mut self.body {
            Body::Form(fields) => fields.push(pair),
            other => *other = Body::Form(vec![pair]),
        }
        self
    }

    /// Lets the host sign `payload`.
    #[must_use]
    pub fn sign(
        mut self,
        slot: impl Into<String>,
        scheme: impl Into<String>,
        header: impl Into<String>,
        payload: Vec<u8>,
    ) -> Self {
        self.signature = Some(Signature { slot: slot.into(), scheme: scheme.into(), header: header.into(), payload });
        self
    }

    /// Basic authentication: the secret in `slot` is the password.
    #[must_use]
    pub fn basic(self, user: &str, slot: impl Into<String>) -> Self {
        self.sign(slot, "basic", "Authorization", user.as_bytes().to_vec())
    }

    /// Limits the whole exchange.
    #[must_use]
    pub fn timeout_ms(mut self, ms: u32) -> Self {
        self.timeout_ms = Some(ms);
        self
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Lossy UTF-8.
    pub text: String,
}

impl Response {
    /// First value; case of `name` does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The body, decoded.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.text)
    }

    /// True for 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `Retry-After` in milliseconds: a number of seconds, or a date as seen from the answer's own `Date`, so that no clock
    /// is needed (RFC 9110 §10.2.3). None if it is neither, or has no `Date` to be compared with.
    pub fn retry_after_ms(&self) -> Option<u32> {
        let text = self.header("retry-after")?.trim();
        let seconds = match text.parse::<u32>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let (until, now) = (http_date(text)?, http_date(self.header("date")?)?);
                u32::try_from(until.saturating_sub(now).max(0)).ok()?
            }
        };
        seconds.checked_mul(1000)
    }

    /// The body's beginning, on one line, for a message: at most `max` characters.
    pub fn excerpt(&self, max: usize) -> String {
        let line = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(max) {
            Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or_default()),
            None => line,
        }
    }
}

/// Seconds since 1970 of a date as headers have it, `Wed, 21 Oct 2015 07:28:00 GMT`: the one form that may be sent (RFC 9110
/// §5.6.7).
pub fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.trim().split_once(", ")?;
    let mut words = rest.split(' ');
    let mut next = || words.next();
    let (day, month, year, time, zone) = (next()?, next()?, next()?, next()?, next()?);
    if zone != "GMT" {
        return None;
    }
    let month = i64::try_from(MONTHS.iter().position(|m| *m == month)?).ok()?;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(|part| part.parse::<i64>().ok().filter(|n| (0..=60).contains(n)));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    // Days since 1970-01-01, with years that begin in March: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let of_era = year % 400;
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = year / 400 * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

/// Sends requests.
pub trait Transport {
    /// Sends once. An answer of any status is Ok.
    fn send(&mut self, request: &Request) -> Result<Response, Failure>;
}

/// Sends through the host.
#[derive(Debug, Default, Clone, Copy)]
pub struct Host;

impl Transport for Host {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        let out = Outbound::new(&request.method, &request.url);
        for (name, value) in &request.query {
            out.query(name, value);
        }
        for (name, value) in &request.headers {
            out.header(name, value);
        }
        match &request.body {
            Body::None => {}
            Body::Text(content_type, text) => out.body_text(content_type, text),
            Body::Form(fields) => fields.iter().for_each(|(name, value)| out.body_form(name, value)),
        }
        if let Some(s) = &request.signature {
            out.sign(&s.slot, &s.scheme, &s.header, &s.payload);
        }
        if let Some(ms) = request.timeout_ms {
            out.timeout_ms(ms);
        }
        let reply = out.send()?;
        Ok(Response { status: reply.status(), headers: reply.headers(), text: reply.text() })
    }
}

/// What the code of a [`Failure`] asks for, before it is known whether the request was a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A grant, a setting or a credential: an admin must act.
    Config,
    /// The plugin asked for something impossible.
    Bug,
    /// It may work later, by itself: a certificate is renewed, a server comes back. Codes that are not known count as
    /// this.
    Passing,
}

impl Trouble {
    /// Sorts a failure's code.
    pub fn of(code: &str) -> Self {
        match code {
            "rule" | "secret-position" | "unknown-slot" | "address-refused" => Self::Config,
            "already-sent" | "malformed" | "too-large" => Self::Bug,
            _ => Self::Passing,
        }
    }
}

impl crate::Failure {
    /// A request that got no answer. A write that the peer may have seen is `unknown`.
    pub fn from_http(failure: Failure, write: bool) -> Self {
        let Failure { sent, code, message, ext } = failure;
        let action = match (Trouble::of(&code), sent) {
            (_, Sent::MaybeSent) if write => crate::Action::Unknown,
            (Trouble::Config, _) => crate::Action::FixConfig,
            (Trouble::Bug, _) => crate::Action::ReportBug,
            (Trouble::Passing, _) => crate::Action::Retry,
        };
        Self { ext, ..Self::new(action, code, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_line_and_cut_between_characters() {
        let response = Response { text: "ä\n b".repeat(50), ..Response::default() };
        let excerpt = response.excerpt(5);
        assert_eq!(excerpt, "ä bä …");
        assert_eq!(Response { text: "short".into(), ..Response::default() }.excerpt(5), "short");
    }

    #[test]
    fn a_header_is_found_whatever_its_case() {
        let response = Response { headers: vec![("Retry-After".into(), "7".into())], ..Response::default() };
        assert_eq!(response.retry_after_ms(), Some(7000));
    }

    #[test]
    fn a_pause_that_is_told_as_a_date_is_seen_from_the_date_of_the_answer() {
        let pause = |until: &str, now: &[&str]| {
            let mut headers = vec![("retry-after".to_owned(), until.to_owned())];
            headers.extend(now.iter().map(|n| ("date".to_owned(), (*n).to_owned())));
            Response { headers, ..Response::default() }.retry_after_ms()
        };
        let now = ["Wed, 21 Oct 2015 07:26:30 GMT"];
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT", &now), Some(90_000));
        assert_eq!(pause("Wed, 21 Oct 2015 07:20:00 GMT", &now), Some(0));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT", &[]), None);
        assert_eq!(pause("Wed, 21 Oct", &now), None);
    }

    #[test]
    fn a_date_is_counted_from_1970() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 1_445_412_480),
        ] {
            assert_eq!(http_date(text), Some(seconds), "{text}");
        }
        for text in ["", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(text), None, "{text}");
        }
    }

    #[test]
    fn form_fields_add_up() {
        let request = Request::new("POST", "https://x/").form("a", "1").form("b", "2");
        assert_eq!(request.body, Body::Form(vec![("a".into(), "1".into()), ("b".into(), "2".into())]));
    }
}
