//! DNS never blocks a VM: providers that are down, in a hurry, or have other credentials by now.

use std::time::Duration;

use crate::world::dns::{Net, lines, picture, until, zone_at};
use crate::world::{Host, World, component, install};
use pve_sim::state::SimConfig;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wharf_engine::wish::Wish;
use wharf_model::{
    object::{ObjectKind, Zone},
    service::Phase,
};
use wharf_testkit::{
    facade::{Facade, Refusal, Request, Response, Wait},
    facades::{cloudflare::Cloudflare, hestiacp::HestiaCp, plain::Plain, powerdns::PowerDns},
    faults::{Fault, Mishap, Target},
    model::{Model, Record},
    peer::Peer,
};

const FORWARD: &str = "example.com.";
const REVERSE: &str = "2.0.192.in-addr.arpa.";
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest pause between two tries (five minutes) and its jitter.
const NEXT_TRY: Duration = Duration::from_secs(400);

async fn with_plugins(world: &World, plugins: &[&str]) -> Host {
    let host = world.host(|_| {}).await;
    for plugin in plugins {
        if host.runtime.manifest(plugin).is_none() {
            install(&host.runtime, component(plugin)).await;
        }
    }
    host
}

async fn parked(world: &World, zone: &str) -> Option<String> {
    let object = world.books.object(ObjectKind::Zone, zone).await.unwrap().unwrap();
    serde_json::from_value::<Zone>(object.body).unwrap().parked.map(|p| p.reason)
}

fn holds(peer: &Peer, zone: &str, data: &str) -> bool {
    picture(peer, zone).iter().any(|(_, _, d)| d == data)
}

#[tokio::test(start_paused = true)]
async fn vms_come_and_go_while_three_of_four_providers_are_in_trouble_and_all_is_made_good_without_anybody() {
    let net = Net::new();
    let world = World::with(SimConfig::default(), net.sender()).await;
    let host = with_plugins(&world, &["dns-powerdns", "dns-cloudflare", "dns-hestiacp", "mutant-dns-provider"]).await;
    let well = net.peer("well.test", PowerDns::default());
    let busy = net.peer("busy.test", Cloudflare::default());
    let strict = net.peer("strict.test", HestiaCp::default());
    let away = net.peer("away.test", Plain::default());
    let places = [(&well, FORWARD), (&busy, FORWARD), (&strict, REVERSE), (&strict, FORWARD), (&away, REVERSE)];
    for (peer, zone) in places {
        peer.add_zone(zone, 3);
    }
    let before: Vec<_> = places.iter().map(|(peer, zone)| picture(peer, zone)).collect();
    let wrong = json!({"secret-key": "0000000000000000000000000000000000000000"});
    zone_at(&world, &host, "forward-well", FORWARD, "dns-powerdns", &well, json!({})).await;
    zone_at(&world, &host, "forward-busy", FORWARD, "dns-cloudflare", &busy, json!({})).await;
    zone_at(&world, &host, "reverse-strict", REVERSE, "dns-hestiacp", &strict, wrong.clone()).await;
    zone_at(&world, &host, "forward-strict", FORWARD, "dns-hestiacp", &strict, wrong).await;
    zone_at(&world, &host, "reverse-away", REVERSE, "mutant-dns-provider", &away, json!({})).await;
    net.set_down(&away, true);
    busy.arm(Fault::always(Target::Any, Mishap::Refused(Refusal::RateLimited(Wait::Seconds(290)))));

    let begun = Instant::now();
    for reference in ["1", "2", "3"] {
        world.wish(&host, reference, World::order("small", &[])).await;
    }
    for reference in ["1", "2", "3"] {
        world.until(reference, Phase::Active, PATIENCE).await;
    }
    world.wish(&host, "3", Wish::Terminate).await;
    world.until("3", Phase::Terminated, PATIENCE).await;
    assert!(begun.elapsed() < Duration::from_secs(90), "it waited for DNS: {:?}", begun.elapsed());

    let named = |n: u32| format!("42-{n}.example.com.");
    let address = async |reference: &str| {
        let id = world.service(reference).await.id;
        world.books.leases_of(id).await.unwrap()[0].address.to_string()
    };
    let (first, second) = (address("1").await, address("2").await);
    let pointer = |ip: &str| format!("{}.{REVERSE}", ip.rsplit('.').next().unwrap());
    for line in [
        format!("fwd OK  dns-powerdns forward-well  {} A {first}", named(1)),
        format!("fwd ERR  dns-cloudflare forward-busy  {} A {first}: ", named(1)),
        format!("fwd ERR  dns-hestiacp forward-strict  {} A {first}: the zone is parked", named(1)),
        format!("rev ERR  dns-hestiacp reverse-strict  {} PTR {}: the zone is parked", pointer(&first), named(1)),
        format!("rev ERR  mutant-dns-provider reverse-away  {} PTR {}: ", pointer(&first), named(1)),
    ] {
        assert_eq!(lines(&world, "1", &line).await.len(), 1, "{line}\n{}", world.tell("1").await);
    }
    assert_eq!(lines(&world, "3", "fwd-del OK  dns-powerdns forward-well").await.len(), 1, "{}", world.tell("3").await);
    for zone in ["reverse-strict", "forward-strict"] {
        assert!(parked(&world, zone).await.unwrap().contains("Invalid secret key"), "{zone}");
    }

    // Ten minutes after it began two of them are well again.
    sleep(Duration::from_secs(600).saturating_sub(begun.elapsed())).await;
    let asked = busy.take_log();
    assert!((2..=3).contains(&asked.len()), "it asked for pauses of 290 s, and was asked {} times", asked.len());
    busy.clear_faults();
    net.set_down(&away, false);
    for (peer, zone, data) in [(&busy, FORWARD, &first), (&busy, FORWARD, &second)] {
        until("the record appears", NEXT_TRY, || holds(peer, zone, data)).await;
    }
    for n in [1, 2] {
        until("the pointer appears", NEXT_TRY, || holds(&away, REVERSE, &named(n))).await;
    }
    sleep(Duration::from_secs(5)).await;
    for line in [
        format!("fwd OK  dns-cloudflare forward-busy  {} A {first}", named(1)),
        format!("rev OK  mutant-dns-provider reverse-away  {} PTR {}", pointer(&first), named(1)),
    ] {
        assert_eq!(lines(&world, "1", &line).await.len(), 1, "{line}\n{}", world.tell("1").await);
    }
    for (peer, zone) in [(&well, FORWARD), (&busy, FORWARD), (&away, REVERSE)] {
        assert!(!picture(peer, zone).iter().any(|(name, _, data)| *name == named(3) || *data == named(3)));
    }

    // An hour of retries, and those credentials were shown once, for two zones and all records together.
    sleep(Duration::from_secs(3_700)).await;
    assert_eq!(strict.take_log().len(), 1);
    let refused = host.engine.zone_plan("reverse-strict").await.unwrap_err().to_string();
    assert!(refused.contains("parked"), "{refused}");
    assert_eq!(strict.take_log().len(), 0, "a look shows them, too");

    // The admin enters the right ones: one zone is saved, the other one is tested.
    zone_at(&world, &host, "reverse-strict", REVERSE, "dns-hestiacp", &strict, json!({})).await;
    world.books.hurry_records(None, world.clock.now_ms()).await.unwrap();
    host.engine.nudge();
    until("the pointer appears", Duration::from_secs(30), || holds(&strict, REVERSE, &named(1))).await;
    assert!(parked(&world, "reverse-strict").await.is_none());
    assert!(!holds(&strict, FORWARD, &first), "the other zone still has the wrong ones");
    let right = strict.settings()["secret-key"].as_str().unwrap().to_owned();
    world.secret("zone/forward-strict", "secret-key", &right).await;
    host.engine.release_zone("forward-strict", "admin").await.unwrap();
    until("the record appears", Duration::from_secs(30), || holds(&strict, FORWARD, &first)).await;

    // Nothing foreign was touched; when the VMs are gone, so is all that was theirs.
    for ((peer, zone), before) in places.iter().zip(&before) {
        assert!(picture(peer, zone).is_superset(before), "{zone} at {}", peer.url);
    }
    for reference in ["1", "2"] {
        world.wish(&host, reference, Wish::Terminate).await;
        world.until(reference, Phase::Terminated, PATIENCE).await;
    }
    sleep(Duration::from_secs(60)).await;
    for ((peer, zone), before) in places.iter().zip(&before) {
        assert_eq!(picture(peer, zone), *before, "{zone} at {}", peer.url);
    }
    host.kill();
}

/// A PowerDNS that refuses a whole request for one of its records, and does not say which.
struct Taciturn(PowerDns);

impl Facade for Taciturn {
    fn settings(&self, base: &str) -> Value {
        self.0.settings(base)
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        let body = String::from_utf8_lossy(&request.body);
        if request.method == "PATCH" && body.contains("192.0.2.13") {
            return Response::json(422, &json!({"error": "something is wrong with this request"}));
        }
        self.0.answer(model, request)
    }

    fn refusal(&self, why: Refusal) -> Response {
        self.0.refusal(why)
    }

    fn new_zone(&self, model: &mut Model, name: &str, foreign: usize) {
        self.0.new_zone(model, name, foreign);
    }
}

#[tokio::test(start_paused = true)]
async fn one_record_that_is_refused_without_being_named_holds_nobody_else_back() {
    let net = Net::new();
    let world = World::with(SimConfig::default(), net.sender()).await;
    let host = with_plugins(&world, &["dns-powerdns"]).await;
    let peer = net.peer("taciturn.test", Taciturn(PowerDns::default()));
    peer.add_zone(FORWARD, 3);
    // All are due at once: the zone comes when the VMs are there.
    zone_at(&world, &host, "forward", FORWARD, "dns-powerdns", &peer, json!({})).await;
    net.set_down(&peer, true);
    for n in 1..=8 {
        world.wish(&host, &n.to_string(), World::order("small", &[])).await;
    }
    for n in 1..=8 {
        world.until(&n.to_string(), Phase::Active, PATIENCE).await;
    }
    net.set_down(&peer, false);
    world.books.hurry_records(None, world.clock.now_ms()).await.unwrap();
    host.engine.nudge();
    let written = || (10..18).filter(|n| holds(&peer, FORWARD, &format!("192.0.2.{n}"))).count();
    until("the seven good ones are there", Duration::from_secs(20), || written() == 7).await;
    let writes = peer.take_log().into_iter().filter(|a| a.request.method == "PATCH").count();
    assert!(writes <= 7, "eight records took {writes} requests");
    let records = world.books.records_in("forward").await.unwrap();
    let bad: Vec<_> = records.iter().filter(|r| !r.written).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].key.value, "192.0.2.13");
    assert!(bad[0].reason.as_ref().unwrap().contains("something is wrong"), "{:?}", bad[0].reason);
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_takes_on_for_later_is_sent_once_and_its_end_is_told() {
    let net = Net::new();
    let world = World::with(SimConfig::default(), net.sender()).await;
    let host = with_plugins(&world, &["mutant-dns-provider"]).await;
    let peer = net.peer("later.test", Plain::slow());
    peer.add_zone(FORWARD, 0);
    zone_at(&world, &host, "forward", FORWARD, "mutant-dns-provider", &peer, json!({})).await;
    let alias = Record::new("42-2.example.com.", "CNAME", "elsewhere.test.", 300);
    peer.model().zone_mut(FORWARD).unwrap().records.push(alias);
    let sent = || peer.take_log().into_iter().filter(|a| a.request.method == "POST").count();
    for reference in ["1", "2"] {
        world.wish(&host, reference, World::order("small", &[])).await;
        world.until(reference, Phase::Active, PATIENCE).await;
    }
    let first = world.service("1").await.id;
    let first = world.books.leases_of(first).await.unwrap()[0].address.to_string();
    until("the record appears", Duration::from_secs(60), || holds(&peer, FORWARD, &first)).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(lines(&world, "1", "fwd OK  mutant-dns-provider forward").await.len(), 1, "{}", world.tell("1").await);
    // The second stands beside an alias: it is taken on, and refused when it is done.
    let refused = lines(&world, "2", "fwd ERR  mutant-dns-provider forward").await;
    assert_eq!(refused.len(), 1, "{}", world.tell("2").await);
    assert_eq!(sent(), 2, "one write for each");
    host.kill();
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_fifty_pointers_at_a_slow_panel_keep_no_vm_waiting_and_show_how_far_they_are() {
    let net = Net::new();
    let world = World::with(SimConfig::default(), net.sender()).await;
    let host = with_plugins(&world, &["dns-hestiacp"]).await;
    let pace = wharf_testkit::facades::hestiacp::PACE;
    let panel = net.peer("panel.test", HestiaCp { pace, ..HestiaCp::default() });
    panel.add_zone("51.198.in-addr.arpa.", 3);
    zone_at(&world, &host, "reverse", "51.198.in-addr.arpa.", "dns-hestiacp", &panel, json!({})).await;
    world.books.delete_object(ObjectKind::Pool, "v4", None, world.clock.now_ms()).await.unwrap();
    world.pool("many", "198.51.100.2", "198.51.101.250", 22, "198.51.100.1").await;
    world.plan("many", json!({"ipv4-addresses": 250})).await;
    world.wish(&host, "1", World::order("many", &[])).await;
    let service = world.until("1", Phase::Active, Duration::from_secs(600)).await;
    let pointers = || picture(&panel, "51.198.in-addr.arpa.").iter().filter(|(_, t, _)| t == "PTR").count();
    let then = pointers();
    assert!(then < 100, "the VM waited for {then} of them");
    let since = Instant::now();
    until("all pointers are there", Duration::from_secs(300), || pointers() == 250).await;
    assert!(since.elapsed() > Duration::from_secs(60), "0.37 s each: {:?}", since.elapsed());
    sleep(Duration::from_secs(60)).await;
    let progress = lines(&world, "1", "DNS: ").await;
    let steps = progress.iter().filter(|l| l.contains(" done  dns-hestiacp reverse")).count();
    assert!(steps >= 4, "{progress:?}");
    assert_eq!(lines(&world, "1", "rev OK  dns-hestiacp reverse").await.len(), 250);
    let failed = lines(&world, "1", "rev ERR").await;
    assert!(failed.is_empty(), "{failed:?}");
    assert!(world.books.records_of(service.id).await.unwrap().iter().all(|r| r.written));
    host.kill();
}
