//! Cloning a template.

use crate::{Answer, Params, Refusal, Sim, drives, state::Vm};

/// A clone among those that run, until it is dropped: at its end, or with its node.
struct Counted<'a>(&'a Sim, &'a str);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.0.lock().clones.get_mut(self.1) {
            *running = running.saturating_sub(1);
        }
    }
}

impl Sim {
    pub(crate) fn clone_vm(&self, node: &str, template: u32, params: &Params, user: &str) -> Answer {
        let newid: u32 = params
            .get("newid")
            .and_then(|v| v.parse().ok())
            .ok_or_else(|| Refusal::parameter("newid", "property is missing and it is not optional"))?;
        if let Some(name) = params.get("name") {
            crate::config::check_name(name)?;
        }
        let target = params.get("target").cloned().unwrap_or_else(|| node.to_owned());
        let full_asked = params.get("full").is_some_and(|v| v == "1");
        let (source, full, storage) = {
            let mut state = self.lock();
            let source = state.vms.get(&template).cloned().ok_or_else(|| crate::config::missing(node, template))?;
            let full = full_asked || !source.template;
            if !full {
                for key in ["storage", "format"] {
                    if params.contains_key(key) {
                        return Err(Refusal::die(format!("parameter '{key}' not allowed for linked clones")));
                    }
                }
            }
            if let Some(name) = params.get("storage")
                && state.storage(name).is_none()
            {
                return Err(Refusal::die(format!("storage '{name}' does not exist")));
            }
            if state.vms.get(&newid).is_some_and(|vm| vm.node == node) {
                return Err(Refusal::die(format!("unable to create VM {newid}: config file already exists")));
            }
            if target != node {
                if state.node(&target).is_none() {
                    return Err(Refusal::die(format!("no such cluster node '{target}'")));
                }
                for (key, value) in source.config.iter().filter(|(k, _)| drives::is_disk_key(k)) {
                    let name = value.split(':').next().unwrap_or_default();
                    if !state.storage(name).is_some_and(|s| s.shared) {
                        let _ = key;
                        return Err(Refusal::die(format!("can't clone VM to node '{target}' (VM uses local storage)")));
                    }
                }
                if let Some(name) = params.get("storage")
                    && !state.storage(name).is_some_and(|s| s.shared)
                {
                    return Err(Refusal::die(format!("can't clone to non-shared storage '{name}'")));
                }
            }
            let first =
                source.config.iter().find(|(k, v)| drives::is_disk(k, v)).map(|(_, v)| v.clone()).unwrap_or_default();
            let storage = params
                .get("storage")
                .cloned()
                .unwrap_or_else(|| first.split(':').next().unwrap_or_default().to_owned());
            let running = {
                let running = state.clones.entry(storage.clone()).or_default();
                *running += 1;
                *running
            };
            let most = state.most_clones.entry(storage.clone()).or_default();
            *most = (*most).max(running);
            (source, full, storage)
        };
        let sim = self.clone();
        let params = params.clone();
        let upid = {
            let (target, storage) = (target.clone(), storage.clone());
            self.fork(node, "qmclone", &template.to_string(), user, async move {
                let _counted = Counted(&sim, &storage);
                sim.copy(&source, newid, &target, &storage, full, &params).await
            })
        };
        Ok(upid)
    }

    async fn copy(
        &self,
        source: &Vm,
        newid: u32,
        target: &str,
        storage: &str,
        full: bool,
        params: &Params,
    ) -> Result<(), String> {
        let timing = self.timing();
        {
            let mut state = self.lock();
            if state.vms.contains_key(&newid) {
                return Err(format!("unable to create VM {newid}: config file already exists"));
            }
            // What qemu-server writes first: a comment, read back as the description, and the lock.
            let config = [
                ("lock".to_owned(), "clone".to_owned()),
                ("description".to_owned(), " qmclone temporary file\n".to_owned()),
            ]
            .into();
            state.vms.insert(newid, Vm { vmid: newid, node: target.to_owned(), config, ..Vm::default() });
        }
        // A full clone has nothing else in its configuration until the first disk is copied, and ours has one.
        let stub = if full { timing.clone_full.max(timing.clone_stub) } else { timing.clone_stub };
        Self::sleep(stub).await;
        let begun = self.copy_config(source, newid, target, storage, full, params);
        if let Err(text) = begun {
            self.lock().vms.remove(&newid);
            return Err(format!("clone failed: {text}"));
        }
        if !full {
            Self::sleep(timing.clone_linked.saturating_sub(stub)).await;
        }
        if let Some(vm) = self.lock().vms.get_mut(&newid) {
            vm.config.remove("lock");
        }
        Ok(())
    }

    fn copy_config(
        &self,
        source: &Vm,
        newid: u32,
        target: &str,
        storage: &str,
        full: bool,
        params: &Params,
    ) -> Result<(), String> {
        let mut state = self.lock();
        let mut config = source.config.clone();
        config.remove("template");
        config.remove("description");
        config.insert("lock".into(), "clone".into());
        for (key, value) in source.config.iter().filter(|(k, _)| drives::is_disk_key(k)) {
            if value.contains("cloudinit") {
                let name = value.split(':').next().unwrap_or_default();
                config.insert(key.clone(), format!("{name}:vm-{newid}-cloudinit,media=cdrom"));
                continue;
            }
            if !drives::is_disk(key, value) {
                continue;
            }
            let (base, rest) = drives::parse(value);
            let size = drives::get(value, "size").and_then(|s| drives::mib(&s)).unwrap_or(1_024);
            let format = params.get("format").map(String::as_str);
            let mut volume = state.allocate(storage, target, newid, size, format).map_err(|e| e.text)?;
            if !full {
                // LVM-thin tells a clone by nothing in its name; the others write the base before it.
                let named = state.storage(storage).is_none_or(|s| s.kind != "lvmthin");
                let own = volume.volid.split(':').nth(1).unwrap_or_default();
                let linked = if named { format!("{base}/{own}") } else { volume.volid.clone() };
                for v in &mut state.volumes {
                    if v.volid == volume.volid {
                        v.base = Some(base.clone());
                        v.volid.clone_from(&linked);
                    }
                }
                volume.volid = linked;
            }
            config.insert(key.clone(), drives::print(&volume.volid, &rest));
        }
        for (key, value) in source.config.iter().filter(|(k, _)| drives::indexed(k, "net")) {
            let mac = state.new_mac();
            let old = drives::mac_of(value).unwrap_or_default();
            config.insert(key.clone(), value.replace(&old, &mac));
        }
        let uuid = state.new_uuid();
        config.insert("smbios1".into(), format!("uuid={uuid}"));
        config.insert(
            "name".into(),
            params.get("name").cloned().unwrap_or_else(|| format!("Copy-of-VM-{}", source.vmid)),
        );
        if let Some(text) = params.get("description") {
            config.insert("description".into(), text.clone());
        }
        let (firewall, ipsets) = (source.firewall.clone(), source.ipsets.clone());
        if let Some(vm) = state.vms.get_mut(&newid) {
            vm.config = config;
            vm.firewall = firewall;
            vm.ipsets = ipsets;
        }
        Ok(())
    }

    /// Whether a clone from this template to this number could still be on its way.
    pub fn running_clones(&self) -> u32 {
        self.lock().clones.values().sum()
    }
}
