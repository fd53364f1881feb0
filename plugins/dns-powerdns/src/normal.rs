//! How PowerDNS would store a set: pure.

use wharf_sdk::dns::prelude::*;

use crate::plan::MAX_TTL;

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

/// One set's verdict.
pub fn verdict(can: &Capabilities, zone: &str, set: Rrset) -> Verdict {
    match adjusted(can, zone, &set) {
        Err(problem) => Verdict::Refused(problem),
        Ok((_, reasons)) if reasons.is_empty() => Verdict::Ok(set),
        Ok((other, reasons)) => Verdict::Adjusted((other, format!("{}.", reasons.join("; ")))),
    }
}

fn adjusted(can: &Capabilities, zone: &str, set: &Rrset) -> Result<(Rrset, Vec<String>), Problem> {
    let mut reasons = Vec::new();
    let name = names::canonical(&set.name).map_err(|e| Problem::fix_input("name", e.to_string()))?;
    if !names::is_within(&name, zone) {
        return Err(Problem::fix_input("out-of-zone", format!("{name} is not in the zone {zone}")));
    }
    if name != set.name {
        reasons.push("the name is stored in lower case with a final dot".to_owned());
    }
    let rtype = set.rtype.to_ascii_uppercase();
    if !can.types.contains(&rtype) {
        return Err(Problem::fix_input("type", format!("Records of type {} are not written here.", set.rtype)));
    }
    if rtype == "CNAME" && set.values.len() > 1 {
        return Err(Problem::fix_input("values", format!("{name} can have one CNAME only.")));
    }
    if rtype != set.rtype {
        reasons.push("the type is stored in capitals".to_owned());
    }
    let ttl = set.ttl.map(|ttl| ttl.min(MAX_TTL));
    if ttl != set.ttl {
        reasons.push(format!("a TTL is at most {MAX_TTL} seconds"));
    }
    let mut values: Vec<Value> = Vec::with_capacity(set.values.len());
    for value in &set.values {
        let data =
            names::canonical_data(&rtype, &value.data).map_err(|e| Problem::fix_input("value", e.to_string()))?;
        if values.iter().any(|v| v.data == data) {
            reasons.push(format!("{data} is stored once"));
            continue;
        }
        if data != value.data {
            reasons.push(format!("{} is stored as {data}", value.data));
        }
        values.push(Value { data, ..value.clone() });
    }
    Ok((Rrset { name, rtype, ttl, values, ..set.clone() }, reasons))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, rtype: &str, ttl: Option<u32>, values: &[&str]) -> Rrset {
        let values = values.iter().map(|v| Value::new(*v)).collect();
        Rrset { name: name.into(), rtype: rtype.into(), ttl, values, owner: None, version: None, ext: Vec::new() }
    }

    fn judge(set: Rrset) -> Verdict {
        verdict(&capabilities(false), "example.test.", set)
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
        assert_eq!(other, set("a.example.test.", "AAAA", Some(MAX_TTL), &["2001:db8::1"]));
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
