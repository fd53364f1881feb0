//! Configuration keys that Proxmox knows, so that an unknown one is refused before it is sent.
//!
//! Only keys that stand in the schemas of PVE 8 and 9 alike. A newer key is refused with its name rather than sent to a
//! server that answers 400 to the whole call. Keys that reach beyond the VM (devices of the node, host scripts) are not on
//! the list, volumes of other VMs can't be named, and the line by which the VM is known stays.

use wharf_model::service::ServiceId;

use super::marked;

const KEYS: [&str; 42] = [
    "acpi",
    "agent",
    "autostart",
    "balloon",
    "bios",
    "boot",
    "bootdisk",
    "cicustom",
    "cipassword",
    "citype",
    "ciupgrade",
    "ciuser",
    "cores",
    "cpu",
    "cpulimit",
    "cpuunits",
    "description",
    "efidisk0",
    "hotplug",
    "keyboard",
    "kvm",
    "localtime",
    "machine",
    "memory",
    "name",
    "nameserver",
    "numa",
    "onboot",
    "ostype",
    "protection",
    "reboot",
    "rng0",
    "scsihw",
    "searchdomain",
    "smbios1",
    "sockets",
    "sshkeys",
    "startup",
    "tablet",
    "tags",
    "vcpus",
    "vga",
];
const FAMILIES: [(&str, u32); 8] = [
    ("ide", 4),
    ("sata", 6),
    ("scsi", 31),
    ("virtio", 16),
    ("net", 32),
    ("ipconfig", 32),
    ("unused", 256),
    ("serial", 4),
];
const DISKS: [&str; 4] = ["ide", "sata", "scsi", "virtio"];

fn index<'a>(key: &'a str, family: &str) -> Option<u32> {
    let digits: &'a str = key.strip_prefix(family)?;
    ((1..4).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// Whether it may be set.
pub fn known(key: &str) -> bool {
    KEYS.contains(&key) || FAMILIES.iter().any(|(family, n)| index(key, family).is_some_and(|i| i < *n))
}

/// Why a value may not be set, if so: a code and a sentence.
pub fn refused(key: &str, value: &str, vmid: u32, service: ServiceId) -> Option<(&'static str, String)> {
    if key == "description" && marked(value) != Some(service) {
        return Some((
            "marker",
            "the description must keep the line by which the VM is known as this service's".into(),
        ));
    }
    if key.starts_with("serial") && value != "socket" {
        return Some(("not-lent", format!("`{key}` may only be `socket`: devices of the node are not lent")));
    }
    if key != "description" && value.chars().any(char::is_control) {
        return Some(("value", format!("`{key}` holds a line break or another control character")));
    }
    let names_volume = is_disk_slot(key) || key == "efidisk0" || index(key, "unused").is_some();
    if names_volume && !own_volume(value, vmid) {
        return Some((
            "foreign-volume",
            format!("`{key}` names a volume that is not VM {vmid}'s: a new one, its own, an ISO or none"),
        ));
    }
    None
}

/// A new volume, one of this VM's, a cloud-init drive, an ISO, or none. Nothing is copied from elsewhere.
fn own_volume(value: &str, vmid: u32) -> bool {
    let (first, rest) = parts(value);
    let volume = first.strip_prefix("file=").unwrap_or(&first);
    if rest.iter().any(|(key, _)| key == "import-from" || key == "file") {
        return false;
    }
    if matches!(volume, "none" | "cdrom") {
        return true;
    }
    let Some((storage, name)) = volume.split_once(':') else { return false };
    let last = name.rsplit('/').next().unwrap_or_default();
    let own = last.starts_with(&format!("vm-{vmid}-"));
    let iso = name.starts_with("iso/") && !name.contains("..");
    let new = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !storage.is_empty() && !storage.contains('/') && (new || own || iso || name == "cloudinit")
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
    let mut rest: Vec<(String, String)> = all
        .map(|p| p.split_once('=').map_or((p.to_owned(), String::new()), |(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
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
        return first.starts_with(&format!("{storage}:"))
            && size == Some((gib * 1024.0).round() as u64)
            && others(asked) == others(rest);
    }
    if is_disk_slot(key) || key.starts_with("net") || key.starts_with("ipconfig") {
        let (first, rest) = parts(wanted);
        let (now_first, now_rest) = parts(stands);
        // The size of a volume is the server's to say.
        let without_size = |list: Vec<(String, String)>| -> Vec<(String, String)> {
            list.into_iter().filter(|(k, _)| k != "size").collect()
        };
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
        for key in ["cores", "vcpus", "scsi0", "scsi30", "net0", "ipconfig31", "unused255"] {
            assert!(known(key), "{key}");
        }
        for key in
            ["", "scsi31", "scsihwx", "bandwidth", "net", "lock", "template", "usb0", "hostpci0", "args", "affinity"]
        {
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
