//! Installed versions of plugins, and what admins did with them.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{Millis, manifest::Manifest};

/// An installed version. Never edited; the same version with other bytes is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginVersion {
    pub id: String,
    pub version: Version,
    /// SHA-256 of the component, lower-case hex.
    pub digest: String,
    pub manifest: Manifest,
    pub size: i64,
    pub installed_ms: Millis,
    pub installed_by: String,
}

/// Which version new steps run on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub id: String,
    pub current: Version,
    /// What `rollback` goes back to.
    pub previous: Option<Version>,
    pub enabled: bool,
    /// Rises with every move.
    pub revision: i64,
}

/// One row of the audit log: who did what to which, when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub seq: i64,
    pub at_ms: Millis,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub body: serde_json::Value,
}
