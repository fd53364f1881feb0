//! Names of a service that somebody says outside of its operations: an admin anew, a client for an address of his.

use std::{net::IpAddr, sync::Arc, time::Duration};

use pve_sim::state::SimConfig;
use serde_json::json;
use tokio::time::sleep;
use wharf_engine::{
    names::{Said, SayError},
    wish::Wish,
};
use wharf_model::{
    object::{ObjectKind, Zone},
    service::{Phase, Service, ServiceId},
};
use wharf_testkit::{facades::powerdns::PowerDns, model::Record, peer::Peer};

use crate::world::{
    Host, World, component,
    dns::{Net, picture, until, zone_at},
    install,
};

const FORWARD: &str = "example.com.";
const REVERSE: &str = "2.0.192.in-addr.arpa.";
const FQDN: &str = "42-1.example.com.";
const OWN: &str = "mail.client.example.";
const PATIENCE: Duration = Duration::from_secs(120);
/// The queue has looked, and would have written.
const QUIET: Duration = Duration::from_secs(5);

struct Names {
    net: Arc<Net>,
    world: World,
    host: Host,
    peer: Arc<Peer>,
}

/// Two zones at a PowerDNS, and nothing ordered.
async fn names() -> Names {
    let net = Net::new();
    let world = World::with(SimConfig::default(), net.sender()).await;
    let host = world.host(|_| {}).await;
    if host.runtime.manifest("dns-powerdns").is_none() {
        install(&host.runtime, component("dns-powerdns")).await;
    }
    let peer = net.peer("well.test", PowerDns::default());
    for zone in [FORWARD, REVERSE] {
        peer.add_zone(zone, 0);
    }
    zone_at(&world, &host, "forward", FORWARD, "dns-powerdns", &peer, json!({})).await;
    zone_at(&world, &host, "reverse", REVERSE, "dns-powerdns", &peer, json!({})).await;
    Names { net, world, host, peer }
}

impl Names {
    /// An active service with one address, whose names are written.
    async fn sold(&self) -> (Service, IpAddr) {
        self.world.wish(&self.host, "1", World::order("small", &[])).await;
        let service = self.world.until("1", Phase::Active, PATIENCE).await;
        let address = self.world.books.leases_of(service.id).await.unwrap().remove(0).address;
        self.until_pointers(&[FQDN]).await;
        until("the address", PATIENCE, || self.holds(FORWARD, &address.to_string())).await;
        (service, address)
    }

    fn holds(&self, zone: &str, data: &str) -> bool {
        picture(&self.peer, zone).iter().any(|(_, _, d)| d == data)
    }

    fn pointers(&self) -> Vec<String> {
        picture(&self.peer, REVERSE).into_iter().filter(|(_, t, _)| t == "PTR").map(|(_, _, d)| d).collect()
    }

    /// That these are the pointers, and stay it.
    async fn until_pointers(&self, expected: &[&str]) {
        until(&format!("{expected:?}"), PATIENCE, || self.pointers() == expected).await;
        sleep(QUIET).await;
        assert_eq!(self.pointers(), expected);
    }

    async fn ptr(&self, service: ServiceId, address: IpAddr, name: Option<&str>) -> Result<Said, SayError> {
        self.host.engine.set_ptr(service, address, name, "admin").await
    }

    async fn anew(&self, service: ServiceId) -> Result<Said, SayError> {
        self.host.engine.set_names(service, "admin").await
    }

    /// The names that addresses have of their own, and how often one was said.
    async fn stored(&self, service: ServiceId) -> (Vec<Option<String>>, usize) {
        let leases = self.world.books.leases_of(service).await.unwrap();
        let said = self.world.books.audit_log(100).await.unwrap();
        let said = said.iter().filter(|row| ["service.ptr", "service.names"].contains(&row.action.as_str())).count();
        (leases.into_iter().map(|lease| lease.ptr).collect(), said)
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_a_client_gave_an_address_stays_when_all_names_are_said_anew() {
    let names = names().await;
    let (service, address) = names.sold().await;

    // Typed as people do.
    let said = names.ptr(service.id, address, Some("Mail.Client.Example")).await.unwrap();
    assert_eq!((said.name.as_str(), said.records), (FQDN, 2));
    assert!(said.warnings.is_empty() && said.homeless.is_empty(), "{said:?}");
    names.until_pointers(&[OWN]).await;
    for _ in 0..2 {
        names.anew(service.id).await.unwrap();
        names.until_pointers(&[OWN]).await;
        assert!(names.holds(FORWARD, &address.to_string()));
    }
    assert_eq!(names.stored(service.id).await, (vec![Some(OWN.to_owned())], 3));
    names.host.kill();
}

#[tokio::test(start_paused = true)]
async fn an_address_follows_the_name_of_its_service_again_and_the_clients_is_gone() {
    let names = names().await;
    let (service, address) = names.sold().await;
    names.ptr(service.id, address, Some(OWN)).await.unwrap();
    names.until_pointers(&[OWN]).await;
    names.ptr(service.id, address, None).await.unwrap();
    names.until_pointers(&[FQDN]).await;
    assert_eq!(names.stored(service.id).await.0, [None]);
    names.host.kill();
}

#[tokio::test(start_paused = true)]
async fn what_foreign_hands_removed_is_back_once_all_names_are_said_anew() {
    let names = names().await;
    let (service, address) = names.sold().await;
    {
        let mut model = names.peer.model();
        model.zone_mut(REVERSE).unwrap().records.retain(|r| r.rtype != "PTR");
        model.zone_mut(FORWARD).unwrap().records.push(Record::new("theirs.example.com.", "A", "198.51.100.9", 300));
    }
    sleep(QUIET).await;
    assert_eq!(names.pointers(), [""; 0], "nobody looks by himself so soon");
    let said = names.anew(service.id).await.unwrap();
    assert_eq!((said.records, said.rechecked), (2, 2));
    names.until_pointers(&[FQDN]).await;
    assert!(names.holds(FORWARD, &address.to_string()) && names.holds(FORWARD, "198.51.100.9"));
    names.host.kill();
}

#[tokio::test(start_paused = true)]
async fn no_name_is_said_while_an_operation_is_under_way_and_none_is_left_after_a_terminate() {
    let names = names().await;
    let before: Vec<_> = [FORWARD, REVERSE].map(|zone| picture(&names.peer, zone)).into();
    names.world.wish(&names.host, "1", World::order("small", &[])).await;
    let service = names.world.service("1").await;
    let early = names.anew(service.id).await;
    assert!(matches!(&early, Err(SayError::NotActive(why)) if why.contains("try again")), "{early:?}");

    let (service, address) = names.sold().await;
    names.world.wish(&names.host, "1", Wish::Terminate).await;
    // Again and again while it is taken down, and afterwards.
    for _ in 0..200 {
        let (anew, own) = (names.anew(service.id).await, names.ptr(service.id, address, Some(OWN)).await);
        for answer in [anew, own] {
            assert!(matches!(&answer, Err(SayError::NotActive(why)) if why.contains("terminat")), "{answer:?}");
        }
        assert!(names.stored(service.id).await.0.iter().all(Option::is_none));
        sleep(Duration::from_millis(250)).await;
    }
    names.world.until("1", Phase::Terminated, PATIENCE).await;
    assert!(matches!(names.anew(service.id).await, Err(SayError::NotActive(_))));
    sleep(Duration::from_secs(60)).await;
    let after: Vec<_> = [FORWARD, REVERSE].map(|zone| picture(&names.peer, zone)).into();
    assert_eq!(after, before);
    assert_eq!(names.world.books.records_of(service.id).await.unwrap(), []);
    assert_eq!(names.stored(service.id).await.1, 0);
    names.host.kill();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_name_of_a_host_or_no_address_of_the_service_is_refused_and_nothing_is_stored() {
    let names = names().await;
    let (service, address) = names.sold().await;
    let records = names.world.books.records_of(service.id).await.unwrap();
    for bad in ["", "mail", "192.0.2.1", "a_b.example", "*.example.com", "-a.example", "a..example", "a b.example"] {
        let answer = names.ptr(service.id, address, Some(bad)).await;
        assert!(matches!(answer, Err(SayError::Name(_))), "{bad}: {answer:?}");
    }
    let foreign = names.ptr(service.id, "198.51.100.1".parse().unwrap(), Some(OWN)).await;
    assert!(matches!(foreign, Err(SayError::NoAddress(_))), "{foreign:?}");
    sleep(QUIET).await;
    assert_eq!(names.stored(service.id).await, (vec![None], 0));
    assert_eq!(names.world.books.records_of(service.id).await.unwrap(), records);
    assert_eq!(names.pointers(), [FQDN]);
    names.host.kill();
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_switched_off_keeps_what_it_has_when_names_are_said_anew() {
    let names = names().await;
    let (service, address) = names.sold().await;
    let switch = async |off: bool| {
        let object = names.world.books.object(ObjectKind::Zone, "forward").await.unwrap().unwrap();
        let mut zone: Zone = serde_json::from_value(object.body).unwrap();
        zone.off = off;
        names.world.put(ObjectKind::Zone, "forward", serde_json::to_value(zone).unwrap()).await;
    };
    switch(true).await;
    let said = names.ptr(service.id, address, Some(OWN)).await.unwrap();
    assert!(said.warnings.len() == 1 && said.warnings[0].contains("zone forward is switched off"), "{said:?}");
    names.until_pointers(&[OWN]).await;
    let said = names.anew(service.id).await.unwrap();
    assert_eq!((said.records, said.rechecked), (2, 1), "its provider would not be asked");
    switch(false).await;
    names.world.books.hurry_records(None, names.world.clock.now_ms()).await.unwrap();
    names.host.engine.nudge();
    sleep(Duration::from_secs(30)).await;
    assert!(names.holds(FORWARD, &address.to_string()), "it was taken away");
    names.host.kill();
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_provider_delays_what_is_said_and_loses_nothing_of_it() {
    let names = names().await;
    let (service, address) = names.sold().await;
    names.net.set_down(&names.peer, true);
    names.ptr(service.id, address, Some("first.client.example")).await.unwrap();
    sleep(Duration::from_secs(400)).await;
    names.ptr(service.id, address, Some(OWN)).await.unwrap();
    names.net.set_down(&names.peer, false);
    names.anew(service.id).await.unwrap();
    // At once: what waits for its next try does not go on waiting.
    until("the name", Duration::from_secs(30), || names.pointers() == [OWN]).await;
    names.until_pointers(&[OWN]).await;
    names.host.kill();
}
