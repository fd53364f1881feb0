//! How versions of a plugin follow each other.

use semver::Version;
use wharf_model::plugin::{PluginVersion, Rollout};

use crate::{Result, StoreError};

/// The version is installed already: fine with the same bytes, refused with others.
pub fn same_bytes(version: &PluginVersion, installed_digest: &str) -> Result<()> {
    if version.digest == installed_digest {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "version {} of the plugin {} is installed with other bytes: give the new build a new version",
        version.version, version.id
    )))
}

/// The rollout after `version` became the current one. Rolling out what is current already moves nothing.
pub fn roll_out(id: &str, version: &Version, before: Option<&Rollout>) -> Rollout {
    match before {
        None => Rollout { id: id.to_owned(), current: version.clone(), previous: None, enabled: true, revision: 1 },
        Some(before) if before.current == *version => before.clone(),
        Some(before) => Rollout {
            id: id.to_owned(),
            current: version.clone(),
            previous: Some(before.current.clone()),
            enabled: before.enabled,
            revision: before.revision + 1,
        },
    }
}

/// Switches it on or off; the same again moves nothing.
pub fn enable(rollout: &mut Rollout, enabled: bool) {
    if rollout.enabled != enabled {
        rollout.enabled = enabled;
        rollout.revision += 1;
    }
}

pub fn not_rolled_out(id: &str) -> StoreError {
    StoreError::NotFound(format!("a rolled-out version of the plugin {id}"))
}
