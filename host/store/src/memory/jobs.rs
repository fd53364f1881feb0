//! Jobs and pruning.

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{Millis, job::Job};

use super::{MemoryStore, State};
use crate::{JobClaim, JobEnd, Jobs, NewAudit, Prune, Result, StoreError, rules};

#[async_trait]
impl Jobs for MemoryStore {
    async fn declare_job(&self, name: &str, every_ms: i64, stale_ms: i64, now: Millis) -> Result<()> {
        self.write("declare_job", |state| {
            let new = || rules::jobs::new(name, every_ms, stale_ms, now);
            let job = state.jobs.entry(name.to_owned()).or_insert_with(new);
            job.every_ms = every_ms;
            job.stale_ms = stale_ms;
            Ok(())
        })
    }

    async fn claim_jobs(&self, names: &[&str], owner: Uuid, ttl_ms: i64, now: Millis) -> Result<Vec<JobClaim>> {
        self.write("claim_jobs", |state| {
            let mut due: Vec<(Millis, &mut Job)> = Vec::new();
            for job in state.jobs.values_mut().filter(|j| names.contains(&j.name.as_str())) {
                rules::jobs::mend_clock(job, ttl_ms, now);
                if job.due_ms <= now {
                    due.push((job.due_ms, job));
                }
            }
            due.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
            Ok(due
                .into_iter()
                .map(|(_, job)| {
                    rules::jobs::claim(job, owner, ttl_ms, now);
                    JobClaim { name: job.name.clone(), owner, epoch: job.epoch }
                })
                .collect())
        })
    }

    async fn renew_job(&self, claim: &JobClaim, ttl_ms: i64, now: Millis) -> Result<()> {
        self.write("renew_job", |state| {
            state.held_job(claim)?.due_ms = now.saturating_add(ttl_ms);
            Ok(())
        })
    }

    async fn end_job(&self, claim: &JobClaim, end: JobEnd, now: Millis) -> Result<()> {
        self.write("end_job", |state| {
            rules::jobs::end(state.held_job(claim)?, &end, now);
            if let JobEnd::Done { events, .. } = end {
                state.events(events, now);
            }
            Ok(())
        })
    }

    async fn job(&self, name: &str) -> Result<Option<Job>> {
        Ok(self.read().jobs.get(name).cloned())
    }

    async fn jobs(&self) -> Result<Vec<Job>> {
        Ok(self.read().jobs.values().cloned().collect())
    }

    async fn force_job(&self, name: &str, audit: NewAudit, now: Millis) -> Result<Job> {
        self.write("force_job", |state| {
            let job = state.jobs.get_mut(name).ok_or_else(|| rules::jobs::no_job(name))?;
            let before = job.clone();
            rules::jobs::force(job, now);
            state.audit(Some(audit), now);
            Ok(before)
        })
    }

    async fn clear_job_locks(&self, name: Option<&str>, audit: NewAudit, now: Millis) -> Result<Vec<String>> {
        self.write("clear_job_locks", |state| {
            if let Some(name) = name.filter(|name| !state.jobs.contains_key(*name)) {
                return Err(rules::jobs::no_job(name));
            }
            let mut held = Vec::new();
            for job in state.jobs.values_mut().filter(|j| name.is_none_or(|name| name == j.name)) {
                if rules::jobs::clear(job, now) {
                    held.push(job.name.clone());
                }
            }
            state.audit(Some(audit), now);
            Ok(held)
        })
    }

    async fn next_job_due(&self, names: &[&str]) -> Result<Option<Millis>> {
        let state = self.read();
        Ok(state.jobs.values().filter(|j| names.contains(&j.name.as_str())).map(|j| j.due_ms).min())
    }

    async fn prune(&self, what: Prune, limit: usize) -> Result<u64> {
        self.write("prune", |state| {
            let mut left = limit;
            let mut goes = |wanted: bool| {
                let goes = wanted && left > 0;
                left -= usize::from(goes);
                goes
            };
            match what {
                Prune::Events { before } => {
                    let pending = &state.deliveries;
                    let untold = |seq: i64| pending.keys().any(|(s, _)| *s == seq);
                    let mut gone: Vec<(i64, Option<String>)> = Vec::new();
                    state.events.retain(|e| {
                        let goes = goes(e.at_ms < before && !untold(e.seq));
                        if goes {
                            gone.push((e.seq, e.event.panel.clone()));
                        }
                        !goes
                    });
                    for (key, upto) in rules::events::gone(gone) {
                        let known = state.meta.get(&key).and_then(|v| v.parse().ok()).unwrap_or(0);
                        state.meta.insert(key, upto.max(known).to_string());
                    }
                }
                Prune::Audit { before } => state.audit.retain(|a| !goes(a.at_ms < before)),
                Prune::Keys { before } => {
                    let mut old: Vec<(Millis, (String, String))> = state
                        .idempotency
                        .iter()
                        .filter(|(_, known)| known.at_ms < before)
                        .map(|(key, known)| (known.at_ms, key.clone()))
                        .collect();
                    old.sort_unstable();
                    for (_, key) in old {
                        if goes(true) {
                            state.idempotency.remove(&key);
                        }
                    }
                }
                Prune::Effects => {
                    for operation in state.queue.keys() {
                        let Some(effects) = state.effects.get_mut(operation) else { continue };
                        let last = effects.last().map_or(0, |e| e.sequence);
                        effects.retain(|e| {
                            let old = e.sequence.saturating_add(rules::EFFECTS_KEPT) < last;
                            !goes(old && e.state.is_resolved())
                        });
                    }
                }
            }
            Ok(u64::try_from(limit - left).unwrap_or(u64::MAX))
        })
    }
}

impl State {
    fn held_job(&mut self, claim: &JobClaim) -> Result<&mut Job> {
        self.jobs
            .get_mut(&claim.name)
            .filter(|job| job.owner == Some(claim.owner) && job.epoch == claim.epoch)
            .ok_or(StoreError::ClaimLost)
    }
}
