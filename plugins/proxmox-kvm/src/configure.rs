//! What the VM's configuration should be and how it differs, state by state; all differences go into one call.
//!
//! Pure. Values are compared by meaning (parsed drives, cards, addresses), so a spelling of Proxmox's own is no change.
//! The one write that can't be repeated, a new disk, is asked for only while its slot is empty and no detached volume
//! of this VM waits on its storage.

use crate::host::{Failure, Lease, Look, Storage};
use crate::settings::Settings;
use crate::{cloudinit, disks, firewall, net};

/// States that the configuration call serves, in order.
pub const CPU_RAM: &str = "set_cpu_ram";
pub const SYSTEM_IO: &str = "set_system_disk_bandwidth";
pub const CREATED: &str = "set_created_additional_disk";
pub const ADDITIONAL_SIZE: &str = "set_additional_disk_size";
pub const ADDITIONAL_IO: &str = "set_additional_disk_bandwidth";
pub const NETWORK: &str = "set_network";
pub const CLOUDINIT: &str = "set_cloudinit";

/// Everything that the configuration is made from.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    pub settings: &'a Settings,
    pub leases: &'a [Lease],
    pub storages: &'a [Storage],
    pub number: u32,
    pub name: &'a str,
    pub mac: &'a str,
    pub user: &'a str,
    /// Fingerprint of the password now, and of the one set last.
    pub password: Option<&'a str>,
    pub password_set: Option<&'a str>,
    /// One a line.
    pub ssh_keys: &'a str,
    pub suspended: bool,
    /// Major and minor of Proxmox VE.
    pub version: (u32, u32),
    /// The additional disk's slot, once chosen.
    pub slot: Option<&'a str>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub state: &'static str,
    pub key: String,
    /// None = delete the key.
    pub value: Option<String>,
}

/// All differences.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub list: Vec<Change>,
    /// Where the additional disk is or will be.
    pub slot: Option<String>,
}

impl Changes {
    pub fn touches(&self, state: &str) -> bool {
        self.list.iter().any(|c| c.state == state)
    }

    /// Keys to set. A key that two states touch is set once, to the last value, which holds both.
    pub fn set(&self) -> Vec<(String, String)> {
        let mut set: Vec<(String, String)> = Vec::new();
        for change in &self.list {
            if let Some(value) = &change.value {
                set.retain(|(k, _)| *k != change.key);
                set.push((change.key.clone(), value.clone()));
            }
        }
        set
    }

    pub fn delete(&self) -> Vec<String> {
        self.list.iter().filter(|c| c.value.is_none()).map(|c| c.key.clone()).collect()
    }

    /// States that this satisfies, each once.
    pub fn states(&self) -> Vec<&'static str> {
        let mut states: Vec<&'static str> = Vec::new();
        for change in &self.list {
            if !states.contains(&change.state) {
                states.push(change.state);
            }
        }
        states
    }

    pub fn sets_password(&self) -> bool {
        self.list.iter().any(|c| c.key == "cipassword")
    }

    fn put(&mut self, state: &'static str, key: &str, value: impl Into<String>) {
        self.list.push(Change { state, key: key.to_owned(), value: Some(value.into()) });
    }

    fn drop(&mut self, state: &'static str, key: &str) {
        self.list.push(Change { state, key: key.to_owned(), value: None });
    }

    /// Puts the value unless it stands already.
    fn want(&mut self, state: &'static str, vm: &Look, key: &str, value: &str) {
        if vm.get(key) != Some(value) {
            self.put(state, key, value);
        }
    }
}

/// "9.1" → (9, 1).
pub fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|p| p.trim().parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Everything that differs.
pub fn changes(inputs: &Inputs<'_>, vm: &Look) -> Result<Changes, Failure> {
    let mut out = Changes::default();
    cpu_ram(inputs, vm, &mut out);
    system_io(inputs, vm, &mut out)?;
    additional(inputs, vm, &mut out)?;
    network(inputs, vm, &mut out);
    cloud(inputs, vm, &mut out);
    debug_assert!(out.list.iter().all(|c| !c.key.is_empty()));
    Ok(out)
}

/// `memory` is a number, or `current=…` with other keys.
fn memory_of(vm: &Look) -> Option<u32> {
    vm.get("memory")?.split(',').find_map(|part| part.strip_prefix("current=").unwrap_or(part).parse().ok())
}

fn cpu_ram(inputs: &Inputs<'_>, vm: &Look, out: &mut Changes) {
    let number = |key: &str, default: u32| vm.get(key).and_then(|v| v.parse::<u32>().ok()).unwrap_or(default);
    let (cores, sockets, memory) =
        (inputs.settings.cpu_cores.max(1), inputs.settings.cpu_sockets.max(1), inputs.settings.memory_mib().max(16));
    // Absent means 1, 1 and 512 to Proxmox.
    if number("cores", 1) != cores {
        out.put(CPU_RAM, "cores", cores.to_string());
    }
    if number("sockets", 1) != sockets {
        out.put(CPU_RAM, "sockets", sockets.to_string());
    }
    if memory_of(vm).unwrap_or(512) != memory {
        out.put(CPU_RAM, "memory", memory.to_string());
    }
    // A template's balloon or vCPU count above the plan's would keep the VM from starting.
    if number("balloon", 0) > memory {
        out.put(CPU_RAM, "balloon", memory.to_string());
    }
    if number("vcpus", 0) > cores.saturating_mul(sockets) {
        out.drop(CPU_RAM, "vcpus");
    }
}

fn system_io(inputs: &Inputs<'_>, vm: &Look, out: &mut Changes) -> Result<(), Failure> {
    let limits = inputs.settings.system_limits();
    if limits.none() {
        return Ok(());
    }
    let (slot, mut drive) = disks::system_disk(&vm.config)?;
    if !drive.is_limited(limits) {
        drive.limit(limits);
        out.put(SYSTEM_IO, &slot, drive.to_string());
    }
    Ok(())
}

/// The additional disk in its slot, once it is there.
pub fn additional_disk(vm: &Look, slot: Option<&str>) -> Option<(String, disks::Drive)> {
    let slot = slot?;
    vm.get(slot).map(disks::Drive::parse).filter(disks::Drive::is_data).map(|drive| (slot.to_owned(), drive))
}

fn additional(inputs: &Inputs<'_>, vm: &Look, out: &mut Changes) -> Result<(), Failure> {
    let settings = inputs.settings;
    if settings.additional_disk == 0 {
        return Ok(());
    }
    let limits = settings.additional_limits();
    if let Some((slot, mut drive)) = additional_disk(vm, inputs.slot) {
        if !limits.none() && !drive.is_limited(limits) {
            drive.limit(limits);
            out.put(ADDITIONAL_IO, &slot, drive.to_string());
        }
        out.slot = Some(slot);
        return Ok(());
    }
    let (system_slot, system) = disks::system_disk(&vm.config)?;
    let slot = match inputs.slot.filter(|slot| vm.get(slot).is_none()) {
        Some(slot) => slot.to_owned(),
        None => disks::free_slot(&vm.config, &system_slot)?,
    };
    let storage = settings.named_additional_storage().or(system.storage()).unwrap_or_default();
    if storage.is_empty() {
        return Err(Failure::fix_config(
            "additional-disk-storage",
            "The additional disk has no storage: the system disk's has no name. Name one in `additional-disk-storage`.",
        ));
    }
    let mut drive = match detached(vm, storage, inputs.number) {
        Some(volume) => disks::Drive::parse(&volume),
        None => {
            let mut new = disks::Drive::parse(&format!("{storage}:{}", settings.additional_disk));
            // On block storage there is nothing but raw, and nothing to say.
            if inputs.storages.iter().any(|s| s.name == storage && disks::keeps_files(&s.kind)) {
                let like_system = disks::format_of(&system.volume).filter(|_| system.storage() == Some(storage));
                new.set("format", like_system.unwrap_or("qcow2"));
            }
            new
        }
    };
    drive.limit(limits);
    out.put(CREATED, &slot, drive.to_string());
    // It is made at full size, with its limits.
    out.put(ADDITIONAL_SIZE, &slot, drive.to_string());
    if !limits.none() {
        out.put(ADDITIONAL_IO, &slot, drive.to_string());
    }
    out.slot = Some(slot);
    Ok(())
}

/// A detached volume of this VM on this storage: what an allocation left behind whose reply was lost. It is attached
/// rather than a second one made.
fn detached(vm: &Look, storage: &str, number: u32) -> Option<String> {
    let own = format!("vm-{number}-disk-");
    vm.config
        .iter()
        .filter(|(key, _)| key.strip_prefix("unused").is_some_and(|n| n.parse::<u32>().is_ok()))
        .map(|(_, value)| disks::Drive::parse(value))
        .find(|drive| drive.storage() == Some(storage) && drive.volume.contains(&own))
        .map(|drive| drive.volume)
}

fn network(inputs: &Inputs<'_>, vm: &Look, out: &mut Changes) {
    let settings = inputs.settings;
    let lease = inputs.leases.first();
    let (bridge, vlan) = match lease {
        Some(lease) => (lease.bridge.as_str(), lease.vlan),
        None => (settings.bridge.as_str(), Some(settings.vlan)),
    };
    let wanted = net::wanted(
        vm.get("net0"),
        &net::Wanted {
            model: &settings.network_model,
            mac: inputs.mac,
            bridge,
            vlan,
            rate: settings.network_bandwidth,
            firewall: firewall::enabled(settings),
        },
    );
    if !vm.get("net0").is_some_and(|now| net::Nic::parse(now).same(&wanted)) {
        out.put(NETWORK, "net0", wanted.to_string());
    }
}

fn cloud(inputs: &Inputs<'_>, vm: &Look, out: &mut Changes) {
    let state = CLOUDINIT;
    out.want(state, vm, "name", inputs.name);
    match cloudinit::ipconfig(inputs.settings, inputs.leases) {
        Some(wanted) if !vm.get("ipconfig0").is_some_and(|now| cloudinit::same_ipconfig(now, &wanted)) => {
            out.put(state, "ipconfig0", wanted);
        }
        None if vm.get("ipconfig0").is_some() => out.drop(state, "ipconfig0"),
        _ => {}
    }
    if let Some(servers) = cloudinit::nameservers(inputs.leases)
        && !vm.get("nameserver").is_some_and(|now| cloudinit::same_list(now, &servers))
    {
        out.put(state, "nameserver", servers);
    }
    if let Some(domain) = inputs.settings.domain() {
        out.want(state, vm, "searchdomain", &domain);
    }
    out.want(state, vm, "ciuser", inputs.user);
    // The value reads back masked, or not at all: whether it is the current one is known by what was set last.
    if inputs.password != inputs.password_set || (inputs.password.is_none() && vm.get("cipassword").is_none()) {
        out.put(state, "cipassword", format!("{{{{{}}}}}", crate::run::PASSWORD));
    }
    match cloudinit::ssh_keys(inputs.ssh_keys) {
        Some(keys) if !vm.get("sshkeys").is_some_and(|now| cloudinit::same_keys(now, &keys)) => {
            out.put(state, "sshkeys", keys)
        }
        // A template's keys would let its maker into every VM.
        None if vm.get("sshkeys").is_some() => out.drop(state, "sshkeys"),
        _ => {}
    }
    // Upgrades at first boot would delay the VM by minutes. Proxmox knows the key since 8.1.
    if inputs.version >= (8, 1) {
        out.want(state, vm, "ciupgrade", "0");
    }
    let onboot = if inputs.suspended { "0" } else { "1" };
    if vm.get("onboot").unwrap_or("0") != onboot {
        out.put(state, "onboot", onboot);
    }
}
