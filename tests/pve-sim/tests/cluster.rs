//! The simulated cluster behaves as a client of Proxmox knows it: locks, digests, tasks, stubs, refusals in its own words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::time::Duration;

use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use pve_sim::{
    Sim,
    faults::{Condition, What},
    state::SimConfig,
};
use serde_json::Value;
use tokio::time::sleep;
use tower::ServiceExt;

const TOKEN: &str = "PVEAPIToken=wharf@pve!wharf=11111111-2222-3333-4444-555555555555";

/// Status, and `data` or the message of a refusal.
async fn as_token(sim: &Sim, token: &str, method: &str, path: &str, params: &[(&str, &str)]) -> (u16, Value) {
    let encode =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let form = params.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect::<Vec<_>>().join("&");
    let query = matches!(method, "GET" | "DELETE") && !form.is_empty();
    let uri = if query { format!("/api2/json{path}?{form}") } else { format!("/api2/json{path}") };
    let body = if query { Body::empty() } else { Body::from(form) };
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", token)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .unwrap();
    let answer = sim.router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (status, if status == 200 { value["data"].clone() } else { value })
}

async fn call(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> (u16, Value) {
    as_token(sim, TOKEN, method, path, params).await
}

async fn refused(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> String {
    let (status, value) = call(sim, method, path, params).await;
    assert_ne!(status, 200, "{method} {path} was taken: {value}");
    value.to_string()
}

/// Waits for the task that this write starts; how it ended.
async fn task(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> String {
    let (status, upid) = call(sim, method, path, params).await;
    assert_eq!(status, 200, "{upid}");
    let upid = upid.as_str().unwrap().to_owned();
    let node = upid.split(':').nth(1).unwrap().to_owned();
    let at = format!("/nodes/{node}/tasks/{}/status", upid.replace(':', "%3A").replace('!', "%21").replace('@', "%40"));
    loop {
        let (_, now) = call(sim, "GET", &at, &[]).await;
        if now["status"] == "stopped" {
            return now["exitstatus"].as_str().unwrap().to_owned();
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How a write is refused: at once, or by its task.
async fn said(sim: &Sim, method: &str, path: &str, params: &[(&str, &str)]) -> String {
    let (status, value) = call(sim, method, path, params).await;
    if status != 200 {
        return value.to_string();
    }
    sleep(Duration::from_secs(60)).await;
    sim.snapshot().tasks.last().unwrap().exit.clone().unwrap()
}

/// A linked clone of the first template, on its node.
async fn cloned() -> Sim {
    let sim = Sim::new(SimConfig::default());
    let clone = [("newid", "100"), ("name", "one"), ("full", "0"), ("description", "mine")];
    assert_eq!(task(&sim, "POST", "/nodes/pve1/qemu/9000/clone", &clone).await, "OK");
    sim
}

async fn config(sim: &Sim) -> Value {
    call(sim, "GET", "/nodes/pve1/qemu/100/config", &[]).await.1
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_has_just_begun_is_a_lock_and_a_comment() {
    let sim = Sim::new(SimConfig::default());
    let clone = [("newid", "100"), ("name", "one"), ("full", "1"), ("description", "mine")];
    let (status, upid) = call(&sim, "POST", "/nodes/pve1/qemu/9000/clone", &clone).await;
    assert_eq!(status, 200);
    assert!(upid.as_str().unwrap().contains(":qmclone:9000:"), "the id of a clone's task is its template's: {upid}");
    // Until the first disk is copied: that takes 2.5 s here.
    for _ in 0..2 {
        sleep(Duration::from_millis(1_100)).await;
        let stub = config(&sim).await;
        assert_eq!(
            (stub["lock"].as_str(), stub["description"].as_str()),
            (Some("clone"), Some(" qmclone temporary file\n"))
        );
        assert!(stub.get("name").is_none() && stub.get("scsi0").is_none());
    }
    sleep(Duration::from_secs(10)).await;
    let whole = config(&sim).await;
    assert_eq!((whole["name"].as_str(), whole["description"].as_str()), (Some("one"), Some("mine")));
    assert!(whole.get("lock").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_taken_is_refused() {
    let sim = cloned().await;
    let text = refused(&sim, "POST", "/nodes/pve1/qemu/9000/clone", &[("newid", "100"), ("full", "0")]).await;
    assert!(text.contains("unable to create VM 100: config file already exists"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_linked_clone_names_no_storage_and_stays_with_its_disks() {
    let sim = Sim::new(SimConfig::default());
    let storage = [("newid", "100"), ("full", "0"), ("storage", "nfs")];
    assert!(refused(&sim, "POST", "/nodes/pve1/qemu/9000/clone", &storage).await.contains("not allowed for linked"));
    let away = [("newid", "100"), ("full", "0"), ("target", "pve2")];
    assert!(refused(&sim, "POST", "/nodes/pve1/qemu/9000/clone", &away).await.contains("uses local storage"));
    // A template on shared storage can be cloned to any node.
    assert_eq!(task(&sim, "POST", "/nodes/pve1/qemu/9001/clone", &away).await, "OK");
    assert_eq!(sim.guests()[&100].node, "pve2");
}

#[tokio::test(start_paused = true)]
async fn an_old_digest_is_refused_and_nothing_is_written() {
    let sim = cloned().await;
    let digest = config(&sim).await["digest"].as_str().unwrap().to_owned();
    let at = "/nodes/pve1/qemu/100/config";
    assert_eq!(call(&sim, "PUT", at, &[("cores", "2"), ("digest", &digest)]).await.0, 200);
    let text = refused(&sim, "PUT", at, &[("cores", "4"), ("digest", &digest)]).await;
    assert!(text.contains("checksum mismatch"), "{text}");
    assert_eq!(sim.guests()[&100].config["cores"], "2");
}

#[tokio::test(start_paused = true)]
async fn a_locked_vm_is_neither_changed_nor_started_nor_destroyed() {
    let sim = cloned().await;
    sim.condition(Condition::Lock(100, "backup".into()));
    let before = sim.guests()[&100].clone();
    for (method, path) in [("PUT", "/config"), ("POST", "/status/start"), ("DELETE", "")] {
        let said = said(&sim, method, &format!("/nodes/pve1/qemu/100{path}"), &[("cores", "2")]).await;
        assert!(said.contains("locked (backup)"), "{method} {path}: {said}");
    }
    let after = sim.guests()[&100].clone();
    assert_eq!((after.config, after.pending, after.running), (before.config, before.pending, false));
    sim.condition(Condition::Unlock(100));
    assert_eq!(task(&sim, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await, "OK");
}

#[tokio::test(start_paused = true)]
async fn a_running_vm_is_not_destroyed_and_its_cold_settings_wait() {
    let sim = cloned().await;
    task(&sim, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await;
    let (status, value) = call(&sim, "DELETE", "/nodes/pve1/qemu/100", &[("purge", "1")]).await;
    assert!(status != 200 && value.to_string().contains("running"), "{value}");
    call(&sim, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "7")]).await;
    let pending = call(&sim, "GET", "/nodes/pve1/qemu/100/pending", &[]).await.1;
    let row = pending.as_array().unwrap().iter().find(|r| r["key"] == "cores").unwrap();
    assert_eq!(row["pending"].to_string().trim_matches('"'), "7");
    assert_eq!(task(&sim, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await, "VM 100 already running");
}

#[tokio::test(start_paused = true)]
async fn a_disk_never_shrinks() {
    let sim = cloned().await;
    let at = "/nodes/pve1/qemu/100/resize";
    assert_eq!(task(&sim, "PUT", at, &[("disk", "scsi0"), ("size", "20G")]).await, "OK");
    let said = said(&sim, "PUT", at, &[("disk", "scsi0"), ("size", "10G")]).await;
    assert!(said.contains("shrinking disks is not supported"), "{said}");
    assert!(config(&sim).await["scsi0"].as_str().unwrap().contains("size=20"), "{}", config(&sim).await["scsi0"]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_is_401_and_a_missing_privilege_names_path_and_privilege() {
    let sim = cloned().await;
    let wrong = "PVEAPIToken=wharf@pve!wharf=00000000-0000-0000-0000-000000000000";
    assert_eq!(as_token(&sim, wrong, "GET", "/version", &[]).await.0, 401);
    sim.condition(Condition::Forbid("wharf@pve!wharf".into(), "/vms/100".into(), "VM.PowerMgmt".into()));
    sim.condition(Condition::Forbid("wharf@pve!wharf".into(), "/qemu/100/status".into(), "VM.PowerMgmt".into()));
    let (status, value) = call(&sim, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await;
    assert!(status == 403 && value.to_string().contains("VM.PowerMgmt"), "{value}");
}

#[tokio::test(start_paused = true)]
async fn without_quorum_it_can_be_read_but_not_written() {
    let sim = cloned().await;
    sim.condition(Condition::NoQuorum);
    assert_eq!(call(&sim, "GET", "/nodes/pve1/qemu/100/config", &[]).await.0, 200);
    assert!(refused(&sim, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "2")]).await.contains("no quorum"));
}

#[tokio::test(start_paused = true)]
async fn an_offline_node_is_595_and_the_others_answer() {
    let sim = cloned().await;
    sim.condition(Condition::NodeOffline("pve1".into()));
    assert_eq!(call(&sim, "GET", "/nodes/pve1/qemu/100/config", &[]).await.0, 595);
    assert_eq!(call(&sim, "GET", "/nodes/pve2/storage", &[]).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_carried_out_and_a_dropped_request_is_not() {
    let sim = cloned().await;
    let at = "/nodes/pve1/qemu/100/config";
    sim.once("PUT", "/config", What::LoseReply);
    assert_ne!(call(&sim, "PUT", at, &[("cores", "3")]).await.0, 200);
    assert_eq!(sim.guests()[&100].config["cores"], "3");
    sim.once("PUT", "/config", What::DropBefore);
    assert_ne!(call(&sim, "PUT", at, &[("cores", "5")]).await.0, 200);
    assert_eq!(sim.guests()[&100].config["cores"], "3");
    sim.once("PUT", "/config", What::Late(2_000));
    assert_eq!(call(&sim, "PUT", at, &[("cores", "6")]).await.0, 596);
    assert_eq!(sim.guests()[&100].config["cores"], "3");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(sim.guests()[&100].config["cores"], "6");
}

#[tokio::test(start_paused = true)]
async fn what_lies_on_a_shared_storage_is_seen_and_removed_from_either_cluster() {
    let (one, two) = (Sim::new(SimConfig::default()), Sim::new(SimConfig::default()));
    one.share(&two, "nfs");
    two.condition(Condition::Archive(100, "nfs".into(), "of the second".into()));
    two.condition(Condition::Archive(100, "local".into(), "not shared".into()));
    let list = call(&one, "GET", "/nodes/pve1/storage/nfs/content", &[("content", "backup")]).await.1;
    assert_eq!((list.as_array().unwrap().len(), list[0]["notes"].as_str()), (1, Some("of the second")));
    assert!(call(&one, "GET", "/nodes/pve1/storage/local/content", &[]).await.1.as_array().unwrap().is_empty());
    let volume = list[0]["volid"].as_str().unwrap().replace(':', "%3A").replace('/', "%2F");
    assert_eq!(task(&one, "DELETE", &format!("/nodes/pve1/storage/nfs/content/{volume}"), &[]).await, "OK");
    assert!(call(&two, "GET", "/nodes/pve1/storage/nfs/content", &[("content", "backup")]).await.1[0].is_null());
}

#[tokio::test(start_paused = true)]
async fn an_ip_set_keeps_an_address_once_in_its_canonical_form() {
    let sim = cloned().await;
    let sets = "/nodes/pve1/qemu/100/firewall/ipset";
    assert_eq!(call(&sim, "POST", sets, &[("name", "ipfilter-net0")]).await.0, 200);
    let set = format!("{sets}/ipfilter-net0");
    assert_eq!(call(&sim, "POST", &set, &[("cidr", "2001:DB8:0::10")]).await.0, 200);
    assert!(refused(&sim, "POST", &set, &[("cidr", "2001:db8::10")]).await.contains("already exists"));
    assert_eq!(sim.guests()[&100].ipsets["ipfilter-net0"].iter().collect::<Vec<_>>(), ["2001:db8::10"]);
}

#[tokio::test(start_paused = true)]
async fn three_calls_that_wait_for_a_lock_keep_all_others_of_the_node_waiting() {
    let sim = cloned().await;
    assert_eq!(task(&sim, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await, "OK");
    sim.condition(Condition::Hang(100));
    let (status, _) = call(&sim, "POST", "/nodes/pve1/qemu/100/status/shutdown", &[("timeout", "60")]).await;
    assert_eq!(status, 200);
    sleep(Duration::from_millis(200)).await;
    let at = "/nodes/pve1/qemu/100/config";
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let sim = sim.clone();
            tokio::spawn(async move { refused(&sim, "PUT", at, &[("cores", "2")]).await })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    let begun = tokio::time::Instant::now();
    let reads = call(&sim, "GET", at, &[]).await.0;
    assert!(reads == 200 && begun.elapsed() < Duration::from_secs(1), "reads are served by others");
    let elsewhere = call(&sim, "PUT", "/nodes/pve2/qemu/9002/config", &[("onboot", "0")]).await.0;
    assert!(elsewhere == 200 && begun.elapsed() < Duration::from_secs(1), "and so are other nodes");
    let other = call(&sim, "PUT", "/nodes/pve1/qemu/9001/config", &[("onboot", "0")]).await.0;
    assert!(other == 200 && begun.elapsed() > Duration::from_secs(9), "after {:?}", begun.elapsed());
    for one in waiting {
        assert!(one.await.unwrap().contains("got timeout"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_does_what_its_privileges_allow_on_that_path_and_below() {
    let sim = cloned().await;
    let held = |path: &str, names: &[&str]| (path.to_owned(), names.iter().map(|n| (*n).to_owned()).collect());
    let limit = |paths: Vec<(String, std::collections::BTreeSet<String>)>| {
        sim.condition(Condition::Privileges("wharf@pve!wharf".into(), paths.into_iter().collect()));
    };
    limit(vec![held("/vms/100", &["VM.Audit", "VM.Config.CPU"]), held("/storage/local-lvm", &["Datastore.Audit"])]);
    let at = "/nodes/pve1/qemu/100/config";
    assert_eq!(call(&sim, "GET", at, &[]).await.0, 200);
    assert_eq!(call(&sim, "PUT", at, &[("cores", "2")]).await.0, 200);
    let text = refused(&sim, "PUT", at, &[("cores", "2"), ("memory", "1024")]).await;
    assert!(text.contains("Permission check failed (/vms/100, VM.Config.Memory)"), "{text}");
    assert!(refused(&sim, "GET", "/cluster/status", &[]).await.contains("(/, Sys.Audit)"));
    let seen = call(&sim, "GET", "/cluster/resources", &[("type", "vm")]).await.1;
    assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
    let clone = ("POST", "/nodes/pve1/qemu/9000/clone", [("newid", "101")]);
    assert!(refused(&sim, clone.0, clone.1, &clone.2).await.contains("(/vms/9000, VM.Clone)"));
    limit(vec![held("/vms", &["VM.Clone", "VM.Allocate"]), held("/storage", &["Datastore.AllocateSpace"])]);
    let text = refused(&sim, clone.0, clone.1, &clone.2).await;
    assert!(text.contains("(/sdn/zones/localnetwork/vmbr0, SDN.Use)"), "{text}");
    limit(vec![held("/", &["VM.Clone", "VM.Allocate", "Datastore.AllocateSpace", "SDN.Use", "VM.Audit", "Sys.Audit"])]);
    assert_eq!(task(&sim, clone.0, clone.1, &clone.2).await, "OK");
}
