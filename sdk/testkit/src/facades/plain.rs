//! An API that no vendor has: records by id, in pages, one write a request. What is usual in the trade, in the fewest lines; to
//! learn from, and for the kit's own tests.
//!
//! | request | answer |
//! |---|---|
//! | `GET /zones?page=1[&name=…]` | `{"zones": [{"id", "name", "writable", "serial"}], "total"}`, 50 a page |
//! | `GET /zones/{id}/records?page=1[&name=…]` | `{"records": [{"id", "name", "type", "data", "ttl", "disabled"}], "total"}`, 100 a page |
//! | `POST /zones/{id}/records` | 201 and the record; the same record twice is two records |
//! | `PATCH /zones/{id}/records/{id}` with `ttl` | 200 and the record |
//! | `DELETE /zones/{id}/records/{id}` | 204; 404 when it is gone |
//!
//! [`Plain::slow`] takes each write on for later: it answers 202 and `{"action": id}`; `GET /actions/{id}` gives `{"status":
//! "running" | "done" | "error", "error"}`, and does the write when it is asked for the third time.
//!
//! `Authorization: Bearer …`. Errors are `{"error": code}`. A TTL is null (automatic) or 60 to 86,400. A CNAME stands alone (409).

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::{
    facade::{Facade, Features, Refusal, Request, Response},
    facades::powerdns::waiting,
    model::{Model, Record, Zone},
};

const ZONES: usize = 50;
const RECORDS: usize = 100;

/// One account.
#[derive(Debug, Clone)]
pub struct Plain {
    token: String,
    slow: bool,
    /// Times that each was asked for, and what it came to.
    actions: Vec<(Request, usize, Option<Response>)>,
}

impl Default for Plain {
    fn default() -> Self {
        Self { token: "token-of-the-plain-facade".into(), slow: false, actions: Vec::new() }
    }
}

impl Plain {
    /// One that takes writes on for later.
    pub fn slow() -> Self {
        Self { slow: true, ..Self::default() }
    }

    fn action(&mut self, model: &mut Model, id: &str) -> Result<Response, Response> {
        let at = id.parse::<usize>().ok().and_then(|n| self.actions.get_mut(n));
        let (request, asked, became) = at.ok_or_else(|| error(404, "no-such-action"))?;
        *asked += 1;
        if *asked < 3 {
            return Ok(Response::json(200, &json!({"status": "running"})));
        }
        let became = became.get_or_insert_with(|| write(model, request));
        let said: Value = serde_json::from_slice(&became.body).unwrap_or_default();
        let status = if became.status < 300 { "done" } else { "error" };
        Ok(Response::json(200, &json!({"status": status, "error": said.get("error")})))
    }
}

fn write(model: &mut Model, request: &Request) -> Response {
    let segments = request.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let written = match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["zones", id, "records"]) => add(model, id, request),
        ("PATCH", ["zones", zone, "records", id]) => retime(model, zone, id, request),
        ("DELETE", ["zones", zone, "records", id]) => delete(model, zone, id),
        _ => Err(error(404, "no-such-path")),
    };
    written.unwrap_or_else(|refused| refused)
}

impl Facade for Plain {
    fn settings(&self, base: &str) -> Value {
        json!({"server-url": base, "token": self.token, "slow": self.slow})
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if request.header("authorization") != Some(&format!("Bearer {}", self.token)) {
            return self.refusal(Refusal::Credentials);
        }
        let segments = request.segments();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let answered = match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["zones"]) => zones(model, request),
            ("GET", ["zones", id, "records"]) => records(model, id, request),
            ("GET", ["actions", id]) => self.action(model, id),
            ("GET", _) => Err(error(404, "no-such-path")),
            _ if self.slow => {
                self.actions.push((request.clone(), 0, None));
                Ok(Response::json(202, &json!({"action": (self.actions.len() - 1).to_string()})))
            }
            _ => Ok(write(model, request)),
        };
        answered.unwrap_or_else(|refused| refused)
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials => error(401, "unauthorized"),
            Refusal::Forbidden => error(403, "forbidden"),
            Refusal::RateLimited(wait) => waiting(error(429, "rate-limited"), wait),
            Refusal::Broken => error(500, "broken"),
            Refusal::Quota => error(402, "quota"),
        }
    }

    fn features(&self) -> Features {
        Features { pages: true, ids: true, disabled: true, comments: true, read_only: true, quota: true }
    }
}

fn error(status: u16, code: &str) -> Response {
    Response::json(status, &json!({"error": code}))
}

fn page<T>(
    request: &Request,
    all: &[T],
    size: usize,
    shown: impl Fn(&T) -> Value,
) -> Result<(Vec<Value>, usize), Response> {
    let page: usize = request.query("page").unwrap_or("1").parse().map_err(|_| error(422, "page"))?;
    let from = page.checked_sub(1).ok_or_else(|| error(422, "page"))?.saturating_mul(size);
    Ok((all.iter().skip(from).take(size).map(shown).collect(), all.len()))
}

fn zones(model: &Model, request: &Request) -> Result<Response, Response> {
    let fits = |z: &&Zone| request.query("name").is_none_or(|name| z.name == name);
    let all: Vec<&Zone> = model.zones.iter().filter(fits).collect();
    let shown = |z: &&Zone| json!({"id": z.id, "name": z.name, "writable": z.writable, "serial": z.serial});
    let (zones, total) = page(request, &all, ZONES, shown)?;
    Ok(Response::json(200, &json!({"zones": zones, "total": total})))
}

fn shown(r: &Record) -> Value {
    json!({"id": r.id, "name": r.name, "type": r.rtype, "data": r.data, "ttl": r.ttl, "disabled": r.disabled})
}

fn records(model: &Model, id: &str, request: &Request) -> Result<Response, Response> {
    let zone = model.zone_by_id(id).ok_or_else(|| error(404, "no-such-zone"))?;
    let fits = |r: &&Record| request.query("name").is_none_or(|name| r.name == name);
    let all: Vec<&Record> = zone.records.iter().filter(fits).collect();
    let (records, total) = page(request, &all, RECORDS, |r| shown(r))?;
    Ok(Response::json(200, &json!({"records": records, "total": total})))
}

fn writable<'a>(model: &'a mut Model, id: &str) -> Result<&'a mut Zone, Response> {
    let zone = model.zone_by_id_mut(id).ok_or_else(|| error(404, "no-such-zone"))?;
    if zone.writable { Ok(zone) } else { Err(error(423, "read-only")) }
}

fn ttl(body: &Value) -> Result<Option<u32>, Response> {
    match body.get("ttl") {
        None | Some(Value::Null) => Ok(None),
        Some(ttl) => match ttl.as_u64().and_then(|t| u32::try_from(t).ok()) {
            Some(ttl @ 60..=86_400) => Ok(Some(ttl)),
            _ => Err(error(422, "ttl")),
        },
    }
}

/// Absolute, lower case, labels of 1 to 63 and 253 characters at most.
fn is_name(name: &str) -> bool {
    let Some(bare) = name.strip_suffix('.') else { return false };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_*/".contains(c);
    bare.len() <= 253 && bare.split('.').all(|l| (1..=63).contains(&l.len()) && l.chars().all(good))
}

fn add(model: &mut Model, id: &str, request: &Request) -> Result<Response, Response> {
    let body = request.json().ok_or_else(|| error(400, "no-json"))?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).ok_or_else(|| error(422, key));
    let (name, rtype, data) = (text("name")?, text("type")?, text("data")?);
    let good = match rtype {
        "A" => data.parse::<Ipv4Addr>().is_ok(),
        "AAAA" => data.parse::<Ipv6Addr>().is_ok_and(|a| a.to_string() == data),
        "CNAME" | "PTR" => is_name(data),
        "TXT" => data.len() >= 2 && data.starts_with('"') && data.ends_with('"'),
        _ => return Err(error(422, "type")),
    };
    let ttl = ttl(&body)?;
    let fresh = model.fresh_id();
    let zone = writable(model, id)?;
    let inside = name == zone.name || name.ends_with(&format!(".{}", zone.name));
    if !inside || !is_name(name) {
        return Err(error(422, "name"));
    }
    if !good {
        return Err(error(422, "data"));
    }
    let clash = |r: &Record| {
        r.name == name && (rtype == "CNAME" || r.rtype == "CNAME") && !(r.rtype == rtype && r.data == data)
    };
    if zone.records.iter().any(clash) {
        return Err(error(409, "conflict"));
    }
    if zone.is_full(1) {
        return Err(error(402, "quota"));
    }
    let record =
        Record { id: fresh, name: name.into(), rtype: rtype.into(), data: data.into(), ttl, ..Record::default() };
    zone.serial += 1;
    zone.records.push(record.clone());
    Ok(Response::json(201, &shown(&record)))
}

fn retime(model: &mut Model, zone: &str, id: &str, request: &Request) -> Result<Response, Response> {
    let ttl = ttl(&request.json().ok_or_else(|| error(400, "no-json"))?)?;
    let zone = writable(model, zone)?;
    let record = zone.records.iter_mut().find(|r| r.id == id).ok_or_else(|| error(404, "no-such-record"))?;
    record.ttl = ttl;
    let answer = Response::json(200, &shown(record));
    zone.serial += 1;
    Ok(answer)
}

fn delete(model: &mut Model, zone: &str, id: &str) -> Result<Response, Response> {
    let zone = writable(model, zone)?;
    let at = zone.records.iter().position(|r| r.id == id).ok_or_else(|| error(404, "no-such-record"))?;
    zone.records.remove(at);
    zone.serial += 1;
    Ok(Response::empty(204))
}
