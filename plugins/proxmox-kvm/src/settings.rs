//! The plan and its options, typed. Decoded once at the edge of a step; ranges are the schema's business (the host has
//! checked them), and what could still be wrong is refused here with the field's name.

use serde::Deserialize;

use crate::host::Failure;

/// Copies of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloneKind {
    Linked,
    Full,
}

/// The part of the plan that this plugin acts on. Names as in the manifest's schema.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// Name of the image, or the number of one of its templates.
    pub image: String,
    /// Node name, or "auto".
    pub node: String,
    pub migration: bool,
    pub clone: CloneKind,
    pub cpu_cores: u32,
    pub cpu_sockets: u32,
    /// GiB.
    pub ram: f64,
    /// GiB; 0 = the template's size.
    pub system_disk: u32,
    /// "auto" = the template's.
    pub system_disk_storage: String,
    /// GiB; 0 = none.
    pub additional_disk: u32,
    /// "same" = where the system disk is.
    pub additional_disk_storage: String,
    /// MB/s and IOPS; 0 = unlimited.
    pub system_disk_read_bandwidth: u32,
    pub system_disk_write_bandwidth: u32,
    pub system_disk_read_iops: u32,
    pub system_disk_write_iops: u32,
    pub additional_disk_read_bandwidth: u32,
    pub additional_disk_write_bandwidth: u32,
    pub additional_disk_read_iops: u32,
    pub additional_disk_write_iops: u32,
    /// MB/s; 0 = unlimited.
    pub network_bandwidth: u32,
    pub ipv4_addresses: u32,
    pub ipv6_addresses: u32,
    pub vm_name_rule: String,
    pub first_vm_id: u32,
    /// Empty = random.
    pub os_user: String,
    /// "template", "virtio", "e1000", "rtl8139", "vmxnet3".
    pub network_model: String,
    pub bridge: String,
    /// 0 = none.
    pub vlan: u32,
    pub auto_bridge_vlan: bool,
    pub dhcp_ipv4: bool,
    pub dhcp_ipv6: bool,
    pub firewall_policy_in: String,
    pub firewall_policy_out: String,
    pub firewall_log_in: String,
    pub firewall_log_out: String,
    pub firewall_enable: bool,
    pub firewall_dhcp: bool,
    pub firewall_ndp: bool,
    pub firewall_radv: bool,
    pub firewall_mac_filter: bool,
    pub firewall_ip_filter: bool,
    pub anti_spoofing: bool,
    pub main_domain: String,
    pub backup_storage: String,
    pub iso_storage: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: String::new(),
            node: "auto".into(),
            migration: true,
            clone: CloneKind::Linked,
            cpu_cores: 1,
            cpu_sockets: 1,
            ram: 1.0,
            system_disk: 0,
            system_disk_storage: "auto".into(),
            additional_disk: 0,
            additional_disk_storage: "same".into(),
            system_disk_read_bandwidth: 0,
            system_disk_write_bandwidth: 0,
            system_disk_read_iops: 0,
            system_disk_write_iops: 0,
            additional_disk_read_bandwidth: 0,
            additional_disk_write_bandwidth: 0,
            additional_disk_read_iops: 0,
            additional_disk_write_iops: 0,
            network_bandwidth: 0,
            ipv4_addresses: 1,
            ipv6_addresses: 0,
            vm_name_rule: "{client_id}-{service_id}".into(),
            first_vm_id: 100,
            os_user: String::new(),
            network_model: "template".into(),
            bridge: "vmbr0".into(),
            vlan: 0,
            auto_bridge_vlan: true,
            dhcp_ipv4: false,
            dhcp_ipv6: false,
            firewall_policy_in: "ACCEPT".into(),
            firewall_policy_out: "ACCEPT".into(),
            firewall_log_in: "nolog".into(),
            firewall_log_out: "nolog".into(),
            firewall_enable: true,
            firewall_dhcp: true,
            firewall_ndp: true,
            firewall_radv: false,
            firewall_mac_filter: true,
            firewall_ip_filter: false,
            anti_spoofing: true,
            main_domain: String::new(),
            backup_storage: String::new(),
            iso_storage: String::new(),
        }
    }
}

/// Limits of one disk; 0 = unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub mbps_rd: u32,
    pub mbps_wr: u32,
    pub iops_rd: u32,
    pub iops_wr: u32,
}

impl Limits {
    /// True when nothing is limited.
    pub fn none(self) -> bool {
        self == Self::default()
    }

    /// Proxmox's names with the values.
    pub fn pairs(self) -> [(&'static str, u32); 4] {
        [("mbps_rd", self.mbps_rd), ("mbps_wr", self.mbps_wr), ("iops_rd", self.iops_rd), ("iops_wr", self.iops_wr)]
    }
}

impl Settings {
    /// Reads the effective settings of an operation.
    pub fn parse(json: &str) -> Result<Self, Failure> {
        let settings: Self = serde_json::from_str(json).map_err(|e| {
            Failure::fix_input("settings", format!("The plan's settings can't be read: {e}. Save the plan again."))
        })?;
        if settings.image.is_empty() {
            return Err(Failure::fix_config(
                "image-missing",
                "The plan's `image` is empty: choose an image in the plan, or an Operating System in the order.",
            ));
        }
        Ok(settings)
    }

    /// Like [`Settings::parse`], for operations that need no image (terminate, suspend).
    pub fn parse_lenient(json: &str) -> Self {
        serde_json::from_str(json).unwrap_or_default()
    }

    /// MiB.
    pub fn memory_mib(&self) -> u32 {
        // Within u32 by the schema's maximum; a float-to-int cast saturates in any case.
        (self.ram * 1024.0).round() as u32
    }

    /// A named node, or none for automatic.
    pub fn named_node(&self) -> Option<&str> {
        Some(self.node.trim()).filter(|n| !n.is_empty() && !n.eq_ignore_ascii_case("auto"))
    }

    /// A named system disk storage, or none for the template's.
    pub fn named_storage(&self) -> Option<&str> {
        Some(self.system_disk_storage.trim()).filter(|s| !s.is_empty() && !s.eq_ignore_ascii_case("auto"))
    }

    /// A named additional disk storage, or none for the system disk's.
    pub fn named_additional_storage(&self) -> Option<&str> {
        Some(self.additional_disk_storage.trim()).filter(|s| !s.is_empty() && !s.eq_ignore_ascii_case("same"))
    }

    pub fn linked(&self) -> bool {
        self.clone == CloneKind::Linked
    }

    /// Main domain in lower case without outer dots; none when the plan has none.
    pub fn domain(&self) -> Option<String> {
        let domain = self.main_domain.trim().trim_matches('.').to_ascii_lowercase();
        (!domain.is_empty()).then_some(domain)
    }

    pub fn system_limits(&self) -> Limits {
        Limits {
            mbps_rd: self.system_disk_read_bandwidth,
            mbps_wr: self.system_disk_write_bandwidth,
            iops_rd: self.system_disk_read_iops,
            iops_wr: self.system_disk_write_iops,
        }
    }

    pub fn additional_limits(&self) -> Limits {
        Limits {
            mbps_rd: self.additional_disk_read_bandwidth,
            mbps_wr: self.additional_disk_write_bandwidth,
            iops_rd: self.additional_disk_read_iops,
            iops_wr: self.additional_disk_write_iops,
        }
    }

    /// Addresses to lease of each family: a DHCP family gets none.
    pub fn wanted_addresses(&self) -> (u32, u32) {
        (if self.dhcp_ipv4 { 0 } else { self.ipv4_addresses }, if self.dhcp_ipv6 { 0 } else { self.ipv6_addresses })
    }

    pub fn any_dhcp(&self) -> bool {
        self.dhcp_ipv4 || self.dhcp_ipv6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> serde_json::Value {
        serde_json::from_str(include_str!("../manifest.json")).unwrap()
    }

    #[test]
    fn the_manifests_defaults_are_the_typed_defaults() {
        let schema = manifest();
        let properties = schema["settings"]["properties"].as_object().unwrap();
        let defaults: serde_json::Map<_, _> =
            properties.iter().map(|(k, v)| (k.clone(), v.get("default").cloned().unwrap())).collect();
        let typed: Settings = serde_json::from_value(serde_json::Value::Object(defaults)).unwrap();
        assert_eq!(typed, Settings::default());
    }

    #[test]
    fn every_option_of_the_requirements_has_one_owner_with_its_exact_and_legacy_name() {
        let schema = manifest();
        let mut found: Vec<(String, Option<String>)> = schema["settings"]["properties"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(|p| p.get("x-option"))
            .map(|o| (o["name"].as_str().unwrap().to_owned(), o["legacy"].as_str().map(str::to_owned)))
            .collect();
        found.sort();
        let mut wanted: Vec<(String, Option<String>)> = [
            ("CPU Cores", Some("CPU")),
            ("RAM", Some("RAM")),
            ("System Disk", None),
            ("Additional Disk", None),
            ("System Disk Read Bandwidth", None),
            ("System Disk Write Bandwidth", None),
            ("Additional Disk Read Bandwidth", None),
            ("Additional Disk Write Bandwidth", None),
            ("System Disk Read IOPS", None),
            ("System Disk Write IOPS", None),
            ("Additional Disk Read IOPS", None),
            ("Additional Disk Write IOPS", None),
            ("Network Bandwidth", None),
            ("IPv4 Addresses", Some("ipv4")),
            ("IPv6 Addresses", Some("ipv6")),
            ("Backups", Some("B")),
            ("Snapshots", Some("S")),
            ("Operating System", Some("OS")),
        ]
        .into_iter()
        .map(|(n, l)| (n.to_owned(), l.map(str::to_owned)))
        .collect();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn the_schema_takes_its_own_defaults_and_refuses_what_can_not_be() {
        let schema = manifest()["settings"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let mut good: serde_json::Map<_, _> =
            schema["properties"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v["default"].clone())).collect();
        good.insert("main-domain".into(), "vm.Example.com.".into());
        assert!(validator.is_valid(&good.clone().into()));
        for (key, value) in [
            ("vlan", serde_json::json!(4095)),
            ("first-vm-id", 99.into()),
            ("ram", 0.into()),
            ("cpu-cores", 0.into()),
            ("network-model", "ne2k".into()),
            ("firewall-policy-in", "LOG".into()),
            ("bridge", "vmbr0,tag=1".into()),
            ("os-user", "Root User".into()),
            ("main-domain", "-a..b".into()),
            ("snapshot-lifetime-days", 11.into()),
            ("no-such-setting", 1.into()),
        ] {
            let mut bad = good.clone();
            bad.insert(key.into(), value);
            assert!(!validator.is_valid(&bad.into()), "{key}");
        }
    }

    #[test]
    fn every_setting_says_what_it_is() {
        let schema = manifest();
        for (name, property) in schema["settings"]["properties"].as_object().unwrap() {
            assert!(property["description"].as_str().is_some_and(|d| d.len() > 10), "{name}");
            assert!(property.get("default").is_some(), "{name}");
        }
    }

    #[test]
    fn an_option_of_0_overrides_a_plan_that_has_more() {
        let settings = Settings::parse(r#"{"image":"Debian 12","ipv4-addresses":0,"additional-disk":0}"#).unwrap();
        assert_eq!((settings.ipv4_addresses, settings.additional_disk), (0, 0));
    }

    #[test]
    fn half_a_gibibyte_is_512_mib_and_a_plan_without_image_is_refused() {
        assert_eq!(Settings { ram: 0.5, ..Settings::default() }.memory_mib(), 512);
        assert_eq!(Settings::parse("{}").unwrap_err().code, "image-missing");
    }
}
