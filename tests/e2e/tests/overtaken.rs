//! Terminate is the last word: whatever it overtakes takes nothing of it back, what it has ended is not begun again, and if it
//! stops, that stays to be seen.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::world::World;
use futures::FutureExt;
use pve_sim::{faults::What, state::SimConfig};
use wharf_engine::{Engine, wish::Wish};
use wharf_model::{operation::Status, service::Phase};
use wharf_store::{NewAudit, StoreError};

const PATIENCE: Duration = Duration::from_secs(3_600);

/// A deploy that is terminated at edge `at`, and suspended at every edge after it. Returns how many edges it has.
async fn terminated_at(at: usize) -> usize {
    let world = World::new(SimConfig::default()).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let taken_back: Arc<Mutex<Vec<String>>> = Arc::default();
    let engine: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let (count, found, late, books) =
        (Arc::clone(&seen), Arc::clone(&taken_back), Arc::clone(&engine), Arc::clone(&world.books));
    let host = world
        .host(|engine| {
            engine.set_kill_hook(Arc::new(move |edge| {
                let (count, found, late, books) =
                    (Arc::clone(&count), Arc::clone(&found), Arc::clone(&late), Arc::clone(&books));
                async move {
                    if !["call:", "step:", "commit:"].iter().any(|kind| edge.starts_with(kind))
                        || edge.starts_with("commit:accept")
                    {
                        return;
                    }
                    let Some(engine) = late.get() else { return };
                    let nth = count.fetch_add(1, Ordering::SeqCst);
                    if nth == at {
                        engine.wish(&World::target("1"), Wish::Terminate, None).await.unwrap();
                    }
                    if nth < at {
                        return;
                    }
                    let phase = books.service_by_ref("shop", "1").await.unwrap().unwrap().phase;
                    if !matches!(phase, Phase::Terminating | Phase::Terminated) {
                        found.lock().unwrap().push(format!("{phase} at {edge}"));
                    }
                    if engine.wish(&World::target("1"), Wish::Suspend, None).await.is_ok() {
                        found.lock().unwrap().push(format!("suspended at {edge}"));
                    }
                }
                .boxed()
            }));
        })
        .await;
    let _ = engine.set(Arc::clone(&host.engine));
    world.wish(&host, "1", World::order("small", &[])).await;
    if at == usize::MAX {
        world.until("1", Phase::Active, PATIENCE).await;
    } else {
        world.until("1", Phase::Terminated, PATIENCE).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let tell = world.tell("1").await;
        assert!(taken_back.lock().unwrap().is_empty(), "terminated at edge {at}: {taken_back:?}\n{tell}");
        assert_eq!(world.service("1").await.phase, Phase::Terminated, "{tell}");
        let told = world.books.events_after(0, None, 10_000).await.unwrap();
        let accepted = told.iter().position(|e| e.event.data["phase"] == "terminating").unwrap();
        for event in &told[accepted..] {
            let phase = event.event.data["phase"].as_str().unwrap_or_default();
            assert!(phase.starts_with("terminat"), "terminated at edge {at}, and then told: {:?}", event.event);
        }
        world.audit().await;
    }
    host.kill();
    seen.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_terminate_accepted_at_any_edge_of_a_deploy_is_not_taken_back() {
    let edges = terminated_at(usize::MAX).await;
    assert!(edges > 40, "a deploy has only {edges} edges");
    for at in 0..edges {
        terminated_at(at).await;
    }
    println!("terminated at {edges} edges");
}

fn audit() -> NewAudit {
    NewAudit { actor: "test".into(), action: "resume".into(), subject: "shop:1".into(), body: serde_json::Value::Null }
}

#[tokio::test(start_paused = true)]
async fn a_terminate_that_stopped_is_not_hidden_by_a_suspension_and_can_be_repeated() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    world.wish(&host, "1", World::order("small", &[])).await;
    world.until("1", Phase::Active, PATIENCE).await;
    world.sim.once("DELETE", "/qemu/", What::TaskFails("the storage is away".into()));
    let first = world.wish(&host, "1", Wish::Terminate).await.unwrap();
    world.until("1", Phase::NeedsAdmin, PATIENCE).await;
    for wish in [Wish::Suspend, Wish::Unsuspend] {
        let operation = world.wish(&host, "1", wish).await.unwrap();
        while !world.books.operation(operation.id).await.unwrap().unwrap().status.is_final() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tell = world.tell("1").await;
        assert_eq!(world.books.operation(operation.id).await.unwrap().unwrap().status, Status::Succeeded, "{tell}");
        assert_eq!(world.service("1").await.phase, Phase::NeedsAdmin, "{tell}");
    }
    world.wish(&host, "1", Wish::Terminate).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    let again = world.books.resume(first.id, None, audit(), world.clock.now_ms()).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    world.audit().await;
    host.kill();
}
