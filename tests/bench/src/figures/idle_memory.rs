//! Resident memory of a host that does nothing, with the shipped plugins loaded.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use pve_sim::state::Timing;

use super::Figure;
use crate::{
    Bench,
    house::{House, cluster},
    machine,
    report::Row,
};

pub struct IdleMemory;

#[async_trait(?Send)]
impl Figure for IdleMemory {
    fn name(&self) -> &'static str {
        "idle-memory"
    }

    fn title(&self) -> &'static str {
        "Memory and start of an idle host"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let pause = Duration::from_secs(bench.pick(0, 3, 10));
        let mut house = House::start(bench, cluster(Timing::default())).await?;
        tokio::time::sleep(pause).await;
        let installed = machine::resident_mib(house.pid()?)?;
        let took = house.restart().await?;
        tokio::time::sleep(pause).await;
        let started = machine::resident_mib(house.pid()?)?;
        let mut rows = vec![
            Row::mib("after a start, four Rust plugins", started).below(100.0, "< 100 MB"),
            Row::mib("after their installation, before a restart", installed).below(100.0, "< 100 MB"),
            Row::time("start until it listens, four Rust plugins", took.as_secs_f64() * 1e6),
        ];
        let others = ["test-provider-js", "test-provider-python"].map(|id| bench.plugins.join(format!("{id}.wasm")));
        if bench.size == crate::Size::Full && others.iter().all(|file| file.exists()) {
            for file in &others {
                house.install(file).await?;
            }
            tokio::time::sleep(pause).await;
            let installed = machine::resident_mib(house.pid()?)?;
            let took = house.restart().await?;
            tokio::time::sleep(pause).await;
            let started = machine::resident_mib(house.pid()?)?;
            rows.push(
                Row::mib("after a start, with a JavaScript and a Python plugin besides", started)
                    .remark(format!("{installed:.0} MiB after their installation, before a restart")),
            );
            rows.push(Row::time("start until it listens, with these two", took.as_secs_f64() * 1e6));
        }
        Ok(rows)
    }
}
