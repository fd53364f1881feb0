//! Spans of what the engine does. They carry names and ids, and words of the host for what became of it: nothing that a
//! plugin, a panel or a server said.
//!
//! An operation lives longer than a process and moves between hosts. So its trace is known by its id: `wharf serve` makes
//! the spans `operation` and `run` part of the trace whose id is the operation's.

use tracing::{Span, field::Empty};
use wharf_model::{TRACES, event::Delivery, operation::Operation, service::Service};
use wharf_plugins::report::{CallError, Outcome, StepReport};
use wharf_store::{Run, queue::subject};

use crate::wish::{Target, Wish, WishError};

/// That a wish is looked at, until it is durable or refused.
pub(crate) fn accept(target: &Target, wish: &Wish) -> Span {
    let wish = match wish {
        Wish::Provision(_) => "provision",
        Wish::Terminate => "terminate",
        Wish::Suspend => "suspend",
        Wish::Unsuspend => "unsuspend",
    };
    tracing::info_span!(
        target: TRACES,
        "accept",
        service = format!("{}:{}", target.panel, target.reference),
        wish,
        outcome = Empty,
    )
}

pub(crate) fn accepted<T>(span: &Span, done: &Result<T, WishError>) {
    let outcome = match done {
        Ok(_) => "accepted",
        Err(WishError::Store(_)) => "failed",
        Err(_) => "refused",
    };
    span.record("outcome", outcome);
}

/// The beginning of an operation's trace. It points at the request that led to it.
pub(crate) fn operation(service: &Service, operation: &Operation) {
    let request = Span::current();
    tracing::info_span!(
        target: TRACES,
        parent: None,
        "operation",
        service = subject(service),
        operation = %operation.id,
        kind = operation.kind,
        plugin = operation.plugin,
        server = service.server,
        generation = i64::from(operation.generation),
    )
    .follows_from(request);
}

/// One call of a provisioner.
pub(crate) fn step(run: &Run) -> Span {
    let (service, operation) = (&run.service, &run.operation);
    tracing::info_span!(
        target: TRACES,
        "step",
        otel.name = format!("step after {}", operation.state),
        service = subject(service),
        operation = %operation.id,
        kind = operation.kind,
        plugin = operation.plugin,
        state = operation.state,
        generation = i64::from(operation.generation),
        attempt = i64::from(operation.attempt),
        outcome = Empty,
        reached = Empty,
        otel.status_code = Empty,
    )
}

pub(crate) fn stepped(span: &Span, answer: &Result<StepReport, CallError>) {
    let (outcome, good) = match answer.as_ref().map(|report| &report.answer) {
        Ok(Ok(Outcome::Submitted)) => ("submitted", true),
        Ok(Ok(Outcome::Reached(states))) => {
            if let Some(last) = states.last() {
                span.record("reached", last.state.as_str());
            }
            ("reached", true)
        }
        Ok(Ok(Outcome::Waiting { .. })) => ("waiting", true),
        Ok(Ok(Outcome::Stuck(_))) => ("stuck", false),
        Ok(Err(_)) => ("failed", false),
        Err(error) => (error.cause.as_str(), false),
    };
    end(span, outcome, good);
}

/// Telling one hook of one event.
pub(crate) fn delivery(delivery: &Delivery) -> Span {
    let event = &delivery.event;
    tracing::info_span!(
        target: TRACES,
        "delivery",
        otel.kind = "producer",
        hook = delivery.hook,
        event = %event.id,
        kind = event.event.kind,
        service = event.event.subject,
        attempt = i64::from(delivery.attempt),
        outcome = Empty,
    )
}

/// One zone's part of a pass over a provider server's queue.
pub(crate) fn dns_pass(zone: &str, records: usize) -> Span {
    tracing::info_span!(target: TRACES, "dns pass", zone, records = number(records))
}

/// Writing to a zone.
pub(crate) fn dns_apply(zone: &str, changes: usize) -> Span {
    tracing::info_span!(target: TRACES, "dns apply", zone, changes = number(changes), outcome = Empty, otel.status_code = Empty)
}

/// Signed, as all numbers of spans are: others would arrive as text.
fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn end(span: &Span, outcome: &str, good: bool) {
    span.record("outcome", outcome);
    if !good {
        span.record("otel.status_code", "ERROR");
    }
}
