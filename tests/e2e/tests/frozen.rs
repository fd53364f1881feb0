//! Plugins that were built once from a released contract load and run on this host: all of `tests/frozen`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use crate::world::{World, install};
use axum::{Form, Router, routing::get};
use pve_sim::state::SimConfig;
use serde_json::json;
use wharf_capabilities::call::{HookBinding, ZoneBinding};
use wharf_engine::wish::Wish;
use wharf_model::{
    event::{Event, NewEvent},
    manifest::World as Kind,
    object::{ObjectKind, Zone},
    service::Phase,
};
use wharf_plugins::{
    Runtime,
    dns::{Change, Edit, Outcome, Selector, Value},
    report::{Heard, PanelHook, PanelResult},
};

fn all() -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../frozen");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "wasm"));
    files.sort();
    files.into_iter().map(|f| (f.clone(), std::fs::read(&f).unwrap())).collect()
}

fn of_kind(kind: Kind) -> Vec<(String, Vec<u8>)> {
    let found: Vec<_> = all()
        .into_iter()
        .filter_map(|(_, bytes)| {
            let manifest = Runtime::inspect(&bytes).unwrap().manifest;
            (manifest.world == kind).then_some((manifest.id, bytes))
        })
        .collect();
    assert!(!found.is_empty(), "no {kind} is frozen");
    found
}

#[test]
fn every_frozen_plugin_is_of_a_world_that_is_run_here() {
    for (file, bytes) in all() {
        let world = Runtime::inspect(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display())).manifest.world;
        let run_here =
            matches!(world, Kind::Provisioner | Kind::DnsProvider | Kind::LifecycleHook | Kind::PanelAdapter);
        assert!(run_here, "{}", file.display());
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_provisioner_deploys_and_terminates() {
    for (id, bytes) in of_kind(Kind::Provisioner) {
        let world = World::new(SimConfig::default()).await;
        let host = world.host(|_| {}).await;
        install(&host.runtime, bytes).await;
        world.put(ObjectKind::Image, "minimal", json!({"templates": [{"server": "pve", "vmid": 9000}]})).await;
        world.put(ObjectKind::Plan, "frozen", json!({"plugin": id, "server": "pve", "settings": {}})).await;
        world.wish(&host, "1", World::order("frozen", &[])).await;
        let service = world.until("1", Phase::Active, Duration::from_secs(600)).await;
        assert!(world.sim.guests()[&service.vmid.unwrap()].running);
        world.wish(&host, "1", Wish::Terminate).await;
        world.until("1", Phase::Terminated, Duration::from_secs(600)).await;
        assert!(world.sim.guests().is_empty());
        world.audit().await;
        host.kill();
    }
}

#[tokio::test]
async fn a_frozen_dns_provider_probes_reads_and_writes() {
    for (id, bytes) in of_kind(Kind::DnsProvider) {
        let world = World::new(SimConfig::default()).await;
        let runtime = world.runtime().await;
        install(&runtime, bytes).await;
        let written: Arc<Mutex<Vec<BTreeMap<String, String>>>> = Arc::default();
        let seen = Arc::clone(&written);
        let put = async move |Form(form): Form<BTreeMap<String, String>>| {
            seen.lock().unwrap().push(form);
            "{}"
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/", get(async || "{}").put(put));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut grant = world.books.object(ObjectKind::Grant, &id).await.unwrap().unwrap().body;
        grant["private_origins"] = json!([origin]);
        world.put(ObjectKind::Grant, &id, grant).await;
        runtime.refresh().await.unwrap();
        let zone: Zone = serde_json::from_value(
            json!({"zone": "example.com", "plugin": id, "settings": {"url": format!("{origin}/")}}),
        )
        .unwrap();
        let binding = ZoneBinding {
            name: "frozen".into(),
            zone,
            idempotency_key: "1".into(),
            learnt: Vec::new(),
            progress: Default::default(),
            cancelled: Arc::new(AtomicBool::new(false)),
        };
        let mut session = runtime.dns(binding).await.unwrap();
        let probed = session.probe("example.com.").await.unwrap().answer.unwrap();
        assert!(probed.info.writable && probed.can.types.contains(&"PTR".to_owned()));
        let snapshot = session.read(&probed.info.zone, Selector::All).await.unwrap().answer.unwrap();
        assert!(!snapshot.complete);
        let change = Change {
            id: 7,
            name: "a.example.com.".into(),
            rtype: "A".into(),
            ttl: Some(60),
            edit: Edit::Replace(vec![Value::new("192.0.2.1")]),
            expect: None,
            owner: None,
        };
        let report = session.apply(&probed.info.zone, vec![change]).await.unwrap().answer.unwrap();
        assert!(matches!(&report.outcomes[..], [(7, Outcome::Applied(set))] if set.values[0].data == "192.0.2.1"));
        assert_eq!(written.lock().unwrap()[0]["value"], "192.0.2.1");
        server.abort();
    }
}

#[tokio::test]
async fn a_frozen_lifecycle_hook_is_told() {
    for (id, bytes) in of_kind(Kind::LifecycleHook) {
        let world = World::new(SimConfig::default()).await;
        let runtime = world.runtime().await;
        install(&runtime, bytes).await;
        let event = Event {
            seq: 5,
            id: uuid::Uuid::from_u128(5),
            at_ms: 1_790_000_000_000,
            event: NewEvent {
                kind: "service.phase-changed".into(),
                service_id: None,
                panel: Some("shop".into()),
                subject: "shop:1".into(),
                generation: 1,
                data: json!({"phase": "active"}),
            },
        };
        let binding =
            HookBinding { name: "frozen".into(), settings: json!({}), event: Some(event), attempt: 1, question: None };
        let report = runtime.tell(&id, binding).await.unwrap();
        assert_eq!(report.answer, Ok(Heard::Delivered));
        assert!(report.log.iter().any(|l| l.message.contains("service.phase-changed")), "{:?}", report.log);
    }
}

#[tokio::test]
async fn a_frozen_panel_adapter_translates_and_presents() {
    for (id, bytes) in of_kind(Kind::PanelAdapter) {
        let world = World::new(SimConfig::default()).await;
        let runtime = world.runtime().await;
        install(&runtime, bytes).await;
        let hook =
            PanelHook { panel: "shop".into(), verb: "suspend".into(), body: "42".into(), ..PanelHook::default() };
        let command = runtime.translate(&id, &hook).await.unwrap().answer.unwrap();
        assert_eq!((command.verb.as_str(), command.reference.as_str()), ("suspend", "42"));
        let empty = PanelHook { body: " ".into(), ..hook.clone() };
        assert_eq!(runtime.translate(&id, &empty).await.unwrap().answer.unwrap_err().code, "body");
        let result = PanelResult {
            accepted: true,
            operation: None,
            phase: "active".into(),
            code: String::new(),
            customer_message: String::new(),
            admin_message: String::new(),
            ext: Vec::new(),
        };
        assert_eq!(runtime.present(&id, &hook, result).await.unwrap().body, "ok");
    }
}
