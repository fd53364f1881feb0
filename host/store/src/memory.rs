//! The in-memory model of the books: plain maps behind one mutex, for tests and simulation in virtual time.
//!
//! It behaves exactly as the durable engines do (the conformance suite holds them together), but forgets everything with
//! the process. The mutex is never held across an await, so it works under paused time. Tests can make any writing method
//! fail, before or after it did its work: see [`MemoryStore::fault_hook`].

mod addresses;
mod events;
mod hosts;
mod jobs;
mod objects;
mod plugins;
mod queue;
mod records;
mod services;
mod tables;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use semver::Version;
use uuid::Uuid;
use wharf_model::{
    Millis,
    effect::Effect,
    event::Event,
    job::Job,
    lease::Lease,
    object::{Object, ObjectKind},
    operation::{LogEntry, Operation, OperationId},
    plugin::{AuditEntry, PluginVersion, Rollout},
    record::RecordKey,
    service::{Service, ServiceId},
};

use crate::{RestClock, Result, Room, StoreError};

/// How a writing call shall fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Nothing is done; the caller gets `Unavailable`.
    FailBefore,
    /// It is done and stays done, but the caller gets `Unavailable`: the answer was lost.
    FailAfter,
}

/// Asked before each writing call: its method's name, and how many writing calls of any method there were, this one
/// included.
pub type FaultHook = Box<dyn Fn(&'static str, u64) -> Fault + Send + Sync>;

/// A guarantee that is taken out of the model on purpose: a suite that stays green with one of these tests nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutant {
    #[default]
    None,
    /// A claim that was lost may write as if it still held.
    NoFence,
    /// A service may have several live operations.
    NoServiceLock,
}

/// The books in memory.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    hook: Mutex<Option<Arc<FaultHook>>>,
    writes: AtomicU64,
}

/// There is no other process.
impl crate::Signals for MemoryStore {}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// Empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty books that lack a guarantee.
    pub fn mutant(mutant: Mutant) -> Self {
        let store = Self::default();
        store.read().mutant = mutant;
        store
    }

    /// From now on `hook` is asked before each writing call (`accept`, `claim`, `commit`, `renew`, …). Replaces the one
    /// before. The count that it is given begins at 1 with the first writing call of this store, hook or no hook.
    pub fn fault_hook(&self, hook: FaultHook) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// No more faults.
    pub fn clear_fault_hook(&self) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How many writing calls there were.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn read(&self) -> MutexGuard<'_, State> {
        // A panic in a caller's decision leaves the maps as they were: it is asked before anything is written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, method: &'static str, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let nth = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fault = hook.map_or(Fault::None, |hook| hook(method, nth));
        if fault == Fault::FailBefore {
            return Err(StoreError::Unavailable(format!("{method} was made to fail before it began")));
        }
        let result = work(&mut self.read())?;
        if fault == Fault::FailAfter {
            return Err(StoreError::Unavailable(format!("the answer of {method} was made to get lost")));
        }
        Ok(result)
    }
}

/// All maps. Methods of it are in the module of the trait that they serve.
#[derive(Default)]
struct State {
    mutant: Mutant,
    objects: BTreeMap<(ObjectKind, String), Object>,
    secrets: BTreeMap<(String, String), Vec<u8>>,
    kv: BTreeMap<(String, String), Vec<u8>>,

    services: BTreeMap<ServiceId, Service>,
    refs: HashMap<(String, String), ServiceId>,
    operations: HashMap<OperationId, Operation>,
    /// By generation.
    by_service: HashMap<ServiceId, BTreeMap<u32, OperationId>>,
    logs: HashMap<OperationId, Log>,
    effects: HashMap<OperationId, Vec<Effect>>,
    idempotency: HashMap<(String, String), Known>,

    queue: BTreeMap<OperationId, Live>,
    /// Where the epochs of an operation that left the queue go on, should it come back.
    epochs: HashMap<OperationId, i64>,
    tickets: u64,
    slots: BTreeMap<String, BTreeMap<u32, OperationId>>,

    /// By domain, family and number.
    leases: BTreeMap<(String, u8, u128), Lease>,
    rest: Option<RestClock>,
    vmids: BTreeMap<(String, u32), (ServiceId, bool)>,
    rooms: BTreeMap<ServiceId, Room>,

    records: BTreeMap<RecordKey, Wish>,
    dns: BTreeMap<String, Hold>,

    events: Vec<Event>,
    /// The last number of the feed, and of the audit log: pruning takes rows, never numbers.
    event_seq: i64,
    audit_seq: i64,
    /// By event and hook.
    deliveries: BTreeMap<(i64, String), Pending>,
    audit: Vec<AuditEntry>,

    hosts: BTreeMap<Uuid, crate::Host>,
    /// By server: who, and until when.
    watches: BTreeMap<String, (Uuid, Millis)>,

    versions: BTreeMap<(String, Version), PluginVersion>,
    components: BTreeMap<String, Vec<u8>>,
    rollouts: BTreeMap<String, Rollout>,

    jobs: BTreeMap<String, Job>,

    meta: BTreeMap<String, String>,
    /// Numbers on servers that are taken by what these books do not know.
    foreign: BTreeMap<(String, u32), String>,
}

#[derive(Default)]
struct Log {
    last: i64,
    entries: Vec<LogEntry>,
}

/// What an idempotency key stands for.
struct Known {
    fingerprint: String,
    service: Option<ServiceId>,
    operation: Option<OperationId>,
    at_ms: Millis,
}

/// A live operation.
#[derive(Debug, Clone)]
struct Live {
    service: ServiceId,
    /// When it wakes, or, claimed, when the claim runs out.
    due_ms: Millis,
    owner: Option<Uuid>,
    epoch: i64,
    taken_over: bool,
    preempted: bool,
    /// Preempted since the worker looked last: its next wait ends at once.
    nudged: bool,
    /// Parked: the pool whose slot it waits for.
    wait_slot: Option<String>,
    /// Its place among those that wait for a slot; kept until it has one.
    ticket: Option<u64>,
    topic: Option<String>,
}

/// A record's row.
#[derive(Debug, Clone)]
struct Wish {
    queue: String,
    ttl: Option<u32>,
    wanted: bool,
    /// It may be at the provider.
    sent: bool,
    /// There is work to do for it.
    open: bool,
    /// The wish as it was when it was handed to a worker last.
    sought: bool,
    attempt: u32,
    due_ms: Millis,
    reason: Option<String>,
    updated_ms: Millis,
}

/// A claim on a provider queue.
#[derive(Debug, Clone, Default)]
struct Hold {
    owner: Option<Uuid>,
    epoch: i64,
    until_ms: Millis,
}

/// A delivery under way.
#[derive(Debug, Clone, Default)]
struct Pending {
    service: Option<ServiceId>,
    attempt: u32,
    due_ms: Millis,
    owner: Option<Uuid>,
    epoch: i64,
}
