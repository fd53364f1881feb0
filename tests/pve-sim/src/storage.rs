//! Storages and what lies on them.

use serde_json::{Value, json};

use crate::{Answer, Params, Refusal, Sim, state::Volume};

impl Sim {
    pub(crate) fn storages(&self, node: &str, params: &Params) -> Answer {
        let state = self.lock();
        let list: Vec<Value> = state
            .config
            .storages
            .iter()
            .filter(|s| s.nodes.is_empty() || s.nodes.iter().any(|n| n == node))
            .filter(|s| params.get("content").is_none_or(|c| s.content.contains(c)))
            .filter(|s| params.get("storage").is_none_or(|n| *n == s.name))
            .map(|s| {
                let content: Vec<&str> = s.content.iter().map(String::as_str).collect();
                json!({
                    "storage": s.name, "type": s.kind, "shared": i32::from(s.shared), "content": content.join(","),
                    "active": i32::from(s.enabled), "enabled": i32::from(s.enabled),
                    "total": s.total_mib * 1_048_576, "used": s.used_mib * 1_048_576, "avail": s.free_mib() * 1_048_576,
                })
            })
            .collect();
        Ok(Value::Array(list))
    }

    pub(crate) fn content(&self, node: &str, storage: &str, params: &Params) -> Answer {
        {
            let state = self.lock();
            let found =
                state.storage(storage).ok_or_else(|| Refusal::die(format!("storage '{storage}' does not exist")))?;
            if !found.on(node) {
                return Err(Refusal::die(format!("storage '{storage}' is not online")));
            }
        }
        let vmid = params.get("vmid").and_then(|v| v.parse::<u32>().ok());
        let volumes: Vec<Volume> =
            self.that_see(storage).into_iter().flat_map(|sim| sim.lock().volumes.clone()).collect();
        Ok(volumes
            .iter()
            .filter(|v| v.storage == storage && v.node.as_deref().is_none_or(|n| n == node))
            .filter(|v| params.get("content").is_none_or(|c| *c == v.content))
            .filter(|v| vmid.is_none() || v.vmid == vmid)
            .map(|v| {
                let mut row = json!({
                    "volid": v.volid, "content": v.content, "format": v.format, "size": v.size_mib * 1_048_576, "ctime": v.made_s,
                });
                if let Some(map) = row.as_object_mut() {
                    if let Some(vmid) = v.vmid {
                        map.insert("vmid".into(), vmid.into());
                    }
                    if !v.notes.is_empty() {
                        map.insert("notes".into(), v.notes.clone().into());
                    }
                    if v.protected {
                        map.insert("protected".into(), 1.into());
                    }
                }
                row
            })
            .collect())
    }

    pub(crate) fn remove_volume(&self, node: &str, volid: &str, user: &str) -> Answer {
        let storage = volid.split(':').next().unwrap_or_default();
        let holder = self.that_see(storage).into_iter().find_map(|sim| {
            let protected = sim.lock().volumes.iter().find(|v| v.volid == volid).map(|v| v.protected);
            protected.map(|protected| (sim, protected))
        });
        let (sim, protected) = holder.ok_or_else(|| Refusal::die(format!("volume '{volid}' does not exist")))?;
        if protected {
            return Err(Refusal::die(format!("can't remove protected volume '{volid}'")));
        }
        let (own, time) = (volid.to_owned(), self.timing().remove_volume);
        Ok(self.fork(node, "imgdel", &volid.replace(['/', ':'], "-"), user, async move {
            Sim::sleep(time).await;
            sim.lock().free(&own);
            Ok(())
        }))
    }

    pub(crate) async fn vzdump(&self, node: &str, params: &Params, user: &str) -> Answer {
        let vmid: u32 =
            params.get("vmid").and_then(|v| v.parse().ok()).ok_or_else(|| Refusal::parameter("vmid", "missing"))?;
        let storage = params.get("storage").cloned().unwrap_or_else(|| "local".into());
        let here = self.lock().vms.get(&vmid).is_some_and(|vm| vm.node == node);
        if !here {
            return Ok(Value::String("OK".into()));
        }
        let notes = params.get("notes-template").cloned().unwrap_or_default();
        let sim = self.clone();
        Ok(self.fork(node, "vzdump", &vmid.to_string(), user, async move {
            Sim::sleep(500).await;
            sim.lock().archive(vmid, &storage, &notes);
            Ok(())
        }))
    }
}
