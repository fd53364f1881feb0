//! A collector of traces: takes OTLP over HTTP (protobuf) and keeps what came.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::status::StatusCode as SpanStatus,
};
use prost::Message;
use serde_json::{Map, Value, json};

/// A span as it came. Ids are hex.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty: none.
    pub parent: String,
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer.
    pub kind: i32,
    pub failed: bool,
    pub attributes: Map<String, Value>,
    /// Traces that it points at.
    pub links: Vec<String>,
    /// Lines of logs that it carries.
    pub events: usize,
    pub nanoseconds: u64,
}

/// What came.
#[derive(Debug, Clone, Default)]
pub struct Got {
    pub spans: Vec<Span>,
    /// Who sends.
    pub resource: Map<String, Value>,
    pub bodies: Vec<Vec<u8>>,
    pub headers: Vec<HeaderMap>,
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    pub url: String,
    got: Arc<Mutex<Got>>,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    /// Listens on this port; 0 = any that is free.
    pub async fn start(port: u16) -> Result<Self> {
        let got = Arc::new(Mutex::new(Got::default()));
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&got));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { url, got, task })
    }

    pub fn got(&self) -> Got {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(got): State<Arc<Mutex<Got>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else { return StatusCode::BAD_REQUEST };
    let mut got = got.lock().unwrap_or_else(PoisonError::into_inner);
    got.headers.push(headers);
    got.bodies.push(body.to_vec());
    for of_host in request.resource_spans {
        got.resource = of_host.resource.map(|r| attributes(r.attributes)).unwrap_or_default();
        for span in of_host.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            got.spans.push(Span {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                name: span.name,
                kind: span.kind,
                failed: span.status.is_some_and(|status| status.code() == SpanStatus::Error),
                attributes: attributes(span.attributes),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                events: span.events.len(),
                nanoseconds: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
            });
        }
    }
    StatusCode::OK
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn attributes(all: Vec<KeyValue>) -> Map<String, Value> {
    let value = |value: any_value::Value| match value {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::BoolValue(yes) => json!(yes),
        any_value::Value::IntValue(number) => json!(number),
        any_value::Value::DoubleValue(number) => json!(number),
        other => json!(format!("{other:?}")),
    };
    let all: BTreeMap<String, Value> =
        all.into_iter().map(|a| (a.key, a.value.and_then(|v| v.value).map_or(Value::Null, value))).collect();
    all.into_iter().collect()
}
