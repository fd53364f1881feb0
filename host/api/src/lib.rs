//! HTTP: hooks of panels, services, operations, events, and what admins manage.
//!
//! Who is calling is settled before a body is read or parsed: hooks by their signature over the raw bytes, everything else by a
//! bearer token with scopes. Every refusal is `application/problem+json` (RFC 9457) with a stable `code`. What is served is
//! described by `GET /v1/openapi.json`, which is made of the same list of routes.

mod admin;
mod auth;
mod cluster;
mod conditions;
mod extract;
mod hooks;
mod jobs;
mod log;
pub mod metrics;
mod names;
pub mod openapi;
mod operations;
mod pauses;
mod plugins;
mod problem;
mod reconcile;
mod services;
mod signature;
mod throttle;
pub mod tokens;
mod traces;
mod wire;
mod zones;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use ipnet::IpNet;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};
use wharf_capabilities::call::Lender;
use wharf_engine::Engine;
use wharf_plugins::Runtime;

pub use problem::Problem;

/// Largest body of a hook or a call.
pub const BODY_BYTES: usize = 1024 * 1024;
/// Largest component that can be uploaded.
pub const COMPONENT_BYTES: usize = 64 * 1024 * 1024;
/// The one path that takes components.
const COMPONENTS: &str = "/v1/admin/plugins";

/// What an operator sets of the API.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// None: `/metrics` is not served.
    pub metrics: Option<metrics::Exporter>,
    /// Whether `/metrics` needs no token.
    pub metrics_open: bool,
    /// The most wasm stores that may be alive at once, to be shown.
    pub plugin_slots: u32,
    /// Who may read the list of names.
    pub names_allow: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed there.
    pub proxies: Vec<IpAddr>,
}

/// What all handlers share.
#[derive(Clone)]
pub struct Api {
    pub engine: Arc<Engine>,
    pub runtime: Arc<Runtime>,
    pub lender: Arc<Lender>,
    pub settings: Arc<Settings>,
    throttle: Arc<throttle::Throttle>,
    turns: Arc<conditions::Turns>,
}

impl Api {
    pub fn new(engine: Arc<Engine>, runtime: Arc<Runtime>, lender: Arc<Lender>, settings: Settings) -> Self {
        Self { engine, runtime, lender, settings: Arc::new(settings), throttle: Arc::default(), turns: Arc::default() }
    }
}

/// Every route that there is, with its documentation.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::opening())
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metrics::show))
        .routes(routes!(openapi::show))
        .routes(routes!(hooks::receive))
        .routes(routes!(services::list))
        .routes(routes!(services::show, services::put, services::delete))
        .routes(routes!(services::act))
        .routes(routes!(log::of_service))
        .routes(routes!(names::of_service, names::set_all))
        .routes(routes!(names::name, names::unname))
        .routes(routes!(names::list))
        .routes(routes!(operations::show))
        .routes(routes!(log::of_operation))
        .routes(routes!(operations::resume))
        .routes(routes!(services::events))
        .routes(routes!(plugins::list, plugins::install).layer(DefaultBodyLimit::max(COMPONENT_BYTES)))
        .routes(routes!(plugins::rollback))
        .routes(routes!(plugins::enable))
        .routes(routes!(plugins::disable))
        .routes(routes!(admin::audit))
        .routes(routes!(admin::list_tokens, admin::create_token))
        .routes(routes!(cluster::show))
        .routes(routes!(reconcile::run))
        .routes(routes!(zones::plan))
        .routes(routes!(zones::repair))
        .routes(routes!(zones::records))
        .routes(routes!(zones::parent))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::force))
        .routes(routes!(jobs::clear))
        .routes(routes!(jobs::clear_all))
        .routes(routes!(pauses::list, pauses::add))
        .routes(routes!(pauses::remove))
        .routes(routes!(admin::list))
        .routes(routes!(admin::show, admin::put, admin::delete))
        .routes(routes!(admin::test))
}

/// The whole API.
pub fn router(api: Api) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(async || {
            let text = "there is nothing at this path: `/v1/openapi.json` lists what there is";
            Problem::new(StatusCode::NOT_FOUND, "no-such-path", text)
        })
        .method_not_allowed_fallback(async || {
            let text = "this path does not take this method: the header `Allow` names those that it takes";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", text)
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn(bounded))
        .layer(from_fn(traces::request))
        .layer(from_fn(metrics::count))
        .with_state(api)
}

/// Refuses what says that it is too large before anything else is done about it. What doesn't say is cut off while it is read.
async fn bounded(request: Request, next: Next) -> Response {
    let most = if request.uri().path() == COMPONENTS { COMPONENT_BYTES } else { BODY_BYTES };
    let said = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|n| usize::try_from(n).is_ok_and(|n| n > most) || usize::try_from(n).is_err()) {
        return extract::too_large().into_response();
    }
    next.run(request).await
}

/// The process runs.
#[utoipa::path(
    get, path = "/healthz", tag = "host", operation_id = "live",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"))
)]
async fn live(_: extract::NoQuery) -> &'static str {
    "ok\n"
}

/// The host can work: its books answer.
#[utoipa::path(
    get, path = "/readyz", tag = "host", operation_id = "ready",
    responses((status = 200, description = "It can.", body = String, content_type = "text/plain"))
)]
async fn ready(State(api): State<Api>, _: extract::NoQuery) -> Result<&'static str, Problem> {
    api.lender.books.queue_counts().await?;
    Ok("ready\n")
}
