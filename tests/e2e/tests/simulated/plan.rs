//! What a seed makes happen: wishes and mishaps with their times. Pure.

use pve_sim::{
    faults::{Fault, What},
    state::{SimConfig, Timing},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The twelve kinds of mishap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The process of a host ends as by SIGKILL; another starts later.
    Kill,
    /// A host stands still for longer than its claims last, and goes on.
    Pause,
    /// Calls of the books fail, and nothing is done.
    StoreError,
    /// A call of the books is done, and its answer lost.
    CommitReplyLost,
    /// Proxmox answers with an error, and does nothing.
    ServerError,
    /// Proxmox answers after the caller has given up.
    Timeout,
    /// Proxmox does it, and the connection breaks before the answer.
    ReplyLost,
    /// The caller hears that it failed, and it is done later.
    LatePost,
    /// Somebody else's worker holds the VM's configuration.
    LockTimeout,
    /// A node reboots in the middle of a copy, and leaves its beginning behind.
    RebootStub,
    /// Somebody else takes the number just before the clone arrives.
    Thief,
    /// The clock of a host is wrong by an hour for a while.
    ClockJump,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Pause,
        Self::StoreError,
        Self::CommitReplyLost,
        Self::ServerError,
        Self::Timeout,
        Self::ReplyLost,
        Self::LatePost,
        Self::LockTimeout,
        Self::RebootStub,
        Self::Thief,
        Self::ClockJump,
    ];
}

/// A mishap that begins at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Mishap {
    pub at_ms: u64,
    pub what: Trouble,
}

/// How a kind of mishap goes this time.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    Kill {
        host: usize,
        down_ms: u64,
        /// The next that comes to an edge between a commit and a call, there; and not this one at any moment.
        ambush: bool,
    },
    Pause {
        host: usize,
        ms: u64,
        ambush: bool,
    },
    /// For so long, so many of 100 writing calls.
    StoreError {
        ms: u64,
        percent: u32,
    },
    /// So many commits.
    CommitReplyLost(u32),
    /// Faults of the cluster; which kind they are is in them.
    Server(Kind, Fault),
    Hold {
        nth: usize,
        ms: u64,
    },
    Reboot {
        ms: u64,
    },
    Clock {
        host: usize,
        by_ms: i64,
        ms: u64,
    },
}

/// What a panel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Deploy,
    /// The same service with other options.
    Change,
    Suspend,
    Unsuspend,
    Terminate,
}

/// One wish, sent again with its key until there is an answer, and sometimes after that.
#[derive(Debug, Clone, PartialEq)]
pub struct Wished {
    pub at_ms: u64,
    pub reference: String,
    pub asked: Asked,
    pub key: String,
    /// After the answer it is sent once more, so much later: the panel has not written it down.
    pub again_ms: Option<u64>,
    /// Of its own choices: which host, how long between tries.
    pub seed: u64,
}

/// A history.
#[derive(Debug, Clone)]
pub struct Plan {
    pub hosts: usize,
    /// Clones at once on one storage.
    pub cap: u32,
    pub cluster: SimConfig,
    pub wishes: Vec<Wished>,
    pub mishaps: Vec<Mishap>,
    /// How long an address rests.
    pub quarantine_s: u64,
    /// How far two clocks may be apart.
    pub skew_ms: i64,
}

/// Wishes and mishaps begin within so many milliseconds.
const SPAN_MS: u64 = 30_000;

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let hosts = rng.random_range(1..=3);
        let cluster = cluster(&mut rng);
        let mut wishes = Vec::new();
        for service in 0..rng.random_range(1..=3_u32) {
            order(&mut rng, service, &mut wishes);
        }
        let mut mishaps = Vec::new();
        for _ in 0..rng.random_range(1..=5_u32) {
            let kind = Kind::ALL[rng.random_range(0..Kind::ALL.len())];
            mishaps.push(Mishap { at_ms: rng.random_range(0..SPAN_MS), what: trouble(&mut rng, kind, hosts) });
        }
        let jumps = mishaps.iter().any(|m| matches!(m.what, Trouble::Clock { .. }));
        // Two clocks, an hour ahead and an hour behind: an address that rests by one may be free by the other.
        let skew_ms: i64 = if jumps { 7_200_000 } else { 0 };
        let quarantine_s = 20 + skew_ms.unsigned_abs() / 1_000;
        Self { hosts, cap: rng.random_range(1..=2), cluster, wishes, mishaps, quarantine_s, skew_ms }
    }
}

fn cluster(rng: &mut StdRng) -> SimConfig {
    let slow = rng.random_range(1..=4);
    let timing = Timing {
        clone_linked: 300 * slow,
        start: 200,
        destroy: 100 * slow,
        shutdown: 100 * slow,
        denied: 100,
        ..Timing::default()
    };
    SimConfig { timing, seed: rng.random(), ..SimConfig::default() }
}

/// All that is wished of one service.
fn order(rng: &mut StdRng, service: u32, wishes: &mut Vec<Wished>) {
    let mut at_ms = rng.random_range(0..SPAN_MS / 3);
    let mut wish = |rng: &mut StdRng, at_ms: u64, asked| {
        let again_ms = (rng.random_range(0..4) == 0).then(|| rng.random_range(0..20_000));
        let key = format!("{service}-{}", wishes.len());
        wishes.push(Wished { at_ms, reference: service.to_string(), asked, key, again_ms, seed: rng.random() });
    };
    wish(rng, at_ms, Asked::Deploy);
    for _ in 0..rng.random_range(0..=3) {
        at_ms += rng.random_range(0..SPAN_MS / 3);
        let asked = match rng.random_range(0..10) {
            0 => Asked::Deploy,
            1 => Asked::Change,
            2..5 => Asked::Suspend,
            5..7 => Asked::Unsuspend,
            _ => Asked::Terminate,
        };
        wish(rng, at_ms, asked);
    }
}

fn trouble(rng: &mut StdRng, kind: Kind, hosts: usize) -> Trouble {
    let host = rng.random_range(0..hosts);
    let fault = |method: &str, path: &str, times, what| {
        Trouble::Server(kind, Fault { method: method.into(), path: path.into(), times: Some(times), what })
    };
    let few = rng.random_range(1..=3);
    let path = ["", "", "/clone", "/config", "/status/", "/qemu/"][rng.random_range(0..6)];
    match kind {
        Kind::Kill => Trouble::Kill { host, down_ms: rng.random_range(500..40_000), ambush: rng.random() },
        Kind::Pause => {
            // Mostly until just after another has taken over, sometimes until that has finished.
            let ms = if rng.random_range(0..3) > 0 { 30_500..40_000 } else { 40_000..75_000 };
            Trouble::Pause { host, ms: rng.random_range(ms), ambush: rng.random_range(0..4) > 0 }
        }
        Kind::StoreError => {
            Trouble::StoreError { ms: rng.random_range(500..12_000), percent: rng.random_range(5..=100) }
        }
        Kind::CommitReplyLost => Trouble::CommitReplyLost(few),
        Kind::ServerError => {
            let (status, text) = [
                (500, "internal error"),
                (500, "got lock request timeout"),
                (502, "Bad Gateway"),
                (503, "Service Unavailable"),
                (595, "Connection refused"),
                (599, "Too many redirections"),
            ][rng.random_range(0..6)];
            let method = ["", "write", "GET"][rng.random_range(0..3)];
            fault(method, if method == "GET" { "" } else { path }, few, What::Refuse { status, text: text.into() })
        }
        Kind::Timeout => {
            let ms = rng.random_range(60_500..80_000);
            // Done, or not even begun, when the caller gives up.
            let what = if rng.random() { What::SlowAnswer(ms) } else { What::SlowStart(ms) };
            fault(["", "write"][rng.random_range(0..2)], path, 1, what)
        }
        Kind::ReplyLost => fault("write", path, few, What::LoseReply),
        Kind::LatePost => fault("write", path, 1, What::Late(rng.random_range(50..40_000))),
        Kind::LockTimeout => Trouble::Hold { nth: rng.random_range(0..4), ms: rng.random_range(12_000..25_000) },
        Kind::RebootStub => Trouble::Reboot { ms: rng.random_range(2_000..40_000) },
        Kind::Thief => fault("POST", "/clone", 1, What::Thief),
        Kind::ClockJump => {
            let by_ms = if rng.random() { 3_600_000 } else { -3_600_000 };
            Trouble::Clock { host, by_ms, ms: rng.random_range(5_000..60_000) }
        }
    }
}
