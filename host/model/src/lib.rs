//! The words of the domain: plain types, no I/O, no clock, no randomness but ids.
//!
//! Times are Unix milliseconds (`i64`). JSON is `serde_json::Value`. Names are those of the house: panel, service, plan,
//! operation, step, state, phase, effect, task, lease, zone, record, plugin, event, claim.

pub mod effect;
pub mod event;
pub mod job;
pub mod lease;
pub mod manifest;
pub mod object;
pub mod operation;
pub mod plugin;
pub mod record;
pub mod service;

/// Unix time in milliseconds.
pub type Millis = i64;

/// Target of spans that are made for traces (`[traces]` in the settings). No line of the log shows them, and without a
/// collector they cost nothing. Nothing goes into one that may not go into a log.
pub const TRACES: &str = "wharf_traces";

/// Where the time comes from: the system in production, virtual time in tests.
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now_ms(&self) -> Millis;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> Millis {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Follows tokio's clock, so that tests with paused time have virtual time everywhere.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    base_ms: Millis,
    start: tokio::time::Instant,
}

impl TokioClock {
    /// Begins at `base_ms` now.
    pub fn starting_at(base_ms: Millis) -> Self {
        Self { base_ms, start: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now_ms(&self) -> Millis {
        self.base_ms + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
