//! Exchanges in a file, to be answered again without a network: `--record` writes it, `--replay` reads it.
//!
//! The format is HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>), which browsers and proxies write and show, too. A request
//! that was not answered has status 0, as Chromium writes it, and says why in `_lost`. Of a request's headers only the type of its body is
//! kept: others carry credentials.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use axum::http::header::CONTENT_TYPE;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};
use wharf_capabilities::{
    http::{Answer, Lost, Prepared, Resolver, Transport},
    scrub::Scrubber,
};

#[derive(Serialize, Deserialize)]
struct Har {
    log: Log,
}

#[derive(Serialize, Deserialize)]
struct Log {
    version: String,
    #[serde(default)]
    creator: Json,
    entries: Vec<Entry>,
}

/// One exchange.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(default)]
    started_date_time: String,
    /// Milliseconds.
    #[serde(default)]
    time: f64,
    request: Request,
    response: Response,
    #[serde(default)]
    cache: Json,
    #[serde(default)]
    timings: Json,
    #[serde(rename = "serverIPAddress", default, skip_serializing_if = "String::is_empty")]
    server: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    #[serde(flatten)]
    rest: Rest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    post_data: Option<PostData>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostData {
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: u16,
    #[serde(flatten)]
    rest: Rest,
    #[serde(default)]
    content: Content,
    #[serde(rename = "_lost", default, skip_serializing_if = "Option::is_none")]
    lost: Option<LostText>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(default)]
    size: i64,
    #[serde(default)]
    mime_type: String,
    #[serde(default)]
    text: String,
    /// `base64`, where the body is no text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    encoding: String,
}

/// What the format wants in a request and in a response, and nothing here depends on, but the headers of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rest {
    http_version: String,
    headers: Vec<Pair>,
    cookies: Vec<Json>,
    headers_size: i64,
    body_size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string: Option<Vec<Pair>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_text: Option<String>,
    #[serde(rename = "redirectURL", skip_serializing_if = "Option::is_none")]
    redirect_url: Option<String>,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            http_version: "HTTP/1.1".into(),
            headers: Vec::new(),
            cookies: Vec::new(),
            // Unknown.
            headers_size: -1,
            body_size: -1,
            query_string: None,
            status_text: None,
            redirect_url: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LostText {
    /// Whether the peer may have seen the request.
    maybe_sent: bool,
    /// One of `wit/deps/http/http.wit`.
    code: String,
    message: String,
}

/// The moment, as the format writes it.
pub fn now() -> String {
    let mut text = String::new();
    // A text takes all that is written.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

impl Entry {
    /// What was asked and what became of it, without secrets.
    pub fn of(
        began: String,
        took: Duration,
        asked: &Prepared,
        became: &Result<Answer, Lost>,
        scrubber: &Scrubber,
    ) -> Self {
        let pair = |name: &str, value: &str| Pair { name: name.into(), value: scrubber.text(value) };
        let kind = asked.headers.get(CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let query = asked.url.query_pairs().map(|(name, value)| pair(&name, &value)).collect();
        let request = Request {
            method: asked.method.to_string(),
            url: scrubber.text(asked.url.as_str()),
            rest: Rest {
                headers: kind.iter().map(|kind| pair("content-type", kind)).collect(),
                query_string: Some(query),
                ..Rest::default()
            },
            post_data: (!asked.body.is_empty()).then(|| PostData {
                mime_type: scrubber.text(&kind.unwrap_or_default()),
                text: text_of(&asked.body, scrubber),
            }),
        };
        let mut response = Response {
            status: 0,
            rest: Rest { status_text: Some(String::new()), redirect_url: Some(String::new()), ..Rest::default() },
            content: Content::default(),
            lost: None,
        };
        match became {
            Ok(answer) => {
                response.status = answer.status;
                response.rest.headers = answer.headers.iter().map(|(name, value)| pair(name, value)).collect();
                response.content = Content::of(answer, scrubber);
            }
            Err(lost) => {
                response.lost = Some(LostText {
                    maybe_sent: lost.maybe_sent,
                    code: lost.code.to_owned(),
                    message: scrubber.text(&lost.message),
                });
            }
        }
        let time = took.as_secs_f64() * 1000.0;
        Self {
            started_date_time: began,
            time,
            request,
            response,
            cache: serde_json::json!({}),
            timings: serde_json::json!({"send": 0, "wait": time, "receive": 0}),
            server: asked.addresses.first().map(|a| a.ip().to_string()).unwrap_or_default(),
        }
    }

    fn host(&self) -> Option<String> {
        let url = reqwest::Url::parse(&self.request.url).ok()?;
        url.host_str().map(str::to_owned)
    }

    fn is_place(&self, asked: &Request) -> bool {
        self.request.method == asked.method && self.request.url == asked.url
    }

    /// JSON that says the same is the same.
    fn is_body(&self, asked: &Request) -> bool {
        let body = |r: &Request| r.post_data.as_ref().map(|p| p.text.clone()).unwrap_or_default();
        let (ours, theirs) = (body(&self.request), body(asked));
        let read = |text: &str| serde_json::from_str::<Json>(text).ok();
        ours == theirs || read(&ours).is_some_and(|json| read(&theirs) == Some(json))
    }

    fn answer(&self) -> Result<Answer, Lost> {
        if let Some(lost) = &self.response.lost {
            return Err(Lost { maybe_sent: lost.maybe_sent, code: known(&lost.code), message: lost.message.clone() });
        }
        if self.response.status == 0 {
            return Err(Lost { maybe_sent: true, code: "broken", message: "no answer was recorded".into() });
        }
        let content = &self.response.content;
        let body = if content.encoding == "base64" {
            STANDARD.decode(&content.text).map_err(|error| Lost {
                maybe_sent: true,
                code: "broken",
                message: format!(
                    "the recorded answer to {} {} is no base64: {error}",
                    self.request.method, self.request.url
                ),
            })?
        } else {
            content.text.clone().into_bytes()
        };
        // Browsers decode a body before they record it: of that these would lie.
        let own = |name: &str| {
            name == "content-length"
                || name == "transfer-encoding"
                || name == "content-encoding" && content.encoding != "base64"
        };
        let headers = self.response.rest.headers.iter().map(|p| (p.name.to_ascii_lowercase(), p.value.clone()));
        let headers = headers.filter(|(name, _)| !own(name)).collect();
        Ok(Answer { status: self.response.status, headers, body })
    }
}

impl Content {
    fn of(answer: &Answer, scrubber: &Scrubber) -> Self {
        let kind = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let clean = scrubber.bytes(answer.body.clone());
        let size = i64::try_from(answer.body.len()).unwrap_or(i64::MAX);
        let mime_type = kind.map(|(_, value)| scrubber.text(value)).unwrap_or_default();
        let (text, encoding) = match String::from_utf8(clean) {
            Ok(text) => (text, String::new()),
            Err(error) => (STANDARD.encode(error.as_bytes()), "base64".to_owned()),
        };
        Self { size, mime_type, text, encoding }
    }
}

fn text_of(body: &[u8], scrubber: &Scrubber) -> String {
    scrubber.text(&String::from_utf8_lossy(body))
}

/// The codes of a request that was not answered.
fn known(code: &str) -> &'static str {
    let codes = ["resolve", "connect", "tls", "timeout", "too-large", "malformed"];
    codes.into_iter().find(|c| *c == code).unwrap_or("broken")
}

/// Writes a recording, in the place of what was there.
pub fn write(file: &Path, entries: Vec<Entry>) -> Result<()> {
    let creator = serde_json::json!({"name": "wharf", "version": env!("CARGO_PKG_VERSION")});
    let har = Har { log: Log { version: "1.2".into(), creator, entries } };
    let text = serde_json::to_string_pretty(&har)? + "\n";
    std::fs::write(file, text).with_context(|| format!("--record: {} can't be written", file.display()))
}

/// A peer that answers from a recording. Each exchange is had once, in the order in which they were recorded.
pub struct Recording {
    file: PathBuf,
    left: Mutex<Vec<Entry>>,
    addresses: BTreeMap<String, IpAddr>,
    scrubber: Scrubber,
}

impl Recording {
    pub fn read(file: &Path, scrubber: Scrubber) -> Result<Arc<Self>> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("--replay: {} can't be read", file.display()))?;
        let har: Har = serde_json::from_str(&text).map_err(|e| {
            anyhow::anyhow!(
                "--replay: {}:{}:{}: {e}: HAR 1.2 is read, as --record writes it",
                file.display(),
                e.line(),
                e.column()
            )
        })?;
        if har.log.entries.is_empty() {
            bail!("--replay: {} has no exchange", file.display());
        }
        let place = |e: &Entry| Some((e.host()?, e.server.trim_matches(['[', ']']).parse().ok()?));
        let addresses = har.log.entries.iter().filter_map(place).collect();
        Ok(Arc::new(Self { file: file.to_owned(), left: Mutex::new(har.log.entries), addresses, scrubber }))
    }

    /// How many exchanges nobody asked for.
    pub fn left(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, asked: &Request) -> String {
        let left = self.entries();
        let near = left.iter().filter(|e| e.is_place(asked)).count();
        let why = match near {
            0 => "none of those that are left asks that".to_owned(),
            near => format!("{near} of those that are left ask that with another body"),
        };
        format!("{} has no answer to {} {}: {why}; record anew", self.file.display(), asked.method, asked.url)
    }
}

#[async_trait]
impl Transport for Recording {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        let body = text_of(&request.body, &self.scrubber);
        let asked = Request {
            method: request.method.to_string(),
            url: self.scrubber.text(request.url.as_str()),
            rest: Rest::default(),
            post_data: (!body.is_empty()).then(|| PostData { mime_type: String::new(), text: body }),
        };
        let found = {
            let mut left = self.entries();
            let place = left.iter().position(|e| e.is_place(&asked) && e.is_body(&asked));
            place.map(|place| left.remove(place))
        };
        let Some(entry) = found else {
            return Err(Lost { maybe_sent: false, code: "connect", message: self.missing(&asked) });
        };
        let answer = entry.answer()?;
        if answer.body.len() > request.max_reply {
            let message = format!("the answer has more than {} bytes", request.max_reply);
            return Err(Lost { maybe_sent: true, code: "too-large", message });
        }
        Ok(answer)
    }
}

/// Names stand for the addresses that were recorded with them: what a plugin may not reach is refused as it was then.
#[async_trait]
impl Resolver for Recording {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        let missing = || std::io::Error::other(format!("{} has no `serverIPAddress` for it", self.file.display()));
        self.addresses.get(host).map(|address| vec![*address]).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(method: &str, url: &str, body: &str) -> Prepared {
        Prepared {
            method: method.parse().unwrap(),
            url: url.parse().unwrap(),
            addresses: vec!["192.0.2.1:443".parse().unwrap()],
            headers: axum::http::HeaderMap::new(),
            body: body.to_owned().into(),
            timeout: Duration::from_secs(1),
            max_reply: 100,
        }
    }

    fn answer(status: u16, body: &[u8]) -> Result<Answer, Lost> {
        Ok(Answer { status, headers: vec![("content-type".into(), "text/plain".into())], body: body.to_vec() })
    }

    fn recorded(exchanges: &[(Prepared, Result<Answer, Lost>)]) -> (tempfile::TempDir, Arc<Recording>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("peer.har");
        let scrubber = Scrubber::of([("token", b"very-secret".as_slice())]);
        let entry = |(asked, became): &(Prepared, _)| Entry::of(now(), Duration::ZERO, asked, became, &scrubber);
        write(&file, exchanges.iter().map(entry).collect()).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("very-secret"), "{text}");
        // Whoever replays it has another token.
        let other = Scrubber::of([("token", b"of-no-account".as_slice())]);
        (dir, Recording::read(&file, other).unwrap())
    }

    #[tokio::test]
    async fn an_exchange_is_had_once_and_in_the_order_in_which_it_was_recorded() {
        let get = || prepared("GET", "https://dns.example.com/zones?page=1", "");
        let (_dir, recording) = recorded(&[(get(), answer(200, b"one")), (get(), answer(200, b"two"))]);
        assert_eq!(recording.send(get()).await, answer(200, b"one"));
        assert_eq!(recording.send(get()).await, answer(200, b"two"));
        let lost = recording.send(get()).await.unwrap_err();
        assert!(!lost.maybe_sent && lost.message.contains("none of those that are left asks that"), "{lost}");
    }

    #[tokio::test]
    async fn a_body_is_another_only_where_it_says_another_thing_and_a_secret_is_any() {
        let put = |body: &str| prepared("PUT", "https://dns.example.com/zones", body);
        let asked = put(r#"{"token": "very-secret", "ttl": 300}"#);
        let (_dir, recording) = recorded(&[(asked, answer(204, b""))]);
        let other = recording.send(put(r#"{"ttl": 60}"#)).await.unwrap_err();
        assert!(other.message.contains("1 of those that are left ask that with another body"), "{other}");
        assert_eq!(recording.send(put(r#"{"ttl":300,"token":"of-no-account"}"#)).await, answer(204, b""));
        assert_eq!(recording.left(), 0);
    }

    #[test]
    fn a_secret_that_the_peer_echoes_is_in_no_part_of_what_is_kept() {
        let echo = "very-secret".to_owned();
        let pairs = ["content-type", "x-echo"].map(|name| (name.to_owned(), echo.clone()));
        let echoed = Answer { status: 200, headers: pairs.to_vec(), body: echo.clone().into_bytes() };
        let lost = Lost { maybe_sent: true, code: "broken", message: echo };
        let mut asked = prepared("POST", "https://dns.example.com/very-secret?key=very-secret", "very-secret");
        asked.headers.insert(CONTENT_TYPE, "text/very-secret".parse().unwrap());
        asked.headers.insert("authorization", "Bearer very-secret".parse().unwrap());
        // Looks for the secret in the file.
        let _kept = recorded(&[(asked.clone(), Ok(echoed)), (asked, Err(lost))]);
    }

    #[tokio::test]
    async fn what_was_lost_is_lost_again_and_bytes_come_back_as_they_were() {
        let get = |path: &str| prepared("GET", &format!("https://dns.example.com/{path}"), "");
        let lost = Lost { maybe_sent: true, code: "timeout", message: "no whole answer came in time".into() };
        let (bytes, long) = ([0, 159, 146, 150], [b'x'; 101]);
        let (_dir, recording) =
            recorded(&[(get("a"), Err(lost.clone())), (get("b"), answer(200, &bytes)), (get("c"), answer(200, &long))]);
        assert_eq!(recording.send(get("a")).await, Err(lost));
        assert_eq!(recording.send(get("b")).await, answer(200, &bytes));
        assert_eq!(recording.send(get("c")).await.unwrap_err().code, "too-large");
    }

    #[tokio::test]
    async fn a_name_has_the_address_that_was_recorded_with_it() {
        let (_dir, recording) = recorded(&[(prepared("GET", "https://dns.example.com/", ""), answer(200, b""))]);
        assert_eq!(recording.lookup("dns.example.com").await.unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(recording.lookup("other.example.com").await.unwrap_err().to_string().contains("serverIPAddress"));
    }

    #[test]
    fn what_a_browser_writes_is_read_and_what_is_no_recording_is_refused_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("peer.har");
        let browser = r#"{"log": {"version": "1.2", "creator": {"name": "WebInspector"}, "pages": [], "entries": [{
            "_resourceType": "xhr", "startedDateTime": "2026-01-01T00:00:00Z", "time": 1.5, "cache": {}, "serverIPAddress": "[2001:db8::1]",
            "request": {"method": "GET", "url": "https://dns.example.com/", "httpVersion": "h2", "headers": [], "queryString": [],
              "cookies": [], "headersSize": -1, "bodySize": 0},
            "response": {"status": 200, "statusText": "", "httpVersion": "h2", "headers": [{"name": "Content-Encoding", "value": "br"}],
              "cookies": [], "content": {"size": 2, "mimeType": "text/plain", "text": "ok"}, "redirectURL": "", "headersSize": -1,
              "bodySize": -1, "_transferSize": 9},
            "timings": {"send": 0, "wait": 1, "receive": 0}}]}}"#;
        std::fs::write(&file, browser).unwrap();
        let recording = Recording::read(&file, Scrubber::default()).unwrap();
        let answer = recording.entries().first().unwrap().answer().unwrap();
        assert_eq!((answer.status, answer.headers, answer.body), (200, vec![], b"ok".to_vec()));
        for (text, part) in
            [("{\n  \"log\": 3}", "peer.har:2:"), (r#"{"log": {"version": "1.2", "entries": []}}"#, "no exchange")]
        {
            std::fs::write(&file, text).unwrap();
            let error = Recording::read(&file, Scrubber::default()).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
