//! One zone at its provider: looked at, compared, changed.
//!
//! A batch has no more changes than the provider says it takes. One that is refused as a whole is halved until it is known which
//! records are meant, so that one bad record holds nobody back; bounded by [`APPLIES`] batches beside the first ones. What a provider
//! takes on for later is asked for ([`POLLS`]) before anything is concluded. What the provider says of the zone as a whole (credentials, pauses) ends the pass.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tracing::Instrument;
use wharf_capabilities::call::ZoneBinding;
use wharf_model::{
    object::Zone,
    operation::LogBody,
    record::{Record, RecordKey},
    service::ServiceId,
};
use wharf_plugins::{
    dns::{Change, DnsSession, Edit, Outcome, Problem, ProblemAction, Report, Selector, ZoneRef},
    report::CallError,
};
use wharf_store::{DnsClaim, StoreError};

use super::{
    ADMIN_PAUSE_MS, Done, LONGEST_RETRY_MS, TTL_MS, VERIFY_PAUSE_MS,
    parking::Refusal,
    plan::{Planned, halves, is_refusal, plan, refused_together},
};
use crate::{Engine, Notice, traces};

/// Batches of one pass: one bad record among two hundred is found with sixteen.
const APPLIES: usize = 32;
/// Seconds before each question what became of changes that were taken on: a minute in all.
const POLLS: [u64; 10] = [1, 1, 2, 3, 5, 5, 8, 10, 10, 15];
/// Before changes are looked at that were taken on and are not done after all [`POLLS`].
const ACCEPTED_PAUSE_MS: i64 = 60_000;
/// How often it is said how far a batch is.
const PROGRESS: Duration = Duration::from_secs(10);

type Outcomes = BTreeMap<RecordKey, Done>;

/// A zone's settings and how to ask its provider.
pub(super) struct ZoneJob<'a> {
    pub(super) engine: &'a Engine,
    pub(super) name: &'a str,
    pub(super) zone: &'a Zone,
    pub(super) attempt: u32,
    /// What was said that is true of more than one record.
    heard: Mutex<Heard>,
}

/// What a provider said that is true of more than the records at hand.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) refusal: Option<Refusal>,
    /// Milliseconds for which it wants to be left alone.
    pub(super) rest_ms: Option<i64>,
}

impl<'a> ZoneJob<'a> {
    pub(super) fn new(engine: &'a Engine, name: &'a str, zone: &'a Zone, attempt: u32) -> Self {
        Self { engine, name, zone, attempt, heard: Mutex::default() }
    }

    pub(super) fn heard(self) -> Heard {
        self.heard.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outer error is the books', the inner one is true of all records.
    pub(super) async fn run(&self, claim: &DnsClaim, records: &[Record]) -> Result<Result<Outcomes, Done>, StoreError> {
        let key = format!("{}-{}-{}", claim.queue, claim.epoch, self.name);
        let binding = ZoneBinding::new(self.name, self.zone.clone(), key.clone());
        let mut session = match self.engine.runtime.dns(binding).await {
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
            let reason = "the provider takes no writes in this zone: it is a secondary, suspended or locked there; enter the primary, \
                          or unlock it"
                .to_owned();
            return Ok(Err(Done::Failed { reason, pause_ms: ADMIN_PAUSE_MS }));
        }
        let zone_ref: ZoneRef = probed.info.zone;
        let most = match probed.can.max_changes {
            0 => usize::MAX,
            most => usize::try_from(most).unwrap_or(usize::MAX),
        };
        let keys: BTreeSet<(String, String)> =
            records.iter().map(|r| (r.key.name.clone(), r.key.rtype.clone())).collect();
        let selector = Selector::Keys(keys.into_iter().collect());
        self.renew(claim).await?;
        let snapshot = match session.read(&zone_ref, selector).await.map(|r| r.answer) {
            Ok(Ok(snapshot)) => snapshot,
            Ok(Err(problem)) => return Ok(Err(self.after_problem(&problem))),
            Err(error) => return Ok(Err(self.after_error(&error))),
        };
        let (mut done, changes) = plan(records, &snapshot.rrsets, snapshot.complete, self.zone.ttl);
        if changes.is_empty() {
            return Ok(Ok(done));
        }
        let mut sent = Vec::new();
        for change in &changes {
            if matches!(change.change.edit, Edit::AddValues(_)) {
                sent.extend(change.keys.iter().cloned());
            }
        }
        let now = self.engine.clock.now_ms();
        self.engine.kill.reach("commit:dns-sent:before").await;
        self.engine.books.mark_sent(claim, &sent, now).await?;
        self.engine.kill.reach("commit:dns-sent:after").await;
        let mut todo: VecDeque<Vec<Planned>> = changes.chunks(most).map(<[Planned]>::to_vec).collect();
        let bound = APPLIES + todo.len();
        let mut batches = 0;
        let mut accepted = Vec::new();
        while let Some(batch) = todo.pop_front() {
            batches += 1;
            self.renew(claim).await?;
            session.set_idempotency_key(format!("{key}-{batches}"));
            let report = match self.apply(claim, &mut session, &zone_ref, &batch).await? {
                Ok(Ok(report)) => report,
                Ok(Err(problem)) => {
                    match halves(&batch).filter(|_| is_refusal(&problem)) {
                        Some((first, rest)) if batches + todo.len() + 1 < bound => {
                            todo.push_front(rest);
                            todo.push_front(first);
                        }
                        _ => settle(&mut done, &batch, &self.after_problem(&problem)),
                    }
                    if self.is_over() {
                        break;
                    }
                    continue;
                }
                Err(error) => {
                    settle(&mut done, &batch, &self.after_error(&error));
                    break;
                }
            };
            let outcomes: BTreeMap<u32, Outcome> = report.outcomes.into_iter().collect();
            let together: Vec<Planned> = refused_together(&batch, &outcomes).into_iter().cloned().collect();
            let split = halves(&together).filter(|_| batches + todo.len() + 1 < bound);
            for planned in &batch {
                let became = match outcomes.get(&planned.change.id) {
                    Some(Outcome::Failed(_)) if split.is_some() => continue,
                    Some(Outcome::Applied(_) | Outcome::Unchanged(_)) => Done::Ok,
                    Some(Outcome::Accepted(operation)) => {
                        accepted.push((planned.clone(), operation.clone()));
                        continue;
                    }
                    Some(Outcome::Failed(problem)) => self.after_problem(problem),
                    Some(Outcome::NotAttempted) | None => Done::Later { pause_ms: VERIFY_PAUSE_MS },
                };
                settle(&mut done, std::slice::from_ref(planned), &became);
            }
            if self.is_over() {
                break;
            }
            if let Some((first, rest)) = split {
                todo.push_front(rest);
                todo.push_front(first);
            }
        }
        self.poll(claim, &mut session, &zone_ref, accepted, &mut done).await?;
        Ok(Ok(done))
    }

    /// Asks what became of changes that were taken on. Those that are not done by the end are read again, and not before that: what is
    /// still on its way would be sent twice.
    async fn poll(
        &self,
        claim: &DnsClaim,
        session: &mut DnsSession,
        zone: &ZoneRef,
        mut accepted: Vec<(Planned, String)>,
        done: &mut Outcomes,
    ) -> Result<(), StoreError> {
        for pause in POLLS {
            if accepted.is_empty() || self.is_over() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let mut running = Vec::new();
            for (planned, operation) in accepted {
                if self.is_over() {
                    running.push((planned, operation));
                    continue;
                }
                self.renew(claim).await?;
                let became = match session.poll(zone, &operation).await.map(|r| r.answer) {
                    Ok(Ok(Outcome::Accepted(operation))) => {
                        running.push((planned, operation));
                        continue;
                    }
                    Ok(Ok(Outcome::Applied(_) | Outcome::Unchanged(_))) => Done::Ok,
                    Ok(Ok(Outcome::Failed(problem)) | Err(problem)) => self.after_problem(&problem),
                    Ok(Ok(Outcome::NotAttempted)) => Done::Later { pause_ms: VERIFY_PAUSE_MS },
                    Err(error) => self.after_error(&error),
                };
                settle(done, &[planned], &became);
            }
            accepted = running;
        }
        for (planned, _) in accepted {
            settle(done, &[planned], &Done::Later { pause_ms: ACCEPTED_PAUSE_MS });
        }
        Ok(())
    }

    /// One batch, with what it says of its progress passed on, and the queue held meanwhile.
    async fn apply(
        &self,
        claim: &DnsClaim,
        session: &mut DnsSession,
        zone: &ZoneRef,
        batch: &[Planned],
    ) -> Result<Result<Result<Report, Problem>, CallError>, StoreError> {
        let changes: Vec<Change> = batch.iter().map(|p| p.change.clone()).collect();
        let progress = session.progress();
        self.engine.kill.reach("call:dns-apply:before").await;
        let span = traces::dns_apply(self.name, changes.len());
        let mut shown = None;
        let applied = {
            let call = session.apply(zone, changes).instrument(span.clone());
            tokio::pin!(call);
            loop {
                tokio::select! {
                    biased;
                    answered = &mut call => break answered.map(|r| r.answer),
                    () = tokio::time::sleep(PROGRESS) => {
                        self.renew(claim).await?;
                        let now = progress.get();
                        if let Some((done, total)) = now.filter(|_| now != shown) {
                            self.tell_progress(batch, done, total).await?;
                        }
                        shown = now;
                    }
                }
            }
        };
        match &applied {
            Ok(Ok(_)) => traces::end(&span, "answered", true),
            Ok(Err(_)) => traces::end(&span, "refused", false),
            Err(error) => traces::end(&span, error.cause.as_str(), false),
        }
        drop(span);
        self.engine.kill.reach("call:dns-apply:after").await;
        Ok(applied)
    }

    /// For whoever looks at a log: a batch can take a minute.
    async fn tell_progress(&self, batch: &[Planned], done: u32, total: u32) -> Result<(), StoreError> {
        let message = format!("DNS: {done} of {total} done  {} {}", self.zone.plugin, self.name);
        let services: BTreeSet<ServiceId> = batch.iter().flat_map(|p| &p.keys).map(|k| k.service_id).collect();
        for service in services {
            let line = LogBody::Line { level: "info".into(), message: message.clone(), fields: Vec::new() };
            if let Some(operation) = self.engine.books.operations(service, 1).await?.into_iter().next() {
                self.engine.books.append_log(operation.id, vec![line], self.engine.clock.now_ms()).await?;
                self.engine.notices.tell(Notice::Operation(operation.id));
            }
        }
        Ok(())
    }

    async fn renew(&self, claim: &DnsClaim) -> Result<(), StoreError> {
        self.engine.books.renew_dns(claim, TTL_MS, self.engine.clock.now_ms()).await
    }

    /// Whether something was said that is true of all that is left.
    fn is_over(&self) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.refusal.is_some() || heard.rest_ms.is_some()
    }

    fn backoff_ms(&self) -> i64 {
        self.engine.backoff_ms(self.attempt + 1)
    }

    fn after_problem(&self, problem: &Problem) -> Done {
        let asked = problem.retry_after_ms.map(|ms| i64::from(ms).min(LONGEST_RETRY_MS));
        let reason = problem.message.clone();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = Refusal::of(problem) {
            heard.refusal.get_or_insert(refusal);
        }
        let pause_ms = match problem.action {
            ProblemAction::FixInput | ProblemAction::FixConfig | ProblemAction::ReportBug => {
                asked.unwrap_or(ADMIN_PAUSE_MS)
            }
            ProblemAction::Replan | ProblemAction::Verify => asked.unwrap_or(VERIFY_PAUSE_MS),
            ProblemAction::Retry => asked.unwrap_or_else(|| self.backoff_ms()),
            ProblemAction::Wait => {
                let pause_ms = asked.unwrap_or_else(|| self.backoff_ms());
                heard.rest_ms = Some(heard.rest_ms.unwrap_or(0).max(pause_ms));
                pause_ms
            }
        };
        Done::Failed { reason, pause_ms }
    }

    fn after_error(&self, error: &CallError) -> Done {
        Done::Failed { reason: error.text.clone(), pause_ms: self.backoff_ms() }
    }
}

fn settle(done: &mut Outcomes, batch: &[Planned], became: &Done) {
    for key in batch.iter().flat_map(|p| &p.keys) {
        done.insert(key.clone(), became.clone());
    }
}
