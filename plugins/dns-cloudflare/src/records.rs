//! A record as the API has it, and as the contract has it.
//!
//! Names and contents come without the final dot, `ttl` 1 is "automatic", and an MX keeps its priority in a field of its own
//! (recorded answers; <https://developers.cloudflare.com/api/resources/dns/subresources/records/>).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;

/// What `ttl` says for automatic.
const AUTOMATIC: u32 = 1;

/// A record as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub content: Option<String>,
    pub ttl: Option<u32>,
    pub proxied: Option<bool>,
    pub priority: Option<u32>,
}

impl Record {
    /// Its value in presentation form.
    fn data(&self) -> String {
        let content = self.content.as_deref().unwrap_or_default();
        let spaced = || content.split_whitespace().collect::<Vec<_>>().join(" ");
        match (self.rtype.as_str(), self.priority) {
            ("MX", Some(priority)) => format!("{priority} {}", absolute(content)),
            ("SRV" | "URI", Some(priority)) => format!("{priority} {}", spaced()),
            // Text that was entered without quotes is shown without.
            ("TXT", _) => text::quoted(content),
            _ => content.to_owned(),
        }
    }

    fn held(&self) -> Held {
        Held {
            id: Some(self.id.clone()),
            data: self.data(),
            ttl: self.ttl.filter(|ttl| *ttl != AUTOMATIC),
            // What is served for a proxied record is Cloudflare's own address.
            hidden: self.proxied.unwrap_or_default(),
        }
    }
}

/// Records by name and type, in the order in which they first stand.
pub fn sets(records: &[Record]) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in records {
        let (name, rtype) = (absolute(&record.name), record.rtype.to_ascii_uppercase());
        let at = *known.entry((name.clone(), rtype.clone())).or_insert(sets.len());
        match sets.get_mut(at) {
            Some(set) => set.held.push(record.held()),
            None => sets.push(Set { name, rtype, held: vec![record.held()] }),
        }
    }
    sets
}

/// The body of a new record.
pub fn new_record(name: &str, rtype: &str, held: &Held) -> Json {
    let mut body = fields(rtype, &held.data);
    put(&mut body, "name", bare(name).into());
    put(&mut body, "type", rtype.into());
    put(&mut body, "ttl", held.ttl.unwrap_or(AUTOMATIC).into());
    if matches!(rtype, "A" | "AAAA" | "CNAME") {
        put(&mut body, "proxied", false.into());
    }
    body
}

/// Changes a record where it stands: PATCH merges, so a comment stays. The reference wants name, type and TTL in any case.
pub fn patch(id: &str, name: &str, rtype: &str, held: &Held) -> Json {
    let mut body = retime(id, name, rtype, held);
    if let (Some(body), Some(fields)) = (body.as_object_mut(), fields(rtype, &held.data).as_object()) {
        body.extend(fields.clone());
    }
    body
}

/// The same with another TTL only.
pub fn retime(id: &str, name: &str, rtype: &str, held: &Held) -> Json {
    json!({ "id": id, "name": bare(name), "type": rtype, "ttl": held.ttl.unwrap_or(AUTOMATIC) })
}

fn fields(rtype: &str, data: &str) -> Json {
    match (rtype, data.split_once(char::is_whitespace)) {
        ("MX", Some((priority, host))) => {
            json!({ "priority": priority.parse::<u32>().unwrap_or_default(), "content": bare(host.trim()) })
        }
        ("PTR" | "CNAME" | "NS", _) => json!({ "content": bare(data) }),
        _ => json!({ "content": data }),
    }
}

fn put(body: &mut Json, key: &str, value: Json) {
    if let Some(map) = body.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

/// Without the final dot.
pub fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Lower case with the final dot; as it is where it is no name.
pub fn absolute(name: &str) -> String {
    names::canonical(name).unwrap_or_else(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rtype: &str, content: &str, priority: Option<u32>) -> Record {
        Record {
            id: "1".into(),
            name: "VM.Example.test".into(),
            rtype: rtype.into(),
            content: Some(content.into()),
            ttl: Some(1),
            proxied: None,
            priority,
        }
    }

    #[test]
    fn a_record_makes_the_round_trip() {
        for (rtype, content, priority, data) in [
            ("PTR", "vm.example.test", None, "vm.example.test."),
            ("MX", "mx.example.test", Some(10), "10 mx.example.test."),
            ("TXT", "\"a \\\" b\"", None, "\"a \\\" b\""),
            ("AAAA", "2001:db8::1", None, "2001:db8::1"),
        ] {
            let set = &sets(&[record(rtype, content, priority)])[0];
            assert_eq!(set.name, "vm.example.test.");
            let rrset = set.rrset().unwrap();
            assert_eq!((rrset.values[0].data.as_str(), rrset.ttl), (data, None));
            let body = new_record(&set.name, rtype, &Held { data: data.into(), ..Held::default() });
            assert_eq!((&body["content"], &body["ttl"]), (&json!(content), &json!(1)));
            assert_eq!(body["priority"].as_u64(), priority.map(u64::from));
            assert_eq!(body["name"], "vm.example.test");
        }
    }

    #[test]
    fn text_without_quotes_gets_them() {
        assert_eq!(sets(&[record("TXT", "a \"b\" \\", None)])[0].held[0].data, r#""a \"b\" \\""#);
    }

    #[test]
    fn only_what_can_be_proxied_is_told_not_to_be() {
        let held = Held { data: "192.0.2.1".into(), ..Held::default() };
        assert_eq!(new_record("a.", "A", &held)["proxied"], false);
        assert!(new_record("a.", "TXT", &held).get("proxied").is_none());
    }
}
