//! The requests of the plain API (`sdk/testkit/src/facades/plain.rs`) and what its answers mean.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;

/// Pages that are asked for: what has more is no zone of ours.
const PAGES: usize = 180;

#[derive(Debug, Clone, Deserialize)]
pub struct Zone {
    pub id: String,
    pub name: String,
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub data: String,
    pub ttl: Option<u32>,
    pub disabled: bool,
}

/// A list, and whether it is surely whole.
pub struct Listed<T> {
    pub all: Vec<T>,
    pub whole: bool,
}

pub struct Api {
    base: String,
    pub calls: u32,
    /// Writes that were taken on for later.
    pub actions: Vec<String>,
    /// The case of the kit that is broken; 0 = none.
    mutation: u32,
}

impl Api {
    pub fn new(call: &Call) -> Result<Self, Problem> {
        let base = call
            .config("server-url")
            .ok_or_else(|| Problem::fix_config("server-url", "The setting `server-url` is missing."))?;
        let mutation = call.config("mutation").and_then(|m| m.parse().ok()).unwrap_or(0);
        Ok(Self { base: base.trim_end_matches('/').to_owned(), calls: 0, actions: Vec::new(), mutation })
    }

    pub fn breaks(&self, case: u32) -> bool {
        self.mutation == case
    }

    fn send(&mut self, request: Request, write: bool) -> Result<Response, Problem> {
        self.calls += 1;
        let mut request = request.header("Authorization", "Bearer {{token}}");
        if self.breaks(47) && write {
            request = request.query("token", "{{token}}");
        }
        let mut response = http::Host.send(&request);
        if self.breaks(22) && response.as_ref().is_ok_and(|r| matches!(r.status, 401 | 403)) {
            response = http::Host.send(&request);
        }
        let response = response.map_err(|failure| {
            let lost = if self.breaks(24) { false } else { write };
            Problem::from_http(failure, lost)
        })?;
        if response.status == 202 {
            let action = response.json::<Json>().ok().and_then(|j| Some(j.get("action")?.as_str()?.to_owned()));
            self.actions.extend(action);
        }
        let fine = response.is_success() || (self.breaks(28) && (300..400).contains(&response.status));
        if fine { Ok(response) } else { Err(self.problem(&response, write)) }
    }

    fn problem(&self, response: &Response, write: bool) -> Problem {
        let status = response.status;
        let said = response.excerpt(200);
        let problem = match status {
            401 | 403 => Problem::fix_config("credentials", format!("The token was refused ({status} {said}).")),
            402 if self.breaks(50) => Problem::retry("quota", said),
            402 => Problem::fix_config("quota", format!("No more records fit ({said}).")),
            404 if said.contains("no-such-zone") => zone_not_found(),
            404 => Problem::replan("gone", format!("What was to be changed is gone ({said}).")),
            409 | 422 => Problem::fix_input("refused", format!("The record was refused ({status} {said}).")),
            423 => Problem::fix_config("read-only", "The zone takes no writes."),
            429 => {
                if self.breaks(21) {
                    let until = clock::monotonic_ms() + 2_500;
                    while clock::monotonic_ms() < until {
                        // Not to be stopped for calling the host too often.
                        std::hint::black_box((0..100_000u64).fold(0, |a, b| std::hint::black_box(a ^ b)));
                    }
                }
                if self.breaks(20) {
                    Problem::retry("rate-limited", said)
                } else {
                    Problem::wait("rate-limited", format!("Too many requests ({said})."), response.retry_after_ms())
                }
            }
            500 | 503 => Problem::retry("broken", format!("The provider has a fault of its own ({status} {said}).")),
            502 | 504 if write => Problem::verify("gateway", format!("Something in between answered {status}: {said}")),
            502 | 504 => Problem::retry("gateway", format!("Something in between answered {status}: {said}")),
            300..=399 => Problem::fix_config("redirect", format!("The provider answers with a redirect ({status}).")),
            _ => Problem::report_bug("unexpected-status", format!("The provider answered {status}: {said}")),
        };
        problem.status(status)
    }

    /// All pages of a list; not whole where the pages do not fit together.
    fn pages<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
        key: &str,
        filter: &[(&str, &str)],
        id: impl Fn(&T) -> String,
    ) -> Result<Listed<T>, Problem> {
        let (mut all, mut whole, mut first_total) = (Vec::<T>::new(), true, None);
        for page in 1..=PAGES {
            let mut request = Request::get(format!("{}{path}", self.base)).query("page", page.to_string());
            for (name, value) in filter {
                request = request.query(*name, *value);
            }
            let response = self.send(request, false)?;
            let text = &response.text;
            let parsed: Result<Json, _> = serde_json::from_str(text);
            if self.breaks(23) {
                assert!(parsed.is_ok(), "what came is no JSON");
            }
            let bug = |why: &str| {
                Problem::report_bug(
                    "malformed-answer",
                    format!("The provider answered {}, but not with a list ({why}).", response.status),
                )
            };
            let (rows, total) = match parsed {
                Err(_) if self.breaks(48) => return Ok(Listed { all, whole: true }),
                Err(error) => return Err(bug(&error.to_string())),
                Ok(json) => {
                    let rows = json.get(key).cloned().ok_or_else(|| bug("no rows"))?;
                    let total = json.get("total").and_then(Json::as_u64).ok_or_else(|| bug("no total"))?;
                    let rows: Vec<T> = serde_json::from_value(rows).map_err(|e| bug(&e.to_string()))?;
                    (rows, usize::try_from(total).unwrap_or(usize::MAX))
                }
            };
            let empty = rows.is_empty();
            all.extend(rows);
            // A total that changes says that the zone changed: pages may overlap, or leave a gap.
            whole &= *first_total.get_or_insert(total) == total;
            let done = if self.breaks(9) { empty } else { empty || all.len() >= total };
            if done || (self.breaks(7) && key == "records") || (self.breaks(10) && key == "zones") {
                break;
            }
        }
        let ids: std::collections::BTreeSet<String> = all.iter().map(&id).collect();
        whole &= ids.len() == all.len() && (Some(all.len()) == first_total || self.breaks(7));
        Ok(Listed { all, whole: whole || self.breaks(8) })
    }

    pub fn zones(&mut self) -> Result<Listed<Zone>, Problem> {
        self.pages("/zones", "zones", &[], |z: &Zone| z.id.clone())
    }

    pub fn zone(&mut self, name: &str) -> Result<Zone, Problem> {
        if self.breaks(4) {
            let zones = self.zones()?.all;
            return zones.into_iter().find(|z| z.name.ends_with(name)).ok_or_else(zone_not_found);
        }
        let found = self.pages("/zones", "zones", &[("name", name)], |z: &Zone| z.id.clone())?.all;
        found.into_iter().find(|z| names::labels(&z.name) == names::labels(name)).ok_or_else(|| {
            if self.breaks(5) {
                Problem::retry("zone-not-found", "The zone is not there yet.")
            } else {
                zone_not_found()
            }
        })
    }

    /// All records of a zone, or of one name.
    pub fn records(&mut self, zone: &str, name: Option<&str>) -> Result<Listed<Record>, Problem> {
        let filter: Vec<(&str, &str)> =
            name.filter(|_| !self.breaks(12)).map(|name| ("name", name)).into_iter().collect();
        let mut listed =
            self.pages(&format!("/zones/{zone}/records"), "records", &filter, |r: &Record| r.id.clone())?;
        if self.breaks(12) {
            // As if one look had been enough.
            self.records_again(zone)?;
        }
        for record in &mut listed.all {
            if self.breaks(6) {
                record.data = record.data.replace('\\', "");
            }
            if self.breaks(42) {
                record.name = record.name.replace("xn--bcher-kva", "b\u{fc}cher");
            }
            if self.breaks(19) {
                record.disabled = false;
            }
            if self.breaks(46) && record.rtype.starts_with("TYPE") {
                record.rtype = "A".into();
            }
        }
        Ok(listed)
    }

    fn records_again(&mut self, zone: &str) -> Result<(), Problem> {
        let request = Request::get(format!("{}/zones/{zone}/records", self.base)).query("page", "1");
        self.send(request, false).map(|_| ())
    }

    pub fn add(&mut self, zone: &str, name: &str, rtype: &str, data: &str, ttl: Option<u32>) -> Result<(), Problem> {
        let data = if self.breaks(43)
            && rtype == "CNAME"
            && names::is_within(data, name.split_once('.').map_or(name, |(_, rest)| rest))
        {
            format!("{data}{}", name.split_once('.').map_or(name, |(_, rest)| rest))
        } else {
            data.to_owned()
        };
        let name = if self.breaks(41) { name.replace('_', "-") } else { name.to_owned() };
        let name = if self.breaks(40) { name.replace('/', "-") } else { name };
        let body = json!({"name": name, "type": rtype, "data": data, "ttl": ttl});
        let request = Request::new("POST", format!("{}/zones/{zone}/records", self.base)).json(&body);
        self.send(request, true).map(|_| ())
    }

    pub fn retime(&mut self, zone: &str, id: &str, ttl: Option<u32>) -> Result<(), Problem> {
        let request =
            Request::new("PATCH", format!("{}/zones/{zone}/records/{id}", self.base)).json(&json!({"ttl": ttl}));
        self.send(request, true).map(|_| ())
    }

    /// Whether what was taken on is done.
    pub fn done(&mut self, action: &str) -> Result<bool, Problem> {
        let response = self.send(Request::get(format!("{}/actions/{action}", self.base)), false)?;
        let json: Json = response.json().map_err(|e| Problem::report_bug("malformed-answer", e.to_string()))?;
        match json.get("status").and_then(Json::as_str) {
            Some("done") => Ok(true),
            Some("running") => Ok(self.breaks(36)),
            _ => Err(Problem::fix_input(
                "refused",
                format!("The provider refused it in the end: {}", response.excerpt(200)),
            )),
        }
    }

    /// What is gone already is gone.
    pub fn delete(&mut self, zone: &str, id: &str) -> Result<(), Problem> {
        match self.send(Request::new("DELETE", format!("{}/zones/{zone}/records/{id}", self.base)), true) {
            Err(problem) if problem.code == "gone" && !self.breaks(26) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn zone_not_found() -> Problem {
    Problem::fix_config(
        "zone-not-found",
        "The provider has no such zone: make it there, or take it out of the zones here.",
    )
}
