//! Hook accepted: signed WHMCS orders, 500 a second, each of a new service, until the answer is there; that is after the
//! transaction is on disk.
//!
//! Twice. First while the cluster answers nothing: the orders are taken on and no deploy gets anywhere, which is the cost of
//! taking on alone. Then with a quick cluster, where every core is busy with the deploys of what was just ordered: 500 deploys a
//! second are more than two cores can carry, so this is an overload on purpose.

use anyhow::Result;
use async_trait::async_trait;
use pve_sim::{
    faults::{Fault, What},
    state::Timing,
};

use super::Figure;
use crate::{
    Bench,
    house::{House, cluster},
    load::Answer,
    report::Row,
    stats::Samples,
};

/// Hooks a second.
const RATE: u32 = 500;
/// Longer than any run.
const NEVER_MS: u64 = 3_600_000;
/// Nothing takes long.
pub const QUICK: Timing = Timing {
    read: 0,
    write: 1,
    clone_linked: 20,
    clone_full: 20,
    clone_stub: 5,
    migrate: 20,
    configure: 5,
    resize: 5,
    start: 20,
    stop: 5,
    shutdown: 5,
    destroy: 5,
    remove_volume: 5,
    lock_wait: 10_000,
    denied: 10,
};

pub struct Hooks;

#[async_trait(?Send)]
impl Figure for Hooks {
    fn name(&self) -> &'static str {
        "hooks"
    }

    fn title(&self) -> &'static str {
        "Hook accepted, 500 orders a second on SQLite"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let count = bench.pick(30, 2_500, 5_000);
        let warm = bench.pick(5, 200, 500);
        let mut rows = Vec::new();
        for (busy, what) in [(false, "taking on alone"), (true, "with their deploys behind, overloaded")] {
            let house = House::start(bench, cluster(QUICK)).await?;
            if !busy {
                let what = What::SlowStart(NEVER_MS);
                house.sim.fault(Fault { method: String::new(), path: String::new(), times: None, what });
            }
            house.fire(1, warm, RATE / 5).await?;
            let answers = house.fire(10_001, count, RATE).await?;
            let (took, served) = (samples(&answers, |a| a.took), samples(&answers, |a| a.served));
            rows.push(Row::time(format!("{what}: p50"), took.p50()));
            let p99 = Row::time(format!("{what}: p99"), took.p99());
            let remark = format!(
                "{count} orders; most {}; from when a request really left: p99 {}",
                crate::stats::time(took.most()),
                crate::stats::time(served.p99())
            );
            rows.push(if busy { p99 } else { p99.below(10_000.0, "< 10 ms") }.remark(remark));
        }
        let checked = checked(bench)?;
        rows.push(
            Row::time("of it the check of the ordered settings by the plan's schema: p50", checked.p50())
                .remark(format!("in this process, alone; p99 {}", crate::stats::time(checked.p99()))),
        );
        Ok(rows)
    }
}

/// Effective settings of one order of the shipped provisioner, as each hook computes them.
fn checked(bench: &Bench) -> Result<Samples> {
    let component = std::fs::read(bench.plugins.join("proxmox-kvm.wasm"))?;
    let manifest = wharf_plugins::Runtime::inspect(&component)?.manifest;
    let plan = serde_json::json!({"image": "debian-12", "main-domain": "example.com"});
    let options = [("CPU Cores", "2"), ("RAM", "2"), ("System Disk", "10")];
    let options = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let mut samples = Samples::default();
    for _ in 0..bench.pick(5, 200, 1_000) {
        let begun = std::time::Instant::now();
        let settings = wharf_plugins::settings::effective(&manifest, &plan, &options);
        samples.push(begun.elapsed());
        anyhow::ensure!(settings.is_ok(), "the order was refused: {settings:?}");
    }
    Ok(samples)
}

fn samples(answers: &[Answer], of: impl Fn(&Answer) -> std::time::Duration) -> Samples {
    let mut samples = Samples::default();
    answers.iter().for_each(|answer| samples.push(of(answer)));
    samples
}
