//! What a step, a token or a stranger must not be able to bring about.

use crate::cluster;
use std::collections::BTreeMap;

use crate::cluster::{Lab, clone_of, pairs};
use pve_sim::faults::{Condition, Fault, What};
use wharf_capabilities::{
    bindings::wharf::proxmox::vms::HostVm, call::Presence, effects::Execution, proxmox::EffectBody,
};
use wharf_model::effect::EffectResult;
use wharf_store::{Commit, EffectChange, Run, Then};

/// The journal says that this run's clone went well.
async fn journal_clone(lab: &Lab, run: &Run, vmid: u32) {
    let effect = EffectChange::New {
        kind: "clone".into(),
        server: cluster::SERVER.into(),
        body: serde_json::to_value(clone_of(vmid)).unwrap(),
        slot: None,
        deadline_ms: lab.clock.now_ms(),
    };
    let ended = EffectChange::Resolved(EffectResult { ok: true, code: String::new(), message: String::new() });
    for change in [effect, ended] {
        let commit = Commit { effect: Some(change), ..Commit::new(run.claim, lab.clock.now_ms(), Then::Keep) };
        lab.books.commit(commit).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_shut_down_is_a_failed_task_and_no_lock() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    assert!(lab.run(&run, &EffectBody::Start { vmid }).await.ok);
    lab.sim.condition(Condition::Undying(vmid));
    let result = lab.run(&run, &EffectBody::Shutdown { vmid, timeout_s: 5, force: true }).await;
    assert!(!result.ok);
    assert_eq!(result.code, "task-failed", "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn only_a_listed_template_can_be_copied_and_no_other_customers_vm() {
    let lab = Lab::new().await;
    let (_, others) = lab.deployed("1").await;
    let run = lab.order("2").await;
    lab.step(&run).reserve(101).await.unwrap();
    let run = lab.again(&run).await;
    for number in [others, 9002] {
        let mut step = lab.step(&run);
        let vm = step.vm();
        let answer =
            step.state.submit_clone(vm, number, "vm".into(), true, pairs(&[("storage", "nfs")])).await.unwrap();
        assert!(answer.is_err(), "number {number} is no template of an image");
    }
}

#[tokio::test(start_paused = true)]
async fn another_vms_volume_and_the_nodes_devices_can_not_be_attached() {
    let lab = Lab::new().await;
    let (_, others) = lab.deployed("1").await;
    let (run, vmid) = lab.deployed("2").await;
    let digest = lab.step(&run).look().await.unwrap().digest;
    for (key, value) in [
        ("scsi1", format!("local-lvm:vm-{others}-disk-0")),
        ("scsi1", format!("nfs:{others}/vm-{others}-disk-0.qcow2,size=3G")),
        ("scsi1", format!("local-lvm:1,import-from=local-lvm:vm-{others}-disk-0")),
        ("scsi1", "/dev/sda".to_owned()),
        ("usb0", "host=1234:5678".to_owned()),
        ("serial0", "/dev/ttyS0".to_owned()),
    ] {
        let mut step = lab.step(&run);
        let vm = step.vm();
        let set = pairs(&[(key, value.as_str())]);
        let answer = step.state.submit_configure(vm, set, Vec::new(), digest.clone()).await.unwrap();
        assert!(answer.is_err(), "{key}={value}");
    }
    for (key, value) in [
        ("scsi1", "local-lvm:10".to_owned()),
        ("scsi1", format!("local-lvm:vm-{vmid}-disk-1,size=10G")),
        ("ide3", "nfs:iso/debian.iso,media=cdrom".to_owned()),
        ("ide2", "none,media=cdrom".to_owned()),
    ] {
        let mut step = lab.step(&run);
        let vm = step.vm();
        let set = pairs(&[(key, value.as_str())]);
        let answer = step.state.submit_configure(vm, set, Vec::new(), digest.clone()).await.unwrap();
        assert!(answer.is_ok(), "{key}={value}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_marker_can_not_be_taken_off() {
    let lab = Lab::new().await;
    let (run, _) = lab.deployed("1").await;
    let digest = lab.step(&run).look().await.unwrap().digest;
    for (set, delete) in [(pairs(&[("description", "mine")]), Vec::new()), (Vec::new(), vec!["description".to_owned()])]
    {
        let mut step = lab.step(&run);
        let vm = step.vm();
        let answer = step.state.submit_configure(vm, set.clone(), delete, digest.clone()).await.unwrap();
        assert!(answer.is_err(), "{set:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_the_token_may_not_see_is_not_proven_absent() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.wire.unseen.lock().unwrap().insert(vmid);
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let mut step = lab.step(&run);
    let vm = step.vm();
    let answer = step.state.prove_absence(vm).await.unwrap();
    assert!(answer.is_err(), "VM {vmid} runs on, and its addresses would be given away");
    assert_eq!(step.binding().absence_proven_ms, None);
}

#[tokio::test(start_paused = true)]
async fn a_vm_of_ours_whose_marker_was_edited_away_is_not_proven_absent() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    journal_clone(&lab, &run, vmid).await;
    let digest = lab.step(&run).look().await.unwrap().digest;
    let set = pairs(&[("description", "edited by hand")]).into_iter().collect();
    assert!(lab.run(&run, &EffectBody::Configure { vmid, set, delete: Vec::new(), digest }).await.ok);
    let run = lab.again(&run).await;
    assert_eq!(lab.step(&run).look().await.unwrap().presence, Presence::Foreign);
    let mut step = lab.step(&run);
    let vm = step.vm();
    assert!(step.state.prove_absence(vm).await.unwrap().is_err(), "we made VM {vmid}, and it is there");
    assert_eq!(step.binding().absence_proven_ms, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_somebody_elses_vm_is_shown() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.sim.condition(Condition::ForeignVm(vmid, "pve2".into()));
    let view = lab.step(&lab.again(&run).await).look().await.unwrap();
    assert_eq!(view.presence, Presence::Foreign);
    assert!(view.config.is_empty() && view.digest.is_empty(), "{view:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_first_address_stops_no_write() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.wire.dead.lock().unwrap().insert("https://a:8006".into());
    let effect = lab.write(&run, &EffectBody::Start { vmid });
    let execution = lab.execute(&run, &effect).await;
    assert!(matches!(execution, Execution::Task(_)), "{execution:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waited_too_long_for_its_turn_is_not_sent_after_its_deadline() {
    let lab = std::sync::Arc::new(Lab::new().await);
    let mut vms = Vec::new();
    for n in 0..3 {
        vms.push(lab.deployed(&n.to_string()).await);
    }
    let slow = Fault { method: "POST".into(), path: "/start".into(), times: Some(2), what: What::SlowStart(58_000) };
    lab.sim.fault(slow);
    let slow = Fault { method: "POST".into(), path: "/start".into(), times: None, what: What::SlowStart(30_000) };
    let starts = vms.iter().map(|(run, vmid)| {
        let effect = lab.write(run, &EffectBody::Start { vmid: *vmid });
        let (lab, slow) = (lab.clone(), slow.clone());
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(u64::from(*vmid))).await;
            if *vmid == 103 {
                lab.sim.fault(slow);
            }
            let execution = lab.execute(run, &effect).await;
            (execution, effect.deadline_ms, lab.clock.now_ms())
        }
    });
    for (execution, deadline, now) in futures::future::join_all(starts).await {
        let in_time = now <= deadline + 2_000;
        let unsent = matches!(execution, Execution::NotSent { .. });
        assert!(in_time || unsent, "{execution:?} {} ms after the deadline", now - deadline);
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_taken_out_of_our_sight_is_not_reserved() {
    let lab = Lab::new().await;
    lab.sim.condition(Condition::ForeignVm(101, "pve2".into()));
    lab.wire.unseen.lock().unwrap().insert(101);
    let run = lab.order("1").await;
    assert_eq!(lab.step(&run).reserve(101).await.unwrap(), 102);
}

#[tokio::test(start_paused = true)]
async fn a_clone_under_a_number_that_is_no_longer_ours_is_not_sent() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    lab.books.burn_vmid(None, cluster::SERVER, run.service.id, vmid, lab.clock.now_ms()).await.unwrap();
    let body = EffectBody::Clone { vmid, template: 9000, name: "vm".into(), full: false, options: BTreeMap::new() };
    let effect = lab.write(&run, &body);
    let execution = lab.execute(&run, &effect).await;
    assert!(matches!(&execution, Execution::Done(result) if !result.ok), "{execution:?}");
    assert_eq!(lab.writes_to(vmid), 0);
}
