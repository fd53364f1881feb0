//! What a provisioner's step may see and hand over, on a simulated cluster.

use crate::cluster;
use crate::cluster::{Lab, clone_of, pairs};
use pve_sim::faults::Condition;
use serde_json::json;
use wharf_capabilities::{
    bindings::wharf::{
        base::common::Action,
        ipam::leases::{Host as _, Wish},
        provisioner::operations::HostOperation,
        proxmox::{cluster::Host as _, vms::HostVm},
        storage::storages::Host as _,
    },
    call::{Bound, OperationHandle, Presence},
    proxmox::{EffectBody, marker},
};
use wharf_model::object::ObjectKind;
use wharf_store::Run;

async fn pool(lab: &Lab, name: &str, first: &str, last: &str) {
    let body = json!({
        "server": cluster::SERVER, "bridge": "vmbr0", "first": first, "last": last, "prefix_length": 24,
        "gateway": "192.0.2.1", "quarantine_s": 60
    });
    lab.put(ObjectKind::Pool, name, body).await;
}

fn wish(ipv4: u32) -> Wish {
    Wish { ipv4, ipv6: 0, bridge: None, vlan: None }
}

async fn gone(lab: &Lab, run: &Run, vmid: u32) {
    assert!(lab.run(run, &EffectBody::Destroy { vmid }).await.ok);
}

#[tokio::test(start_paused = true)]
async fn a_number_is_free_on_the_cluster_and_in_the_books_and_stays_the_same() {
    let lab = Lab::new().await;
    lab.sim.condition(Condition::ForeignVm(101, "pve2".into()));
    let (one, two) = (lab.order("1").await, lab.order("2").await);
    let first = lab.step(&one).reserve(101).await.unwrap();
    let second = lab.step(&two).reserve(101).await.unwrap();
    assert_eq!((first, second), (102, 103));
    assert_eq!(lab.step(&lab.again(&one).await).reserve(500).await.unwrap(), 102);
    for bad in [0, 99, 1_000_000_000] {
        assert_eq!(lab.step(&one).reserve(bad).await.unwrap_err().action, Action::FixInput);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_tells_none_copying_ours_and_foreign_apart() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    assert_eq!(lab.step(&run).look().await.unwrap().presence, Presence::None);
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    let run = lab.again(&run).await;
    assert_eq!(lab.step(&run).look().await.unwrap().presence, Presence::None);
    lab.sim.condition(Condition::Stub(vmid, "pve1".into()));
    let view = lab.step(&run).look().await.unwrap();
    assert_eq!((view.presence, view.lock.as_deref()), (Presence::Copying, Some("clone")));
    lab.sim.condition(Condition::ForeignVm(vmid, "pve2".into()));
    assert_eq!(lab.step(&run).look().await.unwrap().presence, Presence::Foreign);

    let (run, vmid) = lab.deployed("2").await;
    let view = lab.step(&run).look().await.unwrap();
    assert_eq!((view.presence, view.status.as_str(), view.lock), (Presence::Ours, "stopped", None));
    assert!(view.config["description"].lines().any(|l| l == marker(run.service.id)));
    assert!(!view.digest.is_empty() && !view.config.contains_key("digest"));
    assert_eq!(lab.sim.snapshot().vms[&vmid].node, view.node.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_next_start_is_told() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    assert!(lab.run(&run, &EffectBody::Start { vmid }).await.ok);
    let digest = lab.step(&run).look().await.unwrap().digest;
    let set = pairs(&[("cores", "4")]).into_iter().collect();
    assert!(lab.run(&run, &EffectBody::Configure { vmid, set, delete: Vec::new(), digest }).await.ok);
    let view = lab.step(&run).look().await.unwrap();
    assert_eq!((view.config["cores"].as_str(), view.pending), ("4", vec!["cores".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_step_hands_over_one_write_and_no_second() {
    let lab = Lab::new().await;
    let (run, _) = lab.deployed("1").await;
    let mut step = lab.step(&run);
    let vm = step.vm();
    let id = step.state.submit_start(vm).await.unwrap().unwrap();
    assert_eq!(id, format!("{}.1", run.operation.generation));
    let vm = step.vm();
    let failure = step.state.submit_stop(vm).await.unwrap().unwrap_err();
    assert_eq!((failure.action, failure.code.as_str()), (Action::ReportBug, "second-write"));
    assert_eq!(step.submitted().kind, "start");
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_slots_of_the_storage_that_they_write_to() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    lab.step(&run).reserve(101).await.unwrap();
    let run = lab.again(&run).await;
    for (template, options, pool) in [
        (9000, pairs(&[]), "clone:lab/pve1/local-lvm"),
        (9001, pairs(&[("target", "pve2")]), "clone:lab/nfs"),
        (9000, pairs(&[("storage", "nfs")]), "clone:lab/nfs"),
    ] {
        let mut step = lab.step(&run);
        let vm = step.vm();
        step.state.submit_clone(vm, template, "vm".into(), true, options).await.unwrap().unwrap();
        let slot = step.submitted().slot.clone().unwrap();
        assert_eq!((slot.name.as_str(), slot.cap), (pool, 2));
    }
    let mut step = lab.step(&run);
    let vm = step.vm();
    let failure =
        step.state.submit_clone(vm, 9000, "vm".into(), true, pairs(&[("snapname", "x")])).await.unwrap().unwrap_err();
    assert!(failure.message.contains("snapname"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_property_and_a_misplaced_secret_are_refused_before_anything_is_sent() {
    let lab = Lab::new().await;
    let (run, _) = lab.deployed("1").await;
    let digest = lab.step(&run).look().await.unwrap().digest;
    let sent = lab.sim.log().len();
    for (key, value, code) in [
        ("", "x", "unknown-property"),
        ("bandwidth", "1", "unknown-property"),
        ("name", "{{os-password}}", "secret-position"),
        ("cipassword", "{{other}}", "secret-position"),
    ] {
        let mut step = lab.step(&run);
        let vm = step.vm();
        let refused =
            step.state.submit_configure(vm, pairs(&[(key, value)]), Vec::new(), digest.clone()).await.unwrap();
        assert_eq!(refused.unwrap_err().code, code, "{key}={value}");
        assert!(step.binding().submitted.is_none());
    }
    let mut step = lab.step(&run);
    let vm = step.vm();
    let set = pairs(&[("cipassword", "{{os-password}}"), ("cores", "2")]);
    step.state.submit_configure(vm, set, Vec::new(), digest).await.unwrap().unwrap();
    assert!(step.submitted().body.to_string().contains("{{os-password}}"), "the journal holds the name, not the value");
    assert_eq!(lab.sim.log().len(), sent);
}

#[tokio::test(start_paused = true)]
async fn room_is_promised_once() {
    let lab = Lab::new().await;
    let (one, two) = (lab.order("1").await, lab.order("2").await);
    let mut step = lab.step(&one);
    let vm = step.vm();
    step.state.reserve_room(vm, "pve1".into(), 100_000, "local-lvm".into(), 1_000).await.unwrap().unwrap();
    let mut step = lab.step(&two);
    let vm = step.vm();
    let failure =
        step.state.reserve_room(vm, "pve1".into(), 100_000, "local-lvm".into(), 1_000).await.unwrap().unwrap_err();
    assert_eq!((failure.action, failure.code.as_str()), (Action::Busy, "no-room"));
    let nodes = step.state.nodes().await.unwrap().unwrap();
    assert_eq!(nodes.iter().find(|n| n.name == "pve1").unwrap().promised_mib, 100_000);
    let all = step.state.all().await.unwrap().unwrap();
    let row = all.iter().find(|s| s.name == "local-lvm" && s.node == "pve1").unwrap();
    assert_eq!((row.promised_mib, row.active, row.shared), (1_000, true, false));
}

#[tokio::test(start_paused = true)]
async fn only_images_of_this_server_are_offered_and_only_their_templates_shown() {
    let lab = Lab::new().await;
    let elsewhere = json!({"templates": [{"server": "other", "vmid": 9000}]});
    lab.put(ObjectKind::Image, "elsewhere", elsewhere).await;
    let run = lab.order("1").await;
    let mut step = lab.step(&run);
    assert_eq!(step.state.images().await.unwrap().unwrap(), ["debian"]);
    let found = step.state.image("debian".into()).await.unwrap().unwrap();
    let told: Vec<_> = found.iter().map(|t| (t.number, t.node.as_str(), t.storage.as_str(), t.shared)).collect();
    assert_eq!(told, [(9000, "pve1", "local-lvm", false), (9001, "pve1", "nfs", true)]);
    assert!(step.state.image("elsewhere".into()).await.unwrap().unwrap().is_empty());
    assert!(step.state.look_at_template(9002).await.unwrap().is_err());
    assert_eq!(step.state.version().await.unwrap().unwrap(), "9.2");
    assert_eq!(step.state.firewall_option("enable".into()).await.unwrap().unwrap().as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_plan_check_sees_its_server_and_no_service() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let mut step = lab.step(&run);
    step.state.bound = Bound::Server(cluster::SERVER.into());
    assert_eq!(step.state.nodes().await.unwrap().unwrap().len(), 3);
    let vm = step.vm();
    assert!(step.state.look(vm).await.is_err());
    let vm = step.vm();
    assert!(step.state.submit_start(vm).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn absence_is_proven_only_by_a_whole_and_quorate_cluster() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    let mut step = lab.step(&run);
    let vm = step.vm();
    let failure = step.state.prove_absence(vm).await.unwrap().unwrap_err();
    assert_eq!((failure.action, failure.code.as_str()), (Action::Busy, "still-there"));
    gone(&lab, &run, vmid).await;
    for condition in [Condition::NodeOffline("pve3".into()), Condition::NoQuorum] {
        lab.sim.condition(condition);
        let mut step = lab.step(&run);
        let vm = step.vm();
        let failure = step.state.prove_absence(vm).await.unwrap().unwrap_err();
        assert_eq!((failure.action, failure.code.as_str()), (Action::Retry, "absence-unproven"));
        assert_eq!(step.binding().absence_proven_ms, None);
        lab.sim.condition(Condition::NodeOnline("pve3".into()));
    }
    lab.sim.condition(Condition::Quorum);
    let mut step = lab.step(&run);
    let vm = step.vm();
    assert!(step.state.prove_absence(vm).await.unwrap().unwrap().leftovers.is_empty());
    assert!(step.binding().absence_proven_ms.is_some());
}

#[tokio::test(start_paused = true)]
async fn addresses_are_not_released_without_proof_and_rest_afterwards() {
    let lab = Lab::new().await;
    pool(&lab, "a", "192.0.2.0", "192.0.2.3").await;
    let (run, vmid) = lab.deployed("1").await;
    let leases = lab.step(&run).state.reserve(wish(2)).await.unwrap().unwrap();
    assert_eq!(leases.iter().map(|l| l.address.as_str()).collect::<Vec<_>>(), ["192.0.2.2", "192.0.2.3"]);
    let failure = lab.step(&run).state.release().await.unwrap().unwrap_err();
    assert_eq!((failure.action, failure.code.as_str()), (Action::Busy, "absence-unproven"));

    gone(&lab, &run, vmid).await;
    let mut step = lab.step(&run);
    let vm = step.vm();
    step.state.prove_absence(vm).await.unwrap().unwrap();
    let failure = step.state.release().await.unwrap().unwrap_err();
    assert_eq!(failure.code, "absence-unproven", "the proof counts from the next step on");
    lab.commit_absence(&run, step.binding().absence_proven_ms).await;
    let run = lab.again(&run).await;
    lab.step(&run).state.release().await.unwrap().unwrap();
    assert!(lab.books.leases_of(run.service.id).await.unwrap().is_empty());

    let next = lab.order("2").await;
    let failure = lab.step(&next).state.reserve(wish(1)).await.unwrap().unwrap_err();
    assert_eq!((failure.action, failure.code.as_str()), (Action::Busy, "addresses-short"));
    assert!(failure.message.contains('a'), "{}", failure.message);
    tokio::time::sleep(std::time::Duration::from_secs(61)).await;
    assert_eq!(lab.step(&next).state.reserve(wish(1)).await.unwrap().unwrap()[0].address, "192.0.2.2");
}

#[tokio::test(start_paused = true)]
async fn only_archives_that_carry_our_marker_are_ours_and_only_they_are_removed() {
    let lab = Lab::new().await;
    let (run, vmid) = lab.deployed("1").await;
    lab.sim.condition(Condition::Archive(vmid, "nfs".into(), "of another cluster".into()));
    lab.sim.condition(Condition::Archive(vmid, "nfs".into(), format!("{} daily", marker(run.service.id))));
    let all = lab.step(&run).state.backups().await.unwrap().unwrap();
    assert_eq!(all.iter().filter(|b| b.ours).count(), 1, "{all:?}");
    assert_eq!(all.len(), 2);
    let foreign = all.iter().find(|b| !b.ours).unwrap().volume.clone();
    let ours = all.iter().find(|b| b.ours).unwrap().volume.clone();
    assert!(lab.step(&run).state.submit_remove_backup(foreign.clone()).await.unwrap().is_err());
    let mut step = lab.step(&run);
    step.state.submit_remove_backup(ours.clone()).await.unwrap().unwrap();
    let effect = lab.effect(&run, step.submitted().body.clone());
    let execution = lab.execute(&run, &effect).await;
    assert!(lab.end(&run, &effect, execution).await.ok);
    let volumes: Vec<String> = lab.sim.snapshot().volumes.into_iter().map(|v| v.volid).collect();
    assert!(volumes.contains(&foreign) && !volumes.contains(&ours));
}

#[tokio::test(start_paused = true)]
async fn steps_in_the_same_second_share_one_look_at_the_cluster() {
    let lab = Lab::new().await;
    let mut runs = Vec::new();
    for n in 0..20 {
        runs.push(lab.order(&n.to_string()).await);
    }
    let mut steps: Vec<_> = runs.iter().map(|run| lab.step(run)).collect();
    let before = lab.sim.log().len();
    let nodes = futures::future::join_all(steps.iter_mut().map(|s| s.state.nodes())).await;
    assert!(nodes.iter().all(|n| n.as_ref().unwrap().as_ref().unwrap().len() == 3));
    assert_eq!(lab.sim.log().len() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_clone_just_made_is_seen_although_the_shared_look_is_older() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let vmid = lab.step(&run).reserve(101).await.unwrap();
    let run = lab.again(&run).await;
    lab.step(&run).state.nodes().await.unwrap().unwrap();
    assert!(lab.run(&run, &clone_of(vmid)).await.ok);
    assert_eq!(lab.step(&run).look().await.unwrap().presence, Presence::Ours);
}

#[tokio::test(start_paused = true)]
async fn a_service_keeps_a_hundred_facts_and_may_change_each_of_them() {
    let lab = Lab::new().await;
    let run = lab.order("1").await;
    let mut step = lab.step(&run);
    let handle = step.state.table.push(OperationHandle).unwrap().rep();
    let at = || wasmtime::component::Resource::<OperationHandle>::new_borrow(handle);
    for n in 0..100 {
        step.state.set_fact(at(), format!("fact-{n}"), Some("x".into())).await.unwrap();
    }
    step.state.set_fact(at(), "fact-7".into(), Some("y".into())).await.unwrap();
    assert_eq!(step.state.fact(at(), "fact-7".into()).await.unwrap().as_deref(), Some("y"));
    assert!(step.state.set_fact(at(), "one-more".into(), Some("x".into())).await.is_err());
    step.state.set_fact(at(), "fact-7".into(), None).await.unwrap();
    step.state.set_fact(at(), "one-more".into(), Some("x".into())).await.unwrap();
    assert!(step.state.set_fact(at(), "k".repeat(101), Some("x".into())).await.is_err());
    assert!(step.state.set_fact(at(), "long".into(), Some("x".repeat(4 * 1024 + 1))).await.is_err());
}
