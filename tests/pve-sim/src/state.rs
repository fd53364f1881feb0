//! Everything the cluster knows, behind the simulator's one mutex. No I/O, no waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{SimConfig, StorageSpec, TokenSpec};
use crate::error::ApiError;
use crate::faults::{Fault, TaskFault};
use crate::props::{Drive, is_drive, is_unused, print_size, random_mac, random_uuid};
use crate::tasks::Task;

/// A volume: a disk, an ISO or an archive. Sizes in bytes, times in Unix seconds.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Volume {
    pub vmid: Option<u32>,
    pub size: u64,
    pub format: String,
    /// "images", "backup", "iso".
    pub content: String,
    pub ctime: u64,
    /// Volume name of the base of a linked clone.
    pub base: Option<String>,
    pub notes: Option<String>,
    pub protected: bool,
    /// Name of the cluster that made it: tells two clusters on one NFS apart.
    pub made_by: String,
}

/// The content of one storage. Two simulators that hold the same handle share that storage.
#[derive(Clone, Debug, Default)]
pub struct SharedStorage(Arc<Mutex<BTreeMap<String, Volume>>>);

impl SharedStorage {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn get(&self) -> MutexGuard<'_, BTreeMap<String, Volume>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of what lies there, by volume name.
    #[must_use]
    pub fn volumes(&self) -> BTreeMap<String, Volume> {
        self.get().clone()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub memory: u64,
    pub cpus: u32,
    pub online: bool,
}

/// Options, rules and IP sets of one VM's firewall file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Firewall {
    pub options: BTreeMap<String, String>,
    /// In order; `pos` is the index.
    pub rules: Vec<BTreeMap<String, String>>,
    /// Name → entries as Proxmox prints them (`10.0.0.5`, `2001:db8::/64`).
    pub ipsets: BTreeMap<String, BTreeMap<String, IpEntry>>,
    pub comments: BTreeMap<String, String>,
}

/// What an entry of an IP set carries besides its address.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct IpEntry {
    pub comment: Option<String>,
    pub nomatch: bool,
}

/// What `pvestatd` saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub at: u64,
    pub running: bool,
    pub name: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Vm {
    pub node: String,
    /// The configuration file; `lock` and `template` are keys of it.
    pub config: BTreeMap<String, String>,
    /// Values that wait for the next start; None = to be deleted.
    pub pending: BTreeMap<String, Option<String>>,
    pub running: bool,
    pub started: u64,
    pub history: VecDeque<Seen>,
    /// The guest doesn't react to a shutdown.
    pub hung: bool,
    /// The keys that the cloud-init drive was last written with: at a start or by `PUT …/cloudinit`.
    pub guest: BTreeMap<String, String>,
}

impl Vm {
    pub fn new(node: &str, config: BTreeMap<String, String>) -> Self {
        Self {
            node: node.to_owned(),
            config,
            pending: BTreeMap::new(),
            running: false,
            started: 0,
            history: VecDeque::new(),
            hung: false,
            guest: BTreeMap::new(),
        }
    }

    pub fn is_template(&self) -> bool {
        self.config.get("template").is_some_and(|t| t == "1")
    }

    pub fn lock(&self) -> Option<&str> {
        self.config.get("lock").map(String::as_str)
    }

    pub fn check_lock(&self) -> Result<(), ApiError> {
        match self.lock() {
            Some(l) => Err(ApiError::die(format!("VM is locked ({l})"))),
            None => Ok(()),
        }
    }

    /// 40 hex digits over everything in the file, as `digest` in the API.
    pub fn digest(&self) -> String {
        digest_of(&(&self.config, &self.pending))
    }

    /// Values as they will be after the next start.
    pub fn merged(&self) -> BTreeMap<String, String> {
        let mut out = self.config.clone();
        for (k, v) in &self.pending {
            match v {
                Some(v) => out.insert(k.clone(), v.clone()),
                None => out.remove(k),
            };
        }
        out
    }

    /// Drives in the order of their names.
    pub fn drives(&self) -> impl Iterator<Item = (&str, Drive)> {
        self.config.iter().filter(|(k, _)| is_drive(k)).filter_map(|(k, v)| Some((k.as_str(), Drive::parse(v)?)))
    }

    /// Slots and volume ids of all disks, unused ones included, without ISOs.
    pub fn volids(&self) -> Vec<(String, String)> {
        let unused = self.config.iter().filter(|(k, _)| is_unused(k)).map(|(k, v)| (k.clone(), v.clone()));
        let used = self
            .drives()
            .filter(|(_, d)| d.file.contains(':') && (!d.is_cdrom() || d.is_cloudinit()))
            .map(|(k, d)| (k.to_owned(), d.file));
        used.chain(unused).collect()
    }

    pub fn remember(&mut self, at: u64) {
        let name = self.config.get("name").cloned().unwrap_or_default();
        self.history.push_back(Seen { at, running: self.running, name });
        if self.history.len() > 16 {
            self.history.pop_front();
        }
    }

    /// What was true at `at`, if the VM was there then.
    pub fn seen(&self, at: u64) -> Option<&Seen> {
        self.history.iter().rev().find(|s| s.at <= at)
    }
}

pub(crate) fn digest_of<T: std::fmt::Debug>(value: &T) -> String {
    let hash = Sha256::digest(format!("{value:?}").as_bytes());
    hash.iter().take(20).map(|b| format!("{b:02x}")).collect()
}

/// One request, as `/_sim/log` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    pub seq: u64,
    /// Milliseconds since the simulator's start.
    pub t_ms: u64,
    /// Milliseconds until the answer.
    pub took_ms: u64,
    pub token: String,
    pub method: String,
    pub path: String,
    pub params: BTreeMap<String, String>,
    /// What the work ended with; 0 = not yet answered.
    pub status: u16,
    /// The reason phrase of an error.
    pub reason: String,
    /// The VM it was about; for a clone the new one.
    pub vmid: Option<u32>,
    /// The caller never saw the answer, or saw a 596.
    pub lost: bool,
}

/// How much of something went on at once.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Gauge {
    pub now: u32,
    pub max: u32,
    pub total: u64,
}

impl Gauge {
    pub(crate) fn up(&mut self) {
        self.now += 1;
        self.total += 1;
        self.max = self.max.max(self.now);
    }
    pub(crate) fn down(&mut self) {
        self.now = self.now.saturating_sub(1);
    }
}

/// What an audit of slots and writes needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    pub requests: u64,
    /// Requests other than GET.
    pub writes: u64,
    /// Requests other than GET by the VM they were about; a clone counts for the new one.
    pub writes_by_vmid: BTreeMap<u32, u64>,
    /// Running clones by the storage that receives the disks.
    pub clones_by_storage: BTreeMap<String, Gauge>,
    pub vzdumps_by_node: BTreeMap<String, Gauge>,
    /// Protected calls being handled, by node.
    pub protected_by_node: BTreeMap<String, Gauge>,
}

pub(crate) struct State {
    pub cfg: Arc<SimConfig>,
    pub nodes: BTreeMap<String, Node>,
    pub storages: BTreeMap<String, StorageSpec>,
    pub full: BTreeSet<String>,
    /// By storage and node; the node is empty for shared ones.
    pub contents: BTreeMap<(String, String), SharedStorage>,
    pub vms: BTreeMap<u32, Vm>,
    /// Firewall files, which live apart from the VMs.
    pub firewalls: BTreeMap<u32, Firewall>,
    pub tasks: Vec<Task>,
    pub tokens: BTreeMap<String, TokenSpec>,
    pub revoked: BTreeSet<String>,
    pub quorate: bool,
    pub limit_workers: bool,
    pub cluster_firewall: BTreeMap<String, String>,
    pub faults: Vec<Fault>,
    pub task_faults: Vec<TaskFault>,
    pub next_fault: u64,
    pub journal: VecDeque<LogEntry>,
    pub counters: Counters,
    pub violations: Vec<crate::schema::Violation>,
    pub rng: StdRng,
    pub now_unix: u64,
}

impl State {
    pub fn new(cfg: Arc<SimConfig>, now_unix: u64, shared: &BTreeMap<String, SharedStorage>) -> Self {
        let mut st = Self {
            nodes: cfg
                .nodes
                .iter()
                .map(|n| (n.name.clone(), Node { memory: n.memory, cpus: n.cpus, online: n.online }))
                .collect(),
            storages: cfg.storages.iter().map(|s| (s.name.clone(), s.clone())).collect(),
            full: BTreeSet::new(),
            contents: BTreeMap::new(),
            vms: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            tasks: Vec::new(),
            tokens: cfg.tokens.iter().map(|t| (t.id.clone(), t.clone())).collect(),
            revoked: BTreeSet::new(),
            quorate: true,
            limit_workers: cfg.workers > 0,
            cluster_firewall: cfg.cluster_firewall.clone(),
            faults: Vec::new(),
            task_faults: Vec::new(),
            next_fault: 1,
            journal: VecDeque::new(),
            counters: Counters::default(),
            violations: Vec::new(),
            rng: StdRng::seed_from_u64(cfg.seed),
            now_unix,
            cfg: cfg.clone(),
        };
        for (name, handle) in shared {
            st.contents.insert((name.clone(), String::new()), handle.clone());
        }
        for t in &cfg.templates {
            st.add_template(t);
        }
        st
    }

    fn add_template(&mut self, t: &crate::config::TemplateSpec) {
        let mut config: BTreeMap<String, String> = [
            ("name", t.name.clone()),
            ("template", "1".into()),
            ("cores", "1".into()),
            ("sockets", "1".into()),
            ("memory", "1024".into()),
            ("ostype", "l26".into()),
            ("scsihw", "virtio-scsi-pci".into()),
            ("agent", "1".into()),
            ("serial0", "socket".into()),
            ("smbios1", format!("uuid={}", random_uuid(&mut self.rng))),
            ("net0", format!("virtio={},bridge=vmbr0", random_mac(&mut self.rng))),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        if let Some(spec) = self.storages.get(&t.storage) {
            let format = if spec.is_file() { "qcow2" } else { "raw" };
            let stem = format!("base-{}-disk-0", t.vmid);
            let volname = if spec.is_file() { format!("{}/{stem}.{format}", t.vmid) } else { stem };
            config.insert(t.system.clone(), format!("{}:{volname},size={}", t.storage, print_size(t.size)));
            let volume = self.volume(Some(t.vmid), t.size, format, "images");
            self.content(&t.storage, &t.node).get().insert(volname, volume);
        }
        if let Some(slot) = &t.cloudinit {
            let storage = t.cloudinit_storage.as_ref().unwrap_or(&t.storage).clone();
            let volname = self.cloudinit_name(&storage, t.vmid);
            config.insert(slot.clone(), format!("{storage}:{volname},media=cdrom"));
            let volume = self.volume(Some(t.vmid), 4 << 20, "raw", "images");
            self.content(&storage, &t.node).get().insert(volname, volume);
        }
        if let Some(boot) = &t.boot {
            config.insert("boot".into(), boot.clone());
        }
        config.extend(t.config.clone());
        let mut vm = Vm::new(&t.node, config);
        vm.remember(0);
        self.vms.insert(t.vmid, vm);
        if !t.ipsets.is_empty() || !t.firewall_options.is_empty() {
            let mut fw = Firewall { options: t.firewall_options.clone(), ..Firewall::default() };
            for (name, list) in &t.ipsets {
                let entries = list.iter().map(|a| (a.clone(), IpEntry::default())).collect();
                fw.ipsets.insert(name.clone(), entries);
            }
            self.firewalls.insert(t.vmid, fw);
        }
    }

    pub fn volume(&self, vmid: Option<u32>, size: u64, format: &str, content: &str) -> Volume {
        Volume {
            vmid,
            size,
            format: format.to_owned(),
            content: content.to_owned(),
            ctime: self.now_unix,
            base: None,
            notes: None,
            protected: false,
            made_by: self.cfg.cluster.clone(),
        }
    }

    /// The content of a storage as a node sees it.
    pub fn content(&mut self, storage: &str, node: &str) -> SharedStorage {
        let shared = self.storages.get(storage).is_some_and(|s| s.shared);
        let key = (storage.to_owned(), if shared { String::new() } else { node.to_owned() });
        self.contents.entry(key).or_default().clone()
    }

    pub fn cloudinit_name(&self, storage: &str, vmid: u32) -> String {
        match self.storages.get(storage) {
            Some(s) if s.is_file() => format!("{vmid}/vm-{vmid}-cloudinit.qcow2"),
            _ => format!("vm-{vmid}-cloudinit"),
        }
    }

    /// The VM, if its configuration is on this node.
    pub fn vm(&self, node: &str, vmid: u32) -> Result<&Vm, ApiError> {
        self.vms.get(&vmid).filter(|v| v.node == node).ok_or_else(|| ApiError::no_config(node, vmid))
    }

    pub fn vm_mut(&mut self, node: &str, vmid: u32) -> Result<&mut Vm, ApiError> {
        self.vms.get_mut(&vmid).filter(|v| v.node == node).ok_or_else(|| ApiError::no_config(node, vmid))
    }

    /// The storage, if it exists, is enabled and is on the node.
    pub fn storage_on(&self, storage: &str, node: &str) -> Result<StorageSpec, ApiError> {
        let spec =
            self.storages.get(storage).ok_or_else(|| ApiError::die(format!("storage '{storage}' does not exist")))?;
        if spec.disabled {
            return Err(ApiError::die(format!("storage '{storage}' is disabled")));
        }
        if !spec.on(node) {
            return Err(ApiError::die(format!("storage '{storage}' is not available on node '{node}'")));
        }
        Ok(spec.clone())
    }

    pub fn used(&mut self, storage: &str, node: &str) -> u64 {
        let sum = self.content(storage, node).get().values().map(|v| v.size).sum();
        if self.full.contains(storage) {
            return self.storages.get(storage).map_or(sum, |s| s.capacity.max(sum));
        }
        sum
    }

    /// Reserves a name and room for a VM's disk and returns the volume id.
    pub fn allocate(
        &mut self,
        storage: &str,
        node: &str,
        vmid: u32,
        size: u64,
        format: Option<&str>,
        base: Option<&str>,
    ) -> Result<String, ApiError> {
        let spec = self.storage_on(storage, node)?;
        if !spec.content.iter().any(|c| c == "images") {
            return Err(ApiError::die(format!("storage '{storage}' does not support content-type 'images'")));
        }
        let need = if base.is_some() { 0 } else { size };
        let full = self.full.contains(storage) || self.used(storage, node) + need > spec.capacity;
        let format = if spec.is_file() { format.unwrap_or("qcow2") } else { "raw" };
        let content = self.content(storage, node);
        let mut volumes = content.get();
        let taken =
            |stem: &str| volumes.keys().any(|k| k.rsplit('/').next().unwrap_or(k).split('.').next() == Some(stem));
        let n = (0u32..).find(|n| !taken(&format!("vm-{vmid}-disk-{n}"))).unwrap_or_default();
        let stem = format!("vm-{vmid}-disk-{n}");
        if full {
            return Err(ApiError::die(if spec.is_file() {
                format!("unable to create image: qemu-img: {stem}.{format}: No space left on device")
            } else {
                format!(
                    "lvcreate 'pve/{stem}' error:   Cannot create new thin volume, free space in thin pool reached threshold."
                )
            }));
        }
        let own = if spec.is_file() { format!("{vmid}/{stem}.{format}") } else { stem };
        let volname = match base {
            Some(base) if spec.names_base() => format!("{base}/{own}"),
            _ => own,
        };
        let mut volume = self.volume(Some(vmid), size, format, "images");
        volume.base = base.map(str::to_owned);
        volumes.insert(volname.clone(), volume);
        Ok(format!("{storage}:{volname}"))
    }

    /// The volume behind an id, as a node sees it.
    pub fn find_volume(&mut self, volid: &str, node: &str) -> Option<Volume> {
        let (storage, name) = volid.split_once(':')?;
        self.content(storage, node).get().get(name).cloned()
    }

    /// Frees a volume.
    ///
    /// # Errors
    /// The storage can't be reached, or linked clones hang on the volume.
    pub fn free_volume(&mut self, volid: &str, node: &str) -> Result<(), ApiError> {
        let Some((storage, name)) = volid.split_once(':') else { return Ok(()) };
        self.storage_on(storage, node)?;
        let content = self.content(storage, node);
        let mut volumes = content.get();
        if volumes.values().any(|v| v.base.as_deref() == Some(name)) {
            return Err(ApiError::die(format!("base volume '{volid}' is still in use by linked cloned")));
        }
        volumes.remove(name);
        Ok(())
    }

    /// The first free `unusedN`.
    pub fn unused_slot(config: &BTreeMap<String, String>) -> String {
        (0..256).map(|n| format!("unused{n}")).find(|k| !config.contains_key(k)).unwrap_or_else(|| "unused255".into())
    }
}
