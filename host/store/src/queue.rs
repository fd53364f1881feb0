//! The words of the queue: how wishes are taken on, and what a worker commits.

use std::collections::BTreeMap;

use uuid::Uuid;
use wharf_model::{
    Millis,
    effect::{Effect, EffectResult, SlotPool},
    event::NewEvent,
    operation::{LogBody, Operation, OperationId, Reason, Status},
    service::{Phase, Service, ServiceId},
};

/// A wish of a panel or an admin for one service.
pub struct Accept {
    pub panel: String,
    pub reference: String,
    /// Scope and key of the caller's choosing, and a fingerprint of what it said. Kept for 30 days.
    pub idempotency: Option<(String, String, String)>,
    pub decide: Decide,
    pub now: Millis,
}

/// Decides in the accepting transaction, from the service (if it exists) and its open operations, oldest first (the
/// running one, if any, is first and has a status other than `queued`). Pure and quick: it runs inside the transaction.
pub type Decide = Box<dyn FnOnce(Option<&Service>, &[Operation]) -> Decision + Send>;

/// What to do about a wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is so already, or an operation that does it is open: nothing is written but the idempotency key.
    Nothing { operation: Option<OperationId> },
    /// Refused; nothing is written, the idempotency key neither.
    Refuse { code: String, message: String },
    /// A new service and its first operation.
    Create { service: Box<Service>, operation: NewOperation, events: Vec<NewEvent> },
    /// A change to the service, and an operation where there is work.
    Change {
        patch: ServicePatch,
        operation: Option<NewOperation>,
        /// Queued operations that it makes superfluous: they become `cancelled`.
        cancel: Vec<OperationId>,
        /// The live operation shall end as soon as its effect is resolved. It is due at once, parked or not; if a worker
        /// holds it that has not seen this, its next wait ends at once.
        preempt: bool,
        events: Vec<NewEvent>,
    },
}

/// An operation to be queued. Id, generation and times are set by the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOperation {
    pub id: OperationId,
    pub kind: String,
    pub plugin: String,
    /// Its first state and the version of its meaning.
    pub state: String,
    pub state_version: u32,
}

/// What `accept` did.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// Taken on (or known already: `replayed`). `operation` is none where nothing had to be done.
    Done {
        service: Box<Service>,
        operation: Option<Box<Operation>>,
        replayed: bool,
    },
    Refused {
        code: String,
        message: String,
    },
    /// The idempotency key was used before with another content.
    KeyReused,
    /// `Nothing` was decided for a service that does not exist.
    NoService,
}

/// Fields to change; `None` leaves them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServicePatch {
    pub phase: Option<Phase>,
    pub suspended: Option<bool>,
    pub plan: Option<String>,
    pub options: Option<BTreeMap<String, String>>,
    pub settings: Option<serde_json::Value>,
    pub order: Option<BTreeMap<String, String>>,
    /// `None` as value removes the key.
    pub facts: Vec<(String, Option<String>)>,
    pub absence_proven_ms: Option<Option<Millis>>,
}

/// A worker's hold on a run. Every write for the run is fenced by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub operation: OperationId,
    pub owner: Uuid,
    pub epoch: i64,
}

/// A claimed run with all that a worker needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub claim: Claim,
    pub service: Service,
    pub operation: Operation,
    /// The operation's last effect, resolved or not.
    pub effect: Option<Effect>,
    /// Somebody wants this operation to end early.
    pub preempted: bool,
    /// The owner before let its claim run out: what it had begun is in doubt.
    pub taken_over: bool,
}

/// What a worker writes, in one transaction, fence first.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    pub claim: Claim,
    pub now: Millis,
    /// New last completed state and its version; resets `attempt` and `state_ms`.
    pub state: Option<(String, u32)>,
    /// `Some(None)` forgets it.
    pub memo: Option<Option<String>>,
    pub attempt: Option<u32>,
    pub service: ServicePatch,
    pub effect: Option<EffectChange>,
    /// In order; numbers and time are set by the store.
    pub log: Vec<LogBody>,
    pub events: Vec<NewEvent>,
    pub then: Then,
}

impl Commit {
    /// Nothing but the end of the claim.
    pub fn new(claim: Claim, now: Millis, then: Then) -> Self {
        Self {
            claim,
            now,
            state: None,
            memo: None,
            attempt: None,
            service: ServicePatch::default(),
            effect: None,
            log: Vec::new(),
            events: Vec::new(),
            then,
        }
    }
}

/// A move of the operation's effect.
#[derive(Debug, Clone, PartialEq)]
pub enum EffectChange {
    /// A new one. With a slot pool: takes a slot if one is free (state `intent`), else it is `planned` and the run is
    /// parked (whatever `then` says). Without: `intent`.
    New { kind: String, server: String, body: serde_json::Value, slot: Option<SlotPool>, deadline_ms: Millis },
    /// A planned one is about to be sent: as for `New`, takes its slot or parks the run again.
    Send { deadline_ms: Millis },
    /// The server took it on as a task, or the task that was lost is found again under another id.
    Issued { task: String },
    /// Surely not done: back to `planned`, the slot is given back.
    NotSent,
    /// Its end. The slot is given back, and one parked run that waits for it becomes due.
    Resolved(EffectResult),
}

/// What becomes of the claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// Held on to: the worker goes on.
    Keep,
    /// Given back until `due_ms`, or until the topic is woken.
    Wait { due_ms: Millis, topic: Option<String>, reason: Option<Reason> },
    /// The operation is over: the run leaves the queue, history is cut to 50, the service's next queued operation (if any)
    /// becomes live and due, the service gets `phase` and its `state` = the operation's.
    Finish { status: Status, phase: Phase, reason: Option<Reason> },
}

/// What the commit led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Committed {
    /// The claim is still held. The effect, if the commit changed one, as it stands.
    Held { effect: Option<Effect> },
    /// The claim was given back (waiting, parked for a slot, or finished).
    Released { parked: bool },
}

/// The subject of a service in events.
pub fn subject(service: &Service) -> String {
    format!("{}:{}", service.panel, service.reference)
}

/// The id of a service as an owner of secrets.
pub fn secret_owner(service: ServiceId) -> String {
    format!("service/{service}")
}
