//! Configuration keys that Proxmox knows, so that an unknown one is refused before it is sent.
//!
//! Only keys that stand in the schemas of PVE 8 and 9 alike. A newer key is refused with its name rather than sent to a
//! server that answers 400 to the whole call.

const KEYS: [&str; 42] = [
    "acpi", "affinity", "agent", "autostart", "balloon", "bios", "boot", "bootdisk", "cicustom", "cipassword", "citype",
    "ciupgrade", "ciuser", "cores", "cpu", "cpulimit", "cpuunits", "description", "efidisk0", "hotplug", "keyboard", "kvm",
    "localtime", "machine", "memory", "name", "nameserver", "numa", "onboot", "ostype", "protection", "reboot", "rng0", "scsihw",
    "searchdomain", "smbios1", "sockets", "sshkeys", "startup", "tablet", "tags", "vga",
];
const FAMILIES: [(&str, u32); 9] = [
    ("ide", 4), ("sata", 6), ("scsi", 31), ("virtio", 16), ("net", 32), ("ipconfig", 32), ("unused", 256), ("serial", 4), ("usb", 14),
];
const DISKS: [&str; 4] = ["ide", "sata", "scsi", "virtio"];

fn index<'a>(key: &'a str, family: &str) -> Option<u32> {
    let digits: &'a str = key.strip_prefix(family)?;
    (digits.len() < 4 && digits.chars().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Whether it may be set.
pub fn known(key: &str) -> bool {
    KEYS.contains(&key) || FAMILIES.iter().any(|(family, n)| index(key, family).is_some_and(|i| i < *n))
}

/// `scsi0`, `virtio3`, …
pub fn is_disk_slot(key: &str) -> bool {
    DISKS.iter().any(|bus| index(key, bus).is_some())
}

/// `store:10[,…]`: allocates a new volume each time it is sent. Storage and GiB.
pub fn new_disk(key: &str, value: &str) -> Option<(String, f64)> {
    if !is_disk_slot(key) {
        return None;
    }
    let (storage, what) = value.split(',').next()?.split_once(':')?;
    Some((storage.to_owned(), what.parse().ok()?))
}

/// `volid,size=3G,…` in parts: what stands first, and the rest sorted.
pub fn parts(value: &str) -> (String, Vec<(String, String)>) {
    let mut all = value.split(',');
    let first = all.next().unwrap_or_default().to_owned();
    let mut rest: Vec<(String, String)> =
        all.map(|p| p.split_once('=').map_or((p.to_owned(), String::new()), |(k, v)| (k.to_owned(), v.to_owned()))).collect();
    rest.sort();
    (first, rest)
}

/// `10G` and so on in MiB.
pub fn size_mib(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "" => 1.0 / 1_048_576.0,
        "K" => 1.0 / 1024.0,
        "M" => 1.0,
        "G" => 1024.0,
        "T" => 1_048_576.0,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * factor).round().max(0.0) as u64)
}

/// Whether `stands` is what sending `wanted` leads to.
pub fn same(key: &str, wanted: &str, stands: &str) -> bool {
    if wanted == stands {
        return true;
    }
    if let Some((storage, gib)) = new_disk(key, wanted) {
        let (first, rest) = parts(stands);
        let size = rest.iter().find(|(k, _)| k == "size").and_then(|(_, v)| size_mib(v));
        let (_, asked) = parts(wanted);
        let others = |list: Vec<(String, String)>| -> Vec<(String, String)> {
            list.into_iter().filter(|(k, _)| k != "size" && k != "format").collect()
        };
        return first.starts_with(&format!("{storage}:")) && size == Some((gib * 1024.0).round() as u64) && others(asked) == others(rest);
    }
    if is_disk_slot(key) || key.starts_with("net") || key.starts_with("ipconfig") {
        let (first, rest) = parts(wanted);
        let (now_first, now_rest) = parts(stands);
        // The size of a volume is the server's to say.
        let without_size = |list: Vec<(String, String)>| -> Vec<(String, String)> { list.into_iter().filter(|(k, _)| k != "size").collect() };
        return first.eq_ignore_ascii_case(&now_first) && without_size(rest) == without_size(now_rest);
    }
    let number = |text: &str| text.parse::<f64>().ok();
    number(wanted).is_some() && number(wanted) == number(stands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_known_and_others_are_not() {
        for key in ["cores", "scsi0", "scsi30", "net0", "ipconfig31", "unused255"] {
            assert!(known(key), "{key}");
        }
        for key in ["", "scsi31", "scsihwx", "bandwidth", "net", "lock", "template"] {
            assert!(!known(key), "{key}");
        }
    }

    #[test]
    fn a_new_disk_is_the_same_as_the_volume_it_became() {
        assert!(same("scsi1", "nfs:10,mbps_rd=5", "nfs:100/vm-100-disk-1.qcow2,mbps_rd=5,size=10G"));
        assert!(!same("scsi1", "nfs:10", "nfs:100/vm-100-disk-1.qcow2,size=20G"));
        assert!(!same("scsi1", "nfs:10", "local:vm-100-disk-1,size=10G"));
    }

    #[test]
    fn order_and_number_spelling_do_not_matter() {
        assert!(same("net0", "virtio=AA:BB,bridge=vmbr0,tag=5", "virtio=aa:bb,tag=5,bridge=vmbr0"));
        assert!(same("memory", "2048", "2048.0"));
        assert!(!same("memory", "2048", "4096"));
        assert!(same("scsi0", "a:vm-1-disk-0,iops_rd=5", "a:vm-1-disk-0,size=3G,iops_rd=5"));
    }
}
