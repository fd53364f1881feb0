//! A service: one sold VM.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Millis;

/// Id of a service, chosen by the host, never reused. Also the ownership marker on the VM.
pub type ServiceId = Uuid;

/// Where a service is in its life: a word of the host, beside the provisioner's own states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Pending,
    Provisioning,
    Active,
    Changing,
    Terminating,
    Terminated,
    NeedsAdmin,
}

impl Phase {
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Provisioning,
        Self::Active,
        Self::Changing,
        Self::Terminating,
        Self::Terminated,
        Self::NeedsAdmin,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Changing => "changing",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::NeedsAdmin => "needs-admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The row of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub id: ServiceId,
    /// Name of the panel that sold it, and the panel's own id of it. Unique together, for ever.
    pub panel: String,
    pub reference: String,
    pub plan: String,
    /// Name of the server (host or cluster) it is on.
    pub server: String,
    /// Id of the provisioner plugin.
    pub plugin: String,
    /// Options as ordered, by name, for display and for later changes.
    pub options: BTreeMap<String, String>,
    /// What counts: the plan's settings with the options over them and defaults filled in.
    pub settings: serde_json::Value,
    /// What the panel said of the order.
    pub order: BTreeMap<String, String>,
    /// What the plugin keeps about it.
    pub facts: BTreeMap<String, String>,
    pub phase: Phase,
    /// Denied to the client, whatever runs.
    pub suspended: bool,
    /// Counts its operations.
    pub generation: u32,
    /// State of its last operation, in the provisioner's words, and the version of their meaning.
    pub state: String,
    pub state_version: u32,
    /// The number reserved for it on its server.
    pub vmid: Option<u32>,
    /// When the VM's absence was proven last; cleared when a clone is submitted.
    pub absence_proven_ms: Option<Millis>,
    pub created_ms: Millis,
    pub updated_ms: Millis,
}
