//! The names of addresses: as they should be, and as the world sees them.

use std::net::IpAddr;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};
use wharf_engine::names::NamesError;

use crate::{
    Api, Problem,
    auth::{Allowed, Peer, scope},
    extract::{NoQuery, Path},
    services,
};

impl From<NamesError> for Problem {
    fn from(error: NamesError) -> Self {
        match error {
            NamesError::NoResolver(error) => Self::new(StatusCode::BAD_GATEWAY, "resolver", error.to_string()),
            NamesError::Store(error) => error.into(),
        }
    }
}

/// Each address of a service: the names that it should have, and whether the world's lead there and back. Asked now.
#[utoipa::path(
    get, path = "/v1/services/{id}/names", tag = "services", operation_id = "check-service-names",
    params(("id" = String, Path, description = "`panel:ref`")), security(("token" = ["services:read"])),
    responses((status = 200, description = "By address; `verdict` is `pass`, `no-ptr`, `forward-missing`, `mismatch`, `several-ptr` or `temp-error`.", body = Value))
)]
pub async fn of_service(
    caller: Allowed<scope::ServicesRead>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Result<Json<Value>, Problem> {
    let service = services::find(&api, &caller, &id).await?;
    Ok(Json(json!(api.engine.service_names(service.id).await?)))
}

/// All addresses that services hold, with their names as they should be: for tools that keep zones of their own. Who may read it
/// is settled by its address alone (`[names] allow`); everybody else is refused as `not-listed`.
#[utoipa::path(
    get, path = "/v1/names", tag = "host", operation_id = "list-names",
    responses((status = 200, description = "`{forward, ip, reverse}`, names with the final dot.", body = Value))
)]
pub async fn list(peer: Peer, State(api): State<Api>, headers: HeaderMap, _: NoQuery) -> Result<Json<Value>, Problem> {
    let settings = &api.settings;
    let listed = peer.behind(&headers, &settings.proxies).is_some_and(|ip| is_listed(ip, &settings.names_allow));
    if !listed {
        let text = "this address may not read the list of names: add it to `allow` of `[names]` in the host's settings";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-listed", text));
    }
    Ok(Json(json!(api.engine.all_names().await?)))
}

fn is_listed(ip: IpAddr, allowed: &[ipnet::IpNet]) -> bool {
    allowed.iter().any(|net| net.contains(&ip))
}
