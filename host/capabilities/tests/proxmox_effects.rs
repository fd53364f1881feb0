//! Effects on a simulated cluster: lost replies, thieves, locks, foreign VMs, refusals.

use crate::cluster;
use std::{collections::BTreeMap, time::Duration};

use crate::cluster::{Lab, TOKEN, TOKEN_SECRET, clone_of};
use pve_sim::faults::{Condition, Fault, What};
use serde_json::json;
use wharf_capabilities::{
    effects::{Effector, Execution, TaskView},
    proxmox::EffectBody,
};
use wharf_store::queue::secret_owner;

fn set(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    cluster::pairs(list).into_iter().collect()
}

fn code(execution: &Execution) -> &str {
    match execution {
        Execution::Done(result) => &result.code,
        Execution::NotSent { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

async fn configure(lab: &Lab, run: &wharf_store::Run, vmid: u32, values: &[(&str, &str)]) -> EffectBody {
    let digest = lab.step(run).look().await.unwrap().digest;
    EffectBody::Configure { vmid, set: set(values), delete: Vec::new(), digest }
}

#[tokio::test(start_paused = true)]
async fn a_clone_whose_reply_was_lost_is_adopted_and_not_repeated() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.sim.once("POST", "/clone", What::LoseReply);
    let effect = lab.write(&run, &clone_of(vmid));
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    let Execution::Done(result) = lab.probe_later(&run, &effect).await else { panic!("it is there") };
    assert!(result.ok, "{result:?}");
    assert_eq!(lab.sim.guests().len(), 1);
    assert_eq!(lab.writes_to(vmid), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_never_arrived_may_be_sent_again() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.sim.once("POST", "/clone", What::DropBefore);
    let effect = lab.write(&run, &clone_of(vmid));
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    assert!(matches!(lab.probe_later(&run, &effect).await, Execution::NotSent { .. }));
    assert!(lab.run(&run, &clone_of(vmid)).await.ok);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_arrives_late_behind_a_596_is_found_by_its_number() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.sim.once("POST", "/clone", What::Late(20_000));
    let effect = lab.write(&run, &clone_of(vmid));
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    let Execution::Done(result) = lab.probe_later(&run, &effect).await else { panic!("it is there") };
    assert!(result.ok, "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thief_of_the_number_is_left_alone_and_the_number_is_burnt_whether_the_reply_comes_or_not() {
    for lost in [false, true] {
        let lab = Lab::new().await;
        let run = lab.order("1").await;
        let vmid = lab.step(&run).reserve(101).await.unwrap();
        lab.sim.once("POST", "/clone", What::Thief);
        if lost {
            lab.sim.once("POST", "/clone", What::LoseReply);
        }
        let effect = lab.write(&run, &clone_of(vmid));
        let execution = lab.execute(&run, &effect).await;
        let result = if lost {
            assert!(matches!(execution, Execution::InDoubt { .. }));
            let execution = lab.probe_later(&run, &effect).await;
            lab.end(&run, &effect, execution).await
        } else {
            lab.end(&run, &effect, execution).await
        };
        assert_eq!((result.ok, result.code.as_str()), (false, "number-taken"), "{result:?}");
        let stranger = lab.sim.snapshot().vms[&vmid].clone();
        assert_eq!((stranger.config["name"].as_str(), stranger.running), ("stranger", true));
        let next = lab.step(&lab.again(&run).await).reserve(101).await.unwrap();
        assert_ne!(next, vmid);
        let rows = lab.books.vmids(cluster::SERVER).await.unwrap();
        assert!(rows.iter().any(|(n, _, live)| *n == vmid && !live), "{rows:?}");
        assert!(lab.run(&lab.again(&run).await, &clone_of(next)).await.ok);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_stub_waits_a_while_and_then_a_person_is_told_what_to_do() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    let effect = lab.write(&run, &clone_of(vmid));
    lab.sim.condition(Condition::Stub(vmid, "pve1".into()));
    assert!(matches!(lab.probe_later(&run, &effect).await, Execution::InDoubt { .. }));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let Execution::Stuck { reason } = lab.probe_later(&run, &effect).await else { panic!("nothing moves") };
    assert!(reason.contains(&format!("qm unlock {vmid}")), "{reason}");
    assert_eq!(lab.writes_to(vmid), 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_copy_is_adopted_by_its_task() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.sim.once("POST", "/clone", What::LoseReply);
    let effect = lab.write(&run, &clone_of(vmid));
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    // At once: the copy is still going on.
    let execution = lab.executor.probe(&effect, &lab.again(&run).await.service).await;
    assert!(matches!(execution, Execution::Task(_)), "{execution:?}");
    assert!(lab.end(&run, &effect, execution).await.ok);
}

#[tokio::test(start_paused = true)]
async fn a_running_vm_is_never_destroyed() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    assert!(lab.run(&run, &EffectBody::Start { vmid }).await.ok);
    let writes = lab.writes_to(vmid);
    let result = lab.run(&run, &EffectBody::Destroy { vmid }).await;
    assert_eq!((result.ok, result.code.as_str()), (false, "running"));
    assert_eq!(lab.writes_to(vmid), writes, "nothing was sent");
    assert!(lab.sim.snapshot().vms.contains_key(&vmid));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_vm_with_our_number_is_never_touched() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.sim.condition(Condition::ForeignVm(vmid, "pve2".into()));
    let before = lab.sim.snapshot().vms[&vmid].clone();
    let bodies = [
        EffectBody::Destroy { vmid },
        EffectBody::Stop { vmid },
        EffectBody::Shutdown { vmid, timeout_s: 5, force: true },
        EffectBody::Start { vmid },
        EffectBody::Migrate { vmid, target: "pve1".into(), options: BTreeMap::new() },
        EffectBody::Resize { vmid, disk: "scsi0".into(), to_mib: 9_000 },
        EffectBody::Configure { vmid, set: set(&[("cores", "8")]), delete: Vec::new(), digest: String::new() },
        EffectBody::FirewallOptions { vmid, set: set(&[("enable", "0")]) },
        EffectBody::FirewallSet { vmid, name: "ipfilter-net0".into(), addresses: Vec::new() },
    ];
    for body in bodies {
        let effect = lab.write(&run, &body);
        for execution in [lab.execute(&run, &effect).await, lab.probe_later(&run, &effect).await] {
            assert_eq!(code(&execution), "foreign", "{body:?}");
        }
    }
    assert_eq!(lab.writes_to(vmid), 0);
    assert_eq!(lab.sim.snapshot().vms[&vmid], before);
}

#[tokio::test(start_paused = true)]
async fn a_vm_moved_by_hand_is_followed() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.step(&run).look().await.unwrap();
    lab.sim.condition(Condition::Move(vmid, "pve3".into()));
    let result = lab.run(&run, &EffectBody::Start { vmid }).await;
    assert!(result.ok, "{result:?}");
    let vm = lab.sim.snapshot().vms[&vmid].clone();
    assert_eq!((vm.node.as_str(), vm.running), ("pve3", true));
    assert_eq!(lab.step(&run).look().await.unwrap().node.as_deref(), Some("pve3"));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_changed_by_others_meanwhile_is_a_digest_conflict_and_stays() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let body = configure(&lab, &run, vmid, &[("cores", "4")]).await;
    let other = configure(&lab, &run, vmid, &[("sockets", "2")]).await;
    assert!(lab.run(&run, &other).await.ok);
    let result = lab.run(&run, &body).await;
    assert_eq!((result.ok, result.code.as_str()), (false, "digest"));
    assert_eq!(lab.sim.snapshot().vms[&vmid].config["cores"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_new_disk_whose_reply_was_lost_is_allocated_once() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let body = configure(&lab, &run, vmid, &[("scsi1", "local-lvm:10,mbps_rd=5"), ("cores", "2")]).await;
    lab.sim.once("POST", "/config", What::LoseReply);
    let effect = lab.write(&run, &body);
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    let Execution::Done(result) = lab.probe_later(&run, &effect).await else { panic!("it is there") };
    assert!(result.ok, "{result:?}");
    let snapshot = lab.sim.snapshot();
    assert_eq!(snapshot.volumes.iter().filter(|v| v.vmid == Some(vmid) && v.size_mib == 10_240).count(), 1);
    assert!(!snapshot.vms[&vmid].config.keys().any(|k| k.starts_with("unused")));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_never_arrived_may_be_sent_again() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let body = configure(&lab, &run, vmid, &[("cores", "2")]).await;
    lab.sim.once("PUT", "/config", What::DropBefore);
    let effect = lab.write(&run, &body);
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    assert!(matches!(lab.probe_later(&run, &effect).await, Execution::NotSent { .. }));
    assert!(lab.run(&run, &body).await.ok);
}

#[tokio::test(start_paused = true)]
async fn a_lock_or_a_missing_quorum_is_busy_and_nothing_was_done() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.sim.condition(Condition::Lock(vmid, "backup".into()));
    let change = configure(&lab, &run, vmid, &[("onboot", "1")]).await;
    let change = lab.write(&run, &change);
    assert_eq!(code(&lab.execute(&run, &change).await), "busy");
    // A start finds the lock in its task.
    assert_eq!(lab.run(&run, &EffectBody::Start { vmid }).await.code, "locked");
    lab.sim.condition(Condition::Unlock(vmid));
    let effect = lab.write(&run, &EffectBody::Start { vmid });
    lab.sim.condition(Condition::NoQuorum);
    assert_eq!(code(&lab.execute(&run, &effect).await), "busy");
    lab.sim.condition(Condition::Quorum);
    for text in [
        "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout",
        "cfs-lock 'storage-x' error: got lock request timeout",
    ] {
        lab.sim.once("POST", "/start", What::Refuse { status: 500, text: text.into() });
        assert_eq!(code(&lab.execute(&run, &effect).await), "busy", "{text}");
    }
    assert!(lab.run(&run, &EffectBody::Start { vmid }).await.ok);
}

#[tokio::test(start_paused = true)]
async fn a_proxied_write_without_an_answer_is_in_doubt_and_a_look_before_it_is_not() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let effect = lab.write(&run, &EffectBody::Start { vmid });
    for status in [595, 596, 599] {
        lab.sim.once("POST", "/start", What::Refuse { status, text: "broken".into() });
        assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }), "{status}");
    }
    let fault = Fault { method: "GET".into(), path: "/config".into(), times: None, what: What::DropBefore };
    lab.sim.fault(fault);
    let writes = lab.writes_to(vmid);
    assert!(matches!(lab.execute(&run, &effect).await, Execution::NotSent { .. }));
    assert_eq!(lab.writes_to(vmid), writes);
}

#[tokio::test(start_paused = true)]
async fn a_401_parks_the_server_until_its_secret_changes_or_a_test_passes() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let effect = lab.write(&run, &EffectBody::Start { vmid });
    lab.sim.condition(Condition::RevokeToken(TOKEN.into()));
    assert!(matches!(lab.execute(&run, &effect).await, Execution::NotSent { .. }));
    let sent = lab.sent();
    for _ in 0..5 {
        assert_eq!(code(&lab.execute(&run, &effect).await), "parked");
        let failure = lab.step(&run).look().await.unwrap_err();
        assert!(failure.message.contains(TOKEN) && !failure.message.contains(TOKEN_SECRET), "{}", failure.message);
    }
    assert_eq!(lab.sent(), sent, "a parked server is not asked again");

    // Mended there, and the admin's test passes.
    lab.sim.condition(Condition::RestoreToken(TOKEN.into(), TOKEN_SECRET.into()));
    assert_eq!(code(&lab.execute(&run, &effect).await), "parked");
    let lines = lab.servers.test(cluster::SERVER).await;
    assert!(lines.iter().all(|l| l.ok), "{lines:?}");
    assert!(lab.servers.parked(cluster::SERVER).is_none());

    // Mended here, by another secret.
    lab.sim.condition(Condition::RestoreToken(TOKEN.into(), "another".into()));
    assert!(matches!(lab.execute(&run, &effect).await, Execution::NotSent { .. }));
    assert!(lab.servers.parked(cluster::SERVER).is_some());
    lab.token_secret("another").await;
    assert!(lab.run(&run, &EffectBody::Start { vmid }).await.ok);
}

#[tokio::test(start_paused = true)]
async fn the_test_of_a_server_says_what_to_mend() {
    let lab = Lab::new().await;
    lab.token_secret("wrong").await;
    let lines = lab.servers.test(cluster::SERVER).await;
    let bad = lines.iter().find(|l| !l.ok).expect("a bad line");
    assert!(bad.step == "credentials" && bad.remedy.contains("secret"), "{bad:?}");
    lab.token_secret(TOKEN_SECRET).await;
    lab.sim.condition(Condition::NodeOffline("pve3".into()));
    let lines = lab.servers.test(cluster::SERVER).await;
    assert!(lines.iter().any(|l| !l.ok && l.detail.contains("pve3")), "{lines:?}");
    assert!(!lab.servers.test("nowhere").await[0].ok);
}

#[tokio::test(start_paused = true)]
async fn a_paused_server_gets_no_write_and_is_still_read() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let row = json!({"urls": ["https://a:8006"], "token_id": TOKEN, "paused": true});
    lab.put(wharf_model::object::ObjectKind::Server, cluster::SERVER, row).await;
    let writes = lab.writes_to(vmid);
    let effect = lab.write(&run, &EffectBody::Start { vmid });
    assert!(matches!(lab.execute(&run, &effect).await, Execution::NotSent { .. }));
    assert_eq!(lab.writes_to(vmid), writes);
    assert!(lab.step(&run).look().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_403_names_path_and_privilege_and_is_tried_again_after_it_was_granted() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.sim.condition(Condition::Forbid(TOKEN.into(), format!("/qemu/{vmid}"), "VM.PowerMgmt".into()));
    let failure = lab.step(&run).look().await.unwrap_err();
    assert_eq!(failure.code, "forbidden");
    assert!(
        failure.message.contains("VM.PowerMgmt") && failure.message.contains(&format!("/qemu/{vmid}")),
        "{}",
        failure.message
    );
    let effect = lab.write(&run, &EffectBody::Start { vmid });
    assert_eq!(code(&lab.execute(&run, &effect).await), "forbidden");
    lab.sim.condition(Condition::AllowAll);
    assert!(lab.run(&run, &EffectBody::Start { vmid }).await.ok);
}

#[tokio::test(start_paused = true)]
async fn an_ipset_gets_the_new_addresses_before_it_loses_the_old_and_spelling_is_no_difference() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let body = |addresses: &[&str]| EffectBody::FirewallSet {
        vmid,
        name: "ipfilter-net0".into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    assert!(lab.run(&run, &body(&["192.0.2.5/32", "2001:db8::5/128"])).await.ok);
    let writes = lab.writes_to(vmid);
    assert!(lab.run(&run, &body(&["2001:db8:0:0::5/128", "192.0.2.5/32"])).await.ok);
    assert_eq!(lab.writes_to(vmid), writes, "the same addresses are no change");
    assert!(lab.run(&run, &body(&["192.0.2.6/32"])).await.ok);
    let log = lab.sim.log();
    let at = |method: &str, part: &str| {
        log.iter()
            .position(|e| e.method == method && (e.path.contains(part) || e.params.values().any(|v| v.contains(part))))
            .unwrap()
    };
    assert!(at("POST", "192.0.2.6") < at("DELETE", "192.0.2.5"));
    assert_eq!(lab.sim.snapshot().vms[&vmid].ipsets["ipfilter-net0"].iter().collect::<Vec<_>>(), ["192.0.2.6"]);
}

#[tokio::test(start_paused = true)]
async fn an_ipset_half_written_is_carried_on() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let addresses = ["192.0.2.5/32", "192.0.2.6/32"].iter().map(|a| a.parse().unwrap()).collect();
    let body = EffectBody::FirewallSet { vmid, name: "ipfilter-net0".into(), addresses };
    lab.sim.once("POST", "/ipset/ipfilter-net0", What::LoseReply);
    let effect = lab.write(&run, &body);
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    assert!(matches!(lab.probe_later(&run, &effect).await, Execution::NotSent { .. }));
    assert!(lab.run(&run, &body).await.ok);
    assert_eq!(lab.sim.snapshot().vms[&vmid].ipsets["ipfilter-net0"].len(), 2);
    let Execution::Done(result) = lab.probe_later(&run, &effect).await else { panic!("it is as wanted") };
    assert!(result.ok);
}

#[tokio::test(start_paused = true)]
async fn warnings_are_success_and_a_failed_task_tells_its_text() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.sim.once("POST", "/start", What::TaskFails("no kvm".into()));
    let result = lab.run(&run, &EffectBody::Start { vmid }).await;
    assert_eq!((result.ok, result.message.as_str()), (false, "no kvm"));
    lab.sim.once("DELETE", "/qemu", What::TaskWarns);
    let result = lab.run(&run, &EffectBody::Destroy { vmid }).await;
    assert_eq!((result.ok, result.code.as_str()), (true, "warnings"));
    assert!(!lab.sim.snapshot().vms.contains_key(&vmid));
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_is_no_write() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let writes = lab.writes_to(vmid);
    assert!(lab.run(&run, &EffectBody::Stop { vmid }).await.ok);
    let here = EffectBody::Migrate { vmid, target: "pve1".into(), options: BTreeMap::new() };
    assert!(lab.run(&run, &here).await.ok);
    assert_eq!(lab.writes_to(vmid), writes);
    assert!(lab.run(&run, &EffectBody::Destroy { vmid }).await.ok);
    assert!(lab.run(&run, &EffectBody::Destroy { vmid }).await.ok, "gone is destroyed");
}

#[tokio::test(start_paused = true)]
async fn a_resize_whose_reply_was_lost_is_seen_by_its_size() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let body = EffectBody::Resize { vmid, disk: "scsi0".into(), to_mib: 5_120 };
    lab.sim.once("PUT", "/resize", What::LoseReply);
    let effect = lab.write(&run, &body);
    assert!(matches!(lab.execute(&run, &effect).await, Execution::InDoubt { .. }));
    let Execution::Done(result) = lab.probe_later(&run, &effect).await else { panic!("it has grown") };
    assert!(result.ok);
    assert!(lab.sim.snapshot().vms[&vmid].config["scsi0"].contains("size=5G"));
}

#[tokio::test(start_paused = true)]
async fn a_secret_goes_in_on_the_way_out_and_into_no_message() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let owner = secret_owner(run.service.id);
    let sealed = lab.keyring.seal(&owner, "os-password", b"S3cret-of-the-guest");
    lab.books.put_secret(&owner, "os-password", &sealed, 0).await.unwrap();
    let body = configure(&lab, &run, vmid, &[("cipassword", "{{os-password}}")]).await;
    let text = "bad value S3cret-of-the-guest".to_owned();
    lab.sim.once("PUT", "/config", What::Refuse { status: 500, text });
    let result = lab.run(&run, &body).await;
    assert!(!result.ok && !result.message.contains("S3cret"), "{result:?}");
    assert!(lab.run(&run, &body).await.ok);
    assert_eq!(lab.sim.snapshot().vms[&vmid].cipassword.as_deref(), Some("S3cret-of-the-guest"));
}

#[tokio::test(start_paused = true)]
async fn the_watcher_is_told_of_tasks_that_ended_and_of_no_other() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    let effect = lab.write(&run, &clone_of(vmid));
    let Execution::Task(task) = lab.execute(&run, &effect).await else { panic!("a clone is a task") };
    let tasks = [task.clone()];
    assert!(lab.executor.ended_tasks(cluster::SERVER, &tasks).await.is_empty());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(lab.executor.ended_tasks(cluster::SERVER, &tasks).await, tasks);
}

#[tokio::test(start_paused = true)]
async fn a_task_on_a_node_that_is_away_is_unreachable_and_an_unknown_one_is_lost() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    let mut effect = lab.write(&run, &clone_of(vmid));
    let Execution::Task(task) = lab.execute(&run, &effect).await else { panic!("a clone is a task") };
    effect.task = Some(task.clone());
    lab.sim.condition(Condition::NodeOffline("pve1".into()));
    assert!(matches!(lab.executor.task(&effect, &run.service).await, TaskView::Unreachable { .. }));
    lab.sim.condition(Condition::NodeOnline("pve1".into()));
    effect.task = Some(task.replace("00001", "00009"));
    assert!(matches!(lab.executor.task(&effect, &run.service).await, TaskView::Lost { .. }));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_two_writes_are_in_flight_to_a_node() {
    let lab = std::sync::Arc::new(Lab::new().await);
    let fault = Fault { method: "POST".into(), path: "/start".into(), times: None, what: What::SlowAnswer(5_000) };
    let mut vms = Vec::new();
    for n in 0..4 {
        vms.push(lab.deployed(&n.to_string()).await);
    }
    lab.sim.fault(fault);
    let begun = tokio::time::Instant::now();
    let starts = vms.iter().map(|(run, vmid)| {
        let effect = lab.write(run, &EffectBody::Start { vmid: *vmid });
        let lab = lab.clone();
        async move { lab.execute(run, &effect).await }
    });
    let all = futures::future::join_all(starts).await;
    assert!(all.iter().all(|e| matches!(e, Execution::Task(_))), "{all:?}");
    let took = begun.elapsed();
    assert!((9..16).contains(&took.as_secs()), "two at a time: {took:?}");
}
