//! The data of one wasm store, and what bounds it.
//!
//! Guarantees that all memories of a store together stay within the call's limit, and all its tables too, whatever the
//! guest is made of; and that every store that lives is counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use wasmtime::ResourceLimiter;
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxView, WasiView, p2::pipe::MemoryOutputPipe,
};
use wharf_capabilities::call::CallState;

use crate::report::Cause;

/// Bytes of stderr of a guest with WASI that are kept for the message of a trap.
const STDERR_BYTES: usize = 8 * 1024;
/// The most random bytes that WASI hands out at once.
const WASI_RANDOM: u64 = 64 * 1024;

/// Data of one store.
pub(crate) struct StoreData {
    pub(crate) call: CallState,
    pub(crate) limiter: Limiter,
    /// Epochs in which the guest was found running: its CPU time in ticks.
    pub(crate) ticks: u64,
    /// Why the host stopped it, if it did.
    pub(crate) stopped: Option<(Cause, String)>,
    wasi: Option<Wasi>,
    _alive: Alive,
}

struct Wasi {
    ctx: WasiCtx,
    stderr: MemoryOutputPipe,
}

/// Time that stands still: a plugin has the time from `wharf:base/clock`, and waits for nothing.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

impl Wasi {
    /// No arguments, environment, files, sockets, names or time; nothing it prints is kept but the end of what it says before
    /// a trap.
    fn deny_all() -> Self {
        let stderr = MemoryOutputPipe::new(STDERR_BYTES);
        let ctx = WasiCtx::builder()
            .stderr(stderr.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(WASI_RANDOM)
            .wall_clock(Still)
            .monotonic_clock(Still)
            .build();
        Self { ctx, stderr }
    }
}

impl StoreData {
    pub(crate) fn new(call: CallState, limiter: Limiter, alive: Alive) -> Self {
        Self { call, limiter, ticks: 0, stopped: None, wasi: None, _alive: alive }
    }

    /// The last that a guest with WASI said on stderr.
    pub(crate) fn stderr(&self) -> String {
        self.wasi.as_ref().map_or_else(String::new, |w| String::from_utf8_lossy(&w.stderr.contents()).trim().to_owned())
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let table: &mut ResourceTable = &mut self.call.table;
        WasiCtxView { ctx: &mut self.wasi.get_or_insert_with(Wasi::deny_all).ctx, table }
    }
}

/// Sums what the memories and tables of a store take. wasmtime's own `StoreLimits` counts each memory by itself.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_limit: usize,
    memory: usize,
    table_limit: usize,
    table: usize,
    /// What was asked for and not given.
    pub(crate) denied: Option<Denied>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    Memory { asked: usize },
    Table { asked: usize },
}

impl Limiter {
    pub(crate) fn new(memory_limit: u64, table_limit: u32) -> Self {
        Self {
            memory_limit: usize::try_from(memory_limit).unwrap_or(usize::MAX),
            memory: 0,
            table_limit: usize::try_from(table_limit).unwrap_or(usize::MAX),
            table: 0,
            denied: None,
        }
    }

    pub(crate) fn memory_limit(&self) -> usize {
        self.memory_limit
    }

    /// Linear memory of all memories, bytes. It never shrinks, so this is the peak too.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = self.memory.saturating_add(desired.saturating_sub(current));
        if sum > self.memory_limit {
            self.denied = Some(Denied::Memory { asked: sum });
            return Ok(false);
        }
        self.memory = sum;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let sum = self.table.saturating_add(desired.saturating_sub(current));
        if sum > self.table_limit {
            self.denied = Some(Denied::Table { asked: sum });
            return Ok(false);
        }
        self.table = sum;
        Ok(true)
    }
}

/// Counts stores that are alive, and the most there ever were.
#[derive(Debug, Default)]
pub(crate) struct Census {
    now: AtomicU32,
    most: AtomicU32,
}

impl Census {
    pub(crate) fn enter(self: &Arc<Self>) -> Alive {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Alive(self.clone())
    }

    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }
}

/// One store that is alive.
pub(crate) struct Alive(Arc<Census>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed_and_a_refusal_is_remembered() {
        let mut limiter = Limiter::new(100, 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 60, None).unwrap());
        assert_eq!(limiter.denied, Some(Denied::Memory { asked: 120 }));
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert_eq!(limiter.memory(), 100);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(10, 11, None).unwrap());
    }

    #[test]
    fn the_census_counts_those_alive_and_the_most_there_were() {
        let census = Arc::new(Census::default());
        let one = census.enter();
        let two = census.enter();
        drop(one);
        assert_eq!((census.now(), census.most()), (1, 2));
        drop(two);
        assert_eq!(census.now(), 0);
    }
}
