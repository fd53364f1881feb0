//! The wasmtime engines: one that serves, and throw-away ones that compile.
//!
//! Both come from one constructor, so that what one compiled the other can load; a test holds their compatibility hashes
//! to each other. The pool is laid out so that the semaphore in [`crate::Runtime`] is the only thing that is ever waited
//! for: whatever one component may need exists once for each slot.

use std::{
    hash::{Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config::{MIB, RuntimeConfig};

/// Period of the epoch ticker. A guest that runs on yields to others this often.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// What one component may consist of. A Python component has 38 core instances, one memory and one table.
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 4;
const TABLES: u32 = 16;
/// Kept resident in a slot between calls; with `pagemap_scan` the fastest of the settings that were measured, and half
/// the memory of the next best.
const KEEP_RESIDENT: usize = 4 << 20;

/// What compiled code depends on.
fn base() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    // What a component made by the three tool chains never has, and the pool would have to hold.
    config.wasm_memory64(false);
    config
}

/// The engine that compiles, and nothing else. Wasmtime keeps compiler contexts as long as an engine lives: drop it.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&base())
}

/// The engine that serves.
pub(crate) fn serving(limits: &RuntimeConfig) -> wasmtime::Result<Engine> {
    let slots = limits.slots.get();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MEMORIES))
        .total_tables(slots.saturating_mul(TABLES))
        .total_stacks(slots)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .table_elements(usize::try_from(limits.table_elements).unwrap_or(usize::MAX))
        .max_memory_size(usize::try_from(u64::from(limits.memory_ceiling_mib) * MIB).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config)?;
    if limits.interrupt {
        tick(&engine);
    }
    Ok(engine)
}

/// A short name of everything that artefacts depend on: version of wasmtime, settings, features of this CPU.
pub(crate) fn compatibility(engine: &Engine) -> String {
    let mut hasher = ShaHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(&hasher.0.finalize()).chars().take(32).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// [`Hasher`] over SHA-256: the standard library's own hasher may change with a compiler, and has 64 bits.
struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.clone().finalize().iter().take(8).fold(0, |n, b| (n << 8) | u64::from(*b))
    }
}

/// Adds the engine to those that the one ticker thread of this process serves, and starts it if it doesn't run.
///
/// The ticker is an OS thread of its own: a guest in an endless loop may hold every worker of the async runtime.
fn tick(engine: &Engine) {
    static ENGINES: Mutex<(Vec<EngineWeak>, bool)> = Mutex::new((Vec::new(), false));
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    engines.0.push(engine.weak());
    if engines.1 {
        return;
    }
    let started = std::thread::Builder::new().name("wharf-epochs".into()).spawn(|| {
        loop {
            std::thread::sleep(TICK);
            let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
            engines.0.retain(|weak| weak.upgrade().map(|engine| engine.increment_epoch()).is_some());
        }
    });
    match started {
        Ok(_) => engines.1 = true,
        Err(e) => tracing::error!(error = %e, "the epoch ticker can't be started: endless loops will not be stopped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiling_engine_makes_the_serving_engine_can_load() {
        let serving = serving(&RuntimeConfig::for_tests("x").settled()).unwrap();
        assert_eq!(compatibility(&serving), compatibility(&compiling().unwrap()));
    }
}
