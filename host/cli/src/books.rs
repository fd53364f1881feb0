//! The books that the settings name: SQLite in the data folder, or PostgreSQL.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use wharf_capabilities::secrets::Keyring;
use wharf_model::{Clock, Millis, SystemClock};
use wharf_store::{Books, Meta, tables::COPYING};
use wharf_store_postgres::PostgresStore;
use wharf_store_sqlite::SqliteStore;

use crate::config::Config;

/// What they are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To work on them: on SQLite as the only host.
    Serve,
    /// For one thing that may be done while a host runs.
    Beside,
}

/// Opened books.
pub struct Opened {
    pub books: Books,
    /// The time that they are kept by.
    pub clock: Arc<dyn Clock>,
    /// Held for as long as this lives.
    pub _lock: Option<std::fs::File>,
}

/// Opens them, and brings their tables up to date.
///
/// # Errors
/// Settings, folder or server that can't be used; on SQLite, another host that serves them.
pub async fn open(config: &Config, purpose: Use) -> Result<Opened> {
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir).with_context(|| format!("can't make the data folder {}", dir.display()))?;
    if let Some(url) = config.database()? {
        let store = PostgresStore::open(&url, config.database_connections.get())
            .await
            .context("can't open the books on PostgreSQL: see `database_url`")?;
        whole(&store).await?;
        return Ok(Opened { clock: store.clock(), books: Arc::new(store), _lock: None });
    }
    let lock = match purpose {
        Use::Serve => Some(lock(dir)?),
        Use::Beside => None,
    };
    let store = SqliteStore::open(dir.join("wharf.db")).await.context("can't open the books")?;
    whole(&store).await?;
    Ok(Opened { books: Arc::new(store), clock: Arc::new(SystemClock), _lock: lock })
}

/// Refuses books into which a copy has not ended.
async fn whole(books: &impl Meta) -> Result<()> {
    if books.meta(COPYING).await?.is_some() {
        bail!(
            "a copy into these books has not ended, so that much is missing: run the same `wharf store copy` (or `restore`) again"
        );
    }
    Ok(())
}

/// Holds the data folder: two hosts on one SQLite file would be two writers.
pub fn lock(dir: &Path) -> Result<std::fs::File> {
    let file = std::fs::File::create(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!(
            "another wharf serves {} already: stop it, choose another --data-dir, or keep the books of several hosts on \
             PostgreSQL (`database_url`)",
            dir.display()
        ),
    }
}

/// Where a word stands in the books that only their own master key can read.
pub const KEY_CHECK: (&str, &str) = ("wharf", "key-check");

/// Refuses a master key that is not the one that the secrets in the books were sealed with: every host of the same books
/// needs the same, and a restored backup needs its own.
///
/// # Errors
/// Another key, or books that can't be used.
pub async fn check_key(books: &Books, keyring: &Keyring, now: Millis) -> Result<()> {
    let (owner, slot) = KEY_CHECK;
    let sealed = keyring.seal(owner, slot, b"wharf");
    let there = books.put_secret_once(owner, slot, &sealed, now).await?;
    if keyring.open(owner, slot, &there).is_err() {
        bail!(
            "the master key is not the one that the secrets in these books were sealed with: copy `master.key` from the host \
             that made them, or name it by `master_key_file`"
        );
    }
    Ok(())
}
