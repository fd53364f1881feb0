//! Seeded simulation: one number decides how many hosts there are, what panels wish and when, and what goes wrong.
//!
//! [`plan`] makes a history from the seed, [`run`] plays it in virtual time on a whole [`crate::world::World`], [`auditor`]
//! judges what came of it. The same seed is the same run, to the last request: [`Played::digest`] says so, and a failure can
//! be replayed. Nothing here reads a clock, a socket or the system's randomness.

pub mod auditor;
pub mod plan;
pub mod run;

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Mutex,
};

use wharf_store::memory::Mutant;

use plan::Kind;

/// What is taken out of the house, so that the simulation must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Nothing,
    Books(Mutant),
    /// Effects in doubt are sent again without a look.
    Probe,
    /// Effects in doubt are looked for at once, and not when they can't arrive any more.
    Wait,
}

/// A seed that was played to its end.
pub struct Played {
    /// What happened, how often.
    pub struck: BTreeMap<Kind, u32>,
    /// Everything that happened, as text with virtual times.
    pub trace: String,
    /// Why it failed; none if all is as promised.
    pub failure: Option<String>,
}

impl Played {
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.trace.hash(&mut hasher);
        hasher.finish()
    }

    /// What a person needs who has to find out why.
    pub fn tell(&self, seed: u64) -> String {
        format!(
            "{}\n\nWHARF_SEED={seed} failed: {}\n\nReplay it with\n\n    WHARF_SEED={seed} cargo nextest run --workspace --no-capture -E 'test(simulation::a_replay)'\n",
            self.trace,
            self.failure.as_deref().unwrap_or("it did not")
        )
    }
}

/// One entry of the trace. Edges are by far the most, so they cost no text until somebody reads them.
enum Line {
    Edge(usize, &'static str),
    Text(String),
}

/// What happened, in order, with milliseconds since the beginning. Holds no ids: they differ from run to run.
pub struct Trace {
    began: tokio::time::Instant,
    lines: Mutex<Vec<(u128, Line)>>,
}

impl Trace {
    fn new() -> Self {
        Self { began: tokio::time::Instant::now(), lines: Mutex::default() }
    }

    fn edge(&self, host: usize, edge: &'static str) {
        self.push(Line::Edge(host, edge));
    }

    pub fn say(&self, text: impl Into<String>) {
        self.push(Line::Text(text.into()));
    }

    fn push(&self, line: Line) {
        self.lines.lock().unwrap().push((self.began.elapsed().as_millis(), line));
    }

    fn render(&self, requests: Vec<pve_sim::state::Entry>) -> String {
        let mut all: Vec<(u128, String)> = Vec::new();
        for (at, line) in self.lines.lock().unwrap().iter() {
            let text = match line {
                Line::Edge(host, edge) => format!("host {host}: {edge}"),
                Line::Text(text) => text.clone(),
            };
            all.push((*at, text));
        }
        for entry in requests {
            let number = entry.params.get("newid").map(|n| format!(" newid={n}")).unwrap_or_default();
            // Task ids in paths hold nothing random.
            let text = format!("pve: {} {} {}{number}", entry.status, entry.method, entry.path);
            all.push((u128::from(entry.t_ms), text));
        }
        // Stable: what stands at the same millisecond keeps its order.
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(at, text)| format!("{at:>8} {text}\n")).collect()
    }
}
