//! Plugins: list, install, roll back, switch on and off.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa::IntoParams;
use wharf_plugins::{GrantRequest, InstallError};

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::{NoQuery, Path, Query, Raw},
    wire,
};

impl From<InstallError> for Problem {
    fn from(error: InstallError) -> Self {
        let status = match &error {
            InstallError::NoSuchVersion { .. } => StatusCode::NOT_FOUND,
            InstallError::NoPrevious { .. } => StatusCode::CONFLICT,
            other if other.is_ours() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let problem = Self::new(status, error.code(), error.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE { problem.retry_after(2) } else { problem }
    }
}

/// Installed plugins.
#[utoipa::path(
    get, path = "/v1/admin/plugins", tag = "plugins", operation_id = "list-plugins",
    security(("token" = ["plugins:write"])),
    responses((status = 200, description = "All, by id.", body = Vec<wire::Plugin>))
)]
pub async fn list(
    _: Allowed<scope::PluginsWrite>,
    State(api): State<Api>,
    _: NoQuery,
) -> Result<Json<Vec<wire::Plugin>>, Problem> {
    Ok(Json(api.runtime.plugins().into_iter().map(wire::Plugin::from).collect()))
}

/// What is granted with an installation.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InstallQuery {
    /// Interfaces that are granted, with commas between; left out, only what was granted before.
    allow: Option<String>,
}

/// Installs a component and rolls it out.
#[utoipa::path(
    post, path = "/v1/admin/plugins", tag = "plugins", operation_id = "install-plugin", params(InstallQuery),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component, at most 64 MiB."),
    security(("token" = ["plugins:write"])),
    responses((status = 200, description = "New steps run on it.", body = wire::Installed))
)]
pub async fn install(
    caller: Allowed<scope::PluginsWrite>,
    State(api): State<Api>,
    Query(query): Query<InstallQuery>,
    request: Request,
) -> Result<Json<wire::Installed>, Problem> {
    let Raw(body) = Raw::from_request(request, &api).await?;
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
    Ok(Json(installed.into()))
}

/// Goes back to the version that ran before.
#[utoipa::path(
    post, path = "/v1/admin/plugins/{id}/rollback", tag = "plugins", operation_id = "roll-plugin-back",
    params(("id" = String, Path, description = "The plugin.")),
    security(("token" = ["plugins:write"])),
    responses((status = 200, description = "New steps run on it.", body = wire::Rollout))
)]
pub async fn rollback(
    caller: Allowed<scope::PluginsWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<wire::Rollout>, Problem> {
    let rollout = api.runtime.rollback(&id, &caller.name).await?;
    api.engine.nudge();
    Ok(Json(rollout.into()))
}

/// Switches a plugin on.
#[utoipa::path(
    post, path = "/v1/admin/plugins/{id}/enable", tag = "plugins", operation_id = "enable-plugin",
    params(("id" = String, Path, description = "The plugin.")),
    security(("token" = ["plugins:write"])),
    responses((status = 200, description = "It is on.", body = wire::Rollout))
)]
pub async fn enable(
    caller: Allowed<scope::PluginsWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<wire::Rollout>, Problem> {
    let rollout = api.runtime.set_enabled(&id, true, &caller.name).await?;
    api.engine.nudge();
    Ok(Json(rollout.into()))
}

/// Switches a plugin off. What is called meanwhile finishes; what needs it waits.
#[utoipa::path(
    post, path = "/v1/admin/plugins/{id}/disable", tag = "plugins", operation_id = "disable-plugin",
    params(("id" = String, Path, description = "The plugin.")),
    security(("token" = ["plugins:write"])),
    responses((status = 200, description = "It is off.", body = wire::Rollout))
)]
pub async fn disable(
    caller: Allowed<scope::PluginsWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<wire::Rollout>, Problem> {
    let rollout = api.runtime.set_enabled(&id, false, &caller.name).await?;
    api.engine.nudge();
    Ok(Json(rollout.into()))
}
