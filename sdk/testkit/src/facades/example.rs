//! The example API that a new provider speaks as it was made. Every fact is from `sdk/template/API.md`, which goes into each new
//! project.

use serde_json::{Value, json};

use crate::{
    facade::{Facade, Refusal, Request, Response, Wait},
    model::{Model, Record, Zone},
};

/// Entries of a page.
const PAGE: usize = 100;
const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];

/// The API, with the one token that it takes.
#[derive(Debug, Clone)]
pub struct Example {
    pub token: String,
}

impl Default for Example {
    fn default() -> Self {
        Self { token: "example-token-0123456789".to_owned() }
    }
}

fn error(status: u16, sentence: &str) -> Response {
    Response::json(status, &json!({"error": sentence}))
}

fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn row(record: &Record) -> Value {
    json!({"id": record.id, "name": bare(&record.name), "type": record.rtype, "data": record.data, "ttl": record.ttl})
}

/// One page of a list, its number of entries in all, and the number of the next page.
fn paged(all: Vec<Value>, request: &Request) -> Option<(Vec<Value>, usize, Option<usize>)> {
    let page: usize = request.query("page").unwrap_or("1").parse().ok().filter(|page| *page > 0)?;
    let total = all.len();
    let rows: Vec<Value> = all.into_iter().skip((page - 1) * PAGE).take(PAGE).collect();
    Some((rows, total, (page * PAGE < total).then_some(page + 1)))
}

impl Facade for Example {
    fn settings(&self, base: &str) -> Value {
        json!({"server-url": base, "token": self.token})
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if request.header("authorization") != Some(&format!("Bearer {}", self.token)) {
            return self.refusal(Refusal::Credentials);
        }
        let segments = request.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["v1", "zones"]) => {
                let zones = model.zones.iter().map(|z| json!({"id": z.id, "name": bare(&z.name)})).collect();
                match paged(zones, request) {
                    Some((zones, _, next)) => Response::json(200, &json!({"zones": zones, "next_page": next})),
                    None => error(422, "`page` is a number from 1"),
                }
            }
            (_, ["v1", "zones", id, "records", rest @ ..]) => {
                let fresh = model.fresh_id();
                match model.zone_by_id_mut(id) {
                    None => error(404, "there is no such zone"),
                    Some(zone) => records(zone, rest, request, fresh),
                }
            }
            _ => error(404, "there is nothing here"),
        }
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials | Refusal::Forbidden => error(401, "the token is not known"),
            Refusal::RateLimited(Wait::Seconds(seconds) | Wait::Own(seconds)) => {
                error(429, "too many requests").header("retry-after", seconds.to_string())
            }
            Refusal::RateLimited(_) => error(429, "too many requests"),
            Refusal::Broken => error(500, "something broke here"),
            Refusal::Quota => error(422, "the zone is full"),
        }
    }
}

fn records(zone: &mut Zone, rest: &[&str], request: &Request, fresh: String) -> Response {
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let name = request.query("name");
            let rows = zone.records.iter().filter(|r| name.is_none_or(|n| n == bare(&r.name))).map(row).collect();
            match paged(rows, request) {
                Some((rows, total, next)) => {
                    Response::json(200, &json!({"records": rows, "total": total, "next_page": next}))
                }
                None => error(422, "`page` is a number from 1"),
            }
        }
        ("POST", []) => match read(zone, request) {
            Err(sentence) => error(422, sentence),
            Ok(record) if zone.of(&record.name, &record.rtype).any(|r| r.data == record.data) => {
                error(409, "the same record is there already")
            }
            Ok(_) if zone.is_full(1) => error(422, "the zone is full"),
            Ok(record) => {
                let record = Record { id: fresh, ..record };
                let shown = row(&record);
                zone.records.push(record);
                zone.serial += 1;
                Response::json(201, &shown)
            }
        },
        ("PATCH", [id]) => {
            let ttl = request.json().and_then(|b| b.get("ttl").and_then(Value::as_u64)).and_then(bounded);
            let record = zone.records.iter_mut().find(|r| r.id == *id);
            match (record, ttl) {
                (None, _) => error(404, "there is no such record"),
                (_, None) => error(422, "`ttl` is 60 to 86400"),
                (Some(record), ttl) => {
                    record.ttl = ttl;
                    let shown = row(record);
                    zone.serial += 1;
                    Response::json(200, &shown)
                }
            }
        }
        ("DELETE", [id]) => match zone.records.iter().position(|r| r.id == *id) {
            None => error(404, "there is no such record"),
            Some(at) => {
                zone.records.remove(at);
                zone.serial += 1;
                Response::empty(204)
            }
        },
        _ => error(404, "there is nothing here"),
    }
}

fn bounded(ttl: u64) -> Option<u32> {
    u32::try_from(ttl).ok().filter(|ttl| (60..=86_400).contains(ttl))
}

/// A record as it is sent, or why it is refused.
fn read(zone: &Zone, request: &Request) -> Result<Record, &'static str> {
    let body = request.json().ok_or("the body is no JSON")?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let name = text("name").filter(|name| !name.ends_with('.')).ok_or("`name` is a name without final dot")?;
    let name = format!("{}.", name.to_ascii_lowercase());
    if name != zone.name && !name.ends_with(&format!(".{}", zone.name)) {
        return Err("`name` is not in this zone");
    }
    let rtype = text("type").filter(|t| TYPES.contains(t)).ok_or("`type` is not one that is taken here")?;
    let data = text("data").filter(|d| !d.is_empty()).ok_or("`data` is missing")?;
    let good = match rtype {
        "A" => data.parse::<std::net::Ipv4Addr>().is_ok(),
        "AAAA" => data.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    };
    if !good {
        return Err("`data` is not of this type");
    }
    let alone = |other: &Record| other.name == name && (rtype == "CNAME") != (other.rtype == "CNAME");
    if zone.records.iter().any(alone) {
        return Err("a CNAME stands alone");
    }
    let ttl = body.get("ttl").and_then(Value::as_u64).and_then(bounded).ok_or("`ttl` is 60 to 86400")?;
    Ok(Record::new(&name, rtype, data, ttl))
}
