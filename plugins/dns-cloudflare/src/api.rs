//! The requests of Cloudflare's API and the meaning of its answers. One request a call but for lists, whose pages are fetched
//! here; none is repeated; `calls` counts them.
//!
//! Every answer is an envelope `{result, success, errors, messages}`, of a list with `result_info{page, per_page, total_pages,
//! count, total_count}` (recorded). Statuses are not enough to go by: the code of an error says what it is.

use std::collections::BTreeSet;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;

use crate::{records::Record, waits::wait_ms};

/// Records of one page: some 500 bytes each, so that an answer stays far below the host's 4 MiB. The API takes more.
const RECORDS_PER_PAGE: u32 = 1_000;
/// The most that a page of zones has.
const ZONES_PER_PAGE: u32 = 50;
/// Pages that are fetched in one call. What has more is told as incomplete.
const PAGES: u32 = 120;

/// An identical record is there already: 81057 in 2020, 81058 in 2025 (recorded).
const THERE: [u32; 2] = [81_057, 81_058];
/// The id of a record is not known (any more).
const GONE: u32 = 81_044;
/// A, AAAA or CNAME beside a CNAME, or beside an NS.
const CONFLICT: [u32; 3] = [81_053, 81_054, 81_056];
/// No more records fit into the zone.
const QUOTA: u32 = 81_045;
/// Missing, malformed, wrong or insufficient credentials.
const CREDENTIALS: [u32; 12] = [1_000, 6_003, 6_100, 6_102, 6_103, 6_111, 9_103, 9_106, 9_107, 9_109, 10_000, 10_001];
/// The zone's id leads nowhere.
const NO_ZONE: [u32; 4] = [1_001, 1_049, 7_000, 7_003];

#[derive(Debug, Deserialize)]
struct Envelope<D> {
    result: Option<D>,
    success: bool,
    result_info: Option<Info>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Info {
    total_count: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Said>,
}

/// One error, in Cloudflare's words.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    error_chain: Vec<Said>,
}

impl Said {
    fn all<'a>(&'a self, into: &mut Vec<&'a Said>) {
        into.push(self);
        self.error_chain.iter().for_each(|said| said.all(into));
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Zone {
    pub id: String,
    pub name: String,
    /// `full`, `partial`, `secondary` or `internal`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub plan: Option<ZonePlan>,
    /// RFC 3339.
    pub created_on: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ZonePlan {
    pub legacy_id: Option<String>,
}

impl Zone {
    /// A secondary zone holds what its primary says.
    pub fn writable(&self) -> bool {
        self.kind.as_deref() != Some("secondary")
    }

    pub fn to_ref(&self) -> ZoneRef {
        ZoneRef { id: self.id.clone(), name: crate::records::absolute(&self.name) }
    }
}

/// A list, and whether nothing of it is missing.
#[derive(Debug)]
pub struct Listed<D> {
    pub items: Vec<D>,
    pub complete: bool,
}

trait Identified {
    fn id(&self) -> &str;
}

impl Identified for Record {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for Zone {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Which records are listed. Filters do not care for case (the API's reference).
#[derive(Debug, Clone, Copy)]
pub enum Filter<'a> {
    All,
    /// Of this name; of this type only, if one is given.
    Name(&'a str, Option<&'a str>),
    /// Whose name ends so, at a label boundary or not.
    Ending(&'a str),
}

/// The API, as far as one zone's settings reach.
pub struct Api<'t, T: Transport> {
    transport: &'t mut T,
    base: String,
    pub zone_id: String,
    account: Option<String>,
    pub calls: u32,
}

impl<'t, T: Transport> Api<'t, T> {
    pub fn new(transport: &'t mut T, url: &str, zone_id: &str, account: Option<String>) -> Self {
        let base = url.trim_end_matches('/').to_owned();
        Self { transport, base, zone_id: zone_id.to_owned(), account, calls: 0 }
    }

    fn ask<D: DeserializeOwned>(&mut self, write: bool, request: Request) -> Result<(D, Option<Info>), Problem> {
        self.calls += 1;
        let response = self
            .transport
            .send(&request.header("Authorization", "Bearer {{api-token}}"))
            .map_err(|failure| Problem::from_http(failure, write))?;
        match response.json::<Envelope<D>>() {
            Ok(Envelope { result: Some(result), success: true, result_info }) if response.is_success() => {
                Ok((result, result_info))
            }
            // `success: false` in a 200 is an error like any other.
            Ok(Envelope { success: false, .. }) => Err(problem_of(write, &response)),
            _ if !response.is_success() => Err(problem_of(write, &response)),
            Ok(_) => Err(malformed(write, &response, "it has no result")),
            Err(error) => Err(malformed(write, &response, &error.to_string())),
        }
    }

    fn pages<D: DeserializeOwned + Identified>(
        &mut self,
        per_page: u32,
        request: &Request,
        stop: impl Fn() -> bool,
    ) -> Result<Listed<D>, Problem> {
        let mut items: Vec<D> = Vec::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut totals: BTreeSet<u64> = BTreeSet::new();
        for page in 1..=PAGES {
            if page > 1 && stop() {
                return Ok(Listed { items, complete: false });
            }
            let request = request.clone().query("page", page.to_string()).query("per_page", per_page.to_string());
            let (found, info): (Vec<D>, _) = self.ask(false, request)?;
            let total = info.and_then(|i| i.total_count).ok_or_else(|| {
                Problem::report_bug(
                    "malformed-answer",
                    "Cloudflare answered with a list that does not say how long it is.",
                )
            })?;
            totals.insert(total);
            let before = seen.len();
            for item in found {
                if seen.insert(item.id().to_owned()) {
                    items.push(item);
                }
            }
            // All are there, or a further page brings nothing new.
            if seen.len() as u64 >= total || seen.len() == before {
                break;
            }
        }
        // A list that grew or shrank meanwhile has moved under the pages.
        let complete = totals.len() == 1 && totals.first() == Some(&(seen.len() as u64));
        Ok(Listed { items, complete })
    }

    /// All zones that the token reaches; those of the account only, if the settings name one.
    pub fn zones(&mut self, stop: impl Fn() -> bool) -> Result<Listed<Zone>, Problem> {
        let mut request = Request::get(format!("{}/zones", self.base));
        if let Some(account) = &self.account {
            request = request.query("account.id", account);
        }
        self.pages(ZONES_PER_PAGE, &request, stop)
    }

    /// The zone of the settings, if it has this name.
    pub fn zone(&mut self, name: &str) -> Result<Zone, Problem> {
        let name = names::canonical(name).map_err(|e| Problem::fix_input("zone-name", e.to_string()))?;
        let request = Request::get(format!("{}/zones/{}", self.base, segment(&self.zone_id)));
        let (zone, _): (Zone, _) = self.ask(false, request)?;
        if names::labels(&zone.name) == names::labels(&name) {
            return Ok(zone);
        }
        Err(Problem::fix_config(
            "zone-not-found",
            format!(
                "The zone ID in the settings is that of {} and not of {name} Enter the one of this zone.",
                zone.name
            ),
        ))
    }

    fn records_url(&self, zone_id: &str) -> String {
        format!("{}/zones/{}/dns_records", self.base, segment(zone_id))
    }

    /// How many records the zone has.
    pub fn count(&mut self, zone_id: &str) -> Result<Option<u64>, Problem> {
        let request = Request::get(self.records_url(zone_id)).query("page", "1").query("per_page", "1");
        let (_, info): (Vec<Record>, _) = self.ask(false, request)?;
        Ok(info.and_then(|i| i.total_count))
    }

    pub fn records(
        &mut self,
        zone_id: &str,
        filter: Filter<'_>,
        stop: impl Fn() -> bool,
    ) -> Result<Listed<Record>, Problem> {
        let mut request = Request::get(self.records_url(zone_id));
        match filter {
            Filter::All => {}
            Filter::Name(name, rtype) => {
                request = request.query("name.exact", crate::records::bare(name));
                if let Some(rtype) = rtype {
                    request = request.query("type", rtype);
                }
            }
            Filter::Ending(name) => request = request.query("name.endswith", crate::records::bare(name)),
        }
        self.pages(RECORDS_PER_PAGE, &request, stop)
    }

    /// Deletes, then patches, then posts, in one transaction
    /// (<https://developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes/>).
    pub fn batch(&mut self, zone_id: &str, body: &Json) -> Result<(), Problem> {
        let request = Request::new("POST", format!("{}/batch", self.records_url(zone_id))).json(body);
        self.ask::<Json>(true, request).map(|_| ())
    }
}

/// A segment of a path.
fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A 2xx that can't be read. A write may well have been done.
fn malformed(write: bool, response: &Response, why: &str) -> Problem {
    let message = format!("Cloudflare answered {}, but not with the JSON that was expected ({why}).", response.status);
    let problem = if write {
        Problem::verify("malformed-answer", message)
    } else {
        Problem::report_bug("malformed-answer", message)
    };
    problem.status(response.status)
}

fn problem_of(write: bool, response: &Response) -> Problem {
    let status = response.status;
    let Errors { errors } = response.json().unwrap_or_default();
    let mut all: Vec<&Said> = Vec::new();
    errors.iter().for_each(|said| said.all(&mut all));
    let has = |codes: &[u32]| all.iter().any(|said| codes.contains(&said.code));
    let said = if all.is_empty() {
        format!("{status} {}", response.excerpt(300))
    } else {
        let list: Vec<String> = all.iter().map(|s| format!("{} {}", s.code, s.message)).collect();
        list.join("; ").chars().take(300).collect()
    };
    let at_gateway = || format!("Something in front of the API answered {said}");
    let mut problem = match status {
        429 => Problem::wait("rate-limited", format!("Cloudflare asks to wait: {said}"), Some(wait_ms(response))),
        // 403 is also said of a zone that the token does not reach.
        401 | 403 => refused_credentials(&said),
        _ if has(&CREDENTIALS) => refused_credentials(&said),
        _ if has(&THERE) => Problem::replan("already-there", format!("Cloudflare has such a record already: {said}")),
        _ if has(&[GONE]) => Problem::replan("gone", format!("A record was deleted meanwhile: {said}")),
        _ if has(&CONFLICT) => Problem::fix_input("conflict", format!("Another record is in the way: {said}")),
        _ if has(&[QUOTA]) => Problem::fix_config(
            "quota",
            format!("The zone has as many records as its plan allows ({said}). Remove some, or take a larger plan."),
        ),
        _ if has(&NO_ZONE) => Problem::fix_config(
            "zone-not-found",
            format!("Cloudflare does not know this zone ID ({said}). Copy it from the zone's overview."),
        ),
        300..=399 => Problem::fix_config(
            "redirect",
            format!("The address answers with a redirect ({status}). Enter the address that it points to."),
        ),
        404 if all.is_empty() => Problem::fix_config(
            "server-not-found",
            format!("The address answers, but not as the API does ({said}). Check the address of the API."),
        ),
        // 520 to 530: Cloudflare's own proxy in front of its API.
        502 | 504 | 520..=530 if write => Problem::verify("gateway", at_gateway()),
        502 | 504 | 520..=530 => Problem::retry("gateway", at_gateway()),
        // Whether the transaction was kept is not said.
        500..=599 if write => Problem::verify("server-error", format!("Cloudflare has a fault of its own: {said}")),
        500..=599 => Problem::retry("server-error", format!("Cloudflare has a fault of its own: {said}")),
        _ if write && !all.is_empty() => {
            Problem::fix_input("refused", format!("Cloudflare refused the records: {said}"))
        }
        _ => Problem::report_bug("unexpected-answer", format!("Cloudflare answered {said}")),
    };
    problem.provider_code = all.first().map(|said| said.code.to_string());
    problem.status(status)
}

fn refused_credentials(said: &str) -> Problem {
    Problem::fix_config(
        "credentials",
        format!(
            "Cloudflare refused the API token for this zone ({said}). It needs Zone Read and DNS Edit there; compare token and \
             zone ID."
        ),
    )
}

/// How a batch is written.
pub fn batch_body(deletes: &[Json], patches: &[Json], posts: &[Json]) -> Json {
    let mut body = serde_json::Map::new();
    for (key, list) in [("deletes", deletes), ("patches", patches), ("posts", posts)] {
        if !list.is_empty() {
            body.insert(key.to_owned(), json!(list));
        }
    }
    Json::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, text: &str) -> Response {
        Response { status, text: text.into(), ..Response::default() }
    }

    fn error(code: u32) -> String {
        json!({"result": null, "success": false, "errors": [{"code": code, "message": "Words."}], "messages": []})
            .to_string()
    }

    #[test]
    fn each_answer_has_its_meaning() {
        use ProblemAction as A;
        let chain = r#"{"success":false,"errors":[{"code":1004,"message":"DNS Validation Error",
            "error_chain":[{"code":9021,"message":"TTL must be between"}]}]}"#;
        let headers = r#"{"success":false,"errors":[{"code":6003,"message":"Invalid request headers",
            "error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]}]}"#;
        for (write, status, text, action, code) in [
            (false, 403, error(10_000), A::FixConfig, "credentials"),
            (false, 401, String::new(), A::FixConfig, "credentials"),
            (false, 400, headers.into(), A::FixConfig, "credentials"),
            (false, 404, error(7_003), A::FixConfig, "zone-not-found"),
            (false, 404, "<html>".into(), A::FixConfig, "server-not-found"),
            (true, 400, error(81_045), A::FixConfig, "quota"),
            (true, 400, error(81_058), A::Replan, "already-there"),
            (true, 400, error(81_057), A::Replan, "already-there"),
            (true, 404, error(81_044), A::Replan, "gone"),
            (true, 400, error(81_053), A::FixInput, "conflict"),
            (true, 400, chain.into(), A::FixInput, "refused"),
            (true, 429, error(971), A::Wait, "rate-limited"),
            (true, 502, "<html>".into(), A::Verify, "gateway"),
            (false, 502, "<html>".into(), A::Retry, "gateway"),
            (true, 522, "<html>".into(), A::Verify, "gateway"),
            (true, 500, "oops".into(), A::Verify, "server-error"),
            (false, 500, "oops".into(), A::Retry, "server-error"),
            (false, 302, String::new(), A::FixConfig, "redirect"),
            (false, 400, error(1_234), A::ReportBug, "unexpected-answer"),
        ] {
            let problem = problem_of(write, &answer(status, &text));
            assert_eq!((problem.action, problem.code.as_str()), (action, code), "{status} {text}");
            assert_eq!(problem.http_status, Some(status));
        }
        let refused = problem_of(true, &answer(400, chain));
        assert!(refused.message.contains("9021 TTL must be between"), "{}", refused.message);
        assert_eq!(refused.provider_code.as_deref(), Some("1004"));
    }
}
