//! Other hands on the same cluster: somebody takes our number, an answer is lost meanwhile, a VM is moved between two steps.

use crate::world;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tower::ServiceExt;

use crate::world::World;
use pve_sim::{
    faults::{Condition, What},
    state::SimConfig,
};
use serde_json::json;
use wharf_engine::wish::Wish;
use wharf_model::{object::ObjectKind, service::Phase};

const PATIENCE: Duration = Duration::from_secs(3_600);

/// Deploys with these faults on the first clone. Returns the numbers of all VMs but templates, and the service's.
async fn clone_with(faults: &[What]) -> (World, Vec<u32>, u32) {
    let world = World::new(SimConfig::default()).await;
    for fault in faults {
        world.sim.once("POST", "/clone", fault.clone());
    }
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    let service = world.until("1", Phase::Active, PATIENCE).await;
    world.audit().await;
    let guests = world.sim.snapshot().vms.into_values().filter(|vm| !vm.template).map(|vm| vm.vmid).collect();
    host.kill();
    (world, guests, service.vmid.unwrap())
}

/// As its owner removes a VM.
async fn remove_by_hand(world: &World, vmid: u32) {
    let node = world.sim.snapshot().vms[&vmid].node.clone();
    world.sim.condition(Condition::StopByHand(vmid));
    let request = http::Request::delete(format!("/api2/json/nodes/{node}/qemu/{vmid}"))
        .header("authorization", format!("PVEAPIToken={}={}", world::TOKEN, world::SECRET))
        .body(axum::body::Body::empty())
        .unwrap();
    assert!(world.sim.router().oneshot(request).await.unwrap().status().is_success());
    while world.sim.snapshot().vms.contains_key(&vmid) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A stranger has the first number, untouched; the service has the next one; the first is never used again.
async fn burnt(faults: &[What]) {
    let (world, guests, own) = clone_with(faults).await;
    assert_eq!(guests, [100, 101], "{}", world.tell("1").await);
    assert_eq!(own, 101);
    let stranger = &world.sim.snapshot().vms[&100];
    let fresh = {
        let sim = pve_sim::Sim::new(SimConfig::default());
        sim.condition(Condition::ForeignVm(100, stranger.node.clone()));
        sim.snapshot().vms[&100].clone()
    };
    assert_eq!(stranger.config, fresh.config, "the stranger's VM was touched");
    assert_eq!((stranger.running, &stranger.firewall), (fresh.running, &fresh.firewall));
    let writes = world.sim.log().into_iter().filter(|e| e.method != "GET" && e.path.contains("/qemu/100"));
    assert_eq!(writes.count(), 0, "something was written to the stranger's VM");
    // Nobody gets the burnt number, even when it is free again.
    let host = world.host(|_| {}).await;
    remove_by_hand(&world, 100).await;
    world.wish(&host, "2", World::order("small", &[])).await;
    assert_eq!(world.until("2", Phase::Active, PATIENCE).await.vmid, Some(102));
    world.wish(&host, "1", Wish::Terminate).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_number_that_a_stranger_takes_in_the_last_moment_is_burnt_and_the_next_one_used() {
    burnt(&[What::Thief]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_clone_while_a_stranger_takes_the_number_never_touches_the_strangers_vm() {
    burnt(&[What::Thief, What::LoseReply]).await;
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_carried_out_long_after_its_timeout_is_refused_by_the_strangers_number() {
    burnt(&[What::Thief, What::Late(3_000)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_clone_is_found_out_and_the_vm_adopted() {
    let (world, guests, own) = clone_with(&[What::LoseReply]).await;
    assert_eq!((guests, own), (vec![100], 100), "{}", world.tell("1").await);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_is_carried_out_after_its_timeout_is_adopted() {
    let (world, guests, own) = clone_with(&[What::Late(5_000)]).await;
    assert_eq!((guests, own), (vec![100], 100), "{}", world.tell("1").await);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_never_arrived_is_sent_again_to_the_same_number() {
    let (world, guests, own) = clone_with(&[What::DropBefore]).await;
    assert_eq!((guests, own), (vec![100], 100), "{}", world.tell("1").await);
}

/// Marks of archives on the NFS that carry this number.
fn archives(world: &World, vmid: u32) -> Vec<String> {
    let mut notes: Vec<String> = std::iter::once(&world.sim)
        .chain(world.others.values())
        .flat_map(|sim| sim.snapshot().volumes)
        .filter(|v| v.content == "backup" && v.vmid == Some(vmid))
        .map(|v| v.notes)
        .collect();
    notes.sort();
    notes
}

#[tokio::test(start_paused = true)]
async fn terminate_in_one_cluster_leaves_the_archives_of_the_same_number_in_another() {
    let mut world = World::new(SimConfig::default()).await;
    let other = pve_sim::Sim::new(SimConfig { seed: 2, ..SimConfig::default() });
    world.sim.share(&other, "nfs");
    world.others.insert("http://other".into(), other.clone());
    let world = world;
    world.put(ObjectKind::Server, "other", json!({"urls": ["http://other"], "token_id": world::TOKEN})).await;
    world.secret("server/other", "secret", world::SECRET).await;
    let image = json!({"templates": [{"server": "pve", "vmid": 9000}, {"server": "other", "vmid": 9000}]});
    world.put(ObjectKind::Image, "debian-12", image).await;
    let pool = json!({
        "server": "other", "bridge": "vmbr0", "first": "198.51.100.10", "last": "198.51.100.20", "prefix_length": 24,
        "gateway": "198.51.100.1",
    });
    world.put(ObjectKind::Pool, "other", pool).await;
    let settings = json!({"image": "debian-12", "main-domain": "example.com"});
    let plan = json!({"plugin": "proxmox-kvm", "server": "other", "settings": settings});
    world.put(ObjectKind::Plan, "elsewhere", plan).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    world.wish(&host, "2", World::order("elsewhere", &[])).await;
    let here = world.until("1", Phase::Active, PATIENCE).await;
    let there = world.until("2", Phase::Active, PATIENCE).await;
    assert_eq!((here.vmid, there.vmid), (Some(100), Some(100)), "each cluster counts for itself");
    // Made by the host for each of them, and one by somebody else. Archives have the time in their name.
    let mark = |service: &wharf_model::service::Service| wharf_capabilities::proxmox::marker(service.id);
    world.sim.condition(Condition::Archive(100, "nfs".into(), mark(&here)));
    world.sim.condition(Condition::Archive(100, "nfs".into(), "nightly of somebody else".into()));
    for _ in 0..5 {
        other.condition(Condition::Archive(777, "nfs".into(), "makes names differ".into()));
    }
    other.condition(Condition::Archive(100, "nfs".into(), mark(&there)));
    assert_eq!(archives(&world, 100).len(), 3);
    world.wish(&host, "1", Wish::Terminate).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    let mut left = vec!["nightly of somebody else".to_owned(), mark(&there)];
    left.sort();
    assert_eq!(archives(&world, 100), left, "{}", world.tell("1").await);
    assert!(world.sim.guests().is_empty());
    assert!(other.guests()[&100].running, "the VM of the same number in the other cluster is untouched");
    let writes = other.log().into_iter().filter(|e| e.method == "DELETE").count();
    assert_eq!(writes, 0, "nothing was removed by way of the other cluster");
    host.kill();
}

/// Deploy and terminate; at edge `at` with a VM that is not locked, somebody migrates it to another node. Returns how many
/// such edges there were.
async fn moved(plan: &str, at: usize) -> usize {
    let world = World::new(SimConfig::default()).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let done: Arc<Mutex<Option<&'static str>>> = Arc::default();
    let (sim, count, note) = (world.sim.clone(), Arc::clone(&seen), Arc::clone(&done));
    let host = world
        .host(|engine| {
            engine.set_kill_hook(Arc::new(move |edge| {
                let (sim, count, note) = (sim.clone(), Arc::clone(&count), Arc::clone(&note));
                async move {
                    if !["call:", "step:", "commit:"].iter().any(|kind| edge.starts_with(kind)) {
                        return;
                    }
                    let Some(vm) = sim.guests().into_values().find(|vm| !vm.config.contains_key("lock")) else {
                        return;
                    };
                    if count.fetch_add(1, Ordering::SeqCst) == at {
                        let to = if vm.node == "pve1" { "pve2" } else { "pve1" };
                        sim.condition(Condition::Move(vm.vmid, to.into()));
                        *note.lock().unwrap() = Some(edge);
                    }
                }
                .boxed()
            }));
        })
        .await;
    world.wish(&host, "1", World::order(plan, &[("System Disk", "20")])).await;
    let service = world.until("1", Phase::Active, PATIENCE).await;
    assert_eq!(world.sim.guests().len(), 1);
    assert!(world.sim.guests()[&service.vmid.unwrap()].running);
    let edge = *done.lock().unwrap();
    world.audit().await;
    world.wish(&host, "1", Wish::Terminate).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    assert!(world.sim.guests().is_empty(), "moved at {edge:?}: {}", world.tell("1").await);
    for (operation, _) in world.log("1").await {
        assert!(world::succeeded(&operation), "moved at {edge:?}: {}", world.tell("1").await);
    }
    world.audit().await;
    host.kill();
    seen.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_vm_moved_by_hand_between_any_two_steps_harms_nothing() {
    let edges = moved("small", usize::MAX).await;
    assert!(edges > 40, "only {edges} edges were passed with a VM");
    for at in 0..edges {
        moved("small", at).await;
    }
    println!("moved at {edges} edges");
}
