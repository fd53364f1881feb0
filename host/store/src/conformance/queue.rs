//! Claims, the fence, commits, wake-ups, logs and history.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use uuid::Uuid;
use wharf_model::{
    operation::{LogBody, Reason, Status},
    service::Phase,
};

use super::fixture::*;
use crate::{Books, Claim, Commit, Committed, QueueCounts, ServiceFilter, ServicePatch, StoreError, Then};

pub async fn a_claim_is_exclusive_until_it_runs_out(books: Books) {
    create(&books, "1", NOW).await;
    claim(&books, NOW).await;
    assert!(claim_all(&books, NOW + TTL - 1).await.is_empty());
    assert_eq!(claim_all(&books, NOW + TTL).await.len(), 1);
}

pub async fn an_expired_claim_is_taken_over_with_a_higher_epoch(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let first = claim(&books, NOW).await;
    change(&books, first.claim, write(None), NOW).await;
    let second = claim(&books, NOW + TTL).await;
    assert!(second.taken_over);
    assert_eq!((second.claim.operation, second.claim.epoch), (operation.id, first.claim.epoch + 1));
    assert_eq!(second.effect.as_ref().map(|e| e.sequence), Some(1), "what was begun is known");
    assert_eq!(second.operation.started_ms, Some(NOW), "it was begun once");
    assert!(books.reload(&second.claim).await.unwrap().taken_over, "it stays so for this claim");
    commit(&books, second.claim, wait_until(NOW + TTL), NOW + TTL).await;
    assert!(!claim(&books, NOW + TTL).await.taken_over, "a claim that was given back is not taken over");
}

pub async fn a_stale_claim_writes_nothing(books: Books) {
    let (service, operation) = create(&books, "1", NOW).await;
    let old = claim(&books, NOW).await.claim;
    let new = claim(&books, NOW + TTL).await.claim;
    let full = |claim| Commit {
        state: Some(("wrong".into(), 9)),
        memo: Some(Some("wrong".into())),
        service: ServicePatch { plan: Some("wrong".into()), ..ServicePatch::default() },
        effect: Some(write(Some(("pool", 1)))),
        log: vec![line("wrong")],
        events: vec![event(Some(&service), "wrong")],
        ..Commit::new(claim, NOW + TTL, succeed())
    };
    let wrong_owner = Claim { owner: Uuid::new_v4(), ..new };
    let wrong_epoch = Claim { epoch: new.epoch + 1, ..new };
    for stale in [old, wrong_owner, wrong_epoch] {
        let lost = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::ClaimLost)), "{result:?}");
        lost(books.commit(full(stale)).await.map(|_| ()));
        lost(books.renew(&stale, TTL, NOW).await);
        lost(books.reload(&stale).await.map(|_| ()));
    }
    assert_eq!(books.service(service.id).await.unwrap().unwrap(), service);
    let row = now_at(&books, operation.id).await;
    assert_eq!((row.state.as_str(), row.memo, row.status), ("none", None, Status::Running));
    assert!(books.effects(operation.id).await.unwrap().is_empty());
    assert!(books.log(operation.id, 0, 10).await.unwrap().is_empty());
    assert!(books.events_after(0, None, 10).await.unwrap().is_empty());
    assert!(books.slots().await.unwrap().is_empty());
    books.commit(Commit::new(new, NOW + TTL, Then::Keep)).await.unwrap();
}

pub async fn a_renewed_claim_is_not_taken_over(books: Books) {
    create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    books.renew(&run.claim, TTL, NOW + 20_000).await.unwrap();
    assert!(claim_all(&books, NOW + TTL).await.is_empty());
    assert_eq!(books.next_due().await.unwrap(), Some(NOW + 20_000 + TTL));
    books.renew(&run.claim, TTL, NOW + 20_000 + TTL + 5).await.unwrap();
    assert!(claim_all(&books, NOW + 20_000 + TTL + 5).await.is_empty(), "late, but nobody had taken it");
}

pub async fn a_clock_that_was_set_back_stops_nobody(books: Books) {
    const YEAR: i64 = 365 * 86_400_000;
    create(&books, "1", NOW).await;
    let waits = claim(&books, NOW).await;
    commit(&books, waits.claim, wait_until(NOW + 5_000), NOW).await;
    create(&books, "2", NOW).await;
    let held = claim(&books, NOW).await;
    let runs = claim_all(&books, NOW - YEAR).await;
    assert_eq!(runs.iter().map(|r| r.claim.operation).collect::<Vec<_>>(), [waits.claim.operation]);
    books.renew(&held.claim, TTL, NOW - YEAR + 10_000).await.unwrap();
    assert_eq!(claim_all(&books, NOW - YEAR + TTL).await.len(), 1, "one that is held is not taken from a living owner");
    assert_eq!(claim_all(&books, NOW - YEAR + TTL + 10_000).await.len(), 1, "and from a dead one after its time");
}

pub async fn the_oldest_due_is_claimed_first(books: Books) {
    for (reference, age) in [("a", 5), ("b", 9), ("c", 1), ("d", 7)] {
        create(&books, reference, NOW - age).await;
    }
    let owner = Uuid::new_v4();
    let names = |runs: Vec<crate::Run>| runs.into_iter().map(|r| r.service.reference).collect::<Vec<_>>();
    assert_eq!(names(books.claim(owner, TTL, 3, NOW).await.unwrap()), ["b", "d", "a"]);
    assert_eq!(names(books.claim(owner, TTL, 3, NOW).await.unwrap()), ["c"]);
    assert!(books.claim(owner, TTL, 0, NOW + TTL).await.unwrap().is_empty());
}

pub async fn workers_never_share_a_run(books: Books) {
    for n in 0..40 {
        create(&books, &n.to_string(), NOW).await;
    }
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let books = books.clone();
            tokio::spawn(async move {
                let owner = Uuid::new_v4();
                let mut mine = Vec::new();
                loop {
                    let runs = books.claim(owner, TTL, 3, NOW).await.unwrap();
                    if runs.is_empty() {
                        return mine;
                    }
                    mine.extend(runs.into_iter().map(|r| r.claim.operation));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    assert_eq!(all.len(), 40);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 40);
}

pub async fn a_commit_writes_everything_together(books: Books) {
    let (service, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let attempts = Commit { attempt: Some(3), ..Commit::new(run.claim, NOW + 1, Then::Keep) };
    assert_eq!(books.commit(attempts).await.unwrap(), Committed::Held { effect: None });
    assert_eq!(now_at(&books, operation.id).await.attempt, 3);
    let patch = ServicePatch {
        phase: Some(Phase::Changing),
        suspended: Some(true),
        plan: Some("large".into()),
        options: Some(BTreeMap::from([("size".into(), "4".into())])),
        settings: Some(json!({ "size": 4 })),
        order: Some(BTreeMap::from([("email".into(), "b@example.org".into())])),
        facts: vec![("node".into(), Some("n1".into())), ("gone".into(), None)],
        absence_proven_ms: Some(Some(NOW + 2)),
    };
    let committed = books
        .commit(Commit {
            state: Some(("cloned".into(), 2)),
            memo: Some(Some("memo".into())),
            service: patch,
            effect: Some(write(None)),
            log: vec![step(1), line("hello")],
            events: vec![event(Some(&service), "service.changed")],
            ..Commit::new(run.claim, NOW + 2, Then::Keep)
        })
        .await
        .unwrap();
    let again = books.reload(&run.claim).await.unwrap();
    assert_eq!(committed, Committed::Held { effect: again.effect.clone() });
    assert!(again.effect.is_some());
    let row = again.operation;
    assert_eq!((row.state.as_str(), row.state_version, row.state_ms, row.attempt), ("cloned", 2, NOW + 2, 0));
    assert_eq!((row.memo.as_deref(), row.status), (Some("memo"), Status::Running));
    let s = again.service;
    assert_eq!((s.phase, s.suspended, s.plan.as_str(), s.updated_ms), (Phase::Changing, true, "large", NOW + 2));
    assert_eq!((s.options["size"].as_str(), s.order["email"].as_str()), ("4", "b@example.org"));
    assert_eq!((s.settings, s.absence_proven_ms), (json!({ "size": 4 }), Some(NOW + 2)));
    assert_eq!(s.facts, BTreeMap::from([("node".to_owned(), "n1".to_owned())]));
    assert_eq!((s.state.as_str(), s.state_version), ("none", 1), "the service's state changes when the operation ends");
    let log = books.log(operation.id, 0, 10).await.unwrap();
    assert_eq!(log.iter().map(|e| (e.n, e.at_ms)).collect::<Vec<_>>(), [(1, NOW + 2), (2, NOW + 2)]);
    assert_eq!((&log[0].body, &log[1].body), (&step(1), &line("hello")));
    assert_eq!(books.events_after(0, None, 10).await.unwrap()[0].event, event(Some(&service), "service.changed"));

    let clear = Commit {
        memo: Some(None),
        service: ServicePatch {
            facts: vec![("node".into(), None)],
            absence_proven_ms: Some(None),
            ..ServicePatch::default()
        },
        effect: Some(succeeded()),
        ..Commit::new(run.claim, NOW + 3, Then::Keep)
    };
    books.commit(clear).await.unwrap();
    let again = books.reload(&run.claim).await.unwrap();
    assert_eq!((again.operation.memo, again.service.absence_proven_ms), (None, None));
    assert!(again.service.facts.is_empty());
}

pub async fn a_refused_commit_writes_nothing(books: Books) {
    let (service, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let commit = Commit {
        state: Some(("wrong".into(), 9)),
        service: ServicePatch { plan: Some("wrong".into()), ..ServicePatch::default() },
        effect: Some(crate::EffectChange::Issued { task: "none to issue".into() }),
        log: vec![line("wrong")],
        events: vec![event(None, "wrong")],
        ..Commit::new(run.claim, NOW + 1, wait_until(NOW + 5))
    };
    let result = books.commit(commit).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert_eq!(books.service(service.id).await.unwrap().unwrap(), service);
    assert!(books.log(operation.id, 0, 10).await.unwrap().is_empty());
    assert!(books.events_after(0, None, 10).await.unwrap().is_empty());
    assert_eq!(books.reload(&run.claim).await.unwrap(), run, "the claim is still held");
}

pub async fn a_wait_gives_the_claim_back_until_it_is_due(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let reason = Reason { code: "no-address".into(), message: "The pool is empty.".into() };
    let then = Then::Wait { due_ms: NOW + 500, topic: None, reason: Some(reason.clone()) };
    let committed = books.commit(Commit { attempt: Some(2), ..Commit::new(run.claim, NOW + 1, then) }).await.unwrap();
    assert_eq!(committed, Committed::Released { parked: false });
    let row = now_at(&books, operation.id).await;
    assert_eq!((row.status, row.reason, row.attempt), (Status::Waiting, Some(reason), 2));
    let lost = books.renew(&run.claim, TTL, NOW + 2).await;
    assert!(matches!(lost, Err(StoreError::ClaimLost)), "{lost:?}");
    assert_eq!(books.next_due().await.unwrap(), Some(NOW + 500));
    assert!(claim_all(&books, NOW + 499).await.is_empty());
    assert_eq!(claim(&books, NOW + 500).await.claim.epoch, run.claim.epoch + 1);
}

pub async fn a_topic_wakes_those_that_wait_for_it(books: Books) {
    for (reference, topic) in [("a", "task:1"), ("b", "task:2"), ("c", "task:1")] {
        create(&books, reference, NOW).await;
        let run = claim(&books, NOW).await;
        commit(&books, run.claim, wait_for(topic, NOW + 9_000), NOW).await;
    }
    assert_eq!(books.wake_topic("task:1", NOW + 5).await.unwrap(), 2);
    assert_eq!(books.wake_topic("task:1", NOW + 5).await.unwrap(), 0, "nobody waits for it any more");
    assert_eq!(books.wake_topic("task:3", NOW + 5).await.unwrap(), 0);
    let mut woken: Vec<_> = claim_all(&books, NOW + 5).await.into_iter().map(|r| r.service.reference).collect();
    woken.sort();
    assert_eq!(woken, ["a", "c"]);
}

pub async fn waking_makes_a_waiting_run_due_and_leaves_a_claimed_one(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    assert!(!books.wake(operation.id, NOW).await.unwrap());
    commit(&books, run.claim, wait_until(NOW + 9_000), NOW).await;
    assert!(books.wake(operation.id, NOW + 5).await.unwrap());
    assert_eq!(books.next_due().await.unwrap(), Some(NOW + 5));
    let run = claim(&books, NOW + 5).await;
    commit(&books, run.claim, succeed(), NOW + 5).await;
    assert!(!books.wake(operation.id, NOW + 6).await.unwrap());
    assert!(!books.wake(Uuid::new_v4(), NOW + 6).await.unwrap());
    assert_eq!(books.next_due().await.unwrap(), None);
}

pub async fn the_log_is_numbered_without_gaps(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    for n in 0..10_i64 {
        let log = (0..n % 3 + 1).map(|m| line(&format!("{n}.{m}"))).collect();
        books.commit(Commit { log, ..Commit::new(run.claim, NOW + n, Then::Keep) }).await.unwrap();
    }
    let log = books.log(operation.id, 0, 100).await.unwrap();
    assert_eq!(log.iter().map(|e| e.n).collect::<Vec<_>>(), (1..=19).collect::<Vec<_>>());
    let page = books.log(operation.id, 5, 3).await.unwrap();
    assert_eq!(page.iter().map(|e| e.n).collect::<Vec<_>>(), [6, 7, 8]);
}

pub async fn a_full_log_loses_its_oldest_lines_and_keeps_its_steps(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let put = |log| Commit { log, ..Commit::new(run.claim, NOW, Then::Keep) };
    books.commit(put(vec![step(1), line("old"), step(2)])).await.unwrap();
    let many: Vec<LogBody> = (0..4_990).map(|n| line(&n.to_string())).collect();
    books.commit(put(many)).await.unwrap();
    books.commit(put((0..20).map(|n| line(&format!("new {n}"))).collect())).await.unwrap();
    books.commit(put(vec![step(3)])).await.unwrap();
    let log = books.log(operation.id, 0, 10_000).await.unwrap();
    assert_eq!(log.len(), 5_000);
    assert_eq!((log[0].n, log[1].n), (1, 3), "the steps stay, the oldest line went");
    assert_eq!((log[2].n, log[4_999].n), (3 + 13 + 1, 5_014));
    assert_eq!(log[4_999].body, step(3));
}

pub async fn failed_tries_do_not_fill_the_log_without_end(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let put = |log| Commit { log, ..Commit::new(run.claim, NOW, Then::Keep) };
    let failed = |code: usize| {
        let LogBody::Step { number, label, from, version, .. } = step(2) else { panic!("no step") };
        let result = wharf_model::operation::StepResult::Error { code: code.to_string(), message: "no".into() };
        LogBody::Step { to: from.clone(), number, label, from, result, effect: None, version, duration_ms: 0, epoch: 1 }
    };
    books.commit(put(vec![step(1)])).await.unwrap();
    books.commit(put((0..5_010).map(failed).collect())).await.unwrap();
    books.commit(put(vec![failed(5_010)])).await.unwrap();
    let log = books.log(operation.id, 0, 10_000).await.unwrap();
    assert_eq!(log.len(), 5_000);
    assert_eq!(log[0].body, step(1), "the step that was made stays");
    assert_eq!(log[4_999].body, failed(5_010), "and what was tried last");
}

pub async fn history_is_cut_to_fifty_and_open_operations_stay(books: Books) {
    let (service, first) = create(&books, "1", NOW).await;
    let mut now = NOW;
    for n in 0..54 {
        now += 1;
        let run = claim(&books, now).await;
        let last = Commit { log: vec![line("x")], ..Commit::new(run.claim, now, succeed()) };
        if n == 0 {
            let write = Commit { effect: Some(write(None)), ..Commit::new(run.claim, now, Then::Keep) };
            books.commit(write).await.unwrap();
            change(&books, run.claim, succeeded(), now).await;
        }
        books.commit(last).await.unwrap();
        add(&books, "1", "change", now).await;
    }
    let all = books.operations(service.id, 100).await.unwrap();
    assert_eq!(all.len(), 50);
    assert_eq!((all[0].generation, all[0].status, all[49].generation), (55, Status::Waiting, 6));
    assert_eq!(books.operation(first.id).await.unwrap(), None);
    assert!(books.log(first.id, 0, 10).await.unwrap().is_empty());
    assert!(books.effects(first.id).await.unwrap().is_empty());
    // Queued behind one that hangs: all stay, however many.
    for _ in 0..60 {
        add(&books, "1", "change", now).await;
    }
    let open = books.operations(service.id, 200).await.unwrap();
    assert_eq!(open.len(), 61);
    assert!(open.iter().all(|o| !o.status.is_final()), "what is over went, what is open stayed");
    assert_eq!(claim(&books, now).await.operation.generation, 55);
}

pub async fn an_operation_in_needs_admin_can_be_resumed(books: Books) {
    let (service, operation) = create(&books, "1", NOW).await;
    let resumed = books.resume(operation.id, None, audit("resume"), NOW).await;
    assert!(matches!(resumed, Err(StoreError::Conflict(_))), "it is not stopped: {resumed:?}");
    let run = claim(&books, NOW).await;
    let stop = Commit { attempt: Some(4), ..Commit::new(run.claim, NOW + 1, give_up()) };
    books.commit(stop).await.unwrap();
    let row = now_at(&books, operation.id).await;
    assert_eq!((row.status, row.reason.unwrap().code.as_str()), (Status::NeedsAdmin, "stuck"));
    assert_eq!(books.service(service.id).await.unwrap().unwrap().phase, Phase::NeedsAdmin);
    let counts = QueueCounts { needs_admin: 1, ..QueueCounts::default() };
    assert_eq!(books.queue_counts().await.unwrap(), counts);

    books.resume(operation.id, Some("cloned".into()), audit("resume"), NOW + 2).await.unwrap();
    let run = claim(&books, NOW + 2).await;
    let row = run.operation;
    assert_eq!((row.id, row.state.as_str(), row.attempt, row.ended_ms), (operation.id, "cloned", 0, None));
    assert!(!run.taken_over);
    assert_eq!(books.queue_counts().await.unwrap(), QueueCounts { live: 1, claimed: 1, ..QueueCounts::default() });
    assert_eq!(books.audit_log(10).await.unwrap().len(), 1, "only what was done is in the audit log");
    let unknown = books.resume(Uuid::new_v4(), None, audit("resume"), NOW).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
}

pub async fn a_claim_from_before_a_resume_stays_void(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let owner = Uuid::new_v4();
    let before = books.claim(owner, TTL, 1, NOW).await.unwrap().remove(0).claim;
    commit(&books, before, give_up(), NOW).await;
    books.resume(operation.id, None, audit("resume"), NOW).await.unwrap();
    let after = books.claim(owner, TTL, 1, NOW).await.unwrap().remove(0).claim;
    assert!(after.epoch > before.epoch, "the same worker has a claim of its own for each life of the run");
    let stale = books.commit(Commit::new(before, NOW, succeed())).await;
    assert!(matches!(stale, Err(StoreError::ClaimLost)), "{stale:?}");
}

pub async fn resuming_is_refused_while_another_operation_is_live(books: Books) {
    let (_, stopped) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    commit(&books, run.claim, give_up(), NOW).await;
    let next = add(&books, "1", "terminate", NOW).await;
    assert_eq!(next.status, Status::Waiting, "one in needs-admin does not bar the way");
    let result = books.resume(stopped.id, None, audit("resume"), NOW).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert_eq!(now_at(&books, stopped.id).await.status, Status::NeedsAdmin);
    assert_eq!(claim_all(&books, NOW).await.len(), 1, "one live run a service");
}

pub async fn resuming_is_refused_once_the_service_was_terminated(books: Books) {
    let (_, stopped) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    commit(&books, run.claim, give_up(), NOW).await;
    let end = add(&books, "1", "terminate", NOW).await;
    let run = claim(&books, NOW).await;
    commit(&books, run.claim, give_up(), NOW).await;
    let refused = books.resume(stopped.id, None, audit("resume"), NOW).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    books.resume(end.id, None, audit("resume"), NOW).await.unwrap();
    let run = claim(&books, NOW).await;
    assert_eq!(run.operation.id, end.id);
    commit(&books, run.claim, succeed(), NOW).await;
    let refused = books.resume(stopped.id, None, audit("resume"), NOW).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert!(claim_all(&books, NOW).await.is_empty());
}

pub async fn an_operation_finishes_only_in_a_final_status(books: Books) {
    create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let then = Then::Finish { status: Status::Waiting, phase: Phase::Active, reason: None };
    let result = books.commit(Commit::new(run.claim, NOW, then)).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert_eq!(books.reload(&run.claim).await.unwrap(), run);
}

pub async fn services_are_listed_by_what_is_asked(books: Books) {
    let mut ids = Vec::new();
    for reference in ["a", "b", "c", "d"] {
        ids.push(create(&books, reference, NOW).await.0.id);
    }
    ids.sort_unstable();
    let run = books.claim(Uuid::new_v4(), TTL, 1, NOW).await.unwrap().remove(0);
    commit(&books, run.claim, succeed(), NOW).await;
    let list = |filter: ServiceFilter| {
        let books = books.clone();
        async move { books.services(filter).await.unwrap().into_iter().map(|s| s.id).collect::<Vec<_>>() }
    };
    let all = ServiceFilter { limit: 10, ..ServiceFilter::default() };
    assert_eq!(list(all.clone()).await, ids);
    assert_eq!(list(ServiceFilter { limit: 2, ..all.clone() }).await, ids[..2]);
    assert_eq!(list(ServiceFilter { after: Some(ids[1]), ..all.clone() }).await, ids[2..]);
    assert_eq!(list(ServiceFilter { phase: Some(Phase::Active), ..all.clone() }).await, [run.service.id]);
    assert_eq!(list(ServiceFilter { panel: Some("shop".into()), ..all.clone() }).await.len(), 4);
    assert!(list(ServiceFilter { panel: Some("other".into()), ..all }).await.is_empty());
    let counts = BTreeMap::from([("active".to_owned(), 1), ("provisioning".to_owned(), 3)]);
    assert_eq!(books.phase_counts().await.unwrap(), counts);
}

pub async fn live_state_versions_are_counted(books: Books) {
    for reference in ["a", "b", "c"] {
        create(&books, reference, NOW).await;
    }
    let runs = claim_all(&books, NOW).await;
    let newer = Commit { state: Some(("x".into(), 2)), ..Commit::new(runs[0].claim, NOW, Then::Keep) };
    books.commit(newer).await.unwrap();
    commit(&books, runs[1].claim, succeed(), NOW).await;
    assert_eq!(books.live_state_versions("provisioner").await.unwrap(), [(1, 1), (2, 1)]);
    assert!(books.live_state_versions("other").await.unwrap().is_empty());
}

pub async fn in_restored_books_every_live_operation_ends_in_needs_admin(books: Books) {
    let (first, running) = create(&books, "1", NOW).await;
    let behind = add(&books, "1", "change", NOW).await;
    let (_, parked) = create(&books, "2", NOW + 1).await;
    let runs = books.claim(Uuid::new_v4(), TTL, 2, NOW + 2).await.unwrap();
    for run in &runs {
        let take = Commit { effect: Some(write(Some(("pool", 1)))), ..Commit::new(run.claim, NOW + 2, Then::Keep) };
        books.commit(take).await.unwrap();
    }
    assert_eq!(books.queue_counts().await.unwrap().parked, 1);
    let reason = Reason { code: "restored".into(), message: "the books were restored".into() };

    assert_eq!(books.stop_all(reason.clone(), NOW + 3).await.unwrap(), 3);

    for operation in [running.id, behind.id, parked.id] {
        let ended = books.operation(operation).await.unwrap().unwrap();
        assert_eq!((ended.status, ended.reason), (Status::NeedsAdmin, Some(reason.clone())));
        assert_eq!(ended.ended_ms, Some(NOW + 3));
    }
    assert_eq!(books.service(first.id).await.unwrap().unwrap().phase, Phase::NeedsAdmin);
    assert_eq!(books.next_due().await.unwrap(), None);
    assert!(books.slots().await.unwrap().is_empty());
    let late = books.commit(Commit::new(runs[0].claim, NOW + 4, Then::Keep)).await;
    assert!(matches!(late, Err(StoreError::ClaimLost)), "{late:?}");
    let told = books.events_after(0, None, 100).await.unwrap();
    assert_eq!(told.iter().filter(|e| e.event.kind == "operation.needs-admin").count(), 3);
    // A person goes on with one; its effect is in doubt, and its epochs go on.
    books.resume(running.id, None, audit("resume"), NOW + 5).await.unwrap();
    let again = books.claim(Uuid::new_v4(), TTL, 9, NOW + 5).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(again[0].claim.epoch > runs[0].claim.epoch);
    assert_eq!(books.stop_all(reason, NOW + 6).await.unwrap(), 1);
}
