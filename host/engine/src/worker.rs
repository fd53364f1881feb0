//! Claims due runs and drives each until it waits or ends, under renewal of its claim.
//!
//! While a server is asked, a run has its claim but no place among those that are worked on: one slow server would else take
//! all places, and stop the deploys on every other.
//!
//! A worker whose claim could not be renewed for two thirds of its time stops by itself before anybody can take the run
//! over; whatever it still writes is refused by the fence.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use rand::{Rng, RngExt};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::Instrument;
use wharf_store::{Claim, Run, StoreError};

use crate::{Engine, EngineConfig};

/// What a worker has while it drives a run.
#[derive(Debug)]
pub(crate) struct Hold {
    /// When the claim was last known to hold. Checked right before a write leaves the host.
    renewed: Mutex<Instant>,
    /// Its place among those that are worked on; none while a server is asked.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    places: Arc<Semaphore>,
}

impl Hold {
    /// `asked`: when the claim was asked for, for from then on its time runs.
    fn new(place: OwnedSemaphorePermit, asked: Instant) -> Self {
        let places = Arc::clone(place.semaphore());
        Self { renewed: Mutex::new(asked), place: Mutex::new(Some(place)), places }
    }

    pub(crate) async fn age(&self) -> Duration {
        self.renewed.lock().await.elapsed()
    }

    /// Asks a server: somebody else is worked on until it has answered.
    pub(crate) async fn away<T>(&self, call: impl Future<Output = T>) -> T {
        drop(self.place.lock().await.take());
        let answer = call.await;
        // Never closed.
        *self.place.lock().await = Arc::clone(&self.places).acquire_owned().await.ok();
        answer
    }
}

/// Why driving a run stopped before it waited or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("the claim was lost or could not be renewed in time")]
    ClaimLost,
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::ClaimLost => Self::ClaimLost,
            other => Self::Store(other),
        }
    }
}

impl Engine {
    pub(crate) async fn work_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.config.concurrency));
        let claims = Arc::new(Semaphore::new(self.config.claims.max(self.config.concurrency)));
        // Dropped with this loop, so that nothing works on when the host is gone.
        let mut runs = JoinSet::new();
        loop {
            if *stop.borrow() {
                break;
            }
            let Ok(claim) = Arc::clone(&claims).acquire_owned().await else { break };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let mut held = vec![(claim, place)];
            while held.len() < 32
                && let Ok(claim) = Arc::clone(&claims).try_acquire_owned()
                && let Ok(place) = Arc::clone(&places).try_acquire_owned()
            {
                held.push((claim, place));
            }
            let wanted = held.len();
            self.kill.reach("claim").await;
            let (asked, now) = (Instant::now(), self.clock.now_ms());
            let claimed = match self.books.claim(self.owner, self.config.claim_ttl_ms, wanted, now).await {
                Ok(runs) => runs,
                Err(error) => {
                    tracing::error!(%error, "can't claim work from the books; trying again in a second");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let full = claimed.len() == wanted;
            for run in claimed {
                let Some((claim, place)) = held.pop() else { break };
                let engine = Arc::clone(&self);
                runs.spawn(async move {
                    engine.hold_and_drive(run, place, asked).await;
                    drop(claim);
                    engine.work.notify_one();
                });
            }
            drop(held);
            while runs.try_join_next().is_some() {}
            if full {
                continue;
            }
            let pause = self.pause_until(self.books.next_due().await).await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.work.notified() => {}
                // Whoever could have said stop is gone: that is a stop, too.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
        // What is in hand is brought to its next commit that gives the claim back.
        while runs.join_next().await.is_some() {}
    }

    /// How long a loop may sleep: until something is due, and never longer than the sweep.
    pub(crate) async fn pause_until(&self, due: wharf_store::Result<Option<i64>>) -> Duration {
        // What comes between the look and the sleep must wake the loop all the same.
        self.kill.reach("rest").await;
        let longest = self.config.sweep_ms;
        let ms = match due {
            Ok(Some(due)) => (due - self.clock.now_ms()).clamp(1, longest),
            Ok(None) => longest,
            Err(_) => 1_000,
        };
        Duration::from_millis(u64::try_from(ms).unwrap_or(1_000))
    }

    async fn hold_and_drive(&self, run: Run, place: OwnedSemaphorePermit, asked: Instant) {
        let claim = run.claim;
        // On every line of the log that is about this run, whoever writes it, and whatever level is asked for.
        let span = tracing::error_span!(
            "run",
            service = wharf_store::queue::subject(&run.service),
            operation = %run.operation.id,
            kind = run.operation.kind,
            server = run.service.server,
        );
        self.carry_on(run, claim, Hold::new(place, asked)).instrument(span).await;
        self.notices.tell(crate::Notice::Operation(claim.operation));
    }

    async fn carry_on(&self, run: Run, claim: Claim, hold: Hold) {
        // A panic in one run must not take the worker along.
        let driven = std::panic::AssertUnwindSafe(self.drive(run, &hold)).catch_unwind();
        let ended = tokio::select! {
            biased;
            ended = driven => ended,
            () = self.keep_renewing(claim, &hold) => Ok(Err(Stopped::ClaimLost)),
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(Stopped::ClaimLost)) => {
                tracing::warn!(operation = %claim.operation, epoch = claim.epoch, "another worker has this operation now; stopped");
            }
            Ok(Err(Stopped::Store(error))) => {
                tracing::error!(operation = %claim.operation, %error, "the books could not be written; the operation goes on when its claim has run out");
            }
            Err(_) => {
                tracing::error!(operation = %claim.operation, "the host failed while carrying this operation on; it goes on when its claim has run out");
            }
        }
    }

    /// Returns when the claim must be taken for lost.
    async fn keep_renewing(&self, claim: Claim, hold: &Hold) {
        let ttl = self.config.claim_ttl_ms;
        let third = Duration::from_millis(u64::try_from(ttl / 3).unwrap_or(10_000));
        loop {
            tokio::time::sleep(third).await;
            self.kill.reach("renew").await;
            let asked = Instant::now();
            match self.books.renew(&claim, ttl, self.clock.now_ms()).await {
                Ok(()) => *hold.renewed.lock().await = asked,
                Err(StoreError::ClaimLost) => return,
                Err(error) => {
                    tracing::warn!(operation = %claim.operation, %error, "can't renew the claim");
                    if hold.age().await > third * 2 {
                        return;
                    }
                }
            }
        }
    }

    /// Whether a write may leave the host, or a step begin, under this claim.
    pub(crate) async fn may_send(&self, hold: &Hold) -> Result<(), Stopped> {
        let limit = Duration::from_millis(u64::try_from(self.config.claim_ttl_ms * 2 / 3).unwrap_or(20_000));
        if hold.age().await > limit { Err(Stopped::ClaimLost) } else { Ok(()) }
    }

    /// How long to leave it alone after failure number `attempt` (from 1).
    pub(crate) fn backoff_ms(&self, attempt: u32) -> i64 {
        backoff(&self.config, attempt, &mut *self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Doubling, capped, with up to a quarter of jitter so that many don't knock at once.
fn backoff(config: &EngineConfig, attempt: u32, dice: &mut impl Rng) -> i64 {
    let doubled = config.backoff_first_ms.saturating_mul(1_i64 << attempt.saturating_sub(1).min(20));
    let base = doubled.min(config.backoff_longest_ms);
    base - dice.random_range(0..=base / 4)
}
