//! Plugins: list, install, roll back, switch on and off.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use wharf_plugins::{GrantRequest, InstallError, PluginInfo};

use crate::{Api, Problem, auth::require};

impl From<InstallError> for Problem {
    fn from(error: InstallError) -> Self {
        let status = if error.is_ours() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNPROCESSABLE_ENTITY };
        Self::new(status, error.code(), error.to_string())
    }
}

pub async fn list(State(api): State<Api>, headers: HeaderMap) -> Result<Json<Vec<PluginInfo>>, Problem> {
    require(&api, &headers, "plugins:write").await?;
    Ok(Json(api.runtime.plugins()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallQuery {
    /// Interfaces that are granted with it, comma-separated.
    allow: Option<String>,
}

pub async fn install(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(query): Query<InstallQuery>,
    request: Request,
) -> Result<Json<serde_json::Value>, Problem> {
    let caller = require(&api, &headers, "plugins:write").await?;
    let body = Bytes::from_request(request, &api).await.map_err(|e| Problem::new(e.status(), "body", e.body_text()))?;
    let grant = match query.allow {
        Some(list) => {
            let set: BTreeSet<String> =
                list.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
            GrantRequest::Allow(set)
        }
        None => GrantRequest::Keep,
    };
    let installed = api.runtime.install(body.to_vec(), &caller.name, grant).await?;
    api.engine.nudge();
    Ok(Json(serde_json::to_value(installed).unwrap_or_default()))
}

pub async fn rollback(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Problem> {
    let caller = require(&api, &headers, "plugins:write").await?;
    let rollout = api.runtime.rollback(&id, &caller.name).await?;
    api.engine.nudge();
    Ok(Json(serde_json::to_value(rollout).unwrap_or_default()))
}

pub async fn enable(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Problem> {
    switch(api, id, headers, true).await
}

pub async fn disable(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Problem> {
    switch(api, id, headers, false).await
}

async fn switch(api: Api, id: String, headers: HeaderMap, on: bool) -> Result<Json<serde_json::Value>, Problem> {
    let caller = require(&api, &headers, "plugins:write").await?;
    let rollout = api.runtime.set_enabled(&id, on, &caller.name).await?;
    api.engine.nudge();
    Ok(Json(serde_json::to_value(rollout).unwrap_or_default()))
}
