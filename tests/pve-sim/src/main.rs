//! Serves a simulated cluster on loopback.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Parser;
use pve_sim::{Sim, schema::Schema, state::SimConfig};

/// A simulated Proxmox VE cluster. Plain http, for tests on this machine only.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 = any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Nodes, storages, templates, tokens, timings, as JSON; missing keys have defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// API schema of Proxmox, as JSON: requests are checked against it.
    #[arg(long)]
    schema: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config = match &arguments.config {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?).with_context(|| path.display().to_string())?,
        None => SimConfig::default(),
    };
    let schema = match &arguments.schema {
        Some(path) => Some(Arc::new(Schema::load(path)?)),
        None => None,
    };
    let sim = Sim::with_schema(config, schema);
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    println!("{}", serde_json::json!({"listening": format!("http://{}", listener.local_addr()?)}));
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    axum::serve(listener, sim.serving())
        .with_graceful_shutdown(async move {
            term.recv().await;
        })
        .await?;
    Ok(())
}
