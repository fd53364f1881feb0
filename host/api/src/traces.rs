//! A span for each request that has a route, but not for those of watchdogs.
//!
//! What a stranger can choose is not in it: a panel's name and the verb only once the signature was found good. A
//! `traceparent` of a caller is not followed: whoever can reach the host could else write into others' traces.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument, Span, field::Empty};
use wharf_model::TRACES;

/// Asked every few seconds.
const QUIET: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Of a request, until the head of its answer.
pub async fn request(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| !QUIET.contains(route)) else { return next.run(request).await };
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "OPTIONS" | "PATCH") => known,
        _ => "_OTHER",
    };
    let span = tracing::info_span!(
        target: TRACES,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        panel = Empty,
        verb = Empty,
        operation = Empty,
        http.response.status_code = Empty,
        otel.status_code = Empty,
    );
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", i64::from(response.status().as_u16()));
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// Says whose hook it is that is being answered.
pub fn hook(panel: &str, verb: &str) {
    Span::current().record("panel", panel).record("verb", verb);
}

/// Says what the hook has led to.
pub fn led_to(operation: &str) {
    Span::current().record("operation", operation);
}
