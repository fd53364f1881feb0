//! `POST /nodes/{node}/vzdump`: one at a time per node, the others queue.
//!
//! A VM that is on another node is skipped: the answer is the string `OK` and no task.

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::ApiError;
use crate::sim::Counted;
use crate::state::State;
use crate::tasks::Worker;

/// A name that nothing on the storage has yet.
pub(crate) fn archive_name(st: &mut State, storage: &str, node: &str, vmid: u32) -> String {
    let content = st.content(storage, node);
    let taken = content.get();
    let name = |t: u64| format!("backup/vzdump-qemu-{vmid}-{}.vma.zst", stamp(t));
    (st.now_unix..).map(name).find(|n| !taken.contains_key(n)).unwrap_or_default()
}

/// `2026_11_21-05_33_17` of Unix seconds.
fn stamp(unix: u64) -> String {
    let (days, rest) = (unix / 86_400, unix % 86_400);
    // Civil date from days, after Howard Hinnant's public-domain algorithm.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year}_{month:02}_{day:02}-{:02}_{:02}_{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `POST /nodes/{node}/vzdump`.
pub(crate) fn vzdump(cx: &Ctx, node: &str) -> Result<Value, ApiError> {
    cx.only(&[
        "vmid",
        "storage",
        "mode",
        "compress",
        "remove",
        "notes-template",
        "protected",
        "bwlimit",
        "zstd",
        "notification-mode",
        "prune-backups",
        "mailnotification",
        "mailto",
        "lockwait",
        "ionice",
        "quiet",
    ])?;
    let vmid = cx.vmid_param("vmid")?;
    for (k, list) in [("mode", &["snapshot", "suspend", "stop"][..]), ("compress", &["0", "1", "gzip", "lzo", "zstd"])]
    {
        if let Some(v) = cx.get(k).filter(|v| !list.contains(v)) {
            return Err(ApiError::param(
                k,
                format!("value '{v}' does not have a value in the enumeration '{}'", list.join(", ")),
            ));
        }
    }
    if cx.get("bwlimit").is_some() {
        cx.need("/", "Sys.Modify")?;
    }
    cx.need_vm(vmid, "VM.Backup")?;
    let storage = cx.get("storage").unwrap_or("local").to_owned();
    cx.need(&format!("/storage/{storage}"), "Datastore.AllocateSpace")?;
    let here = cx.with(|st| {
        let spec = st.storage_on(&storage, node)?;
        if !spec.content.iter().any(|c| c == "backup") {
            return Err(ApiError::die(format!("storage '{storage}' does not support backups")));
        }
        Ok(st.vms.get(&vmid).map(|v| v.node == node))
    })?;
    match here {
        Some(false) => return Ok(json!("OK")),
        None => return Err(ApiError::die(format!("unable to find VM '{vmid}'"))),
        Some(true) => {}
    }
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "vzdump", &vmid.to_string(), &cx.token, |w| async move {
        work(&cx2, &node2, vmid, &storage, &w).await
    });
    Ok(json!(upid))
}

async fn work(cx: &Ctx, node: &str, vmid: u32, storage: &str, w: &Worker) -> Result<(), ApiError> {
    let queue = cx.sim.inner.vzdump.get(node).cloned();
    let _turn = match queue {
        Some(q) => q.acquire_owned().await.ok(),
        None => None,
    };
    let _count = Counted::new(&cx.sim, |c| &mut c.vzdumps_by_node, node);
    let failed = |e: ApiError| ApiError::die(format!("Backup of VM {vmid} failed - {}", e.reason));
    let remove = cx.get("remove").is_none_or(crate::api::truthy);
    {
        let _lock = cx.sim.lock_vm(vmid).await.map_err(failed)?;
        cx.with(|st| {
            let keep = st.storages.get(storage).and_then(|s| s.keep_backups);
            let have = st.content(storage, node).get().values().filter(|v| v.content == "backup" && v.vmid == Some(vmid)).count();
            if let Some(max) = keep.filter(|max| have >= *max && !remove) {
                return Err(ApiError::die(format!(
                    "There is a max backup limit of {max} enforced by the target storage or the vzdump parameters. Either \
                     increase the limit or delete old backups."
                )));
            }
            let vm = st.vm_mut(node, vmid)?;
            vm.check_lock()?;
            vm.config.insert("lock".into(), "backup".into());
            Ok(())
        })
        .map_err(failed)?;
    }
    w.log(format!("INFO: Starting Backup of VM {vmid} (qemu)"));
    w.sleep(cx.sim.config().timings.backup).await;
    cx.with(|st| {
        let guest = st.vms.get(&vmid).and_then(|v| v.config.get("name").cloned()).unwrap_or_default();
        if let Some(vm) = st.vms.get_mut(&vmid) {
            vm.config.remove("lock");
        }
        let spec = st.storage_on(storage, node)?;
        let (used, size) = (st.used(storage, node), 1u64 << 30);
        if used + size > spec.capacity {
            return Err(ApiError::die("vma: No space left on device"));
        }
        let name = archive_name(st, storage, node, vmid);
        let mut v = st.volume(Some(vmid), size, "vma.zst", "backup");
        v.notes = cx.get("notes-template").map(|t| {
            t.replace("{{guestname}}", &guest)
                .replace("{{vmid}}", &vmid.to_string())
                .replace("{{node}}", node)
                .replace("{{cluster}}", &st.cfg.cluster)
                .replace("\\n", "\n")
        });
        v.protected = cx.flag("protected");
        let content = st.content(storage, node);
        let mut volumes = content.get();
        volumes.insert(name.clone(), v);
        if let Some(max) = spec.keep_backups.filter(|_| remove) {
            let mine = volumes.iter().filter(|(_, v)| v.content == "backup" && v.vmid == Some(vmid) && !v.protected);
            let mut names: Vec<String> = mine.map(|(n, _)| n.clone()).collect();
            names.sort();
            let drop = names.len().saturating_sub(max);
            for n in names.into_iter().take(drop) {
                volumes.remove(&n);
            }
        }
        Ok(())
    })
    .map_err(failed)?;
    w.log(format!("INFO: Finished Backup of VM {vmid}"));
    Ok(())
}
