//! How PowerDNS would store a set: pure.

use wharf_sdk::dns::prelude::*;

/// Types that are written. Others are read and left alone.
pub const TYPES: [&str; 15] =
    ["A", "AAAA", "CAA", "CNAME", "DNAME", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SRV", "SSHFP", "SVCB", "TLSA", "TXT"];

/// What the server can do. `merge`: it has EXTEND and PRUNE.
pub fn capabilities(merge: bool) -> Capabilities {
    Capabilities {
        types: TYPES.map(String::from).to_vec(),
        max_values: 0,
        // A thousand sets in one request were applied in 11 ms; this keeps the request far below 1 MiB.
        max_changes: 500,
        atomic: true,
        native_merge: merge,
        conditional: false,
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        // Parallel writes were lost (SQLite: 12 of 20) or doubled (PostgreSQL).
        parallel_per_zone: 1,
        parallel_per_server: 1,
        asynchronous: false,
        reverse_only: false,
        ext: Vec::new(),
    }
}

/// The server takes what DNS takes, and TTLs of any length.
pub struct PowerDnsForms;

impl Forms for PowerDnsForms {}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, rtype: &str, ttl: Option<u32>, values: &[&str]) -> Rrset {
        let values = values.iter().map(|v| Value::new(*v)).collect();
        Rrset { name: name.into(), rtype: rtype.into(), ttl, values, owner: None, version: None, ext: Vec::new() }
    }

    fn judge(set: Rrset) -> Verdict {
        forms::verdict(&PowerDnsForms, &capabilities(false), "example.test.", set)
    }

    #[test]
    fn what_is_canonical_is_ok_as_it_is() {
        let good = set("a.example.test.", "AAAA", Some(300), &["2001:db8::1"]);
        assert_eq!(judge(good.clone()), Verdict::Ok(good));
    }

    #[test]
    fn spelling_ttl_and_doubles_are_adjusted_with_reasons() {
        let Verdict::Adjusted((other, why)) =
            judge(set("A.example.test", "aaaa", Some(u32::MAX), &["2001:DB8::0:1", "2001:db8::1"]))
        else {
            panic!("not adjusted");
        };
        assert_eq!(other, set("a.example.test.", "AAAA", Some(batch::MAX_TTL), &["2001:db8::1"]));
        for word in ["final dot", "capitals", "TTL", "2001:db8::1"] {
            assert!(why.contains(word), "{word} is missing in: {why}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (bad, code) in [
            (set("a.notexample.test.", "A", None, &["192.0.2.1"]), "out-of-zone"),
            (set("a.example.test.", "A", None, &["2001:db8::1"]), "value"),
            (set("a.example.test.", "TYPE65280", None, &["x"]), "type"),
            (set("a.example.test.", "CNAME", None, &["b.test.", "c.test."]), "values"),
            (set("a..example.test.", "A", None, &[]), "name"),
        ] {
            let Verdict::Refused(problem) = judge(bad.clone()) else { panic!("{bad:?} was not refused") };
            assert_eq!(problem.code, code);
        }
    }
}
