//! OpenTelemetry traces, if an admin has set `[traces]`: spans go to a collector as OTLP over HTTP.
//!
//! What is guaranteed: nothing waits for the collector. Spans queue up to [`QUEUE`]; what comes when it is full, and what the
//! collector does not take, is lost, and the log says so once, and again when it is over. The end of the host waits for
//! [`LAST`] at most. Only spans are sent, none of the lines of the log.
//!
//! An operation is one trace, and the trace's id is the operation's: its runs may be days and hosts apart, and whoever has
//! the one finds the other. See `host/engine/src/traces.rs` for the spans.

use std::{
    cell::Cell,
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use async_trait::async_trait;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
        TracerProvider,
    },
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SamplingDecision, SamplingResult,
        SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData, SpanExporter, SpanProcessor,
    },
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tracing_subscriber::{Layer, Registry, filter::filter_fn};
use wharf_model::TRACES;

use crate::config::TracesSection;

/// Spans that wait for the collector, those on their way included: some 10 MB.
const QUEUE: usize = 8_192;
/// Spans of one request.
const BATCH: usize = 512;
/// Between two requests, unless a batch is full before.
const EVERY: Duration = Duration::from_secs(2);
/// One request, with its repetitions.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What the end of the host waits for the last spans.
const LAST: Duration = Duration::from_secs(2);
/// More of an answer is not read.
const ANSWER_BYTES: usize = 64 * 1024;

/// The runs of an operation, beside the spans that are for traces only.
const RUN: &str = "run";
const OPERATION: &str = "operation";

/// A running exporter.
pub struct Traces {
    provider: SdkTracerProvider,
    losses: Arc<Losses>,
}

impl Traces {
    /// None if there is no collector. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `headers_file` can't be read or holds something else than headers.
    pub fn start(config: &TracesSection, host: &str, listen: &str) -> Result<Option<Self>> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let headers = config.headers_file.as_deref().map(headers).transpose()?.unwrap_or_default();
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("can't make a client for the collector of traces")?;
        let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let losses = Arc::new(Losses { endpoint: endpoint.clone(), ..Losses::default() });
        let sender = Sender { client, runtime: tokio::runtime::Handle::current(), losses: Arc::clone(&losses) };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(sender)
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_headers(HashMap::new())
            .build()
            .map_err(|e| anyhow!("`[traces]`: {e}"))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(EVERY)
            .build();
        let exporter = Counted { exporter, losses: Arc::clone(&losses) };
        let queue = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Bounded { queue, losses: Arc::clone(&losses) })
            .with_sampler(Share(config.sample))
            .with_id_generator(Ids::default())
            .with_resource(
                Resource::builder()
                    .with_service_name("wharf")
                    .with_attributes([
                        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                        KeyValue::new("service.instance.id", format!("{host}/{listen}")),
                        KeyValue::new("host.name", host.to_owned()),
                    ])
                    .build(),
            )
            .build();
        Ok(Some(Self { provider, losses }))
    }

    /// What is to be laid beside the log.
    pub fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        let spans = filter_fn(|what| {
            let run = what.name() == RUN && what.target().starts_with("wharf_engine");
            what.is_span() && (what.target() == TRACES || run)
        });
        tracing_opentelemetry::layer()
            .with_tracer(ByOperation(self.provider.tracer("wharf")))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_filter(spans)
            .boxed()
    }

    /// Sends what is left, if the collector takes it now.
    pub async fn finish(self) {
        let provider = self.provider;
        let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST)).await;
        let lost = self.losses.lost.load(Ordering::Relaxed) + self.losses.waiting.load(Ordering::Relaxed) as u64;
        if lost > 0 {
            tracing::warn!(lost, "spans were not delivered to the collector of traces while this host ran");
        }
    }
}

/// `Name: value` a line; empty lines and those that begin with `#` count for nothing.
fn headers(file: &Path) -> Result<HeaderMap> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("`traces.headers_file`: can't read {}", file.display()))?;
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let header = line.split_once(':').and_then(|(name, value)| {
            let value = HeaderValue::from_str(value.trim()).ok()?;
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        // The line itself is not shown: it holds a secret.
        let Some((name, mut value)) = header else {
            bail!("`traces.headers_file`: line {} of {} is no `Name: value`", number + 1, file.display());
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// What became of spans that did not reach the collector.
#[derive(Debug, Default)]
struct Losses {
    endpoint: String,
    /// Waiting or on their way.
    waiting: AtomicUsize,
    lost: AtomicU64,
    /// Why the last request failed, in the words of who sent it.
    reason: Mutex<String>,
    /// How many were lost when it was looked at last, and whether an admin was told that it does not work.
    told: Mutex<(u64, bool)>,
}

impl Losses {
    fn fail(&self, reason: String) -> HttpError {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&reason);
        reason.into()
    }

    /// After each batch: one line when it begins, one when it is over.
    fn tell(&self, delivered: bool) {
        let (lost, endpoint) = (self.lost.load(Ordering::Relaxed), &self.endpoint);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let more = lost > told.0;
        let why = if delivered {
            "it is slower than spans are made".to_owned()
        } else {
            self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        if more && !told.1 {
            tracing::warn!(endpoint, why, "the collector does not take all traces: spans are lost, nothing else is");
        } else if !more && delivered && told.1 {
            tracing::info!(endpoint, lost, "the collector takes traces again");
        }
        *told = (lost, more || told.1 && !delivered);
    }
}

/// Before the batches' own queue, so that it never overflows and every loss is counted.
#[derive(Debug)]
struct Bounded {
    queue: BatchSpanProcessor,
    losses: Arc<Losses>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.losses.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.losses.waiting.fetch_sub(1, Ordering::Relaxed);
            self.losses.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.queue.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts what the collector took and what it did not.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    losses: Arc<Losses>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let done = self.exporter.export(batch).await;
        self.losses.waiting.fetch_sub(spans, Ordering::Relaxed);
        if done.is_err() {
            self.losses.lost.fetch_add(spans as u64, Ordering::Relaxed);
        }
        self.losses.tell(done.is_ok());
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The host's own HTTP client. Batches are made on a thread without a runtime, so requests are handed to the host's.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
    losses: Arc<Losses>,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { send(&client, request).await }).await;
        let answer = sent.map_err(|_| "the host is stopping".to_owned()).and_then(|answer| answer);
        let answer = answer.map_err(|why| self.losses.fail(why))?;
        if !answer.status().is_success() {
            self.losses.fail(format!("it answers {}", answer.status()));
        }
        Ok(answer)
    }
}

/// What an answer says is not shown: it may repeat a header.
async fn send(client: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let request = request.try_into().map_err(|_| "the request can't be made".to_owned())?;
    let mut answer = client.execute(request).await.map_err(|e| reason(&e.without_url()))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| reason(&e.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES {
            return Err(format!("its answer has more than {ANSWER_BYTES} bytes"));
        }
    }
    *response.body_mut() = body.into();
    Ok(response)
}

/// The innermost cause says most: `connection refused`.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("it did not answer within {} s", TIMEOUT.as_secs());
    }
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Puts the spans of operations into the trace that has the operation's id.
#[derive(Debug)]
struct ByOperation(SdkTracer);

impl Tracer for ByOperation {
    type Span = Span;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Span {
        let ids = matches!(builder.name.as_ref(), OPERATION | RUN).then(|| ids_of(&builder)).flatten();
        match ids {
            Some(ids) if builder.name == OPERATION => {
                NEXT.set(Some(ids));
                let span = self.0.build_with_context(builder, &Context::new());
                NEXT.set(None);
                span
            }
            Some((trace, root)) => {
                let root = SpanContext::new(trace, root, TraceFlags::SAMPLED, true, TraceState::default());
                self.0.build_with_context(builder, &Context::new().with_remote_span_context(root))
            }
            None => self.0.build_with_context(builder, parent),
        }
    }
}

/// Of an operation: its trace, and the span that everything else in it is below.
fn ids_of(builder: &SpanBuilder) -> Option<(TraceId, SpanId)> {
    let operation = builder.attributes.as_ref()?.iter().find(|a| a.key.as_str() == OPERATION)?;
    let hex = operation.value.as_str().replace('-', "");
    Some((TraceId::from_hex(&hex).ok()?, SpanId::from_hex(hex.get(16..)?).ok()?))
}

thread_local! {
    /// What the next span gets that is made on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// The share of traces that is sent. It looks at nothing but the trace's id, so all hosts say the same of all its spans.
#[derive(Debug, Clone)]
struct Share(f64);

impl Share {
    fn takes(&self, trace: TraceId) -> bool {
        // The last 32 bits are random in an operation's id, too: before them stand its time, its version and a counter.
        const BITS: u32 = 32;
        let random = u128::from_be_bytes(trace.to_bytes()) & ((1 << BITS) - 1);
        (random as f64) < self.0 * (1_u64 << BITS) as f64
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        _: Option<&Context>,
        trace: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let decision = if self.takes(trace) { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_true_of_operations_and_of_everything_else() {
        let random = RandomIdGenerator::default();
        for share in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let ids: [&dyn Fn() -> TraceId; 2] =
                [&|| random.new_trace_id(), &|| TraceId::from(uuid::Uuid::now_v7().as_u128())];
            for new in ids {
                let taken = (0..10_000).filter(|_| Share(share).takes(new())).count() as f64 / 10_000.0;
                assert!((taken - share).abs() < 0.03, "{share}: {taken}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn more_spans_than_a_silent_collector_takes_are_counted_and_wait_for_nothing() {
        use tracing_subscriber::layer::SubscriberExt;
        const SPANS: u64 = 3 * QUEUE as u64;
        let _ = rustls::crypto::ring::default_provider().install_default();
        // It takes connections, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
        let config = TracesSection { endpoint, ..TracesSection::default() };
        let traces = Traces::start(&config, "machine", "127.0.0.1:0").unwrap().unwrap();
        let begun = std::time::Instant::now();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(vec![traces.layer()]), || {
            for n in 0..SPANS {
                tracing::info_span!(target: TRACES, "one of many", n);
            }
        });
        // The first request is given up after five seconds.
        assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
        let (waiting, lost) =
            (traces.losses.waiting.load(Ordering::Relaxed), traces.losses.lost.load(Ordering::Relaxed));
        assert!(waiting <= QUEUE && waiting as u64 + lost == SPANS, "{waiting} wait, {lost} are lost");
        let begun = std::time::Instant::now();
        traces.finish().await;
        assert!(begun.elapsed() < LAST + Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    #[test]
    fn headers_are_read_and_a_wrong_line_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("headers");
        std::fs::write(&file, "# of the collector\nAuthorization: Bearer s3cret:x\n\nX-Tenant:7\n").unwrap();
        let read = headers(&file).unwrap();
        assert_eq!(
            (read["authorization"].to_str().unwrap(), read["x-tenant"].to_str().unwrap()),
            ("Bearer s3cret:x", "7")
        );
        assert!(!format!("{read:?}").contains("s3cret"));
        std::fs::write(&file, "X-Tenant: 7\ns3cret\n").unwrap();
        let text = format!("{:#}", headers(&file).unwrap_err());
        assert!(text.contains("line 2") && !text.contains("s3cret"), "{text}");
        let text = format!("{:#}", headers(&dir.path().join("none")).unwrap_err());
        assert!(text.contains("headers_file") && text.contains("none"), "{text}");
    }
}
