//! Many at once: a slow cluster keeps rows waiting and no wasm alive, new orders are taken on all the same, and who finds no
//! address left waits until there is one.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use crate::world::{Host, World};
use pve_sim::{
    faults::{Fault, What},
    state::{SimConfig, Template, Timing},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use wharf_engine::wish::Wish;
use wharf_model::{object::ObjectKind, operation::Operation, service::Phase};

/// A slow cluster takes hours of virtual time.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// Room for hundreds of VMs.
fn large() -> SimConfig {
    let timing = Timing { clone_linked: 200, ..Timing::default() };
    let mut config = SimConfig { timing, ..SimConfig::default() };
    for node in &mut config.nodes {
        node.memory_mib = 2_000_000;
    }
    for storage in &mut config.storages {
        storage.total_mib = 100_000_000;
    }
    config
}

/// Takes on a wish; fails if that takes a second, or if anything is asked of the cluster meanwhile.
async fn at_once(world: &World, host: &Host, reference: &str, wish: Wish) {
    let (began, asked) = (Instant::now(), world.sim.log().len());
    world.wish(host, reference, wish).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{reference} was taken on after {:?}", began.elapsed());
    assert_eq!(world.sim.log().len(), asked, "the cluster was asked while {reference} was taken on");
}

/// The newest operation of a service.
async fn newest(world: &World, reference: &str) -> Operation {
    let service = world.service(reference).await;
    world.books.operations(service.id, 1).await.unwrap().remove(0)
}

/// Addresses that are leased, each once.
async fn leased(world: &World) -> usize {
    let (mut count, mut addresses) = (0, BTreeSet::new());
    for service in world.services().await {
        for lease in world.books.leases_of(service.id).await.unwrap() {
            count += 1;
            assert!(addresses.insert(lease.address), "{} is leased twice", lease.address);
        }
    }
    count
}

#[tokio::test(start_paused = true)]
async fn two_hundred_deploys_wait_for_a_slow_cluster_with_at_most_ten_wasm_stores_alive_and_orders_are_still_accepted_at_once()
 {
    let mut world = World::new(large()).await;
    world.tune = |config| {
        config.slots = NonZeroU32::new(10).unwrap();
        config.slots_per_plugin = config.slots;
    };
    let slow = What::SlowAnswer(25_000);
    world.sim.fault(Fault { method: "write".into(), path: String::new(), times: None, what: slow });
    let host = world.host(|_| {}).await;
    let names: Vec<String> = (1..=200).map(|n| n.to_string()).collect();
    for name in &names {
        world.wish(&host, name, World::order("small", &[])).await;
    }
    sleep(Duration::from_secs(20)).await;
    for name in &names {
        let operation = newest(&world, name).await;
        assert!(operation.started_ms.is_some() && !operation.status.is_final(), "{operation:?}");
    }
    assert_eq!(host.runtime.in_use(), 0, "wasm is alive while the cluster works");
    at_once(&world, &host, "late", World::order("small", &[])).await;

    for name in names.iter().map(String::as_str).chain(["late"]) {
        world.until(name, Phase::Active, PATIENCE).await;
    }
    let most = host.runtime.max_in_use();
    assert!((2..=10).contains(&most), "{most} stores were alive at once");
    assert_eq!(world.sim.guests().len(), 201);
    let writes = world.sim.snapshot().writes;
    assert!(writes.values().all(|n| *n <= 8), "{writes:?}");
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_answers_slowly_holds_up_nobody_on_another() {
    let mut config = large();
    let shared = config.templates.iter().find(|t| t.vmid == 9001).unwrap().clone();
    config.templates.push(Template { vmid: 9003, node: "pve2".into(), ..shared });
    let world = World::new(config).await;
    world.put(ObjectKind::Image, "elsewhere", json!({"templates": [{"server": "pve", "vmid": 9003}]})).await;
    world.plan("slow", json!({"image": "debian-12-local", "node": "pve1"})).await;
    world.plan("quick", json!({"image": "elsewhere", "node": "pve2"})).await;
    let host = world.host(|_| {}).await;
    let names: Vec<String> = (1..=120).map(|n| n.to_string()).collect();
    for name in &names {
        world.wish(&host, name, World::order("slow", &[])).await;
    }
    for name in &names {
        world.until(name, Phase::Active, PATIENCE).await;
    }
    let slow = What::SlowAnswer(25_000);
    world.sim.fault(Fault { method: "write".into(), path: "/nodes/pve1/".into(), times: None, what: slow });
    // Two at a time are let through to a node, so nearly all of these stand before its door.
    for name in &names {
        world.wish(&host, name, Wish::Suspend).await;
    }
    sleep(Duration::from_secs(10)).await;
    let began = Instant::now();
    world.wish(&host, "quick", World::order("quick", &[])).await;
    let quick = world.until("quick", Phase::Active, PATIENCE).await;
    // Alone on the cluster it takes 3 s.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {}", began.elapsed(), world.tell("quick").await);
    assert_eq!(world.sim.guests()[&quick.vmid.unwrap()].node, "pve2");
    for name in &names {
        world.until(name, Phase::Active, PATIENCE).await;
        assert!(!world.sim.guests()[&world.service(name).await.vmid.unwrap()].running);
    }
    world.audit().await;
}

#[tokio::test(start_paused = true)]
async fn five_hundred_orders_for_four_hundred_addresses_get_one_each_and_the_rest_when_there_are_more() {
    let world = World::new(large()).await;
    // 246 + 154 addresses.
    world.pool("v4", "10.20.0.10", "10.20.0.255", 23, "10.20.0.1").await;
    world.pool("v4-more", "10.30.0.10", "10.30.0.163", 24, "10.30.0.1").await;
    let host = world.host(|_| {}).await;
    let names: Vec<String> = (1..=500).map(|n| n.to_string()).collect();
    for name in &names {
        world.wish(&host, name, World::order("small", &[])).await;
    }
    let began = Instant::now();
    let waiting = loop {
        sleep(Duration::from_secs(5)).await;
        let mut waiting = Vec::new();
        for name in &names {
            if world.service(name).await.phase != Phase::Active {
                waiting.push(name.as_str());
            }
        }
        if waiting.len() <= 100 {
            break waiting;
        }
        assert!(began.elapsed() < PATIENCE, "{} are not active", waiting.len());
    };
    // Whoever waits goes on waiting, and says for what.
    sleep(Duration::from_secs(15)).await;
    assert_eq!(waiting.len(), 100);
    for name in &waiting {
        let operation = newest(&world, name).await;
        let reason = operation.reason.as_ref().map_or("", |r| &r.message);
        assert!(reason.contains("not enough free addresses") && reason.contains("v4, v4-more"), "{operation:?}");
        assert_eq!(operation.attempt, 0, "a wait is no failure");
    }
    assert_eq!(leased(&world).await, 400);
    assert_eq!(world.sim.guests().len(), 400);
    world.audit().await;

    // A customer who doesn't pay is shut out now, not when there is an address.
    at_once(&world, &host, waiting[7], Wish::Suspend).await;
    let denied = world.service(waiting[7]).await;
    assert!(denied.suspended && denied.vmid.is_none(), "{denied:?}");
    let open = world.books.operations(denied.id, 10).await.unwrap();
    assert!(open.iter().any(|o| o.kind == "deploy" && !o.status.is_final()), "{open:?}");

    world.pool("v4-late", "10.40.0.10", "10.40.0.109", 24, "10.40.0.1").await;
    world.announce(&host).await;
    // They look every 5 s by themselves.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(leased(&world).await, 500, "those who wait were not woken");
    for name in &names {
        world.until(name, Phase::Active, PATIENCE).await;
    }
    let denied = world.service(waiting[7]).await;
    let guests = world.sim.guests();
    let vm = &guests[&denied.vmid.unwrap()];
    assert!(denied.suspended && !vm.running, "{}", world.tell(waiting[7]).await);
    assert_eq!(vm.config.get("onboot").map(String::as_str).unwrap_or("0"), "0");
    assert_eq!(guests.values().filter(|vm| vm.running).count(), 499);
    assert_eq!(world.services().await.iter().filter(|s| s.suspended).count(), 1);
    world.audit().await;
}
