//! Drive and network strings: parse, change, print; unknown keys keep their place.

/// First part and key-value pairs of `volid,size=10G,mbps_rd=5`.
pub fn parse(text: &str) -> (String, Vec<(String, String)>) {
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest =
        parts.map(|p| p.split_once('=').map_or((p.to_owned(), String::new()), |(k, v)| (k.to_owned(), v.to_owned())));
    (first, rest.collect())
}

pub fn print(first: &str, rest: &[(String, String)]) -> String {
    rest.iter().fold(first.to_owned(), |all, (k, v)| format!("{all},{k}={v}"))
}

/// Sets one key.
pub fn with(text: &str, key: &str, value: &str) -> String {
    let (first, mut rest) = parse(text);
    match rest.iter_mut().find(|(k, _)| k == key) {
        Some((_, v)) => *v = value.to_owned(),
        None => rest.push((key.to_owned(), value.to_owned())),
    }
    print(&first, &rest)
}

pub fn get(text: &str, key: &str) -> Option<String> {
    parse(text).1.into_iter().find(|(k, _)| k == key).map(|(_, v)| v)
}

/// `3G`, `512M`, `10` (bytes) in MiB.
pub fn mib(size: &str) -> Option<u64> {
    let (number, unit) = size.split_at(size.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(size.len()));
    let n: f64 = number.parse().ok()?;
    let factor = match unit {
        "K" => 1.0 / 1024.0,
        "M" => 1.0,
        "G" => 1024.0,
        "T" => 1024.0 * 1024.0,
        "" => 1.0 / 1_048_576.0,
        _ => return None,
    };
    let value = n * factor;
    (value >= 0.0).then_some(value.round() as u64)
}

pub fn size_text(mib: u64) -> String {
    if mib.is_multiple_of(1024) { format!("{}G", mib / 1024) } else { format!("{mib}M") }
}

const BUSES: [(&str, u32); 4] = [("ide", 4), ("sata", 6), ("scsi", 31), ("virtio", 16)];

/// `scsi0`, `virtio15`, … (not `scsihw`).
pub fn is_disk_key(key: &str) -> bool {
    BUSES.iter().any(|(bus, n)| key.strip_prefix(bus).and_then(|i| i.parse::<u32>().ok()).is_some_and(|i| i < *n))
}

/// A disk image (not a CD-ROM, not cloud-init).
pub fn is_disk(key: &str, value: &str) -> bool {
    is_disk_key(key) && get(value, "media").as_deref() != Some("cdrom") && !value.contains("cloudinit")
}

/// `net0`, `ipconfig3`, `unused12` and so on.
pub fn indexed(key: &str, family: &str) -> bool {
    key.strip_prefix(family).is_some_and(|i| !i.is_empty() && i.len() < 4 && i.chars().all(|c| c.is_ascii_digit()))
}

pub fn mac_of(net: &str) -> Option<String> {
    let (first, rest) = parse(net);
    let all = std::iter::once(first.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).flatten().chain(rest);
    for (key, value) in all {
        if matches!(key.as_str(), "virtio" | "e1000" | "rtl8139" | "vmxnet3" | "macaddr") && !value.is_empty() {
            return Some(value.to_uppercase());
        }
    }
    None
}
