//! The cluster's own answers: version, nodes, resources, status, permissions.

use serde_json::{Value, json};

use crate::{Answer, Params, Refusal, Sim};

const PRIVILEGES: [&str; 23] = [
    "Datastore.AllocateSpace",
    "Datastore.Audit",
    "Pool.Audit",
    "SDN.Use",
    "Sys.Audit",
    "VM.Allocate",
    "VM.Audit",
    "VM.Backup",
    "VM.Clone",
    "VM.Config.CDROM",
    "VM.Config.CPU",
    "VM.Config.Cloudinit",
    "VM.Config.Disk",
    "VM.Config.HWType",
    "VM.Config.Memory",
    "VM.Config.Network",
    "VM.Config.Options",
    "VM.Console",
    "VM.Migrate",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Snapshot.Rollback",
    "Datastore.AllocateTemplate",
];

impl Sim {
    pub(crate) fn version(&self) -> Answer {
        let version = self.lock().config.version.clone();
        Ok(json!({"version": format!("{version}.1"), "release": version, "repoid": "simulated"}))
    }

    pub(crate) fn permissions(&self, token: &str) -> Answer {
        if let Some(paths) = self.lock().config.privileges.get(token) {
            let held = |names: &std::collections::BTreeSet<String>| {
                names.iter().map(|name| (name.clone(), json!(1))).collect::<serde_json::Map<_, _>>()
            };
            return Ok(paths.iter().map(|(path, names)| (path.clone(), Value::Object(held(names)))).collect());
        }
        let all: serde_json::Map<String, Value> = PRIVILEGES.iter().map(|p| ((*p).to_owned(), json!(1))).collect();
        Ok(json!({"/": all, "/vms": all, "/nodes": all, "/storage": all, "/sdn": all}))
    }

    pub(crate) fn cluster_status(&self) -> Answer {
        let state = self.lock();
        let mut rows = vec![
            json!({"type": "cluster", "name": "sim", "id": "cluster", "quorate": i32::from(state.quorate), "nodes": state.config.nodes.len(), "version": 3}),
        ];
        for (n, node) in state.config.nodes.iter().enumerate() {
            rows.push(json!({"type": "node", "name": node.name, "id": format!("node/{}", node.name), "online": i32::from(node.online), "nodeid": n + 1, "ip": "127.0.0.1", "local": i32::from(n == 0)}));
        }
        Ok(Value::Array(rows))
    }

    pub(crate) fn nodes(&self) -> Answer {
        let state = self.lock();
        let row = |node: &crate::state::Node| {
            let mut row = node_row(&state, node);
            if let (true, Some(map)) = (node.online, row.as_object_mut()) {
                map.insert("ssl_fingerprint".into(), "00:11:22".into());
            }
            row
        };
        Ok(state.config.nodes.iter().map(row).collect())
    }

    pub(crate) fn node_status(&self, name: &str) -> Answer {
        let state = self.lock();
        let node = state.node(name).ok_or_else(|| Refusal::die("no such node"))?;
        let used = used_mib(&state, node);
        Ok(json!({
            "memory": {"total": node.memory_mib * 1_048_576, "used": used * 1_048_576, "free": node.memory_mib.saturating_sub(used) * 1_048_576},
            "cpuinfo": {"cpus": node.cpus}, "uptime": 1000, "pveversion": format!("pve-manager/{}", state.config.version),
        }))
    }

    pub(crate) fn resources(&self, params: &Params, token: &str) -> Answer {
        let state = self.lock();
        let kind = params.get("type").map(String::as_str);
        let mut rows = Vec::new();
        if kind.is_none_or(|k| k == "vm") {
            let seen = |vm: &&crate::state::Vm| state.holds(token, &format!("/vms/{}", vm.vmid), "VM.Audit");
            for vm in state.vms.values().filter(seen) {
                let online = state.node(&vm.node).is_some_and(|n| n.online);
                let status = match (online, vm.running) {
                    (false, _) => "unknown",
                    (true, true) => "running",
                    (true, false) => "stopped",
                };
                let mut row = json!({
                    "type": "qemu", "id": format!("qemu/{}", vm.vmid), "vmid": vm.vmid, "node": vm.node, "status": status,
                    "template": i32::from(vm.template), "name": vm.config.get("name"),
                });
                if let (Some(lock), Some(map)) = (vm.lock(), row.as_object_mut()) {
                    map.insert("lock".into(), lock.into());
                }
                rows.push(row);
            }
        }
        if kind.is_none_or(|k| k == "node") {
            rows.extend(state.config.nodes.iter().map(|node| node_row(&state, node)));
        }
        if kind.is_none_or(|k| k == "storage") {
            for node in &state.config.nodes {
                let seen = |s: &&crate::state::Storage| {
                    let path = format!("/storage/{}", s.name);
                    (s.nodes.is_empty() || s.nodes.contains(&node.name))
                        && ["Datastore.Audit", "Datastore.AllocateSpace"].iter().any(|p| state.holds(token, &path, p))
                };
                for s in state.config.storages.iter().filter(seen) {
                    let content: Vec<&str> = s.content.iter().map(String::as_str).collect();
                    rows.push(json!({
                        "type": "storage", "id": format!("storage/{}/{}", node.name, s.name), "storage": s.name, "node": node.name,
                        "plugintype": s.kind, "shared": i32::from(s.shared), "content": content.join(","),
                        "status": if s.enabled && node.online { "available" } else { "unknown" },
                        "maxdisk": s.total_mib * 1_048_576, "disk": s.used_mib * 1_048_576,
                    }));
                }
            }
        }
        Ok(Value::Array(rows))
    }

    pub(crate) fn nextid(&self, params: &Params) -> Answer {
        let state = self.lock();
        match params.get("vmid") {
            Some(text) => {
                let vmid: u32 =
                    text.parse().map_err(|_| Refusal::parameter("vmid", "type check ('integer') failed"))?;
                if state.vms.contains_key(&vmid) {
                    return Err(Refusal::parameter("vmid", format!("VM {vmid} already exists")));
                }
                Ok(json!(vmid.to_string()))
            }
            None => Ok(json!((100..).find(|n| !state.vms.contains_key(n)).unwrap_or(100).to_string())),
        }
    }

    pub(crate) fn cluster_firewall(&self) -> Answer {
        let on = self.lock().config.cluster_firewall;
        Ok(json!({"enable": i32::from(on), "policy_in": "ACCEPT"}))
    }

    pub(crate) fn guests_of(&self, node: &str) -> Answer {
        let state = self.lock();
        Ok(state
            .vms
            .values()
            .filter(|vm| vm.node == node)
            .map(|vm| json!({"vmid": vm.vmid, "name": vm.config.get("name"), "status": if vm.running { "running" } else { "stopped" }, "template": i32::from(vm.template)}))
            .collect())
    }
}

fn used_mib(state: &crate::State, node: &crate::state::Node) -> u64 {
    let guests: u64 = state
        .vms
        .values()
        .filter(|vm| vm.node == node.name && vm.running)
        .map(|vm| vm.config.get("memory").and_then(|m| m.parse::<u64>().ok()).unwrap_or(512))
        .sum();
    node.used_mib + guests
}

fn node_row(state: &crate::State, node: &crate::state::Node) -> Value {
    let mut row = json!({"type": "node", "id": format!("node/{}", node.name), "node": node.name, "status": if node.online { "online" } else { "offline" }});
    if let (true, Some(map)) = (node.online, row.as_object_mut()) {
        map.insert("maxcpu".into(), node.cpus.into());
        map.insert("maxmem".into(), (node.memory_mib * 1_048_576).into());
        map.insert("mem".into(), (used_mib(state, node) * 1_048_576).into());
    }
    row
}
