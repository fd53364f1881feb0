//! Plugins swapped under load: new versions of the provisioner and of the panel adapter are uploaded and rolled back while orders
//! come in and deploys run. Nothing may fail, nothing may be done twice; what is compiled already must be live at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use pve_sim::state::Timing;
use serde_json::json;

use super::Figure;
use crate::{
    Bench,
    house::{House, cluster},
    lab::reissued,
    report::Row,
    stats::Samples,
};

const RATE: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Swap;

#[async_trait(?Send)]
impl Figure for Swap {
    fn name(&self) -> &'static str {
        "swap"
    }

    fn title(&self) -> &'static str {
        "Plugins swapped under load"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let count = bench.pick(4, 60, 300);
        let timing = Timing { clone_linked: 300, start: 300, ..Timing::default() };
        let timing = bench.pick(super::hooks::QUICK, timing, timing);
        let house = House::start(bench, cluster(timing)).await?;
        let begun = Instant::now();
        // Until shortly before the last order.
        let until = Duration::from_secs(1) * u32::try_from(count)? / RATE;
        let swaps = async {
            let (mut uploads, mut backs) = (Samples::default(), Samples::default());
            let mut version = 1;
            while version == 1 || begun.elapsed() < until {
                version += 1;
                for id in ["proxmox-kvm", "panel-whmcs"] {
                    let component = std::fs::read(bench.plugins.join(format!("{id}.wasm")))?;
                    let next = format!("0.{version}.0");
                    uploads.push(house.upload(reissued(&component, &next)?).await?);
                    ensure!(current(&house, id).await? == next, "{id} {next} is not the one that runs");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let asked = Instant::now();
                    house.client.post(&format!("/v1/admin/plugins/{id}/rollback"), &json!({})).await?;
                    backs.push(asked.elapsed());
                    ensure!(current(&house, id).await? != next, "{id} {next} still runs");
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }
            Ok::<_, anyhow::Error>((uploads, backs))
        };
        let load = crate::load::fire(house.addr()?, house.orders(1, count)?, RATE);
        let (answers, (uploads, backs)) = tokio::try_join!(load, swaps)?;
        let refused = answers.iter().filter(|a| !a.accepted()).count();
        house.active(count - refused, PATIENCE).await?;
        let failed = house.metric("wharf_services{phase=\"needs-admin\"}").await?;
        let guests = house.sim.guests().len();
        let clones = house.sim.log().iter().filter(|e| e.path.ends_with("/clone") && e.status == 200).count();
        let mut hooks = Samples::default();
        answers.iter().for_each(|a| hooks.push(a.took));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let failed = failed as usize + refused;
        Ok(vec![
            Row::count("orders or deploys that failed", failed).at_most(0.0, "0").remark(format!(
                "{count} orders, {} uploads, {} rollbacks meanwhile",
                uploads.len(),
                backs.len()
            )),
            Row::count("VMs or clones more than orders", guests.max(clones).saturating_sub(count - refused))
                .at_most(0.0, "0")
                .remark(format!("{guests} VMs, {clones} clones")),
            Row::time("a compiled version is live after: p50", backs.p50()).below(1e6, "< 1 s"),
            Row::time("the same: most", backs.most()).below(1e6, "< 1 s"),
            Row::time("a new version is live after its upload: p50", uploads.p50())
                .remark("compiled in a child process, beside the load"),
            Row::time("hook accepted meanwhile: p99", hooks.p99()),
        ])
    }
}

async fn current(house: &House, id: &str) -> Result<String> {
    let all = house.client.get("/v1/admin/plugins").await?;
    let one = all.as_array().into_iter().flatten().find(|p| p["id"] == id);
    Ok(one.and_then(|p| p["current"].as_str()).unwrap_or_default().to_owned())
}
