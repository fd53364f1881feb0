//! What the runtime may use up, decoded once.
//!
//! Every number has a default with its reason and can be set; none can be set to something that can't work (zero slots, a
//! plugin's limit above the pool's).

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// How components are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process with limits of its own: `<exe> plugin compile …`. A compile bomb knows no store limit, and a
    /// Python component leaves 300 MB behind in the process that compiled it.
    Child(PathBuf),
    /// In this process: for tests and benches, with components that are trusted.
    InProcess,
}

/// Everything that the runtime is set to.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Compiled components are kept below it, in `compiled/`, mode 0700.
    pub data_dir: PathBuf,
    pub compiler: Compiler,
    /// Wasm stores alive at once, in all. A call lives for milliseconds and none waits for Proxmox, so 32 serve thousands
    /// of deployments; each costs up to `memory_ceiling_mib`.
    pub slots: NonZeroU32,
    /// Stores that one plugin may have alive, so that a slow DNS provider leaves room for the others.
    pub slots_per_plugin: NonZeroU32,
    /// Linear memory of one call, summed over all memories, unless the manifest asks for another: 64 MiB, which is four
    /// times what the shipped plugins use.
    pub memory_mib: u32,
    /// The most that a manifest can ask for: 256 MiB, for JavaScript (9 MiB empty) and Python (13 MiB empty).
    pub memory_ceiling_mib: u32,
    /// Wall-clock time of a call unless the manifest asks for less: 10 s. A step looks and decides, a DNS call makes a
    /// handful of requests.
    pub call_ms: u32,
    /// The most that a manifest can ask for: 60 s, for DNS providers that page through large zones.
    pub call_ceiling_ms: u32,
    /// Bytes that one host call may carry in one direction, return values of exports included: 16 MiB, a zone of 50,000
    /// records.
    pub host_call_bytes: u32,
    /// Bytes that may cross in one call into a plugin, in both directions together: 64 MiB.
    pub total_bytes: u64,
    /// Host calls in one call into a plugin: 100,000.
    pub host_calls: u32,
    /// Requests to servers and providers in one call into a plugin: 1,000.
    pub requests: u32,
    /// Handles that a component may hold at once: 1,000. JavaScript keeps them until its garbage collector runs.
    pub handles: u32,
    /// Elements of all tables of a store: 40,000. A Python component has 5,700, a JavaScript one 7,700.
    pub table_elements: u32,
    /// Largest component: 64 MiB. Python components have 18 MB.
    pub component_bytes: u64,
    pub compile: CompileLimits,
    /// Whether guests are interrupted by real time: a guest that computes yields every 10 ms, and an endless loop ends. Off
    /// only in simulations, where the same seed must be the same run and every plugin is one of ours.
    pub interrupt: bool,
}

/// What the compile child may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space beyond what the child has when it begins, MiB. JavaScript and Python peak at 380 MB; 1,536 leaves
    /// room for more cores, each of which compiles a function of its own.
    pub memory_mib: u32,
    /// CPU seconds over all threads, and wall-clock seconds: 180. Python takes 8 on two cores, 60 on a slow one.
    pub seconds: u32,
    /// Largest artefact, MiB: 256. Python's has 35.
    pub output_mib: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory_mib: 1536, seconds: 180, output_mib: 256 }
    }
}

impl RuntimeConfig {
    /// The defaults, with compilation in a child process: `compiler` is the host's own executable.
    pub fn new(data_dir: impl Into<PathBuf>, compiler: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            compiler: Compiler::Child(compiler.into()),
            slots: NonZeroU32::MIN.saturating_add(31),
            slots_per_plugin: NonZeroU32::MIN.saturating_add(15),
            memory_mib: 64,
            memory_ceiling_mib: 256,
            call_ms: 10_000,
            call_ceiling_ms: 60_000,
            host_call_bytes: 16 << 20,
            total_bytes: 64 << 20,
            host_calls: 100_000,
            requests: 1_000,
            handles: 1_000,
            table_elements: 40_000,
            component_bytes: 64 << 20,
            compile: CompileLimits::default(),
            interrupt: true,
        }
    }

    /// For tests: compiles in this process, so that no child is needed, with few slots.
    pub fn for_tests(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            compiler: Compiler::InProcess,
            slots: NonZeroU32::MIN.saturating_add(7),
            slots_per_plugin: NonZeroU32::MIN.saturating_add(7),
            ..Self::new(data_dir, "")
        }
    }

    /// Numbers that can't work together, put right: a plugin's share within the whole, defaults within their ceilings.
    pub(crate) fn settled(mut self) -> Self {
        self.slots_per_plugin = self.slots_per_plugin.min(self.slots);
        self.memory_ceiling_mib = self.memory_ceiling_mib.clamp(1, 4096);
        self.memory_mib = self.memory_mib.clamp(1, self.memory_ceiling_mib);
        self.call_ceiling_ms = self.call_ceiling_ms.max(1);
        self.call_ms = self.call_ms.clamp(1, self.call_ceiling_ms);
        self
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.data_dir.join("compiled")
    }

    /// Memory of a call of a plugin that asks for `wanted` MiB.
    pub(crate) fn memory_for(&self, wanted: Option<u32>) -> u64 {
        u64::from(wanted.unwrap_or(self.memory_mib).clamp(1, self.memory_ceiling_mib)) * MIB
    }

    /// Wall-clock time of a call of a plugin that asks for `wanted` ms.
    pub(crate) fn time_for(&self, wanted: Option<u32>) -> Duration {
        Duration::from_millis(u64::from(wanted.unwrap_or(self.call_ms).clamp(1, self.call_ceiling_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_what_it_asks_for_up_to_the_ceiling() {
        let config = RuntimeConfig::for_tests("x").settled();
        assert_eq!(config.memory_for(None), 64 * MIB);
        assert_eq!(config.memory_for(Some(200)), 200 * MIB);
        assert_eq!(config.memory_for(Some(u32::MAX)), 256 * MIB);
        assert_eq!(config.time_for(Some(1_000_000)), Duration::from_secs(60));
    }

    #[test]
    fn numbers_that_contradict_each_other_are_put_right() {
        let mut config = RuntimeConfig::for_tests("x");
        config.memory_mib = 1000;
        config.slots = NonZeroU32::MIN;
        let config = config.settled();
        assert_eq!((config.memory_mib, config.slots_per_plugin.get()), (256, 1));
    }
}
