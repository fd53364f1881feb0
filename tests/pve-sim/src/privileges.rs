//! What a token may do: the privileges that Proxmox's schema asks for at each method, as far as this simulator has it.
//!
//! Checked only for tokens that `privileges` names in the settings; others may do all. A privilege on a path holds for all
//! paths below it.

use crate::{Call, Params, Refusal, State, drives};

/// One of these privileges on this path.
type Need = (String, Vec<&'static str>);

impl State {
    /// Whether the token holds this, by what it was given there or above.
    pub(crate) fn holds(&self, token: &str, path: &str, privilege: &str) -> bool {
        let Some(paths) = self.config.privileges.get(token) else { return true };
        paths.iter().any(|(at, names)| {
            let above =
                at == "/" || path == at || path.strip_prefix(at.as_str()).is_some_and(|rest| rest.starts_with('/'));
            above && names.contains(privilege)
        })
    }

    /// The first thing that the token lacks, in Proxmox's words.
    pub(crate) fn permit(&self, call: &Call, parts: &[&str]) -> Result<(), Refusal> {
        if !self.config.privileges.contains_key(&call.user) {
            return Ok(());
        }
        for (path, any) in self.needs(&call.method, parts, &call.params) {
            if !any.iter().any(|privilege| self.holds(&call.user, &path, privilege)) {
                // The right to make a VM may come from its pool as well, and of alternatives Proxmox names none.
                if any == ["VM.Allocate"] && call.method == "POST" {
                    return Err(Refusal::new(403, "Permission check failed"));
                }
                return Err(Refusal::new(403, format!("Permission check failed ({path}, {})", any.join("|"))));
            }
        }
        Ok(())
    }

    fn needs(&self, method: &str, parts: &[&str], params: &Params) -> Vec<Need> {
        let one = |path: String, privilege| vec![(path, vec![privilege])];
        match (method, parts) {
            ("GET", ["cluster", "status"] | ["cluster", "firewall", ..]) => one("/".into(), "Sys.Audit"),
            ("GET", ["nodes", node, "status"]) => one(format!("/nodes/{node}"), "Sys.Audit"),
            ("GET", ["nodes", _, "storage", storage, "content"]) => {
                vec![(format!("/storage/{storage}"), vec!["Datastore.Audit", "Datastore.AllocateSpace"])]
            }
            ("POST", ["nodes", _, "vzdump"]) => {
                let (vmid, storage) = (params.get("vmid"), params.get("storage"));
                let mut all = Vec::new();
                all.extend(vmid.map(|vmid| (format!("/vms/{vmid}"), vec!["VM.Backup"])));
                all.extend(storage.map(|name| (format!("/storage/{name}"), vec!["Datastore.AllocateSpace"])));
                all
            }
            (_, ["nodes", _, "qemu", vmid, rest @ ..]) => self.needs_of_vm(method, vmid, rest, params),
            _ => Vec::new(),
        }
    }

    fn needs_of_vm(&self, method: &str, vmid: &str, rest: &[&str], params: &Params) -> Vec<Need> {
        let vm = format!("/vms/{vmid}");
        let one = |privilege| vec![(vm.clone(), vec![privilege])];
        match (method, rest) {
            ("GET", ["migrate"]) | ("POST", ["migrate"]) => one("VM.Migrate"),
            ("POST", ["agent", ..]) if self.config.version.starts_with('8') => one("VM.Monitor"),
            ("POST", ["agent", ..]) => vec![(vm, vec!["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"])],
            ("GET", _) => one("VM.Audit"),
            ("PUT" | "POST", ["config"]) => needs_of_config(&vm, params),
            ("PUT", ["resize"]) => one("VM.Config.Disk"),
            ("POST", ["clone"]) => self.needs_of_clone(vmid, params),
            ("POST", ["status", _]) => one("VM.PowerMgmt"),
            ("DELETE", []) => one("VM.Allocate"),
            (_, ["firewall", ..]) => one("VM.Config.Network"),
            _ => Vec::new(),
        }
    }

    fn needs_of_clone(&self, vmid: &str, params: &Params) -> Vec<Need> {
        let mut all = vec![(format!("/vms/{vmid}"), vec!["VM.Clone"])];
        all.extend(params.get("newid").map(|newid| (format!("/vms/{newid}"), vec!["VM.Allocate"])));
        let source = vmid.parse().ok().and_then(|id: u32| self.vms.get(&id));
        for (key, value) in source.iter().flat_map(|vm| &vm.config) {
            if drives::indexed(key, "net") {
                all.extend(bridge(value));
            } else if drives::is_disk(key, value) {
                let own = value.split(':').next().unwrap_or_default();
                let storage = params.get("storage").map_or(own, String::as_str);
                all.push((format!("/storage/{storage}"), vec!["Datastore.AllocateSpace"]));
            }
        }
        all
    }
}

/// The use of a network card's bridge, and of its VLAN there.
fn bridge(net: &str) -> Option<Need> {
    let name = drives::get(net, "bridge")?;
    let tag = drives::get(net, "tag").map_or_else(String::new, |tag| format!("/{tag}"));
    Some((format!("/sdn/zones/localnetwork/{name}{tag}"), vec!["SDN.Use"]))
}

fn needs_of_config(vm: &str, params: &Params) -> Vec<Need> {
    let deleted = params.get("delete").map_or("", String::as_str).split([',', ' ', ';']).filter(|key| !key.is_empty());
    let mut all = Vec::new();
    for key in params.keys().map(String::as_str).chain(deleted) {
        if matches!(key, "digest" | "delete" | "revert" | "force" | "background_delay" | "skiplock") {
            continue;
        }
        let value = params.get(key).map_or("", String::as_str);
        all.push((vm.to_owned(), of_key(key, value)));
        if drives::indexed(key, "net") {
            all.extend(bridge(value));
        }
        if drives::is_disk_key(key)
            && let Some((storage, size)) = drives::parse(value).0.split_once(':')
            && size.parse::<f64>().is_ok()
        {
            all.push((format!("/storage/{storage}"), vec!["Datastore.AllocateSpace"]));
        }
    }
    all
}

/// Which privilege a key of the configuration needs.
fn of_key(key: &str, value: &str) -> Vec<&'static str> {
    let cloud = drives::indexed(key, "ipconfig")
        || matches!(
            key,
            "cicustom" | "cipassword" | "citype" | "ciupgrade" | "ciuser" | "nameserver" | "searchdomain" | "sshkeys"
        );
    match key {
        _ if cloud => vec!["VM.Config.Cloudinit", "VM.Config.Network"],
        _ if drives::is_disk_key(key) && value.contains("media=cdrom") => vec!["VM.Config.CDROM"],
        _ if drives::is_disk_key(key) || drives::indexed(key, "unused") => vec!["VM.Config.Disk"],
        _ if drives::indexed(key, "net") => vec!["VM.Config.Network"],
        "boot" | "bootdisk" => vec!["VM.Config.Disk"],
        "cores" | "sockets" | "vcpus" | "cpu" | "cpulimit" | "cpuunits" | "numa" | "affinity" => vec!["VM.Config.CPU"],
        "memory" | "balloon" | "shares" => vec!["VM.Config.Memory"],
        "name" | "description" | "onboot" | "tags" | "protection" | "startup" | "agent" | "autostart" | "hotplug"
        | "ostype" | "localtime" | "reboot" | "acpi" | "kvm" | "freeze" | "template" => vec!["VM.Config.Options"],
        _ => vec!["VM.Config.HWType"],
    }
}
