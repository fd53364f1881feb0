//! What the simulated cluster consists of, and how long its work takes.
//!
//! Everything has a default, so `{}` is a usable configuration; an unknown key is an error. Durations are in
//! milliseconds of the simulator's clock and all are multiplied by `time_scale`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The secret of the built-in token `wharf@pve!wharf`.
pub const DEFAULT_SECRET: &str = "5f1c7a52-6c1e-4b0a-9d57-2a4f6f1f8e11";
/// The id of the built-in token.
pub const DEFAULT_TOKEN: &str = "wharf@pve!wharf";

/// The whole simulator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimConfig {
    /// Proxmox VE version, as `/version` tells it: "8.4.1", "9.1.4".
    pub version: String,
    /// Name of the cluster.
    pub cluster: String,
    pub nodes: Vec<NodeSpec>,
    pub storages: Vec<StorageSpec>,
    pub templates: Vec<TemplateSpec>,
    pub tokens: Vec<TokenSpec>,
    pub timings: Timings,
    /// Factor on every duration; 0.1 = ten times as fast.
    pub time_scale: f64,
    /// Seed of all that is random: MACs, UUIDs, process ids.
    pub seed: u64,
    /// Unix time in seconds at the start; none = the wall clock's, read once.
    pub epoch_unix: Option<u64>,
    /// pvedaemon workers per node: how many protected calls a node handles at once. 0 = no limit.
    pub workers: usize,
    /// Whether errors carry JSON `message` too (libpve-http-server 5.2 and newer), or only the reason phrase.
    pub json_message: bool,
    /// Options of the cluster's firewall.
    pub cluster_firewall: BTreeMap<String, String>,
    /// Lower and upper bound of `/cluster/nextid`.
    pub next_id: (u32, u32),
    /// Bridges that exist on every node.
    pub bridges: Vec<String>,
    /// How many journal entries are kept; older ones are dropped, counters stay.
    pub journal_limit: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            version: "9.1.4".into(),
            cluster: "sim".into(),
            nodes: ["pve1", "pve2", "pve3"].map(NodeSpec::new).into(),
            storages: vec![
                StorageSpec::new("local", "dir", false, &["iso", "backup", "vztmpl"]),
                StorageSpec::new("local-lvm", "lvmthin", false, &["images", "rootdir"]),
                StorageSpec::new("nfs", "nfs", true, &["images", "backup", "iso"]),
            ],
            templates: vec![
                TemplateSpec::new(9000, "debian-12", "pve1", "local-lvm"),
                TemplateSpec::new(9001, "debian-12-nfs", "pve1", "nfs"),
                TemplateSpec {
                    system: "virtio0".into(),
                    boot: Some("order=net0;ide2;virtio0".into()),
                    ..TemplateSpec::new(9002, "ubuntu-24", "pve1", "nfs")
                },
            ],
            tokens: vec![TokenSpec { id: DEFAULT_TOKEN.into(), secret: DEFAULT_SECRET.into(), acl: None }],
            timings: Timings::default(),
            time_scale: 1.0,
            seed: 1,
            epoch_unix: None,
            workers: 3,
            json_message: true,
            cluster_firewall: [("enable".to_owned(), "1".to_owned())].into(),
            next_id: (100, 1_000_000),
            bridges: vec!["vmbr0".into(), "vmbr1".into()],
            journal_limit: 200_000,
        }
    }
}

impl SimConfig {
    /// Milliseconds after scaling, as a duration.
    #[must_use]
    pub fn scaled(&self, ms: u64) -> std::time::Duration {
        std::time::Duration::from_secs_f64((ms as f64 * self.time_scale.max(0.0)) / 1000.0)
    }

    /// Whether this is Proxmox VE 9 or newer.
    #[must_use]
    pub fn is_nine(&self) -> bool {
        self.version.split('.').next().and_then(|m| m.parse::<u32>().ok()).is_some_and(|m| m >= 9)
    }

    /// Finds contradictions: a template on a storage that isn't there, a number given twice.
    ///
    /// # Errors
    /// One sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        let nodes: BTreeSet<_> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        let mut numbers = BTreeSet::new();
        for t in &self.templates {
            if !numbers.insert(t.vmid) {
                return Err(format!("templates: the number {} is given twice", t.vmid));
            }
            if !nodes.contains(t.node.as_str()) {
                return Err(format!("templates: {} is on node `{}`, which nodes doesn't list", t.vmid, t.node));
            }
            if !self.storages.iter().any(|s| s.name == t.storage) {
                return Err(format!(
                    "templates: {} is on storage `{}`, which storages doesn't list",
                    t.vmid, t.storage
                ));
            }
        }
        if self.nodes.is_empty() {
            return Err("nodes: at least one is needed".into());
        }
        Ok(())
    }
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    pub name: String,
    /// Bytes.
    #[serde(default = "sixty_four_gib")]
    pub memory: u64,
    #[serde(default = "sixteen")]
    pub cpus: u32,
    #[serde(default = "yes")]
    pub online: bool,
}

impl NodeSpec {
    /// A node with 64 GiB and 16 CPUs.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), memory: sixty_four_gib(), cpus: sixteen(), online: true }
    }
}

fn sixty_four_gib() -> u64 {
    64 << 30
}
fn sixteen() -> u32 {
    16
}
fn yes() -> bool {
    true
}

/// One storage, as `/storage` defines it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSpec {
    pub name: String,
    /// "dir", "btrfs", "nfs", "cifs" (files); "lvm", "lvmthin", "zfspool", "rbd" (block).
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub shared: bool,
    /// Content types.
    pub content: Vec<String>,
    /// Nodes that have it; empty = all.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Bytes; of each node's part if it isn't shared.
    #[serde(default = "two_tib")]
    pub capacity: u64,
    #[serde(default)]
    pub disabled: bool,
    /// Backups kept per VM; none = no limit.
    #[serde(default)]
    pub keep_backups: Option<usize>,
}

fn two_tib() -> u64 {
    2 << 40
}

impl StorageSpec {
    /// A storage of 2 TiB on all nodes.
    #[must_use]
    pub fn new(name: &str, kind: &str, shared: bool, content: &[&str]) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            shared,
            content: content.iter().map(|c| (*c).to_owned()).collect(),
            nodes: vec![],
            capacity: two_tib(),
            disabled: false,
            keep_backups: None,
        }
    }

    /// Whether volumes are files (`100/vm-100-disk-0.qcow2`) or block devices (`vm-100-disk-0`).
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.kind.as_str(), "dir" | "btrfs" | "nfs" | "cifs" | "cephfs")
    }

    /// Whether the name of a linked clone's volume contains its base. For LVM-thin it doesn't, which is why such a
    /// clone can be migrated and one on dir, ZFS or btrfs can't.
    #[must_use]
    pub fn names_base(&self) -> bool {
        self.is_file() || matches!(self.kind.as_str(), "zfspool" | "rbd")
    }

    /// Whether linked clones are possible.
    #[must_use]
    pub fn can_link(&self) -> bool {
        self.kind != "lvm"
    }

    #[must_use]
    pub fn on(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|n| n == node)
    }
}

/// A template with a system disk and, normally, a cloud-init drive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    pub vmid: u32,
    pub name: String,
    pub node: String,
    pub storage: String,
    /// Slot of the system disk: "scsi0", "virtio0", "sata0", "ide0".
    #[serde(default = "scsi0")]
    pub system: String,
    /// Bytes.
    #[serde(default = "three_gib")]
    pub size: u64,
    /// Slot of the cloud-init drive; none = the template has none.
    #[serde(default = "ide2")]
    pub cloudinit: Option<String>,
    /// Where the cloud-init drive lies; none = the template's storage.
    #[serde(default)]
    pub cloudinit_storage: Option<String>,
    /// The boot line; none = no boot line at all.
    #[serde(default = "boot_scsi0")]
    pub boot: Option<String>,
    /// Further configuration keys; they win over the built-in ones.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// IP sets in the template's firewall file, which every clone inherits.
    #[serde(default)]
    pub ipsets: BTreeMap<String, Vec<String>>,
    /// Options in the template's firewall file.
    #[serde(default)]
    pub firewall_options: BTreeMap<String, String>,
}

fn scsi0() -> String {
    "scsi0".into()
}
fn three_gib() -> u64 {
    3 << 30
}
fn ide2() -> Option<String> {
    Some("ide2".into())
}
fn boot_scsi0() -> Option<String> {
    Some("order=scsi0;ide2;net0".into())
}

impl TemplateSpec {
    /// A template with scsi0 of 3 GiB and a cloud-init drive at ide2.
    #[must_use]
    pub fn new(vmid: u32, name: &str, node: &str, storage: &str) -> Self {
        Self {
            vmid,
            name: name.into(),
            node: node.into(),
            storage: storage.into(),
            system: scsi0(),
            size: three_gib(),
            cloudinit: ide2(),
            cloudinit_storage: None,
            boot: boot_scsi0(),
            config: BTreeMap::new(),
            ipsets: BTreeMap::new(),
            firewall_options: BTreeMap::new(),
        }
    }
}

/// An API token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// `user@realm!name`.
    pub id: String,
    pub secret: String,
    /// Path → privileges, inherited downwards, the longest path wins; none = everything is allowed.
    #[serde(default)]
    pub acl: Option<BTreeMap<String, BTreeSet<String>>>,
}

/// How long things take, in milliseconds before scaling.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    pub read: u64,
    pub write: u64,
    /// A full copy of one disk.
    pub clone_full: u64,
    /// A linked copy of one disk.
    pub clone_linked: u64,
    /// The copy of a cloud-init drive.
    pub clone_cloudinit: u64,
    /// Moving one local disk to another node.
    pub migrate_disk: u64,
    /// The rest of a migration.
    pub migrate: u64,
    pub start: u64,
    pub stop: u64,
    /// A guest that listens shuts down in this time.
    pub shutdown: u64,
    pub resize: u64,
    /// Allocating a disk.
    pub allocate: u64,
    pub destroy: u64,
    pub backup: u64,
    pub delete_volume: u64,
    /// `pvestatd`'s cycle: status, memory and name in `/cluster/resources` are as old as its last turn.
    pub status_cycle: u64,
    /// The answer to a wrong secret is held back this long.
    pub auth_failure: u64,
    /// How long a call waits for a VM's configuration lock.
    pub flock: u64,
    /// The same for a clone, which waits only shortly.
    pub flock_clone: u64,
    /// A call that takes longer is answered with 596 while the work goes on.
    pub proxy: u64,
    /// One second of a `timeout` parameter.
    pub second: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            read: 4,
            write: 15,
            clone_full: 900,
            clone_linked: 150,
            clone_cloudinit: 40,
            migrate_disk: 700,
            migrate: 200,
            start: 400,
            stop: 150,
            shutdown: 500,
            resize: 120,
            allocate: 80,
            destroy: 200,
            backup: 800,
            delete_volume: 100,
            status_cycle: 10_000,
            auth_failure: 3_000,
            flock: 10_000,
            flock_clone: 1_000,
            proxy: 30_000,
            second: 1_000,
        }
    }
}
