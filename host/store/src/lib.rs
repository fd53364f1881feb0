//! The books: what the host remembers, as traits and row types. No SQL here.
//!
//! Every method is one transaction: it happens whole or not at all, and when it returns `Ok` it survives `kill -9` and a
//! power cut. `now` is given by the caller, so that tests run in virtual time. Nothing here assumes an engine; one
//! conformance suite ([`conformance`]) holds the in-memory model, SQLite and later engines to the same behaviour.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod copy;
pub mod jobs;
pub mod memory;
pub mod queue;
pub mod rows;
pub mod rules;
pub mod tables;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use semver::Version;
use uuid::Uuid;
use wharf_model::{
    Millis,
    effect::Effect,
    event::{Delivery, Event, NewEvent},
    lease::{Lease, Range},
    object::{Object, ObjectKind},
    operation::{LogBody, LogEntry, Operation, OperationId, Reason},
    plugin::{AuditEntry, PluginVersion, Rollout},
    record::{Record, RecordKey},
    service::{Phase, Service, ServiceId},
};

pub use crate::jobs::{JobClaim, JobEnd, Jobs, Prune};
pub use crate::queue::{
    Accept, Accepted, Claim, Commit, Committed, Decide, Decision, EffectChange, NewOperation, Run, ServicePatch, Then,
};

/// What can go wrong in the books.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another worker has taken the run over: stop, and write nothing more for it.
    #[error("the claim on this operation was lost to another worker")]
    ClaimLost,
    /// Somebody changed it meanwhile (If-Match), or it must be new and is not.
    #[error("{0}")]
    Conflict(String),
    #[error("{0} does not exist")]
    NotFound(String),
    /// A reader of the feed asks to go on from before what retention has removed: it would miss events without knowing it.
    #[error("events up to {upto} are no longer kept")]
    EventsGone { upto: i64 },
    /// Disk full, file locked, connection lost. Worth trying again.
    #[error("the store can't be used right now: {0}")]
    Unavailable(String),
    /// A row can't be read: a bug or a damaged file.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// All the books together.
pub trait Store:
    Objects + Services + Queue + Addresses + Records + Events + Plugins + Hosts + Jobs + Signals + Meta
{
}
impl<T: Objects + Services + Queue + Addresses + Records + Events + Plugins + Hosts + Jobs + Signals + Meta> Store
    for T
{
}

/// As it is handed around.
pub type Books = Arc<dyn Store>;

/// What is to be known of the books themselves.
#[async_trait]
pub trait Meta: Send + Sync + 'static {
    async fn meta(&self, key: &str) -> Result<Option<String>>;
    /// `None` removes it.
    async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()>;
    /// For books that were restored from a backup: every live operation, and every one behind it, ends in `needs-admin` with
    /// this reason, as if its worker had said so; nobody's claim holds any more. Returns how many.
    async fn stop_all(&self, reason: Reason, now: Millis) -> Result<u64>;
    /// What was seen on a server is never given out by these books.
    async fn merge(&self, merge: Merge) -> Result<()>;
}

/// What a look through a server has shown that restored books may not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    pub server: String,
    /// Numbers that are taken for ever, and why.
    pub burnt: Vec<(u32, String)>,
    /// New numbers are greater than this. Never lowered.
    pub above: u32,
    /// Addresses that are nobody's in these books, and until when each rests; those that a service holds stay as they are.
    pub resting: Vec<Lease>,
}

/// A host process that works on these books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Who it is in claims: a fresh id for each start.
    pub id: Uuid,
    /// Of the machine.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Of the binary.
    pub version: String,
    pub started_ms: Millis,
    pub seen_ms: Millis,
}

/// A host, and what it has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    pub host: Host,
    /// Runs that it has claimed.
    pub runs: i64,
    /// Servers whose tasks it watches.
    pub watches: Vec<String>,
    /// Queues of DNS work that it has claimed.
    pub dns_queues: Vec<String>,
}

/// Who works on these books. Nothing rests on it: claims are what counts.
#[async_trait]
pub trait Hosts: Send + Sync + 'static {
    /// Says that a host is alive. Rows of hosts that were not seen for a day go.
    async fn host_seen(&self, host: &Host) -> Result<()>;
    /// It has stopped; what it watched is free at once.
    async fn host_gone(&self, id: Uuid) -> Result<()>;
    /// By name, then by start.
    async fn hosts(&self) -> Result<Vec<HostView>>;
    /// Takes on, or holds on to, the watch over a server's tasks: `false` if another host has it. Watching only wakes runs, so
    /// two watchers at once, after a host froze, do no harm.
    async fn hold_watch(&self, server: &str, owner: Uuid, ttl_ms: i64, now: Millis) -> Result<bool>;
}

/// What another host of the same books has committed, as a hint where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Runs became due.
    Queue,
    /// DNS records became due.
    Records,
    /// The feed has grown, deliveries are due.
    Events,
    /// Objects or their secrets have changed.
    Objects,
    /// Plugins were installed, rolled out or switched.
    Plugins,
    /// Some may have been missed: look at everything.
    All,
}

impl Signal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Records => "records",
            Self::Events => "events",
            Self::Objects => "objects",
            Self::Plugins => "plugins",
            Self::All => "all",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Queue, Self::Records, Self::Events, Self::Objects, Self::Plugins, Self::All]
            .into_iter()
            .find(|s| s.as_str() == word)
    }
}

/// What tells of other hosts.
pub trait Signals: Send + Sync + 'static {
    /// `None` where there is one host only. One's own changes may come, too. A reader that lags has to look at everything.
    fn signals(&self) -> Option<tokio::sync::broadcast::Receiver<Signal>> {
        None
    }
}

/// Servers, images, plans, pools, zones, panels, hooks, grants, tokens; and encrypted secrets.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    async fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>>;
    /// Sorted by name.
    async fn objects(&self, kind: ObjectKind) -> Result<Vec<Object>>;
    /// Creates or replaces. `expect`: `None` = whatever is there; `Some(0)` = must be new; `Some(n)` = must be revision n,
    /// else [`StoreError::Conflict`]. Revisions begin at 1. `audit` is written in the same transaction.
    async fn put_object(
        &self,
        kind: ObjectKind,
        name: &str,
        body: serde_json::Value,
        expect: Option<i64>,
        audit: Option<NewAudit>,
        now: Millis,
    ) -> Result<Object>;
    /// `true` if it was there. Its secrets go with it; a hook's pending deliveries too.
    async fn delete_object(&self, kind: ObjectKind, name: &str, audit: Option<NewAudit>, now: Millis) -> Result<bool>;

    /// Ciphertexts only; `owner` is `kind/name` of an object or `service/<id>`. Replaces.
    async fn put_secret(&self, owner: &str, slot: &str, sealed: &[u8], now: Millis) -> Result<()>;
    /// Stores only if nothing stands there; returns what stands afterwards.
    async fn put_secret_once(&self, owner: &str, slot: &str, sealed: &[u8], now: Millis) -> Result<Vec<u8>>;
    async fn secret(&self, owner: &str, slot: &str) -> Result<Option<Vec<u8>>>;
    /// Slots that have a value, sorted.
    async fn secret_slots(&self, owner: &str) -> Result<Vec<String>>;
    async fn delete_secret(&self, owner: &str, slot: &str) -> Result<()>;
    /// Every ciphertext, for re-keying and for scrubbing: (owner, slot, sealed).
    async fn all_secrets(&self) -> Result<Vec<(String, String, Vec<u8>)>>;

    /// A plugin's own small store.
    async fn kv_get(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>>;
    /// `false` (and nothing stored) if the plugin's keys and values together would exceed `max_total` bytes.
    async fn kv_set(&self, plugin: &str, key: &str, value: &[u8], max_total: usize) -> Result<bool>;
    async fn kv_delete(&self, plugin: &str, key: &str) -> Result<()>;
    /// Sorted, at most `limit`.
    async fn kv_keys(&self, plugin: &str, prefix: &str, limit: usize) -> Result<Vec<String>>;
}

/// An audit row to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAudit {
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub body: serde_json::Value,
}

/// Which services to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceFilter {
    pub panel: Option<String>,
    pub phase: Option<Phase>,
    /// Only after this id (they are listed by id).
    pub after: Option<ServiceId>,
    pub limit: usize,
}

/// Services, their operations and logs, to read. Writing goes through [`Queue`].
#[async_trait]
pub trait Services: Send + Sync + 'static {
    async fn service(&self, id: ServiceId) -> Result<Option<Service>>;
    async fn service_by_ref(&self, panel: &str, reference: &str) -> Result<Option<Service>>;
    async fn services(&self, filter: ServiceFilter) -> Result<Vec<Service>>;
    /// How many services are in each phase.
    async fn phase_counts(&self) -> Result<BTreeMap<String, i64>>;
    /// Services whose plugin keeps state of other versions than it reads now: (state version, count) of live operations.
    async fn live_state_versions(&self, plugin: &str) -> Result<Vec<(u32, i64)>>;
    async fn operation(&self, id: OperationId) -> Result<Option<Operation>>;
    /// Newest first, at most `limit` (history keeps 50 of a service).
    async fn operations(&self, service: ServiceId, limit: usize) -> Result<Vec<Operation>>;
    /// Log entries with `n > after`, in order, at most `limit`.
    async fn log(&self, operation: OperationId, after: i64, limit: usize) -> Result<Vec<LogEntry>>;
    /// All effects of an operation, in order.
    async fn effects(&self, operation: OperationId) -> Result<Vec<Effect>>;
}

/// The queue of live operations.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Takes a wish on. In one transaction: if the idempotency key is known, answers as then (same fingerprint) or
    /// refuses (other fingerprint); else loads the service and its open operations, calls `decide`, and does as decided.
    async fn accept(&self, accept: Accept) -> Result<Accepted>;

    /// Claims up to `n` due runs for `owner`: due = `due_ms <= now` and not parked for a slot. Each gets `epoch + 1` and
    /// `due_ms = now + ttl_ms`, its operation becomes `running`. A run whose owner did not renew in time is due again by
    /// itself. Oldest due first.
    ///
    /// A clock that was set back stops nobody: a run that is due later than any can be ([`rules::FARTHEST_MS`]) is due now;
    /// if it is claimed, once its owner has had `ttl_ms` to renew.
    async fn claim(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Run>>;
    /// Everything again, as it stands, for a claim that is still held.
    async fn reload(&self, claim: &Claim) -> Result<Run>;
    /// Holds on for another `ttl_ms`.
    async fn renew(&self, claim: &Claim, ttl_ms: i64, now: Millis) -> Result<()>;
    /// The fence first ([`StoreError::ClaimLost`] and nothing written), then everything in [`Commit`], in one transaction.
    async fn commit(&self, commit: Commit) -> Result<Committed>;

    /// When the next run is due that is not parked, claimed or not.
    async fn next_due(&self) -> Result<Option<Millis>>;
    /// Makes unclaimed runs that wait for this topic due now; returns how many.
    async fn wake_topic(&self, topic: &str, now: Millis) -> Result<u64>;
    /// Makes this run due now, if it is neither claimed nor parked for a slot.
    async fn wake(&self, operation: OperationId, now: Millis) -> Result<bool>;
    /// Effects of live operations that run as tasks on this server: (operation, task id).
    async fn issued_tasks(&self, server: &str) -> Result<Vec<(OperationId, String)>>;
    /// Servers that have issued effects.
    async fn servers_with_tasks(&self) -> Result<Vec<String>>;
    /// Holders of slots, by pool name.
    async fn slots(&self) -> Result<BTreeMap<String, Vec<OperationId>>>;
    /// An admin's retry of an operation in `needs-admin`: makes it live again from its state (`None`) or from the one
    /// given. Conflict if another operation of the service is live. The service's phase stays as it is; epochs go on
    /// counting, so that a claim from before stays void.
    async fn resume(&self, operation: OperationId, state: Option<String>, audit: NewAudit, now: Millis) -> Result<()>;
    /// Lines of work that goes on beside the run (DNS): appended to the log of an operation, live or over. Not fenced, since
    /// no worker's claim is needed to say what happened. An operation that history has dropped is no error.
    async fn append_log(&self, operation: OperationId, lines: Vec<LogBody>, now: Millis) -> Result<()>;
    /// Counts for dashboards.
    async fn queue_counts(&self) -> Result<QueueCounts>;
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    pub live: i64,
    pub parked: i64,
    pub claimed: i64,
    /// Operations in `needs-admin`.
    pub needs_admin: i64,
    /// Writes to servers that are on their way or in doubt.
    pub sent: i64,
    /// Events that a hook has still to be told of.
    pub deliveries: i64,
    /// DNS records that are not yet as they should be, and how many of them failed at least once.
    pub records: i64,
    pub records_failed: i64,
}

/// What is asked of the pools at once: all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseWish {
    pub service: ServiceId,
    /// For each family that is asked for: how many the service shall hold in all, and where they may come from, best
    /// first. All leases of one set come from ranges with the same network but addresses.
    pub sets: Vec<LeaseSet>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct LeaseSet {
    /// 4 or 6.
    pub family: u8,
    pub count: u32,
    pub ranges: Vec<Range>,
}

/// Leases, VM numbers and room.
///
/// What a step asks for is given under its `claim`: a host that froze within a step and wakes when another has finished the
/// operation gets [`StoreError::ClaimLost`], and nothing is held by a service that nobody carries on. `None`: by an admin's
/// hand, or in tests.
#[async_trait]
pub trait Addresses: Send + Sync + 'static {
    /// Gives the service what it lacks, lowest free addresses first; `Err(Conflict)` and nothing leased if some set can't
    /// be filled. An address in quarantine is free from `free_after_ms` on, by the caller's clock and by the rest clock
    /// ([`count_rest`](Self::count_rest)) if there is one: a clock that is ahead ends no rest. Indices go on from those held. Returns all
    /// leases of the service, IPv4 first, by index.
    async fn lease(&self, claim: Option<&Claim>, wish: LeaseWish, now: Millis) -> Result<Vec<Lease>>;
    async fn leases_of(&self, service: ServiceId) -> Result<Vec<Lease>>;
    /// All of a pool, those in quarantine too, by address.
    async fn leases_in(&self, pool: &str) -> Result<Vec<Lease>>;
    /// All of the service's leases to quarantine, each resting for `quarantine_ms(pool)` from now or from what the rest clock
    /// shows, whichever is later. Only if absence was proven
    /// (`Service::absence_proven_ms`) or no VM number was ever reserved; else `Err(Conflict)`. A pool that is not named
    /// rests for a day. Returns the leases as they rest now.
    async fn release_leases(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        quarantine_ms: BTreeMap<String, i64>,
        now: Millis,
    ) -> Result<Vec<Lease>>;
    /// What the rest clock shows; none until it was counted for the first time.
    async fn rest_clock(&self) -> Result<Option<RestClock>>;
    /// Moves the rest clock to `now`, and lets every resting address rest for as long as is really left of it: of the time
    /// that `now` is ahead of the rest clock only `measured_ms` have passed by a clock that can't jump (counted by the
    /// caller's process since it saw the rest clock at look number `seen`), the remainder is added to `free_after_ms` (or
    /// taken from it, for a clock that was set back). Addresses whose rest is over leave the books, which frees them.
    /// `Conflict` and nothing written if the clock is not at look number `seen` any more; 0 = there is none yet.
    async fn count_rest(&self, seen: i64, measured_ms: i64, now: Millis) -> Result<Rested>;

    /// The live number of this service on this server, or the lowest at or above `first` that is neither in the books nor
    /// in `taken`. Sets `Service::vmid`.
    async fn reserve_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        first: u32,
        taken: &[u32],
        now: Millis,
    ) -> Result<u32>;
    /// Found taken by somebody else: never used again, and no longer the service's.
    async fn burn_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        vmid: u32,
        now: Millis,
    ) -> Result<()>;
    /// All numbers in the books for a server: (number, service, live).
    async fn vmids(&self, server: &str) -> Result<Vec<(u32, ServiceId, bool)>>;

    /// Sets room aside; replaces what this service had. `limit`s are what is free now by the server's own count: refused
    /// (`false`) if all promises of others plus this would exceed them. Memory counts by server and node, disk by server
    /// and storage: name a storage that each node has its own of together with the node.
    async fn reserve_room(
        &self,
        claim: Option<&Claim>,
        room: Room,
        memory_limit_mib: u32,
        disk_limit_mib: u32,
    ) -> Result<bool>;
    async fn release_room(&self, claim: Option<&Claim>, service: ServiceId) -> Result<()>;
    async fn rooms(&self, server: &str) -> Result<Vec<Room>>;
}

/// The clock by which addresses rest. It moves only by time that a process has measured, so that no wrong wall clock of
/// any host ends a quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestClock {
    /// The wall clock of whoever looked last.
    pub at_ms: Millis,
    /// Rises by one with every look, from 1.
    pub looks: i64,
}

/// What a look at the rest clock led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rested {
    pub clock: RestClock,
    /// By how much the end of every rest was moved.
    pub moved_ms: i64,
    /// Addresses that are free again.
    pub freed: u64,
    /// Addresses that go on resting.
    pub resting: u64,
}

/// Memory and disk promised to a deploy in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    pub service: ServiceId,
    pub server: String,
    pub node: String,
    pub memory_mib: u32,
    pub storage: String,
    pub disk_mib: u32,
}

/// A claim on one provider server's queue of DNS work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsClaim {
    pub queue: String,
    pub owner: Uuid,
    pub epoch: i64,
}

/// What somebody says of a service's names outside of its operations.
#[derive(Debug, Clone, PartialEq)]
pub struct Saying {
    /// As they were read: `wanted` was made of them.
    pub service: Service,
    /// As they were read, without the change in `ptr`.
    pub leases: Vec<Lease>,
    /// An address whose PTR gets a name of its own, or none to follow the service's.
    pub ptr: Option<(IpAddr, Option<String>)>,
    pub wanted: Vec<(RecordKey, Option<u32>)>,
    /// Provider queues by zone object.
    pub queues: BTreeMap<String, String>,
    pub audit: NewAudit,
}

/// What became of a record in one pass.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordOutcome {
    /// It is as wanted: written, or gone.
    Done,
    /// Tried and failed; again at `due_ms`.
    Failed { reason: String, due_ms: Millis },
    /// Not reached in this pass; again at `due_ms`, not counted.
    Postponed { due_ms: Millis },
}

/// DNS: wishes and ledger.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Replaces the service's wishes: rows not in `wanted` become unwanted (and go, if they were never written), new ones
    /// are due now; rows that stay and are written stay untouched. `queues` maps zone object to provider queue.
    ///
    /// The very same record may come to be another service's, with its address: then it is that service's alone, in the
    /// ledger too, and its former owner's removal must not take it away.
    async fn want_records(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        wanted: Vec<(RecordKey, Option<u32>)>,
        queues: BTreeMap<String, String>,
        now: Millis,
    ) -> Result<()>;
    /// As `want_records`, for wishes that no operation says: with the name that an address is given, and the audit row, all or nothing.
    /// `false`, and nothing written, if service and leases are not as they were read: read them again.
    ///
    /// # Errors
    /// `Conflict` if the service is not active or has an open operation. That one says its names itself, and what a terminate
    /// withdraws must not come back: nobody would ever remove it. `NotFound` if there is no such service, or the address is not its.
    async fn say_records(&self, saying: Saying, now: Millis) -> Result<bool>;
    async fn records_of(&self, service: ServiceId) -> Result<Vec<Record>>;
    async fn records_in(&self, zone: &str) -> Result<Vec<Record>>;
    /// Makes unsettled records due now: of a service, or all.
    async fn hurry_records(&self, service: Option<ServiceId>, now: Millis) -> Result<u64>;
    /// Makes wanted records that were settled due again: somebody saw that the provider does not have them. What is not wanted,
    /// not settled or gone is passed over. How many were.
    async fn recheck_records(&self, keys: &[RecordKey], now: Millis) -> Result<u64>;
    /// Claims up to `n` provider queues that have due records and no living owner. One owner a queue, ever.
    async fn claim_dns(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<DnsClaim>>;
    async fn renew_dns(&self, claim: &DnsClaim, ttl_ms: i64, now: Millis) -> Result<()>;
    /// Unsettled due records of the queue, grouped by zone, at most `limit`.
    async fn due_records(&self, claim: &DnsClaim, limit: usize, now: Millis) -> Result<Vec<Record>>;
    /// Before a write is sent: adds are marked `written` (it may be there from now on), so that a crash leaves nothing in
    /// a provider that the ledger does not know. `done` later clears or confirms. Fenced. `Conflict` and nothing marked if
    /// the wish for one of them has turned round since `due_records` handed it out: read the due records again.
    ///
    /// [`Record::written`] of a wanted record is shown only once that is confirmed; of one that is no longer wanted, as
    /// long as it may be there.
    async fn mark_sent(&self, claim: &DnsClaim, keys: &[RecordKey], now: Millis) -> Result<()>;
    /// Fenced. A `Done` for an unwanted record removes the row. `Done` is what was wanted when the record was handed out: if
    /// the wish has turned round meanwhile, the record stays due. Keys that are gone are passed over.
    async fn settle_records(
        &self,
        claim: &DnsClaim,
        outcomes: Vec<(RecordKey, RecordOutcome)>,
        now: Millis,
    ) -> Result<()>;
    /// Gives the queue back. Fenced.
    async fn release_dns(&self, claim: &DnsClaim, now: Millis) -> Result<()>;
    async fn next_dns_due(&self) -> Result<Option<Millis>>;
}

/// Events, deliveries to hooks, audit.
#[async_trait]
pub trait Events: Send + Sync + 'static {
    /// Appends, and queues a delivery for each hook that wants it, as does every `Commit` and `Accept` that carries events.
    async fn append_events(&self, events: Vec<NewEvent>, now: Millis) -> Result<()>;
    /// `seq > after`, in order, at most `limit`; `panel` = only what that panel may read. 0 = from the oldest that is kept; any
    /// other position from before something that was pruned is [`StoreError::EventsGone`].
    async fn events_after(&self, after: i64, panel: Option<&str>, limit: usize) -> Result<Vec<Event>>;
    /// Claims due deliveries. For one hook and service only the oldest undelivered event is handed out.
    async fn claim_deliveries(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Delivery>>;
    /// Fenced by owner and epoch. `None` = done with it (delivered or dropped); `Some(due)` = again then.
    async fn settle_delivery(&self, owner: Uuid, delivery: &Delivery, again: Option<Millis>, now: Millis)
    -> Result<()>;
    async fn next_delivery_due(&self) -> Result<Option<Millis>>;
    async fn audit(&self, entry: NewAudit, now: Millis) -> Result<()>;
    /// Newest first.
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>>;
}

/// Installed plugins.
#[async_trait]
pub trait Plugins: Send + Sync + 'static {
    /// Stores bytes and row. The same version with the same digest is no error; with another digest `Conflict`.
    async fn add_plugin(&self, version: PluginVersion, component: Vec<u8>, audit: NewAudit) -> Result<()>;
    async fn plugin_versions(&self) -> Result<Vec<PluginVersion>>;
    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>>;
    /// Makes `version` the current one. `previous` becomes what was current.
    async fn roll_out(&self, id: &str, version: &Version, audit: NewAudit, now: Millis) -> Result<Rollout>;
    async fn set_plugin_enabled(&self, id: &str, enabled: bool, audit: NewAudit, now: Millis) -> Result<Rollout>;
    async fn rollouts(&self) -> Result<Vec<Rollout>>;
}
