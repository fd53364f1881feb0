//! What goes wrong on the cluster: the state is kept, the reason can be read, and the operation goes on by itself when the
//! fault has ended.

use std::time::Duration;

use crate::world::{SECRET, TOKEN, World};
use pve_sim::{
    faults::{Condition, Fault, What},
    state::SimConfig,
};
use serde_json::json;
use tokio::time::sleep;
use wharf_engine::wish::Wish;
use wharf_model::{
    operation::{Operation, Status},
    service::Phase,
};

const PATIENCE: Duration = Duration::from_secs(7_200);
const OUTAGE: Duration = Duration::from_secs(1_200);

async fn newest(world: &World) -> Operation {
    let service = world.service("1").await;
    world.books.operations(service.id, 1).await.unwrap().remove(0)
}

/// It waits, in the state `state` if one is given, and says why with these words.
async fn waits(world: &World, state: Option<&str>, words: &[&str]) {
    let operation = newest(world).await;
    let tell = world.tell("1").await;
    assert_eq!(operation.status, Status::Waiting, "{tell}");
    let reason = operation.reason.expect("a reason").message;
    for word in words {
        assert!(reason.contains(word), "`{reason}` does not say `{word}`\n{tell}");
    }
    if let Some(state) = state {
        assert_eq!(operation.state, state, "{tell}");
    }
}

/// An order during an outage that begins before it and lasts 20 minutes.
async fn rides_out(begin: &[Condition], end: &[Condition], words: &[&str]) -> World {
    let world = World::new(SimConfig::default()).await;
    world.plan("small", json!({"image": "debian-12-local"})).await;
    let host = world.host(|_| {}).await;
    for condition in begin {
        world.sim.condition(condition.clone());
    }
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(OUTAGE).await;
    waits(&world, None, words).await;
    assert_eq!(world.service("1").await.phase, Phase::Provisioning);
    for condition in end {
        world.sim.condition(condition.clone());
    }
    world.until("1", Phase::Active, PATIENCE).await;
    world.audit().await;
    host.kill();
    world
}

#[tokio::test(start_paused = true)]
async fn an_offline_node_is_named_and_waited_for() {
    rides_out(&[Condition::NodeOffline("pve1".into())], &[Condition::NodeOnline("pve1".into())], &["pve1", "offline"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_without_quorum_is_waited_for() {
    rides_out(&[Condition::NoQuorum], &[Condition::Quorum], &["quorum"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_storage_is_named_and_waited_for() {
    let full = [Condition::Free("local-lvm".into(), 100)];
    rides_out(&full, &[Condition::Free("local-lvm".into(), 500_000)], &["local-lvm"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_privilege_is_named_with_its_path() {
    let forbid = Condition::Forbid(TOKEN.into(), "/qemu/9000/clone".into(), "VM.Clone".into());
    rides_out(&[forbid], &[Condition::AllowAll], &["VM.Clone", "/qemu/9000"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_parks_the_server_until_its_secret_is_entered_again() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.sim.condition(Condition::RevokeToken(TOKEN.into()));
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(Duration::from_secs(60)).await;
    let asked = world.sim.log().len();
    sleep(OUTAGE).await;
    waits(&world, None, &["pve", "token"]).await;
    assert_eq!(world.sim.log().len(), asked, "a parked server is left alone");
    // The token works again, but nobody has said so.
    world.sim.condition(Condition::RestoreToken(TOKEN.into(), SECRET.into()));
    sleep(OUTAGE).await;
    assert_eq!(world.sim.log().len(), asked, "a parked server is left alone");
    world.secret("server/pve", "secret", SECRET).await;
    host.engine.nudge();
    world.until("1", Phase::Active, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_waited_for() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(Duration::from_millis(400)).await;
    world.sim.fault(Fault { method: String::new(), path: String::new(), times: None, what: What::DropBefore });
    sleep(OUTAGE).await;
    let held = newest(&world).await;
    waits(&world, None, &["pve"]).await;
    world.sim.clear_faults();
    world.until("1", Phase::Active, PATIENCE).await;
    assert_eq!(newest(&world).await.id, held.id, "the same operation goes on");
    assert_eq!(world.sim.guests().len(), 1);
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn answers_that_come_after_the_timeout_double_nothing() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let slow = Fault { method: "write".into(), path: String::new(), times: None, what: What::SlowAnswer(100_000) };
    world.sim.fault(slow);
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(Duration::from_secs(61)).await;
    waits(&world, Some("set_ip"), &["pve", "did not answer within 60000 ms"]).await;
    world.until("1", Phase::Active, PATIENCE).await;
    assert_eq!(world.sim.guests().len(), 1);
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_backed_up_is_left_alone_until_it_is_free() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    let vmid = world.until("1", Phase::Active, PATIENCE).await.vmid.unwrap();
    world.sim.condition(Condition::Lock(vmid, "backup".into()));
    world.wish(&host, "1", Wish::Terminate).await;
    sleep(OUTAGE).await;
    waits(&world, None, &["backup"]).await;
    assert!(world.sim.guests()[&vmid].running, "a locked VM is not stopped");
    world.sim.condition(Condition::Unlock(vmid));
    world.until("1", Phase::Terminated, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_there_on_an_offline_node_is_never_taken_for_gone() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    let service = world.until("1", Phase::Active, PATIENCE).await;
    let node = world.sim.guests()[&service.vmid.unwrap()].node.clone();
    world.sim.condition(Condition::NodeOffline(node.clone()));
    world.wish(&host, "1", Wish::Terminate).await;
    sleep(OUTAGE).await;
    waits(&world, None, &[&node]).await;
    assert_eq!(world.books.leases_of(service.id).await.unwrap().len(), 1, "its address stays held");
    world.sim.condition(Condition::NodeOnline(node));
    world.until("1", Phase::Terminated, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_server_repeats_stands_in_no_reason_and_no_log() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let text = format!("internal error: PVEAPIToken={TOKEN}={SECRET} is odd");
    let refuse =
        Fault { method: "write".into(), path: String::new(), times: None, what: What::Refuse { status: 500, text } };
    world.sim.fault(refuse);
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(OUTAGE).await;
    let tell = world.tell("1").await;
    assert!(!tell.contains(SECRET) && tell.contains("[secret secret] is odd"), "{tell}");
    world.sim.clear_faults();
    world.until("1", Phase::Active, PATIENCE).await;
    host.kill();
}
