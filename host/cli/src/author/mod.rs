//! `wharf plugin new | build | inspect | check | test | bench | run`: for who writes a plugin, without this repository and without a host.
//!
//! A project is a folder with a `manifest.json`; what it is written in is seen by its files. Every command works on the
//! project around it or on a component's file. Errors name the author's file, and its line where that is known.

mod bench;
mod build;
mod check;
mod files;
mod inspect;
mod lint;
mod new;
mod project;
mod run;
mod say;
mod settings;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Commands of the author's; `wharf plugin` shows them beside those for a running host.
#[derive(Subcommand)]
pub enum AuthorCommand {
    /// Start a plugin: a folder that builds and checks as it stands.
    New(new::Arguments),
    /// Build the plugin in this folder to `<id>.wasm`.
    Build(build::Arguments),
    /// What a component says of itself; nothing of it is run.
    Inspect(inspect::Arguments),
    /// What a host would say if the plugin was installed there: nothing, or what to mend.
    Check(check::Arguments),
    /// Hold a DNS provider to the conformance kit's cases, against the API that `facade.rhai` describes.
    Test(test::Arguments),
    /// What calls of a DNS provider cost: load, instance, `normalize`, `read`.
    Bench(bench::Arguments),
    /// One call of a DNS provider, within a host's limits, against a live server.
    Run(run::Arguments),
}

/// Does it. The exit code is 1 where the plugin, not the command, is what failed.
pub async fn run(command: AuthorCommand) -> Result<ExitCode> {
    match command {
        AuthorCommand::New(arguments) => new::make(&arguments),
        AuthorCommand::Build(arguments) => build::build(&arguments),
        AuthorCommand::Inspect(arguments) => inspect::inspect(&arguments),
        AuthorCommand::Check(arguments) => check::check(&arguments).await,
        AuthorCommand::Test(arguments) => test::test(&arguments).await,
        AuthorCommand::Bench(arguments) => bench::bench(&arguments).await,
        AuthorCommand::Run(arguments) => run::run(arguments).await,
    }
}
