//! What a zone should hold and what it holds: somebody has been at the DNS server by hand.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use serde_json::json;
use wharf_e2e::{
    journey::{Built, House},
    whmcs::params,
};

fn zone(house: &House, arguments: &[&str]) -> Output {
    std::process::Command::new(Built::in_target().unwrap().wharf)
        .arg("zone")
        .args(arguments)
        .args(["--url", &house.client.url, "--token", &house.client.token])
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_somebody_removed_are_in_the_plan_and_come_back_when_it_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::build(folder.path(), Built::in_target().unwrap()).await.unwrap();
    for n in 1..4 {
        house.whmcs.post("create", &params(n, "linked", "", json!({}))).await.unwrap();
        house.until(&n.to_string(), "active", Duration::from_secs(120)).await.unwrap();
    }
    let begun = Instant::now();
    let settled = loop {
        let plan = zone(&house, &["plan", "forward"]);
        if plan.status.success() || begun.elapsed() > Duration::from_secs(30) {
            break plan;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(settled.status.success(), "{}", said(&settled));
    assert!(said(&settled).contains("3 of 3 records are there, by dns-powerdns"), "{}", said(&settled));

    let ours = house.dns.dig("42-1.example.com", "A").await.unwrap().remove(0);
    house.dns.set("example.com.", "42-2.example.com.", "A", &[]).await.unwrap();
    house.dns.set("example.com.", "42-1.example.com.", "A", &[&ours, "198.51.100.7"]).await.unwrap();
    let plan = zone(&house, &["plan", "forward"]);
    assert_eq!(plan.status.code(), Some(1), "{}", said(&plan));
    let text = said(&plan);
    let missing = text.lines().find(|l| l.starts_with("missing")).unwrap();
    assert!(missing.contains("42-2.example.com. A 192.0.2.") && missing.contains("(shop:2)"), "{text}");
    assert!(text.lines().any(|l| l.starts_with("beside ours  42-1.example.com. A 198.51.100.7")), "{text}");
    assert!(text.contains("2 of 3 records are there"), "{text}");

    let listed = said(&zone(&house, &["records", "forward"]));
    assert!(
        listed.lines().any(|l| l.contains("42-1.example.com.") && l.contains("192.0.2.") && l.ends_with("# shop:1")),
        "{listed}"
    );
    assert!(listed.lines().any(|l| l.contains("198.51.100.7") && !l.contains('#')), "{listed}");

    let applied = zone(&house, &["plan", "forward", "--apply"]);
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(said(&applied).contains("1 records are looked at again"), "{}", said(&applied));
    let begun = Instant::now();
    while !zone(&house, &["plan", "forward"]).status.success() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it did not come back");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(house.dns.dig("42-2.example.com", "A").await.unwrap().len(), 1);
    let mut both = house.dns.dig("42-1.example.com", "A").await.unwrap();
    both.sort();
    assert_eq!(both.len(), 2, "what is beside ours stays: {both:?}");

    let nowhere = zone(&house, &["plan", "no-such-zone"]);
    assert!(
        !nowhere.status.success() && said(&nowhere).contains("there is no zone `no-such-zone`"),
        "{}",
        said(&nowhere)
    );
}
