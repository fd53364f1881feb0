//! A VM's configuration: reading, changing, digests, pending values, disk allocation, resize.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Answer, Params, Refusal, Sim, State, drives, state::Vm};

/// Keys that this simulator takes, beside the indexed families.
const KEYS: [&str; 46] = [
    "acpi",
    "affinity",
    "agent",
    "args",
    "autostart",
    "balloon",
    "bios",
    "boot",
    "bootdisk",
    "cdrom",
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
    "freeze",
    "hookscript",
    "hotplug",
    "hugepages",
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
    "tags",
    "vga",
];
const FAMILIES: [&str; 8] = ["net", "ipconfig", "unused", "serial", "usb", "hostpci", "numa", "parallel"];
/// Without hotplug these wait for the next start.
const COLD: [&str; 6] = ["cores", "sockets", "memory", "cpu", "balloon", "bios"];

/// A VM that is not there, or on another node.
pub(crate) fn missing(node: &str, vmid: u32) -> Refusal {
    Refusal::die(format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"))
}

pub(crate) fn digest(vm: &Vm) -> String {
    // Any stable mark of the content will do; 40 hex digits as Proxmox has them.
    let mut state: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let text = format!("{:?}{:?}", vm.config, vm.pending);
    for byte in text.bytes() {
        state = (state ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B);
    }
    format!("{state:032x}{:08x}", text.len())
}

impl State {
    pub(crate) fn vm(&mut self, node: &str, vmid: u32) -> Result<&mut Vm, Refusal> {
        match self.vms.get_mut(&vmid) {
            Some(vm) if vm.node == node => Ok(vm),
            _ => Err(missing(node, vmid)),
        }
    }

    pub(crate) fn unlocked(&mut self, node: &str, vmid: u32) -> Result<&mut Vm, Refusal> {
        let vm = self.vm(node, vmid)?;
        match vm.lock() {
            Some(lock) => Err(Refusal::die(format!("VM is locked ({lock})"))),
            None => Ok(vm),
        }
    }
}

impl Sim {
    /// Waits for the configuration file as Proxmox does, and gives up as it does.
    pub(crate) async fn flock(&self, vmid: u32) -> Result<(), Refusal> {
        let patience = self.timing().lock_wait;
        let mut waited = 0;
        loop {
            if !self.lock().flocks.contains(&vmid) {
                return Ok(());
            }
            if waited >= patience {
                self.lock().strike("lock-timeout");
                return Err(Refusal::die(format!(
                    "can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"
                )));
            }
            Self::sleep(100).await;
            waited += 100;
        }
    }

    pub(crate) fn get_config(&self, node: &str, vmid: u32, params: &Params) -> Answer {
        let mut state = self.lock();
        let new = state.config.version.starts_with('9');
        let vm = state.vm(node, vmid)?;
        let current = params.get("current").is_some_and(|v| v == "1");
        let config = if current { vm.config.clone() } else { vm.merged() };
        let mut map: serde_json::Map<String, Value> = config
            .into_iter()
            .map(|(key, value)| {
                // Numbers come as numbers or strings, as it pleases.
                let value = match value.parse::<i64>() {
                    Ok(n) if !(new && key == "memory") && key != "name" && key != "description" => json!(n),
                    _ => json!(value),
                };
                (key, value)
            })
            .collect();
        map.insert("digest".into(), digest(vm).into());
        Ok(Value::Object(map))
    }

    pub(crate) fn get_pending(&self, node: &str, vmid: u32) -> Answer {
        let mut state = self.lock();
        let vm = state.vm(node, vmid)?;
        let mut rows: Vec<Value> = Vec::new();
        for (key, value) in &vm.config {
            match vm.pending.get(key) {
                None => rows.push(json!({"key": key, "value": value})),
                Some(Some(new)) => rows.push(json!({"key": key, "value": value, "pending": new})),
                Some(None) => rows.push(json!({"key": key, "value": value, "delete": 1})),
            }
        }
        for (key, value) in vm.pending.iter().filter(|(k, _)| !vm.config.contains_key(*k)) {
            rows.push(json!({"key": key, "pending": value}));
        }
        Ok(Value::Array(rows))
    }

    /// PUT and POST of the configuration, checks first.
    pub(crate) fn check_config(&self, node: &str, vmid: u32, params: &Params) -> Result<(), Refusal> {
        let mut state = self.lock();
        let control = ["digest", "delete", "revert", "force", "background_delay", "skiplock"];
        let mut any = false;
        for (key, value) in params {
            if control.contains(&key.as_str()) {
                any |= key == "delete" || key == "revert";
                continue;
            }
            any = true;
            let known = KEYS.contains(&key.as_str())
                || drives::is_disk_key(key)
                || FAMILIES.iter().any(|f| drives::indexed(key, f));
            if !known {
                return Err(Refusal::parameter(
                    key,
                    "property is not defined in schema and the schema does not allow additional properties",
                ));
            }
            if ["cores", "sockets", "balloon", "cpuunits"].contains(&key.as_str()) && value.parse::<i64>().is_err() {
                return Err(Refusal::parameter(key, format!("type check ('integer') failed - got '{value}'")));
            }
            if key == "name" {
                check_name(value)?;
            }
            if drives::indexed(key, "ipconfig") {
                check_ipconfig(key, value)?;
            }
            if drives::indexed(key, "net")
                && let Some(tag) = drives::get(value, "tag")
                && !tag.parse::<u32>().is_ok_and(|t| (1..=4094).contains(&t))
            {
                let low = tag.parse::<u32>().is_ok_and(|t| t < 1);
                let bound = if low { "minimum value of 1" } else { "maximum value of 4094" };
                return Err(Refusal::parameter(
                    key,
                    format!("invalid format - format error\n{key}.tag: value must have a {bound}"),
                ));
            }
        }
        if !any {
            return Err(Refusal::die("no options specified"));
        }
        let vm = state.unlocked(node, vmid)?;
        if let Some(wanted) = params.get("digest")
            && *wanted != digest(vm)
        {
            return Err(Refusal::die("checksum mismatch (file change by other user?)"));
        }
        Ok(())
    }

    pub(crate) fn apply_config(&self, node: &str, vmid: u32, params: &Params) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.unlocked(node, vmid)?;
        for key in params.get("delete").map(|d| d.split([',', ' ', ';']).collect::<Vec<_>>()).unwrap_or_default() {
            delete_key(&mut state, node, vmid, key, params.get("force").is_some_and(|f| f == "1"))?;
        }
        for (key, value) in params {
            if ["digest", "delete", "revert", "force", "background_delay", "skiplock"].contains(&key.as_str()) {
                continue;
            }
            set_key(&mut state, node, vmid, key, value)?;
        }
        Ok(())
    }

    pub(crate) async fn put_config(&self, node: &str, vmid: u32, params: &Params) -> Answer {
        self.flock(vmid).await?;
        self.check_config(node, vmid, params)?;
        self.apply_config(node, vmid, params)?;
        Ok(Value::Null)
    }

    pub(crate) async fn post_config(&self, node: &str, vmid: u32, params: &Params, user: &str) -> Answer {
        self.flock(vmid).await?;
        self.check_config(node, vmid, params)?;
        let sim = self.clone();
        let (own, params) = (node.to_owned(), params.clone());
        let time = self.timing().configure;
        Ok(self.fork(node, "qmconfig", &vmid.to_string(), user, async move {
            Sim::sleep(time).await;
            sim.apply_config(&own, vmid, &params).map_err(|e| e.text)
        }))
    }

    pub(crate) async fn resize(&self, node: &str, vmid: u32, params: &Params, user: &str) -> Answer {
        let need = |key: &str| {
            params
                .get(key)
                .cloned()
                .ok_or_else(|| Refusal::parameter(key, "property is missing and it is not optional"))
        };
        let (disk, size) = (need("disk")?, need("size")?);
        self.flock(vmid).await?;
        {
            let mut state = self.lock();
            let vm = state.unlocked(node, vmid)?;
            if let Some(wanted) = params.get("digest")
                && *wanted != digest(vm)
            {
                return Err(Refusal::die("checksum mismatch (file change by other user?)"));
            }
        }
        let sim = self.clone();
        let own = node.to_owned();
        let time = self.timing().resize;
        Ok(self.fork(node, "resize", &vmid.to_string(), user, async move {
            Sim::sleep(time).await;
            let mut state = sim.lock();
            let vm = state.vm(&own, vmid).map_err(|e| e.text)?;
            let value = vm.config.get(&disk).cloned().ok_or_else(|| format!("disk '{disk}' does not exist"))?;
            let now = drives::get(&value, "size").and_then(|s| drives::mib(&s)).unwrap_or(0);
            let wanted = match size.strip_prefix('+') {
                Some(more) => now + drives::mib(more).ok_or("unable to parse size")?,
                None => drives::mib(&size).ok_or("unable to parse size")?,
            };
            if wanted < now {
                return Err("shrinking disks is not supported".to_owned());
            }
            vm.config.insert(disk.clone(), drives::with(&value, "size", &drives::size_text(wanted)));
            let volid = drives::parse(&value).0;
            let storage = volid.split(':').next().unwrap_or_default().to_owned();
            for volume in state.volumes.iter_mut().filter(|v| v.volid == volid) {
                volume.size_mib = wanted;
            }
            if let Some(s) = state.config.storages.iter_mut().find(|s| s.name == storage) {
                s.used_mib += wanted - now;
            }
            Ok(())
        }))
    }
}

/// A name as DNS has it: it becomes the guest's.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let good = |label: &str| {
        let inner = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.split('.').all(good) {
        Ok(())
    } else {
        Err(Refusal::parameter("name", "invalid format - value does not look like a valid DNS name"))
    }
}

fn check_ipconfig(key: &str, value: &str) -> Result<(), Refusal> {
    let bad = |text: String| Err(Refusal::parameter(key, format!("invalid format - {text}")));
    for part in value.split(',') {
        let Some((name, value)) = part.split_once('=') else { return bad(format!("value without key: {part}")) };
        let good = match name {
            "ip" => value == "dhcp" || cidr(value, true),
            "ip6" => matches!(value, "dhcp" | "auto") || cidr(value, false),
            "gw" => value.parse::<std::net::Ipv4Addr>().is_ok(),
            "gw6" => value.parse::<std::net::Ipv6Addr>().is_ok(),
            _ => return bad(format!("unknown key {name}")),
        };
        if !good {
            let wanted = match name {
                "ip" => "ipv4 network configuration",
                "ip6" => "ipv6 network configuration",
                "gw" => "ipv4 address",
                _ => "ipv6 address",
            };
            return bad(format!(
                "format error\n{key}.{name}: invalid format - value does not look like a valid {wanted}"
            ));
        }
    }
    if value.contains("gw=") && !value.contains("ip=") {
        return bad("gateway specified without specifying an IP".into());
    }
    Ok(())
}

fn cidr(text: &str, v4: bool) -> bool {
    text.split_once('/').is_some_and(|(ip, len)| {
        let len: u8 = len.parse().unwrap_or(255);
        if v4 {
            ip.parse::<std::net::Ipv4Addr>().is_ok() && len <= 32
        } else {
            ip.parse::<std::net::Ipv6Addr>().is_ok() && len <= 128
        }
    })
}

fn delete_key(state: &mut State, node: &str, vmid: u32, key: &str, force: bool) -> Result<(), Refusal> {
    let vm = state.vm(node, vmid)?;
    let Some(value) = vm.config.get(key).cloned() else {
        vm.pending.remove(key);
        return Ok(());
    };
    if drives::is_disk(key, &value) {
        vm.config.remove(key);
        let volid = drives::parse(&value).0;
        if force {
            state.free(&volid);
        } else {
            park(state.vm(node, vmid)?, &volid);
        }
    } else if drives::indexed(key, "unused") {
        vm.config.remove(key);
        state.free(&value);
    } else if vm.running && COLD.contains(&key) {
        vm.pending.insert(key.to_owned(), None);
    } else {
        vm.config.remove(key);
    }
    Ok(())
}

/// A disk that nothing uses any more stays as `unusedN`.
fn park(vm: &mut Vm, volid: &str) {
    let n = (0..256).find(|n| !vm.config.contains_key(&format!("unused{n}"))).unwrap_or(255);
    vm.config.insert(format!("unused{n}"), volid.to_owned());
}

fn set_key(state: &mut State, node: &str, vmid: u32, key: &str, value: &str) -> Result<(), Refusal> {
    let mut value = value.to_owned();
    if drives::is_disk_key(key) {
        let (first, rest) = drives::parse(&value);
        let (storage, what) = first.split_once(':').unwrap_or((first.as_str(), ""));
        let old = state.vm(node, vmid)?.config.get(key).map(|v| drives::parse(v).0);
        if let Ok(gib) = what.parse::<f64>() {
            // A number instead of a volume allocates one, every time.
            let format = rest.iter().find(|(k, _)| k == "format").map(|(_, v)| v.clone());
            let mib = (gib * 1024.0).round() as u64;
            let volume = state.allocate(storage, node, vmid, mib, format.as_deref())?;
            let mut rest: Vec<(String, String)> =
                rest.into_iter().filter(|(k, _)| k != "format" && k != "size").collect();
            rest.push(("size".into(), drives::size_text(mib)));
            value = drives::print(&volume.volid, &rest);
        } else if what != "cloudinit"
            && !value.contains("media=cdrom")
            && !state.volumes.iter().any(|v| v.volid == first)
        {
            return Err(Refusal::die(format!("volume '{first}' does not exist")));
        } else if let Some(volume) = state.volumes.iter().find(|v| v.volid == first) {
            value = drives::with(&value, "size", &drives::size_text(volume.size_mib));
        }
        let now = drives::parse(&value).0;
        let vm = state.vm(node, vmid)?;
        if let Some(old) = old
            && old != now
            && !old.contains("cloudinit")
        {
            park(vm, &old);
        }
        vm.config.retain(|k, v| !(drives::indexed(k, "unused") && *v == now));
        vm.config.insert(key.to_owned(), value);
        return Ok(());
    }
    if drives::indexed(key, "net") && drives::mac_of(&value).is_none() {
        let mac = state.new_mac();
        let (model, rest) = drives::parse(&value);
        value = drives::print(&format!("{}={mac}", model.trim_end_matches('=')), &rest);
    }
    let vm = state.vm(node, vmid)?;
    if key == "cipassword" {
        vm.cipassword = Some(value);
        value = "**********".into();
    }
    if vm.running && COLD.contains(&key) && vm.config.get(key) != Some(&value) {
        vm.pending.insert(key.to_owned(), Some(value));
    } else {
        vm.pending.remove(key);
        vm.config.insert(key.to_owned(), value);
    }
    Ok(())
}

/// What a start makes of pending values.
pub(crate) fn apply_pending(vm: &mut Vm) {
    let pending: BTreeMap<String, Option<String>> = std::mem::take(&mut vm.pending);
    for (key, value) in pending {
        match value {
            Some(value) => vm.config.insert(key, value),
            None => vm.config.remove(&key),
        };
    }
}
