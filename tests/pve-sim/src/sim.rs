//! The simulator's handle: cheap to clone, one mutex inside that is never held over an await.
//!
//! All time is tokio's, so under a paused clock hours pass in no time; all randomness comes from the seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};
use tokio::time::Instant;

use crate::config::SimConfig;
use crate::error::ApiError;
use crate::schema::{Schema, Violation};
use crate::state::{Counters, Firewall, Gauge, LogEntry, SharedStorage, State, Vm, Volume};
use crate::tasks::Task;

/// A simulated cluster.
#[derive(Clone)]
pub struct Sim {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub cfg: Arc<SimConfig>,
    pub schemas: Vec<Schema>,
    pub workers: BTreeMap<String, Arc<Semaphore>>,
    pub vzdump: BTreeMap<String, Arc<Semaphore>>,
    state: Mutex<State>,
    flocks: Mutex<BTreeMap<u32, Arc<RwLock<()>>>>,
    origin: Instant,
    epoch: u64,
}

/// What `/_sim/state` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub t_ms: u64,
    pub version: String,
    pub quorate: bool,
    pub nodes: BTreeMap<String, bool>,
    pub vms: BTreeMap<u32, VmSnapshot>,
    /// Volume id → volume, by the node that sees it ("" = all).
    pub volumes: BTreeMap<String, BTreeMap<String, Volume>>,
    pub firewalls: BTreeMap<u32, Firewall>,
    pub tasks: Vec<Task>,
    pub counters: Counters,
}

/// One VM. `description` is in `config`; nothing is masked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VmSnapshot {
    pub node: String,
    pub running: bool,
    pub lock: Option<String>,
    pub template: bool,
    pub config: BTreeMap<String, String>,
    /// None = waits to be deleted.
    pub pending: BTreeMap<String, Option<String>>,
    pub digest: String,
    /// The keys that the cloud-init drive was last written with.
    pub guest: BTreeMap<String, String>,
}

impl From<&Vm> for VmSnapshot {
    fn from(v: &Vm) -> Self {
        Self {
            node: v.node.clone(),
            running: v.running,
            lock: v.lock().map(str::to_owned),
            template: v.is_template(),
            config: v.config.clone(),
            pending: v.pending.clone(),
            digest: v.digest(),
            guest: v.guest.clone(),
        }
    }
}

impl Sim {
    /// A cluster of its own.
    #[must_use]
    pub fn new(cfg: SimConfig) -> Self {
        Self::with_parts(cfg, vec![], BTreeMap::new())
    }

    /// A cluster that checks requests against API schemas and shares storages with others.
    #[must_use]
    pub fn with_parts(cfg: SimConfig, schemas: Vec<Schema>, shared: BTreeMap<String, SharedStorage>) -> Self {
        // The wall clock is read once, as the origin; from then on only tokio's clock counts.
        let wall = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let epoch = cfg.epoch_unix.unwrap_or_else(wall);
        let cfg = Arc::new(cfg);
        let per_node = |n: usize| cfg.nodes.iter().map(|x| (x.name.clone(), Arc::new(Semaphore::new(n)))).collect();
        Self {
            inner: Arc::new(Inner {
                workers: per_node(cfg.workers.max(1)),
                vzdump: per_node(1),
                state: Mutex::new(State::new(cfg.clone(), epoch, &shared)),
                schemas,
                flocks: Mutex::default(),
                origin: Instant::now(),
                epoch,
                cfg,
            }),
        }
    }

    #[must_use]
    pub fn config(&self) -> &SimConfig {
        &self.inner.cfg
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.origin.elapsed().as_millis() as u64
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut st = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        st.now_unix = self.inner.epoch + self.now_ms() / 1000;
        f(&mut st)
    }

    pub(crate) async fn sleep(&self, ms: u64) {
        let d = self.inner.cfg.scaled(ms);
        if d > Duration::ZERO {
            tokio::time::sleep(d).await;
        }
    }

    fn flock(&self, vmid: u32) -> Arc<RwLock<()>> {
        self.inner.flocks.lock().unwrap_or_else(PoisonError::into_inner).entry(vmid).or_default().clone()
    }

    /// The exclusive lock on a VM's configuration file.
    pub(crate) async fn lock_config(&self, vmid: u32, ms: u64) -> Result<OwnedRwLockWriteGuard<()>, ApiError> {
        let wait = self.flock(vmid).write_owned();
        tokio::time::timeout(self.inner.cfg.scaled(ms), wait).await.map_err(|_| lock_timeout(vmid))
    }

    pub(crate) async fn lock_shared(&self, vmid: u32, ms: u64) -> Result<OwnedRwLockReadGuard<()>, ApiError> {
        let wait = self.flock(vmid).read_owned();
        tokio::time::timeout(self.inner.cfg.scaled(ms), wait).await.map_err(|_| lock_timeout(vmid))
    }

    /// The usual wait for that lock.
    pub(crate) async fn lock_vm(&self, vmid: u32) -> Result<OwnedRwLockWriteGuard<()>, ApiError> {
        self.lock_config(vmid, self.inner.cfg.timings.flock).await
    }

    /// Everything at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let t_ms = self.now_ms();
        self.with(|st| {
            let mut volumes: BTreeMap<String, BTreeMap<String, Volume>> = BTreeMap::new();
            for ((storage, node), content) in &st.contents {
                let list = volumes.entry(node.clone()).or_default();
                list.extend(content.volumes().into_iter().map(|(name, v)| (format!("{storage}:{name}"), v)));
            }
            Snapshot {
                t_ms,
                version: st.cfg.version.clone(),
                quorate: st.quorate,
                nodes: st.nodes.iter().map(|(n, x)| (n.clone(), x.online)).collect(),
                vms: st.vms.iter().map(|(id, v)| (*id, v.into())).collect(),
                volumes,
                firewalls: st.firewalls.clone(),
                tasks: st.tasks.clone(),
                counters: st.counters.clone(),
            }
        })
    }

    /// One VM at this moment.
    #[must_use]
    pub fn vm(&self, vmid: u32) -> Option<VmSnapshot> {
        self.with(|st| st.vms.get(&vmid).map(Into::into))
    }

    /// One VM's firewall file.
    #[must_use]
    pub fn firewall(&self, vmid: u32) -> Option<Firewall> {
        self.with(|st| st.firewalls.get(&vmid).cloned())
    }

    /// All volumes that carry a VM's number, archives included.
    #[must_use]
    pub fn volumes_of(&self, vmid: u32) -> Vec<String> {
        self.with(|st| {
            let mut out = Vec::new();
            for ((storage, _), content) in &st.contents {
                let list = content.get();
                out.extend(list.iter().filter(|(_, v)| v.vmid == Some(vmid)).map(|(n, _)| format!("{storage}:{n}")));
            }
            out
        })
    }

    /// All requests since the start, or the newest `journal_limit` of them.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.with(|st| st.journal.iter().cloned().collect())
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.with(|st| st.counters.clone())
    }

    /// Requests that a schema of Proxmox VE wouldn't have let through.
    #[must_use]
    pub fn schema_violations(&self) -> Vec<Violation> {
        self.with(|st| st.violations.clone())
    }

    /// Tasks, oldest first.
    #[must_use]
    pub fn tasks(&self) -> Vec<Task> {
        self.with(|st| st.tasks.clone())
    }

    /// The content of a storage, to be shared with another cluster or looked at.
    #[must_use]
    pub fn storage(&self, name: &str, node: &str) -> SharedStorage {
        self.with(|st| st.content(name, node))
    }
}

fn lock_timeout(vmid: u32) -> ApiError {
    ApiError::die(format!("can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"))
}

/// Counts one thing for as long as it lives.
pub(crate) struct Counted {
    sim: Sim,
    which: fn(&mut Counters) -> &mut BTreeMap<String, Gauge>,
    name: String,
}

impl Counted {
    pub fn new(sim: &Sim, which: fn(&mut Counters) -> &mut BTreeMap<String, Gauge>, name: &str) -> Self {
        sim.with(|st| which(&mut st.counters).entry(name.to_owned()).or_default().up());
        Self { sim: sim.clone(), which, name: name.to_owned() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let which = self.which;
        self.sim.with(|st| which(&mut st.counters).entry(self.name.clone()).or_default().down());
    }
}
