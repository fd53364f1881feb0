//! The requests of the API and the meaning of its answers; `API.md` describes it. One request a call, none repeated;
//! `calls` counts them.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use wharf_sdk::dns::prelude::*;

/// Pages that are read at most: a server that always names a next one must not hold the call.
const PAGES: u32 = 500;

#[derive(Debug, Clone, Deserialize)]
pub struct Zone {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub data: String,
    pub ttl: u32,
}

#[derive(Debug, Deserialize)]
struct Zones {
    zones: Vec<Zone>,
    next_page: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Records {
    records: Vec<Record>,
    total: usize,
    next_page: Option<u32>,
}

/// What was read of a zone. If not `complete`, something may be missing.
#[derive(Debug, Default)]
pub struct Listing {
    pub records: Vec<Record>,
    pub complete: bool,
}

pub struct Api<'t, T: Transport> {
    transport: &'t mut T,
    base: String,
    pub calls: u32,
}

impl<'t, T: Transport> Api<'t, T> {
    pub fn new(transport: &'t mut T, url: &str) -> Self {
        Self { transport, base: format!("{}/v1", url.trim_end_matches('/')), calls: 0 }
    }

    pub fn zones(&mut self) -> Result<Vec<Zone>, Problem> {
        let mut all = Vec::new();
        let mut page = 1;
        loop {
            let request = Request::get(format!("{}/zones", self.base)).query("page", page.to_string());
            let answer: Zones = self.get(request)?;
            all.extend(answer.zones);
            match answer.next_page {
                Some(next) if next > page && next <= PAGES => page = next,
                _ => return Ok(all),
            }
        }
    }

    /// All records, or those of one name (no final dot, as the API writes names).
    pub fn records(&mut self, zone: &str, name: Option<&str>) -> Result<Listing, Problem> {
        let mut list = Listing::default();
        let (mut page, mut total, mut moved) = (1, None, false);
        loop {
            let mut request = Request::get(self.records_url(zone)).query("page", page.to_string());
            if let Some(name) = name {
                request = request.query("name", name);
            }
            let answer: Records = self.get(request)?;
            // The zone was changed between two pages: what moved up to one that was read already is missing.
            moved |= total.replace(answer.total).is_some_and(|before| before != answer.total);
            for record in answer.records {
                // A record that moved to the next page while we read stands on both.
                if !list.records.iter().any(|r| r.id == record.id) {
                    list.records.push(record);
                }
            }
            match answer.next_page {
                Some(next) if next > page && next <= PAGES => page = next,
                more => {
                    list.complete = more.is_none() && !moved && list.records.len() == answer.total;
                    return Ok(list);
                }
            }
        }
    }

    pub fn create(&mut self, zone: &str, name: &str, rtype: &str, data: &str, ttl: Option<u32>) -> Result<(), Problem> {
        let body = json!({"name": name, "type": rtype, "data": data, "ttl": ttl.unwrap_or(3600)});
        let request = Request::new("POST", self.records_url(zone)).json(&body);
        self.send(request, true).map(|_| ())
    }

    pub fn set_ttl(&mut self, zone: &str, id: &str, ttl: u32) -> Result<(), Problem> {
        let url = format!("{}/{}", self.records_url(zone), segment(id));
        self.send(Request::new("PATCH", url).json(&json!({"ttl": ttl})), true).map(|_| ())
    }

    /// A record that is not there any more is no error.
    pub fn delete(&mut self, zone: &str, id: &str) -> Result<(), Problem> {
        let url = format!("{}/{}", self.records_url(zone), segment(id));
        match self.send(Request::new("DELETE", url), true) {
            Err(problem) if problem.http_status == Some(404) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn records_url(&self, zone: &str) -> String {
        format!("{}/zones/{}/records", self.base, segment(zone))
    }

    fn get<D: DeserializeOwned>(&mut self, request: Request) -> Result<D, Problem> {
        let response = self.send(request, false)?;
        response.json().map_err(|error| {
            let message = format!("The API answered {}, but not what was expected ({error}).", response.status);
            Problem::report_bug("malformed-answer", message).status(response.status)
        })
    }

    fn send(&mut self, request: Request, write: bool) -> Result<Response, Problem> {
        self.calls += 1;
        // The host puts the token in, where the manifest allows it.
        let request = request.header("Authorization", "Bearer {{token}}");
        let response = self.transport.send(&request).map_err(|failure| Problem::from_http(failure, write))?;
        if response.is_success() { Ok(response) } else { Err(problem_of(&response, write)) }
    }
}

/// What the host must do about an answer that is no success.
fn problem_of(response: &Response, write: bool) -> Problem {
    let said = response.excerpt(300);
    let problem = match response.status {
        401 | 403 => Problem::fix_config("credentials", format!("The API refused the token: {said}")),
        402 => Problem::fix_config("quota", format!("The zone is full: {said}")),
        404 => Problem::fix_config("zone-not-found", format!("The API does not have this zone: {said}")),
        409 => Problem::replan("changed", format!("The zone has changed: {said}")),
        400 | 422 => Problem::fix_input("refused", format!("The API refused the record: {said}")),
        429 => Problem::wait("rate-limited", format!("The API asks to wait: {said}"), response.retry_after_ms()),
        // A gateway says nothing of what stands behind it.
        502 | 504 if write => Problem::verify("gateway", format!("No answer from behind the gateway: {said}")),
        500..=599 => Problem::retry("server-error", format!("The API has a fault of its own: {said}")),
        300..=399 => Problem::fix_config("redirect", "The API answers with a redirect: enter the final address."),
        status => Problem::report_bug("unexpected-status", format!("The API answered {status}: {said}")),
    };
    problem.status(response.status)
}

/// One segment of a path.
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
