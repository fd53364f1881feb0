//! What the cluster holds: nodes, storages, volumes, VMs, tasks. Plain data, serialisable for `/_sim/state`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How the cluster begins, and how long things take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// "8.4", "9.1", "9.2".
    pub version: String,
    pub nodes: Vec<Node>,
    pub storages: Vec<Storage>,
    pub templates: Vec<Template>,
    /// Token id to secret.
    pub tokens: BTreeMap<String, String>,
    /// What a token holds, by path. A token that is not named here may do all.
    pub privileges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    pub timing: Timing,
    pub seed: u64,
    pub cluster_firewall: bool,
}

/// Durations in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    pub read: u64,
    pub write: u64,
    pub clone_linked: u64,
    pub clone_full: u64,
    /// While only `lock: clone` stands in the configuration.
    pub clone_stub: u64,
    pub migrate: u64,
    pub configure: u64,
    pub resize: u64,
    pub start: u64,
    pub stop: u64,
    /// How long a guest takes to shut down; a hung one never does.
    pub shutdown: u64,
    pub destroy: u64,
    pub remove_volume: u64,
    /// Wait for a config lock before `got timeout`.
    pub lock_wait: u64,
    /// Delay of a 401.
    pub denied: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            read: 2,
            write: 20,
            clone_linked: 800,
            clone_full: 2_500,
            clone_stub: 150,
            migrate: 2_000,
            configure: 200,
            resize: 200,
            start: 700,
            stop: 300,
            shutdown: 600,
            destroy: 400,
            remove_volume: 100,
            lock_wait: 10_000,
            denied: 3_000,
        }
    }
}

impl Default for SimConfig {
    fn default() -> Self {
        let node =
            |name: &str, memory_mib| Node { name: name.into(), online: true, cpus: 16, memory_mib, used_mib: 4_096 };
        let content = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let storage = |name: &str, kind: &str, shared, content| Storage {
            name: name.into(),
            kind: kind.into(),
            shared,
            nodes: Vec::new(),
            content,
            total_mib: 2_000_000,
            used_mib: 100_000,
            enabled: true,
        };
        let template = |vmid, name: &str, node: &str, storage: &str, bus: &str| Template {
            vmid,
            name: name.into(),
            node: node.into(),
            storage: storage.into(),
            bus: bus.into(),
            disk_mib: 3_072,
            memory_mib: 512,
            boot: format!("order=ide2;{bus}0;net0"),
            cloud_init: true,
        };
        Self {
            version: "9.2".into(),
            nodes: vec![node("pve1", 131_072), node("pve2", 131_072), node("pve3", 262_144)],
            storages: vec![
                storage("local", "dir", false, content(&["iso", "backup", "vztmpl"])),
                storage("local-lvm", "lvmthin", false, content(&["images", "rootdir"])),
                storage("nfs", "nfs", true, content(&["images", "backup", "iso"])),
            ],
            templates: vec![
                template(9000, "debian-12", "pve1", "local-lvm", "scsi"),
                template(9001, "debian-12-nfs", "pve1", "nfs", "scsi"),
                template(9002, "ubuntu-24-04", "pve2", "local-lvm", "virtio"),
            ],
            tokens: BTreeMap::from([("wharf@pve!wharf".to_owned(), "11111111-2222-3333-4444-555555555555".to_owned())]),
            privileges: BTreeMap::new(),
            timing: Timing::default(),
            seed: 1,
            cluster_firewall: true,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub name: String,
    pub online: bool,
    pub cpus: u32,
    pub memory_mib: u64,
    pub used_mib: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub name: String,
    /// Proxmox's type. `dir` and `nfs` hold files, the others block devices.
    pub kind: String,
    pub shared: bool,
    /// Empty = all nodes.
    #[serde(default)]
    pub nodes: Vec<String>,
    pub content: BTreeSet<String>,
    pub total_mib: u64,
    pub used_mib: u64,
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl Storage {
    pub fn on(&self, node: &str) -> bool {
        self.enabled && (self.nodes.is_empty() || self.nodes.iter().any(|n| n == node))
    }

    pub fn has_files(&self) -> bool {
        matches!(self.kind.as_str(), "dir" | "nfs" | "cifs" | "btrfs")
    }

    pub fn free_mib(&self) -> u64 {
        self.total_mib.saturating_sub(self.used_mib)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub vmid: u32,
    pub name: String,
    pub node: String,
    pub storage: String,
    /// scsi, virtio, sata, ide.
    pub bus: String,
    pub disk_mib: u64,
    pub memory_mib: u64,
    /// The `boot` line; empty = none.
    pub boot: String,
    pub cloud_init: bool,
}

/// A disk image, archive or ISO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    pub volid: String,
    pub storage: String,
    /// None on shared storages.
    pub node: Option<String>,
    pub vmid: Option<u32>,
    pub content: String,
    pub format: String,
    pub size_mib: u64,
    /// Volume that a linked clone hangs on.
    pub base: Option<String>,
    pub notes: String,
    pub protected: bool,
    pub made_s: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    pub vmid: u32,
    pub node: String,
    pub template: bool,
    /// Configuration as it runs now.
    pub config: BTreeMap<String, String>,
    /// What waits for the next start; `None` = deletion.
    pub pending: BTreeMap<String, Option<String>>,
    pub running: bool,
    /// Never shuts down by itself.
    pub hung: bool,
    /// Not even a hard stop works.
    pub undying: bool,
    pub firewall: BTreeMap<String, String>,
    /// Name to entries as stored (normalised).
    pub ipsets: BTreeMap<String, BTreeSet<String>>,
    /// Real cloud-init password: never read back.
    pub cipassword: Option<String>,
    pub started_ms: u64,
}

impl Vm {
    pub fn merged(&self) -> BTreeMap<String, String> {
        let mut all = self.config.clone();
        for (key, value) in &self.pending {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        all
    }

    pub fn lock(&self) -> Option<&str> {
        self.config.get("lock").map(String::as_str)
    }

    pub fn mac(&self) -> Option<String> {
        crate::drives::mac_of(self.config.get("net0")?)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub upid: String,
    pub node: String,
    pub kind: String,
    pub id: String,
    pub user: String,
    pub started_s: i64,
    /// None = running.
    pub exit: Option<String>,
    pub log: Vec<String>,
}

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: u64,
    pub t_ms: u64,
    pub token: String,
    pub method: String,
    pub path: String,
    pub params: BTreeMap<String, String>,
    pub status: u16,
    pub vmid: Option<u32>,
}

/// Everything, for tests and the curious.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    pub vms: BTreeMap<u32, Vm>,
    pub volumes: Vec<Volume>,
    pub nodes: Vec<Node>,
    pub tasks: Vec<Task>,
    /// Most clones that ever ran at once, by target storage.
    pub most_clones: BTreeMap<String, u32>,
    /// Writes (POST, PUT, DELETE) by VM number.
    pub writes: BTreeMap<u32, u32>,
    pub violations: Vec<String>,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: String::new(), online: true, cpus: 1, memory_mib: 1, used_mib: 0 }
    }
}
