//! Deploy and terminate on the simulated cluster, in virtual time.

use std::time::Duration;

use crate::world::World;
use pve_sim::state::SimConfig;
use serde_json::json;
use wharf_engine::wish::Wish;
use wharf_model::{operation::LogBody, service::Phase};

const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn an_order_becomes_a_running_vm_in_fifteen_states_and_at_most_eight_writes() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[("CPU Cores", "2"), ("RAM", "4"), ("System Disk", "20")])).await;
    let service = world.until("1", Phase::Active, PATIENCE).await;
    let states = world.reached("1", "deploy").await;
    assert_eq!(states.len(), 15, "{}", world.tell("1").await);
    let vm = world.sim.guests().remove(&service.vmid.unwrap()).unwrap();
    assert!(vm.running);
    assert_eq!((vm.config["cores"].as_str(), vm.config["memory"].as_str()), ("2", "4096"));
    assert!(vm.config["ipconfig0"].contains("192.0.2.10/24"), "{:?}", vm.config);
    assert_eq!(vm.ipsets["ipfilter-net0"].iter().collect::<Vec<_>>(), ["192.0.2.10"]);
    assert_eq!(vm.firewall["ipfilter"], "1");
    let writes = world.sim.snapshot().writes[&service.vmid.unwrap()];
    assert!(writes <= 8, "{writes} writes");
    // Durations are the wall time, and states that one write satisfied name it.
    let (operation, log) = world.log("1").await.remove(0);
    let (mut total, mut by_effect) = (0, std::collections::BTreeMap::<String, u32>::new());
    for entry in log {
        if let LogBody::Step { duration_ms, effect, .. } = entry.body {
            total += duration_ms;
            if let Some(effect) = effect {
                *by_effect.entry(effect).or_default() += 1;
            }
        }
    }
    let wall = operation.ended_ms.unwrap() - operation.created_ms;
    assert!((total - wall).abs() * 20 <= wall, "{total} ms of {wall} ms");
    assert!(by_effect.values().any(|n| *n > 2), "{by_effect:?}");
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn a_terminated_vm_is_gone_and_its_address_rests() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    let service = world.until("1", Phase::Active, PATIENCE).await;
    world.wish(&host, "1", Wish::Terminate).await;
    assert_eq!(world.service("1").await.phase, Phase::Terminating);
    world.until("1", Phase::Terminated, PATIENCE).await;
    assert!(!world.sim.guests().contains_key(&service.vmid.unwrap()));
    assert!(world.books.leases_of(service.id).await.unwrap().is_empty());
    assert_eq!(world.books.leases_in("v4").await.unwrap().len(), 1, "in quarantine");
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_clone_is_migrated_with_its_storage_mapped() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.plan("far", json!({"image": "debian-12-local", "clone": "full", "node": "pve3"})).await;
    world.wish(&host, "1", World::order("far", &[])).await;
    let service = world.until("1", Phase::Active, PATIENCE).await;
    assert_eq!(world.sim.guests()[&service.vmid.unwrap()].node, "pve3", "{}", world.tell("1").await);
    let migrations = world.sim.log().iter().filter(|e| e.method == "POST" && e.path.ends_with("/migrate")).count();
    assert_eq!(migrations, 1, "{}", world.tell("1").await);
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn dual_stack_and_ipv6_only_vms_get_their_addresses() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "both", World::order("small", &[("IPv6 Addresses", "1")])).await;
    world.wish(&host, "six", World::order("small", &[("IPv4 Addresses", "0"), ("IPv6 Addresses", "1")])).await;
    let both = world.until("both", Phase::Active, PATIENCE).await;
    let six = world.until("six", Phase::Active, PATIENCE).await;
    let guests = world.sim.guests();
    let config = |vmid: u32| guests[&vmid].config["ipconfig0"].clone();
    assert!(
        config(both.vmid.unwrap()).contains("ip=192.0.2.") && config(both.vmid.unwrap()).contains("ip6=2001:db8::")
    );
    assert!(!config(six.vmid.unwrap()).contains("ip=192"), "{}", config(six.vmid.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn terminate_overtakes_a_deploy_and_nothing_is_left() {
    for pause_ms in [0, 300, 1_000, 1_500, 2_500] {
        let world = World::new(SimConfig::default()).await;
        let host = world.host(|_| {}).await;
        world.wish(&host, "1", World::order("small", &[])).await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        world.wish(&host, "1", Wish::Terminate).await;
        world.until("1", Phase::Terminated, PATIENCE).await;
        assert!(world.sim.guests().is_empty(), "after {pause_ms} ms: {}", world.tell("1").await);
        world.audit().await;
    }
}
