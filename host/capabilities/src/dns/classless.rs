//! The parent's side of a classless reverse zone (RFC 2317): what whoever holds the /24 must enter, so that what is written in the zone
//! is found.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde::Serialize;
use wharf_model::object::Zone;

use super::names;

/// A record that the parent must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentRecord {
    pub name: String,
    /// `NS` or `CNAME`.
    pub rtype: String,
    pub value: String,
}

/// The addresses that a zone holds without holding their plain names; none = it is no classless zone.
pub fn range(zone: &Zone) -> Option<Ipv4Net> {
    let range = zone.covers.or_else(|| names::classless(&zone.zone))?;
    // A zone of the plain names needs nobody's CNAME.
    let plain = names::reverse_name(IpAddr::V4(range.network())).ok()?;
    (!names::matches(&zone.zone, &plain)).then_some(range)
}

/// Name of the zone that holds the plain names of a range.
pub fn parent(range: Ipv4Net) -> String {
    let [a, b, c, _] = range.network().octets();
    format!("{c}.{b}.{a}.in-addr.arpa.")
}

/// What the parent must have: the delegation, where the zone lies below it, and a CNAME for each address, network and broadcast too.
pub fn parent_side(zone: &str, range: Ipv4Net, name_servers: &[String]) -> Vec<ParentRecord> {
    let (zone, parent) = (names::canonical(zone), parent(range));
    let record = |name: String, rtype: &str, value: String| ParentRecord { name, rtype: rtype.to_owned(), value };
    let below = names::matches(&parent, &zone);
    let delegation = name_servers.iter().filter(|_| below).map(|ns| record(zone.clone(), "NS", names::canonical(ns)));
    let first = u32::from(range.network());
    let addresses = (first..=u32::from(range.broadcast())).map(|n| {
        let [.., last] = Ipv4Addr::from(n).octets();
        record(format!("{last}.{parent}"), "CNAME", format!("{last}.{zone}"))
    });
    delegation.chain(addresses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(zone: &str, range: &str) -> Vec<String> {
        let side = parent_side(zone, range.parse().unwrap(), &["ns1.example.net".into(), "ns2.example.net.".into()]);
        side.iter().map(|r| format!("{} {} {}", r.name, r.rtype, r.value)).collect()
    }

    #[test]
    fn the_parent_delegates_and_has_a_cname_for_each_address() {
        assert_eq!(
            lines("64/30.2.0.192.in-addr.arpa", "192.0.2.64/30"),
            [
                "64/30.2.0.192.in-addr.arpa. NS ns1.example.net.",
                "64/30.2.0.192.in-addr.arpa. NS ns2.example.net.",
                "64.2.0.192.in-addr.arpa. CNAME 64.64/30.2.0.192.in-addr.arpa.",
                "65.2.0.192.in-addr.arpa. CNAME 65.64/30.2.0.192.in-addr.arpa.",
                "66.2.0.192.in-addr.arpa. CNAME 66.64/30.2.0.192.in-addr.arpa.",
                "67.2.0.192.in-addr.arpa. CNAME 67.64/30.2.0.192.in-addr.arpa.",
            ]
        );
        let elsewhere = lines("rev.customer.example", "192.0.2.254/31");
        assert_eq!(elsewhere[0], "254.2.0.192.in-addr.arpa. CNAME 254.rev.customer.example.", "nothing to delegate");
        assert_eq!(elsewhere.len(), 2);
        assert_eq!(lines("0-127.2.0.192.in-addr.arpa", "192.0.2.0/25").len(), 130);
    }

    #[test]
    fn a_zone_of_plain_names_is_not_classless() {
        let zone = |name: &str, covers: Option<&str>| Zone {
            zone: name.into(),
            covers: covers.map(|c| c.parse().unwrap()),
            ..Zone::default()
        };
        assert_eq!(range(&zone("64-127.2.0.192.in-addr.arpa", None)), Some("192.0.2.64/26".parse().unwrap()));
        assert_eq!(range(&zone("rev.example", Some("192.0.2.64/26"))), Some("192.0.2.64/26".parse().unwrap()));
        assert_eq!(range(&zone("2.0.192.in-addr.arpa", Some("192.0.2.64/26"))), None);
        assert_eq!(range(&zone("example.com", None)), None);
    }
}
