//! The provider against the test kit's façade of the API, without sockets.

mod wire;

use serde_json::Value as Json;
use wharf_sdk::dns::prelude::*;
use wharf_testkit::{
    facade::{self, Refusal, Wait},
    facades::cloudflare::Plan as Paid,
    faults::{Fault, Mangle, Mishap, Target},
    model::Record,
};

use crate::{api::Api, normal::Plan, work};
use wire::{A, BASE, ZONE, wire, wire_of};

fn change(id: u32, name: &str, rtype: &str, edit: Edit) -> Change {
    Change {
        id,
        name: name.into(),
        rtype: rtype.into(),
        ttl: Some(300),
        edit,
        expect: None,
        owner: None,
        ext: Vec::new(),
    }
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

fn key(name: &str, rtype: &str) -> Selector {
    Selector::Keys(vec![(name.into(), rtype.into())])
}

#[test]
fn adding_keeps_foreign_and_proxied_values_their_ttl_and_their_comments() {
    let mut wire = wire().proxied(A, "192.0.2.2");
    wire.put(A, "A", "192.0.2.1", |r| r.comment = Some("theirs".into()));
    let report = wire.apply(Plan::Free, &[change(1, A, "A", add(&["192.0.2.3"]))]);
    assert!(matches!(&report.outcomes[0].1, Outcome::Applied(set) if set.ttl == Some(600) && set.values.len() == 2));
    assert_eq!(wire.data(A, "A"), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let kept: Vec<_> =
        wire.zone().records.iter().filter(|r| r.comment.is_some() || r.extra["proxied"] == "true").collect();
    assert_eq!(kept.len(), 2);
    let sent = wire.writes();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["posts"][0]["proxied"], false);
    assert_eq!(sent[0].as_object().unwrap().len(), 1, "no more than a post: {}", sent[0]);
}

#[test]
fn what_is_proxied_is_not_read_not_adopted_and_not_deleted() {
    let mut wire = wire().proxied(A, "192.0.2.2");
    assert!(wire.read(&key(A, "A")).unwrap().rrsets.is_empty());
    let report = wire.apply(Plan::Free, &[change(1, A, "A", add(&["192.0.2.2"])), change(2, A, "A", Edit::Delete)]);
    assert_eq!(failed(&report.outcomes[0].1).code, "value-disabled");
    assert!(matches!(report.outcomes[1].1, Outcome::Unchanged(_)));
    assert!(wire.writes().is_empty());
}

#[test]
fn a_second_apply_of_the_same_batch_writes_nothing() {
    let mut wire = wire();
    let batch = [
        change(1, A, "A", add(&["192.0.2.3"])),
        change(2, A, "AAAA", add(&["2001:DB8::0:1"])),
        change(3, A, "TXT", add(&["plain"])),
        change(4, A, "MX", add(&["10 MX.example.test"])),
        change(5, "7.example.test.", "PTR", add(&["Vm.example.test."])),
    ];
    let first = wire.apply(Plan::Free, &batch);
    assert!(first.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Applied(_))), "{first:?}");
    assert_eq!(wire.writes().len(), 1, "one request for the batch");
    assert_eq!(wire.data("7.example.test.", "PTR"), ["vm.example.test."]);
    let serial = wire.zone().serial;
    let again = wire.apply(Plan::Free, &batch);
    assert!(again.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Unchanged(_))), "{again:?}");
    assert_eq!((wire.writes().len(), wire.zone().serial), (1, serial));
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let mut wire = wire();
    let mut asked = [
        change(1, A, "AAAA", add(&["2001:db8::1"])),
        change(2, A, "MX", add(&["10 mx.example.test."])),
        change(3, A, "TXT", add(&["\"a ; b\""])),
        change(4, "7.example.test.", "PTR", add(&["vm.example.test."])),
    ];
    asked[3].ttl = None;
    wire.apply(Plan::Free, &asked);
    let read = wire.read(&Selector::All).unwrap();
    let shown: Vec<_> = read.rrsets.iter().map(|s| (s.rtype.as_str(), s.values[0].data.as_str(), s.ttl)).collect();
    assert_eq!(
        shown,
        [
            ("AAAA", "2001:db8::1", Some(300)),
            ("MX", "10 mx.example.test.", Some(300)),
            ("TXT", "\"a ; b\"", Some(300)),
            ("PTR", "vm.example.test.", None),
        ]
    );
    assert!(read.complete);
}

#[test]
fn removing_takes_only_what_is_named() {
    let mut wire = wire().with(A, "A", "192.0.2.1").with(A, "A", "192.0.2.2");
    wire.apply(Plan::Free, &[change(1, A, "A", remove(&["192.0.2.2"]))]);
    assert_eq!(wire.data(A, "A"), ["192.0.2.1"]);
    wire.apply(Plan::Free, &[change(1, A, "A", remove(&["192.0.2.1"]))]);
    assert!(wire.zone().records.is_empty());
    let third = wire.apply(Plan::Free, &[change(1, A, "A", remove(&["192.0.2.1"]))]);
    assert!(matches!(third.outcomes[0].1, Outcome::Unchanged(_)));
    assert_eq!(wire.writes().len(), 2);
}

#[test]
fn a_value_that_takes_anothers_place_is_changed_where_it_stands() {
    let mut wire = wire();
    wire.put(A, "A", "192.0.2.1", |r| r.comment = Some("note".into()));
    let id = wire.zone().records[0].id.clone();
    wire.apply(Plan::Free, &[change(1, A, "A", Edit::Replace(vec![Value::new("192.0.2.9")]))]);
    let record = &wire.zone().records[0];
    assert_eq!((record.id.as_str(), record.data.as_str(), record.ttl), (id.as_str(), "192.0.2.9", Some(300)));
    assert_eq!(record.comment.as_deref(), Some("note"));
    wire.apply(
        Plan::Free,
        &[Change { ttl: Some(3_600), ..change(1, A, "A", Edit::Replace(vec![Value::new("192.0.2.9")])) }],
    );
    assert_eq!(wire.zone().records[0].ttl, Some(3_600));
    assert!(wire.writes()[1]["patches"][0].get("content").is_none());
}

#[test]
fn ttls_are_brought_within_the_plans_bounds_and_none_is_automatic() {
    let mut wire = wire();
    for (n, (ttl, stored)) in
        [(Some(1), Some(60)), (Some(u32::MAX), Some(86_400)), (None, None)].into_iter().enumerate()
    {
        let name = format!("n{n}.example.test.");
        wire.apply(Plan::Free, &[Change { ttl, ..change(1, &name, "A", add(&["192.0.2.3"])) }]);
        assert_eq!(wire.zone().of(&name, "A").next().unwrap().ttl, stored);
    }
    let mut wire = wire_of(Paid::Enterprise, 0);
    wire.apply(Plan::Enterprise, &[Change { ttl: Some(30), ..change(1, A, "A", add(&["192.0.2.3"])) }]);
    assert_eq!(wire.zone().records[0].ttl, Some(30));
}

#[test]
fn a_type_makes_room_for_another_in_one_request() {
    let mut wire = wire().with(A, "A", "192.0.2.1");
    let report =
        wire.apply(Plan::Free, &[change(1, A, "CNAME", add(&["b.example.test."])), change(2, A, "A", Edit::Delete)]);
    assert!(report.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Applied(_))), "{report:?}");
    assert_eq!((wire.data(A, "A").len(), wire.data(A, "CNAME")), (0, vec!["b.example.test."]));
    assert_eq!(wire.writes().len(), 1);
}

#[test]
fn one_impossible_set_leaves_the_others_not_attempted_and_the_zone_untouched() {
    let mut wire = wire().with("b.example.test.", "A", "192.0.2.1");
    let before = wire.zone().clone();
    let report = wire.apply(
        Plan::Free,
        &[change(1, A, "A", add(&["192.0.2.3"])), change(2, "b.example.test.", "CNAME", add(&["c.example.test."]))],
    );
    assert_eq!(report.outcomes[0].1, Outcome::NotAttempted);
    let problem = failed(&report.outcomes[1].1);
    assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixInput, "conflict"));
    assert_eq!(wire.zone(), &before);
}

#[test]
fn what_is_not_as_expected_is_planned_again_and_nothing_is_written() {
    let mut wire = wire().with(A, "A", "192.0.2.1");
    let mut asked = change(1, A, "A", Edit::Replace(vec![Value::new("192.0.2.9")]));
    asked.expect = Some(vec!["192.0.2.7".into()]);
    let report = wire.apply(Plan::Free, &[asked.clone()]);
    assert_eq!(failed(&report.outcomes[0].1).action, ProblemAction::Replan);
    assert!(wire.writes().is_empty());
    asked.expect = Some(vec!["192.0.2.1".into()]);
    wire.apply(Plan::Free, &[asked]);
    assert_eq!(wire.data(A, "A"), ["192.0.2.9"]);
}

#[test]
fn a_record_that_somebody_made_meanwhile_is_seen_before_it_counts_as_success() {
    let mut wire = wire();
    wire.meanwhile.push((1, |zone| {
        zone.records.push(Record { id: "f".repeat(32), ..Record::new(A, "A", "192.0.2.3", 60) });
    }));
    let mut batch = [change(1, A, "A", add(&["192.0.2.3"])), change(2, "b.example.test.", "A", add(&["192.0.2.4"]))];
    batch[0].expect = Some(Vec::new());
    let report = wire.apply(Plan::Free, &batch);
    assert!(matches!(&report.outcomes[0].1, Outcome::Unchanged(set) if set.ttl == Some(60)), "{report:?}");
    assert_eq!(failed(&report.outcomes[1].1).action, ProblemAction::Replan);
    assert_eq!(wire.writes().len(), 1, "a write is not repeated");
    // The plan that follows finds the one, and writes the other.
    let again = wire.apply(Plan::Free, &[change(2, "b.example.test.", "A", add(&["192.0.2.4"]))]);
    assert!(matches!(again.outcomes[0].1, Outcome::Applied(_)));
}

#[test]
fn a_refusal_as_already_there_that_is_not_true_is_no_success() {
    let mut wire = wire();
    let said =
        r#"{"result":null,"success":false,"errors":[{"code":81057,"message":"Record already exists."}],"messages":[]}"#;
    let answer = facade::Response::text(400, "application/json", said);
    wire.armed.arm(Fault::once(Target::Writes, Mishap::Answered(answer)));
    let report = wire.apply(Plan::Free, &[change(1, A, "A", add(&["192.0.2.3"]))]);
    let problem = failed(&report.outcomes[0].1);
    assert_eq!((problem.action, problem.provider_code.as_deref()), (ProblemAction::Replan, Some("81057")));
}

#[test]
fn a_record_that_vanished_before_its_delete_is_gone() {
    let mut wire = wire().with(A, "A", "192.0.2.1");
    wire.meanwhile.push((1, |zone| zone.records.clear()));
    let mut asked = change(1, A, "A", remove(&["192.0.2.1"]));
    asked.expect = Some(vec!["192.0.2.1".into()]);
    let report = wire.apply(Plan::Free, &[asked]);
    assert!(matches!(report.outcomes[0].1, Outcome::Unchanged(_)), "{report:?}");
}

#[test]
fn an_answer_that_was_lost_is_verified_and_a_replay_doubles_nothing() {
    for (mishap, there) in [(Mishap::LostBefore, 0), (Mishap::LostAfter, 1)] {
        let mut wire = wire();
        wire.armed.arm(Fault::once(Target::Writes, mishap));
        let batch = [change(1, A, "A", add(&["192.0.2.3"]))];
        let report = wire.apply(Plan::Free, &batch);
        assert_eq!(failed(&report.outcomes[0].1).action, ProblemAction::Verify);
        assert_eq!((wire.writes().len(), wire.data(A, "A").len()), (1, there));
        wire.apply(Plan::Free, &batch);
        assert_eq!(wire.data(A, "A"), ["192.0.2.3"]);
    }
}

#[test]
fn a_write_whose_answer_can_not_be_read_is_verified_and_a_read_is_reported() {
    for how in [Mangle::Empty, Mangle::Cut(40), Mangle::Html, Mangle::Prefix("x".into())] {
        let mut wire = wire().with(A, "A", "192.0.2.1");
        wire.armed.arm(Fault::once(Target::Writes, Mishap::Mangled(how.clone())));
        let report = wire.apply(Plan::Free, &[change(1, A, "A", add(&["192.0.2.3"]))]);
        assert_eq!(failed(&report.outcomes[0].1).action, ProblemAction::Verify, "{how:?}");
        wire.armed.arm(Fault::once(Target::Reads, Mishap::Mangled(how.clone())));
        let error = wire.read(&Selector::All).unwrap_err();
        assert_eq!((error.action, error.code.as_str()), (ProblemAction::ReportBug, "malformed-answer"), "{how:?}");
    }
}

#[test]
fn wrong_credentials_cost_exactly_one_request() {
    for why in [Refusal::Credentials, Refusal::Forbidden] {
        let mut wire = wire();
        wire.armed.arm(Fault::always(Target::Any, Mishap::Refused(why)));
        let zone = wire.to_ref();
        let asked = [change(1, A, "A", add(&["192.0.2.3"])), change(2, "b.example.test.", "A", add(&["192.0.2.3"]))];
        let error = work::apply(&mut wire.api(), &zone, &asked, Plan::Free, || false).unwrap_err();
        assert_eq!((error.action, error.code.as_str()), (ProblemAction::FixConfig, "credentials"));
        assert_eq!(wire.log.len(), 1);
        assert_eq!(work::probe(&mut wire.api(), ZONE).unwrap_err().code, "credentials");
        assert_eq!(wire.log.len(), 2);
    }
}

#[test]
fn each_way_of_asking_for_a_pause_reaches_the_host() {
    let later = std::time::Duration::from_secs(40);
    for (wait, least, most) in [
        (Wait::Seconds(7), 7_000, 7_000),
        (Wait::Date(later), 39_000, 41_000),
        (Wait::Own(12), 12_000, 12_000),
        (Wait::Unsaid, 300_000, 300_000),
    ] {
        let mut wire = wire();
        wire.armed.arm(Fault::once(Target::Writes, Mishap::Refused(Refusal::RateLimited(wait))));
        let report = wire.apply(Plan::Free, &[change(1, A, "A", add(&["192.0.2.3"]))]);
        let problem = failed(&report.outcomes[0].1);
        assert_eq!(problem.action, ProblemAction::Wait);
        let ms = problem.retry_after_ms.unwrap();
        assert!((least..=most).contains(&ms), "{wait:?}: {ms}");
    }
}

#[test]
fn a_full_zone_is_for_the_admin() {
    let mut wire = wire().with(A, "A", "192.0.2.1");
    wire.zone_mut().records_max = Some(1);
    let report = wire.apply(Plan::Free, &[change(1, A, "A", add(&["192.0.2.3"]))]);
    let problem = failed(&report.outcomes[0].1);
    assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixConfig, "quota"));
    assert_eq!(problem.provider_code.as_deref(), Some("81045"));
}

#[test]
fn lists_are_read_to_their_end() {
    for count in [0, 99, 100, 101, 601, 1_000, 1_001, 1_201] {
        let mut wire = wire_of(Paid::Free, count);
        let read = wire.read(&Selector::All).unwrap();
        assert_eq!((read.rrsets.len(), read.complete), (count, true), "{count}");
        let pages = count.div_ceil(1_000).max(1);
        assert_eq!((read.calls as usize, wire.log.len()), (pages, pages));
    }
}

#[test]
fn a_list_that_moved_under_the_pages_is_not_complete_and_nothing_is_deleted_by_it() {
    let mut wire = wire_of(Paid::Free, 1_500);
    wire.meanwhile.push((1, |zone| {
        zone.records.remove(0);
    }));
    let read = wire.read(&Selector::All).unwrap();
    assert!(!read.complete);
    // The same in an apply of so many names that the whole zone is looked at.
    let batch: Vec<Change> =
        (0..30).map(|n| change(n, &format!("foreign-{n}.example.test."), "A", Edit::Delete)).collect();
    let at = wire.log.len() + 1;
    wire.meanwhile.push((at, |zone| {
        zone.records.remove(0);
    }));
    let zone = wire.to_ref();
    let error = work::apply(&mut wire.api(), &zone, &batch, Plan::Free, || false).unwrap_err();
    assert_eq!((error.action, error.code.as_str()), (ProblemAction::Retry, "unsteady-list"));
    assert!(wire.writes().is_empty());
}

#[test]
fn a_last_page_that_repeats_for_ever_comes_to_an_end() {
    let mut wire = wire();
    let page = r#"{"result":[{"id":"1","name":"a.example.test","type":"A","content":"192.0.2.1","ttl":1,"proxied":false}],
        "success":true,"errors":[],"messages":[],"result_info":{"page":1,"per_page":1000,"count":1,"total_count":5000}}"#;
    wire.armed.arm(Fault::always(Target::Any, Mishap::Answered(facade::Response::text(200, "application/json", page))));
    let read = wire.read(&Selector::All).unwrap();
    assert_eq!((read.complete, read.rrsets.len(), wire.log.len()), (false, 1, 2));
}

#[test]
fn one_name_of_a_large_zone_costs_one_request_and_many_cost_its_pages() {
    let mut wire = wire_of(Paid::Pro, 5_000);
    let one = wire.read(&key("foreign-17.example.test.", "A")).unwrap();
    assert_eq!((one.rrsets.len(), one.complete, one.calls), (1, true, 1));
    assert_eq!(wire.log[0].query("name.exact"), Some("foreign-17.example.test"));
    assert_eq!(wire.log[0].query("type"), Some("A"));
    let keys = (0..50).map(|n| (format!("foreign-{n}.example.test."), "A".into())).collect();
    let many = wire.read(&Selector::Keys(keys)).unwrap();
    assert_eq!((many.rrsets.len(), many.complete, many.calls), (50, true, 5));
    let below = wire.read(&Selector::Below("foreign-17.example.test.".into())).unwrap();
    assert_eq!((below.rrsets.len(), below.calls), (1, 1));
}

#[test]
fn a_name_below_ends_at_a_label() {
    let mut wire =
        wire().with("x.sub.example.test.", "A", "192.0.2.1").with("x.notsub.example.test.", "A", "192.0.2.2");
    let below = wire.read(&Selector::Below("sub.example.test.".into())).unwrap();
    assert_eq!(below.rrsets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["x.sub.example.test."]);
}

#[test]
fn a_batch_is_one_request_up_to_the_plans_limit() {
    for (plan, paid, count, requests) in [
        (Plan::Free, Paid::Free, 200, 1),
        (Plan::Free, Paid::Free, 201, 2),
        (Plan::Paid, Paid::Business, 3_500, 1),
        (Plan::Paid, Paid::Business, 3_501, 2),
    ] {
        let mut wire = wire_of(paid, 0);
        let batch: Vec<Change> =
            (0..count).map(|n| change(n, &format!("n{n}.example.test."), "A", add(&["192.0.2.3"]))).collect();
        let report = wire.apply(plan, &batch);
        assert!(report.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Applied(_))));
        assert_eq!((wire.writes().len(), wire.zone().records.len()), (requests, count as usize), "{plan:?} {count}");
    }
}

#[test]
fn what_was_written_before_a_further_request_failed_is_told_as_written() {
    let mut wire = wire();
    wire.armed.arm(Fault::once(Target::Writes, Mishap::Refused(Refusal::Quota)).after(1));
    let batch: Vec<Change> =
        (0..401).map(|n| change(n, &format!("n{n}.example.test."), "A", add(&["192.0.2.3"]))).collect();
    let outcomes = wire.apply(Plan::Free, &batch).outcomes;
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, o)| is(o)).count();
    assert_eq!(count(|o| matches!(o, Outcome::Applied(_))), 200);
    assert_eq!(count(|o| matches!(o, Outcome::Failed(p) if p.code == "quota")), 200);
    assert_eq!(count(|o| matches!(o, Outcome::NotAttempted)), 1);
    assert_eq!(wire.zone().records.len(), 200);
}

#[test]
fn what_was_written_stays_told_so_when_a_further_request_meets_a_record_of_somebody_else() {
    let mut wire = wire();
    // After the look and the first request.
    wire.meanwhile.push((2, |zone| {
        zone.records.push(Record { id: "f".repeat(32), ..Record::new("n200.example.test.", "A", "192.0.2.3", 60) });
    }));
    let batch: Vec<Change> =
        (0..201).map(|n| change(n, &format!("n{n}.example.test."), "A", add(&["192.0.2.3"]))).collect();
    let outcomes = wire.apply(Plan::Free, &batch).outcomes;
    assert!(outcomes[..200].iter().all(|(_, o)| matches!(o, Outcome::Applied(_))), "{:?}", outcomes[0]);
    assert!(matches!(outcomes[200].1, Outcome::Unchanged(_)), "{:?}", outcomes[200]);
}

#[test]
fn a_call_that_nobody_waits_for_stops_before_the_next_look_and_before_the_write() {
    let batch = [change(1, A, "A", add(&["192.0.2.3"])), change(2, "b.example.test.", "A", add(&["192.0.2.4"]))];
    let mut wire = wire().with("b.example.test.", "A", "192.0.2.4");
    let zone = wire.to_ref();
    let report = work::apply(&mut wire.api(), &zone, &batch, Plan::Free, || true).unwrap();
    assert!(report.outcomes.iter().all(|(_, o)| *o == Outcome::NotAttempted), "{report:?}");
    assert_eq!(wire.log.len(), 1);
    // Asked before the second look, and before the write.
    let asked = std::cell::Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) > 0;
    let report = work::apply(&mut wire.api(), &zone, &batch, Plan::Free, stop).unwrap();
    assert_eq!(report.outcomes[0].1, Outcome::NotAttempted);
    assert!(matches!(report.outcomes[1].1, Outcome::Unchanged(_)));
    assert!(wire.writes().is_empty());
}

#[test]
fn a_read_that_nobody_waits_for_is_not_complete() {
    let mut wire = wire_of(Paid::Free, 1_500);
    let zone = wire.to_ref();
    let keys = |n: usize| Selector::Keys((0..n).map(|n| (format!("foreign-{n}.example.test."), "A".into())).collect());
    for (what, requests) in [(Selector::All, 1), (keys(2), 0), (keys(30), 1)] {
        let read = work::read(&mut wire.api(), &zone, &what, || true).unwrap();
        assert!(!read.complete);
        assert_eq!(read.calls, requests);
    }
}

#[test]
fn two_changes_with_one_id_are_refused_before_any_request() {
    let mut wire = wire();
    let zone = wire.to_ref();
    let batch = [change(1, A, "A", Edit::Delete), change(1, A, "AAAA", Edit::Delete)];
    assert!(work::apply(&mut wire.api(), &zone, &batch, Plan::Free, || false).is_err());
    assert!(wire.log.is_empty());
}

#[test]
fn a_probe_tells_plan_quota_and_bounds() {
    let mut wire = wire_of(Paid::Free, 3);
    let probed = work::probe(&mut wire.api(), ZONE).unwrap();
    assert_eq!((probed.info.records_used, probed.info.records_max), (Some(3), Some(200)));
    assert_eq!((probed.info.ttl_min, probed.info.ttl_max, probed.info.ttl_default), (Some(60), Some(86_400), None));
    assert_eq!((probed.can.max_changes, probed.can.atomic, probed.info.writable), (200, true, true));
    assert_eq!(ext_get(&probed.info.ext, "plan"), Some("free"));
    assert_eq!(probed.info.zone, wire.to_ref());
    // More than the plan is known to allow: then it is not known.
    let mut large = wire_of(Paid::Free, 201);
    assert_eq!(work::probe(&mut large.api(), ZONE).unwrap().info.records_max, None);
    let mut business = wire_of(Paid::Business, 0);
    assert_eq!(work::probe(&mut business.api(), ZONE).unwrap().can.max_changes, 3_500);
}

#[test]
fn a_secondary_zone_is_not_writable_and_another_or_unknown_one_is_named() {
    let mut wire = wire();
    wire.zone_mut().writable = false;
    assert!(!work::probe(&mut wire.api(), ZONE).unwrap().info.writable);
    let error = work::probe(&mut wire.api(), "other.test.").unwrap_err();
    assert_eq!((error.action, error.code.as_str()), (ProblemAction::FixConfig, "zone-not-found"));
    assert!(error.message.contains("example.test") && error.message.contains("other.test"), "{}", error.message);
    let url = format!("{BASE}/client/v4");
    let error = work::probe(&mut Api::new(&mut wire, &url, "example.test", None), ZONE).unwrap_err();
    assert_eq!((error.code.as_str(), error.provider_code.as_deref()), ("zone-not-found", Some("7003")));
    // Taken away after it was found.
    let zone = wire.to_ref();
    wire.model.zones.clear();
    let url = format!("{BASE}/client/v4");
    let error =
        work::read(&mut Api::new(&mut wire, &url, &zone.id, None), &zone, &Selector::All, || false).unwrap_err();
    assert_eq!((error.action, error.code.as_str()), (ProblemAction::FixConfig, "zone-not-found"));
}

#[test]
fn all_zones_are_listed() {
    let mut wire = wire();
    for n in 0..120 {
        wire.model.add_zone(&format!("z{n}.test."), 0);
    }
    let zones = work::zones(&mut wire.api(), || false).unwrap();
    assert_eq!((zones.len(), wire.log.len()), (121, 3));
    assert!(zones.iter().any(|z| z.name == "z77.test."));
}

#[test]
fn the_test_button_tells_steps_apart_and_cleans_up() {
    let mut wire = wire_of(Paid::Free, 2);
    let before = wire.zone().records.clone();
    let checks = work::test(&mut wire.api(), Some(ZONE), true, "0f");
    let steps = |checks: &[Check]| checks.iter().map(|c| (c.step.clone(), c.ok)).collect::<Vec<_>>();
    let good = |list: &[&str]| list.iter().map(|s| ((*s).to_owned(), true)).collect::<Vec<_>>();
    assert_eq!(steps(&checks), good(&["reach", "auth", "zone", "read", "write"]));
    assert_eq!((wire.writes().len(), &wire.zone().records), (2, &before));
    assert_eq!(steps(&work::test(&mut wire.api(), None, false, "0f")), good(&["reach", "auth"]));
    let mut other = good(&["reach", "auth"]);
    other.push(("zone".into(), false));
    assert_eq!(steps(&work::test(&mut wire.api(), Some("other.test."), true, "0f")), other);
    wire.armed.arm(Fault::always(Target::Any, Mishap::Refused(Refusal::Credentials)));
    let mut refused = good(&["reach"]);
    refused.push(("auth".into(), false));
    assert_eq!(steps(&work::test(&mut wire.api(), Some(ZONE), true, "0f")), refused);
    wire.armed.clear();
    wire.armed.arm(Fault::always(Target::Any, Mishap::LostBefore));
    assert_eq!(steps(&work::test(&mut wire.api(), Some(ZONE), true, "0f")), [("reach".to_owned(), false)]);
}

#[test]
fn the_manifest_lets_through_what_is_asked_and_only_of_this_zone() {
    let manifest: Json = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    let rules = manifest["requests"].as_array().unwrap();
    let mut wire = wire().with(A, "A", "192.0.2.1");
    work::probe(&mut wire.api(), ZONE).unwrap();
    work::zones(&mut wire.api(), || false).unwrap();
    wire.read(&Selector::All).unwrap();
    wire.apply(Plan::Free, &[change(1, A, "A", Edit::Delete)]);
    let id = wire.zone().id.clone();
    let allowed = |request: &facade::Request| {
        rules.iter().any(|rule| {
            let path = format!("/client/v4{}", rule["path"].as_str().unwrap().replace("{zone-id}", &id));
            path == request.path && rule["methods"].as_array().unwrap().iter().any(|m| m == request.method.as_str())
        })
    };
    assert!(wire.log.len() >= 5 && wire.log.iter().all(allowed), "{:?}", wire.log);
    assert!(rules.iter().all(|rule| !rule["path"].as_str().unwrap().contains('*')));
}
