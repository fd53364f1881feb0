//! The names of addresses: as they should be, and as the world sees them.

use std::net::IpAddr;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use wharf_capabilities::dns::names::address;
use wharf_engine::names::{NamesError, SayError};

use crate::{
    Api, Problem,
    auth::{Allowed, Peer, scope},
    extract::{self, NoQuery, Path},
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

impl From<SayError> for Problem {
    fn from(error: SayError) -> Self {
        let text = error.to_string();
        match error {
            SayError::NotActive(_) => Self::new(StatusCode::CONFLICT, "not-active", text),
            SayError::NeverNamed => Self::new(StatusCode::CONFLICT, "no-name", text),
            SayError::Contended => Self::new(StatusCode::CONFLICT, "conflict", text),
            // The error itself has the name in it.
            SayError::Name(_) => Self::field(
                "name",
                "is no name of a host: give two labels or more of letters, digits and inner hyphens, as in mail.client.example, \
                 253 characters at most, and no address",
            ),
            SayError::NoAddress(_) => Self::not_found("such address of this service"),
            SayError::NoService => Self::not_found("such service"),
            SayError::Store(error) => error.into(),
        }
    }
}

/// What was said of the names of a service. It is in the books; DNS follows by itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct Said {
    /// The name whose addresses they are, with the final dot.
    name: String,
    /// Records that should be, in all zones.
    records: usize,
    /// Of those, how many were written already and are looked at again.
    rechecked: u64,
    /// What an admin should know, a sentence each.
    warnings: Vec<String>,
    /// Names that no zone holds: they are written nowhere.
    homeless: Vec<String>,
}

type Answer = Result<(StatusCode, Json<Said>), Problem>;

fn said(said: wharf_engine::names::Said) -> (StatusCode, Json<Said>) {
    let wharf_engine::names::Said { name, records, rechecked, warnings, homeless } = said;
    (StatusCode::ACCEPTED, Json(Said { name, records, rechecked, warnings, homeless }))
}

/// Says all names of a service anew: what is missing at its providers is written again, what should not be is removed, and names
/// that addresses were given stay. Refused as `not-active` while an operation is under way, and of a service that is not active; as
/// `no-name` if it was never given a name.
#[utoipa::path(
    post, path = "/v1/services/{id}/names", tag = "services", operation_id = "set-service-names",
    params(("id" = String, Path, description = "`panel:ref`")), security(("token" = ["services:write"])),
    responses((status = 202, description = "It is in the books; the queue of DNS work does the rest.", body = Said))
)]
pub async fn set_all(
    caller: Allowed<scope::ServicesWrite>,
    State(api): State<Api>,
    Path(id): Path<String>,
    _: NoQuery,
) -> Answer {
    let service = services::find_to_write(&api, &caller, &id).await?;
    Ok(said(api.engine.set_names(service.id, &caller.name).await?))
}

/// A name for an address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnName {
    /// Of a host: two labels or more, with or without the final dot. Letters beyond ASCII are turned into A-labels.
    name: String,
}

/// An address as it stands in a path.
fn of_path(text: &str) -> Result<IpAddr, Problem> {
    address(text).map_err(|_| {
        let message = "is no IP address: write it as 192.0.2.1 or 2001:db8::1";
        Problem::bad("path", format!("address: {message}")).naming(vec![("address".to_owned(), message.to_owned())])
    })
}

/// Gives an address of a service a name of its own, to which its PTR leads from now on, for as long as the service has the address:
/// `set-service-names` and operations leave it. The name itself is not written anywhere: whoever holds it must have it lead to the
/// address. Refused as `set-service-names` is.
#[utoipa::path(
    put, path = "/v1/services/{id}/names/{address}", tag = "services", operation_id = "name-address", request_body = OwnName,
    params(
        ("id" = String, Path, description = "`panel:ref`"),
        ("address" = String, Path, description = "One that the service has.")
    ),
    security(("token" = ["services:write"])),
    responses((status = 202, description = "It is in the books; the queue of DNS work does the rest.", body = Said))
)]
pub async fn name(
    caller: Allowed<scope::ServicesWrite>,
    State(api): State<Api>,
    Path((id, address)): Path<(String, String)>,
    _: NoQuery,
    extract::Json(own): extract::Json<OwnName>,
) -> Answer {
    let service = services::find_to_write(&api, &caller, &id).await?;
    let address = of_path(&address)?;
    Ok(said(api.engine.set_ptr(service.id, address, Some(&own.name), &caller.name).await?))
}

/// Has the PTR of an address lead to the name of its service again.
#[utoipa::path(
    delete, path = "/v1/services/{id}/names/{address}", tag = "services", operation_id = "unname-address",
    params(
        ("id" = String, Path, description = "`panel:ref`"),
        ("address" = String, Path, description = "One that the service has.")
    ),
    security(("token" = ["services:write"])),
    responses((status = 202, description = "It is in the books; the queue of DNS work does the rest.", body = Said))
)]
pub async fn unname(
    caller: Allowed<scope::ServicesWrite>,
    State(api): State<Api>,
    Path((id, address)): Path<(String, String)>,
    _: NoQuery,
) -> Answer {
    let service = services::find_to_write(&api, &caller, &id).await?;
    let address = of_path(&address)?;
    Ok(said(api.engine.set_ptr(service.id, address, None, &caller.name).await?))
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
