//! Names: canonical forms, label-wise matching, reverse names, and the zones that a prefix needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Absolute and in lower case: `VM.Example.com` → `vm.example.com.`.
pub fn canonical(name: &str) -> String {
    format!("{}.", name.trim().trim_matches('.').to_ascii_lowercase())
}

/// Whether `name` is `zone` or below it, label by label.
pub fn within(name: &str, zone: &str) -> bool {
    let (name, zone) = (canonical(name), canonical(zone));
    name == zone || zone == "." || name.strip_suffix(&zone).is_some_and(|head| head.ends_with('.'))
}

/// The PTR owner of an address; none for an IPv4 address in IPv6 clothes.
pub fn reverse(address: IpAddr) -> Option<String> {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            Some(format!("{d}.{c}.{b}.{a}.in-addr.arpa."))
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        IpAddr::V6(v6) => {
            let mut name = String::with_capacity(73);
            for byte in v6.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", byte & 0xf, byte >> 4));
            }
            Some(format!("{name}ip6.arpa."))
        }
    }
}

/// A host name that a PTR may point to, canonical: two labels at least, letters, digits and hyphens, no address.
pub fn host_name(text: &str) -> Result<String, String> {
    let bare = text.trim().trim_end_matches('.');
    let ascii = idna::domain_to_ascii(bare).map_err(|_| format!("`{text}` is not a host name"))?;
    if ascii.parse::<IpAddr>().is_ok() {
        return Err(format!("`{text}` is an address, a name is needed"));
    }
    if ascii.len() > 253 {
        return Err(format!("`{text}` is longer than 253 characters"));
    }
    let labels: Vec<&str> = ascii.split('.').collect();
    if labels.len() < 2 {
        return Err(format!("`{text}` needs a domain: at least two labels"));
    }
    for label in labels {
        let good = (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !good {
            return Err(format!("`{label}` in `{text}` is not a label of a host name: 1 to 63 letters, digits and hyphens"));
        }
    }
    Ok(canonical(&ascii))
}

/// The reverse zones that cover a prefix: one, or all that are needed where the prefix ends between labels. An IPv4 prefix
/// longer than /24 gets its RFC 2317 name, in the style with a hyphen, which every provider takes.
pub fn reverse_zones(network: IpAddr, length: u8) -> Vec<String> {
    match network {
        IpAddr::V4(v4) => v4_zones(v4, length.min(32)),
        IpAddr::V6(v6) => v6_zones(v6, length.min(128)),
    }
}

fn v4_zones(network: Ipv4Addr, length: u8) -> Vec<String> {
    let bits = u32::from(network) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    let name = |bits: u32, labels: usize| {
        let octets = bits.to_be_bytes();
        let head: Vec<String> = octets.iter().take(labels).rev().map(ToString::to_string).collect();
        format!("{}.in-addr.arpa", head.join("."))
    };
    if length > 24 {
        let [a, b, c, d] = bits.to_be_bytes();
        return vec![format!("{d}-{length}.{c}.{b}.{a}.in-addr.arpa")];
    }
    let labels = usize::from(length.div_ceil(8).max(1));
    let count = 1_u32 << (labels * 8 - usize::from(length));
    let step = 1_u64 << (32 - labels * 8);
    (0..count)
        .map(|n| name(u32::try_from(u64::from(bits) + u64::from(n) * step).unwrap_or(bits), labels))
        .collect()
}

fn v6_zones(network: Ipv6Addr, length: u8) -> Vec<String> {
    let bits = u128::from(network) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    let nibbles = usize::from(length.div_ceil(4).max(1));
    let count = 1_u128 << (nibbles * 4 - usize::from(length));
    let shift = 128 - nibbles * 4;
    (0..count)
        .map(|n| {
            let bits = bits + (n << shift);
            let head: Vec<String> = (0..nibbles).map(|i| format!("{:x}", (bits >> (124 - i * 4)) & 0xf)).rev().collect();
            format!("{}.ip6.arpa", head.join("."))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_matches_on_label_boundaries_and_itself() {
        assert!(within("vm-1.example.com", "example.com."));
        assert!(!within("vm-1.example.com", "ample.com"));
        assert!(within("Example.com.", "example.com"));
        for zone in ["1.168.192.in-addr.arpa", "168.192.in-addr.arpa", "192.in-addr.arpa"] {
            assert!(within("10.1.168.192.in-addr.arpa", zone));
        }
    }

    #[test]
    fn reverse_names_come_from_the_bytes_not_from_the_text() {
        assert_eq!(reverse("192.168.130.7".parse().unwrap()).unwrap(), "7.130.168.192.in-addr.arpa.");
        let name = reverse("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(name, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.");
        assert_eq!(reverse("::".parse().unwrap()).unwrap().split('.').filter(|l| *l == "0").count(), 32);
        assert_eq!(reverse("::ffff:192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn zones_of_prefixes_are_as_required() {
        let zones = |text: &str, length| reverse_zones(text.parse().unwrap(), length);
        assert_eq!(zones("192.168.130.0", 24), ["130.168.192.in-addr.arpa"]);
        assert_eq!(
            zones("2001:db8::", 120),
            ["0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"]
        );
        assert_eq!(zones("10.0.0.0", 8), ["10.in-addr.arpa"]);
        assert_eq!(zones("192.0.2.0", 22).len(), 4);
        assert_eq!(zones("192.0.0.0", 22), ["0.0.192.in-addr.arpa", "1.0.192.in-addr.arpa", "2.0.192.in-addr.arpa", "3.0.192.in-addr.arpa"]);
        assert_eq!(zones("2001:db8::", 29).len(), 8);
        assert_eq!(zones("192.0.2.64", 26), ["64-26.2.0.192.in-addr.arpa"]);
    }

    #[test]
    fn what_a_ptr_may_not_point_to_is_refused_with_the_reason() {
        for bad in ["localhost", "192.0.2.1", "_x.example.com", "*.example.com", "-a.example.com", "a..example.com"] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
        assert_eq!(host_name("Bücher.example.com").unwrap(), "xn--bcher-kva.example.com.");
    }
}
