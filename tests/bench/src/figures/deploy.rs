//! A deploy with one IPv4, alone on an idle host: how soon after the hook Proxmox is asked first, how many writes it takes, and
//! how much of its time is the host's own.
//!
//! The cluster is simulated in this process: a middleware stamps each request where it arrives. Proxmox's time is when a request
//! was being answered or a task ran; all else between hook and end is the host's, the time until it notices that a task is over
//! included. That part is told apart: it depends on how often the host looks and not on how much it does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use pve_sim::{Sim, state::Timing};
use tokio::task::JoinHandle;

use super::{Figure, php_tick};
use crate::{
    Bench,
    house::{House, cluster},
    report::Row,
    stats::Samples,
};

/// How often the tasks of the simulated cluster are looked at.
const GRAIN: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(120);
/// As a small cluster with disks on a network takes: a clone of 20 s, a start of 4 s.
const REAL: Timing = Timing {
    read: 10,
    write: 60,
    clone_linked: 20_000,
    clone_full: 40_000,
    clone_stub: 300,
    migrate: 20_000,
    configure: 1_000,
    resize: 1_500,
    start: 4_000,
    stop: 2_000,
    shutdown: 8_000,
    destroy: 3_000,
    remove_volume: 1_000,
    lock_wait: 10_000,
    denied: 3_000,
};

pub struct Deploy;

/// What one deploy took.
struct Seen {
    first_call: Duration,
    whole: Duration,
    /// The host's own, noticing included.
    own: Duration,
    noticing: Duration,
    writes: usize,
    reads: usize,
}

#[async_trait(?Send)]
impl Figure for Deploy {
    fn name(&self) -> &'static str {
        "deploy"
    }

    fn title(&self) -> &'static str {
        "A deploy with one IPv4"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let timing = bench.pick(super::hooks::QUICK, Timing::default(), Timing::default());
        let quick = deploys(bench, timing, bench.pick(1, 6, 20)).await?;
        let first: Samples = quick.iter().map(|s| s.first_call.as_secs_f64() * 1e6).collect();
        let writes = quick.iter().map(|s| s.writes).max().unwrap_or_default();
        let reads = quick.iter().map(|s| s.reads).max().unwrap_or_default();
        let tick = php_tick::simulate(100_000);
        let mut rows = vec![
            Row::time("first call to Proxmox after the hook was sent: p50", first.p50())
                .below(50_000.0, "< 50 ms")
                .remark(format!("{} deploys, one after another", quick.len())),
            Row::time("the same: most", first.most()),
            Row::time("a one-minute cron tick, simulated by its rule: p50", tick.p50()).remark(php_tick::RULE),
            Row::time("the same: p99", tick.p99()),
            Row::ratio("the tick takes so many times as long (p50)", tick.p50() / first.p50()),
            Row::count("writes to Proxmox, at most", writes)
                .at_most(8.0, "≤ 8")
                .remark("the PHP module needs about 15 to 25: read from its pipeline, not counted"),
            Row::count("reads of Proxmox, at most", reads).remark("status of tasks included"),
        ];
        rows.extend(overhead("clone of 0.8 s, start of 0.7 s", &quick));
        if bench.size == crate::Size::Full {
            let real = deploys(bench, REAL, 2).await?;
            let mut told = overhead("clone of 20 s, start of 4 s", &real);
            if let Some(share) = told.first_mut() {
                *share = share.clone().below(0.05, "< 5 %");
            }
            rows.extend(told);
        }
        Ok(rows)
    }
}

fn overhead(cluster: &str, of: &[Seen]) -> Vec<Row> {
    let sum = |part: fn(&Seen) -> Duration| of.iter().map(part).sum::<Duration>().as_secs_f64();
    let (whole, own, noticing) = (sum(|s| s.whole), sum(|s| s.own), sum(|s| s.noticing));
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    let each = |seconds: f64| seconds / of.len().max(1) as f64 * 1e6;
    vec![Row::share(format!("host's own share of the time ({cluster})"), own / whole).remark(format!(
        "{} of {}; without the time until it looks at an ended task: {} ({:.1} %)",
        crate::stats::time(each(own)),
        crate::stats::time(each(whole)),
        crate::stats::time(each(own - noticing)),
        (own - noticing) / whole * 100.0
    ))]
}

async fn deploys(bench: &Bench, timing: Timing, count: u32) -> Result<Vec<Seen>> {
    let house = House::start(bench, cluster(timing)).await?;
    let mut all = Vec::new();
    // The first one meets cold caches and new connections: it is left out.
    for number in 0..=count {
        let watch = Tasks::watch(house.sim.clone());
        let (sent, _) = house.order(number + 1).await?;
        house.active(number as usize + 1, PATIENCE).await?;
        let service = house.client.get(&format!("/v1/services/shop:{}", number + 1)).await?;
        let at = |key: &str| service["operation"][key].as_u64().context("the operation has no times");
        let whole = Duration::from_millis(at("ended_ms")?.saturating_sub(at("created_ms")?));
        let tasks = watch.end().await?;
        // A host that looks at something afterwards is not part of it.
        let end = sent + whole;
        let stamps: Vec<_> = house.stamps(sent).into_iter().filter(|s| s.came <= end).collect();
        let first = stamps.iter().map(|s| s.came).min().context("Proxmox was never asked")?;
        let mut busy: Vec<_> = stamps.iter().map(|s| (s.came, s.left)).collect();
        busy.extend(tasks.iter().copied());
        let noticing = tasks
            .iter()
            .filter_map(|(_, ended)| {
                // Whoever is asked next after it has ended tells of it.
                let next = stamps.iter().map(|s| s.came).filter(|came| came >= ended).min()?;
                Some(next - *ended)
            })
            .sum();
        if number > 0 {
            all.push(Seen {
                first_call: first - sent,
                whole,
                own: whole.saturating_sub(covered(busy, sent, end)),
                noticing,
                writes: stamps.iter().filter(|s| s.write && s.good).count(),
                reads: stamps.iter().filter(|s| !s.write).count(),
            });
        }
        // Whatever is looked at after the end has passed before the next hook.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(all)
}

/// How much of `from..to` these spans cover together.
fn covered(mut spans: Vec<(Instant, Instant)>, from: Instant, to: Instant) -> Duration {
    spans.sort();
    let (mut sum, mut reached) = (Duration::ZERO, from);
    for (begun, ended) in spans {
        let (begun, ended) = (begun.max(reached), ended.min(to));
        if ended > begun {
            sum += ended - begun;
            reached = ended;
        }
    }
    sum
}

/// When the cluster's tasks ran.
struct Tasks {
    task: JoinHandle<Vec<(Instant, Instant)>>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Tasks {
    fn watch(sim: Sim) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let before = sim.snapshot().tasks.len();
            let mut seen: Vec<(Instant, Option<Instant>)> = Vec::new();
            loop {
                let over = tokio::time::timeout(GRAIN, &mut stopped).await.is_ok();
                let now = Instant::now();
                let tasks = sim.snapshot().tasks;
                for (n, task) in tasks.iter().skip(before).enumerate() {
                    if n >= seen.len() {
                        seen.push((now, None));
                    }
                    if let Some((_, end @ None)) = seen.get_mut(n)
                        && task.exit.is_some()
                    {
                        *end = Some(now);
                    }
                }
                if over {
                    return seen.into_iter().filter_map(|(begun, ended)| Some((begun, ended?))).collect();
                }
            }
        });
        Self { task, stop }
    }

    async fn end(self) -> Result<Vec<(Instant, Instant)>> {
        let _ = self.stop.send(());
        Ok(self.task.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_overlap_are_counted_once_and_cut_to_size() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let spans = vec![(at(10), at(30)), (at(0), at(20)), (at(50), at(90)), (at(55), at(60))];
        assert_eq!(covered(spans, at(5), at(80)), Duration::from_millis(25 + 30));
    }
}
