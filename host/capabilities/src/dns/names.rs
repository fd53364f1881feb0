//! DNS names in one form: absolute, lower case, A-labels, with the final dot. Pure and total.
//!
//! Names are compared by whole labels, so `notexample.com` is not below `example.com`. What is checked here is what
//! providers don't check themselves: lengths, letters, and that a PTR points to a host's name.

use std::net::{IpAddr, Ipv4Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use ipnet::Ipv4Net;

/// Longest name, without the final dot.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Why a name or address is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty: enter one")]
    Empty,
    #[error(
        "the name `{0}` has a character that names can't have, or letters that can't be written in ASCII: correct it"
    )]
    Letters(String),
    #[error("the name `{0}` has an empty label or one of more than 63 bytes: shorten it")]
    Label(String),
    #[error("the name `{0}` has more than 253 characters: shorten it")]
    TooLong(String),
    #[error("`{0}` has a wildcard in another place than the whole first label: correct it")]
    Wildcard(String),
    #[error(
        "`{0}` is no host name: it needs two labels at least, of letters, digits and inner hyphens, and is no address"
    )]
    NoHost(String),
    #[error("`{0}` is no IP address, or one with a zone: enter it as 192.0.2.1 or 2001:db8::1")]
    NoAddress(String),
    #[error("`{0}` is an IPv4 address written as an IPv6 address: enter the IPv4 address")]
    Mapped(String),
}

/// The name in its one form, whatever was typed: case, dots around it, letters beyond ASCII. Not checked: for names that
/// were checked before, and for comparing.
pub fn canonical(name: &str) -> String {
    let bare = name.trim().trim_matches('.');
    match Uts46::new().to_ascii(bare.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore) {
        Ok(ascii) => format!("{}.", ascii.to_ascii_lowercase()),
        Err(_) => format!("{}.", bare.to_ascii_lowercase()),
    }
}

/// The labels of a name, lower case, without the root.
pub fn labels(name: &str) -> Vec<String> {
    let name = canonical(name);
    name.trim_end_matches('.').split('.').filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// Whether `name` is `zone` or below it.
pub fn matches(zone: &str, name: &str) -> bool {
    let zone = labels(zone);
    !zone.is_empty() && labels(name).ends_with(&zone)
}

/// An owner name in its one form, checked: underscores, slashes (RFC 2317) and a wildcard as the whole first label are
/// good.
pub fn owner_name(name: &str) -> Result<String, NameError> {
    let bare = name.trim();
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    if bare.is_empty() {
        return Err(NameError::Empty);
    }
    let shown = || bare.chars().take(80).collect::<String>();
    let ascii = Uts46::new()
        .to_ascii(bare.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| NameError::Letters(shown()))?
        .to_ascii_lowercase();
    if !ascii.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.*/".contains(&b)) {
        return Err(NameError::Letters(shown()));
    }
    if ascii.split('.').any(|l| l.is_empty() || l.len() > LABEL_MAX) {
        return Err(NameError::Label(shown()));
    }
    if ascii.len() > NAME_MAX {
        return Err(NameError::TooLong(shown()));
    }
    if ascii.split('.').enumerate().any(|(n, l)| l.contains('*') && (n > 0 || l != "*")) {
        return Err(NameError::Wildcard(shown()));
    }
    Ok(format!("{ascii}."))
}

/// The name of a host in its one form, checked: what an A, AAAA or PTR may speak of.
pub fn host_name(name: &str) -> Result<String, NameError> {
    let good = owner_name(name)?;
    let bare = good.trim_end_matches('.');
    let labels: Vec<&str> = bare.split('.').collect();
    let host = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // A last label of digits alone would be read as an address (WHATWG URL, "ends in a number").
    let number = labels.last().is_none_or(|l| l.bytes().all(|b| b.is_ascii_digit()) || l.starts_with("0x"));
    if labels.len() < 2 || !labels.iter().all(|l| host(l)) || number {
        return Err(NameError::NoHost(bare.chars().take(80).collect()));
    }
    Ok(good)
}

/// An address as a record may have it: no zone (`%eth0`), no IPv4 in IPv6 clothes.
pub fn address(text: &str) -> Result<IpAddr, NameError> {
    let ip: IpAddr = text.trim().parse().map_err(|_| NameError::NoAddress(text.chars().take(80).collect()))?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(NameError::Mapped(v6.to_string())),
        ip => Ok(ip),
    }
}

/// The name whose PTR speaks of an address: four octets, or the 32 nibbles of its bytes (never of its text).
pub fn reverse_name(ip: IpAddr) -> Result<String, NameError> {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Ok(format!("{d}.{c}.{b}.{a}.in-addr.arpa."))
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(NameError::Mapped(v6.to_string())),
        IpAddr::V6(v6) => {
            let nibbles =
                v6.octets().iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4)).collect::<String>();
            Ok(format!("{nibbles}ip6.arpa."))
        }
    }
}

/// Where the PTR of an address stands in a zone; none = not in this zone. A classless zone (RFC 2317) holds it under its last octet:
/// one that `covers` the address, or whose name says so.
pub fn ptr_owner(zone: &str, covers: Option<Ipv4Net>, ip: IpAddr) -> Option<String> {
    let name = reverse_name(ip).ok()?;
    if matches(zone, &name) {
        return Some(name);
    }
    let IpAddr::V4(v4) = ip else { return None };
    let range = covers.or_else(|| classless(zone))?;
    let [.., last] = v4.octets();
    range.contains(&v4).then(|| format!("{last}.{}", canonical(zone)))
}

/// The addresses that a zone holds by its name: `64/26`, `64-26` or `64-127` before the name of a /24 (RFC 2317 §4).
pub fn classless(zone: &str) -> Option<Ipv4Net> {
    let zone = labels(zone);
    let [first, c, b, a, arpa @ ..] = zone.as_slice() else { return None };
    if arpa != ["in-addr", "arpa"] {
        return None;
    }
    let octet = |label: &String| label.parse::<u8>().ok().filter(|n| n.to_string() == *label);
    let (start, end) = first.split_once(['/', '-'])?;
    let (start, end): (u8, u8) = (start.parse().ok()?, end.parse().ok()?);
    let first_address = Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, start);
    // A range has the size of a power of two and begins at a multiple of it; what is none is a prefix length.
    let size = end.checked_sub(start).map(|d| u32::from(d) + 1);
    let length = match size {
        Some(size)
            if !first.contains('/') && size > 1 && size.is_power_of_two() && u32::from(start).is_multiple_of(size) =>
        {
            32 - u8::try_from(size.ilog2()).ok()?
        }
        _ if (25..=32).contains(&end) => end,
        _ => return None,
    };
    Ipv4Net::new(first_address, length).ok().filter(|net| net.network() == first_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_holds_itself_and_whole_labels_below_it() {
        for (zone, name, good) in [
            ("example.com", "example.com.", true),
            ("Example.COM.", "www.example.com", true),
            ("example.com", "notexample.com", false),
            ("www.example.com", "example.com", false),
            ("bücher.example", "a.xn--bcher-kva.example.", true),
            ("", "example.com", false),
            ("2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa.", true),
            ("1.2.0.192.in-addr.arpa", "1.2.0.192.in-addr.arpa.", true),
            ("2.0.192.in-addr.arpa", "1.12.0.192.in-addr.arpa.", false),
        ] {
            assert_eq!(matches(zone, name), good, "{zone} {name}");
        }
    }

    #[test]
    fn names_come_out_in_one_form() {
        assert_eq!(canonical(" Example.com"), "example.com.");
        assert_eq!(canonical("0/25.2.0.192.IN-ADDR.ARPA."), "0/25.2.0.192.in-addr.arpa.");
        assert_eq!(owner_name("_sip._tcp.Bücher.example").unwrap(), "_sip._tcp.xn--bcher-kva.example.");
        assert_eq!(owner_name("*.example.com.").unwrap(), "*.example.com.");
        assert_eq!(host_name("VM-1.Example.com").unwrap(), "vm-1.example.com.");
    }

    #[test]
    fn names_that_providers_would_take_and_should_not_are_refused() {
        let long = "a".repeat(64);
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        assert!(host_name(&longest).is_ok());
        for bad in [
            "",
            ".",
            "host",
            "1.2.3.4",
            "1.2.3.4.",
            "2001:db8::1",
            "a_b.example.com",
            "*.example.com",
            "-a.example.com",
            "a-.example.com",
            "a..example.com",
            "a b.example.com",
            "a/b.example.com",
            "{{key}}.example.com",
            "a\n.example.com",
            "a.example.0x7f",
            &format!("{long}.com"),
            &format!("{longest}d"),
        ] {
            assert!(host_name(bad).is_err(), "{bad:?}");
        }
        for bad in ["a.*.com", "a*.com", "", "a\"b.com", "a..b"] {
            assert!(owner_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reverse_names_are_made_from_bytes() {
        let name = |text: &str| address(text).and_then(reverse_name);
        assert_eq!(name("192.0.2.1").unwrap(), "1.2.0.192.in-addr.arpa.");
        let expected = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa.", "0.".repeat(23));
        assert_eq!(name("2001:db8::1").unwrap(), expected);
        assert_eq!(name("2001:0DB8:0:0::0001").unwrap(), expected);
        assert_eq!(name("::").unwrap(), format!("{}ip6.arpa.", "0.".repeat(32)));
        assert_eq!(name("::ffff:192.0.2.1"), Err(NameError::Mapped("::ffff:192.0.2.1".into())));
        assert!(matches!(name("fe80::1%eth0"), Err(NameError::NoAddress(_))));
        assert!(matches!(name("192.0.2"), Err(NameError::NoAddress(_))));
    }

    #[test]
    fn a_classless_zone_holds_the_last_octet_of_what_it_covers() {
        let owner = |zone: &str, ip: &str| ptr_owner(zone, None, ip.parse().unwrap());
        for zone in ["64/26.2.0.192.in-addr.arpa", "64-26.2.0.192.in-addr.arpa", "64-127.2.0.192.in-addr.arpa."] {
            assert_eq!(owner(zone, "192.0.2.70").unwrap(), format!("70.{}", canonical(zone)), "{zone}");
            assert_eq!(owner(zone, "192.0.2.63"), None, "{zone}");
            assert_eq!(owner(zone, "192.0.2.128"), None, "{zone}");
            assert_eq!(owner(zone, "192.0.3.70"), None, "{zone}");
        }
        assert_eq!(owner("0-31.2.0.192.in-addr.arpa", "192.0.2.31").unwrap(), "31.0-31.2.0.192.in-addr.arpa.");
        assert_eq!(owner("2.0.192.in-addr.arpa", "192.0.2.1").unwrap(), "1.2.0.192.in-addr.arpa.");
        assert_eq!(owner("example.com", "192.0.2.1"), None);
        for none in [
            "70/26.2.0.192.in-addr.arpa",
            "64/33.2.0.192.in-addr.arpa",
            "a/26.2.0.192.in-addr.arpa",
            "0/25.2.0.in-addr.arpa",
        ] {
            assert_eq!(classless(none), None, "{none}");
        }
    }

    #[test]
    fn a_classless_zone_can_have_any_name_if_it_is_said_what_it_covers() {
        let covers = Some("192.0.2.64/26".parse().unwrap());
        let owner = |zone: &str, ip: &str| ptr_owner(zone, covers, ip.parse().unwrap());
        for zone in ["customer-a.2.0.192.in-addr.arpa", "rev.customer.example."] {
            assert_eq!(owner(zone, "192.0.2.70").unwrap(), format!("70.{}", canonical(zone)), "{zone}");
            assert_eq!(owner(zone, "192.0.2.128"), None, "{zone}");
            assert_eq!(owner(zone, "2001:db8::1"), None, "{zone}");
        }
        assert_eq!(owner("2.0.192.in-addr.arpa", "192.0.2.70").unwrap(), "70.2.0.192.in-addr.arpa.", "the plain name");
    }
}
