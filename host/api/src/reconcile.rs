//! Restored books: merging them with the clusters.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::{self, NoQuery},
};

/// What to do without.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Servers that are not looked at: whoever names one answers for it that none of its numbers and addresses is used twice.
    #[serde(default)]
    without: Vec<String>,
}

/// Looks through every server and keeps what it holds from being given out; work begins when all were looked through.
/// Nothing is written to any server.
#[utoipa::path(
    post, path = "/v1/admin/reconcile", tag = "admin", operation_id = "reconcile", request_body = Reconcile,
    security(("token" = ["admin"])),
    responses((status = 200, description = "What was found, and what it still waits for.", body = serde_json::Value))
)]
pub async fn run(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    _: NoQuery,
    extract::Json(wish): extract::Json<Reconcile>,
) -> Result<Json<serde_json::Value>, Problem> {
    let merged = api.engine.reconcile(&wish.without, &caller.name).await?;
    Ok(Json(serde_json::to_value(merged).unwrap_or_default()))
}
