//! What cPanel takes: pure.

use wharf_sdk::dns::prelude::*;

use crate::api::Door;

/// Types that root and resellers write (`mass_edit_dns_zone` takes more, in forms that are not written here).
const WHM_TYPES: &[&str] = &["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];
/// Types that the owner of an account writes: no PTR and no NS (`Cpanel::ZoneEdit::User`).
const ACCOUNT_TYPES: &[&str] = &["A", "AAAA", "CNAME", "MX", "TXT"];
/// TTL where neither the change nor the zone file says one: that of the documentation's examples, and of new zones.
pub const DEFAULT_TTL: u32 = 14_400;
/// Changes of one request. The body stays far below the 1 MiB that a request may carry.
const CHANGES: u32 = 500;

pub fn types(door: Door) -> &'static [&'static str] {
    match door {
        Door::Whm => WHM_TYPES,
        Door::Account => ACCOUNT_TYPES,
    }
}

/// The same for every zone.
pub fn capabilities(door: Door) -> Capabilities {
    Capabilities {
        types: types(door).iter().map(|t| (*t).to_owned()).collect(),
        max_values: 0,
        max_changes: CHANGES,
        // The zone file is written once for all changes of a request, or not at all.
        atomic: true,
        native_merge: true,
        // The serial that was read goes with the changes, and cPanel refuses them when it is not the zone's any more.
        conditional: true,
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        // A second request with the same serial would only be refused.
        parallel_per_zone: 1,
        // Nothing is known of writes to several zones at once; they share one program that loads them.
        parallel_per_server: 1,
        asynchronous: false,
        reverse_only: false,
        ext: Vec::new(),
    }
}

/// Of both doors.
pub struct CPanelForms;

impl Forms for CPanelForms {
    fn ttls(&self) -> Ttls {
        Ttls { default: Some(DEFAULT_TTL), ..Ttls::default() }
    }

    /// `_looks_like_labels` in `Cpanel::ZoneFile::LineEdit::Backend`; RFC 2317 in slash style is no name there.
    fn name(&self, zone: &str, name: &str, rtype: &str) -> Result<(), Problem> {
        let bad = |why: &str| Err(Problem::fix_input("name", format!("cPanel does not take the name {name}: {why}.")));
        let front = name.strip_prefix("*.").unwrap_or(name);
        if front.chars().any(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
            return bad("it has letters, digits, `-`, `_` and a leading `*.`");
        }
        if rtype == "CNAME" && names::labels(name) == names::labels(zone) {
            return bad("a zone itself can't be a CNAME");
        }
        Ok(())
    }

    fn value(&self, _name: &str, rtype: &str, data: &str) -> Result<String, Problem> {
        match rtype {
            "TXT" => {
                let strings = text::strings(data).map_err(forms::refused)?;
                // They travel as JSON.
                if strings.iter().any(|string| std::str::from_utf8(string).is_err()) {
                    return Err(forms::refused(format!("cPanel takes texts of UTF-8, and {data} is none.")));
                }
                text::canonical(data).map_err(forms::refused)
            }
            "MX" => forms::mx(data),
            _ => names::canonical_data(rtype, data).map_err(forms::refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str, rtype: &str, data: &str) -> Option<String> {
        let values = vec![Value::new(data)];
        let (name, rtype) = (name.to_owned(), rtype.to_owned());
        let set = Rrset { name, rtype, ttl: Some(300), values, owner: None, version: None, ext: Vec::new() };
        match forms::verdict(&CPanelForms, &capabilities(Door::Whm), "example.test.", set.clone()) {
            Verdict::Refused(problem) => Some(problem.code),
            Verdict::Ok(same) => {
                assert_eq!(same, set);
                None
            }
            Verdict::Adjusted((_, why)) => Some(why),
        }
    }

    #[test]
    fn what_cpanel_would_refuse_or_spoil_is_refused_before_it_is_asked() {
        for (name, rtype, data, refused) in [
            ("*.example.test.", "A", "192.0.2.1", None),
            ("_dmarc.example.test.", "TXT", "\"v=DMARC1\"", None),
            ("b.example.test.", "TXT", r#""b\195\188cher" "two""#, None),
            ("example.test.", "MX", "10 mx.example.test.", None),
            ("64/26.example.test.", "PTR", "vm.example.test.", Some("name")),
            ("a.*.example.test.", "A", "192.0.2.1", Some("name")),
            ("example.test.", "CNAME", "vm.example.test.", Some("name")),
            ("b.example.test.", "TXT", r#""\255""#, Some("value")),
            ("b.example.test.", "TXT", r#""open"#, Some("value")),
            ("b.example.test.", "SRV", "1 2 3 x.", Some("type")),
        ] {
            assert_eq!(code(name, rtype, data).as_deref(), refused, "{name} {rtype} {data}");
        }
    }

    #[test]
    fn the_owner_of_an_account_has_no_ptr() {
        let can = capabilities(Door::Account);
        assert!(!can.types.iter().any(|t| t == "PTR" || t == "NS"));
        assert!(capabilities(Door::Whm).types.iter().any(|t| t == "PTR"));
    }
}
