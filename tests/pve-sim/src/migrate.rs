//! `…/migrate`: the check and the migration, with local disks and storage mapping.
//!
//! While it runs the VM is locked (`migrate`) on its old node. A linked clone whose volume name holds its base (dir,
//! ZFS, btrfs) can't leave its node; one on LVM-thin can, and is whole afterwards.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::ApiError;
use crate::props::{Drive, is_drive};
use crate::tasks::Worker;

/// `GET …/migrate`.
pub(crate) fn check(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["target"])?;
    cx.need_vm(vmid, "VM.Migrate")?;
    cx.with(|st| {
        let vm = st.vm(node, vmid)?.clone();
        let (mut allowed, mut refused) = (vec![], serde_json::Map::new());
        for other in st.nodes.keys().filter(|n| *n != node) {
            let storages = vm.volids().into_iter().filter_map(|(_, v)| Some(v.split_once(':')?.0.to_owned()));
            let missing: Vec<String> = storages.filter(|s| st.storage_on(s, other).is_err()).collect();
            if missing.is_empty() {
                allowed.push(other.clone());
            } else {
                refused.insert(other.clone(), json!({ "unavailable_storages": missing }));
            }
        }
        let mut local = vec![];
        for (slot, volid) in vm.volids() {
            let (storage, _) = volid.split_once(':').unwrap_or_default();
            if st.storages.get(storage).is_some_and(|s| !s.shared) {
                let size = st.find_volume(&volid, node).map_or(0, |v| v.size);
                local.push(json!({ "volid": volid, "drivename": slot, "size": size, "cdrom": 0,
                                   "is_unused": u8::from(slot.starts_with("unused")), "replicatable": 0, "shared": 0 }));
            }
        }
        Ok(json!({ "running": u8::from(vm.running), "local_disks": local, "local_resources": [],
                   "mapped-resources": [], "allowed_nodes": allowed, "not_allowed_nodes": refused }))
    })
}

/// `s`, `1`, `a:b,c:d` → for each storage the one to use on the target.
#[derive(Clone, Default)]
struct Mapping {
    pairs: BTreeMap<String, String>,
    default: Option<String>,
}

impl Mapping {
    fn parse(text: &str) -> Result<Self, ApiError> {
        let mut out = Self::default();
        for part in text.split([',', ';', ' ']).filter(|p| !p.is_empty()) {
            match part.split_once(':') {
                Some((a, b)) => {
                    out.pairs.insert(a.to_owned(), b.to_owned());
                }
                None if part == "1" => {}
                None if out.default.is_none() => out.default = Some(part.to_owned()),
                None => {
                    return Err(ApiError::param(
                        "targetstorage",
                        "failed to parse storage-pair list - multiple default mappings",
                    ));
                }
            }
        }
        Ok(out)
    }

    fn of(&self, storage: &str) -> String {
        self.pairs.get(storage).or(self.default.as_ref()).cloned().unwrap_or_else(|| storage.to_owned())
    }
}

/// `POST …/migrate`.
pub(crate) fn migrate(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[
        "target",
        "online",
        "force",
        "with-local-disks",
        "targetstorage",
        "bwlimit",
        "migration_type",
        "migration_network",
        "with-conntrack-state",
    ])?;
    let target = cx.must("target")?.to_owned();
    cx.need_vm(vmid, "VM.Migrate")?;
    if target == node {
        return Err(ApiError::param("target", "target is local node."));
    }
    let mapping = Mapping::parse(cx.get("targetstorage").unwrap_or_default())?;
    if cx.get("targetstorage").is_some() {
        cx.need_vm(vmid, "VM.Config.Disk")?;
        for s in mapping.pairs.values().chain(&mapping.default) {
            cx.need(&format!("/storage/{s}"), "Datastore.AllocateSpace")?;
        }
    }
    cx.with(|st| {
        if !st.nodes.contains_key(&target) {
            return Err(ApiError::die(format!("no such cluster node '{target}'")));
        }
        let vm = st.vm(node, vmid)?.clone();
        vm.check_lock()?;
        if vm.running && !cx.flag("online") {
            return Err(ApiError::die("can't migrate running VM without --online"));
        }
        for s in mapping.pairs.values().chain(&mapping.default) {
            st.storage_on(s, &target)?;
        }
        for (_, volid) in vm.volids() {
            if let Some((s, _)) = volid.split_once(':') {
                st.storage_on(&mapping.of(s), &target)?;
            }
        }
        Ok(())
    })?;
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "qmigrate", &vmid.to_string(), &cx.token, |w| async move {
        work(&cx2, &node2, vmid, &target, &mapping, &w).await
    });
    Ok(json!(upid))
}

async fn work(cx: &Ctx, node: &str, vmid: u32, target: &str, map: &Mapping, w: &Worker) -> Result<(), ApiError> {
    let sim = &cx.sim;
    let _lock = sim.lock_vm(vmid).await?;
    let vm = cx.with(|st| {
        let vm = st.vm(node, vmid)?.clone();
        vm.check_lock()?;
        Ok::<_, ApiError>(vm)
    })?;
    w.log(format!("starting migration of VM {vmid} to node '{target}'"));
    if !cx.with(|st| st.nodes.get(target).is_some_and(|n| n.online)) {
        return Err(ApiError::die(format!("can't connect to target node '{target}': No route to host")));
    }
    let iso = vm.drives().find(|(_, d)| {
        d.is_cdrom()
            && !d.is_cloudinit()
            && d.volume().is_some_and(|(s, _)| cx.with(|st| st.storages.get(s).is_some_and(|s| !s.shared)))
    });
    if let Some((_, d)) = iso {
        w.log(format!("can't migrate local cdrom drive '{}'", d.file));
        return Err(ApiError::die("Problem found while scanning volumes - can't migrate VM - check log"));
    }
    let local: Vec<(String, String)> = cx.with(|st| {
        let is_local = |v: &str| v.split_once(':').is_some_and(|(s, _)| st.storages.get(s).is_some_and(|s| !s.shared));
        vm.volids().into_iter().filter(|(_, v)| is_local(v)).collect()
    });
    if vm.running && !local.is_empty() && !cx.flag("with-local-disks") {
        return Err(ApiError::die("can't live migrate attached local disks without with-local-disks option"));
    }
    for (_, volid) in &local {
        let (storage, name) = volid.split_once(':').unwrap_or_default();
        let names_base = cx.with(|st| st.storages.get(storage).is_some_and(|s| s.names_base()));
        let base = cx.with(|st| st.find_volume(volid, node)).and_then(|v| v.base);
        if let Some(base) = base.filter(|_| names_base && name.contains("/")) {
            let base = base.rsplit('/').next().unwrap_or(&base).to_owned();
            return Err(ApiError::die(format!(
                "Problem found while scanning volumes - can't migrate '{volid}' as it's a clone of '{base}'"
            )));
        }
    }
    set_lock(cx, node, vmid, Some("migrate"))?;
    let moved = copy_disks(cx, node, vmid, target, map, &local, w).await;
    let moved = match moved {
        Ok(m) => m,
        Err(e) => {
            set_lock(cx, node, vmid, None)?;
            w.log("aborting phase 1 - cleanup resources");
            return Err(ApiError::die(format!("migration aborted: {}", String::from(e))));
        }
    };
    sim.sleep(sim.config().timings.migrate).await;
    let now = sim.now_ms();
    cx.with(|st| {
        for (_, old, _) in &moved {
            let _ = st.free_volume(old, node);
        }
        let vm = st.vm_mut(node, vmid)?;
        for (slot, _, new) in moved {
            let line = match vm.config.get(&slot).and_then(|v| Drive::parse(v)).filter(|_| is_drive(&slot)) {
                Some(d) => Drive { file: new, ..d }.print(),
                None => new,
            };
            vm.config.insert(slot, line);
        }
        vm.config.remove("lock");
        vm.node = target.to_owned();
        vm.remember(now);
        Ok::<_, ApiError>(())
    })?;
    w.log("migration finished successfully");
    Ok(())
}

fn set_lock(cx: &Ctx, node: &str, vmid: u32, lock: Option<&str>) -> Result<(), ApiError> {
    cx.with(|st| {
        let config = &mut st.vm_mut(node, vmid)?.config;
        match lock {
            Some(l) => config.insert("lock".into(), l.into()),
            None => config.remove("lock"),
        };
        Ok(())
    })
}

/// Slot, old and new volume id of each.
async fn copy_disks(
    cx: &Ctx,
    node: &str,
    vmid: u32,
    target: &str,
    map: &Mapping,
    local: &[(String, String)],
    w: &Worker,
) -> Result<Vec<(String, String, String)>, ApiError> {
    let t = &cx.sim.config().timings;
    let mut out: Vec<(String, String, String)> = Vec::new();
    for (slot, volid) in local {
        let (storage, name) = volid.split_once(':').unwrap_or_default();
        let to = map.of(storage);
        w.log(format!("copying local disk image '{volid}' to '{to}' on '{target}'"));
        let small = name.contains("cloudinit");
        w.sleep(if small { t.clone_cloudinit } else { t.migrate_disk }).await;
        let new = cx.with(|st| {
            let volume = st.find_volume(volid, node);
            let volume = volume.ok_or_else(|| ApiError::die(format!("volume '{volid}' does not exist")))?;
            if small {
                st.storage_on(&to, target)?;
                let name = st.cloudinit_name(&to, vmid);
                st.content(&to, target).get().insert(name.clone(), volume);
                return Ok(format!("{to}:{name}"));
            }
            // The copy is whole, whatever the original hung on.
            st.allocate(&to, target, vmid, volume.size, None, None)
        });
        match new {
            Ok(new) => out.push((slot.clone(), volid.clone(), new)),
            Err(e) => {
                cx.with(|st| {
                    for (_, _, made) in &out {
                        let _ = st.free_volume(made, target);
                    }
                });
                return Err(e);
            }
        }
    }
    Ok(out)
}
