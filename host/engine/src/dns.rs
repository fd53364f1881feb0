//! Works off the DNS queue: makes the records of a provider server what they should be, retries for ever, and says so.
//!
//! One owner a queue (parallel writes to one server lose records). Read first, write only differences, touch only values
//! that are ours. An add is marked in the books before it is sent, so that nothing of ours stands anywhere unknown.

mod job;
mod parking;
mod plan;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tracing::Instrument;
use wharf_model::{
    object::{ObjectKind, Zone},
    operation::LogBody,
    record::{Record, RecordKey},
};
use wharf_store::{DnsClaim, RecordOutcome, StoreError};

use self::job::ZoneJob;
pub(crate) use self::parking::parked_text;
use crate::{Engine, traces};

/// Provider servers that this host writes to at once.
const SERVERS: usize = 8;
/// Records of one pass.
const BATCH: usize = 200;
/// A call takes a minute at most. It is renewed before each, and within the one that writes.
const TTL_MS: i64 = 90_000;
/// After an answer that only an admin can mend, and after one that can't be understood.
const ADMIN_PAUSE_MS: i64 = 600_000;
/// Before a parked zone's records are looked at again, lest an admin's change was missed; their provider is not asked even then.
const PARKED_PAUSE_MS: i64 = 3_600_000;
/// After an admin changed a zone while its provider was asked.
const CHANGED_PAUSE_MS: i64 = 1_000;
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
        if let Some(parked) = &zone.parked {
            return Ok((plugin, all(Done::Failed { reason: parked_text(parked), pause_ms: PARKED_PAUSE_MS })));
        }
        let login = self.runtime.zone_login(name, &zone).await?;
        if let Some(pause_ms) = self.resting_ms(&login) {
            let reason = "the provider asked to be left alone for a while: it is asked again then".to_owned();
            return Ok((plugin, all(Done::Failed { reason, pause_ms })));
        }
        let job = ZoneJob::new(self, name, &zone, records.iter().map(|r| r.attempt).max().unwrap_or(0));
        let mut done = match job.run(claim, records).await? {
            Ok(done) => done,
            Err(failed) => all(failed),
        };
        let heard = job.heard();
        if let Some(ms) = heard.rest_ms {
            self.rest(login.clone(), ms);
        }
        if let Some(refusal) = heard.refusal {
            let failed = match self.park_zone(name, object.revision, &login, refusal).await? {
                Ok(parked) => Done::Failed { reason: parked_text(&parked), pause_ms: PARKED_PAUSE_MS },
                Err(reason) => Done::Failed { reason, pause_ms: CHANGED_PAUSE_MS },
            };
            for record in records {
                let became = done.entry(record.key.clone()).or_insert_with(|| failed.clone());
                if *became != Done::Ok {
                    *became = failed.clone();
                }
            }
        }
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

/// `fwd OK`, `rev ERR`, `fwd-del OK`, … for the live log.
fn line(plugin: &str, record: &Record, done: &Done) -> Option<LogBody> {
    let (level, verdict, reason) = match done {
        Done::Ok => ("info", "OK", None),
        // The same again is no news.
        Done::Failed { reason, .. } if record.attempt > 0 && record.reason.as_ref() == Some(reason) => return None,
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
