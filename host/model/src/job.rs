//! A job: scheduled work of the host itself.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Millis;

/// The row of a job. One process runs it at a time; the row is the schedule, the lock and the memory of its last run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub every_ms: i64,
    /// Without a good end for longer than this, something is wrong.
    pub stale_ms: i64,
    /// When it runs next; while it runs, when the claim ends unless it is renewed.
    pub due_ms: Millis,
    /// When the run that is under way was due.
    pub was_due_ms: Millis,
    /// The process that runs it.
    pub owner: Option<Uuid>,
    /// Rises with every claim and every cleared lock.
    pub epoch: i64,
    /// Forced while it ran: it runs once more at once.
    pub forced: bool,
    pub declared_ms: Millis,
    pub last_begun_ms: Option<Millis>,
    pub last_ended_ms: Option<Millis>,
    pub last_ok_ms: Option<Millis>,
    /// What the last good run found.
    pub last_result: Option<serde_json::Value>,
    /// Why the last run failed; none if it did not.
    pub last_error: Option<String>,
    /// Epoch of the run that ended last: whoever forced a run at epoch `e` has its result when this is above `e`.
    pub last_epoch: i64,
    /// Runs that ended, well or badly.
    pub runs: i64,
    /// Runs whose process did not live to end them.
    pub took_over: i64,
}

impl Job {
    /// Whether it has gone without a good end for too long, held by somebody or not.
    pub fn is_stale(&self, now: Millis) -> bool {
        now.saturating_sub(self.last_ok_ms.unwrap_or(self.declared_ms)) > self.stale_ms
    }
}
