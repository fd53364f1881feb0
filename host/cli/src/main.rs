//! `wharf`: serves the host, and talks to a running one.

mod config;
mod remote;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// A WebAssembly plugin host for billing panels.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the host.
    Serve(ConfigArguments),
    /// Installed plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Bearer tokens of the API, made in the host's own books.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Sold VMs.
    #[command(subcommand)]
    Service(ServiceCommand),
}

/// Where settings come from: file, then environment, then flags.
#[derive(Args, Clone, Default)]
pub struct ConfigArguments {
    /// TOML file; /etc/wharf/wharf.toml if it is there.
    #[arg(long, env = "WHARF_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, env = "WHARF_LISTEN")]
    listen: Option<String>,
    /// Folder of the books, the master key and compiled plugins.
    #[arg(long, env = "WHARF_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Log filter, as in `info` or `wharf_engine=debug,info`.
    #[arg(long, env = "WHARF_LOG")]
    log: Option<String>,
}

/// A running host.
#[derive(Args, Clone)]
pub struct RemoteArguments {
    #[arg(long, env = "WHARF_URL", default_value = "http://127.0.0.1:8480")]
    url: String,
    #[arg(long, env = "WHARF_TOKEN", hide_env_values = true)]
    token: String,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// What is installed, and which version runs.
    List(RemoteArguments),
    /// What a component says of itself; nothing of it is run.
    Inspect { component: PathBuf },
    /// Install and roll out.
    Install {
        component: PathBuf,
        /// Interfaces to grant, comma-separated; without it, only what was granted before.
        #[arg(long)]
        allow: Option<String>,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Back to the version before.
    Rollback {
        id: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Used by the host itself.
    #[command(hide = true)]
    Compile {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token; it is shown once.
    Create {
        /// Scopes, comma-separated: admin, services:read, services:write, events:read, plugins:write.
        #[arg(long, default_value = "admin")]
        scopes: String,
        /// Bind it to one panel.
        #[arg(long)]
        panel: Option<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        note: String,
        #[command(flatten)]
        config: ConfigArguments,
    },
}

#[derive(Subcommand)]
enum ServiceCommand {
    List(RemoteArguments),
    Show {
        /// `panel:ref`
        id: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// The log of its last operation.
    Log {
        id: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The compiler's child has limits of its own and no use for a runtime.
    if let Command::Plugin(PluginCommand::Compile { arguments }) = arguments.command {
        return wharf_plugins::compile_child(arguments);
    }
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wharf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Serve(config) => serve::serve(config::load(&config)?).await,
        Command::Plugin(PluginCommand::List(remote)) => remote::plugins(&remote).await,
        Command::Plugin(PluginCommand::Inspect { component }) => remote::inspect(&component),
        Command::Plugin(PluginCommand::Install { component, allow, remote }) => {
            remote::install(&remote, &component, allow).await
        }
        Command::Plugin(PluginCommand::Rollback { id, remote }) => remote::rollback(&remote, &id).await,
        Command::Plugin(PluginCommand::Compile { .. }) => Ok(()),
        Command::Token(TokenCommand::Create { scopes, panel, note, config }) => {
            serve::create_token(&config::load(&config)?, &scopes, panel, note).await
        }
        Command::Service(ServiceCommand::List(remote)) => remote::services(&remote).await,
        Command::Service(ServiceCommand::Show { id, remote }) => remote::service(&remote, &id).await,
        Command::Service(ServiceCommand::Log { id, remote }) => remote::log(&remote, &id).await,
    }
}
