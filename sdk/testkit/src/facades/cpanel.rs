//! cPanel's two doors to a zone file: UAPI for the owner of an account, WHM API 1 for root and resellers.
//!
//! | | UAPI (port 2083) | WHM API 1 (port 2087) |
//! |---|---|---|
//! | header `Authorization` | `cpanel USER:TOKEN` | `whm USER:TOKEN` |
//! | a zone | `/execute/DNS/parse_zone?zone=` | `/json-api/parse_dns_zone?api.version=1&zone=` |
//! | changes | `/execute/DNS/mass_edit_zone` | `/json-api/mass_edit_dns_zone` |
//! | all zones | `/execute/DomainInfo/list_domains` | `/json-api/listzones` |
//!
//! Sources: <https://api.docs.cpanel.net/openapi/cpanel/operation/dns-parse_zone/>, `…/dns-mass_edit_zone/`, `…/list_domains/`,
//! <https://api.docs.cpanel.net/openapi/whm/operation/parse_dns_zone/>, `…/mass_edit_dns_zone/`, `…/listzones/`; what UAPI answers in
//! truth, without the `result` of the documentation, is quoted in go-acme/lego#1060; what is refused, and in which words, was read
//! in cPanel's own modules as they are published on GitHub (`Cpanel/API/DNS.pm`, `Cpanel/Admin/Modules/Cpanel/zone.pm`,
//! `Whostmgr/API/1/DNS.pm`, `Cpanel/ZoneFile/LineEdit.pm`, `…/LineEdit/Backend.pm`, `…/ZoneFile/Parse.pm`, 2022). The text of an
//! invalid zone file, and what UAPI answers to a wrong token, were not found and are made up: a client must not go by them.
//!
//! A record's place in the zone file is its only handle, and the zone's serial must be told with every change: one that is not
//! the current one is refused as `Stale`, and nothing is done. All changes of a request are one writing of the file.

mod lines;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    facade::{Facade, Features, Refusal, Request, Response},
    facades::powerdns::waiting,
    model::{Model, Record, Zone},
};

use lines::{Item, first_line};

const USER: &str = "wharfdns";
const TOKEN: &str = "U7HMR63FHY282DQZ4H5BIH16JLYSO01M";
/// `Cpanel::ZoneEdit::User`: with the features for simple and advanced zone editing, and for MX.
const USER_TYPES: [&str; 7] = ["A", "AAAA", "CAA", "CNAME", "MX", "SRV", "TXT"];
/// `mass_edit_dns_zone` in `Whostmgr::API::1::DNS`.
const WHM_TYPES: [&str; 17] = [
    "A", "AAAA", "AFSDB", "CAA", "CNAME", "DNAME", "DS", "HINFO", "LOC", "MX", "NAPTR", "NS", "PTR", "RP", "SRV",
    "TLSA", "TXT",
];

/// Whose door it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// UAPI, as the owner of an account: without PTR and NS.
    Account,
    /// WHM API 1, as root or a reseller.
    Whm,
}

/// One server.
#[derive(Debug, Clone)]
pub struct CPanel {
    door: Door,
}

impl Default for CPanel {
    fn default() -> Self {
        Self { door: Door::Whm }
    }
}

/// Why nothing is done.
enum Fail {
    /// A sentence; where it came from an exception it begins with an id.
    Said(String),
    /// A sentence with an object that names its type.
    Typed(String, Value),
    Whole(Response),
}

fn exception(text: impl AsRef<str>) -> Fail {
    Fail::Said(format!("(XID 7mhqe2) {}", text.as_ref()))
}

/// `Cpanel::APICommon::Error::convert_to_payload`.
fn typed(text: String, kind: &str, detail: Value) -> Fail {
    Fail::Typed(text, json!({ "type": kind, "detail": detail }))
}

impl CPanel {
    pub fn new(door: Door) -> Self {
        Self { door }
    }

    /// What is accepted as `Authorization` (<https://api.docs.cpanel.net/cpanel/tokens/>, `…/whm/tokens/`).
    fn authorization(&self) -> String {
        let scheme = if self.door == Door::Account { "cpanel" } else { "whm" };
        format!("{scheme} {USER}:{TOKEN}")
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    fn done(&self, function: &str, data: Value) -> Response {
        Response::json(
            200,
            &match self.door {
                Door::Account => {
                    json!({ "metadata": { "transformed": 1 }, "messages": null, "status": 1, "warnings": null,
                "errors": null, "data": data })
                }
                Door::Whm => json!({ "data": data,
                "metadata": { "command": function, "reason": "OK", "result": 1, "version": 1 } }),
            },
        )
    }

    /// A refusal is a 200, too.
    fn failed(&self, function: &str, fail: Fail) -> Response {
        let (text, data) = match fail {
            Fail::Whole(response) => return response,
            Fail::Said(text) => (text, Value::Null),
            Fail::Typed(text, data) => (text, data),
        };
        Response::json(
            200,
            &match self.door {
                Door::Account => {
                    json!({ "metadata": {}, "messages": null, "status": 0, "warnings": null, "errors": [text],
                "data": data })
                }
                Door::Whm => json!({ "data": data,
                "metadata": { "command": function, "reason": text, "result": 0, "version": 1 } }),
            },
        )
    }

    fn route(&self, model: &mut Model, request: &Request, function: &str) -> Result<Value, Fail> {
        let fields = fields(request)?;
        let one = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if self.door == Door::Whm && one("api.version") != Some("1") {
            // Without it WHM API 0 answers, in another form.
            return Err(Fail::Whole(Response::json(
                200,
                &json!({ "cpanelresult": { "apiversion": "2",
                "error": "this function is not there in WHM API 0" } }),
            )));
        }
        match function {
            "list_domains" => {
                let all: Vec<&str> = model.zones.iter().map(|z| bare(&z.name)).collect();
                let (main, addon) = all.split_first().map_or((Value::Null, &[][..]), |(m, rest)| (json!(m), rest));
                Ok(json!({ "main_domain": main, "addon_domains": addon, "parked_domains": [], "sub_domains": [] }))
            }
            "listzones" => {
                let one = |z: &Zone| json!({ "domain": bare(&z.name), "zonefile": format!("{}.db", bare(&z.name)) });
                // Without any zone there is no list either.
                if model.zones.is_empty() {
                    Ok(Value::Null)
                } else {
                    Ok(json!({ "zone": model.zones.iter().map(one).collect::<Vec<_>>() }))
                }
            }
            "parse_zone" | "parse_dns_zone" => {
                let zone = self.zone(model, one("zone"))?;
                let items: Vec<Value> = lines::of(zone).iter().map(Item::to_json).collect();
                Ok(if self.door == Door::Account { json!(items) } else { json!({ "payload": items }) })
            }
            _ => self.mass_edit(model, &fields),
        }
    }

    fn zone<'m>(&self, model: &'m mut Model, name: Option<&str>) -> Result<&'m mut Zone, Fail> {
        let name = name.filter(|n| !n.is_empty()).ok_or_else(|| exception("Provide the “zone” argument."))?;
        let good = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        // `valid_rfc_domainname_or_die`; an account does not control a name of another form either.
        if self.door == Door::Whm && (!name.chars().all(good) || name.ends_with('.')) {
            return Err(exception(format!("“{name}” is not a valid domain name.")));
        }
        let absent = match self.door {
            Door::Account => format!("You do not control a DNS zone named “{name}”."),
            Door::Whm => format!("The domain “{name}” does not exist."),
        };
        model.zone_mut(&format!("{name}.")).ok_or_else(|| exception(absent))
    }

    /// Serial first, then additions, edits and removals; the file is written once.
    fn mass_edit(&self, model: &mut Model, fields: &[(String, String)]) -> Result<Value, Fail> {
        let one = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let zone_name = one("zone");
        let all = |name: &str| -> Vec<&str> {
            let is = |key: &str| {
                key.strip_prefix(name).is_some_and(|rest| {
                    rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()))
                })
            };
            fields.iter().filter(|(key, _)| is(key)).map(|(_, v)| v.as_str()).collect()
        };
        let serial = one("serial").ok_or_else(|| exception("Provide the “serial” argument."))?;
        let (adds, edits, removals) = (all("add"), all("edit"), all("remove"));
        let zone = self.zone(model, zone_name)?;
        if adds.is_empty() && edits.is_empty() && removals.is_empty() {
            return Err(Fail::Said("You must provide at least one change to the DNS zone.".into()));
        }
        let adds: Vec<Wanted> =
            adds.into_iter().map(|text| self.wanted(zone, "add", text)).collect::<Result<_, _>>()?;
        let edits: Vec<Wanted> =
            edits.into_iter().map(|text| self.wanted(zone, "edit", text)).collect::<Result<_, _>>()?;
        if serial != zone.serial.to_string() {
            let text = format!(
                "The given serial number ({serial}) does not match the DNS zone’s serial number ({}). Refresh your view of the DNS zone, then resubmit.",
                zone.serial
            );
            return Err(typed(text, "Stale", Value::Null));
        }
        let mut records: Vec<Option<Record>> = zone.records.iter().cloned().map(Some).collect();
        let mut touched: BTreeSet<usize> = BTreeSet::new();
        for wanted in edits {
            let at = self.editable(zone, wanted.line, &mut touched)?;
            if let Some(Some(record)) = records.get_mut(at) {
                *record = Record { id: record.id.clone(), ..wanted.record };
            }
        }
        for line in removals {
            let line =
                line.parse::<usize>().map_err(|_| Fail::Said("Each “remove” must be a nonnegative integer.".into()))?;
            let at = self.editable(zone, Some(line), &mut touched)?;
            if let Some(place) = records.get_mut(at) {
                *place = None;
            }
        }
        let mut records: Vec<Record> = records.into_iter().flatten().collect();
        if !records.iter().any(|r| r.rtype == "NS") {
            return Err(exception("Every DNS zone must contain at least one “NS” record."));
        }
        records.extend(adds.into_iter().map(|wanted| wanted.record));
        if let Some((line, text)) = lines::invalid(&zone.name, &records) {
            let text = format!("The DNS zone is invalid. (line {line}: {text})");
            return Err(typed(text.clone(), "InvalidZoneFile", json!({ "by_line": [[line, [text]]] })));
        }
        zone.records = records;
        zone.serial += 1;
        let serial = zone.serial.to_string();
        for n in 0..zone.records.len() {
            if zone.records.get(n).is_some_and(|r| r.id.is_empty()) {
                let id = format!("{}-{serial}-{n}", zone.id);
                if let Some(record) = zone.records.get_mut(n) {
                    record.id = id;
                }
            }
        }
        Ok(json!({ "new_serial": serial }))
    }

    /// The record that stands in a line.
    fn editable(&self, zone: &Zone, line: Option<usize>, touched: &mut BTreeSet<usize>) -> Result<usize, Fail> {
        let line = line.unwrap_or(usize::MAX);
        let no_record =
            || exception(format!("No record exists at line {line} in the “{}” DNS zone.", bare(&zone.name)));
        if line == lines::SOA_LINE {
            return Err(exception("Every DNS zone must contain an SOA record."));
        }
        let at = line.checked_sub(first_line()).filter(|at| *at < zone.records.len()).ok_or_else(no_record)?;
        let rtype = zone.records.get(at).map(|r| r.rtype.as_str()).unwrap_or_default();
        if self.door == Door::Account && !USER_TYPES.contains(&rtype) {
            return Err(exception(format!(
                "Line {line} contains a record of type “{rtype}”. You cannot edit or remove “{rtype}” records."
            )));
        }
        if !touched.insert(at) {
            return Err(exception(format!(
                "You submitted multiple edits for line index {line}. This interface forbids multiple edits per line."
            )));
        }
        Ok(at)
    }

    /// `get_mass_edit_add_error` and `get_mass_edit_edit_error`, the types of this door, then `build_line`.
    fn wanted(&self, zone: &Zone, what: &str, text: &str) -> Result<Wanted, Fail> {
        let item: Value = serde_json::from_str(text).map_err(|e| exception(format!("invalid JSON: {e}")))?;
        let item = item.as_object().ok_or_else(|| Fail::Said(format!("Each “{what}” must be an object.")))?;
        let needed: &[&str] = match what {
            "edit" => &["line_index", "dname", "ttl", "record_type", "data"],
            _ => &["dname", "ttl", "record_type", "data"],
        };
        let is_there = |key: &&str| item.get(*key).is_some_and(|v| !v.is_null() && v.as_str() != Some(""));
        if !needed.iter().all(is_there) {
            return Err(Fail::Said(format!("Each “{what}” requires “{}”.", needed.join("”, “"))));
        }
        if let Some(other) = item.keys().find(|key| !needed.contains(&key.as_str())) {
            // Not known to be ignored by the real one.
            return Err(Fail::Said(format!("“{other}” is not known in “{what}”.")));
        }
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let data =
            item.get("data").and_then(Value::as_array).ok_or_else(|| Fail::Said("“data” must be an array.".into()))?;
        let rtype = text("record_type");
        let types: &[&str] = if self.door == Door::Account { &USER_TYPES } else { &WHM_TYPES };
        if !types.contains(&rtype) {
            return Err(Fail::Said(format!(
                "This interface cannot create “{rtype}” records. It can only create {} records.",
                types.join(", ")
            )));
        }
        let ttl = item.get("ttl").and_then(|t| t.as_u64().or_else(|| t.as_str()?.parse().ok()));
        let ttl = ttl
            .and_then(|t| u32::try_from(t).ok())
            .filter(|t| *t <= 0x7fff_ffff)
            .ok_or_else(|| exception("Time-To-Live (TTL) values must be positive integers."))?;
        let data: Vec<&str> = data.iter().filter_map(Value::as_str).collect();
        let record = lines::record(zone, text("dname"), ttl, rtype, &data).map_err(exception)?;
        let line = item.get("line_index").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        Ok(Wanted { line, record })
    }
}

struct Wanted {
    line: Option<usize>,
    record: Record,
}

/// Without the final dot.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Of the query, or of a form.
fn fields(request: &Request) -> Result<Vec<(String, String)>, Fail> {
    let kind = request.header("content-type").unwrap_or_default();
    match (request.method.as_str(), kind) {
        ("GET", _) => Ok(request.query.clone()),
        ("POST", kind) if kind.starts_with("application/x-www-form-urlencoded") => {
            Ok(request.query.iter().cloned().chain(request.form()).collect())
        }
        _ => Err(Fail::Whole(html(400, "400 Bad Request"))),
    }
}

fn html(status: u16, title: &str) -> Response {
    Response::text(status, "text/html", format!("<html><head><title>{title}</title></head></html>"))
}

fn denied() -> Response {
    // Quoted in mgufrone/cpanel-php#34.
    Response::json(
        403,
        &json!({ "cpanelresult": { "apiversion": "2", "error": "Access denied",
        "data": { "reason": "Access denied", "result": "0" }, "type": "text" } }),
    )
}

impl Facade for CPanel {
    fn settings(&self, base: &str) -> Value {
        let interface = if self.door == Door::Account { "cpanel" } else { "whm" };
        json!({ "server-url": base, "interface": interface, "user": USER, "api-token": TOKEN })
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if request.header("authorization") != Some(&self.authorization()) {
            return self.refusal(Refusal::Credentials);
        }
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let function = match (self.door, parts.as_slice()) {
            (Door::Account, ["execute", "DNS", function @ ("parse_zone" | "mass_edit_zone")])
            | (Door::Account, ["execute", "DomainInfo", function @ "list_domains"])
            | (Door::Whm, ["json-api", function @ ("parse_dns_zone" | "mass_edit_dns_zone" | "listzones")]) => {
                *function
            }
            _ => return html(404, "404 Not Found"),
        };
        match self.route(model, request, function) {
            Ok(data) => self.done(function, data),
            Err(fail) => self.failed(function, fail),
        }
    }

    fn is_write(&self, request: &Request) -> bool {
        request.path.contains("mass_edit")
    }

    fn refusal(&self, why: Refusal) -> Response {
        match (why, self.door) {
            (Refusal::Credentials, Door::Whm) => denied(),
            (Refusal::Credentials, Door::Account) => html(401, "401 Access Denied"),
            // `needs_feature`; a reseller without `edit-dns` is not let in at all.
            (Refusal::Forbidden, Door::Account) => {
                self.failed("", exception("You do not have the feature “zoneedit”."))
            }
            (Refusal::Forbidden, Door::Whm) => denied(),
            (Refusal::Broken, _) => html(500, "500 Internal Server Error"),
            // There is none, and no way to say so.
            (Refusal::Quota, _) => self.failed("", exception("No more records fit.")),
            // cPanel has no limit of its own; this is what a proxy in front of it says.
            (Refusal::RateLimited(wait), _) => waiting(html(429, "429 Too Many Requests"), wait),
        }
    }

    /// A zone comes in one answer. A line has no state, and comments behind records are not shown.
    fn features(&self) -> Features {
        Features::default()
    }

    /// With the name servers that every zone has.
    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
        let ids = [model.fresh_id(), model.fresh_id()];
        if let Some(zone) = model.zones.last_mut() {
            // There is no other handle than the name.
            zone.id = name.to_owned();
            for (n, id) in ids.into_iter().enumerate() {
                let ns = Record { id, ..Record::new(name, "NS", &format!("ns{}.panel.test.", n + 1), 86_400) };
                zone.records.insert(n, ns);
            }
        }
    }
}
