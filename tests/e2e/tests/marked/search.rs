//! Looks for values in every coding that peers, logs and books use.

use std::{collections::BTreeMap, path::Path};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::json;

/// RFC 3986 leaves these as they are.
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a value looks like in the codings that peers, logs and books use.
pub fn codings(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let percent = percent_encode(bytes, NON_ALPHANUMERIC).to_string();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let json = json!(value).to_string();
    let json = json[1..json.len() - 1].to_owned();
    let mut all = vec![
        value.to_owned(),
        json.replace('/', "\\/"),
        json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e"),
        json.replace('&', "\\u0026").replace('<', "\\u003C").replace('>', "\\u003E").replace('+', "\\u002B"),
        json,
        percent_encode(bytes, NON_ALPHANUMERIC)
            .map(|part| if part.len() == 3 { part.to_lowercase() } else { part.to_owned() })
            .collect(),
        percent,
        percent_encode(bytes, UNRESERVED).to_string(),
        hex.to_uppercase(),
        hex,
        value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
    ];
    // Wherever in a longer text it stands: what the bytes around it have no part in.
    for before in 0..3 {
        let text = [vec![b'.'; before], bytes.to_vec()].concat();
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let whole = engine.encode(&text);
            all.push(whole[(before * 8).div_ceil(6)..text.len() * 8 / 6].to_owned());
        }
    }
    all.sort();
    all.dedup();
    all
}

/// What is looked for, and what was looked through.
#[derive(Default)]
pub struct Search {
    pub needles: Vec<(String, String)>,
    pub places: usize,
    pub found: Vec<String>,
    /// Where the host has put something in the place of a secret.
    pub taken_out: BTreeMap<String, usize>,
}

impl Search {
    pub fn add(&mut self, name: &str, value: &str) {
        self.needles.extend(codings(value).into_iter().map(|coding| (name.to_owned(), coding)));
        if let Some(bare) = value.strip_prefix("whsec_") {
            self.add(name, bare);
        }
    }

    pub fn look(&mut self, place: &str, bytes: &[u8]) {
        self.places += 1;
        for (name, needle) in &self.needles {
            if let Some(at) = memmem(bytes, needle.as_bytes()) {
                let around = &bytes[at.saturating_sub(60)..(at + needle.len() + 20).min(bytes.len())];
                self.found.push(format!("{name} stands in {place}: {}", String::from_utf8_lossy(around)));
            }
        }
        for slot in ["secret", "api-key", "os-password"] {
            if memmem(bytes, format!("[secret {slot}]").as_bytes()).is_some() {
                *self.taken_out.entry(slot.to_owned()).or_default() += 1;
            }
        }
    }

    pub fn look_into(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.look_into(&path);
            } else {
                self.look(&path.display().to_string(), &std::fs::read(&path).unwrap());
            }
        }
    }
}

pub fn memmem(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| b == first).map(|at| from + at) {
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Text that a peer says everything in.
pub fn everything(values: &[&str]) -> String {
    let all: Vec<String> = values.iter().flat_map(|value| codings(value)).collect();
    format!("what I was given: {}", all.join(" , "))
}
