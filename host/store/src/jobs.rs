//! Jobs: scheduled work of the host, on claims as runs have them; and the pruning that jobs do.

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{Millis, event::NewEvent, job::Job};

use crate::{NewAudit, Result};

/// A process's hold on a job. Its end is fenced by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobClaim {
    pub name: String,
    pub owner: Uuid,
    pub epoch: i64,
}

/// How a run of a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEnd {
    /// Well: what it found, and what of that is news.
    Done { result: serde_json::Value, events: Vec<NewEvent> },
    /// Badly: why, and when it is tried again. The last good result stays.
    Failed { error: String, again_ms: Millis },
}

/// What is pruned, and up to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Events from before, but none that a hook has still to be told of.
    Events {
        before: Millis,
    },
    Audit {
        before: Millis,
    },
    /// Idempotency keys from before.
    Keys {
        before: Millis,
    },
    /// Resolved effects of live operations, all but the last [`rules::EFFECTS_KEPT`](crate::rules::EFFECTS_KEPT) and the
    /// last of all.
    Effects,
}

/// The schedule of jobs, and what they tidy away.
#[async_trait]
pub trait Jobs: Send + Sync + 'static {
    /// Makes the job known; a new one is due at once. One that is known keeps its history and its due time, and gets these
    /// intervals.
    async fn declare_job(&self, name: &str, every_ms: i64, stale_ms: i64, now: Millis) -> Result<()>;
    /// Claims those of `names` that are due, oldest due first: `epoch + 1`, `due_ms = now + ttl_ms`. A job whose owner did
    /// not renew in time is due again by itself; taking it over is counted.
    ///
    /// A clock that was set back stops no job: one that is due later than its interval and `ttl_ms` from now is due now; if
    /// it is claimed, once its owner has had `ttl_ms` to renew.
    async fn claim_jobs(&self, names: &[&str], owner: Uuid, ttl_ms: i64, now: Millis) -> Result<Vec<JobClaim>>;
    /// Holds on for another `ttl_ms`. Fenced.
    async fn renew_job(&self, claim: &JobClaim, ttl_ms: i64, now: Millis) -> Result<()>;
    /// Writes the end, with the events, and gives the claim back. Fenced. After a good end it is due an interval after it
    /// was due, or, if that has passed already, an interval from now: ticks that were missed are made up for once.
    async fn end_job(&self, claim: &JobClaim, end: JobEnd, now: Millis) -> Result<()>;
    async fn job(&self, name: &str) -> Result<Option<Job>>;
    /// By name.
    async fn jobs(&self) -> Result<Vec<Job>>;
    /// Makes it due now; one that is running runs once more when it has ended. Returns the row from before: the forced run's
    /// result is there when `last_epoch` is above that row's `epoch`.
    async fn force_job(&self, name: &str, audit: NewAudit, now: Millis) -> Result<Job>;
    /// Takes the claim away from whoever holds it, of one job or of all: it is due now, and the end that the former owner
    /// may still write is refused. Returns the names of those that were held.
    async fn clear_job_locks(&self, name: Option<&str>, audit: NewAudit, now: Millis) -> Result<Vec<String>>;
    /// When the next of `names` is due, claimed or not.
    async fn next_job_due(&self, names: &[&str]) -> Result<Option<Millis>>;

    /// Removes at most `limit` rows, oldest first; returns how many. Fewer than `limit` = there are no more.
    async fn prune(&self, what: Prune, limit: usize) -> Result<u64>;
}
