//! Zones as providers have them: what is there, how it differs from what should be, and mending that.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use wharf_engine::zones::ZoneError;

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::{self, NoQuery},
};

impl From<ZoneError> for Problem {
    fn from(error: ZoneError) -> Self {
        let text = error.to_string();
        match error {
            ZoneError::NoZone(_) => Self::new(StatusCode::NOT_FOUND, "not-found", text),
            ZoneError::Unreadable(_) => Self::new(StatusCode::CONFLICT, "unreadable", text),
            ZoneError::ManyRemovals { .. } => Self::new(StatusCode::CONFLICT, "many-removals", text),
            ZoneError::NotClassless(_) => Self::new(StatusCode::CONFLICT, "not-classless", text),
            ZoneError::NoResolver(_) => Self::new(StatusCode::BAD_GATEWAY, "resolver", text),
            ZoneError::Off(_) => Self::new(StatusCode::CONFLICT, "zone-off", text),
            ZoneError::Parked { .. } => Self::new(StatusCode::CONFLICT, "zone-parked", text),
            ZoneError::Provider(problem) => {
                let said = Self::new(StatusCode::BAD_GATEWAY, "provider", text);
                match problem.retry_after_ms {
                    Some(ms) => said.retry_after(ms.div_ceil(1_000)),
                    None => said,
                }
            }
            ZoneError::Plugin(_) => Self::new(StatusCode::BAD_GATEWAY, "plugin", text),
            ZoneError::Store(error) => error.into(),
        }
    }
}

/// What should be in a zone of ours, and what is. Asks the provider; nothing is written.
#[utoipa::path(
    get, path = "/v1/admin/zones/{name}/plan", tag = "admin", operation_id = "plan-zone",
    params(("name" = String, Path, description = "The zone's name.")), security(("token" = ["admin"])),
    responses((status = 200, description = "The difference, record by record: `missing`, `waiting`, `left-over`, `unseen`.", body = Value))
)]
pub async fn plan(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(api.engine.zone_plan(&name).await?)))
}

/// How far a repair may go.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// Even if more than ten records that are ours, and more than 30 % of them, would be removed.
    #[serde(default)]
    removals: bool,
}

/// Makes the records that differ due at once; the queue then reads, and writes what is not so. Other people's records stay. Refused as
/// `many-removals` when so much of what is ours would go that it needs a yes, as `zone-off` and `zone-parked` when nothing would be sent.
#[utoipa::path(
    post, path = "/v1/admin/zones/{name}/repair", tag = "admin", operation_id = "repair-zone", request_body = Repair,
    params(("name" = String, Path, description = "The zone's name.")), security(("token" = ["admin"])),
    responses((status = 200, description = "The plan that it went by, and how many records are due now.", body = Value))
)]
pub async fn repair(
    caller: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
    extract::Json(wish): extract::Json<Repair>,
) -> Result<Json<Value>, Problem> {
    let (plan, repair) = api.engine.zone_repair(&name, wish.removals, &caller.name).await?;
    Ok(Json(json!({ "plan": plan, "repair": repair })))
}

/// All records that the provider shows in a zone, and whose they are.
#[utoipa::path(
    get, path = "/v1/admin/zones/{name}/records", tag = "admin", operation_id = "list-zone-records",
    params(("name" = String, Path, description = "The zone's name.")), security(("token" = ["admin"])),
    responses((status = 200, description = "Sets with their values; `subject` is whose a value is, null = somebody else's.", body = Value))
)]
pub async fn records(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(api.engine.zone_records(&name).await?)))
}

/// What whoever holds the parent of a classless reverse zone (RFC 2317) must enter, and what of it is there. Refused as `not-classless`
/// for a zone of plain names.
#[utoipa::path(
    get, path = "/v1/admin/zones/{name}/parent", tag = "admin", operation_id = "show-zone-parent",
    params(("name" = String, Path, description = "The zone's name.")), security(("token" = ["admin"])),
    responses((status = 200, description = "NS and one CNAME an address; `present` is null where nobody answered.", body = Value))
)]
pub async fn parent(
    _: Allowed<scope::Admin>,
    State(api): State<Api>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!(api.engine.zone_parent(&name).await?)))
}
