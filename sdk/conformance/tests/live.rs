//! The kit in a live zone: a façade that is served, of which the test sees what the kit can't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::path::PathBuf;

use serde_json::json;
use wharf_conformance::{Case, Kit, LiveSubject, Verdict, all, case};
use wharf_plugins::Compiler;
use wharf_testkit::{
    facade::Facade,
    facades::plain::Plain,
    model::Zone,
    peer::{Asked, Peer},
};

const ZONE: &str = "example.com.";

async fn mutant(peer: &Peer, mutation: u8, place: &std::path::Path) -> Kit {
    let dir = std::env::var_os("WHARF_PLUGINS_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins")), PathBuf::from);
    let path = dir.join("mutant-dns-provider.wasm");
    let component =
        std::fs::read(&path).unwrap_or_else(|e| panic!("{} ({e}): run `cargo xtask plugins` first", path.display()));
    let mut settings = peer.settings();
    if mutation > 0 {
        settings["mutation"] = json!(mutation);
    }
    let subject = LiveSubject {
        component,
        zone: ZONE.into(),
        settings,
        private_origins: [peer.url.clone()].into(),
        facade: Some(Box::new(|| -> Box<dyn Facade> { Box::new(Plain::default()) })),
        compiler: Compiler::InProcess,
    };
    Kit::open_live(subject, place).await.unwrap()
}

async fn house() -> Peer {
    let peer = Peer::start(Box::new(Plain::default())).await.unwrap();
    peer.add_zone(ZONE, 4);
    peer.add_zone("sibling.example.com.", 2);
    peer
}

fn picture(peer: &Peer) -> impl PartialEq + std::fmt::Debug + use<> {
    peer.model().zones.iter().map(Zone::picture).collect::<Vec<_>>()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_provider_passes_and_nothing_but_the_label_is_written_to() {
    let (peer, place) = (house().await, tempfile::tempdir().unwrap());
    let before = picture(&peer);
    let kit = mutant(&peer, 0, place.path()).await;
    let label = kit.label().unwrap().to_owned();
    assert!(label.starts_with("wharf-") && label.ends_with(".example.com."), "{label}");
    assert_eq!(kit.others().await.unwrap().len(), 4);
    assert!(peer.take_log().iter().all(|asked| !asked.request.writes()), "nothing is written before it is said");
    let mut results = Vec::new();
    for case in all() {
        assert_eq!(kit.sweep().await.unwrap(), [] as [String; 0]);
        results.push(kit.run(case).await);
    }
    let report = kit.report(results);
    println!("{report}");
    let (passed, failed, others) = report.counts();
    // The plain API is not atomic.
    assert_eq!((passed, failed, others), (all().filter(|c| c.is_live()).count() - 1, 0, 54 - passed), "see above");
    assert_eq!(kit.sweep().await.unwrap(), [] as [String; 0]);
    assert_eq!(picture(&peer), before);
    let made = |asked: &Asked| (asked.request.method == "POST").then(|| asked.request.json().unwrap()["name"].clone());
    let names: Vec<_> = peer.take_log().iter().filter_map(made).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(name.as_str().unwrap().ends_with(&label), "{name} is not under {label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_seen_by_reading_and_what_it_left_is_deleted() {
    let (peer, place) = (house().await, tempfile::tempdir().unwrap());
    let before = picture(&peer);
    for number in [1, 5, 13, 14, 15, 16, 18, 29, 37, 38] {
        let kit = mutant(&peer, number, place.path()).await;
        let result = kit.run(case(number).unwrap()).await;
        println!("mutation {result}");
        assert!(result.verdict.is_failed(), "{result}");
        assert_eq!(mutant(&peer, 0, place.path()).await.sweep().await.unwrap(), [] as [String; 0]);
        // Of a label that only the mutant's kit knows.
        assert_eq!(kit.sweep().await.unwrap(), [] as [String; 0]);
        assert_eq!(picture(&peer), before, "after mutation {number}");
    }
    // One that shows a name which it does not take back: what it can't delete is told.
    let kit = mutant(&peer, 42, place.path()).await;
    assert!(kit.run(case(42).unwrap()).await.verdict.is_failed());
    let left = kit.sweep().await.unwrap();
    assert!(left.len() == 1 && left[0].starts_with("bücher.wharf-") && left[0].ends_with(" A"), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_faults_or_other_zones_does_not_apply_and_says_why() {
    let (peer, place) = (house().await, tempfile::tempdir().unwrap());
    let kit = mutant(&peer, 0, place.path()).await;
    for case in all().filter(|c: &&Case| !c.is_live()) {
        let result = kit.run(case).await;
        let Verdict::NotApplicable(why) = &result.verdict else { panic!("{result}") };
        assert!(why.contains("live zone"), "{why}");
    }
    assert!(peer.take_log().iter().all(|asked| !asked.request.writes()));
}
