//! Pauses: what an admin holds back, and why. Each move has an audit row.
//!
//! What a pause names must be there: a pause of something misspelt would hold nothing back, and nobody would know.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wharf_model::{
    manifest::World,
    object::{Object, ObjectKind, PauseScope},
};

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::{self, NoQuery, Path},
};

/// Longest reason, in characters: it stands in every operation that waits.
const REASON: usize = 500;

/// What is held back.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pause {
    /// `everything`, `server:<name>`, `node:<server>/<node>`, `panel:<name>`, `kind:<kind of operation>`.
    scope: String,
    reason: String,
    /// Who paused it.
    by: String,
    since_ms: i64,
}

impl Pause {
    fn of(row: Object) -> Self {
        let text = |key: &str| row.body.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        Self { reason: text("reason"), by: text("by"), since_ms: row.created_ms, scope: row.name }
    }
}

/// A new pause.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPause {
    /// `everything`, `server:<name>`, `node:<server>/<node>`, `panel:<name>`, `kind:<kind of operation>`.
    scope: String,
    /// Why, for everyone who asks why nothing happens: 1 to 500 characters.
    reason: String,
}

/// All pauses.
#[utoipa::path(
    get, path = "/v1/admin/pauses", tag = "pauses", operation_id = "list-pauses",
    security(("token" = ["admin"])),
    responses((status = 200, description = "By scope.", body = Vec<Pause>))
)]
pub async fn list(_: Allowed<scope::Admin>, State(api): State<Api>, _: NoQuery) -> Result<Json<Vec<Pause>>, Problem> {
    let rows = api.lender.books.objects(ObjectKind::Pause).await?;
    Ok(Json(rows.into_iter().map(Pause::of).collect()))
}

/// Begins a pause. Wishes are taken on as ever; nothing of its scope is begun or sent until it is removed; what has been sent
/// before is watched to its end.
#[utoipa::path(
    post, path = "/v1/admin/pauses", tag = "pauses", operation_id = "add-pause", request_body = NewPause,
    security(("token" = ["admin"])),
    responses((status = 201, description = "It holds from now on, on every host.", body = Pause))
)]
pub async fn add(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    _: NoQuery,
    extract::Json(new): extract::Json<NewPause>,
) -> Result<(StatusCode, Json<Pause>), Problem> {
    let forms = "use everything, server:<name>, node:<server>/<node>, panel:<name> or kind:<kind of operation>";
    let scope = PauseScope::parse(&new.scope).ok_or_else(|| Problem::field("scope", forms))?;
    let reason = new.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON || reason.chars().any(char::is_control) {
        return Err(Problem::field("reason", format!("say why in one line, in 1 to {REASON} characters")));
    }
    exists(&api, &scope).await?;
    let row = api.engine.pause(scope, reason, &caller.name).await?;
    Ok((StatusCode::CREATED, Json(Pause::of(row))))
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Removed {
    /// The pause's scope.
    removed: String,
}

/// Removes a pause: whatever waited for it goes on at once, unless another pause holds it.
#[utoipa::path(
    delete, path = "/v1/admin/pauses/{name}", tag = "pauses", operation_id = "remove-pause",
    params(("name" = String, Path, description = "The scope as in the list, with `/` as `%2F`.")),
    security(("token" = ["admin"])),
    responses((status = 200, description = "It holds nothing back any more.", body = Removed))
)]
pub async fn remove(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Removed>, Problem> {
    let missing = || Problem::not_found("such pause");
    let scope = PauseScope::parse(&name).ok_or_else(missing)?;
    if !api.engine.unpause(&scope, &caller.name).await? {
        return Err(missing());
    }
    Ok(Json(Removed { removed: name }))
}

async fn exists(api: &Api, scope: &PauseScope) -> Result<(), Problem> {
    let known = async |kind: ObjectKind, name: &str| match api.lender.books.object(kind, name).await? {
        Some(_) => Ok(()),
        None => Err(Problem::field("scope", format!("there is no {kind} `{name}`"))),
    };
    match scope {
        PauseScope::Everything => Ok(()),
        PauseScope::Server(server) => known(ObjectKind::Server, server).await,
        PauseScope::Panel(panel) => known(ObjectKind::Panel, panel).await,
        PauseScope::Kind(kind) => {
            let manifests = api.runtime.plugins().into_iter().filter_map(|p| api.runtime.manifest(&p.id));
            let mut kinds: Vec<String> = manifests
                .filter(|m| m.world == World::Provisioner)
                .flat_map(|m| m.operations.iter().map(|o| o.kind.clone()).collect::<Vec<_>>())
                .collect();
            kinds.sort();
            kinds.dedup();
            if kinds.contains(kind) {
                return Ok(());
            }
            let text = format!("no plugin has an operation `{kind}`: use one of {}", kinds.join(", "));
            Err(Problem::field("scope", text))
        }
        PauseScope::Node { server, node } => {
            known(ObjectKind::Server, server).await?;
            // A server that can't be asked right now may be the very reason for the pause.
            let Ok(client) = api.lender.servers.client(server).await else { return Ok(()) };
            let Ok(resources) = client.resources(false).await else { return Ok(()) };
            if resources.nodes.iter().any(|n| n.name == *node) {
                return Ok(());
            }
            let nodes: Vec<&str> = resources.nodes.iter().map(|n| n.name.as_str()).collect();
            Err(Problem::field(
                "scope",
                format!("server `{server}` has no node `{node}`: use one of {}", nodes.join(", ")),
            ))
        }
    }
}
