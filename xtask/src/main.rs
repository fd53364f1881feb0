//! `cargo xtask …`: everything that is done to this workspace by a command. Each subcommand is a file of its own; each
//! does its own set-up, or says in one sentence what is missing.

mod bench;
mod component;
mod demo;
mod frozen;
mod guests;
mod package;
mod plugins;
mod reference;
mod setup;
mod shell;
mod test;
mod wit_check;
#[cfg(test)]
mod wit_types;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What is done to this workspace by a command", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the plugins into target/plugins/<id>.wasm; all of them, or those named (folder or manifest id).
    Plugins { names: Vec<String> },
    /// Puts a manifest into a component that another tool has made.
    Manifest { component: PathBuf, manifest: PathBuf },
    /// Fails when a released item of the contract was edited, an export grew, or docs/contract-reference.md is not what wit/
    /// gives.
    WitCheck {
        /// Copies the packages that are not released yet to wit/released. From then on they can't be edited.
        #[arg(long)]
        release: bool,
    },
    /// Writes docs/contract-reference.md from wit/.
    Reference,
    /// Copies one built component per world to tests/frozen, once for each version of the contract.
    Frozen,
    /// Shows Wharf on a simulated cluster: three VMs ordered by signed hooks, with real DNS.
    Demo {
        /// End after the journey; exit code 0 only if all of it was seen.
        #[arg(long)]
        once: bool,
    },
    /// Builds the Debian package into target/package.
    Package(package::Args),
    /// Measures the host and its peers, in release, and prints a table; also to target/bench/report.md and report.json.
    Bench(bench::Args),
    /// Sets up what is missing, then runs every check there is.
    Test(test::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Plugins { names } => plugins::build_all(&names),
        Command::Manifest { component, manifest } => component::put_manifest(&component, &manifest),
        Command::WitCheck { release: false } => check_contract(),
        Command::WitCheck { release: true } => wit_check::release(&shell::root().join("wit")),
        Command::Reference => reference::write(&shell::root()),
        Command::Frozen => frozen::run(),
        Command::Demo { once } => demo::show(once),
        Command::Package(args) => package::package(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Test(args) => test::run(&args),
    }
}

/// The stage `wit-check`: the promise to the plugins that are out, and what their authors read.
fn check_contract() -> anyhow::Result<()> {
    wit_check::run(&shell::root().join("wit"))?;
    reference::check(&shell::root())
}
