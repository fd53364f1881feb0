//! The kit on the shipped providers, and on a provider that can be made to break one case at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::path::PathBuf;

use serde_json::{Value, json};
use wharf_conformance::{Badge, Kit, Report, Subject, Verdict, all, case};
use wharf_plugins::Compiler;
use wharf_testkit::{
    facade::Facade,
    facades::{
        cloudflare::Cloudflare, cpanel, desec::Desec, hestiacp::HestiaCp, hetzner::Hetzner, plain::Plain,
        powerdns::PowerDns, robot::Robot,
    },
};

/// Where `cargo xtask plugins` puts components.
fn plugin(id: &str) -> Vec<u8> {
    let dir = std::env::var_os("WHARF_PLUGINS_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")), PathBuf::from);
    let path = dir.join(format!("{id}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{} ({e}): run `cargo xtask plugins` first", path.display()))
}

/// What stands in the repository.
fn page(path: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The badge that docs/conformance.md gives a provider.
fn badge_in_the_book(id: &str) -> Badge {
    let book = page("docs/conformance.md");
    let row = format!("| `{id}` | ");
    let word = book.lines().find_map(|line| line.strip_prefix(&row)?.split([' ', ';']).next());
    let all = [Badge::Core, Badge::Hosting, Badge::Scale];
    let found = all.into_iter().find(|badge| Some(badge.as_str()) == word);
    found.unwrap_or_else(|| panic!("docs/conformance.md has no row `{row}…` with a badge"))
}

/// The badge is the book's, and exactly these cases do not pass.
fn holds(id: &str, report: &Report, apart: &[u8]) {
    println!("{report}");
    let book = badge_in_the_book(id);
    assert_eq!(report.badge(), Some(book), "see above: the book says {}", book.as_str());
    let not: Vec<u8> = report.results.iter().filter(|r| !r.verdict.is_passed()).map(|r| r.number).collect();
    assert_eq!(not, apart, "cases of {id} that did not pass");
}

#[test]
fn every_dns_provider_that_ships_has_its_page_its_settings_there_and_a_badge() {
    let (book, readme) = (page("docs/dns-providers.md"), page("README.md"));
    let plugins = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins"));
    let mut seen = 0;
    for folder in std::fs::read_dir(plugins).unwrap() {
        let folder = folder.unwrap().file_name().into_string().unwrap();
        if !folder.starts_with("dns-") {
            continue;
        }
        seen += 1;
        let manifest: Value = serde_json::from_str(&page(&format!("plugins/{folder}/manifest.json"))).unwrap();
        let id = manifest["id"].as_str().unwrap();
        assert!(readme.contains(id), "README.md does not name {id}");
        badge_in_the_book(id);
        let sections = book.split("\n## ").collect::<Vec<_>>();
        let section =
            sections.iter().find(|s| s.lines().next().is_some_and(|head| head.contains(&format!("(`{id}`)"))));
        let section = section.unwrap_or_else(|| panic!("docs/dns-providers.md has no section on {id}"));
        for setting in manifest["settings"]["properties"].as_object().unwrap().keys() {
            assert!(section.contains(&format!("`{setting}`")), "docs/dns-providers.md on {id} lacks `{setting}`");
        }
        assert!(section.contains("What it can't do"), "docs/dns-providers.md on {id} does not say what it can't do");
    }
    assert!(seen >= 7, "{seen}");
}

async fn kit(id: &str, facade: impl Fn() -> Box<dyn Facade> + Send + Sync + 'static) -> Kit {
    of_component(plugin(id), facade).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_powerdns_has_its_badge_with_old_and_new_servers() {
    for facade in [PowerDns::default(), PowerDns::newer()] {
        let kit = kit("dns-powerdns", move || Box::new(facade.clone())).await;
        // Those that PowerDNS has nothing to show for, and no others.
        holds("dns-powerdns", &kit.run_all().await, &[8, 9, 26, 27, 31, 36, 50]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_cloudflare_has_its_badge() {
    let report = kit("dns-cloudflare", || Box::new(Cloudflare::default())).await.run_all().await;
    holds("dns-cloudflare", &report, &[31, 36]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_hestiacp_has_its_badge() {
    let report = kit("dns-hestiacp", || Box::new(HestiaCp::default())).await.run_all().await;
    holds("dns-hestiacp", &report, &[8, 9, 30, 36]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_cpanel_has_its_badge_as_root_and_as_the_owner_of_an_account() {
    // No pages, no ids but lines that the serial guards, no state of a record, no quota, and no PTR for the owner of an account.
    for (door, apart) in [
        (cpanel::Door::Whm, &[8, 9, 19, 26, 27, 31, 36, 49, 50][..]),
        (cpanel::Door::Account, &[8, 9, 19, 26, 27, 31, 36, 39, 40, 45, 49, 50]),
    ] {
        let report = kit("dns-cpanel", move || Box::new(cpanel::CPanel::new(door))).await.run_all().await;
        holds("dns-cpanel", &report, apart);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_hetzner_has_its_badge_though_its_writes_are_done_later() {
    let report = kit("dns-hetzner", || Box::new(Hetzner::default())).await.run_all().await;
    // No ids but names and types, no record that is not served, and nothing is atomic.
    holds("dns-hetzner", &report, &[19, 26, 27, 30]);
}

/// In Python. Its real pages have 500 sets, and the zones of the cases about pages have 350.
#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_desec_has_its_badge() {
    let report = kit("dns-desec", || Box::new(Desec::of_pages(100))).await.run_all().await;
    holds("dns-desec", &report, &[19, 26, 27, 31, 36, 49, 50]);
}

/// In TypeScript. What does not apply needs zones with names of any kind, several values, other types than PTR, pages or ids.
#[tokio::test(flavor = "multi_thread")]
async fn the_provider_of_robot_has_its_badge_in_what_reverse_dns_alone_can_have() {
    let report = kit("dns-robot", || Box::new(Robot::default())).await.run_all().await;
    println!("{report}");
    assert_eq!(report.badge(), Some(badge_in_the_book("dns-robot")), "see above");
    let passed: Vec<u8> = report.results.iter().filter(|r| r.verdict.is_passed()).map(|r| r.number).collect();
    let all =
        [1, 2, 3, 5, 7, 12, 13, 14, 17, 18, 20, 21, 22, 23, 24, 25, 28, 35, 37, 38, 39, 44, 45, 47, 48, 51, 52, 54];
    assert_eq!(passed, all);
}

/// Runs one case; says why it failed, if it did.
async fn failed(kit: &Kit, number: u8) -> Option<String> {
    let result = kit.run(case(number).unwrap()).await;
    println!("mutation {result}");
    match result.verdict {
        Verdict::Failed(why) => Some(why),
        _ => None,
    }
}

/// Cases that are broken elsewhere: by the manifest (2, 54), and with an API that takes writes on for later (36).
const ELSEWHERE: [u8; 3] = [2, 36, 54];

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
    for number in all().map(|c| c.number).filter(|n| !ELSEWHERE.contains(n)) {
        let mutant = honest.with_settings(json!({"mutation": number})).await;
        if failed(&mutant, number).await.is_none() {
            survived.push(number);
        }
        if whole {
            let others: Vec<u8> = mutant.run_all().await.failed().map(|r| r.number).filter(|n| *n != number).collect();
            println!("          it fails also {others:?}");
        }
    }
    assert!(survived.is_empty(), "mutations that their own case did not see: {survived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_on_for_later_is_polled_and_a_provider_that_does_not_wait_fails() {
    let honest = kit("mutant-dns-provider", || Box::new(Plain::slow())).await;
    for number in [13, 14, 16, 17, 36, 38, 41, 44] {
        let result = honest.run(case(number).unwrap()).await;
        assert!(result.verdict.is_passed(), "{result}");
    }
    let hasty = honest.with_settings(json!({"mutation": 36})).await;
    assert!(failed(&hasty, 36).await.is_some());
}

/// The component with another manifest of the same length: the description gives way.
fn with_manifest(mut component: Vec<u8>, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let name = b"wharf:manifest";
    let at = component.windows(name.len()).rposition(|w| w == name).unwrap() + name.len();
    let mut stream = serde_json::Deserializer::from_slice(&component[at..]).into_iter::<Value>();
    let mut manifest = stream.next().unwrap().unwrap();
    let length = stream.byte_offset();
    change(&mut manifest);
    manifest["description"] = "".into();
    let spare = length.checked_sub(manifest.to_string().len()).expect("the description is long enough");
    manifest["description"] = "x".repeat(spare).into();
    component[at..at + length].copy_from_slice(manifest.to_string().as_bytes());
    component
}

async fn of_component(component: Vec<u8>, facade: impl Fn() -> Box<dyn Facade> + Send + Sync + 'static) -> Kit {
    let subject = Subject { component, facade: Box::new(facade), settings: Value::Null, compiler: Compiler::InProcess };
    Kit::open(subject).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_gives_a_secret_away_or_wants_what_is_not_imported_fails() {
    let given = with_manifest(plugin("mutant-dns-provider"), |manifest| {
        manifest["settings"]["properties"]["token"]["default"] = "admin".into();
    });
    let why = failed(&of_component(given, || Box::new(Plain::default())).await, 2).await.unwrap();
    assert!(why.contains("`token` should have no `default`"), "{why}");
    let more = with_manifest(plugin("dns-powerdns"), |manifest| {
        manifest["wants"]["wharf:base/clock"] = "0.1.0".into();
    });
    let why = failed(&of_component(more, || Box::new(PowerDns::default())).await, 54).await.unwrap();
    assert!(why.contains("wants wharf:base/clock, which the component does not import"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_apply_is_named_by_the_capability_that_is_missing() {
    let kit = kit("dns-powerdns", || Box::new(PowerDns::default())).await;
    let result = kit.run(case(36).unwrap()).await;
    assert_eq!(result.verdict, Verdict::NotApplicable("the provider does not declare `asynchronous`".into()));
}
