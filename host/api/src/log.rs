//! The log of an operation: as plain text, or live as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::{Path, State},
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
    auth::require,
    services::{find, find_operation},
};

const PAGE: usize = 500;
/// A live reader looks again after this even when nobody told it to.
const SWEEP: Duration = Duration::from_secs(2);

pub async fn of_service(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = require(&api, &headers, "services:read").await?;
    let service = find(&api, &caller, &id).await?;
    let latest = api.lender.books.operations(service.id, 1).await?.into_iter().next();
    let operation = latest.ok_or_else(|| Problem::not_found("operation of this service yet"))?;
    answer(api, operation, service, &headers).await
}

pub async fn of_operation(
    State(api): State<Api>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = require(&api, &headers, "services:read").await?;
    let (operation, service) = find_operation(&api, &caller, id).await?;
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
            let status = reader.api.lender.books.operation(reader.operation).await.ok().flatten();
            let entries = reader.api.lender.books.log(reader.operation, reader.after, PAGE).await.unwrap_or_default();
            for entry in &entries {
                reader.after = entry.n;
                let event = Event::default().id(entry.n.to_string()).event("log");
                reader.ready.push_back(event.json_data(entry).unwrap_or_default());
            }
            if entries.len() < PAGE
                && let Some(operation) = status.filter(|o| o.status.is_final())
            {
                reader.over = true;
                let data = serde_json::json!({"status": operation.status, "state": operation.state, "reason": operation.reason});
                reader.ready.push_back(Event::default().event("end").json_data(data).unwrap_or_default());
            }
            if reader.ready.is_empty() {
                // Missed or doubled notices harm nothing: it is the books that are read.
                let _ = tokio::time::timeout(SWEEP, reader.notices.recv()).await;
            }
        }
    })
}
