//! The kit on the shipped provider of PowerDNS, and on a provider that can be made to break one case at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::path::PathBuf;

use serde_json::{Value, json};
use wharf_conformance::{Badge, Kit, Subject, Verdict, all, case};
use wharf_plugins::Compiler;
use wharf_testkit::{
    facade::Facade,
    facades::{plain::Plain, powerdns::PowerDns},
};

/// Where `cargo xtask plugins` puts components.
fn plugin(id: &str) -> Vec<u8> {
    let dir = std::env::var_os("WHARF_PLUGINS_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")), PathBuf::from);
    let path = dir.join(format!("{id}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{} ({e}): run `cargo xtask plugins` first", path.display()))
}

async fn kit(id: &str, facade: impl Fn() -> Box<dyn Facade> + Send + Sync + 'static) -> Kit {
    let component = plugin(id);
    let settings = Value::Null;
    Kit::open(Subject { component, facade: Box::new(facade), settings, compiler: Compiler::InProcess }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_powerdns_has_its_badge_with_old_and_new_servers() {
    for facade in [PowerDns::default(), PowerDns::newer()] {
        let kit = kit("dns-powerdns", move || Box::new(facade.clone())).await;
        let report = kit.run_all().await;
        println!("{report}");
        assert_eq!(report.badge(), Some(Badge::Scale), "see above");
        // Those that PowerDNS has nothing to show for, and no others.
        let apart: Vec<u8> =
            report.results.iter().filter(|r| !r.verdict.is_passed()).map(|r| r.number).collect();
        assert_eq!(apart, [8, 9, 26, 27, 31, 36, 50]);
    }
}

/// Cases that no setting can break: what is the same for every setting (2, 54), what the host itself prevents (51 by its
/// order, as no request of ours changes another's name), and what the plain API does not have (30, 36).
const UNBROKEN: [u8; 5] = [2, 30, 36, 51, 54];

#[tokio::test(flavor = "multi_thread")]
async fn each_mutation_fails_its_own_case_and_the_honest_provider_fails_none() {
    let honest = kit("mutant-dns-provider", || Box::new(Plain::default())).await;
    let report = honest.run_all().await;
    println!("{report}");
    assert_eq!(report.badge(), Some(Badge::Scale), "see above");
    let apart: Vec<u8> = report.results.iter().filter(|r| !r.verdict.is_passed()).map(|r| r.number).collect();
    assert_eq!(apart, [30, 36], "the plain API is neither atomic nor asynchronous");
    let whole = std::env::var_os("WHARF_KIT_WHOLE").is_some();
    let mut survived = Vec::new();
    for number in all().map(|c| c.number).filter(|n| !UNBROKEN.contains(n)) {
        let mutant = honest.with_settings(json!({"mutation": number}));
        let result = mutant.run(case(number).unwrap()).await;
        println!("mutation {result}");
        if !matches!(result.verdict, Verdict::Failed(_)) {
            survived.push(number);
        }
        if whole {
            let others: Vec<u8> = mutant.run_all().await.failed().map(|r| r.number).filter(|n| *n != number).collect();
            println!("          it fails also {others:?}");
        }
    }
    assert!(survived.is_empty(), "mutations that their own case did not see: {survived:?}");
}
