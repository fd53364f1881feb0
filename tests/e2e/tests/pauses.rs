//! Pauses: what an admin holds back sends no write and says why; what has left before ends; all goes on when the pause does.

use crate::world;
use std::time::Duration;

use crate::world::{Host, World};
use pve_sim::state::SimConfig;
use serde_json::json;
use tokio::time::sleep;
use wharf_engine::wish::Wish;
use wharf_model::{
    object::PauseScope,
    operation::{Operation, Status},
    service::Phase,
};

const PATIENCE: Duration = Duration::from_secs(3_600);
const PAUSED: Duration = Duration::from_secs(1_800);

async fn pause(host: &Host, scope: PauseScope) {
    host.engine.pause(scope, "the disks are swapped", "alice").await.unwrap();
}

async fn unpause(host: &Host, scope: PauseScope) {
    assert!(host.engine.unpause(&scope, "alice").await.unwrap());
}

fn server() -> PauseScope {
    PauseScope::Server("pve".into())
}

fn node(node: &str) -> PauseScope {
    PauseScope::Node { server: "pve".into(), node: node.into() }
}

async fn newest(world: &World, reference: &str) -> Operation {
    let service = world.service(reference).await;
    world.books.operations(service.id, 1).await.unwrap().remove(0)
}

/// Everything that was sent and changes something.
fn writes(world: &World) -> Vec<(String, String)> {
    let log = world.sim.log().into_iter().filter(|e| e.method != "GET");
    log.map(|e| (e.method, e.path)).collect()
}

async fn waits_paused(world: &World, reference: &str) {
    let operation = newest(world, reference).await;
    let tell = world.tell(reference).await;
    assert_eq!(operation.status, Status::Waiting, "{tell}");
    let reason = operation.reason.expect("a reason");
    assert_eq!(reason.code, "paused", "{tell}");
    assert!(reason.message.starts_with("paused: alice since 2026-09-"), "{}", reason.message);
    assert!(reason.message.ends_with(": the disks are swapped"), "{}", reason.message);
    let holds_a_slot = world.books.slots().await.unwrap().values().flatten().any(|o| *o == operation.id);
    assert!(!holds_a_slot, "{tell}");
}

/// An order that is held back by this pause from its beginning, and finished after it.
async fn holds_back(scope: PauseScope) {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    pause(&host, scope.clone()).await;
    assert!(world.wish(&host, "1", World::order("small", &[])).await.is_some(), "hooks are taken on as ever");
    sleep(PAUSED).await;
    assert!(writes(&world).is_empty(), "{:?}", writes(&world));
    waits_paused(&world, "1").await;
    let log = world.tell("1").await;
    assert_eq!(log.matches("the disks are swapped").count(), 2, "said once, and as its reason:\n{log}");
    unpause(&host, scope).await;
    world.until("1", Phase::Active, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_paused_server_is_sent_no_write_and_goes_on_afterwards() {
    holds_back(server()).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_panel_waits() {
    holds_back(PauseScope::Panel("shop".into())).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_kind_of_operation_waits() {
    holds_back(PauseScope::Kind("deploy".into())).await;
}

#[tokio::test(start_paused = true)]
async fn everything_can_be_paused() {
    holds_back(PauseScope::Everything).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_in_the_scope_goes_on() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    for scope in [
        PauseScope::Server("other".into()),
        PauseScope::Panel("other".into()),
        PauseScope::Kind("terminate".into()),
        PauseScope::Node { server: "other".into(), node: "pve1".into() },
        node("pve9"),
    ] {
        pause(&host, scope).await;
    }
    world.wish(&host, "1", World::order("small", &[])).await;
    world.until("1", Phase::Active, PATIENCE).await;
    world.wish(&host, "1", Wish::Terminate).await;
    sleep(PAUSED).await;
    waits_paused(&world, "1").await;
    assert_eq!(world.sim.guests().len(), 1);
    unpause(&host, PauseScope::Kind("terminate".into())).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_runs_already_ends_and_the_next_step_is_held() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    while !writes(&world).iter().any(|(_, path)| path.ends_with("/clone")) {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(world.sim.snapshot().tasks.iter().any(|t| t.kind == "qmclone" && t.exit.is_none()), "it runs");
    pause(&host, server()).await;
    sleep(PAUSED).await;
    let sent = writes(&world);
    assert_eq!(sent.len(), 1, "{sent:?}");
    waits_paused(&world, "1").await;
    let operation = newest(&world, "1").await;
    let effects = world.books.effects(operation.id).await.unwrap();
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].state.as_str(), "ok", "it was watched to its end");
    assert!(world.books.slots().await.unwrap().is_empty());
    unpause(&host, server()).await;
    world.until("1", Phase::Active, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_dies_during_a_pause_sends_nothing_when_it_is_back() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    while writes(&world).is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    pause(&host, PauseScope::Everything).await;
    host.kill();
    let sent = writes(&world).len();
    let host = world.host(|_| {}).await;
    sleep(PAUSED).await;
    assert_eq!(writes(&world).len(), sent);
    waits_paused(&world, "1").await;
    unpause(&host, PauseScope::Everything).await;
    world.until("1", Phase::Active, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_paused_node_is_heeded_where_the_node_is_known() {
    let world = World::new(SimConfig::default()).await;
    // Its template is on pve1.
    world.plan("small", json!({"image": "debian-12-local"})).await;
    let host = world.host(|_| {}).await;
    pause(&host, node("pve1")).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(PAUSED).await;
    assert!(writes(&world).is_empty(), "{:?}", writes(&world));
    waits_paused(&world, "1").await;
    unpause(&host, node("pve1")).await;
    world.until("1", Phase::Active, PATIENCE).await;
    // From now on it is the VM's own node that counts.
    let on = world.sim.guests().values().next().unwrap().node.clone();
    let sent = writes(&world).len();
    pause(&host, node(&on)).await;
    world.wish(&host, "1", Wish::Terminate).await;
    sleep(PAUSED).await;
    assert_eq!(writes(&world).len(), sent);
    waits_paused(&world, "1").await;
    unpause(&host, node(&on)).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn removing_a_pause_wakes_at_once_and_another_pause_still_holds() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    pause(&host, server()).await;
    pause(&host, PauseScope::Panel("shop".into())).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    sleep(PAUSED).await;
    unpause(&host, server()).await;
    sleep(Duration::from_secs(60)).await;
    assert!(writes(&world).is_empty(), "{:?}", writes(&world));
    waits_paused(&world, "1").await;
    unpause(&host, PauseScope::Panel("shop".into())).await;
    // Far less than any wait would last.
    sleep(Duration::from_millis(500)).await;
    assert!(!writes(&world).is_empty(), "{}", world.tell("1").await);
    world.until("1", Phase::Active, PATIENCE).await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_a_paused_run_can_not_use_is_the_next_ones() {
    let world = World::new(SimConfig::default()).await;
    world
        .put(
            wharf_model::object::ObjectKind::Server,
            "pve",
            json!({"urls": ["http://sim"], "token_id": world::TOKEN, "clones_per_storage": 1}),
        )
        .await;
    let host = world.host(|_| {}).await;
    for reference in ["1", "2", "3"] {
        world.wish(&host, reference, World::order("small", &[])).await;
    }
    // One clones, the others are parked for its slot.
    while world.books.queue_counts().await.unwrap().parked < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    // Whoever is next is held back, and must not keep the turn to itself.
    let mut parked = Vec::new();
    for reference in ["1", "2", "3"] {
        let operation = newest(&world, reference).await;
        if operation.reason.is_some_and(|r| r.code == "waiting-for-slot") {
            parked.push(reference);
        }
    }
    assert_eq!(parked.len(), 2);
    let busy = ["1", "2", "3"].into_iter().find(|r| !parked.contains(r)).unwrap();
    pause(&host, PauseScope::Kind("deploy".into())).await;
    sleep(PAUSED).await;
    for reference in ["1", "2", "3"] {
        waits_paused(&world, reference).await;
    }
    assert_eq!(writes(&world).len(), 1, "only the clone of {busy} had left");
    assert!(world.books.slots().await.unwrap().is_empty());
    assert_eq!(world.books.queue_counts().await.unwrap().parked, 0, "nobody is left parked for a slot that is free");
    unpause(&host, PauseScope::Kind("deploy".into())).await;
    for reference in ["1", "2", "3"] {
        world.until(reference, Phase::Active, PATIENCE).await;
    }
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn pausing_twice_is_refused_and_every_move_is_in_the_audit_log() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    pause(&host, server()).await;
    let twice = host.engine.pause(server(), "again", "bob").await.unwrap_err().to_string();
    assert!(twice.contains("server:pve is paused already"), "{twice}");
    unpause(&host, server()).await;
    assert!(!host.engine.unpause(&server(), "bob").await.unwrap());
    let log = world.books.audit_log(10).await.unwrap();
    let moves: Vec<_> = log.iter().filter(|a| a.action.starts_with("pause.")).collect();
    assert_eq!(moves.len(), 2, "{moves:?}");
    assert_eq!((moves[1].action.as_str(), moves[1].actor.as_str()), ("pause.add", "alice"));
    assert_eq!((moves[0].action.as_str(), moves[0].subject.as_str()), ("pause.remove", "pause/server:pve"));
    host.kill();
}
