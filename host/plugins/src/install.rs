//! Installing, rolling out and back.
//!
//! upload → size and hash → manifest → imports against the host's offer, the manifest's wishes and the grant → compile →
//! warm → keep → roll out → publish. Guarantees that nothing of a plugin runs before its manifest was read and its imports
//! were held to its grant; that a refusal changes nothing; that an installed version never changes; and that every move
//! leaves a row in the audit log, written with it.

use std::{collections::BTreeSet, sync::Arc};

use semver::Version;
use serde::Serialize;
use serde_json::json;
use wharf_model::{
    manifest::{ManifestError, World},
    object::{Grant, ObjectKind},
    plugin::{PluginVersion, Rollout},
};
use wharf_store::{NewAudit, StoreError};

use crate::{
    contract,
    error::{InstallError, RuntimeError},
    inspect::{self, Inspection},
    runtime::Runtime,
    settings, text,
};

/// Largest component that [`Runtime::inspect`] looks at.
const INSPECT_BYTES: u64 = 64 << 20;

/// What an admin says to what a plugin wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantRequest {
    /// As before: a plugin that wants more than it was granted is refused, and what more is named.
    Keep,
    /// These interfaces too. What the plugin does not want is refused: a slip of the pen.
    Allow(BTreeSet<String>),
}

/// A plugin that was installed and rolled out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Installed {
    pub id: String,
    pub version: Version,
    pub world: World,
    pub digest: String,
    /// What ran before.
    pub previous: Option<Version>,
    /// It was installed already.
    pub again: bool,
    pub granted: BTreeSet<String>,
}

impl Runtime {
    /// Looks at a component; runs nothing of it. Why it could not run here is in [`Inspection::problems`].
    ///
    /// # Errors
    /// Bytes that are no whole component with one valid manifest, or of more than 64 MiB.
    pub fn inspect(bytes: &[u8]) -> Result<Inspection, InstallError> {
        let mut found = inspect::inspect(bytes, INSPECT_BYTES)?;
        found.problems.extend(schema_problems(&found));
        Ok(found)
    }

    /// Installs a component and rolls it out. The same version with the same bytes again is no error.
    ///
    /// # Errors
    /// A sentence with a remedy; nothing has changed then.
    pub async fn install(
        &self,
        component: Vec<u8>,
        actor: &str,
        grant: GrantRequest,
    ) -> Result<Installed, InstallError> {
        let limit = self.config.component_bytes;
        let (found, component) = tokio::task::spawn_blocking(move || {
            let found = inspect::inspect(&component, limit);
            (found, component)
        })
        .await
        .map_err(|e| InstallError::Malformed(format!("reading it failed ({e})")))?;
        let found = found?;
        let mut problems = found.problems.clone();
        problems.extend(schema_problems(&found));
        if !problems.is_empty() {
            return Err(InstallError::Contract(problems));
        }

        let _changing = self.changing.lock().await;
        let manifest = &found.manifest;
        let id = manifest.id.clone();
        let again = self.same_or_new(&found).await?;
        let before = self.grant(&id).await?;
        let granted = granted(&found, &before, grant)?;

        let now = self.lender.clock.now_ms();
        let row = PluginVersion {
            id: id.clone(),
            version: manifest.version.clone(),
            digest: found.digest.clone(),
            manifest: manifest.clone(),
            size: i64::try_from(found.bytes).unwrap_or(i64::MAX),
            installed_ms: now,
            installed_by: actor.to_owned(),
        };
        let (code, component) = match self.cache.cached(&self.engine, &found.digest) {
            Some(code) => (code, component),
            None => self.compile(found.digest.clone(), component).await?,
        };
        self.warm(Arc::new(row.clone()), &code).await?;

        let audit = |action: &str, body: serde_json::Value| NewAudit {
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: format!("plugin/{id}"),
            body,
        };
        let body = json!({"version": row.version, "digest": row.digest, "bytes": row.size, "world": manifest.world});
        match self.lender.books.add_plugin(row, component, audit("plugin.install", body)).await {
            Err(StoreError::Conflict(_)) => {
                return Err(InstallError::OtherContents { id, version: manifest.version.clone() });
            }
            other => other?,
        }
        if granted.interfaces != before.interfaces {
            let body = json!({"interfaces": granted.interfaces, "before": before.interfaces});
            let row = serde_json::to_value(&granted).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            self.lender
                .books
                .put_object(ObjectKind::Grant, &id, row, None, Some(audit("plugin.grant", body)), now)
                .await?;
        }
        let rollout = self.rollout(&id).await?;
        let previous = match rollout {
            Some(rollout) if rollout.current == manifest.version => rollout.previous,
            other => {
                let from = other.map(|r| r.current);
                let body = json!({"from": from, "to": manifest.version});
                self.lender.books.roll_out(&id, &manifest.version, audit("plugin.roll-out", body), now).await?;
                from
            }
        };
        self.publish(&id).await?;
        tracing::info!(plugin = %id, version = %manifest.version, digest = %found.digest, actor, "a plugin was installed");
        Ok(Installed {
            id,
            version: manifest.version.clone(),
            world: manifest.world,
            digest: found.digest.clone(),
            previous,
            again,
            granted: granted.interfaces,
        })
    }

    /// Makes an installed version the one that new steps run on.
    ///
    /// # Errors
    /// It is not installed, wants more than is granted, or does not start on this host.
    pub async fn roll_out(&self, id: &str, version: &Version, actor: &str) -> Result<Rollout, InstallError> {
        let _changing = self.changing.lock().await;
        self.move_to(id, version, actor, "plugin.roll-out").await
    }

    /// Goes back to the version that ran before.
    ///
    /// # Errors
    /// There is none, or it can't be run any more.
    pub async fn rollback(&self, id: &str, actor: &str) -> Result<Rollout, InstallError> {
        let _changing = self.changing.lock().await;
        let previous = self
            .rollout(id)
            .await?
            .ok_or_else(|| no_such(id, "?"))?
            .previous
            .ok_or_else(|| InstallError::NoPrevious { id: id.to_owned() })?;
        self.move_to(id, &previous, actor, "plugin.rollback").await
    }

    /// Switches a plugin off, or on again. What is called meanwhile finishes.
    ///
    /// # Errors
    /// It is not installed.
    pub async fn set_enabled(&self, id: &str, enabled: bool, actor: &str) -> Result<Rollout, InstallError> {
        let _changing = self.changing.lock().await;
        if self.rollout(id).await?.is_none() {
            return Err(no_such(id, "?"));
        }
        let audit = NewAudit {
            actor: actor.to_owned(),
            action: if enabled { "plugin.enable" } else { "plugin.disable" }.to_owned(),
            subject: format!("plugin/{id}"),
            body: json!({}),
        };
        let now = self.lender.clock.now_ms();
        let rollout = self.lender.books.set_plugin_enabled(id, enabled, audit, now).await?;
        self.publish(id).await?;
        Ok(rollout)
    }

    async fn move_to(&self, id: &str, version: &Version, actor: &str, action: &str) -> Result<Rollout, InstallError> {
        let rollout = self.rollout(id).await?.ok_or_else(|| no_such(id, &version.to_string()))?;
        // Loaded before it is rolled out, so that nobody is sent to a version that can't run.
        self.rebuild(Some((id, version))).await.map_err(ours)?;
        match self.snapshot.load().plugins.get(id).and_then(|p| p.versions.get(version)) {
            None => return Err(no_such(id, &version.to_string())),
            Some(crate::registry::Slot::Refused(_, why)) => return Err(InstallError::Warm(why.clone())),
            Some(_) => {}
        }
        if rollout.current == *version {
            return Ok(rollout);
        }
        let audit = NewAudit {
            actor: actor.to_owned(),
            action: action.to_owned(),
            subject: format!("plugin/{id}"),
            body: json!({"from": rollout.current, "to": version}),
        };
        let moved = self.lender.books.roll_out(id, version, audit, self.lender.clock.now_ms()).await?;
        self.publish(id).await?;
        tracing::info!(plugin = id, from = %rollout.current, to = %version, actor, action, "a plugin was moved");
        Ok(moved)
    }

    async fn publish(&self, id: &str) -> Result<(), InstallError> {
        self.rebuild(None).await.map_err(ours)?;
        // A hint: whoever misses it tries again when its pause is over.
        let _ = self.lender.books.wake_topic(&plugin_topic(id), self.lender.clock.now_ms()).await;
        Ok(())
    }

    async fn rollout(&self, id: &str) -> Result<Option<Rollout>, StoreError> {
        Ok(self.lender.books.rollouts().await?.into_iter().find(|r| r.id == id))
    }

    /// Whether exactly this is installed already; an error if something else stands under its name.
    async fn same_or_new(&self, found: &Inspection) -> Result<bool, InstallError> {
        let this = &found.manifest;
        let mut again = false;
        for row in self.lender.books.plugin_versions().await?.into_iter().filter(|row| row.id == this.id) {
            if row.manifest.world != this.world {
                return Err(InstallError::OtherWorld {
                    id: row.id,
                    installed: row.manifest.world.to_string(),
                    this: this.world.to_string(),
                });
            }
            if row.version == this.version {
                if row.digest != found.digest {
                    return Err(InstallError::OtherContents { id: row.id, version: row.version });
                }
                again = true;
            }
        }
        Ok(again)
    }
}

/// What operations wait for that a plugin could not carry on: it was moved to another version, or switched on.
pub fn plugin_topic(id: &str) -> String {
    format!("plugin:{id}")
}

fn no_such(id: &str, version: &str) -> InstallError {
    InstallError::NoSuchVersion { id: id.to_owned(), version: version.to_owned() }
}

fn ours(error: RuntimeError) -> InstallError {
    match error {
        RuntimeError::Store(e) => InstallError::Store(e),
        other => InstallError::Cache(crate::runtime::chain(&other)),
    }
}

fn granted(found: &Inspection, before: &Grant, request: GrantRequest) -> Result<Grant, InstallError> {
    let id = found.manifest.id.clone();
    let mut grant = before.clone();
    if let GrantRequest::Allow(interfaces) = request {
        let extra: Vec<_> = interfaces.iter().filter(|i| !found.manifest.wants.contains_key(*i)).cloned().collect();
        if !extra.is_empty() {
            return Err(InstallError::NotWanted { id, extra: text::list(&extra) });
        }
        grant.interfaces.extend(interfaces);
    }
    let wanted = contract::grantable(&found.manifest);
    let missing: Vec<_> = wanted.into_iter().filter(|i| !grant.interfaces.contains(i)).collect();
    if !missing.is_empty() {
        return Err(InstallError::NotGranted { id, missing: text::list(&missing), interfaces: missing });
    }
    // Interfaces that come with the world are granted with it: capabilities look for all of them in one place.
    grant.interfaces.extend(found.manifest.wants.keys().cloned());
    Ok(grant)
}

/// Schemas that can't be compiled, or that give one option to two settings.
fn schema_problems(found: &Inspection) -> Vec<String> {
    let manifest = &found.manifest;
    let broken = |at: &str, schema: &serde_json::Value| {
        jsonschema::validator_for(schema).err().map(|e| {
            ManifestError::Field { field: at.to_owned(), problem: format!("is no valid JSON Schema: {e}") }.to_string()
        })
    };
    let mut problems: Vec<_> = broken("settings", &manifest.settings).into_iter().collect();
    problems.extend(manifest.actions.iter().filter_map(|a| broken(&format!("actions.{}.input", a.id), &a.input)));
    problems.extend(settings::owner_problem(&manifest.settings));
    problems
}
