//! HestiaCP's listings, read with distrust: they are put together by shell scripts.
//!
//! An id that stands twice is a key that stands twice, and both are kept. Names come decoded (`bücher`) and are compared as
//! A-labels. A zone has a name server at least, and HestiaCP lets nobody delete the last one: an empty list is not believed.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use wharf_sdk::dns::prelude::*;

/// One record as HestiaCP has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Not unique.
    pub id: String,
    /// The owner as it is kept: relative, decoded for most types.
    pub record: String,
    /// The owner in canonical form.
    pub name: String,
    pub rtype: String,
    /// The value in canonical form.
    pub data: String,
    pub ttl: Option<u32>,
    /// There, and not served.
    pub is_suspended: bool,
}

impl Line {
    /// Whether it is this value of this set.
    pub fn is(&self, name: &str, rtype: &str, data: &str) -> bool {
        self.name == name && self.rtype == rtype && names::same_data(rtype, &self.data, data)
    }
}

/// What is said of a domain.
#[derive(Debug, Clone, Deserialize)]
pub struct Domain {
    #[serde(rename = "TTL", default)]
    pub ttl: String,
    #[serde(rename = "SERIAL", default)]
    pub serial: String,
    #[serde(rename = "RECORDS", default)]
    pub records: String,
    #[serde(rename = "SUSPENDED", default)]
    pub suspended: String,
    /// The server that this domain is a copy of.
    #[serde(rename = "SRC", default)]
    pub source: String,
}

#[derive(Debug, Deserialize)]
struct Shown {
    #[serde(rename = "RECORD")]
    record: String,
    #[serde(rename = "TYPE")]
    rtype: String,
    #[serde(rename = "PRIORITY", default)]
    priority: String,
    #[serde(rename = "VALUE")]
    value: String,
    #[serde(rename = "SUSPENDED", default)]
    suspended: String,
    /// Not shown by versions before 1.8.
    #[serde(rename = "TTL", default)]
    ttl: String,
}

/// Members of an object, those whose key stands twice included.
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

/// A-labels, lower case; what can't be converted stays as it is, and equals nothing of ours.
pub fn to_ascii(name: &str) -> String {
    idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase())
}

/// The owner of a record in canonical form.
fn owner(record: &str, zone: &str) -> String {
    match record {
        "" | "@" => zone.to_owned(),
        name if name.ends_with('.') => to_ascii(name),
        name => format!("{}.{zone}", to_ascii(name)),
    }
}

/// The value in canonical form: MX and SRV with their priority, text within quotes.
fn data(shown: &Shown) -> String {
    match shown.rtype.as_str() {
        "TXT" | "SPF" if !shown.value.starts_with('"') => format!("\"{}\"", shown.value),
        "MX" | "SRV" => format!("{} {}", shown.priority, shown.value),
        "CNAME" | "NS" | "PTR" => batch::canonical(&shown.rtype, &to_ascii(&shown.value)),
        rtype => batch::canonical(rtype, &shown.value),
    }
}

/// The records of `v-list-dns-records`.
pub fn records(text: &str, zone: &str) -> Result<Vec<Line>, serde_json::Error> {
    let Pairs(shown) = serde_json::from_str::<Pairs<Shown>>(text)?;
    let line = |(id, shown): (String, Shown)| Line {
        name: owner(&shown.record, zone),
        data: data(&shown),
        // TTLs beyond what DNS has are stored; they are served as none that we would ask for.
        ttl: shown.ttl.parse::<u64>().ok().map(|ttl| ttl.min(batch::MAX_TTL.into()) as u32),
        is_suspended: shown.suspended == "yes",
        id,
        rtype: shown.rtype,
        record: shown.record,
    };
    Ok(shown.into_iter().map(line).collect())
}

/// The domains of `v-list-dns-domain` and `v-list-dns-domains`, by their names there.
pub fn domains(text: &str) -> Result<Vec<(String, Domain)>, serde_json::Error> {
    serde_json::from_str::<Pairs<Domain>>(text).map(|Pairs(domains)| domains)
}

/// Lines as sets.
pub fn sets(lines: &[Line]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for line in lines {
        let held =
            Held { id: Some(line.id.clone()), data: line.data.clone(), ttl: line.ttl, hidden: line.is_suspended };
        match sets.iter_mut().find(|s| s.rtype == line.rtype && s.name == line.name) {
            Some(set) => set.held.push(held),
            None => sets.push(Set { name: line.name.clone(), rtype: line.rtype.clone(), held: vec![held] }),
        }
    }
    sets
}
