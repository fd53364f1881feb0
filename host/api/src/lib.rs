//! HTTP: hooks of panels, services, operations, events, and what admins manage.
//!
//! Who is calling is settled before a body is read or parsed: hooks by their signature over the raw bytes, everything else by a
//! bearer token with scopes. Every refusal is `application/problem+json` (RFC 9457) with a stable `code`.

mod admin;
mod auth;
mod hooks;
mod log;
mod plugins;
mod problem;
mod services;
mod signature;
pub mod tokens;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    routing::{get, post},
};
use wharf_capabilities::call::Lender;
use wharf_engine::Engine;
use wharf_plugins::Runtime;

pub use problem::Problem;

/// Largest body of a hook or a call.
pub const BODY_BYTES: usize = 1024 * 1024;
/// Largest component that can be uploaded.
pub const COMPONENT_BYTES: usize = 64 * 1024 * 1024;

/// What all handlers share.
#[derive(Clone)]
pub struct Api {
    pub engine: Arc<Engine>,
    pub runtime: Arc<Runtime>,
    pub lender: Arc<Lender>,
}

/// The whole API.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/hooks/{panel}/{verb}", post(hooks::receive))
        .route("/v1/services", get(services::list))
        .route("/v1/services/{id}", get(services::show).put(services::put).delete(services::delete))
        .route("/v1/services/{id}/actions", post(services::act))
        .route("/v1/services/{id}/log", get(log::of_service))
        .route("/v1/operations/{id}", get(services::operation))
        .route("/v1/operations/{id}/log", get(log::of_operation))
        .route("/v1/operations/{id}/resume", post(services::resume))
        .route("/v1/events", get(services::events))
        .route(
            "/v1/admin/plugins",
            get(plugins::list).post(plugins::install).layer(DefaultBodyLimit::max(COMPONENT_BYTES)),
        )
        .route("/v1/admin/plugins/{id}/rollback", post(plugins::rollback))
        .route("/v1/admin/plugins/{id}/enable", post(plugins::enable))
        .route("/v1/admin/plugins/{id}/disable", post(plugins::disable))
        .route("/v1/admin/audit", get(admin::audit))
        .route("/v1/admin/{kind}", get(admin::list))
        .route("/v1/admin/{kind}/{name}", get(admin::show).put(admin::put).delete(admin::delete))
        .route("/v1/admin/{kind}/{name}/test", post(admin::test))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no-such-path", "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(api)
}

async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.lender.books.queue_counts().await?;
    Ok("ready\n")
}
