//! The database's time on a host: what claims and due times are counted by.
//!
//! Asked for every few seconds and carried on by the host's monotonic clock in between, so that a host whose wall clock is an
//! hour ahead neither takes living claims for dead ones nor ends a quarantine early. It never goes back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{PgPool, query_scalar};
use wharf_model::{Clock, Millis};

use crate::error::Db;

/// How often the database is asked.
const EVERY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct DatabaseClock {
    /// What the database said, and when that was.
    base: Mutex<(Millis, Instant)>,
    last: AtomicI64,
}

impl DatabaseClock {
    pub(crate) async fn start(pool: &PgPool) -> Db<Self> {
        let base = ask(pool).await?;
        Ok(Self { base: Mutex::new(base), last: AtomicI64::new(base.0) })
    }
}

impl Clock for DatabaseClock {
    fn now_ms(&self) -> Millis {
        let (base, at) = *self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let now = base.saturating_add(i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX));
        self.last.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

/// The database's time, and the moment here that it belongs to: the middle of asking.
async fn ask(pool: &PgPool) -> Db<(Millis, Instant)> {
    let asked = Instant::now();
    let now = query_scalar!(r#"SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT AS "now!""#)
        .fetch_one(pool)
        .await?;
    Ok((now, asked + asked.elapsed() / 2))
}

/// Keeps the clock right for as long as it is polled.
pub(crate) async fn follow(clock: Arc<DatabaseClock>, pool: PgPool) {
    loop {
        tokio::time::sleep(EVERY).await;
        // While the database is away nothing can be claimed or committed: the monotonic clock will do.
        if let Ok(base) = ask(&pool).await {
            *clock.base.lock().unwrap_or_else(PoisonError::into_inner) = base;
        }
    }
}
