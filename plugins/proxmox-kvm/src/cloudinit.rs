//! Cloud-init values: one IPv4 and one IPv6 address (the primaries), DNS servers, keys. Comparison is by meaning, so
//! that a spelling of Proxmox's own is no change.

use std::net::IpAddr;

use crate::host::Lease;
use crate::settings::Settings;

/// `ipconfig0`; none when neither family has an address or DHCP.
pub fn ipconfig(settings: &Settings, leases: &[Lease]) -> Option<String> {
    let mut parts = Vec::new();
    for (family, dhcp, ip, gw) in [(4, settings.dhcp_ipv4, "ip", "gw"), (6, settings.dhcp_ipv6, "ip6", "gw6")] {
        if dhcp {
            parts.push(format!("{ip}=dhcp"));
        } else if let Some(lease) = primary(leases, family) {
            parts.push(format!("{ip}={}/{}", lease.address, lease.prefix_length));
            if let Some(gateway) = &lease.gateway {
                parts.push(format!("{gw}={gateway}"));
            }
        }
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

/// The lease with the lowest index of the family.
pub fn primary(leases: &[Lease], family: u32) -> Option<&Lease> {
    leases.iter().filter(|l| l.family == family).min_by_key(|l| l.index)
}

/// DNS servers of the primaries, each once; none where the pools name none.
pub fn nameservers(leases: &[Lease]) -> Option<String> {
    let mut servers: Vec<&str> = Vec::new();
    for lease in [primary(leases, 4), primary(leases, 6)].into_iter().flatten() {
        for server in &lease.nameservers {
            if !servers.contains(&server.as_str()) {
                servers.push(server);
            }
        }
    }
    (!servers.is_empty()).then(|| servers.join(" "))
}

/// Percent-encodes all but the unreserved characters of RFC 3986, as Proxmox wants SSH keys.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// SSH keys as the configuration holds them: one a line, trimmed, encoded; none when there is none.
pub fn ssh_keys(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    (!lines.is_empty()).then(|| encode(&lines.join("\n")))
}

/// Same addresses and gateways, whatever their order and spelling.
pub fn same_ipconfig(a: &str, b: &str) -> bool {
    let key = |text: &str| {
        let mut parts: Vec<(String, String)> = text
            .split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), canonical(value.trim())))
            .collect();
        parts.sort();
        parts
    };
    key(a) == key(b)
}

/// Same servers in the same order; blanks and commas separate alike.
pub fn same_list(a: &str, b: &str) -> bool {
    let key = |text: &str| -> Vec<String> {
        text.split([' ', ',', ';', '\n', '\t']).filter(|s| !s.is_empty()).map(canonical).collect()
    };
    key(a) == key(b)
}

/// Same keys; the case of escapes makes no difference.
pub fn same_keys(a: &str, b: &str) -> bool {
    let key =
        |text: &str| decode(text).lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>();
    key(a) == key(b)
}

fn canonical(value: &str) -> String {
    let (address, length) = value.split_once('/').map_or((value, None), |(a, l)| (a, Some(l)));
    let address = address.parse::<IpAddr>().map_or_else(|_| address.to_ascii_lowercase(), |ip| ip.to_string());
    length.map_or_else(|| address.clone(), |length| format!("{address}/{length}"))
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(address: &str, family: u32, index: u32) -> Lease {
        Lease {
            address: address.into(),
            family,
            prefix_length: if family == 4 { 24 } else { 64 },
            gateway: Some(if family == 4 { "192.0.2.1" } else { "2001:db8::1" }.into()),
            nameservers: vec!["9.9.9.9".into()],
            bridge: "vmbr0".into(),
            vlan: None,
            index,
            ext: Vec::new(),
        }
    }

    #[test]
    fn only_the_primary_of_each_family_is_configured() {
        let settings = Settings::default();
        let v4 = [lease("192.0.2.11", 4, 1), lease("192.0.2.10", 4, 0)];
        assert_eq!(ipconfig(&settings, &v4).unwrap(), "ip=192.0.2.10/24,gw=192.0.2.1");
        let v6 = [lease("2001:db8::10", 6, 0)];
        assert_eq!(ipconfig(&settings, &v6).unwrap(), "ip6=2001:db8::10/64,gw6=2001:db8::1");
        let both = [v4[0].clone(), v4[1].clone(), v6[0].clone()];
        assert_eq!(
            ipconfig(&settings, &both).unwrap(),
            "ip=192.0.2.10/24,gw=192.0.2.1,ip6=2001:db8::10/64,gw6=2001:db8::1"
        );
        assert_eq!(nameservers(&both).unwrap(), "9.9.9.9");
        assert_eq!(ipconfig(&settings, &[]), None);
        assert_eq!(nameservers(&[]), None);
    }

    #[test]
    fn a_dhcp_family_is_told_to_ask() {
        let settings = Settings { dhcp_ipv4: true, ..Settings::default() };
        assert_eq!(
            ipconfig(&settings, &[lease("2001:db8::10", 6, 0)]).unwrap(),
            "ip=dhcp,ip6=2001:db8::10/64,gw6=2001:db8::1"
        );
    }

    #[test]
    fn keys_are_encoded_to_the_unreserved_characters() {
        assert_eq!(
            ssh_keys("ssh-ed25519 AAAA+b/c= me@host\r\n\nssh-rsa x~y_z.\n").unwrap(),
            "ssh-ed25519%20AAAA%2Bb%2Fc%3D%20me%40host%0Assh-rsa%20x~y_z."
        );
        assert_eq!(ssh_keys(" \n"), None);
        assert!(same_keys("ssh%2ded25519%20a%2fb", "ssh-ed25519%20a%2Fb%0A"));
        assert!(!same_keys("a%20b", "a%20c"));
        assert_eq!(decode("100%"), "100%");
    }

    #[test]
    fn spelling_is_no_change() {
        assert!(same_ipconfig("gw6=2001:DB8:0::1,ip6=2001:db8:0:0::10/64", "ip6=2001:db8::10/64,gw6=2001:db8::1"));
        assert!(!same_ipconfig("ip=192.0.2.1/24", "ip=192.0.2.1/25"));
        assert!(same_list("9.9.9.9  2001:DB8::1", "9.9.9.9,2001:db8::1"));
    }
}
