//! `…/status/…`: current, start, stop, shutdown, reboot.
//!
//! Workers hold the configuration lock: a shutdown holds it for its whole timeout. "Already running" is found by the
//! worker, so the call itself answers with a UPID.

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::config_api::cloudinit_of;
use crate::error::{ApiError, Put};
use crate::tasks::Worker;

/// `GET …/status/current`.
pub(crate) fn current(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&[])?;
    cx.need_vm(vmid, "VM.Audit")?;
    let now = cx.sim.now_ms();
    cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        let number = |k: &str| vm.config.get(k).and_then(|v| v.parse::<u64>().ok());
        let status = if vm.running { "running" } else { "stopped" };
        let mut out = json!({
            "vmid": vmid, "status": status, "qmpstatus": status, "ha": { "managed": 0 },
            "name": vm.config.get("name").cloned().unwrap_or_else(|| format!("VM {vmid}")),
            "cpus": number("cores").unwrap_or(1) * number("sockets").unwrap_or(1),
            "maxmem": number("memory").unwrap_or(512) << 20,
            "mem": if vm.running { (number("memory").unwrap_or(512) << 20) / 4 } else { 0 },
            "maxdisk": vm.drives().find(|(_, d)| !d.is_cdrom()).and_then(|(_, d)| d.size()).unwrap_or(0),
            "uptime": if vm.running { now.saturating_sub(vm.started) / 1000 } else { 0 },
            "cpu": 0, "disk": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
        });
        if let Some(l) = vm.lock() {
            out.put("lock", json!(l));
        }
        if let Some(t) = vm.config.get("tags") {
            out.put("tags", json!(t));
        }
        if vm.is_template() {
            out.put("template", json!(1));
        }
        if vm.running {
            out.put("pid", json!(10_000 + vmid));
        }
        if vm.config.get("agent").is_some_and(|a| a.starts_with('1') || a.contains("enabled=1")) {
            out.put("agent", json!(1));
        }
        Ok(out)
    })
}

fn begin(cx: &Ctx, node: &str, vmid: u32, allowed: &[&str]) -> Result<(), ApiError> {
    cx.only(allowed)?;
    cx.need_vm(vmid, "VM.PowerMgmt")?;
    if cx.flag("skiplock") {
        return Err(ApiError::param("skiplock", "Only root may use this option."));
    }
    cx.with(|st| st.vm(node, vmid).map(|_| ()))
}

/// `POST …/status/start`.
pub(crate) fn start(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    begin(
        cx,
        node,
        vmid,
        &[
            "timeout",
            "skiplock",
            "machine",
            "force-cpu",
            "migratedfrom",
            "migration_network",
            "migration_type",
            "stateuri",
            "targetstorage",
            "with-conntrack-state",
            "nets-host-mtu",
        ],
    )?;
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "qmstart", &vmid.to_string(), &cx.token, |w| async move {
        let _lock = cx2.sim.lock_vm(vmid).await?;
        boot(&cx2, &node2, vmid, &w).await
    });
    Ok(json!(upid))
}

async fn boot(cx: &Ctx, node: &str, vmid: u32, w: &Worker) -> Result<(), ApiError> {
    let disks = cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        if vm.is_template() {
            return Err(ApiError::die("you can't start a vm if it's a template"));
        }
        vm.check_lock()?;
        if vm.running {
            return Err(ApiError::die(format!("VM {vmid} already running")));
        }
        Ok(vm.drives().filter(|(_, d)| d.file.contains(':')).map(|(_, d)| d.file).collect::<Vec<_>>())
    })?;
    for volid in disks {
        cx.with(|st| {
            st.storage_on(volid.split_once(':').unwrap_or_default().0, node)?;
            let found = st.find_volume(&volid, node);
            found.ok_or_else(|| ApiError::die(format!("volume '{volid}' does not exist"))).map(|_| ())
        })?;
    }
    w.log("generating cloud-init ISO");
    w.sleep(cx.sim.config().timings.start).await;
    let now = cx.sim.now_ms();
    cx.with(|st| {
        let vm = st.vm_mut(node, vmid)?;
        vm.config = vm.merged();
        vm.pending.clear();
        vm.guest = cloudinit_of(vm);
        vm.running = true;
        vm.started = now;
        vm.remember(now);
        Ok(())
    })
}

fn halt(cx: &Ctx, node: &str, vmid: u32) -> Result<(), ApiError> {
    let now = cx.sim.now_ms();
    cx.with(|st| {
        let vm = st.vm_mut(node, vmid)?;
        vm.running = false;
        vm.remember(now);
        Ok(())
    })
}

/// `POST …/status/stop`.
pub(crate) fn stop(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    begin(cx, node, vmid, &["timeout", "skiplock", "keepActive", "migratedfrom", "overrule-shutdown"])?;
    if cx.flag("overrule-shutdown") {
        let running: Vec<String> = cx.with(|st| {
            let id = vmid.to_string();
            let shut = st.tasks.iter().filter(|t| t.kind == "qmshutdown" && t.id == id && t.exitstatus.is_none());
            shut.map(|t| t.upid.clone()).collect()
        });
        for upid in running {
            cx.sim.abort_task(&upid);
        }
    }
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "qmstop", &vmid.to_string(), &cx.token, |w| async move {
        let _lock = cx2.sim.lock_vm(vmid).await?;
        let running = cx2.with(|st| {
            let vm = st.vm(&node2, vmid)?;
            vm.check_lock()?;
            Ok::<_, ApiError>(vm.running)
        })?;
        if running {
            w.sleep(cx2.sim.config().timings.stop).await;
            halt(&cx2, &node2, vmid)?;
        }
        Ok(())
    });
    Ok(json!(upid))
}

/// `POST …/status/shutdown`.
pub(crate) fn shutdown(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    begin(cx, node, vmid, &["timeout", "skiplock", "keepActive", "forceStop"])?;
    let timeout = cx.number("timeout")?.unwrap_or(60);
    let force = cx.flag("forceStop");
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "qmshutdown", &vmid.to_string(), &cx.token, |w| async move {
        let _lock = cx2.sim.lock_vm(vmid).await?;
        go_down(&cx2, &node2, vmid, timeout, force, &w).await
    });
    Ok(json!(upid))
}

async fn go_down(cx: &Ctx, node: &str, vmid: u32, timeout: u64, force: bool, w: &Worker) -> Result<(), ApiError> {
    let t = &cx.sim.config().timings;
    let (running, hung) = cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        vm.check_lock()?;
        Ok::<_, ApiError>((vm.running, vm.hung))
    })?;
    if !running {
        return Ok(());
    }
    let patience = timeout * t.second;
    if !hung && t.shutdown <= patience {
        w.sleep(t.shutdown).await;
        return halt(cx, node, vmid);
    }
    // Somebody may switch the VM off meanwhile.
    let mut waited = 0;
    while waited < patience {
        w.sleep(1000.min(patience - waited)).await;
        waited += 1000;
        if !cx.with(|st| st.vm(node, vmid).map(|v| v.running))? {
            return Ok(());
        }
    }
    if !force {
        return Err(ApiError::die("VM quit/powerdown failed - got timeout"));
    }
    w.log("VM quit/powerdown failed - terminating now with SIGTERM");
    w.sleep(t.stop).await;
    halt(cx, node, vmid)
}

/// `POST …/status/reboot`.
pub(crate) fn reboot(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    begin(cx, node, vmid, &["timeout"])?;
    if !cx.with(|st| st.vm(node, vmid).map(|v| v.running))? {
        return Err(ApiError::die(format!("VM {vmid} not running")));
    }
    let timeout = cx.number("timeout")?.unwrap_or(60);
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "qmreboot", &vmid.to_string(), &cx.token, |w| async move {
        let _lock = cx2.sim.lock_vm(vmid).await?;
        go_down(&cx2, &node2, vmid, timeout, false, &w).await?;
        boot(&cx2, &node2, vmid, &w).await
    });
    Ok(json!(upid))
}
