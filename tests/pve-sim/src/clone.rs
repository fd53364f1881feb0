//! `POST …/clone`.
//!
//! The worker holds the new number's configuration lock. Until the first drive is copied, the new configuration holds
//! nothing but `lock: clone` and the comment of the temporary file; drives are copied in the order of their slots
//! (cloud-init at ide2 before scsi0), and after each the configuration is written. A failed copy leaves nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::ApiError;
use crate::props::{Drive, Props, index_of, is_drive, is_unused, print_size, random_uuid, with_new_mac};
use crate::sim::Counted;
use crate::state::Vm;
use crate::tasks::Worker;

/// What `GET config` says about the temporary file: it is a comment there, so it reads as description.
pub const STUB_TEXT: &str = " qmclone temporary file\n";

#[derive(Clone)]
struct Job {
    cx: Ctx,
    node: String,
    source: u32,
    new: u32,
    full: Option<bool>,
    storage: Option<String>,
    format: Option<String>,
    target: Option<String>,
}

/// What the checks found.
struct Plan {
    config: BTreeMap<String, String>,
    drives: Vec<(String, Drive, bool)>,
    shared_name: String,
}

/// `POST /nodes/{node}/qemu/{vmid}/clone`.
pub(crate) fn clone(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["newid", "name", "description", "pool", "snapname", "storage", "format", "full", "target", "bwlimit"])?;
    let new = cx.vmid_param("newid")?;
    if let Some(f) = cx.get("format").filter(|f| !["raw", "qcow2", "vmdk"].contains(f)) {
        return Err(ApiError::param(
            "format",
            format!("value '{f}' does not have a value in the enumeration 'raw, qcow2, vmdk'"),
        ));
    }
    cx.need_vm(vmid, "VM.Clone")?;
    cx.need_vm(new, "VM.Allocate")?;
    let job = Job {
        cx: cx.clone(),
        node: node.to_owned(),
        source: vmid,
        new,
        full: cx.get("full").map(crate::api::truthy),
        storage: cx.get("storage").map(str::to_owned),
        format: cx.get("format").map(str::to_owned),
        target: cx.get("target").filter(|t| *t != node && *t != "localhost").map(str::to_owned),
    };
    check(&job)?;
    let upid = cx.sim.fork(node, "qmclone", &vmid.to_string(), &cx.token, |w| work(job, w));
    Ok(json!(upid))
}

fn check(j: &Job) -> Result<Plan, ApiError> {
    let drives: Vec<(String, String)> =
        j.cx.with(|st| st.vm(&j.node, j.source).map(|vm| vm.drives().map(|(k, d)| (k.to_owned(), d.file)).collect()))?;
    for (_, file) in &drives {
        if let Some((storage, _)) = file.split_once(':') {
            let storage = j.storage.as_deref().unwrap_or(storage);
            j.cx.need(&format!("/storage/{storage}"), "Datastore.AllocateSpace")?;
        }
    }
    let bridges: Vec<String> = j.cx.with(|st| {
        let config = st.vms.get(&j.source).map(|v| v.config.clone()).unwrap_or_default();
        let nets = config.into_iter().filter(|(k, _)| index_of(k, "net").is_some());
        nets.filter_map(|(_, v)| Props::parse(&v)?.get("bridge").map(str::to_owned)).collect()
    });
    for b in bridges {
        j.cx.need(&format!("/sdn/zones/localnetwork/{b}"), "SDN.Use")?;
    }
    j.cx.with(|st| {
        if let Some(t) = j.target.as_ref().filter(|t| !st.nodes.contains_key(*t)) {
            return Err(ApiError::die(format!("no such cluster node '{t}'")));
        }
        if let Some(s) = &j.storage {
            let spec = st.storage_on(s, &j.node)?;
            if !spec.content.iter().any(|c| c == "images") {
                return Err(ApiError::param("storage", format!("storage '{s}' does not support vm images")));
            }
            if let Some(t) = &j.target {
                st.storage_on(s, t)?;
                if !spec.shared {
                    return Err(ApiError::die(format!("can't clone to non-shared storage '{s}'")));
                }
            }
        }
        let vm = st.vm(&j.node, j.source)?.clone();
        vm.check_lock()?;
        let full = j.full.unwrap_or(!vm.is_template());
        for (given, name) in [(&j.storage, "storage"), (&j.format, "format")] {
            if given.is_some() && !full {
                return Err(ApiError::die(format!("parameter '{name}' not allowed for linked clones")));
            }
        }
        let shared = vm.drives().all(|(_, d)| match d.volume() {
            Some((s, _)) => st.storages.get(s).is_some_and(|s| s.shared),
            None => true,
        });
        if let Some(t) = j.target.as_ref().filter(|_| !shared) {
            return Err(ApiError::die(format!("can't clone VM to node '{t}' (VM uses local storage)")));
        }
        if st.vms.get(&j.new).is_some_and(|v| v.node == j.node) {
            return Err(ApiError::die(format!("unable to create VM {}: config file already exists", j.new)));
        }
        let mut plan = Plan { config: BTreeMap::new(), drives: vec![], shared_name: String::new() };
        for (k, v) in &vm.config {
            if is_unused(k) || ["template", "lock"].contains(&k.as_str()) {
                continue;
            }
            if index_of(k, "net").is_some() {
                plan.config.insert(k.clone(), with_new_mac(v, &mut st.rng));
            } else if is_drive(k) {
                let d =
                    Drive::parse(v).ok_or_else(|| ApiError::die(format!("unable to parse drive options for '{k}'")))?;
                if d.is_cdrom() && !d.is_cloudinit() {
                    plan.config.insert(k.clone(), v.clone());
                    continue;
                }
                let copy = full || d.is_cloudinit() || k == "tpmstate0";
                let spec = d.volume().and_then(|(s, _)| st.storages.get(s));
                let base = d.file.rsplit('/').next().unwrap_or(&d.file).contains("base-");
                let linkable = vm.is_template() && base && spec.is_some_and(|s| s.can_link());
                if !copy && !linkable {
                    return Err(ApiError::die(format!("Linked clone feature is not supported for '{}' ({k})", d.file)));
                }
                if !d.is_cloudinit() {
                    plan.shared_name = d.volume().map(|(s, _)| s.to_owned()).unwrap_or_default();
                }
                plan.drives.push((k.clone(), d, copy));
            } else {
                plan.config.insert(k.clone(), v.clone());
            }
        }
        if let Some(s) = &j.storage {
            plan.shared_name.clone_from(s);
        }
        let mut smbios = Props::parse(plan.config.get("smbios1").map_or("", String::as_str)).unwrap_or_default();
        smbios.head = None;
        smbios.set("uuid", random_uuid(&mut st.rng));
        plan.config.insert("smbios1".into(), smbios.print());
        if plan.config.contains_key("vmgenid") {
            plan.config.insert("vmgenid".into(), random_uuid(&mut st.rng));
        }
        let old_name = vm.config.get("name").cloned().unwrap_or_else(|| j.source.to_string());
        let name = j.cx.get("name").map_or_else(|| format!("Copy-of-VM-{old_name}"), str::to_owned);
        plan.config.insert("name".into(), name);
        if let Some(d) = j.cx.get("description").filter(|d| !d.is_empty()) {
            plan.config.insert("description".into(), d.to_owned());
        }
        plan.config.insert("lock".into(), "clone".into());
        Ok(plan)
    })
}

async fn work(j: Job, w: Worker) -> Result<(), ApiError> {
    let sim = j.cx.sim.clone();
    let wait = sim.config().timings.flock_clone;
    let _source = sim.lock_shared(j.source, wait).await?;
    let _target = sim.lock_config(j.new, wait).await?;
    let plan = check(&j)?;
    let _slot = Counted::new(&sim, |c| &mut c.clones_by_storage, &plan.shared_name);
    let now = sim.now_ms();
    j.cx.with(|st| {
        if st.vms.contains_key(&j.new) {
            let path = format!("/etc/pve/nodes/{}/qemu-server/{}.conf", j.node, j.new);
            return Err(ApiError::die(format!("close (rename) atomic file '{path}' failed: File exists")));
        }
        let stub = [("lock".to_owned(), "clone".to_owned()), ("description".to_owned(), STUB_TEXT.to_owned())];
        let mut vm = Vm::new(&j.node, stub.into());
        vm.remember(now);
        st.vms.insert(j.new, vm);
        if let Some(fw) = st.firewalls.get(&j.source).cloned() {
            st.firewalls.insert(j.new, fw);
        }
        Ok(())
    })?;
    if let Err(e) = copy(&j, &plan, &w).await {
        sim.sleep(sim.config().timings.second).await;
        j.cx.with(|st| {
            for volid in st.vms.remove(&j.new).map(|v| v.volids()).unwrap_or_default() {
                let _ = st.free_volume(&volid.1, &j.node);
            }
            st.firewalls.remove(&j.new);
        });
        return Err(ApiError::die(format!("clone failed: {}", String::from(e))));
    }
    Ok(())
}

async fn copy(j: &Job, plan: &Plan, w: &Worker) -> Result<(), ApiError> {
    let t = &j.cx.sim.config().timings;
    let mut config = plan.config.clone();
    // Disks of a failed copy are found through the configuration, so it must know each before time passes.
    for (slot, drive, full) in &plan.drives {
        let (from, _) = drive.volume().unwrap_or_default();
        let to = j.storage.as_deref().unwrap_or(from).to_owned();
        let what = if *full { "full" } else { "linked" };
        w.log(format!("create {what} clone of drive {slot} ({})", drive.file));
        w.sleep(match (drive.is_cloudinit(), full) {
            (true, _) => t.clone_cloudinit,
            (false, true) => t.clone_full,
            (false, false) => t.clone_linked,
        })
        .await;
        let file = j.cx.with(|st| -> Result<String, ApiError> {
            if drive.is_cloudinit() {
                st.storage_on(&to, &j.node)?;
                let name = st.cloudinit_name(&to, j.new);
                let volume = st.volume(Some(j.new), 4 << 20, "raw", "images");
                st.content(&to, &j.node).get().insert(name.clone(), volume);
                return Ok(format!("{to}:{name}"));
            }
            let size = st.find_volume(&drive.file, &j.node).map(|v| v.size);
            let size = size.ok_or_else(|| ApiError::die(format!("volume '{}' does not exist", drive.file)))?;
            let base = (!full).then(|| drive.volume().map(|(_, n)| n)).flatten();
            st.allocate(&to, &j.node, j.new, size, j.format.as_deref(), base)
        })?;
        let mut new = drive.clone();
        if let Some(v) = j.cx.with(|st| st.find_volume(&file, &j.node)).filter(|_| !drive.is_cloudinit()) {
            new.rest.set("size", print_size(v.size));
        }
        new.file = file.clone();
        config.insert(slot.clone(), new.print());
        let written = write(j, &config);
        if written.is_err() {
            j.cx.with(|st| st.free_volume(&file, &j.node))?;
        }
        written?;
    }
    config.remove("lock");
    write(j, &config)?;
    let now = j.cx.sim.now_ms();
    j.cx.with(|st| {
        let vm = st.vm_mut(&j.node, j.new)?;
        if let Some(t) = &j.target {
            vm.node.clone_from(t);
        }
        vm.remember(now);
        Ok(())
    })
}

fn write(j: &Job, config: &BTreeMap<String, String>) -> Result<(), ApiError> {
    j.cx.with(|st| {
        st.vm_mut(&j.node, j.new)?.config.clone_from(config);
        Ok(())
    })
}
