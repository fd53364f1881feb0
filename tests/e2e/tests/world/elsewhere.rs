//! Books that are really elsewhere (a file, a server) in virtual time: while a call is under way the clock stands still, as it
//! does for the books in memory. Else time would jump ahead to the next timer whenever the only thing to wait for is a disk.
//!
//! Every method does the same: hold the clock, maybe fail before, call, maybe lose the answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use semver::Version;
use uuid::Uuid;
use wharf_model::{
    Millis,
    effect::Effect,
    event::{Delivery, Event, NewEvent},
    job::Job,
    lease::Lease,
    object::{Object, ObjectKind},
    operation::{LogBody, LogEntry, Operation, OperationId, Reason},
    plugin::{AuditEntry, PluginVersion, Rollout},
    record::{Record, RecordKey},
    service::{Service, ServiceId},
};
use wharf_store::{
    Accept, Accepted, Addresses, Books, Claim, Commit, Committed, DnsClaim, Events, Host, HostView, Hosts, JobClaim,
    JobEnd, Jobs, LeaseWish, Merge, Meta, NewAudit, Objects, Plugins, Prune, Queue, QueueCounts, RecordOutcome,
    Records, RestClock, Rested, Result, Room, Run, Saying, ServiceFilter, Services, Signal, Signals, StoreError,
    memory::Fault,
};

type Hook = Box<dyn Fn(&'static str) -> Fault + Send + Sync>;

/// See the module.
pub struct Elsewhere {
    books: Books,
    hook: Mutex<Option<Hook>>,
}

/// The clock of a paused runtime does not move while a blocking task is alive.
pub struct StandsStill(#[allow(dead_code, reason = "its end is what counts")] std::sync::mpsc::Sender<()>);

/// Until what this returns is dropped.
pub fn stand_still() -> StandsStill {
    let (alive, ended) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || ended.recv());
    StandsStill(alive)
}

impl Elsewhere {
    pub fn new(books: Books) -> Arc<Self> {
        Arc::new(Self { books, hook: Mutex::default() })
    }

    /// Asked before each call by its name.
    pub fn fault_hook(&self, hook: Hook) {
        *self.hook.lock().unwrap() = Some(hook);
    }

    async fn call<T>(&self, method: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.hook.lock().unwrap().as_ref().map_or(Fault::None, |hook| hook(method));
        if fault == Fault::FailBefore {
            return Err(StoreError::Unavailable(format!("{method} was made to fail before it began")));
        }
        let still = stand_still();
        let answer = call.await?;
        drop(still);
        if fault == Fault::FailAfter {
            return Err(StoreError::Unavailable(format!("the answer of {method} was made to get lost")));
        }
        Ok(answer)
    }
}

impl Signals for Elsewhere {
    fn signals(&self) -> Option<tokio::sync::broadcast::Receiver<Signal>> {
        self.books.signals()
    }
}

#[async_trait]
impl Meta for Elsewhere {
    async fn meta(&self, key: &str) -> Result<Option<String>> {
        self.call("meta", self.books.meta(key)).await
    }
    async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()> {
        self.call("set_meta", self.books.set_meta(key, value)).await
    }
    async fn stop_all(&self, reason: Reason, now: Millis) -> Result<u64> {
        self.call("stop_all", self.books.stop_all(reason, now)).await
    }
    async fn merge(&self, merge: Merge) -> Result<()> {
        self.call("merge", self.books.merge(merge)).await
    }
}

#[async_trait]
impl Hosts for Elsewhere {
    async fn host_seen(&self, host: &Host) -> Result<()> {
        self.call("host_seen", self.books.host_seen(host)).await
    }
    async fn host_gone(&self, id: Uuid) -> Result<()> {
        self.call("host_gone", self.books.host_gone(id)).await
    }
    async fn hosts(&self) -> Result<Vec<HostView>> {
        self.call("hosts", self.books.hosts()).await
    }
    async fn hold_watch(&self, server: &str, owner: Uuid, ttl_ms: i64, now: Millis) -> Result<bool> {
        self.call("hold_watch", self.books.hold_watch(server, owner, ttl_ms, now)).await
    }
}

#[async_trait]
impl Objects for Elsewhere {
    async fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>> {
        self.call("object", self.books.object(kind, name)).await
    }
    async fn objects(&self, kind: ObjectKind) -> Result<Vec<Object>> {
        self.call("objects", self.books.objects(kind)).await
    }
    async fn put_object(
        &self,
        kind: ObjectKind,
        name: &str,
        body: serde_json::Value,
        expect: Option<i64>,
        audit: Option<NewAudit>,
        now: Millis,
    ) -> Result<Object> {
        self.call("put_object", self.books.put_object(kind, name, body, expect, audit, now)).await
    }
    async fn delete_object(&self, kind: ObjectKind, name: &str, audit: Option<NewAudit>, now: Millis) -> Result<bool> {
        self.call("delete_object", self.books.delete_object(kind, name, audit, now)).await
    }
    async fn put_secret(&self, owner: &str, slot: &str, sealed: &[u8], now: Millis) -> Result<()> {
        self.call("put_secret", self.books.put_secret(owner, slot, sealed, now)).await
    }
    async fn put_secret_once(&self, owner: &str, slot: &str, sealed: &[u8], now: Millis) -> Result<Vec<u8>> {
        self.call("put_secret_once", self.books.put_secret_once(owner, slot, sealed, now)).await
    }
    async fn secret(&self, owner: &str, slot: &str) -> Result<Option<Vec<u8>>> {
        self.call("secret", self.books.secret(owner, slot)).await
    }
    async fn secret_slots(&self, owner: &str) -> Result<Vec<String>> {
        self.call("secret_slots", self.books.secret_slots(owner)).await
    }
    async fn delete_secret(&self, owner: &str, slot: &str) -> Result<()> {
        self.call("delete_secret", self.books.delete_secret(owner, slot)).await
    }
    async fn all_secrets(&self) -> Result<Vec<(String, String, Vec<u8>)>> {
        self.call("all_secrets", self.books.all_secrets()).await
    }
    async fn kv_get(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.call("kv_get", self.books.kv_get(plugin, key)).await
    }
    async fn kv_set(&self, plugin: &str, key: &str, value: &[u8], max_total: usize) -> Result<bool> {
        self.call("kv_set", self.books.kv_set(plugin, key, value, max_total)).await
    }
    async fn kv_delete(&self, plugin: &str, key: &str) -> Result<()> {
        self.call("kv_delete", self.books.kv_delete(plugin, key)).await
    }
    async fn kv_keys(&self, plugin: &str, prefix: &str, limit: usize) -> Result<Vec<String>> {
        self.call("kv_keys", self.books.kv_keys(plugin, prefix, limit)).await
    }
}

#[async_trait]
impl Services for Elsewhere {
    async fn service(&self, id: ServiceId) -> Result<Option<Service>> {
        self.call("service", self.books.service(id)).await
    }
    async fn service_by_ref(&self, panel: &str, reference: &str) -> Result<Option<Service>> {
        self.call("service_by_ref", self.books.service_by_ref(panel, reference)).await
    }
    async fn services(&self, filter: ServiceFilter) -> Result<Vec<Service>> {
        self.call("services", self.books.services(filter)).await
    }
    async fn phase_counts(&self) -> Result<BTreeMap<String, i64>> {
        self.call("phase_counts", self.books.phase_counts()).await
    }
    async fn live_state_versions(&self, plugin: &str) -> Result<Vec<(u32, i64)>> {
        self.call("live_state_versions", self.books.live_state_versions(plugin)).await
    }
    async fn operation(&self, id: OperationId) -> Result<Option<Operation>> {
        self.call("operation", self.books.operation(id)).await
    }
    async fn operations(&self, service: ServiceId, limit: usize) -> Result<Vec<Operation>> {
        self.call("operations", self.books.operations(service, limit)).await
    }
    async fn log(&self, operation: OperationId, after: i64, limit: usize) -> Result<Vec<LogEntry>> {
        self.call("log", self.books.log(operation, after, limit)).await
    }
    async fn effects(&self, operation: OperationId) -> Result<Vec<Effect>> {
        self.call("effects", self.books.effects(operation)).await
    }
}

#[async_trait]
impl Queue for Elsewhere {
    async fn accept(&self, accept: Accept) -> Result<Accepted> {
        self.call("accept", self.books.accept(accept)).await
    }
    async fn claim(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Run>> {
        self.call("claim", self.books.claim(owner, ttl_ms, n, now)).await
    }
    async fn reload(&self, claim: &Claim) -> Result<Run> {
        self.call("reload", self.books.reload(claim)).await
    }
    async fn renew(&self, claim: &Claim, ttl_ms: i64, now: Millis) -> Result<()> {
        self.call("renew", self.books.renew(claim, ttl_ms, now)).await
    }
    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.call("commit", self.books.commit(commit)).await
    }
    async fn next_due(&self) -> Result<Option<Millis>> {
        self.call("next_due", self.books.next_due()).await
    }
    async fn wake_topic(&self, topic: &str, now: Millis) -> Result<u64> {
        self.call("wake_topic", self.books.wake_topic(topic, now)).await
    }
    async fn wake(&self, operation: OperationId, now: Millis) -> Result<bool> {
        self.call("wake", self.books.wake(operation, now)).await
    }
    async fn issued_tasks(&self, server: &str) -> Result<Vec<(OperationId, String)>> {
        self.call("issued_tasks", self.books.issued_tasks(server)).await
    }
    async fn servers_with_tasks(&self) -> Result<Vec<String>> {
        self.call("servers_with_tasks", self.books.servers_with_tasks()).await
    }
    async fn slots(&self) -> Result<BTreeMap<String, Vec<OperationId>>> {
        self.call("slots", self.books.slots()).await
    }
    async fn resume(&self, operation: OperationId, state: Option<String>, audit: NewAudit, now: Millis) -> Result<()> {
        self.call("resume", self.books.resume(operation, state, audit, now)).await
    }
    async fn append_log(&self, operation: OperationId, lines: Vec<LogBody>, now: Millis) -> Result<()> {
        self.call("append_log", self.books.append_log(operation, lines, now)).await
    }
    async fn queue_counts(&self) -> Result<QueueCounts> {
        self.call("queue_counts", self.books.queue_counts()).await
    }
}

#[async_trait]
impl Addresses for Elsewhere {
    async fn lease(&self, claim: Option<&Claim>, wish: LeaseWish, now: Millis) -> Result<Vec<Lease>> {
        self.call("lease", self.books.lease(claim, wish, now)).await
    }
    async fn leases_of(&self, service: ServiceId) -> Result<Vec<Lease>> {
        self.call("leases_of", self.books.leases_of(service)).await
    }
    async fn leases_in(&self, pool: &str) -> Result<Vec<Lease>> {
        self.call("leases_in", self.books.leases_in(pool)).await
    }
    async fn release_leases(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        quarantine_ms: BTreeMap<String, i64>,
        now: Millis,
    ) -> Result<Vec<Lease>> {
        self.call("release_leases", self.books.release_leases(claim, service, quarantine_ms, now)).await
    }
    async fn rest_clock(&self) -> Result<Option<RestClock>> {
        self.call("rest_clock", self.books.rest_clock()).await
    }
    async fn count_rest(&self, seen: i64, measured_ms: i64, now: Millis) -> Result<Rested> {
        self.call("count_rest", self.books.count_rest(seen, measured_ms, now)).await
    }
    async fn reserve_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        first: u32,
        taken: &[u32],
        now: Millis,
    ) -> Result<u32> {
        self.call("reserve_vmid", self.books.reserve_vmid(claim, server, service, first, taken, now)).await
    }
    async fn burn_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        vmid: u32,
        now: Millis,
    ) -> Result<()> {
        self.call("burn_vmid", self.books.burn_vmid(claim, server, service, vmid, now)).await
    }
    async fn vmids(&self, server: &str) -> Result<Vec<(u32, ServiceId, bool)>> {
        self.call("vmids", self.books.vmids(server)).await
    }
    async fn reserve_room(
        &self,
        claim: Option<&Claim>,
        room: Room,
        memory_limit_mib: u32,
        disk_limit_mib: u32,
    ) -> Result<bool> {
        self.call("reserve_room", self.books.reserve_room(claim, room, memory_limit_mib, disk_limit_mib)).await
    }
    async fn release_room(&self, claim: Option<&Claim>, service: ServiceId) -> Result<()> {
        self.call("release_room", self.books.release_room(claim, service)).await
    }
    async fn rooms(&self, server: &str) -> Result<Vec<Room>> {
        self.call("rooms", self.books.rooms(server)).await
    }
}

#[async_trait]
impl Records for Elsewhere {
    async fn want_records(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        wanted: Vec<(RecordKey, Option<u32>)>,
        queues: BTreeMap<String, String>,
        now: Millis,
    ) -> Result<()> {
        self.call("want_records", self.books.want_records(claim, service, wanted, queues, now)).await
    }
    async fn say_records(&self, saying: Saying, now: Millis) -> Result<bool> {
        self.call("say_records", self.books.say_records(saying, now)).await
    }
    async fn records_of(&self, service: ServiceId) -> Result<Vec<Record>> {
        self.call("records_of", self.books.records_of(service)).await
    }
    async fn records_in(&self, zone: &str) -> Result<Vec<Record>> {
        self.call("records_in", self.books.records_in(zone)).await
    }
    async fn hurry_records(&self, service: Option<ServiceId>, now: Millis) -> Result<u64> {
        self.call("hurry_records", self.books.hurry_records(service, now)).await
    }
    async fn recheck_records(&self, keys: &[RecordKey], now: Millis) -> Result<u64> {
        self.call("recheck_records", self.books.recheck_records(keys, now)).await
    }
    async fn claim_dns(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<DnsClaim>> {
        self.call("claim_dns", self.books.claim_dns(owner, ttl_ms, n, now)).await
    }
    async fn renew_dns(&self, claim: &DnsClaim, ttl_ms: i64, now: Millis) -> Result<()> {
        self.call("renew_dns", self.books.renew_dns(claim, ttl_ms, now)).await
    }
    async fn due_records(&self, claim: &DnsClaim, limit: usize, now: Millis) -> Result<Vec<Record>> {
        self.call("due_records", self.books.due_records(claim, limit, now)).await
    }
    async fn mark_sent(&self, claim: &DnsClaim, keys: &[RecordKey], now: Millis) -> Result<()> {
        self.call("mark_sent", self.books.mark_sent(claim, keys, now)).await
    }
    async fn settle_records(
        &self,
        claim: &DnsClaim,
        outcomes: Vec<(RecordKey, RecordOutcome)>,
        now: Millis,
    ) -> Result<()> {
        self.call("settle_records", self.books.settle_records(claim, outcomes, now)).await
    }
    async fn release_dns(&self, claim: &DnsClaim, now: Millis) -> Result<()> {
        self.call("release_dns", self.books.release_dns(claim, now)).await
    }
    async fn next_dns_due(&self) -> Result<Option<Millis>> {
        self.call("next_dns_due", self.books.next_dns_due()).await
    }
}

#[async_trait]
impl Events for Elsewhere {
    async fn append_events(&self, events: Vec<NewEvent>, now: Millis) -> Result<()> {
        self.call("append_events", self.books.append_events(events, now)).await
    }
    async fn events_after(&self, after: i64, panel: Option<&str>, limit: usize) -> Result<Vec<Event>> {
        self.call("events_after", self.books.events_after(after, panel, limit)).await
    }
    async fn claim_deliveries(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Delivery>> {
        self.call("claim_deliveries", self.books.claim_deliveries(owner, ttl_ms, n, now)).await
    }
    async fn settle_delivery(
        &self,
        owner: Uuid,
        delivery: &Delivery,
        again: Option<Millis>,
        now: Millis,
    ) -> Result<()> {
        self.call("settle_delivery", self.books.settle_delivery(owner, delivery, again, now)).await
    }
    async fn next_delivery_due(&self) -> Result<Option<Millis>> {
        self.call("next_delivery_due", self.books.next_delivery_due()).await
    }
    async fn audit(&self, entry: NewAudit, now: Millis) -> Result<()> {
        self.call("audit", self.books.audit(entry, now)).await
    }
    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.call("audit_log", self.books.audit_log(limit)).await
    }
}

#[async_trait]
impl Plugins for Elsewhere {
    async fn add_plugin(&self, version: PluginVersion, component: Vec<u8>, audit: NewAudit) -> Result<()> {
        self.call("add_plugin", self.books.add_plugin(version, component, audit)).await
    }
    async fn plugin_versions(&self) -> Result<Vec<PluginVersion>> {
        self.call("plugin_versions", self.books.plugin_versions()).await
    }
    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        self.call("component", self.books.component(digest)).await
    }
    async fn roll_out(&self, id: &str, version: &Version, audit: NewAudit, now: Millis) -> Result<Rollout> {
        self.call("roll_out", self.books.roll_out(id, version, audit, now)).await
    }
    async fn set_plugin_enabled(&self, id: &str, enabled: bool, audit: NewAudit, now: Millis) -> Result<Rollout> {
        self.call("set_plugin_enabled", self.books.set_plugin_enabled(id, enabled, audit, now)).await
    }
    async fn rollouts(&self) -> Result<Vec<Rollout>> {
        self.call("rollouts", self.books.rollouts()).await
    }
}

#[async_trait]
impl Jobs for Elsewhere {
    async fn declare_job(&self, name: &str, every_ms: i64, stale_ms: i64, now: Millis) -> Result<()> {
        self.call("declare_job", self.books.declare_job(name, every_ms, stale_ms, now)).await
    }
    async fn claim_jobs(&self, names: &[&str], owner: Uuid, ttl_ms: i64, now: Millis) -> Result<Vec<JobClaim>> {
        self.call("claim_jobs", self.books.claim_jobs(names, owner, ttl_ms, now)).await
    }
    async fn renew_job(&self, claim: &JobClaim, ttl_ms: i64, now: Millis) -> Result<()> {
        self.call("renew_job", self.books.renew_job(claim, ttl_ms, now)).await
    }
    async fn end_job(&self, claim: &JobClaim, end: JobEnd, now: Millis) -> Result<()> {
        self.call("end_job", self.books.end_job(claim, end, now)).await
    }
    async fn job(&self, name: &str) -> Result<Option<Job>> {
        self.call("job", self.books.job(name)).await
    }
    async fn jobs(&self) -> Result<Vec<Job>> {
        self.call("jobs", self.books.jobs()).await
    }
    async fn force_job(&self, name: &str, audit: NewAudit, now: Millis) -> Result<Job> {
        self.call("force_job", self.books.force_job(name, audit, now)).await
    }
    async fn clear_job_locks(&self, name: Option<&str>, audit: NewAudit, now: Millis) -> Result<Vec<String>> {
        self.call("clear_job_locks", self.books.clear_job_locks(name, audit, now)).await
    }
    async fn next_job_due(&self, names: &[&str]) -> Result<Option<Millis>> {
        self.call("next_job_due", self.books.next_job_due(names)).await
    }
    async fn prune(&self, what: Prune, limit: usize) -> Result<u64> {
        self.call("prune", self.books.prune(what, limit)).await
    }
}
