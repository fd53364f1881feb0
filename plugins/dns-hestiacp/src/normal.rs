//! How HestiaCP would store a set, and what it would refuse: pure.

use wharf_sdk::dns::prelude::*;

/// Types that are written. Others are read and left alone.
pub const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];
/// Changes of one value each that fit into one call: 180 requests, of the 200 that the host allows, if each takes a line away.
const CHANGES: u32 = 90;

/// The same for every zone.
pub fn capabilities() -> Capabilities {
    Capabilities {
        types: TYPES.map(String::from).to_vec(),
        max_values: 0,
        max_changes: CHANGES,
        atomic: false,
        native_merge: true,
        conditional: false,
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        // Six records added at once: five had one id, one was lost, and the exit code was 0 (measured).
        parallel_per_zone: 1,
        parallel_per_server: 1,
        asynchronous: false,
        reverse_only: false,
        ext: Vec::new(),
    }
}

/// The owner as HestiaCP takes it: relative to the zone.
pub fn relative(zone: &str, name: &str) -> Result<String, Problem> {
    names::relative(name, zone)
        .ok_or_else(|| Problem::fix_input("out-of-zone", format!("{name} is not in the zone {zone}")))
}

fn bad_owner(name: &str, why: &str) -> Problem {
    Problem::fix_input("name", format!("HestiaCP does not take the name {name}: {why}."))
}

/// Whether HestiaCP would take an owner (`is_common_format_valid` in its `func/main.sh`). A-labels are decoded before they are
/// looked at, but not those of types that have a host name as their value: these it can't keep (`v-add-dns-record`).
fn check_owner(zone: &str, name: &str, rtype: &str) -> Result<(), Problem> {
    let relative = relative(zone, name)?;
    let has_target = matches!(rtype, "CNAME" | "MX" | "NS" | "PTR");
    let kept = if has_target { relative.clone() } else { idna::domain_to_unicode(&relative).0 };
    if kept == "@" {
        return if rtype == "CNAME" { Err(bad_owner(name, "a zone itself can't be a CNAME")) } else { Ok(()) };
    }
    let labels = kept.strip_prefix("*.").unwrap_or(if kept == "*" { "" } else { &kept });
    if labels.chars().any(|c| c.is_ascii() && !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        return Err(bad_owner(name, "it has letters, digits, `-`, `_` and a leading `*.`"));
    }
    if kept.contains("--") && relative.contains("xn--") {
        return Err(bad_owner(name, "international names have addresses and text there, and no other records"));
    }
    for twice in ["--", "__"] {
        if kept.contains(twice) {
            return Err(bad_owner(name, &format!("`{twice}` is refused")));
        }
    }
    if labels.starts_with('-') || labels.ends_with('-') {
        return Err(bad_owner(name, "it may not begin or end with `-`"));
    }
    Ok(())
}

/// Whether HestiaCP would keep a value as it is.
fn check_value(name: &str, rtype: &str, data: &str) -> Result<(), Problem> {
    let refuse =
        |why: &str| Err(Problem::fix_input("value", format!("{name} {rtype}: HestiaCP can't keep {data}: {why}.")));
    let dots = data.matches('.').count();
    match rtype {
        // `is_dns_fqnd`: dots, the final one included.
        "PTR" | "CNAME" if dots < 2 => refuse("it wants a name of two labels at least"),
        "NS" if dots < 3 => refuse("it wants a name of three labels at least"),
        "MX" => match data.split_once(' ') {
            Some((priority, host))
                if priority.parse::<u16>().is_ok() && names::canonical(host).as_deref() == Ok(host) =>
            {
                if dots < 2 {
                    refuse("it wants a name of two labels at least")
                } else {
                    Ok(())
                }
            }
            _ => refuse("an MX is a number and a host name in lower case with its final dot"),
        },
        "TXT" => {
            let Some(inner) = data.strip_prefix('"').and_then(|d| d.strip_suffix('"')) else {
                return refuse("write text within quotes, as one string");
            };
            // Quotes are taken away, a backslash is lost, the others are the shell's.
            let bad = |c: char| matches!(c, '"' | '\\' | '\'' | '`' | '$') || c.is_control();
            if inner.chars().any(bad) || inner.contains("%quote%") || inner.trim() != inner {
                return refuse("no quotes, backslashes, ` or $, no control characters, and no blank at either end");
            }
            if inner.len() > 255 { refuse("a text has 255 bytes at most") } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// What HestiaCP takes, as far as that is known without asking.
pub struct HestiaForms;

impl Forms for HestiaForms {
    /// It checks none; one that nobody asked for is the zone's.
    fn ttls(&self) -> Ttls {
        Ttls { default: None, ..Ttls::default() }
    }

    fn name(&self, zone: &str, name: &str, rtype: &str) -> Result<(), Problem> {
        check_owner(zone, name, rtype)
    }

    fn value(&self, name: &str, rtype: &str, data: &str) -> Result<String, Problem> {
        let data = names::canonical_data(rtype, data).map_err(forms::refused)?;
        check_value(name, rtype, &data)?;
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, rtype: &str, ttl: Option<u32>, values: &[&str]) -> Rrset {
        let values = values.iter().map(|v| Value::new(*v)).collect();
        Rrset { name: name.into(), rtype: rtype.into(), ttl, values, owner: None, version: None, ext: Vec::new() }
    }

    fn judge(set: Rrset) -> Verdict {
        forms::verdict(&HestiaForms, &capabilities(), "example.test.", set)
    }

    #[test]
    fn what_hestiacp_keeps_as_it_is_is_ok() {
        for good in [
            set("a.example.test.", "AAAA", Some(0), &["2001:db8::1"]),
            set("*.sub.example.test.", "A", None, &["192.0.2.1", "192.0.2.2"]),
            set("*.example.test.", "A", None, &["192.0.2.1"]),
            set("_dmarc.example.test.", "TXT", Some(60), &["\"v=DMARC1; p=none\""]),
            set("xn--bcher-kva.example.test.", "A", None, &["192.0.2.1"]),
            set("example.test.", "MX", None, &["10 mail.example.test."]),
            set("7.example.test.", "PTR", None, &["vm.example.test."]),
        ] {
            assert_eq!(judge(good.clone()), Verdict::Ok(good));
        }
    }

    #[test]
    fn what_hestiacp_refuses_or_would_spoil_is_refused_before_it_is_asked() {
        for (bad, code) in [
            (set("a--b.example.test.", "A", None, &["192.0.2.1"]), "name"),
            (set("a__b.example.test.", "A", None, &["192.0.2.1"]), "name"),
            (set("64/26.example.test.", "PTR", None, &["vm.example.test."]), "name"),
            (set("xn--bcher-kva.example.test.", "CNAME", None, &["vm.example.test."]), "name"),
            (set("example.test.", "CNAME", None, &["vm.example.test."]), "name"),
            (set("a.*.example.test.", "A", None, &["192.0.2.1"]), "name"),
            (set("a.notexample.test.", "A", None, &["192.0.2.1"]), "out-of-zone"),
            (set("7.example.test.", "PTR", None, &["localhost."]), "value"),
            (set("a.example.test.", "NS", None, &["ns.test."]), "value"),
            (set("a.example.test.", "TXT", None, &[r#""a\\b""#]), "value"),
            (set("a.example.test.", "TXT", None, &[r#""a" "b""#]), "value"),
            (set("a.example.test.", "TXT", None, &["\"it's\""]), "value"),
            (set("a.example.test.", "TXT", None, &["bare"]), "value"),
            (set("a.example.test.", "MX", None, &["10 Mail.example.test."]), "value"),
            (set("a.example.test.", "A", None, &["2001:db8::1"]), "value"),
            (set("a.example.test.", "TYPE65280", None, &["x"]), "type"),
            (set("a.example.test.", "CNAME", None, &["b.test.", "c.test."]), "values"),
        ] {
            let Verdict::Refused(problem) = judge(bad.clone()) else { panic!("{bad:?} was not refused") };
            assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixInput, code), "{bad:?}");
        }
    }

    #[test]
    fn spelling_ttl_and_doubles_are_adjusted_with_reasons() {
        let Verdict::Adjusted((other, why)) =
            judge(set("A.example.test", "aaaa", Some(u32::MAX), &["2001:DB8::0:1", "2001:db8::1"]))
        else {
            panic!("not adjusted");
        };
        assert_eq!(other, set("a.example.test.", "AAAA", Some(batch::MAX_TTL), &["2001:db8::1"]));
        for word in ["lower case", "capitals", "TTL", "2001:db8::1"] {
            assert!(why.contains(word), "{word} is missing in: {why}");
        }
    }
}
