//! A zone as its file: lines, counted from 0, and what `parse_zone` says of each (`Cpanel::ZoneFile::Parse`).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::bare;
use crate::model::{Record, Zone};

/// Behind two comments and `$TTL`.
pub(super) const SOA_LINE: usize = 3;
/// An SOA is written in so many lines.
const SOA_LINES: usize = 7;
const TTL: u32 = 14_400;

/// Where the first record after the SOA stands.
pub(super) fn first_line() -> usize {
    SOA_LINE + SOA_LINES
}

pub(super) enum Item {
    Comment {
        line: usize,
        text: String,
    },
    Control {
        line: usize,
        text: String,
    },
    /// A name within the zone is shown without it; that of the zone itself is whole.
    Record {
        line: usize,
        name: String,
        ttl: u32,
        rtype: String,
        data: Vec<Vec<u8>>,
    },
}

impl Item {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Comment { line, text } => {
                json!({ "type": "comment", "line_index": line, "text_b64": STANDARD.encode(text) })
            }
            Self::Control { line, text } => {
                json!({ "type": "control", "line_index": line, "text_b64": STANDARD.encode(text) })
            }
            Self::Record { line, name, ttl, rtype, data } => json!({
                "type": "record", "line_index": line, "dname_b64": STANDARD.encode(name), "ttl": ttl,
                "record_type": rtype, "data_b64": data.iter().map(|d| STANDARD.encode(d)).collect::<Vec<_>>(),
            }),
        }
    }
}

pub(super) fn of(zone: &Zone) -> Vec<Item> {
    let origin = bare(&zone.name);
    let soa = format!("ns1.panel.test. hostmaster.{origin}. {} 3600 1800 1209600 86400", zone.serial);
    let mut items = vec![
        Item::Comment { line: 0, text: "; cPanel first:110.0.3 (update_time):1669968304".into() },
        Item::Comment { line: 1, text: format!("; Zone file for {origin}") },
        Item::Control { line: 2, text: format!("$TTL {TTL}") },
        Item::Record {
            line: SOA_LINE,
            name: zone.name.clone(),
            ttl: 86_400,
            rtype: "SOA".into(),
            data: soa.split(' ').map(|part| part.as_bytes().to_vec()).collect(),
        },
    ];
    items.extend(zone.records.iter().enumerate().map(|(n, record)| Item::Record {
        line: first_line() + n,
        name: record.name.strip_suffix(&format!(".{}", zone.name)).unwrap_or(&record.name).to_owned(),
        ttl: record.ttl.unwrap_or(TTL),
        rtype: record.rtype.clone(),
        data: parts(&record.rtype, &record.data),
    }));
    items
}

/// Strings of a text come without quotes and escapes, everything else as it is written.
fn parts(rtype: &str, data: &str) -> Vec<Vec<u8>> {
    match rtype {
        "TXT" => strings(data),
        "MX" | "SRV" => data.split(' ').map(|part| part.as_bytes().to_vec()).collect(),
        _ => vec![data.as_bytes().to_vec()],
    }
}

/// Of the model's presentation form, which is always quoted.
fn strings(data: &str) -> Vec<Vec<u8>> {
    let (mut all, mut open) = (Vec::new(), None);
    let mut bytes = data.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, &mut open) {
            (b'"', None) => open = Some(Vec::new()),
            (b'"', Some(_)) => all.extend(open.take()),
            (b'\\', Some(string)) => match bytes.next() {
                Some(digit @ b'0'..=b'9') => {
                    let rest: Vec<u8> = bytes.by_ref().take(2).collect();
                    let digits = format!("{}{}", char::from(digit), String::from_utf8_lossy(&rest));
                    string.push(digits.parse().unwrap_or_default());
                }
                other => string.extend(other),
            },
            (other, Some(string)) => string.push(other),
            (_, None) => {}
        }
    }
    all
}

/// `_quote_cstring`, and what `ldns` makes of it when it is read again.
fn quoted(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        other => format!("\\{other:03}"),
    };
    format!("\"{}\"", text.bytes().map(one).collect::<String>())
}

/// `_validate_name` and `_looks_like_labels`, and the bounds of names.
fn is_name(name: &str) -> bool {
    let name = bare(name);
    let labels = name.strip_prefix("*.").unwrap_or(if name == "*" { "" } else { name });
    let good = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    name.len() <= 253 && (labels.is_empty() || labels.split('.').all(good))
}

/// A record of these parts. A name without its final dot is within the zone.
pub(super) fn record(zone: &Zone, dname: &str, ttl: u32, rtype: &str, data: &[&str]) -> Result<Record, String> {
    let name = if dname.ends_with('.') { dname.to_owned() } else { format!("{dname}.{}", zone.name) };
    let whole =
        || format!("“{name}\t{ttl}\tIN\t{rtype}\t{}” does not form a valid DNS resource record.", data.join("\t"));
    if !is_name(&name) {
        return Err(format!("Contains a malformed DNS label: {name}"));
    }
    // Whether a target without its final dot is completed is not known: refused.
    let is_host = |host: &str| host.ends_with('.') && is_name(host) && !host.starts_with('*');
    let stored = match (rtype, data) {
        ("A", [one]) if one.parse::<Ipv4Addr>().is_ok() => (*one).to_owned(),
        ("AAAA", [one]) => one.parse::<Ipv6Addr>().map_err(|_| whole())?.to_string(),
        ("CNAME" | "NS" | "PTR" | "DNAME", [host]) if is_host(host) => host.to_ascii_lowercase(),
        ("MX", [priority, host]) if priority.parse::<u16>().is_ok() && is_host(host) => {
            format!("{priority} {}", host.to_ascii_lowercase())
        }
        ("TXT", strings) if !strings.is_empty() && strings.iter().all(|s| s.len() <= 255) => {
            strings.iter().map(|s| quoted(s)).collect::<Vec<_>>().join(" ")
        }
        _ => return Err(whole()),
    };
    Ok(Record::new(&name.to_ascii_lowercase(), rtype, &stored, ttl))
}

/// What `named-checkzone` would say of the file: the line, counted from 1, and why.
pub(super) fn invalid(zone: &str, records: &[Record]) -> Option<(usize, String)> {
    let mut cnames: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records.iter().filter(|r| r.rtype == "CNAME") {
        *cnames.entry(&record.name).or_default() += 1;
    }
    let wrong = |record: &Record| {
        let within = record.name == zone || record.name.ends_with(&format!(".{zone}"));
        let beside = cnames.get(record.name.as_str()).is_some_and(|count| record.rtype != "CNAME" || *count > 1);
        if !within {
            Some(format!("{}: ignoring out-of-zone data", record.name))
        } else if record.name == zone && record.rtype == "CNAME" || beside {
            Some(format!("{}: CNAME and other data", record.name))
        } else {
            None
        }
    };
    records.iter().enumerate().find_map(|(n, record)| Some((first_line() + n + 1, wrong(record)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shown_without_quotes_and_kept_with_them() {
        let kept = r#""a \"b\" \\ c" "b\195\188""#;
        let shown = strings(kept);
        assert_eq!(shown, [b"a \"b\" \\ c".to_vec(), "bü".as_bytes().to_vec()]);
        let again: Vec<String> = shown.iter().map(|s| quoted(&String::from_utf8_lossy(s))).collect();
        assert_eq!(again.join(" "), kept);
    }

    #[test]
    fn names_have_no_slash_and_a_star_only_in_front() {
        for good in ["a.example.test.", "*.example.test.", "_x._tcp.example.test."] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["64/26.example.test.", "a.*.example.test.", "a..test.", "a b.test."] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
