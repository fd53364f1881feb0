//! What a script reaches: the request, the zones, and some words of DNS and HTTP.
//!
//! The model is lent for one call. What was changed is written down backwards as it happens, so that an answer that is thrown
//! leaves nothing behind, at the price of what it changed and not of the whole zone.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map};

use super::{convert, held};
use crate::{
    facade::{Request, http_date},
    model::{Model, Record},
};

type Made<T> = Result<T, Box<EvalAltResult>>;

/// The request at hand.
#[derive(Clone)]
pub(super) struct Asked(Arc<Request>);

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        Self(Arc::new(request.clone()))
    }

    /// `GET /v1/zones/*/records`: whether method and path are so; `*` stands for one segment.
    fn matches(&mut self, pattern: &str) -> bool {
        let (method, path) = pattern.split_once(' ').unwrap_or(("", pattern));
        let wanted: Vec<&str> = path.trim_matches('/').split('/').collect();
        let there = self.0.segments();
        (method.is_empty() || method == self.0.method)
            && wanted.len() == there.len()
            && wanted.iter().zip(&there).all(|(wanted, is)| *wanted == "*" || wanted == is)
    }
}

/// Pairs as a map; of several with one name the first counts.
fn pairs(list: Vec<(String, String)>) -> Map {
    let mut map = Map::new();
    for (name, value) in list {
        map.entry(name.into()).or_insert_with(|| value.into());
    }
    map
}

enum Undo {
    Added(usize),
    Changed(usize, usize, Box<Record>),
    Removed(usize, usize, Box<Record>),
    Serial(usize, u64),
    Id(usize, String),
    Note(usize, (String, String), Option<String>),
}

struct Lent {
    model: Model,
    /// As the script changes it, and as it was.
    state: Map,
    before: Map,
    undo: Vec<Undo>,
}

/// The API's account: all zones, and what the script keeps beside them.
#[derive(Clone)]
pub(super) struct Api(Arc<Mutex<Lent>>);

/// One zone of it.
#[derive(Clone)]
pub(super) struct Zone {
    lent: Arc<Mutex<Lent>>,
    at: usize,
}

/// Records of a zone, all or those of a name and type: looked up when they are used, so that a page costs a page.
#[derive(Clone)]
struct Records {
    zone: Zone,
    name: Option<String>,
    rtype: Option<String>,
}

impl Records {
    fn select<R>(&self, take: impl FnOnce(&mut dyn Iterator<Item = &Record>) -> R) -> Made<R> {
        let fits = |r: &&Record| {
            self.name.as_ref().is_none_or(|name| *name == r.name) && self.rtype.as_ref().is_none_or(|t| *t == r.rtype)
        };
        self.zone.look(|zone| take(&mut zone.records.iter().filter(fits)))
    }

    fn count(&mut self) -> Made<i64> {
        self.select(|all| i64::try_from(all.count()).unwrap_or(i64::MAX))
    }

    fn list(&mut self) -> Made<Array> {
        self.select(|all| all.map(|r| convert::from_record(r).into()).collect())
    }

    /// The nth page, from 1.
    fn page(&mut self, number: i64, size: i64) -> Made<Array> {
        let size = usize::try_from(size).unwrap_or_default();
        let before = number.checked_sub(1).and_then(|n| usize::try_from(n).ok());
        let Some(before) = before.map(|n| n.saturating_mul(size)) else { return Ok(Array::new()) };
        self.select(|all| all.skip(before).take(size).map(|r| convert::from_record(r).into()).collect())
    }
}

impl IntoIterator for Records {
    type Item = Map;
    type IntoIter = std::vec::IntoIter<Map>;

    fn into_iter(self) -> Self::IntoIter {
        // A zone of another request has none.
        self.select(|all| all.map(convert::from_record).collect::<Vec<_>>()).unwrap_or_default().into_iter()
    }
}

impl Api {
    pub(super) fn lend(model: Model, state: Map) -> Self {
        Self(Arc::new(Mutex::new(Lent { model, before: state.clone(), state, undo: Vec::new() })))
    }

    /// The model and the state; as they were before unless it is `kept`.
    pub(super) fn take_back(&self, kept: bool) -> (Model, Map) {
        let mut lent = held(&self.0);
        let undo = std::mem::take(&mut lent.undo);
        if kept {
            return (std::mem::take(&mut lent.model), std::mem::take(&mut lent.state));
        }
        for step in undo.into_iter().rev() {
            lent.undone(step);
        }
        (std::mem::take(&mut lent.model), std::mem::take(&mut lent.before))
    }

    pub(super) fn zone(&self, name: &str) -> Option<Zone> {
        self.find(|zone| zone.name == name)
    }

    fn find(&self, wanted: impl Fn(&crate::model::Zone) -> bool) -> Option<Zone> {
        let at = held(&self.0).model.zones.iter().position(wanted)?;
        Some(Zone { lent: Arc::clone(&self.0), at })
    }

    fn zones(&mut self) -> Array {
        let count = held(&self.0).model.zones.len();
        (0..count).map(|at| Dynamic::from(Zone { lent: Arc::clone(&self.0), at })).collect()
    }
}

impl Lent {
    fn undone(&mut self, step: Undo) {
        let (Undo::Added(at)
        | Undo::Changed(at, ..)
        | Undo::Removed(at, ..)
        | Undo::Serial(at, _)
        | Undo::Id(at, _)
        | Undo::Note(at, ..)) = step;
        let Some(zone) = self.model.zones.get_mut(at) else { return };
        match step {
            Undo::Added(_) => {
                zone.records.pop();
            }
            Undo::Changed(_, n, record) => {
                if let Some(now) = zone.records.get_mut(n) {
                    *now = *record;
                }
            }
            Undo::Removed(_, n, record) => zone.records.insert(n.min(zone.records.len()), *record),
            Undo::Serial(_, serial) => zone.serial = serial,
            Undo::Id(_, id) => zone.id = id,
            Undo::Note(_, key, Some(note)) => {
                zone.notes.insert(key, note);
            }
            Undo::Note(_, key, None) => {
                zone.notes.remove(&key);
            }
        }
    }
}

impl Zone {
    fn look<R>(&self, look: impl FnOnce(&crate::model::Zone) -> R) -> Made<R> {
        let lent = held(&self.lent);
        lent.model.zones.get(self.at).map(look).ok_or_else(|| "this zone is from another request".into())
    }

    fn change<R>(&self, change: impl FnOnce(&mut crate::model::Zone, &mut Vec<Undo>, usize) -> R) -> Made<R> {
        let lent: &mut Lent = &mut self.lent();
        let zone = lent.model.zones.get_mut(self.at);
        zone.map(|zone| change(zone, &mut lent.undo, self.at)).ok_or_else(|| "this zone is from another request".into())
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        held(&self.lent)
    }

    fn records(&self, name: Option<&str>, rtype: Option<&str>) -> Records {
        Records { zone: self.clone(), name: name.map(str::to_owned), rtype: rtype.map(str::to_owned) }
    }

    fn record(&mut self, id: &str) -> Made<Dynamic> {
        self.look(|zone| zone.record(id).map_or(Dynamic::UNIT, |r| convert::from_record(r).into()))
    }

    /// Puts a record in, with a fresh id unless it has one.
    fn add(&mut self, given: Map) -> Made<Map> {
        let mut record = convert::to_record(&given)?;
        if record.id.is_empty() {
            record.id = self.lent().model.fresh_id();
        }
        let shown = convert::from_record(&record);
        self.change(|zone, undo, at| {
            undo.push(Undo::Added(at));
            zone.records.push(record);
        })?;
        Ok(shown)
    }

    /// Puts a record in the place of the one that has its id; false if there is none.
    fn put(&mut self, given: Map) -> Made<bool> {
        let record = convert::to_record(&given)?;
        self.change(|zone, undo, at| {
            let Some(n) = zone.records.iter().position(|r| r.id == record.id) else { return false };
            if let Some(there) = zone.records.get_mut(n) {
                undo.push(Undo::Changed(at, n, Box::new(std::mem::replace(there, record))));
            }
            true
        })
    }

    fn remove(&mut self, id: &str) -> Made<bool> {
        self.change(|zone, undo, at| {
            let Some(n) = zone.records.iter().position(|r| r.id == id) else { return false };
            undo.push(Undo::Removed(at, n, Box::new(zone.records.remove(n))));
            true
        })
    }

    fn set_note(&mut self, name: &str, rtype: &str, note: Option<String>) -> Made<()> {
        let key = (name.to_owned(), rtype.to_owned());
        self.change(|zone, undo, at| {
            let before = match note {
                Some(note) => zone.notes.insert(key.clone(), note),
                None => zone.notes.remove(&key),
            };
            undo.push(Undo::Note(at, key, before));
        })
    }
}

/// A name of a host, a wildcard or a service: labels of 1 to 63 of letters, digits, `-`, `_` and, as RFC 2317 has it, `/`.
fn is_name(name: &str) -> bool {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let good = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    let label = |(n, l): (usize, &str)| (1..=63).contains(&l.len()) && (l.chars().all(good) || (n == 0 && l == "*"));
    bare.len() <= 253 && bare.split('.').enumerate().all(label)
}

/// A canonical text, or nothing.
fn or_unit(text: Option<String>) -> Dynamic {
    text.map_or(Dynamic::UNIT, Into::into)
}

pub(super) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Asked>("Request")
        .register_get("method", |r: &mut Asked| r.0.method.clone())
        .register_get("path", |r: &mut Asked| r.0.path.clone())
        .register_get("segments", |r: &mut Asked| r.0.segments().into_iter().map(Dynamic::from).collect::<Array>())
        .register_get("query", |r: &mut Asked| pairs(r.0.query.clone()))
        .register_get("headers", |r: &mut Asked| pairs(r.0.headers.clone()))
        .register_get("body", |r: &mut Asked| String::from_utf8_lossy(&r.0.body).into_owned())
        .register_get("json", |r: &mut Asked| r.0.json().as_ref().map_or(Dynamic::UNIT, convert::from_json))
        .register_get("form", |r: &mut Asked| pairs(r.0.form()))
        .register_fn("matches", Asked::matches);

    engine
        .register_type_with_name::<Api>("Api")
        .register_get("zones", Api::zones)
        .register_get("state", |api: &mut Api| held(&api.0).state.clone())
        .register_set("state", |api: &mut Api, state: Map| held(&api.0).state = state)
        .register_fn("zone", |api: &mut Api, name: &str| api.zone(name).map_or(Dynamic::UNIT, Dynamic::from))
        .register_fn("zone_by_id", |api: &mut Api, id: &str| {
            api.find(|zone| zone.id == id).map_or(Dynamic::UNIT, Dynamic::from)
        })
        .register_fn("fresh_id", |api: &mut Api| held(&api.0).model.fresh_id());

    engine
        .register_type_with_name::<Zone>("Zone")
        .register_get("id", |z: &mut Zone| z.look(|z| z.id.clone()))
        .register_set("id", |z: &mut Zone, id: ImmutableString| {
            z.change(|z, undo, at| undo.push(Undo::Id(at, std::mem::replace(&mut z.id, id.into_owned()))))
        })
        .register_get("name", |z: &mut Zone| z.look(|z| z.name.clone()))
        .register_get("writable", |z: &mut Zone| z.look(|z| z.writable))
        .register_get("serial", |z: &mut Zone| z.look(|z| i64::try_from(z.serial).unwrap_or(i64::MAX)))
        .register_set("serial", |z: &mut Zone, serial: i64| {
            let serial = u64::try_from(serial).unwrap_or_default();
            z.change(|z, undo, at| undo.push(Undo::Serial(at, std::mem::replace(&mut z.serial, serial))))
        })
        .register_fn("records", |z: &mut Zone| z.records(None, None))
        .register_fn("records", |z: &mut Zone, name: &str| z.records(Some(name), None))
        .register_fn("records", |z: &mut Zone, name: &str, rtype: &str| z.records(Some(name), Some(rtype)))
        .register_fn("record", Zone::record)
        .register_fn("add", Zone::add)
        .register_fn("put", Zone::put)
        .register_fn("remove", Zone::remove)
        .register_fn("is_full", |z: &mut Zone, more: i64| {
            z.look(|z| z.is_full(usize::try_from(more).unwrap_or_default()))
        })
        .register_fn("note", |z: &mut Zone, name: &str, rtype: &str| {
            z.look(|z| or_unit(z.notes.get(&(name.to_owned(), rtype.to_owned())).cloned()))
        })
        .register_fn("set_note", |z: &mut Zone, name: &str, rtype: &str, note: &str| {
            z.set_note(name, rtype, Some(note.to_owned()))
        })
        .register_fn("remove_note", |z: &mut Zone, name: &str, rtype: &str| z.set_note(name, rtype, None));

    engine
        .register_type_with_name::<Records>("Records")
        .register_iterator::<Records>()
        .register_get("len", Records::count)
        .register_fn("list", Records::list)
        .register_fn("page", Records::page);

    engine
        .register_fn("json", |status: i64, value: Dynamic| -> Made<Map> {
            let body = convert::to_json(&value)?;
            Ok(convert::answer(status, Some("application/json"), body.to_string()))
        })
        .register_fn("text", |status: i64, text: &str| {
            convert::answer(status, Some("text/plain; charset=utf-8"), text.to_owned())
        })
        .register_fn("empty", |status: i64| convert::answer(status, None, String::new()))
        .register_fn("header", |answer: &mut Map, name: &str, value: Dynamic| {
            let mut answer = answer.clone();
            if let Some(mut headers) = answer.get_mut("headers").and_then(|h| h.write_lock::<Map>()) {
                headers.insert(name.to_lowercase().into(), value.to_string().into());
            }
            answer
        });

    engine
        .register_fn("dotted", |name: &str| format!("{}.", name.trim_end_matches('.').to_ascii_lowercase()))
        .register_fn("bare", |name: &str| name.trim_end_matches('.').to_owned())
        .register_fn("is_name", is_name)
        .register_fn("is_within", |name: &str, zone: &str| name == zone || name.ends_with(&format!(".{zone}")))
        .register_fn("ipv4", |text: &str| or_unit(text.parse::<Ipv4Addr>().ok().map(|a| a.to_string())))
        .register_fn("ipv6", |text: &str| or_unit(text.parse::<Ipv6Addr>().ok().map(|a| a.to_string())))
        .register_fn("number", |value: Dynamic| {
            let n = value.as_int().ok().or_else(|| value.clone().into_string().ok()?.parse().ok());
            n.map_or(Dynamic::UNIT, Dynamic::from_int)
        })
        .register_fn("http_date", |seconds: i64| {
            http_date(SystemTime::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
        });
}
