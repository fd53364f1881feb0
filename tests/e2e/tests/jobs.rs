//! The host's own jobs on a simulated cluster: what they report, that they tell it once, that they touch nothing, and that they
//! survive their host.

use std::{sync::Arc, time::Duration};

use crate::world::{Host, SECRET, TOKEN, World};
use futures::FutureExt;
use pve_sim::{faults::Condition, state::SimConfig};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use wharf_engine::wish::Wish;
use wharf_model::{job::Job, service::Phase};
use wharf_store::NewAudit;

const PATIENCE: Duration = Duration::from_secs(7_200);

/// As an admin does.
async fn run(world: &World, host: &Host, name: &str) -> Job {
    let audit = NewAudit { actor: "test".into(), action: "job.force".into(), subject: name.into(), body: Value::Null };
    // Known once the host has begun.
    let before = loop {
        match world.books.force_job(name, audit.clone(), world.clock.now_ms()).await {
            Ok(before) => break before,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    host.engine.nudge();
    loop {
        let job = world.books.job(name).await.unwrap().unwrap();
        if job.last_epoch > before.epoch {
            assert_eq!(job.last_error, None);
            return job;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn findings(job: &Job) -> Vec<(String, u64)> {
    let all = job.last_result.as_ref().unwrap()["findings"].as_array().unwrap().clone();
    all.iter().map(|f| (f["kind"].as_str().unwrap().to_owned(), f["vmid"].as_u64().unwrap_or(0))).collect()
}

async fn told(world: &World, kind: &str) -> Vec<String> {
    let feed = world.books.events_after(0, None, 10_000).await.unwrap();
    let told = feed.into_iter().filter(|e| e.event.kind == kind);
    told.map(|e| {
        assert_eq!(e.event.panel, None, "for admins only");
        e.event.data["text"].as_str().unwrap().to_owned()
    })
    .collect()
}

/// Somebody's own hands on the cluster.
async fn by_hand(world: &World, method: &'static str, path: &str, params: &[(&str, &str)]) {
    let client = world.servers().client("pve").await.unwrap();
    let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let end = Instant::now() + Duration::from_secs(60);
    client.write(method, "pve1", path, params, end).await.unwrap();
    sleep(Duration::from_secs(30)).await;
}

fn at(world: &World, vmid: u32) -> String {
    format!("/nodes/{}/qemu/{vmid}", world.sim.guests()[&vmid].node)
}

async fn deployed(world: &World, host: &Host, reference: &str) -> u32 {
    world.wish(host, reference, World::order("small", &[])).await;
    world.until(reference, Phase::Active, PATIENCE).await.vmid.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_tidy_cluster_has_no_orphans_and_no_drift() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    deployed(&world, &host, "1").await;
    deployed(&world, &host, "2").await;
    world.wish(&host, "2", Wish::Terminate).await;
    world.until("2", Phase::Terminated, PATIENCE).await;
    let writes = world.sim.log().iter().filter(|e| e.method != "GET").count();
    let looks = |path: &str| world.sim.log().iter().filter(|e| e.path.ends_with(path)).count();
    let before = looks("/cluster/resources");
    let orphans = run(&world, &host, "orphans").await;
    assert_eq!(looks("/cluster/resources"), before + 1, "one look at the server");
    assert_eq!(findings(&orphans), []);
    let drift = run(&world, &host, "drift").await;
    assert_eq!(findings(&drift), []);
    assert_eq!(drift.last_result.unwrap()["looked_at"]["pve"], 1);
    // A deploy under way is neither.
    world.wish(&host, "3", World::order("small", &[])).await;
    for _ in 0..40 {
        assert_eq!(findings(&run(&world, &host, "orphans").await), []);
        assert_eq!(findings(&run(&world, &host, "drift").await), []);
    }
    world.until("3", Phase::Active, PATIENCE).await;
    assert!(told(&world, "orphan.found").await.is_empty() && told(&world, "drift.found").await.is_empty());
    assert!(writes > 0);
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_copy_with_our_marker_is_told_of_once_and_left_alone() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let vmid = deployed(&world, &host, "1").await;
    let marker = wharf_capabilities::proxmox::marker(world.service("1").await.id);
    let params = [("newid", "4242"), ("name", "copy"), ("description", marker.as_str())];
    by_hand(&world, "POST", "/nodes/pve1/qemu/9000/clone", &params).await;
    for _ in 0..3 {
        let job = run(&world, &host, "orphans").await;
        assert_eq!(findings(&job), [("unowned-vm".to_owned(), 4242)]);
    }
    let told = told(&world, "orphan.found").await;
    assert_eq!(told.len(), 1, "once, not at every run: {told:?}");
    assert!(told[0].contains("shop:1") && told[0].contains(&format!("whose VM is {vmid}")), "{told:?}");
    assert!(world.sim.guests().contains_key(&4242), "nothing is deleted");
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_gone_by_other_hands_is_missing() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let vmid = deployed(&world, &host, "1").await;
    // The second keeps the list from being empty, which would mean something else.
    deployed(&world, &host, "2").await;
    by_hand(&world, "POST", &format!("{}/status/stop", at(&world, vmid)), &[]).await;
    by_hand(&world, "DELETE", &at(&world, vmid), &[]).await;
    let job = run(&world, &host, "orphans").await;
    assert_eq!(findings(&job), [("vm-missing".to_owned(), u64::from(vmid))]);
    assert_eq!(findings(&run(&world, &host, "drift").await), [], "told of once, by one job");
    // It is terminated: nothing is missing any more.
    world.wish(&host, "1", Wish::Terminate).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    assert_eq!(findings(&run(&world, &host, "orphans").await), []);
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_stranger_among_our_numbers_is_told_of_and_one_outside_is_not() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let first = deployed(&world, &host, "1").await;
    by_hand(&world, "POST", "/nodes/pve1/qemu/9000/clone", &[("newid", &(first + 1).to_string()), ("name", "theirs")])
        .await;
    by_hand(&world, "POST", "/nodes/pve1/qemu/9000/clone", &[("newid", "70000"), ("name", "far")]).await;
    assert_eq!(findings(&run(&world, &host, "orphans").await), [], "above our highest number");
    assert_eq!(deployed(&world, &host, "2").await, first + 2);
    let job = run(&world, &host, "orphans").await;
    assert_eq!(findings(&job), [("stranger".to_owned(), u64::from(first + 1))]);
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_changed_vm_has_drifted_until_it_is_mended() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let vmid = deployed(&world, &host, "1").await;
    let config = format!("{}/config", at(&world, vmid));
    let was = world.sim.guests()[&vmid].config.clone();
    by_hand(&world, "PUT", &config, &[("ipconfig0", "ip=192.0.2.99/24,gw=192.0.2.1")]).await;
    let job = run(&world, &host, "drift").await;
    assert_eq!(findings(&job), [("addresses".to_owned(), u64::from(vmid))]);
    let said = told(&world, "drift.found").await;
    assert!(said.len() == 1 && said[0].contains("192.0.2.99") && said[0].contains("192.0.2.10"), "{said:?}");
    by_hand(&world, "PUT", &config, &[("description", "somebody's")]).await;
    let job = run(&world, &host, "drift").await;
    assert_eq!(findings(&job), [("marker".to_owned(), u64::from(vmid))]);
    by_hand(&world, "PUT", &config, &[("description", &was["description"]), ("ipconfig0", &was["ipconfig0"])]).await;
    assert_eq!(findings(&run(&world, &host, "drift").await), []);
    assert_eq!(world.sim.guests()[&vmid].config["description"], was["description"]);
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_parked_server_is_left_alone_and_what_was_found_there_stands() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    let vmid = deployed(&world, &host, "1").await;
    by_hand(&world, "PUT", &format!("{}/config", at(&world, vmid)), &[("description", "somebody's")]).await;
    let expected = [("marker".to_owned(), u64::from(vmid))];
    assert_eq!(findings(&run(&world, &host, "drift").await), expected);
    world.sim.condition(Condition::RevokeToken(TOKEN.into()));
    run(&world, &host, "orphans").await;
    let asked = world.sim.log().len();
    for name in ["orphans", "drift"] {
        let job = run(&world, &host, name).await;
        let why = job.last_result.as_ref().unwrap()["skipped"]["pve"].as_str().unwrap().to_owned();
        assert!(why.contains("pve"), "{why}");
        if name == "drift" {
            assert_eq!(findings(&job), expected);
        }
    }
    assert_eq!(world.sim.log().len(), asked, "a parked server is not asked");
    world.sim.condition(Condition::RestoreToken(TOKEN.into(), SECRET.into()));
    world.secret("server/pve", "secret", SECRET).await;
    assert_eq!(findings(&run(&world, &host, "drift").await), expected);
    assert_eq!(told(&world, "drift.found").await.len(), 1, "it was no news");
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn an_address_whose_rest_is_over_is_free_by_itself_and_whoever_waits_gets_it() {
    let world = World::new(SimConfig::default()).await;
    // One address for two.
    world.pool("v4", "192.0.2.10", "192.0.2.10", 24, "192.0.2.1").await;
    let host = world.host(|_| {}).await;
    deployed(&world, &host, "1").await;
    world.wish(&host, "1", Wish::Terminate).await;
    world.until("1", Phase::Terminated, PATIENCE).await;
    let freed = Instant::now();
    world.wish(&host, "2", World::order("small", &[])).await;
    sleep(Duration::from_secs(3_500)).await;
    assert_eq!(world.books.leases_in("v4").await.unwrap()[0].service_id, None, "it rests for an hour");
    world.until("2", Phase::Active, PATIENCE).await;
    let rested = freed.elapsed();
    assert!(rested < Duration::from_secs(3_800), "{rested:?}");
    assert_eq!(world.books.leases_of(world.service("2").await.id).await.unwrap()[0].address.to_string(), "192.0.2.10");
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_host_dies_is_taken_over_by_another() {
    let world = World::new(SimConfig::default()).await;
    let dead = world
        .host(|engine| {
            engine.set_kill_hook(Arc::new(|edge| {
                async move {
                    if edge == "job-end:before" {
                        std::future::pending::<()>().await;
                    }
                }
                .boxed()
            }));
        })
        .await;
    while world.books.job("quarantine").await.unwrap().is_none_or(|j| j.owner.is_none()) {
        sleep(Duration::from_millis(10)).await;
    }
    dead.kill();
    let host = world.host(|_| {}).await;
    sleep(Duration::from_secs(35)).await;
    let job = world.books.job("quarantine").await.unwrap().unwrap();
    assert_eq!((job.took_over, job.runs), (1, 1), "{job:?}");
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_stopped_gives_its_jobs_back() {
    let world = World::new(SimConfig::default()).await;
    let host = world.host(|_| {}).await;
    sleep(Duration::from_secs(300)).await;
    host.stop().await;
    for job in world.books.jobs().await.unwrap() {
        assert_eq!((job.owner, job.last_error.as_deref()), (None, None), "{}", job.name);
        assert!(job.runs > 0, "{}", job.name);
        assert!(!job.is_stale(world.clock.now_ms()), "{}", job.name);
    }
}

#[tokio::test(start_paused = true)]
async fn old_events_and_audit_rows_go_by_themselves() {
    let world = World::new(SimConfig::default()).await;
    let config = wharf_engine::EngineConfig { keep_events_days: 1, ..wharf_engine::EngineConfig::default() };
    let host = world.host_with(config, |_| {}).await;
    deployed(&world, &host, "1").await;
    let many = world.books.events_after(0, None, 1_000).await.unwrap().len();
    assert!(many > 2);
    sleep(Duration::from_secs(23 * 3_600)).await;
    assert_eq!(world.books.events_after(0, None, 1_000).await.unwrap().len(), many);
    sleep(Duration::from_secs(3 * 3_600)).await;
    assert!(world.books.events_after(0, None, 1_000).await.unwrap().is_empty());
    let job = world.books.job("retention").await.unwrap().unwrap();
    assert_eq!(job.last_error, None);
    assert_eq!(job.runs, 26, "once an hour");
    host.kill();
}
