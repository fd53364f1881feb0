//! Path, query and body of a request, read strictly; what is wrong with them as [`Problem`], naming the field.
//!
//! Guarantees that nothing unknown is passed over silently (parameters, fields), and that no value of a body stands in a
//! refusal. Bounded by the body limit of the route.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::Problem;

/// Parameters of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        use axum::extract::{
            path::ErrorKind,
            rejection::PathRejection::{self, FailedToDeserializePathParams},
        };
        let rejection: PathRejection = match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => return Ok(Self(value)),
            Err(rejection) => rejection,
        };
        let field = match &rejection {
            FailedToDeserializePathParams(failed) => match failed.kind() {
                ErrorKind::ParseErrorAtKey { key, .. }
                | ErrorKind::InvalidUtf8InPathParam { key }
                | ErrorKind::DeserializeError { key, .. } => key.clone(),
                // The only single parameters that aren't texts are ids.
                _ => "id".to_owned(),
            },
            _ => "path".to_owned(),
        };
        let message = "can't be read: an id of an operation is a UUID, and everything in a path is UTF-8";
        Err(Problem::bad("path", format!("{field}: {message}")).naming(vec![(field, message.to_owned())]))
    }
}

/// Parameters of the query, all of them known.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // An absent query is an empty one.
        let text = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(text.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Self).map_err(|e| {
            let (field, message) = said(&e.path().to_string(), &e.inner().to_string());
            Problem::bad("query", format!("{field}: {message}")).naming(vec![(field, message)])
        })
    }
}

/// For routes that take no parameters: none may be given.
#[derive(Debug)]
pub struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        Query::<Nothing>::from_request_parts(parts, state).await.map(|_| Self)
    }
}

/// A body of JSON, every field of it known.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonBytes(bytes) = JsonBytes::from_request(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// A body that says it is JSON, for handlers that know its type only later.
#[derive(Debug)]
pub struct JsonBytes(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let text = "the body must be JSON: send it with `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", text)
                .naming(vec![("Content-Type".to_owned(), "must be application/json".to_owned())]));
        }
        Raw::from_request(request, state).await.map(|Raw(bytes)| Self(bytes))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(text) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A body as it came.
#[derive(Debug)]
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(|e: BytesRejection| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_large(),
            status => Problem::new(status, "body", "the body broke off: send it again"),
        })
    }
}

/// The body is larger than its route takes.
pub fn too_large() -> Problem {
    let text = format!(
        "the body is too large: at most {} KiB, for plugins {} MiB",
        crate::BODY_BYTES / 1024,
        crate::COMPONENT_BYTES / 1024 / 1024
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", text)
}

/// A JSON object of this type.
///
/// # Errors
/// 400 `json` if it is no JSON, 422 `fields` if a field is wrong, missing or unknown.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A list would be taken for an object by the order of its fields.
    let is_list = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if is_list {
        return Err(Problem::field("body", "must be an object: `{…}`"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let inner = e.inner();
        if inner.is_data() {
            let text = inner.to_string();
            // The place follows from the path.
            let text = text.rfind(" at line ").and_then(|at| text.get(..at)).unwrap_or(&text);
            let (field, message) = said(&e.path().to_string(), text);
            Problem::field(&field, message)
        } else {
            syntax(inner)
        }
    })?;
    reader.end().map_err(|e| syntax(&e))?;
    Ok(value)
}

fn syntax(error: &serde_json::Error) -> Problem {
    let text = format!("the body is no JSON: look at line {}, column {}", error.line(), error.column());
    Problem::bad("json", text)
}

/// Field and remedy, from what serde says of it; without the value.
fn said(path: &str, text: &str) -> (String, String) {
    let path = if path == "." { "" } else { path };
    let quoted = || text.split('`').nth(1).unwrap_or_default();
    let (_, expected) = text.rsplit_once("expected ").unwrap_or(("", ""));
    let or_body = |path: &str| if path.is_empty() { "body".to_owned() } else { path.to_owned() };
    if text.starts_with("unknown field") {
        // The path may or may not end with the field itself.
        let field = quoted();
        let at = match path.strip_suffix(field) {
            Some(_) => path.to_owned(),
            None if path.is_empty() => field.to_owned(),
            None => format!("{path}.{field}"),
        };
        let known = if expected.is_empty() || text.contains("there are no fields") {
            "nothing is known there: leave it out".to_owned()
        } else {
            format!("is not known here: leave it out, or use {expected}")
        };
        return (at, known);
    }
    if text.starts_with("missing field") {
        let field = quoted();
        let at = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        return (at, "is missing: give it a value".to_owned());
    }
    if text.starts_with("duplicate field") {
        let field = quoted();
        let at = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        return (at, "is given twice: give it once".to_owned());
    }
    if text.starts_with("unknown variant") {
        return (or_body(path), format!("is not known: use {expected}"));
    }
    if text.starts_with("invalid type") || text.starts_with("invalid value") || text.starts_with("invalid length") {
        return (or_body(path), format!("must be {}", plain(expected)));
    }
    let message = match text {
        "invalid IP address syntax" => "must be an IPv4 or IPv6 address".to_owned(),
        _ if text.starts_with("UUID parsing failed") => "must be a UUID".to_owned(),
        _ if text.contains("invalid digit") || text.contains("number too") || text.contains("cannot parse integer") => {
            "must be a whole number within its limits".to_owned()
        }
        // What a type says of its own accord may quote the value.
        _ => "can't be read: see its description in /v1/openapi.json".to_owned(),
    };
    (or_body(path), message)
}

/// The expectation of serde in everybody's words.
fn plain(expected: &str) -> String {
    match expected {
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "string" => "a text".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "i64" => "a whole number".to_owned(),
        "IP address" | "IPv4 address" | "IPv6 address" => "an IPv4 or IPv6 address".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only parsed")]
    struct Outer {
        urls: Vec<String>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        address: Option<std::net::IpAddr>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only parsed")]
    struct Inner {
        vmid: u32,
    }

    fn refused(text: &str) -> (u16, String, String) {
        let problem = parse::<Outer>(text.as_bytes()).unwrap_err();
        let said = serde_json::to_string(&problem).unwrap();
        assert!(!said.contains("marked"), "a value is repeated: {said}");
        let field = problem.errors.first().map(|e| e.field.clone()).unwrap_or_default();
        (problem.status().as_u16(), field, problem.detail)
    }

    #[test]
    fn each_wrong_field_is_named_with_its_remedy_and_never_its_value() {
        let cases = [
            (r#"{"urls": [], "extra": "marked"}"#, 422, "extra", "one of `urls`, `inner`, `address`"),
            (r#"{"urls": "marked"}"#, 422, "urls", "must be a list"),
            (r#"{"urls": ["a", 5]}"#, 422, "urls[1]", "must be a text"),
            (r#"{}"#, 422, "urls", "give it a value"),
            (r#"{"urls": [], "inner": {}}"#, 422, "inner.vmid", "give it a value"),
            (r#"{"urls": [], "inner": {"vmid": "marked"}}"#, 422, "inner.vmid", "from 0 to 4294967295"),
            (r#"{"urls": [], "inner": {"vmid": 1, "x": 1}}"#, 422, "inner.x", "use `vmid`"),
            (r#"{"urls": [], "inner": "marked"}"#, 422, "inner", "must be an object"),
            (r#"{"urls": [], "address": "marked"}"#, 422, "address", "IPv4 or IPv6"),
            (r#"{"urls": [], "urls": []}"#, 422, "urls", "twice"),
            (r#"[["marked"]]"#, 422, "body", "must be an object"),
            (r#""marked""#, 422, "body", "must be an object"),
            ("{\"urls\":\n [marked]}", 400, "", "line 2, column"),
            ("", 400, "", "line 1"),
            (r#"{"urls": []} x"#, 400, "", "line 1, column 14"),
        ];
        for (text, status, field, remedy) in cases {
            let (seen, at, detail) = refused(text);
            assert!(seen == status && at == field && detail.contains(remedy), "{text}: {seen} {at}: {detail}");
        }
    }
}
