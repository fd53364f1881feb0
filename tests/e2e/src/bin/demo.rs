//! The demo: three VMs ordered by signed, WHMCS-shaped hooks; live log; DNS answers; one terminated.

#![allow(clippy::indexing_slicing, reason = "JSON values answer null for what they lack, and this is test code")]

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use wharf_e2e::{
    journey::{Built, House, Setup, reverse_name},
    powerdns::Dns,
    whmcs::params,
};

/// Shows Wharf on a simulated cluster with a PowerDNS: the real one if it is there, else ours.
#[derive(Parser)]
struct Arguments {
    /// End after the journey; exit code 0 only if all of it was seen.
    #[arg(long)]
    once: bool,
    /// The `wharf` binary.
    #[arg(long)]
    wharf: PathBuf,
    /// The `pve-sim` binary.
    #[arg(long)]
    pve_sim: PathBuf,
    /// Folder of built components.
    #[arg(long)]
    plugins: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    let built = Built { wharf: arguments.wharf, pve_sim: arguments.pve_sim, plugins: arguments.plugins };
    println!("starting a simulated cluster (3 nodes), PowerDNS, a webhook receiver and the host …");
    let setup = Setup { dns: Dns::Any, ..Setup::default() };
    let house = House::with(dir.path(), built, setup).await?;
    println!("host on {}, {} answers on 127.0.0.1:{}\n", house.client.url, house.dns.what(), house.dns.dns_port);

    let orders = [
        (
            "5001",
            "linked",
            "web.example.com",
            json!({"CPU Cores": "2|2 cores", "RAM": "2|2 GB", "System Disk": "10|10 GB"}),
        ),
        ("5002", "migrated", "db.example.com", json!({"CPU|Cores": "4|Four", "Additional Disk": "20|20 GB"})),
        ("5003", "dual-stack", "mail.example.com", json!({"Network Bandwidth": "100|100 MB/s"})),
    ];
    for (service, plan, domain, options) in &orders {
        let begun = std::time::Instant::now();
        let (status, body) =
            house.whmcs.post("create", &params(service.parse()?, plan, domain, options.clone())).await?;
        println!(
            "hook: order {service} ({plan}) → {status} {body} in {:.1} ms",
            begun.elapsed().as_secs_f64() * 1000.0
        );
        ensure!(status == 200 && body.trim() == "success", "the order {service} was not accepted: {body}");
    }
    for (service, ..) in &orders {
        house.until(service, "active", PATIENCE).await?;
        println!("\n{}", house.client.text(&format!("/v1/services/shop:{service}/log")).await?);
    }
    for (service, ..) in &orders {
        check_states(&house, service).await?;
        check_dns(&house, service).await?;
    }
    println!("\nterminating 5001 …");
    let (status, body) = house.whmcs.post("terminate", &params(5001, "linked", "web.example.com", json!({}))).await?;
    ensure!(status == 200 && body.trim() == "success", "the termination was not accepted: {body}");
    house.until("5001", "terminated", PATIENCE).await?;
    println!("\n{}", house.client.text("/v1/services/shop:5001/log").await?);
    let left = house.guests().await?;
    ensure!(left.len() == 2, "two VMs should be left, there are {left:?}");
    for _ in 0..100 {
        if house.receiver.seen().events.iter().filter(|e| finished(e)).count() >= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = house.receiver.seen();
    ensure!(
        seen.events.iter().filter(|e| finished(e)).count() >= 4,
        "the webhook receiver was told of {} events only",
        seen.events.len()
    );
    ensure!(seen.refused == 0, "{} deliveries had a bad signature", seen.refused);
    println!("webhook receiver: {} signed events", seen.events.len());
    println!("\nall of it was seen.");
    if !arguments.once {
        println!(
            "\nThe host stays up. Press Ctrl-C to end it.\n  export WHARF_URL={} WHARF_TOKEN={}",
            house.client.url, house.client.token
        );
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}

fn finished(event: &Value) -> bool {
    event["type"].as_str().is_some_and(|t| t.contains("operation.finished"))
}

/// Fifteen states, of which those that one write satisfied name it, and durations that come to the whole time.
async fn check_states(house: &House, service: &str) -> Result<()> {
    let shown = house.client.get(&format!("/v1/services/shop:{service}")).await?;
    let operation = &shown["operation"];
    let log = house.client.log(operation["id"].as_str().unwrap_or_default()).await?;
    let steps: Vec<&Value> = log.iter().filter(|entry| entry["what"] == "step").collect();
    let reached = steps.iter().filter(|s| matches!(s["result"]["is"].as_str(), Some("success" | "skip"))).count();
    ensure!(reached == 15, "the deploy of {service} went through {reached} states, not 15");
    let total: i64 = steps.iter().filter_map(|s| s["duration_ms"].as_i64()).sum();
    let wall =
        operation["ended_ms"].as_i64().unwrap_or_default() - operation["created_ms"].as_i64().unwrap_or_default();
    ensure!((total - wall).abs() * 20 <= wall, "the states of {service} took {total} ms, the whole deploy {wall} ms");
    let mut writes = BTreeMap::<&str, u32>::new();
    for effect in steps.iter().filter_map(|s| s["effect"].as_str()) {
        *writes.entry(effect).or_default() += 1;
    }
    let shared = writes.values().copied().max().unwrap_or_default();
    ensure!(shared > 1, "no write of {service} satisfied several states");
    println!(
        "{service}: 15 states in {wall} ms, their durations come to {total} ms; one write satisfied {shared} of them"
    );
    Ok(())
}

/// A, AAAA and PTR, as the name server answers, for what the service holds.
async fn check_dns(house: &House, service: &str) -> Result<()> {
    let shown = house.client.get(&format!("/v1/services/shop:{service}")).await?;
    for address in shown["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let ip: std::net::IpAddr = address.parse()?;
        let reverse = reverse_name(ip);
        let mut names = Vec::new();
        for _ in 0..100 {
            names = house.dns.dig(&reverse, "PTR").await?;
            if !names.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ensure!(names.len() == 1, "{address} has the PTR {names:?}");
        let Some(name) = names.first() else { continue };
        let rtype = if ip.is_ipv4() { "A" } else { "AAAA" };
        let back = house.dns.dig(name, rtype).await?;
        ensure!(back == [address], "{name} {rtype} is {back:?}, not {address}");
        println!("DNS: {address} → {name} → {address}");
    }
    Ok(())
}
