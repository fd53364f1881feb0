//! One look at the whole cluster, shared by all services: which VM is where, which nodes and storages there are.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use tokio::time::Instant;

use super::client::{Client, PveError, number, text};

const MIB: u64 = 1_048_576;

/// Everything that `cluster/resources` says, as far as it is used.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub vms: BTreeMap<u32, VmRow>,
    pub nodes: Vec<NodeRow>,
    pub storages: Vec<StorageRow>,
}

#[derive(Debug, Clone)]
pub struct VmRow {
    pub node: String,
    pub status: String,
    pub template: bool,
    /// A container: it has the number, and nothing else in common.
    pub container: bool,
}

#[derive(Debug, Clone)]
pub struct NodeRow {
    pub name: String,
    pub online: bool,
    pub memory_total_mib: u32,
    pub memory_used_mib: u32,
    pub cpus: u32,
}

#[derive(Debug, Clone)]
pub struct StorageRow {
    pub name: String,
    pub node: String,
    pub kind: String,
    pub shared: bool,
    pub active: bool,
    pub content: Vec<String>,
    pub total_mib: u32,
    pub used_mib: u32,
}

fn mib(bytes: Option<u64>) -> u32 {
    u32::try_from(bytes.unwrap_or(0) / MIB).unwrap_or(u32::MAX)
}

impl Resources {
    fn parse(rows: &Value) -> Self {
        let mut all = Self::default();
        for row in rows.as_array().map(Vec::as_slice).unwrap_or_default() {
            match text(row, "type") {
                "qemu" | "lxc" => {
                    if let Some(vmid) = number(row, "vmid").and_then(|n| u32::try_from(n).ok()) {
                        let vm = VmRow {
                            node: text(row, "node").to_owned(),
                            status: text(row, "status").to_owned(),
                            template: number(row, "template") == Some(1),
                            container: text(row, "type") == "lxc",
                        };
                        all.vms.insert(vmid, vm);
                    }
                }
                "node" => all.nodes.push(NodeRow {
                    name: text(row, "node").to_owned(),
                    online: text(row, "status") == "online",
                    memory_total_mib: mib(number(row, "maxmem")),
                    memory_used_mib: mib(number(row, "mem")),
                    cpus: number(row, "maxcpu").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
                }),
                "storage" => all.storages.push(StorageRow {
                    name: text(row, "storage").to_owned(),
                    node: text(row, "node").to_owned(),
                    kind: text(row, "plugintype").to_owned(),
                    shared: number(row, "shared") == Some(1),
                    active: text(row, "status") == "available",
                    content: text(row, "content").split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect(),
                    total_mib: mib(number(row, "maxdisk")),
                    used_mib: mib(number(row, "disk")),
                }),
                _ => {}
            }
        }
        all
    }
}

impl Client {
    /// At most a second old, or new. One request serves all who wait for it.
    pub async fn resources(&self, fresh: bool) -> Result<Arc<Resources>, PveError> {
        let asked = Instant::now();
        let mut held = self.resources.lock().await;
        if let Some((at, resources)) = held.as_ref()
            && (if fresh { *at >= asked } else { at.elapsed() <= Self::resources_age() })
        {
            return Ok(Arc::clone(resources));
        }
        let begun = Instant::now();
        let rows = self.get("/cluster/resources", &[]).await?;
        let resources = Arc::new(Resources::parse(&rows));
        *held = Some((begun, Arc::clone(&resources)));
        Ok(resources)
    }

    /// The node that a VM is on. Looked up, never remembered; a number that isn't known is looked for again.
    pub async fn node_of(&self, vmid: u32) -> Result<Option<String>, PveError> {
        if let Some(vm) = self.resources(false).await?.vms.get(&vmid) {
            return Ok(Some(vm.node.clone()));
        }
        Ok(self.resources(true).await?.vms.get(&vmid).map(|vm| vm.node.clone()))
    }

    /// "9.1".
    pub async fn version(&self) -> Result<String, PveError> {
        let mut held = self.version.lock().await;
        if let Some(version) = held.as_ref() {
            return Ok(version.clone());
        }
        let answer = self.get("/version", &[]).await?;
        let full = text(&answer, "version");
        let version: String = full.split('.').take(2).collect::<Vec<_>>().join(".");
        *held = Some(version.clone());
        Ok(version)
    }

    /// Whether the cluster has a quorum and which of its nodes answer.
    pub async fn quorate(&self) -> Result<(bool, Vec<String>), PveError> {
        let rows = self.get("/cluster/status", &[]).await?;
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        // A single host without a cluster has no cluster row and always decides.
        let quorate =
            rows.iter().find(|r| text(r, "type") == "cluster").is_none_or(|r| number(r, "quorate") == Some(1));
        let offline = rows
            .iter()
            .filter(|r| text(r, "type") == "node" && number(r, "online") == Some(0))
            .map(|r| text(r, "name").to_owned())
            .collect();
        Ok((quorate, offline))
    }
}
