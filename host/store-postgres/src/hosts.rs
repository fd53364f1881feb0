//! Who works on these books.

use async_trait::async_trait;
use sqlx::{query, query_scalar};
use uuid::Uuid;
use wharf_model::Millis;
use wharf_store::{Host, HostView, Hosts, Result, rows::uid, rules};

use crate::{PostgresStore, error::DbError};

#[async_trait]
impl Hosts for PostgresStore {
    async fn host_seen(&self, host: &Host) -> Result<()> {
        let host = host.clone();
        self.write(move |c| {
            Box::pin(async move {
                let id = host.id.to_string();
                let forgotten = host.seen_ms.saturating_sub(rules::HOST_FORGOTTEN_MS);
                query!("DELETE FROM host WHERE seen_ms <= $1", forgotten).execute(&mut *c).await?;
                query!(
                    "INSERT INTO host (id, name, address, version, started_ms, seen_ms) VALUES ($1, $2, $3, $4, $5, $6)
                         ON CONFLICT (id) DO UPDATE SET name = $2, address = $3, version = $4, seen_ms = $6",
                    id,
                    host.name,
                    host.address,
                    host.version,
                    host.started_ms,
                    host.seen_ms
                )
                .execute(&mut *c)
                .await?;
                Ok(())
            })
        })
        .await
    }

    async fn host_gone(&self, id: Uuid) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                let id = id.to_string();
                query!("DELETE FROM host WHERE id = $1", id).execute(&mut *c).await?;
                query!("DELETE FROM watch WHERE owner = $1", id).execute(&mut *c).await?;
                Ok(())
            })
        })
        .await
    }

    async fn hosts(&self) -> Result<Vec<HostView>> {
        let mut reader = self.reader().await?;
        let rows =
            query!(r#"SELECT h.id, h.name, h.address, h.version, h.started_ms, h.seen_ms, (SELECT COUNT(*) FROM queue q WHERE q.owner = h.id) AS "runs!: i64" FROM host h"#)
                .fetch_all(&mut *reader)
                .await
                .map_err(DbError::from)?;
        let mut hosts = Vec::with_capacity(rows.len());
        for row in rows {
            let watches = query_scalar!("SELECT server FROM watch WHERE owner = $1 ORDER BY server", row.id)
                .fetch_all(&mut *reader)
                .await
                .map_err(DbError::from)?;
            let dns_queues = query_scalar!("SELECT queue FROM dns_queue WHERE owner = $1 ORDER BY queue", row.id)
                .fetch_all(&mut *reader)
                .await
                .map_err(DbError::from)?;
            hosts.push(HostView {
                host: Host {
                    id: uid(&row.id)?,
                    name: row.name,
                    address: row.address,
                    version: row.version,
                    started_ms: row.started_ms,
                    seen_ms: row.seen_ms,
                },
                runs: row.runs,
                watches,
                dns_queues,
            });
        }
        rules::sort_hosts(&mut hosts);
        Ok(hosts)
    }

    async fn hold_watch(&self, server: &str, owner: Uuid, ttl_ms: i64, now: Millis) -> Result<bool> {
        let (server, owner, until) = (server.to_owned(), owner.to_string(), now.saturating_add(ttl_ms));
        self.write(move |c| {
            Box::pin(async move {
                let held = query!(
                    "INSERT INTO watch (server, owner, until_ms) VALUES ($1, $2, $3)
                         ON CONFLICT (server) DO UPDATE SET owner = $2, until_ms = $3
                         WHERE watch.owner = $2 OR watch.until_ms <= $4",
                    server,
                    owner,
                    until,
                    now
                )
                .execute(&mut *c)
                .await?;
                Ok(held.rows_affected() > 0)
            })
        })
        .await
    }
}
