//! A zone as `parse_zone` shows it, and records as `mass_edit_zone` wants them.
//!
//! Names and data come in base64, because a zone file may hold any byte. A name within the zone comes without it, that of the
//! zone itself whole; strings of a text come without quotes and escapes, everything else as it stands in the file
//! (`Cpanel::ZoneFile::Parse`). A record's number is the line on which it begins, from 0.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use wharf_sdk::{batch::Work, dns::prelude::*};

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    line_index: u64,
    #[serde(default)]
    text_b64: String,
    #[serde(default)]
    dname_b64: String,
    #[serde(default)]
    ttl: Option<u32>,
    #[serde(default)]
    record_type: String,
    #[serde(default)]
    data_b64: Vec<String>,
}

/// A zone that was read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What a change must name.
    pub serial: String,
    /// `$TTL` of the file.
    pub ttl: Option<u32>,
    /// Values have their line as id.
    pub sets: Vec<Set>,
    pub records: u32,
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| format!("`{text}` is not base64"))
}

fn plain(text: &str) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&decoded(text)?).into_owned())
}

impl Parsed {
    /// # Errors
    /// It is no zone: then nothing of it is believed. Every zone has its SOA.
    pub fn of(zone: &str, items: Json) -> Result<Self, String> {
        let items: Vec<Item> = serde_json::from_value(items).map_err(|e| e.to_string())?;
        let (mut serial, mut ttl) = (None, None);
        let mut sets: BTreeMap<(String, String), Set> = BTreeMap::new();
        let mut records = 0;
        for item in items {
            match item.kind.as_str() {
                "record" => {}
                "control" => {
                    let text = plain(&item.text_b64)?;
                    if let Some(rest) = text.strip_prefix("$TTL") {
                        ttl = rest.trim().parse().ok().or(ttl);
                    }
                    continue;
                }
                "comment" => continue,
                other => return Err(format!("line {} is of an unknown kind `{other}`", item.line_index)),
            }
            let name = owner(zone, &plain(&item.dname_b64)?);
            let parts = item.data_b64.iter().map(|part| decoded(part)).collect::<Result<Vec<_>, _>>()?;
            if item.record_type == "SOA" {
                let part = parts.get(2).map(|part| String::from_utf8_lossy(part).into_owned());
                serial = part.filter(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit()));
            }
            records += 1;
            let held = Held {
                id: Some(item.line_index.to_string()),
                data: presentation(&item.record_type, &parts),
                ttl: item.ttl,
                hidden: false,
            };
            let key = (name.clone(), item.record_type.clone());
            let empty = || Set { name, rtype: item.record_type, held: Vec::new() };
            sets.entry(key).or_insert_with(empty).held.push(held);
        }
        let serial = serial.ok_or_else(|| "it has no SOA record with a serial".to_owned())?;
        Ok(Self { serial, ttl, sets: sets.into_values().collect(), records })
    }
}

fn owner(zone: &str, name: &str) -> String {
    let whole = if name.ends_with('.') { name.to_owned() } else { format!("{name}.{zone}") };
    names::canonical(&whole).unwrap_or(whole)
}

fn presentation(rtype: &str, parts: &[Vec<u8>]) -> String {
    // `ENCODE_ALL_VALUES` in `Cpanel::ZoneFile::LineEdit::Backend`.
    if matches!(rtype, "TXT" | "SPF" | "HINFO") {
        return text::presentation(parts);
    }
    let plain = parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>().join(" ");
    match rtype {
        "MX" => forms::mx(&plain).unwrap_or(plain),
        _ => plain,
    }
}

/// A value as the parts of which a change is made.
fn parts(rtype: &str, data: &str) -> Vec<String> {
    match rtype {
        "TXT" => match text::strings(data) {
            Ok(strings) => strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect(),
            Err(_) => vec![data.to_owned()],
        },
        "MX" => data.split_whitespace().map(str::to_owned).collect(),
        _ => vec![data.to_owned()],
    }
}

/// What is done to the lines of a zone.
#[derive(Debug, Default, PartialEq)]
pub struct Edits {
    pub add: Vec<Json>,
    pub edit: Vec<Json>,
    pub remove: Vec<String>,
}

impl Edits {
    /// A value that takes the place of another is written where that stands.
    pub fn take(&mut self, work: &Work) {
        let record = |held: &Held| {
            json!({
                "dname": work.name,
                "ttl": held.ttl.unwrap_or(crate::normal::DEFAULT_TTL),
                "record_type": work.rtype,
                "data": parts(&work.rtype, &held.data),
            })
        };
        let line = |held: &Held| held.id.as_deref().and_then(|id| id.parse::<u64>().ok());
        let edited = |line: u64, held: &Held| {
            let mut item = record(held);
            if let Some(map) = item.as_object_mut() {
                map.insert("line_index".into(), line.into());
            }
            item
        };
        let mut gone = work.gone().filter_map(line);
        for held in work.come() {
            match gone.next() {
                Some(line) => self.edit.push(edited(line, held)),
                None => self.add.push(record(held)),
            }
        }
        self.remove.extend(gone.map(|line| line.to_string()));
        self.edit.extend(work.retimed().filter_map(|held| Some(edited(line(held)?, held))));
    }

    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.edit.is_empty() && self.remove.is_empty()
    }

    /// Fields of a form, in which a name may stand more than once.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let adds = self.add.iter().map(|item| ("add", item.to_string()));
        let edits = self.edit.iter().map(|item| ("edit", item.to_string()));
        let removals = self.remove.iter().map(|line| ("remove", line.clone()));
        adds.chain(edits).chain(removals).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b64(text: &str) -> String {
        STANDARD.encode(text)
    }

    fn soa() -> Json {
        let data: Vec<String> = ["ns.test.", "host.test.", "2026010100", "1", "2", "3", "4"].map(b64).to_vec();
        json!({"type": "record", "line_index": 3, "dname_b64": b64("example.test."), "ttl": 86400,
            "record_type": "SOA", "data_b64": data})
    }

    #[test]
    fn a_zone_is_read_with_its_serial_its_ttl_and_its_lines() {
        let parsed = Parsed::of(
            "example.test.",
            json!([
                {"type": "comment", "line_index": 0, "text_b64": b64("; a note")},
                {"type": "control", "line_index": 2, "text_b64": b64("$TTL 600")},
                soa(),
                {"type": "record", "line_index": 10, "dname_b64": b64("VM"), "ttl": 300, "record_type": "TXT",
                 "data_b64": [STANDARD.encode(b"a \"b\""), STANDARD.encode([0xff])]},
                {"type": "record", "line_index": 11, "dname_b64": b64("example.test."), "ttl": 300, "record_type": "MX",
                 "data_b64": [b64("10"), b64("Mx.example.test.")]},
            ]),
        )
        .unwrap();
        assert_eq!((parsed.serial.as_str(), parsed.ttl, parsed.records), ("2026010100", Some(600), 3));
        let shown: Vec<_> =
            parsed.sets.iter().map(|s| (s.name.as_str(), s.rtype.as_str(), s.held[0].data.as_str())).collect();
        assert_eq!(shown[0], ("example.test.", "MX", "10 mx.example.test."));
        assert_eq!(shown[2], ("vm.example.test.", "TXT", r#""a \"b\"" "\255""#));
        assert_eq!(parsed.sets[2].held[0].id.as_deref(), Some("10"));
    }

    #[test]
    fn what_has_no_soa_or_is_of_an_unknown_kind_is_no_zone() {
        for bad in [json!([]), json!({}), Json::Null, json!([{"type": "magic", "line_index": 1}]), json!([{"line": 1}])]
        {
            assert!(Parsed::of("example.test.", bad.clone()).is_err(), "{bad}");
        }
        let broken =
            json!([soa(), {"type": "record", "line_index": 9, "dname_b64": "*", "record_type": "A", "ttl": 1}]);
        assert!(Parsed::of("example.test.", broken).unwrap_err().contains("base64"));
    }
}
