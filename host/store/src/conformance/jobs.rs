//! Jobs, and what they prune.

use serde_json::json;
use uuid::Uuid;
use wharf_model::{job::Job, object::ObjectKind};

use super::fixture::*;
use crate::{Books, Commit, EffectChange, JobClaim, JobEnd, Prune, StoreError, Then, rules};

const EVERY: i64 = 3_600_000;
const STALE: i64 = 3 * EVERY;

async fn declare(books: &Books, name: &str) {
    books.declare_job(name, EVERY, STALE, NOW).await.unwrap();
}

async fn begin(books: &Books, name: &str, now: i64) -> JobClaim {
    let mut claims = books.claim_jobs(&[name], Uuid::new_v4(), TTL, now).await.unwrap();
    assert_eq!(claims.len(), 1, "{name} is due");
    claims.remove(0)
}

async fn idle(books: &Books, name: &str, now: i64) -> bool {
    books.claim_jobs(&[name], Uuid::new_v4(), TTL, now).await.unwrap().is_empty()
}

fn well(n: i64) -> JobEnd {
    JobEnd::Done { result: json!({ "n": n }), events: Vec::new() }
}

async fn row(books: &Books, name: &str) -> Job {
    books.job(name).await.unwrap().unwrap()
}

pub async fn a_declared_job_is_due_at_once_and_keeps_its_history(books: Books) {
    assert_eq!(books.next_job_due(&["a", "b"]).await.unwrap(), None);
    declare(&books, "b").await;
    declare(&books, "a").await;
    assert_eq!(books.next_job_due(&["a", "b"]).await.unwrap(), Some(NOW));
    let claim = begin(&books, "a", NOW + 5).await;
    books.end_job(&claim, well(1), NOW + 7).await.unwrap();
    let before = row(&books, "a").await;
    assert_eq!(
        (before.last_begun_ms, before.last_ended_ms, before.last_ok_ms),
        (Some(NOW + 5), Some(NOW + 7), Some(NOW + 7))
    );
    assert_eq!((before.last_result.clone(), before.runs, before.due_ms), (Some(json!({ "n": 1 })), 1, NOW + EVERY));
    books.declare_job("a", 2 * EVERY, 2 * STALE, NOW + 9).await.unwrap();
    assert_eq!(row(&books, "a").await, Job { every_ms: 2 * EVERY, stale_ms: 2 * STALE, ..before });
    assert_eq!(books.jobs().await.unwrap().iter().map(|j| j.name.clone()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(books.job("c").await.unwrap(), None);
}

pub async fn a_job_is_run_by_one_at_a_time(books: Books) {
    declare(&books, "a").await;
    declare(&books, "b").await;
    let hosts: Vec<_> = (0..16)
        .map(|_| {
            let books = books.clone();
            tokio::spawn(async move { books.claim_jobs(&["a", "b"], Uuid::new_v4(), TTL, NOW).await.unwrap() })
        })
        .collect();
    let mut claims = Vec::new();
    for host in hosts {
        claims.extend(host.await.unwrap().into_iter().map(|c| c.name));
    }
    claims.sort();
    assert_eq!(claims, ["a", "b"]);
}

pub async fn only_jobs_that_the_host_knows_are_claimed(books: Books) {
    for (name, due) in [("late", 2), ("early", 1), ("of-a-newer-host", 0)] {
        books.declare_job(name, EVERY, STALE, NOW + due).await.unwrap();
    }
    let claims = books.claim_jobs(&["late", "early", "never-declared"], Uuid::new_v4(), TTL, NOW + 2).await.unwrap();
    assert_eq!(claims.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["early", "late"], "oldest due first");
    assert_eq!(row(&books, "of-a-newer-host").await.owner, None);
    assert_eq!(books.next_job_due(&["of-a-newer-host"]).await.unwrap(), Some(NOW));
}

pub async fn missed_ticks_are_made_up_for_once(books: Books) {
    declare(&books, "a").await;
    let claim = begin(&books, "a", NOW).await;
    books.end_job(&claim, well(1), NOW + 10).await.unwrap();
    assert!(idle(&books, "a", NOW + EVERY - 1).await);
    // Nobody was there for five ticks and a half.
    let late = NOW + 5 * EVERY + EVERY / 2;
    let claim = begin(&books, "a", late).await;
    books.end_job(&claim, well(2), late + 10).await.unwrap();
    assert_eq!(row(&books, "a").await.due_ms, late + 10 + EVERY);
    // A little late is no reason to leave the beat.
    let claim = begin(&books, "a", late + 500 + EVERY).await;
    books.end_job(&claim, well(3), late + 600 + EVERY).await.unwrap();
    assert_eq!(row(&books, "a").await.due_ms, late + 10 + 2 * EVERY);
}

pub async fn a_renewed_job_is_not_taken_over(books: Books) {
    declare(&books, "a").await;
    let claim = begin(&books, "a", NOW).await;
    books.renew_job(&claim, TTL, NOW + TTL - 1).await.unwrap();
    assert!(idle(&books, "a", NOW + TTL).await);
    assert_eq!(books.next_job_due(&["a"]).await.unwrap(), Some(NOW + 2 * TTL - 1));
    books.end_job(&claim, well(1), NOW + TTL).await.unwrap();
    assert_eq!(row(&books, "a").await.took_over, 0);
}

pub async fn a_job_whose_process_died_is_taken_over_and_that_is_counted(books: Books) {
    declare(&books, "a").await;
    let dead = begin(&books, "a", NOW).await;
    assert!(idle(&books, "a", NOW + TTL - 1).await);
    let heir = begin(&books, "a", NOW + TTL).await;
    assert_eq!(heir.epoch, dead.epoch + 1);
    let job = row(&books, "a").await;
    assert_eq!((job.took_over, job.runs, job.owner, job.was_due_ms), (1, 0, Some(heir.owner), NOW));
    books.end_job(&heir, well(1), NOW + TTL).await.unwrap();
    let job = row(&books, "a").await;
    assert_eq!((job.took_over, job.runs, job.owner, job.due_ms), (1, 1, None, NOW + EVERY));
}

pub async fn the_end_of_a_lost_job_is_refused_and_writes_nothing(books: Books) {
    declare(&books, "a").await;
    let zombie = begin(&books, "a", NOW).await;
    let heir = begin(&books, "a", NOW + TTL).await;
    let before = row(&books, "a").await;
    let news = || JobEnd::Done { result: json!(1), events: vec![event(None, "job.news")] };
    let failed = || JobEnd::Failed { error: "x".into(), again_ms: NOW };
    let stranger = JobClaim { owner: Uuid::new_v4(), ..heir.clone() };
    for claim in [&zombie, &stranger] {
        for end in [news(), failed()] {
            let lost = books.end_job(claim, end, NOW + TTL).await;
            assert!(matches!(lost, Err(StoreError::ClaimLost)), "{lost:?}");
        }
        let lost = books.renew_job(claim, TTL, NOW + TTL).await;
        assert!(matches!(lost, Err(StoreError::ClaimLost)), "{lost:?}");
    }
    assert_eq!(row(&books, "a").await, before);
    assert!(books.events_after(0, None, 10).await.unwrap().is_empty());
    books.end_job(&heir, news(), NOW + TTL).await.unwrap();
    let twice = books.end_job(&heir, news(), NOW + TTL).await;
    assert!(matches!(twice, Err(StoreError::ClaimLost)), "{twice:?}");
}

pub async fn a_failed_job_says_why_and_keeps_its_last_result(books: Books) {
    declare(&books, "a").await;
    let claim = begin(&books, "a", NOW).await;
    books.end_job(&claim, well(1), NOW).await.unwrap();
    let claim = begin(&books, "a", NOW + EVERY).await;
    let failed = JobEnd::Failed { error: "the server did not answer".into(), again_ms: NOW + EVERY + 60 };
    books.end_job(&claim, failed, NOW + EVERY + 1).await.unwrap();
    let job = row(&books, "a").await;
    assert_eq!(job.last_error.as_deref(), Some("the server did not answer"));
    assert_eq!((job.last_result, job.last_ok_ms), (Some(json!({ "n": 1 })), Some(NOW)));
    assert_eq!((job.last_ended_ms, job.runs, job.due_ms), (Some(NOW + EVERY + 1), 2, NOW + EVERY + 60));
    let claim = begin(&books, "a", NOW + EVERY + 60).await;
    books.end_job(&claim, well(2), NOW + EVERY + 61).await.unwrap();
    assert_eq!(row(&books, "a").await.last_error, None);
}

pub async fn findings_become_events_with_the_end_of_the_job(books: Books) {
    let hook = json!({ "plugin": "webhook", "events": ["job.*"] });
    books.put_object(ObjectKind::Hook, "h", hook, None, None, NOW).await.unwrap();
    declare(&books, "a").await;
    let claim = begin(&books, "a", NOW).await;
    let end = JobEnd::Done { result: json!(1), events: vec![event(None, "job.found")] };
    books.end_job(&claim, end, NOW + 3).await.unwrap();
    let feed = books.events_after(0, None, 10).await.unwrap();
    assert_eq!(feed.iter().map(|e| (e.event.kind.as_str(), e.at_ms)).collect::<Vec<_>>(), [("job.found", NOW + 3)]);
    assert_eq!(books.next_delivery_due().await.unwrap(), Some(NOW + 3), "hooks are told");
}

pub async fn a_forced_job_is_due_now(books: Books) {
    declare(&books, "a").await;
    let claim = begin(&books, "a", NOW).await;
    books.end_job(&claim, well(1), NOW).await.unwrap();
    assert!(idle(&books, "a", NOW + 10).await);
    let before = books.force_job("a", audit("job.force"), NOW + 10).await.unwrap();
    assert_eq!((before.epoch, before.last_epoch), (claim.epoch, claim.epoch));
    assert_eq!(books.audit_log(1).await.unwrap()[0].action, "job.force");
    let claim = begin(&books, "a", NOW + 10).await;
    books.end_job(&claim, well(2), NOW + 20).await.unwrap();
    let job = row(&books, "a").await;
    assert!(job.last_epoch > before.epoch, "whoever forced it sees that it has run");
    assert_eq!(job.due_ms, NOW + 10 + EVERY);
    let unknown = books.force_job("b", audit("x"), NOW).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
    assert_eq!(books.audit_log(10).await.unwrap().len(), 1, "what was refused leaves no audit row");
}

pub async fn a_job_forced_while_it_runs_runs_once_more(books: Books) {
    declare(&books, "a").await;
    let first = begin(&books, "a", NOW).await;
    let before = books.force_job("a", audit("x"), NOW + 10).await.unwrap();
    assert!(idle(&books, "a", NOW + 10).await, "nobody runs it beside the one that runs it");
    books.end_job(&first, well(1), NOW + 20).await.unwrap();
    assert_eq!(row(&books, "a").await.last_epoch, before.epoch, "that run began before it was asked for");
    let second = begin(&books, "a", NOW + 20).await;
    books.end_job(&second, well(2), NOW + 30).await.unwrap();
    assert!(row(&books, "a").await.last_epoch > before.epoch);
    assert!(idle(&books, "a", NOW + 40).await, "once more, not for ever");
}

pub async fn cleared_locks_let_another_begin_and_refuse_the_zombie(books: Books) {
    for name in ["a", "b", "c"] {
        declare(&books, name).await;
    }
    let a = begin(&books, "a", NOW).await;
    let b = begin(&books, "b", NOW).await;
    assert_eq!(books.clear_job_locks(Some("a"), audit("1"), NOW + 1).await.unwrap(), ["a"]);
    let lost = books.end_job(&a, well(1), NOW + 1).await;
    assert!(matches!(lost, Err(StoreError::ClaimLost)), "{lost:?}");
    let heir = begin(&books, "a", NOW + 1).await;
    assert!(heir.epoch > a.epoch);
    let lost = books.renew_job(&a, TTL, NOW + 1).await;
    assert!(matches!(lost, Err(StoreError::ClaimLost)), "{lost:?}");
    books.end_job(&heir, well(1), NOW + 2).await.unwrap();
    assert_eq!(books.clear_job_locks(None, audit("2"), NOW + 3).await.unwrap(), ["b"], "c and a are held by nobody");
    let lost = books.end_job(&b, well(1), NOW + 3).await;
    assert!(matches!(lost, Err(StoreError::ClaimLost)), "{lost:?}");
    assert!(books.clear_job_locks(None, audit("3"), NOW + 3).await.unwrap().is_empty());
    let unknown = books.clear_job_locks(Some("d"), audit("4"), NOW).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
    let actions: Vec<_> = books.audit_log(10).await.unwrap().into_iter().map(|a| a.action).collect();
    assert_eq!(actions, ["3", "2", "1"]);
    assert_eq!(row(&books, "a").await.took_over, 0, "cleared by a person is not taken over");
}

pub async fn a_clock_that_was_set_back_stops_no_job(books: Books) {
    let year = 365 * 86_400_000;
    books.declare_job("idle", EVERY, STALE, NOW + year).await.unwrap();
    books.declare_job("held", EVERY, STALE, NOW).await.unwrap();
    let held = begin(&books, "held", NOW).await;
    books.renew_job(&held, TTL, NOW + year).await.unwrap();
    let claims = books.claim_jobs(&["idle", "held"], Uuid::new_v4(), TTL, NOW).await.unwrap();
    assert_eq!(claims.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["idle"]);
    assert!(idle(&books, "held", NOW + TTL - 1).await, "its owner has the time to renew");
    assert_eq!(begin(&books, "held", NOW + TTL).await.epoch, held.epoch + 1);
}

pub async fn a_job_without_a_good_end_is_stale(books: Books) {
    declare(&books, "a").await;
    assert!(!row(&books, "a").await.is_stale(NOW + STALE));
    assert!(row(&books, "a").await.is_stale(NOW + STALE + 1), "never run at all");
    let claim = begin(&books, "a", NOW).await;
    let failed = JobEnd::Failed { error: "x".into(), again_ms: NOW };
    books.end_job(&claim, failed, NOW + STALE).await.unwrap();
    assert!(row(&books, "a").await.is_stale(NOW + STALE + 1), "a failure is no good end");
    let claim = begin(&books, "a", NOW + STALE).await;
    books.end_job(&claim, well(1), NOW + STALE).await.unwrap();
    assert!(!row(&books, "a").await.is_stale(NOW + 2 * STALE));
}

pub async fn old_events_go_but_none_that_a_hook_still_waits_for(books: Books) {
    let hook = json!({ "plugin": "webhook", "events": ["wanted"] });
    books.put_object(ObjectKind::Hook, "h", hook, None, None, NOW).await.unwrap();
    for (n, kind) in ["a", "wanted", "b", "c", "young"].into_iter().enumerate() {
        let now = NOW + if kind == "young" { 100 } else { i64::try_from(n).unwrap() };
        books.append_events(vec![event(None, kind)], now).await.unwrap();
    }
    let old = Prune::Events { before: NOW + 100 };
    let kinds = async || {
        let feed = books.events_after(0, None, 10).await.unwrap();
        feed.into_iter().map(|e| e.event.kind).collect::<Vec<_>>()
    };
    assert_eq!(books.prune(old, 2).await.unwrap(), 2, "in batches, oldest first");
    assert_eq!(kinds().await, ["wanted", "c", "young"]);
    assert_eq!(books.prune(old, 2).await.unwrap(), 1);
    assert_eq!(kinds().await, ["wanted", "young"]);
    assert_eq!(books.prune(old, 2).await.unwrap(), 0);
    let owner = Uuid::new_v4();
    let delivery = books.claim_deliveries(owner, TTL, 10, NOW + 200).await.unwrap().remove(0);
    assert_eq!(books.prune(old, 2).await.unwrap(), 0, "on its way is not there yet");
    books.settle_delivery(owner, &delivery, None, NOW + 200).await.unwrap();
    assert_eq!(books.prune(old, 2).await.unwrap(), 1);
    assert_eq!(kinds().await, ["young"], "from then on is not before");
}

pub async fn the_numbers_of_the_feed_go_on_after_pruning(books: Books) {
    for kind in ["a", "b"] {
        books.append_events(vec![event(None, kind)], NOW).await.unwrap();
        books.audit(audit(kind), NOW).await.unwrap();
    }
    assert_eq!(books.prune(Prune::Events { before: NOW + 1 }, 10).await.unwrap(), 2);
    assert_eq!(books.prune(Prune::Audit { before: NOW + 1 }, 10).await.unwrap(), 2);
    books.append_events(vec![event(None, "c")], NOW).await.unwrap();
    books.audit(audit("c"), NOW).await.unwrap();
    assert_eq!(books.events_after(2, None, 10).await.unwrap()[0].seq, 3, "a reader that had 2 goes on with 3");
    assert_eq!(books.audit_log(10).await.unwrap()[0].seq, 3);
}

pub async fn a_reader_from_before_what_was_pruned_is_told_and_other_panels_are_not(books: Books) {
    let of = |panel: &str| wharf_model::event::NewEvent { panel: Some(panel.into()), ..event(None, "x") };
    for (panel, now) in [("p", NOW), ("p", NOW), ("q", NOW), ("p", NOW + 9)] {
        books.append_events(vec![of(panel)], now).await.unwrap();
    }
    assert_eq!(books.prune(Prune::Events { before: NOW + 1 }, 2).await.unwrap(), 2);
    assert_eq!(books.prune(Prune::Events { before: NOW + 1 }, 2).await.unwrap(), 1);
    let told = async |after, panel| match books.events_after(after, panel, 10).await {
        Ok(events) => Ok(events.into_iter().map(|e| e.seq).collect::<Vec<_>>()),
        Err(StoreError::EventsGone { upto }) => Err(upto),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(told(1, Some("p")).await, Err(2), "2 was never read");
    assert_eq!(told(2, Some("p")).await, Ok(vec![4]), "all that is gone was read");
    assert_eq!(told(1, Some("q")).await, Err(3));
    assert_eq!(told(1, Some("r")).await, Ok(vec![]), "nothing of its own is gone");
    assert_eq!((told(2, None).await, told(3, None).await), (Err(3), Ok(vec![4])));
    assert_eq!(told(0, None).await, Ok(vec![4]), "who begins takes what there is");
}

pub async fn old_audit_rows_go_in_batches(books: Books) {
    for n in 0..5 {
        books.audit(audit(&n.to_string()), NOW + n).await.unwrap();
    }
    let old = Prune::Audit { before: NOW + 3 };
    assert_eq!(books.prune(old, 2).await.unwrap(), 2);
    let actions = async || books.audit_log(10).await.unwrap().into_iter().map(|a| a.action).collect::<Vec<_>>();
    assert_eq!(actions().await, ["4", "3", "2"], "oldest first");
    assert_eq!(books.prune(old, 2).await.unwrap(), 1);
    assert_eq!(actions().await, ["4", "3"]);
}

pub async fn old_idempotency_keys_go(books: Books) {
    for (n, key) in ["old", "young"].into_iter().enumerate() {
        let wish = accept(key, move |_, _| creating(key), NOW + i64::try_from(n).unwrap());
        books.accept(keyed(wish, key, "f")).await.unwrap();
    }
    assert_eq!(books.prune(Prune::Keys { before: NOW + 1 }, 10).await.unwrap(), 1);
    let again = books.accept(keyed(accept("young", |_, _| adding("change"), NOW + 2), "young", "f")).await.unwrap();
    assert!(done(again).2, "a young one is still known");
    let again = books.accept(keyed(accept("old", |_, _| adding("change"), NOW + 2), "old", "f")).await.unwrap();
    assert!(!done(again).2, "an old one is forgotten");
}

pub async fn effects_of_an_operation_that_is_tried_for_ever_stay_bounded(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let kept = i64::from(rules::EFFECTS_KEPT);
    for _ in 0..kept + 10 {
        change(&books, run.claim, write(None), NOW).await;
        let refused = wharf_model::effect::EffectResult { ok: false, code: "no".into(), message: "no".into() };
        change(&books, run.claim, EffectChange::Resolved(refused), NOW).await;
    }
    change(&books, run.claim, write(None), NOW).await;
    assert_eq!(books.prune(Prune::Effects, 4).await.unwrap(), 4);
    assert_eq!(books.effects(operation.id).await.unwrap()[0].sequence, 5, "oldest first");
    assert_eq!(books.prune(Prune::Effects, 1_000).await.unwrap(), 6);
    assert_eq!(books.prune(Prune::Effects, 1_000).await.unwrap(), 0);
    let left = books.effects(operation.id).await.unwrap();
    assert_eq!(left.len(), usize::try_from(kept).unwrap() + 1);
    assert_eq!(left.last().unwrap().sequence, rules::EFFECTS_KEPT + 11);
    assert_eq!(books.reload(&run.claim).await.unwrap().effect.as_ref(), left.last());
    // The numbers go on.
    change(&books, run.claim, succeeded(), NOW).await;
    change(&books, run.claim, write(None), NOW).await;
    let last = books.reload(&run.claim).await.unwrap().effect.unwrap();
    assert_eq!(last.sequence, rules::EFFECTS_KEPT + 12);
    books.commit(Commit::new(run.claim, NOW, Then::Keep)).await.unwrap();
}
