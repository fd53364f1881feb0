//! The figures, each in a file of its own.

mod calls;
mod deploy;
mod hooks;
mod idle_memory;
mod idle_services;
mod in_flight;
mod peers;
mod php_tick;
mod step;
mod swap;

use anyhow::{Result, bail};
use async_trait::async_trait;

use crate::{Bench, report::Row};

/// First argument of a process that this one starts to measure in.
pub const CHILD: &str = "--child";

/// One figure.
#[async_trait(?Send)]
pub trait Figure: Sync {
    fn name(&self) -> &'static str;

    fn title(&self) -> &'static str;

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>>;
}

/// All, in the order of the table.
pub fn all() -> [&'static dyn Figure; 9] {
    [
        &hooks::Hooks,
        &deploy::Deploy,
        &step::Step,
        &calls::Calls,
        &peers::Peers,
        &in_flight::InFlight,
        &idle_services::IdleServices,
        &swap::Swap,
        &idle_memory::IdleMemory,
    ]
}

/// What a process that was started with [`CHILD`] does.
pub async fn child(arguments: &[String]) -> Result<()> {
    match arguments {
        [what, rest @ ..] if what == "calls" => calls::child(rest).await,
        other => bail!("{other:?} is nothing that can be measured"),
    }
}
