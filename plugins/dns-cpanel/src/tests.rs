//! The provider against the test kit's cPanel, without sockets: what is asserted is what stands in the zone afterwards, and what
//! was asked.

mod wire;

use serde_json::Value as Json;
use wharf_sdk::dns::prelude::*;
use wharf_testkit::{
    facade::{Refusal, Wait},
    facades::cpanel::Door as There,
    faults::{Fault, Mangle, Mishap, Target},
    model::Record,
};

use crate::work;
use wire::{A, ZONE, wire};

fn change(id: u32, name: &str, rtype: &str, edit: Edit) -> Change {
    let (name, rtype) = (name.into(), rtype.into());
    Change { id, name, rtype, ttl: Some(300), edit, expect: None, owner: None, ext: Vec::new() }
}

fn add(values: &[&str]) -> Edit {
    Edit::AddValues(values.iter().map(|v| Value::new(*v)).collect())
}

fn remove(values: &[&str]) -> Edit {
    Edit::RemoveValues(values.iter().map(|v| (*v).to_owned()).collect())
}

fn failed(outcome: &Outcome) -> &Problem {
    match outcome {
        Outcome::Failed(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_is_one_request_with_the_serial_that_was_read_and_the_second_time_none() {
    for door in [There::Whm, There::Account] {
        let mut wire = wire(door);
        let batch = [
            change(1, A, "A", add(&["192.0.2.3"])),
            change(2, A, "AAAA", add(&["2001:DB8::0:1"])),
            change(3, A, "TXT", add(&[r#"plain "quoted""#])),
            change(4, ZONE, "MX", add(&["10 MX.example.test"])),
        ];
        let serial = wire.zone().serial.to_string();
        let first = wire.apply(&batch);
        assert!(first.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Applied(_))), "{first:?}");
        assert_eq!((wire.writes().len(), first.calls), (1, 2));
        assert!(wire.writes()[0].contains(&("serial".into(), serial)));
        assert_eq!(first.version, Some(wire.zone().serial.to_string()));
        assert_eq!(wire.data(A, "TXT"), [r#""plain \"quoted\"""#]);
        assert_eq!(wire.data(ZONE, "MX"), ["10 mx.example.test."]);
        let before = wire.zone().clone();
        let again = wire.apply(&batch);
        assert!(again.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Unchanged(_))), "{again:?}");
        assert_eq!((wire.writes().len(), wire.zone()), (1, &before));
    }
}

#[test]
fn a_value_that_takes_the_place_of_another_is_written_in_its_line() {
    let mut wire = wire(There::Whm).with(A, "A", "192.0.2.1").with("b.example.test.", "A", "192.0.2.2");
    wire.apply(&[change(1, A, "A", Edit::Replace(vec![Value::new("192.0.2.9")]))]);
    let sent = &wire.writes()[0];
    let names: Vec<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["zone", "serial", "edit"]);
    let edit: Json = serde_json::from_str(&sent[2].1).unwrap();
    assert_eq!((edit["line_index"].as_u64(), edit["data"][0].as_str()), (Some(12), Some("192.0.2.9")));
    assert_eq!((wire.data(A, "A"), wire.data("b.example.test.", "A")), (vec!["192.0.2.9"], vec!["192.0.2.2"]));
}

#[test]
fn neighbours_keep_their_ttl_and_the_last_value_takes_nothing_along() {
    let mut wire = wire(There::Whm).with(A, "A", "192.0.2.1");
    wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert_eq!(wire.zone().of(A, "A").map(|r| r.ttl).collect::<Vec<_>>(), [Some(600), Some(600)]);
    wire.apply(&[change(1, A, "A", remove(&["192.0.2.1"])), change(2, A, "A", remove(&["192.0.2.3"]))]);
    assert!(wire.data(A, "A").is_empty());
    assert_eq!(wire.data(ZONE, "NS").len(), 2);
}

#[test]
fn a_zone_that_somebody_changed_meanwhile_is_planned_again_and_not_written() {
    for door in [There::Whm, There::Account] {
        let mut wire = wire(door).with(A, "A", "192.0.2.1");
        // A line was taken out above ours: its number is another's by now.
        wire.meanwhile = Some(|zone| {
            zone.records.insert(2, Record::new("theirs.example.test.", "A", "198.51.100.9", 60));
            zone.serial += 1;
        });
        let report = wire.apply(&[change(1, A, "A", remove(&["192.0.2.1"]))]);
        let problem = failed(&report.outcomes[0].1);
        assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::Replan, "changed"));
        assert_eq!(wire.data("theirs.example.test.", "A"), ["198.51.100.9"]);
        assert_eq!(wire.data(A, "A"), ["192.0.2.1"]);
        let report = wire.apply(&[change(1, A, "A", remove(&["192.0.2.1"]))]);
        assert!(matches!(report.outcomes[0].1, Outcome::Applied(_)));
        assert_eq!(wire.data("theirs.example.test.", "A"), ["198.51.100.9"]);
    }
}

#[test]
fn a_cname_beside_others_is_refused_before_it_is_sent_and_its_neighbours_are_not_attempted() {
    let mut wire = wire(There::Whm).with(A, "TXT", "\"theirs\"");
    let report =
        wire.apply(&[change(1, "b.example.test.", "A", add(&["192.0.2.3"])), change(2, A, "CNAME", add(&["b.test."]))]);
    assert_eq!(report.outcomes[0].1, Outcome::NotAttempted);
    assert_eq!(failed(&report.outcomes[1].1).code, "conflict");
    assert!(wire.writes().is_empty());
}

#[test]
fn a_type_makes_room_for_another_in_one_request() {
    let mut wire = wire(There::Whm).with(A, "A", "192.0.2.1");
    let report = wire.apply(&[change(1, A, "CNAME", add(&["b.example.test."])), change(2, A, "A", Edit::Delete)]);
    assert!(report.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Applied(_))), "{report:?}");
    assert_eq!((wire.data(A, "CNAME"), wire.data(A, "A").len()), (vec!["b.example.test."], 0));
}

#[test]
fn what_cpanel_refuses_is_told_in_its_words_and_nothing_is_written() {
    let mut wire = wire(There::Whm);
    let before = wire.zone().clone();
    let nameservers: Vec<&str> = vec!["ns1.panel.test.", "ns2.panel.test."];
    let report = wire.apply(&[change(1, ZONE, "NS", remove(&nameservers)), change(2, A, "A", add(&["192.0.2.3"]))]);
    let problem = failed(&report.outcomes[0].1);
    assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixInput, "refused"));
    assert!(problem.message.contains("at least one “NS” record"), "{}", problem.message);
    assert_eq!(wire.zone(), &before);
}

#[test]
fn the_owner_of_an_account_is_told_that_there_is_no_ptr() {
    let mut wire = wire(There::Account);
    let report = wire.apply(&[change(1, "7.example.test.", "PTR", add(&["vm.example.test."]))]);
    assert_eq!(failed(&report.outcomes[0].1).code, "type");
    assert!(wire.writes().is_empty());
}

#[test]
fn texts_survive_whatever_is_in_them() {
    let mut wire = wire(There::Whm);
    for text in [r#""a \"b\" \\ c; d""#, r#""b\195\188cher""#, r#""two" "strings""#, r#""""#] {
        wire.apply(&[change(1, A, "TXT", add(&[text]))]);
        assert_eq!(wire.data(A, "TXT"), [text]);
        let read = wire.read(&Selector::Keys(vec![(A.into(), "TXT".into())])).unwrap();
        assert_eq!(read.rrsets[0].values[0].data, text);
        wire.apply(&[change(1, A, "TXT", Edit::Delete)]);
    }
}

#[test]
fn nobody_who_does_not_wait_any_more_has_something_written() {
    let mut wire = wire(There::Whm);
    let zone = wire.to_ref();
    let report = work::apply(&mut wire.api(), &zone, &[change(1, A, "A", add(&["192.0.2.3"]))], || true).unwrap();
    assert_eq!(report.outcomes[0].1, Outcome::NotAttempted);
    assert!(wire.writes().is_empty());
}

#[test]
fn two_changes_with_one_id_are_refused_before_any_request() {
    let mut wire = wire(There::Whm);
    let zone = wire.to_ref();
    let batch = [change(1, A, "A", Edit::Delete), change(1, A, "AAAA", Edit::Delete)];
    assert!(work::apply(&mut wire.api(), &zone, &batch, || false).is_err());
    assert!(wire.log.is_empty());
}

#[test]
fn refusals_cost_one_request_and_a_lost_write_is_verified() {
    for door in [There::Whm, There::Account] {
        for (refusal, action) in [
            (Refusal::Credentials, ProblemAction::FixConfig),
            (Refusal::Forbidden, ProblemAction::FixConfig),
            (Refusal::RateLimited(Wait::Seconds(7)), ProblemAction::Wait),
            (Refusal::Broken, ProblemAction::Retry),
        ] {
            let mut wire = wire(door);
            wire.armed.arm(Fault::always(Target::Any, Mishap::Refused(refusal)));
            let zone = wire.to_ref();
            let asked = [change(1, A, "A", add(&["192.0.2.3"]))];
            let problem = work::apply(&mut wire.api(), &zone, &asked, || false).unwrap_err();
            assert_eq!((problem.action, wire.log.len()), (action, 1), "{refusal:?}");
        }
        for mishap in [Mishap::LostAfter, Mishap::Mangled(Mangle::Empty), Mishap::Refused(Refusal::Broken)] {
            let mut wire = wire(door);
            wire.armed.arm(Fault::once(Target::Writes, mishap));
            let report = wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
            assert_eq!(failed(&report.outcomes[0].1).action, ProblemAction::Verify);
        }
    }
}

#[test]
fn a_broken_list_is_never_an_empty_zone() {
    for how in [Mangle::Empty, Mangle::Html, Mangle::Cut(80)] {
        let mut wire = wire(There::Whm).with(A, "A", "192.0.2.1");
        wire.armed.arm(Fault::always(Target::Reads, Mishap::Mangled(how)));
        assert_eq!(wire.read(&Selector::All).unwrap_err().action, ProblemAction::ReportBug);
    }
}

#[test]
fn zones_are_probed_and_listed_and_what_is_not_there_is_named() {
    for door in [There::Whm, There::Account] {
        let mut wire = wire(door);
        wire.model.add_zone("other.test.", 0);
        let probed = work::probe(&mut wire.api(), ZONE).unwrap();
        assert_eq!(probed.info.serial.as_deref(), Some("2026010100"));
        assert_eq!((probed.info.ttl_default, probed.info.records_used), (Some(14_400), Some(3)));
        assert!(probed.can.conditional && probed.can.atomic);
        let zones = wire.api().zones().unwrap();
        assert_eq!(zones.iter().map(|z| z.name.as_str()).collect::<Vec<_>>(), [ZONE, "other.test."]);
        let missing = work::probe(&mut wire.api(), "missing.test.").unwrap_err();
        assert_eq!((missing.action, missing.code.as_str()), (ProblemAction::FixConfig, "zone-not-found"));
    }
}

#[test]
fn the_test_button_tells_steps_apart_and_cleans_up() {
    for door in [There::Whm, There::Account] {
        let mut wire = wire(door);
        let before = wire.zone().records.clone();
        let steps = |checks: Vec<Check>| {
            checks.into_iter().map(|c| format!("{} {}", c.step, c.ok)).collect::<Vec<_>>().join(", ")
        };
        let checks = work::test(&mut wire.api(), Some(ZONE), true, "0f");
        assert_eq!(steps(checks), "reach true, auth true, zone true, read true, write true");
        assert_eq!((wire.writes().len(), &wire.zone().records), (2, &before));
        let checks = work::test(&mut wire.api(), Some("missing.test."), true, "0f");
        assert_eq!(steps(checks), "reach true, auth true, zone false");
        wire.armed.arm(Fault::always(Target::Any, Mishap::Refused(Refusal::Credentials)));
        assert_eq!(steps(work::test(&mut wire.api(), Some(ZONE), true, "0f")), "reach true, auth false");
    }
}

#[test]
fn settings_that_are_missing_or_unknown_are_named() {
    let of = |interface: Option<&str>, user: &str| {
        let (interface, user) = (interface.map(str::to_owned), user.to_owned());
        crate::server(move |key| match key {
            "server-url" => Some("https://panel.test:2087".into()),
            "interface" => interface.clone(),
            _ => Some(user.clone()),
        })
    };
    assert_eq!(of(None, "root").unwrap().door, crate::api::Door::Whm);
    assert_eq!(of(Some("cpanel"), "shop").unwrap().door, crate::api::Door::Account);
    assert_eq!(of(Some("plesk"), "root").unwrap_err().code, "interface");
    assert_eq!(of(None, " ").unwrap_err().code, "user");
}

#[test]
fn the_manifest_lets_through_what_is_asked() {
    let manifest: Json = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    let rules = manifest["requests"].as_array().unwrap();
    for door in [There::Whm, There::Account] {
        let mut wire = wire(door);
        wire.api().zones().unwrap();
        wire.read(&Selector::All).unwrap();
        wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
        let allowed = |method: &str, path: &str| {
            rules.iter().any(|r| r["path"] == path && r["methods"].as_array().unwrap().iter().any(|m| m == method))
        };
        assert!(wire.log.len() >= 4 && wire.log.iter().all(|r| allowed(&r.method, &r.path)), "{:?}", wire.log);
    }
}
