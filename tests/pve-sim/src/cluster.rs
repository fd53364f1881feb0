//! Looks at the cluster: version, nodes, resources, next id, permissions.

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::{ApiError, Put};

pub(crate) fn version(cx: &Ctx) -> Value {
    let v = &cx.sim.config().version;
    let release: Vec<&str> = v.split('.').take(2).collect();
    json!({ "version": v, "release": release.join("."), "repoid": "0c1d2e3f" })
}

/// `GET /nodes`.
pub(crate) fn nodes(cx: &Ctx) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let audited: Vec<String> = cx.with(|st| st.nodes.keys().cloned().collect());
    Ok(audited.into_iter().map(|n| node_line(cx, &n, false)).collect())
}

fn node_line(cx: &Ctx, name: &str, resource: bool) -> Value {
    let may = cx.may(&format!("/nodes/{name}"), "Sys.Audit");
    let uptime = cx.sim.now_ms() / 1000 + 86_400;
    cx.with(|st| {
        let Some(n) = st.nodes.get(name).cloned() else { return Value::Null };
        let mut out = json!({
            "id": format!("node/{name}"), "node": name, "type": "node",
            "status": if n.online { "online" } else { "offline" },
        });
        if !resource {
            out.put("ssl_fingerprint", json!(fingerprint(name)));
        }
        if n.online && may {
            let running = st.vms.values().filter(|v| v.node == name && v.running);
            let mem: u64 = running.clone().filter_map(|v| v.config.get("memory")?.parse::<u64>().ok()).sum();
            let cpus = running.count() as f64;
            out.put("maxmem", json!(n.memory));
            out.put("mem", json!((mem << 20) + (2u64 << 30)));
            out.put("maxcpu", json!(n.cpus));
            out.put("cpu", json!((0.01 + 0.02 * cpus).min(1.0)));
            out.put("maxdisk", json!(100u64 << 30));
            out.put("disk", json!(8u64 << 30));
            out.put("uptime", json!(uptime));
            out.put("level", json!(""));
        }
        out
    })
}

fn fingerprint(name: &str) -> String {
    let digest = crate::state::digest_of(&name) + &crate::state::digest_of(&(name, 1));
    let bytes: Vec<String> =
        digest.as_bytes().chunks(2).take(32).map(|c| String::from_utf8_lossy(c).to_uppercase()).collect();
    bytes.join(":")
}

/// `GET /nodes/{node}/status`.
pub(crate) fn node_status(cx: &Ctx, node: &str) -> Result<Value, ApiError> {
    cx.need(&format!("/nodes/{node}"), "Sys.Audit")?;
    let line = node_line(cx, node, true);
    let number = |k: &str| line.get(k).and_then(Value::as_u64).unwrap_or(0);
    let (total, used) = (number("maxmem"), number("mem"));
    Ok(json!({
        "cpu": line.get("cpu"), "uptime": line.get("uptime"), "loadavg": ["0.10", "0.12", "0.09"],
        "memory": { "total": total, "used": used, "free": total.saturating_sub(used) },
        "cpuinfo": { "cpus": line.get("maxcpu"), "cores": line.get("maxcpu"), "sockets": 1, "model": "simulated" },
        "rootfs": { "total": 100u64 << 30, "used": 8u64 << 30, "avail": 92u64 << 30, "free": 92u64 << 30 },
        "pveversion": format!("pve-manager/{}/0c1d2e3f", cx.sim.config().version),
        "kversion": "Linux 6.14.8-2-pve",
    }))
}

/// `GET /nodes/{node}/network`: the bridges.
pub(crate) fn network(cx: &Ctx, node: &str) -> Result<Value, ApiError> {
    cx.only(&["type"])?;
    cx.need(&format!("/nodes/{node}"), "Sys.Audit")?;
    Ok(cx.sim.config().bridges.iter().map(|b| json!({"iface": b, "type": "bridge", "active": 1})).collect())
}

/// `GET /cluster/status`.
pub(crate) fn status(cx: &Ctx) -> Result<Value, ApiError> {
    cx.need("/", "Sys.Audit")?;
    Ok(cx.with(|st| {
        let mut out = vec![json!({
            "id": "cluster", "type": "cluster", "name": st.cfg.cluster, "version": 3,
            "nodes": st.nodes.len(), "quorate": u8::from(st.quorate),
        })];
        out.extend(st.nodes.iter().enumerate().map(|(i, (name, n))| {
            json!({ "id": format!("node/{name}"), "type": "node", "name": name, "nodeid": i + 1,
                    "online": u8::from(n.online), "local": u8::from(i == 0), "ip": format!("192.0.2.{}", i + 1), "level": "" })
        }));
        Value::Array(out)
    }))
}

/// `GET /cluster/nextid`: reserves nothing, answers a string.
pub(crate) fn next_id(cx: &Ctx) -> Result<Value, ApiError> {
    cx.only(&["vmid"])?;
    let (low, high) = cx.sim.config().next_id;
    if cx.get("vmid").is_some() {
        let vmid = cx.vmid_param("vmid")?;
        return cx.with(|st| match st.vms.contains_key(&vmid) {
            true => Err(ApiError::param("vmid", format!("VM {vmid} already exists"))),
            false => Ok(json!(vmid.to_string())),
        });
    }
    let free = cx.with(|st| (low..high).find(|n| !st.vms.contains_key(n)));
    free.map(|n| json!(n.to_string()))
        .ok_or_else(|| ApiError::die(format!("unable to get any free VMID in range [{low}, {high}]")))
}

/// `GET /access/permissions`: what the token may do.
pub(crate) fn permissions(cx: &Ctx) -> Result<Value, ApiError> {
    cx.only(&["path", "userid"])?;
    let acl = cx.with(|st| st.tokens.get(&cx.token).and_then(|t| t.acl.clone()));
    let nine = cx.sim.config().is_nine();
    let agent: &[&str] =
        if nine { &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Replicate"] } else { &["VM.Monitor"] };
    let all = [
        "Datastore.Allocate",
        "Datastore.AllocateSpace",
        "Datastore.Audit",
        "Pool.Audit",
        "SDN.Use",
        "Sys.Audit",
        "Sys.Modify",
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
    ];
    let every = || all.iter().chain(agent).map(|p| ((*p).to_owned(), json!(1))).collect::<serde_json::Map<_, _>>();
    let of = |path: &str| match &acl {
        None => every(),
        Some(_) => {
            let names = all.iter().chain(agent).filter(|p| cx.may(path, p));
            names.map(|p| ((*p).to_owned(), json!(1))).collect()
        }
    };
    if let Some(path) = cx.get("path") {
        return Ok(json!({ path: of(path) }));
    }
    let paths: Vec<String> = match &acl {
        None => ["/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms"].map(str::to_owned).into(),
        Some(acl) => acl.keys().cloned().collect(),
    };
    Ok(Value::Object(paths.iter().map(|p| (p.clone(), Value::Object(of(p)))).collect()))
}

fn vm_line(cx: &Ctx, vmid: u32) -> Option<Value> {
    let now = cx.sim.now_ms();
    let cycle = cx.sim.config().scaled(cx.sim.config().timings.status_cycle).as_millis() as u64;
    let turn = now.checked_div(cycle).map_or(now, |n| n * cycle);
    cx.with(|st| {
        let vm = st.vms.get(&vmid)?;
        // Status, name and memory are as pvestatd saw them at its last turn; the rest is read from the files.
        let seen = vm.seen(turn);
        let number = |k: &str| vm.config.get(k).and_then(|v| v.parse::<u64>().ok());
        let cpus = number("cores").unwrap_or(1) * number("sockets").unwrap_or(1);
        let online = st.nodes.get(&vm.node).is_some_and(|n| n.online);
        let mut out = json!({
            "id": format!("qemu/{vmid}"), "type": "qemu", "vmid": vmid, "node": vm.node,
            "template": u8::from(vm.is_template()),
            "status": match seen { Some(s) if online => if s.running { "running" } else { "stopped" }, _ => "unknown" },
        });
        if let Some(l) = vm.lock() {
            out.put("lock", json!(l));
        }
        if let Some(t) = vm.config.get("tags") {
            out.put("tags", json!(t));
        }
        if let Some(s) = seen.filter(|_| online) {
            let maxmem = number("memory").unwrap_or(512) << 20;
            out.put("name", json!(if s.name.is_empty() { format!("VM {vmid}") } else { s.name.clone() }));
            out.put("maxcpu", json!(cpus));
            out.put("maxmem", json!(maxmem));
            out.put("mem", json!(if s.running { maxmem / 4 } else { 0 }));
            out.put("cpu", json!(if s.running { 0.02 } else { 0.0 }));
            let disk = vm.drives().find(|(_, d)| !d.is_cdrom()).and_then(|(_, d)| d.size());
            out.put("maxdisk", json!(disk.unwrap_or(0)));
            out.put("disk", json!(0));
            out.put("uptime", json!(if vm.running { now.saturating_sub(vm.started) / 1000 } else { 0 }));
            for k in ["netin", "netout", "diskread", "diskwrite"] {
                out.put(k, json!(0));
            }
        }
        Some(out)
    })
}

/// `GET /nodes/{node}/qemu`.
pub(crate) fn vms(cx: &Ctx, node: &str) -> Result<Value, ApiError> {
    cx.only(&["full"])?;
    let ids: Vec<u32> = cx.with(|st| st.vms.iter().filter(|(_, v)| v.node == node).map(|(id, _)| *id).collect());
    let ids = ids.into_iter().filter(|id| cx.may(&format!("/vms/{id}"), "VM.Audit"));
    Ok(ids
        .filter_map(|id| {
            let mut line = vm_line(cx, id)?;
            let name = cx.with(|st| st.vms.get(&id).and_then(|v| v.config.get("name").cloned()));
            line.put("name", json!(name.unwrap_or_else(|| format!("VM {id}"))));
            let running = cx.with(|st| st.vms.get(&id).is_some_and(|v| v.running));
            line.put("status", json!(if running { "running" } else { "stopped" }));
            Some(line)
        })
        .collect())
}

/// `GET /cluster/resources`.
pub(crate) fn resources(cx: &Ctx) -> Result<Value, ApiError> {
    cx.only(&["type"])?;
    let wanted = cx.get("type");
    if let Some(t) = wanted.filter(|t| !["vm", "storage", "node", "sdn"].contains(t)) {
        return Err(ApiError::param(
            "type",
            format!("value '{t}' does not have a value in the enumeration 'vm, storage, node, sdn'"),
        ));
    }
    let want = |t: &str| wanted.is_none_or(|w| w == t);
    let mut out = Vec::new();
    if want("vm") {
        let ids: Vec<u32> = cx.with(|st| st.vms.keys().copied().collect());
        out.extend(
            ids.into_iter().filter(|id| cx.may(&format!("/vms/{id}"), "VM.Audit")).filter_map(|id| vm_line(cx, id)),
        );
    }
    if want("node") {
        let nodes: Vec<String> = cx.with(|st| st.nodes.keys().cloned().collect());
        out.extend(nodes.iter().map(|n| node_line(cx, n, true)));
    }
    if want("storage") {
        let (nodes, storages): (Vec<_>, Vec<_>) = cx.with(|st| {
            (st.nodes.iter().map(|(n, x)| (n.clone(), x.online)).collect(), st.storages.values().cloned().collect())
        });
        for (node, online) in nodes {
            for s in storages.iter().filter(|s| !s.disabled && s.on(&node)) {
                if !cx.may(&format!("/storage/{}", s.name), "Datastore.Audit") {
                    continue;
                }
                let mut line = json!({
                    "id": format!("storage/{node}/{}", s.name), "type": "storage", "storage": s.name, "node": node,
                    "plugintype": s.kind, "content": s.content.join(","), "shared": u8::from(s.shared),
                    "status": if online { "available" } else { "unknown" },
                });
                if online {
                    line.put("maxdisk", json!(s.capacity));
                    line.put("disk", json!(cx.with(|st| st.used(&s.name, &node))));
                }
                out.push(line);
            }
        }
    }
    Ok(Value::Array(out))
}
