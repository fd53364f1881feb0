//! Leases, VM numbers and room.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use uuid::Uuid;
use wharf_model::{
    lease::{Lease, Network, Range},
    service::{Service, ServiceId},
};

use super::fixture::*;
use crate::{Books, Commit, LeaseSet, LeaseWish, RestClock, Room, Saying, ServicePatch, StoreError, Then};

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(pool: &str, first: &str, last: &str, bridge: &str) -> Range {
    Range {
        pool: pool.into(),
        domain: "default".into(),
        first: ip(first),
        last: ip(last),
        excluded: Vec::new(),
        network: Network {
            prefix_length: 24,
            gateway: None,
            nameservers: vec![ip("192.0.2.53")],
            bridge: bridge.into(),
            vlan: Some(7),
        },
    }
}

pub(super) fn wish(service: ServiceId, count: u32, ranges: Vec<Range>) -> LeaseWish {
    let family = if ranges[0].first.is_ipv4() { 4 } else { 6 };
    LeaseWish { service, sets: vec![LeaseSet { family, count, ranges }] }
}

pub(super) fn small() -> Vec<Range> {
    vec![range("p", "192.0.2.10", "192.0.2.14", "vmbr0")]
}

async fn one(books: &Books, reference: &str) -> ServiceId {
    create(books, reference, NOW).await.0.id
}

fn held(leases: &[Lease]) -> Vec<String> {
    leases.iter().map(|l| l.address.to_string()).collect()
}

async fn prove_absence(books: &Books, service: &Service, now: i64) {
    let prove = |_: Option<&_>, _: &[_]| crate::Decision::Change {
        patch: ServicePatch { absence_proven_ms: Some(Some(NOW)), ..ServicePatch::default() },
        operation: None,
        cancel: Vec::new(),
        preempt: false,
        events: Vec::new(),
    };
    books.accept(accept(&service.reference, prove, now)).await.unwrap();
}

pub async fn leases_are_the_lowest_free_addresses(books: Books) {
    let a = one(&books, "a").await;
    let got = books.lease(None, wish(a, 2, small()), NOW).await.unwrap();
    assert_eq!(held(&got), ["192.0.2.10", "192.0.2.11"]);
    assert_eq!(got.iter().map(|l| l.index).collect::<Vec<_>>(), [0, 1]);
    let first = &got[0];
    assert_eq!((first.service_id, first.pool.as_str(), first.leased_ms), (Some(a), "p", NOW));
    assert_eq!(first.network, small()[0].network);
    let b = one(&books, "b").await;
    assert_eq!(held(&books.lease(None, wish(b, 1, small()), NOW).await.unwrap()), ["192.0.2.12"]);
    assert_eq!(books.leases_of(a).await.unwrap(), got);
    assert_eq!(held(&books.leases_in("p").await.unwrap()), ["192.0.2.10", "192.0.2.11", "192.0.2.12"]);
    assert!(books.leases_in("q").await.unwrap().is_empty());
    let nobody = books.lease(None, wish(Uuid::new_v4(), 1, small()), NOW).await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))), "{nobody:?}");
}

pub async fn leasing_again_gives_the_same(books: Books) {
    let a = one(&books, "a").await;
    let first = books.lease(None, wish(a, 2, small()), NOW).await.unwrap();
    assert_eq!(books.lease(None, wish(a, 2, small()), NOW + 5).await.unwrap(), first);
    assert_eq!(books.lease(None, wish(a, 1, small()), NOW + 5).await.unwrap(), first, "what is held is not taken away");
}

pub async fn a_service_that_wants_more_keeps_its_own_and_goes_on_counting(books: Books) {
    let (a, b) = (one(&books, "a").await, one(&books, "b").await);
    books.lease(None, wish(a, 1, small()), NOW).await.unwrap();
    books.lease(None, wish(b, 1, small()), NOW).await.unwrap();
    let more = books.lease(None, wish(a, 3, small()), NOW).await.unwrap();
    assert_eq!(held(&more), ["192.0.2.10", "192.0.2.12", "192.0.2.13"]);
    assert_eq!(more.iter().map(|l| l.index).collect::<Vec<_>>(), [0, 1, 2]);
}

pub async fn leases_are_all_or_nothing(books: Books) {
    let a = one(&books, "a").await;
    let six = range("six", "2001:db8::1", "2001:db8::1", "vmbr0");
    let both = LeaseWish {
        service: a,
        sets: vec![
            LeaseSet { family: 4, count: 1, ranges: small() },
            LeaseSet { family: 6, count: 2, ranges: vec![six] },
        ],
    };
    let result = books.lease(None, both, NOW).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert!(books.leases_of(a).await.unwrap().is_empty());
    let too_many = books.lease(None, wish(a, 6, small()), NOW).await;
    assert!(matches!(too_many, Err(StoreError::Conflict(_))), "{too_many:?}");
    assert!(books.leases_in("p").await.unwrap().is_empty());
    assert_eq!(books.lease(None, wish(a, 5, small()), NOW).await.unwrap().len(), 5);
}

pub async fn ranges_of_another_network_are_not_mixed(books: Books) {
    let ranges = vec![
        range("p", "192.0.2.10", "192.0.2.10", "vmbr0"),
        range("q", "198.51.100.1", "198.51.100.2", "vmbr1"),
        range("r", "203.0.113.1", "203.0.113.1", "vmbr0"),
    ];
    let (a, b, c) = (one(&books, "a").await, one(&books, "b").await, one(&books, "c").await);
    let got = books.lease(None, wish(a, 2, ranges.clone()), NOW).await.unwrap();
    assert_eq!(held(&got), ["192.0.2.10", "203.0.113.1"], "the best network that has enough, over all its ranges");
    let got = books.lease(None, wish(b, 1, ranges.clone()), NOW).await.unwrap();
    assert_eq!(held(&got), ["198.51.100.1"]);
    let more = books.lease(None, wish(b, 2, ranges.clone()), NOW).await.unwrap();
    assert_eq!(held(&more), ["198.51.100.1", "198.51.100.2"]);
    let none = books.lease(None, wish(c, 1, ranges.clone()), NOW).await;
    assert!(matches!(none, Err(StoreError::Conflict(_))), "{none:?}");
    let other = vec![range("s", "203.0.113.9", "203.0.113.9", "vmbr5")];
    let moved = books.lease(None, wish(b, 3, other), NOW).await;
    assert!(matches!(moved, Err(StoreError::Conflict(_))), "the first address binds the others: {moved:?}");
}

pub async fn excluded_addresses_are_never_leased(books: Books) {
    let a = one(&books, "a").await;
    let mut ranges = small();
    ranges[0].excluded = vec![ip("192.0.2.10"), ip("192.0.2.12")];
    assert_eq!(held(&books.lease(None, wish(a, 2, ranges.clone()), NOW).await.unwrap()), ["192.0.2.11", "192.0.2.13"]);
    let overlapping = vec![ranges[0].clone(), ranges[0].clone()];
    let none = books.lease(None, wish(a, 4, overlapping), NOW).await;
    assert!(matches!(none, Err(StoreError::Conflict(_))), "ranges that overlap count once: {none:?}");
}

pub async fn the_same_address_in_two_domains_is_two_addresses(books: Books) {
    let (a, b) = (one(&books, "a").await, one(&books, "b").await);
    let mut other = small();
    other[0].domain = "tenant".into();
    let first = books.lease(None, wish(a, 1, small()), NOW).await.unwrap();
    let second = books.lease(None, wish(b, 1, other), NOW).await.unwrap();
    assert_eq!(first[0].address, second[0].address);
}

pub async fn both_families_come_ipv4_first(books: Books) {
    let a = one(&books, "a").await;
    let sets = vec![
        LeaseSet { family: 6, count: 1, ranges: vec![range("six", "2001:db8::5", "2001:db8::9", "vmbr0")] },
        LeaseSet { family: 4, count: 2, ranges: small() },
    ];
    let got = books.lease(None, LeaseWish { service: a, sets }, NOW).await.unwrap();
    assert_eq!(held(&got), ["192.0.2.10", "192.0.2.11", "2001:db8::5"]);
    assert_eq!(got.iter().map(|l| l.index).collect::<Vec<_>>(), [0, 1, 0], "each family has a primary");
    let twice = LeaseSet { family: 4, count: 3, ranges: small() };
    let result = books.lease(None, LeaseWish { service: a, sets: vec![twice.clone(), twice] }, NOW).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
}

pub async fn a_huge_ipv6_range_gives_its_first_address(books: Books) {
    let (a, b) = (one(&books, "a").await, one(&books, "b").await);
    let huge = || vec![range("six", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "vmbr0")];
    assert_eq!(held(&books.lease(None, wish(a, 1, huge()), NOW).await.unwrap()), ["2001:db8::"]);
    assert_eq!(held(&books.lease(None, wish(b, 1, huge()), NOW).await.unwrap()), ["2001:db8::1"]);
}

pub async fn the_last_address_of_all_can_be_leased(books: Books) {
    let a = one(&books, "a").await;
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(held(&books.lease(None, wish(a, 1, vec![range("six", last, last, "b")]), NOW).await.unwrap()), [last]);
    let result = books.lease(None, wish(a, 2, vec![range("six", last, last, "b")]), NOW).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    let four = "255.255.255.255";
    assert_eq!(books.lease(None, wish(a, 1, vec![range("p", four, four, "b")]), NOW).await.unwrap().len(), 2);
}

pub async fn many_at_once_get_no_address_twice(books: Books) {
    let mut services = Vec::new();
    for n in 0..64 {
        services.push(one(&books, &n.to_string()).await);
    }
    let pool = || vec![range("p", "192.0.2.1", "192.0.2.50", "vmbr0")];
    let tasks: Vec<_> = services
        .into_iter()
        .map(|service| {
            let books = books.clone();
            tokio::spawn(async move { books.lease(None, wish(service, 1, pool()), NOW).await })
        })
        .collect();
    let mut got = BTreeSet::new();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(leases) => assert!(got.insert(leases[0].address), "{} was leased twice", leases[0].address),
            Err(StoreError::Conflict(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((got.len(), refused), (50, 14));
    assert_eq!(books.leases_in("p").await.unwrap().len(), 50);
}

pub async fn release_needs_a_proof_of_absence(books: Books) {
    let (service, _) = create(&books, "a", NOW).await;
    books.lease(None, wish(service.id, 2, small()), NOW).await.unwrap();
    books.reserve_vmid(None, "pve", service.id, 100, &[], NOW).await.unwrap();
    let result = books.release_leases(None, service.id, BTreeMap::new(), NOW).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    books.burn_vmid(None, "pve", service.id, 100, NOW).await.unwrap();
    let result = books.release_leases(None, service.id, BTreeMap::new(), NOW).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "a burnt number was reserved once too: {result:?}");
    assert_eq!(books.leases_of(service.id).await.unwrap().len(), 2);
    prove_absence(&books, &service, NOW).await;
    assert_eq!(books.release_leases(None, service.id, BTreeMap::new(), NOW).await.unwrap().len(), 2);
    assert!(books.leases_of(service.id).await.unwrap().is_empty());

    let never = one(&books, "b").await;
    books.lease(None, wish(never, 1, small()), NOW).await.unwrap();
    assert_eq!(
        books.release_leases(None, never, BTreeMap::new(), NOW).await.unwrap().len(),
        1,
        "it never had a number"
    );
    assert!(books.release_leases(None, never, BTreeMap::new(), NOW).await.unwrap().is_empty());
}

pub async fn a_released_address_rests_in_quarantine(books: Books) {
    let (a, b) = (active(&books, "a", NOW).await.id, one(&books, "b").await);
    let tiny = || vec![range("p", "192.0.2.10", "192.0.2.11", "vmbr0")];
    books.lease(None, wish(a, 1, tiny()), NOW).await.unwrap();
    name(&books, a, ip("192.0.2.10"), Some("a.example."), NOW).await;
    let rested = books.release_leases(None, a, BTreeMap::from([("p".into(), 1_000)]), NOW).await.unwrap();
    assert_eq!((rested[0].service_id, rested[0].free_after_ms), (None, NOW + 1_000));
    assert_eq!(books.leases_in("p").await.unwrap(), rested, "it is still in the books");
    assert_eq!(held(&books.lease(None, wish(b, 1, tiny()), NOW + 999).await.unwrap()), ["192.0.2.11"]);
    let two = books.lease(None, wish(b, 2, tiny()), NOW + 999).await;
    assert!(matches!(two, Err(StoreError::Conflict(_))), "{two:?}");
    let got = books.lease(None, wish(b, 2, tiny()), NOW + 1_000).await.unwrap();
    assert_eq!(held(&got), ["192.0.2.11", "192.0.2.10"], "by index: the first one held stays the primary");
    assert_eq!((got[1].ptr.as_ref(), got[1].service_id, got[1].free_after_ms), (None, Some(b), 0));
}

const DAY: i64 = 86_400_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// One address that rests for an hour from NOW on, and a service that wants it.
async fn resting(books: &Books) -> ServiceId {
    let (a, b) = (one(books, "a").await, one(books, "b").await);
    books.lease(None, wish(a, 1, vec![range("p", "192.0.2.10", "192.0.2.10", "vmbr0")]), NOW).await.unwrap();
    books.release_leases(None, a, BTreeMap::from([("p".into(), HOUR)]), NOW).await.unwrap();
    b
}

async fn can_lease(books: &Books, service: ServiceId, now: i64) -> bool {
    match books.lease(None, wish(service, 1, vec![range("p", "192.0.2.10", "192.0.2.10", "vmbr0")]), now).await {
        Ok(_) => true,
        Err(StoreError::Conflict(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

/// Counts `minutes` looks of a clock that shows `ahead` more than has passed since NOW.
async fn count(books: &Books, minutes: std::ops::Range<i64>, ahead: i64) -> crate::Rested {
    let mut last = None;
    for minute in minutes {
        let seen = books.rest_clock().await.unwrap().map_or(0, |c| c.looks);
        last = Some(books.count_rest(seen, MINUTE, NOW + minute * MINUTE + ahead).await.unwrap());
    }
    last.unwrap()
}

pub async fn without_a_rest_clock_the_callers_clock_counts(books: Books) {
    let service = resting(&books).await;
    assert_eq!(books.rest_clock().await.unwrap(), None);
    assert!(!can_lease(&books, service, NOW + HOUR - 1).await);
    assert!(can_lease(&books, service, NOW + HOUR).await);
}

pub async fn a_clock_that_is_ahead_ends_no_rest(books: Books) {
    let service = resting(&books).await;
    let first = books.count_rest(0, 0, NOW).await.unwrap();
    assert_eq!((first.clock, first.resting), (RestClock { at_ms: NOW, looks: 1 }, 1));
    count(&books, 1..10, 0).await;
    assert!(!can_lease(&books, service, NOW + 100 * DAY).await, "another host's clock is ahead");
    // The clock of whoever counts jumps: nine minutes are rested, as before.
    let jumped = count(&books, 10..11, 100 * DAY).await;
    assert_eq!((jumped.moved_ms, jumped.freed, jumped.resting), (100 * DAY, 0, 1));
    assert!(!can_lease(&books, service, NOW + 100 * DAY + 11 * MINUTE).await);
    let before_the_end = count(&books, 11..60, 100 * DAY).await;
    assert_eq!((before_the_end.freed, before_the_end.resting), (0, 1));
    let end = count(&books, 60..61, 100 * DAY).await;
    assert_eq!((end.freed, end.resting, end.moved_ms), (1, 0, 0), "sixty minutes were counted");
    assert!(books.leases_in("p").await.unwrap().is_empty(), "the pool shows it as free");
    assert!(can_lease(&books, service, NOW + 100 * DAY + HOUR).await);
}

pub async fn a_clock_that_was_set_back_prolongs_no_rest(books: Books) {
    let service = resting(&books).await;
    books.count_rest(0, 0, NOW).await.unwrap();
    count(&books, 1..20, 0).await;
    let back = count(&books, 20..21, -50 * DAY).await;
    assert_eq!(back.moved_ms, -50 * DAY);
    count(&books, 21..60, -50 * DAY).await;
    assert!(!can_lease(&books, service, NOW + 59 * MINUTE - 50 * DAY).await);
    assert_eq!(count(&books, 60..61, -50 * DAY).await.freed, 1);
}

pub async fn time_that_nobody_measured_is_not_rested(books: Books) {
    let service = resting(&books).await;
    books.count_rest(0, 0, NOW).await.unwrap();
    // The host was off for two days, or its clock jumped by two: nobody can tell.
    assert!(!can_lease(&books, service, NOW + 2 * DAY).await);
    let back = books.count_rest(1, 0, NOW + 2 * DAY).await.unwrap();
    assert_eq!((back.moved_ms, back.freed), (2 * DAY, 0));
    assert_eq!(books.leases_in("p").await.unwrap()[0].free_after_ms, NOW + 2 * DAY + HOUR);
    // Clocks differ a little all the time: that moves nothing.
    let next = books.count_rest(2, MINUTE, NOW + 2 * DAY + MINUTE + 900).await.unwrap();
    assert_eq!(next.moved_ms, 0);
}

pub async fn a_release_by_a_late_clock_rests_its_full_time(books: Books) {
    let service = one(&books, "a").await;
    books.count_rest(0, 0, NOW).await.unwrap();
    books.lease(None, wish(service, 1, small()), NOW).await.unwrap();
    let late = NOW - 10 * DAY;
    let rested = books.release_leases(None, service, BTreeMap::from([("p".into(), DAY)]), late).await.unwrap();
    assert_eq!(rested[0].free_after_ms, NOW + DAY);
}

pub async fn the_rest_clock_is_counted_by_one_at_a_time(books: Books) {
    resting(&books).await;
    books.count_rest(0, 0, NOW).await.unwrap();
    let before = books.leases_in("p").await.unwrap();
    for seen in [0, 2] {
        let late = books.count_rest(seen, 0, NOW + 5 * DAY).await;
        assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    }
    assert_eq!(books.leases_in("p").await.unwrap(), before);
    assert_eq!(books.rest_clock().await.unwrap(), Some(RestClock { at_ms: NOW, looks: 1 }));
}

pub async fn an_address_that_is_free_does_not_rest_again(books: Books) {
    let service = resting(&books).await;
    books.count_rest(0, 0, NOW).await.unwrap();
    // Its rest ends with this look; the next finds a gap.
    let end = books.count_rest(1, HOUR, NOW + HOUR).await.unwrap();
    assert_eq!((end.freed, end.resting), (1, 0));
    let gap = books.count_rest(2, 0, NOW + 9 * DAY).await.unwrap();
    assert_eq!((gap.freed, gap.resting), (0, 0));
    assert!(can_lease(&books, service, NOW + 9 * DAY).await);
    // Held addresses are never touched.
    assert_eq!(books.leases_of(service).await.unwrap().len(), 1);
    books.count_rest(3, 0, NOW + 90 * DAY).await.unwrap();
    assert_eq!(books.leases_of(service).await.unwrap()[0].free_after_ms, 0);
}

pub async fn a_ptr_belongs_to_the_lease(books: Books) {
    let (a, b) = (active(&books, "a", NOW).await.id, active(&books, "b", NOW).await.id);
    books.lease(None, wish(a, 2, small()), NOW).await.unwrap();
    let address = ip("192.0.2.11");
    name(&books, a, address, Some("mail.example."), NOW).await;
    assert_eq!(books.leases_of(a).await.unwrap()[1].ptr.as_deref(), Some("mail.example."));
    assert_eq!(books.lease(None, wish(a, 3, small()), NOW).await.unwrap()[1].ptr.as_deref(), Some("mail.example."));
    let stolen = Saying { ptr: Some((address, Some("stolen.example.".into()))), ..saying(&books, b).await };
    let other = books.say_records(stolen, NOW).await;
    assert!(matches!(other, Err(StoreError::NotFound(_))), "{other:?}");
    name(&books, a, address, None, NOW).await;
    assert_eq!(books.leases_of(a).await.unwrap()[1].ptr, None);
}

pub async fn a_vm_number_is_reserved_once_and_kept(books: Books) {
    let (a, b) = (one(&books, "a").await, one(&books, "b").await);
    assert_eq!(books.reserve_vmid(None, "pve", a, 100, &[100, 101], NOW).await.unwrap(), 102);
    assert_eq!(books.reserve_vmid(None, "pve", a, 500, &[102], NOW).await.unwrap(), 102, "its own, whatever is asked");
    assert_eq!(books.service(a).await.unwrap().unwrap().vmid, Some(102));
    assert_eq!(books.reserve_vmid(None, "pve", b, 100, &[], NOW).await.unwrap(), 100);
    assert_eq!(books.vmids("pve").await.unwrap(), [(100, b, true), (102, a, true)]);
    assert!(books.vmids("other").await.unwrap().is_empty());
    let nobody = books.reserve_vmid(None, "pve", Uuid::new_v4(), 100, &[], NOW).await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))), "{nobody:?}");
}

pub async fn a_burnt_vm_number_is_never_used_again(books: Books) {
    let (a, b) = (one(&books, "a").await, one(&books, "b").await);
    books.reserve_vmid(None, "pve", a, 100, &[], NOW).await.unwrap();
    let foreign = books.burn_vmid(None, "pve", b, 100, NOW).await;
    assert!(matches!(foreign, Err(StoreError::NotFound(_))), "{foreign:?}");
    books.burn_vmid(None, "pve", a, 100, NOW).await.unwrap();
    books.burn_vmid(None, "pve", a, 100, NOW).await.unwrap();
    assert_eq!(books.service(a).await.unwrap().unwrap().vmid, None);
    assert_eq!(books.reserve_vmid(None, "pve", a, 100, &[], NOW).await.unwrap(), 101);
    assert_eq!(books.reserve_vmid(None, "pve", b, 100, &[], NOW).await.unwrap(), 102);
    assert_eq!(books.vmids("pve").await.unwrap(), [(100, a, false), (101, a, true), (102, b, true)]);
}

pub async fn many_at_once_get_no_vm_number_twice(books: Books) {
    let mut services = Vec::new();
    for n in 0..32 {
        services.push(one(&books, &n.to_string()).await);
    }
    let tasks: Vec<_> = services
        .into_iter()
        .map(|service| {
            let books = books.clone();
            tokio::spawn(async move { books.reserve_vmid(None, "pve", service, 100, &[105], NOW).await.unwrap() })
        })
        .collect();
    let mut got = BTreeSet::new();
    for task in tasks {
        assert!(got.insert(task.await.unwrap()));
    }
    assert_eq!(got, (100..=132).filter(|n| *n != 105).collect());
}

pub async fn a_service_has_one_live_number(books: Books) {
    let a = one(&books, "a").await;
    books.reserve_vmid(None, "pve", a, 100, &[], NOW).await.unwrap();
    let second = books.reserve_vmid(None, "other", a, 100, &[], NOW).await;
    assert!(matches!(second, Err(StoreError::Conflict(_))), "{second:?}");
    // A worker's commit does not undo it.
    let run = claim(&books, NOW).await;
    let patch = ServicePatch { plan: Some("large".into()), ..ServicePatch::default() };
    books.commit(Commit { service: patch, ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
    assert_eq!(books.service(a).await.unwrap().unwrap().vmid, Some(100));
}

pub async fn what_is_asked_for_under_a_lost_claim_is_refused(books: Books) {
    let (service, _) = create(&books, "1", NOW).await;
    let zombie = super::fixture::claim(&books, NOW).await.claim;
    let held = super::fixture::claim(&books, NOW + super::fixture::TTL).await.claim;
    let wish = || wish(service.id, 1, small());
    let room = || Room {
        service: service.id,
        server: "pve".into(),
        node: "n".into(),
        memory_mib: 1,
        storage: "s".into(),
        disk_mib: 1,
    };
    let queues = || BTreeMap::from([("z".to_owned(), "q".to_owned())]);
    let late = Some(&zombie);
    let lost = |what: &str, refused: Result<(), StoreError>| {
        assert!(matches!(refused, Err(StoreError::ClaimLost)), "{what}: {refused:?}");
    };
    lost("lease", books.lease(late, wish(), NOW).await.map(|_| ()));
    lost("reserve_vmid", books.reserve_vmid(late, "pve", service.id, 100, &[], NOW).await.map(|_| ()));
    lost("reserve_room", books.reserve_room(late, room(), 9, 9).await.map(|_| ()));
    lost("want_records", books.want_records(late, service.id, Vec::new(), queues(), NOW).await);
    assert!(books.leases_of(service.id).await.unwrap().is_empty() && books.rooms("pve").await.unwrap().is_empty());

    let good = Some(&held);
    books.lease(good, wish(), NOW).await.unwrap();
    let vmid = books.reserve_vmid(good, "pve", service.id, 100, &[], NOW).await.unwrap();
    assert!(books.reserve_room(good, room(), 9, 9).await.unwrap());
    books.want_records(good, service.id, Vec::new(), queues(), NOW).await.unwrap();
    lost("burn_vmid", books.burn_vmid(late, "pve", service.id, vmid, NOW).await);
    lost("release_room", books.release_room(late, service.id).await);
    lost("release_leases", books.release_leases(late, service.id, BTreeMap::new(), NOW).await.map(|_| ()));
    assert_eq!(books.leases_of(service.id).await.unwrap().len(), 1);
    // An operation that is over has no claim that counts.
    super::fixture::commit(&books, held, super::fixture::succeed(), NOW).await;
    lost("lease after the end", books.lease(good, wish(), NOW).await.map(|_| ()));
}

pub async fn room_is_never_promised_twice(books: Books) {
    let room = |memory_mib, disk_mib, node: &str| Room {
        service: Uuid::now_v7(),
        server: "pve".into(),
        node: node.into(),
        memory_mib,
        storage: "nfs".into(),
        disk_mib,
    };
    let first = room(600, 10, "n1");
    assert!(books.reserve_room(None, first.clone(), 1_000, 100).await.unwrap());
    assert!(
        books.reserve_room(None, first.clone(), 1_000, 100).await.unwrap(),
        "its own promise does not count against it"
    );
    assert!(!books.reserve_room(None, room(600, 10, "n1"), 1_000, 100).await.unwrap());
    let other_node = room(600, 90, "n2");
    assert!(books.reserve_room(None, other_node.clone(), 1_000, 100).await.unwrap(), "memory counts by node");
    assert!(!books.reserve_room(None, room(1, 1, "n3"), 1_000, 100).await.unwrap(), "disk counts by storage");
    assert_eq!(books.rooms("pve").await.unwrap(), [first.clone(), other_node]);
    books.release_room(None, first.service).await.unwrap();
    assert!(books.reserve_room(None, room(1_000, 10, "n1"), 1_000, 100).await.unwrap());
    assert!(books.rooms("other").await.unwrap().is_empty());
}

pub async fn what_was_seen_on_a_server_is_never_given_out(books: Books) {
    let a = one(&books, "a").await;
    let held_by_a = books.lease(None, wish(a, 1, small()), NOW).await.unwrap();
    assert_eq!(books.reserve_vmid(None, "pve", a, 100, &[], NOW).await.unwrap(), 100);
    let seen = |address: &str, free_after_ms| Lease {
        domain: "default".into(),
        address: ip(address),
        pool: "p".into(),
        service_id: None,
        index: 0,
        network: small()[0].network.clone(),
        ptr: None,
        leased_ms: NOW,
        free_after_ms,
    };
    let merge = crate::Merge {
        server: "pve".into(),
        burnt: vec![(105, "seen".into()), (300, "a stranger's".into())],
        above: 103,
        resting: vec![seen("192.0.2.10", i64::MAX / 2), seen("192.0.2.11", i64::MAX / 2), seen("192.0.2.12", NOW + 50)],
    };
    books.merge(merge.clone()).await.unwrap();
    books.merge(crate::Merge { above: 7, ..merge }).await.unwrap();
    assert_eq!(books.leases_of(a).await.unwrap(), held_by_a, "what a service holds stays its own");
    let b = one(&books, "b").await;
    assert_eq!(books.reserve_vmid(None, "pve", b, 100, &[], NOW).await.unwrap(), 104);
    assert_eq!(held(&books.lease(None, wish(b, 1, small()), NOW + 10).await.unwrap()), ["192.0.2.13"]);
    let c = one(&books, "c").await;
    assert_eq!(books.reserve_vmid(None, "pve", c, 100, &[], NOW).await.unwrap(), 106, "105 was seen");
    assert_eq!(
        held(&books.lease(None, wish(c, 1, small()), NOW + 60).await.unwrap()),
        ["192.0.2.12"],
        "its rest is over"
    );
    let d = one(&books, "d").await;
    assert_eq!(books.reserve_vmid(None, "pve", d, 300, &[], NOW).await.unwrap(), 301);
    assert_eq!(books.reserve_vmid(None, "other", one(&books, "e").await, 100, &[], NOW).await.unwrap(), 100);
}
