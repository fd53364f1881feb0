//! `PUT …/resize`: a worker. The same size is fine and does nothing; a smaller one fails in the task.

use serde_json::{Value, json};

use crate::api::Ctx;
use crate::error::ApiError;
use crate::props::{Drive, is_drive, parse_size, print_size};

/// `PUT …/resize`.
pub(crate) fn resize(cx: &Ctx, node: &str, vmid: u32) -> Result<Value, ApiError> {
    cx.only(&["disk", "size", "digest", "skiplock"])?;
    let disk = cx.must("disk")?.to_owned();
    if !is_drive(&disk) {
        return Err(ApiError::param("disk", format!("value '{disk}' does not have a value in the enumeration")));
    }
    let size = cx.must("size")?.to_owned();
    let (grow, number) = match size.strip_prefix('+') {
        Some(n) => (true, parse_size(n)),
        None => (false, parse_size(&size)),
    };
    let number = number.ok_or_else(|| ApiError::param("size", "value does not match the regex pattern"))?;
    cx.need_vm(vmid, "VM.Config.Disk")?;
    let digest = cx.get("digest").map(str::to_owned);
    cx.with(|st| {
        let vm = st.vm(node, vmid)?;
        vm.check_lock()?;
        check_digest(&vm.digest(), digest.as_deref())
    })?;
    let (cx2, node2) = (cx.clone(), node.to_owned());
    let upid = cx.sim.fork(node, "resize", &vmid.to_string(), &cx.token, |w| async move {
        let _lock = cx2.sim.lock_vm(vmid).await?;
        w.sleep(cx2.sim.config().timings.resize).await;
        cx2.with(|st| {
            let vm = st.vm(&node2, vmid)?;
            check_digest(&vm.digest(), digest.as_deref())?;
            vm.check_lock()?;
            let line = vm.config.get(&disk).and_then(|v| Drive::parse(v));
            let mut drive = line.ok_or_else(|| ApiError::die(format!("disk '{disk}' does not exist")))?;
            if drive.is_cdrom() {
                return Err(ApiError::die(format!("drive '{disk}' is a CD-ROM, cannot resize")));
            }
            let Some((storage, name)) = drive.volume().map(|(s, n)| (s.to_owned(), n.to_owned())) else {
                return Err(ApiError::die(format!("disk '{disk}' has no associated volume")));
            };
            let spec = st.storage_on(&storage, &node2)?;
            let used = st.used(&storage, &node2);
            let content = st.content(&storage, &node2);
            let mut volumes = content.get();
            let volume = volumes.get_mut(&name);
            let volume = volume.ok_or_else(|| ApiError::die(format!("volume '{}' does not exist", drive.file)))?;
            let wanted = if grow { volume.size + number } else { number };
            if wanted < volume.size {
                return Err(ApiError::die("shrinking disks is not supported"));
            }
            if wanted == volume.size {
                return Ok(());
            }
            if used + (wanted - volume.size) > spec.capacity {
                return Err(ApiError::die(format!("failed to resize '{}': No space left on device", drive.file)));
            }
            volume.size = wanted;
            drop(volumes);
            drive.rest.set("size", print_size(wanted));
            st.vm_mut(&node2, vmid)?.config.insert(disk, drive.print());
            Ok(())
        })
    });
    Ok(json!(upid))
}

fn check_digest(have: &str, want: Option<&str>) -> Result<(), ApiError> {
    match want {
        Some(w) if w != have => Err(ApiError::die("checksum mismatch (file change by other user?)")),
        _ => Ok(()),
    }
}
