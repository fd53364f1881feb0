//! What a call of a plugin costs, by language: `normalize` of the DNS providers in Rust, JavaScript and Python, which asks
//! nothing of the host. A fresh store each time, under all limits, as production calls; beside it the same component by bare
//! wasmtime (instantiate, call, drop) without Wharf's limits, log and metrics.
//!
//! Each language in a process of its own, so that memory is that of one plugin. The JavaScript and Python providers hand back
//! what they got; the Rust one checks and canonicalises: their times are of the call, not of the same work.
//!
//! Load and first call are measured twice: with the compiled file out of the page cache, as after a boot, and in it. The file is
//! mapped, not read, so what a load leaves out the first call pays.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};
use wasmtime::{
    Engine, Store,
    component::{Component, ComponentExportIndex, InstancePre, Linker, ResourceTable, TypedFunc},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wharf_plugins::dns::{Capabilities, RrSet, Value as Content};

use super::Figure;
use crate::{Bench, lab, machine, report::Row, stats::Samples};

pub struct Calls;

#[async_trait(?Send)]
impl Figure for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn title(&self) -> &'static str {
        "A plugin call, by language"
    }

    async fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let rust = bench.plugins.join("dns-powerdns.wasm");
        let mut all = vec![("Rust", rust, bench.pick(50, 3_000, 20_000), 50.0, "< 50 µs")];
        // Compiling these takes seconds in a build that is not optimised.
        if bench.size != crate::Size::Smoke {
            let of = |id: &str| bench.plugins.join(format!("{id}.wasm"));
            all.push(("JavaScript", of("test-provider-js"), bench.pick(0, 500, 3_000), 1_000.0, "< 1 ms"));
            all.push(("Python", of("test-provider-python"), bench.pick(0, 300, 2_000), 2_000.0, "< 2 ms"));
        }
        let mut rows = Vec::new();
        for (language, component, calls, limit, goal) in all {
            if !component.exists() {
                let why = format!("{} is missing: run `cargo xtask plugins`", component.display());
                rows.push(Row::missing(language, why));
                continue;
            }
            rows.extend(measured(bench, language, &component, calls, limit, goal).await?);
        }
        Ok(rows)
    }
}

async fn measured(
    bench: &Bench,
    language: &str,
    component: &Path,
    calls: usize,
    limit: f64,
    goal: &str,
) -> Result<Vec<Row>> {
    let dir = tempfile::Builder::new().prefix("calls-").tempdir_in(&bench.data)?;
    let out = tokio::process::Command::new(std::env::current_exe()?)
        .args([super::CHILD, "calls"])
        .args([component, &bench.wharf, dir.path()])
        .arg(calls.to_string())
        .stderr(Stdio::inherit())
        .output()
        .await?;
    ensure!(out.status.success(), "measuring {language} ended with {}", out.status);
    let told: Value = serde_json::from_slice(&out.stdout).context("what was measured can't be read")?;
    let samples = |key: &str| told[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Samples>();
    let number = |key: &str| told[key].as_f64().unwrap_or(f64::NAN);
    let (call, bare) = (samples("call_us"), samples("bare_us"));
    ensure!(call.len() == calls && bare.len() == calls, "{language}: {} of {calls} calls", call.len());
    Ok(vec![
        Row::time(format!("{language}: a call in Wharf, p50"), call.p50())
            .below(limit, goal)
            .remark(format!("{calls} calls; p99 {}", crate::stats::time(call.p99()))),
        Row::time(format!("{language}: bare wasmtime, p50"), bare.p50()).remark(format!(
            "Wharf takes {:.2} × of it; p99 {}",
            call.p50() / bare.p50(),
            crate::stats::time(bare.p99())
        )),
        Row::time(format!("{language}: upload to ready (compiled in a child process)"), number("install_us")),
        size(format!("{language}: compiled"), number("compiled_mib"))
            .remark(format!("the component itself: {:.1} MiB", number("component_mib"))),
        Row::time(format!("{language}: start of a runtime that has it compiled"), number("load_us")).remark(format!(
            "{} with the file not in the page cache; {} without a plugin",
            crate::stats::time(number("load_cold_us")),
            crate::stats::time(number("empty_us"))
        )),
        Row::time(format!("{language}: its first call after a start"), number("first_us"))
            .remark(format!("{} with the file not in the page cache", crate::stats::time(number("first_cold_us")))),
        size(format!("{language}: linear memory of a call"), number("linear_mib")),
        size(format!("{language}: resident memory of one more call at the same time"), number("each_mib"))
            .remark(format!("the mean of {AT_ONCE}, by bare wasmtime")),
        Row::mib(format!("{language}: memory of the process with it loaded"), number("loaded_mib")).remark(format!(
            "{:.0} MiB before it was loaded, {:.0} MiB after the calls",
            number("before_mib"),
            number("after_mib")
        )),
    ])
}

/// Calls that are kept alive at the same time, to see what one takes.
const AT_ONCE: usize = 8;

/// To a tenth of a MiB: a call in Rust has about one.
fn size(what: String, mib: f64) -> Row {
    Row::new(what, format!("{mib:.1} MiB"), mib, "MiB")
}

fn mib(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "sizes of files and memories")]
    let bytes = bytes as f64;
    bytes / (1024.0 * 1024.0)
}

/// The compiled component in a folder where a [`lab::Lab`] has installed one.
fn compiled(dir: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir.join("compiled"))?;
    let file = entries.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "cwasm"));
    file.context("nothing was compiled")
}

/// Puts a file out of the page cache, as far as nobody has it mapped.
fn evict(file: &Path) -> Result<()> {
    let dropped = std::process::Command::new("dd")
        .arg(format!("of={}", file.display()))
        .args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"])
        .status()
        .context("`dd` is missing: it is in coreutils")?;
    ensure!(dropped.success(), "`dd` ended with {dropped}");
    Ok(())
}

/// `COMPONENT WHARF FOLDER CALLS`
pub async fn child(arguments: &[String]) -> Result<()> {
    let [component, wharf, dir, calls] = arguments else { anyhow::bail!("four arguments") };
    let (dir, calls): (&Path, usize) = (dir.as_ref(), calls.parse()?);
    let pid = std::process::id();
    // The first time makes the books.
    drop(lab::Lab::open(&dir.join("empty"), wharf.as_ref()).await?);
    let begun = Instant::now();
    drop(lab::Lab::open(&dir.join("empty"), wharf.as_ref()).await?);
    let empty_us = begun.elapsed().as_secs_f64() * 1e6;
    let lab = lab::Lab::open(dir, wharf.as_ref()).await?;
    let bytes = std::fs::read(component)?;
    let component_mib = mib(bytes.len() as u64);
    let (id, install_us) = lab.install(bytes).await?;
    drop(lab);
    let file = compiled(dir)?;
    let compiled_mib = mib(std::fs::metadata(&file)?.len());
    evict(&file)?;
    // As a start of the host finds it. What the installation has touched stays: the bytes of the component were freed.
    let before_mib = machine::resident_mib(pid)?;
    let begun = Instant::now();
    let lab = lab::Lab::open(dir, wharf.as_ref()).await?;
    let load_cold_us = begun.elapsed().as_secs_f64() * 1e6;
    let loaded_mib = machine::resident_mib(pid)?;
    let cold = in_wharf(&lab, &id, calls).await?;
    let after_mib = machine::resident_mib(pid)?;
    drop(lab);
    let begun = Instant::now();
    let lab = lab::Lab::open(dir, wharf.as_ref()).await?;
    let load_us = begun.elapsed().as_secs_f64() * 1e6;
    let first_us = in_wharf(&lab, &id, 0).await?.first_us;
    drop(lab);
    let bare = Bare::load(dir)?;
    let bare_us = bare.times(calls).await?;
    let each_mib = bare.resident_mib(AT_ONCE).await?;
    println!(
        "{}",
        json!({
            "install_us": install_us, "load_us": load_us, "before_mib": before_mib, "loaded_mib": loaded_mib,
            "after_mib": after_mib, "call_us": cold.times_us, "bare_us": bare_us, "empty_us": empty_us,
            "load_cold_us": load_cold_us, "first_us": first_us, "first_cold_us": cold.first_us,
            "component_mib": component_mib, "compiled_mib": compiled_mib, "linear_mib": mib(cold.linear_memory),
            "each_mib": each_mib,
        })
    );
    Ok(())
}

/// What calls in Wharf took.
pub struct InWharf {
    pub first_us: f64,
    /// Of each call, after the first and a tenth of them to warm up.
    pub times_us: Vec<f64>,
    /// Bytes, of the call that had most.
    pub linear_memory: u64,
}

/// Calls `normalize`, one call after another.
pub async fn in_wharf(lab: &lab::Lab, plugin: &str, calls: usize) -> Result<InWharf> {
    let sets: Vec<RrSet> = bench_logic::question()
        .sets
        .into_iter()
        .map(|set| RrSet {
            name: set.name,
            rtype: set.rtype,
            ttl: set.ttl,
            values: set.values.into_iter().map(Content::new).collect(),
            ..RrSet::default()
        })
        .collect();
    let types = bench_logic::normal::TYPES.map(String::from).to_vec();
    let can = Capabilities { types, parallel_per_zone: 1, parallel_per_server: 1, ..Capabilities::default() };
    let mut session = lab.runtime.dns(lab::zone(plugin)).await.map_err(|e| anyhow::anyhow!("{}", e.text))?;
    let mut measured = async |calls| {
        let cost = wharf_conformance::normalized(&mut session, &can, bench_logic::ZONE, &sets, calls).await;
        cost.map_err(anyhow::Error::msg)
    };
    let first = measured(1).await?;
    let rest = measured(calls).await?;
    Ok(InWharf {
        first_us: first.times.all().first().copied().unwrap_or_default(),
        times_us: rest.times.all().to_vec(),
        linear_memory: first.used.memory.max(rest.used.memory),
    })
}

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wharf:worlds/dns-provider",
        imports: { default: async | trappable },
        exports: { default: async },
    });
}

use bindings::{
    exports::wharf::dns::provider as wire,
    wharf::dns::zones::{Rrset, Value as WireValue},
};

/// What `normalize` is asked.
type Question = (wire::Capabilities, String, Vec<Rrset>);
/// `normalize` as the component exports it.
type Normalize = TypedFunc<Question, (Vec<wire::Verdict>,)>;

/// A component by wasmtime alone.
pub struct Bare {
    engine: Engine,
    pre: InstancePre<Nothing>,
    normalize: ComponentExportIndex,
}

/// What a store of [`Bare`] holds.
#[derive(Default)]
struct Nothing {
    table: ResourceTable,
    ctx: Option<WasiCtx>,
}

impl WasiView for Nothing {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.ctx.get_or_insert_with(|| WasiCtx::builder().build()), table: &mut self.table }
    }
}

impl Bare {
    /// The component that a [`lab::Lab`] in this folder has compiled, in an engine that is set as Wharf's is.
    pub fn load(dir: &Path) -> Result<Self> {
        let engine = engine()?;
        let file = compiled(dir)?;
        #[allow(
            unsafe_code,
            reason = "a file that this process' own runtime has just compiled, in a folder of its own"
        )]
        // SAFETY: see above; nobody changes it.
        let component = unsafe { Component::deserialize_file(&engine, &file) }.map_err(anyhow::Error::from)?;
        let mut linker: Linker<Nothing> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        // Of the contract nothing is called by `normalize`.
        linker.define_unknown_imports_as_traps(&component)?;
        let interface = component.get_export_index(None, "wharf:dns/provider@0.1.0").context("no DNS provider")?;
        let normalize = component.get_export_index(Some(&interface), "normalize").context("no `normalize`")?;
        Ok(Self { engine, pre: linker.instantiate_pre(&component)?, normalize })
    }

    /// Microseconds of each call, after a tenth of them to warm up.
    pub async fn times(&self, calls: usize) -> Result<Vec<f64>> {
        let question = question();
        let mut times = Vec::with_capacity(calls);
        for n in 0..calls + calls / 10 {
            let question = question.clone();
            let begun = Instant::now();
            drop(self.call(question).await?);
            let took = begun.elapsed();
            if n >= calls / 10 {
                times.push(took.as_secs_f64() * 1e6);
            }
        }
        Ok(times)
    }

    /// What one more call takes of resident memory while others are alive: the mean of so many.
    async fn resident_mib(&self, calls: usize) -> Result<f64> {
        let pid = std::process::id();
        // Code and tables that all calls share are there from now on.
        let mut alive = vec![self.call(question()).await?];
        let before = machine::resident_mib(pid)?;
        for _ in 0..calls {
            alive.push(self.call(question()).await?);
        }
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let each = (machine::resident_mib(pid)? - before) / calls as f64;
        drop(alive);
        Ok(each)
    }

    /// One call; its store, still alive.
    async fn call(&self, question: Question) -> Result<Store<Nothing>> {
        let mut store = Store::new(&self.engine, Nothing::default());
        // The code asks at each loop; nothing here ever raises the epoch.
        store.set_epoch_deadline(1_000);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let normalize: Normalize = instance.get_typed_func(&mut store, self.normalize)?;
        let (verdicts,) = normalize.call_async(&mut store, question).await?;
        ensure!(verdicts.len() == 4, "it answered otherwise");
        Ok(store)
    }
}

/// The same as [`in_wharf`] asks.
fn question() -> Question {
    let sets: Vec<Rrset> = bench_logic::question()
        .sets
        .into_iter()
        .map(|set| Rrset {
            name: set.name,
            rtype: set.rtype,
            ttl: set.ttl,
            values: set.values.into_iter().map(|data| WireValue { data, owner: None, ext: Vec::new() }).collect(),
            owner: None,
            version: None,
            ext: Vec::new(),
        })
        .collect();
    let can = wire::Capabilities {
        types: bench_logic::normal::TYPES.map(String::from).to_vec(),
        max_values: 0,
        max_changes: 0,
        atomic: true,
        native_merge: false,
        conditional: false,
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        parallel_per_zone: 1,
        parallel_per_server: 1,
        asynchronous: false,
        reverse_only: false,
        ext: Vec::new(),
    };
    (can, bench_logic::ZONE.to_owned(), sets)
}

/// Set as `host/plugins/src/engine.rs` sets its own: another setting would be another figure. An artefact of other settings is
/// refused by wasmtime.
fn engine() -> Result<Engine> {
    use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};
    const SLOTS: u32 = 32;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(SLOTS)
        .total_core_instances(SLOTS * 64)
        .total_memories(SLOTS * 4)
        .total_tables(SLOTS * 16)
        .total_stacks(SLOTS)
        .max_core_instances_per_component(64)
        .max_memories_per_component(4)
        .max_tables_per_component(16)
        .max_memories_per_module(4)
        .max_tables_per_module(16)
        .table_elements(40_000)
        .max_memory_size(256 << 20)
        .linear_memory_keep_resident(4 << 20)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    config.wasm_memory64(false);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(Engine::new(&config)?)
}
