//! tmp
#[derive(clap::Args)]
pub struct Args { #[arg(long)] long: bool }
pub fn run(_: &Args) -> anyhow::Result<()> { Ok(()) }
