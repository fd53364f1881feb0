//! Refusals: RFC 9457, with a stable code, and each wrong field with its remedy.
//!
//! What can't be read is not repeated in a refusal: it could be a secret in the wrong place.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use wharf_engine::wish::WishError;
use wharf_store::StoreError;

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where it stands: `urls[0]`, `settings/api-key`.
    pub field: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:wharf:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[serde(serialize_with = "number")]
    #[schema(value_type = u16)]
    status: StatusCode,
    /// One plain sentence.
    pub detail: String,
    /// Stable, in kebab-case.
    pub code: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// Seconds, for the header `Retry-After`.
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:wharf:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    pub fn bad(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {what}"))
    }

    /// Content that can't be taken as it is: field and remedy of each error.
    pub fn fields(errors: Vec<(String, String)>) -> Self {
        let detail = errors.iter().map(|(f, m)| format!("{f}: {m}")).collect::<Vec<_>>().join("; ");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "fields", detail).naming(errors)
    }

    /// One wrong field of the content.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::fields(vec![(field.to_owned(), message.into())])
    }

    /// The same, with the fields that it is about.
    #[must_use]
    pub fn naming(mut self, errors: Vec<(String, String)>) -> Self {
        self.errors = errors.into_iter().map(|(field, message)| FieldError { field, message }).collect();
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // What the client goes on sending is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(text) => Self::new(StatusCode::CONFLICT, "conflict", text),
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::EventsGone { upto } => Self::new(
                StatusCode::GONE,
                "events-gone",
                format!(
                    "events up to {upto} are no longer kept, and some that were never read are among them: read the services as \
                     they are now (GET /v1/services), then go on with after={upto}"
                ),
            ),
            other => {
                tracing::error!(error = %other, "the books failed a request");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "books",
                    "the host's books can't be used right now: try again",
                )
                .retry_after(2)
            }
        }
    }
}

impl From<WishError> for Problem {
    fn from(error: WishError) -> Self {
        match error {
            WishError::Fields(fields) => Self::fields(fields.into_iter().map(|f| (f.field, f.message)).collect()),
            WishError::Refused { code, message } => Self::new(StatusCode::CONFLICT, &code, message),
            WishError::NoService => Self::not_found("such service"),
            WishError::KeyReused => Self::new(StatusCode::CONFLICT, "key-reused", error.to_string()),
            WishError::Store(error) => error.into(),
        }
    }
}
