//! What Hetzner takes: pure.

use wharf_sdk::dns::prelude::*;

/// Types that are written. The API knows more, whose forms are not known here: they are read and left alone.
pub const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];
/// `change_ttl` in the reference. None is the zone's own.
const TTL_MIN: u32 = 60;
/// Sets of one call: a look and a write each, of the 200 requests that the host allows.
const CHANGES: u32 = 90;

/// The same for every zone.
pub fn capabilities() -> Capabilities {
    Capabilities {
        types: TYPES.map(String::from).to_vec(),
        max_values: 0,
        max_changes: CHANGES,
        // Each set is an action of its own.
        atomic: false,
        native_merge: true,
        conditional: false,
        // A comment could hold an owner; nothing here needs one, and comments are people's.
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        // What is being changed is locked, and requests of a project are counted together.
        parallel_per_zone: 1,
        parallel_per_server: 1,
        asynchronous: true,
        reverse_only: false,
        ext: Vec::new(),
    }
}

pub struct HetznerForms;

impl Forms for HetznerForms {
    fn ttls(&self) -> Ttls {
        Ttls { default: None, min: TTL_MIN, max: batch::MAX_TTL }
    }

    /// Lower case, no final dot, Punycode (field `name` in the reference). Whether a slash is taken is not known.
    fn name(&self, zone: &str, name: &str, rtype: &str) -> Result<(), Problem> {
        let bad = |why: &str| Err(Problem::fix_input("name", format!("{name} is not written at Hetzner: {why}.")));
        let front = names::relative(name, zone).unwrap_or_default();
        if front == "@" {
            return if rtype == "CNAME" { bad("a zone itself can't be a CNAME") } else { Ok(()) };
        }
        let labels = front.strip_prefix("*.").unwrap_or(if front == "*" { "" } else { &front });
        if labels.chars().any(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
            return bad("a name has letters, digits, `-`, `_` and a leading `*.`");
        }
        Ok(())
    }

    /// Values are in zone-file form: targets with their final dot, texts within quotes, of 255 bytes each
    /// (<https://docs.hetzner.cloud/reference/cloud#zone-rrsets>).
    fn value(&self, _name: &str, rtype: &str, data: &str) -> Result<String, Problem> {
        match rtype {
            "TXT" => text::canonical(data).map_err(forms::refused),
            "MX" => forms::mx(data),
            _ => names::canonical_data(rtype, data).map_err(forms::refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(name: &str, rtype: &str, ttl: u32, data: &str) -> Result<(Option<u32>, String), String> {
        let set = Rrset {
            name: name.into(),
            rtype: rtype.into(),
            ttl: Some(ttl),
            values: vec![Value::new(data)],
            owner: None,
            version: None,
            ext: Vec::new(),
        };
        match forms::verdict(&HetznerForms, &capabilities(), "example.test.", set) {
            Verdict::Refused(problem) => Err(problem.code),
            Verdict::Ok(set) | Verdict::Adjusted((set, _)) => Ok((set.ttl, set.values[0].data.clone())),
        }
    }

    #[test]
    fn what_hetzner_keeps_is_foretold() {
        assert_eq!(judge("a.example.test.", "A", 59, "192.0.2.1"), Ok((Some(60), "192.0.2.1".into())));
        assert_eq!(judge("a.example.test.", "A", u32::MAX, "192.0.2.1"), Ok((Some(0x7fff_ffff), "192.0.2.1".into())));
        assert_eq!(judge("*.example.test.", "TXT", 60, "bare"), Ok((Some(60), "\"bare\"".into())));
        let long = judge("example.test.", "TXT", 60, &"x".repeat(300)).unwrap().1;
        assert_eq!(text::strings(&long).unwrap().len(), 2);
    }

    #[test]
    fn what_hetzner_would_not_take_is_refused_before_it_is_asked() {
        for (name, rtype, data, code) in [
            ("64/26.example.test.", "PTR", "vm.example.test.", "name"),
            ("a.*.example.test.", "A", "192.0.2.1", "name"),
            ("example.test.", "CNAME", "vm.example.test.", "name"),
            ("a.example.test.", "MX", "mx.example.test.", "value"),
            ("a.example.test.", "SRV", "1 2 3 x.", "type"),
        ] {
            assert_eq!(judge(name, rtype, 300, data), Err(code.into()), "{name} {rtype}");
        }
    }
}
