//! Runs the host: books, capabilities, plugins, engine, API; until SIGTERM or SIGINT.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    books::{self, Opened, Use},
    config::{Config, LogFormat},
    door::{self, Door},
    supervisor,
    traces::Traces,
};
use anyhow::{Context, Result, anyhow, bail};
use axum::serve::ListenerExt;
use tokio::sync::watch;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
use wharf_api::{
    Api, Settings,
    metrics::Exporter,
    tokens::{self, NewToken},
};
use wharf_capabilities::{
    call::Lender,
    http::Sender,
    proxmox::{Executor, Servers},
    secrets::Keyring,
};
use wharf_engine::{Engine, EngineConfig};
use wharf_model::TRACES;
use wharf_plugins::{Runtime, RuntimeConfig};
use zeroize::Zeroizing;

/// Open connections get so long to end.
const GRACE: Duration = Duration::from_secs(10);

pub async fn serve(config: Config) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let traces = Traces::start(&config.traces, &host_name(), &config.listen)?;
    logging(&config, traces.as_ref())?;
    let metrics = Exporter::install().context("can't set the metrics up")?;
    let Opened { books, clock, _lock } = books::open(&config, Use::Serve).await?;
    let keyring = Arc::new(keyring(&config)?);
    books::check_key(&books, &keyring, clock.now_ms()).await?;
    let servers = Arc::new(Servers::new(Arc::clone(&books), Arc::clone(&keyring)));
    let lender = Arc::new(Lender {
        books: Arc::clone(&books),
        clock: Arc::clone(&clock),
        keyring: Arc::clone(&keyring),
        servers: Arc::clone(&servers),
        sender: Arc::new(Sender::new()),
    });
    let exe = std::env::current_exe().context("can't find the host's own executable")?;
    let runtime_config = RuntimeConfig { slots: config.plugins.slots, ..RuntimeConfig::new(&config.data_dir, exe) };
    let runtime = Runtime::open(runtime_config, Arc::clone(&lender)).await?;
    let executor = Executor::new(servers, Arc::clone(&books), keyring, Arc::clone(&clock));
    let listener = tokio::net::TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("can't listen on {}: change `listen`", config.listen))?;
    let address = listener.local_addr()?;
    let engine_config = EngineConfig {
        host_name: host_name(),
        address: address.to_string(),
        claim_ttl_ms: i64::from(config.engine.claim_ttl_s) * 1_000,
        concurrency: config.engine.concurrency.get(),
        keep_events_days: config.retention.events_days.get(),
        keep_audit_days: config.retention.audit_days.get(),
        resolvers: config.dns.resolvers.clone(),
        ..EngineConfig::default()
    };
    let engine = Engine::new(books, clock, Arc::clone(&runtime), Arc::new(executor), engine_config);
    let (stop, stopped) = watch::channel(false);
    let working = tokio::spawn(Arc::clone(&engine).run(stopped.clone()));

    println!("{}", serde_json::json!({"listening": format!("http://{address}")}));
    tracing::info!(%address, "serving");
    supervisor::ready(&address.to_string());
    let settings = Settings {
        metrics: Some(metrics),
        metrics_open: config.metrics_open,
        plugin_slots: config.plugins.slots.get(),
        names_allow: config.names.allow.clone(),
        proxies: config.names.proxies.clone(),
    };
    let (door, shut) = Door::new(listener, stopped.clone());
    let api = door::turning_away(wharf_api::router(Api::new(Arc::clone(&engine), runtime, lender, settings)), stopped);
    // With the address of who connects, which failed attempts are counted by.
    let api = api.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(door.tap_io(|_| {}), api).with_graceful_shutdown(shut.wait());
    let served = tokio::spawn(async move { serving.await });
    signal().await?;
    tracing::info!("stopping: no new work is begun, what runs is brought to its next commit");
    supervisor::stopping();
    stop.send_replace(true);
    engine.nudge();
    let ended = tokio::time::timeout(GRACE, async { tokio::join!(working, served) }).await;
    if ended.is_err() {
        tracing::warn!("something still ran after {GRACE:?}; it is taken up again at the next start");
    }
    if let Some(traces) = traces {
        traces.finish().await;
    }
    Ok(())
}

async fn signal() -> Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    Ok(())
}

/// The log, and beside it the traces. What is made for traces only stands in no line.
fn logging(config: &Config, traces: Option<&Traces>) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .with_context(|| format!("`log = {}` is no filter", config.log))?;
    // At each start PostgreSQL says that the table of migrations is there already.
    let notices = config.log.split(',').any(|part| part.trim().starts_with("sqlx"));
    let shown = filter_fn(move |what| {
        let notice = what.target() == "sqlx::postgres::notice" && *what.level() > Level::WARN;
        what.target() != TRACES && (notices || !notice)
    });
    // Standard output belongs to the line that says where the host listens.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // The hint keeps the cheap test by level, which the filter of the log has and a bare `filter_fn` takes away.
    let shown = shown.with_max_level_hint(LevelFilter::TRACE);
    let mut layers = vec![lines.with_filter(filter.and(shown)).boxed()];
    layers.extend(traces.map(Traces::layer));
    tracing_subscriber::registry().with(layers).try_init().map_err(|e| anyhow!("can't set the log up: {e}"))
}

/// The machine's name, for those who have several.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".into() } else { name.to_owned() }
}

/// From the file that was named, else what the service manager hands over, else `master.key` beside the books.
fn keyring(config: &Config) -> Result<Keyring> {
    if let (None, Some(file)) = (&config.master_key_file, supervisor::master_key()) {
        let place = || format!("can't use the master key that the service manager hands over as {}", file.display());
        let text = Zeroizing::new(std::fs::read_to_string(&file).with_context(place)?);
        return Keyring::parse(&text).with_context(place);
    }
    let file = config.master_key_file.clone().unwrap_or_else(|| config.data_dir.join("master.key"));
    if !file.exists() && config.master_key_file.is_none() {
        tracing::warn!(file = %file.display(), "made a new master key: back it up, without it no secret can be read");
        return Keyring::create(&file).with_context(|| format!("can't make the master key {}", file.display()));
    }
    Keyring::read(&file).with_context(|| format!("can't use the master key {}", file.display()))
}

/// The same, for who must not make a new one.
pub fn existing_keyring(config: &Config) -> Result<Option<Keyring>> {
    let there = config.master_key_file.is_some()
        || supervisor::master_key().is_some()
        || config.data_dir.join("master.key").exists();
    if there { keyring(config).map(Some) } else { Ok(None) }
}

/// Makes a token in the books of the data folder; the host may run meanwhile.
pub async fn create_token(config: &Config, new: NewToken, expires_in: Option<u32>) -> Result<()> {
    let Opened { books, clock, .. } = books::open(config, Use::Beside).await?;
    let now = clock.now_ms();
    let new = NewToken { expires_ms: expires_in.map(|days| now + i64::from(days) * 86_400_000), ..new };
    if let Some((field, text)) = tokens::problem(&new) {
        bail!("--{field}: {text}");
    }
    println!("{}", tokens::create(&books, new, "cli", now).await?);
    Ok(())
}
