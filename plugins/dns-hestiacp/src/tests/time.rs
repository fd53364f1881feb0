//! Many records, little time.

use wharf_testkit::facades::hestiacp::PACE;

use super::*;

const REVERSE: &str = "2.0.192.in-addr.arpa.";

fn reverse() -> ZoneRef {
    ZoneRef { id: "2.0.192.in-addr.arpa".into(), name: REVERSE.into() }
}

fn pointers(edit: impl Fn(&str) -> Edit) -> Vec<Change> {
    let one = |n: u32| change(n, &format!("{n}.{REVERSE}"), "PTR", edit(&format!("vm-{n}.example.test.")));
    (1..=250).map(one).collect()
}

fn slow() -> World {
    let mut world = world();
    world.hestia.pace = PACE;
    world.hestia.new_zone(&mut world.model, REVERSE, 0);
    world
}

/// Calls with what is left until nothing is; how many it took.
fn until_done(world: &mut World, mut batch: Vec<Change>) -> u32 {
    for call in 1..=12 {
        world.clock = clock(60_000);
        world.log.clear();
        let all = batch.len() as u32;
        let report = world.with(|api| work::apply(api, &reverse(), &batch)).unwrap();
        assert!(world.clock.left_ms.get() >= 1_000, "a report is made before the time is used up");
        assert!(world.log.len() <= 200, "the host allows 200 requests, not {}", world.log.len());
        let done: Vec<u32> = report
            .outcomes
            .iter()
            .filter_map(|(id, outcome)| match outcome {
                Outcome::Applied(_) | Outcome::Unchanged(_) => Some(*id),
                Outcome::NotAttempted => None,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(!done.is_empty(), "each call gets on");
        let progress = world.clock.progress.borrow().clone();
        assert!(progress.is_sorted() && progress.iter().all(|(_, total)| *total == all), "{progress:?}");
        assert_eq!(progress.last().copied(), Some((done.len() as u32, all)));
        batch.retain(|change| !done.contains(&change.id));
        if batch.is_empty() {
            return call;
        }
    }
    panic!("{} are left", batch.len());
}

#[test]
fn two_hundred_and_fifty_pointers_take_a_few_calls_that_each_end_in_time_and_tell_how_far_they_are() {
    let mut world = slow();
    let calls = until_done(&mut world, pointers(|target| add(&[target])));
    assert_eq!(calls, 2, "0.37 s each, 60 s a call");
    let there = world.model.zone(REVERSE).unwrap();
    assert_eq!(there.records.iter().filter(|r| r.rtype == "PTR").count(), 250);
    assert!((2..=6).contains(&world.hestia.reloads), "one a call, or a few near its end: {}", world.hestia.reloads);
    let calls = until_done(&mut world, pointers(|_| Edit::Delete));
    assert!(calls <= 4, "a look and a command each: {calls}");
    assert!(world.model.zone(REVERSE).unwrap().records.iter().all(|r| r.rtype == "NS"));
}

#[test]
fn a_fast_server_is_asked_no_more_often_than_the_host_allows() {
    let mut world = slow();
    world.hestia.pace = std::time::Duration::from_millis(5);
    until_done(&mut world, pointers(|target| add(&[target])));
    until_done(&mut world, pointers(|_| Edit::Delete));
    assert!(world.model.zone(REVERSE).unwrap().records.iter().all(|r| r.rtype == "NS"));
}

#[test]
fn a_call_that_nobody_waits_for_stops_before_its_first_command() {
    let mut world = slow();
    world.clock.is_cancelled.set(true);
    let report = world.with(|api| work::apply(api, &reverse(), &pointers(|target| add(&[target])))).unwrap();
    assert!(report.outcomes.iter().all(|(_, outcome)| *outcome == Outcome::NotAttempted));
    assert_eq!(world.commands(), ["v-list-dns-records"]);
}

#[test]
fn a_set_that_is_half_done_when_the_time_is_up_is_planned_again() {
    let mut world = slow();
    let values: Vec<String> = (1..=250).map(|n| format!("192.0.2.{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let batch = [change(1, A, "A", add(&values))];
    let report = world.apply(&batch);
    assert_eq!(problem(&report, 0).code, "partly-done");
    world.clock = clock(60_000);
    assert!(is_applied(&world.apply(&batch), 0));
    assert_eq!(world.data(A, "A").len(), 250);
}
