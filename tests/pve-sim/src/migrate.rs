//! Moving a VM to another node.

use serde_json::{Value, json};

use crate::{Answer, Params, Refusal, Sim, drives};

impl Sim {
    pub(crate) fn migrate_check(&self, node: &str, vmid: u32) -> Answer {
        let mut state = self.lock();
        let vm = state.vm(node, vmid)?.clone();
        let local: Vec<Value> = vm
            .config
            .iter()
            .filter(|(k, v)| drives::is_disk(k, v))
            .filter(|(_, v)| !state.storage(v.split(':').next().unwrap_or_default()).is_some_and(|s| s.shared))
            .map(|(k, v)| json!({"drivename": k, "volid": drives::parse(v).0}))
            .collect();
        let allowed: Vec<&str> =
            state.config.nodes.iter().filter(|n| n.name != node && n.online).map(|n| n.name.as_str()).collect();
        Ok(
            json!({"running": i32::from(vm.running), "allowed_nodes": allowed, "not_allowed_nodes": {}, "local_disks": local, "local_resources": []}),
        )
    }

    pub(crate) async fn migrate(&self, node: &str, vmid: u32, params: &Params, user: &str) -> Answer {
        let target = params
            .get("target")
            .cloned()
            .ok_or_else(|| Refusal::parameter("target", "property is missing and it is not optional"))?;
        self.flock(vmid).await?;
        {
            let mut state = self.lock();
            if target == node {
                return Err(Refusal::parameter("target", "target is local node."));
            }
            if state.node(&target).is_none() {
                return Err(Refusal::die(format!("no such cluster node '{target}'")));
            }
            let vm = state.unlocked(node, vmid)?;
            if vm.running && params.get("online").is_none_or(|v| v != "1") {
                return Err(Refusal::die("can't migrate running VM without --online"));
            }
        }
        let sim = self.clone();
        let (own, mapping) = (node.to_owned(), params.get("targetstorage").cloned().unwrap_or_default());
        let time = self.timing().migrate;
        Ok(self.fork(node, "qmigrate", &vmid.to_string(), user, async move {
            let plan = sim.plan_migration(&own, vmid, &target, &mapping)?;
            if let Ok(vm) = sim.lock().vm(&own, vmid) {
                vm.config.insert("lock".into(), "migrate".into());
            }
            Sim::sleep(time).await;
            sim.finish_migration(vmid, &target, plan)
        }))
    }

    /// (key, old volume, new storage) of each disk that has to be copied.
    fn plan_migration(
        &self,
        node: &str,
        vmid: u32,
        target: &str,
        mapping: &str,
    ) -> Result<Vec<(String, String, String)>, String> {
        let mut state = self.lock();
        if !state.node(target).is_some_and(|n| n.online) {
            return Err(format!("migration aborted: node '{target}' is offline"));
        }
        let vm = state.unlocked(node, vmid).map_err(|e| e.text)?.clone();
        let mut plan = Vec::new();
        for (key, value) in vm.config.iter().filter(|(k, _)| drives::is_disk_key(k)) {
            let volid = drives::parse(value).0;
            let from = volid.split(':').next().unwrap_or_default().to_owned();
            let to = mapped(mapping, &from);
            let shared = state.storage(&from).is_some_and(|s| s.shared);
            if shared && to == from {
                continue;
            }
            match state.storage(&to) {
                Some(s) if s.on(target) => {}
                _ => return Err(format!("storage '{to}' is not available on node '{target}'")),
            }
            if let Some(base) = state.volumes.iter().find(|v| v.volid == volid).and_then(|v| v.base.clone()) {
                return Err(format!("can't migrate '{volid}' as it's a clone of '{base}'"));
            }
            plan.push((key.clone(), volid, to));
        }
        Ok(plan)
    }

    fn finish_migration(&self, vmid: u32, target: &str, plan: Vec<(String, String, String)>) -> Result<(), String> {
        let mut state = self.lock();
        let mut moved = Vec::new();
        let unlock = |state: &mut crate::State| {
            if let Some(vm) = state.vms.get_mut(&vmid) {
                vm.config.remove("lock");
            }
        };
        for (key, volid, to) in plan {
            let value = state.vms.get(&vmid).and_then(|vm| vm.config.get(&key)).cloned().unwrap_or_default();
            if value.contains("cloudinit") {
                moved.push((key, format!("{to}:vm-{vmid}-cloudinit,media=cdrom")));
                continue;
            }
            let size = state.volumes.iter().find(|v| v.volid == volid).map_or(1_024, |v| v.size_mib);
            // The old volume goes first: a local storage has the same names on every node.
            state.free(&volid);
            let format =
                if state.storage(&to).is_some_and(crate::state::Storage::has_files) { None } else { Some("raw") };
            match state.allocate(&to, target, vmid, size, format) {
                Ok(volume) => moved.push((key, drives::print(&volume.volid, &drives::parse(&value).1))),
                Err(refusal) => {
                    unlock(&mut state);
                    return Err(refusal.text);
                }
            }
        }
        if let Some(vm) = state.vms.get_mut(&vmid) {
            vm.config.extend(moved);
            target.clone_into(&mut vm.node);
            vm.config.remove("lock");
        }
        Ok(())
    }
}

/// `s` for all, `a:b,c:d`, `1` or nothing for the same names.
fn mapped(mapping: &str, from: &str) -> String {
    for part in mapping.split(',').filter(|p| !p.is_empty()) {
        match part.split_once(':') {
            Some((a, b)) if a == from => return b.to_owned(),
            Some(_) => {}
            None if part != "1" => return part.to_owned(),
            None => {}
        }
    }
    from.to_owned()
}
