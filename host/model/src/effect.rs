//! An effect: one journaled write to a server.

use serde::{Deserialize, Serialize};

use crate::{Millis, operation::OperationId, service::ServiceId};

/// How far it is.
///
/// `planned` → `intent` → (`issued` →) `ok` | `failed`. `planned` = surely not sent (waits for a slot, or was refused
/// busy). `intent` = the call may be in flight; found so by another claim, it is in doubt. `issued` = the server took it
/// on as a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectState {
    Planned,
    Intent,
    Issued,
    Ok,
    Failed,
}

impl EffectState {
    pub const ALL: [Self; 5] = [Self::Planned, Self::Intent, Self::Issued, Self::Ok, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Intent => "intent",
            Self::Issued => "issued",
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    pub fn is_resolved(self) -> bool {
        matches!(self, Self::Ok | Self::Failed)
    }
}

/// The row of an effect. Its key is (service, generation, sequence); its id for plugins and people is
/// `generation.sequence`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub service_id: ServiceId,
    pub operation_id: OperationId,
    pub generation: u32,
    pub sequence: u32,
    /// "clone", "configure", …
    pub kind: String,
    pub server: String,
    /// What to do, in the words of the capability that executes it. Secrets stand in it by reference only.
    pub body: serde_json::Value,
    /// The pool of slots that it needs one of, and how many there are.
    pub slot: Option<SlotPool>,
    pub state: EffectState,
    /// The server's own id of the running task.
    pub task: Option<String>,
    /// Until when an unanswered call may still arrive.
    pub deadline_ms: Millis,
    pub result: Option<EffectResult>,
    pub created_ms: Millis,
    pub issued_ms: Option<Millis>,
    pub resolved_ms: Option<Millis>,
}

impl Effect {
    pub fn id(&self) -> String {
        format!("{}.{}", self.generation, self.sequence)
    }
}

/// A cap on how many effects of one sort run at once ("clones on this storage").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotPool {
    pub name: String,
    pub cap: u32,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectResult {
    pub ok: bool,
    /// Empty, or stable kebab-case.
    pub code: String,
    /// The server's own words.
    pub message: String,
}
