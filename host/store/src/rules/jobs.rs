//! What claims, ends and admins make of a job's row.

use uuid::Uuid;
use wharf_model::{Millis, job::Job};

use crate::{JobEnd, StoreError};

/// A job that nobody has run yet.
pub fn new(name: &str, every_ms: i64, stale_ms: i64, now: Millis) -> Job {
    Job {
        name: name.into(),
        every_ms,
        stale_ms,
        due_ms: now,
        was_due_ms: now,
        owner: None,
        epoch: 0,
        forced: false,
        declared_ms: now,
        last_begun_ms: None,
        last_ended_ms: None,
        last_ok_ms: None,
        last_result: None,
        last_error: None,
        last_epoch: 0,
        runs: 0,
        took_over: 0,
    }
}

/// Due now, or due by a clock that was set back since.
pub fn mend_clock(job: &mut Job, ttl_ms: i64, now: Millis) -> bool {
    let farthest = now.saturating_add(job.every_ms).saturating_add(ttl_ms);
    let ahead = job.due_ms > farthest;
    if ahead {
        job.due_ms = if job.owner.is_some() { now.saturating_add(ttl_ms) } else { now };
    }
    ahead
}

/// Somebody begins to run it.
pub fn claim(job: &mut Job, owner: Uuid, ttl_ms: i64, now: Millis) {
    if job.owner.is_some() {
        job.took_over = job.took_over.saturating_add(1);
    } else {
        job.was_due_ms = job.due_ms;
    }
    job.owner = Some(owner);
    job.epoch = job.epoch.saturating_add(1);
    job.due_ms = now.saturating_add(ttl_ms);
    job.forced = false;
    job.last_begun_ms = Some(now);
}

/// A run has ended; the events of [`JobEnd::Done`] are the caller's to write.
pub fn end(job: &mut Job, end: &JobEnd, now: Millis) {
    job.owner = None;
    job.last_ended_ms = Some(now);
    job.last_epoch = job.epoch;
    job.runs = job.runs.saturating_add(1);
    match end {
        JobEnd::Done { result, .. } => {
            job.last_ok_ms = Some(now);
            job.last_result = Some(result.clone());
            job.last_error = None;
            let next = job.was_due_ms.saturating_add(job.every_ms);
            job.due_ms = if next > now { next } else { now.saturating_add(job.every_ms) };
        }
        JobEnd::Failed { error, again_ms } => {
            job.last_error = Some(error.clone());
            job.due_ms = *again_ms;
        }
    }
    if std::mem::take(&mut job.forced) {
        job.due_ms = job.due_ms.min(now);
    }
}

/// An admin wants it to run now.
pub fn force(job: &mut Job, now: Millis) {
    if job.owner.is_some() && job.due_ms > now {
        job.forced = true;
    } else {
        job.due_ms = job.due_ms.min(now);
    }
}

/// An admin takes the claim away; `true` if there was one.
pub fn clear(job: &mut Job, now: Millis) -> bool {
    if job.owner.take().is_none() {
        return false;
    }
    job.epoch = job.epoch.saturating_add(1);
    job.forced = false;
    job.due_ms = now;
    true
}

/// What is missing, in one form for all engines.
pub fn no_job(name: &str) -> StoreError {
    StoreError::NotFound(format!("the job {name}"))
}
