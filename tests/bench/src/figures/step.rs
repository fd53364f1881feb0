//! What the engine adds to a step that asks Proxmox nothing: call of the provisioner in a fresh store, commit to disk, reload.
//!
//! In this process, with the real engine on SQLite and a provisioner whose deploy has fifty states, one for each step; one
//! service at a time, so that nobody shares an fsync. The engine's own edges (`wharf_engine::kill`) tell when a step begins.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::watch;
use wharf_capabilities::proxmox::Executor;
use wharf_engine::{
    Engine, EngineConfig,
    wish::{Order, Target, Wish},
};
use wharf_model::{object::ObjectKind, service::Phase};

use super::Figure;
use crate::{Bench, lab::Lab, report::Row, stats::Samples};

const PLUGIN: &str = "provisioner-still";
const STATES: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Step;

type Edges = Arc<Mutex<Vec<(&'static str, Instant)>>>;

#[async_trait(?Send)]
impl Figure for Step {
    fn name(&self) -> &'static str {
        "step"
    }

    fn title(&self) -> &'static str {
        "A step without Proxmox"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let deploys = bench.pick(1, 20, 100);
        let dir = tempfile::Builder::new().prefix("step-").tempdir_in(&bench.data)?;
        let lab = Lab::open(dir.path(), &bench.wharf).await?;
        lab.install(std::fs::read(bench.plugins.join(format!("{PLUGIN}.wasm")))?).await?;
        let now = lab.clock.now_ms();
        let put = async |kind, name, body| lab.books.put_object(kind, name, body, None, None, now).await;
        put(ObjectKind::Server, "pve", json!({"urls": ["http://127.0.0.1:1"], "token_id": "a@pve!b"})).await?;
        put(ObjectKind::Plan, "still", json!({"plugin": PLUGIN, "server": "pve", "settings": {}})).await?;
        let (servers, keyring) = (Arc::clone(&lab.lender.servers), Arc::clone(&lab.lender.keyring));
        let executor = Executor::new(servers, Arc::clone(&lab.books), keyring, Arc::clone(&lab.clock));
        let engine = Engine::new(
            Arc::clone(&lab.books),
            Arc::clone(&lab.clock),
            Arc::clone(&lab.runtime),
            Arc::new(executor),
            EngineConfig::default(),
        );
        let edges = Edges::default();
        let seen = Arc::clone(&edges);
        engine.set_kill_hook(Arc::new(move |edge| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((edge, Instant::now()));
            Box::pin(std::future::ready(()))
        }));
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&engine).run(stopped));
        let mut rest = Samples::default();
        let (mut step, mut call, mut commit) = (Samples::default(), Samples::default(), Samples::default());
        for n in 0..=deploys {
            edges.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let asked = Instant::now();
            deploy(&lab, &engine, n).await?;
            let edges = edges.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if n == 0 {
                continue;
            }
            let at = |name: &'static str| edges.iter().filter(move |(edge, _)| *edge == name).map(|(_, at)| *at);
            let begun: Vec<Instant> = at("step:before").collect();
            ensure!(begun.len() == STATES, "{} steps, not {STATES}", begun.len());
            for pair in begun.windows(2) {
                if let [one, next] = pair {
                    step.push(*next - *one);
                }
            }
            at("step:before").zip(at("step:after")).for_each(|(from, to)| call.push(to - from));
            at("commit:reached:before").zip(at("commit:reached:after")).for_each(|(from, to)| commit.push(to - from));
            rest.push(begun.first().context("no step")?.saturating_duration_since(asked));
        }
        stop.send_replace(true);
        engine.nudge();
        running.await?;
        Ok(vec![
            Row::time("from step to step: p50", step.p50()).below(1_000.0, "< 1 ms").remark(format!(
                "{} steps; p99 {}",
                step.len(),
                crate::stats::time(step.p99())
            )),
            Row::time("of it the call into wasm: p50", call.p50())
                .remark(format!("p99 {}", crate::stats::time(call.p99()))),
            Row::time("of it the commit, fsync included: p50", commit.p50())
                .remark(format!("p99 {}", crate::stats::time(commit.p99()))),
            Row::time("from the wish to its first step (accept, wake-up, claim): p50", rest.p50())
                .remark("two commits, one after another"),
        ])
    }
}

async fn deploy(lab: &Lab, engine: &Arc<Engine>, n: usize) -> Result<()> {
    let target = Target { panel: "shop".into(), reference: n.to_string() };
    let order = Order { plan: "still".into(), options: Default::default(), facts: Default::default() };
    engine.wish(&target, Wish::Provision(order), None).await?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let service = lab.books.service_by_ref("shop", &n.to_string()).await?.context("no such service")?;
        if service.phase == Phase::Active {
            return Ok(());
        }
        // Seldom: each look is a read of the same file.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("a deploy of {STATES} states did not end in {PATIENCE:?}")
}
