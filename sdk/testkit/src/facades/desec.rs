//! deSEC, its API v1. The documentation is <https://desec.readthedocs.io/en/latest/dns/>; where it is silent, the service's own source,
//! <https://github.com/desec-io/desec-stack> (below, `serializers` is `api/desecapi/serializers/records.py`, `models`
//! `api/desecapi/models/records.py`), was read.
//!
//! Rate limits are not kept here: what one answers is in [`Facade::refusal`]. The SOA can't be read there and is not in the model.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    net::{Ipv4Addr, Ipv6Addr},
};

use serde_json::{Map, Value, json};

use crate::{
    facade::{Facade, Features, Refusal, Request, Response},
    facades::powerdns::waiting,
    model::{Model, Record, Zone},
};

/// "The maximum value is 86400 (one day)": the page on RRsets.
const TTL_MAX: u64 = 86_400;
/// `max_length` of a subname (`models`).
const SUBNAME: usize = 178;
/// Of those that can be managed, the ones whose content is checked here.
const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];

/// One account.
#[derive(Debug, Clone)]
pub struct Desec {
    token: String,
    /// Of every domain; the documentation's example has 3,600.
    minimum_ttl: u64,
    page: usize,
}

impl Default for Desec {
    fn default() -> Self {
        Self { token: "token-of-the-desec-facade".into(), minimum_ttl: 3_600, page: 500 }
    }
}

impl Desec {
    /// One whose pages are shorter than the 500 of the real one, so that smaller zones have several.
    pub fn of_pages(page: usize) -> Self {
        Self { page, ..Self::default() }
    }

    fn domain(&self, zone: &Zone) -> Value {
        // `touched` follows every change of the records, whoever made it.
        let mut hasher = DefaultHasher::new();
        zone.picture().hash(&mut hasher);
        let touched = format!("2026-01-01T00:00:00.{:06}Z", hasher.finish() % 1_000_000);
        json!({"created": "2025-01-01T00:00:00.000000Z", "minimum_ttl": self.minimum_ttl, "name": bare(&zone.name),
            "published": touched, "touched": touched})
    }

    /// `LinkHeaderCursorPagination` (`api/desecapi/pagination.py`): newest first, each page from what is older than the cursor.
    fn paged(&self, mut all: Vec<(String, Value)>, request: &Request) -> Response {
        all.sort_by(|a, b| b.0.cmp(&a.0));
        let total = all.len();
        let at = format!("http://{}{}", request.header("host").unwrap_or_default(), request.path);
        let others: String =
            request.query.iter().filter(|(n, _)| n != "cursor").map(|(n, v)| format!("{n}={v}&")).collect();
        let link = |rel: &str, cursor: &str| format!("<{at}?{others}cursor={cursor}>; rel=\"{rel}\"");
        let Some(cursor) = request.query("cursor") else {
            if total <= self.page {
                return Response::json(200, &all.into_iter().map(|(_, shown)| shown).collect());
            }
            let detail = format!(
                "Pagination required. You can query up to {} items at a time ({total} total). Please use the `first` page link \
                 (see Link header).",
                self.page
            );
            return error(400, &detail).header("Link", link("first", ""));
        };
        let older: Vec<(String, Value)> =
            all.into_iter().filter(|(id, _)| cursor.is_empty() || id.as_str() < cursor).collect();
        let page: Vec<&(String, Value)> = older.iter().take(self.page).collect();
        let mut links = vec![link("first", "")];
        if older.len() < total {
            links.push(link("prev", "older"));
        }
        if let (true, Some((last, _))) = (older.len() > page.len(), page.last()) {
            links.push(link("next", last));
        }
        let answer = Response::json(200, &page.iter().map(|(_, shown)| shown.clone()).collect());
        if links.len() == 1 { answer } else { answer.header("Link", links.join(", ")) }
    }

    fn rrsets(&self, zone: &Zone, request: &Request) -> Response {
        let fits = |shown: &Value, field: &str| request.query(field).is_none_or(|wanted| shown[field] == wanted);
        let all = shown(zone).into_iter().filter(|(_, s)| fits(s, "subname") && fits(s, "type")).collect();
        self.paged(all, request)
    }

    /// A bulk PATCH: all of its parts or none.
    fn patch(
        &self,
        zone: &mut Zone,
        request: &Request,
        mut fresh: impl FnMut() -> String,
    ) -> Result<Response, Response> {
        let refused = |detail: &str| Response::json(400, &json!({"non_field_errors": [detail]}));
        let body = request.json().ok_or_else(|| error(400, "JSON parse error"))?;
        let items = body.as_array().ok_or_else(|| refused("Expected a list of items but got \"dict\"."))?;
        if items.is_empty() {
            return Err(refused("This list may not be empty."));
        }
        let mut checked = Vec::new();
        let mut errors = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let found = self.part(zone, items, at, item);
            errors.push(found.as_ref().err().cloned().unwrap_or_else(|| json!({})));
            checked.extend(found);
        }
        if errors.iter().any(|e| e.as_object().is_some_and(|e| !e.is_empty())) {
            return Err(Response::json(400, &Value::Array(errors)));
        }
        // What the second stage finds is not told with its part (documentation, "Input validation").
        for part in checked.iter().filter(|p| p.rtype == "CNAME") {
            if part.records.as_ref().is_some_and(|r| r.len() > 1) {
                return Err(Response::json(400, &json!(["CNAME RRset cannot have multiple records."])));
            }
            if part.name == zone.name && part.records.as_ref().is_some_and(|r| !r.is_empty()) {
                return Err(Response::json(400, &json!(["CNAME RRset cannot have empty subname."])));
            }
        }
        let before = zone.picture();
        let written: BTreeSet<(String, String)> = checked.iter().map(|p| (p.name.clone(), p.rtype.clone())).collect();
        for part in checked {
            part.write(zone, &mut fresh);
        }
        // What is so already is touched, and not published.
        if zone.picture() != before {
            zone.serial += 1;
        }
        let sets = shown(zone).into_iter().map(|(_, s)| s);
        let one =
            |s: &Value| (s["name"].as_str().unwrap_or_default().into(), s["type"].as_str().unwrap_or_default().into());
        Ok(Response::json(200, &sets.filter(|s| written.contains(&one(s))).collect()))
    }

    /// One part, or its error object.
    fn part(&self, zone: &Zone, items: &[Value], at: usize, item: &Value) -> Result<Part, Value> {
        let item = item.as_object().ok_or_else(|| json!({"non_field_errors": "Expected a dictionary."}))?;
        let required = |field: &str| json!({field: ["This field is required."]});
        let subname = item.get("subname").and_then(Value::as_str).ok_or_else(|| required("subname"))?;
        let rtype = item.get("type").and_then(Value::as_str).ok_or_else(|| required("type"))?;
        let key =
            |other: &Value| (other["subname"].as_str().map(str::to_owned), other["type"].as_str().map(str::to_owned));
        let own = (Some(subname.to_owned()), Some(rtype.to_owned()));
        let unique = |why: String| json!({"non_field_errors": [why]});
        if let Some(twin) = items.iter().enumerate().position(|(n, other)| n != at && key(other) == own) {
            return Err(unique(format!("Same subname and type as in position(s) {twin}, but must be unique.")));
        }
        if !is_subname(subname) {
            return Err(
                json!({"subname": ["Subname can only use (lowercase) a-z, 0-9, ., -, and _, may start with a '*.', or just \
                be '*'. Components may not exceed 63 characters."]}),
            );
        }
        if subname.len() > SUBNAME {
            return Err(json!({"subname": [format!("Ensure this field has no more than {SUBNAME} characters.")]}));
        }
        if !TYPES.contains(&rtype) {
            let why = if rtype.starts_with("TYPE") {
                "Generic type format is not supported.".to_owned()
            } else {
                format!("The {rtype} RR set type is currently unsupported.")
            };
            return Err(json!({"type": [why]}));
        }
        let name = if subname.is_empty() { zone.name.clone() } else { format!("{subname}.{}", zone.name) };
        let records = self.records(item, rtype)?;
        let there = zone.of(&name, rtype).next().is_some();
        let deletes = records.as_ref().is_some_and(Vec::is_empty);
        let ttl = item.get("ttl").map(|ttl| self.ttl(ttl)).transpose()?;
        if !there && !deletes {
            if records.is_none() {
                return Err(required("records"));
            }
            ttl.ok_or_else(|| required("ttl"))?;
        }
        if !deletes && let Some(other) = self.in_the_way(zone, items, subname, &name, rtype) {
            return Err(unique(format!(
                "RRset with conflicting type present: database ({other}). (No other RRsets are allowed alongside CNAME.)"
            )));
        }
        Ok(Part { name, rtype: rtype.to_owned(), ttl, records })
    }

    fn ttl(&self, ttl: &Value) -> Result<u32, Value> {
        // Django REST framework's IntegerField takes a number or a text of digits.
        let digits = || ttl.as_str().and_then(|t| t.trim().parse().ok());
        let ttl = ttl.as_u64().or_else(digits).ok_or_else(|| json!({"ttl": ["A valid integer is required."]}))?;
        if ttl < self.minimum_ttl {
            return Err(
                json!({"ttl": [format!("Ensure this value is greater than or equal to {}.", self.minimum_ttl)]}),
            );
        }
        if ttl > TTL_MAX {
            return Err(json!({"ttl": [format!("Ensure this value is less than or equal to {TTL_MAX}.")]}));
        }
        u32::try_from(ttl).map_err(|_| json!({"ttl": ["A valid integer is required."]}))
    }

    /// Of the type that stands, or is to stand, where it can't.
    fn in_the_way(&self, zone: &Zone, items: &[Value], subname: &str, name: &str, rtype: &str) -> Option<String> {
        let (mut types, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for item in items.iter().filter(|i| i["subname"] == subname) {
            let of = item["type"].as_str().unwrap_or_default().to_owned();
            if item["records"] == json!([]) {
                gone.insert(of)
            } else {
                types.insert(of)
            };
        }
        types.extend(
            zone.records.iter().filter(|r| r.name == name && !gone.contains(&r.rtype)).map(|r| r.rtype.clone()),
        );
        types.into_iter().find(|other| (other == "CNAME") != (rtype == "CNAME"))
    }

    fn records(&self, item: &Map<String, Value>, rtype: &str) -> Result<Option<Vec<String>>, Value> {
        let Some(given) = item.get("records") else { return Ok(None) };
        let given = given.as_array().ok_or_else(|| json!({"records": ["Expected a list of items."]}))?;
        let mut records = Vec::new();
        for text in given {
            let text = text.as_str().ok_or_else(|| json!({"records": ["Must be a string."]}))?;
            let data = canonical(rtype, text).map_err(|why| json!({"non_field_errors": [why]}))?;
            if records.contains(&data) {
                return Err(json!({"non_field_errors": ["Duplicate: records must be semantically unique"]}));
            }
            records.push(data);
        }
        Ok(Some(records))
    }
}

/// A part of a bulk request that passed the first stage.
struct Part {
    name: String,
    rtype: String,
    ttl: Option<u32>,
    records: Option<Vec<String>>,
}

impl Part {
    fn write(self, zone: &mut Zone, fresh: &mut impl FnMut() -> String) {
        let own = |r: &Record| r.name == self.name && r.rtype == self.rtype;
        if let Some(ttl) = self.ttl {
            zone.records.iter_mut().filter(|r| own(r)).for_each(|r| r.ttl = Some(ttl));
        }
        let Some(records) = self.records else { return };
        zone.records.retain(|r| !own(r) || records.contains(&r.data));
        for data in records {
            if !zone.records.iter().any(|r| own(r) && r.data == data) {
                let record = Record { ttl: self.ttl, ..Record::new(&self.name, &self.rtype, &data, 0) };
                zone.records.push(Record { id: fresh(), ..record });
            }
        }
    }
}

impl Facade for Desec {
    fn settings(&self, base: &str) -> Value {
        self.zone_settings(base, "example.test.")
    }

    fn zone_settings(&self, base: &str, zone: &str) -> Value {
        json!({"server-url": format!("{base}/api/v1"), "domain": bare(zone), "token": self.token})
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if !request.path.ends_with('/') {
            // Django's APPEND_SLASH.
            return Response::empty(301).header("Location", format!("{}/", request.path));
        }
        if request.header("authorization") != Some(&format!("Token {}", self.token)) {
            return self.refusal(Refusal::Credentials);
        }
        let segments = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["api", "v1", "domains", rest @ ..] = path.as_slice() else { return error(404, "Not found.") };
        let named = |model: &Model, name: &str| model.zones.iter().find(|z| bare(&z.name) == name).cloned();
        match (request.method.as_str(), rest) {
            ("GET", []) => {
                // Newest first, as they were added.
                let all = model.zones.iter().enumerate().map(|(n, z)| (format!("{n:08}"), self.domain(z)));
                self.paged(all.collect(), request)
            }
            ("GET", [name]) => {
                named(model, name).map_or_else(|| error(404, "Not found."), |z| Response::json(200, &self.domain(&z)))
            }
            ("GET", [name, "rrsets"]) => {
                named(model, name).map_or_else(|| error(404, "Not found."), |z| self.rrsets(&z, request))
            }
            ("PATCH", [name, "rrsets"]) => {
                let Some(mut zone) = named(model, name) else { return error(404, "Not found.") };
                let answer = self.patch(&mut zone, request, || model.fresh_id());
                if let Some(there) = model.zone_mut(&zone.name.clone()) {
                    *there = zone;
                }
                answer.unwrap_or_else(|refused| refused)
            }
            (method, [] | [_] | [_, "rrsets"]) => error(405, &format!("Method \"{method}\" not allowed.")),
            _ => error(404, "Not found."),
        }
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials => error(401, "Invalid token.").header("WWW-Authenticate", "Token"),
            // A token's policies, or its list of addresses.
            Refusal::Forbidden => error(403, "You do not have permission to perform this action."),
            Refusal::RateLimited(wait) => waiting(error(429, "Request was throttled."), wait),
            Refusal::Broken => Response::text(500, "text/html", "<h1>Server Error (500)</h1>"),
            // RRsets are not counted there.
            Refusal::Quota => error(403, "Domain limit exceeded. Please contact support to create additional domains."),
        }
    }

    fn features(&self) -> Features {
        Features { pages: true, ..Features::default() }
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
        let ids = [model.fresh_id(), model.fresh_id()];
        if let Some(zone) = model.zone_mut(name) {
            zone.id = bare(name).to_owned();
            for (id, data) in ids.into_iter().zip(["ns1.desec.io.", "ns2.desec.org."]) {
                zone.records.push(Record { id, ..Record::new(name, "NS", data, 3_600) });
            }
        }
    }
}

fn error(status: u16, detail: &str) -> Response {
    Response::json(status, &json!({"detail": detail}))
}

fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// All RRsets, each with what says when it was made.
fn shown(zone: &Zone) -> Vec<(String, Value)> {
    let mut sets: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for record in &zone.records {
        sets.entry((&record.name, &record.rtype)).or_default().push(record);
    }
    let one = |((name, rtype), records): ((&str, &str), Vec<&Record>)| {
        let made = records.iter().map(|r| r.id.clone()).min().unwrap_or_default();
        let front = name.strip_suffix(&zone.name).unwrap_or(name);
        let mut data: Vec<&str> = records.iter().map(|r| r.data.as_str()).collect();
        data.sort_unstable();
        let ttl = records.first().and_then(|r| r.ttl).unwrap_or(3_600);
        let shown = json!({"created": "2025-01-01T00:00:00.000000Z", "domain": bare(&zone.name), "subname": bare(front),
            "name": name, "type": rtype, "records": data, "ttl": ttl, "touched": "2025-01-01T00:00:00.000000Z"});
        (made, shown)
    };
    sets.into_iter().map(one).collect()
}

/// The expression of `models`: `*`, or labels with `*.` in front or not.
fn is_subname(subname: &str) -> bool {
    if subname.is_empty() || subname == "*" {
        return true;
    }
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    let labels = subname.strip_prefix("*.").unwrap_or(subname);
    labels.split('.').all(|l| (1..=63).contains(&l.len()) && l.chars().all(good))
}

/// A value as it is stored (`RR.canonical_presentation_format` of `models`), or the words that it is refused with.
fn canonical(rtype: &str, text: &str) -> Result<String, String> {
    let malformed = || format!("Record content for type {rtype} malformed: {text}");
    let host = |name: &str| {
        let Some(labels) = name.strip_suffix('.') else {
            return Err("Hostname must be fully qualified (i.e., end in a dot: \"example.com.\")".to_owned());
        };
        let good = labels.len() <= 253 && labels.split('.').all(|l| (1..=63).contains(&l.len()));
        if good { Ok(name.to_owned()) } else { Err(malformed()) }
    };
    match rtype {
        "A" => text.parse::<Ipv4Addr>().map(|a| a.to_string()).map_err(|_| malformed()),
        "AAAA" => text.parse::<Ipv6Addr>().map(|a| a.to_string()).map_err(|_| malformed()),
        "MX" => {
            let (priority, name) = text.split_once(' ').ok_or_else(malformed)?;
            Ok(format!("{} {}", priority.parse::<u16>().map_err(|_| malformed())?, host(name)?))
        }
        "TXT" => {
            let strings = strings(text).ok_or("Data for TXT records must be given using quotation marks.")?;
            Ok(strings.iter().flat_map(|s| pieces(s)).map(quoted).collect::<Vec<_>>().join(" "))
        }
        _ => host(text),
    }
}

/// Longer strings than one of DNS are cut up on the wire, and read back so (`LongQuotedTXT` in `api/desecapi/dns.py`).
fn pieces(string: &[u8]) -> Vec<&[u8]> {
    if string.is_empty() { vec![string] } else { string.chunks(255).collect() }
}

fn quoted(string: &[u8]) -> String {
    let one = |b: &u8| match b {
        b'"' | b'\\' => format!("\\{}", char::from(*b)),
        0x20..=0x7e => char::from(*b).to_string(),
        other => format!("\\{other:03}"),
    };
    format!("\"{}\"", string.iter().map(one).collect::<String>())
}

/// The octets of strings in quotes; none for anything else.
fn strings(text: &str) -> Option<Vec<Vec<u8>>> {
    let (mut all, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        if *first == b' ' {
            rest = behind;
            continue;
        }
        if *first != b'"' {
            return None;
        }
        let mut string = Vec::new();
        rest = behind;
        loop {
            let (c, behind) = rest.split_first()?;
            rest = behind;
            match c {
                b'"' => break,
                b'\\' => {
                    let code =
                        rest.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| d.parse::<u8>().ok());
                    let (octet, length) = match code {
                        Some(code) => (code, 3),
                        None => (*rest.first()?, 1),
                    };
                    string.push(octet);
                    rest = rest.get(length..)?;
                }
                other => string.push(*other),
            }
        }
        all.push(string);
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(page: usize, foreign: usize) -> (Desec, Model) {
        let (facade, mut model) = (Desec::of_pages(page), Model::default());
        facade.new_zone(&mut model, "example.test.", foreign);
        (facade, model)
    }

    fn ask(facade: &mut Desec, model: &mut Model, method: &str, path: &str, body: &Value) -> Response {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method: method.into(),
            path: format!("/api/v1/domains/{path}"),
            query: crate::facade::pairs(query),
            headers: vec![
                ("authorization".into(), format!("Token {}", facade.token)),
                ("host".into(), "desec.test".into()),
            ],
            body: body.to_string().into_bytes(),
            is_write: None,
        };
        facade.answer(model, &request)
    }

    fn said(response: &Response) -> Value {
        serde_json::from_slice(&response.body).unwrap()
    }

    fn patch(facade: &mut Desec, model: &mut Model, body: &Value) -> (u16, Value) {
        let answer = ask(facade, model, "PATCH", "example.test/rrsets/", body);
        (answer.status, said(&answer))
    }

    #[test]
    fn a_batch_is_done_whole_or_not_at_all_and_says_which_part_is_wrong() {
        let (mut facade, mut model) = house(500, 1);
        let before = model.clone();
        let good = json!({"subname": "a", "type": "A", "ttl": 3600, "records": ["192.0.2.1"]});
        for (bad, field) in [
            (json!({"subname": "b", "type": "A", "ttl": 60, "records": ["192.0.2.1"]}), "ttl"),
            (json!({"subname": "b", "type": "A", "ttl": 90000, "records": ["192.0.2.1"]}), "ttl"),
            (json!({"subname": "b", "type": "A", "records": ["192.0.2.1"]}), "ttl"),
            (json!({"subname": "@", "type": "A", "ttl": 3600, "records": ["192.0.2.1"]}), "subname"),
            (json!({"subname": "b", "type": "TYPE65280", "ttl": 3600, "records": ["\\# 0"]}), "type"),
            (json!({"subname": "b", "type": "TXT", "ttl": 3600, "records": ["bare"]}), "non_field_errors"),
            (json!({"subname": "b", "type": "PTR", "ttl": 3600, "records": ["b.test"]}), "non_field_errors"),
            (json!({"subname": "a", "type": "CNAME", "ttl": 3600, "records": ["b.test."]}), "non_field_errors"),
        ] {
            let (status, errors) = patch(&mut facade, &mut model, &json!([good, bad]));
            assert_eq!(status, 400);
            assert!(errors[1].get(field).is_some(), "{bad}: {errors}");
            assert_eq!(model.zones, before.zones);
        }
        assert_eq!(patch(&mut facade, &mut model, &good).0, 400, "bulk is a list");
        let (status, sets) = patch(&mut facade, &mut model, &json!([good]));
        assert_eq!((status, &sets[0]["name"]), (200, &json!("a.example.test.")));
        let serial = model.zones[0].serial;
        patch(&mut facade, &mut model, &json!([good]));
        assert_eq!(model.zones[0].serial, serial, "what is so already is not published");
        patch(&mut facade, &mut model, &json!([{"subname": "a", "type": "A", "records": []}]));
        assert!(model.zones[0].data("a.example.test.", "A").is_empty());
    }

    #[test]
    fn an_address_makes_room_for_a_cname_in_one_batch() {
        let (mut facade, mut model) = house(500, 0);
        patch(&mut facade, &mut model, &json!([{"subname": "a", "type": "A", "ttl": 3600, "records": ["192.0.2.1"]}]));
        let batch = json!([
            {"subname": "a", "type": "CNAME", "ttl": 3600, "records": ["b.test."]},
            {"subname": "a", "type": "A", "records": []},
        ]);
        assert_eq!(patch(&mut facade, &mut model, &batch).0, 200);
        assert_eq!(model.zones[0].data("a.example.test.", "CNAME"), ["b.test."]);
    }

    #[test]
    fn pages_are_asked_for_by_cursor_and_told_in_the_link() {
        let (mut facade, mut model) = house(4, 9);
        let mut get = |path: &str| ask(&mut facade, &mut model, "GET", path, &json!(null));
        let whole = get("example.test/rrsets/");
        assert!(whole.status == 400 && whole.headers.iter().any(|(n, v)| n == "Link" && v.contains("rel=\"first\"")));
        let (mut cursor, mut seen) = (String::new(), BTreeSet::new());
        loop {
            let page = get(&format!("example.test/rrsets/?cursor={cursor}"));
            seen.extend(said(&page).as_array().unwrap().iter().map(|s| s["name"].to_string()));
            let link = page.headers.iter().find(|(n, _)| n == "Link").map(|(_, v)| v.clone()).unwrap();
            let Some(next) = link.split(", ").find(|l| l.ends_with("rel=\"next\"")) else { break };
            cursor = next.split_once("cursor=").unwrap().1.split_once('>').unwrap().0.to_owned();
        }
        assert_eq!(seen.len(), 10);
        assert_eq!(said(&get("example.test/rrsets/?subname=foreign-3")).as_array().unwrap().len(), 1);
        assert_eq!(said(&get("example.test/rrsets/?subname="))[0]["type"], "NS");
        assert_eq!(get("other.test/rrsets/").status, 404);
        assert_eq!(get("example.test").status, 301);
    }

    #[test]
    fn text_is_stored_in_strings_of_255_octets_with_escapes() {
        for (given, stored) in [
            (r#""a" "b""#, r#""a" "b""#),
            (r#""b\195\188""#, r#""b\195\188""#),
            (r#""\a\"\\""#, r#""a\"\\""#),
            ("\"ü\"", r#""\195\188""#),
        ] {
            assert_eq!(canonical("TXT", given).as_deref(), Ok(stored));
        }
        let long = format!("\"{}\"", "x".repeat(300));
        assert_eq!(canonical("TXT", &long).unwrap().matches('"').count(), 4);
    }
}
