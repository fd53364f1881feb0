//! The network card's configuration string. The MAC is always sent: Proxmox makes a new one whenever it is left out.

/// `model=MAC,key=value,…`, unknown keys kept in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub model: String,
    pub mac: String,
    options: Vec<(String, String)>,
}

impl Nic {
    /// Reads both spellings, `virtio=MAC,…` and `model=virtio,macaddr=MAC,…`.
    pub fn parse(text: &str) -> Self {
        let mut nic = Self { model: String::new(), mac: String::new(), options: Vec::new() };
        for (n, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some(("model", value)) => nic.model = value.to_owned(),
                Some(("macaddr", value)) => nic.mac = value.to_ascii_uppercase(),
                Some((key, value)) if n == 0 => {
                    nic.model = key.to_owned();
                    nic.mac = value.to_ascii_uppercase();
                }
                Some((key, value)) => nic.options.push((key.to_owned(), value.to_owned())),
                None if n == 0 => nic.model = part.to_owned(),
                None => {}
            }
        }
        nic
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Sets or, with none, takes out.
    pub fn put(&mut self, key: &str, value: Option<String>) {
        match (self.options.iter_mut().find(|(k, _)| k == key), value) {
            (Some((_, old)), Some(value)) => *old = value,
            (None, Some(value)) => self.options.push((key.to_owned(), value)),
            (_, None) => self.options.retain(|(k, _)| k != key),
        }
    }

    /// The same card, whatever the order of the keys and the spelling of numbers.
    pub fn same(&self, other: &Self) -> bool {
        let key = |nic: &Self| {
            let mut options: Vec<(String, String)> = nic
                .options
                .iter()
                .map(|(k, v)| (k.clone(), v.parse::<f64>().map_or_else(|_| v.clone(), |n| n.to_string())))
                .filter(|(k, v)| !(v == "0" && matches!(k.as_str(), "firewall" | "link_down" | "rate" | "tag")))
                .collect();
            options.sort();
            (nic.model.clone(), nic.mac.clone(), options)
        };
        key(self) == key(other)
    }
}

impl std::fmt::Display for Nic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.model, self.mac)?;
        self.options.iter().try_for_each(|(key, value)| write!(f, ",{key}={value}"))
    }
}

/// What the plan and the leases say of the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// "template" keeps the model of the template (virtio where it has no card).
    pub model: &'a str,
    pub mac: &'a str,
    pub bridge: &'a str,
    pub vlan: Option<u32>,
    /// MB/s; 0 = unlimited.
    pub rate: u32,
    pub firewall: bool,
}

/// The card as it should be, made from the one that stands.
pub fn wanted(now: Option<&str>, want: &Wanted<'_>) -> Nic {
    let mut nic = now.map_or_else(|| Nic::parse("virtio"), Nic::parse);
    if want.model != "template" && !want.model.is_empty() {
        nic.model = want.model.to_owned();
    } else if nic.model.is_empty() {
        nic.model = "virtio".into();
    }
    nic.mac = want.mac.to_ascii_uppercase();
    nic.put("bridge", Some(want.bridge.to_owned()));
    nic.put("tag", want.vlan.filter(|v| *v > 0).map(|v| v.to_string()));
    nic.put("rate", (want.rate > 0).then(|| want.rate.to_string()));
    nic.put("firewall", want.firewall.then(|| "1".to_owned()));
    // A trunk and a tag of our own contradict each other.
    if want.vlan.is_some_and(|v| v > 0) {
        nic.put("trunks", None);
    }
    nic
}

/// A MAC from random bytes: locally administered, unicast, 46 random bits. Proxmox's own prefix would leave 24, too
/// few for ten thousand VMs without a collision.
pub fn mac(random: &[u8]) -> Option<String> {
    let [a, b, c, d, e, f] = *random.first_chunk::<6>()?;
    let a = (a & 0xFC) | 0x02;
    Some(format!("{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{f:02X}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANT: Wanted<'static> = Wanted {
        model: "template",
        mac: "02:00:00:00:00:01",
        bridge: "vmbr1",
        vlan: Some(42),
        rate: 12,
        firewall: true,
    };

    #[test]
    fn the_templates_model_and_unknown_keys_stay() {
        let nic = wanted(Some("e1000=AA:BB:CC:DD:EE:FF,bridge=vmbr0,queues=4,trunks=1;2"), &WANT);
        assert_eq!(nic.to_string(), "e1000=02:00:00:00:00:01,bridge=vmbr1,queues=4,tag=42,rate=12,firewall=1");
    }

    #[test]
    fn vlan_0_and_rate_0_mean_absent() {
        let nic = wanted(
            Some("virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0,tag=9,rate=3,firewall=1"),
            &Wanted { vlan: Some(0), rate: 0, firewall: false, ..WANT },
        );
        assert_eq!(nic.to_string(), "virtio=02:00:00:00:00:01,bridge=vmbr1");
    }

    #[test]
    fn a_vm_without_a_card_gets_a_virtio_one_and_the_plan_may_name_a_model() {
        assert!(wanted(None, &WANT).to_string().starts_with("virtio=02:"));
        assert!(wanted(None, &Wanted { model: "vmxnet3", ..WANT }).to_string().starts_with("vmxnet3=02:"));
    }

    #[test]
    fn order_case_and_spelling_of_numbers_make_no_difference() {
        let a = Nic::parse("virtio=aa:bb:cc:dd:ee:ff,bridge=vmbr0,rate=12.0,firewall=1");
        let b = Nic::parse("model=virtio,macaddr=AA:BB:CC:DD:EE:FF,firewall=1,rate=12,bridge=vmbr0,link_down=0");
        assert!(a.same(&b));
        assert!(!a.same(&Nic::parse("virtio=aa:bb:cc:dd:ee:ff,bridge=vmbr0,rate=12")));
    }

    #[test]
    fn a_made_mac_is_local_and_unicast() {
        assert_eq!(mac(&[0xFF, 1, 2, 3, 4, 5, 6]).unwrap(), "FE:01:02:03:04:05");
        assert_eq!(mac(&[0, 0, 0, 0, 0, 0]).unwrap(), "02:00:00:00:00:00");
        assert_eq!(mac(&[1, 2]), None);
    }
}
