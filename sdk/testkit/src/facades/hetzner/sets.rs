//! Sets of records: how they are shown, what is taken, and what it comes to.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde_json::{Map, Value, json};

use super::{Fail, bare, not_found, quota};
use crate::{
    facade::Request,
    model::{Record, Zone},
};

/// Of a zone, unless it was changed.
pub(super) const ZONE_TTL: u32 = 10_800;
/// Types that paths and filters take.
const TYPES: [&str; 16] =
    ["A", "AAAA", "CAA", "CNAME", "DS", "HINFO", "HTTPS", "MX", "NS", "PTR", "RP", "SOA", "SRV", "SVCB", "TLSA", "TXT"];

/// A value with its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    value: String,
    comment: Option<String>,
}

#[derive(Debug, Clone)]
enum What {
    Create { ttl: Option<u32>, rows: Vec<Row> },
    Add { ttl: Option<u32>, rows: Vec<Row> },
    Remove { rows: Vec<Row> },
    Set { rows: Vec<Row> },
    Retime { ttl: Option<u32> },
    Delete,
}

/// A write that was found good.
#[derive(Debug, Clone)]
pub(super) struct Change {
    rtype: String,
    what: What,
}

/// `@` is the zone.
fn absolute(zone: &Zone, name: &str) -> String {
    if name == "@" { zone.name.clone() } else { format!("{name}.{}", zone.name) }
}

fn relative(zone: &Zone, name: &str) -> String {
    if name == zone.name {
        return "@".into();
    }
    name.strip_suffix(&format!(".{}", zone.name)).unwrap_or(name).to_owned()
}

fn of<'z>(zone: &'z Zone, name: &str, rtype: &str) -> Vec<&'z Record> {
    let name = absolute(zone, name);
    zone.records.iter().filter(|r| r.name == name && r.rtype == rtype).collect()
}

fn shown(zone: &Zone, name: &str, records: &[&Record]) -> Option<Value> {
    let first = records.first()?;
    let rtype = &first.rtype;
    let is_protected = records.iter().any(|r| r.extra.contains_key("protected"));
    let row = |r: &&Record| json!({ "value": r.data, "comment": r.comment.as_deref().unwrap_or_default() });
    Some(json!({
        "id": format!("{name}/{rtype}"), "name": name, "type": rtype, "ttl": first.ttl, "labels": {},
        "protection": { "change": is_protected }, "records": records.iter().map(row).collect::<Vec<_>>(),
        "zone": zone.id.parse::<u64>().unwrap_or_default(),
    }))
}

pub(super) fn show(zone: &Zone, name: &str, rtype: &str) -> Option<Value> {
    shown(zone, name, &of(zone, name, rtype))
}

/// A set of a list.
pub(super) enum Listed<'z> {
    /// Made from the zone's serial; it is not in the model.
    Soa,
    Records(Vec<&'z Record>),
}

impl Listed<'_> {
    pub(super) fn show(&self, zone: &Zone) -> Option<Value> {
        match self {
            Self::Records(records) => shown(zone, &relative(zone, &records.first()?.name), records),
            Self::Soa => {
                let value =
                    format!("hydrogen.ns.hetzner.com. dns.hetzner.com. {} 86400 10800 3600000 3600", zone.serial);
                Some(json!({ "id": "@/SOA", "name": "@", "type": "SOA", "ttl": null, "labels": {},
                    "protection": { "change": false }, "records": [{ "value": value, "comment": "" }] }))
            }
        }
    }
}

/// All sets, or those of the filters, in an order that stays.
pub(super) fn list<'z>(zone: &'z Zone, request: &Request) -> Result<Vec<Listed<'z>>, Fail> {
    let types: Vec<&str> = request.query.iter().filter(|(n, _)| n == "type").map(|(_, v)| v.as_str()).collect();
    if let Some(other) = types.iter().find(|t| !TYPES.contains(t)) {
        return Err(Fail::invalid("type", &format!("{other} is not a type")));
    }
    let wanted = request.query("name").map(|name| absolute(zone, name));
    let fits = |name: &str, rtype: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted == name) && (types.is_empty() || types.contains(&rtype))
    };
    let mut sets: Vec<Vec<&Record>> = Vec::new();
    let mut places: HashMap<(&str, &str), usize> = HashMap::new();
    for record in zone.records.iter().filter(|r| fits(&r.name, &r.rtype)) {
        let at = *places.entry((&record.name, &record.rtype)).or_insert(sets.len());
        match sets.get_mut(at) {
            Some(set) => set.push(record),
            None => sets.push(vec![record]),
        }
    }
    let soa = fits(&zone.name, "SOA").then_some(Listed::Soa);
    Ok(soa.into_iter().chain(sets.into_iter().map(Listed::Records)).collect())
}

/// In lower case, without final dot and without the zone's name (field `name` in the reference). A slash is not known to be taken.
fn check_name(zone: &Zone, name: &str) -> Result<(), Fail> {
    let good = |(at, label): (usize, &str)| {
        (1..=63).contains(&label.len())
            && (label == "*" && at == 0
                || label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c)))
    };
    let whole = absolute(zone, name);
    let ends_with_zone = name == bare(&zone.name) || name.ends_with(&format!(".{}", bare(&zone.name)));
    if name != "@" && (!name.split('.').enumerate().all(good) || ends_with_zone) || bare(&whole).len() > 253 {
        return Err(Fail::invalid("name", "is not a valid name of a set"));
    }
    Ok(())
}

fn check_type(rtype: &str) -> Result<(), Fail> {
    if TYPES.contains(&rtype) && rtype != "SOA" { Ok(()) } else { Err(Fail::invalid("type", "is not allowed")) }
}

fn ttl(body: &Map<String, Value>) -> Result<Option<u32>, Fail> {
    match body.get("ttl") {
        None | Some(Value::Null) => Ok(None),
        Some(ttl) => match ttl.as_u64().and_then(|t| u32::try_from(t).ok()) {
            Some(ttl @ 60..=0x7fff_ffff) => Ok(Some(ttl)),
            _ => Err(Fail::invalid("ttl", "must be in between 60s and 2147483647s")),
        },
    }
}

/// A value in the form in which it is kept.
fn stored(rtype: &str, value: &str) -> Result<String, Fail> {
    let invalid = |why: &str| Fail::invalid("records", &format!("{rtype} {value}: {why}"));
    // Without the final dot it would be within the zone.
    let is_host = |host: &str| {
        let good = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
        };
        host.ends_with('.') && bare(host).len() <= 253 && bare(host).split('.').all(good)
    };
    match rtype {
        "A" => value.parse::<Ipv4Addr>().map(|a| a.to_string()).map_err(|_| invalid("is not an IPv4 address")),
        "AAAA" => value.parse::<Ipv6Addr>().map(|a| a.to_string()).map_err(|_| invalid("is not an IPv6 address")),
        "CNAME" | "NS" | "PTR" if is_host(value) => Ok(value.to_owned()),
        "MX" if value.split_once(' ').is_some_and(|(p, host)| p.parse::<u16>().is_ok() && is_host(host)) => {
            Ok(value.to_owned())
        }
        "TXT" => text(value).map(|()| value.to_owned()).map_err(invalid),
        // Their forms are not kept here.
        _ => Err(invalid("is not a valid value")),
    }
}

/// One or more quoted strings of 255 characters (words as in ansible-collections/hetzner.hcloud#752).
fn text(value: &str) -> Result<(), &'static str> {
    let (mut length, mut is_open, mut bytes) = (0, false, value.bytes());
    while let Some(byte) = bytes.next() {
        match (byte, is_open) {
            (b'"', _) => (length, is_open) = (0, !is_open),
            (b' ', false) => {}
            (_, false) => return Err("is not quoted"),
            (b'\\', true) => {
                if bytes.next().is_some_and(|next| next.is_ascii_digit()) {
                    bytes.nth(1);
                }
                length += 1;
            }
            (_, true) => length += 1,
        }
        if length > 255 {
            return Err("a TXT string exceeds 255 characters");
        }
    }
    if is_open || value.is_empty() { Err("has a quote that is not closed") } else { Ok(()) }
}

fn rows(rtype: &str, body: &Map<String, Value>) -> Result<Vec<Row>, Fail> {
    let given = body.get("records").and_then(Value::as_array).filter(|list| !list.is_empty());
    let given = given.ok_or_else(|| Fail::invalid("records", "must not be empty"))?;
    let mut rows: Vec<Row> = Vec::new();
    for item in given {
        let item = item.as_object().ok_or_else(|| Fail::invalid("records", "must be objects"))?;
        if let Some(key) = item.keys().find(|k| !matches!(k.as_str(), "value" | "comment")) {
            return Err(Fail::invalid("records", &format!("`{key}` is not known")));
        }
        let value = item.get("value").and_then(Value::as_str).unwrap_or_default();
        let comment = item.get("comment").and_then(Value::as_str).filter(|c| !c.is_empty()).map(str::to_owned);
        let value = stored(rtype, value)?;
        if rows.iter().any(|r| r.value == value) {
            return Err(Fail::invalid("records", "must only contain distinct record values"));
        }
        rows.push(Row { value, comment });
    }
    Ok(rows)
}

/// Fields that a request may have.
fn only<'b>(body: &'b Value, keys: &[&str]) -> Result<&'b Map<String, Value>, Fail> {
    let map = body.as_object().ok_or_else(|| Fail::invalid("body", "must be an object"))?;
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(Fail::invalid(key, "is not known")),
        None => Ok(map),
    }
}

impl Change {
    pub(super) fn rtype(&self) -> &str {
        &self.rtype
    }

    /// As recorded for some of them.
    pub(super) fn command(&self) -> &'static str {
        match self.what {
            What::Create { .. } => "create_rrset",
            What::Add { .. } => "add_rrset_records",
            What::Remove { .. } => "remove_rrset_records",
            What::Set { .. } => "set_rrset_records",
            What::Retime { .. } => "change_rrset_ttl",
            What::Delete => "delete_rrset",
        }
    }

    fn new(rtype: &str, what: What) -> Self {
        Self { rtype: rtype.to_owned(), what }
    }

    /// Whether so many more fit, and whether a CNAME would be alone. The code of the latter is not known.
    fn fits(zone: &Zone, name: &str, rtype: &str, more: usize, count: usize) -> Result<(), Fail> {
        if zone.is_full(more) {
            return Err(quota());
        }
        let name = absolute(zone, name);
        let is_cname = |rtype: &str| rtype == "CNAME";
        let clash = |r: &Record| r.name == name && r.rtype != rtype && (is_cname(rtype) || is_cname(&r.rtype));
        if zone.records.iter().any(clash) || (is_cname(rtype) && count > 1) {
            return Err(Fail::invalid("records", "a CNAME can't be beside other records"));
        }
        Ok(())
    }

    pub(super) fn create(zone: &Zone, body: &Value) -> Result<(String, Self), Fail> {
        let map = only(body, &["name", "type", "ttl", "records", "labels"])?;
        let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
        let (name, rtype) = (text("name"), text("type"));
        check_name(zone, name)?;
        check_type(rtype)?;
        let (ttl, rows) = (ttl(map)?, rows(rtype, map)?);
        if !of(zone, name, rtype).is_empty() {
            // qdm12/ddns-updater#1165: 409.
            return Err(Fail::new(409, "uniqueness_error", "RRSet already exists"));
        }
        Self::fits(zone, name, rtype, rows.len(), rows.len())?;
        Ok((name.to_owned(), Self::new(rtype, What::Create { ttl, rows })))
    }

    fn there<'z>(zone: &'z Zone, name: &str, rtype: &str) -> Result<Vec<&'z Record>, Fail> {
        let records = of(zone, name, rtype);
        if records.is_empty() {
            return Err(not_found("rrset"));
        }
        if records.iter().any(|r| r.extra.contains_key("protected")) {
            // Quoted in caddy-dns/hetzner#28; the status is not.
            return Err(Fail::new(403, "protected", "RRSet(s) is/are change protected"));
        }
        Ok(records)
    }

    pub(super) fn delete(zone: &Zone, name: &str, rtype: &str) -> Result<Self, Fail> {
        Self::there(zone, name, rtype)?;
        check_type(rtype)?;
        Ok(Self::new(rtype, What::Delete))
    }

    pub(super) fn of(zone: &Zone, name: &str, rtype: &str, command: &str, body: &Value) -> Result<Self, Fail> {
        check_name(zone, name)?;
        check_type(rtype)?;
        let what = match command {
            "add_records" => {
                let map = only(body, &["records", "ttl"])?;
                let (ttl, rows) = (ttl(map)?, rows(rtype, map)?);
                let there = of(zone, name, rtype);
                if !there.is_empty() {
                    Self::there(zone, name, rtype)?;
                    // "If set, and the RRSet being updated already has a TTL, the values must be the same."
                    if ttl.is_some() && there.iter().any(|r| r.ttl.is_some() && r.ttl != ttl) {
                        return Err(Fail::invalid("ttl", "is not that of the RRSet"));
                    }
                }
                // What the real one says is not known.
                if rows.iter().any(|row| there.iter().any(|r| r.data == row.value)) {
                    return Err(Fail::new(409, "uniqueness_error", "record already exists"));
                }
                Self::fits(zone, name, rtype, rows.len(), there.len() + rows.len())?;
                What::Add { ttl, rows }
            }
            "remove_records" => {
                let rows = rows(rtype, only(body, &["records"])?)?;
                let there = Self::there(zone, name, rtype)?;
                if rows.iter().any(|row| !there.iter().any(|r| r.data == row.value)) {
                    return Err(not_found("record"));
                }
                What::Remove { rows }
            }
            "set_records" => {
                let rows = rows(rtype, only(body, &["records"])?)?;
                let there = Self::there(zone, name, rtype)?;
                Self::fits(zone, name, rtype, rows.len().saturating_sub(there.len()), rows.len())?;
                What::Set { rows }
            }
            "change_ttl" => {
                let map = only(body, &["ttl"])?;
                Self::there(zone, name, rtype)?;
                What::Retime { ttl: ttl(map)? }
            }
            _ => return Err(not_found("path")),
        };
        Ok(Self::new(rtype, what))
    }

    /// The set as it will be when it is made.
    pub(super) fn foretold(&self, zone: &Zone, name: &str) -> Value {
        let mut after = Zone::new(&zone.id, &zone.name);
        self.apply(&mut after, name);
        show(&after, name, &self.rtype).unwrap_or_default()
    }

    /// Does it.
    pub(super) fn apply(&self, zone: &mut Zone, name: &str) {
        let name = absolute(zone, name);
        let rtype = &self.rtype;
        let ttl_there = of(zone, &relative(zone, &name), rtype).first().map(|r| r.ttl);
        let is = |r: &Record| r.name == name && r.rtype == *rtype;
        let new = |row: &Row, ttl: Option<u32>| Record {
            id: format!("{name} {rtype} {}", row.value),
            comment: row.comment.clone(),
            ttl,
            ..Record::new(&name, rtype, &row.value, 0)
        };
        match &self.what {
            What::Create { ttl, rows } | What::Add { ttl, rows } => {
                let ttl = ttl_there.unwrap_or(*ttl);
                zone.records.extend(rows.iter().map(|row| new(row, ttl)));
            }
            What::Remove { rows } => zone.records.retain(|r| !(is(r) && rows.iter().any(|row| row.value == r.data))),
            What::Set { rows } => {
                zone.records.retain(|r| !is(r));
                zone.records.extend(rows.iter().map(|row| new(row, ttl_there.flatten())));
            }
            What::Retime { ttl } => zone.records.iter_mut().filter(|r| is(r)).for_each(|r| r.ttl = *ttl),
            What::Delete => zone.records.retain(|r| !is(r)),
        }
    }
}
