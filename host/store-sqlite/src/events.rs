//! Events, deliveries to hooks, audit.

use async_trait::async_trait;
use sqlx::{SqliteConnection, query, query_as, query_scalar};
use uuid::Uuid;
use wharf_model::{
    Millis,
    event::{Delivery, Event, NewEvent},
    plugin::AuditEntry,
};
use wharf_store::rows::{AuditRow, EventRow, from_json, num, to_json};
use wharf_store::{Events, NewAudit, Result, StoreError, rules};

use crate::{
    SqliteStore,
    error::{Db, DbError},
    limit,
};

#[async_trait]
impl Events for SqliteStore {
    async fn append_events(&self, events: Vec<NewEvent>, now: Millis) -> Result<()> {
        self.writer.run(move |c| Box::pin(async move { append(c, events, now).await })).await
    }

    async fn events_after(&self, after: i64, panel: Option<&str>, limit: usize) -> Result<Vec<Event>> {
        let most = crate::limit(limit);
        let mut reader = self.reader().await?;
        let rows = match panel {
            Some(panel) => {
                query_as!(
                    EventRow,
                    "SELECT * FROM event WHERE panel = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                    panel,
                    after,
                    most
                )
                .fetch_all(&mut *reader)
                .await
            }
            None => {
                query_as!(EventRow, "SELECT * FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2", after, most)
                    .fetch_all(&mut *reader)
                    .await
            }
        };
        let rows = rows.map_err(DbError::from)?;
        // After the events: what was pruned between the two is then seen as gone, never missed.
        let key = rules::events::gone_key(panel);
        let gone = query_scalar!("SELECT value FROM meta WHERE key = ?1", key).fetch_optional(&mut *reader).await;
        rules::events::go_on(after, gone.map_err(DbError::from)?.as_deref())?;
        Ok(rows.into_iter().map(EventRow::model).collect::<Result<_>>()?)
    }

    async fn claim_deliveries(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Delivery>> {
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    let (most, owner, until) = (limit(n), owner.to_string(), now.saturating_add(ttl_ms));
                    let due = query!(
                        "SELECT d.seq, d.hook FROM delivery d WHERE d.due_ms <= ?1 AND NOT EXISTS (
                            SELECT 1 FROM delivery e WHERE e.hook = d.hook AND e.service_id = d.service_id AND e.seq < d.seq)
                         ORDER BY d.due_ms, d.seq, d.hook LIMIT ?2",
                        now,
                        most
                    )
                    .fetch_all(&mut *c)
                    .await?;
                    let mut claimed = Vec::with_capacity(due.len());
                    for row in due {
                        let taken = query!(
                            "UPDATE delivery SET owner = ?1, epoch = epoch + 1, attempt = attempt + 1, due_ms = ?2
                             WHERE seq = ?3 AND hook = ?4 RETURNING attempt, epoch",
                            owner,
                            until,
                            row.seq,
                            row.hook
                        )
                        .fetch_one(&mut *c)
                        .await?;
                        let event =
                            query_as!(EventRow, "SELECT * FROM event WHERE seq = ?1", row.seq).fetch_one(&mut *c).await?;
                        claimed.push(Delivery {
                            hook: row.hook,
                            event: event.model()?,
                            attempt: num(taken.attempt, "delivery.attempt")?,
                            epoch: taken.epoch,
                        });
                    }
                    Ok(claimed)
                })
            })
            .await
    }

    async fn settle_delivery(
        &self,
        owner: Uuid,
        delivery: &Delivery,
        again: Option<Millis>,
        _now: Millis,
    ) -> Result<()> {
        let (seq, hook, epoch) = (delivery.event.seq, delivery.hook.clone(), delivery.epoch);
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    let owner = owner.to_string();
                    let done = match again {
                        Some(due) => {
                            query!(
                                "UPDATE delivery SET owner = NULL, due_ms = ?1
                                 WHERE seq = ?2 AND hook = ?3 AND owner = ?4 AND epoch = ?5",
                                due,
                                seq,
                                hook,
                                owner,
                                epoch
                            )
                            .execute(&mut *c)
                            .await?
                        }
                        None => {
                            query!(
                                "DELETE FROM delivery WHERE seq = ?1 AND hook = ?2 AND owner = ?3 AND epoch = ?4",
                                seq,
                                hook,
                                owner,
                                epoch
                            )
                            .execute(&mut *c)
                            .await?
                        }
                    };
                    if done.rows_affected() == 0 { Err(StoreError::ClaimLost.into()) } else { Ok(()) }
                })
            })
            .await
    }

    async fn next_delivery_due(&self) -> Result<Option<Millis>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!(
            r#"SELECT MIN(d.due_ms) AS "due?: i64" FROM delivery d WHERE NOT EXISTS (
                 SELECT 1 FROM delivery e WHERE e.hook = d.hook AND e.service_id = d.service_id AND e.seq < d.seq)"#
        )
        .fetch_one(&mut *reader)
        .await
        .map_err(DbError::from)?)
    }

    async fn audit(&self, entry: NewAudit, now: Millis) -> Result<()> {
        self.writer.run(move |c| Box::pin(async move { audit(c, Some(entry), now).await })).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        let most = crate::limit(limit);
        let mut reader = self.reader().await?;
        let rows = query_as!(AuditRow, "SELECT * FROM audit ORDER BY seq DESC LIMIT ?1", most)
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        Ok(rows.into_iter().map(AuditRow::model).collect::<Result<_>>()?)
    }
}

/// Writes an audit row, if there is one.
pub(crate) async fn audit(c: &mut SqliteConnection, entry: Option<NewAudit>, now: Millis) -> Db<()> {
    let Some(NewAudit { actor, action, subject, body }) = entry else { return Ok(()) };
    let body = to_json(&body, "audit.body")?;
    query!(
        "INSERT INTO audit (at_ms, actor, action, subject, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        now,
        actor,
        action,
        subject,
        body
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

/// Appends to the feed, and queues a delivery for each hook that wants it. There is one writer, so numbers rise in the
/// order of commits and a reader never sees a later one first.
pub(crate) async fn append(c: &mut SqliteConnection, events: Vec<NewEvent>, now: Millis) -> Db<()> {
    if events.is_empty() {
        return Ok(());
    }
    let rows = query!("SELECT name, body FROM object WHERE kind = 'hook' ORDER BY name").fetch_all(&mut *c).await?;
    let mut hooks: Vec<(String, serde_json::Value)> = Vec::with_capacity(rows.len());
    for row in rows {
        hooks.push((row.name, from_json(&row.body, "object.body")?));
    }
    for event in events {
        let wanted = rules::hooks_for(hooks.iter().map(|(name, body)| (name.as_str(), body)), &event);
        let id = Uuid::now_v7().to_string();
        let service = event.service_id.map(|s| s.to_string());
        let data = to_json(&event.data, "event.data")?;
        let seq = query_scalar!(
            "INSERT INTO event (id, at_ms, kind, service_id, panel, subject, generation, data)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING seq",
            id,
            now,
            event.kind,
            service,
            event.panel,
            event.subject,
            event.generation,
            data
        )
        .fetch_one(&mut *c)
        .await?;
        for hook in wanted {
            query!(
                "INSERT INTO delivery (seq, hook, service_id, attempt, due_ms, owner, epoch) VALUES (?1, ?2, ?3, 0, ?4, NULL, 0)",
                seq,
                hook,
                service,
                now
            )
            .execute(&mut *c)
            .await?;
        }
    }
    Ok(())
}
