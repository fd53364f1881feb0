//! `GET /v1/openapi.json`: the API as a document (OpenAPI 3.1), made of the same handlers and types that serve it.
//!
//! A route can't be served without standing here: both come from one list ([`crate::routes`]). What holds for all operations
//! (refusals, who may call) is added in one place, so that none can lack it.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder, Responses,
    header::HeaderBuilder,
    path::{Operation, Parameter, ParameterIn, PathItem},
    schema::{ObjectBuilder, Type},
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::{Problem, extract::NoQuery};

/// When a refusal can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    Secured,
    /// The path names something.
    Named,
    Conditional,
    Idempotent,
    Body,
    Json,
}

/// Refusals of all operations: name, status, when, why.
const REFUSALS: [(&str, StatusCode, When, &str); 10] = [
    (
        "BadRequest",
        StatusCode::BAD_REQUEST,
        When::Always,
        "Path, query, headers or JSON can't be read; nothing unknown is passed over.",
    ),
    ("Unauthorized", StatusCode::UNAUTHORIZED, When::Secured, "No valid token, or no valid signature."),
    ("Forbidden", StatusCode::FORBIDDEN, When::Secured, "The token lacks the scope, or the panel is switched off."),
    ("NotFound", StatusCode::NOT_FOUND, When::Named, "It is not there, or not for this caller."),
    (
        "Conflict",
        StatusCode::CONFLICT,
        When::Idempotent,
        "Refused as things stand, or a key that was used for something else.",
    ),
    (
        "PreconditionFailed",
        StatusCode::PRECONDITION_FAILED,
        When::Conditional,
        "It was changed meanwhile: read it again.",
    ),
    ("TooLarge", StatusCode::PAYLOAD_TOO_LARGE, When::Body, "The body is larger than 1 MiB (a plugin: 64 MiB)."),
    ("WrongContentType", StatusCode::UNSUPPORTED_MEDIA_TYPE, When::Json, "The body is not said to be JSON."),
    (
        "Unprocessable",
        StatusCode::UNPROCESSABLE_ENTITY,
        When::Body,
        "Content that can't be taken; `errors` names fields.",
    ),
    (
        "TooManyFailures",
        StatusCode::TOO_MANY_REQUESTS,
        When::Secured,
        "More than 20 failed attempts from this address in a minute.",
    ),
];

/// What stands before the routes.
pub(crate) fn opening() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Wharf")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A plugin host for billing panels. Panels post hooks in a form of their own, or say by `/v1/services` what \
             should be; admins manage the rest. Every refusal is `application/problem+json` with a stable `code`.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let tags = [
        ("hooks", "What panels post."),
        ("services", "Sold VMs, as they should be."),
        ("operations", "What is done about them."),
        ("events", "What happened, in order."),
        ("plugins", "Installed components."),
        ("admin", "Servers, images, plans, pools, zones, panels, hooks, grants, tokens; the audit log."),
        ("pauses", "What an admin holds back, and why."),
        ("jobs", "Scheduled work of the host itself."),
        ("host", "The host itself."),
    ];
    OpenApiBuilder::new()
        .info(info)
        .tags(Some(tags.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())))
        .build()
}

/// Adds what holds for all operations.
pub(crate) fn finish(mut document: OpenApi) -> OpenApi {
    let mut components = ComponentsBuilder::from(document.components.take().unwrap_or_default())
        .schema(Problem::name(), Problem::schema())
        .security_scheme(
            "token",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some(
                        "`wharf_<id>_<secret>`, as `wharf token create` shows it once. `admin` includes all other scopes.",
                    ))
                    .build(),
            ),
        )
        .security_scheme(
            "signature",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "webhook-signature",
                "Standard Webhooks: HMAC-SHA256 over `webhook-id`.`webhook-timestamp`.body with the panel's secret.",
            ))),
        );
    let mut schemas = Vec::new();
    <Problem as ToSchema>::schemas(&mut schemas);
    components = components.schemas_from_iter(schemas);
    for (name, _, _, why) in REFUSALS {
        let mut response = problem(why);
        if name == "TooManyFailures" {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
            let retry = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds.")).build();
            response = response.header("Retry-After", retry);
        }
        components = components.response(name, response.build());
    }
    components = components
        .response("Refused", problem("Any other refusal; `code` and `detail` say which, and what to do.").build());
    document.components = Some(components.build());
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            refuse(operation);
        }
    }
    document
}

fn problem(why: &str) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    ResponseBuilder::new().description(why).content("application/problem+json", content)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// The refusals that an operation can end in.
fn refuse(operation: &mut Operation) {
    let parameters: Vec<&Parameter> = operation
        .parameters
        .iter()
        .flatten()
        .filter_map(|p| match p {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        })
        .collect();
    let takes = |name: &str| parameters.iter().any(|p| p.name == name);
    let json = operation.request_body.as_ref().is_some_and(|body| match body {
        RefOr::T(body) => body.content.keys().all(|kind| kind == "application/json"),
        RefOr::Ref(_) => false,
    });
    let applies = |when: When| match when {
        When::Always => true,
        When::Secured => operation.security.is_some(),
        When::Named => parameters.iter().any(|p| p.parameter_in == ParameterIn::Path),
        When::Conditional => takes("If-Match"),
        When::Idempotent => takes("Idempotency-Key"),
        When::Body => operation.request_body.is_some(),
        When::Json => json,
    };
    let apply: Vec<_> = REFUSALS.into_iter().filter(|(_, _, when, _)| applies(*when)).collect();
    let Responses { responses, .. } = &mut operation.responses;
    // Refusals of its own that a route describes: their shape is that of all.
    for (_, response) in responses.iter_mut().filter(|(code, _)| code.starts_with('4')) {
        match response {
            RefOr::T(own) if own.content.is_empty() => *response = problem(&own.description.clone()).build().into(),
            RefOr::T(_) | RefOr::Ref(_) => {}
        }
    }
    for (name, status, _, _) in apply {
        let code = status.as_str().to_owned();
        responses.entry(code).or_insert_with(|| RefOr::Ref(Ref::from_response_name(name)));
    }
    responses.entry("default".to_owned()).or_insert_with(|| RefOr::Ref(Ref::from_response_name("Refused")));
}

/// The whole document.
pub fn document() -> OpenApi {
    finish(crate::routes().split_for_parts().1)
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "host", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value))
)]
pub async fn show(_: NoQuery) -> Response {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&document()).map(Bytes::from).unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}
