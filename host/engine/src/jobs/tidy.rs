//! Tidying the books: the end of quarantines, and rows that are older than anybody needs.
//!
//! Neither trusts the wall clock. A quarantine is counted by time that this process has measured itself. Retention moves on by
//! at most two intervals a run, so that a clock which jumps by years takes nothing with it before somebody sees it.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use wharf_model::Millis;
use wharf_store::{Prune, StoreError, rules};

use super::{Found, HOUR, JobError, RETENTION};
use crate::Engine;

/// Rows in one transaction: others want to write, too.
const BATCH: usize = 500;
/// Transactions for one kind of row in a run; the next run goes on.
const BATCHES: usize = 200;
const DAY: i64 = 24 * HOUR;
/// Less is lost whenever another host takes its turn.
const TELL_MS: i64 = 60_000;

/// Which look of the rest clock this process saw first when.
#[derive(Debug, Default)]
pub(crate) struct RestSeen(Mutex<Option<(i64, Instant)>>);

impl RestSeen {
    /// How long this process has known that look.
    fn since(&self, looks: i64) -> i64 {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|(seen, _)| *seen == looks)
            .map_or(0, |(_, at)| i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    fn set(&self, looks: i64, at: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_none_or(|(seen, _)| seen != looks) {
            *seen = Some((looks, at));
        }
    }
}

/// What retention keeps of its run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Retained {
    /// The time that counted as now.
    until_ms: Millis,
    events: u64,
    audit: u64,
    keys: u64,
    effects: u64,
}

impl Engine {
    /// Begins to measure, if another process has moved the rest clock: it may be this one's turn next.
    pub(super) async fn see_rest_clock(&self) {
        let at = Instant::now();
        if let Ok(Some(clock)) = self.books.rest_clock().await {
            self.rest_seen.set(clock.looks, at);
        }
    }

    pub(super) async fn count_rest(&self) -> Result<Found, JobError> {
        let looks = self.books.rest_clock().await?.map_or(0, |clock| clock.looks);
        let (at, now) = (Instant::now(), self.clock.now_ms());
        let measured_ms = self.rest_seen.since(looks);
        let rested = match self.books.count_rest(looks, measured_ms, now).await {
            Ok(rested) => rested,
            // A run that was taken over from this or another process came first: it has counted.
            Err(StoreError::Conflict(text)) => {
                return Ok(Found { result: serde_json::json!({ "not_counted": text }), events: Vec::new() });
            }
            Err(error) => return Err(error.into()),
        };
        self.rest_seen.set(rested.clock.looks, at);
        if rested.moved_ms.saturating_abs() > TELL_MS {
            tracing::warn!(
                by_ms = rested.moved_ms,
                resting = rested.resting,
                "the clock and the time that was measured differ (a jump, or no host ran): quarantines end by as much later"
            );
        }
        if rested.freed > 0 {
            // Whoever waits for addresses looks again.
            self.books.wake_topic("addresses", now).await?;
            self.work.notify_one();
        }
        let result = serde_json::json!({
            "freed": rested.freed, "resting": rested.resting, "moved_ms": rested.moved_ms, "measured_ms": measured_ms,
        });
        Ok(Found { result, events: Vec::new() })
    }

    pub(super) async fn retain(&self) -> Result<Found, JobError> {
        let row = self.books.job(RETENTION).await?;
        let before: Option<Retained> = row.and_then(|j| j.last_result).and_then(|r| serde_json::from_value(r).ok());
        let until_ms = until(before.map(|b| b.until_ms), self.clock.now_ms());
        let days = |days: u32| until_ms.saturating_sub(i64::from(days) * DAY);
        let done = Retained {
            until_ms,
            events: self.prune(Prune::Events { before: days(self.config.keep_events_days) }).await?,
            audit: self.prune(Prune::Audit { before: days(self.config.keep_audit_days) }).await?,
            keys: self.prune(Prune::Keys { before: until_ms.saturating_sub(rules::IDEMPOTENCY_MS) }).await?,
            effects: self.prune(Prune::Effects).await?,
        };
        Ok(Found { result: serde_json::to_value(&done)?, events: Vec::new() })
    }

    async fn prune(&self, what: Prune) -> Result<u64, JobError> {
        let mut all = 0;
        for _ in 0..BATCHES {
            let gone = self.books.prune(what, BATCH).await?;
            all += gone;
            if gone < u64::try_from(BATCH).unwrap_or(u64::MAX) {
                break;
            }
        }
        Ok(all)
    }
}

/// The time that counts as now: at most two intervals after the run before. A host that was off catches up at that pace.
fn until(before: Option<Millis>, now: Millis) -> Millis {
    before.map_or(now, |before| now.min(before.saturating_add(2 * HOUR)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_takes_two_intervals_a_run_at_most() {
        assert_eq!(until(None, 5 * DAY), 5 * DAY);
        assert_eq!(until(Some(5 * DAY), 5 * DAY + HOUR), 5 * DAY + HOUR);
        assert_eq!(until(Some(5 * DAY), 5_000 * DAY), 5 * DAY + 2 * HOUR);
        assert_eq!(until(Some(5 * DAY), DAY), DAY, "set back: nothing is old");
    }
}
