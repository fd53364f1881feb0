//! DNS: wishes and ledger.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use wharf_model::{
    record::{Record, RecordKey},
    service::{Phase, ServiceId},
};

use super::{
    addresses::{ip, small, wish},
    fixture::*,
};
use crate::{Books, Decision, DnsClaim, RecordOutcome, Saying, ServicePatch, StoreError};

fn key(service: ServiceId, zone: &str, name: &str) -> RecordKey {
    RecordKey {
        zone: zone.into(),
        name: format!("{name}.{zone}."),
        rtype: "A".into(),
        value: "192.0.2.1".into(),
        service_id: service,
    }
}

fn queues() -> BTreeMap<String, String> {
    [("z1", "q1"), ("z2", "q1"), ("z3", "q3")].map(|(z, q)| (z.to_owned(), q.to_owned())).into()
}

async fn want(books: &Books, service: ServiceId, keys: &[&RecordKey], now: i64) {
    let wanted = keys.iter().map(|k| ((*k).clone(), Some(300))).collect();
    books.want_records(None, service, wanted, queues(), now).await.unwrap();
}

async fn take(books: &Books, now: i64) -> DnsClaim {
    let mut claims = books.claim_dns(Uuid::new_v4(), TTL, 10, now).await.unwrap();
    assert_eq!(claims.len(), 1, "{claims:?}");
    claims.remove(0)
}

async fn due(books: &Books, claim: &DnsClaim, now: i64) -> Vec<Record> {
    books.due_records(claim, 100, now).await.unwrap()
}

async fn settle(books: &Books, claim: &DnsClaim, key: &RecordKey, outcome: RecordOutcome, now: i64) {
    books.settle_records(claim, vec![(key.clone(), outcome)], now).await.unwrap();
}

/// Makes the record stand at the provider and settled.
async fn write(books: &Books, key: &RecordKey, now: i64) {
    want(books, key.service_id, &[key], now).await;
    let claim = take(books, now).await;
    due(books, &claim, now).await;
    books.mark_sent(&claim, std::slice::from_ref(key), now).await.unwrap();
    settle(books, &claim, key, RecordOutcome::Done, now).await;
    books.release_dns(&claim, now).await.unwrap();
}

async fn only(books: &Books, service: ServiceId) -> Record {
    let mut records = books.records_of(service).await.unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

pub async fn a_wanted_record_is_due_and_settled_when_done(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    assert_eq!(books.next_dns_due().await.unwrap(), None);
    want(&books, service, &[&k], NOW).await;
    let row = only(&books, service).await;
    assert_eq!((row.key.clone(), row.ttl, row.wanted, row.written), (k.clone(), Some(300), true, false));
    assert_eq!((row.attempt, row.due_ms, row.reason), (0, NOW, None));
    assert_eq!(books.next_dns_due().await.unwrap(), Some(NOW));
    let claim = take(&books, NOW).await;
    assert_eq!((claim.queue.as_str(), claim.epoch), ("q1", 1));
    let handed = due(&books, &claim, NOW).await;
    assert_eq!(handed.len(), 1);
    assert!(handed[0].wanted && !handed[0].written, "to be added");
    books.mark_sent(&claim, std::slice::from_ref(&k), NOW).await.unwrap();
    settle(&books, &claim, &k, RecordOutcome::Done, NOW + 5).await;
    books.release_dns(&claim, NOW + 5).await.unwrap();
    let row = only(&books, service).await;
    assert!(row.wanted && row.written);
    assert_eq!(row.updated_ms, NOW + 5);
    assert!(books.claim_dns(Uuid::new_v4(), TTL, 10, NOW * 2).await.unwrap().is_empty());
    assert_eq!(books.next_dns_due().await.unwrap(), None);
    assert_eq!(books.records_in("z1").await.unwrap(), [row]);
    assert!(books.records_in("z2").await.unwrap().is_empty());
}

pub async fn a_record_that_was_never_sent_vanishes_with_the_wish(books: Books) {
    let service = Uuid::now_v7();
    let (a, b) = (key(service, "z1", "a"), key(service, "z1", "b"));
    want(&books, service, &[&a, &b], NOW).await;
    want(&books, service, &[&b], NOW).await;
    assert_eq!(only(&books, service).await.key, b);
}

pub async fn a_record_that_may_be_there_is_removed_by_a_worker(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    write(&books, &k, NOW).await;
    want(&books, service, &[], NOW + 10).await;
    let row = only(&books, service).await;
    assert_eq!((row.wanted, row.written, row.due_ms), (false, true, NOW + 10), "to be removed");
    let claim = take(&books, NOW + 10).await;
    let handed = due(&books, &claim, NOW + 10).await;
    assert_eq!(handed, [row]);
    books.mark_sent(&claim, std::slice::from_ref(&k), NOW + 10).await.unwrap();
    settle(&books, &claim, &k, RecordOutcome::Done, NOW + 11).await;
    assert!(books.records_of(service).await.unwrap().is_empty());
}

pub async fn a_crash_after_sending_leaves_the_record_in_the_ledger(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    want(&books, service, &[&k], NOW).await;
    let claim = take(&books, NOW).await;
    due(&books, &claim, NOW).await;
    books.mark_sent(&claim, std::slice::from_ref(&k), NOW).await.unwrap();
    // The worker dies here. Another finds the record still to be confirmed.
    let other = take(&books, NOW + TTL).await;
    let handed = due(&books, &other, NOW + TTL).await;
    assert!(handed[0].wanted && !handed[0].written, "{handed:?}");
    // No longer wanted, it is not forgotten: it may be at the provider.
    want(&books, service, &[], NOW + TTL).await;
    let row = only(&books, service).await;
    assert!(!row.wanted && row.written);
}

pub async fn a_settled_record_stays_untouched(books: Books) {
    let service = Uuid::now_v7();
    let (a, b) = (key(service, "z1", "a"), key(service, "z1", "b"));
    write(&books, &a, NOW).await;
    let before = only(&books, service).await;
    want(&books, service, &[&a, &b], NOW + 99).await;
    let rows = books.records_of(service).await.unwrap();
    assert_eq!(rows[0], before);
    let claim = take(&books, NOW + 99).await;
    assert_eq!(due(&books, &claim, NOW + 99).await.into_iter().map(|r| r.key).collect::<Vec<_>>(), [b]);
}

pub async fn a_failed_record_is_tried_again_and_says_why(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    want(&books, service, &[&k], NOW).await;
    let claim = take(&books, NOW).await;
    due(&books, &claim, NOW).await;
    for n in 1..=2 {
        let failed = RecordOutcome::Failed { reason: format!("refused {n}"), due_ms: NOW + 100 };
        settle(&books, &claim, &k, failed, NOW + n).await;
    }
    let row = only(&books, service).await;
    assert_eq!((row.attempt, row.reason.as_deref(), row.due_ms), (2, Some("refused 2"), NOW + 100));
    assert!(due(&books, &claim, NOW + 99).await.is_empty());
    books.release_dns(&claim, NOW).await.unwrap();
    assert_eq!(books.next_dns_due().await.unwrap(), Some(NOW + 100));
    assert!(books.claim_dns(Uuid::new_v4(), TTL, 10, NOW + 99).await.unwrap().is_empty());
    let claim = take(&books, NOW + 100).await;
    due(&books, &claim, NOW + 100).await;
    settle(&books, &claim, &k, RecordOutcome::Done, NOW + 100).await;
    let row = only(&books, service).await;
    assert_eq!((row.attempt, row.reason, row.written), (0, None, true));
}

pub async fn a_postponed_record_is_not_counted_as_failed(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    want(&books, service, &[&k], NOW).await;
    let claim = take(&books, NOW).await;
    due(&books, &claim, NOW).await;
    settle(&books, &claim, &k, RecordOutcome::Postponed { due_ms: NOW + 50 }, NOW).await;
    let row = only(&books, service).await;
    assert_eq!((row.attempt, row.reason, row.due_ms), (0, None, NOW + 50));
}

pub async fn a_wish_that_turns_round_in_flight_is_not_settled(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    want(&books, service, &[&k], NOW).await;
    let claim = take(&books, NOW).await;
    due(&books, &claim, NOW).await;
    books.mark_sent(&claim, std::slice::from_ref(&k), NOW).await.unwrap();
    want(&books, service, &[], NOW + 1).await;
    settle(&books, &claim, &k, RecordOutcome::Done, NOW + 2).await;
    let row = only(&books, service).await;
    assert_eq!((row.wanted, row.written, row.due_ms), (false, true, NOW + 1), "it was written, so it must be removed");
    assert_eq!(due(&books, &claim, NOW + 2).await.len(), 1);
    want(&books, service, &[&k], NOW + 3).await;
    settle(&books, &claim, &k, RecordOutcome::Done, NOW + 4).await;
    let row = only(&books, service).await;
    assert_eq!((row.wanted, row.written), (true, false), "it was removed, so it must be written");
    let handed = due(&books, &claim, NOW + 4).await;
    assert!(handed[0].wanted && !handed[0].written);
    want(&books, service, &[], NOW + 5).await;
    assert!(books.records_of(service).await.unwrap().is_empty(), "nothing of it is there any more");
    settle(&books, &claim, &k, RecordOutcome::Done, NOW + 6).await;
    assert!(books.records_of(service).await.unwrap().is_empty());
}

pub async fn a_record_wanted_again_is_written_again(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    write(&books, &k, NOW).await;
    want(&books, service, &[], NOW + 1).await;
    let claim = take(&books, NOW + 1).await;
    due(&books, &claim, NOW + 1).await;
    // The removal may have gone out when the worker dies: only writing again makes sure.
    want(&books, service, &[&k], NOW + 2).await;
    let row = only(&books, service).await;
    assert_eq!((row.wanted, row.written, row.due_ms), (true, false, NOW + 2));
    let other = take(&books, NOW + 1 + TTL).await;
    assert_eq!(due(&books, &other, NOW + 1 + TTL).await.len(), 1);
    // And should it be unwanted before that, it still counts as there.
    want(&books, service, &[], NOW + 2 + TTL).await;
    assert!(only(&books, service).await.written);
}

pub async fn a_changed_wish_is_not_sent(books: Books) {
    let service = Uuid::now_v7();
    let (a, b) = (key(service, "z1", "a"), key(service, "z1", "b"));
    want(&books, service, &[&a, &b], NOW).await;
    let claim = take(&books, NOW).await;
    assert_eq!(due(&books, &claim, NOW).await.len(), 2);
    want(&books, service, &[&b], NOW + 1).await;
    let sent = books.mark_sent(&claim, &[b.clone(), a], NOW + 1).await;
    assert!(matches!(sent, Err(StoreError::Conflict(_))), "{sent:?}");
    want(&books, service, &[], NOW + 2).await;
    assert!(books.records_of(service).await.unwrap().is_empty(), "nothing of it was marked");
    books.mark_sent(&claim, &[], NOW).await.unwrap();
}

pub async fn a_queue_has_one_owner(books: Books) {
    let service = Uuid::now_v7();
    want(&books, service, &[&key(service, "z1", "a"), &key(service, "z2", "a"), &key(service, "z3", "a")], NOW).await;
    let mine = books.claim_dns(Uuid::new_v4(), TTL, 1, NOW).await.unwrap();
    assert_eq!(
        mine.iter().map(|c| c.queue.as_str()).collect::<Vec<_>>(),
        ["q1"],
        "zones of one provider are one queue"
    );
    let others = books.claim_dns(Uuid::new_v4(), TTL, 10, NOW).await.unwrap();
    assert_eq!(others.iter().map(|c| c.queue.as_str()).collect::<Vec<_>>(), ["q3"]);
    assert!(books.claim_dns(Uuid::new_v4(), TTL, 10, NOW + TTL - 1).await.unwrap().is_empty());
    assert_eq!(books.next_dns_due().await.unwrap(), Some(NOW + TTL), "when the first claim runs out");
    books.renew_dns(&mine[0], TTL, NOW + 20_000).await.unwrap();
    let taken = books.claim_dns(Uuid::new_v4(), TTL, 10, NOW + TTL).await.unwrap();
    assert_eq!(taken.iter().map(|c| (c.queue.as_str(), c.epoch)).collect::<Vec<_>>(), [("q3", 2)]);
    books.release_dns(&mine[0], NOW).await.unwrap();
    assert_eq!(books.claim_dns(Uuid::new_v4(), TTL, 10, NOW).await.unwrap().len(), 1);

    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let books = books.clone();
            tokio::spawn(async move { books.claim_dns(Uuid::new_v4(), TTL, 10, NOW + 10 * TTL).await.unwrap() })
        })
        .collect();
    let mut claims = Vec::new();
    for task in tasks {
        claims.extend(task.await.unwrap().into_iter().map(|c| c.queue));
    }
    claims.sort();
    assert_eq!(claims, ["q1", "q3"]);
}

pub async fn a_lost_dns_claim_writes_nothing(books: Books) {
    let service = Uuid::now_v7();
    let k = key(service, "z1", "a");
    want(&books, service, &[&k], NOW).await;
    let old = take(&books, NOW).await;
    due(&books, &old, NOW).await;
    let new = take(&books, NOW + TTL).await;
    let before = only(&books, service).await;
    let lost = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::ClaimLost)), "{result:?}");
    lost(books.mark_sent(&old, std::slice::from_ref(&k), NOW).await);
    lost(books.settle_records(&old, vec![(k.clone(), RecordOutcome::Done)], NOW).await);
    lost(books.renew_dns(&old, TTL, NOW).await);
    lost(books.release_dns(&old, NOW).await);
    lost(books.due_records(&old, 1, NOW).await.map(|_| ()));
    assert_eq!(only(&books, service).await, before);
    books.renew_dns(&new, TTL, NOW).await.unwrap();
}

pub async fn hurrying_makes_unsettled_records_due(books: Books) {
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let (a, b, c) = (key(one, "z1", "a"), key(two, "z1", "b"), key(two, "z1", "c"));
    write(&books, &c, NOW).await;
    want(&books, one, &[&a], NOW).await;
    want(&books, two, &[&b, &c], NOW).await;
    let claim = take(&books, NOW).await;
    due(&books, &claim, NOW).await;
    for k in [&a, &b] {
        let failed = RecordOutcome::Failed { reason: "x".into(), due_ms: NOW + 300_000 };
        settle(&books, &claim, k, failed, NOW).await;
    }
    assert_eq!(books.hurry_records(Some(one), NOW + 1).await.unwrap(), 1);
    assert_eq!(due(&books, &claim, NOW + 1).await.into_iter().map(|r| r.key).collect::<Vec<_>>(), [a]);
    assert_eq!(books.hurry_records(None, NOW + 1).await.unwrap(), 2, "what is settled is left alone");
    assert_eq!(due(&books, &claim, NOW + 1).await.len(), 2);
}

pub async fn a_record_that_was_seen_to_be_missing_is_due_again_and_stays_in_the_ledger(books: Books) {
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let (there, going, open) = (key(one, "z1", "a"), key(two, "z1", "b"), key(one, "z1", "c"));
    write(&books, &there, NOW).await;
    write(&books, &going, NOW).await;
    want(&books, one, &[&there, &open], NOW).await;
    want(&books, two, &[], NOW).await;
    let unknown = key(one, "z1", "nowhere");
    let all = [there.clone(), going.clone(), open.clone(), unknown];
    assert_eq!(books.recheck_records(&all, NOW + 1).await.unwrap(), 1, "only what is wanted and was settled");
    let claim = take(&books, NOW + 1).await;
    let handed = due(&books, &claim, NOW + 1).await.into_iter().map(|r| r.key).collect::<BTreeSet<_>>();
    assert_eq!(handed, [there.clone(), going.clone(), open].into());
    // It may have been there all the same: without its service it has to go.
    want(&books, one, &[], NOW + 2).await;
    let left = books.records_of(one).await.unwrap();
    assert!(left.iter().any(|r| r.key == there && !r.wanted && r.written), "{left:?}");
}

pub async fn due_records_come_zone_by_zone(books: Books) {
    let service = Uuid::now_v7();
    let keys = [key(service, "z2", "b"), key(service, "z1", "c"), key(service, "z2", "a"), key(service, "z1", "a")];
    for (n, _) in keys.iter().enumerate() {
        let so_far: Vec<&RecordKey> = keys.iter().take(n + 1).collect();
        want(&books, service, &so_far, NOW + i64::try_from(n).unwrap()).await;
    }
    let claim = take(&books, NOW + 10).await;
    let zones = |rows: Vec<Record>| rows.into_iter().map(|r| (r.key.zone, r.key.name)).collect::<Vec<_>>();
    let all = zones(due(&books, &claim, NOW + 10).await);
    let expected = [("z1", "a.z1."), ("z1", "c.z1."), ("z2", "a.z2."), ("z2", "b.z2.")];
    assert_eq!(all, expected.map(|(z, n)| (z.to_owned(), n.to_owned())));
    let oldest = zones(books.due_records(&claim, 2, NOW + 10).await.unwrap());
    assert_eq!(oldest, [("z1".to_owned(), "c.z1.".to_owned()), ("z2".to_owned(), "b.z2.".to_owned())]);
}

pub async fn wishes_of_others_are_refused(books: Books) {
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let foreign = books.want_records(None, one, vec![(key(two, "z1", "a"), None)], queues(), NOW).await;
    assert!(matches!(foreign, Err(StoreError::Conflict(_))), "{foreign:?}");
    let unknown = books.want_records(None, one, vec![(key(one, "z9", "a"), None)], queues(), NOW).await;
    assert!(matches!(unknown, Err(StoreError::Conflict(_))), "{unknown:?}");
    // Two services may want the same record; each has a row of its own.
    let (a, b) = (key(one, "z1", "a"), key(two, "z1", "a"));
    want(&books, one, &[&a], NOW).await;
    want(&books, two, &[&b], NOW).await;
    want(&books, one, &[], NOW).await;
    assert_eq!(only(&books, two).await.key, b);
}

pub async fn a_record_that_another_service_wants_now_is_not_removed(books: Books) {
    let (former, heir, third) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let of = |service| key(service, "z1", "a");
    write(&books, &of(former), NOW).await;
    // Its removal fails for long, and meanwhile the address goes to another service of the same name.
    want(&books, former, &[], NOW).await;
    want(&books, heir, &[&of(heir)], NOW + 1).await;
    assert!(books.records_of(former).await.unwrap().is_empty(), "nobody removes what is another's now");
    let row = only(&books, heir).await;
    assert!(row.wanted && !row.written, "it has to be looked at");
    // It may stand there, so it is not forgotten if the wish ends before.
    want(&books, heir, &[], NOW + 2).await;
    assert!(!only(&books, heir).await.wanted);
    write(&books, &of(heir), NOW + 3).await;
    // Wanted by two at once: whoever gives it up leaves it to the other.
    want(&books, third, &[&of(third)], NOW + 4).await;
    want(&books, heir, &[], NOW + 5).await;
    assert!(books.records_of(heir).await.unwrap().is_empty());
    assert!(only(&books, third).await.wanted);
}

/// All that saying names may write.
async fn said(books: &Books, service: ServiceId) -> (Vec<Record>, Vec<Option<String>>, usize) {
    let ptrs = books.leases_of(service).await.unwrap().into_iter().map(|lease| lease.ptr).collect();
    (books.records_of(service).await.unwrap(), ptrs, books.audit_log(100).await.unwrap().len())
}

/// A wish for one record, with a name for the first address.
async fn all_of_it(books: &Books, service: ServiceId) -> Saying {
    Saying {
        ptr: Some((ip("192.0.2.10"), Some("mail.example.".into()))),
        wanted: vec![(key(service, "z1", "a"), Some(300))],
        queues: queues(),
        ..saying(books, service).await
    }
}

pub async fn names_are_said_with_the_name_of_an_address_and_an_audit_row(books: Books) {
    let service = active(&books, "a", NOW).await.id;
    books.lease(None, wish(service, 2, small()), NOW).await.unwrap();
    assert!(books.say_records(all_of_it(&books, service).await, NOW).await.unwrap());
    let (records, ptrs, audits) = said(&books, service).await;
    assert_eq!((ptrs, audits), (vec![Some("mail.example.".to_owned()), None], 1));
    assert!(records.len() == 1 && records[0].wanted && records[0].due_ms == NOW, "{records:?}");
    assert_eq!(books.audit_log(1).await.unwrap()[0].action, "service.names");
    // What is not said again goes, as with any wish.
    assert!(books.say_records(saying(&books, service).await, NOW).await.unwrap());
    let (records, ptrs, audits) = said(&books, service).await;
    assert_eq!((records, ptrs[0].as_deref(), audits), (Vec::new(), Some("mail.example."), 2));
}

pub async fn no_names_are_said_while_an_operation_is_open_or_of_a_service_that_is_not_active(books: Books) {
    let refused = async |service: ServiceId, why: &str| {
        let before = said(&books, service).await;
        let answer = books.say_records(all_of_it(&books, service).await, NOW).await;
        assert!(matches!(&answer, Err(StoreError::Conflict(text)) if text.contains(why)), "{why}: {answer:?}");
        assert_eq!(said(&books, service).await, before, "{why}");
    };
    let service = create(&books, "a", NOW).await.0.id;
    books.lease(None, wish(service, 1, small()), NOW).await.unwrap();
    refused(service, "(deploy) is under way").await;
    let run = claim(&books, NOW).await;
    refused(service, "(deploy) is under way").await;
    commit(&books, run.claim, succeed(), NOW).await;
    // Accepted, begun by nobody, and the phase is as it was.
    add(&books, "a", "change", NOW).await;
    assert_eq!(books.service(service).await.unwrap().unwrap().phase, Phase::Active);
    refused(service, "(change) is under way").await;
    let run = claim(&books, NOW).await;
    commit(&books, run.claim, succeed(), NOW).await;
    assert!(books.say_records(all_of_it(&books, service).await, NOW).await.unwrap());
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Active) {
        let becoming = move |_: Option<&_>, _: &[_]| Decision::Change {
            patch: ServicePatch { phase: Some(phase), ..ServicePatch::default() },
            operation: None,
            cancel: Vec::new(),
            preempt: false,
            events: Vec::new(),
        };
        done(books.accept(accept("a", becoming, NOW)).await.unwrap());
        refused(service, phase.as_str()).await;
    }
    let nobody = Saying { service: crate::conformance::fixture::service("x"), ..saying(&books, service).await };
    let unknown = books.say_records(nobody, NOW).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
}

pub async fn names_that_were_made_of_what_has_changed_since_are_not_said(books: Books) {
    let service = active(&books, "a", NOW).await.id;
    let first = all_of_it(&books, service).await;
    books.lease(None, wish(service, 1, small()), NOW).await.unwrap();
    let second = all_of_it(&books, service).await;
    assert!(!books.say_records(first, NOW).await.unwrap(), "it has an address more");
    assert_eq!(said(&books, service).await, (Vec::new(), vec![None], 0));
    // Of two who have read the same, one says it.
    let third = second.clone();
    assert!(books.say_records(second, NOW).await.unwrap());
    let now = said(&books, service).await;
    assert!(!books.say_records(third, NOW).await.unwrap(), "the address has a name by now");
    let stale = all_of_it(&books, service).await;
    add(&books, "a", "change", NOW + 1).await;
    let run = claim(&books, NOW + 1).await;
    commit(&books, run.claim, succeed(), NOW + 1).await;
    assert!(!books.say_records(stale, NOW).await.unwrap(), "an operation may have given it another name");
    assert_eq!(said(&books, service).await, now);
}

pub async fn of_a_terminate_and_many_who_say_names_no_record_is_left(books: Books) {
    for round in 0..8 {
        let reference = format!("r{round}");
        let service = active(&books, &reference, NOW).await.id;
        let mut all_at_once = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (books, saying) = (books.clone(), saying(&books, service).await);
            let saying = Saying { wanted: vec![(key(service, "z1", "a"), None)], queues: queues(), ..saying };
            all_at_once.spawn(async move { drop(books.say_records(saying, NOW).await) });
        }
        let terminating = |_: Option<&_>, _: &[_]| Decision::Change {
            patch: ServicePatch { phase: Some(Phase::Terminating), ..ServicePatch::default() },
            operation: Some(operation("terminate")),
            cancel: Vec::new(),
            preempt: true,
            events: Vec::new(),
        };
        done(books.accept(accept(&reference, terminating, NOW)).await.unwrap());
        let run = claim_all(&books, NOW).await.into_iter().find(|run| run.service.id == service).unwrap();
        books.want_records(Some(&run.claim), service, Vec::new(), queues(), NOW).await.unwrap();
        while all_at_once.join_next().await.is_some() {}
        assert_eq!(books.records_of(service).await.unwrap(), [], "round {round}");
    }
}
