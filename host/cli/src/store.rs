//! `wharf store`: the books themselves: brought up to date, checked, copied to another engine, backed up, restored.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use wharf_capabilities::secrets::Keyring;
use wharf_model::{Clock, SystemClock, operation::Reason};
use wharf_store::{
    Books, Meta,
    copy::{Copied, copy, copy_snapshot},
    tables::{self, COPYING, Counters, RECONCILE, Rows},
};
use wharf_store_postgres::PostgresStore;
use wharf_store_sqlite::SqliteStore;

use crate::{
    ConfigArguments, RemoteArguments,
    books::{self, lock},
    config::{self, Config},
    remote, serve,
};

/// A host that was seen since then counts as at work.
const SEEN_MS: i64 = 20_000;
/// By how much the numbers of events and audit rows jump when books are restored: more than can have been given out since the
/// backup, so that a panel that polls from the last number it saw misses nothing.
const JUMP: i64 = 1_000_000;

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Bring the tables up to date, as every start of a host does.
    Migrate(ConfigArguments),
    /// Whether the books are sound and the master key fits; the exit code is 1 if not. Hosts may run.
    Check {
        /// Also say what each table comes to.
        #[arg(long)]
        digest: bool,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// Copy the books into new ones, to change the engine. No host may run. Ended in the middle, it goes on when called again.
    Copy {
        /// sqlite:PATH or postgres://…
        #[arg(long)]
        from: String,
        /// sqlite:PATH or postgres://…
        #[arg(long)]
        to: String,
        /// Throw an unfinished copy away first.
        #[arg(long)]
        restart: bool,
    },
    /// Write one moment of the books to a file, from either engine. Hosts may run.
    Backup {
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArguments,
    },
    /// After a restore: keep what the clusters hold from being given out, and let a running host begin its work.
    Reconcile {
        /// A server that can't be looked at, and that you answer for.
        #[arg(long)]
        without: Vec<String>,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Put a backup in the place of the books. No host may run.
    Restore {
        file: PathBuf,
        /// Even if there are books: they are kept aside, a SQLite file as it is, the rows of a PostgreSQL database as a backup.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        config: ConfigArguments,
    },
}

pub async fn run(command: StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Migrate(config) => migrate(&config::load(&config)?).await,
        StoreCommand::Check { digest, config } => check(&config::load(&config)?, digest).await,
        StoreCommand::Copy { from, to, restart } => move_books(&from, &to, restart).await,
        StoreCommand::Backup { file, config } => backup(&config::load(&config)?, &file).await,
        StoreCommand::Reconcile { without, remote } => reconcile(&remote, without).await,
        StoreCommand::Restore { file, replace, config } => restore(&config::load(&config)?, &file, replace).await,
    }
}

/// Books of either engine, as what only an engine itself can do needs them.
enum Kept {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Kept {
    fn rows(&self) -> &dyn Copied {
        match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => store,
        }
    }

    fn books(&self) -> Books {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn now(&self) -> i64 {
        match self {
            Self::Sqlite(_) => SystemClock.now_ms(),
            Self::Postgres(store) => store.clock().now_ms(),
        }
    }

    /// Nobody can serve a SQLite file whose lock is held; of a database only its own rows tell.
    async fn idle(&self) -> Result<()> {
        let Self::Postgres(_) = self else { return Ok(()) };
        let now = self.now();
        for view in self.books().hosts().await? {
            ensure!(
                now - view.host.seen_ms > SEEN_MS,
                "the host {} ({}) was at work on these books {} s ago: stop it first; after a crash, wait {} s",
                view.host.name,
                view.host.address,
                (now - view.host.seen_ms) / 1_000,
                SEEN_MS / 1_000
            );
        }
        Ok(())
    }
}

async fn postgres(url: &str) -> Result<Kept> {
    Ok(Kept::Postgres(PostgresStore::open(url, 4).await.context("can't open the books on PostgreSQL")?))
}

/// Those that the settings name.
async fn configured(config: &Config) -> Result<Kept> {
    if let Some(url) = config.database()? {
        return postgres(&url).await;
    }
    let file = config.data_dir.join("wharf.db");
    ensure!(file.exists(), "there are no books in {}: see `data_dir` and `database_url`", config.data_dir.display());
    Ok(Kept::Sqlite(SqliteStore::open(file).await.context("can't open the books")?))
}

async fn migrate(config: &Config) -> Result<()> {
    let kept = match config.database()? {
        Some(url) => postgres(&url).await?,
        None => {
            std::fs::create_dir_all(&config.data_dir)?;
            Kept::Sqlite(SqliteStore::open(config.data_dir.join("wharf.db")).await.context("can't open the books")?)
        }
    };
    let engine = match kept {
        Kept::Sqlite(_) => "SQLite",
        Kept::Postgres(_) => "PostgreSQL",
    };
    println!("the books on {engine} are as version {} of wharf wants them", env!("CARGO_PKG_VERSION"));
    Ok(())
}

async fn check(config: &Config, digest: bool) -> Result<()> {
    let kept = configured(config).await?;
    let mut wrong = match &kept {
        Kept::Sqlite(store) => store.integrity_check().await?,
        Kept::Postgres(store) => store.integrity_check().await?,
    };
    if kept.rows().meta(COPYING).await?.is_some() {
        wrong.push("a copy into these books has not ended: run `wharf store copy` again".into());
    }
    if let Some(since) = kept.rows().meta(RECONCILE).await? {
        println!("the books were restored and are not merged with the clusters yet: {since}");
    }
    match serve::existing_keyring(config) {
        Ok(Some(keyring)) => wrong.extend(fits(&kept.books(), &keyring).await?),
        Ok(None) => wrong.push("there is no master key: without it no secret in the books can be read".into()),
        Err(error) => wrong.push(format!("{error:#}")),
    }
    if digest {
        let all = tables::digest(&mut *kept.rows().snapshot().await?).await?;
        for table in &all.tables {
            println!("{}  {:>9} rows  {}", tables::hex(&table.digest), table.rows, table.table);
        }
        println!("{}  {:>9} rows  everything", all.overall(), all.rows());
    }
    for line in &wrong {
        println!("{line}");
    }
    ensure!(wrong.is_empty(), "the books are not sound");
    println!("the books are sound");
    Ok(())
}

async fn fits(books: &Books, keyring: &Keyring) -> Result<Option<String>> {
    let (owner, slot) = books::KEY_CHECK;
    let fits = books.secret(owner, slot).await?.is_none_or(|sealed| keyring.open(owner, slot, &sealed).is_ok());
    Ok((!fits).then(|| "the master key is not the one that the secrets were sealed with".to_owned()))
}

/// What `--from` and `--to` name, held against hosts.
async fn place(name: &str, must_exist: bool) -> Result<(Kept, Option<std::fs::File>)> {
    if name.starts_with("postgres://") || name.starts_with("postgresql://") {
        let kept = postgres(name).await?;
        kept.idle().await?;
        return Ok((kept, None));
    }
    let Some(path) = name.strip_prefix("sqlite:").map(|p| Path::new(p.trim_start_matches("//"))) else {
        bail!("`{name}` is neither sqlite:PATH nor postgres://user@host/database");
    };
    let path = if path == Path::new("") { bail!("sqlite: needs a path") } else { path };
    let path = std::path::absolute(path)?;
    ensure!(!must_exist || path.exists(), "{} does not exist", path.display());
    let folder = path.parent().context("a file in a folder")?;
    std::fs::create_dir_all(folder)?;
    let lock = lock(folder)?;
    if !path.exists() {
        private(&path)?;
    }
    Ok((Kept::Sqlite(SqliteStore::open(&path).await.with_context(|| path.display().to_string())?), Some(lock)))
}

async fn move_books(from: &str, to: &str, restart: bool) -> Result<()> {
    ensure!(from != to, "--from and --to are the same");
    let (source, _held) = place(from, true).await?;
    let (destination, _held_too) = place(to, false).await?;
    let done = copy(source.rows(), destination.rows(), restart, &|line| eprintln!("{line}")).await?;
    destination.idle().await?;
    println!(
        "copied: {} rows ({} written now), digest {} on both sides. Bring the master key along, set `database_url`, start the host",
        done.digest.rows(),
        done.written,
        done.digest.overall()
    );
    Ok(())
}

async fn backup(config: &Config, file: &Path) -> Result<()> {
    let kept = configured(config).await?;
    ensure!(
        kept.rows().meta(COPYING).await?.is_none(),
        "these books are an unfinished copy: back up where it came from"
    );
    match &kept {
        Kept::Sqlite(store) => store.backup(file).await?,
        Kept::Postgres(store) => rows_to_file(store, file).await?,
    }
    println!(
        "{} holds the books; it is of no use without the master key, and with it holds every secret",
        file.display()
    );
    Ok(())
}

/// One moment of a database's books.
async fn rows_to_file(store: &PostgresStore, file: &Path) -> Result<()> {
    ensure!(!file.exists(), "{} exists already: choose another name", file.display());
    let work = beside(file, ".copying");
    remove(&work)?;
    private(&work)?;
    let written = async {
        let copy = SqliteStore::open(&work).await?;
        copy_snapshot(store, &copy, &|line| eprintln!("{line}")).await?;
        copy.backup(file).await
    };
    let written = written.await;
    remove(&work)?;
    Ok(written?)
}

async fn reconcile(host: &RemoteArguments, without: Vec<String>) -> Result<()> {
    let body = serde_json::to_vec(&serde_json::json!({ "without": without }))?;
    let body = Some(("application/json", body));
    let said = remote::call(host, reqwest::Method::POST, "/v1/admin/reconcile", &[], body).await?;
    let report: serde_json::Value = serde_json::from_str(&said)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    ensure!(
        report.get("done").and_then(serde_json::Value::as_bool) == Some(true),
        "not all servers could be looked through: mend what is said of each and call again, or answer for one with --without"
    );
    Ok(())
}

async fn restore(config: &Config, file: &Path, replace: bool) -> Result<()> {
    ensure!(file.exists(), "{} does not exist", file.display());
    ensure!(
        !beside(file, "-wal").exists(),
        "{} has a -wal beside it, so it is in use and no backup: make one with `wharf store backup`",
        file.display()
    );
    let dir = &config.data_dir;
    std::fs::create_dir_all(dir)?;
    let _held = lock(dir)?;
    let url = config.database()?;
    let books = dir.join("wharf.db");
    ensure!(
        url.is_some() || replace || !books.exists(),
        "there are books in {} already: --replace puts the backup in their place and keeps them aside",
        dir.display()
    );
    let made = std::fs::metadata(file).and_then(|m| m.modified())?;
    let made_ms = made.duration_since(std::time::UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_millis()).ok());
    let (work, ready) = (dir.join("wharf.db.restoring"), dir.join("wharf.db.restored"));
    remove(&work)?;
    remove(&ready)?;
    private(&work)?;
    std::fs::copy(file, &work).with_context(|| format!("can't copy {}", file.display()))?;
    let done = async {
        let store = SqliteStore::open(&work).await.with_context(|| format!("{} is no backup", file.display()))?;
        let wrong = store.integrity_check().await?;
        ensure!(wrong.is_empty(), "the backup is damaged: {}", wrong.join("; "));
        ensure!(store.meta(COPYING).await?.is_none(), "the backup is of an unfinished copy");
        let stopped = mark(&store, made_ms).await?;
        match &url {
            None => {
                store.backup(&ready).await?;
                aside(&books)?;
                std::fs::rename(&ready, &books)?;
                std::fs::File::open(dir)?.sync_all()?;
            }
            Some(url) => into_database(&store, url, replace.then_some(&books)).await?,
        }
        Ok(stopped)
    };
    let done = done.await;
    remove(&work)?;
    remove(&ready)?;
    let stopped = done?;
    println!(
        "restored. {stopped} operations that were under way now wait in needs-admin. The host begins without writing anything to \
         clusters, DNS or webhooks: `wharf store reconcile` ends that"
    );
    Ok(())
}

/// What makes restored books different from those that were backed up.
async fn mark(store: &SqliteStore, made_ms: Option<i64>) -> Result<u64> {
    let now = SystemClock.now_ms();
    let numbers = store.snapshot().await?.counters().await?;
    store.set_counters(Counters { event: numbers.event + JUMP, audit: numbers.audit + JUMP }).await?;
    let message = "the books were restored from a backup: what this operation had done since is not known. Look at the VM and at \
                   the panel's order, then resume it (it looks before it writes) or terminate the service";
    let stopped = store.stop_all(Reason { code: "restored".into(), message: message.into() }, now).await?;
    let since = serde_json::json!({ "since_ms": now, "backup_ms": made_ms });
    store.set_meta(RECONCILE, Some(&since.to_string())).await?;
    Ok(stopped)
}

/// `replaced`: what is there is kept under this name, with an end to it.
async fn into_database(store: &SqliteStore, url: &str, replaced: Option<&PathBuf>) -> Result<()> {
    let kept = postgres(url).await?;
    kept.idle().await?;
    if let (Some(file), Kept::Postgres(rows)) = (replaced, &kept) {
        // An unfinished restore before this one has kept them already, and what is there now is none.
        if rows.meta(COPYING).await?.is_none() {
            let file = beside(file, &format!(".replaced-{}", SystemClock.now_ms()));
            rows_to_file(rows, &file).await.context(
                "can't keep the books that would be replaced; if nobody needs them, make an empty database, name it in \
                 `database_url`, and restore without --replace",
            )?;
            println!("the books that were there are kept as {}", file.display());
        }
        // Marked first: a host that starts while rows are replaced refuses to serve them.
        rows.set_meta(COPYING, Some("restore")).await?;
    }
    copy(store, kept.rows(), replaced.is_some(), &|line| eprintln!("{line}"))
        .await
        .context("can't restore into the database; --replace keeps what is in it as a file, and takes its place")?;
    kept.idle().await
}

/// The file with another end to its name.
fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// An empty file that only its owner can read.
fn private(path: &Path) -> Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.with_context(|| format!("can't write {}", path.display()))?;
    Ok(())
}

/// A SQLite file with what belongs to it.
fn remove(path: &Path) -> Result<()> {
    for end in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(beside(path, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Keeps the books that are replaced, under a name of their own.
fn aside(books: &Path) -> Result<()> {
    if !books.exists() {
        return Ok(());
    }
    let kept = beside(books, &format!(".replaced-{}", SystemClock.now_ms()));
    for end in ["", "-wal", "-shm"] {
        let file = beside(books, end);
        if file.exists() {
            std::fs::rename(&file, beside(&kept, end))?;
        }
    }
    println!("the books that were there are kept as {}", kept.display());
    Ok(())
}
