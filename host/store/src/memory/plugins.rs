//! Installed plugins.

use async_trait::async_trait;
use semver::Version;
use wharf_model::{
    Millis,
    plugin::{PluginVersion, Rollout},
};

use super::MemoryStore;
use crate::{NewAudit, Plugins, Result, StoreError, rules::plugins};

#[async_trait]
impl Plugins for MemoryStore {
    async fn add_plugin(&self, version: PluginVersion, component: Vec<u8>, audit: NewAudit) -> Result<()> {
        self.write("add_plugin", |state| {
            let key = (version.id.clone(), version.version.clone());
            if let Some(there) = state.versions.get(&key) {
                return plugins::same_bytes(&version, &there.digest);
            }
            let now = version.installed_ms;
            state.components.insert(version.digest.clone(), component);
            state.versions.insert(key, version);
            state.audit(Some(audit), now);
            Ok(())
        })
    }

    async fn plugin_versions(&self) -> Result<Vec<PluginVersion>> {
        Ok(self.read().versions.values().cloned().collect())
    }

    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.read().components.get(digest).cloned())
    }

    async fn roll_out(&self, id: &str, version: &Version, audit: NewAudit, now: Millis) -> Result<Rollout> {
        self.write("roll_out", |state| {
            if !state.versions.contains_key(&(id.to_owned(), version.clone())) {
                return Err(StoreError::NotFound(format!("version {version} of the plugin {id}")));
            }
            let rollout = plugins::roll_out(id, version, state.rollouts.get(id));
            state.rollouts.insert(id.to_owned(), rollout.clone());
            state.audit(Some(audit), now);
            Ok(rollout)
        })
    }

    async fn set_plugin_enabled(&self, id: &str, enabled: bool, audit: NewAudit, now: Millis) -> Result<Rollout> {
        self.write("set_plugin_enabled", |state| {
            let rollout = state.rollouts.get_mut(id).ok_or_else(|| plugins::not_rolled_out(id))?;
            plugins::enable(rollout, enabled);
            let rollout = rollout.clone();
            state.audit(Some(audit), now);
            Ok(rollout)
        })
    }

    async fn rollouts(&self) -> Result<Vec<Rollout>> {
        Ok(self.read().rollouts.values().cloned().collect())
    }
}
