//! Operations (deploy, terminate, …), their steps and their log.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Millis, service::ServiceId};

pub type OperationId = Uuid;

/// What an operation is doing, for everyone who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Behind another operation of the same service.
    Queued,
    Running,
    /// For time, for a slot, for other work, or after a failure that will be tried again.
    Waiting,
    Succeeded,
    /// Overtaken by a newer wish before it was done.
    Cancelled,
    /// Stopped; only a person can go on.
    NeedsAdmin,
}

impl Status {
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Succeeded, Self::Cancelled, Self::NeedsAdmin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::NeedsAdmin => "needs-admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled | Self::NeedsAdmin)
    }
}

/// Why an operation does not go on right now, or why it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable kebab-case.
    pub code: String,
    /// One plain sentence.
    pub message: String,
}

/// The row of an operation: while it lives, and afterwards as history (the last 50 of a service).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub id: OperationId,
    pub service_id: ServiceId,
    /// The service's generation that it is.
    pub generation: u32,
    pub kind: String,
    pub plugin: String,
    pub status: Status,
    /// Last completed state and the version of its meaning.
    pub state: String,
    pub state_version: u32,
    pub memo: Option<String>,
    /// Failures in a row at this state.
    pub attempt: u32,
    pub reason: Option<Reason>,
    pub created_ms: Millis,
    pub started_ms: Option<Millis>,
    /// When `state` changed last.
    pub state_ms: Millis,
    pub ended_ms: Option<Millis>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum StepResult {
    Success,
    Skip { reason: String },
    Waiting { reason: String },
    Error { code: String, message: String },
}

/// One line of the operation's log. `n` counts from 1 within the operation, without gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    pub n: i64,
    pub at_ms: Millis,
    #[serde(flatten)]
    pub body: LogBody,
}

/// What a line of the log holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum LogBody {
    /// A state was reached, or a step ended without reaching one.
    Step {
        /// Place of the target state in its operation, from 1.
        number: u32,
        label: String,
        from: String,
        to: String,
        result: StepResult,
        /// Id of the write that did it.
        effect: Option<String>,
        /// Version of the plugin that carried it out.
        version: String,
        duration_ms: i64,
        /// Epoch of the claim, for the audit of take-overs.
        epoch: i64,
    },
    /// A line of the plugin or the host.
    Line { level: String, message: String, fields: Vec<(String, String)> },
}
