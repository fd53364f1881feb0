//! One call into a plugin, from the permit to the answer.
//!
//! Guarantees a fresh store for every call, dropped whatever happens; that the call ends within its wall-clock budget
//! (measured outside of it, by the async runtime's clock, so that virtual time holds here too) and within its CPU budget
//! (measured in epochs, real time, so that an endless loop ends even where the clock stands still); and that a full pool is
//! waited for, never an error. What a call leaves behind is its answer and its [`CallState`].

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Instrument;
use wasmtime::{Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace, component::Instance};
use wharf_capabilities::call::{Bound, CallState, Caller, LogLine};
use wharf_model::{TRACES, object::Grant};
use wharf_store::StoreError;

use crate::{
    config::RuntimeConfig,
    engine::TICK,
    registry::{Exports, Loaded, Plugin},
    report::{CallError, Cause, Used},
    runtime::Runtime,
    state::{Denied, Limiter, StoreData},
    text,
};

/// What is done with an instance.
pub(crate) type Job<R> = Box<
    dyn for<'a> FnOnce(
            &'a mut Store<StoreData>,
            &'a Instance,
            &'a Exports,
        ) -> Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>
        + Send,
>;

/// A version chosen for a call, with what it is called under.
#[derive(Clone)]
pub(crate) struct Callee {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) loaded: Arc<Loaded>,
}

/// A call that gave an answer.
pub(crate) struct Done<R> {
    pub(crate) answer: R,
    pub(crate) call: CallState,
    pub(crate) took: Duration,
    pub(crate) used: Used,
}

impl<R> Done<R> {
    pub(crate) fn log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.call.log.lines)
    }
}

impl Runtime {
    /// Calls a plugin: waits for a store, instantiates, does `job`, all under limits.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        callee: &Callee,
        bound: Bound,
        export: &'static str,
        job: Job<R>,
    ) -> Result<Done<R>, CallError> {
        // Its own share first: a plugin that waits for itself must not hold a place that others could have.
        let share = callee.plugin.share.clone().acquire_owned().await;
        let slot = self.slots.acquire().await;
        if share.is_err() || slot.is_err() {
            return Err(host_error("the runtime is being shut down".to_owned()));
        }
        let result = self.run(&callee.loaded, callee.plugin.grant.clone(), bound, export, job).await;
        // Both are held until the store is gone.
        drop((share, slot));
        result
    }

    /// As [`Self::call`], for who holds a place already or warms a version that nobody else calls yet.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        loaded: &Arc<Loaded>,
        grant: Arc<Grant>,
        bound: Bound,
        export: &'static str,
        job: Job<R>,
    ) -> Result<Done<R>, CallError> {
        let wanted = &loaded.manifest.limits;
        let budget = self.config.time_for(wanted.call_ms);
        let began = Instant::now();
        let caller = Caller {
            id: loaded.row.id.clone(),
            version: loaded.row.version.clone(),
            manifest: loaded.manifest.clone(),
            grant,
        };
        let mut table = wasmtime::component::ResourceTable::new();
        table.set_max_capacity(usize::try_from(self.config.handles).unwrap_or(usize::MAX));
        let call = CallState {
            table,
            caller,
            lender: self.lender.clone(),
            bound,
            log: Default::default(),
            meter: Default::default(),
            deadline: began + budget,
            began,
        };
        let limiter = Limiter::new(self.config.memory_for(wanted.memory_mib), self.config.table_elements);
        let mut store = Store::new(&self.engine, StoreData::new(call, limiter, self.census.enter()));
        metrics::gauge!("wharf_plugin_stores").set(self.census.now());
        bound_store(&mut store, &self.config, budget);

        let span = tracing::info_span!(
            target: TRACES,
            "plugin",
            otel.name = format!("{} {export}", loaded.row.id),
            plugin = loaded.row.id,
            version = %loaded.row.version,
            export,
            outcome = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        let result = tokio::time::timeout(
            budget,
            async {
                let instance = loaded.pre.instantiate_async(&mut store).await?;
                job(&mut store, &instance, &loaded.exports).await
            }
            .instrument(span.clone()),
        )
        .await;
        let took = began.elapsed();
        let mut data = store.into_data();
        let result = match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(explain(&error, &mut data)),
            Err(_) => Err((Cause::Timeout, format!("it did not answer within {} ms", budget.as_millis()))),
        };
        let outcome = result.as_ref().map_or_else(|(cause, _)| cause.as_str(), |_| "ok");
        span.record("outcome", outcome);
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        let id = data.call.caller.id.clone();
        metrics::counter!("wharf_plugin_calls_total", "plugin" => id.clone(), "export" => export, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("wharf_plugin_call_seconds", "plugin" => id.clone(), "export" => export)
            .record(took.as_secs_f64());
        tracing::debug!(
            plugin = %id, version = %loaded.row.version, export, outcome, took_us = took.as_micros(),
            memory = data.limiter.memory(), host_calls = data.call.meter.calls, requests = data.call.meter.requests,
            "called a plugin"
        );
        let used = Used {
            cpu: TICK.saturating_mul(u32::try_from(data.ticks).unwrap_or(u32::MAX)),
            memory: data.limiter.memory() as u64,
            host_calls: data.call.meter.calls,
            bytes: data.call.meter.bytes,
            requests: data.call.meter.requests,
        };
        match result {
            Ok(answer) => Ok(Done { answer, call: data.call, took, used }),
            Err((cause, why)) => {
                let version = loaded.row.version.clone();
                let text = format!("`{id}` {version} failed in `{export}`: {why}{}", last_words(&data));
                let text = text::cut(&text, text::MESSAGE);
                Err(CallError { cause, version: Some(version), text, log: data.call.log.lines, used })
            }
        }
    }
}

pub(crate) fn host_error(text: String) -> CallError {
    CallError { cause: Cause::Host, version: None, text, log: Vec::new(), used: Used::default() }
}

/// Sets every limit that a store itself enforces.
fn bound_store(store: &mut Store<StoreData>, config: &RuntimeConfig, budget: Duration) {
    store.limiter(|data| &mut data.limiter);
    store.set_hostcall_fuel(usize::try_from(config.host_call_bytes).unwrap_or(usize::MAX));
    store.set_max_component_handles(usize::try_from(config.handles).unwrap_or(usize::MAX));
    // A guest that computes all the time is found running at every tick. One second more than the wall clock allows, so
    // that this is what ends a call only where the wall clock can't.
    let ticks = budget.saturating_add(Duration::from_secs(1)).as_millis() / TICK.as_millis().max(1);
    let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
    let (bytes, calls, requests) = (config.total_bytes, config.host_calls, config.requests);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |mut context: StoreContextMut<'_, StoreData>| {
        let data = context.data_mut();
        data.ticks += 1;
        let meter = data.call.meter;
        data.stopped = if data.ticks > ticks {
            Some((Cause::Timeout, format!("it computed for more than {} ms without an answer", budget.as_millis())))
        } else if meter.bytes > bytes {
            Some((Cause::Limit, format!("it moved more than {} in and out of the host", text::size(bytes))))
        } else if meter.calls > calls {
            Some((Cause::Limit, format!("it called the host more than {calls} times")))
        } else if meter.requests > requests {
            Some((Cause::Limit, format!("it made more than {requests} requests")))
        } else {
            None
        };
        Ok(if data.stopped.is_some() {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
        })
    });
}

/// What an error of wasmtime means.
fn explain(error: &wasmtime::Error, data: &mut StoreData) -> (Cause, String) {
    if let Some(stopped) = data.stopped.take() {
        return stopped;
    }
    match data.limiter.denied {
        Some(Denied::Memory { asked }) => {
            return (
                Cause::Memory,
                format!(
                    "it asked for {} of memory, and a call of it may have {}: raise `limits.memory_mib` in its manifest, or mend it",
                    text::size(asked as u64),
                    text::size(data.limiter.memory_limit() as u64)
                ),
            );
        }
        Some(Denied::Table { asked }) => {
            return (Cause::Limit, format!("it asked for tables of {asked} elements, more than a call may have"));
        }
        None => {}
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return (Cause::Host, error.to_string());
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return (Cause::Host, format!("the pool of stores is too small for it: {error}"));
    }
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return (Cause::Trap, format!("trap: {trap}{frames}"));
    }
    let whole = format!("{error:#}");
    let limits = [
        ("too much data is being copied", "it handed over more at once than a call may carry"),
        // Of the table of host resources, and of the component's own.
        ("resource table has no free keys", "it holds more handles than a call may have"),
        ("cannot allocate another handle", "it holds more handles than a call may have"),
    ];
    for (sign, sentence) in limits {
        if whole.contains(sign) {
            return (Cause::Limit, sentence.to_owned());
        }
    }
    // The chain without the backtrace, which wasmtime puts in as a context of many lines.
    let chain: Vec<_> =
        error.chain().map(ToString::to_string).filter(|e| !e.starts_with("error while executing at wasm")).collect();
    (Cause::Trap, format!("{}{frames}", text::cut(&chain.join(": "), 1024)))
}

/// The innermost functions. wasmtime demangles names only where it prints a whole backtrace (`0: 0x1f - module!name`).
fn frames(backtrace: &WasmBacktrace) -> String {
    let printed = backtrace.to_string();
    let names: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once('!'))
        .map(|(_, name)| text::cut(name.split("::h").next().unwrap_or(name), 120))
        .filter(|name| !name.starts_with('<') || name.contains("::"))
        .take(4)
        .collect();
    if names.is_empty() { String::new() } else { format!(" (in {})", names.join(" < ")) }
}

/// What the plugin said last before it failed: a panic's text arrives as a log line, Python's on stderr.
fn last_words(data: &StoreData) -> String {
    let line = data.call.log.lines.iter().rev().find(|l| l.level == "error").map(|l| l.message.clone());
    let said = line.unwrap_or_else(|| data.stderr());
    if said.is_empty() { String::new() } else { format!("; it said last: {}", text::cut(&said, 800)) }
}
