//! What a scrape shows.

use wharf_api::{Settings, metrics::Exporter};
use wharf_model::object::ObjectKind;

use crate::world::World;

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|l| l.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_scrape_shows_operations_services_queues_stores_memory_and_requests() {
    let (recorder, exporter) = Exporter::build().unwrap();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world =
        World::with(Settings { metrics: Some(exporter), metrics_open: false, plugin_slots: 8, ..Settings::default() })
            .await;
    let reader = world.token(&["metrics:read"], None).await;
    let scrape = async || {
        let answer = world.call("GET", "/metrics").token(&reader).send().await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
        answer.text
    };
    let text = scrape().await;
    for zero in [
        "wharf_operations{status=\"claimed\"}",
        "wharf_operations{status=\"waiting\"}",
        "wharf_operations{status=\"needs-admin\"}",
        "wharf_services{phase=\"active\"}",
        "wharf_oldest_due_seconds{queue=\"operations\"}",
        "wharf_oldest_due_seconds{queue=\"dns\"}",
        "wharf_oldest_due_seconds{queue=\"deliveries\"}",
        "wharf_plugin_stores",
    ] {
        assert_eq!(value(&text, zero), 0.0, "{zero}");
    }
    assert_eq!(value(&text, "wharf_plugin_stores_limit"), 8.0);
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);

    world.install("provisioner-tiny").await;
    world.row(ObjectKind::Panel, "shop", serde_json::json!({"plugin": "x", "plans": []})).await;
    let plan = serde_json::json!({"plugin": "provisioner-tiny", "server": "pve", "settings": {"image": "debian"}});
    world.row(ObjectKind::Plan, "mild", plan).await;
    for n in 0..3 {
        assert_eq!(world.order(&format!("shop:{n}"), "mild").await.status, 202);
    }
    world.pass(7_000);
    assert_eq!(world.call("GET", "/v1/services").nobody().send().await.status, 401);
    let text = scrape().await;
    assert_eq!(value(&text, "wharf_operations{status=\"waiting\"}"), 3.0);
    assert_eq!(value(&text, "wharf_services{phase=\"pending\"}"), 3.0);
    assert_eq!(value(&text, "wharf_oldest_due_seconds{queue=\"operations\"}"), 7.0);
    assert_eq!(value(&text, "wharf_authentication_failures_total{of=\"token\"}"), 1.0);
    let puts = "wharf_http_requests_total{path=\"/v1/services/{id}\",method=\"PUT\",status=\"202\"}";
    assert_eq!(value(&text, puts), 3.0, "a route is one series, whatever its parameters");
    assert!(text.contains("wharf_http_request_seconds_bucket{path=\"/v1/services/{id}\",method=\"PUT\",le=\"0.01\"}"));
    assert!(text.contains("# TYPE wharf_services gauge") && text.contains("# HELP wharf_services Services by phase."));
}

#[tokio::test]
async fn a_scrape_shows_how_jobs_stand_and_what_is_paused() {
    let (recorder, exporter) = Exporter::build().unwrap();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world =
        World::with(Settings { metrics: Some(exporter), metrics_open: true, plugin_slots: 8, ..Settings::default() })
            .await;
    let scrape = async || world.get("/metrics").await.text;
    assert_eq!(value(&scrape().await, "wharf_pauses"), 0.0);
    let now = world.api.lender.clock.now_ms();
    for name in ["drift", "retention"] {
        world.books.declare_job(name, 1_000, 5_000, now).await.unwrap();
    }
    let claim = world.books.claim_jobs(&["drift"], uuid::Uuid::new_v4(), 1_000, now).await.unwrap().remove(0);
    world.pass(4_000);
    let result = serde_json::json!({"findings": [{"kind": "marker"}], "more": 2});
    let end = wharf_store::JobEnd::Done { result, events: Vec::new() };
    world.books.end_job(&claim, end, now + 4_000).await.unwrap();
    world.pass(2_000);
    world.row(ObjectKind::Pause, "everything", serde_json::json!({})).await;
    let text = scrape().await;
    assert_eq!(value(&text, "wharf_job_last_ok_age_seconds{name=\"drift\"}"), 2.0);
    assert_eq!(value(&text, "wharf_job_last_ok_age_seconds{name=\"retention\"}"), 6.0);
    assert_eq!(value(&text, "wharf_job_stale{name=\"drift\"}"), 0.0);
    assert_eq!(value(&text, "wharf_job_stale{name=\"retention\"}"), 1.0, "never run is stale, too");
    assert_eq!(value(&text, "wharf_job_findings{name=\"drift\"}"), 3.0);
    assert_eq!(value(&text, "wharf_pauses"), 1.0);
}

#[tokio::test]
async fn a_scrape_counts_the_zones_that_are_parked() {
    let (recorder, exporter) = Exporter::build().unwrap();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let world =
        World::with(Settings { metrics: Some(exporter), metrics_open: true, plugin_slots: 8, ..Settings::default() })
            .await;
    let zone = serde_json::json!({"zone": "example.com.", "plugin": "dns-powerdns", "settings": {}});
    world.row(ObjectKind::Zone, "good", zone.clone()).await;
    let mut parked = zone;
    parked["parked"] = serde_json::json!({"reason": "401", "since_ms": 1});
    world.row(ObjectKind::Zone, "bad", parked).await;
    let text = world.get("/metrics").await.text;
    assert_eq!((value(&text, "wharf_zones_parked"), value(&text, "wharf_servers_parked")), (1.0, 0.0));
}

#[tokio::test]
async fn a_process_that_records_nothing_says_so() {
    let world = World::new().await;
    assert_eq!(world.get("/metrics").await.refusal(), (404, "not-found".into()));
}
