//! Versions of the provisioner come and go while it works: nothing fails, nothing is done twice, and each row says which
//! version it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::world::{Host, World, component, disguised, install, reissued};
use pve_sim::state::SimConfig;
use semver::Version;
use serde_json::json;
use tokio::time::{Instant, sleep};
use wharf_engine::wish::Wish;
use wharf_model::{
    operation::{LogBody, Status, StepResult},
    service::Phase,
};

const PATIENCE: Duration = Duration::from_secs(900);
const KVM: &str = "proxmox-kvm";

fn next(version: &Version) -> Version {
    Version::new(version.major, version.minor + 1, 0)
}

fn current(host: &Host) -> Version {
    host.runtime.manifest(KVM).unwrap().version.clone()
}

/// A cluster with so many orders on it.
async fn ordered(count: usize) -> (World, Host, Vec<String>) {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let names: Vec<String> = (1..=count).map(|n| format!("vm{n}")).collect();
    for name in &names {
        world.wish(&host, name, World::order("small", &[("System Disk", "20")])).await;
    }
    (world, host, names)
}

async fn count_in(world: &World, phase: Phase) -> usize {
    world.services().await.iter().filter(|s| s.phase == phase).count()
}

/// Waits until as many VMs as that are active; tells of those that aren't instead.
async fn active(world: &World, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while count_in(world, Phase::Active).await < count {
        if Instant::now() > deadline {
            let late = world.services().await.into_iter().find(|s| s.phase != Phase::Active).unwrap();
            panic!("not even {count} are active: {}", world.tell(&late.reference).await);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What was written to each service's VM, in order of names. A write that the cluster refused, because a lock was held at
/// that moment, has done nothing and is left out.
async fn writes(world: &World) -> BTreeMap<String, Vec<String>> {
    let of: BTreeMap<u32, String> =
        world.services().await.into_iter().filter_map(|s| Some((s.vmid?, s.reference))).collect();
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in world.sim.log().into_iter().filter(|e| e.method != "GET" && e.status == 200) {
        let number = match entry.params.get("newid") {
            Some(number) => number.parse().unwrap(),
            None => entry.vmid.unwrap(),
        };
        let what = match entry.path.split_once(&format!("/qemu/{number}/")) {
            Some((_, what)) => what.to_owned(),
            None => entry.path.rsplit('/').next().unwrap().to_owned(),
        };
        all.entry(of[&number].clone()).or_default().push(format!("{} {what}", entry.method));
    }
    all.values_mut().for_each(|list| list.sort());
    all
}

/// Versions that the steps of a service ran on, one after the other; fails if a row names none.
async fn versions(world: &World, reference: &str) -> Vec<Version> {
    let mut seen = Vec::new();
    for (_, entries) in world.log(reference).await {
        for entry in entries {
            if let LogBody::Step { version, .. } = entry.body {
                seen.push(version.parse().unwrap_or_else(|_| panic!("a row names the version `{version}`")));
            }
        }
    }
    seen.dedup();
    seen
}

#[tokio::test(start_paused = true)]
async fn fifty_deploys_go_on_while_a_new_version_is_installed_and_rolled_back() {
    let (calm, _host, names) = ordered(50).await;
    active(&calm, names.len()).await;
    let undisturbed = writes(&calm).await;

    let (world, host, names) = ordered(50).await;
    active(&world, 10).await;
    let old = current(&host);
    let new = next(&old);
    let raised = reissued(&component(KVM), |manifest| manifest["version"] = json!(new));
    install(&host.runtime, raised).await;
    host.engine.nudge();
    assert_eq!(current(&host), new);
    let half = count_in(&world, Phase::Active).await;
    assert!(half < 20, "{half} were active before it began");
    active(&world, 30).await;
    host.runtime.rollback(KVM, "test").await.unwrap();
    host.engine.nudge();
    assert_eq!(current(&host), old);
    let most = count_in(&world, Phase::Active).await;
    assert!(most < 40, "{most} were active before it was rolled back");
    for name in &names {
        world.until(name, Phase::Active, PATIENCE).await;
    }

    let mut there_and_back = 0;
    let mut seen = BTreeSet::new();
    for name in &names {
        for (operation, entries) in world.log(name).await {
            assert_eq!(operation.status, Status::Succeeded);
            for entry in entries {
                if let LogBody::Step { result, .. } = entry.body {
                    assert!(!matches!(result, StepResult::Error { .. }), "{}", world.tell(name).await);
                }
            }
        }
        let versions = versions(&world, name).await;
        there_and_back += usize::from(versions == [old.clone(), new.clone(), old.clone()]);
        seen.extend(versions);
    }
    assert_eq!(seen, [old, new].into());
    assert!(there_and_back > 0, "nobody was there for both moves");

    let written = writes(&world).await;
    assert_eq!(written, undisturbed);
    for (name, list) in &written {
        for what in ["POST clone", "PUT config", "PUT resize", "POST status/start"] {
            assert_eq!(list.iter().filter(|w| *w == what).count(), 1, "{name}: {list:?}");
        }
    }
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_traps_in_every_step_is_rolled_back_by_hand_and_everything_finishes() {
    let (world, host, names) = ordered(20).await;
    active(&world, 5).await;
    let old = current(&host);
    let new = next(&old);
    let broken =
        disguised(&component("provisioner-hostile"), &component(KVM), |manifest| manifest["version"] = json!(new));
    install(&host.runtime, broken).await;
    host.engine.nudge();
    world.wish(&host, "meanwhile", World::order("small", &[])).await;

    // Long enough for the longest pause between two tries.
    sleep(Duration::from_secs(1_200)).await;
    let stuck: Vec<String> =
        world.services().await.into_iter().filter(|s| s.phase != Phase::Active).map(|s| s.reference).collect();
    assert!(stuck.len() > 5, "{stuck:?} were left");
    for name in &stuck {
        let (operation, entries) = world.log(name).await.pop().unwrap();
        let reason = operation.reason.unwrap();
        assert_eq!((operation.status, reason.code.as_str()), (Status::Waiting, "plugin-trap"), "{name}");
        assert!(reason.message.contains(&new.to_string()) && reason.message.contains("this release is broken"));
        assert!((6..20).contains(&operation.attempt), "{} attempts in 20 minutes", operation.attempt);
        let said = entries.into_iter().any(|e| {
            matches!(e.body, LogBody::Step { version, result: StepResult::Error { .. }, .. } if version == new.to_string())
        });
        assert!(said, "{}", world.tell(name).await);
    }
    let asked = world.sim.log().iter().filter(|e| e.method != "GET").count();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(world.sim.log().iter().filter(|e| e.method != "GET").count(), asked, "something was written");

    host.runtime.rollback(KVM, "test").await.unwrap();
    host.engine.nudge();
    // The pause has come to five minutes, and nobody sits it out.
    sleep(Duration::from_secs(1)).await;
    for name in &stuck {
        let operation = world.log(name).await.pop().unwrap().0;
        assert!(operation.reason.is_none_or(|r| r.code != "plugin-trap"), "{name} was not woken");
    }
    for name in names.iter().map(String::as_str).chain(["meanwhile"]) {
        world.until(name, Phase::Active, PATIENCE).await;
        assert_eq!(versions(&world, name).await.last(), Some(&old));
    }
    assert_eq!(world.sim.guests().len(), 21);
    for (name, list) in writes(&world).await {
        let once: BTreeSet<&String> = list.iter().collect();
        assert_eq!(once.len(), list.len(), "{name}: {list:?}");
    }
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_reads_no_older_state_takes_new_orders_while_running_ones_finish_on_the_one_before() {
    let (world, host, names) = ordered(20).await;
    active(&world, 5).await;
    let old = current(&host);
    let new = next(&old);
    // Other states, other settings, another product altogether; only the id is the same.
    let tiny = reissued(&component("provisioner-tiny"), |manifest| {
        manifest["id"] = json!(KVM);
        manifest["version"] = json!(new);
        manifest["state"] = json!({"reads": [2, 2], "writes": 2});
    });
    install(&host.runtime, tiny).await;
    host.engine.nudge();
    let running = names.len() - count_in(&world, Phase::Active).await;
    assert!(running > 10, "only {running} still ran");
    world.plan_of(KVM, "new", json!({"image": "debian-12"})).await;
    for n in 1..=5 {
        world.wish(&host, &format!("new{n}"), World::order("new", &[("Flavour", "medium")])).await;
    }
    for name in &names {
        world.until(name, Phase::Active, PATIENCE).await;
        assert_eq!(versions(&world, name).await, std::slice::from_ref(&old), "{}", world.tell(name).await);
        assert_eq!(world.reached(name, "deploy").await.len(), 15);
    }
    for n in 1..=5 {
        let name = format!("new{n}");
        world.until(&name, Phase::Active, PATIENCE).await;
        assert_eq!(versions(&world, &name).await, std::slice::from_ref(&new));
        assert_eq!(world.reached(&name, "deploy").await, ["copied", "flavoured", "awake"]);
    }
    // Labels are those of the version that ran.
    assert!(world.tell("vm20").await.contains("Cloud-init"), "{}", world.tell("vm20").await);
    world.audit().await;

    // Gone back to before it is done, it is finished by whom it was begun.
    world.wish(&host, "last", World::order("new", &[])).await;
    while world.service("last").await.vmid.is_none() {
        sleep(Duration::from_millis(20)).await;
    }
    host.runtime.rollback(KVM, "test").await.unwrap();
    host.engine.nudge();
    world.wish(&host, "vm20", Wish::Terminate).await;
    world.until("vm20", Phase::Terminated, PATIENCE).await;
    world.until("last", Phase::Active, PATIENCE).await;
    assert_eq!(versions(&world, "vm20").await, [old]);
    assert_eq!(versions(&world, "last").await, [new]);
    assert_eq!(world.sim.guests().len(), 25);
    world.audit().await;
}
