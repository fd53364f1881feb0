//! Short ways to say what the cases need.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::json;
use uuid::Uuid;
use wharf_model::{
    Millis,
    effect::{EffectResult, SlotPool},
    event::NewEvent,
    operation::{LogBody, Operation, OperationId, Reason, Status, StepResult},
    service::{Phase, Service, ServiceId},
};

use crate::{
    Accept, Accepted, Books, Claim, Commit, Committed, Decision, EffectChange, NewAudit, NewOperation, Run, Saying,
    ServicePatch, Then,
};

/// When all cases begin.
pub const NOW: Millis = 1_700_000_000_000;
/// How long claims last.
pub const TTL: i64 = 30_000;

pub fn service(reference: &str) -> Service {
    Service {
        id: Uuid::now_v7(),
        panel: "shop".into(),
        reference: reference.into(),
        plan: "small".into(),
        server: "pve".into(),
        plugin: "provisioner".into(),
        options: BTreeMap::from([("size".into(), "2".into())]),
        settings: json!({ "size": 2, "nested": { "list": [1, "zwei", null] } }),
        order: BTreeMap::from([("email".into(), "a@example.org".into())]),
        facts: BTreeMap::new(),
        phase: Phase::Provisioning,
        suspended: false,
        generation: 0,
        state: "none".into(),
        state_version: 1,
        vmid: None,
        absence_proven_ms: None,
        created_ms: 0,
        updated_ms: 0,
    }
}

pub fn operation(kind: &str) -> NewOperation {
    NewOperation {
        id: Uuid::now_v7(),
        kind: kind.into(),
        plugin: "provisioner".into(),
        state: "none".into(),
        state_version: 1,
    }
}

pub fn accept(
    reference: &str,
    decide: impl FnOnce(Option<&Service>, &[Operation]) -> Decision + Send + 'static,
    now: Millis,
) -> Accept {
    Accept { panel: "shop".into(), reference: reference.into(), idempotency: None, decide: Box::new(decide), now }
}

pub fn keyed(mut accept: Accept, key: &str, fingerprint: &str) -> Accept {
    accept.idempotency = Some(("shop".into(), key.into(), fingerprint.into()));
    accept
}

/// A decision to create.
pub fn creating(reference: &str) -> Decision {
    Decision::Create { service: Box::new(service(reference)), operation: operation("deploy"), events: Vec::new() }
}

/// A decision to add an operation.
pub fn adding(kind: &str) -> Decision {
    Decision::Change {
        patch: ServicePatch::default(),
        operation: Some(operation(kind)),
        cancel: Vec::new(),
        preempt: false,
        events: Vec::new(),
    }
}

/// What an accepted wish led to.
pub fn done(accepted: Accepted) -> (Service, Option<Operation>, bool) {
    match accepted {
        Accepted::Done { service, operation, replayed } => (*service, operation.map(|o| *o), replayed),
        other => panic!("not accepted: {other:?}"),
    }
}

/// A new service with a live deploy.
pub async fn create(books: &Books, reference: &str, now: Millis) -> (Service, Operation) {
    let owned = reference.to_owned();
    let accepted = books.accept(accept(reference, move |_, _| creating(&owned), now)).await.unwrap();
    let (service, operation, _) = done(accepted);
    (service, operation.unwrap())
}

/// A new service whose deploy has ended well.
pub async fn active(books: &Books, reference: &str, now: Millis) -> Service {
    let (service, _) = create(books, reference, now).await;
    let run = claim_all(books, now).await.into_iter().find(|run| run.service.id == service.id).unwrap();
    commit(books, run.claim, succeed(), now).await;
    books.service(service.id).await.unwrap().unwrap()
}

/// Names as they can be said now, and none of them.
pub async fn saying(books: &Books, service: ServiceId) -> Saying {
    Saying {
        service: books.service(service).await.unwrap().unwrap(),
        leases: books.leases_of(service).await.unwrap(),
        ptr: None,
        wanted: Vec::new(),
        queues: BTreeMap::new(),
        audit: audit("service.names"),
    }
}

/// Gives an address a name of its own, or takes it away.
pub async fn name(books: &Books, service: ServiceId, address: IpAddr, ptr: Option<&str>, now: Millis) {
    let saying = Saying { ptr: Some((address, ptr.map(str::to_owned))), ..saying(books, service).await };
    assert!(books.say_records(saying, now).await.unwrap());
}

/// Another operation for a service.
pub async fn add(books: &Books, reference: &str, kind: &'static str, now: Millis) -> Operation {
    let accepted = books.accept(accept(reference, move |_, _| adding(kind), now)).await.unwrap();
    done(accepted).1.unwrap()
}

/// Wants the live operation to end early.
pub async fn preempt(books: &Books, reference: &str, now: Millis) {
    let decide = |_: Option<&Service>, _: &[Operation]| Decision::Change {
        patch: ServicePatch::default(),
        operation: None,
        cancel: Vec::new(),
        preempt: true,
        events: Vec::new(),
    };
    done(books.accept(accept(reference, decide, now)).await.unwrap());
}

/// Claims the one run that is due.
pub async fn claim(books: &Books, now: Millis) -> Run {
    let mut runs = books.claim(Uuid::new_v4(), TTL, 10, now).await.unwrap();
    assert_eq!(runs.len(), 1, "one run is due: {runs:?}");
    runs.remove(0)
}

/// Claims all runs that are due.
pub async fn claim_all(books: &Books, now: Millis) -> Vec<Run> {
    books.claim(Uuid::new_v4(), TTL, 1_000, now).await.unwrap()
}

pub fn wait_until(due_ms: Millis) -> Then {
    Then::Wait { due_ms, topic: None, reason: None }
}

pub fn wait_for(topic: &str, due_ms: Millis) -> Then {
    Then::Wait { due_ms, topic: Some(topic.into()), reason: None }
}

pub fn succeed() -> Then {
    Then::Finish { status: Status::Succeeded, phase: Phase::Active, reason: None }
}

pub fn give_up() -> Then {
    let reason = Reason { code: "stuck".into(), message: "Only a person can go on.".into() };
    Then::Finish { status: Status::NeedsAdmin, phase: Phase::NeedsAdmin, reason: Some(reason) }
}

pub async fn commit(books: &Books, claim: Claim, then: Then, now: Millis) -> Committed {
    books.commit(Commit::new(claim, now, then)).await.unwrap()
}

/// A commit that moves the effect and goes on.
pub async fn change(books: &Books, claim: Claim, effect: EffectChange, now: Millis) -> Committed {
    books.commit(Commit { effect: Some(effect), ..Commit::new(claim, now, Then::Keep) }).await.unwrap()
}

pub fn write(slot: Option<(&str, u32)>) -> EffectChange {
    EffectChange::New {
        kind: "clone".into(),
        server: "pve".into(),
        body: json!({ "newid": 100 }),
        slot: slot.map(|(name, cap)| SlotPool { name: name.into(), cap }),
        deadline_ms: NOW + 60_000,
    }
}

pub fn succeeded() -> EffectChange {
    EffectChange::Resolved(EffectResult { ok: true, code: String::new(), message: "OK".into() })
}

pub fn line(message: &str) -> LogBody {
    LogBody::Line { level: "info".into(), message: message.into(), fields: vec![("a".into(), "b".into())] }
}

pub fn step(number: u32) -> LogBody {
    LogBody::Step {
        number,
        label: "A step".into(),
        from: "a".into(),
        to: "b".into(),
        result: StepResult::Success,
        effect: Some("1.1".into()),
        version: "1.0.0".into(),
        duration_ms: 5,
        epoch: 1,
    }
}

pub fn event(service: Option<&Service>, kind: &str) -> NewEvent {
    NewEvent {
        kind: kind.into(),
        service_id: service.map(|s| s.id),
        panel: service.map(|s| s.panel.clone()),
        subject: service.map_or_else(|| "wharf".into(), crate::queue::subject),
        generation: 1,
        data: json!({ "kind": kind }),
    }
}

pub fn audit(action: &str) -> NewAudit {
    NewAudit { actor: "admin".into(), action: action.into(), subject: "x".into(), body: json!({ "why": action }) }
}

/// The operation as it stands.
pub async fn now_at(books: &Books, id: OperationId) -> Operation {
    books.operation(id).await.unwrap().unwrap()
}
