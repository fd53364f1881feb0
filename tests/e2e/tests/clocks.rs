//! A clock that is set while an operation is under way: it ends all the same, and nothing is done twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::world::World;
use futures::FutureExt;
use pve_sim::state::SimConfig;
use wharf_model::{Clock, operation::Status};

const YEAR: i64 = 365 * 86_400_000;

#[derive(Debug)]
struct Settable(Arc<dyn Clock>, AtomicI64);

impl Clock for Settable {
    fn now_ms(&self) -> i64 {
        self.0.now_ms() + self.1.load(Ordering::SeqCst)
    }
}

/// A deploy whose host is killed at edge `at`, where the clock is set by `by`; another host goes on. Returns how many edges
/// there are.
async fn set_at(at: usize, by: i64) -> usize {
    let mut world = World::new(SimConfig::default()).await;
    let clock = Arc::new(Settable(Arc::clone(&world.clock), AtomicI64::new(0)));
    world.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let seen = Arc::new(AtomicUsize::new(0));
    let (count, set) = (Arc::clone(&seen), Arc::clone(&clock));
    let host = world
        .host(|engine| {
            engine.set_kill_hook(Arc::new(move |edge| {
                let (count, set) = (Arc::clone(&count), Arc::clone(&set));
                async move {
                    if !["call:", "step:", "commit:"].iter().any(|kind| edge.starts_with(kind))
                        || edge.contains("accept")
                    {
                        return;
                    }
                    if count.fetch_add(1, Ordering::SeqCst) == at {
                        set.1.store(by, Ordering::SeqCst);
                        std::future::pending::<()>().await;
                    }
                }
                .boxed()
            }));
        })
        .await;
    let operation = world.wish(&host, "1", World::order("small", &[])).await.unwrap();
    let mut waited = 0;
    while at != usize::MAX && clock.1.load(Ordering::SeqCst) == 0 {
        waited += 1;
        assert!(waited < 36_000, "edge {at} is not reached");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let host = if at == usize::MAX {
        host
    } else {
        host.kill();
        world.host(|_| {}).await
    };
    tokio::time::sleep(Duration::from_secs(600)).await;
    let status = world.books.operation(operation.id).await.unwrap().unwrap().status;
    assert_eq!(status, Status::Succeeded, "set by {by} ms at edge {at}: {}", world.tell("1").await);
    assert_eq!(world.sim.guests().len(), 1);
    host.kill();
    seen.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_deploy_ends_though_the_clock_is_set_back_by_a_year_when_its_host_dies() {
    let edges = set_at(usize::MAX, 0).await;
    assert!(edges > 40, "a deploy has only {edges} edges");
    for at in 0..edges {
        set_at(at, -YEAR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deploy_ends_though_the_clock_is_set_forward_by_a_year_when_its_host_dies() {
    let edges = set_at(usize::MAX, 0).await;
    for at in (0..edges).step_by(3) {
        set_at(at, YEAR).await;
    }
}
