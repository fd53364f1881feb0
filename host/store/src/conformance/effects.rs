//! Effects and their slots.

use uuid::Uuid;
use wharf_model::{
    effect::{EffectResult, EffectState},
    operation::Status,
};

use super::fixture::*;
use crate::{Books, Commit, Committed, EffectChange, Run, StoreError, Then};

const POOL: Option<(&str, u32)> = Some(("clones:local", 1));

fn effect_of(committed: Committed) -> wharf_model::effect::Effect {
    match committed {
        Committed::Held { effect: Some(effect) } => effect,
        other => panic!("no effect: {other:?}"),
    }
}

async fn state(books: &Books, run: &Run) -> EffectState {
    books.effects(run.claim.operation).await.unwrap().last().unwrap().state
}

/// Creates and claims so many services.
async fn runs(books: &Books, count: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    for n in 0..count {
        create(books, &n.to_string(), NOW).await;
        runs.push(claim(books, NOW).await);
    }
    runs
}

pub async fn an_effect_without_a_slot_may_be_sent_at_once(books: Books) {
    let (service, operation) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let effect = effect_of(change(&books, run.claim, write(None), NOW + 1).await);
    assert_eq!((effect.service_id, effect.operation_id), (service.id, operation.id));
    assert_eq!((effect.state, effect.deadline_ms, effect.created_ms), (EffectState::Intent, NOW + 60_000, NOW + 1));
    assert_eq!(effect.body, serde_json::json!({ "newid": 100 }));
    let issued = effect_of(change(&books, run.claim, EffectChange::Issued { task: "UPID:1".into() }, NOW + 2).await);
    assert_eq!(
        (issued.state, issued.task.as_deref(), issued.issued_ms),
        (EffectState::Issued, Some("UPID:1"), Some(NOW + 2))
    );
    let failed = EffectResult { ok: false, code: "full".into(), message: "no space left".into() };
    let end = effect_of(change(&books, run.claim, EffectChange::Resolved(failed.clone()), NOW + 3).await);
    assert_eq!((end.state, end.result.as_ref(), end.resolved_ms), (EffectState::Failed, Some(&failed), Some(NOW + 3)));
    assert_eq!(books.effects(operation.id).await.unwrap(), [end]);
}

pub async fn an_effect_moves_only_along_its_way(books: Books) {
    create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    let refused = |change: EffectChange| {
        let books = books.clone();
        let claim = run.claim;
        async move {
            let result = books.commit(Commit { effect: Some(change), ..Commit::new(claim, NOW, Then::Keep) }).await;
            assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
        }
    };
    let issue = |task: &str| EffectChange::Issued { task: task.into() };
    refused(issue("1")).await;
    refused(succeeded()).await;
    change(&books, run.claim, write(None), NOW).await;
    refused(EffectChange::Send { deadline_ms: NOW }).await;
    change(&books, run.claim, EffectChange::NotSent, NOW).await;
    assert_eq!(state(&books, &run).await, EffectState::Planned);
    refused(issue("1")).await;
    let sent = effect_of(change(&books, run.claim, EffectChange::Send { deadline_ms: NOW + 7 }, NOW).await);
    assert_eq!((sent.state, sent.deadline_ms), (EffectState::Intent, NOW + 7));
    change(&books, run.claim, issue("1"), NOW).await;
    change(&books, run.claim, issue("1"), NOW + 1).await;
    assert_eq!(effect_of(change(&books, run.claim, issue("2"), NOW + 2).await).task.as_deref(), Some("2"));
    change(&books, run.claim, succeeded(), NOW).await;
    refused(issue("3")).await;
    refused(succeeded()).await;
    refused(EffectChange::NotSent).await;
}

pub async fn an_unresolved_effect_bars_the_next(books: Books) {
    create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    change(&books, run.claim, write(None), NOW).await;
    let result = books.commit(Commit { effect: Some(write(None)), ..Commit::new(run.claim, NOW, Then::Keep) }).await;
    assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    assert_eq!(books.effects(run.claim.operation).await.unwrap().len(), 1);
}

pub async fn effects_are_numbered_within_the_generation(books: Books) {
    create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    for _ in 0..2 {
        change(&books, run.claim, write(None), NOW).await;
        change(&books, run.claim, succeeded(), NOW).await;
    }
    add(&books, "1", "change", NOW).await;
    commit(&books, run.claim, succeed(), NOW).await;
    let next = claim(&books, NOW).await;
    assert_eq!(next.effect, None, "the effects of the operation before are not this one's");
    change(&books, next.claim, write(None), NOW).await;
    let ids = |effects: Vec<wharf_model::effect::Effect>| effects.iter().map(|e| e.id()).collect::<Vec<_>>();
    assert_eq!(ids(books.effects(run.claim.operation).await.unwrap()), ["1.1", "1.2"]);
    assert_eq!(ids(books.effects(next.claim.operation).await.unwrap()), ["2.1"]);
}

pub async fn a_full_pool_parks_the_run_whatever_it_wanted_next(books: Books) {
    let runs = runs(&books, 2).await;
    assert_eq!(effect_of(change(&books, runs[0].claim, write(POOL), NOW).await).state, EffectState::Intent);
    let commit = Commit {
        state: Some(("chosen".into(), 1)),
        effect: Some(write(POOL)),
        log: vec![line("x")],
        ..Commit::new(runs[1].claim, NOW, Then::Keep)
    };
    assert_eq!(books.commit(commit).await.unwrap(), Committed::Released { parked: true });
    let row = now_at(&books, runs[1].claim.operation).await;
    assert_eq!((row.status, row.state.as_str()), (Status::Waiting, "chosen"), "the rest of the commit counts");
    assert_eq!(row.reason.unwrap().code, "waiting-for-slot");
    assert_eq!(state(&books, &runs[1]).await, EffectState::Planned);
    assert_eq!(books.queue_counts().await.unwrap().parked, 1);
    assert!(!books.wake(runs[1].claim.operation, NOW).await.unwrap(), "only a slot wakes it");
    let due: Vec<_> = claim_all(&books, NOW + 100 * TTL).await.into_iter().map(|r| r.claim.operation).collect();
    assert_eq!(due, [runs[0].claim.operation], "however late, the parked one is not due");
    let slots = books.slots().await.unwrap();
    assert_eq!(slots["clones:local"], [runs[0].claim.operation], "a slot outlives the claim");
}

pub async fn slots_never_exceed_their_cap(books: Books) {
    let runs = runs(&books, 24).await;
    let tasks: Vec<_> = runs
        .into_iter()
        .map(|run| {
            let books = books.clone();
            tokio::spawn(async move {
                let effect = Some(write(Some(("p", 3))));
                books.commit(Commit { effect, ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // All work through the queue: whoever holds a slot ends, whoever was woken sends.
    let mut ended = 0;
    let mut now = NOW;
    while ended < 24 {
        let slots = books.slots().await.unwrap();
        assert_eq!(slots["p"].len(), 3.min(24 - ended), "full as long as somebody waits");
        assert_eq!(
            books.queue_counts().await.unwrap().parked,
            i64::try_from(24_usize.saturating_sub(ended + 3)).unwrap()
        );
        now += TTL;
        for run in claim_all(&books, now).await {
            match run.effect.map(|e| e.state) {
                Some(EffectState::Planned) => {
                    change(&books, run.claim, EffectChange::Send { deadline_ms: now }, now).await;
                }
                _ => {
                    let last = Commit { effect: Some(succeeded()), ..Commit::new(run.claim, now, succeed()) };
                    books.commit(last).await.unwrap();
                    ended += 1;
                }
            }
        }
        // Those that were woken take their slots.
        for run in claim_all(&books, now).await {
            let sent = books
                .commit(Commit {
                    effect: Some(EffectChange::Send { deadline_ms: now }),
                    ..Commit::new(run.claim, now, Then::Keep)
                })
                .await
                .unwrap();
            assert!(matches!(sent, Committed::Held { .. }), "{sent:?}");
        }
        assert!(books.slots().await.unwrap().get("p").is_none_or(|held| held.len() <= 3));
    }
    assert!(books.slots().await.unwrap().is_empty());
}

pub async fn a_lowered_cap_counts_those_that_hold_already(books: Books) {
    let runs = runs(&books, 3).await;
    for run in &runs[..2] {
        change(&books, run.claim, write(Some(("p", 2))), NOW).await;
    }
    change(&books, runs[0].claim, succeeded(), NOW).await;
    let parked = change(&books, runs[2].claim, write(Some(("p", 1))), NOW).await;
    assert_eq!(parked, Committed::Released { parked: true }, "one holds a slot, and one is all there may be now");
    change(&books, runs[1].claim, succeeded(), NOW).await;
    assert_eq!(claim(&books, NOW).await.claim.operation, runs[2].claim.operation);
}

pub async fn parked_runs_are_woken_in_the_order_in_which_they_came(books: Books) {
    let runs = runs(&books, 4).await;
    for n in [0, 2, 3, 1] {
        books
            .commit(Commit { effect: Some(write(POOL)), ..Commit::new(runs[n].claim, NOW, Then::Keep) })
            .await
            .unwrap();
    }
    let mut holder = runs[0].claim;
    let mut order = Vec::new();
    for _ in 0..3 {
        change(&books, holder, succeeded(), NOW + 1).await;
        commit(&books, holder, wait_until(NOW + 3_600_000), NOW + 1).await;
        let next = claim(&books, NOW + 1).await;
        order.push(next.service.reference.clone());
        change(&books, next.claim, EffectChange::Send { deadline_ms: NOW }, NOW + 1).await;
        holder = next.claim;
    }
    assert_eq!(order, ["2", "3", "1"]);
}

pub async fn a_slot_is_given_back_when_nothing_was_sent(books: Books) {
    let runs = runs(&books, 2).await;
    for run in &runs {
        books.commit(Commit { effect: Some(write(POOL)), ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
    }
    let busy = Commit { effect: Some(EffectChange::NotSent), ..Commit::new(runs[0].claim, NOW, wait_until(NOW + 50)) };
    books.commit(busy).await.unwrap();
    assert!(books.slots().await.unwrap().is_empty());
    let next = claim(&books, NOW).await;
    assert_eq!(next.claim.operation, runs[1].claim.operation);
    change(&books, next.claim, EffectChange::Send { deadline_ms: NOW }, NOW).await;
    let again = claim(&books, NOW + 50).await;
    let parked = change(&books, again.claim, EffectChange::Send { deadline_ms: NOW }, NOW + 50).await;
    assert_eq!(parked, Committed::Released { parked: true });
}

pub async fn a_slot_is_given_back_when_the_operation_ends(books: Books) {
    let runs = runs(&books, 2).await;
    for run in &runs {
        books.commit(Commit { effect: Some(write(POOL)), ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
    }
    commit(&books, runs[0].claim, give_up(), NOW).await;
    assert!(books.slots().await.unwrap().is_empty());
    assert_eq!(claim(&books, NOW).await.claim.operation, runs[1].claim.operation);
}

pub async fn a_parked_run_that_ends_unsent_passes_its_turn_on(books: Books) {
    let runs = runs(&books, 3).await;
    for run in &runs {
        books.commit(Commit { effect: Some(write(POOL)), ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
    }
    change(&books, runs[0].claim, succeeded(), NOW).await;
    let woken = claim(&books, NOW).await;
    assert_eq!(woken.claim.operation, runs[1].claim.operation);
    commit(
        &books,
        woken.claim,
        Then::Finish { status: Status::Cancelled, phase: wharf_model::service::Phase::Terminating, reason: None },
        NOW,
    )
    .await;
    assert_eq!(claim(&books, NOW).await.claim.operation, runs[2].claim.operation, "the slot is not left unused");
    // Preempted while parked: it need not wait for a slot to end.
    let last = books.reload(&Run { claim: runs[0].claim, ..runs[0].clone() }.claim).await.unwrap();
    change(&books, last.claim, write(Some(("other", 0))), NOW).await;
    preempt(&books, "0", NOW + 1).await;
    let run = claim(&books, NOW + 1).await;
    assert!(run.preempted && run.claim.operation == last.claim.operation);
}

pub async fn a_run_that_lost_its_turn_keeps_its_place(books: Books) {
    let runs = runs(&books, 4).await;
    for run in &runs[..3] {
        books.commit(Commit { effect: Some(write(POOL)), ..Commit::new(run.claim, NOW, Then::Keep) }).await.unwrap();
    }
    change(&books, runs[0].claim, succeeded(), NOW).await;
    // A newcomer is faster than the one that was woken.
    change(&books, runs[3].claim, write(POOL), NOW).await;
    let late = claim(&books, NOW).await;
    assert_eq!(late.claim.operation, runs[1].claim.operation);
    let again = change(&books, late.claim, EffectChange::Send { deadline_ms: NOW }, NOW).await;
    assert_eq!(again, Committed::Released { parked: true });
    change(&books, runs[3].claim, succeeded(), NOW).await;
    assert_eq!(claim(&books, NOW).await.claim.operation, runs[1].claim.operation, "before the one that came after it");
}

pub async fn tasks_are_listed_by_server(books: Books) {
    let runs = runs(&books, 3).await;
    for (n, run) in runs.iter().enumerate() {
        change(&books, run.claim, write(None), NOW).await;
        change(&books, run.claim, EffectChange::Issued { task: format!("UPID:{n}") }, NOW).await;
    }
    change(&books, runs[1].claim, succeeded(), NOW).await;
    commit(&books, runs[2].claim, give_up(), NOW).await;
    assert_eq!(books.servers_with_tasks().await.unwrap(), ["pve"]);
    assert_eq!(books.issued_tasks("pve").await.unwrap(), [(runs[0].claim.operation, "UPID:0".to_owned())]);
    assert!(books.issued_tasks("other").await.unwrap().is_empty());
    change(&books, runs[0].claim, succeeded(), NOW).await;
    assert!(books.servers_with_tasks().await.unwrap().is_empty());
    assert!(books.issued_tasks(&Uuid::new_v4().to_string()).await.unwrap().is_empty());
}
