//! Hetzner Cloud's API v1, as far as DNS goes: zones, sets of records, actions.
//!
//! What it takes and answers is what <https://docs.hetzner.cloud/reference/cloud> says of zones, RRSets, actions, pagination and
//! errors, with the recorded answers of go-acme/lego (`providers/dns/hetzner/internal/hetznerv1`) and the codes of the official
//! Go client (`hcloud/error.go`). Which status an error has is documented for a few of them only, so a client must go by its code.
//! Where nothing says what the real one does the request is refused, so that nothing comes to rely on a guess; such places say so.
//!
//! Each write is taken on as an action that runs, and is done later: when the second request after it comes in. Until then
//! nobody sees it, and a second write to the same set ([`Hetzner::locking`]: to the same zone) is `locked`.

mod sets;

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::{
    facade::{Facade, Features, Refusal, Request, Response, Wait, http_date},
    model::{Model, Record, Zone},
};

use sets::Change;

const TOKEN: &str = "jEheVytlAoFl7F8MqUQ7jAo2hOXASztXwHarfTestkit0123456789abcdefghij";
/// Requests an hour (<https://docs.hetzner.cloud/reference/cloud#rate-limiting>).
const REQUESTS: u32 = 3_600;
/// Of zones.
const ZONES_MAX: usize = 50;
/// Of sets, documented as an exception.
const SETS_MAX: usize = 100;
const MOMENT: &str = "2016-01-30T23:55:00+00:00";
/// Requests after which an action is done, unless it is said otherwise.
const LATER: u64 = 2;
/// Of actions.
const ACTIONS_MAX: usize = 50;

/// One project.
#[derive(Debug, Clone)]
pub struct Hetzner {
    actions: Vec<Action>,
    /// Requests so far: the time of this world.
    now: u64,
    later: u64,
    locks_zone: bool,
    fails: bool,
}

impl Default for Hetzner {
    fn default() -> Self {
        Self { actions: Vec::new(), now: 0, later: LATER, locks_zone: false, fails: false }
    }
}

#[derive(Debug, Clone)]
struct Action {
    zone: String,
    name: String,
    change: Change,
    due: u64,
    became: Option<Result<(), String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fail {
    status: u16,
    code: &'static str,
    message: String,
    details: Value,
}

impl Fail {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Value::Null }
    }

    fn invalid(field: &str, why: &str) -> Self {
        let message = format!("invalid input in field '{field}': {why}");
        let details = json!({ "fields": [{ "name": field, "messages": [why] }] });
        Self { details, ..Self::new(422, "invalid_input", message) }
    }

    fn response(&self) -> Response {
        let error = json!({ "code": self.code, "message": self.message, "details": self.details });
        Response::json(self.status, &json!({ "error": error }))
    }
}

fn not_found(what: &str) -> Fail {
    Fail::new(404, "not_found", format!("{what} not found"))
}

fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// What a page holds, and how it speaks of itself (<https://docs.hetzner.cloud/reference/cloud#pagination>).
fn page<T>(
    request: &Request,
    key: &str,
    all: &[T],
    most: usize,
    show: impl Fn(&T) -> Option<Value>,
) -> Result<Value, Fail> {
    let number = |name: &str, default: usize| match request.query(name) {
        None => Ok(default),
        Some(text) => {
            let number = text.parse::<usize>().ok().filter(|n| *n > 0);
            number.ok_or_else(|| Fail::invalid(name, "is not a positive number"))
        }
    };
    let (page, per_page) = (number("page", 1)?, number("per_page", 25)?);
    // What the real one does with more is not known.
    if per_page > most {
        return Err(Fail::invalid("per_page", &format!("is more than {most}")));
    }
    let last = all.len().div_ceil(per_page).max(1);
    let shown: Vec<Value> =
        all.iter().skip((page - 1).saturating_mul(per_page)).take(per_page).filter_map(show).collect();
    Ok(json!({ key: shown, "meta": { "pagination": {
        "page": page, "per_page": per_page, "previous_page": (page > 1).then(|| page - 1),
        "next_page": (page < last).then_some(page + 1), "last_page": last, "total_entries": all.len(),
    } } }))
}

impl Hetzner {
    /// One that takes one write of a zone at a time.
    pub fn locking() -> Self {
        Self { locks_zone: true, ..Self::default() }
    }

    /// One that does a write when so many more requests have come in.
    pub fn taking(requests: u64) -> Self {
        Self { later: requests, ..Self::default() }
    }

    /// One whose actions all end in an error.
    pub fn failing() -> Self {
        Self { fails: true, ..Self::default() }
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// Does what is due.
    fn catch_up(&mut self, model: &mut Model) {
        let (now, fails) = (self.now, self.fails);
        for action in self.actions.iter_mut().filter(|a| a.became.is_none() && a.due <= now) {
            let done = match model.zone_mut(&action.zone) {
                _ if fails => Err("Action failed".to_owned()),
                None => Err("The zone is gone".to_owned()),
                Some(zone) => {
                    action.change.apply(zone, &action.name);
                    zone.serial += 1;
                    Ok(())
                }
            };
            action.became = Some(done);
        }
    }

    fn show_action(&self, at: usize) -> Option<Value> {
        let action = self.actions.get(at)?;
        let (status, progress) = match &action.became {
            None => ("running", 50),
            Some(Ok(())) => ("success", 100),
            Some(Err(_)) => ("error", 50),
        };
        let error = match &action.became {
            Some(Err(why)) => json!({ "code": "action_failed", "message": why }),
            _ => Value::Null,
        };
        Some(json!({
            "id": at + 1, "command": action.change.command(), "status": status, "progress": progress, "started": MOMENT,
            "finished": action.became.as_ref().map(|_| MOMENT), "resources": [{ "id": 42, "type": "zone" }], "error": error,
        }))
    }

    /// Takes a write on.
    fn submit(&mut self, zone: &str, name: String, change: Change) -> Result<Value, Fail> {
        let is_same =
            |a: &Action| a.zone == zone && (self.locks_zone || (a.name == name && a.change.rtype() == change.rtype()));
        if self.actions.iter().any(|a| a.became.is_none() && is_same(a)) {
            return Err(Fail::new(423, "locked", "Item is locked (Another action is running)"));
        }
        let due = self.now + self.later;
        self.actions.push(Action { zone: zone.to_owned(), name, change, due, became: None });
        Ok(self.show_action(self.actions.len() - 1).unwrap_or_default())
    }

    fn route(&mut self, model: &mut Model, request: &Request) -> Result<(u16, Value), Fail> {
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Err(Fail::new(401, "unauthorized", "unable to authenticate"));
        }
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["v1", path @ ..] = parts.as_slice() else { return Err(not_found("path")) };
        match (request.method.as_str(), path) {
            ("GET", ["zones"]) => {
                let fits = |z: &&Zone| request.query("name").is_none_or(|name| bare(&z.name) == name);
                let all: Vec<&Zone> = model.zones.iter().filter(fits).collect();
                Ok((200, page(request, "zones", &all, ZONES_MAX, |zone| Some(show_zone(zone)))?))
            }
            ("GET", ["zones", "actions"]) => {
                let ids: Vec<&str> = request.query.iter().filter(|(n, _)| n == "id").map(|(_, v)| v.as_str()).collect();
                let fits = |at: &usize| ids.is_empty() || ids.contains(&(at + 1).to_string().as_str());
                let all: Vec<usize> = (0..self.actions.len()).filter(fits).collect();
                Ok((200, page(request, "actions", &all, ACTIONS_MAX, |at| self.show_action(*at))?))
            }
            ("GET", ["zones", "actions", id] | ["actions", id]) => {
                let at = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
                let action = at.and_then(|at| self.show_action(at)).ok_or_else(|| not_found("action"))?;
                Ok((200, json!({ "action": action })))
            }
            ("GET", ["zones", zone]) => Ok((200, json!({ "zone": show_zone(zone_of(model, zone)?) }))),
            (method, ["zones", zone, "rrsets", rest @ ..]) => {
                let zone = zone_of(model, zone)?;
                if !zone.writable {
                    let why = "This operation is not supported for this Zone's mode.";
                    return Err(Fail::new(422, "incorrect_zone_mode", why));
                }
                self.rrsets(zone, method, rest, request)
            }
            _ => Err(not_found("path")),
        }
    }

    fn rrsets(&mut self, zone: &Zone, method: &str, rest: &[&str], request: &Request) -> Result<(u16, Value), Fail> {
        let body = || {
            request.json().filter(Value::is_object).ok_or_else(|| Fail::new(400, "json_error", "invalid JSON in body"))
        };
        match (method, rest) {
            ("GET", []) => {
                let all = sets::list(zone, request)?;
                Ok((200, page(request, "rrsets", &all, SETS_MAX, |listed| listed.show(zone))?))
            }
            ("GET", [name, rtype]) => {
                let found = sets::show(zone, name, rtype).ok_or_else(|| not_found("rrset"))?;
                Ok((200, json!({ "rrset": found })))
            }
            ("POST", []) => {
                let (name, change) = Change::create(zone, &body()?)?;
                let shown = change.foretold(zone, &name);
                let action = self.submit(&zone.name, name, change)?;
                Ok((201, json!({ "rrset": shown, "action": action })))
            }
            ("DELETE", [name, rtype]) => {
                let change = Change::delete(zone, name, rtype)?;
                Ok((201, json!({ "action": self.submit(&zone.name, (*name).to_owned(), change)? })))
            }
            ("POST", [name, rtype, "actions", command]) => {
                let change = Change::of(zone, name, rtype, command, &body()?)?;
                Ok((201, json!({ "action": self.submit(&zone.name, (*name).to_owned(), change)? })))
            }
            _ => Err(not_found("path")),
        }
    }
}

/// By id or by name.
fn zone_of<'m>(model: &'m Model, id_or_name: &str) -> Result<&'m Zone, Fail> {
    let is = |z: &&Zone| z.id == id_or_name || (bare(&z.name) == id_or_name && !id_or_name.contains('/'));
    model.zones.iter().find(is).ok_or_else(|| not_found("zone"))
}

fn show_zone(zone: &Zone) -> Value {
    let nameservers = ["hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com.", "helium.ns.hetzner.de."];
    json!({
        "id": zone.id.parse::<u64>().unwrap_or_default(),
        "name": bare(&zone.name),
        "created": MOMENT,
        "mode": if zone.writable { "primary" } else { "secondary" },
        "labels": {},
        "protection": { "delete": false },
        "ttl": sets::ZONE_TTL,
        "status": "ok",
        "record_count": zone.records.len(),
        "authoritative_nameservers": { "assigned": nameservers, "delegated": nameservers,
            "delegation_last_check": MOMENT, "delegation_status": "valid" },
        "registrar": "other",
    })
}

impl Facade for Hetzner {
    /// Those of the zone `example.test.`: the zone's name is one of them.
    fn settings(&self, base: &str) -> Value {
        self.zone_settings(base, "example.test.")
    }

    fn zone_settings(&self, base: &str, zone: &str) -> Value {
        json!({ "server-url": format!("{base}/v1"), "api-token": TOKEN, "zone": bare(zone) })
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        self.now += 1;
        self.catch_up(model);
        let response = match self.route(model, request) {
            Ok((status, body)) => Response::json(status, &body),
            Err(fail) => fail.response(),
        };
        let spent = u32::try_from(self.now).unwrap_or(REQUESTS).min(REQUESTS);
        limits(response, REQUESTS - spent, u64::from(spent))
    }

    fn refusal(&self, why: Refusal) -> Response {
        let fail = match why {
            Refusal::Credentials => Fail::new(401, "unauthorized", "unable to authenticate"),
            Refusal::Forbidden => Fail::new(403, "token_readonly", "token is only allowed to perform GET requests"),
            Refusal::Broken => Fail::new(500, "server_error", "an unexpected error occurred"),
            // Recorded in lego's `error-resource_limit_exceeded.json`, without its status.
            Refusal::Quota => quota(),
            Refusal::RateLimited(wait) => {
                let limited =
                    Fail::new(429, "rate_limit_exceeded", "limit of 3600 requests per hour reached").response();
                return match wait {
                    Wait::Own(seconds) => limits(limited, 0, seconds).header("date", http_date(SystemTime::now())),
                    wait => crate::facades::powerdns::waiting(limited, wait),
                };
            }
        };
        fail.response()
    }

    /// A set has no other handle than its name and type. A record has a comment.
    fn features(&self) -> Features {
        Features { pages: true, ids: false, disabled: false, comments: true, read_only: true, quota: true }
    }

    /// With a number as its id, and the name servers that every zone has.
    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
        let number = 4_711 + model.zones.len();
        if let Some(zone) = model.zones.last_mut() {
            zone.id = number.to_string();
            for host in ["helium.ns.hetzner.de.", "hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com."] {
                zone.records.push(Record { ttl: None, ..Record::new(name, "NS", host, 0) });
            }
        }
    }
}

fn quota() -> Fail {
    let details = json!({ "limits": [{ "name": "records" }] });
    Fail { details, ..Fail::new(403, "resource_limit_exceeded", "zone limit exceeded") }
}

/// The reset is a moment in seconds since 1970, when all is as if nothing had been asked.
fn limits(response: Response, left: u32, reset_in: u64) -> Response {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    response
        .header("ratelimit-limit", REQUESTS.to_string())
        .header("ratelimit-remaining", left.to_string())
        .header("ratelimit-reset", (now + reset_in).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(facade: &mut Hetzner, model: &mut Model, method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request {
            method: method.into(),
            path: format!("/v1{path}"),
            headers: vec![("authorization".into(), format!("Bearer {TOKEN}"))],
            body: body.to_string().into_bytes(),
            ..Request::default()
        };
        let answer = facade.answer(model, &request);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn a_write_is_taken_on_locks_its_set_and_is_done_later() {
        let (mut facade, mut model) = (Hetzner::default(), Model::default());
        facade.new_zone(&mut model, "example.test.", 0);
        let a = json!({"name": "a", "type": "A", "ttl": 300, "records": [{"value": "192.0.2.1", "comment": "ours"}]});
        let (status, answer) = ask(&mut facade, &mut model, "POST", "/zones/example.test/rrsets", a.clone());
        assert_eq!((status, answer["action"]["status"].as_str()), (201, Some("running")));
        let add = json!({"records": [{"value": "192.0.2.2"}]});
        let path = "/zones/example.test/rrsets/a/A/actions/add_records";
        let (status, answer) = ask(&mut facade, &mut model, "POST", path, add.clone());
        assert_eq!((status, answer["error"]["code"].as_str()), (423, Some("locked")));
        assert!(model.zones[0].data("a.example.test.", "A").is_empty());
        let (_, answer) = ask(&mut facade, &mut model, "GET", "/zones/actions/1", Value::Null);
        assert_eq!(answer["action"]["status"], "success");
        assert_eq!(model.zones[0].data("a.example.test.", "A"), ["192.0.2.1"]);
        let (status, answer) = ask(&mut facade, &mut model, "POST", "/zones/example.test/rrsets", a);
        assert_eq!((status, answer["error"]["code"].as_str()), (409, Some("uniqueness_error")));
        assert_eq!(ask(&mut facade, &mut model, "POST", path, add).0, 201);
    }

    #[test]
    fn a_page_says_where_it_stands() {
        let all: Vec<u32> = (0..51).collect();
        let show = |n: &u32| Some(Value::from(*n));
        let request = Request {
            query: vec![("page".into(), "2".into()), ("per_page".into(), "50".into())],
            ..Request::default()
        };
        let shown = page(&request, "zones", &all, ZONES_MAX, show).unwrap();
        assert_eq!(shown["zones"], json!([50]));
        let said = &shown["meta"]["pagination"];
        assert_eq!(
            (&said["next_page"], &said["previous_page"], &said["total_entries"]),
            (&Value::Null, &json!(1), &json!(51))
        );
        let request = Request { query: vec![("per_page".into(), "51".into())], ..Request::default() };
        assert!(page(&request, "zones", &all, ZONES_MAX, show).is_err());
    }
}
