//! The books on PostgreSQL: one database, any number of hosts.
//!
//! What returned `Ok` is committed with `synchronous_commit`; a transaction that is refused leaves nothing. If the
//! connection breaks while a transaction is being committed, the caller hears `Unavailable` and the transaction may stand:
//! everything that callers do is safe to be done again (the fence, idempotency keys, desired state).
//!
//! Transactions run side by side, at READ COMMITTED. What must not be decided twice is decided under a lock, and locks are
//! always taken in the same order, so that no two transactions wait for each other: see [`lock`]. Time comes from the
//! callers; hosts get theirs from [`PostgresStore::clock`], which follows the database, so that a host whose own clock is
//! wrong takes no claim too early.

mod addresses;
mod clock;
mod error;
mod events;
mod hosts;
mod jobs;
mod lock;
mod objects;
mod plugins;
mod queue;
mod records;
mod services;
mod signals;
mod tables;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sqlx::{
    ConnectOptions, Executor, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::broadcast;
use wharf_model::Clock;
use wharf_store::{Result, Signal, StoreError};

pub use crate::clock::DatabaseClock;
use crate::error::{Db, DbError};

/// Connections of one host, unless said otherwise: more than two cores make use of, few enough for ten hosts on a server
/// with its default of 100.
pub const CONNECTIONS: u32 = 8;
/// How long a free connection is waited for.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Each statement is prepared once.
const STATEMENTS: usize = 256;
/// What every connection says first. A host that freezes within a transaction holds locks: the server ends it before any
/// claim has run out. `synchronous_commit` may be off by the server's own settings; the books' promise needs it.
const SESSION: &str = "SET synchronous_commit = on; SET default_transaction_isolation = 'read committed';
    SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'";

/// The books in one PostgreSQL database. Cheap to clone: all clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    clock: Arc<DatabaseClock>,
    signals: broadcast::Sender<Signal>,
    /// Ends the background tasks with the last clone.
    _tasks: Arc<Tasks>,
}

struct Tasks(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects and brings the tables up to date; several hosts may do so at once. `url` is
    /// `postgres://user:password@host:port/database`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unavailable` if the server can't be reached or refuses, `Corrupt` if the tables are of a newer version or not ours.
    pub async fn open(url: &str, connections: u32) -> Result<Self> {
        let options: PgConnectOptions = url.parse().map_err(|e| {
            StoreError::Unavailable(format!("the address of the database is none that PostgreSQL understands: {e}"))
        })?;
        let options = options
            .application_name("wharf")
            .statement_cache_capacity(STATEMENTS)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(5))
            .log_statements(tracing::log::LevelFilter::Trace);
        let opened = async {
            let pool = PgPoolOptions::new()
                .max_connections(connections.max(2))
                .acquire_timeout(ACQUIRE)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        connection.execute(SESSION).await?;
                        Ok(())
                    })
                })
                .connect_with(options.clone())
                .await?;
            migrate(&pool).await?;
            let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&pool).await?;
            if fsync != "on" {
                tracing::warn!("the database server runs with fsync = {fsync}: a power cut can lose what was accepted");
            }
            Ok::<_, DbError>(pool)
        };
        let pool = opened.await.map_err(StoreError::from)?;
        let clock = Arc::new(DatabaseClock::start(&pool).await.map_err(StoreError::from)?);
        let (signals, _) = broadcast::channel(1_024);
        let tasks = vec![
            tokio::spawn(clock::follow(Arc::clone(&clock), pool.clone())),
            tokio::spawn(signals::hear(options, signals.clone())),
        ];
        Ok(Self { pool, clock, signals, _tasks: Arc::new(Tasks(tasks)) })
    }

    /// The database's time, as hosts should use it.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    /// Says goodbye to the server; what is under way ends first.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether the rows hang together: what no foreign key can say. One sentence for each thing that is wrong.
    ///
    /// # Errors
    /// `Unavailable` if the database can't be read.
    pub async fn integrity_check(&self) -> Result<Vec<String>> {
        let mut reader = self.reader().await?;
        let mut wrong = Vec::new();
        for (sql, what) in CHECKS {
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut *reader).await.map_err(DbError::from)?;
            if count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        Ok(wrong)
    }

    async fn reader(&self) -> Result<PoolConnection<Postgres>> {
        Ok(self.pool.acquire().await.map_err(DbError::from)?)
    }

    /// Runs `work` in a transaction of its own. When it returns `Ok`, it is committed.
    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Db<T>> + Send + 'static,
    {
        let mut transaction = self.pool.begin().await.map_err(DbError::from)?;
        // `work` may panic: a caller's decision runs in it.
        match AssertUnwindSafe(work(&mut transaction)).catch_unwind().await {
            Ok(Ok(done)) => {
                transaction.commit().await.map_err(DbError::from)?;
                Ok(done)
            }
            Ok(Err(error)) => {
                // The connection may be gone, and the transaction with it.
                let _ = transaction.rollback().await;
                Err(error.into())
            }
            Err(_) => {
                let _ = transaction.rollback().await;
                Err(StoreError::Corrupt("a request to the store panicked; nothing was written for it".into()))
            }
        }
    }
}

/// Counts of what must not be, and what it is.
const CHECKS: [(&str, &str); 5] = [
    (
        "SELECT COUNT(*) FROM queue q JOIN operation o ON o.id = q.operation_id WHERE o.status NOT IN ('queued', 'running', 'waiting')",
        "live rows belong to operations that are over",
    ),
    (
        "SELECT COUNT(*) FROM operation o WHERE o.status IN ('running', 'waiting') AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.operation_id = o.id)",
        "operations are open and nobody will carry them on",
    ),
    (
        "SELECT COUNT(*) FROM slot s WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.operation_id = s.operation_id)",
        "slots are held by operations that are over",
    ),
    (
        "SELECT COUNT(*) FROM service s WHERE s.vmid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM vmid v WHERE v.service_id = s.id AND v.vmid = s.vmid)",
        "services have a VM number that is not reserved for them",
    ),
    (
        // Restored books go on a million further.
        "SELECT COUNT(*) FROM (SELECT seq - LAG(seq) OVER (ORDER BY seq) AS step FROM event) e WHERE e.step > 1 AND e.step < 1000000",
        "events are numbered with a gap",
    ),
];

async fn migrate(pool: &PgPool) -> Db<()> {
    sqlx::migrate!("./migrations").run(pool).await.map_err(|error| {
        DbError::Store(match error {
            sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
                StoreError::from(DbError::Sql(error))
            }
            sqlx::migrate::MigrateError::VersionMissing(version) => StoreError::Corrupt(format!(
                "the database has migration {version}, which this version of Wharf does not know: use a newer one"
            )),
            other => StoreError::Corrupt(other.to_string()),
        })
    })
}

/// A limit as SQL wants it.
fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
