//! Installed plugins.

use async_trait::async_trait;
use semver::Version;
use sqlx::{PgConnection, query, query_as, query_scalar};
use wharf_model::{
    Millis,
    plugin::{PluginVersion, Rollout},
};
use wharf_store::rows::{PluginVersionRow, RolloutRow, to_json};
use wharf_store::{NewAudit, Plugins, Result, Signal, StoreError, rules::plugins};

use crate::{
    PostgresStore,
    error::{Db, DbError},
    events,
    lock::Lock,
    signals,
};

#[async_trait]
impl Plugins for PostgresStore {
    async fn add_plugin(&self, version: PluginVersion, component: Vec<u8>, audit: NewAudit) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                Lock::Plugins.take(c).await?;
                let number = version.version.to_string();
                let there = query_scalar!(
                    "SELECT digest FROM plugin_version WHERE id = $1 AND version = $2",
                    version.id,
                    number
                )
                .fetch_optional(&mut *c)
                .await?;
                if let Some(digest) = there {
                    return Ok(plugins::same_bytes(&version, &digest)?);
                }
                query!(
                    "INSERT INTO component (digest, bytes) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING",
                    version.digest,
                    component
                )
                .execute(&mut *c)
                .await?;
                let manifest = to_json(&version.manifest, "plugin_version.manifest")?;
                query!(
                    "INSERT INTO plugin_version (id, version, digest, manifest, size, installed_ms, installed_by)
                         VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    version.id,
                    number,
                    version.digest,
                    manifest,
                    version.size,
                    version.installed_ms,
                    version.installed_by
                )
                .execute(&mut *c)
                .await?;
                signals::tell(c, Signal::Plugins).await?;
                events::audit(c, Some(audit), version.installed_ms).await
            })
        })
        .await
    }

    async fn plugin_versions(&self) -> Result<Vec<PluginVersion>> {
        let mut reader = self.reader().await?;
        let rows = query_as!(
            PluginVersionRow,
            "SELECT id, version, digest, manifest, size, installed_ms, installed_by FROM plugin_version"
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        let mut versions = rows.into_iter().map(PluginVersionRow::model).collect::<Result<Vec<_>>>()?;
        // 0.10 comes after 0.9: text does not sort like versions.
        versions.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
        Ok(versions)
    }

    async fn component(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!("SELECT bytes FROM component WHERE digest = $1", digest)
            .fetch_optional(&mut *reader)
            .await
            .map_err(DbError::from)?)
    }

    async fn roll_out(&self, id: &str, version: &Version, audit: NewAudit, now: Millis) -> Result<Rollout> {
        let (id, version) = (id.to_owned(), version.clone());
        self.write(move |c| {
            Box::pin(async move {
                Lock::Plugins.take(c).await?;
                let number = version.to_string();
                let there = query_scalar!(
                    r#"SELECT COUNT(*) AS "count!" FROM plugin_version WHERE id = $1 AND version = $2"#,
                    id,
                    number
                )
                .fetch_one(&mut *c)
                .await?;
                if there == 0 {
                    return Err(StoreError::NotFound(format!("version {version} of the plugin {id}")).into());
                }
                let before = rollout(c, &id).await?;
                let after = plugins::roll_out(&id, &version, before.as_ref());
                put(c, &after).await?;
                signals::tell(c, Signal::Plugins).await?;
                events::audit(c, Some(audit), now).await?;
                Ok(after)
            })
        })
        .await
    }

    async fn set_plugin_enabled(&self, id: &str, enabled: bool, audit: NewAudit, now: Millis) -> Result<Rollout> {
        let id = id.to_owned();
        self.write(move |c| {
            Box::pin(async move {
                Lock::Plugins.take(c).await?;
                let mut row = rollout(c, &id).await?.ok_or_else(|| plugins::not_rolled_out(&id))?;
                plugins::enable(&mut row, enabled);
                put(c, &row).await?;
                signals::tell(c, Signal::Plugins).await?;
                events::audit(c, Some(audit), now).await?;
                Ok(row)
            })
        })
        .await
    }

    async fn rollouts(&self) -> Result<Vec<Rollout>> {
        let mut reader = self.reader().await?;
        let rows = query_as!(RolloutRow, "SELECT id, current, previous, enabled, revision FROM rollout ORDER BY id")
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        Ok(rows.into_iter().map(RolloutRow::model).collect::<Result<_>>()?)
    }
}

async fn rollout(c: &mut PgConnection, id: &str) -> Db<Option<Rollout>> {
    let row = query_as!(RolloutRow, "SELECT id, current, previous, enabled, revision FROM rollout WHERE id = $1", id)
        .fetch_optional(&mut *c)
        .await?;
    Ok(row.map(RolloutRow::model).transpose()?)
}

async fn put(c: &mut PgConnection, rollout: &Rollout) -> Db<()> {
    let current = rollout.current.to_string();
    let previous = rollout.previous.as_ref().map(ToString::to_string);
    query!(
        "INSERT INTO rollout (id, current, previous, enabled, revision) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET current = $2, previous = $3, enabled = $4, revision = $5",
        rollout.id,
        current,
        previous,
        i64::from(rollout.enabled),
        rollout.revision
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}
