//! Hostile provisioners at work on services of their own, in real time, beside deploys that must not notice.

use std::{num::NonZeroU32, time::Duration};

use crate::world::{World, component, install, reissued, succeeded};
use pve_sim::state::{SimConfig, Timing};
use serde_json::json;
use tokio::time::{Instant, sleep};
use wharf_model::{
    operation::{LogBody, Status, StepResult},
    service::Phase,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// What every step does; how long it may, ms; the code that it backs off with; what its reason says. Only those that never
/// end by themselves are short of time, so that a slow machine changes no cause.
const MISCHIEF: [(&str, u32, &str, &str); 6] = [
    ("trap", 10_000, "plugin-trap", "this release is broken"),
    ("loop", 400, "plugin-timeout", "400 ms"),
    ("memory", 10_000, "plugin-limit-memory", "200 MiB"),
    ("flood", 10_000, "plugin-limit", "called the host more than"),
    ("gush", 10_000, "plugin-limit", "more at once"),
    ("lie", 10_000, "bad-answer", "a-state-that-nobody-knows"),
];
/// Calls that each hostile service must have come to: the third comes after pauses of one and two seconds.
const ATTEMPTS: u32 = 3;

/// Memory of this process that is really there, MiB.
fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096 / (1 << 20)
}

/// Most memory since it was last forgotten, MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_plugins_beside_it_hurt_nobody() {
    let timing = Timing { clone_linked: 300, start: 200, ..Timing::default() };
    let mut world = World::new(SimConfig { timing, ..SimConfig::default() }).await;
    world.tune = |config| config.slots_per_plugin = NonZeroU32::new(2).unwrap();
    let host = world.host(|_| {}).await;
    let code = component("provisioner-hostile");
    for (mischief, ms, ..) in MISCHIEF {
        let id = format!("hostile-{mischief}");
        let one = reissued(&code, |manifest| {
            manifest["id"] = json!(id);
            manifest["limits"]["call_ms"] = json!(ms);
        });
        install(&host.runtime, one).await;
        world.plan_of(&id, mischief, json!({"mischief": mischief})).await;
    }
    // One before it is measured, so that what is kept anyway is there.
    world.wish(&host, "first", World::order("small", &[])).await;
    world.until("first", Phase::Active, PATIENCE).await;
    let before = resident_mib();
    forget_peak();

    let good: Vec<String> = (1..=20).map(|n| format!("good{n}")).collect();
    let mut bad = Vec::new();
    for (mischief, _, code, text) in MISCHIEF {
        for n in 1..=3 {
            let name = format!("{mischief}{n}");
            world.wish(&host, &name, World::order(mischief, &[])).await;
            bad.push((name, code, text));
        }
    }
    for name in &good {
        world.wish(&host, name, World::order("small", &[])).await;
    }

    for name in &good {
        world.until(name, Phase::Active, PATIENCE).await;
        let (operation, entries) = world.log(name).await.remove(0);
        assert!(succeeded(&operation));
        let failed = |body: &LogBody| matches!(body, LogBody::Step { result: StepResult::Error { .. }, .. });
        assert!(!entries.iter().any(|e| failed(&e.body)), "{}", world.tell(name).await);
    }
    for (name, code, text) in &bad {
        let deadline = Instant::now() + PATIENCE;
        let operation = loop {
            let operation = world.log(name).await.remove(0).0;
            if operation.attempt >= ATTEMPTS && operation.status == Status::Waiting {
                break operation;
            }
            assert!(Instant::now() < deadline, "{}", world.tell(name).await);
            sleep(Duration::from_millis(100)).await;
        };
        let reason = operation.reason.unwrap();
        assert_eq!(reason.code, *code, "{name}: {}", reason.message);
        assert!(reason.message.contains(text), "{name}: {}", reason.message);
        assert!(operation.attempt < 8, "{name} was called {} times: it does not back off", operation.attempt);
        assert!(world.service(name).await.vmid.is_none());
    }
    assert_eq!(world.sim.guests().len(), 21);
    assert!(host.runtime.max_in_use() <= 8, "{} stores were alive at once", host.runtime.max_in_use());
    world.audit().await;

    let runtime = std::sync::Arc::clone(&host.runtime);
    host.stop().await;
    assert_eq!(runtime.in_use(), 0);
    drop(runtime);
    // Nine or more calls have taken 200 MiB each. What stays is books, logs and what the allocator keeps.
    let (peak, after) = (peak_mib(), resident_mib());
    println!("{before} MiB before, {peak} MiB at most, {after} MiB after");
    assert!(peak > before + 150, "{before} MiB before, {peak} MiB at most: no memory was taken");
    assert!(after < before + 100, "{before} MiB before, {after} MiB after");
}
