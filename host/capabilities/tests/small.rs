//! Log, store, secrets, names and hooks, through the functions that plugins call.

use crate::common::{KEY, Lab};
use serde_json::json;
use uuid::Uuid;
use wasmtime::component::Resource;
use wharf_capabilities::{
    HasCall,
    bindings::wharf::{
        base::{common::Action, entropy, kv, log, secrets},
        dns::{calls::HostCall, naming},
        hook::events::{HostDelivery, HostQuestion},
    },
    call::{CallState, DnsCall},
    http::Sender,
};
use wharf_model::{lease::Range, object::ObjectKind};
use wharf_store::{DnsClaim, LeaseSet, LeaseWish, RecordOutcome};

fn lab() -> Lab {
    Lab::new(Sender::new())
}

struct Holder(CallState);

impl HasCall for Holder {
    fn call(&mut self) -> &mut CallState {
        &mut self.0
    }
}

#[test]
fn everything_that_is_offered_can_be_linked() {
    let mut config = wasmtime::Config::new();
    config.wasm_component_model(true);
    let engine = wasmtime::Engine::new(&config).unwrap();
    let mut linker = wasmtime::component::Linker::<Holder>::new(&engine);
    wharf_capabilities::link(&mut linker).unwrap();
    for (interface, function) in [
        ("wharf:base/log", "write"),
        ("wharf:base/clock", "now-ms"),
        ("wharf:base/entropy", "fresh"),
        ("wharf:base/kv", "get"),
        ("wharf:base/secrets", "generate"),
        ("wharf:http/client", "[method]outbound.send"),
        ("wharf:dns/calls", "[method]call.config"),
        ("wharf:dns/naming", "declare"),
        ("wharf:provisioner/operations", "[method]operation.id"),
        ("wharf:hook/events", "[method]delivery.event"),
    ] {
        let (_, version) = wharf_capabilities::OFFERED.iter().find(|(name, _)| *name == interface).unwrap();
        let mut instance = linker.instance(&format!("{interface}@{version}")).unwrap();
        // What is there can't be defined again.
        let twice = instance.func_wrap(function, |_: wasmtime::StoreContextMut<'_, Holder>, (): ()| Ok(()));
        assert!(twice.is_err(), "{interface} {function} was not linked");
        instance.func_wrap("not-there", |_: wasmtime::StoreContextMut<'_, Holder>, (): ()| Ok(())).unwrap();
    }
}

#[tokio::test]
async fn a_secret_in_a_line_of_the_log_is_taken_out_even_where_the_line_is_cut() {
    let lab = lab();
    let mut call = lab.zone("https://api.test").await;
    let before = "x".repeat(4 * 1024 - 10);
    log::Host::write(&mut call, log::Level::Error, format!("{before}{KEY}"), vec![("with".into(), format!("a {KEY}"))])
        .await
        .unwrap();
    log::Host::write(&mut call, log::Level::Info, "short".into(), vec![("f".into(), json!({"k": KEY}).to_string())])
        .await
        .unwrap();
    let kept = format!("{:?}", call.log.lines);
    assert!(!kept.contains("k3y"), "{kept}");
    assert_eq!(call.log.lines[1].fields[0].1, r#"{"k":"[secret api-key]"}"#);
}

#[tokio::test]
async fn a_line_that_can_not_be_checked_for_secrets_is_left_out() {
    let lab = lab();
    lab.books.put_secret("zone/z", "broken", b"not sealed", 0).await.unwrap();
    let mut call = lab.zone("https://api.test").await;
    log::Host::write(&mut call, log::Level::Info, format!("mine is {KEY}"), Vec::new()).await.unwrap();
    assert!(
        !call.log.lines[0].message.contains(KEY) && call.log.lines[0].message.contains("left out"),
        "{:?}",
        call.log.lines
    );
}

#[tokio::test]
async fn a_flood_of_lines_stops_at_64_kib() {
    let lab = lab();
    let mut call = lab.hook(json!({}));
    for _ in 0..100 {
        log::Host::write(&mut call, log::Level::Debug, "y".repeat(10_000), Vec::new()).await.unwrap();
    }
    assert!(call.log.bytes < 64 * 1024 + 5 * 1024, "{}", call.log.bytes);
    assert_eq!(call.log.lines.len() + usize::try_from(call.log.dropped).unwrap(), 100);
    assert_eq!(call.meter.calls, 100);
    assert_eq!(call.meter.bytes, 1_000_000);
}

#[tokio::test]
async fn entropy_is_fresh_and_at_most_32_bytes() {
    let lab = lab();
    let mut call = lab.hook(json!({}));
    let one = entropy::Host::fresh(&mut call, 1_000_000).await.unwrap();
    let two = entropy::Host::fresh(&mut call, 32).await.unwrap();
    assert_eq!((one.len(), two.len()), (32, 32));
    assert_ne!(one, two);
    assert!(entropy::Host::fresh(&mut call, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_plugins_store_keeps_to_its_sizes() {
    let lab = lab();
    let mut call = lab.hook(json!({}));
    let limit = |result: Result<(), wharf_capabilities::bindings::wharf::base::common::Failure>| {
        let failure = result.unwrap_err();
        assert_eq!((failure.action, failure.code.as_str()), (Action::FixInput, "kv-limit"));
    };
    kv::Host::set(&mut call, "a".into(), vec![1]).await.unwrap().unwrap();
    assert_eq!(kv::Host::get(&mut call, "a".into()).await.unwrap().unwrap(), Some(vec![1]));
    limit(kv::Host::set(&mut call, String::new(), vec![1]).await.unwrap());
    limit(kv::Host::set(&mut call, "k".repeat(201), vec![1]).await.unwrap());
    limit(kv::Host::set(&mut call, "big".into(), vec![0; 64 * 1024 + 1]).await.unwrap());
    let mut stored = 0;
    loop {
        match kv::Host::set(&mut call, format!("n{stored}"), vec![0; 64 * 1024]).await.unwrap() {
            Ok(()) => stored += 1,
            Err(failure) => {
                limit(Err(failure));
                break;
            }
        }
        assert!(stored < 100, "no end");
    }
    assert_eq!(stored, 63);
    kv::Host::delete(&mut call, "n0".into()).await.unwrap().unwrap();
    kv::Host::delete(&mut call, "n0".into()).await.unwrap().unwrap();
    assert_eq!(kv::Host::keys(&mut call, "n1".into()).await.unwrap().unwrap().len(), 11);
}

#[tokio::test]
async fn a_generated_secret_stays_the_same_and_belongs_to_one_service() {
    let lab = lab();
    let (mine, other) = (Uuid::new_v4(), Uuid::new_v4());
    let mut call = lab.operation(mine);
    assert!(!secrets::Host::exists(&mut call, "api-key".into()).await.unwrap().unwrap());
    assert_eq!(secrets::Host::fingerprint(&mut call, "api-key".into()).await.unwrap().unwrap(), None);
    secrets::Host::generate(&mut call, "api-key".into(), 24).await.unwrap().unwrap();
    let first = secrets::Host::fingerprint(&mut call, "api-key".into()).await.unwrap().unwrap().unwrap();
    secrets::Host::generate(&mut call, "api-key".into(), 40).await.unwrap().unwrap();
    assert_eq!(secrets::Host::fingerprint(&mut call, "api-key".into()).await.unwrap().unwrap().unwrap(), first);
    assert_eq!(first.len(), 16);

    let owner = format!("service/{mine}");
    let sealed = lab.books.secret(&owner, "api-key").await.unwrap().unwrap();
    let value = String::from_utf8(lab.keyring.open(&owner, "api-key", &sealed).unwrap().to_vec()).unwrap();
    assert_eq!(value.len(), 24);
    assert!(value.starts_with(|c: char| c.is_ascii_alphabetic()));
    assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c)), "{value}");
    // Made in this call, and taken out of its log at once.
    log::Host::write(&mut call, log::Level::Info, format!("it is {value}"), Vec::new()).await.unwrap();
    assert_eq!(call.log.lines[0].message, "it is [secret api-key]");

    assert!(!secrets::Host::exists(&mut lab.operation(other), "api-key".into()).await.unwrap().unwrap());
    let undeclared = secrets::Host::generate(&mut call, "nobody".into(), 24).await.unwrap().unwrap_err();
    assert_eq!((undeclared.action, undeclared.code.as_str()), (Action::FixConfig, "secret-not-declared"));
    for length in [0, 11, 129, u32::MAX] {
        assert!(secrets::Host::generate(&mut call, "api-key".into(), length).await.unwrap().is_err(), "{length}");
    }
    let nowhere = secrets::Host::exists(&mut lab.hook(json!({})), "api-key".into()).await.unwrap().unwrap_err();
    assert_eq!(nowhere.action, Action::ReportBug);
}

async fn tally(call: &mut CallState) -> (u32, u32, u32) {
    let tally = naming::Host::progress(call).await.unwrap().unwrap();
    (tally.waiting, tally.written, tally.failed)
}

async fn zone(lab: &Lab, name: &str, dns: &str, off: bool) {
    let body =
        json!({"zone": dns, "plugin": "tested", "settings": {"server-url": "https://ns.test"}, "ttl": 300, "off": off});
    lab.books.put_object(ObjectKind::Zone, name, body, None, None, 0).await.unwrap();
}

#[tokio::test]
async fn declared_names_become_records_of_every_zone_and_withdrawn_ones_go() {
    let lab = lab();
    zone(&lab, "forward", "example.com.", false).await;
    zone(&lab, "reverse", "2.0.192.in-addr.arpa", false).await;
    zone(&lab, "sleeping", "example.com", true).await;
    lab.books.put_object(ObjectKind::Zone, "damaged", json!({"zone": 5}), None, None, 0).await.unwrap();
    let service = Uuid::new_v4();
    lab.accepted(service).await;
    lab.installed().await;
    let network = serde_json::from_value(
        json!({"prefix_length": 24, "gateway": null, "nameservers": [], "bridge": "vmbr0", "vlan": null}),
    )
    .unwrap();
    let (first, last) = ("192.0.2.10".parse().unwrap(), "192.0.2.20".parse().unwrap());
    let range = Range { pool: "p".into(), domain: "default".into(), first, last, excluded: Vec::new(), network };
    let wish = LeaseWish { service, sets: vec![LeaseSet { family: 4, count: 2, ranges: vec![range] }] };
    lab.books.lease(None, wish, 0).await.unwrap();

    let mut call = lab.claimed().await;
    let addresses = || vec!["192.0.2.10".to_owned(), "192.0.2.11".to_owned(), "2001:0db8:0::1".to_owned()];
    naming::Host::declare(&mut call, "VM.Example.com".into(), addresses()).await.unwrap().unwrap();
    let lines = |records: Vec<wharf_model::record::Record>| -> Vec<String> {
        records
            .iter()
            .map(|r| format!("{} {} {} {} {:?}", r.key.zone, r.key.name, r.key.rtype, r.key.value, r.ttl))
            .collect()
    };
    let mut all = lines(lab.books.records_of(service).await.unwrap());
    all.sort();
    assert_eq!(
        all,
        [
            "forward vm.example.com. A 192.0.2.10 Some(300)",
            "forward vm.example.com. A 192.0.2.11 Some(300)",
            "forward vm.example.com. AAAA 2001:db8::1 Some(300)",
            "reverse 10.2.0.192.in-addr.arpa. PTR vm.example.com. Some(300)",
            "reverse 11.2.0.192.in-addr.arpa. PTR vm.example.com. Some(300)",
        ]
    );
    assert!(call.log.lines.iter().any(|l| l.message.contains("damaged")), "{:?}", call.log.lines);
    assert_eq!(tally(&mut call).await, (5, 0, 0));

    // One is written, one fails.
    let owner = Uuid::new_v4();
    let claims: Vec<DnsClaim> = lab.books.claim_dns(owner, 60_000, 10, i64::MAX / 2).await.unwrap();
    assert_eq!(claims.len(), 1, "zones of one server are one queue");
    let due = lab.books.due_records(&claims[0], 100, i64::MAX / 2).await.unwrap();
    let keys: Vec<_> = due.iter().map(|r| r.key.clone()).collect();
    lab.books.mark_sent(&claims[0], &keys[..1], 0).await.unwrap();
    let failed = RecordOutcome::Failed { reason: "no".into(), due_ms: 5 };
    lab.books
        .settle_records(&claims[0], vec![(keys[0].clone(), RecordOutcome::Done), (keys[1].clone(), failed)], 0)
        .await
        .unwrap();
    assert_eq!(tally(&mut call).await, (3, 1, 1));
    // The same again changes nothing.
    naming::Host::declare(&mut call, "vm.example.com.".into(), addresses()).await.unwrap().unwrap();
    assert_eq!(tally(&mut call).await, (3, 1, 1));

    naming::Host::withdraw(&mut call).await.unwrap().unwrap();
    let left = lab.books.records_of(service).await.unwrap();
    assert!(left.iter().all(|r| !r.wanted) && left.iter().any(|r| r.key == keys[0]), "{left:?}");
}

#[tokio::test]
async fn names_and_addresses_that_no_provider_should_get_are_refused() {
    let lab = lab();
    let mut call = lab.operation(Uuid::new_v4());
    for (fqdn, address) in [
        ("host", "192.0.2.1"),
        ("1.2.3.4", "192.0.2.1"),
        ("{{api-key}}.example.com", "192.0.2.1"),
        ("*.example.com", "192.0.2.1"),
        ("vm.example.com", "192.0.2"),
        ("vm.example.com", "::ffff:192.0.2.1"),
        ("vm.example.com", "fe80::1%eth0"),
    ] {
        let failure = naming::Host::declare(&mut call, fqdn.into(), vec![address.into()]).await.unwrap().unwrap_err();
        assert_eq!(failure.action, Action::FixInput, "{fqdn} {address}");
    }
    let failure =
        naming::Host::declare(&mut lab.hook(json!({})), "a.example.com".into(), Vec::new()).await.unwrap().unwrap_err();
    assert_eq!(failure.action, Action::ReportBug);
}

#[tokio::test]
async fn a_provider_is_told_its_settings_but_no_secret() {
    let lab = lab();
    let mut call = lab.zone("https://api.test").await;
    let this = || Resource::<DnsCall>::new_borrow(0);
    assert_eq!(call.config(this(), "server-url".into()).await.unwrap().as_deref(), Some("https://api.test"));
    assert_eq!(call.config(this(), "number".into()).await.unwrap().as_deref(), Some("5"));
    for key in ["api-key", "marked", "missing"] {
        assert_eq!(call.config(this(), key.into()).await.unwrap(), None, "{key}");
    }
    // What was not entered is as the manifest's schema says.
    assert_eq!(call.config(this(), "server-id".into()).await.unwrap().as_deref(), Some("localhost"));
    assert_eq!(call.idempotency_key(this()).await.unwrap(), "once");
    assert!(!call.cancelled(this()).await.unwrap());
    assert!((9_000..=10_000).contains(&call.deadline_ms(this()).await.unwrap()));
    HostCall::progress(&mut call, this(), 30, 20).await.unwrap();
    let wharf_capabilities::call::Bound::Zone(binding) = &call.bound else { panic!("not a zone") };
    assert_eq!(binding.progress.get(), Some((20, 20)));
    // About something else it is nothing.
    assert!(lab.hook(json!({})).config(this(), "server-url".into()).await.is_err());
}

#[tokio::test]
async fn a_hook_is_told_its_settings_but_no_secret() {
    let lab = lab();
    let mut call = lab.hook(json!({"url": "https://in.test", "marked": "m", "signing": "s", "events": ["a"]}));
    let delivery = || Resource::new_borrow(0);
    let settings: serde_json::Value =
        serde_json::from_str(&HostDelivery::settings(&mut call, delivery()).await.unwrap()).unwrap();
    assert_eq!(settings, json!({"url": "https://in.test", "events": ["a"], "server-id": "localhost"}));
    assert_eq!(call.setting(delivery(), "marked".into()).await.unwrap(), None);
    assert_eq!(call.setting(delivery(), "events".into()).await.unwrap().as_deref(), Some(r#"["a"]"#));
    assert_eq!(call.attempt(delivery()).await.unwrap(), 2);
    // No event and no question are at hand: asking for one ends the call.
    assert!(call.event(delivery()).await.is_err());
    assert!(HostQuestion::kind(&mut call, Resource::new_borrow(0)).await.is_err());
}
