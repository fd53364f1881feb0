//! A thousand deployments in flight on this machine: all are ordered within five seconds, the cluster takes 20 s for each
//! clone, and nothing waits in wasm meanwhile. The server is told to take all clones at once (`clones_per_storage`); by default it
//! takes a few, and then the others wait in the queue, which costs the host less.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use pve_sim::state::Timing;

use super::Figure;
use crate::{
    Bench,
    house::{House, cluster},
    machine,
    report::Row,
    stats::Samples,
};

const RATE: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(300);

pub struct InFlight;

#[async_trait(?Send)]
impl Figure for InFlight {
    fn name(&self) -> &'static str {
        "in-flight"
    }

    fn title(&self) -> &'static str {
        "Deployments in flight"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let count = bench.pick(4, 200, 1_000);
        let clone_ms = bench.pick(200, 5_000, 20_000);
        let timing = Timing { read: 2, write: 10, clone_linked: clone_ms, start: 2_000, ..Timing::default() };
        let timing = bench.pick(super::hooks::QUICK, timing, timing);
        let house = House::start(bench, cluster(timing)).await?;
        let pid = house.pid()?;
        let cpu = machine::cpu_seconds(pid)?;
        let begun = Instant::now();
        let watched = async {
            let mut most = 0.0_f64;
            loop {
                let open = house.metric("wharf_operations{").await?;
                most = most.max(open);
                #[allow(clippy::cast_precision_loss, reason = "counts are small")]
                if house.metric("wharf_services{phase=\"active\"}").await? >= count as f64 {
                    return Ok::<_, anyhow::Error>(most);
                }
                ensure!(begun.elapsed() < PATIENCE, "not all {count} are active after {PATIENCE:?}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let (answers, most) = tokio::try_join!(house.fire(1, count, RATE), watched)?;
        let whole = begun.elapsed();
        let cpu = machine::cpu_seconds(pid)? - cpu;
        let mut hooks = Samples::default();
        answers.iter().for_each(|a| hooks.push(a.took));
        let writes = house.sim.snapshot().writes;
        let guests = house.sim.guests();
        ensure!(guests.len() == count, "{} VMs for {count} orders", guests.len());
        let stores = house.metric("wharf_plugin_stores_most").await?;
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts"
        )]
        Ok(vec![
            Row::count("in flight at once, at most", most as usize)
                .remark(format!("{count} orders at {RATE}/s; a clone takes {} s", clone_ms / 1_000)),
            Row::time("until all are active", whole.as_secs_f64() * 1e6).remark("one VM for each, none failed"),
            Row::new(
                "the host's CPU for one deploy",
                crate::stats::time(cpu / count as f64 * 1e6),
                cpu / count as f64 * 1e6,
                "µs",
            )
            .remark(format!("{:.0} % of one core over the whole time", cpu / whole.as_secs_f64() * 100.0)),
            Row::time("hook accepted meanwhile: p99", hooks.p99()),
            Row::count("wasm stores alive at once, at most", stores as usize),
            Row::count("writes for one VM, at most", writes.values().max().copied().unwrap_or_default() as usize)
                .at_most(8.0, "≤ 8"),
            Row::mib("the host's memory, at most", machine::peak_mib(pid)?),
        ])
    }
}
