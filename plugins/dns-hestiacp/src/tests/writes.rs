//! What is written, and what is left alone.

use super::*;

#[test]
fn adding_keeps_neighbours_and_their_ttl_and_names_the_id_before_the_restart() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1");
    let report = world.apply(&[change(1, A, "A", add(&["192.0.2.3"])), change(2, A, "AAAA", add(&["2001:DB8::3"]))]);
    assert!(is_applied(&report, 0) && is_applied(&report, 1), "{report:?}");
    assert_eq!(world.data(A, "A"), ["192.0.2.1", "192.0.2.3"]);
    let sent: Vec<_> = world.writes().into_iter().map(|fields| arguments(fields)).collect();
    assert_eq!(
        sent,
        [
            ["wharf", "example.test", "a", "A", "192.0.2.3", "", "", "no", "300"],
            ["wharf", "example.test", "a", "AAAA", "2001:db8::3", "", "", "", "300"],
        ]
    );
    assert_eq!(world.commands().len(), 4, "a look, two commands, a last look: {:?}", world.commands());
}

#[test]
fn a_second_apply_of_the_same_batch_writes_nothing() {
    let mut world = world();
    let batch = [
        change(1, A, "A", add(&["192.0.2.3"])),
        change(2, "xn--bcher-kva.example.test.", "A", add(&["192.0.2.4"])),
        change(3, "7.example.test.", "PTR", add(&["VM.example.test"])),
        change(4, A, "TXT", add(&["\"v=spf1 -all\""])),
        change(5, ZONE, "MX", add(&["10 mail.example.test."])),
        change(6, "*.w.example.test.", "CNAME", add(&["a.example.test."])),
        change(7, "t.example.test.", "TXT", add(&["\"bare\""])),
    ];
    let first = world.apply(&batch);
    assert!((0..batch.len()).all(|at| is_applied(&first, at)), "{first:?}");
    world.log.clear();
    let again = world.apply(&batch);
    assert!(again.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Unchanged(_))), "{again:?}");
    assert_eq!(world.commands(), ["v-list-dns-records"]);
}

#[test]
fn every_copy_of_a_value_goes_and_nothing_else() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1").with_record("21", A, "A", "192.0.2.1").with_record(
        "22",
        A,
        "A",
        "192.0.2.2",
    );
    let report = world.apply(&[change(1, A, "A", remove(&["192.0.2.1"]))]);
    assert!(is_applied(&report, 0));
    assert_eq!(world.data(A, "A"), ["192.0.2.2"]);
    let ids: Vec<_> = world.writes().into_iter().map(|fields| fields["arg3"].as_str()).collect();
    assert_eq!(ids, ["20", "21"]);
    // A list before each, and one at the end.
    assert_eq!(world.commands().iter().filter(|c| **c == "v-list-dns-records").count(), 3);
}

#[test]
fn a_number_that_was_given_to_somebody_else_meanwhile_is_not_deleted() {
    let mut world =
        world().with_record("20", A, "A", "192.0.2.1").with_record("21", "b.example.test.", "A", "192.0.2.2");
    // While the first is deleted somebody deletes the second, and its number goes to another.
    world.before("v-list-dns-records", 2, |model| {
        let all = records(model);
        all.retain(|r| r.id != "21");
        all.push(Record { id: "21".into(), ..Record::new("foreign.example.test.", "A", "203.0.113.1", 300) });
    });
    let batch = [change(1, A, "A", Edit::Delete), change(2, "b.example.test.", "A", Edit::Delete)];
    let report = world.apply(&batch);
    assert!(is_applied(&report, 0) && is_applied(&report, 1), "what is gone is gone: {report:?}");
    assert_eq!(world.data("foreign.example.test.", "A"), ["203.0.113.1"]);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn the_number_of_a_copy_that_is_gone_meanwhile_is_left_to_whom_it_was_given() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1").with_record("21", A, "A", "192.0.2.1");
    world.before("v-list-dns-records", 2, |model| {
        records(model).iter_mut().filter(|r| r.id == "21").for_each(|r| r.data = "203.0.113.1".into());
    });
    assert!(is_applied(&world.apply(&[change(1, A, "A", remove(&["192.0.2.1"]))]), 0));
    assert_eq!((world.data(A, "A"), world.writes().len()), (vec!["203.0.113.1"], 1));
}

#[test]
fn a_number_that_vanishes_right_before_the_command_is_gone_as_it_should_be() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1");
    world.before("v-delete-dns-record", 1, |model| records(model).retain(|r| r.id != "20"));
    assert!(is_applied(&world.apply(&[change(1, A, "A", Edit::Delete)]), 0));
}

#[test]
fn a_line_of_somebody_else_under_the_same_number_survives_and_is_named() {
    let foreign = "foreign.example.test.";
    for edit in [Edit::Delete, replace(&["192.0.2.7"])] {
        let mut world = world().with_record("20", A, "A", "192.0.2.1").with_record("20", foreign, "TXT", "\"x\"");
        let report = world.apply(&[change(1, A, "A", edit), change(2, A, "AAAA", add(&["2001:db8::1"]))]);
        let found = problem(&report, 0);
        assert_eq!((found.action, found.code.as_str()), (ProblemAction::FixConfig, "shared-id"));
        assert!(found.message.contains(foreign) && found.message.contains("id 20"), "{}", found.message);
        assert!(is_applied(&report, 1), "the others go on");
        assert_eq!((world.data(foreign, "TXT"), world.data(A, "A")), (vec!["\"x\""], vec!["192.0.2.1"]));
    }
}

#[test]
fn two_of_ours_under_one_number_go_with_one_command() {
    let b = "b.example.test.";
    let mut world = world().with_record("20", A, "A", "192.0.2.1").with_record("20", b, "A", "192.0.2.2");
    let report = world.apply(&[change(1, A, "A", Edit::Delete), change(2, b, "A", Edit::Delete)]);
    assert!(is_applied(&report, 0) && is_applied(&report, 1), "{report:?}");
    assert!(world.data(A, "A").is_empty() && world.data(b, "A").is_empty());
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn a_value_that_takes_the_place_of_another_is_one_command_without_a_gap() {
    let ptr = "7.example.test.";
    let mut world = world().with_record("20", ptr, "PTR", "old.example.test.");
    let batch =
        [change(1, ptr, "PTR", remove(&["old.example.test."])), change(2, ptr, "PTR", add(&["new.example.test."]))];
    let report = world.apply(&batch);
    assert!(is_applied(&report, 0) && is_applied(&report, 1), "{report:?}");
    assert_eq!(world.data(ptr, "PTR"), ["new.example.test."]);
    let writes = world.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0]["cmd"], "v-change-dns-record");
    assert_eq!(arguments(writes[0]), ["wharf", "example.test", "20", "7", "PTR", "new.example.test.", "", "", "300"]);
}

#[test]
fn a_name_that_hestiacp_keeps_decoded_is_changed_under_the_name_it_has_there() {
    let name = "xn--bcher-kva.example.test.";
    let mut world = world().with_record("20", name, "A", "192.0.2.1");
    let report = world.apply(&[change(1, name, "A", replace(&["192.0.2.2"]))]);
    assert!(is_applied(&report, 0), "{report:?}");
    assert_eq!((world.data(name, "A"), world.writes()[0]["arg4"].as_str()), (vec!["192.0.2.2"], "bücher"));
}

#[test]
fn a_ttl_that_is_asked_for_is_set_and_one_that_is_not_is_the_zones() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1");
    let mut slow = change(1, A, "A", replace(&["192.0.2.1"]));
    slow.ttl = Some(7_200);
    let mut none = change(2, "n.example.test.", "A", add(&["192.0.2.2"]));
    none.ttl = None;
    let mut zero = change(3, "z.example.test.", "A", add(&["192.0.2.3"]));
    zero.ttl = Some(0);
    world.apply(&[slow, none, zero]);
    let ttl = |name: &str| world.model.zone(ZONE).unwrap().of(name, "A").next().unwrap().ttl;
    assert_eq!([ttl(A), ttl("n.example.test."), ttl("z.example.test.")], [Some(7_200), None, Some(0)]);
    assert_eq!(world.writes()[0]["cmd"], "v-change-dns-record");
}

#[test]
fn no_pending_changes_is_success() {
    for login in [By::AccessKey, By::Password] {
        let mut world = world_by(login).with_record("20", A, "A", "192.0.2.1");
        world.before("v-change-dns-record", 1, |model| {
            records(model).iter_mut().filter(|r| r.id == "20").for_each(|r| r.ttl = Some(7_200));
        });
        let mut slow = change(1, A, "A", replace(&["192.0.2.1"]));
        slow.ttl = Some(7_200);
        assert!(is_applied(&world.apply(&[slow]), 0));
    }
}

#[test]
fn the_last_address_of_a_zone_is_not_even_tried_and_can_be_changed() {
    let mut world = world();
    records(&mut world.model).retain(|r| r.rtype != "A");
    world.put("20", A, "A", "192.0.2.1");
    let report = world.apply(&[change(1, A, "A", Edit::Delete), change(2, A, "AAAA", add(&["2001:db8::1"]))]);
    let found = problem(&report, 0);
    assert_eq!((found.action, found.code.as_str()), (ProblemAction::FixConfig, "last-record"));
    assert!(found.message.contains("Add another A record"), "{}", found.message);
    assert!(is_applied(&report, 1), "the others go on");
    assert!(!world.commands().contains(&"v-delete-dns-record"));
    assert!(is_applied(&world.apply(&[change(1, A, "A", replace(&["192.0.2.2"]))]), 0));
    assert_eq!(world.data(A, "A"), ["192.0.2.2"]);
}

#[test]
fn the_last_address_goes_when_another_comes_in_the_same_batch() {
    let mut world = world();
    records(&mut world.model).retain(|r| r.rtype != "A");
    world.put("20", A, "A", "192.0.2.1");
    let b = "b.example.test.";
    let report = world.apply(&[change(1, A, "A", Edit::Delete), change(2, b, "A", add(&["192.0.2.2"]))]);
    assert!(is_applied(&report, 0) && is_applied(&report, 1), "{report:?}");
    assert_eq!((world.data(A, "A").len(), world.data(b, "A")), (0, vec!["192.0.2.2"]));
}

#[test]
fn the_last_name_server_and_an_address_that_has_become_the_last_are_told_alike() {
    for login in [By::AccessKey, By::KeyFile] {
        let mut world = world_by(login);
        let all = records(&mut world.model);
        all.retain(|r| r.data != "ns2.panel.test." && r.rtype != "A");
        world.put("20", A, "A", "192.0.2.1");
        world.put("21", A, "A", "192.0.2.2");
        world.before("v-delete-dns-record", 1, |model| records(model).retain(|r| r.id != "21"));
        let batch = [change(1, A, "A", remove(&["192.0.2.1"])), change(2, ZONE, "NS", remove(&["ns1.panel.test."]))];
        let report = world.apply(&batch);
        for at in [0, 1] {
            let found = problem(&report, at);
            assert_eq!((found.action, found.code.as_str()), (ProblemAction::FixConfig, "last-record"), "{report:?}");
        }
        assert_eq!(world.writes().len(), 1, "the first was refused, the second not tried");
    }
}

#[test]
fn one_reload_ends_a_batch() {
    let mut world = world();
    let batch: Vec<_> = (1..=6).map(|n| change(n, &format!("v{n}.example.test."), "A", add(&["192.0.2.1"]))).collect();
    world.apply(&batch);
    let words: Vec<_> = world.writes().into_iter().map(|fields| fields["arg8"].as_str()).collect();
    assert_eq!(words, ["no", "no", "no", "no", "no", ""]);
    assert_eq!(world.hestia.reloads, 1);
    world.apply(&[change(1, "v1.example.test.", "A", Edit::Delete), change(2, "v2.example.test.", "A", Edit::Delete)]);
    assert_eq!(world.hestia.reloads, 2);
}

#[test]
fn what_is_suspended_is_neither_lost_nor_adopted() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1").with_record("21", A, "A", "192.0.2.2").with_record(
        "22",
        A,
        "A",
        "192.0.2.1",
    );
    records(&mut world.model).iter_mut().filter(|r| r.id != "20" && r.name == A).for_each(|r| r.disabled = true);
    let report = world.apply(&[change(1, A, "A", add(&["192.0.2.2"]))]);
    assert_eq!(problem(&report, 0).code, "value-disabled");
    assert!(is_applied(&world.apply(&[change(1, A, "A", Edit::Delete)]), 0));
    let left: Vec<_> = world.model.zone(ZONE).unwrap().of(A, "A").map(|r| r.id.clone()).collect();
    assert_eq!(left, ["21", "22"]);
}

#[test]
fn what_is_not_as_expected_is_planned_again_and_other_zones_are_not_asked_for() {
    let mut world = world().with_record("20", A, "A", "192.0.2.1");
    let mut stale = change(1, A, "A", replace(&["192.0.2.9"]));
    stale.expect = Some(vec!["192.0.2.7".into()]);
    let report = world.apply(&[stale, change(2, "x.notexample.test.", "A", add(&["192.0.2.1"]))]);
    assert_eq!(problem(&report, 0).action, ProblemAction::Replan);
    assert_eq!(problem(&report, 1).code, "out-of-zone");
    assert!(world.writes().is_empty());
    world.log.clear();
    world.apply(&[change(2, "x.notexample.test.", "A", add(&["192.0.2.1"]))]);
    let doubled = [change(1, A, "A", Edit::Delete), change(1, A, "AAAA", Edit::Delete)];
    assert_eq!(world.try_apply(&doubled).unwrap_err().code, "duplicate-change");
    assert!(world.log.is_empty(), "nothing was asked for either");
}

#[test]
fn the_test_button_writes_and_removes_a_record_of_its_own() {
    for login in [By::AccessKey, By::Password, By::KeyFile] {
        let mut world = world_by(login);
        let before = world.model.zone(ZONE).unwrap().picture();
        let checks = world.with(|api| work::test(api, Some(ZONE), true, "0f"));
        let steps: Vec<_> = checks.iter().map(|c| (c.step.as_str(), c.ok)).collect();
        assert_eq!(steps, [("reach", true), ("auth", true), ("zone", true), ("read", true), ("write", true)]);
        assert_eq!((world.writes().len(), world.model.zone(ZONE).unwrap().picture()), (2, before));
    }
}
