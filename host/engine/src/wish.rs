//! Takes wishes on: what a panel or an admin wants of a service, turned into operations by the rules of order.
//!
//! Desired state, not commands: the same wish again changes nothing. Suspension is a flag and takes effect in the
//! accepting transaction. Terminate overtakes what runs. Anything else that can't be done now is refused with a reason.

use std::collections::BTreeMap;

use tracing::Instrument;
use uuid::Uuid;
use wharf_model::{
    event::NewEvent,
    manifest::Manifest,
    object::{ObjectKind, Plan},
    operation::{Operation, Status},
    service::{Phase, Service},
};
use wharf_store::{Accept, Accepted, Decide, Decision, NewOperation, ServicePatch};

use crate::{Engine, traces};

/// Whose wish it is, and which service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub panel: String,
    pub reference: String,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// That it exists, as ordered.
    Provision(Order),
    Terminate,
    Suspend,
    Unsuspend,
}

/// What was ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    pub plan: String,
    /// By option name, as the panel wrote it.
    pub options: BTreeMap<String, String>,
    /// What the panel said of the order: `client-id`, `hostname`, …
    pub facts: BTreeMap<String, String>,
}

/// A repeated call is known by its key, and checked by the fingerprint of what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    pub scope: String,
    pub key: String,
    pub fingerprint: String,
}

/// Why a wish was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// Wrong input: which fields, and the remedy.
    #[error("{}", .0.iter().map(|f| format!("{}: {}", f.field, f.message)).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldProblem>),
    /// Refused as things stand.
    #[error("{message}")]
    Refused { code: String, message: String },
    #[error("there is no such service")]
    NoService,
    #[error("this idempotency key was used before with another content: use a new key for a new wish")]
    KeyReused,
    #[error(transparent)]
    Store(#[from] wharf_store::StoreError),
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    pub field: String,
    pub message: String,
}

impl Engine {
    /// Takes a wish on, durably, or says why not. After `Ok` it will happen.
    pub async fn wish(
        &self,
        target: &Target,
        wish: Wish,
        idempotency: Option<Idempotency>,
    ) -> Result<Accepted, WishError> {
        let span = traces::accept(target, &wish);
        let done = self.take_on(target, wish, idempotency).instrument(span.clone()).await;
        traces::accepted(&span, &done);
        done
    }

    async fn take_on(
        &self,
        target: &Target,
        wish: Wish,
        idempotency: Option<Idempotency>,
    ) -> Result<Accepted, WishError> {
        let now = self.clock.now_ms();
        let decide: Decide = match wish {
            Wish::Provision(order) => {
                let wanted = self.wanted(order).await?;
                let target = target.clone();
                Box::new(move |service, open| provision(&target, wanted, service, open, now))
            }
            Wish::Terminate => {
                let kinds = self.kinds_of(target, "terminate").await?;
                Box::new(move |service, open| terminate(kinds.as_ref(), service, open))
            }
            Wish::Suspend => {
                let kinds = self.kinds_of(target, "suspend").await?;
                Box::new(move |service, open| suspend(true, kinds.as_ref(), service, open))
            }
            Wish::Unsuspend => {
                let kinds = self.kinds_of(target, "unsuspend").await?;
                Box::new(move |service, open| suspend(false, kinds.as_ref(), service, open))
            }
        };
        self.kill.reach("commit:accept:before").await;
        let accepted = self
            .books
            .accept(Accept {
                panel: target.panel.clone(),
                reference: target.reference.clone(),
                idempotency: idempotency.map(|i| (i.scope, i.key, i.fingerprint)),
                decide,
                now,
            })
            .await?;
        self.kill.reach("commit:accept:after").await;
        match accepted {
            Accepted::Refused { code, message } => Err(WishError::Refused { code, message }),
            Accepted::KeyReused => Err(WishError::KeyReused),
            Accepted::NoService => Err(WishError::NoService),
            done @ Accepted::Done { .. } => {
                if let Accepted::Done { service, operation: Some(operation), replayed: false } = &done {
                    traces::operation(service, operation);
                    let (server, service) = (&service.server, wharf_store::queue::subject(service));
                    tracing::info!(service, operation = %operation.id, kind = operation.kind, server, "operation accepted");
                }
                self.nudge();
                self.notices.tell(crate::Notice::Events);
                Ok(done)
            }
        }
    }

    /// What an order comes to: plan, server, plugin and effective settings, checked.
    async fn wanted(&self, order: Order) -> Result<Wanted, WishError> {
        let field =
            |field: &str, message: String| WishError::Fields(vec![FieldProblem { field: field.into(), message }]);
        let Some(object) = self.books.object(ObjectKind::Plan, &order.plan).await? else {
            return Err(field("plan", format!("there is no plan `{}`: create it, or name another", order.plan)));
        };
        let plan: Plan = serde_json::from_value(object.body)
            .map_err(|e| field("plan", format!("the plan `{}` can't be read: {e}; save it again", order.plan)))?;
        let Some(manifest) = self.runtime.manifest(&plan.plugin) else {
            return Err(field(
                "plan",
                format!(
                    "the plan `{}` uses the plugin `{}`, which is not installed and enabled",
                    order.plan, plan.plugin
                ),
            ));
        };
        let settings =
            wharf_plugins::settings::effective(&manifest, &plan.settings, &order.options).map_err(|errors| {
                WishError::Fields(
                    errors
                        .into_iter()
                        .map(|e| FieldProblem { field: e.field, message: format!("{}: {}", e.message, e.remedy) })
                        .collect(),
                )
            })?;
        let Some(kind) = Kind::of(&manifest, "deploy") else {
            return Err(field("plan", format!("the plugin `{}` has no operation `deploy`", plan.plugin)));
        };
        let change = Kind::of(&manifest, "change");
        Ok(Wanted { order, server: plan.server, plugin: plan.plugin, settings, kind, change })
    }

    async fn kinds_of(&self, target: &Target, kind: &str) -> Result<Option<Kind>, WishError> {
        let Some(service) = self.books.service_by_ref(&target.panel, &target.reference).await? else {
            return Err(WishError::NoService);
        };
        Ok(self.runtime.manifest(&service.plugin).and_then(|m| Kind::of(&m, kind)))
    }
}

/// Where an operation of some kind begins.
#[derive(Debug, Clone, PartialEq)]
struct Kind {
    kind: String,
    state: String,
    state_version: u32,
}

impl Kind {
    fn of(manifest: &Manifest, kind: &str) -> Option<Self> {
        let found = manifest.operation(kind)?;
        let first = found.states.first()?;
        Some(Self { kind: found.kind.clone(), state: first.id.clone(), state_version: manifest.state.writes })
    }

    fn operation(&self, plugin: &str) -> NewOperation {
        NewOperation {
            id: Uuid::now_v7(),
            kind: self.kind.clone(),
            plugin: plugin.to_owned(),
            state: self.state.clone(),
            state_version: self.state_version,
        }
    }
}

struct Wanted {
    order: Order,
    server: String,
    plugin: String,
    settings: serde_json::Value,
    kind: Kind,
    change: Option<Kind>,
}

fn refuse(code: &str, message: impl Into<String>) -> Decision {
    Decision::Refuse { code: code.into(), message: message.into() }
}

fn provision(target: &Target, wanted: Wanted, service: Option<&Service>, open: &[Operation], now: i64) -> Decision {
    let Some(service) = service else {
        let id = Uuid::now_v7();
        let operation = wanted.kind.operation(&wanted.plugin);
        let service = Service {
            id,
            panel: target.panel.clone(),
            reference: target.reference.clone(),
            plan: wanted.order.plan,
            server: wanted.server,
            plugin: wanted.plugin,
            options: wanted.order.options,
            settings: wanted.settings,
            order: wanted.order.facts,
            facts: BTreeMap::new(),
            phase: Phase::Pending,
            suspended: false,
            generation: 0,
            state: operation.state.clone(),
            state_version: operation.state_version,
            vmid: None,
            absence_proven_ms: None,
            created_ms: now,
            updated_ms: now,
        };
        let events = vec![accepted_event(&service, &operation, Phase::Pending)];
        return Decision::Create { service: Box::new(service), operation, events };
    };
    if matches!(service.phase, Phase::Terminating | Phase::Terminated) {
        return refuse(
            "terminated",
            format!("this service is {} and its id is never used again: order under a new id", service.phase),
        );
    }
    if service.plan == wanted.order.plan && service.settings == wanted.settings {
        let operation = open
            .iter()
            .find(|o| o.kind == wanted.kind.kind || Some(&o.kind) == wanted.change.as_ref().map(|c| &c.kind));
        return Decision::Nothing { operation: operation.map(|o| o.id) };
    }
    let Some(change) = wanted.change else {
        return refuse(
            "change-not-supported",
            format!(
                "the service exists with other settings, and the plugin `{}` can't change a service: order as before, or terminate it",
                service.plugin
            ),
        );
    };
    if service.plugin != wanted.plugin || service.server != wanted.server {
        return refuse(
            "other-server",
            "a change can't move a service to another server or plugin: order it anew there",
        );
    }
    // The newest wish counts: changes that have not begun are superfluous.
    let cancel = open.iter().filter(|o| o.kind == change.kind && o.status == Status::Queued).map(|o| o.id).collect();
    let operation = change.operation(&service.plugin);
    let events = vec![accepted_event(service, &operation, service.phase)];
    Decision::Change {
        patch: ServicePatch {
            plan: Some(wanted.order.plan),
            options: Some(wanted.order.options),
            settings: Some(wanted.settings),
            order: Some(wanted.order.facts),
            ..ServicePatch::default()
        },
        operation: Some(operation),
        cancel,
        preempt: false,
        events,
    }
}

fn terminate(kind: Option<&Kind>, service: Option<&Service>, open: &[Operation]) -> Decision {
    let Some(service) = service else { return Decision::Nothing { operation: None } };
    if service.phase == Phase::Terminated {
        return Decision::Nothing { operation: None };
    }
    let Some(kind) = kind else {
        return refuse(
            "plugin-missing",
            format!(
                "the plugin `{}` is not installed and enabled, or can't terminate: install it, then repeat",
                service.plugin
            ),
        );
    };
    if let Some(open) = open.iter().find(|o| o.kind == kind.kind) {
        return Decision::Nothing { operation: Some(open.id) };
    }
    let operation = kind.operation(&service.plugin);
    let events = vec![accepted_event(service, &operation, Phase::Terminating)];
    Decision::Change {
        patch: ServicePatch { phase: Some(Phase::Terminating), ..ServicePatch::default() },
        operation: Some(operation),
        cancel: open.iter().filter(|o| o.status == Status::Queued).map(|o| o.id).collect(),
        preempt: true,
        events,
    }
}

fn suspend(suspended: bool, kind: Option<&Kind>, service: Option<&Service>, open: &[Operation]) -> Decision {
    let Some(service) = service else { return Decision::Nothing { operation: None } };
    if matches!(service.phase, Phase::Terminating | Phase::Terminated) {
        return refuse("terminated", format!("this service is {}", service.phase));
    }
    if service.suspended == suspended {
        let same = kind.and_then(|k| open.iter().find(|o| o.kind == k.kind));
        return Decision::Nothing { operation: same.map(|o| o.id) };
    }
    // A suspension that has not begun and its opposite cancel each other out.
    let cancel = open
        .iter()
        .filter(|o| o.status == Status::Queued && matches!(o.kind.as_str(), "suspend" | "unsuspend"))
        .map(|o| o.id)
        .collect();
    let mut event = NewEvent {
        kind: if suspended { "service.suspended" } else { "service.unsuspended" }.into(),
        service_id: Some(service.id),
        panel: Some(service.panel.clone()),
        subject: wharf_store::queue::subject(service),
        generation: service.generation,
        data: serde_json::json!({"service": service.id, "phase": service.phase.as_str(), "suspended": suspended}),
    };
    let operation = kind.map(|k| k.operation(&service.plugin));
    if let (Some(operation), Some(data)) = (&operation, event.data.as_object_mut()) {
        data.insert("operation".into(), operation.id.to_string().into());
    }
    Decision::Change {
        patch: ServicePatch { suspended: Some(suspended), ..ServicePatch::default() },
        operation,
        cancel,
        preempt: false,
        events: vec![event],
    }
}

fn accepted_event(service: &Service, operation: &NewOperation, phase: Phase) -> NewEvent {
    NewEvent {
        kind: "operation.accepted".into(),
        service_id: Some(service.id),
        panel: Some(service.panel.clone()),
        subject: wharf_store::queue::subject(service),
        generation: service.generation + 1,
        data: serde_json::json!({
            "service": service.id, "phase": phase.as_str(), "operation": operation.id, "kind": operation.kind,
        }),
    }
}
