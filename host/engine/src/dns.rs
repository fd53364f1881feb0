//! Works off the DNS queue: makes the records of a provider server what they should be, retries for ever, and says so.
//!
//! One owner a queue (parallel writes to one server lose records). Read first, write only differences, touch only values
//! that are ours. An add is marked in the books before it is sent, so that nothing of ours stands anywhere unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tracing::Instrument;
use wharf_capabilities::call::ZoneBinding;
use wharf_model::{
    object::{ObjectKind, Zone},
    operation::LogBody,
    record::{Record, RecordKey},
};
use wharf_plugins::{
    dns::{Change, Edit, Outcome, Problem, ProblemAction, RrSet, Selector, Value, ZoneRef},
    report::CallError,
};
use wharf_store::{DnsClaim, RecordOutcome, StoreError};

use crate::{Engine, traces};

/// Provider servers that this host writes to at once.
const SERVERS: usize = 8;
/// Records of one pass.
const BATCH: usize = 200;
/// A pass is a handful of calls of at most 10 s each, renewed in between.
const TTL_MS: i64 = 90_000;
/// After an answer that only an admin can mend, and after one that can't be understood.
const ADMIN_PAUSE_MS: i64 = 600_000;
/// Before a write without answer is looked at.
const VERIFY_PAUSE_MS: i64 = 3_000;

/// A provider is left alone for no longer than this, whatever it asks for.
const LONGEST_RETRY_MS: i64 = 86_400_000;

/// What a pass did about one record.
#[derive(Debug, Clone, PartialEq)]
enum Done {
    /// As it should be.
    Ok,
    Failed {
        reason: String,
        pause_ms: i64,
    },
    /// Taken on by the provider, or not reached: look again.
    Later {
        pause_ms: i64,
    },
}

impl Engine {
    pub(crate) async fn dns_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.kill.reach("claim-dns").await;
            let now = self.clock.now_ms();
            let claimed = match self.books.claim_dns(self.owner, TTL_MS, SERVERS, now).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, "can't read the queue of DNS work");
                    Vec::new()
                }
            };
            let some = !claimed.is_empty();
            futures::stream::iter(claimed)
                .for_each_concurrent(SERVERS, |claim| {
                    let engine = Arc::clone(&self);
                    async move {
                        // A panic about one must not end the loop for all.
                        match AssertUnwindSafe(engine.dns_pass(&claim)).catch_unwind().await {
                            Ok(Ok(()) | Err(StoreError::ClaimLost)) => {}
                            Ok(Err(error)) => {
                                tracing::warn!(queue = claim.queue, %error, "DNS work stopped; it is taken up again")
                            }
                            Err(_) => {
                                tracing::error!(
                                    queue = claim.queue,
                                    "the host failed at DNS work; it is taken up again"
                                );
                            }
                        }
                        let _ = engine.books.release_dns(&claim, engine.clock.now_ms()).await;
                    }
                })
                .await;
            if some {
                continue;
            }
            let pause = self.pause_until(self.books.next_dns_due().await).await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause.max(Duration::from_millis(20))) => {}
                () = self.dns_work.notified() => {}
                // Whoever could have said stop is gone: that is a stop, too.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    async fn dns_pass(&self, claim: &DnsClaim) -> Result<(), StoreError> {
        let due = self.books.due_records(claim, BATCH, self.clock.now_ms()).await?;
        let mut zones: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in due {
            zones.entry(record.key.zone.clone()).or_default().push(record);
        }
        for (name, records) in zones {
            self.books.renew_dns(claim, TTL_MS, self.clock.now_ms()).await?;
            let span = traces::dns_pass(&name, records.len());
            let (plugin, done) = self.zone_pass(claim, &name, &records).instrument(span).await?;
            self.settle_pass(claim, &plugin, &records, done).await?;
        }
        Ok(())
    }

    /// One zone: what became of each record.
    async fn zone_pass(
        &self,
        claim: &DnsClaim,
        name: &str,
        records: &[Record],
    ) -> Result<(String, BTreeMap<RecordKey, Done>), StoreError> {
        let all = |done: Done| records.iter().map(|r| (r.key.clone(), done.clone())).collect::<BTreeMap<_, _>>();
        let Some(object) = self.books.object(ObjectKind::Zone, name).await? else {
            let reason = format!(
                "the zone `{name}` was taken out of the configuration: put it back, or remove its records by hand"
            );
            return Ok((String::new(), all(Done::Failed { reason, pause_ms: ADMIN_PAUSE_MS })));
        };
        let Ok(zone) = serde_json::from_value::<Zone>(object.body) else {
            let reason = format!("the settings of the zone `{name}` can't be read: save it again");
            return Ok((String::new(), all(Done::Failed { reason, pause_ms: ADMIN_PAUSE_MS })));
        };
        let plugin = zone.plugin.clone();
        if zone.off {
            let reason =
                format!("the zone `{name}` is switched off: what is in it is left as it is until it is on again");
            return Ok((plugin, all(Done::Failed { reason, pause_ms: ADMIN_PAUSE_MS })));
        }
        let job =
            ZoneJob { engine: self, name, zone: &zone, attempt: records.iter().map(|r| r.attempt).max().unwrap_or(0) };
        let done = match job.run(claim, records).await? {
            Ok(done) => done,
            Err(failed) => all(failed),
        };
        Ok((plugin, done))
    }

    async fn settle_pass(
        &self,
        claim: &DnsClaim,
        plugin: &str,
        records: &[Record],
        done: BTreeMap<RecordKey, Done>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now_ms();
        let mut outcomes = Vec::new();
        let mut lines: BTreeMap<wharf_model::service::ServiceId, Vec<LogBody>> = BTreeMap::new();
        for record in records {
            let done = done.get(&record.key).cloned().unwrap_or(Done::Later { pause_ms: VERIFY_PAUSE_MS });
            if let Some(line) = line(plugin, record, &done) {
                lines.entry(record.key.service_id).or_default().push(line);
            }
            let outcome = match done {
                Done::Ok => RecordOutcome::Done,
                Done::Failed { reason, pause_ms } => RecordOutcome::Failed { reason, due_ms: now + pause_ms },
                Done::Later { pause_ms } => RecordOutcome::Postponed { due_ms: now + pause_ms },
            };
            outcomes.push((record.key.clone(), outcome));
        }
        self.kill.reach("commit:dns:before").await;
        self.books.settle_records(claim, outcomes, now).await?;
        self.kill.reach("commit:dns:after").await;
        for (service, lines) in lines {
            if let Some(operation) = self.books.operations(service, 1).await?.into_iter().next() {
                self.books.append_log(operation.id, lines, now).await?;
                self.notices.tell(crate::Notice::Operation(operation.id));
            }
            if self.books.wake_topic(&format!("dns:{service}"), now).await? > 0 {
                self.work.notify_one();
            }
        }
        Ok(())
    }
}

/// A zone's settings and how to ask its provider.
struct ZoneJob<'a> {
    engine: &'a Engine,
    name: &'a str,
    zone: &'a Zone,
    attempt: u32,
}

impl ZoneJob<'_> {
    fn binding(&self, key: &str) -> ZoneBinding {
        ZoneBinding {
            name: self.name.to_owned(),
            zone: self.zone.clone(),
            idempotency_key: key.to_owned(),
            learnt: Vec::new(),
            progress: None,
            cancelled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The outer error is the books', the inner one is true of all records.
    async fn run(
        &self,
        claim: &DnsClaim,
        records: &[Record],
    ) -> Result<Result<BTreeMap<RecordKey, Done>, Done>, StoreError> {
        let key = format!("{}-{}-{}", claim.queue, claim.epoch, self.name);
        let mut session = match self.engine.runtime.dns(self.binding(&key)).await {
            Ok(session) => session,
            Err(error) => return Ok(Err(self.after_error(&error))),
        };
        let apex = wharf_capabilities::dns::names::canonical(&self.zone.zone);
        let probed = match session.probe(&apex).await.map(|r| r.answer) {
            Ok(Ok(probed)) => probed,
            Ok(Err(problem)) => return Ok(Err(self.after_problem(&problem))),
            Err(error) => return Ok(Err(self.after_error(&error))),
        };
        if !probed.info.writable {
            let reason =
                "the provider holds this zone as a secondary: writes would be lost; enter the primary".to_owned();
            return Ok(Err(Done::Failed { reason, pause_ms: ADMIN_PAUSE_MS }));
        }
        let zone_ref: ZoneRef = probed.info.zone;
        let keys: BTreeSet<(String, String)> =
            records.iter().map(|r| (r.key.name.clone(), r.key.rtype.clone())).collect();
        let selector = Selector::Keys(keys.into_iter().collect());
        let snapshot = match session.read(&zone_ref, selector).await.map(|r| r.answer) {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(problem)) => return Ok(Err(self.after_problem(&problem))),
            Err(error) => return Ok(Err(self.after_error(&error))),
        };
        let (mut done, changes) = plan(records, &snapshot.rrsets, snapshot.complete, self.zone.ttl);
        let mut sent = Vec::new();
        for change in &changes {
            if matches!(change.change.edit, Edit::AddValues(_)) {
                sent.extend(change.keys.iter().cloned());
            }
        }
        if changes.is_empty() {
            return Ok(Ok(done));
        }
        let now = self.engine.clock.now_ms();
        self.engine.kill.reach("commit:dns-sent:before").await;
        self.engine.books.mark_sent(claim, &sent, now).await?;
        self.engine.kill.reach("commit:dns-sent:after").await;
        let batch: Vec<Change> = changes.iter().map(|c| c.change.clone()).collect();
        self.engine.kill.reach("call:dns-apply:before").await;
        let span = traces::dns_apply(self.name, batch.len());
        let applied = session.apply(&zone_ref, batch).instrument(span.clone()).await.map(|r| r.answer);
        match &applied {
            Ok(Ok(_)) => traces::end(&span, "answered", true),
            Ok(Err(_)) => traces::end(&span, "refused", false),
            Err(error) => traces::end(&span, error.cause.as_str(), false),
        }
        drop(span);
        self.engine.kill.reach("call:dns-apply:after").await;
        let report = match applied {
            Ok(Ok(report)) => report,
            Ok(Err(problem)) => {
                let failed = self.after_problem(&problem);
                for key in changes.iter().flat_map(|c| &c.keys) {
                    done.insert(key.clone(), failed.clone());
                }
                return Ok(Ok(done));
            }
            Err(error) => return Ok(Err(self.after_error(&error))),
        };
        let outcomes: BTreeMap<u32, Outcome> = report.outcomes.into_iter().collect();
        for change in &changes {
            let became = match outcomes.get(&change.change.id) {
                Some(Outcome::Applied(_) | Outcome::Unchanged(_)) => Done::Ok,
                // What it was taken on as is seen by reading again.
                Some(Outcome::Accepted(_)) => Done::Later { pause_ms: VERIFY_PAUSE_MS },
                Some(Outcome::Failed(problem)) => self.after_problem(problem),
                Some(Outcome::NotAttempted) | None => Done::Later { pause_ms: VERIFY_PAUSE_MS },
            };
            for key in &change.keys {
                done.insert(key.clone(), became.clone());
            }
        }
        Ok(Ok(done))
    }

    fn backoff_ms(&self) -> i64 {
        self.engine.backoff_ms(self.attempt + 1)
    }

    fn after_problem(&self, problem: &Problem) -> Done {
        let asked = problem.retry_after_ms.map(|ms| i64::from(ms).min(LONGEST_RETRY_MS));
        let reason = problem.message.clone();
        match problem.action {
            ProblemAction::FixInput | ProblemAction::FixConfig | ProblemAction::ReportBug => {
                Done::Failed { reason, pause_ms: asked.unwrap_or(ADMIN_PAUSE_MS) }
            }
            ProblemAction::Replan | ProblemAction::Verify => {
                Done::Failed { reason, pause_ms: asked.unwrap_or(VERIFY_PAUSE_MS) }
            }
            ProblemAction::Wait | ProblemAction::Retry => {
                Done::Failed { reason, pause_ms: asked.unwrap_or_else(|| self.backoff_ms()) }
            }
        }
    }

    fn after_error(&self, error: &CallError) -> Done {
        Done::Failed { reason: error.text.clone(), pause_ms: self.backoff_ms() }
    }
}

/// A change and the records it is about.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    change: Change,
    keys: Vec<RecordKey>,
}

/// What is to be changed, and what is so already. Removals come before additions, as some providers want it.
fn plan(
    records: &[Record],
    live: &[RrSet],
    complete: bool,
    ttl: Option<u32>,
) -> (BTreeMap<RecordKey, Done>, Vec<Planned>) {
    let live: BTreeMap<(&str, &str), &RrSet> = live.iter().map(|s| ((s.name.as_str(), s.rtype.as_str()), s)).collect();
    let mut done = BTreeMap::new();
    let mut groups: BTreeMap<(&str, &str), (Vec<&Record>, Vec<&Record>)> = BTreeMap::new();
    for record in records {
        let at = (record.key.name.as_str(), record.key.rtype.as_str());
        let stands =
            live.get(&at).is_some_and(|s| s.values.iter().any(|v| v.data.eq_ignore_ascii_case(&record.key.value)));
        // From a read that may lack something, only a presence can be concluded.
        if stands == record.wanted && (record.wanted || complete) {
            done.insert(record.key.clone(), Done::Ok);
            continue;
        }
        let group = groups.entry(at).or_default();
        if record.wanted { group.0.push(record) } else { group.1.push(record) }
    }
    let (mut removals, mut additions) = (Vec::new(), Vec::new());
    let mut id = 0;
    for ((name, rtype), (add, remove)) in groups {
        let set = live.get(&(name, rtype));
        let expect: Option<Vec<String>> =
            complete.then(|| set.map(|s| s.values.iter().map(|v| v.data.clone()).collect()).unwrap_or_default());
        let mut push = |edit: Edit, of: &[&Record], expect: Option<Vec<String>>, into: &mut Vec<Planned>| {
            id += 1;
            into.push(Planned {
                change: Change {
                    id,
                    name: name.to_owned(),
                    rtype: rtype.to_owned(),
                    // A TTL belongs to the whole set: one that others share keeps its own.
                    ttl: set.and_then(|s| s.ttl).or(of.iter().find_map(|r| r.ttl)).or(ttl),
                    edit,
                    expect,
                    owner: None,
                },
                keys: of.iter().map(|r| r.key.clone()).collect(),
            });
        };
        let both = !add.is_empty() && !remove.is_empty();
        if !remove.is_empty() {
            let values = remove.iter().map(|r| r.key.value.clone()).collect();
            push(Edit::RemoveValues(values), &remove, expect.clone(), &mut removals);
        }
        if !add.is_empty() {
            let values =
                add.iter().map(|r| Value { data: r.key.value.clone(), owner: None, ext: Vec::new() }).collect();
            // After a removal in the same batch the set is no longer as it was read.
            push(Edit::AddValues(values), &add, if both { None } else { expect }, &mut additions);
        }
    }
    removals.extend(additions);
    (done, removals)
}

/// `fwd OK`, `rev ERR`, `fwd-del OK`, … for the live log.
fn line(plugin: &str, record: &Record, done: &Done) -> Option<LogBody> {
    let (level, verdict, reason) = match done {
        Done::Ok => ("info", "OK", None),
        Done::Failed { reason, .. } => ("warn", "ERR", Some(reason)),
        Done::Later { .. } => return None,
    };
    let direction = if record.key.rtype == "PTR" { "rev" } else { "fwd" };
    let removal = if record.wanted { "" } else { "-del" };
    let key = &record.key;
    let mut message =
        format!("{direction}{removal} {verdict}  {plugin} {}  {} {} {}", key.zone, key.name, key.rtype, key.value);
    if let Some(reason) = reason {
        message = format!("{message}: {reason}");
    }
    Some(LogBody::Line { level: level.into(), message, fields: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, value: &str, wanted: bool, written: bool) -> Record {
        Record {
            key: RecordKey {
                zone: "z".into(),
                name: name.into(),
                rtype: "PTR".into(),
                value: value.into(),
                service_id: uuid::Uuid::nil(),
            },
            ttl: None,
            wanted,
            written,
            attempt: 0,
            due_ms: 0,
            reason: None,
            updated_ms: 0,
        }
    }

    fn set(name: &str, values: &[&str]) -> RrSet {
        RrSet {
            name: name.into(),
            rtype: "PTR".into(),
            ttl: Some(77),
            values: values.iter().map(|v| Value { data: (*v).into(), owner: None, ext: Vec::new() }).collect(),
            owner: None,
            version: None,
            ext: Vec::new(),
        }
    }

    #[test]
    fn what_is_so_already_is_not_written() {
        let records = [record("1.", "a.", true, false), record("2.", "b.", false, true)];
        let (done, changes) = plan(&records, &[set("1.", &["A."])], true, None);
        assert!(changes.is_empty());
        assert_eq!(done.len(), 2);
    }

    #[test]
    fn an_incomplete_read_never_proves_absence() {
        let (done, changes) = plan(&[record("2.", "b.", false, true)], &[], false, None);
        assert!(done.is_empty());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].change.expect, None);
    }

    #[test]
    fn a_shared_set_keeps_its_ttl_and_its_other_values() {
        let (_, changes) = plan(&[record("1.", "new.", true, false)], &[set("1.", &["foreign."])], true, Some(300));
        assert_eq!(changes[0].change.ttl, Some(77));
        assert!(matches!(&changes[0].change.edit, Edit::AddValues(v) if v.len() == 1));
        assert_eq!(changes[0].change.expect, Some(vec!["foreign.".into()]));
    }

    #[test]
    fn a_name_that_changes_is_removed_before_it_is_added() {
        let records = [record("1.", "new.", true, false), record("1.", "old.", false, true)];
        let (_, changes) = plan(&records, &[set("1.", &["old."])], true, None);
        assert!(matches!(changes[0].change.edit, Edit::RemoveValues(_)));
        assert!(matches!(changes[1].change.edit, Edit::AddValues(_)));
        assert_eq!(changes[1].change.expect, None);
    }
}
