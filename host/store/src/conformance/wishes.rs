//! How wishes are taken on.

use wharf_model::{operation::Status, service::Phase};

use super::fixture::*;
use crate::{Accepted, Books, Decision, ServicePatch, StoreError};

pub async fn a_created_service_has_one_live_operation(books: Books) {
    let (service, operation) = create(&books, "1", NOW).await;
    assert_eq!((service.generation, service.created_ms, service.updated_ms), (1, NOW, NOW));
    assert_eq!((operation.generation, operation.service_id), (1, service.id));
    assert_eq!((operation.status, operation.created_ms, operation.started_ms), (Status::Waiting, NOW, None));
    assert_eq!(books.service(service.id).await.unwrap().unwrap(), service);
    assert_eq!(books.service_by_ref("shop", "1").await.unwrap().unwrap(), service);
    assert_eq!(books.service_by_ref("shop", "2").await.unwrap(), None);
    assert_eq!(now_at(&books, operation.id).await, operation);
    let run = claim(&books, NOW).await;
    assert_eq!((run.claim.operation, run.claim.epoch), (operation.id, 1));
    assert_eq!((run.service, run.effect, run.preempted, run.taken_over), (service, None, false, false));
    assert_eq!((run.operation.status, run.operation.started_ms), (Status::Running, Some(NOW)));
    assert_eq!(now_at(&books, operation.id).await, run.operation);
    assert_eq!(books.next_due().await.unwrap(), Some(NOW + TTL));
}

pub async fn one_reference_is_created_once_however_many_ask(books: Books) {
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let books = books.clone();
            tokio::spawn(async move {
                let decide = |service: Option<&wharf_model::service::Service>, open: &[_]| match service {
                    None => creating("7"),
                    Some(_) => {
                        let open: &[wharf_model::operation::Operation] = open;
                        Decision::Nothing { operation: open.first().map(|o| o.id) }
                    }
                };
                done(books.accept(accept("7", decide, NOW)).await.unwrap())
            })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for task in tasks {
        let (service, operation, replayed) = task.await.unwrap();
        assert!(!replayed);
        ids.insert((service.id, operation.unwrap().id));
    }
    assert_eq!(ids.len(), 1, "all were told of the same service and operation");
    assert_eq!(claim_all(&books, NOW).await.len(), 1);
}

pub async fn the_same_key_with_the_same_words_is_answered_as_before(books: Books) {
    let wish = || keyed(accept("1", |_, _| creating("1"), NOW), "k", "f");
    let (service, operation, replayed) = done(books.accept(wish()).await.unwrap());
    assert!(!replayed);
    let (again, same, replayed) = done(books.accept(wish()).await.unwrap());
    assert!(replayed);
    assert_eq!((again, same), (service, operation));
    assert_eq!(claim_all(&books, NOW).await.len(), 1);
}

pub async fn the_same_key_with_other_words_is_refused(books: Books) {
    books.accept(keyed(accept("1", |_, _| creating("1"), NOW), "k", "f")).await.unwrap();
    let other = books.accept(keyed(accept("2", |_, _| creating("2"), NOW), "k", "g")).await.unwrap();
    assert_eq!(other, Accepted::KeyReused);
    assert_eq!(books.service_by_ref("shop", "2").await.unwrap(), None);
}

pub async fn a_refusal_leaves_no_trace_and_no_key(books: Books) {
    let refuse = |_: Option<&_>, _: &[_]| Decision::Refuse { code: "no".into(), message: "Not now.".into() };
    let refused = books.accept(keyed(accept("1", refuse, NOW), "k", "f")).await.unwrap();
    assert_eq!(refused, Accepted::Refused { code: "no".into(), message: "Not now.".into() });
    assert_eq!(books.service_by_ref("shop", "1").await.unwrap(), None);
    let (_, _, replayed) =
        done(books.accept(keyed(accept("1", |_, _| creating("1"), NOW), "k", "other")).await.unwrap());
    assert!(!replayed, "the key was free");
}

pub async fn a_key_is_forgotten_after_thirty_days(books: Books) {
    books.accept(keyed(accept("1", |_, _| creating("1"), NOW), "k", "f")).await.unwrap();
    let just_before = NOW + 30 * 86_400_000 - 1;
    let wish = |now| keyed(accept("1", |_, _| adding("change"), now), "k", "g");
    assert_eq!(books.accept(wish(just_before)).await.unwrap(), Accepted::KeyReused);
    let (_, operation, replayed) = done(books.accept(wish(just_before + 1)).await.unwrap());
    assert!(!replayed);
    assert_eq!(operation.unwrap().kind, "change");
}

pub async fn nothing_for_an_unknown_service_stays_nothing(books: Books) {
    let nothing = |_: Option<&_>, _: &[_]| Decision::Nothing { operation: None };
    let wish = || keyed(accept("1", nothing, NOW), "k", "f");
    assert_eq!(books.accept(wish()).await.unwrap(), Accepted::NoService);
    create(&books, "1", NOW).await;
    let replay = keyed(accept("1", |_, _| adding("terminate"), NOW), "k", "f");
    assert_eq!(books.accept(replay).await.unwrap(), Accepted::NoService, "answered as then, although it exists now");
}

pub async fn a_change_of_an_unknown_service_is_refused(books: Books) {
    let result = books.accept(accept("1", |_, _| adding("change"), NOW)).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
}

pub async fn creating_what_is_there_is_refused(books: Books) {
    let (service, _) = create(&books, "1", NOW).await;
    let result = books.accept(accept("1", |_, _| creating("1"), NOW + 1)).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    let other = books.accept(accept("2", |_, _| creating("3"), NOW + 1)).await;
    assert!(matches!(other, Err(StoreError::Conflict(_))), "the wish was for another reference: {other:?}");
    assert_eq!(books.service_by_ref("shop", "1").await.unwrap().unwrap(), service);
    assert_eq!(books.services(crate::ServiceFilter { limit: 10, ..Default::default() }).await.unwrap().len(), 1);
}

pub async fn the_decision_sees_the_live_operation_first_and_the_queued_ones_in_order(books: Books) {
    create(&books, "1", NOW).await;
    for (n, kind) in ["change", "suspend", "terminate"].into_iter().enumerate() {
        add(&books, "1", kind, NOW + i64::try_from(n).unwrap()).await;
    }
    let (tell, told) = std::sync::mpsc::channel();
    let decide = move |service: Option<&wharf_model::service::Service>, open: &[wharf_model::operation::Operation]| {
        let seen: Vec<_> = open.iter().map(|o| (o.kind.clone(), o.status, o.generation)).collect();
        tell.send((service.map(|s| s.generation), seen)).unwrap();
        Decision::Nothing { operation: None }
    };
    books.accept(accept("1", decide, NOW)).await.unwrap();
    let (generation, seen) = told.recv().unwrap();
    assert_eq!(generation, Some(4));
    assert_eq!(
        seen,
        [
            ("deploy".to_owned(), Status::Waiting, 1),
            ("change".to_owned(), Status::Queued, 2),
            ("suspend".to_owned(), Status::Queued, 3),
            ("terminate".to_owned(), Status::Queued, 4),
        ]
    );
}

pub async fn an_operation_behind_a_live_one_is_promoted_when_that_ends(books: Books) {
    let (service, first) = create(&books, "1", NOW).await;
    let second = add(&books, "1", "change", NOW + 1).await;
    let third = add(&books, "1", "terminate", NOW + 2).await;
    assert_eq!((second.status, second.generation), (Status::Queued, 2));
    let run = claim(&books, NOW + 3).await;
    assert_eq!(run.claim.operation, first.id, "only one of a service is live");
    let mut last = crate::Commit::new(run.claim, NOW + 10, succeed());
    last.state = Some(("ready".into(), 3));
    books.commit(last).await.unwrap();

    let ended = now_at(&books, first.id).await;
    assert_eq!((ended.status, ended.ended_ms, ended.state.as_str()), (Status::Succeeded, Some(NOW + 10), "ready"));
    let row = books.service(service.id).await.unwrap().unwrap();
    assert_eq!(
        (row.phase, row.state.as_str(), row.state_version, row.updated_ms),
        (Phase::Active, "ready", 3, NOW + 10)
    );
    assert_eq!(now_at(&books, second.id).await.status, Status::Waiting);
    assert_eq!(now_at(&books, third.id).await.status, Status::Queued);
    let next = claim(&books, NOW + 10).await;
    assert_eq!(next.claim.operation, second.id);
    assert!(!next.taken_over);
    let order: Vec<_> = books.operations(service.id, 10).await.unwrap().into_iter().map(|o| o.id).collect();
    assert_eq!(order, [third.id, second.id, first.id], "newest first");
    assert_eq!(books.operations(service.id, 2).await.unwrap().len(), 2);
}

pub async fn a_queued_operation_can_be_cancelled_and_a_live_one_can_not(books: Books) {
    let (service, first) = create(&books, "1", NOW).await;
    let second = add(&books, "1", "change", NOW).await;
    let cancelling = |id| {
        move |_: Option<&_>, _: &[_]| Decision::Change {
            patch: ServicePatch { plan: Some("large".into()), ..ServicePatch::default() },
            operation: Some(operation("terminate")),
            cancel: vec![id],
            preempt: false,
            events: Vec::new(),
        }
    };
    let result = books.accept(accept("1", cancelling(first.id), NOW + 1)).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert_eq!(books.service(service.id).await.unwrap().unwrap().plan, "small", "nothing of it was written");
    let (changed, third, _) = done(books.accept(accept("1", cancelling(second.id), NOW + 2)).await.unwrap());
    assert_eq!((changed.plan.as_str(), changed.generation), ("large", 3));
    let gone = now_at(&books, second.id).await;
    assert_eq!((gone.status, gone.ended_ms), (Status::Cancelled, Some(NOW + 2)));
    assert!(gone.reason.is_some(), "it says why");
    let run = claim(&books, NOW + 3).await;
    commit(&books, run.claim, succeed(), NOW + 3).await;
    assert_eq!(claim(&books, NOW + 3).await.claim.operation, third.unwrap().id, "the cancelled one is passed over");
}

pub async fn preempting_makes_a_waiting_run_due(books: Books) {
    let (_, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    commit(&books, run.claim, wait_until(NOW + 1_000_000), NOW).await;
    assert!(claim_all(&books, NOW + 1).await.is_empty());
    preempt(&books, "1", NOW + 1).await;
    let run = claim(&books, NOW + 1).await;
    assert_eq!(run.claim.operation, operation.id);
    assert!(run.preempted);
}

pub async fn preempting_a_claimed_run_ends_its_next_wait_at_once(books: Books) {
    create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    preempt(&books, "1", NOW + 1).await;
    commit(&books, run.claim, wait_until(NOW + 1_000_000), NOW + 2).await;
    let run = claim(&books, NOW + 2).await;
    assert!(run.preempted && !run.taken_over);
    commit(&books, run.claim, wait_until(NOW + 1_000_000), NOW + 3).await;
    assert!(claim_all(&books, NOW + 4).await.is_empty(), "a worker that knows may wait");

    let run = claim(&books, NOW + 1_000_000).await;
    preempt(&books, "1", NOW + 1_000_001).await;
    assert!(books.reload(&run.claim).await.unwrap().preempted);
    commit(&books, run.claim, wait_until(NOW + 2_000_000), NOW + 1_000_002).await;
    assert!(claim_all(&books, NOW + 1_000_003).await.is_empty(), "it has seen it by loading again");
}

pub async fn what_is_overtaken_leaves_the_phase_of_the_wish_that_overtook_it(books: Books) {
    for (reference, then) in [("1", crate::Then::Keep), ("2", succeed()), ("3", give_up())] {
        let (service, _) = create(&books, reference, NOW).await;
        let run = claim(&books, NOW).await;
        let terminate = |_: Option<&_>, _: &[_]| Decision::Change {
            patch: ServicePatch { phase: Some(Phase::Terminating), ..ServicePatch::default() },
            operation: Some(operation("terminate")),
            cancel: Vec::new(),
            preempt: true,
            events: Vec::new(),
        };
        books.accept(accept(reference, terminate, NOW + 1)).await.unwrap();
        let before = books.events_after(0, None, 100).await.unwrap().len();
        let mut stale = crate::Commit::new(run.claim, NOW + 2, then);
        stale.service.phase = Some(Phase::Provisioning);
        for kind in ["service.phase-changed", "operation.finished"] {
            let mut told = event(Some(&service), kind);
            told.data = serde_json::json!({"phase": "active", "kind": "deploy"});
            stale.events.push(told);
        }
        books.commit(stale).await.unwrap();
        assert_eq!(books.service(service.id).await.unwrap().unwrap().phase, Phase::Terminating);
        let told = books.events_after(0, None, 100).await.unwrap().split_off(before);
        assert_eq!(told.len(), 1, "a phase that never came is not told of: {told:?}");
        let data = serde_json::json!({"phase": "terminating", "kind": "deploy"});
        assert_eq!((told[0].event.kind.as_str(), &told[0].event.data), ("operation.finished", &data));
        let left = claim_all(&books, NOW + 2).await.len() + usize::from(reference == "1");
        assert_eq!(left, 1, "the terminate follows");
    }
}

pub async fn a_suspension_is_seen_at_once_while_an_operation_runs(books: Books) {
    let (service, _) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let suspend = |_: Option<&_>, _: &[_]| Decision::Change {
        patch: ServicePatch { suspended: Some(true), ..ServicePatch::default() },
        operation: None,
        cancel: Vec::new(),
        preempt: false,
        events: Vec::new(),
    };
    let (_, operation, _) = done(books.accept(accept("1", suspend, NOW + 5)).await.unwrap());
    assert_eq!(operation, None);
    assert!(books.service(service.id).await.unwrap().unwrap().suspended);
    let mut last = crate::Commit::new(run.claim, NOW + 6, crate::Then::Keep);
    last.service.facts = vec![("node".into(), Some("a".into()))];
    books.commit(last).await.unwrap();
    let row = books.reload(&run.claim).await.unwrap().service;
    assert!(row.suspended, "a worker's commit does not take it back");
    assert_eq!(row.updated_ms, NOW + 6);
}
