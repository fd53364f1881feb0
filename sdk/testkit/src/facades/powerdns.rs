//! PowerDNS Authoritative, its HTTP API: statuses and texts as measured on 4.7.3 (reference/dns.md §2.2; documentation:
//! <https://doc.powerdns.com/authoritative/http-api/>).
//!
//! Types beyond those that services have are shown and not taken, rather than stored unchecked. The SOA is made from the zone's
//! serial and is not in the model. tests/e2e/tests/powerdns.rs asks this one and a real one the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use serde_json::{Value, json};

use crate::{
    facade::{Facade, Features, Refusal, Request, Response, Wait},
    model::{Model, Record, Zone},
};

/// What the real one gives sets that it makes by itself.
const OWN_TTL: u32 = 3_600;
/// Of a zone that is made by the API; the real one takes today's date.
const FIRST_SERIAL: u64 = 2_026_010_101;
/// Where the API begins.
const SERVER: &str = "/api/v1/servers/localhost";

/// One server.
#[derive(Debug, Clone)]
pub struct PowerDns {
    key: String,
    version: String,
    /// EXTEND and PRUNE: from 4.9.12 and from 5.0.2.
    merges: bool,
}

impl Default for PowerDns {
    fn default() -> Self {
        Self { key: "key-of-the-powerdns-facade".into(), version: "4.7.3".into(), merges: false }
    }
}

impl PowerDns {
    /// One that merges single values in its own transaction.
    pub fn newer() -> Self {
        Self { version: "5.0.2".into(), merges: true, ..Self::default() }
    }

    /// One with this API key.
    pub fn with_key(key: &str) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// Everything in a zone, its SOA first: what an answer by DNS is made from.
    pub fn everything(zone: &Zone) -> impl Iterator<Item = Record> {
        let data = format!(
            "a.misconfigured.dns.server.invalid. hostmaster.{} {} 10800 3600 604800 {OWN_TTL}",
            zone.name, zone.serial
        );
        std::iter::once(Record::new(&zone.name, "SOA", &data, OWN_TTL)).chain(zone.records.iter().cloned())
    }

    fn server(&self) -> Value {
        json!({"type": "Server", "id": "localhost", "daemon_type": "authoritative", "version": self.version,
            "url": SERVER, "zones_url": format!("{SERVER}/zones{{/zone}}"),
            "config_url": format!("{SERVER}/config{{/config_setting}}"),
            "autoprimaries_url": format!("{SERVER}/autoprimaries{{/autoprimary}}")})
    }

    /// All sets of the request, in its order, or none.
    fn patch(&self, zone: &mut Zone, body: &[u8]) -> Result<Response, Response> {
        let body: Value = serde_json::from_slice(body).map_err(|_| plain(400))?;
        let sets =
            body.get("rrsets").and_then(Value::as_array).ok_or_else(|| error("No rrsets given in update request"))?;
        let mut records = zone.records.clone();
        let mut notes = zone.notes.clone();
        let mut seen = BTreeSet::new();
        for set in sets {
            self.change(&zone.name, &mut records, &mut notes, &mut seen, set)?;
        }
        (zone.records, zone.notes) = (records, notes);
        // Even for what was so already.
        zone.serial += 1;
        let serial = zone.serial.to_string();
        // Both headers show the new one.
        Ok(Response::empty(204).header("X-Pdns-Old-Serial", serial.clone()).header("X-Pdns-New-Serial", serial))
    }

    fn change(
        &self,
        zone: &str,
        records: &mut Vec<Record>,
        notes: &mut BTreeMap<(String, String), String>,
        seen: &mut BTreeSet<(String, String, String)>,
        set: &Value,
    ) -> Result<(), Response> {
        let name = canonical(text(set, "name")?)?;
        let rtype = text(set, "type")?.to_owned();
        if !matches!(rtype.as_str(), "A" | "AAAA" | "CNAME" | "DNAME" | "NS" | "PTR" | "TXT") {
            return Err(error(format!("RRset {name} IN {rtype}: unknown type given")));
        }
        let changetype = text(set, "changetype")?.to_ascii_uppercase();
        if !seen.insert((name.clone(), rtype.clone(), changetype.clone())) {
            return Err(error(format!("Duplicate RRset {name} IN {rtype} with changetype: {changetype}")));
        }
        let own = |r: &Record| r.name == name && r.rtype == rtype;
        match changetype.as_str() {
            "DELETE" => {
                records.retain(|r| !own(r));
                notes.remove(&(name, rtype));
                return Ok(());
            }
            "REPLACE" => {}
            "EXTEND" | "PRUNE" if self.merges => {}
            _ => return Err(error("Changetype not understood")),
        }
        if name != zone && !name.ends_with(&format!(".{zone}")) {
            return Err(error(format!("RRset {name} IN {rtype}: Name is out of zone")));
        }
        let given = set.get("records").and_then(Value::as_array);
        let given = given.ok_or_else(|| error(format!("No change for RRset {name} IN {rtype}")))?;
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
        let ttl = set.get("ttl").and_then(number).ok_or_else(|| error("Key 'ttl' not an Integer or not present"))?;
        // -1 is stored so.
        let ttl = u32::try_from(ttl).unwrap_or(u32::MAX);
        let mut new: Vec<Record> = Vec::new();
        for record in given {
            let data = checked(&name, &rtype, text(record, "content")?)?;
            if new.iter().any(|r| r.data == data) {
                let text = format!("Duplicate record in RRset {name} IN {rtype} with content \"{data}\"");
                return Err(error(text));
            }
            let disabled = record.get("disabled").and_then(Value::as_bool).unwrap_or(false);
            let former = records.iter().find(|r| own(r) && r.data == data).cloned();
            new.push(Record {
                disabled,
                ttl: Some(ttl),
                ..former.unwrap_or_else(|| Record::new(&name, &rtype, &data, ttl))
            });
        }
        match (changetype.as_str(), new.as_slice()) {
            ("REPLACE", _) => records.retain(|r| !own(r)),
            ("PRUNE", [one]) => {
                records.retain(|r| !(own(r) && r.data == one.data));
                new.clear();
            }
            ("EXTEND", [one]) => {
                records.retain(|r| !(own(r) && r.data == one.data));
                for record in records.iter_mut().filter(|r| own(r)) {
                    record.ttl = Some(ttl);
                }
            }
            _ => return Err(error(format!("{changetype} takes exactly one record"))),
        }
        if !new.is_empty() {
            let clash = |r: &Record| r.name == name && r.rtype != rtype && (rtype == "CNAME" || r.rtype == "CNAME");
            if records.iter().any(clash) {
                return Err(error(format!("RRset {name} IN {rtype}: Conflicts with pre-existing RRset")));
            }
        }
        // Without `comments` those that are there stay; an empty list takes them away.
        match set.get("comments").and_then(Value::as_array) {
            Some(none) if none.is_empty() => {
                notes.remove(&(name, rtype));
            }
            Some(some) => {
                let all: Vec<&str> = some.iter().filter_map(|c| c.get("content")?.as_str()).collect();
                notes.insert((name, rtype), all.join("\n"));
            }
            None => {}
        }
        records.extend(new);
        Ok(())
    }
}

impl Facade for PowerDns {
    fn settings(&self, base: &str) -> Value {
        json!({"server-url": base, "api-key": self.key})
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if request.header("x-api-key") != Some(self.key.as_str()) {
            return self.refusal(Refusal::Credentials);
        }
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["api", "v1", "servers", "localhost", rest @ ..] = parts.as_slice() else { return plain(404) };
        let answered = match (request.method.as_str(), rest) {
            ("GET", []) => Ok(Response::json(200, &self.server())),
            ("GET", ["zones"]) => list(model, request),
            ("POST", ["zones"]) => create(model, request),
            ("GET", ["search-data"]) => search(model, request),
            ("GET", ["zones", id]) => zone_mut(model, id).and_then(|zone| show(zone, request)),
            // Even for a zone that has nobody to tell.
            ("PUT", ["zones", id, "notify"]) => {
                zone_mut(model, id).map(|_| Response::json(200, &json!({"result": "Notification queued"})))
            }
            ("PATCH", ["zones", id]) => zone_mut(model, id).and_then(|zone| self.patch(zone, &request.body)),
            (_, [] | ["zones"] | ["search-data"] | ["zones", _] | ["zones", _, "notify"]) => Err(plain(405)),
            _ => Err(plain(404)),
        };
        answered.unwrap_or_else(|refused| refused)
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials => plain(401).header("WWW-Authenticate", "X-API-Key realm=\"PowerDNS\""),
            // It has no rights and no rate limit of its own: what stands in front of it has.
            Refusal::Forbidden => plain(403),
            Refusal::RateLimited(wait) => waiting(plain(429), wait),
            Refusal::Broken => plain(500),
            Refusal::Quota => error("Too many records"),
        }
    }

    fn features(&self) -> Features {
        Features { disabled: true, comments: true, read_only: true, ..Features::default() }
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        model.add_zone(name, foreign);
        if let Some(zone) = model.zone_mut(name) {
            zone.id = id_of(name);
        }
    }
}

/// With `Retry-After`, as what stands in front of an API says it.
pub(crate) fn waiting(response: Response, wait: Wait) -> Response {
    match wait {
        Wait::Unsaid => response,
        Wait::Seconds(seconds) | Wait::Own(seconds) => response.header("Retry-After", seconds.to_string()),
        Wait::Date(from_now) => {
            response.header("Retry-After", crate::facade::http_date(std::time::SystemTime::now() + from_now))
        }
    }
}

/// The status' own words as plain text.
fn plain(status: u16) -> Response {
    let words = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
    Response::text(status, "text/plain; charset=utf-8", words)
}

fn error(text: impl Into<String>) -> Response {
    Response::json(422, &json!({"error": text.into()}))
}

fn text<'a>(body: &'a Value, key: &str) -> Result<&'a str, Response> {
    body.get(key).and_then(Value::as_str).ok_or_else(|| error(format!("Key '{key}' not present or not a String")))
}

fn zone_mut<'a>(model: &'a mut Model, id: &str) -> Result<&'a mut Zone, Response> {
    let name = id.replace("=2F", "/").to_ascii_lowercase();
    model.zone_mut(&name).ok_or_else(|| plain(404))
}

/// What a list shows of a zone.
fn meta(zone: &Zone) -> Value {
    let kind = if zone.writable { "Native" } else { "Slave" };
    json!({"account": "", "catalog": "", "id": zone.id, "kind": kind, "last_check": 0, "masters": [], "name": zone.name,
        "notified_serial": 0, "serial": zone.serial, "url": format!("{SERVER}/zones/{}", zone.id)})
}

/// With these keys besides.
fn and(mut value: Value, more: Value) -> Value {
    if let (Some(into), Value::Object(more)) = (value.as_object_mut(), more) {
        into.extend(more);
    }
    value
}

fn list(model: &Model, request: &Request) -> Result<Response, Response> {
    let wanted = request.query("zone").map(canonical).transpose()?;
    let all = model.zones.iter().filter(|z| wanted.as_ref().is_none_or(|w| *w == z.name));
    let shown = |zone: &Zone| match request.query("dnssec") {
        Some("false") => meta(zone),
        _ => and(meta(zone), json!({"dnssec": false, "edited_serial": zone.serial})),
    };
    Ok(Response::json(200, &all.map(shown).collect()))
}

/// A new zone, with the nameservers that are named.
fn create(model: &mut Model, request: &Request) -> Result<Response, Response> {
    let body: Value = serde_json::from_slice(&request.body).map_err(|_| plain(400))?;
    let name = canonical(text(&body, "name")?)?;
    let native = text(&body, "kind")? != "Slave";
    let mut zone = Zone { writable: native, serial: FIRST_SERIAL, ..Zone::new(&id_of(&name), &name) };
    for server in body.get("nameservers").and_then(Value::as_array).into_iter().flatten() {
        let server = server.as_str().ok_or_else(|| error("Nameservers must be strings"))?;
        if !server.ends_with('.') {
            return Err(error(format!("Nameserver is not canonical: '{server}'")));
        }
        zone.records.push(Record::new(&name, "NS", server, OWN_TTL));
    }
    if model.zone(&name).is_some() {
        return Err(plain(409));
    }
    let shown = shown(&zone, None, None);
    model.zones.push(zone);
    Ok(Response::json(201, &shown))
}

/// A slash can't stand in an id.
fn id_of(name: &str) -> String {
    name.replace('/', "=2F")
}

/// The zone; with `rrset_name` (and `rrset_type`) that name alone, and disabled values are left out then.
fn show(zone: &Zone, request: &Request) -> Result<Response, Response> {
    if request.query("rrsets") == Some("false") {
        return Ok(Response::json(200, &whole(zone)));
    }
    let wanted = request.query("rrset_name").map(canonical).transpose()?;
    Ok(Response::json(200, &shown(zone, wanted.as_deref(), request.query("rrset_type"))))
}

/// A zone as it is shown by itself, without its sets.
fn whole(zone: &Zone) -> Value {
    let more = json!({"api_rectify": false, "dnssec": false, "edited_serial": zone.serial, "master_tsig_key_ids": [],
        "nsec3narrow": false, "nsec3param": "", "slave_tsig_key_ids": [], "soa_edit": "", "soa_edit_api": "DEFAULT"});
    and(meta(zone), more)
}

fn shown(zone: &Zone, wanted: Option<&str>, rtype: Option<&str>) -> Value {
    let rtype = rtype.filter(|_| wanted.is_some());
    let mut sets: BTreeMap<(String, String), Vec<Record>> = BTreeMap::new();
    for record in PowerDns::everything(zone) {
        let fits = wanted.is_none_or(|w| w == record.name) && rtype.is_none_or(|t| t == record.rtype);
        if fits && !(wanted.is_some() && record.disabled) {
            sets.entry((record.name.clone(), record.rtype.clone())).or_default().push(record);
        }
    }
    let one = |((name, rtype), records): (&(String, String), &Vec<Record>)| {
        let comments: Vec<Value> = zone
            .notes
            .get(&(name.clone(), rtype.clone()))
            .into_iter()
            .map(|note| json!({"account": "", "content": note, "modified_at": 0}))
            .collect();
        let ttl = records.first().and_then(|r| r.ttl).unwrap_or(OWN_TTL);
        let records: Vec<Value> = records.iter().map(|r| json!({"content": r.data, "disabled": r.disabled})).collect();
        json!({"comments": comments, "name": name, "records": records, "ttl": ttl, "type": rtype})
    };
    let sets: Vec<Value> = sets.iter().map(one).collect();
    and(whole(zone), json!({"rrsets": sets}))
}

/// Whether a text is what was searched for; `*` stands for any text, `?` for one character.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, behind))) => glob(rest, text) || glob(pattern, behind),
        (Some((b'?', rest)), Some((_, behind))) => glob(rest, behind),
        (Some((a, rest)), Some((b, behind))) => a.eq_ignore_ascii_case(b) && glob(rest, behind),
        _ => false,
    }
}

fn search(model: &Model, request: &Request) -> Result<Response, Response> {
    let q = request.query("q").filter(|q| !q.is_empty()).ok_or_else(|| error("Query q can't be blank"))?;
    let q = q.trim_end_matches('.');
    let most: usize = request.query("max").and_then(|m| m.parse().ok()).unwrap_or(100);
    let kind = request.query("object_type").unwrap_or("all");
    let hits = |text: &str| glob(q.as_bytes(), text.trim_end_matches('.').as_bytes());
    let mut found = Vec::new();
    for zone in &model.zones {
        if matches!(kind, "all" | "zone") && hits(&zone.name) {
            found.push(json!({"name": zone.name, "object_type": "zone", "zone_id": zone.id}));
        }
        if !matches!(kind, "all" | "record") {
            continue;
        }
        for r in PowerDns::everything(zone).filter(|r| hits(&r.name) || hits(&r.data)) {
            found.push(json!({"content": r.data, "disabled": r.disabled, "name": r.name, "object_type": "record",
                "ttl": r.ttl.unwrap_or(OWN_TTL), "type": r.rtype, "zone": zone.name, "zone_id": zone.id}));
        }
    }
    found.truncate(most);
    Ok(Response::json(200, &Value::Array(found)))
}

/// A name with its dot, in lower case.
fn canonical(name: &str) -> Result<String, Response> {
    let Some(bare) = name.strip_suffix('.') else {
        return Err(error(format!("DNS Name '{name}' is not canonical")));
    };
    if bare.split('.').any(|label| label.is_empty() || label.len() > 63) || bare.len() > 253 {
        return Err(error(format!("Unable to parse DNS Name '{name}'")));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "_/.-".contains(c));
    if bare.strip_prefix("*.").unwrap_or(bare).contains(odd) {
        return Err(error(format!("Name '{name}' contains unsupported characters")));
    }
    Ok(name.to_ascii_lowercase())
}

/// A value as it is stored.
fn checked(name: &str, rtype: &str, content: &str) -> Result<String, Response> {
    let refused = |why: String| error(format!("Record {name}/{rtype} '{content}': {why}"));
    let no_address =
        || refused("Parsing record content (try 'pdnsutil check-zone'): unable to parse IP address".into());
    let other_form = |form: String| refused(format!("Not in expected format (parsed as '{form}')"));
    match rtype {
        "A" => content.parse::<Ipv4Addr>().map(|ip| ip.to_string()).map_err(|_| no_address()),
        "AAAA" => {
            content.parse::<Ipv6Addr>().map(|ip| ip.to_string()).map_err(|_| refused("Invalid IPv6 address".into()))
        }
        "TXT" if !content.starts_with('"') || !content.ends_with('"') || content.len() < 2 => {
            Err(other_form(format!("\"{content}\"")))
        }
        "TXT" => Ok(content.to_owned()),
        _ if !content.ends_with('.') => Err(other_form(format!("{content}."))),
        _ => Ok(content.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pdns: &mut PowerDns, model: &mut Model, method: &str, path: &str, body: &Value) -> Response {
        let headers = vec![("x-api-key".to_owned(), pdns.key.clone())];
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = crate::facade::pairs(query);
        let request = Request {
            method: method.into(),
            path: format!("{SERVER}{path}"),
            query,
            headers,
            body: body.to_string().into_bytes(),
            ..Request::default()
        };
        pdns.answer(model, &request)
    }

    fn set(changetype: &str, rtype: &str, contents: &[&str]) -> Value {
        let records: Vec<Value> = contents.iter().map(|c| json!({"content": c})).collect();
        json!({"name": "a.example.test.", "type": rtype, "changetype": changetype, "ttl": 300, "records": records})
    }

    fn house() -> (PowerDns, Model) {
        let (pdns, mut model) = (PowerDns::default(), Model::default());
        pdns.new_zone(&mut model, "example.test.", 1);
        (pdns, model)
    }

    #[test]
    fn one_bad_set_takes_the_whole_request_down_and_the_serial_stays() {
        let (mut pdns, mut model) = house();
        let before = model.zones.clone();
        let body = json!({"rrsets": [set("REPLACE", "A", &["192.0.2.1"]), set("REPLACE", "PTR", &["no-dot.test"])]});
        let answer = ask(&mut pdns, &mut model, "PATCH", "/zones/example.test.", &body);
        assert_eq!(answer.status, 422);
        assert!(String::from_utf8(answer.body).unwrap().contains("Not in expected format (parsed as 'no-dot.test.')"));
        assert_eq!(model.zones, before);
    }

    #[test]
    fn a_cname_can_follow_the_address_that_goes_in_the_same_request_and_not_the_other_way_round() {
        let (mut pdns, mut model) = house();
        let patch = |pdns: &mut PowerDns, model: &mut Model, sets: Value| {
            ask(pdns, model, "PATCH", "/zones/example.test.", &json!({"rrsets": sets})).status
        };
        assert_eq!(patch(&mut pdns, &mut model, json!([set("REPLACE", "A", &["192.0.2.1"])])), 204);
        let (gone, cname) = (set("DELETE", "A", &[]), set("REPLACE", "CNAME", &["b.test."]));
        assert_eq!(patch(&mut pdns, &mut model, json!([cname, gone])), 422);
        assert_eq!(patch(&mut pdns, &mut model, json!([gone, cname])), 204);
        assert_eq!(model.zone("example.test.").unwrap().data("a.example.test.", "CNAME"), ["b.test."]);
    }

    #[test]
    fn a_no_op_raises_the_serial_and_an_older_one_does_not_merge() {
        let (mut pdns, mut model) = house();
        let serial = model.zones[0].serial;
        assert_eq!(ask(&mut pdns, &mut model, "PATCH", "/zones/example.test.", &json!({"rrsets": []})).status, 204);
        assert_eq!(model.zones[0].serial, serial + 1);
        let body = json!({"rrsets": [set("EXTEND", "A", &["192.0.2.1"])]});
        assert_eq!(ask(&mut pdns, &mut model, "PATCH", "/zones/example.test.", &body).status, 422);
        assert_eq!(ask(&mut PowerDns::newer(), &mut model, "PATCH", "/zones/example.test.", &body).status, 204);
    }

    #[test]
    fn a_zone_is_made_once_with_its_servers() {
        let (mut pdns, mut model) = (PowerDns::default(), Model::default());
        let body = json!({"name": "0/25.2.0.192.in-addr.arpa.", "kind": "Native", "nameservers": ["ns1.example.net."]});
        let made = ask(&mut pdns, &mut model, "POST", "/zones", &body);
        assert_eq!(made.status, 201);
        assert_eq!(model.zones[0].id, "0=2F25.2.0.192.in-addr.arpa.");
        assert_eq!(model.zones[0].data("0/25.2.0.192.in-addr.arpa.", "NS"), ["ns1.example.net."]);
        assert_eq!(ask(&mut pdns, &mut model, "POST", "/zones", &body), plain(409));
        let told = ask(&mut pdns, &mut model, "PUT", "/zones/0=2F25.2.0.192.in-addr.arpa./notify", &json!({}));
        assert_eq!(told.status, 200);
    }

    #[test]
    fn a_filter_hides_what_is_disabled_and_a_search_shows_it() {
        let (mut pdns, mut model) = house();
        let off = Record { disabled: true, ..Record::new("a.example.test.", "A", "192.0.2.1", 300) };
        model.zones[0].records.push(off);
        let filtered = ask(
            &mut pdns,
            &mut model,
            "GET",
            "/zones/example.test.?rrset_name=a.example.test.&rrset_type=A",
            &json!({}),
        );
        assert!(String::from_utf8(filtered.body).unwrap().contains("\"rrsets\":[]"));
        let found = ask(&mut pdns, &mut model, "GET", "/search-data?q=a.example.test&object_type=record", &json!({}));
        assert!(String::from_utf8(found.body).unwrap().contains("192.0.2.1"));
    }

    #[test]
    fn a_wrong_key_and_a_missing_zone_are_answered_in_plain_text() {
        let (mut pdns, mut model) = house();
        assert_eq!(ask(&mut pdns, &mut model, "GET", "/zones/other.test.", &json!({})), plain(404));
        let wrong = Request { method: "GET".into(), path: SERVER.into(), ..Request::default() };
        let answer = pdns.answer(&mut model, &wrong);
        assert_eq!((answer.status, answer.body.as_slice()), (401, "Unauthorized".as_bytes()));
    }
}
