//! The provider against the test kit's Hetzner, without sockets: what is asserted is what stands in the zone afterwards, what was
//! asked, and in which order.

mod wire;

use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;
use wharf_testkit::{
    facade::{Refusal, Wait},
    facades::hetzner::Hetzner,
    faults::{Fault, Mangle, Mishap, Target},
    model::Record,
};

use crate::{api::Api, work};
use wire::{A, BASE, ZONE, wire, wire_of};

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

fn replace(values: &[&str]) -> Edit {
    Edit::Replace(values.iter().map(|v| Value::new(*v)).collect())
}

fn failed(outcome: &Outcome) -> &Problem {
    match outcome {
        Outcome::Failed(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_taken_on_is_accepted_and_polled_until_it_is_done() {
    // Two looks, and it is still at it.
    let mut wire = wire_of(Hetzner::taking(3));
    let zone = wire.to_ref();
    let report = wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    let Outcome::Accepted(operation) = &report.outcomes[0].1 else { panic!("{report:?}") };
    assert!(wire.data(A, "A").is_empty(), "not before it is done");
    let first = work::poll(&mut wire.api(), &zone, operation).unwrap();
    assert_eq!(first, Outcome::Accepted(operation.clone()));
    let Outcome::Applied(set) = work::poll(&mut wire.api(), &zone, operation).unwrap() else { panic!("not applied") };
    assert_eq!((set.name.as_str(), set.ttl, set.values[0].data.as_str()), (A, Some(300), "192.0.2.3"));
    assert_eq!(wire.data(A, "A"), ["192.0.2.3"]);
    assert!(
        wire.settled(&[change(1, A, "A", remove(&["192.0.2.3"]))]).iter().all(|o| matches!(o, Outcome::Applied(_)))
    );
    assert!(wire.data(A, "A").is_empty());
}

#[test]
fn a_change_that_could_not_be_done_is_told_when_it_is_polled() {
    let mut wire = wire_of(Hetzner::failing());
    let outcomes = wire.settled(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    let problem = failed(&outcomes[0]);
    assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::Verify, "action-failed"));
    let zone = wire.to_ref();
    for unknown in ["no-such-operation", "999 A a.example.test.", ""] {
        assert!(work::poll(&mut wire.api(), &zone, unknown).is_err(), "{unknown}");
    }
}

#[test]
fn a_value_that_comes_or_goes_is_sent_alone_and_neighbours_keep_ttl_and_comment() {
    let mut wire = wire().with(A, "A", "192.0.2.1", Some("theirs"));
    wire.settled(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    wire.settled(&[change(1, A, "A", remove(&["192.0.2.3"]))]);
    let sent: Vec<(&str, Json)> = wire.writes();
    assert_eq!(
        sent[0],
        ("/v1/zones/example.test/rrsets/a/A/actions/add_records", json!({"records": [{"value": "192.0.2.3"}]}))
    );
    assert_eq!(sent[1].0, "/v1/zones/example.test/rrsets/a/A/actions/remove_records");
    let left: Vec<&Record> = wire.zone().of(A, "A").collect();
    assert_eq!((left.len(), left[0].ttl, left[0].comment.as_deref()), (1, Some(600), Some("theirs")));
}

#[test]
fn a_value_that_takes_the_place_of_another_is_one_write_and_comments_stay() {
    let mut wire = wire().with(A, "A", "192.0.2.1", Some("stays")).with(A, "A", "192.0.2.2", None);
    let mut asked = change(1, A, "A", replace(&["192.0.2.1", "192.0.2.9"]));
    asked.ttl = Some(600);
    wire.settled(&[asked]);
    assert_eq!(wire.writes().len(), 1);
    assert_eq!(wire.data(A, "A"), ["192.0.2.1", "192.0.2.9"]);
    assert_eq!(wire.zone().of(A, "A").find_map(|r| r.comment.as_deref()), Some("stays"));
}

#[test]
fn another_ttl_is_a_write_of_its_own_that_waits_for_the_values() {
    let mut wire = wire().with(A, "A", "192.0.2.1", None);
    let outcomes = wire.settled(&[change(1, A, "A", replace(&["192.0.2.9"]))]);
    assert!(matches!(outcomes[0], Outcome::Applied(_)), "{outcomes:?}");
    let paths: Vec<&str> = wire.writes().iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(paths, ["set_records", "change_ttl"]);
    let one = wire.zone().of(A, "A").next().unwrap();
    assert_eq!((one.data.as_str(), one.ttl), ("192.0.2.9", Some(300)));
    wire.log.clear();
    wire.settled(&[Change { ttl: Some(120), ..change(1, A, "A", replace(&["192.0.2.9"])) }]);
    assert_eq!(wire.writes()[0].1, json!({"ttl": 120}));
}

#[test]
fn a_second_apply_of_the_same_batch_writes_nothing() {
    let mut wire = wire();
    let batch = [
        change(1, A, "A", add(&["192.0.2.3"])),
        change(2, A, "AAAA", add(&["2001:DB8::0:1"])),
        change(3, A, "TXT", add(&["plain"])),
        change(4, ZONE, "MX", add(&["10 MX.example.test"])),
        change(5, "7.example.test.", "PTR", add(&["Vm.example.test."])),
    ];
    let first = wire.settled(&batch);
    assert!(first.iter().all(|o| matches!(o, Outcome::Applied(_))), "{first:?}");
    assert_eq!((wire.data(A, "TXT"), wire.data(ZONE, "MX")), (vec!["\"plain\""], vec!["10 mx.example.test."]));
    let (writes, before) = (wire.writes().len(), wire.zone().clone());
    let again = wire.settled(&batch);
    assert!(again.iter().all(|o| matches!(o, Outcome::Unchanged(_))), "{again:?}");
    assert_eq!((wire.writes().len(), wire.zone()), (writes, &before));
}

#[test]
fn a_type_makes_room_for_another_when_its_going_is_done() {
    let mut wire = wire().with(A, "A", "192.0.2.1", None);
    let outcomes = wire.settled(&[change(1, A, "CNAME", add(&["b.example.test."])), change(2, A, "A", Edit::Delete)]);
    assert!(outcomes.iter().all(|o| matches!(o, Outcome::Applied(_))), "{outcomes:?}");
    assert_eq!((wire.data(A, "CNAME"), wire.data(A, "A").len()), (vec!["b.example.test."], 0));
}

#[test]
fn what_would_be_refused_hurts_itself_alone() {
    let mut wire = wire().with(A, "A", "192.0.2.1", None);
    let outcomes = wire.settled(&[
        change(1, "b.example.test.", "A", add(&["192.0.2.3"])),
        change(2, A, "CNAME", add(&["b.test."])),
        change(3, "x.elsewhere.test.", "A", add(&["192.0.2.3"])),
        change(4, "64/26.example.test.", "PTR", add(&["vm.example.test."])),
        change(5, "c.example.test.", "SRV", add(&["1 2 3 x."])),
        change(6, "d.example.test.", "A", add(&["192.0.2.4"])),
    ]);
    let codes: Vec<String> =
        outcomes.iter().map(|o| if let Outcome::Failed(p) = o { p.code.clone() } else { String::new() }).collect();
    assert_eq!(codes, ["", "conflict", "out-of-zone", "name", "type", ""]);
    assert_eq!(wire.data("d.example.test.", "A"), ["192.0.2.4"]);
}

#[test]
fn while_hetzner_is_at_one_change_of_the_zone_the_others_have_their_turn_later() {
    let mut wire = wire_of(Hetzner::locking());
    let batch: Vec<Change> =
        (0..4).map(|n| change(n, &format!("n{n}.example.test."), "A", add(&["192.0.2.3"]))).collect();
    let report = wire.apply(&batch);
    assert!(matches!(report.outcomes[0].1, Outcome::Applied(_)));
    assert!(report.outcomes[1..].iter().all(|(_, o)| *o == Outcome::NotAttempted), "{report:?}");
    // The zone is locked from outside: then that is what is told, and nothing was written.
    let mut other = wire_of(Hetzner::locking());
    other.meanwhile = Some(|wire| {
        let body = json!({"name": "theirs", "type": "A", "records": [{"value": "198.51.100.9"}]});
        wire.raw("POST", "/zones/example.test/rrsets", &body);
    });
    let report = other.apply(&batch);
    let problem = failed(&report.outcomes[0].1);
    assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::Retry, "locked"));
    assert!(report.outcomes[1..].iter().all(|(_, o)| *o == Outcome::NotAttempted));
}

#[test]
fn what_somebody_else_wrote_meanwhile_is_not_written_over() {
    // The same value: it is as it should be.
    let mut wire = wire();
    wire.meanwhile = Some(|wire| wire.put(A, "A", "192.0.2.3", None));
    assert!(matches!(wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]).outcomes[0].1, Outcome::Unchanged(_)));
    // Another one: planned again, and both stay.
    let mut wire = self::wire();
    wire.meanwhile = Some(|wire| wire.put(A, "A", "198.51.100.9", None));
    let report = wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert_eq!(failed(&report.outcomes[0].1).action, ProblemAction::Replan);
    wire.settled(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert_eq!(wire.data(A, "A"), ["192.0.2.3", "198.51.100.9"]);
}

#[test]
fn a_lost_write_is_verified_and_the_next_attempt_does_not_double_it() {
    for mishap in [Mishap::LostAfter, Mishap::Mangled(Mangle::Empty), Mishap::Mangled(Mangle::Html)] {
        let mut wire = wire();
        wire.armed.arm(Fault::once(Target::Writes, mishap));
        let report = wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
        assert_eq!(failed(&report.outcomes[0].1).action, ProblemAction::Verify);
        let again = wire.settled(&[change(1, A, "A", add(&["192.0.2.3"]))]);
        assert!(matches!(again[0], Outcome::Unchanged(_) | Outcome::Applied(_)), "{again:?}");
        assert_eq!(wire.data(A, "A"), ["192.0.2.3"]);
    }
}

#[test]
fn refusals_cost_one_request() {
    for (refusal, action) in [
        (Refusal::Credentials, ProblemAction::FixConfig),
        (Refusal::Forbidden, ProblemAction::FixConfig),
        (Refusal::RateLimited(Wait::Own(5)), ProblemAction::Wait),
        (Refusal::Broken, ProblemAction::Retry),
    ] {
        let mut wire = wire();
        wire.armed.arm(Fault::always(Target::Any, Mishap::Refused(refusal)));
        let zone = wire.to_ref();
        let batch = [change(1, A, "A", add(&["192.0.2.3"])), change(2, "b.example.test.", "A", add(&["192.0.2.3"]))];
        let problem = work::apply(&mut wire.api(), &zone, &batch, || false).unwrap_err();
        assert_eq!((problem.action, wire.log.len()), (action, 1), "{refusal:?}");
    }
    let mut wire = wire();
    wire.zone_mut().records_max = Some(3);
    let report = wire.apply(&[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert_eq!(failed(&report.outcomes[0].1).code, "quota");
}

#[test]
fn a_list_is_read_to_its_end_or_called_incomplete() {
    let mut wire = wire();
    for n in 0..250 {
        wire.put(&format!("n{n}.example.test."), "A", "192.0.2.1", None);
    }
    let all = wire.read(&Selector::All).unwrap();
    // Beside ours SOA and NS.
    assert_eq!((all.rrsets.len(), all.complete, all.calls), (252, true, 3));
    let keys = |count: usize| (0..count).map(|n| (format!("n{n}.example.test."), "A".to_owned())).collect::<Vec<_>>();
    let few = wire.read(&Selector::Keys(keys(2))).unwrap();
    assert_eq!((few.rrsets.len(), few.complete, few.calls), (2, true, 2));
    let many = wire.read(&Selector::Keys(keys(30))).unwrap();
    assert_eq!((many.rrsets.len(), many.complete, many.calls), (30, true, 3));
    let zone = wire.to_ref();
    let stopped = work::read(&mut wire.api(), &zone, &Selector::All, || true).unwrap();
    assert!(!stopped.complete);
    for how in [Mangle::Empty, Mangle::Html, Mangle::Cut(80)] {
        wire.armed.clear();
        wire.armed.arm(Fault::always(Target::Reads, Mishap::Mangled(how)));
        assert_eq!(wire.read(&Selector::All).unwrap_err().action, ProblemAction::ReportBug);
    }
}

#[test]
fn a_zone_of_thousands_of_sets_costs_a_look_at_each_name_at_most() {
    let mut wire = wire();
    for n in 0..4_000 {
        wire.put(&format!("n{n}.example.test."), "A", "192.0.2.1", None);
    }
    let batch: Vec<Change> =
        (0..25).map(|n| change(n, &format!("new-{n}.example.test."), "A", add(&["192.0.2.3"]))).collect();
    let report = wire.apply(&batch);
    assert!(report.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Accepted(_) | Outcome::Applied(_))));
    // The first page, looks, writes, and what became of them.
    assert_eq!(report.calls, 1 + 25 + 25 + 1);
}

#[test]
fn a_call_ends_before_its_requests_are_used_up_and_says_what_was_not_attempted() {
    let mut wire = wire();
    let batch: Vec<Change> =
        (0..400).map(|n| change(n, &format!("n{n}.example.test."), "A", add(&["192.0.2.3"]))).collect();
    let report = wire.apply(&batch);
    let done = report.outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Applied(_))).count();
    let taken = done + report.outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Accepted(_))).count();
    assert!(report.calls < 200 && taken > 150, "{taken} of {}", report.calls);
    assert_eq!(done, taken, "all were done when they were asked for at the end");
    assert!(report.outcomes[taken..].iter().all(|(_, o)| *o == Outcome::NotAttempted));
    let zone = wire.to_ref();
    let report = work::apply(&mut wire.api(), &zone, &batch[399..], || true).unwrap();
    assert_eq!(report.outcomes[0].1, Outcome::NotAttempted);
}

#[test]
fn two_changes_with_one_id_are_refused_before_any_request() {
    let mut wire = wire();
    let zone = wire.to_ref();
    let batch = [change(1, A, "A", Edit::Delete), change(1, A, "AAAA", Edit::Delete)];
    assert!(work::apply(&mut wire.api(), &zone, &batch, || false).is_err());
    assert!(wire.log.is_empty());
}

#[test]
fn zones_are_probed_and_listed_and_a_copy_is_not_writable() {
    let mut wire = wire();
    for n in 0..60 {
        wire.add_zone(&format!("z{n}.test."));
    }
    let probed = work::probe(&mut wire.api(), ZONE).unwrap();
    assert_eq!(
        (probed.info.ttl_min, probed.info.ttl_default, probed.info.records_used),
        (Some(60), Some(10_800), Some(3))
    );
    assert!(probed.info.writable && probed.can.asynchronous && !probed.can.atomic);
    let zones = work::zones(&mut wire.api(), || false).unwrap();
    assert_eq!(zones.len(), 61);
    let other = work::probe(&mut wire.api(), "z1.test.").unwrap_err();
    assert_eq!((other.action, other.code.as_str()), (ProblemAction::FixConfig, "zone-not-found"));
    let url = format!("{BASE}/v1");
    let missing = work::probe(&mut Api::new(&mut wire, &url, "missing.test"), "missing.test.").unwrap_err();
    assert_eq!(missing.code, "zone-not-found");
    wire.zone_mut().writable = false;
    assert!(!work::probe(&mut wire.api(), ZONE).unwrap().info.writable);
    assert_eq!(wire.read(&Selector::All).unwrap_err().code, "zone-not-writable");
}

#[test]
fn the_test_button_waits_for_its_trial_record_and_leaves_none() {
    for facade in [Hetzner::default(), Hetzner::locking()] {
        let mut wire = wire_of(facade);
        let before = wire.zone().records.clone();
        let steps = |checks: Vec<Check>| {
            checks.into_iter().map(|c| format!("{} {}", c.step, c.ok)).collect::<Vec<_>>().join(", ")
        };
        let checks = work::test(&mut wire.api(), Some(ZONE), true, "0f", || false);
        assert_eq!(steps(checks), "reach true, auth true, zone true, read true, write true");
        assert_eq!((wire.writes().len(), &wire.zone().records), (2, &before));
        wire.armed.arm(Fault::always(Target::Any, Mishap::Refused(Refusal::Credentials)));
        assert_eq!(steps(work::test(&mut wire.api(), Some(ZONE), true, "0f", || false)), "reach true, auth false");
    }
}

#[test]
fn the_manifest_lets_through_what_is_asked_and_only_of_this_zone() {
    let manifest: Json = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    let rules = manifest["requests"].as_array().unwrap();
    let mut wire = wire().with(A, "A", "192.0.2.1", None);
    work::probe(&mut wire.api(), ZONE).unwrap();
    work::zones(&mut wire.api(), || false).unwrap();
    wire.settled(&[change(1, A, "A", add(&["192.0.2.3"])), change(2, ZONE, "TXT", add(&["\"a\""]))]);
    wire.settled(&[change(1, A, "A", replace(&["192.0.2.9"])), change(2, ZONE, "TXT", Edit::Delete)]);
    let fits = |rule: &str, path: &str| {
        let (rule, path): (Vec<&str>, Vec<&str>) = (rule.split('/').collect(), path.split('/').collect());
        rule.len() == path.len() && rule.iter().zip(&path).all(|(r, p)| *r == "*" || r == p)
    };
    for asked in &wire.log {
        let allowed = rules.iter().any(|rule| {
            let path = format!("/v1{}", rule["path"].as_str().unwrap().replace("{zone}", "example.test"));
            fits(&path, &asked.path) && rule["methods"].as_array().unwrap().iter().any(|m| m == asked.method.as_str())
        });
        assert!(allowed, "{} {}", asked.method, asked.path);
    }
    let paths: std::collections::BTreeSet<&str> = wire.log.iter().map(|r| r.path.rsplit('/').next().unwrap()).collect();
    assert!(
        ["add_records", "set_records", "change_ttl", "remove_records", "zones"].iter().all(|p| paths.contains(p)),
        "{paths:?}"
    );
}
