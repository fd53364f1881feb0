//! Carries operations through: takes wishes on, claims runs, calls steps, executes effects, waits, works off the DNS
//! and event queues, and runs the host's own jobs.
//!
//! What is guaranteed, at any `kill -9` and on any number of hosts: a wish that was accepted ends (`succeeded`,
//! `cancelled` by a newer wish, or `needs-admin` with a reason); a service has one run at a time; every write of a run is
//! fenced by its claim; every effect is resolved before the next step. What bounds it: [`EngineConfig`].

mod deliveries;
mod dns;
mod effects;
mod jobs;
pub mod names;
mod notices;
pub mod pause;
pub mod presence;
pub mod reconcile;
mod step;
mod traces;
mod watcher;
pub mod wish;
mod worker;
pub mod zones;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::{Notify, watch};
use uuid::Uuid;
use wharf_capabilities::{dns::look::Look, effects::Effector};
use wharf_model::{Clock, Millis};
use wharf_plugins::Runtime;
use wharf_store::Books;

pub use notices::{Notice, Notices};

/// Numbers of the engine. The defaults are what production runs with.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// How long a claim holds without renewal. Take-over after a killed host takes at most this and two seconds.
    pub claim_ttl_ms: i64,
    /// Runs that this host works on at once. A run that waits for Proxmox is not worked on.
    pub concurrency: usize,
    /// Runs that this host has claimed at once, those included whose write is on its way: a server that answers late keeps
    /// hundreds, which cost a renewal every ten seconds each, and must not keep runs on other servers from being worked on.
    pub claims: usize,
    /// Longest sleep of a loop that nobody wakes: the safety net under the wake-ups.
    pub sweep_ms: i64,
    /// Back-off of failures: first and longest.
    pub backoff_first_ms: i64,
    pub backoff_longest_ms: i64,
    /// How often a task is looked at: first, and at most.
    pub task_poll_first_ms: i64,
    pub task_poll_longest_ms: i64,
    /// How long an effect in doubt waits beyond its call's own time-out before it is probed.
    pub doubt_margin_ms: i64,
    /// How long a host watches over a server's tasks without saying so again.
    pub watch_ttl_ms: i64,
    /// The machine's name, and where the host listens: shown to admins.
    pub host_name: String,
    pub address: String,
    /// How many days events and audit rows are kept.
    pub keep_events_days: u32,
    pub keep_audit_days: u32,
    /// Where chance begins (jitter, the id of the process): given in simulations, so that the same seed is the same run.
    /// `None` = the system's randomness.
    pub seed: Option<u64>,
    /// Whom to ask what the world sees of names; empty = the system's resolvers.
    pub resolvers: Vec<SocketAddr>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            claim_ttl_ms: 30_000,
            concurrency: 64,
            claims: 1_024,
            sweep_ms: 5_000,
            backoff_first_ms: 1_000,
            backoff_longest_ms: 300_000,
            task_poll_first_ms: 500,
            task_poll_longest_ms: 2_000,
            doubt_margin_ms: 2_000,
            watch_ttl_ms: 10_000,
            host_name: String::new(),
            address: String::new(),
            keep_events_days: 90,
            keep_audit_days: 730,
            seed: None,
            resolvers: Vec::new(),
        }
    }
}

/// The engine of one host process.
pub struct Engine {
    pub(crate) books: Books,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) effector: Arc<dyn Effector>,
    pub(crate) config: EngineConfig,
    pub(crate) dice: Mutex<StdRng>,
    /// A fresh id for each process start: who holds a claim.
    pub(crate) owner: Uuid,
    pub(crate) notices: Notices,
    /// Wakes the loops of this process after a commit.
    pub(crate) work: Notify,
    pub(crate) dns_work: Notify,
    pub(crate) delivery_work: Notify,
    pub(crate) job_work: Notify,
    pub(crate) rest_seen: jobs::RestSeen,
    /// Until when providers asked to be left alone, by what zones log in with.
    pub(crate) resting: Mutex<HashMap<String, Millis>>,
    /// Who looks names up; none = nobody has asked yet.
    pub(crate) look: Mutex<Option<Arc<dyn Look>>>,
    pub(crate) kill: kill::KillPoints,
}

pub mod kill;

impl Engine {
    pub fn new(
        books: Books,
        clock: Arc<dyn Clock>,
        runtime: Arc<Runtime>,
        effector: Arc<dyn Effector>,
        config: EngineConfig,
    ) -> Arc<Self> {
        let mut dice = match config.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => rand::make_rng(),
        };
        let owner = uuid::Builder::from_random_bytes(dice.random()).into_uuid();
        Arc::new(Self {
            books,
            clock,
            runtime,
            effector,
            config,
            dice: Mutex::new(dice),
            owner,
            notices: Notices::default(),
            work: Notify::new(),
            dns_work: Notify::new(),
            delivery_work: Notify::new(),
            job_work: Notify::new(),
            rest_seen: jobs::RestSeen::default(),
            resting: Mutex::default(),
            look: Mutex::default(),
            kill: kill::KillPoints::default(),
        })
    }

    /// Works until `stop` becomes true; then finishes what it is writing, gives its claims back and returns.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        tokio::join!(
            Arc::clone(&self).presence_loop(stop.clone()),
            Arc::clone(&self).signal_loop(stop.clone()),
            async {
                if !self.merged(stop.clone()).await {
                    return;
                }
                tokio::join!(
                    Arc::clone(&self).work_loop(stop.clone()),
                    Arc::clone(&self).watch_tasks(stop.clone()),
                    Arc::clone(&self).dns_loop(stop.clone()),
                    Arc::clone(&self).delivery_loop(stop.clone()),
                    Arc::clone(&self).job_loop(stop),
                );
            }
        );
    }

    /// For live logs: told after each commit. What changed is read from the books.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Who this process is in claims.
    pub fn owner(&self) -> Uuid {
        self.owner
    }

    /// Sets what happens at each edge between a commit and a call: for tests, before the engine runs.
    pub fn set_kill_hook(&self, hook: kill::Hook) {
        self.kill.set(hook);
    }

    /// Everything that waits for time may be due now: new work, a freed pool, an admin's change.
    pub fn nudge(&self) {
        self.work.notify_one();
        self.dns_work.notify_one();
        self.delivery_work.notify_one();
        self.job_work.notify_one();
    }
}
