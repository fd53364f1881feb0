//! Operations: how they stand, and an admin's retry.

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::IntoParams;
use uuid::Uuid;
use wharf_engine::Notice;
use wharf_model::{operation::Operation, service::Service};
use wharf_store::NewAudit;

use crate::{
    Api, Problem,
    auth::{Allowed, Caller, scope},
    extract::{NoQuery, Path, Query},
    wire,
};

/// An operation of a service that the caller may see.
pub(crate) async fn find(api: &Api, caller: &Caller, id: Uuid) -> Result<(Operation, Service), Problem> {
    let missing = || Problem::not_found("such operation");
    let operation = api.lender.books.operation(id).await?.ok_or_else(missing)?;
    let service = api.lender.books.service(operation.service_id).await?.ok_or_else(missing)?;
    if !caller.sees(&service.panel) {
        return Err(missing());
    }
    Ok((operation, service))
}

/// One that looks at an operation looks again after this even when nobody told it to.
const SWEEP: Duration = Duration::from_secs(2);

/// Returns when the operation may have changed. Missed or doubled notices harm nothing: it is the books that are read.
pub(crate) async fn changed(notices: &mut Receiver<Notice>, id: Uuid) {
    let told = async {
        loop {
            match notices.recv().await {
                Ok(Notice::Operation(changed)) if changed == id => return,
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
                Ok(_) => {}
            }
        }
    };
    let _ = tokio::time::timeout(SWEEP, told).await;
}

/// How an operation stands.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "operations", operation_id = "show-operation",
    params(("id" = Uuid, Path, description = "The operation.")),
    security(("token" = ["services:read"])),
    responses((status = 200, description = "As it is now.", body = wire::Operation))
)]
pub async fn show(
    caller: Allowed<scope::ServicesRead>,
    State(api): State<Api>,
    Path(id): Path<Uuid>,
    _: NoQuery,
) -> Result<axum::Json<wire::Operation>, Problem> {
    let (operation, _) = find(&api, &caller, id).await?;
    Ok(axum::Json(operation.into()))
}

/// From where to go on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResumeQuery {
    /// State to go on from; left out = where it stopped.
    state: Option<String>,
}

/// Lets an operation that needs an admin go on, after its reason was mended.
#[utoipa::path(
    post, path = "/v1/operations/{id}/resume", tag = "operations", operation_id = "resume-operation",
    params(("id" = Uuid, Path, description = "The operation."), ResumeQuery),
    security(("token" = ["admin"])),
    responses((status = 200, description = "It goes on.", body = wire::Operation))
)]
pub async fn resume(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(id): Path<Uuid>,
    Query(query): Query<ResumeQuery>,
) -> Result<axum::Json<wire::Operation>, Problem> {
    let (operation, service) = find(&api, &caller, id).await?;
    if let Some(state) = &query.state {
        let known = api
            .runtime
            .manifest(&operation.plugin)
            .and_then(|m| {
                m.operation(&operation.kind).map(|k| k.states.iter().map(|s| s.id.clone()).collect::<Vec<_>>())
            })
            .unwrap_or_default();
        if !known.contains(state) {
            let message = format!("is no state of {}: use one of {}", operation.kind, known.join(", "));
            return Err(Problem::bad("query", format!("state: {message}")).naming(vec![("state".to_owned(), message)]));
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
    let (operation, _) = find(&api, &caller, id).await?;
    Ok(axum::Json(operation.into()))
}
