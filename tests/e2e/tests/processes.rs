//! The real binary on SQLite, the simulated cluster and PowerDNS as processes: the host is killed at random moments and started
//! again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{path::Path, time::Duration};

use serde_json::json;
use wharf_e2e::{
    journey::{Built, House},
    whmcs::params,
};

const PATIENCE: Duration = Duration::from_secs(300);

fn built() -> Built {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let plugins = std::env::var_os("WHARF_PLUGINS_DIR").map_or_else(|| target.join("plugins"), Into::into);
    let built = Built { wharf: target.join("debug/wharf"), pve_sim: target.join("debug/pve-sim"), plugins };
    assert!(built.wharf.exists() && built.pve_sim.exists(), "run `cargo build --workspace --all-targets` first");
    built
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_survive_a_host_that_is_killed_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::build(dir.path(), built()).await.unwrap();
    let orders = ["7001", "7002", "7003", "7004"];
    for order in orders {
        let (status, body) =
            house.whmcs.post("create", &params(order.parse().unwrap(), "linked", "", json!({}))).await.unwrap();
        assert_eq!((status, body.trim()), (200, "success"));
    }
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..900))).await;
        house.wharf.take().unwrap().kill().await.unwrap();
        house.restart().await.unwrap();
    }
    for order in orders {
        house.until(order, "active", PATIENCE).await.unwrap();
    }
    let mut guests = house.guests().await.unwrap();
    guests.dedup();
    assert_eq!(guests.len(), orders.len(), "one VM for each order");
    // What was asked for twice was done once.
    let again = house.whmcs.post("create", &params(7001, "linked", "", json!({}))).await.unwrap();
    assert_eq!((again.0, again.1.trim()), (200, "success"));
    assert_eq!(house.guests().await.unwrap().len(), orders.len());
    // No secret stands in the books in the clear, nor in the host's log.
    for file in ["data/wharf.db", "data/wharf.db-wal", "wharf.log"] {
        let bytes = std::fs::read(dir.path().join(file)).unwrap_or_default();
        for secret in [wharf_e2e::journey::PVE_SECRET, "powerdns-key-for-demo-and-tests", "cGFuZWwtc2VjcmV0"] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} stands in {file}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_before_the_body_is_parsed_and_a_repeated_id_gives_the_same_operation() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), built()).await.unwrap();
    let order = params(8001, "linked", "", json!({}));
    let stranger = wharf_e2e::whmcs::Whmcs {
        secret: "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy".into(),
        ..house.whmcs.clone()
    };
    assert_eq!(stranger.post("create", &order).await.unwrap().0, 401);
    let nobody = wharf_e2e::whmcs::Whmcs { panel: "nobody".into(), ..house.whmcs.clone() };
    assert_eq!(nobody.post("create", &order).await.unwrap().0, 401);
    assert_eq!(house.whmcs.post_as("msg_1", "create", &order).await.unwrap().0, 200);
    assert_eq!(house.whmcs.post_as("msg_1", "create", &order).await.unwrap().0, 200);
    let other = params(8002, "linked", "", json!({}));
    let (status, body) = house.whmcs.post_as("msg_1", "create", &other).await.unwrap();
    assert_eq!(status, 409, "{body}");
    let (status, body) = house.whmcs.post("create", &params(8003, "secret-plan", "", json!({}))).await.unwrap();
    assert!(status == 422 && !body.contains("success"), "{status} {body}");
    let (status, body) =
        house.whmcs.post("create", &params(8004, "linked", "", json!({"CPU Coers": "2"}))).await.unwrap();
    assert!(status == 422 && !body.contains("success"), "{status} {body}");
    assert!(house.client.get("/v1/services/shop:8004").await.is_err(), "nothing is half done");
    house.until("8001", "active", PATIENCE).await.unwrap();
}
