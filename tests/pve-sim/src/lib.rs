//! A simulated Proxmox VE cluster, as far as deploy and terminate need it.
//!
//! Faithful to the sources of qemu-server, pve-manager and pve-firewall where it matters to a client: tasks and their ids,
//! locks, digests, clones that carry nothing but a lock at first, disk allocation by configuration, pending changes, resize in
//! a worker, firewall address normalisation, error texts in the reason phrase. All time is tokio's, so that tests may pause it;
//! all randomness comes from one seed. Faults: [`faults`].
//!
//! Requests are checked against the API schema of Proxmox if one is given ([`schema`]).

pub mod clone;
pub mod config;
pub mod drives;
pub mod faults;
pub mod firewall;
pub mod http;
pub mod migrate;
pub mod power;
pub mod privileges;
pub mod reads;
pub mod schema;
pub mod state;
pub mod storage;
pub mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use state::{Entry, SimConfig, Snapshot, Task, Vm, Volume};
use tokio::{
    sync::Semaphore,
    time::{Duration, Instant},
};

/// What pvedaemon starts by default on a node. Each does one call at a time.
const WORKERS: usize = 3;

/// An answer that is not `data`.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub text: String,
    pub errors: BTreeMap<String, String>,
}

impl Refusal {
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), errors: BTreeMap::new() }
    }

    /// What any `die` becomes.
    pub fn die(text: impl Into<String>) -> Self {
        Self::new(500, text)
    }

    pub fn parameter(name: &str, text: impl Into<String>) -> Self {
        let name = if name.is_empty() { "_root" } else { name };
        Self {
            status: 400,
            text: "Parameter verification failed.".into(),
            errors: [(name.to_owned(), text.into())].into(),
        }
    }
}

/// A request, read.
pub(crate) struct Call {
    pub method: String,
    pub path: String,
    pub params: Params,
    pub user: String,
}

pub type Answer = Result<serde_json::Value, Refusal>;
pub type Params = BTreeMap<String, String>;

/// What stands behind the mutex.
pub(crate) struct State {
    pub config: SimConfig,
    pub vms: BTreeMap<u32, Vm>,
    pub volumes: Vec<Volume>,
    /// Other clusters that have a storage in common with this one, and its name.
    pub peers: Vec<(Sim, String)>,
    pub tasks: Vec<Task>,
    pub faults: Vec<faults::Fault>,
    pub forbidden: Vec<(String, String, String)>,
    pub quorate: bool,
    /// Configuration files that a worker holds.
    pub flocks: BTreeSet<u32>,
    pub clones: BTreeMap<String, u32>,
    pub most_clones: BTreeMap<String, u32>,
    pub writes: BTreeMap<u32, u32>,
    pub log: Vec<Entry>,
    pub violations: Vec<String>,
    pub rng: StdRng,
    pub counter: u64,
    /// Set by a fault for the task that the request at hand starts.
    pub next_task: Option<faults::What>,
    /// Workers that run, by task.
    pub workers: BTreeMap<String, tokio::task::AbortHandle>,
    /// How often a fault really struck, by its kind.
    pub struck: BTreeMap<&'static str, u32>,
}

/// The cluster. Cheap to clone; all clones are the same cluster.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
    pub(crate) schema: Option<Arc<schema::Schema>>,
    start: Instant,
    base_s: i64,
    /// pvedaemon's workers on each node: a call that waits holds one.
    workers: Arc<Mutex<BTreeMap<String, Arc<Semaphore>>>>,
    /// Served over TCP: a lost reply really breaks the connection.
    pub(crate) served: bool,
}

impl Sim {
    pub fn new(config: SimConfig) -> Self {
        Self::with_schema(config, None)
    }

    pub fn with_schema(config: SimConfig, schema: Option<Arc<schema::Schema>>) -> Self {
        let rng = StdRng::seed_from_u64(config.seed);
        let mut state = State {
            vms: BTreeMap::new(),
            volumes: Vec::new(),
            peers: Vec::new(),
            tasks: Vec::new(),
            faults: Vec::new(),
            forbidden: Vec::new(),
            quorate: true,
            flocks: BTreeSet::new(),
            clones: BTreeMap::new(),
            most_clones: BTreeMap::new(),
            writes: BTreeMap::new(),
            log: Vec::new(),
            violations: Vec::new(),
            rng,
            counter: 0,
            next_task: None,
            workers: BTreeMap::new(),
            struck: BTreeMap::new(),
            config,
        };
        for template in state.config.templates.clone() {
            state.add_template(&template);
        }
        Self {
            state: Arc::new(Mutex::new(state)),
            schema,
            start: Instant::now(),
            base_s: 1_790_000_000,
            workers: Arc::default(),
            served: false,
        }
    }

    /// The workers of a node.
    pub(crate) fn workers(&self, node: &str) -> Arc<Semaphore> {
        let mut all = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(node.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(WORKERS))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.base_s + i64::try_from(self.start.elapsed().as_secs()).unwrap_or(0)
    }

    pub(crate) async fn sleep(ms: u64) {
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    pub(crate) fn timing(&self) -> state::Timing {
        self.lock().config.timing
    }

    /// Everything as it stands.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            vms: state.vms.clone(),
            volumes: state.volumes.clone(),
            nodes: state.config.nodes.clone(),
            tasks: state.tasks.clone(),
            most_clones: state.most_clones.clone(),
            writes: state.writes.clone(),
            violations: state.violations.clone(),
        }
    }

    /// From now on both clusters have this storage in common, as two that mount the same export: each lists and removes
    /// what the other wrote, and neither knows of the other's VMs.
    pub fn share(&self, other: &Sim, storage: &str) {
        self.lock().peers.push((other.clone(), storage.to_owned()));
        other.lock().peers.push((self.clone(), storage.to_owned()));
    }

    /// Clusters that see this storage, this one first. One after another: never two locks at once.
    pub(crate) fn that_see(&self, storage: &str) -> Vec<Sim> {
        let peers = self.lock().peers.clone();
        let others = peers.into_iter().filter(|(_, name)| name == storage).map(|(sim, _)| sim);
        std::iter::once(self.clone()).chain(others).collect()
    }

    /// VMs that are neither templates nor strangers.
    pub fn guests(&self) -> BTreeMap<u32, Vm> {
        let all = self.lock().vms.clone();
        all.into_iter()
            .filter(|(_, vm)| !vm.template && vm.config.get("name").map(String::as_str) != Some("stranger"))
            .collect()
    }

    /// How often faults really struck, by kind: one that was ordered may hit nothing. `lock-timeout` and `stub` are
    /// counted where a lock was waited for in vain, and where a reboot broke off a copy.
    pub fn struck(&self) -> BTreeMap<&'static str, u32> {
        self.lock().struck.clone()
    }

    /// Tasks that run now: (node, kind).
    pub fn running(&self) -> Vec<(String, String)> {
        let state = self.lock();
        state.tasks.iter().filter(|t| t.exit.is_none()).map(|t| (t.node.clone(), t.kind.clone())).collect()
    }

    pub fn log(&self) -> Vec<Entry> {
        self.lock().log.clone()
    }

    pub fn schema_violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }
}

impl State {
    pub(crate) fn strike(&mut self, kind: &'static str) {
        *self.struck.entry(kind).or_default() += 1;
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn new_mac(&mut self) -> String {
        let bytes: [u8; 3] = self.rng.random();
        let [a, b, c] = bytes;
        format!("BC:24:11:{a:02X}:{b:02X}:{c:02X}")
    }

    pub(crate) fn new_uuid(&mut self) -> String {
        let n: u128 = self.rng.random();
        let hex = format!("{n:032x}");
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }

    pub(crate) fn storage(&self, name: &str) -> Option<&state::Storage> {
        self.config.storages.iter().find(|s| s.name == name)
    }

    pub(crate) fn node(&self, name: &str) -> Option<&state::Node> {
        self.config.nodes.iter().find(|n| n.name == name)
    }

    pub(crate) fn foreign(&mut self, vmid: u32, node: &str) {
        let config = [("name", "stranger"), ("description", "not ours"), ("memory", "1024"), ("cores", "1")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        self.vms.insert(vmid, Vm { vmid, node: node.to_owned(), config, running: true, ..Vm::default() });
    }

    pub(crate) fn archive(&mut self, vmid: u32, storage: &str, notes: &str) {
        let n = self.fresh();
        let shared = self.storage(storage).is_some_and(|s| s.shared);
        let node = if shared { None } else { self.config.nodes.first().map(|n| n.name.clone()) };
        self.volumes.push(Volume {
            volid: format!("{storage}:backup/vzdump-qemu-{vmid}-2026_11_21-00_00_{n:02}.vma.zst"),
            storage: storage.to_owned(),
            node,
            vmid: Some(vmid),
            content: "backup".into(),
            format: "vma.zst".into(),
            size_mib: 900,
            base: None,
            notes: notes.to_owned(),
            protected: false,
            made_s: 1_790_000_000,
        });
    }

    /// A new volume; accounts for its space.
    pub(crate) fn allocate(
        &mut self,
        storage: &str,
        node: &str,
        vmid: u32,
        size_mib: u64,
        format: Option<&str>,
    ) -> Result<Volume, Refusal> {
        let Some(found) = self.storage(storage).cloned() else {
            return Err(Refusal::die(format!("storage '{storage}' does not exist")));
        };
        if !found.on(node) {
            return Err(Refusal::die(format!("storage '{storage}' is not available on node '{node}'")));
        }
        if found.free_mib() < size_mib {
            return Err(Refusal::die(format!(
                "unable to allocate image on storage '{storage}': not enough free space"
            )));
        }
        let format = format.map_or_else(|| if found.has_files() { "qcow2" } else { "raw" }.to_owned(), str::to_owned);
        if !found.has_files() && format != "raw" {
            return Err(Refusal::die(format!("unsupported format '{format}' at storage '{storage}'")));
        }
        let mut n = 0;
        let volid = loop {
            let name = if found.has_files() {
                format!("{storage}:{vmid}/vm-{vmid}-disk-{n}.{format}")
            } else {
                format!("{storage}:vm-{vmid}-disk-{n}")
            };
            if !self.volumes.iter().any(|v| v.volid == name) {
                break name;
            }
            n += 1;
        };
        if let Some(s) = self.config.storages.iter_mut().find(|s| s.name == storage) {
            s.used_mib += size_mib;
        }
        let volume = Volume {
            volid,
            storage: storage.to_owned(),
            node: (!found.shared).then(|| node.to_owned()),
            vmid: Some(vmid),
            content: "images".into(),
            format,
            size_mib,
            base: None,
            notes: String::new(),
            protected: false,
            made_s: 0,
        };
        self.volumes.push(volume.clone());
        Ok(volume)
    }

    pub(crate) fn free(&mut self, volid: &str) {
        if let Some(at) = self.volumes.iter().position(|v| v.volid == volid) {
            let gone = self.volumes.remove(at);
            if let Some(s) = self.config.storages.iter_mut().find(|s| s.name == gone.storage) {
                s.used_mib = s.used_mib.saturating_sub(gone.size_mib);
            }
        }
    }

    fn add_template(&mut self, template: &state::Template) {
        let mut config: BTreeMap<String, String> = [
            ("name", template.name.as_str()),
            ("memory", &template.memory_mib.to_string()),
            ("cores", "1"),
            ("sockets", "1"),
            ("scsihw", "virtio-scsi-single"),
            ("ostype", "l26"),
            ("template", "1"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
        if let Ok(mut volume) = self.allocate(&template.storage, &template.node, template.vmid, template.disk_mib, None)
        {
            let base = volume.volid.replace("vm-", "base-");
            for v in &mut self.volumes {
                if v.volid == volume.volid {
                    v.volid.clone_from(&base);
                }
            }
            volume.volid = base;
            config.insert(
                format!("{}0", template.bus),
                format!("{},size={}", volume.volid, drives::size_text(template.disk_mib)),
            );
        }
        if template.cloud_init {
            let drive = format!("{}:vm-{}-cloudinit,media=cdrom", template.storage, template.vmid);
            config.insert("ide2".into(), drive);
        }
        if !template.boot.is_empty() {
            config.insert("boot".into(), template.boot.clone());
        }
        let mac = self.new_mac();
        config.insert("net0".into(), format!("virtio={mac},bridge=vmbr0"));
        let uuid = self.new_uuid();
        config.insert("smbios1".into(), format!("uuid={uuid}"));
        let vm = Vm { vmid: template.vmid, node: template.node.clone(), template: true, config, ..Vm::default() };
        self.vms.insert(template.vmid, vm);
    }
}
