//! `GET /metrics`: Prometheus text.
//!
//! Counters and histograms are recorded where things happen; what is a matter of the books (operations, services, queues) is
//! asked of them at each scrape, by counting queries only. Labels are bounded: routes, statuses, names that admins gave. None is
//! called `job` or `instance`: Prometheus gives those to each target, and renames ours where they clash.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use wharf_model::{job::Job, object::ObjectKind, service::Phase};

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::NoQuery,
};

/// Upper ends of the histograms' buckets, in seconds: from a plugin's call (17 µs) to a held-back answer (30 s).
const BUCKETS: [f64; 15] =
    [0.000_05, 0.000_2, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// How often samples are folded into their buckets when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of this process, to be rendered.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    /// Labels that were shown once: what is gone is zero, not frozen.
    shown: Arc<Mutex<BTreeSet<(&'static str, String)>>>,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// A recorder, and how it is shown.
    ///
    /// # Errors
    /// None that depends on the caller.
    pub fn build() -> Result<(PrometheusRecorder, Self), BuildError> {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.build_recorder();
        metrics::with_local_recorder(&recorder, describe);
        let exporter = Self { handle: recorder.handle(), shown: Arc::default() };
        Ok((recorder, exporter))
    }

    /// Makes a recorder that of this process; must be called within a tokio runtime.
    ///
    /// # Errors
    /// There is one already.
    pub fn install() -> Result<Self, BuildError> {
        let (recorder, exporter) = Self::build()?;
        metrics::set_global_recorder(recorder)?;
        let handle = exporter.handle.clone();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(UPKEEP);
            loop {
                every.tick().await;
                handle.run_upkeep();
            }
        });
        Ok(exporter)
    }

    fn set(&self, name: &'static str, label: &'static str, values: impl IntoIterator<Item = (String, f64)>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone: BTreeSet<String> = shown.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.clone()).collect();
        for (value, number) in values {
            gone.remove(&value);
            shown.insert((name, value.clone()));
            gauge!(name, label => value).set(number);
        }
        for value in gone {
            gauge!(name, label => value).set(0.0);
        }
    }
}

fn describe() {
    describe_counter!("wharf_http_requests_total", "Requests by route, method and status.");
    describe_histogram!("wharf_http_request_seconds", "Time until the head of the answer, by route and method.");
    describe_counter!("wharf_hooks_total", "Authenticated hooks by panel, and whether they were accepted.");
    describe_counter!("wharf_authentication_failures_total", "Requests whose token or signature was wrong.");
    describe_counter!("wharf_plugin_calls_total", "Calls into plugins by export and outcome.");
    describe_histogram!("wharf_plugin_call_seconds", "Time of calls into plugins.");
    describe_gauge!("wharf_plugin_stores", "Wasm stores that are alive.");
    describe_gauge!("wharf_plugin_stores_most", "The most wasm stores that were ever alive at once.");
    describe_gauge!("wharf_plugin_stores_limit", "The most wasm stores that may be alive at once.");
    describe_gauge!("wharf_operations", "Operations that are not over, by what they do; and those that need an admin.");
    describe_gauge!("wharf_effects_sent", "Writes to servers that are on their way or in doubt.");
    describe_gauge!("wharf_deliveries_waiting", "Events that a hook has still to be told of.");
    describe_gauge!("wharf_records_open", "DNS records that are not yet as they should be: waiting, or failed.");
    describe_gauge!("wharf_services", "Services by phase.");
    describe_gauge!("wharf_oldest_due_seconds", "How long the oldest work of a queue has been due; 0 = none is.");
    describe_gauge!("wharf_slots_held", "Slots of servers that operations hold, by pool.");
    describe_gauge!("wharf_tasks_running", "Tasks that run on servers, by server.");
    describe_gauge!("wharf_job_last_ok_age_seconds", "How long ago a job ended well, or was declared if it never did.");
    describe_gauge!("wharf_job_stale", "1 if a job has gone without a good end for too long.");
    describe_gauge!("wharf_job_took_over", "Runs of a job whose process died.");
    describe_gauge!("wharf_job_findings", "What a job found that does not agree with the books.");
    describe_gauge!("wharf_pauses", "Pauses that hold something back.");
    describe_gauge!("wharf_zones_parked", "Zones that refused their credentials: nothing is sent for them.");
    describe_gauge!("wharf_servers_parked", "Servers that refused their token to this process.");
    describe_gauge!("wharf_reconcile", "1 while restored books wait to be reconciled.");
    describe_gauge!("wharf_build_info", "1, with the version.");
    describe_gauge!("process_resident_memory_bytes", "Resident memory.");
}

/// Whoever may look: with `metrics_open`, everybody.
#[derive(Debug)]
pub struct MayLook;

impl FromRequestParts<Api> for MayLook {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        if !api.settings.metrics_open {
            Allowed::<scope::MetricsRead>::from_request_parts(parts, api).await?;
        }
        Ok(Self)
    }
}

/// Metrics as Prometheus text. The setting `metrics_open` lets everybody read them.
#[utoipa::path(
    get, path = "/metrics", tag = "host", operation_id = "metrics",
    security(("token" = ["metrics:read"])),
    responses((status = 200, description = "Prometheus text format 0.0.4.", body = String, content_type = "text/plain"))
)]
pub async fn show(_: MayLook, State(api): State<Api>, _: NoQuery) -> Result<Response, Problem> {
    let Some(exporter) = &api.settings.metrics else {
        return Err(Problem::not_found("metrics: this process records none"));
    };
    measure(&api, exporter).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exporter.handle.render()).into_response())
}

/// Numbers of rows are far below 2^52, where `f64` begins to round.
#[allow(clippy::cast_precision_loss, reason = "see above")]
fn number(n: i64) -> f64 {
    n as f64
}

async fn measure(api: &Api, exporter: &Exporter) -> Result<(), Problem> {
    let books = &api.lender.books;
    let now = api.lender.clock.now_ms();

    let counts = books.queue_counts().await?;
    let waiting = (counts.live - counts.claimed - counts.parked).max(0);
    let operations = [
        ("claimed", counts.claimed),
        ("parked", counts.parked),
        ("waiting", waiting),
        ("needs-admin", counts.needs_admin),
    ];
    exporter.set("wharf_operations", "status", operations.map(|(k, n)| (k.to_owned(), number(n))));
    gauge!("wharf_effects_sent").set(number(counts.sent));
    gauge!("wharf_deliveries_waiting").set(number(counts.deliveries));
    let settled = counts.records - counts.records_failed;
    let records = [("waiting", settled), ("failed", counts.records_failed)];
    exporter.set("wharf_records_open", "state", records.map(|(k, n)| (k.to_owned(), number(n))));

    let restored = books.meta(wharf_store::tables::RECONCILE).await?.is_some();
    gauge!("wharf_reconcile").set(if restored { 1.0 } else { 0.0 });

    let phases = books.phase_counts().await?;
    let phases = Phase::ALL.map(|p| {
        let n = phases.get(p.as_str()).copied().unwrap_or_default();
        (p.as_str().to_owned(), number(n))
    });
    exporter.set("wharf_services", "phase", phases);

    let due = [
        ("operations", books.next_due().await?),
        ("dns", books.next_dns_due().await?),
        ("deliveries", books.next_delivery_due().await?),
    ];
    let ages = due.map(|(queue, at)| {
        let age = at.map_or(0, |at| (now - at).max(0));
        (queue.to_owned(), number(age) / 1_000.0)
    });
    exporter.set("wharf_oldest_due_seconds", "queue", ages);

    let held = books.slots().await?.into_iter().map(|(pool, holders)| (pool, number(len(&holders))));
    exporter.set("wharf_slots_held", "pool", held);

    let mut running = Vec::new();
    for server in books.servers_with_tasks().await? {
        let tasks = books.issued_tasks(&server).await?;
        running.push((server, number(len(&tasks))));
    }
    exporter.set("wharf_tasks_running", "server", running);

    let jobs = books.jobs().await?;
    let each = |of: &dyn Fn(&Job) -> i64| jobs.iter().map(|j| (j.name.clone(), number(of(j)))).collect::<Vec<_>>();
    let ages = jobs.iter().map(|job| {
        let age = now - job.last_ok_ms.unwrap_or(job.declared_ms);
        (job.name.clone(), number(age.max(0)) / 1_000.0)
    });
    exporter.set("wharf_job_last_ok_age_seconds", "name", ages);
    exporter.set("wharf_job_stale", "name", each(&|j| i64::from(j.is_stale(now))));
    exporter.set("wharf_job_took_over", "name", each(&|j| j.took_over));
    let findings = jobs.iter().filter_map(|job| {
        let found = job.last_result.as_ref()?;
        let more = found.get("more")?.as_i64()?;
        Some((job.name.clone(), number(len(found.get("findings")?.as_array()?).saturating_add(more))))
    });
    exporter.set("wharf_job_findings", "name", findings);
    gauge!("wharf_pauses").set(number(len(&books.objects(ObjectKind::Pause).await?)));
    let mut zones = books.objects(ObjectKind::Zone).await?;
    zones.retain(|zone| zone.body.get("parked").is_some_and(|parked| !parked.is_null()));
    gauge!("wharf_zones_parked").set(number(len(&zones)));
    gauge!("wharf_servers_parked").set(number(len(&api.lender.servers.all_parked())));

    gauge!("wharf_plugin_stores").set(api.runtime.in_use());
    gauge!("wharf_plugin_stores_most").set(api.runtime.max_in_use());
    gauge!("wharf_plugin_stores_limit").set(api.settings.plugin_slots);
    gauge!("wharf_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Some(bytes) = resident_memory() {
        gauge!("process_resident_memory_bytes").set(number(bytes));
    }
    Ok(())
}

fn len<T>(list: &[T]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

/// From `/proc`; none where there is none.
fn resident_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok().map(|kib| kib * 1_024)
}

/// Counts each request under its route.
pub async fn count(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "PUT" | "POST" | "DELETE" | "OPTIONS" | "PATCH") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    histogram!("wharf_http_request_seconds", "path" => path.clone(), "method" => method.clone())
        .record(begun.elapsed().as_secs_f64());
    counter!("wharf_http_requests_total", "path" => path, "method" => method, "status" => status).increment(1);
    response
}
