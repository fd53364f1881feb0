//! The deploy against the fake: every state, every interruption, every kind of other hand.

use std::collections::BTreeMap;

use serde_json::json;

use crate::fake::{Fake, Fault, Vm, lease, node, storage, template};
use crate::host::*;
use crate::{deploy, run, terminate};

fn keys(writes: &[Write]) -> Vec<String> {
    writes.iter().map(Write::key).collect()
}

fn full() -> serde_json::Value {
    json!({"clone": "full", "node": "b", "system-disk": 10, "additional-disk": 5, "ipv4-addresses": 2, "ipv6-addresses": 1,
        "cpu-cores": 2, "ram": 2, "system-disk-read-bandwidth": 100, "additional-disk-write-iops": 500, "network-bandwidth": 12})
}

#[test]
fn the_manifests_states_are_the_codes_states() {
    let manifest: serde_json::Value = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    let listed: Vec<(String, Vec<String>)> = manifest["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|op| {
            let states =
                op["states"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect();
            (op["kind"].as_str().unwrap().to_owned(), states)
        })
        .collect();
    let coded: Vec<(String, Vec<String>)> =
        run::KINDS.iter().map(|(k, s)| ((*k).to_owned(), s.iter().map(|s| (*s).to_owned()).collect())).collect();
    assert_eq!(listed, coded);
    assert_eq!(deploy::STATES.len(), 16);
    assert_eq!(terminate::STATES.last(), Some(&"remove"));
}

#[test]
fn a_plan_with_defaults_takes_five_writes_and_is_protected_against_spoofing() {
    let fake = Fake::new(json!({}));
    let writes = fake.finish("ready");
    assert_eq!(keys(&writes), ["clone 100", "configure", "firewall-set ipfilter-net0", "firewall-options", "start"]);
    fake.get(|w| {
        assert_eq!(w.firewall_set, ["192.0.2.10"]);
        assert_eq!(w.firewall_options["ipfilter"], "1");
        assert_eq!(w.firewall_options["enable"], "1");
        assert_eq!(w.declared, Some(("17-5546.example.com.".into(), vec!["192.0.2.10".into()])));
        let states: Vec<&str> = w.reached.iter().map(|(s, _)| s.as_str()).collect();
        assert_eq!(states, deploy::STATES[1..]);
    });
    assert!(fake.config("net0").contains("bridge=vmbr1,tag=42,firewall=1"), "{}", fake.config("net0"));
    assert_eq!(fake.config("ipconfig0"), "ip=192.0.2.10/24,gw=192.0.2.1");
    assert_eq!(fake.config("scsi0"), "local-lvm:vm-100-disk-0,discard=on,size=2252M");
    assert_eq!(fake.skipped("set_system_disk_bandwidth"), "the plan sets no limits");
    assert_eq!(fake.skipped("set_created_additional_disk"), "the plan has no additional disk");
    assert_eq!(fake.skipped("set_system_disk_size"), "the plan takes the template's size");
    assert_eq!(fake.skipped("migrated"), "no change");
}

#[test]
fn states_that_one_write_satisfied_name_the_same_effect() {
    let fake = Fake::new(full());
    fake.finish("ready");
    let How::ByEffect(configure) = fake.how("set_cpu_ram") else { panic!() };
    for state in [
        "set_system_disk_bandwidth",
        "set_created_additional_disk",
        "set_additional_disk_size",
        "set_additional_disk_bandwidth",
        "set_network",
        "set_cloudinit",
    ] {
        assert!(matches!(fake.how(state), How::ByEffect(id) if id == configure), "{state}: {:?}", fake.how(state));
    }
    for state in ["clone", "migrated", "set_system_disk_size", "set_firewall", "starting"] {
        assert!(matches!(fake.how(state), How::ByEffect(id) if id != configure), "{state}");
    }
}

#[test]
fn a_deploy_with_everything_takes_seven_effects_and_sets_everything() {
    let fake = Fake::new(full());
    let writes = fake.finish("ready");
    // The set is two calls for one address: eight writes for a deploy with one IPv4.
    assert_eq!(
        keys(&writes),
        [
            "clone 100",
            "migrate b",
            "configure",
            "resize scsi0",
            "firewall-set ipfilter-net0",
            "firewall-options",
            "start"
        ]
    );
    assert_eq!(fake.get(|w| w.vms[&100].node.clone()), "b");
    assert_eq!(fake.config("scsi0"), "local-lvm:vm-100-disk-0,discard=on,size=10240M,mbps_rd=100");
    assert_eq!(fake.config("scsi1"), "local-lvm:vm-100-disk-1,iops_wr=500,size=5G");
    assert_eq!(fake.config("ipconfig0"), "ip=192.0.2.10/24,gw=192.0.2.1,ip6=2001:db8::10/64,gw6=2001:db8::1");
    assert_eq!((fake.config("cores"), fake.config("memory")), ("2".into(), "2048".into()));
    assert!(fake.config("net0").contains("rate=12"));
    assert_eq!(fake.config("ciupgrade"), "0");
    assert_eq!(fake.config("onboot"), "1");
    assert_eq!(fake.get(|w| w.firewall_set.len()), 3);
}

#[test]
fn a_deploy_with_one_ipv4_takes_eight_calls_at_most() {
    let mut settings = full();
    settings["ipv4-addresses"] = 1.into();
    settings["ipv6-addresses"] = 0.into();
    let fake = Fake::new(settings);
    let calls: usize = fake
        .finish("ready")
        .iter()
        .map(|write| match write {
            Write::FirewallSet { addresses, .. } => 1 + addresses.len(),
            _ => 1,
        })
        .sum();
    assert_eq!(calls, 8);
}

#[test]
fn a_plan_change_of_name_rule_or_user_in_between_does_not_rename_the_vm() {
    let fake = Fake::new(json!({"os-user": "admin"}));
    fake.run("set_ip", |_, _| {});
    let mac = fake.get(|w| w.facts["mac"].clone());
    fake.with(|w| {
        w.settings["vm-name-rule"] = "other-{random_digit_4}".into();
        w.settings["os-user"] = "root".into();
    });
    fake.finish("ready");
    assert_eq!((fake.config("name"), fake.config("ciuser")), ("17-5546".into(), "admin".into()));
    assert!(fake.config("net0").contains(&mac));
}

#[test]
fn a_lost_answer_before_any_step_changes_nothing() {
    let fake = Fake::new(full());
    fake.run("ready", |_, f| f.lost_step());
    assert_eq!(fake.get(|w| (w.writes.len(), w.volumes)), (7, 1));
}

#[test]
fn a_memo_lost_before_any_one_step_makes_no_second_disk_vm_or_lease() {
    let steps = Fake::new(full()).run("ready", |_, _| {});
    assert!(steps > 8);
    for lost in 0..steps {
        let fake = Fake::new(full());
        fake.run("ready", |n, f| {
            if n == lost {
                f.with(|w| w.memo = None);
            }
        });
        fake.get(|w| {
            assert_eq!((w.vms.len(), w.volumes, w.held.len()), (1, 1, 3), "memo lost before step {lost}");
            assert!(w.writes.iter().filter(|x| matches!(x, Write::Clone { .. })).count() == 1, "{lost}");
        });
    }
}

#[test]
fn a_vm_moved_by_hand_between_any_two_steps_is_followed() {
    let steps = Fake::new(full()).run("ready", |_, _| {});
    for moved in 0..steps {
        let fake = Fake::new(full());
        fake.with(|w| {
            w.nodes.push(node("c", 1000));
            w.storages.push(storage("local-lvm", "c", "lvmthin", false));
        });
        fake.run("ready", |n, f| {
            if n == moved {
                f.with(|w| w.vms.values_mut().for_each(|vm| vm.node = "c".into()));
            }
        });
        assert!(!fake.logged("not-applied"));
    }
}

#[test]
fn ipv6_only_works() {
    let fake = Fake::new(json!({"ipv4-addresses": 0, "ipv6-addresses": 1}));
    fake.finish("ready");
    assert_eq!(fake.config("ipconfig0"), "ip6=2001:db8::10/64,gw6=2001:db8::1");
    assert_eq!(fake.config("nameserver"), "2620:fe::fe");
    assert_eq!(fake.get(|w| w.firewall_set.clone()), ["2001:db8::10"]);
}

#[test]
fn a_dhcp_family_gets_no_lease_and_keeps_the_filter_off_with_a_line_in_the_log() {
    let fake = Fake::new(json!({"dhcp-ipv4": true, "ipv4-addresses": 1, "ipv6-addresses": 1}));
    let writes = fake.finish("ready");
    assert_eq!(fake.get(|w| w.held.len()), 1);
    assert!(fake.config("ipconfig0").starts_with("ip=dhcp,ip6="));
    assert!(!writes.iter().any(|w| matches!(w, Write::FirewallSet { .. })));
    assert_eq!(fake.get(|w| w.firewall_options["ipfilter"].clone()), "0");
    assert!(fake.logged("anti-spoofing stays off"));
    assert!(fake.config("net0").contains("firewall=1"));
}

#[test]
fn without_any_address_there_is_no_dns_and_no_lease() {
    let fake = Fake::new(json!({"ipv4-addresses": 0}));
    fake.finish("ready");
    assert_eq!(fake.skipped("set_dns"), "there are no leased addresses");
    assert_eq!(fake.config("ipconfig0"), "");
}

#[test]
fn too_few_addresses_wait_for_addresses() {
    let fake = Fake::new(json!({"ipv4-addresses": 3}));
    let Ok(Outcome::Waiting(wait)) = fake.step() else { panic!() };
    assert_eq!(wait.topic.as_deref(), Some("addresses"));
    assert!(wait.reason.contains("pool `main`"));
    fake.with(|w| w.pool.push(lease("192.0.2.12", 4, 2)));
    fake.finish("ready");
}

#[test]
fn a_suspended_service_is_set_up_and_not_started() {
    let fake = Fake::new(json!({}));
    fake.with(|w| drop(w.service.insert("suspended".into(), "true".into())));
    let writes = fake.finish("ready");
    assert!(!writes.contains(&Write::Start));
    assert!(fake.skipped("starting").contains("suspended"));
    assert_ne!(fake.config("onboot"), "1");
}

#[test]
fn a_smaller_plan_than_the_template_is_no_resize() {
    let fake = Fake::new(json!({"system-disk": 1}));
    let writes = fake.finish("ready");
    assert!(!keys(&writes).iter().any(|k| k.starts_with("resize")));
    assert_eq!(fake.skipped("set_system_disk_size"), "shrink not allowed by Proxmox");
    assert!(fake.logged("system_disk_shrink_rejected"));
}

#[test]
fn somebody_else_writing_in_the_same_moment_leads_to_another_look() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.faults.push_back(Fault { key: "configure", code: "digest", happens: false }));
    let writes = fake.finish("ready");
    assert_eq!(keys(&writes).iter().filter(|k| *k == "configure").count(), 2);
}

#[test]
fn a_number_taken_by_somebody_else_is_given_up_and_the_other_vm_untouched() {
    let fake = Fake::new(json!({}));
    let mut taken = false;
    fake.run("ready", |_, f| {
        if !taken && f.get(|w| w.state == "set_ip") {
            taken = true;
            f.with(|w| {
                w.vms.insert(
                    100,
                    Vm {
                        node: "a".into(),
                        status: "running".into(),
                        lock: None,
                        ours: false,
                        config: BTreeMap::new(),
                        changes: 7,
                    },
                );
            });
        }
    });
    fake.get(|w| {
        assert_eq!(w.number, Some(101));
        assert!(w.burnt.contains(&100));
        assert_eq!(w.vms[&100].changes, 7);
    });
}

#[test]
fn a_clone_that_finds_its_number_taken_goes_to_the_next() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.faults.push_back(Fault { key: "clone", code: "number-taken", happens: false }));
    let writes = fake.finish("ready");
    assert_eq!(keys(&writes)[..2], ["clone 100", "clone 101"]);
}

#[test]
fn a_failed_write_is_an_error_first_and_tried_again_after() {
    for key in ["clone", "configure", "firewall-set", "firewall-options", "start"] {
        let fake = Fake::new(json!({}));
        fake.with(|w| w.faults.push_back(Fault { key, code: "task-failed", happens: false }));
        let mut errors = 0;
        for _ in 0..100 {
            if fake.get(|w| w.state == "ready") {
                break;
            }
            errors += u32::from(fake.step().is_err());
        }
        assert_eq!((fake.get(|w| w.state.clone()), errors), ("ready".into(), 1), "{key}");
    }
}

#[test]
fn a_write_that_failed_but_happened_is_no_error() {
    for key in ["clone", "migrate", "configure", "resize", "start"] {
        let fake = Fake::new(full());
        fake.with(|w| w.faults.push_back(Fault { key, code: "task-failed", happens: true }));
        fake.run("ready", |_, _| {});
        // Whether the password of a failed call arrived can't be read: it is set once more, and nothing else.
        let again = usize::from(key == "configure");
        assert_eq!(fake.get(|w| (w.writes.len(), w.volumes)), (7 + again, 1), "{key}");
    }
}

#[test]
fn success_without_effect_is_noticed() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.faults.push_back(Fault { key: "configure", code: "", happens: false }));
    let mut codes = Vec::new();
    for _ in 0..100 {
        if fake.get(|w| w.state == "ready") {
            break;
        }
        if let Err(failure) = fake.step() {
            assert!(failure.message.contains("net0"), "{}", failure.message);
            codes.push(failure.code);
        }
    }
    assert_eq!(codes, ["not-applied"]);
    assert_eq!(fake.get(|w| w.state.clone()), "ready");
}

#[test]
fn busy_is_a_wait_and_no_error() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.faults.push_back(Fault { key: "configure", code: "locked", happens: false }));
    let mut waits = 0;
    fake.run("ready", |_, _| {});
    fake.get(|w| waits += w.attempt);
    assert_eq!(waits, 0);
}

#[test]
fn a_lock_on_the_vm_is_waited_for() {
    let fake = Fake::new(json!({}));
    fake.run("migrated", |_, _| {});
    fake.with(|w| w.vm().lock = Some("backup".into()));
    let Ok(Outcome::Waiting(wait)) = fake.step() else { panic!() };
    assert!(wait.reason.contains("`backup`"));
    fake.with(|w| w.vm().lock = None);
    fake.finish("ready");
}

#[test]
fn a_vm_that_lost_its_mark_or_is_gone_is_stuck_and_untouched() {
    let fake = Fake::new(json!({}));
    fake.run("migrated", |_, _| {});
    let writes = fake.get(|w| w.writes.len());
    fake.with(|w| w.vm().ours = false);
    assert!(matches!(fake.step(), Ok(Outcome::Stuck(why)) if why.contains("mark")));
    fake.with(|w| w.vms.clear());
    assert!(matches!(fake.step(), Ok(Outcome::Stuck(why)) if why.contains("gone")));
    assert_eq!(fake.get(|w| w.writes.len()), writes);
}

#[test]
fn a_vm_out_of_sight_for_a_moment_is_not_given_up() {
    let fake = Fake::new(json!({}));
    fake.run("migrated", |_, _| {});
    let vms = fake.get(|w| w.vms.clone());
    fake.with(|w| {
        w.vms.clear();
        w.absence_fails = Some(Failure::retry("absence-unproven", "node a does not answer"));
    });
    assert_eq!(fake.step().unwrap_err().code, "absence-unproven");
    fake.with(|w| {
        w.vms = vms;
        w.absence_fails = None;
    });
    fake.finish("ready");
}

#[test]
fn an_allocation_whose_reply_was_lost_is_attached_and_not_made_twice() {
    let fake = Fake::new(full());
    fake.run("migrated", |_, _| {});
    fake.with(|w| {
        w.volumes = 1;
        w.vm().config.insert("unused0".into(), "local-lvm:vm-100-disk-1".into());
        w.vm().config.insert("unused1".into(), "other:vm-100-disk-7".into());
    });
    fake.with(|w| w.storages.push(storage("other", "b", "dir", false)));
    fake.run("set_created_additional_disk", |_, _| {});
    assert_eq!(fake.get(|w| w.volumes), 1);
    assert!(fake.config("scsi1").starts_with("local-lvm:vm-100-disk-1"));
    assert!(!fake.config("unused1").is_empty());
}

#[test]
fn dns_never_blocks() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.naming_fails = true);
    fake.finish("ready");
    assert!(fake.skipped("set_dns").contains("no zone answers"));

    let slow = Fake::new(json!({}));
    slow.with(|w| w.tally = Tally { waiting: 2, written: 0, failed: 1 });
    slow.run("set_dns", |_, _| {});
    let spent = slow.get(|w| w.now) - 1_000_000;
    assert!((deploy::DNS_WAIT_MS..deploy::DNS_WAIT_MS + 3_000).contains(&spent), "{spent}");
    assert!(slow.logged("0 written, 1 failed, 2 waiting"));
    slow.finish("ready");
}

#[test]
fn without_a_matching_zone_dns_is_skipped_with_the_reason() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.tally = Tally { waiting: 0, written: 0, failed: 0 });
    fake.finish("ready");
    assert_eq!(fake.skipped("set_dns"), "no zone matches");
}

#[test]
fn a_host_that_burns_a_number_only_when_proxmox_refuses_it_comes_to_the_next_as_well() {
    let fake = Fake::new(json!({}));
    fake.run("set_ip", |_, _| {});
    fake.with(|w| {
        w.burns_late = true;
        w.vms.insert(
            100,
            Vm {
                node: "a".into(),
                status: "running".into(),
                lock: None,
                ours: false,
                config: BTreeMap::new(),
                changes: 7,
            },
        );
    });
    fake.finish("ready");
    assert_eq!(fake.get(|w| (w.number, w.vms[&100].changes)), (Some(101), 7));
}

#[test]
fn a_plan_without_domain_has_no_dns() {
    let fake = Fake::new(json!({"main-domain": ""}));
    fake.finish("ready");
    assert_eq!(fake.skipped("set_dns"), "the plan has no main domain");
}

#[test]
fn a_target_that_went_offline_leaves_the_vm_where_it_is() {
    let fake = Fake::new(full());
    fake.run("set_dns", |_, _| {});
    fake.with(|w| w.nodes[1].online = false);
    fake.finish("ready");
    assert!(fake.skipped("migrated").contains("b is not online"));
    assert_eq!(fake.get(|w| w.vms[&100].node.clone()), "a");
}

#[test]
fn migration_maps_the_storage_that_the_plan_names() {
    let fake = Fake::new(json!({"clone": "full", "node": "b", "system-disk-storage": "fast"}));
    fake.with(|w| w.storages.push(storage("fast", "b", "zfspool", false)));
    let writes = fake.finish("ready");
    let expected =
        Write::Migrate { target: "b".into(), options: vec![("targetstorage".into(), "local-lvm:fast".into())] };
    assert!(writes.contains(&expected), "{writes:?}");
    assert!(fake.config("scsi0").starts_with("fast:"));
}

#[test]
fn without_migration_it_is_skipped_and_so_it_is_for_a_linked_clone_on_local_storage() {
    let fake = Fake::new(json!({"clone": "full", "node": "b", "migration": false}));
    fake.finish("ready");
    assert_eq!(fake.skipped("migrated"), "migration is off in the plan");
    let linked = Fake::new(json!({"node": "b"}));
    linked.finish("ready");
    assert!(linked.skipped("migrated").contains("no suitable node"), "{}", linked.skipped("migrated"));
}

#[test]
fn shared_storage_needs_no_migration() {
    let fake = Fake::new(json!({"node": "b"}));
    fake.with(|w| {
        w.templates = vec![template(9000, "a", "nfs.1", true)];
        w.storages.extend([storage("nfs.1", "a", "nfs", true), storage("nfs.1", "b", "nfs", true)]);
    });
    let writes = fake.finish("ready");
    assert!(
        matches!(&writes[0], Write::Clone { options, full: false, .. } if options == &[("target".to_owned(), "b".to_owned())])
    );
    assert_eq!(fake.skipped("migrated"), "no change");
}

#[test]
fn a_new_disk_on_file_storage_takes_the_system_disks_format() {
    let fake = Fake::new(json!({"additional-disk": 3}));
    fake.with(|w| {
        let mut t = template(9000, "a", "dir.x", false);
        t.2.insert("scsi0".into(), "dir.x:9000/base-9000-disk-0.raw,size=2G".into());
        w.templates = vec![t];
        w.storages.push(storage("dir.x", "a", "dir", false));
    });
    let writes = fake.finish("ready");
    let Some(Write::Configure { set, .. }) = writes.iter().find(|w| matches!(w, Write::Configure { .. })) else {
        panic!()
    };
    assert!(set.contains(&("scsi1".into(), "dir.x:3,format=raw".into())), "{set:?}");
}

#[test]
fn pve_before_8_1_is_not_sent_what_it_does_not_know() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.version = "8.0".into());
    fake.finish("ready");
    assert_eq!(fake.config("ciupgrade"), "");
}

#[test]
fn a_template_without_cloud_init_drive_or_an_unknown_image_is_a_readable_error() {
    let fake = Fake::new(json!({}));
    fake.run("set_ip", |_, _| {});
    fake.with(|w| drop(w.templates[0].2.remove("ide2")));
    assert_eq!(fake.step().unwrap_err().code, "no-cloud-init-drive");
    fake.with(|w| w.templates.clear());
    assert_eq!(fake.step().unwrap_err().code, "image-missing");
}

#[test]
fn an_order_may_name_the_image_by_a_templates_number() {
    let fake = Fake::new(json!({"image": "9000"}));
    fake.finish("ready");
}

#[test]
fn no_room_is_waited_for_unless_the_vm_can_stay_with_its_template() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.storages.iter_mut().for_each(|s| s.active = false));
    fake.run("set_ip", |_, _| {});
    assert!(matches!(fake.step(), Ok(Outcome::Waiting(w)) if w.topic.as_deref() == Some("room")));
    fake.with(|w| {
        w.storages.iter_mut().for_each(|s| s.active = true);
        w.nodes.iter_mut().for_each(|n| n.memory_used_mib = n.memory_total_mib);
        w.room_fails = true;
    });
    fake.finish("ready");
    assert!(fake.logged("no suitable node"));
}

#[test]
fn a_vm_that_does_not_come_up_waits_visibly_and_is_looked_at_again() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.lifeless = true);
    fake.run("starting", |_, _| {});
    let mut reason = String::new();
    for _ in 0..60 {
        if let Ok(Outcome::Waiting(wait)) = fake.step() {
            reason = wait.reason;
        }
    }
    assert!(reason.contains("does not run"), "{reason}");
    fake.with(|w| w.vm().status = "running".into());
    fake.finish("ready");
    assert_eq!(fake.get(|w| w.writes.iter().filter(|x| **x == Write::Start).count()), 1);
}

#[test]
fn a_firewall_that_is_off_in_the_cluster_is_said() {
    let fake = Fake::new(json!({}));
    fake.with(|w| w.cluster_firewall = None);
    fake.finish("ready");
    assert!(fake.logged("cluster's firewall is off"));
}

#[test]
fn ssh_keys_of_the_order_replace_the_templates() {
    let fake = Fake::new(json!({}));
    fake.with(|w| {
        w.templates[0].2.insert("sshkeys".into(), "evil".into());
        w.service.insert("ssh-keys".into(), "ssh-ed25519 AAAA me@host".into());
    });
    fake.finish("ready");
    assert_eq!(fake.config("sshkeys"), "ssh-ed25519%20AAAA%20me%40host");
    let none = Fake::new(json!({}));
    none.with(|w| drop(w.templates[0].2.insert("sshkeys".into(), "evil".into())));
    none.finish("ready");
    assert_eq!(none.config("sshkeys"), "");
}
