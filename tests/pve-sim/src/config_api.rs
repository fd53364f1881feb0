//! `…/config`, `…/pending`, `…/unlink`, `…/cloudinit`: reading and changing a VM's configuration.
//!
//! A change is guarded by `digest`, waits for the configuration lock, and is refused while the VM is locked. New disks
//! (`scsi1=store:10`) are allocated *every* time; the drive that was in the slot becomes `unusedN`. While the VM runs,
//! what can't be hot-plugged goes to *pending*.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::{Ctx, NOT_IN_SCHEMA, truthy};
use crate::error::{ApiError, Put};
use crate::props::{Drive, check_ipconfig, index_of, is_drive, is_unused, normalise_net, print_size};
use crate::state::{State, Vm};

const INTEGERS: &[&str] = &["cores", "sockets", "vcpus", "balloon", "shares", "cpuunits", "migrate_speed", "smp"];
const BOOLEANS: &[&str] = &[
    "acpi",
    "autostart",
    "ciupgrade",
    "freeze",
    "keephugepages",
    "kvm",
    "localtime",
    "numa",
    "onboot",
    "protection",
    "reboot",
    "tablet",
    "tdf",
    "template",
];
const OTHERS: &[&str] = &[
    "affinity",
    "agent",
    "amd-sev",
    "arch",
    "args",
    "audio0",
    "bios",
    "boot",
    "bootdisk",
    "cdrom",
    "cicustom",
    "cipassword",
    "citype",
    "ciuser",
    "cpu",
    "cpulimit",
    "description",
    "hookscript",
    "hotplug",
    "hugepages",
    "ivshmem",
    "keyboard",
    "lock",
    "machine",
    "memory",
    "migrate_downtime",
    "name",
    "nameserver",
    "ostype",
    "rng0",
    "scsihw",
    "searchdomain",
    "smbios1",
    "spice_enhancements",
    "sshkeys",
    "startdate",
    "startup",
    "tags",
    "vga",
    "vmgenid",
    "vmstatestorage",
    "watchdog",
];
/// Not in Proxmox VE 8.
const NINE_ONLY: &[&str] = &["allow-ksm", "intel-tdx"];
const INDEXED: &[(&str, u32)] = &[
    ("net", 32),
    ("ipconfig", 32),
    ("serial", 4),
    ("parallel", 3),
    ("hostpci", 16),
    ("usb", 14),
    ("numa", 8),
    ("unused", 256),
    ("virtiofs", 10),
];
/// Values that a running VM takes over only at its next start.
const COLD: &[&str] = &[
    "cores",
    "sockets",
    "vcpus",
    "memory",
    "cpu",
    "numa",
    "scsihw",
    "machine",
    "bios",
    "ostype",
    "arch",
    "args",
    "kvm",
    "acpi",
    "agent",
    "vga",
    "rng0",
    "smbios1",
    "localtime",
    "tablet",
    "keyboard",
];

fn known(key: &str, nine: bool) -> bool {
    INTEGERS.contains(&key)
        || BOOLEANS.contains(&key)
        || OTHERS.contains(&key)
        || (nine && NINE_ONLY.contains(&key))
        || is_drive(key)
        || INDEXED.iter().any(|(p, n)| index_of(key, p).is_some_and(|i| i < *n))
}

fn privilege(key: &str, value: Option<&str>) -> &'static str {
    match key {
        "cores" | "sockets" | "vcpus" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "affinity" | "smp" => {
            "VM.Config.CPU"
        }
        "memory" | "balloon" | "shares" | "hugepages" => "VM.Config.Memory",
        "ciuser" | "cipassword" | "sshkeys" | "citype" | "ciupgrade" | "nameserver" | "searchdomain" => {
            "VM.Config.Cloudinit"
        }
        k if k.starts_with("ipconfig") => "VM.Config.Cloudinit",
        k if index_of(k, "net").is_some() => "VM.Config.Network",
        k if is_drive(k) => match value.and_then(Drive::parse) {
            Some(d) if d.is_cdrom() && !d.is_cloudinit() => "VM.Config.CDROM",
            _ => "VM.Config.Disk",
        },
        k if is_unused(k) => "VM.Config.Disk",
        "ostype" | "bios" | "machine" | "scsihw" | "vga" | "acpi" | "tablet" | "rng0" | "watchdog" | "arch" | "kvm" => {
            "VM.Config.HWType"
        }
        k if index_of(k, "serial").is_some() || index_of(k, "usb").is_some() => "VM.Config.HWType",
        _ => "VM.Config.Options",
    }
}

/// A configuration as the API shows it: numbers and strings as the real one mixes them, the password masked.
fn show(config: &BTreeMap<String, String>, nine: bool) -> Map<String, Value> {
    let mut out = Map::new();
    for (k, v) in config {
        let as_number = INTEGERS.contains(&k.as_str()) || BOOLEANS.contains(&k.as_str()) || (k == "memory" && !nine);
        let value = match v.parse::<u64>() {
            _ if k == "cipassword" => json!("**********"),
            Ok(n) if as_number => json!(n),
            _ => json!(v),
        };
        out.insert(k.clone(), value);
    }
    out
}

/// `GET …/config`: with pending values, unless `current=1`.
pub(crate) fn read(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["current", "snapshot"])?;
    cx.need_vm(vmid, "VM.Audit")?;
    let nine = cx.sim.config().is_nine();
    cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        let mut out = show(&if cx.flag("current") { vm.config.clone() } else { vm.merged() }, nine);
        out.insert("digest".into(), json!(vm.digest()));
        Ok(Value::Object(out))
    })
}

/// `GET …/pending`.
pub(crate) fn pending(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[])?;
    cx.need_vm(vmid, "VM.Audit")?;
    let nine = cx.sim.config().is_nine();
    cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        let now = show(&vm.config, nine);
        let new: BTreeMap<String, String> =
            vm.pending.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect();
        let new = show(&new, nine);
        let keys: BTreeSet<&String> = vm.config.keys().chain(vm.pending.keys()).collect();
        let mut out: Vec<Value> = keys
            .into_iter()
            .map(|k| {
                let mut line = json!({ "key": k });
                if let Some(v) = now.get(k) {
                    line.put("value", v.clone());
                }
                match vm.pending.get(k) {
                    Some(Some(_)) => line.put("pending", new.get(k).cloned().unwrap_or_default()),
                    Some(None) => line.put("delete", json!(1)),
                    None => {}
                }
                line
            })
            .collect();
        out.push(json!({ "key": "digest", "value": vm.digest() }));
        Ok(Value::Array(out))
    })
}

/// A checked request to change a configuration.
struct Change {
    set: BTreeMap<String, String>,
    delete: Vec<String>,
    revert: Vec<String>,
    force: bool,
    digest: Option<String>,
}

fn names(list: &str) -> Vec<String> {
    list.split([',', ';', ' ', '\0']).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// Checks names and values as the schema does, before anything is locked or read.
fn parse_change(cx: &Ctx, extra: &[&str]) -> Result<Change, ApiError> {
    let nine = cx.sim.config().is_nine();
    let (mut set, mut errors) = (BTreeMap::new(), BTreeMap::new());
    for (k, v) in &cx.params {
        if ["delete", "revert", "force", "digest", "skiplock"].contains(&k.as_str()) || extra.contains(&k.as_str()) {
            continue;
        }
        if !known(k, nine) {
            errors.insert(k.clone(), NOT_IN_SCHEMA.to_owned());
            continue;
        }
        match check_value(cx, k, v) {
            Ok(v) => {
                set.insert(k.clone(), v);
            }
            Err(text) => {
                errors.insert(k.clone(), text);
            }
        }
    }
    if cx.flag("skiplock") {
        return Err(ApiError::param("skiplock", "Only root may use this option."));
    }
    let delete = names(cx.get("delete").unwrap_or_default());
    for d in &delete {
        if !known(d, nine) {
            errors.insert("delete".into(), format!("unknown option '{d}'"));
        }
        if set.contains_key(d) {
            errors.insert("delete".into(), format!("you can't use '-{d}' and '-delete {d}' at the same time"));
        }
    }
    if !errors.is_empty() {
        return Err(ApiError::params(errors));
    }
    let revert = names(cx.get("revert").unwrap_or_default());
    if set.is_empty() && delete.is_empty() && revert.is_empty() {
        return Err(ApiError::die("no options specified"));
    }
    Ok(Change { set, delete, revert, force: cx.flag("force"), digest: cx.get("digest").map(str::to_owned) })
}

fn check_value(cx: &Ctx, k: &str, v: &str) -> Result<String, String> {
    if INTEGERS.contains(&k) {
        let n: i64 = v.parse().map_err(|_| format!("type check ('integer') failed - got '{v}'"))?;
        let least = i64::from(matches!(k, "cores" | "sockets" | "vcpus"));
        return if n < least { Err(format!("value must have a minimum value of {least}")) } else { Ok(n.to_string()) };
    }
    if BOOLEANS.contains(&k) {
        return match v.to_ascii_lowercase().as_str() {
            "0" | "off" | "no" | "false" => Ok("0".into()),
            _ if truthy(v) => Ok("1".into()),
            _ => Err(format!("type check ('boolean') failed - got '{v}'")),
        };
    }
    if is_drive(k) {
        let d = Drive::parse(v).ok_or("unable to parse drive options")?;
        return Ok(d.print());
    }
    if index_of(k, "net").is_some() {
        return cx.with(|st| normalise_net(v, &mut st.rng));
    }
    if index_of(k, "ipconfig").is_some() {
        return check_ipconfig(v).map(|()| v.to_owned());
    }
    match k {
        "memory" => match v.strip_prefix("current=").unwrap_or(v).parse::<u64>() {
            Ok(n) if n >= 16 => Ok(n.to_string()),
            Ok(_) => Err("invalid format - current: value must have a minimum value of 16".into()),
            Err(_) => Err(format!("invalid format - current: type check ('integer') failed - got '{v}'")),
        },
        "name" => {
            let label = |l: &str| {
                !l.is_empty()
                    && l.len() <= 63
                    && !l.starts_with('-')
                    && !l.ends_with('-')
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            if v.split('.').all(label) {
                Ok(v.to_owned())
            } else {
                Err("invalid format - value does not look like a valid DNS name".into())
            }
        }
        "nameserver" => {
            if v.split([' ', ',', ';']).filter(|s| !s.is_empty()).all(|s| s.parse::<std::net::IpAddr>().is_ok()) {
                Ok(v.to_owned())
            } else {
                Err("invalid format - value does not look like a valid address".into())
            }
        }
        "description" if v.len() > 8192 => Err("value may only be 8192 characters long".into()),
        "sshkeys" => {
            // Percent-encoded inside the (already decoded) parameter.
            if v.bytes().any(|b| matches!(b, b' ' | b'\n' | b'+' | b'/')) {
                Err("invalid format - invalid urlencoded string".into())
            } else {
                Ok(v.to_owned())
            }
        }
        _ => Ok(v.to_owned()),
    }
}

fn permissions(cx: &Ctx, node: &str, vmid: u32, ch: &Change) -> Result<(), ApiError> {
    let config =
        cx.with(|st| st.vms.get(&vmid).filter(|v| v.node == node).map(|v| v.config.clone()).unwrap_or_default());
    for (k, v) in &ch.set {
        cx.need_vm(vmid, privilege(k, Some(v)))?;
        if let Some((storage, _)) = Drive::parse(v).filter(|_| is_drive(k)).and_then(|d| d.new_disk()) {
            cx.need(&format!("/storage/{storage}"), "Datastore.AllocateSpace")?;
        }
        if index_of(k, "net").is_some() {
            for line in [Some(v), config.get(k)].into_iter().flatten() {
                let Some(p) = crate::props::Props::parse(line) else { continue };
                let Some(bridge) = p.get("bridge") else { continue };
                let base = format!("/sdn/zones/localnetwork/{bridge}");
                cx.need(&p.get("tag").map_or(base.clone(), |t| format!("{base}/{t}")), "SDN.Use")?;
            }
        }
    }
    for k in &ch.delete {
        cx.need_vm(vmid, privilege(k, config.get(k).map(String::as_str)))?;
    }
    Ok(())
}

/// `PUT …/config`: done when it answers.
pub(crate) async fn update(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    let ch = parse_change(cx, &[])?;
    permissions(cx, node, vmid, &ch)?;
    cx.with(|st| st.vm(node, vmid).map(|_| ()))?;
    let _lock = cx.sim.lock_vm(vmid).await?;
    if ch.set.iter().any(|(k, v)| is_drive(k) && Drive::parse(v).is_some_and(|d| d.new_disk().is_some())) {
        cx.sim.sleep(cx.sim.config().timings.allocate).await;
    }
    cx.with(|st| apply(st, node, vmid, &ch))?;
    remember(cx, vmid);
    Ok(Value::Null)
}

/// `POST …/config`: a worker; null if it ends within `background_delay` seconds.
pub(crate) async fn update_async(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    let ch = parse_change(cx, &["background_delay"])?;
    let delay = cx.number("background_delay")?;
    if delay.is_some_and(|d| !(1..=30).contains(&d)) {
        return Err(ApiError::param(
            "background_delay",
            "value must have a minimum value of 1 and a maximum value of 30",
        ));
    }
    permissions(cx, node, vmid, &ch)?;
    let digest = ch.digest.clone();
    cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        check_digest(vm, digest.as_deref())?;
        vm.check_lock()
    })?;
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let lock = cx.sim.lock_vm(vmid).await?;
    let upid = cx.sim.fork(node, "qmconfig", &vmid.to_string(), &cx.token, |_| async move {
        let _lock = lock;
        if ch.set.iter().any(|(k, v)| is_drive(k) && Drive::parse(v).is_some_and(|d| d.new_disk().is_some())) {
            cx2.sim.sleep(cx2.sim.config().timings.allocate).await;
        }
        cx2.with(|st| apply(st, &node2, vmid, &ch))?;
        remember(&cx2, vmid);
        Ok(())
    });
    if let Some(seconds) = delay {
        let step = 20;
        for _ in 0..(seconds * cx.sim.config().timings.second / step) {
            cx.sim.sleep(step).await;
            let ended = cx.with(|st| st.tasks.iter().rev().find(|t| t.upid == upid).and_then(|t| t.exitstatus.clone()));
            match ended.as_deref() {
                Some("OK") => return Ok(Value::Null),
                Some(text) => return Err(ApiError::die(text)),
                None => {}
            }
        }
    }
    Ok(json!(upid))
}

fn remember(cx: &Ctx, vmid: u32) {
    let now = cx.sim.now_ms();
    cx.with(|st| {
        if let Some(vm) = st.vms.get_mut(&vmid) {
            vm.remember(now);
        }
    });
}

fn check_digest(vm: &Vm, digest: Option<&str>) -> Result<(), ApiError> {
    match digest {
        Some(d) if d != vm.digest() => Err(ApiError::die("checksum mismatch (file change by other user?)")),
        _ => Ok(()),
    }
}

fn apply(st: &mut State, node: &str, vmid: u32, ch: &Change) -> Result<(), ApiError> {
    let vm = st.vm(node, vmid)?;
    check_digest(vm, ch.digest.as_deref())?;
    vm.check_lock()?;
    let protected = vm.config.get("protection").is_some_and(|p| p == "1");
    let running = vm.running;
    for k in &ch.revert {
        st.vm_mut(node, vmid)?.pending.remove(k);
    }
    for k in &ch.delete {
        if (is_drive(k) && ch.force || is_unused(k)) && protected {
            return Err(ApiError::die(format!("VM {vmid} - can't remove drive '{k}' - protection mode enabled")));
        }
        delete_key(st, node, vmid, k, ch.force, running)?;
    }
    for (k, v) in &ch.set {
        let value = if is_drive(k) { place_drive(st, node, vmid, k, v)? } else { v.clone() };
        let vm = st.vm_mut(node, vmid)?;
        if running && COLD.contains(&k.as_str()) {
            if vm.config.get(k) == Some(&value) {
                vm.pending.remove(k);
            } else {
                vm.pending.insert(k.clone(), Some(value));
            }
        } else {
            let value = if k == "cipassword" { hashed(&value) } else { value };
            vm.pending.remove(k);
            vm.config.insert(k.clone(), value);
        }
    }
    Ok(())
}

/// Proxmox keeps only a hash of the cloud-init password.
fn hashed(password: &str) -> String {
    if password.starts_with("$5$") || password.starts_with("$6$") {
        return password.to_owned();
    }
    format!("$5$simulated${}", crate::state::digest_of(&password))
}

fn delete_key(st: &mut State, node: &str, vmid: u32, k: &str, force: bool, running: bool) -> Result<(), ApiError> {
    let vm = st.vm_mut(node, vmid)?;
    let Some(old) = vm.config.get(k).cloned() else {
        vm.pending.remove(k);
        return Ok(());
    };
    if is_unused(k) {
        st.free_volume(&old, node)?;
    } else if is_drive(k) {
        if running && (k.starts_with("ide") || k.starts_with("sata")) {
            vm.pending.insert(k.to_owned(), None);
            return Ok(());
        }
        let drive = Drive::parse(&old).filter(|d| d.file.contains(':'));
        if let Some(d) = drive {
            if force || d.is_cloudinit() {
                st.free_volume(&d.file, node)?;
            } else if !d.is_cdrom() {
                let slot = State::unused_slot(&vm.config);
                vm.config.insert(slot, d.file);
            }
        }
    } else if running && COLD.contains(&k) {
        vm.pending.insert(k.to_owned(), None);
        return Ok(());
    }
    let vm = st.vm_mut(node, vmid)?;
    vm.config.remove(k);
    vm.pending.remove(k);
    Ok(())
}

/// Allocates what is to be allocated and moves the slot's former disk to `unusedN`.
fn place_drive(st: &mut State, node: &str, vmid: u32, k: &str, v: &str) -> Result<String, ApiError> {
    let bad = || ApiError::param(k, "unable to parse drive options");
    let mut d = Drive::parse(v).ok_or_else(bad)?;
    let old = st.vm(node, vmid)?.config.get(k).and_then(|o| Drive::parse(o));
    if let Some((storage, _)) = d.volume().filter(|(_, n)| *n == "cloudinit") {
        let storage = storage.to_owned();
        st.storage_on(&storage, node)?;
        let name = st.cloudinit_name(&storage, vmid);
        let volume = st.volume(Some(vmid), 4 << 20, "raw", "images");
        st.content(&storage, node).get().insert(name.clone(), volume);
        d.file = format!("{storage}:{name}");
        d.rest.set("media", "cdrom");
    } else if let Some((storage, size)) = d.new_disk() {
        let format = d.rest.remove("format");
        d.file = st.allocate(&storage, node, vmid, size, format.as_deref(), None)?;
        d.rest.set("size", print_size(size));
    } else if let Some((storage, _)) = d.volume() {
        st.storage_on(storage, node)?;
        let volume = st.find_volume(&d.file, node);
        let volume = volume.ok_or_else(|| ApiError::die(format!("volume '{}' does not exist", d.file)))?;
        if volume.content == "images" && volume.vmid.is_some_and(|o| o != vmid) {
            return Err(ApiError::die(format!("image '{}' is owned by VM {}", d.file, volume.vmid.unwrap_or(0))));
        }
        if !d.is_cdrom() {
            d.rest.set("size", print_size(volume.size));
        }
        // A disk that was unused and is attached again is no longer unused.
        let vm = st.vm_mut(node, vmid)?;
        vm.config.retain(|key, value| !(is_unused(key) && *value == d.file));
    }
    if let Some(old) = old.filter(|o| o.file != d.file && o.file.contains(':') && !o.is_cdrom()) {
        let vm = st.vm_mut(node, vmid)?;
        let slot = State::unused_slot(&vm.config);
        vm.config.insert(slot, old.file);
    }
    Ok(d.print())
}

/// `PUT …/unlink`.
pub(crate) async fn unlink(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["idlist", "force"])?;
    let mut inner = cx.clone();
    let list = cx.must("idlist")?.to_owned();
    inner.params = [("delete".to_owned(), list)].into();
    if cx.flag("force") {
        inner.params.insert("force".into(), "1".into());
    }
    update(&inner, node, vmid).await
}

/// `GET …/cloudinit`: the cloud-init keys, and what a running guest hasn't got yet.
pub(crate) fn cloudinit_pending(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.need_vm(vmid, "VM.Audit")?;
    let nine = cx.sim.config().is_nine();
    cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        let (new, old) = (show(&cloudinit_of(vm), nine), show(&vm.guest, nine));
        let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
        Ok(keys
            .into_iter()
            .map(|k| {
                let mut line = json!({ "key": k });
                if let Some(v) = old.get(k) {
                    line.put("value", v.clone());
                }
                if new.get(k) != old.get(k) {
                    line.put("pending", new.get(k).cloned().unwrap_or_default());
                }
                line
            })
            .collect())
    })
}

/// The keys that go into the cloud-init drive.
pub(crate) fn cloudinit_of(vm: &Vm) -> BTreeMap<String, String> {
    let ours = |k: &str| {
        ["ciuser", "cipassword", "sshkeys", "nameserver", "searchdomain", "ciupgrade", "citype", "name"].contains(&k)
            || index_of(k, "ipconfig").is_some()
    };
    vm.config.iter().filter(|(k, _)| ours(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// `PUT …/cloudinit`: the drive is written anew.
pub(crate) async fn regenerate(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[])?;
    cx.need_vm(vmid, "VM.Config.Cloudinit")?;
    cx.with(|st| st.vm(node, vmid).map(|_| ()))?;
    let _lock = cx.sim.lock_vm(vmid).await?;
    cx.with(|st| {
        let vm = st.vm_mut(node, vmid)?;
        vm.check_lock()?;
        vm.guest = cloudinit_of(vm);
        Ok(Value::Null)
    })
}
