//! Termination, suspension and the plan check against the fake.

use std::collections::BTreeMap;

use serde_json::json;

use crate::check::check;
use crate::fake::{Fake, Fault, Vm, storage};
use crate::host::*;

/// A service that was deployed and is to be terminated.
fn deployed() -> Fake {
    let fake = Fake::new(json!({}));
    fake.finish("ready");
    switch(&fake, "terminate");
    fake
}

fn switch(fake: &Fake, kind: &'static str) {
    fake.with(|w| {
        w.kind = kind;
        w.state = kind.into();
        w.memo = None;
        w.last = None;
        w.writes.clear();
        w.reached.clear();
        w.log.clear();
    });
}

fn backup(volume: &str, ours: bool, protected: bool) -> Backup {
    Backup {
        volume: volume.into(),
        storage: "nfs".into(),
        made_at_ms: 0,
        size_mib: 1,
        ours,
        protected,
        ext: Vec::new(),
    }
}

#[test]
fn a_running_vm_is_shut_down_destroyed_and_everything_given_back() {
    let fake = deployed();
    fake.with(|w| w.leftovers = vec!["nfs:vm-100-disk-9".into()]);
    let writes = fake.finish("remove");
    assert_eq!(writes, [Write::Shutdown { timeout_s: 120, force: true }, Write::Destroy]);
    fake.get(|w| {
        assert!(w.vms.is_empty() && w.held.is_empty() && w.facts.is_empty() && w.declared.is_none());
    });
    assert!(fake.logged("nfs:vm-100-disk-9"));
    assert!(matches!(fake.how("destroyed"), How::ByEffect(_)));
}

#[test]
fn lost_answers_change_nothing() {
    let fake = deployed();
    fake.with(|w| w.backups = vec![backup("nfs:1", true, false), backup("nfs:2", true, false)]);
    fake.run("remove", |_, f| f.lost_step());
    assert_eq!(fake.get(|w| w.writes.len()), 4);
    assert!(fake.get(|w| w.backups.is_empty()));
}

#[test]
fn a_memo_lost_before_any_step_still_ends() {
    for lost in 0..12 {
        let fake = deployed();
        fake.with(|w| w.backups = vec![backup("nfs:1", true, false)]);
        fake.run("remove", |n, f| {
            if n == lost {
                f.with(|w| w.memo = None);
            }
        });
        assert!(fake.get(|w| w.held.is_empty()));
    }
}

#[test]
fn only_backups_that_are_ours_are_removed_and_none_can_fail_the_operation() {
    let fake = deployed();
    fake.with(|w| {
        w.backups = vec![
            backup("nfs:ours", true, false),
            backup("nfs:other", false, false),
            backup("nfs:kept", true, true),
            backup("nfs:bad", true, false),
        ];
        w.faults.push_back(Fault { key: "remove-backup nfs:bad", code: "task-failed", happens: false });
    });
    // The fault is for the second removal: let the first pass it by.
    let writes = {
        fake.run("remove", |_, _| {});
        fake.get(|w| w.writes.clone())
    };
    let removed: Vec<&Write> = writes.iter().filter(|w| matches!(w, Write::RemoveBackup(_))).collect();
    assert_eq!(removed.len(), 2);
    assert_eq!(fake.get(|w| w.backups.len()), 3);
    assert!(fake.logged("not provably this service's") && fake.logged("nfs:other"));
    assert!(fake.logged("protected"));
}

#[test]
fn a_vm_that_does_not_stop_is_stopped_hard_and_then_needs_a_person_with_its_addresses_held() {
    let fake = deployed();
    fake.with(|w| w.undying = true);
    let mut stuck = String::new();
    for _ in 0..100 {
        if let Ok(Outcome::Stuck(why)) = fake.step() {
            stuck = why;
            break;
        }
    }
    assert!(stuck.contains("still runs"), "{stuck}");
    fake.get(|w| {
        assert_eq!(w.writes, [Write::Shutdown { timeout_s: 120, force: true }, Write::Stop]);
        assert_eq!(w.held.len(), 1);
        let beats = w.log.iter().filter(|l| l.starts_with("still running, waited ")).count();
        assert!((8..=11).contains(&beats), "{beats} heartbeats: {:?}", w.log);
        assert!(w.log.iter().any(|l| l == "still running, waited 15s / 120s, status: running"), "{:?}", w.log);
    });
}

#[test]
fn a_paused_vm_is_stopped_hard_at_once() {
    let fake = deployed();
    fake.with(|w| w.vm().status = "paused".into());
    assert_eq!(fake.finish("remove")[0], Write::Stop);
}

#[test]
fn a_service_that_was_never_cloned_gives_its_addresses_back() {
    let fake = Fake::new(json!({}));
    fake.run("set_ip", |_, _| {});
    switch(&fake, "terminate");
    let writes = fake.finish("remove");
    assert!(writes.is_empty());
    assert_eq!(fake.skipped("stopped"), "there is no VM");
    assert_eq!(fake.skipped("destroyed"), "there is no VM");
    assert!(fake.get(|w| w.held.is_empty()));
}

#[test]
fn a_foreign_vm_with_our_number_is_never_destroyed() {
    let fake = deployed();
    fake.with(|w| {
        w.vms.insert(
            100,
            Vm {
                node: "a".into(),
                status: "running".into(),
                lock: None,
                ours: false,
                config: BTreeMap::new(),
                changes: 3,
            },
        );
    });
    assert!(matches!(fake.step(), Ok(Outcome::Stuck(why)) if why.contains("mark")));
    fake.get(|w| {
        assert!(w.writes.is_empty());
        assert_eq!(w.held.len(), 1);
        assert!(w.vms.contains_key(&100));
    });
}

#[test]
fn a_copy_in_progress_is_let_finish() {
    let fake = deployed();
    fake.with(|w| w.vm().lock = Some("clone".into()));
    for _ in 0..5 {
        assert!(matches!(fake.step(), Ok(Outcome::Waiting(w)) if w.reason.contains("`clone`")));
    }
    fake.with(|w| w.vm().lock = None);
    fake.finish("remove");
}

#[test]
fn a_half_destroyed_vm_needs_root_and_says_so() {
    let fake = deployed();
    fake.with(|w| w.vm().lock = Some("destroyed".into()));
    assert!(matches!(fake.step(), Ok(Outcome::Stuck(why)) if why.contains("qm unlock 100")));
}

#[test]
fn a_failed_destroy_needs_a_person_and_keeps_the_addresses() {
    let fake = deployed();
    fake.with(|w| w.faults.push_back(Fault { key: "destroy", code: "task-failed", happens: false }));
    let mut stuck = false;
    for _ in 0..50 {
        if matches!(fake.step(), Ok(Outcome::Stuck(_))) {
            stuck = true;
            break;
        }
    }
    assert!(stuck);
    assert_eq!(fake.get(|w| w.held.len()), 1);
}

#[test]
fn nothing_is_freed_without_proof_of_absence() {
    let fake = deployed();
    fake.with(|w| w.absence_fails = Some(Failure::retry("absence-unproven", "node b does not answer.")));
    let mut stuck = String::new();
    for _ in 0..100 {
        if let Ok(Outcome::Stuck(why)) = fake.step() {
            stuck = why;
            break;
        }
    }
    assert!(stuck.contains("node b does not answer"), "{stuck}");
    assert_eq!(fake.get(|w| w.held.len()), 1);
    // Tried again by an admin, with the node back.
    fake.with(|w| {
        w.absence_fails = None;
        w.memo = None;
    });
    fake.finish("remove");
    assert!(fake.get(|w| w.held.is_empty()));
}

#[test]
fn a_vm_that_others_start_again_is_stopped_again_before_it_is_destroyed() {
    let fake = deployed();
    fake.run("dns_removed", |_, _| {});
    fake.with(|w| w.vm().status = "running".into());
    let writes = fake.finish("remove");
    assert_eq!(writes[1..], [Write::Stop, Write::Destroy]);
}

#[test]
fn dns_can_not_fail_a_termination() {
    let fake = deployed();
    fake.with(|w| w.naming_fails = true);
    fake.finish("remove");
    assert!(fake.skipped("dns_removed").contains("no zone answers"));
}

#[test]
fn suspend_stops_and_keeps_off_and_unsuspend_undoes_both() {
    let fake = deployed();
    switch(&fake, "suspend");
    fake.with(|w| drop(w.service.insert("suspended".into(), "true".into())));
    fake.finish("suspended");
    assert_eq!((fake.config("onboot"), fake.get(|w| w.vms[&100].status.clone())), ("0".into(), "stopped".into()));
    switch(&fake, "unsuspend");
    fake.with(|w| drop(w.service.insert("suspended".into(), "false".into())));
    fake.finish("resumed");
    assert_eq!((fake.config("onboot"), fake.get(|w| w.vms[&100].status.clone())), ("1".into(), "running".into()));
}

fn findings(fake: &Fake, settings: serde_json::Value) -> Vec<(String, bool)> {
    let mut all = json!({"image": "Debian 12"});
    for (k, v) in settings.as_object().unwrap() {
        all[k] = v.clone();
    }
    check(fake, &all.to_string())
        .into_iter()
        .map(|f| {
            assert!(!f.message.is_empty() && !f.remedy.is_empty());
            (f.field, f.fatal)
        })
        .collect()
}

#[test]
fn a_plan_that_can_not_work_is_refused_at_its_field() {
    let fake = Fake::new(json!({}));
    let fatal = |settings: serde_json::Value| -> Vec<String> {
        findings(&fake, settings).into_iter().filter(|(_, fatal)| *fatal).map(|(field, _)| field).collect()
    };
    assert_eq!(fatal(json!({})), Vec::<String>::new());
    assert_eq!(fatal(json!({"node": "b"})), ["/clone"]);
    assert_eq!(fatal(json!({"node": "b", "clone": "full"})), Vec::<String>::new());
    assert_eq!(fatal(json!({"node": "b", "clone": "full", "migration": false})), ["/migration"]);
    assert_eq!(fatal(json!({"node": "z", "clone": "full"})), ["/node"]);
    assert_eq!(fatal(json!({"image": "Windows"})), ["/image"]);
    assert_eq!(fatal(json!({"image": ""})), ["/image"]);
    assert_eq!(fatal(json!({"system-disk": 2})), ["/system-disk"]);
    assert_eq!(fatal(json!({"ram": 0.25})), ["/ram"]);
    assert_eq!(fatal(json!({"system-disk-storage": "nope", "clone": "full"})), ["/system-disk-storage"]);
    assert_eq!(fatal(json!({"iso-storage": "local-lvm"})), ["/iso-storage"]);
    assert_eq!(fatal(json!({"additional-disk": 1, "additional-disk-storage": "nope"})), ["/additional-disk-storage"]);
    assert_eq!(fatal(json!({"vlan": 4095})), ["/vlan"]);
    assert_eq!(fatal(json!({"first-vm-id": 99})), ["/first-vm-id"]);
    assert_eq!(fatal(json!({"vm-name-rule": "--"})), ["/vm-name-rule"]);
    assert_eq!(fatal(json!({"ram": "much"})), [""]);
    fake.with(|w| drop(w.templates[0].2.remove("ide2")));
    assert_eq!(fatal(json!({})), ["/image"]);
}

#[test]
fn what_works_with_a_remark_is_not_refused() {
    let fake = Fake::new(json!({}));
    fake.with(|w| {
        w.cluster_firewall = None;
        w.storages.push(storage("x", "a", "dir", false));
    });
    for (settings, field) in [
        (json!({}), "/firewall-enable"),
        (json!({}), "/clone"),
        (json!({"dhcp-ipv6": true}), "/anti-spoofing"),
        (json!({"ipv4-addresses": 0}), "/ipv4-addresses"),
        (json!({"system-disk-storage": "x"}), "/system-disk-storage"),
    ] {
        assert!(findings(&fake, settings.clone()).contains(&(field.to_owned(), false)), "{field} {settings}");
    }
}
