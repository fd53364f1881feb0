//! The requests of PowerDNS' API and the meaning of its answers. One request a call, none repeated; `calls` counts
//! them. Statuses and texts as measured on 4.7.3 and read in the source of 4.1 to 5.1.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;

/// Rows asked for in one search. A search that returns as many may have been cut.
const SEARCH_MAX: usize = 1000;

/// One zone, without its records.
#[derive(Debug, Clone, Deserialize)]
pub struct ZoneMeta {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub serial: Option<u64>,
}

impl ZoneMeta {
    /// A secondary takes writes with 204, and the next transfer undoes them.
    pub fn writable(&self) -> bool {
        !matches!(self.kind.to_ascii_lowercase().as_str(), "slave" | "secondary" | "consumer")
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Zone {
    rrsets: Vec<Set>,
}

/// A set as the zone shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Set {
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    #[serde(default)]
    pub ttl: u32,
    pub records: Vec<Record>,
}

/// One value of a set. A disabled one is stored and not served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    pub content: String,
    #[serde(default)]
    pub disabled: bool,
}

#[derive(Debug, Deserialize)]
struct Found {
    object_type: String,
    #[serde(default)]
    name: String,
    #[serde(rename = "type", default)]
    rtype: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    ttl: u32,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    zone_id: String,
}

#[derive(Debug, Deserialize)]
struct Server {
    #[serde(default)]
    version: String,
}

/// What a request was about, for the meaning of its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Server,
    Zone,
    Write,
}

/// The API of one server.
pub struct Api<'t, T: Transport> {
    transport: &'t mut T,
    base: String,
    pub calls: u32,
}

impl<'t, T: Transport> Api<'t, T> {
    /// `url` as in the settings, `server` the server id.
    pub fn new(transport: &'t mut T, url: &str, server: &str) -> Self {
        let base = format!("{}/api/v1/servers/{}", url.trim_end_matches('/'), segment(server));
        Self { transport, base, calls: 0 }
    }

    fn send(&mut self, about: About, request: Request) -> Result<Response, Problem> {
        self.calls += 1;
        let response = self
            .transport
            .send(&request.header("X-API-Key", "{{api-key}}"))
            .map_err(|failure| Problem::from_http(failure, about == About::Write))?;
        if response.is_success() { Ok(response) } else { Err(problem_of(about, &response)) }
    }

    fn get<D: serde::de::DeserializeOwned>(&mut self, about: About, request: Request) -> Result<D, Problem> {
        let response = self.send(about, request)?;
        response.json().map_err(|error| {
            Problem::report_bug(
                "malformed-answer",
                format!("The server answered {}, but not with the JSON that was expected ({error}).", response.status),
            )
            .status(response.status)
        })
    }

    /// The server's version, as "4.7.3".
    pub fn version(&mut self) -> Result<String, Problem> {
        let server: Server = self.get(About::Server, Request::get(&self.base))?;
        Ok(server.version)
    }

    /// All zones.
    pub fn zones(&mut self) -> Result<Vec<ZoneMeta>, Problem> {
        let url = format!("{}/zones", self.base);
        self.get(About::Server, Request::get(url).query("dnssec", "false"))
    }

    /// The zone of this name.
    pub fn zone(&mut self, name: &str) -> Result<ZoneMeta, Problem> {
        let name = names::canonical(name).map_err(|e| Problem::fix_input("zone-name", e.to_string()))?;
        let url = format!("{}/zones", self.base);
        // An old server ignores the parameter and lists all: the name is compared in any case.
        let found: Vec<ZoneMeta> = self.get(About::Server, Request::get(url).query("zone", &name))?;
        found.into_iter().find(|z| z.name.eq_ignore_ascii_case(&name)).ok_or_else(|| {
            Problem::fix_config(
                "zone-not-found",
                format!("The server has no zone {name} Create it there, or take it out of the zones here."),
            )
        })
    }

    /// By its name, which the host's rule knows, and not by the id's own coding of it (`=2F` for a slash, by `apiZoneNameToId` in
    /// `pdns/ws-api.cc`): a name with `%2F` is taken as well (measured).
    fn zone_url(&self, id: &str) -> String {
        format!("{}/zones/{}", self.base, segment(&name_of(id)))
    }

    /// Everything in a zone, disabled values included.
    pub fn all(&mut self, id: &str) -> Result<Vec<Set>, Problem> {
        let zone: Zone = self.get(About::Zone, Request::get(self.zone_url(id)))?;
        Ok(zone.rrsets)
    }

    /// One set, if it is there. A disabled value is *not* among its records: good for reading, never for a merge.
    pub fn one(&mut self, id: &str, name: &str, rtype: &str) -> Result<Vec<Set>, Problem> {
        let request = Request::get(self.zone_url(id)).query("rrset_name", name).query("rrset_type", rtype);
        let zone: Zone = self.get(About::Zone, request)?;
        // An old server ignores the filter.
        let same = |s: &Set| names::labels(&s.name) == names::labels(name) && s.rtype.eq_ignore_ascii_case(rtype);
        Ok(zone.rrsets.into_iter().filter(same).collect())
    }

    /// All sets of one name, disabled values included; none when the search may have been cut or is not to be had.
    pub fn search(&mut self, id: &str, name: &str) -> Result<Option<Vec<Set>>, Problem> {
        let url = format!("{}/search-data", self.base);
        let bare = name.trim_end_matches('.');
        let request =
            Request::get(url).query("q", bare).query("max", SEARCH_MAX.to_string()).query("object_type", "record");
        let found: Vec<Found> = match self.get(About::Server, request) {
            Ok(found) => found,
            // Some backends can't search. Credentials and a lost connection are no reason to ask another way.
            Err(p) if matches!(p.http_status, Some(400 | 404 | 422 | 500 | 501)) => return Ok(None),
            Err(p) => return Err(p),
        };
        if found.len() >= SEARCH_MAX {
            return Ok(None);
        }
        let mut sets: Vec<Set> = Vec::new();
        let wanted = names::labels(name);
        for row in found {
            // The search finds contents too, `*` in a name stands for anything, and all zones are looked at.
            if row.object_type != "record" || row.zone_id != id || names::labels(&row.name) != wanted {
                continue;
            }
            let record = Record { content: row.content, disabled: row.disabled };
            match sets.iter_mut().find(|s| s.rtype == row.rtype) {
                Some(set) => set.records.push(record),
                None => sets.push(Set { name: row.name, rtype: row.rtype, ttl: row.ttl, records: vec![record] }),
            }
        }
        Ok(Some(sets))
    }

    /// Writes sets, all or none, in this order.
    pub fn patch(&mut self, id: &str, sets: &[Json]) -> Result<(), Problem> {
        let request = Request::new("PATCH", self.zone_url(id)).json(&json!({ "rrsets": sets }));
        self.send(About::Write, request).map(|_| ())
    }
}

/// The name that an id stands for: `=` and two hexadecimal digits are one byte of it.
fn name_of(id: &str) -> String {
    let mut parts = id.split('=');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).zip(part.get(2..)) {
            Some((byte, rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            None => {
                bytes.push(b'=');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A segment of a path.
fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The server's own words: `error` of a JSON body, else the body's beginning.
fn words(response: &Response) -> String {
    let json: Option<Json> = response.json().ok();
    json.as_ref()
        .and_then(|j| j.get("error"))
        .and_then(Json::as_str)
        .map_or_else(|| response.excerpt(300), |text| text.chars().take(300).collect())
}

fn problem_of(about: About, response: &Response) -> Problem {
    let (status, said) = (response.status, words(response));
    let problem = match status {
        401 | 403 => Problem::fix_config(
            "credentials",
            format!(
                "The server refused the API key ({status} {said}). Compare it with `api-key` in its configuration."
            ),
        ),
        404 if about == About::Server => Problem::fix_config(
            "server-not-found",
            format!("The address answers, but not as this server id (404 {said}). Check address and server id."),
        ),
        404 => zone_gone(&said),
        // 4.1 says so with 422.
        422 if said.contains("Could not find domain") => zone_gone(&said),
        422 => Problem::fix_input("refused", format!("The server refused the records: {said}")),
        429 => Problem::wait("rate-limited", format!("The server asks to wait: {said}"), response.retry_after_ms()),
        // The transaction is rolled back, so nothing was written.
        500 if said.contains("locked") => Problem::retry("database-locked", "The server's database is locked."),
        500 => Problem::retry("server-error", format!("The server has a fault of its own: {said}")),
        503 => Problem::retry("unavailable", format!("The server is not available: {said}")),
        // From a proxy: what stands behind it may have got the request.
        502 | 504 if about == About::Write => {
            Problem::verify("gateway", format!("A proxy in front of the server answered {status}: {said}"))
        }
        502 | 504 => Problem::retry("gateway", format!("A proxy in front of the server answered {status}: {said}")),
        300..=399 => Problem::fix_config(
            "redirect",
            format!("The server answers with a redirect ({status}). Enter the address that it points to."),
        ),
        _ => Problem::report_bug("unexpected-status", format!("The server answered {status}: {said}")),
    };
    problem.status(status)
}

fn zone_gone(said: &str) -> Problem {
    Problem::fix_config("zone-not-found", format!("The server does not have this zone any more ({said})."))
}

/// Whether EXTEND and PRUNE are understood: from 4.9.12 and from 5.0.2.
pub fn has_merge(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|p| p.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (4, 9, patch) => patch >= 12,
        (5, 0, patch) => patch >= 2,
        (major, minor, _) => (major, minor) > (5, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, text: &str) -> Response {
        Response { status, text: text.into(), ..Response::default() }
    }

    #[test]
    fn each_status_has_its_meaning() {
        use ProblemAction as A;
        for (about, status, text, action, code) in [
            (About::Zone, 401, "Unauthorized", A::FixConfig, "credentials"),
            (About::Zone, 404, "Not Found", A::FixConfig, "zone-not-found"),
            (About::Server, 404, "Not Found", A::FixConfig, "server-not-found"),
            (About::Zone, 422, r#"{"error": "Could not find domain 'x.'"}"#, A::FixConfig, "zone-not-found"),
            (About::Write, 422, r#"{"error": "bad"}"#, A::FixInput, "refused"),
            (About::Write, 500, r#"{"error": "database is locked"}"#, A::Retry, "database-locked"),
            (About::Write, 500, "Internal Server Error", A::Retry, "server-error"),
            (About::Write, 502, "<html>", A::Verify, "gateway"),
            (About::Zone, 502, "<html>", A::Retry, "gateway"),
            (About::Write, 429, "", A::Wait, "rate-limited"),
            (About::Zone, 302, "", A::FixConfig, "redirect"),
            (About::Zone, 418, "", A::ReportBug, "unexpected-status"),
        ] {
            let problem = problem_of(about, &answer(status, text));
            assert_eq!((problem.action, problem.code.as_str()), (action, code), "{status} {text}");
            assert_eq!(problem.http_status, Some(status));
        }
    }

    #[test]
    fn merge_is_known_by_version() {
        for good in ["4.9.12", "4.9.13", "5.0.2", "5.0.2-rc1", "5.1.0", "6.0.0"] {
            assert!(has_merge(good), "{good}");
        }
        for bad in ["4.7.3", "4.9.11", "4.8.20", "5.0.1", "5.0.0", "", "git"] {
            assert!(!has_merge(bad), "{bad}");
        }
    }

    #[test]
    fn a_zone_id_stays_one_segment() {
        assert_eq!(segment(&name_of("0=2F25.2.0.192.in-addr.arpa.")), "0%2F25.2.0.192.in-addr.arpa.");
        assert_eq!(name_of("=5Fdns.example.com."), "_dns.example.com.");
        for plain in ["example.com.", "a=zz.example.com.", "a=2"] {
            assert_eq!(name_of(plain), plain);
        }
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}
