//! Between the values of a script and those of the kit.

use std::collections::BTreeMap;

use rhai::{Array, Dynamic, Map};
use serde_json::{Number, Value};

use crate::{facade::Response, model::Record};

/// What JSON says, as a script has it: `null` is `()`.
pub(super) fn from_json(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(is) => (*is).into(),
        Value::Number(n) => {
            n.as_i64().map_or_else(|| n.as_f64().map_or(Dynamic::UNIT, Dynamic::from_float), Dynamic::from_int)
        }
        Value::String(text) => text.clone().into(),
        Value::Array(list) => list.iter().map(from_json).collect::<Array>().into(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.into(), from_json(v))).collect::<Map>().into(),
    }
}

/// The same backwards; a sentence where it is nothing that JSON has.
pub(super) fn to_json(value: &Dynamic) -> Result<Value, String> {
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(is) = value.as_bool() {
        return Ok(is.into());
    }
    if let Ok(n) = value.as_int() {
        return Ok(n.into());
    }
    if let Ok(n) = value.as_float() {
        return Number::from_f64(n).map(Value::Number).ok_or_else(|| format!("{n} is no number of JSON"));
    }
    if value.is_string() || value.is_char() {
        return Ok(value.to_string().into());
    }
    if let Some(list) = value.read_lock::<Array>() {
        return list.iter().map(to_json).collect();
    }
    if let Some(map) = value.read_lock::<Map>() {
        let pairs = map.iter().map(|(name, value)| Ok((name.to_string(), to_json(value)?)));
        return pairs.collect::<Result<serde_json::Map<_, _>, String>>().map(Value::Object);
    }
    Err(format!("a {} can't be JSON", value.type_name()))
}

const RESPONSE: &str = "an answer is made by `json(status, value)`, `text(status, text)` or `empty(status)`";

/// What `json`, `text` and `empty` make: a map of status, headers and body.
pub(super) fn response(value: &Dynamic) -> Result<Response, String> {
    let Some(map) = value.read_lock::<Map>() else {
        return Err(format!("{RESPONSE}, and this is a {}", value.type_name()));
    };
    let status = map.get("status").and_then(|s| s.as_int().ok()).and_then(|s| u16::try_from(s).ok());
    let status = status.filter(|s| (100..=599).contains(s)).ok_or_else(|| format!("{RESPONSE}; this has no status"))?;
    let body = map.get("body").map(ToString::to_string).unwrap_or_default();
    let headers = match map.get("headers").and_then(|h| h.read_lock::<Map>()) {
        None => Vec::new(),
        Some(headers) => headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    };
    Ok(Response { status, headers, body: body.into_bytes() })
}

/// A map that [`response`] takes.
pub(super) fn answer(status: i64, content_type: Option<&str>, body: String) -> Map {
    let mut headers = Map::new();
    if let Some(content_type) = content_type {
        headers.insert("content-type".into(), content_type.into());
    }
    let mut map = Map::new();
    map.insert("status".into(), status.into());
    map.insert("headers".into(), headers.into());
    map.insert("body".into(), body.into());
    map
}

/// A record as a script has it.
pub(super) fn from_record(record: &Record) -> Map {
    let extra: Map = record.extra.iter().map(|(k, v)| (k.into(), v.clone().into())).collect();
    let mut map = Map::new();
    for (name, value) in [
        ("id", record.id.clone().into()),
        ("name", record.name.clone().into()),
        ("type", record.rtype.clone().into()),
        ("data", record.data.clone().into()),
        ("ttl", record.ttl.map_or(Dynamic::UNIT, |ttl| i64::from(ttl).into())),
        ("disabled", record.disabled.into()),
        ("comment", record.comment.clone().map_or(Dynamic::UNIT, Into::into)),
        ("extra", extra.into()),
    ] {
        map.insert(name.into(), value);
    }
    map
}

/// The same backwards; a sentence where it is no record.
pub(super) fn to_record(map: &Map) -> Result<Record, String> {
    let mut record = Record::default();
    for (name, value) in map {
        let text = || {
            let wrong = |kind| format!("`{name}` of a record is a text, and this is a {kind}");
            value.clone().into_string().map_err(wrong)
        };
        match name.as_str() {
            "id" => record.id = text()?,
            "name" => record.name = text()?,
            "type" => record.rtype = text()?,
            "data" => record.data = text()?,
            "ttl" if value.is_unit() => record.ttl = None,
            "ttl" => {
                let ttl = value.as_int().ok().and_then(|ttl| u32::try_from(ttl).ok());
                record.ttl =
                    Some(ttl.ok_or_else(|| format!("`ttl` of a record is seconds or (), and this is {value}"))?);
            }
            "disabled" => {
                record.disabled =
                    value.as_bool().map_err(|kind| format!("`disabled` is true or false, and this is a {kind}"))?
            }
            "comment" if value.is_unit() => record.comment = None,
            "comment" => record.comment = Some(text()?),
            "extra" => {
                let extra = value.read_lock::<Map>().ok_or("`extra` of a record is a map of texts")?;
                record.extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>();
            }
            _ => {
                return Err(format!(
                    "a record has no `{name}`: it has id, name, type, data, ttl, disabled, comment and extra"
                ));
            }
        }
    }
    for (name, value) in [("name", &record.name), ("type", &record.rtype)] {
        if value.is_empty() {
            return Err(format!("a record needs a `{name}`"));
        }
    }
    if !record.name.ends_with('.') {
        return Err(format!("names of the model end with a dot: `{}` is `dotted(\"{0}\")`", record.name));
    }
    Ok(record)
}
