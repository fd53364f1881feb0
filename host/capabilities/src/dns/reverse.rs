//! The reverse zones of a prefix, as an admin must name them at a provider.
//!
//! IPv4 zones are cut at octets, IPv6 zones at nibbles. A prefix between two cuts is covered by a list of zones; one
//! longer than /24 has no zone of its own in `in-addr.arpa`, and RFC 2317 says how to get along.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

/// Zones that hold the PTR records of a prefix, without the final dot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReverseZones {
    /// At most 128.
    pub zones: Vec<String>,
    /// What else has to be done, if there is something.
    pub advice: Option<String>,
}

/// The zones of the prefix that `address` is in.
pub fn rdns_zone_names(prefix: IpNet) -> ReverseZones {
    let prefix = prefix.trunc();
    match prefix.network() {
        IpAddr::V4(network) => v4(network, prefix.prefix_len()),
        IpAddr::V6(network) => v6(network, prefix.prefix_len()),
    }
}

fn v4(network: Ipv4Addr, length: u8) -> ReverseZones {
    let [a, b, c, d] = network.octets();
    if (25..=31).contains(&length) {
        let parent = format!("{c}.{b}.{a}.in-addr.arpa");
        let end = d | (0xff >> (length - 24));
        let advice = format!(
            "A prefix longer than /24 has no reverse zone of its own. Ask whoever holds {parent} to delegate \
             {d}/{length}.{parent} to your name servers and to add a CNAME for each address there: {d}.{parent} CNAME \
             {d}.{d}/{length}.{parent}, and so on to {end}. Where a slash can't stand in a zone's name, \
             {d}-{length}.{parent} and {d}-{end}.{parent} are in use too (RFC 2317)."
        );
        return ReverseZones { zones: vec![format!("{d}/{length}.{parent}")], advice: Some(advice) };
    }
    // The next cut, and how many zones of that size make up the prefix.
    let cut = length.div_ceil(8) * 8;
    let first = u32::from(network);
    let zones = (0..1_u32 << (cut - length))
        .map(|n| {
            let start = n.checked_shl(32 - u32::from(cut)).map_or(first, |offset| first | offset);
            let octets = Ipv4Addr::from(start).octets();
            let kept = octets.iter().take(usize::from(cut / 8)).rev().map(|o| format!("{o}.")).collect::<String>();
            format!("{kept}in-addr.arpa")
        })
        .collect();
    ReverseZones { zones, advice: several(length, cut) }
}

fn v6(network: Ipv6Addr, length: u8) -> ReverseZones {
    let cut = length.div_ceil(4) * 4;
    let first = u128::from(network);
    let zones = (0..1_u128 << (cut - length))
        .map(|n| {
            let start = n.checked_shl(128 - u32::from(cut)).map_or(first, |offset| first | offset);
            let nibbles = (0..u32::from(cut / 4))
                .rev()
                .map(|at| format!("{:x}.", (start >> (124 - at * 4)) & 15))
                .collect::<String>();
            format!("{nibbles}ip6.arpa")
        })
        .collect();
    ReverseZones { zones, advice: several(length, cut) }
}

fn several(length: u8, cut: u8) -> Option<String> {
    (cut != length).then(|| format!("There is no zone for a /{length}: these are the /{cut} zones that cover it."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefix: &str) -> ReverseZones {
        rdns_zone_names(prefix.parse().unwrap())
    }

    #[test]
    fn a_prefix_at_a_cut_is_one_zone() {
        for (prefix, zone) in [
            ("192.168.130.0/24", "130.168.192.in-addr.arpa"),
            ("192.168.130.7/24", "130.168.192.in-addr.arpa"),
            ("172.16.0.0/16", "16.172.in-addr.arpa"),
            ("10.0.0.0/8", "10.in-addr.arpa"),
            ("0.0.0.0/0", "in-addr.arpa"),
            ("192.0.2.70/32", "70.2.0.192.in-addr.arpa"),
            ("2001:db8::/120", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
            ("2001:db8::/32", "8.b.d.0.1.0.0.2.ip6.arpa"),
            ("2001:db8:1:2::/64", "2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        ] {
            assert_eq!(of(prefix), ReverseZones { zones: vec![zone.to_owned()], advice: None }, "{prefix}");
        }
        let host = of("2001:db8::1/128");
        assert_eq!(
            format!("{}.", host.zones[0]),
            crate::dns::names::reverse_name("2001:db8::1".parse().unwrap()).unwrap()
        );
    }

    #[test]
    fn a_prefix_between_two_cuts_is_a_list_of_zones() {
        assert_eq!(
            of("192.0.0.0/22").zones,
            ["0.0.192.in-addr.arpa", "1.0.192.in-addr.arpa", "2.0.192.in-addr.arpa", "3.0.192.in-addr.arpa"]
        );
        assert_eq!(of("10.128.0.0/9").zones.len(), 128);
        assert_eq!(of("10.128.0.0/9").zones[127], "255.10.in-addr.arpa");
        assert_eq!(of("172.16.0.0/12").zones.len(), 16);
        assert_eq!(of("172.16.0.0/15").zones, ["16.172.in-addr.arpa", "17.172.in-addr.arpa"]);
        let v6 = of("2001:db8::/29");
        assert_eq!(v6.zones.len(), 8);
        assert_eq!(
            (v6.zones[0].as_str(), v6.zones[7].as_str()),
            ("8.b.d.0.1.0.0.2.ip6.arpa", "f.b.d.0.1.0.0.2.ip6.arpa")
        );
        assert!(v6.advice.unwrap().contains("/32"));
    }

    #[test]
    fn beyond_24_bits_rfc_2317_names_the_zone() {
        let zones = of("192.0.2.64/26");
        assert_eq!(zones.zones, ["64/26.2.0.192.in-addr.arpa"]);
        let advice = zones.advice.unwrap();
        assert!(
            advice.contains("64-26.2.0.192.in-addr.arpa") && advice.contains("64-127.2.0.192.in-addr.arpa"),
            "{advice}"
        );
        let owner = crate::dns::names::ptr_owner(&zones.zones[0], None, "192.0.2.70".parse().unwrap());
        assert_eq!(owner.unwrap(), "70.64/26.2.0.192.in-addr.arpa.");
        assert_eq!(of("192.0.2.0/31").zones, ["0/31.2.0.192.in-addr.arpa"]);
    }
}
