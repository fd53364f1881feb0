//! Clone, migration, destruction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
mod common;
use std::collections::BTreeMap;
use std::time::Duration;

use common::*;
use pve_sim::{Control, FaultKind, Match, SharedStorage, Sim, SimConfig, StorageSpec, TemplateSpec};

const CLONE: &str = "/nodes/pve1/qemu/9000/clone";

#[tokio::test(start_paused = true)]
async fn a_clone_carries_nothing_but_its_lock_at_first() {
    let s = sim();
    let upid = ok(&s, "POST", CLONE, &[("newid", "100"), ("description", "svc:1")]).await;
    assert!(upid.as_str().unwrap().contains(":qmclone:9000:wharf@pve!wharf:"));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let vm = s.vm(100).unwrap();
    assert_eq!(vm.lock.as_deref(), Some("clone"));
    assert_eq!(vm.config.keys().collect::<Vec<_>>(), ["description", "lock"]);
    assert_eq!(vm.config["description"], pve_sim::STUB_TEXT);
    // The worker holds the new number's configuration lock, so a change waits for the copy to end.
    let change = tokio::spawn({
        let s = s.clone();
        async move { call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "2")]).await.status }
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!change.is_finished() && !s.vm(100).unwrap().config.contains_key("cores"));
    assert_eq!(wait(&s, &upid).await, "OK");
    assert_eq!(change.await.unwrap(), 200);
    let (vm, tpl) = (s.vm(100).unwrap(), s.vm(9000).unwrap());
    assert_eq!((vm.lock, vm.config["description"].as_str()), (None, "svc:1"));
    assert_ne!(vm.config["net0"], tpl.config["net0"]);
    assert_ne!(vm.config["smbios1"], tpl.config["smbios1"]);
    assert!(!vm.template && vm.config["ide2"].contains("vm-100-cloudinit"));
}

#[tokio::test(start_paused = true)]
async fn the_remains_of_a_clone_without_a_task_stay_locked() {
    let s = sim();
    s.control(Control::StaleClone { vmid: 100, node: "pve1".into() }).unwrap();
    let a = call(&s, "PUT", "/nodes/pve1/qemu/100/config", &[("cores", "2")]).await;
    assert_eq!((a.status, a.reason.as_str()), (500, "VM is locked (clone)"));
    assert_eq!(task(&s, "DELETE", "/nodes/pve1/qemu/100", &[]).await, "VM is locked (clone)");
    assert!(s.vm(100).is_some() && s.tasks().iter().all(|t| t.kind != "qmclone"));
}

#[tokio::test(start_paused = true)]
async fn a_taken_number_is_refused_at_once_here_and_in_the_task_elsewhere() {
    let s = sim();
    s.control(Control::Foreign { vmid: 100, node: "pve1".into() }).unwrap();
    s.control(Control::Foreign { vmid: 101, node: "pve2".into() }).unwrap();
    let a = call(&s, "POST", CLONE, &[("newid", "100")]).await;
    assert_eq!(a.reason, "unable to create VM 100: config file already exists");
    assert!(task(&s, "POST", CLONE, &[("newid", "101")]).await.ends_with("failed: File exists"));
    assert_eq!(s.vm(101).unwrap().node, "pve2");
}

#[tokio::test(start_paused = true)]
async fn a_thief_takes_the_number_while_the_reply_is_lost() {
    let s = sim();
    let on = Match { path: Some("/clone".into()), times: Some(1), ..Match::default() };
    s.fault(on.clone(), FaultKind::Thief { node: None });
    s.fault(on, FaultKind::LoseAfter {});
    let a = call(&s, "POST", CLONE, &[("newid", "100")]).await;
    assert!(a.lost && a.status == 599);
    assert_eq!(s.vm(100).unwrap().config["name"], "somebody-elses-100");
    assert!(s.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_clone_leaves_neither_configuration_nor_disk_nor_firewall() {
    let s = sim();
    let upid = ok(&s, "POST", CLONE, &[("newid", "100"), ("full", "1")]).await;
    s.control(Control::StorageFull { storage: "local-lvm".into(), full: true }).unwrap();
    assert!(wait(&s, &upid).await.starts_with("clone failed: "));
    assert!(s.vm(100).is_none() && s.volumes_of(100).is_empty() && s.firewall(100).is_none());
}

#[tokio::test(start_paused = true)]
async fn local_templates_and_linked_clones_have_their_limits() {
    let s = sim();
    let a = call(&s, "POST", CLONE, &[("newid", "100"), ("target", "pve2")]).await;
    assert_eq!(a.reason, "can't clone VM to node 'pve2' (VM uses local storage)");
    let a = call(&s, "POST", CLONE, &[("newid", "100"), ("storage", "nfs")]).await;
    assert_eq!(a.reason, "parameter 'storage' not allowed for linked clones");
    let p = [("newid", "100"), ("full", "1"), ("storage", "local-lvm"), ("target", "pve2")];
    assert_eq!(
        call(&s, "POST", "/nodes/pve1/qemu/9001/clone", &p).await.reason,
        "can't clone to non-shared storage 'local-lvm'"
    );
    assert_eq!(task(&s, "POST", "/nodes/pve1/qemu/9001/clone", &[("newid", "100"), ("target", "pve2")]).await, "OK");
    assert_eq!(s.vm(100).unwrap().node, "pve2");
    assert!(s.vm(100).unwrap().config["scsi0"].starts_with("nfs:9001/base-9001-disk-0.qcow2/100/vm-100-disk-0.qcow2"));
}

#[tokio::test(start_paused = true)]
async fn a_linked_clone_on_zfs_can_not_leave_its_node_and_one_on_lvmthin_can() {
    let mut cfg = config();
    cfg.storages.push(StorageSpec::new("zfs", "zfspool", false, &["images"]));
    cfg.templates.push(TemplateSpec::new(9003, "on-zfs", "pve1", "zfs"));
    let s = Sim::new(cfg);
    assert_eq!(task(&s, "POST", "/nodes/pve1/qemu/9003/clone", &[("newid", "100")]).await, "OK");
    let end = task(&s, "POST", "/nodes/pve1/qemu/100/migrate", &[("target", "pve2")]).await;
    let text = "can't migrate 'zfs:base-9003-disk-0/vm-100-disk-0' as it's a clone of 'base-9003-disk-0'";
    assert!(end.ends_with(text), "{end}");
    assert_eq!((s.vm(100).unwrap().node.as_str(), s.vm(100).unwrap().lock), ("pve1", None));
    assert_eq!(task(&s, "POST", CLONE, &[("newid", "101")]).await, "OK");
    assert_eq!(
        task(&s, "POST", "/nodes/pve1/qemu/101/migrate", &[("target", "pve2"), ("targetstorage", "local-lvm:nfs")])
            .await,
        "OK"
    );
    let vm = s.vm(101).unwrap();
    assert_eq!(vm.node, "pve2");
    assert!(vm.config["scsi0"].starts_with("nfs:101/vm-101-disk-0.qcow2"), "{:?}", vm.config);
    assert!(!s.volumes_of(101).iter().any(|v| v.starts_with("local-lvm")));
}

#[tokio::test(start_paused = true)]
async fn a_running_vm_can_not_be_destroyed_and_a_stopped_one_leaves_nothing() {
    let s = cloned().await;
    let vm = "/nodes/pve1/qemu/100";
    ok(&s, "PUT", &format!("{vm}/firewall/options"), &[("enable", "1")]).await;
    task(&s, "POST", &format!("{vm}/status/start"), &[]).await;
    let a = call(&s, "DELETE", vm, &[("purge", "1")]).await;
    assert_eq!((a.status, a.reason.as_str()), (500, "VM 100 is running - destroy failed"));
    let p = [("timeout", "5"), ("forceStop", "1")];
    s.control(Control::HangGuest { vmid: 100, hung: true }).unwrap();
    assert_eq!(task(&s, "POST", &format!("{vm}/status/shutdown"), &p).await, "OK");
    assert_eq!(task(&s, "DELETE", vm, &[("purge", "1")]).await, "OK");
    assert!(s.vm(100).is_none() && s.volumes_of(100).is_empty() && s.firewall(100).is_none());
}

#[tokio::test(start_paused = true)]
async fn two_clusters_on_one_nfs_see_each_others_archives() {
    let nfs = SharedStorage::new();
    let cluster = |name: &str| {
        let cfg = SimConfig { cluster: name.into(), ..config() };
        Sim::with_parts(cfg, vec![], BTreeMap::from([("nfs".to_owned(), nfs.clone())]))
    };
    let (a, b) = (cluster("a"), cluster("b"));
    for s in [&a, &b] {
        assert_eq!(task(s, "POST", CLONE, &[("newid", "100")]).await, "OK");
    }
    let p = [("vmid", "100"), ("storage", "nfs"), ("remove", "0"), ("notes-template", "run-7 {{vmid}}")];
    assert_eq!(task(&b, "POST", "/nodes/pve1/vzdump", &p).await, "OK");
    let list = ok(&a, "GET", "/nodes/pve1/storage/nfs/content", &[("content", "backup"), ("vmid", "100")]).await;
    assert_eq!(list[0]["notes"], "run-7 100");
    assert_eq!(task(&a, "DELETE", "/nodes/pve1/qemu/100", &[("purge", "1")]).await, "OK");
    assert_eq!(b.volumes_of(100).iter().filter(|v| v.starts_with("nfs:backup/")).count(), 1);
    assert_eq!(ok(&a, "POST", "/nodes/pve2/vzdump", &[("vmid", "9000"), ("storage", "nfs")]).await, "OK");
}
