//! The rules of the books under random hands: effects move along their way only, an end is an end, slots are never too many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // test code

use proptest::prelude::*;
use wharf_model::{
    effect::{Effect, EffectResult, EffectState, SlotPool},
    operation::{Operation, Status},
    service::{Phase, Service},
};
use wharf_store::{
    Commit, EffectChange, Then,
    conformance::fixture::{NOW, operation, service},
    queue::Claim,
    rules::{self, Plan, SlotMove},
};

/// A live operation and its service.
fn rows() -> (Service, Operation) {
    let decision = wharf_store::Decision::Create {
        service: Box::new(service("1")),
        operation: operation("deploy"),
        events: Vec::new(),
    };
    let Plan::Write(writes) = rules::plan("shop", "1", decision, None, &[], NOW).unwrap() else { panic!("no writes") };
    (writes.service, writes.operation.unwrap().0)
}

fn change() -> impl Strategy<Value = EffectChange> {
    let slot = prop::option::of((1..4_u32).prop_map(|cap| SlotPool { name: "pool".into(), cap }));
    prop_oneof![
        slot.prop_map(|slot| EffectChange::New {
            kind: "clone".into(),
            server: "pve".into(),
            body: serde_json::Value::Null,
            slot,
            deadline_ms: NOW + 5,
        }),
        Just(EffectChange::Send { deadline_ms: NOW + 9 }),
        Just(EffectChange::Issued { task: "UPID:1".into() }),
        Just(EffectChange::NotSent),
        any::<bool>().prop_map(|ok| {
            EffectChange::Resolved(EffectResult { ok, code: String::new(), message: String::new() })
        }),
    ]
}

/// Where a state may lead to.
fn allowed(from: EffectState, to: EffectState) -> bool {
    use EffectState::{Failed, Intent, Issued, Ok, Planned};
    match from {
        // Ended by the plan of a preempted operation, too.
        Planned => matches!(to, Planned | Intent | Ok | Failed),
        Intent | Issued => matches!(to, Planned | Issued | Ok | Failed),
        Ok | Failed => false,
    }
}

proptest! {
    #[test]
    fn effects_move_along_their_way_one_at_a_time_and_give_back_what_they_held(
        changes in prop::collection::vec((change(), any::<bool>()), 1..80),
    ) {
        let (_, operation) = rows();
        let mut last: Option<Effect> = None;
        let mut held = false;
        for (change, free) in changes {
            let before = last.clone();
            let new = matches!(change, EffectChange::New { .. });
            let Ok(mut moved) = rules::move_effect(change, &operation, last.clone(), NOW) else { continue };
            match &before {
                Some(before) if new => {
                    prop_assert!(before.state.is_resolved(), "a second effect beside one in {:?}", before.state);
                    prop_assert_eq!(moved.effect.sequence, before.sequence + 1);
                    prop_assert!(moved.fresh);
                }
                None => prop_assert!(new && moved.fresh && moved.effect.sequence == 1),
                Some(before) => prop_assert!(!moved.fresh && moved.effect.sequence == before.sequence),
            }
            match &moved.slot {
                SlotMove::Take(pool) => {
                    prop_assert!(!held, "a second slot for one effect");
                    prop_assert_eq!(Some(pool), moved.effect.slot.as_ref());
                    prop_assert_eq!(moved.effect.state, EffectState::Planned, "on its way without a slot");
                    if free {
                        rules::grant(&mut moved.effect);
                        held = true;
                    }
                }
                SlotMove::Free(_) => held = false,
                SlotMove::Stay => {}
            }
            if let (Some(before), false) = (&before, new) {
                prop_assert!(
                    allowed(before.state, moved.effect.state),
                    "{:?} became {:?}", before.state, moved.effect.state
                );
            }
            let effect = &moved.effect;
            let away = matches!(effect.state, EffectState::Intent | EffectState::Issued);
            prop_assert!(!(away && effect.slot.is_some() && !held), "{:?} without its slot", effect.state);
            prop_assert!(!(effect.state.is_resolved() && held), "it is over and holds its slot");
            prop_assert_eq!(effect.state.is_resolved(), effect.result.is_some());
            prop_assert_eq!(effect.state.is_resolved(), effect.resolved_ms.is_some());
            last = Some(moved.effect);
        }
    }

    #[test]
    fn slots_are_given_out_up_to_the_cap_and_none_twice(takes in prop::collection::vec(any::<Option<u8>>(), 1..60), cap in 0..6_u32) {
        let mut held: Vec<u32> = Vec::new();
        for take in takes {
            match take {
                Some(which) if !held.is_empty() => {
                    held.remove(usize::from(which) % held.len());
                }
                _ => match rules::free_slot(&held, cap) {
                    Some(number) => {
                        prop_assert!((1..=cap).contains(&number) && !held.contains(&number));
                        held.push(number);
                    }
                    None => prop_assert_eq!(held.len(), cap as usize, "refused, though one is free"),
                },
            }
            prop_assert!(held.len() <= cap as usize);
        }
    }

    #[test]
    fn an_operation_ends_in_a_final_status_only_and_only_one_that_stopped_goes_on(
        status in prop::sample::select(Status::ALL.to_vec()),
        then in prop::sample::select(Status::ALL.to_vec()),
        phase in prop::sample::select(Phase::ALL.to_vec()),
        terminated in any::<bool>(),
    ) {
        let (mut service, mut operation) = rows();
        operation.status = status;
        let before = (service.clone(), operation.clone());
        match rules::finish(&mut operation, &mut service, then, phase, None, NOW + 1) {
            Ok(()) => {
                prop_assert!(then.is_final());
                prop_assert_eq!((operation.status, service.phase), (then, phase));
                prop_assert_eq!(operation.ended_ms, Some(NOW + 1));
            }
            Err(_) => {
                prop_assert!(!then.is_final());
                prop_assert_eq!(&before, &(service.clone(), operation.clone()), "refused, and written all the same");
            }
        }
        let mut again = operation.clone();
        let resumed = rules::resume(&mut again, None, terminated, NOW + 2).is_ok();
        prop_assert_eq!(resumed, operation.status == Status::NeedsAdmin && !terminated);
        if resumed {
            prop_assert!(!again.status.is_final() && again.ended_ms.is_none() && again.attempt == 0);
        } else {
            prop_assert_eq!(again, operation);
        }
    }

    #[test]
    fn an_overtaken_run_says_nothing_of_the_phase(
        phase in prop::sample::select(Phase::ALL.to_vec()),
        said in prop::sample::select(Phase::ALL.to_vec()),
        finishes in any::<bool>(),
    ) {
        let (mut service, operation) = rows();
        service.phase = phase;
        let claim = Claim { operation: operation.id, owner: uuid::Uuid::nil(), epoch: 1 };
        let then = if finishes {
            Then::Finish { status: Status::Cancelled, phase: said, reason: None }
        } else {
            Then::Keep
        };
        let mut commit = Commit::new(claim, NOW, then);
        commit.service.phase = Some(said);
        rules::overtaken(&mut commit, phase);
        rules::patch_service(&mut service, commit.service, NOW);
        if let Then::Finish { status, phase, reason } = commit.then {
            rules::finish(&mut operation.clone(), &mut service, status, phase, reason, NOW).unwrap();
        }
        prop_assert_eq!(service.phase, phase);
    }
}
