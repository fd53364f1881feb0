//! Jobs: work of the host itself, on a schedule that all hosts share.
//!
//! A job is run by one process at a time, on a claim as runs have them: renewed while it runs, taken over (and counted) when
//! its process died, and its end is fenced. A panic or a hang (longer than [`LONGEST`]) ends the one run only. Jobs report and
//! tidy the books; none writes to a server, and none deletes what a customer has. What they look at in one run is bounded.

mod drift;
mod orphans;
mod report;
mod tidy;

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use wharf_model::event::NewEvent;
use wharf_store::{JobClaim, JobEnd, StoreError};

use crate::Engine;
pub(crate) use tidy::RestSeen;

/// A run that lasts longer is given up and tried again.
const LONGEST: Duration = Duration::from_secs(1_800);
/// After a failure, unless the interval is shorter.
const RETRY_MS: i64 = 300_000;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A job that this host knows.
struct Spec {
    name: &'static str,
    every_ms: i64,
    /// Without a good end for so long, somebody should look.
    stale_ms: i64,
    /// A new one is run for the first time after this.
    first_ms: i64,
}

const DRIFT: &str = "drift";
const ORPHANS: &str = "orphans";
const QUARANTINE: &str = "quarantine";
const RETENTION: &str = "retention";

const JOBS: [Spec; 4] = [
    Spec { name: DRIFT, every_ms: HOUR, stale_ms: 6 * HOUR, first_ms: 2 * MINUTE },
    Spec { name: ORPHANS, every_ms: HOUR, stale_ms: 6 * HOUR, first_ms: MINUTE },
    // An address is free at most so long after its rest is over.
    Spec { name: QUARANTINE, every_ms: MINUTE, stale_ms: 15 * MINUTE, first_ms: 0 },
    Spec { name: RETENTION, every_ms: HOUR, stale_ms: 24 * HOUR, first_ms: 3 * MINUTE },
];
const NAMES: [&str; 4] = [DRIFT, ORPHANS, QUARANTINE, RETENTION];

/// What a run found, and what of it is news.
struct Found {
    result: Value,
    events: Vec<NewEvent>,
}

/// A host begins the same job no sooner than this after it began it last.
const REST: Duration = Duration::from_secs(5);

/// Why a run failed, for an admin.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what was found can't be written down: {0}")]
    Result(#[from] serde_json::Error),
}

impl Engine {
    pub(crate) async fn job_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut declared = false;
        // Dropped with this loop, so that nothing works on when the host is gone.
        let mut runs = JoinSet::new();
        // Where clocks of hosts are apart, each takes the other's due times for wrong: they must not run a job in turns
        // without a pause.
        let mut begun: HashMap<String, Instant> = HashMap::new();
        while !*stop.borrow() {
            if !declared {
                match self.declare_jobs().await {
                    Ok(()) => declared = true,
                    Err(error) => tracing::warn!(%error, "can't enter the jobs into the books"),
                }
            }
            self.kill.reach("claim-jobs").await;
            self.see_rest_clock().await;
            let now = self.clock.now_ms();
            begun.retain(|_, at: &mut Instant| at.elapsed() < REST);
            let names: Vec<&str> = NAMES.into_iter().filter(|name| !begun.contains_key(*name)).collect();
            match self.books.claim_jobs(&names, self.owner, self.config.claim_ttl_ms, now).await {
                Ok(claims) => {
                    for claim in claims {
                        begun.insert(claim.name.clone(), Instant::now());
                        let (engine, stop) = (Arc::clone(&self), stop.clone());
                        runs.spawn(async move {
                            engine.run_job(claim, stop).await;
                            engine.job_work.notify_one();
                        });
                    }
                }
                Err(error) => tracing::warn!(%error, "can't claim jobs from the books"),
            }
            while runs.try_join_next().is_some() {}
            let again = begun.values().map(|at| REST.saturating_sub(at.elapsed())).min().unwrap_or(REST);
            let names: Vec<&str> = names.into_iter().filter(|name| !begun.contains_key(*name)).collect();
            let pause = self.pause_until(self.books.next_job_due(&names).await).await.min(again);
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.job_work.notified() => {}
                // Whoever could have said stop is gone: that is a stop, too.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        while runs.join_next().await.is_some() {}
    }

    async fn declare_jobs(&self) -> wharf_store::Result<()> {
        let now = self.clock.now_ms();
        for job in &JOBS {
            self.books.declare_job(job.name, job.every_ms, job.stale_ms, now + job.first_ms).await?;
        }
        Ok(())
    }

    async fn run_job(&self, claim: JobClaim, mut stop: watch::Receiver<bool>) {
        let begun = Instant::now();
        // A panic in one run must not take the others along.
        let work = AssertUnwindSafe(tokio::time::timeout(LONGEST, self.job(&claim.name))).catch_unwind();
        let stopped = async { while !*stop.borrow() && stop.changed().await.is_ok() {} };
        let ended = tokio::select! {
            biased;
            ended = work => match ended {
                Ok(Ok(Ok(found))) => Ok(found),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Err(_)) => Err(format!("it took longer than {} minutes and was given up", LONGEST.as_secs() / 60)),
                Err(_) => Err("the host failed while it ran: see the host's log".to_owned()),
            },
            () = self.keep_job(&claim) => {
                tracing::warn!(job = claim.name, epoch = claim.epoch, "another process has this job now; stopped");
                return;
            }
            () = stopped => Err("its host was stopped while it ran".to_owned()),
        };
        let now = self.clock.now_ms();
        let every_ms = JOBS.iter().find(|j| j.name == claim.name).map_or(RETRY_MS, |j| j.every_ms);
        let news = ended.as_ref().is_ok_and(|found| !found.events.is_empty());
        let end = match ended {
            Ok(found) => {
                tracing::info!(job = claim.name, took_ms = begun.elapsed().as_millis(), "job done");
                JobEnd::Done { result: found.result, events: found.events }
            }
            Err(error) if *stop.borrow() => JobEnd::Failed { error, again_ms: now },
            Err(error) => {
                tracing::error!(job = claim.name, error, "job failed; it is tried again");
                JobEnd::Failed { error, again_ms: now + every_ms.min(RETRY_MS) }
            }
        };
        self.kill.reach("job-end:before").await;
        match self.books.end_job(&claim, end, now).await {
            Ok(()) if news => {
                self.notices.tell(crate::Notice::Events);
                self.delivery_work.notify_one();
            }
            Ok(()) => {}
            Err(StoreError::ClaimLost) => {
                tracing::warn!(job = claim.name, "another process has this job now; its end was not written");
            }
            Err(error) => {
                tracing::warn!(job = claim.name, %error, "can't write how a job ended; it runs again when its claim has run out");
            }
        }
        self.kill.reach("job-end:after").await;
    }

    /// Returns when the claim must be taken for lost.
    async fn keep_job(&self, claim: &JobClaim) {
        let ttl = self.config.claim_ttl_ms;
        let third = Duration::from_millis(u64::try_from(ttl / 3).unwrap_or(10_000));
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(third).await;
            let asked = Instant::now();
            match self.books.renew_job(claim, ttl, self.clock.now_ms()).await {
                Ok(()) => renewed = asked,
                Err(StoreError::ClaimLost) => return,
                Err(error) => {
                    tracing::warn!(job = claim.name, %error, "can't renew the claim of a job");
                    if renewed.elapsed() > third * 2 {
                        return;
                    }
                }
            }
        }
    }

    async fn job(&self, name: &str) -> Result<Found, JobError> {
        match name {
            DRIFT => self.drift().await,
            ORPHANS => self.orphans().await,
            QUARANTINE => self.count_rest().await,
            _ => self.retain().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_its_name_and_is_stale_only_after_several_misses() {
        assert_eq!(JOBS.map(|j| j.name), NAMES);
        for job in &JOBS {
            assert!(job.stale_ms >= 3 * job.every_ms, "{}", job.name);
        }
    }
}
