//! Services as desired state, their operations, and the event feed.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{FromRequest, Path, Query, State, rejection::JsonRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use wharf_engine::wish::{Idempotency, Order, Target, Wish};
use wharf_model::{
    operation::Operation,
    service::{Phase, Service},
};
use wharf_store::{Accepted, NewAudit, ServiceFilter};

use crate::{
    Api, Problem,
    auth::{Caller, require},
};

/// Most rows of one answer.
const PAGE: usize = 200;

/// A service as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    id: Uuid,
    panel: String,
    #[serde(rename = "ref")]
    reference: String,
    plan: String,
    server: String,
    phase: Phase,
    suspended: bool,
    generation: u32,
    state: String,
    vmid: Option<u32>,
    addresses: Vec<String>,
    operation: Option<Operation>,
}

async fn shown(api: &Api, service: Service) -> Result<Shown, Problem> {
    let leases = api.lender.books.leases_of(service.id).await?;
    let operation =
        api.lender.books.operations(service.id, 1).await?.into_iter().next().map(|o| Operation { memo: None, ..o });
    Ok(Shown {
        id: service.id,
        panel: service.panel,
        reference: service.reference,
        plan: service.plan,
        server: service.server,
        phase: service.phase,
        suspended: service.suspended,
        generation: service.generation,
        state: service.state,
        vmid: service.vmid,
        addresses: leases.iter().map(|l| l.address.to_string()).collect(),
        operation,
    })
}

/// `panel:ref`, of a panel that the caller may see.
fn target(caller: &Caller, id: &str) -> Result<Target, Problem> {
    let (panel, reference) =
        id.split_once(':').ok_or_else(|| Problem::bad("service-id", "a service is named `panel:ref`"))?;
    if !caller.sees(panel) {
        return Err(Problem::not_found("such service"));
    }
    Ok(Target { panel: panel.to_owned(), reference: reference.to_owned() })
}

pub(crate) async fn find(api: &Api, caller: &Caller, id: &str) -> Result<Service, Problem> {
    let target = target(caller, id)?;
    let found = api.lender.books.service_by_ref(&target.panel, &target.reference).await?;
    found.ok_or_else(|| Problem::not_found("such service"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    phase: Option<String>,
    after: Option<Uuid>,
    limit: Option<usize>,
}

pub async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<Shown>>, Problem> {
    let caller = require(&api, &headers, "services:read").await?;
    let phase = match query.phase {
        Some(text) => Some(Phase::parse(&text).ok_or_else(|| {
            let known: Vec<&str> = Phase::ALL.iter().map(|p| p.as_str()).collect();
            Problem::bad("phase", format!("`{text}` is no phase: one of {}", known.join(", ")))
        })?),
        None => None,
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let filter = ServiceFilter { panel: caller.panel.clone(), phase, after: query.after, limit };
    let mut all = Vec::new();
    for service in api.lender.books.services(filter).await? {
        all.push(shown(&api, service).await?);
    }
    Ok(Json(all))
}

pub async fn show(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = require(&api, &headers, "services:read").await?;
    let service = find(&api, &caller, &id).await?;
    let tag = format!("\"{}\"", service.generation);
    let mut response = Json(shown(&api, service).await?).into_response();
    if let Ok(value) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}

/// Body of `PUT /v1/services/{panel}:{ref}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    plan: String,
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// What the panel says of the order: `client-id`, `hostname`, …
    #[serde(default)]
    order: BTreeMap<String, String>,
}

fn idempotency(headers: &HeaderMap, caller: &Caller, what: &str) -> Option<Idempotency> {
    let key = headers.get("idempotency-key")?.to_str().ok()?.trim_matches('"');
    let fingerprint = Sha256::digest(what).iter().fold(String::new(), |t, b| format!("{t}{b:02x}"));
    Some(Idempotency { scope: caller.name.clone(), key: key.to_owned(), fingerprint })
}

async fn accept(api: &Api, target: &Target, wish: Wish, key: Option<Idempotency>) -> Result<Response, Problem> {
    let Accepted::Done { service, operation, .. } = api.engine.wish(target, wish, key).await? else {
        return Err(Problem::not_found("such service"));
    };
    let place = operation.as_ref().map(|o| format!("/v1/operations/{}", o.id));
    let status = if operation.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = (status, Json(shown(api, *service).await?)).into_response();
    if let Some(value) = place.and_then(|p| HeaderValue::from_str(&p).ok()) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    Ok(response)
}

pub async fn put(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let caller = require(&api, &headers, "services:write").await?;
    let target = target(&caller, &id)?;
    let body: Result<Json<Ordered>, JsonRejection> = Json::from_request(request, &api).await;
    let Json(ordered) = body?;
    let what = format!("PUT {id} {}", serde_json::to_string(&ordered).unwrap_or_default());
    let key = idempotency(&headers, &caller, &what);
    let wish = Wish::Provision(Order { plan: ordered.plan, options: ordered.options, facts: ordered.order });
    accept(&api, &target, wish, key).await
}

pub async fn delete(State(api): State<Api>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = require(&api, &headers, "services:write").await?;
    let target = target(&caller, &id)?;
    let key = idempotency(&headers, &caller, &format!("DELETE {id}"));
    accept(&api, &target, Wish::Terminate, key).await
}

/// Body of `POST …/actions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionBody {
    verb: String,
}

pub async fn act(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let caller = require(&api, &headers, "services:write").await?;
    let target = target(&caller, &id)?;
    let body: Result<Json<ActionBody>, JsonRejection> = Json::from_request(request, &api).await;
    let Json(action) = body?;
    let wish = match action.verb.as_str() {
        "suspend" => Wish::Suspend,
        "unsuspend" => Wish::Unsuspend,
        other => return Err(Problem::bad("verb", format!("`{other}` is none of suspend, unsuspend"))),
    };
    let key = idempotency(&headers, &caller, &format!("POST {id} {}", action.verb));
    accept(&api, &target, wish, key).await
}

/// An operation of a service that the caller may see.
pub(crate) async fn find_operation(api: &Api, caller: &Caller, id: Uuid) -> Result<(Operation, Service), Problem> {
    let missing = || Problem::not_found("such operation");
    let operation = api.lender.books.operation(id).await?.ok_or_else(missing)?;
    let service = api.lender.books.service(operation.service_id).await?.ok_or_else(missing)?;
    if !caller.sees(&service.panel) {
        return Err(missing());
    }
    Ok((operation, service))
}

pub async fn operation(
    State(api): State<Api>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> Result<Json<Operation>, Problem> {
    let caller = require(&api, &headers, "services:read").await?;
    let (operation, _) = find_operation(&api, &caller, id).await?;
    Ok(Json(Operation { memo: None, ..operation }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeQuery {
    /// State to go on from; none = where it stopped.
    state: Option<String>,
}

pub async fn resume(
    State(api): State<Api>,
    Path(id): Path<Uuid>,
    Query(query): Query<ResumeQuery>,
    headers: HeaderMap,
) -> Result<Json<Operation>, Problem> {
    let caller = require(&api, &headers, "admin").await?;
    let (operation, service) = find_operation(&api, &caller, id).await?;
    if let Some(state) = &query.state {
        let known = api
            .runtime
            .manifest(&operation.plugin)
            .and_then(|m| {
                m.operation(&operation.kind).map(|k| k.states.iter().map(|s| s.id.clone()).collect::<Vec<_>>())
            })
            .unwrap_or_default();
        if !known.contains(state) {
            let text = format!("`{state}` is no state of {}: one of {}", operation.kind, known.join(", "));
            return Err(Problem::bad("state", text));
        }
    }
    let audit = NewAudit {
        actor: caller.name.clone(),
        action: "operation.resume".into(),
        subject: wharf_store::queue::subject(&service),
        body: serde_json::json!({"operation": id, "state": query.state}),
    };
    api.lender.books.resume(id, query.state, audit, api.lender.clock.now_ms()).await?;
    api.engine.nudge();
    let (operation, _) = find_operation(&api, &caller, id).await?;
    Ok(Json(Operation { memo: None, ..operation }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    #[serde(default)]
    after: i64,
    limit: Option<usize>,
}

pub async fn events(
    State(api): State<Api>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Problem> {
    let caller = require(&api, &headers, "events:read").await?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let events = api.lender.books.events_after(query.after, caller.panel.as_deref(), limit).await?;
    let next = events.last().map_or(query.after, |e| e.seq);
    Ok(Json(serde_json::json!({"events": events, "next": next})))
}
