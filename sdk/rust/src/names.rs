//! DNS names and values in canonical form: pure, total, no lookups.
//!
//! Labels are compared whole (`notexample.com` is not below `example.com`), case-folded, and a backslash escapes the
//! character behind it (RFC 1035 §5.1). Everything here expects A-labels; the host does IDNA.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a name or value is refused, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// The labels of a name, lower case, without the root. `"A.b."` → `["a", "b"]`; `"."` → none.
pub fn labels(name: &str) -> Vec<String> {
    if name == "." {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut label = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                label.push(c);
                label.extend(chars.next());
            }
            '.' => out.push(std::mem::take(&mut label)),
            c => label.push(c.to_ascii_lowercase()),
        }
    }
    out.push(label);
    // The root: one empty label at the end.
    if out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out
}

/// Whether `name` is `zone` or below it, by whole labels.
pub fn is_within(name: &str, zone: &str) -> bool {
    labels(name).ends_with(&labels(zone))
}

/// The part of `name` in front of `zone`: `@` for the zone itself, none when it is elsewhere.
pub fn relative(name: &str, zone: &str) -> Option<String> {
    let (name, zone) = (labels(name), labels(zone));
    let front = name.strip_suffix(zone.as_slice())?;
    Some(if front.is_empty() { "@".into() } else { front.join(".") })
}

/// Of several zones the one with the most labels that holds `name`.
pub fn longest_match<'a>(name: &str, zones: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    zones.into_iter().filter(|zone| is_within(name, zone)).max_by_key(|zone| labels(zone).len())
}

/// Lower case with the final dot; labels of 1 to 63 octets, 253 characters at most without the final dot.
pub fn canonical(name: &str) -> Result<String, Refused> {
    let parts = labels(name);
    if let Some(bad) = parts.iter().find(|l| !(1..=63).contains(&octets(l))) {
        let why = if bad.is_empty() { "an empty label" } else { "a label of more than 63 octets" };
        return Err(Refused(format!("`{name}` has {why}: a label has 1 to 63.")));
    }
    if parts.iter().any(|l| l.chars().any(|c| c.is_ascii_control() || c == ' ' || !c.is_ascii())) {
        return Err(Refused(format!("`{name}` has a character that a name can't have: use A-labels (xn--…).")));
    }
    let text = parts.join(".");
    if parts.iter().map(|l| octets(l) + 1).sum::<usize>() > 254 {
        return Err(Refused(format!("`{name}` has more than 253 characters.")));
    }
    Ok(format!("{text}."))
}

/// Octets of a label on the wire: an escape counts as one.
fn octets(label: &str) -> usize {
    let mut count = 0;
    let mut rest = label.chars();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next().is_some_and(|d| d.is_ascii_digit()) {
            // `\DDD`: two more digits.
            rest.next();
            rest.next();
        }
        count += 1;
    }
    count
}

/// The name whose PTR speaks of an address: four octets below `in-addr.arpa.`, 32 nibbles below `ip6.arpa.`.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let mut out = String::with_capacity(73);
            for byte in v6.octets().iter().rev() {
                out.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
            }
            out.push_str("ip6.arpa.");
            out
        }
    }
}

/// The address that a reverse name speaks of; none for zones, RFC 2317 names and anything else.
pub fn reverse_address(name: &str) -> Option<IpAddr> {
    let labels = labels(name);
    let mut parts: Vec<&str> = labels.iter().map(String::as_str).collect();
    if parts.pop() != Some("arpa") {
        return None;
    }
    match parts.pop()? {
        "in-addr" if parts.len() == 4 => {
            let mut octets = [0u8; 4];
            for (octet, label) in octets.iter_mut().zip(parts.iter().rev()) {
                *octet = decimal(label)?;
            }
            Some(Ipv4Addr::from(octets).into())
        }
        "ip6" if parts.len() == 32 => {
            let mut value = 0u128;
            for label in parts.iter().rev() {
                let mut chars = label.chars();
                let (digit, end) = (chars.next()?.to_digit(16)?, chars.next());
                if end.is_some() {
                    return None;
                }
                value = value << 4 | u128::from(digit);
            }
            Some(Ipv6Addr::from(value).into())
        }
        _ => None,
    }
}

/// An octet without leading zeros or signs.
fn decimal(label: &str) -> Option<u8> {
    if label.starts_with('+') || (label.len() > 1 && label.starts_with('0')) {
        return None;
    }
    label.parse().ok()
}

/// A value in canonical presentation form: IPv4 dotted, IPv6 by RFC 5952, names lower case with the final dot. Types
/// that are not known here come back untouched but for space at both ends.
pub fn canonical_data(rtype: &str, data: &str) -> Result<String, Refused> {
    let data = data.trim();
    match rtype.to_ascii_uppercase().as_str() {
        "A" => data
            .parse::<Ipv4Addr>()
            .map(|a| a.to_string())
            .map_err(|_| Refused(format!("`{data}` is not an IPv4 address, and an A record holds one."))),
        "AAAA" => {
            let address: Ipv6Addr = data
                .parse()
                .map_err(|_| Refused(format!("`{data}` is not an IPv6 address, and an AAAA record holds one.")))?;
            if address.to_ipv4_mapped().is_some() {
                return Err(Refused(format!("`{data}` is an IPv4 address in IPv6 form: use an A record.")));
            }
            Ok(address.to_string())
        }
        "PTR" | "CNAME" | "NS" | "DNAME" => canonical(data),
        _ => Ok(data.to_owned()),
    }
}

/// Whether two values mean the same. What can't be read is compared as text.
pub fn same_data(rtype: &str, a: &str, b: &str) -> bool {
    match (canonical_data(rtype, a), canonical_data(rtype, b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.trim() == b.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_counts_only_at_a_label_boundary() {
        assert!(!is_within("notexample.com.", "example.com."));
        assert!(is_within("a.EXAMPLE.com", "example.com."));
        assert!(is_within("example.com.", "example.com"));
        assert!(is_within("anything.", "."));
        assert!(!is_within("com.", "example.com."));
        assert_eq!(relative("notexample.com", "example.com"), None);
        assert_eq!(relative("example.com.", "example.com").as_deref(), Some("@"));
        assert_eq!(relative("a.b.example.com.", "example.com").as_deref(), Some("a.b"));
    }

    #[test]
    fn an_escaped_dot_does_not_end_a_label() {
        assert_eq!(labels(r"a\.b.example."), [r"a\.b", "example"]);
        assert!(!is_within(r"x\.example.com.", "example.com."));
    }

    #[test]
    fn the_longest_zone_wins() {
        assert_eq!(longest_match("x.a.test.", ["test.", "a.test.", "b.test."]), Some("a.test."));
        assert_eq!(longest_match("x.org.", ["test."]), None);
    }

    #[test]
    fn reverse_names_have_four_octets_or_thirty_two_nibbles() {
        assert_eq!(reverse_name("192.0.2.7".parse().unwrap()), "7.2.0.192.in-addr.arpa.");
        assert_eq!(
            reverse_name("2001:db8::1".parse().unwrap()),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
        );
        assert_eq!(reverse_name("::".parse().unwrap()), format!("{}ip6.arpa.", "0.".repeat(32)));
    }

    #[test]
    fn a_reverse_name_gives_its_address_back() {
        for text in ["192.0.2.7", "0.0.0.0", "2001:db8::1", "::", "fe80::dead:beef"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(reverse_address(&reverse_name(address)), Some(address));
        }
        for name in
            ["2.0.192.in-addr.arpa.", "70.64/26.2.0.192.in-addr.arpa.", "07.2.0.192.in-addr.arpa.", "arpa.", "."]
        {
            assert_eq!(reverse_address(name), None, "{name}");
        }
    }

    #[test]
    fn labels_and_names_are_measured() {
        assert!(canonical(&format!("{}.test", "a".repeat(63))).is_ok());
        assert!(canonical(&format!("{}.test", "a".repeat(64))).unwrap_err().0.contains("63"));
        let long = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        assert_eq!(long.len(), 253);
        assert!(canonical(&long).is_ok());
        assert!(canonical(&format!("{long}e")).is_err());
        assert!(canonical("a..b").is_err());
        assert_eq!(canonical("_Dmarc.*.Test").as_deref(), Ok("_dmarc.*.test."));
        assert_eq!(canonical("64/26.2.0.192.in-addr.arpa").as_deref(), Ok("64/26.2.0.192.in-addr.arpa."));
    }

    #[test]
    fn values_take_their_canonical_form() {
        assert_eq!(canonical_data("AAAA", "2001:DB8:0:0::1").as_deref(), Ok("2001:db8::1"));
        assert_eq!(canonical_data("PTR", "VM1.Example.Test").as_deref(), Ok("vm1.example.test."));
        assert!(canonical_data("A", "192.0.2.256").is_err());
        assert!(canonical_data("AAAA", "::ffff:192.0.2.1").is_err());
        assert!(canonical_data("AAAA", "fe80::1%eth0").is_err());
        assert_eq!(canonical_data("TYPE65", " 1 . alpn=h2 ").as_deref(), Ok("1 . alpn=h2"));
        assert!(same_data("PTR", "A.test.", "a.test"));
        assert!(!same_data("TXT", "\"A\"", "\"a\""));
    }
}
