//! Property strings, drives, sizes, network devices: parsing and printing as Proxmox does it.
//!
//! A drive is read, changed and printed again; unknown keys are refused as in the real API. Sizes are bytes.

use rand::RngExt;
use rand::rngs::StdRng;

/// `key=value` pairs with an optional first value that has no key; order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Props {
    pub head: Option<String>,
    pub pairs: Vec<(String, String)>,
}

impl Props {
    /// Splits `a,b=c,d=e`. None if a later part has no `=` or a key comes twice.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut out = Self::default();
        for (i, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some((k, v)) => {
                    if k.is_empty() || out.get(k).is_some() {
                        return None;
                    }
                    out.pairs.push((k.to_owned(), v.to_owned()));
                }
                None if i == 0 => out.head = Some(part.to_owned()),
                None => return None,
            }
        }
        Some(out)
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.pairs.iter_mut().find(|(k, _)| k == key) {
            Some(slot) => slot.1 = value,
            None => self.pairs.push((key.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(k, _)| k == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// The head first, then the pairs by name, as Proxmox writes it to the configuration file.
    #[must_use]
    pub fn print(&self) -> String {
        let mut pairs = self.pairs.clone();
        pairs.sort();
        let rest = pairs.iter().map(|(k, v)| format!("{k}={v}"));
        self.head.clone().into_iter().chain(rest).collect::<Vec<_>>().join(",")
    }
}

/// Keys that a drive may carry.
const DRIVE_KEYS: &[&str] = &[
    "aio",
    "backup",
    "bps",
    "bps_max_length",
    "bps_rd",
    "bps_rd_max_length",
    "bps_wr",
    "bps_wr_max_length",
    "cache",
    "detect_zeroes",
    "discard",
    "file",
    "format",
    "import-from",
    "iops",
    "iops_max",
    "iops_max_length",
    "iops_rd",
    "iops_rd_max",
    "iops_rd_max_length",
    "iops_wr",
    "iops_wr_max",
    "iops_wr_max_length",
    "iothread",
    "mbps",
    "mbps_max",
    "mbps_rd",
    "mbps_rd_max",
    "mbps_wr",
    "mbps_wr_max",
    "media",
    "product",
    "queues",
    "replicate",
    "rerror",
    "ro",
    "scsiblock",
    "serial",
    "shared",
    "size",
    "snapshot",
    "ssd",
    "vendor",
    "volume",
    "werror",
    "wwn",
    "efitype",
    "ms-cert",
    "pre-enrolled-keys",
    "version",
];

/// A drive line. `file` is a volume id, `none`, `cdrom`, or an order to allocate (`store:10`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    pub file: String,
    pub rest: Props,
}

impl Drive {
    /// None if Proxmox would say `unable to parse drive options`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = Props::parse(text)?;
        let file = match rest.head.take() {
            Some(f) => f,
            None => rest.remove("file").or_else(|| rest.remove("volume"))?,
        };
        if file.is_empty() || rest.pairs.iter().any(|(k, _)| !DRIVE_KEYS.contains(&k.as_str())) {
            return None;
        }
        for (one, two) in [("mbps", ["mbps_rd", "mbps_wr"]), ("iops", ["iops_rd", "iops_wr"])] {
            if rest.get(one).is_some() && two.iter().any(|k| rest.get(k).is_some()) {
                return None;
            }
        }
        for (k, v) in &rest.pairs {
            let number = k.starts_with("mbps") && v.parse::<f64>().is_err()
                || (k.starts_with("iops") || k.starts_with("bps")) && v.parse::<u64>().is_err();
            if number || (k == "size" && parse_size(v).is_none()) {
                return None;
            }
        }
        Some(Self { file, rest })
    }

    #[must_use]
    pub fn print(&self) -> String {
        Props { head: Some(self.file.clone()), pairs: self.rest.pairs.clone() }.print()
    }

    #[must_use]
    pub fn is_cdrom(&self) -> bool {
        self.rest.get("media") == Some("cdrom") || self.file == "none" || self.file == "cdrom"
    }

    /// The drive that carries the cloud-init files.
    #[must_use]
    pub fn is_cloudinit(&self) -> bool {
        let last = self.file.rsplit(['/', ':']).next().unwrap_or_default();
        last == "cloudinit" || (last.starts_with("vm-") && last.contains("-cloudinit"))
    }

    /// Storage and volume name of `store:name`.
    #[must_use]
    pub fn volume(&self) -> Option<(&str, &str)> {
        self.file.split_once(':')
    }

    /// Storage and bytes of `store:10`, the order to allocate ten GiB.
    #[must_use]
    pub fn new_disk(&self) -> Option<(String, u64)> {
        let (store, size) = self.volume()?;
        let gib: f64 = size.parse().ok()?;
        (gib >= 0.0).then(|| (store.to_owned(), (gib * (1u64 << 30) as f64).ceil() as u64))
    }

    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.rest.get("size").and_then(parse_size)
    }
}

/// Whether the key is a drive slot: ide0-3, sata0-5, scsi0-30, virtio0-15, efidisk0, tpmstate0.
#[must_use]
pub fn is_drive(key: &str) -> bool {
    [("ide", 4), ("sata", 6), ("scsi", 31), ("virtio", 16), ("efidisk", 1), ("tpmstate", 1)]
        .iter()
        .any(|(bus, n)| index_of(key, bus).is_some_and(|i| i < *n))
}

/// Whether the key is `unused0` to `unused255`.
#[must_use]
pub fn is_unused(key: &str) -> bool {
    index_of(key, "unused").is_some_and(|i| i < 256)
}

/// The number behind a prefix: `index_of("scsi12", "scsi")` is 12.
#[must_use]
pub fn index_of(key: &str, prefix: &str) -> Option<u32> {
    let n = key.strip_prefix(prefix)?;
    if n.is_empty() || !n.bytes().all(|b| b.is_ascii_digit()) || (n.len() > 1 && n.starts_with('0')) {
        return None;
    }
    n.parse().ok()
}

/// `10G`, `512M`, `3.5G`, `1048576` → bytes.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (i, 'K') => (text.get(..i)?, 10),
        (i, 'M') => (text.get(..i)?, 20),
        (i, 'G') => (text.get(..i)?, 30),
        (i, 'T') => (text.get(..i)?, 40),
        _ => (text, 0),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    Some((number.parse::<f64>().ok()? * (1u64 << unit) as f64) as u64)
}

/// Bytes in the largest unit that divides them: `10G`, `1536M`.
#[must_use]
pub fn print_size(bytes: u64) -> String {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Models of a virtual network card.
const MODELS: &[&str] = &[
    "virtio",
    "e1000",
    "e1000e",
    "vmxnet3",
    "rtl8139",
    "ne2k_pci",
    "ne2k_isa",
    "pcnet",
    "i82551",
    "i82557b",
    "i82559er",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
];

/// Checks a network device and gives it a MAC when it has none, so that the result differs each time then.
///
/// # Errors
/// The text for the parameter.
pub fn normalise_net(text: &str, rng: &mut StdRng) -> Result<String, String> {
    let bad = || "invalid format - format error".to_owned();
    let mut p = Props::parse(text).ok_or_else(bad)?;
    if let Some(head) = p.head.take() {
        p.pairs.insert(0, ("model".to_owned(), head));
    }
    let (mut model, mut mac) = (p.remove("model"), p.remove("macaddr"));
    for m in MODELS {
        if let Some(value) = p.remove(m) {
            model = Some((*m).to_owned());
            mac = Some(value);
        }
    }
    let model = model.ok_or_else(|| "invalid format - model: property is missing and it is not optional".to_owned())?;
    if !MODELS.contains(&model.as_str()) {
        return Err(format!("invalid format - model: value '{model}' does not have a value in the enumeration"));
    }
    let mac = match mac {
        Some(m) if is_mac(&m) => m.to_ascii_uppercase(),
        Some(_) => return Err("invalid format - macaddr: value does not look like a valid unicast MAC address".into()),
        None => random_mac(rng),
    };
    for (k, v) in &p.pairs {
        let fine = match k.as_str() {
            "bridge" => v.len() <= 15 && !v.is_empty(),
            "tag" => v.parse::<u32>().is_ok_and(|t| (1..=4094).contains(&t)),
            "rate" => v.parse::<f64>().is_ok_and(|r| r >= 0.0),
            "firewall" | "link_down" => matches!(v.as_str(), "0" | "1"),
            "mtu" => v.parse::<u32>().is_ok_and(|m| (1..=65520).contains(&m)),
            "queues" => v.parse::<u32>().is_ok_and(|q| q <= 64),
            "trunks" => true,
            _ => {
                return Err(format!(
                    "invalid format - {k}: property is not defined in schema and the schema does not allow additional \
                     properties"
                ));
            }
        };
        if !fine {
            return Err(format!("invalid format - {k}: value '{v}' is out of range"));
        }
    }
    p.pairs.sort();
    p.pairs.insert(0, (model, mac));
    Ok(p.pairs.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))
}

/// Replaces the MAC, as a clone does.
#[must_use]
pub fn with_new_mac(text: &str, rng: &mut StdRng) -> String {
    let mut out = Vec::new();
    for part in text.split(',') {
        match part.split_once('=') {
            Some((k, _)) if MODELS.contains(&k) => out.push(format!("{k}={}", random_mac(rng))),
            _ => out.push(part.to_owned()),
        }
    }
    out.join(",")
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split(':').collect();
    let unicast = parts.first().and_then(|f| u8::from_str_radix(f, 16).ok()).is_some_and(|b| b & 1 == 0);
    parts.len() == 6 && unicast && parts.iter().all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok())
}

/// A MAC of Proxmox's own prefix.
pub fn random_mac(rng: &mut StdRng) -> String {
    let n: u32 = rng.random();
    let [_, a, b, c] = n.to_be_bytes();
    format!("BC:24:11:{a:02X}:{b:02X}:{c:02X}")
}

/// A random UUID.
pub fn random_uuid(rng: &mut StdRng) -> String {
    let n: u128 = rng.random();
    let h = format!("{n:032x}");
    let part = |a: usize, b: usize| h.get(a..b).unwrap_or_default().to_owned();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// Checks `ip=cidr|dhcp,gw=,ip6=cidr|dhcp|auto,gw6=`.
///
/// # Errors
/// The text for the parameter.
pub fn check_ipconfig(text: &str) -> Result<(), String> {
    let p = Props::parse(text).filter(|p| p.head.is_none()).ok_or("invalid format - format error")?;
    for (k, v) in &p.pairs {
        let fine = match k.as_str() {
            "ip" => v == "dhcp" || v.contains('/') && v.parse::<ipnet::Ipv4Net>().is_ok(),
            "ip6" => v == "dhcp" || v == "auto" || v.contains('/') && v.parse::<ipnet::Ipv6Net>().is_ok(),
            "gw" => v.parse::<std::net::Ipv4Addr>().is_ok(),
            "gw6" => v.parse::<std::net::Ipv6Addr>().is_ok(),
            _ => {
                return Err(format!(
                    "invalid format - {k}: property is not defined in schema and the schema does not allow additional \
                     properties"
                ));
            }
        };
        if !fine {
            return Err(format!("invalid format - {k}: invalid format - value does not look like a valid address"));
        }
    }
    for (gw, ip, family) in [("gw", "ip", "IPv4"), ("gw6", "ip6", "IPv6")] {
        if p.get(gw).is_some() && !p.get(ip).is_some_and(|v| v.contains('/')) {
            return Err(format!("gateway specified without specifying an {family} address"));
        }
    }
    Ok(())
}
