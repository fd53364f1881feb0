//! What calls into plugins come back with, in plain types.

use std::{collections::BTreeMap, time::Duration};

use semver::Version;
use wharf_capabilities::call::{LogLine, Submitted};
use wharf_model::Millis;

/// What the receiver of a failure must do; the contract's closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    FixInput,
    FixConfig,
    Busy,
    Retry,
    Unknown,
    ReportBug,
}

/// A plugin says that something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub action: Action,
    pub code: String,
    pub message: String,
    pub retry_after_ms: Option<u32>,
    pub ext: Vec<(String, String)>,
}

/// How a state was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Done,
    ByEffect(String),
    Skipped(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    pub state: String,
    pub how: How,
}

/// What a step answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Reached(Vec<Reached>),
    Submitted,
    Waiting { after_ms: u32, topic: Option<String>, reason: String },
    Stuck(String),
}

/// A step that came back: what it answered and what it left in the buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    pub version: Version,
    /// Version of the meaning of states that this version writes.
    pub writes: u32,
    pub answer: Result<Outcome, Failure>,
    pub submitted: Option<Submitted>,
    pub memo: Option<Option<String>>,
    pub facts: BTreeMap<String, Option<String>>,
    pub absence_proven_ms: Option<Millis>,
    pub log: Vec<LogLine>,
    pub took: Duration,
}

/// Why a call gave no answer at all. The cause is one of a closed set, for metrics; the text is for admins.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    pub cause: Cause,
    pub text: String,
    /// What the plugin had logged before.
    pub log: Vec<LogLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No such plugin, none enabled, or no version that reads this state.
    NotInstalled,
    Trap,
    Timeout,
    Memory,
    /// Handles, tables, output, host-call bytes.
    Limit,
    /// The host itself failed (store down).
    Host,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotInstalled => "not-installed",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "limit-memory",
            Self::Limit => "limit",
            Self::Host => "host-error",
        }
    }
}
