//! The VM's firewall. Anti-spoofing needs all of: the cluster's firewall on, the VM's on, the card's flag, the address
//! set *and* `ipfilter=1`; it needs no deny policy. While a family is DHCP the filter stays off: the addresses that the
//! VM will have aren't known.

use crate::host::Lease;
use crate::settings::Settings;

/// Name of the set that filters the first card.
pub const FILTER_SET: &str = "ipfilter-net0";

/// Whether source addresses are filtered.
pub fn filters(settings: &Settings) -> bool {
    (settings.anti_spoofing || settings.firewall_ip_filter) && !settings.any_dhcp()
}

/// Whether the filter is wanted and can't be had.
pub fn filter_left_off(settings: &Settings) -> bool {
    (settings.anti_spoofing || settings.firewall_ip_filter) && settings.any_dhcp()
}

/// Whether the VM's firewall is on: the filter needs it.
pub fn enabled(settings: &Settings) -> bool {
    settings.firewall_enable || filters(settings)
}

/// All addresses of the service, for the set.
pub fn addresses(leases: &[Lease]) -> Vec<String> {
    leases.iter().map(|l| l.address.clone()).collect()
}

/// Options by Proxmox's names.
pub fn options(settings: &Settings) -> Vec<(String, String)> {
    let flag = |on: bool| if on { "1" } else { "0" }.to_owned();
    let word = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    [
        ("enable", flag(enabled(settings))),
        ("dhcp", flag(settings.firewall_dhcp)),
        ("ndp", flag(settings.firewall_ndp)),
        ("radv", flag(settings.firewall_radv)),
        ("macfilter", flag(settings.firewall_mac_filter)),
        ("ipfilter", flag(filters(settings))),
        ("policy_in", word(&settings.firewall_policy_in, "ACCEPT")),
        ("policy_out", word(&settings.firewall_policy_out, "ACCEPT")),
        ("log_level_in", word(&settings.firewall_log_in, "nolog")),
        ("log_level_out", word(&settings.firewall_log_out, "nolog")),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(settings: &Settings, key: &str) -> String {
        options(settings).into_iter().find(|(k, _)| k == key).unwrap().1
    }

    #[test]
    fn with_an_untouched_plan_the_filter_is_on_and_the_policies_accept() {
        let settings = Settings::default();
        for (key, value) in [
            ("enable", "1"),
            ("ipfilter", "1"),
            ("macfilter", "1"),
            ("radv", "0"),
            ("policy_in", "ACCEPT"),
            ("log_level_out", "nolog"),
        ] {
            assert_eq!(option(&settings, key), value, "{key}");
        }
    }

    #[test]
    fn any_dhcp_family_keeps_the_filter_off() {
        let settings = Settings { dhcp_ipv6: true, ..Settings::default() };
        assert_eq!(option(&settings, "ipfilter"), "0");
        assert!(filter_left_off(&settings));
        assert_eq!(option(&settings, "enable"), "1");
    }

    #[test]
    fn the_filter_switches_the_firewall_on_and_without_it_the_plan_decides() {
        assert!(enabled(&Settings { firewall_enable: false, ..Settings::default() }));
        assert!(!enabled(&Settings { firewall_enable: false, anti_spoofing: false, ..Settings::default() }));
    }
}
