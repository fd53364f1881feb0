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
    /// What was called, if it came to that.
    pub version: Option<Version>,
    pub text: String,
    /// What the plugin had logged before.
    pub log: Vec<LogLine>,
    pub used: Used,
}

/// What a call has used up of its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Time in which the guest computed, in steps of 10 ms.
    pub cpu: Duration,
    /// The most linear memory, bytes.
    pub memory: u64,
    pub host_calls: u32,
    /// Bytes between guest and host, both ways.
    pub bytes: u64,
    pub requests: u32,
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

/// A call that came back with an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct CallReport<T> {
    pub version: Version,
    pub answer: T,
    pub log: Vec<LogLine>,
    pub took: Duration,
    pub used: Used,
}

/// What a hook says when it is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Allow,
    /// Why, in words that a customer may read.
    Deny(String),
    /// Other values for options: name to value.
    Amend(serde_json::Map<String, serde_json::Value>),
}

/// What a provisioner found in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer into the settings.
    pub field: String,
    pub message: String,
    pub remedy: String,
    pub fatal: bool,
}

/// What a panel wants, as its adapter understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelCommand {
    pub verb: String,
    /// The panel's own id of the service.
    pub reference: String,
    pub plan: Option<String>,
    pub options: Vec<(String, String)>,
    pub facts: Vec<(String, String)>,
    pub ext: Vec<(String, String)>,
}

/// What the host did about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelResult {
    pub accepted: bool,
    pub operation: Option<String>,
    pub phase: String,
    /// Empty when accepted; else stable kebab-case.
    pub code: String,
    pub customer_message: String,
    pub admin_message: String,
    pub ext: Vec<(String, String)>,
}

/// What a hook says of an event that needs no further attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Delivered,
    /// Not of interest to it: nothing was sent.
    Ignored,
    /// Not delivered: why.
    GivenUp(String),
}

/// What a panel posted, already authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PanelHook {
    pub panel: String,
    pub verb: String,
    pub query: String,
    /// Names in lower case; without those that authenticate.
    pub headers: Vec<(String, String)>,
    pub content_type: String,
    pub body: String,
    /// Settings of the panel, as the admin saved them.
    pub settings: serde_json::Value,
}

/// What the panel's module gets back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanelAnswer {
    /// 200 to 599; none = the host's own.
    pub status: Option<u16>,
    pub content_type: String,
    pub body: String,
}
