//! The host knows no product: another provisioner, with states and settings of its own, beside the shipped one.

use std::time::Duration;

use crate::world::{World, component, install};
use pve_sim::state::SimConfig;
use serde_json::json;
use wharf_engine::wish::Wish;
use wharf_model::service::Phase;

const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn a_second_provisioner_with_other_states_and_settings_deploys_and_terminates_on_the_same_host() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    install(&host.runtime, component("provisioner-tiny")).await;
    world.plan_of("provisioner-tiny", "tiny", json!({"image": "debian-12"})).await;
    world.wish(&host, "large", World::order("small", &[("CPU Cores", "2")])).await;
    world.wish(&host, "hot", World::order("tiny", &[("Flavour", "hot")])).await;
    // Each has its own settings: the option of the one is none of the other.
    let strange = host.engine.wish(&World::target("x"), World::order("tiny", &[("CPU Cores", "2")]), None).await;
    assert!(strange.unwrap_err().to_string().contains("CPU Cores"));

    let large = world.until("large", Phase::Active, PATIENCE).await;
    let hot = world.until("hot", Phase::Active, PATIENCE).await;
    assert_eq!(world.reached("hot", "deploy").await, ["copied", "flavoured", "awake"]);
    assert_eq!(world.reached("large", "deploy").await.len(), 15);
    let guests = world.sim.guests();
    let vm = &guests[&hot.vmid.unwrap()];
    assert!(vm.running);
    assert_eq!((vm.config["cores"].as_str(), vm.config["memory"].as_str()), ("4", "4096"));
    assert_eq!(hot.state, "awake");
    assert!(world.books.leases_of(hot.id).await.unwrap().is_empty(), "it wants no addresses");
    world.audit().await;

    // It can't do what its manifest does not name, and says so.
    let unsure = host.engine.wish(&World::target("hot"), World::order("tiny", &[("Flavour", "mild")]), None).await;
    assert!(unsure.unwrap_err().to_string().contains("can't change"));

    world.wish(&host, "hot", Wish::Terminate).await;
    world.until("hot", Phase::Terminated, PATIENCE).await;
    assert_eq!(world.reached("hot", "terminate").await, ["asleep", "forgotten"]);
    assert_eq!(world.sim.guests().into_keys().collect::<Vec<_>>(), [large.vmid.unwrap()]);
    world.audit().await;
}
