//! `DELETE …/qemu/{vmid}`.
//!
//! A running VM is refused before anything happens. The worker frees the VM's own disks (a failure only warns), removes
//! its firewall file and its configuration; with `destroy-unreferenced-disks` it frees *every* disk with that number on
//! every enabled storage, other clusters' included.

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::ApiError;
use crate::state::State;

fn early(st: &State, node: &str, vmid: u32) -> Result<(), ApiError> {
    let vm = st.vm(node, vmid)?;
    if vm.config.get("protection").is_some_and(|p| p == "1") {
        return Err(ApiError::die(format!("can't remove VM {vmid} - protection mode enabled")));
    }
    if vm.running {
        return Err(ApiError::die(format!("VM {vmid} is running - destroy failed")));
    }
    Ok(())
}

/// `DELETE /nodes/{node}/qemu/{vmid}`.
pub(crate) fn destroy(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["purge", "destroy-unreferenced-disks", "skiplock"])?;
    cx.need_vm(vmid, "VM.Allocate")?;
    if cx.flag("skiplock") {
        return Err(ApiError::param("skiplock", "Only root may use this option."));
    }
    cx.with(|st| early(st, node, vmid))?;
    let everything = cx.flag("destroy-unreferenced-disks");
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "qmdestroy", &vmid.to_string(), &cx.token, |w| async move {
        let _lock = cx2.sim.lock_vm(vmid).await?;
        let volids = cx2.with(|st| {
            early(st, &node2, vmid)?;
            let vm = st.vm(&node2, vmid)?.clone();
            vm.check_lock()?;
            for (_, volid) in vm.volids() {
                let (storage, name) = volid.split_once(':').unwrap_or_default();
                let linked = st.content(storage, &node2).get().values().any(|v| v.base.as_deref() == Some(name));
                if linked {
                    return Err(ApiError::die(format!("base volume '{volid}' is still in use by linked cloned")));
                }
            }
            st.vm_mut(&node2, vmid)?.config.insert("lock".into(), "destroyed".into());
            Ok(vm.volids())
        })?;
        w.sleep(cx2.sim.config().timings.destroy).await;
        for (_, volid) in volids {
            if let Err(e) = cx2.with(|st| st.free_volume(&volid, &node2)) {
                w.warn(&format!("Could not remove disk '{volid}', check manually: {}", e.reason));
            }
        }
        cx2.with(|st| {
            if everything {
                let storages: Vec<String> =
                    st.storages.values().filter(|s| !s.disabled && s.on(&node2)).map(|s| s.name.clone()).collect();
                for s in storages {
                    st.content(&s, &node2).get().retain(|_, v| v.content != "images" || v.vmid != Some(vmid));
                }
            }
            st.firewalls.remove(&vmid);
            st.vms.remove(&vmid);
        });
        Ok(())
    });
    Ok(json!(upid))
}
