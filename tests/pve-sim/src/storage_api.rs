//! Storages: definitions, status per node, content, and the removal of volumes.

use serde_json::{Value, json};

use crate::api::{Ctx, truthy};
use crate::config::StorageSpec;
use crate::error::{ApiError, Put};
use crate::state::Volume;

fn audit(cx: &Ctx, storage: &str) -> bool {
    let path = format!("/storage/{storage}");
    cx.may(&path, "Datastore.Audit") || cx.may(&path, "Datastore.AllocateSpace")
}

/// `GET /storage`.
pub(crate) fn definitions(cx: &Ctx) -> Result<Value, ApiError> {
    cx.only(&["type"])?;
    let all: Vec<StorageSpec> = cx.with(|st| st.storages.values().cloned().collect());
    let seen = all.into_iter().filter(|s| audit(cx, &s.name) && cx.get("type").is_none_or(|t| t == s.kind));
    Ok(seen
        .map(|s| {
            let mut out = json!({ "storage": s.name, "type": s.kind, "content": s.content.join(","),
                                  "digest": crate::state::digest_of(&s.name) });
            if s.shared {
                out.put("shared", json!(1));
            }
            if !s.nodes.is_empty() {
                out.put("nodes", json!(s.nodes.join(",")));
            }
            if s.disabled {
                out.put("disable", json!(1));
            }
            if s.is_file() {
                out.put("path", json!(format!("/mnt/pve/{}", s.name)));
            }
            out
        })
        .collect())
}

fn line(cx: &Ctx, node: &str, s: &StorageSpec) -> Value {
    let used = cx.with(|st| st.used(&s.name, node)).min(s.capacity);
    let active = !s.disabled;
    let mut out = json!({
        "storage": s.name, "type": s.kind, "content": s.content.join(","), "shared": u8::from(s.shared),
        "enabled": u8::from(active), "active": u8::from(active),
    });
    if active {
        out.put("total", json!(s.capacity));
        out.put("used", json!(used));
        out.put("avail", json!(s.capacity - used));
        out.put("used_fraction", json!(used as f64 / s.capacity.max(1) as f64));
    }
    out
}

/// `GET /nodes/{node}/storage`.
pub(crate) fn on_node(cx: &Ctx, node: &str) -> Result<Value, ApiError> {
    cx.only(&["storage", "content", "enabled", "target", "format"])?;
    let all: Vec<StorageSpec> = cx.with(|st| st.storages.values().cloned().collect());
    let (content, target) = (cx.get("content"), cx.get("target"));
    let seen = all.iter().filter(|s| {
        s.on(node)
            && audit(cx, &s.name)
            && cx.get("storage").is_none_or(|n| n == s.name)
            && content.is_none_or(|c| c.split(',').any(|c| s.content.iter().any(|x| x == c)))
            && target.is_none_or(|t| s.shared && s.on(t))
            && !(cx.flag("enabled") && s.disabled)
    });
    Ok(seen.map(|s| line(cx, node, s)).collect())
}

fn open(cx: &Ctx, node: &str, storage: &str) -> Result<StorageSpec, ApiError> {
    if !audit(cx, storage) {
        return Err(ApiError::forbidden(&format!("/storage/{storage}"), "Datastore.Audit|Datastore.AllocateSpace"));
    }
    cx.with(|st| st.storage_on(storage, node))
}

/// `GET /nodes/{node}/storage/{storage}/status`.
pub(crate) fn status(cx: &Ctx, node: &str, storage: &str) -> Result<Value, ApiError> {
    cx.only(&[])?;
    let spec = open(cx, node, storage)?;
    Ok(line(cx, node, &spec))
}

fn volume_line(storage: &str, name: &str, v: &Volume) -> Value {
    let mut out = json!({
        "volid": format!("{storage}:{name}"), "content": v.content, "format": v.format, "size": v.size, "ctime": v.ctime,
    });
    if let Some(id) = v.vmid {
        out.put("vmid", json!(id));
    }
    if let Some(b) = &v.base {
        out.put("parent", json!(b));
    }
    if v.content == "backup" {
        out.put("subtype", json!("qemu"));
        if let Some(n) = &v.notes {
            out.put("notes", json!(n));
        }
        if v.protected {
            out.put("protected", json!(1));
        }
    }
    out
}

/// `GET /nodes/{node}/storage/{storage}/content`.
pub(crate) fn content(cx: &Ctx, node: &str, storage: &str) -> Result<Value, ApiError> {
    cx.only(&["content", "vmid"])?;
    open(cx, node, storage)?;
    let vmid = cx.get("vmid").map(|_| cx.vmid_param("vmid")).transpose()?;
    let list = cx.with(|st| st.content(storage, node)).volumes();
    let seen = list
        .iter()
        .filter(|(_, v)| cx.get("content").is_none_or(|c| c == v.content) && vmid.is_none_or(|id| v.vmid == Some(id)));
    Ok(seen.map(|(name, v)| volume_line(storage, name, v)).collect())
}

/// A volume is named by its full id or by what stands behind the colon.
fn find(cx: &Ctx, node: &str, storage: &str, volume: &str) -> Result<(String, Volume), ApiError> {
    let name = match volume.split_once(':') {
        Some((s, _)) if s != storage => {
            return Err(ApiError::param("storage", format!("volume '{volume}' is not on storage '{storage}'")));
        }
        Some((_, n)) => n,
        None => volume,
    };
    let found = cx.with(|st| st.content(storage, node)).get().get(name).cloned();
    found
        .map(|v| (name.to_owned(), v))
        .ok_or_else(|| ApiError::die(format!("volume '{storage}:{name}' does not exist")))
}

/// `GET …/content/{volume}`.
pub(crate) fn attributes(cx: &Ctx, node: &str, storage: &str, volume: &str) -> Result<Value, ApiError> {
    cx.only(&[])?;
    open(cx, node, storage)?;
    let (name, v) = find(cx, node, storage, volume)?;
    let mut out = volume_line(storage, &name, &v);
    out.put("path", json!(format!("/mnt/pve/{storage}/{name}")));
    out.put("used", json!(v.size));
    Ok(out)
}

/// `PUT …/content/{volume}`: notes and protection of an archive.
pub(crate) fn update(cx: &Ctx, node: &str, storage: &str, volume: &str) -> Result<Value, ApiError> {
    cx.only(&["notes", "protected"])?;
    cx.need(&format!("/storage/{storage}"), "Datastore.Allocate")?;
    open(cx, node, storage)?;
    let (name, _) = find(cx, node, storage, volume)?;
    let content = cx.with(|st| st.content(storage, node));
    if let Some(v) = content.get().get_mut(&name) {
        if let Some(n) = cx.get("notes") {
            v.notes = (!n.is_empty()).then(|| n.to_owned());
        }
        if let Some(p) = cx.get("protected") {
            v.protected = truthy(p);
        }
    }
    Ok(Value::Null)
}

/// `DELETE …/content/{volume}`: a worker; null if it ends within `delay` seconds.
pub(crate) async fn delete(cx: &Ctx, node: &str, storage: &str, volume: &str) -> Result<Value, ApiError> {
    cx.only(&["delay"])?;
    let delay = cx.number("delay")?;
    open(cx, node, storage)?;
    let (name, v) = find(cx, node, storage, volume)?;
    match (v.content.as_str(), v.vmid) {
        ("backup", Some(id)) if !cx.may(&format!("/storage/{storage}"), "Datastore.Allocate") => {
            cx.need(&format!("/storage/{storage}"), "Datastore.AllocateSpace")?;
            cx.need_vm(id, "VM.Backup")?;
        }
        ("backup", _) => {}
        _ => cx.need(&format!("/storage/{storage}"), "Datastore.Allocate")?,
    }
    let id = v.vmid.map_or_else(|| format!("@{storage}"), |n| format!("{n}@{storage}"));
    let (cx2, node2, storage2) = (cx.clone(), node.to_owned(), storage.to_owned());
    let upid = cx.sim.fork(node, "imgdel", &id, &cx.token, |w| async move {
        w.sleep(cx2.sim.config().timings.delete_volume).await;
        let held = cx2.with(|st| st.content(&storage2, &node2)).get().get(&name).is_some_and(|v| v.protected);
        if held {
            return Err(ApiError::die(format!("cannot remove protected volume '{name}' on '{storage2}'")));
        }
        cx2.with(|st| st.free_volume(&format!("{storage2}:{name}"), &node2))?;
        w.log(format!("Removed volume '{storage2}:{name}'"));
        Ok(())
    });
    if let Some(seconds) = delay {
        let step = 20;
        for _ in 0..(seconds * cx.sim.config().timings.second / step) {
            cx.sim.sleep(step).await;
            let ended = cx.with(|st| st.tasks.iter().rev().find(|t| t.upid == upid).and_then(|t| t.exitstatus.clone()));
            match ended.as_deref() {
                Some("OK") => return Ok(Value::Null),
                Some(text) => return Err(ApiError::die(text)),
                None => {}
            }
        }
    }
    Ok(json!(upid))
}
