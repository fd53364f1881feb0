//! Objects, secrets and the plugins' own small stores.

use async_trait::async_trait;
use sqlx::{query, query_as, query_scalar};
use wharf_model::{
    Millis,
    object::{Object, ObjectKind},
};
use wharf_store::rows::{ObjectRow, to_json};
use wharf_store::{NewAudit, Objects, Result, Signal, StoreError};

use crate::{PostgresStore, error::DbError, events, limit, lock::Lock, signals};

#[async_trait]
impl Objects for PostgresStore {
    async fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>> {
        let kind = kind.as_str();
        let mut reader = self.reader().await?;
        let row = query_as!(
            ObjectRow,
            "SELECT kind, name, revision, body, created_ms, updated_ms FROM object WHERE kind = $1 AND name = $2",
            kind,
            name
        )
        .fetch_optional(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(row.map(ObjectRow::model).transpose()?)
    }

    async fn objects(&self, kind: ObjectKind) -> Result<Vec<Object>> {
        let kind = kind.as_str();
        let mut reader = self.reader().await?;
        let rows = query_as!(
            ObjectRow,
            "SELECT kind, name, revision, body, created_ms, updated_ms FROM object WHERE kind = $1 ORDER BY name",
            kind
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(ObjectRow::model).collect::<Result<_>>()?)
    }

    async fn put_object(
        &self,
        kind: ObjectKind,
        name: &str,
        body: serde_json::Value,
        expect: Option<i64>,
        audit: Option<NewAudit>,
        now: Millis,
    ) -> Result<Object> {
        let name = name.to_owned();
        self.write(move |c| {
                Box::pin(async move {
                    let word = kind.as_str();
                    Lock::Object(word, &name).take(c).await?;
                    let old = query_as!(ObjectRow, "SELECT kind, name, revision, body, created_ms, updated_ms FROM object WHERE kind = $1 AND name = $2", word, name)
                        .fetch_optional(&mut *c)
                        .await?;
                    let revision = old.as_ref().map_or(0, |o| o.revision);
                    if let Some(expect) = expect.filter(|e| *e != revision) {
                        return Err(DbError::Store(StoreError::Conflict(match (expect, revision) {
                            (0, _) => format!("{kind} {name} exists already"),
                            (_, 0) => format!("{kind} {name} does not exist, so it has no revision {expect}"),
                            _ => format!("{kind} {name} is at revision {revision}, not {expect}: read it again"),
                        })));
                    }
                    let object = Object {
                        kind,
                        name,
                        revision: revision + 1,
                        body,
                        created_ms: old.map_or(now, |o| o.created_ms),
                        updated_ms: now,
                    };
                    let text = to_json(&object.body, "object.body")?;
                    query!(
                        "INSERT INTO object (kind, name, revision, body, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $5, $6)
                         ON CONFLICT (kind, name) DO UPDATE SET revision = $3, body = $4, updated_ms = $6",
                        word,
                        object.name,
                        object.revision,
                        text,
                        object.created_ms,
                        now
                    )
                    .execute(&mut *c)
                    .await?;
                    signals::tell(c, Signal::Objects).await?;
                    events::audit(c, audit, now).await?;
                    Ok(object)
                })
            })
            .await
    }

    async fn delete_object(&self, kind: ObjectKind, name: &str, audit: Option<NewAudit>, now: Millis) -> Result<bool> {
        let name = name.to_owned();
        self.write(move |c| {
            Box::pin(async move {
                let word = kind.as_str();
                Lock::Object(word, &name).take(c).await?;
                let gone =
                    query!("DELETE FROM object WHERE kind = $1 AND name = $2", word, name).execute(&mut *c).await?;
                if gone.rows_affected() == 0 {
                    return Ok(false);
                }
                let owner = format!("{kind}/{name}");
                query!("DELETE FROM secret WHERE owner = $1", owner).execute(&mut *c).await?;
                if kind == ObjectKind::Hook {
                    query!("DELETE FROM delivery WHERE hook = $1", name).execute(&mut *c).await?;
                }
                signals::tell(c, Signal::Objects).await?;
                events::audit(c, audit, now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn put_secret(&self, owner: &str, slot: &str, sealed: &[u8], now: Millis) -> Result<()> {
        let (owner, slot, sealed) = (owner.to_owned(), slot.to_owned(), sealed.to_vec());
        self.write(move |c| {
            Box::pin(async move {
                query!(
                    "INSERT INTO secret (owner, slot, sealed, updated_ms) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (owner, slot) DO UPDATE SET sealed = $3, updated_ms = $4",
                    owner,
                    slot,
                    sealed,
                    now
                )
                .execute(&mut *c)
                .await?;
                signals::tell(c, Signal::Objects).await
            })
        })
        .await
    }

    async fn put_secret_once(&self, owner: &str, slot: &str, sealed: &[u8], now: Millis) -> Result<Vec<u8>> {
        let (owner, slot, sealed) = (owner.to_owned(), slot.to_owned(), sealed.to_vec());
        self.write(move |c| {
            Box::pin(async move {
                query!(
                    "INSERT INTO secret (owner, slot, sealed, updated_ms) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (owner, slot) DO NOTHING",
                    owner,
                    slot,
                    sealed,
                    now
                )
                .execute(&mut *c)
                .await?;
                Ok(query_scalar!("SELECT sealed FROM secret WHERE owner = $1 AND slot = $2", owner, slot)
                    .fetch_one(&mut *c)
                    .await?)
            })
        })
        .await
    }

    async fn secret(&self, owner: &str, slot: &str) -> Result<Option<Vec<u8>>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!("SELECT sealed FROM secret WHERE owner = $1 AND slot = $2", owner, slot)
            .fetch_optional(&mut *reader)
            .await
            .map_err(DbError::from)?)
    }

    async fn secret_slots(&self, owner: &str) -> Result<Vec<String>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!("SELECT slot FROM secret WHERE owner = $1 ORDER BY slot", owner)
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?)
    }

    async fn delete_secret(&self, owner: &str, slot: &str) -> Result<()> {
        let (owner, slot) = (owner.to_owned(), slot.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                query!("DELETE FROM secret WHERE owner = $1 AND slot = $2", owner, slot).execute(&mut *c).await?;
                signals::tell(c, Signal::Objects).await
            })
        })
        .await
    }

    async fn all_secrets(&self) -> Result<Vec<(String, String, Vec<u8>)>> {
        let mut reader = self.reader().await?;
        let rows = query!("SELECT owner, slot, sealed FROM secret ORDER BY owner, slot")
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        Ok(rows.into_iter().map(|r| (r.owner, r.slot, r.sealed)).collect())
    }

    async fn kv_get(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!("SELECT value FROM kv WHERE plugin = $1 AND key = $2", plugin, key)
            .fetch_optional(&mut *reader)
            .await
            .map_err(DbError::from)?)
    }

    async fn kv_set(&self, plugin: &str, key: &str, value: &[u8], max_total: usize) -> Result<bool> {
        let (plugin, key, value) = (plugin.to_owned(), key.to_owned(), value.to_vec());
        self.write(move |c| {
            Box::pin(async move {
                Lock::Kv(&plugin).take(c).await?;
                let others = query_scalar!(
                    r#"SELECT COALESCE(SUM(OCTET_LENGTH(key) + OCTET_LENGTH(value)), 0)::BIGINT AS "total!"
                           FROM kv WHERE plugin = $1 AND key <> $2"#,
                    plugin,
                    key
                )
                .fetch_one(&mut *c)
                .await?;
                if others.saturating_add(limit(key.len() + value.len())) > limit(max_total) {
                    return Ok(false);
                }
                query!(
                    "INSERT INTO kv (plugin, key, value) VALUES ($1, $2, $3)
                         ON CONFLICT (plugin, key) DO UPDATE SET value = $3",
                    plugin,
                    key,
                    value
                )
                .execute(&mut *c)
                .await?;
                Ok(true)
            })
        })
        .await
    }

    async fn kv_delete(&self, plugin: &str, key: &str) -> Result<()> {
        let (plugin, key) = (plugin.to_owned(), key.to_owned());
        self.write(move |c| {
            Box::pin(async move {
                query!("DELETE FROM kv WHERE plugin = $1 AND key = $2", plugin, key).execute(&mut *c).await?;
                Ok(())
            })
        })
        .await
    }

    async fn kv_keys(&self, plugin: &str, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let most = crate::limit(limit);
        let mut reader = self.reader().await?;
        Ok(query_scalar!(
            "SELECT key FROM kv WHERE plugin = $1 AND key >= $2 AND starts_with(key, $2) ORDER BY key LIMIT $3",
            plugin,
            prefix,
            most
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?)
    }
}
