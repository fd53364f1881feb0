//! The rules of the books that need no engine: what a wish, a commit or a move of an effect makes of the rows.
//!
//! Pure functions over rows that are already loaded. Every engine loads, asks here, and writes what comes out, so that
//! engines can differ in speed only. Nothing here blocks, allocates without bound or reads a clock.

pub mod events;
pub mod jobs;
pub mod leases;
pub mod plugins;
pub mod records;

use wharf_model::{
    Millis,
    effect::{Effect, EffectState, SlotPool},
    event::NewEvent,
    object::Hook,
    operation::{LogBody, Operation, OperationId, Reason, Status, StepResult},
    service::{Phase, Service, ServiceId},
};

use crate::{
    Accepted, Claim, Commit, Decision, EffectChange, NewOperation, Result, Room, ServicePatch, StoreError, Then,
};

/// How many operations of a service are kept, open ones not counted away.
pub const HISTORY: usize = 50;
/// How many entries the log of one operation holds before its oldest go. Steps that were made always stay ([`stays`]).
pub const LOG_CAP: i64 = 5_000;
/// Nothing in the queue waits longer. What is due later was written before the clock was set back.
pub const FARTHEST_MS: i64 = 2 * 3_600_000;
/// How long an idempotency key is known.
pub const IDEMPOTENCY_MS: i64 = 30 * 86_400_000;
/// How many effects of a live operation are kept beside its last: one that is tried again for ever grows no further.
pub const EFFECTS_KEPT: u32 = 200;
/// How long an address rests if nothing is said about its pool.
pub const QUARANTINE_MS: i64 = 86_400_000;

/// Applies a patch; `true` if the service was touched, in which case `updated_ms` is `now`.
pub fn patch_service(service: &mut Service, patch: ServicePatch, now: Millis) -> bool {
    if patch == ServicePatch::default() {
        return false;
    }
    let ServicePatch { phase, suspended, plan, options, settings, order, facts, absence_proven_ms } = patch;
    if let Some(phase) = phase {
        service.phase = phase;
    }
    if let Some(suspended) = suspended {
        service.suspended = suspended;
    }
    if let Some(plan) = plan {
        service.plan = plan;
    }
    if let Some(options) = options {
        service.options = options;
    }
    if let Some(settings) = settings {
        service.settings = settings;
    }
    if let Some(order) = order {
        service.order = order;
    }
    for (key, value) in facts {
        match value {
            Some(value) => service.facts.insert(key, value),
            None => service.facts.remove(&key),
        };
    }
    if let Some(proven) = absence_proven_ms {
        service.absence_proven_ms = proven;
    }
    service.updated_ms = now;
    true
}

/// The row of a new operation. A live one that nobody has claimed yet is `waiting`, one behind another is `queued`.
fn operation(new: NewOperation, service: &Service, live: bool, now: Millis) -> Operation {
    Operation {
        id: new.id,
        service_id: service.id,
        generation: service.generation,
        kind: new.kind,
        plugin: new.plugin,
        status: if live { Status::Waiting } else { Status::Queued },
        state: new.state,
        state_version: new.state_version,
        memo: None,
        attempt: 0,
        reason: None,
        created_ms: now,
        started_ms: None,
        state_ms: now,
        ended_ms: None,
    }
}

/// What accepting a wish shall write.
#[derive(Debug, Clone, PartialEq)]
pub struct Writes {
    pub service: Service,
    /// The service is new: insert it.
    pub created: bool,
    /// The operation that is added, and whether it is live at once.
    pub operation: Option<(Operation, bool)>,
    /// Queued operations as they stand after they were cancelled.
    pub cancelled: Vec<Operation>,
    /// The live operation that shall end early.
    pub preempt: Option<OperationId>,
    pub events: Vec<NewEvent>,
}

/// What comes of a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Answered without writing anything.
    Answer(Accepted),
    /// Nothing but the idempotency key. `service` is none if there is no such service.
    KeyOnly {
        service: Option<Box<Service>>,
        operation: Option<OperationId>,
    },
    Write(Box<Writes>),
}

/// Turns a decision into writes. `open` = the service's open operations, oldest first, the live one before all others.
pub fn plan(
    panel: &str,
    reference: &str,
    decision: Decision,
    service: Option<Service>,
    open: &[Operation],
    now: Millis,
) -> Result<Plan> {
    let live = open.first().filter(|o| o.status != Status::Queued).map(|o| o.id);
    match decision {
        Decision::Nothing { operation } => Ok(Plan::KeyOnly { service: service.map(Box::new), operation }),
        Decision::Refuse { code, message } => Ok(Plan::Answer(Accepted::Refused { code, message })),
        Decision::Create { service: new, operation: first, events } => {
            if service.is_some() {
                return Err(StoreError::Conflict(format!("the service {panel}:{reference} exists already")));
            }
            let mut new = *new;
            if new.panel != panel || new.reference != reference {
                return Err(StoreError::Conflict(format!(
                    "the new service is {}:{}, but the wish was for {panel}:{reference}",
                    new.panel, new.reference
                )));
            }
            new.generation = 1;
            new.created_ms = now;
            new.updated_ms = now;
            let operation = operation(first, &new, true, now);
            Ok(Plan::Write(Box::new(Writes {
                service: new,
                created: true,
                operation: Some((operation, true)),
                cancelled: Vec::new(),
                preempt: None,
                events,
            })))
        }
        Decision::Change { patch, operation: next, cancel, preempt, events } => {
            let Some(mut service) = service else {
                return Err(StoreError::NotFound(format!("the service {panel}:{reference}")));
            };
            let mut cancelled = Vec::new();
            for id in cancel {
                let Some(found) = open.iter().find(|o| o.id == id && o.status == Status::Queued) else {
                    return Err(StoreError::Conflict(format!(
                        "the operation {id} is not queued, so it can't be cancelled"
                    )));
                };
                let mut found = found.clone();
                found.status = Status::Cancelled;
                found.reason = Some(Reason {
                    code: "superseded".into(),
                    message: "A newer wish for the service made it superfluous.".into(),
                });
                found.ended_ms = Some(now);
                cancelled.push(found);
            }
            patch_service(&mut service, patch, now);
            let operation = next.map(|next| {
                service.generation = service.generation.saturating_add(1);
                service.updated_ms = now;
                // Anything queued without a live one can't be; still, order is kept if it were.
                let first = open.iter().all(|o| cancelled.iter().any(|c| c.id == o.id));
                (operation(next, &service, first, now), first)
            });
            Ok(Plan::Write(Box::new(Writes {
                service,
                created: false,
                operation,
                cancelled,
                preempt: live.filter(|_| preempt),
                events,
            })))
        }
    }
}

/// The operation's own part of a commit, before `then`.
pub fn advance(operation: &mut Operation, commit: &Commit) {
    if let Some((state, version)) = &commit.state {
        operation.state = state.clone();
        operation.state_version = *version;
        operation.state_ms = commit.now;
        operation.attempt = 0;
        operation.reason = None;
    }
    if let Some(memo) = &commit.memo {
        operation.memo = memo.clone();
    }
    if let Some(attempt) = commit.attempt {
        operation.attempt = attempt;
    }
}

/// What a run may still say of its service once a newer wish has overtaken it, seen by its worker or not: the phase is that of
/// the wish.
pub fn overtaken(commit: &mut Commit, phase: Phase) {
    commit.service.phase = None;
    if let Then::Finish { phase: said, .. } = &mut commit.then {
        *said = phase;
    }
    commit.events.retain(|event| event.kind != "service.phase-changed");
    for event in &mut commit.events {
        if let Some(said) = event.data.get_mut("phase") {
            *said = phase.as_str().into();
        }
    }
}

/// A claimed operation.
pub fn begin(operation: &mut Operation, now: Millis) {
    operation.status = Status::Running;
    operation.started_ms.get_or_insert(now);
}

/// The claim is given back, to go on later.
pub fn wait(operation: &mut Operation, reason: Option<Reason>) {
    operation.status = Status::Waiting;
    operation.reason = reason;
}

/// Why a parked run waits.
pub fn slot_reason(pool: &SlotPool) -> Reason {
    Reason {
        code: "waiting-for-slot".into(),
        message: format!("All {} slots of {} are taken; it goes on as soon as one is free.", pool.cap, pool.name),
    }
}

/// The operation is over.
pub fn finish(
    operation: &mut Operation,
    service: &mut Service,
    status: Status,
    phase: Phase,
    reason: Option<Reason>,
    now: Millis,
) -> Result<()> {
    if !status.is_final() {
        return Err(StoreError::Conflict(format!(
            "an operation can't finish as {}: use succeeded, cancelled or needs-admin",
            status.as_str()
        )));
    }
    operation.status = status;
    operation.reason = reason;
    operation.ended_ms = Some(now);
    service.phase = phase;
    service.state.clone_from(&operation.state);
    service.state_version = operation.state_version;
    service.updated_ms = now;
    Ok(())
}

/// The end of an operation that nobody may carry on but a person: as its own worker would say it.
pub fn stop(claim: Claim, service: &Service, operation: &Operation, reason: &Reason, now: Millis) -> Commit {
    let (status, phase) = (Status::NeedsAdmin, Phase::NeedsAdmin);
    let event = |kind: &str| NewEvent {
        kind: kind.into(),
        service_id: Some(service.id),
        panel: Some(service.panel.clone()),
        subject: crate::queue::subject(service),
        generation: operation.generation,
        data: serde_json::json!({
            "service": service.id,
            "phase": phase.as_str(),
            "generation": operation.generation,
            "operation": operation.id,
            "kind": operation.kind,
            "status": status.as_str(),
            "code": reason.code,
            "reason": reason.message,
        }),
    };
    let mut commit = Commit::new(claim, now, Then::Finish { status, phase, reason: Some(reason.clone()) });
    if service.phase != phase {
        commit.events.push(event("service.phase-changed"));
    }
    commit.events.push(event("operation.needs-admin"));
    commit.log.push(LogBody::Line { level: "error".into(), message: reason.message.clone(), fields: Vec::new() });
    commit
}

/// A queued operation whose turn has come.
pub fn promote(operation: &mut Operation) {
    operation.status = Status::Waiting;
    operation.reason = None;
}

/// What ends a service: whatever came before it is not begun again.
pub const TERMINATE: &str = "terminate";

/// An operation that an admin makes live again. `terminated` = the service has a newer operation that ends it, over or not.
pub fn resume(operation: &mut Operation, state: Option<String>, terminated: bool, now: Millis) -> Result<()> {
    if operation.status != Status::NeedsAdmin {
        return Err(StoreError::Conflict(format!(
            "the operation {} is {}, only one in needs-admin can be retried",
            operation.id,
            operation.status.as_str()
        )));
    }
    if terminated {
        return Err(StoreError::Conflict(format!(
            "the service was terminated after the operation {} had stopped: only the newest terminate can go on",
            operation.id
        )));
    }
    operation.status = Status::Waiting;
    operation.reason = None;
    operation.attempt = 0;
    operation.ended_ms = None;
    if let Some(state) = state {
        operation.state = state;
        operation.state_ms = now;
    }
    Ok(())
}

/// What a move of an effect means for slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotMove {
    Stay,
    /// One must be taken: if it is, [`grant`] the effect; if none is free, the run is parked.
    Take(SlotPool),
    /// It is given back, if held.
    Free(SlotPool),
}

/// An effect after a move.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    pub effect: Effect,
    /// It is new: insert it.
    pub fresh: bool,
    pub slot: SlotMove,
}

/// Moves the operation's last effect, or adds one.
pub fn move_effect(change: EffectChange, operation: &Operation, last: Option<Effect>, now: Millis) -> Result<Moved> {
    if let EffectChange::New { kind, server, body, slot, deadline_ms } = change {
        if let Some(last) = last.as_ref().filter(|e| !e.state.is_resolved()) {
            return Err(StoreError::Conflict(format!(
                "the effect {} is {}: it must be resolved before the next one",
                last.id(),
                last.state.as_str()
            )));
        }
        let effect = Effect {
            service_id: operation.service_id,
            operation_id: operation.id,
            generation: operation.generation,
            sequence: last.map_or(0, |e| e.sequence).saturating_add(1),
            kind,
            server,
            body,
            state: if slot.is_some() { EffectState::Planned } else { EffectState::Intent },
            slot: slot.clone(),
            task: None,
            deadline_ms,
            result: None,
            created_ms: now,
            issued_ms: None,
            resolved_ms: None,
        };
        return Ok(Moved { effect, fresh: true, slot: slot.map_or(SlotMove::Stay, SlotMove::Take) });
    }
    let Some(mut effect) = last else {
        return Err(StoreError::Conflict(format!("the operation {} has no effect to change", operation.id)));
    };
    let wrong = |effect: &Effect, wish: &str| {
        StoreError::Conflict(format!("the effect {} is {}: it can't become {wish}", effect.id(), effect.state.as_str()))
    };
    let free = |effect: &Effect| effect.slot.clone().map_or(SlotMove::Stay, SlotMove::Free);
    let slot = match change {
        EffectChange::New { .. } => SlotMove::Stay,
        EffectChange::Send { deadline_ms } => {
            if effect.state != EffectState::Planned {
                return Err(wrong(&effect, "intent"));
            }
            effect.deadline_ms = deadline_ms;
            match effect.slot.clone() {
                Some(pool) => SlotMove::Take(pool),
                None => {
                    grant(&mut effect);
                    SlotMove::Stay
                }
            }
        }
        EffectChange::Issued { task } => {
            // A task that was lost may be found again under another id.
            if !matches!(effect.state, EffectState::Intent | EffectState::Issued) {
                return Err(wrong(&effect, "issued"));
            }
            effect.state = EffectState::Issued;
            effect.task = Some(task);
            effect.issued_ms.get_or_insert(now);
            SlotMove::Stay
        }
        EffectChange::NotSent => {
            if effect.state.is_resolved() {
                return Err(wrong(&effect, "planned"));
            }
            effect.state = EffectState::Planned;
            effect.task = None;
            effect.issued_ms = None;
            free(&effect)
        }
        EffectChange::Resolved(result) => {
            if effect.state.is_resolved() {
                return Err(wrong(&effect, if result.ok { "ok" } else { "failed" }));
            }
            effect.state = if result.ok { EffectState::Ok } else { EffectState::Failed };
            effect.result = Some(result);
            effect.resolved_ms = Some(now);
            free(&effect)
        }
    };
    Ok(Moved { effect, fresh: false, slot })
}

/// The effect has its slot (or needs none): its call may go out.
pub fn grant(effect: &mut Effect) {
    effect.state = EffectState::Intent;
}

/// The lowest slot number below the cap that nobody holds; none if as many as the cap are held, whatever their numbers.
pub fn free_slot(held: &[u32], cap: u32) -> Option<u32> {
    if u32::try_from(held.len()).unwrap_or(u32::MAX) >= cap {
        return None;
    }
    (1..=cap).find(|n| !held.contains(n))
}

/// Whether a promise fits beside those of others. Memory counts by server and node, disk by server and storage (name a
/// storage that each node has its own of together with the node).
pub fn room_fits(room: &Room, others: &[Room], memory_limit_mib: u32, disk_limit_mib: u32) -> bool {
    let others = || others.iter().filter(|o| o.service != room.service && o.server == room.server);
    let memory: u64 = others().filter(|o| o.node == room.node).map(|o| u64::from(o.memory_mib)).sum();
    let disk: u64 = others().filter(|o| o.storage == room.storage).map(|o| u64::from(o.disk_mib)).sum();
    memory + u64::from(room.memory_mib) <= u64::from(memory_limit_mib)
        && disk + u64::from(room.disk_mib) <= u64::from(disk_limit_mib)
}

/// Names of the hooks that want an event. A hook whose settings can't be read is left out: a broken hook must not stop
/// what the event tells of.
pub fn hooks_for<'a>(hooks: impl Iterator<Item = (&'a str, &'a serde_json::Value)>, event: &NewEvent) -> Vec<String> {
    hooks
        .filter(|(name, body)| match serde::Deserialize::deserialize(*body) {
            Ok(hook) => Hook::wants(&hook, &event.kind, event.panel.as_deref()),
            Err(error) => {
                let error: serde_json::Error = error;
                tracing::warn!(hook = %name, %error, "a hook can't be read and is left out");
                false
            }
        })
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// Whether an entry stays in a full log: of steps there are as many as an operation has states, of failed tries any number.
pub fn stays(body: &LogBody) -> bool {
    matches!(body, LogBody::Step { result: StepResult::Success | StepResult::Skip { .. }, .. })
}

/// The row of a host that was not seen for so long goes.
pub const HOST_FORGOTTEN_MS: i64 = 86_400_000;

/// By name, then by start.
pub fn sort_hosts(hosts: &mut [crate::HostView]) {
    hosts.sort_by(|a, b| {
        (&a.host.name, a.host.started_ms, a.host.id).cmp(&(&b.host.name, b.host.started_ms, b.host.id))
    });
}

/// A number of rows.
pub fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What is missing, in one form for all engines.
pub fn no_service(id: ServiceId) -> StoreError {
    StoreError::NotFound(format!("the service {id}"))
}

/// What is missing, in one form for all engines.
pub fn no_operation(id: OperationId) -> StoreError {
    StoreError::NotFound(format!("the operation {id}"))
}
