//! Services as desired state, and the feed of events.
//!
//! What is answered with 202 is committed. `If-Match` is checked before an idempotency key is looked up: a repeated request
//! whose first answer was lost learns by 412 that its change is there.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use wharf_engine::wish::{Idempotency, Order, Target, Wish};
use wharf_model::{
    object::{ObjectKind, Panel},
    operation::Operation,
    service::{Phase, Service},
};
use wharf_store::{Accepted, ServiceFilter};

use crate::{
    Api, Problem,
    auth::{Allowed, Caller, scope},
    conditions::{Condition, Prefer, etag, idempotency},
    extract::{Json, NoQuery, Path, Query},
    operations, wire,
};

/// Most rows of one answer.
const PAGE: usize = 200;
/// What a panel's own id of a service can be.
pub(crate) const REFERENCE: &str = "1 to 200 printable characters";

/// `limit` of a list.
pub(crate) fn page(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(PAGE),
        Some(n) if (1..=PAGE).contains(&n) => Ok(n),
        Some(_) => {
            let message = format!("must be 1 to {PAGE}");
            Err(Problem::bad("query", format!("limit: {message}")).naming(vec![("limit".to_owned(), message)]))
        }
    }
}

async fn shown(api: &Api, service: Service, operation: Option<Operation>) -> Result<wire::Service, Problem> {
    let leases = api.lender.books.leases_of(service.id).await?;
    let operation = match operation {
        Some(operation) => Some(operation),
        None => api.lender.books.operations(service.id, 1).await?.into_iter().next(),
    };
    Ok(wire::Service::new(service, leases.iter().map(|l| l.address.to_string()).collect(), operation))
}

pub(crate) fn is_reference(text: &str) -> bool {
    (1..=200).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// `panel:ref`, of a panel that the caller may see.
fn target(caller: &Caller, id: &str) -> Result<Target, Problem> {
    let wrong = || {
        let message = format!("a service is named `panel:ref`; a ref has {REFERENCE}");
        Problem::bad("service-id", message.clone()).naming(vec![("id".to_owned(), message)])
    };
    let (panel, reference) = id.split_once(':').ok_or_else(wrong)?;
    if !is_reference(reference) {
        return Err(wrong());
    }
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

/// The same, of a caller who is going to change something about it.
pub(crate) async fn find_to_write(api: &Api, caller: &Caller, id: &str) -> Result<Service, Problem> {
    panel(api, caller, &target(caller, id)?).await?;
    find(api, caller, id).await
}

/// Which services to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only in this phase.
    #[param(value_type = Option<wire::Phase>)]
    phase: Option<String>,
    /// Only after this id: they are listed by id.
    after: Option<Uuid>,
    /// 1 to 200, which is the default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Services, by id.
#[utoipa::path(
    get, path = "/v1/services", tag = "services", operation_id = "list-services", params(ListQuery),
    security(("token" = ["services:read"])),
    responses((status = 200, description = "Those of the caller's panel; of all, if it is bound to none.", body = Vec<wire::Service>))
)]
pub async fn list(
    caller: Allowed<scope::ServicesRead>,
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Vec<wire::Service>>, Problem> {
    let phase = match query.phase {
        Some(text) => Some(Phase::parse(&text).ok_or_else(|| {
            let known: Vec<&str> = Phase::ALL.iter().map(|p| p.as_str()).collect();
            let message = format!("is no phase: use one of {}", known.join(", "));
            Problem::bad("query", format!("phase: {message}")).naming(vec![("phase".to_owned(), message)])
        })?),
        None => None,
    };
    let limit = page(query.limit)?;
    let filter = ServiceFilter { panel: caller.panel.clone(), phase, after: query.after, limit };
    let mut all = Vec::new();
    for service in api.lender.books.services(filter).await? {
        all.push(shown(&api, service, None).await?);
    }
    Ok(axum::Json(all))
}

/// A service with its last operation.
#[utoipa::path(
    get, path = "/v1/services/{id}", tag = "services", operation_id = "show-service",
    params(("id" = String, Path, description = "`panel:ref`")),
    security(("token" = ["services:read"])),
    responses((status = 200, description = "As it is now.", body = wire::Service, headers(
        ("ETag" = String, description = "The generation, for `If-Match`.")
    )))
)]
pub async fn show(
    caller: Allowed<scope::ServicesRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let service = find(&api, &caller, &id).await?;
    let tag = etag(i64::from(service.generation));
    let mut response = axum::Json(shown(&api, service, None).await?).into_response();
    if let Some(value) = tag {
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}

/// What a service should be.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Order)]
pub struct Ordered {
    plan: String,
    /// By the option's name.
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// What the panel says of the order: `client-id`, `hostname`, …
    #[serde(default)]
    order: BTreeMap<String, String>,
}

/// Headers of a request that writes.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "it is documentation: the headers are read by `conditions`")]
pub struct WriteHeaders {
    /// `"<generation>"`, or `*`: only if the service is that.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
    /// `*`: only if there is no such service yet.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
    /// Up to 255 ASCII characters; the same again within 30 days gives the same operation.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
    /// `wait=<seconds>`: hold the answer back until the operation has ended, for at most 30 seconds.
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

/// Takes a wish on; answers at once, or when its operation has ended, or when the patience named in `Prefer` is over.
async fn accept(
    api: &Api,
    headers: &HeaderMap,
    target: &Target,
    wish: Wish,
    key: Option<Idempotency>,
) -> Result<Response, Problem> {
    let (condition, prefer) = (Condition::of(headers)?, Prefer::of(headers));
    // Listened to from before the wish, so that no end is missed.
    let mut notices = api.engine.notices().listen();
    let turn = api.turns.take(&turn_of(target), condition.is_some()).await;
    if let Some(condition) = &condition {
        let now = api.lender.books.service_by_ref(&target.panel, &target.reference).await?;
        condition.check(now.map(|s| i64::from(s.generation)))?;
    }
    let Accepted::Done { mut service, operation, .. } = api.engine.wish(target, wish, key).await? else {
        return Err(Problem::not_found("such service"));
    };
    drop(turn);
    let mut operation = operation.map(|o| *o);
    if let (Some(open), Some(wait)) = (&mut operation, prefer.wait()) {
        let ended = tokio::time::timeout(wait, async {
            while !open.status.is_final() {
                operations::changed(&mut notices, open.id).await;
                if let Some(now) = api.lender.books.operation(open.id).await? {
                    *open = now;
                }
            }
            Ok::<(), Problem>(())
        });
        if let Ok(looked) = ended.await {
            looked?;
        }
        if let Some(now) = api.lender.books.service(service.id).await? {
            *service = now;
        }
    }
    let done = operation.as_ref().is_none_or(|o| o.status == wharf_model::operation::Status::Succeeded);
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let place = operation.as_ref().and_then(|o| HeaderValue::from_str(&format!("/v1/operations/{}", o.id)).ok());
    let tag = etag(i64::from(service.generation));
    let mut response = (status, axum::Json(shown(api, *service, operation).await?)).into_response();
    let said = [
        (header::LOCATION, place),
        (header::ETAG, tag),
        (HeaderName::from_static("preference-applied"), prefer.applied()),
        (header::RETRY_AFTER, (!done).then(|| HeaderValue::from_static("2"))),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// The name under which writes of one service take turns.
pub(crate) fn turn_of(target: &Target) -> String {
    format!("service/{}:{}", target.panel, target.reference)
}

/// The panel that is written for, if there is one. Who is bound to it may not write while it is switched off.
async fn panel(api: &Api, caller: &Caller, target: &Target) -> Result<Option<Panel>, Problem> {
    let object = api.lender.books.object(ObjectKind::Panel, &target.panel).await?;
    let panel: Option<Panel> = object.and_then(|o| serde_json::from_value(o.body).ok());
    if caller.panel.is_some() && panel.as_ref().is_some_and(|p| p.off) {
        let text = "this panel is switched off: an admin can switch it on";
        return Err(Problem::new(StatusCode::FORBIDDEN, "panel-off", text));
    }
    Ok(panel)
}

/// Whether this caller may order this plan for this panel. A plan that is not granted and one that does not exist are
/// refused in the same words.
async fn may_order(api: &Api, caller: &Caller, target: &Target, plan: &str) -> Result<(), Problem> {
    let Some(panel) = panel(api, caller, target).await? else {
        return Err(Problem::not_found(format!("panel `{}`: create it first", target.panel)));
    };
    if caller.panel.is_some() && !panel.plans.iter().any(|granted| granted == plan) {
        let text = "is not granted to this panel: add it to the panel's plans, or order another";
        return Err(Problem::field("plan", text));
    }
    Ok(())
}

/// Says what a service should be: creates it, changes it, or finds that it is so already.
#[utoipa::path(
    put, path = "/v1/services/{id}", tag = "services", operation_id = "put-service",
    params(("id" = String, Path, description = "`panel:ref`; a ref is never used for another service"), WriteHeaders),
    request_body = Ordered,
    security(("token" = ["services:write"])),
    responses(
        (status = 200, description = "It is so.", body = wire::Service),
        (status = 202, description = "Committed; `operation` says how it goes on.", body = wire::Service, headers(
            ("Location" = String, description = "The operation."),
            ("Preference-Applied" = String, description = "What was done of `Prefer`.")
        )),
    )
)]
pub async fn put(
    caller: Allowed<scope::ServicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    Json(ordered): Json<Ordered>,
) -> Result<Response, Problem> {
    let target = target(&caller, &id)?;
    may_order(&api, &caller, &target, &ordered.plan).await?;
    let what = format!("PUT {id} {}", serde_json::to_string(&ordered).unwrap_or_default());
    let key = idempotency(&headers, &caller, &what)?;
    let wish = Wish::Provision(Order { plan: ordered.plan, options: ordered.options, facts: ordered.order });
    accept(&api, &headers, &target, wish, key).await
}

/// Terminates a service: its VM is destroyed. What is known of it stays.
#[utoipa::path(
    delete, path = "/v1/services/{id}", tag = "services", operation_id = "terminate-service",
    params(("id" = String, Path, description = "`panel:ref`"), WriteHeaders),
    security(("token" = ["services:write"])),
    responses(
        (status = 200, description = "It is terminated.", body = wire::Service),
        (status = 202, description = "Committed; `operation` says how it goes on.", body = wire::Service, headers(
            ("Location" = String, description = "The operation."),
            ("Preference-Applied" = String, description = "What was done of `Prefer`.")
        )),
    )
)]
pub async fn delete(
    caller: Allowed<scope::ServicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let target = target(&caller, &id)?;
    panel(&api, &caller, &target).await?;
    let key = idempotency(&headers, &caller, &format!("DELETE {id}"))?;
    accept(&api, &headers, &target, Wish::Terminate, key).await
}

/// What can be done with a service.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    Suspend,
    Unsuspend,
}

/// An action on a service.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    verb: Verb,
}

/// Suspends a service, or ends its suspension. Denial takes effect with the answer; the stop follows.
#[utoipa::path(
    post, path = "/v1/services/{id}/actions", tag = "services", operation_id = "act-on-service",
    params(("id" = String, Path, description = "`panel:ref`"), WriteHeaders),
    request_body = Action,
    security(("token" = ["services:write"])),
    responses(
        (status = 200, description = "It is so.", body = wire::Service),
        (status = 202, description = "Committed; `operation` says how it goes on.", body = wire::Service, headers(
            ("Location" = String, description = "The operation."),
            ("Preference-Applied" = String, description = "What was done of `Prefer`.")
        )),
    )
)]
pub async fn act(
    caller: Allowed<scope::ServicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
    headers: HeaderMap,
    Json(action): Json<Action>,
) -> Result<Response, Problem> {
    let target = target(&caller, &id)?;
    panel(&api, &caller, &target).await?;
    let (wish, verb) = match action.verb {
        Verb::Suspend => (Wish::Suspend, "suspend"),
        Verb::Unsuspend => (Wish::Unsuspend, "unsuspend"),
    };
    let key = idempotency(&headers, &caller, &format!("POST {id} {verb}"))?;
    accept(&api, &headers, &target, wish, key).await
}

/// From where in the feed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only events with a higher `seq`: `next` of the answer before. 0 = from the oldest that is kept.
    #[serde(default)]
    after: i64,
    /// 1 to 200, which is the default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// The ordered feed of events: no gap and no repetition for who goes on with `next`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "list-events", params(EventsQuery),
    security(("token" = ["events:read"])),
    responses(
        (status = 200, description = "Those that the caller's panel may read, oldest first.", body = wire::Events),
        (status = 410, description = "Events after this position are no longer kept: read the services, then go on from the position that the answer names."),
    )
)]
pub async fn events(
    caller: Allowed<scope::EventsRead>,
    State(api): State<Api>,
    Query(query): Query<EventsQuery>,
) -> Result<axum::Json<wire::Events>, Problem> {
    let limit = page(query.limit)?;
    let events = api.lender.books.events_after(query.after, caller.panel.as_deref(), limit).await?;
    let next = events.last().map_or(query.after, |e| e.seq);
    Ok(axum::Json(wire::Events { events: events.into_iter().map(wire::Event::from).collect(), next }))
}
