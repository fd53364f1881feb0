//! The requests of the API and the meaning of its answers. One request a call but for lists, whose pages are fetched here; none
//! is repeated; `calls` counts them.
//!
//! An error has a code, and which status goes with it is documented for a few only: the code counts
//! (<https://docs.hetzner.cloud/reference/cloud#errors>, `hcloud/error.go` of the official Go client).

use std::collections::BTreeSet;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;

/// Documented as the most, for sets and for the rest.
const SETS_PER_PAGE: u32 = 100;
const ZONES_PER_PAGE: u32 = 50;
const ACTIONS_PER_PAGE: usize = 50;
/// Pages that are fetched in one call. What has more is told as incomplete.
const PAGES: u64 = 150;
/// Longer is not believed.
const LONGEST_MS: u32 = 3_600_000;

#[derive(Debug, Clone, Deserialize)]
pub struct Zone {
    pub id: u64,
    pub name: String,
    /// `primary` or `secondary`.
    #[serde(default)]
    pub mode: String,
    pub ttl: Option<u32>,
    pub record_count: Option<u32>,
}

impl Zone {
    /// A secondary zone holds what its primary says.
    pub fn writable(&self) -> bool {
        self.mode != "secondary"
    }

    pub fn to_ref(&self) -> ZoneRef {
        let name = names::canonical(&self.name).unwrap_or_else(|_| self.name.clone());
        ZoneRef { id: self.id.to_string(), name }
    }
}

/// A value and what people wrote beside it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    pub value: String,
    #[serde(default)]
    pub comment: Option<String>,
}

impl Row {
    pub fn to_json(&self) -> Json {
        match &self.comment {
            Some(comment) if !comment.is_empty() => json!({ "value": self.value, "comment": comment }),
            _ => json!({ "value": self.value }),
        }
    }
}

/// A set as it is listed. Its name is relative to the zone, `@` for the zone itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Listed {
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    /// None: the zone's.
    pub ttl: Option<u32>,
    pub records: Vec<Row>,
}

#[derive(Debug, Clone, Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A write that was taken on.
#[derive(Debug, Clone, Deserialize)]
pub struct Action {
    pub id: u64,
    status: String,
    error: Option<Said>,
}

impl Action {
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }

    /// # Errors
    /// It ended in one. Whether a part was done is not said.
    pub fn done(&self) -> Result<(), Problem> {
        match (self.status.as_str(), &self.error) {
            ("success" | "running", _) => Ok(()),
            (_, Some(Said { code, message })) => {
                let text = format!("Hetzner took the change on and could not do it: {code} {message}");
                Err(Problem { provider_code: Some(code.clone()), ..Problem::verify("action-failed", text) })
            }
            (other, None) => {
                Err(Problem::verify("action-failed", format!("Hetzner says `{other}` of a change that it took on.")))
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Pagination {
    next_page: Option<u64>,
    last_page: Option<u64>,
    total_entries: Option<u64>,
}

/// A list, and whether nothing of it is missing.
#[derive(Debug)]
pub struct Pages<D> {
    pub items: Vec<D>,
    pub complete: bool,
}

/// What a request was about, for the meaning of `not_found`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Zone,
    Write,
    Action,
}

/// What is written to a set.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Create {
        ttl: Option<u32>,
        rows: Vec<Row>,
    },
    Add(Vec<Row>),
    /// The set goes with its last value.
    Remove(Vec<Row>),
    Set(Vec<Row>),
    Retime(Option<u32>),
}

pub struct Api<'t, T: Transport> {
    transport: &'t mut T,
    base: String,
    /// The zone's name in the settings.
    zone: String,
    pub calls: u32,
}

impl<'t, T: Transport> Api<'t, T> {
    pub fn new(transport: &'t mut T, url: &str, zone: &str) -> Self {
        let base = url.trim_end_matches('/').to_owned();
        Self { transport, base, zone: zone.trim_end_matches('.').to_owned(), calls: 0 }
    }

    fn ask(&mut self, about: About, request: &Request) -> Result<Json, Problem> {
        self.calls += 1;
        let is_write = about == About::Write;
        let request = request.clone().header("Authorization", "Bearer {{api-token}}");
        let response = self.transport.send(&request).map_err(|failure| Problem::from_http(failure, is_write))?;
        if !response.is_success() {
            return Err(problem_of(about, &response));
        }
        response.json::<Json>().map_err(|error| malformed(is_write, &error.to_string()).status(response.status))
    }

    fn part<D: DeserializeOwned>(is_write: bool, mut answer: Json, key: &str) -> Result<D, Problem> {
        let part = answer.get_mut(key).map(Json::take).unwrap_or_default();
        serde_json::from_value(part).map_err(|error| malformed(is_write, &format!("`{key}`: {error}")))
    }

    /// All pages; the first only if `enough` says so of how many there are.
    fn pages<D: DeserializeOwned>(
        &mut self,
        request: &Request,
        (key, per_page): (&str, u32),
        id: impl Fn(&D) -> String,
        enough: impl Fn(u64) -> bool,
        stop: impl Fn() -> bool,
    ) -> Result<Pages<D>, Problem> {
        let (mut items, mut seen, mut totals) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut page = 1;
        let is_whole = loop {
            let asked = request.clone().query("page", page.to_string()).query("per_page", per_page.to_string());
            let mut answer = self.ask(About::Zone, &asked)?;
            let said = answer.pointer_mut("/meta/pagination").map(Json::take).unwrap_or_default();
            let said: Pagination = serde_json::from_value(said)
                .map_err(|_| malformed(false, "it is a list that does not say how long it is"))?;
            totals.insert(said.total_entries);
            let before = seen.len();
            for item in Self::part::<Vec<D>>(false, answer, key)? {
                if seen.insert(id(&item)) {
                    items.push(item);
                }
            }
            match said.next_page {
                None => break true,
                // A further page that brings nothing new never will.
                Some(_) if seen.len() == before => break false,
                Some(next) if next > PAGES || said.last_page.is_some_and(&enough) || stop() => break false,
                Some(next) => page = next,
            }
        };
        // A list that grew or shrank meanwhile has moved under the pages.
        let total = totals.first().copied().flatten();
        let complete = is_whole && totals.len() == 1 && total.is_none_or(|total| total == seen.len() as u64);
        Ok(Pages { items, complete })
    }

    /// All zones of the project.
    pub fn zones(&mut self, stop: impl Fn() -> bool) -> Result<Pages<Zone>, Problem> {
        let request = Request::get(format!("{}/zones", self.base));
        self.pages(&request, ("zones", ZONES_PER_PAGE), |zone: &Zone| zone.id.to_string(), |_| false, stop)
    }

    /// The zone of the settings, if it has this name.
    pub fn zone(&mut self, name: &str) -> Result<Zone, Problem> {
        let name = names::canonical(name).map_err(|e| Problem::fix_input("zone-name", e.to_string()))?;
        let request = Request::get(format!("{}/zones/{}", self.base, segment(&self.zone)));
        let zone: Zone = Self::part(false, self.ask(About::Zone, &request)?, "zone")?;
        if names::labels(&zone.name) == names::labels(&name) {
            return Ok(zone);
        }
        let text = format!("The zone in the settings is {} and not {name} Enter the name of this zone.", zone.name);
        Err(Problem::fix_config("zone-not-found", text))
    }

    fn sets_url(&self) -> String {
        format!("{}/zones/{}/rrsets", self.base, segment(&self.zone))
    }

    /// All sets; not more than the first page of them if `enough` says so of the number of pages.
    pub fn sets(&mut self, enough: impl Fn(u64) -> bool, stop: impl Fn() -> bool) -> Result<Pages<Listed>, Problem> {
        let request = Request::get(self.sets_url());
        self.pages(&request, ("rrsets", SETS_PER_PAGE), listed_id, enough, stop)
    }

    /// All sets of one name, which is relative to the zone.
    pub fn sets_of(&mut self, name: &str, stop: impl Fn() -> bool) -> Result<Pages<Listed>, Problem> {
        let request = Request::get(self.sets_url()).query("name", name);
        self.pages(&request, ("rrsets", SETS_PER_PAGE), listed_id, |_| false, stop)
    }

    /// Hands a write over. `name` is relative to the zone.
    pub fn write(&mut self, name: &str, rtype: &str, write: &Write) -> Result<Action, Problem> {
        let rows = |rows: &[Row]| rows.iter().map(Row::to_json).collect::<Vec<_>>();
        let (command, body) = match write {
            Write::Create { ttl, rows: new } => {
                let mut body = json!({ "name": name, "type": rtype, "records": rows(new) });
                if let (Some(ttl), Some(map)) = (ttl, body.as_object_mut()) {
                    map.insert("ttl".into(), (*ttl).into());
                }
                (None, body)
            }
            Write::Add(new) => (Some("add_records"), json!({ "records": rows(new) })),
            Write::Remove(old) => (Some("remove_records"), json!({ "records": rows(old) })),
            Write::Set(all) => (Some("set_records"), json!({ "records": rows(all) })),
            Write::Retime(ttl) => (Some("change_ttl"), json!({ "ttl": ttl })),
        };
        let url = match command {
            None => self.sets_url(),
            Some(command) => format!("{}/{}/{rtype}/actions/{command}", self.sets_url(), segment(name)),
        };
        let answer = self.ask(About::Write, &Request::new("POST", url).json(&body))?;
        Self::part(true, answer, "action")
    }

    /// What became of these so far, as far as Hetzner says so.
    pub fn actions(&mut self, ids: &[u64]) -> Result<Vec<Action>, Problem> {
        let mut found = Vec::new();
        for ids in ids.chunks(ACTIONS_PER_PAGE) {
            let mut request = Request::get(format!("{}/zones/actions", self.base));
            for id in ids {
                request = request.query("id", id.to_string());
            }
            let request = request.query("per_page", ACTIONS_PER_PAGE.to_string());
            found.extend(Self::part::<Vec<Action>>(false, self.ask(About::Action, &request)?, "actions")?);
        }
        Ok(found)
    }

    pub fn action(&mut self, id: u64) -> Result<Action, Problem> {
        let request = Request::get(format!("{}/zones/actions/{id}", self.base));
        Self::part(false, self.ask(About::Action, &request)?, "action")
    }
}

fn listed_id(set: &Listed) -> String {
    format!("{}/{}", set.name, set.rtype)
}

/// A segment of a path, as the official client writes it: `@` and `*` stay.
fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b'*' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A 2xx that can't be read. A write may well have been taken on.
fn malformed(is_write: bool, why: &str) -> Problem {
    let message = format!("Hetzner did not answer with the JSON that was expected ({why}).");
    if is_write {
        Problem::verify("malformed-answer", message)
    } else {
        Problem::report_bug("malformed-answer", message)
    }
}

/// `Retry-After`, or until `RateLimit-Reset`, a moment in seconds since 1970, as seen from the answer's own `Date`
/// (<https://docs.hetzner.cloud/reference/cloud#rate-limiting>: 3,600 requests an hour, of which one comes back each second).
fn wait_ms(response: &Response) -> Option<u32> {
    let reset = || {
        let until: i64 = response.header("ratelimit-reset")?.trim().parse().ok()?;
        let now = http::http_date(response.header("date")?)?;
        Some(u32::try_from((until - now).max(1)).ok()?.saturating_mul(1_000))
    };
    response.retry_after_ms().or_else(reset).map(|ms| ms.clamp(1_000, LONGEST_MS))
}

fn problem_of(about: About, response: &Response) -> Problem {
    #[derive(Default, Deserialize)]
    struct Errors {
        error: Option<Said>,
    }
    let status = response.status;
    let is_write = about == About::Write;
    let Errors { error } = response.json().unwrap_or_default();
    let code = error.as_ref().map(|said| said.code.clone()).unwrap_or_default();
    let said = match &error {
        Some(Said { code, message }) => format!("{code} {message}").chars().take(300).collect(),
        None => format!("{status} {}", response.excerpt(200)),
    };
    let fault = || {
        let text = format!("Hetzner has a fault of its own: {said}");
        // Whether the action was taken on is not said.
        if is_write { Problem::verify("server-error", text) } else { Problem::retry("server-error", text) }
    };
    let mut problem = match (code.as_str(), status) {
        ("unauthorized" | "forbidden" | "token_readonly", _) | ("", 401 | 403) => Problem::fix_config(
            "credentials",
            format!("Hetzner refused the API token ({said}). It must be of the zone's project, with Read & Write."),
        ),
        ("rate_limit_exceeded", _) | (_, 429) => {
            Problem::wait("rate-limited", format!("Hetzner asks to wait: {said}"), wait_ms(response))
        }
        ("resource_limit_exceeded", _) => {
            Problem::fix_config("quota", format!("No more records fit at Hetzner ({said}). Ask for a higher limit."))
        }
        ("incorrect_zone_mode", _) => Problem::fix_config(
            "zone-not-writable",
            format!("The zone is a copy of another server's at Hetzner: write to its primary instead ({said})."),
        ),
        ("protected", _) => Problem::fix_config(
            "protected",
            format!("The record set is protected from changes in the Hetzner Console: take that off ({said})."),
        ),
        ("locked", _) => Problem::retry("locked", format!("Hetzner is still at an earlier change: {said}")),
        ("conflict" | "uniqueness_error", _) => {
            Problem::replan("changed", format!("The records are not as they were: {said}"))
        }
        ("not_found", _) => match about {
            About::Zone => Problem::fix_config(
                "zone-not-found",
                format!("The project of this token has no such zone ({said}). Compare the zone's name and the token."),
            ),
            About::Write => Problem::replan("changed", format!("The records are gone: {said}")),
            About::Action => Problem::verify("unknown-operation", format!("Hetzner does not know this change: {said}")),
        },
        ("invalid_input" | "json_error", _) if is_write => {
            Problem::fix_input("refused", format!("Hetzner refused the records: {said}"))
        }
        ("maintenance" | "resource_unavailable", _) => {
            Problem::retry("maintenance", format!("Hetzner does not take changes just now: {said}"))
        }
        ("resource_locked" | "deprecated_api_endpoint" | "unsupported_error", _) => {
            Problem::fix_config("refused-by-hetzner", format!("Hetzner does not do this: {said}"))
        }
        ("", 404) => Problem::fix_config(
            "server-not-found",
            format!("The address answers, but not as the API does ({said}). Check the address of the API."),
        ),
        (_, 300..=399) => Problem::fix_config(
            "redirect",
            format!("The address answers with a redirect ({status}). Enter the address that it points to."),
        ),
        (_, 500..=599) => fault(),
        _ => Problem::report_bug("unexpected-answer", format!("Hetzner answered {said}")),
    };
    problem.provider_code = Some(code).filter(|code| !code.is_empty());
    problem.status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Response {
        let text = match code {
            "" => "<html>".to_owned(),
            code => json!({"error": {"code": code, "message": "Words.", "details": {}}}).to_string(),
        };
        Response { status, text, ..Response::default() }
    }

    #[test]
    fn each_answer_has_its_meaning() {
        use About as O;
        use ProblemAction as A;
        for (about, status, said, action, code) in [
            (O::Zone, 401, "unauthorized", A::FixConfig, "credentials"),
            (O::Write, 403, "token_readonly", A::FixConfig, "credentials"),
            (O::Zone, 404, "not_found", A::FixConfig, "zone-not-found"),
            (O::Write, 404, "not_found", A::Replan, "changed"),
            (O::Action, 404, "not_found", A::Verify, "unknown-operation"),
            (O::Zone, 404, "", A::FixConfig, "server-not-found"),
            (O::Write, 409, "uniqueness_error", A::Replan, "changed"),
            (O::Write, 409, "conflict", A::Replan, "changed"),
            (O::Write, 423, "locked", A::Retry, "locked"),
            (O::Write, 422, "invalid_input", A::FixInput, "refused"),
            (O::Zone, 422, "incorrect_zone_mode", A::FixConfig, "zone-not-writable"),
            (O::Write, 403, "protected", A::FixConfig, "protected"),
            (O::Write, 403, "resource_limit_exceeded", A::FixConfig, "quota"),
            (O::Write, 429, "rate_limit_exceeded", A::Wait, "rate-limited"),
            (O::Write, 503, "maintenance", A::Retry, "maintenance"),
            (O::Write, 500, "server_error", A::Verify, "server-error"),
            (O::Write, 502, "", A::Verify, "server-error"),
            (O::Zone, 504, "timeout", A::Retry, "server-error"),
            (O::Zone, 302, "", A::FixConfig, "redirect"),
            (O::Zone, 422, "invalid_input", A::ReportBug, "unexpected-answer"),
            (O::Zone, 418, "", A::ReportBug, "unexpected-answer"),
        ] {
            let problem = problem_of(about, &answer(status, said));
            assert_eq!((problem.action, problem.code.as_str()), (action, code), "{about:?} {status} {said}");
            assert_eq!(problem.http_status, Some(status));
        }
    }

    #[test]
    fn a_pause_is_what_was_asked_for_or_until_the_limit_is_reset() {
        let wait = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            wait_ms(&Response { status: 429, headers, text: String::new() })
        };
        let now = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(wait(&[now, ("retry-after", "7"), ("RateLimit-Reset", "1445412580")]), Some(7_000));
        assert_eq!(wait(&[now, ("RateLimit-Reset", "1445412485")]), Some(5_000));
        assert_eq!(wait(&[now, ("RateLimit-Reset", "1445412000")]), Some(1_000));
        assert_eq!(wait(&[now, ("RateLimit-Reset", "1545412480")]), Some(3_600_000));
        assert_eq!(wait(&[("RateLimit-Reset", "1445412485")]), None);
    }

    #[test]
    fn an_action_that_ended_badly_is_looked_at_again() {
        let action = |text: &str| serde_json::from_str::<Action>(text).unwrap();
        assert!(action(r#"{"id": 1, "status": "running", "error": null}"#).is_running());
        assert!(action(r#"{"id": 1, "status": "success", "error": null}"#).done().is_ok());
        let failed =
            action(r#"{"id": 1, "status": "error", "error": {"code": "action_failed", "message": "Action failed"}}"#);
        let problem = failed.done().unwrap_err();
        assert_eq!((problem.action, problem.provider_code.as_deref()), (ProblemAction::Verify, Some("action_failed")));
    }
}
