//! The log of an operation: as plain text, or live as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::Stream;
use uuid::Uuid;
use wharf_engine::Notice;
use wharf_model::{
    operation::{LogBody, LogEntry, Operation, StepResult},
    service::Service,
};

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::{NoQuery, Path},
    operations, services, wire,
};

const PAGE: usize = 500;

/// The log of a service's last operation.
#[utoipa::path(
    get, path = "/v1/services/{id}/log", tag = "services", operation_id = "show-service-log",
    params(
        ("id" = String, Path, description = "`panel:ref`"),
        ("Last-Event-ID" = Option<i64>, Header, description = "Of a live log: go on after this entry."),
    ),
    security(("token" = ["services:read"])),
    responses((status = 200, description = "As text; live, if `Accept` names `text/event-stream`: an event `log` for each entry, \
        then `end`.", content((String = "text/plain"), (wire::LogEvent = "text/event-stream"))))
)]
pub async fn of_service(
    caller: Allowed<scope::ServicesRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let service = services::find(&api, &caller, &id).await?;
    let latest = api.lender.books.operations(service.id, 1).await?.into_iter().next();
    let operation = latest.ok_or_else(|| Problem::not_found("operation of this service yet"))?;
    answer(api, operation, service, &headers).await
}

/// The log of an operation.
#[utoipa::path(
    get, path = "/v1/operations/{id}/log", tag = "operations", operation_id = "show-operation-log",
    params(
        ("id" = Uuid, Path, description = "The operation."),
        ("Last-Event-ID" = Option<i64>, Header, description = "Of a live log: go on after this entry."),
    ),
    security(("token" = ["services:read"])),
    responses((status = 200, description = "As text; live, if `Accept` names `text/event-stream`: an event `log` for each entry, \
        then `end`.", content((String = "text/plain"), (wire::LogEvent = "text/event-stream"))))
)]
pub async fn of_operation(
    caller: Allowed<scope::ServicesRead>,
    State(api): State<Api>,
    Path(id): Path<Uuid>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (operation, service) = operations::find(&api, &caller, id).await?;
    answer(api, operation, service, &headers).await
}

async fn answer(api: Api, operation: Operation, service: Service, headers: &HeaderMap) -> Result<Response, Problem> {
    let wants = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if wants.contains("text/event-stream") {
        let after =
            headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok()).unwrap_or(0);
        let keep = KeepAlive::new().interval(Duration::from_secs(15));
        return Ok(Sse::new(live(api, operation.id, after)).keep_alive(keep).into_response());
    }
    let mut text = opening(&operation, &service);
    let mut after = 0;
    loop {
        let entries = api.lender.books.log(operation.id, after, PAGE).await?;
        let Some(last) = entries.last() else { break };
        after = last.n;
        for entry in &entries {
            text.push_str(&line(entry));
        }
    }
    text.push_str(&closing(&operation, &service));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

fn opening(operation: &Operation, service: &Service) -> String {
    let vm = service.vmid.map_or_else(|| "-".to_owned(), |n| n.to_string());
    format!("--- {}: service={} vm={vm} status={} ---\n", operation.kind, service.reference, operation.state)
}

fn closing(operation: &Operation, service: &Service) -> String {
    let reason = operation.reason.as_ref().map(|r| format!(": {}", r.message)).unwrap_or_default();
    format!(
        "--- {} {}: service={} status={}{reason} ---\n",
        operation.kind,
        operation.status.as_str(),
        service.reference,
        operation.state
    )
}

/// `[+] 4. Migrate to target node  success (clone -> migrated) [30.23s]`
pub fn line(entry: &LogEntry) -> String {
    match &entry.body {
        LogBody::Line { level, message, .. } => format!("    {level}: {message}\n"),
        LogBody::Step { number, label, from, to, result, effect, duration_ms, .. } => {
            let seconds = format!("{}.{:02}", duration_ms / 1000, duration_ms % 1000 / 10);
            let by = effect.as_ref().map(|e| format!(" by effect {e}")).unwrap_or_default();
            match result {
                StepResult::Success => format!("[+] {number}. {label}  success ({from} -> {to}){by} [{seconds}s]\n"),
                StepResult::Skip { reason } => {
                    format!("[+] {number}. {label} (skip — {reason})  success ({from} -> {to}) [{seconds}s]\n")
                }
                StepResult::Waiting { reason } => format!("[.] {number}. {label}  waiting: {reason}\n"),
                StepResult::Error { code, message } => format!("[!] {number}. {label}  error: {message} ({code})\n"),
            }
        }
    }
}

struct Reader {
    api: Api,
    operation: Uuid,
    after: i64,
    ready: VecDeque<Event>,
    notices: tokio::sync::broadcast::Receiver<Notice>,
    over: bool,
}

/// Entries after `after`, as they come, until the operation is over.
fn live(api: Api, operation: Uuid, after: i64) -> impl Stream<Item = Result<Event, Infallible>> {
    let notices = api.engine.notices().listen();
    let reader = Reader { api, operation, after, ready: VecDeque::new(), notices, over: false };
    futures::stream::unfold(reader, |mut reader| async move {
        loop {
            if let Some(event) = reader.ready.pop_front() {
                return Some((Ok(event), reader));
            }
            if reader.over {
                return None;
            }
            // The status first: what is logged before the end is read after it was seen.
            let books = &reader.api.lender.books;
            let looked = match books.operation(reader.operation).await {
                Ok(status) => books.log(reader.operation, reader.after, PAGE).await.map(|entries| (status, entries)),
                Err(error) => Err(error),
            };
            // Books that can't be read now are asked again: a gap would not be seen.
            if let Ok((status, entries)) = looked {
                let whole = entries.len() < PAGE;
                for entry in entries {
                    reader.after = entry.n;
                    let event = Event::default().id(entry.n.to_string()).event("log");
                    reader.ready.push_back(event.json_data(wire::LogEntry::from(entry)).unwrap_or_default());
                }
                match status {
                    Some(operation) if whole && operation.status.is_final() => {
                        reader.over = true;
                        let end = Event::default().event("end").json_data(wire::LogEnd::from(operation));
                        reader.ready.push_back(end.unwrap_or_default());
                    }
                    // History has dropped it.
                    None => reader.over = true,
                    Some(_) => {}
                }
            }
            if reader.ready.is_empty() && !reader.over {
                operations::changed(&mut reader.notices, reader.operation).await;
            }
        }
    })
}
