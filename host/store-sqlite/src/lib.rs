//! The books on SQLite: one file, one writer, several readers.
//!
//! What returned `Ok` is on disk: WAL with `synchronous=FULL`, answers after `COMMIT`. Writers never block readers. The file
//! may be on a full or locked disk: that is `Unavailable`, nothing is half written. Time comes from the callers only.

mod addresses;
mod error;
mod events;
mod hosts;
mod jobs;
mod objects;
mod plugins;
mod queue;
mod records;
mod services;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Sqlite, SqliteConnection, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use wharf_store::{Result, StoreError};

use crate::{
    error::{Db, DbError},
    writer::Writer,
};

/// Reading connections: enough that a long listing does not stop the others.
const READERS: u32 = 4;
/// How long a lock of another process (a backup, an admin's shell) is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// More than there are statements, so that each is prepared once.
const STATEMENTS: usize = 256;

/// The books in one SQLite file. Cheap to clone: all clones share the writer and the readers.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
}

/// There is no other host.
impl wharf_store::Signals for SqliteStore {}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens or creates the file and brings its tables up to date. Must be called within a tokio runtime: the writer is a
    /// task of it.
    ///
    /// # Errors
    /// `Unavailable` if the file can't be opened or written, `Corrupt` if it is no database of ours or of a newer version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path.as_ref())
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .statement_cache_capacity(STATEMENTS);
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let opened = async {
            let mut connection = writing.connect().await?;
            migrate(&mut connection).await?;
            let readers = SqlitePoolOptions::new()
                .max_connections(READERS)
                .acquire_timeout(BUSY)
                .connect_with(options.read_only(true))
                .await?;
            Ok::<_, DbError>((connection, readers))
        };
        let (connection, readers) = opened.await.map_err(StoreError::from)?;
        Ok(Self { writer: Writer::start(connection, writing), readers })
    }

    /// Writes a consistent copy to `path`, which must not exist; work goes on meanwhile. The copy is complete once this
    /// returns `Ok`: it is written under another name and renamed.
    ///
    /// # Errors
    /// `Conflict` if `path` exists, `Unavailable` if it can't be written.
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let there = tokio::fs::try_exists(path).await.map_err(|e| StoreError::Unavailable(e.to_string()))?;
        if there {
            return Err(StoreError::Conflict(format!("{} exists already: choose another name", path.display())));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let done = self.copy_to(Path::new(&partial), path).await;
        if done.is_err() {
            // Best effort: what is left has a name that nobody takes for a backup.
            let _ = tokio::fs::remove_file(&partial).await;
        }
        done
    }

    async fn copy_to(&self, partial: &Path, path: &Path) -> Result<()> {
        let io = |error: std::io::Error| StoreError::Unavailable(format!("the backup can't be written: {error}"));
        let Some(name) = partial.to_str() else {
            return Err(StoreError::Conflict("the name of a backup must be valid UTF-8".into()));
        };
        if tokio::fs::try_exists(partial).await.map_err(io)? {
            tokio::fs::remove_file(partial).await.map_err(io)?;
        }
        // SQLite writes into an empty file as into none, and keeps who may read it: there are secrets in it.
        let mut private = tokio::fs::OpenOptions::new();
        private.write(true).create_new(true).mode(0o600).open(partial).await.map_err(io)?;
        let mut reader = self.reader().await?;
        sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut *reader).await.map_err(DbError::from)?;
        tokio::fs::File::open(partial).await.map_err(io)?.sync_all().await.map_err(io)?;
        tokio::fs::rename(partial, path).await.map_err(io)?;
        // The name must last as the file does.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tokio::fs::File::open(folder).await.map_err(io)?.sync_all().await.map_err(io)
    }

    /// Reads the whole file and returns what is wrong with it, one sentence each; empty = all is well.
    ///
    /// # Errors
    /// `Unavailable` if the file can't be read.
    pub async fn integrity_check(&self) -> Result<Vec<String>> {
        let mut reader = self.reader().await?;
        let check: Db<Vec<String>> = async {
            let mut wrong: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut *reader).await?;
            wrong.retain(|line| line != "ok");
            let dangling: Vec<(String, Option<i64>, String, i64)> =
                sqlx::query_as("PRAGMA foreign_key_check").fetch_all(&mut *reader).await?;
            wrong.extend(dangling.into_iter().map(|(table, _, parent, _)| {
                format!("a row of {table} refers to a row of {parent} that does not exist")
            }));
            Ok(wrong)
        }
        .await;
        Ok(check?)
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        Ok(self.readers.acquire().await.map_err(DbError::from)?)
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Db<()> {
    sqlx::migrate!("./migrations").run(connection).await.map_err(|error| {
        DbError::Store(match error {
            sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
                StoreError::from(DbError::Sql(error))
            }
            sqlx::migrate::MigrateError::VersionMissing(version) => StoreError::Corrupt(format!(
                "the file has migration {version}, which this version of Wharf does not know: use a newer one"
            )),
            other => StoreError::Corrupt(other.to_string()),
        })
    })
}

/// A limit as SQL wants it.
fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
