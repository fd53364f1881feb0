//! Zones as an admin leaves them: what is switched off is not written to.

use std::time::Duration;

use crate::world::World;
use pve_sim::state::SimConfig;
use serde_json::json;
use wharf_model::{object::ObjectKind, record::RecordKey};

/// Why the only record of this service is not as it should be.
async fn reason(world: &World, key: &RecordKey) -> String {
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.books.records_of(key.service_id).await.unwrap().remove(0).reason.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_to_or_removed_from_a_zone_that_is_switched_off() {
    let world = World::new(SimConfig::default()).await;
    let zone = |off: bool| json!({"zone": "example.com", "plugin": "nobody", "off": off});
    world.put(ObjectKind::Zone, "forward", zone(true)).await;
    let key = RecordKey {
        zone: "forward".into(),
        name: "vm.example.com.".into(),
        rtype: "A".into(),
        value: "192.0.2.10".into(),
        service_id: uuid::Uuid::now_v7(),
    };
    let queues = [("forward".to_owned(), "queue".to_owned())].into();
    world
        .books
        .want_records(None, key.service_id, vec![(key.clone(), None)], queues, world.clock.now_ms())
        .await
        .unwrap();
    let host = world.host(|_| {}).await;
    let why = reason(&world, &key).await;
    assert!(why.contains("switched off"), "the provider was asked: {why}");
    world.put(ObjectKind::Zone, "forward", zone(false)).await;
    world.books.hurry_records(None, world.clock.now_ms()).await.unwrap();
    host.engine.nudge();
    let why = reason(&world, &key).await;
    assert!(why.contains("nobody"), "on again, its provider is asked: {why}");
    host.kill();
}
