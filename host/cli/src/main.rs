//! `wharf`: serves the host, and talks to a running one.

mod author;
mod books;
mod config;
mod demo;
mod door;
mod operate;
mod remote;
mod serve;
mod store;
mod supervisor;
mod support;
mod traces;
mod zone;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use wharf_api::tokens::NewToken;

/// Where a host listens unless it is told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8480";

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
    /// Whether a host answers and its books do; nothing is said if so, and the exit code is 0.
    Health {
        #[arg(long, env = "WHARF_URL", default_value = DEFAULT_URL)]
        url: String,
    },
    /// Collect what somebody who helps needs to know, without a secret in it.
    SupportBundle(support::Arguments),
    /// Show orders, a live log and DNS answers on a simulated cluster.
    Demo {
        /// For the demo: `--once` ends after the journey.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Installed plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Bearer tokens of the API, made in the host's own books.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Sold VMs.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// The books: bring up to date, check, copy, back up, restore.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Scheduled work of the host itself.
    #[command(subcommand)]
    Job(operate::JobCommand),
    /// The hosts that work on the same books.
    #[command(subcommand)]
    Cluster(operate::ClusterCommand),
    /// Hold a server, a node, a panel, a kind of operation or everything back.
    #[command(subcommand)]
    Pause(operate::PauseCommand),
    /// Zones as their providers have them.
    #[command(subcommand)]
    Zone(zone::ZoneCommand),
}

/// Where settings come from: file, then environment, then flags. Every key of the file has a variable: `WHARF_` and its name,
/// with `__` after a section.
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
    #[arg(long, env = "WHARF_URL", default_value = DEFAULT_URL)]
    url: String,
    #[arg(long, env = "WHARF_TOKEN", hide_env_values = true)]
    token: String,
}

#[derive(Subcommand)]
enum PluginCommand {
    #[command(flatten)]
    Author(author::AuthorCommand),
    /// What is installed, and which version runs.
    List(RemoteArguments),
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
        /// Scopes, comma-separated: admin (includes all others), services:read, services:write, events:read, plugins:write,
        /// metrics:read.
        #[arg(long, default_value = "admin")]
        scopes: String,
        /// Bind it to one panel.
        #[arg(long)]
        panel: Option<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        note: String,
        /// Days until it is worth nothing; without it, never.
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u32>,
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
    /// Its addresses: the names that they should have, and what the world says of them now. The exit code is 1 if not all are confirmed
    /// both ways.
    Names {
        id: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Say all its names anew: what is missing at the providers is written again. Names that addresses were given stay.
    SetNames {
        id: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// Give one of its addresses a name of its own, to which the PTR leads; or have it follow the service's name again.
    Ptr {
        id: String,
        /// One of its addresses.
        address: String,
        /// Name of a host: mail.client.example
        #[arg(required_unless_present = "follow", conflicts_with = "follow")]
        name: Option<String>,
        /// Back to the service's name.
        #[arg(long)]
        follow: bool,
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
    let done = match arguments.command {
        // Another program takes this process's place.
        Command::Demo { arguments } => demo::show(arguments).map(|()| ExitCode::SUCCESS),
        command => start(command),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wharf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match command {
            Command::Plugin(PluginCommand::Author(command)) => author::run(command).await,
            command => run(command).await.map(|()| ExitCode::SUCCESS),
        }
    })
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(config) => serve::serve(config::load(&config)?).await,
        Command::SupportBundle(arguments) => support::bundle(&arguments).await,
        Command::Health { url } => remote::health(&url).await,
        Command::Plugin(PluginCommand::List(remote)) => remote::plugins(&remote).await,
        Command::Plugin(PluginCommand::Install { component, allow, remote }) => {
            remote::install(&remote, &component, allow).await
        }
        Command::Plugin(PluginCommand::Rollback { id, remote }) => remote::rollback(&remote, &id).await,
        // Done before.
        Command::Plugin(PluginCommand::Compile { .. } | PluginCommand::Author(_)) | Command::Demo { .. } => Ok(()),
        Command::Token(TokenCommand::Create { scopes, panel, note, expires_in, config }) => {
            let scopes = scopes.split(',').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect();
            let new = NewToken { scopes, panel, note, expires_ms: None };
            serve::create_token(&config::load(&config)?, new, expires_in).await
        }
        Command::Store(command) => store::run(command).await,
        Command::Job(command) => operate::job(command).await,
        Command::Cluster(command) => operate::cluster(command).await,
        Command::Pause(command) => operate::pause(command).await,
        Command::Zone(command) => zone::run(command).await,
        Command::Service(ServiceCommand::List(remote)) => remote::services(&remote).await,
        Command::Service(ServiceCommand::Show { id, remote }) => remote::service(&remote, &id).await,
        Command::Service(ServiceCommand::Names { id, remote }) => zone::names(&remote, &id).await,
        Command::Service(ServiceCommand::SetNames { id, remote }) => zone::set_names(&remote, &id).await,
        Command::Service(ServiceCommand::Ptr { id, address, name, remote, .. }) => {
            zone::ptr(&remote, &id, &address, name.as_deref()).await
        }
        Command::Service(ServiceCommand::Log { id, remote }) => remote::log(&remote, &id).await,
    }
}
