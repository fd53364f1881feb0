//! Drive strings and which drive is the system disk.
//!
//! A drive string is replaced whole by Proxmox, so it is parsed, changed and printed with every unknown key kept, in
//! its order. The system disk is found as Proxmox boots: `boot: order=`, `bootdisk`, then the first disk of ide, scsi,
//! virtio, sata; never a CD-ROM, a cloud-init drive, an EFI or a TPM volume. No hit is an error with a name, never an
//! empty key.

use std::collections::BTreeMap;

use crate::host::Failure;
use crate::settings::Limits;

/// `<volume>,key=value,…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// `storage:name`, "none" or "cdrom".
    pub volume: String,
    options: Vec<(String, Option<String>)>,
}

impl Drive {
    pub fn parse(text: &str) -> Self {
        let mut volume = String::new();
        let mut options = Vec::new();
        for (n, part) in text.split(',').enumerate() {
            match part.split_once('=') {
                Some(("file", value)) => volume = value.to_owned(),
                Some((key, value)) => options.push((key.to_owned(), Some(value.to_owned()))),
                None if n == 0 => volume = part.to_owned(),
                None if part.is_empty() => {}
                None => options.push((part.to_owned(), None)),
            }
        }
        Self { volume, options }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(k, _)| k == key).and_then(|(_, v)| v.as_deref())
    }

    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = Some(value.into());
        match self.options.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.options.push((key.to_owned(), value)),
        }
    }

    pub fn remove(&mut self, key: &str) {
        self.options.retain(|(k, _)| k != key);
    }

    /// The storage's name; none for "none" and "cdrom".
    pub fn storage(&self) -> Option<&str> {
        self.volume.split_once(':').map(|(storage, _)| storage).filter(|s| !s.is_empty() && !s.starts_with('/'))
    }

    pub fn is_cloudinit(&self) -> bool {
        let name = self.volume.rsplit(['/', ':']).next().unwrap_or_default();
        name == "cloudinit" || (name.starts_with("vm-") && name.contains("-cloudinit"))
    }

    /// A disk with the customer's data: no CD-ROM, no cloud-init drive, no empty drive.
    pub fn is_data(&self) -> bool {
        self.get("media") != Some("cdrom") && !self.is_cloudinit() && self.volume.contains(':')
    }

    /// Size as the configuration says, MiB, rounded down; none when it isn't said.
    pub fn size_mib(&self) -> Option<u32> {
        self.get("size").and_then(parse_size_mib)
    }

    /// Sets what is limited and takes out what isn't, with the combined limits that would contradict.
    pub fn limit(&mut self, limits: Limits) {
        if limits.mbps_rd > 0 || limits.mbps_wr > 0 {
            self.remove("mbps");
        }
        if limits.iops_rd > 0 || limits.iops_wr > 0 {
            self.remove("iops");
        }
        for (key, value) in limits.pairs() {
            if value == 0 {
                self.remove(key);
            } else if self.get(key).and_then(|v| v.parse::<f64>().ok()) != Some(f64::from(value)) {
                self.set(key, value.to_string());
            }
        }
    }

    /// Whether exactly these limits stand (absent = 0).
    pub fn is_limited(&self, limits: Limits) -> bool {
        let mut other = self.clone();
        other.limit(limits);
        other == *self
    }
}

impl std::fmt::Display for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.volume)?;
        for (key, value) in &self.options {
            match value {
                Some(value) => write!(f, ",{key}={value}")?,
                None => write!(f, ",{key}")?,
            }
        }
        Ok(())
    }
}

/// "10G", "2252M", "1T", "10485760K" or bytes → MiB, rounded down.
pub fn parse_size_mib(text: &str) -> Option<u32> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, c) if c.is_ascii_alphabetic() => (text.get(..at)?, c.to_ascii_uppercase()),
        _ => (text, 'B'),
    };
    let number: f64 = digits.parse().ok()?;
    let mib = match unit {
        'B' => number / 1_048_576.0,
        'K' => number / 1024.0,
        'M' => number,
        'G' => number * 1024.0,
        'T' => number * 1_048_576.0,
        _ => return None,
    };
    (mib.is_finite() && mib >= 0.0).then_some(mib as u32)
}

/// Buses with the number of slots that Proxmox gives them, in the order in which it looks for a disk to boot from.
pub const BUSES: [(&str, u32); 4] = [("ide", 4), ("scsi", 31), ("virtio", 16), ("sata", 6)];

/// "scsi0" → ("scsi", 0); none for what is no drive slot (scsihw, efidisk0, unused0, …).
pub fn slot(key: &str) -> Option<(&'static str, u32)> {
    BUSES.iter().find_map(|(bus, slots)| {
        let index = key.strip_prefix(bus)?;
        let number: u32 = index.parse().ok().filter(|n: &u32| n.to_string() == index)?;
        (number < *slots).then_some((*bus, number))
    })
}

/// All drives by slot, in Proxmox's order of buses.
pub fn drives(config: &BTreeMap<String, String>) -> Vec<(String, Drive)> {
    let mut all: Vec<(usize, u32, String, Drive)> = config
        .iter()
        .filter_map(|(key, value)| {
            let (bus, index) = slot(key)?;
            let rank = BUSES.iter().position(|(b, _)| *b == bus)?;
            Some((rank, index, key.clone(), Drive::parse(value)))
        })
        .collect();
    all.sort_by_key(|(rank, index, ..)| (*rank, *index));
    all.into_iter().map(|(_, _, key, drive)| (key, drive)).collect()
}

/// Every volume that the VM's configuration uses, EFI and TPM volumes and the cloud-init drive included.
pub fn volumes(config: &BTreeMap<String, String>) -> Vec<Drive> {
    let extra = ["efidisk0", "tpmstate0"].iter().filter_map(|key| config.get(*key)).map(|v| Drive::parse(v));
    drives(config).into_iter().map(|(_, drive)| drive).chain(extra).filter(|d| d.storage().is_some()).collect()
}

/// Whether there is a drive for cloud-init to write to.
pub fn has_cloudinit(config: &BTreeMap<String, String>) -> bool {
    drives(config).iter().any(|(_, drive)| drive.is_cloudinit())
}

/// The slot and drive of the system disk.
pub fn system_disk(config: &BTreeMap<String, String>) -> Result<(String, Drive), Failure> {
    let data: Vec<(String, Drive)> = drives(config).into_iter().filter(|(_, drive)| drive.is_data()).collect();
    let boot = config.get("boot").map(String::as_str).unwrap_or_default();
    let order = boot.split(',').find_map(|part| part.strip_prefix("order=")).unwrap_or_default();
    let named = order.split(';').chain(config.get("bootdisk").map(String::as_str)).map(str::trim);
    for key in named.filter(|key| !key.is_empty()) {
        if let Some(found) = data.iter().find(|(slot, _)| slot == key) {
            return Ok(found.clone());
        }
    }
    data.into_iter().next().ok_or_else(|| {
        Failure::fix_config(
            "no-system-disk",
            format!(
                "No system disk was found: boot is `{boot}`, and no ide, scsi, virtio or sata slot holds a disk. \
                 Give the template a disk."
            ),
        )
    })
}

/// The slot for an additional disk: the next free one on the system disk's bus. IDE has too few and can't be
/// hot-plugged: scsi instead.
pub fn free_slot(config: &BTreeMap<String, String>, system: &str) -> Result<String, Failure> {
    let bus = slot(system).map_or("scsi", |(bus, _)| if bus == "ide" { "scsi" } else { bus });
    let slots = BUSES.iter().find(|(b, _)| *b == bus).map_or(0, |(_, n)| *n);
    (0..slots).map(|n| format!("{bus}{n}")).find(|key| !config.contains_key(key)).ok_or_else(|| {
        Failure::fix_config(
            "no-free-slot",
            format!("All {slots} {bus} slots of the VM are taken: take a disk out of the template."),
        )
    })
}

/// Storage kinds that keep disks as files, where a format has to be chosen.
pub fn keeps_files(kind: &str) -> bool {
    matches!(kind, "dir" | "nfs" | "cifs" | "glusterfs" | "cephfs")
}

/// Format of a volume by its file name; none for block volumes.
pub fn format_of(volume: &str) -> Option<&'static str> {
    ["raw", "qcow2", "vmdk"].into_iter().find(|format| volume.rsplit_once('.').is_some_and(|(_, ext)| ext == *format))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_system_disk_is_found_as_proxmox_boots() {
        let disk = "local-lvm:vm-100-disk-0,size=10G";
        let cd = "local:iso/debian.iso,media=cdrom";
        let ci = "local-lvm:vm-100-cloudinit,media=cdrom";
        let table: &[(&str, &[(&str, &str)], &str)] = &[
            ("scsi", &[("boot", "order=scsi0"), ("scsi0", disk)], "scsi0"),
            ("sata", &[("boot", "order=sata0"), ("sata0", disk)], "sata0"),
            ("ide", &[("boot", "order=ide0"), ("ide0", disk)], "ide0"),
            ("virtio", &[("boot", "order=virtio0"), ("virtio0", disk)], "virtio0"),
            ("bootdisk", &[("boot", "c"), ("bootdisk", "scsi1"), ("scsi0", disk), ("scsi1", disk)], "scsi1"),
            ("bootdisk alone", &[("bootdisk", "virtio1"), ("ide0", disk), ("virtio1", disk)], "virtio1"),
            ("cd first", &[("boot", "order=ide2;scsi0"), ("ide2", cd), ("scsi0", disk)], "scsi0"),
            ("cloud-init first", &[("boot", "order=ide0;virtio0"), ("ide0", ci), ("virtio0", disk)], "virtio0"),
            (
                "cloud-init without media",
                &[("boot", "order=ide0;scsi3"), ("ide0", "nfs.a:100/vm-100-cloudinit.qcow2"), ("scsi3", disk)],
                "scsi3",
            ),
            (
                "net first",
                &[
                    ("boot", "order=net0;ide2;scsi0"),
                    ("net0", "virtio=AA,bridge=vmbr0"),
                    ("ide2", "none,media=cdrom"),
                    ("scsi0", disk),
                ],
                "scsi0",
            ),
            ("first of the order wins", &[("boot", "order=scsi1;scsi0"), ("scsi0", disk), ("scsi1", disk)], "scsi1"),
            ("no boot line", &[("scsi0", disk), ("ide2", cd)], "scsi0"),
            ("no boot line, ide before scsi", &[("scsi0", disk), ("ide0", disk)], "ide0"),
            ("empty order", &[("boot", "order="), ("scsi0", disk)], "scsi0"),
            ("order names what is gone", &[("boot", "order=scsi5"), ("scsi0", disk)], "scsi0"),
            ("efi is no disk", &[("efidisk0", disk), ("tpmstate0", disk), ("sata1", disk)], "sata1"),
            ("slots are numbers", &[("scsi10", disk), ("scsi2", disk)], "scsi2"),
        ];
        for (name, pairs, wanted) in table {
            assert_eq!(system_disk(&config(pairs)).unwrap().0, *wanted, "{name}");
        }
    }

    #[test]
    fn no_system_disk_is_an_error_that_says_so() {
        for pairs in [
            &[("boot", "order=net0"), ("efidisk0", "l:vm-1-disk-0"), ("scsihw", "virtio-scsi-pci")][..],
            &[("unused0", "l:vm-1-disk-0"), ("ide2", "none,media=cdrom"), ("sata0", "cdrom")][..],
            &[][..],
        ] {
            let problem = system_disk(&config(pairs)).unwrap_err();
            assert_eq!(problem.code, "no-system-disk");
            assert!(problem.message.contains("template"), "{}", problem.message);
        }
    }

    #[test]
    fn unknown_keys_survive_a_change_in_their_order() {
        let mut drive = Drive::parse("ceph.ssd:vm-1-disk-0,discard=on,iothread=1,mbps=5,odd,size=10G");
        drive.limit(Limits { mbps_rd: 50, iops_wr: 300, ..Limits::default() });
        assert_eq!(drive.to_string(), "ceph.ssd:vm-1-disk-0,discard=on,iothread=1,odd,size=10G,mbps_rd=50,iops_wr=300");
        assert!(drive.is_limited(Limits { mbps_rd: 50, iops_wr: 300, ..Limits::default() }));
        assert!(!drive.is_limited(Limits { mbps_rd: 50, ..Limits::default() }));
        assert_eq!(Drive::parse("file=local:1/vm-1-disk-0.qcow2,size=1G").volume, "local:1/vm-1-disk-0.qcow2");
    }

    #[test]
    fn limits_written_as_fractions_count_as_equal() {
        assert!(Drive::parse("a:b,mbps_rd=50.00").is_limited(Limits { mbps_rd: 50, ..Limits::default() }));
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, mib) in [
            ("10G", 10_240),
            ("2252M", 2252),
            ("1T", 1_048_576),
            ("1048576K", 1024),
            ("1073741824", 1024),
            ("1.5G", 1536),
        ] {
            assert_eq!(parse_size_mib(text), Some(mib), "{text}");
        }
        assert_eq!(parse_size_mib("big"), None);
        assert_eq!(parse_size_mib(""), None);
    }

    #[test]
    fn storage_names_with_dots_and_path_volumes_are_understood() {
        assert_eq!(
            Drive::parse("nfs.fast-1:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2,size=1G").storage(),
            Some("nfs.fast-1")
        );
        assert_eq!(format_of("nfs.fast-1:100/vm-100-disk-0.qcow2"), Some("qcow2"));
        assert_eq!(format_of("local-lvm:vm-100-disk-0"), None);
        assert_eq!(format_of("nfs.raw-1:vm-100-disk-0"), None);
        assert_eq!(Drive::parse("none,media=cdrom").storage(), None);
    }

    #[test]
    fn an_additional_disk_goes_to_the_next_free_slot_of_the_bus() {
        let vm = config(&[("virtio0", "a:b"), ("virtio1", "a:c"), ("ide0", "a:d"), ("scsi0", "a:e")]);
        assert_eq!(free_slot(&vm, "virtio0").unwrap(), "virtio2");
        assert_eq!(free_slot(&vm, "ide0").unwrap(), "scsi1");
        let full: Vec<(String, String)> = (0..6).map(|n| (format!("sata{n}"), "a:b".to_owned())).collect();
        assert_eq!(free_slot(&full.into_iter().collect(), "sata0").unwrap_err().code, "no-free-slot");
    }
}
