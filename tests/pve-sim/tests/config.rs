//! Configuration, disks, resize.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
mod common;
use common::*;
use pve_sim::Control;

const CONFIG: &str = "/nodes/pve1/qemu/100/config";

#[tokio::test(start_paused = true)]
async fn a_new_disk_is_allocated_every_time_and_the_old_one_becomes_unused() {
    let s = cloned().await;
    ok(&s, "PUT", CONFIG, &[("scsi1", "local-lvm:10,mbps_rd=50")]).await;
    assert_eq!(s.vm(100).unwrap().config["scsi1"], "local-lvm:vm-100-disk-1,mbps_rd=50,size=10G");
    ok(&s, "PUT", CONFIG, &[("scsi1", "local-lvm:10")]).await;
    let vm = s.vm(100).unwrap();
    assert_eq!(vm.config["scsi1"], "local-lvm:vm-100-disk-2,size=10G");
    assert_eq!(vm.config["unused0"], "local-lvm:vm-100-disk-1");
    ok(&s, "PUT", CONFIG, &[("delete", "unused0")]).await;
    assert!(!s.volumes_of(100).contains(&"local-lvm:vm-100-disk-1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_stale_digest_is_refused_and_nothing_changes() {
    let s = cloned().await;
    let digest = ok(&s, "GET", CONFIG, &[]).await["digest"].as_str().unwrap().to_owned();
    ok(&s, "PUT", CONFIG, &[("cores", "2"), ("digest", &digest)]).await;
    let a = call(&s, "PUT", CONFIG, &[("cores", "4"), ("digest", &digest)]).await;
    assert_eq!((a.status, a.reason.as_str()), (500, "checksum mismatch (file change by other user?)"));
    assert_eq!(s.vm(100).unwrap().config["cores"], "2");
}

#[tokio::test(start_paused = true)]
async fn shrinking_fails_in_the_task_and_the_same_size_does_nothing() {
    let s = cloned().await;
    let path = "/nodes/pve1/qemu/100/resize";
    assert_eq!(task(&s, "PUT", path, &[("disk", "scsi0"), ("size", "1G")]).await, "shrinking disks is not supported");
    assert_eq!(task(&s, "PUT", path, &[("disk", "scsi0"), ("size", "3G")]).await, "OK");
    assert_eq!(task(&s, "PUT", path, &[("disk", "scsi0"), ("size", "20G")]).await, "OK");
    assert_eq!(task(&s, "PUT", path, &[("disk", "scsi0"), ("size", "+1G")]).await, "OK");
    assert!(s.vm(100).unwrap().config["scsi0"].ends_with("size=21G"));
    assert_eq!(task(&s, "PUT", path, &[("disk", "scsi9"), ("size", "5G")]).await, "disk 'scsi9' does not exist");
}

#[tokio::test(start_paused = true)]
async fn unknown_and_empty_keys_are_named_and_the_empty_one_is_called_root() {
    let s = cloned().await;
    let a = call(&s, "PUT", CONFIG, &[("colour", "red"), ("", "x")]).await;
    assert_eq!(a.status, 400);
    let text = "property is not defined in schema and the schema does not allow additional properties";
    assert_eq!(a.body["errors"]["colour"], text);
    assert_eq!(a.body["errors"]["_root"], text);
}

#[tokio::test(start_paused = true)]
async fn a_password_is_masked_when_read_and_a_missing_mac_is_made_anew_each_time() {
    let s = cloned().await;
    ok(&s, "PUT", CONFIG, &[("cipassword", "hunter2"), ("net0", "virtio,bridge=vmbr0")]).await;
    let first = ok(&s, "GET", CONFIG, &[]).await;
    assert_eq!(first["cipassword"], "**********");
    ok(&s, "PUT", CONFIG, &[("net0", "virtio,bridge=vmbr0")]).await;
    assert_ne!(first["net0"], ok(&s, "GET", CONFIG, &[]).await["net0"]);
}

#[tokio::test(start_paused = true)]
async fn cores_of_a_running_vm_wait_for_its_next_start_but_throttles_do_not() {
    let s = cloned().await;
    assert_eq!(task(&s, "POST", "/nodes/pve1/qemu/100/status/start", &[]).await, "OK");
    let disk = s.vm(100).unwrap().config["scsi0"].clone();
    ok(&s, "PUT", CONFIG, &[("cores", "8"), ("scsi0", &format!("{disk},iops_rd=100"))]).await;
    let vm = s.vm(100).unwrap();
    assert_eq!((vm.config["cores"].as_str(), vm.pending["cores"].as_deref()), ("1", Some("8")));
    assert!(vm.config["scsi0"].contains("iops_rd=100"));
    assert_eq!(ok(&s, "GET", CONFIG, &[]).await["cores"], 8);
    assert_eq!(ok(&s, "GET", CONFIG, &[("current", "1")]).await["cores"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_held_configuration_lock_is_waited_for_ten_seconds() {
    let s = cloned().await;
    s.control(Control::HoldConfigLock { vmid: 100, ms: 60_000 }).unwrap();
    tokio::task::yield_now().await;
    let begin = s.now_ms();
    let a = call(&s, "PUT", CONFIG, &[("cores", "2")]).await;
    assert_eq!(a.reason, "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout");
    assert!((10_000..11_000).contains(&(s.now_ms() - begin)));
}

#[tokio::test(start_paused = true)]
async fn a_full_storage_refuses_a_disk_and_the_slot_stays_as_it_was() {
    let s = cloned().await;
    s.control(Control::StorageFull { storage: "local-lvm".into(), full: true }).unwrap();
    let a = call(&s, "PUT", CONFIG, &[("scsi1", "local-lvm:10")]).await;
    assert_eq!(a.status, 500);
    assert!(!s.vm(100).unwrap().config.contains_key("scsi1"));
}
