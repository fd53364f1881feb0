//! What every peer of the bench computes: `normalize` of the PowerDNS provider, from the SDK and the very file that the plugin
//! is built of. Peers without the contract's types (Extism, a process on stdio) speak JSON, as such plugins do.
//!
//! Pure and bounded by its input.

use serde::{Deserialize, Serialize};
use wharf_sdk::dns::prelude::*;

#[path = "../../../../plugins/dns-powerdns/src/normal.rs"]
pub mod normal;

/// The zone that is asked about.
pub const ZONE: &str = "example.com.";

/// A record set in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Set {
    pub name: String,
    pub rtype: String,
    pub ttl: Option<u32>,
    pub values: Vec<String>,
}

/// A question in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub zone: String,
    pub sets: Vec<Set>,
}

/// One verdict in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    Ok(Set),
    Adjusted(Set, String),
    Refused { code: String, message: String },
}

/// The question that all are asked: the four record sets of a VM with an IPv4 and an IPv6 address and a mail name, one of them
/// spelt so that it is adjusted.
pub fn question() -> Question {
    let set = |name: &str, rtype: &str, values: &[&str]| Set {
        name: name.into(),
        rtype: rtype.into(),
        ttl: Some(300),
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    Question {
        zone: ZONE.into(),
        sets: vec![
            set("42-5001.example.com.", "A", &["192.0.2.10"]),
            set("42-5001.example.com.", "AAAA", &["2001:DB8::10"]),
            set("mail.42-5001.example.com.", "CNAME", &["42-5001.example.com."]),
            set("42-5001.example.com.", "TXT", &["\"v=spf1 a -all\""]),
        ],
    }
}

/// The same question in the contract's types.
pub fn sets(of: &Question) -> Vec<Rrset> {
    of.sets
        .iter()
        .map(|set| Rrset {
            name: set.name.clone(),
            rtype: set.rtype.clone(),
            ttl: set.ttl,
            values: set.values.iter().map(Value::new).collect(),
            owner: None,
            version: None,
            ext: Vec::new(),
        })
        .collect()
}

/// As the plugin's `normalize`.
pub fn normalize(can: &Capabilities, zone: &str, sets: Vec<Rrset>) -> Vec<Verdict> {
    forms::verdicts(&normal::PowerDnsForms, can, zone, sets)
}

/// From JSON to JSON.
///
/// # Errors
/// What is no [`Question`].
pub fn answer(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let question: Question = serde_json::from_slice(json)?;
    let said: Vec<Said> =
        normalize(&normal::capabilities(false), &question.zone, sets(&question)).into_iter().map(said).collect();
    serde_json::to_vec(&said)
}

fn said(verdict: Verdict) -> Said {
    let set = |of: Rrset| Set {
        name: of.name,
        rtype: of.rtype,
        ttl: of.ttl,
        values: of.values.into_iter().map(|v| v.data).collect(),
    };
    match verdict {
        Verdict::Ok(of) => Said::Ok(set(of)),
        Verdict::Adjusted((of, why)) => Said::Adjusted(set(of), why),
        Verdict::Refused(problem) => Said::Refused { code: problem.code, message: problem.message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_what_the_contract_says() {
        let question = question();
        let said: Vec<Said> =
            serde_json::from_slice(&answer(&serde_json::to_vec(&question).unwrap()).unwrap()).unwrap();
        let verdicts = normalize(&normal::capabilities(false), ZONE, sets(&question));
        assert_eq!(said.len(), 4);
        assert_eq!(said, verdicts.into_iter().map(super::said).collect::<Vec<_>>());
        assert!(matches!(&said[1], Said::Adjusted(set, _) if set.values == ["2001:db8::10"]), "{said:?}");
        assert!([0, 2, 3].iter().all(|n| matches!(said[*n], Said::Ok(_))), "{said:?}");
    }
}
