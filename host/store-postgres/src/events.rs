//! Events, deliveries to hooks, audit.

use async_trait::async_trait;
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;
use wharf_model::{
    Millis,
    event::{Delivery, Event, NewEvent},
    plugin::AuditEntry,
};
use wharf_store::rows::{AuditRow, EventRow, from_json, num, to_json};
use wharf_store::{Events, NewAudit, Result, Signal, StoreError, rules};

use crate::{
    PostgresStore,
    error::{Db, DbError},
    limit, signals,
};

#[async_trait]
impl Events for PostgresStore {
    async fn append_events(&self, events: Vec<NewEvent>, now: Millis) -> Result<()> {
        self.write(move |c| Box::pin(async move { append(c, events, now).await })).await
    }

    async fn events_after(&self, after: i64, panel: Option<&str>, limit: usize) -> Result<Vec<Event>> {
        self.publish().await?;
        let most = crate::limit(limit);
        let mut reader = self.reader().await?;
        let rows = match panel {
            Some(panel) => {
                query_as!(
                    EventRow,
                    "SELECT seq, id, at_ms, kind, service_id, panel, subject, generation, data FROM event WHERE panel = $1 AND seq > $2 ORDER BY seq LIMIT $3",
                    panel,
                    after,
                    most
                )
                .fetch_all(&mut *reader)
                .await
            }
            None => {
                query_as!(EventRow, "SELECT seq, id, at_ms, kind, service_id, panel, subject, generation, data FROM event WHERE seq > $1 ORDER BY seq LIMIT $2", after, most)
                    .fetch_all(&mut *reader)
                    .await
            }
        };
        let rows = rows.map_err(DbError::from)?;
        // After the events: what was pruned between the two is then seen as gone, never missed.
        let key = rules::events::gone_key(panel);
        let gone = query_scalar!("SELECT value FROM meta WHERE key = $1", key).fetch_optional(&mut *reader).await;
        rules::events::go_on(after, gone.map_err(DbError::from)?.as_deref())?;
        Ok(rows.into_iter().map(EventRow::model).collect::<Result<_>>()?)
    }

    async fn claim_deliveries(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Delivery>> {
        self.publish().await?;
        self.write(move |c| {
                Box::pin(async move {
                    let (most, owner, until) = (limit(n), owner.to_string(), now.saturating_add(ttl_ms));
                    let due = query!(
                        "SELECT d.seq, d.hook FROM delivery d WHERE d.due_ms <= $1 AND NOT EXISTS (
                            SELECT 1 FROM delivery e WHERE e.hook = d.hook AND e.service_id = d.service_id AND e.seq < d.seq)
                         ORDER BY d.due_ms, d.seq, d.hook LIMIT $2 FOR UPDATE OF d SKIP LOCKED",
                        now,
                        most
                    )
                    .fetch_all(&mut *c)
                    .await?;
                    let mut claimed = Vec::with_capacity(due.len());
                    for row in due {
                        let taken = query!(
                            "UPDATE delivery SET owner = $1, epoch = epoch + 1, attempt = attempt + 1, due_ms = $2
                             WHERE seq = $3 AND hook = $4 RETURNING attempt, epoch",
                            owner,
                            until,
                            row.seq,
                            row.hook
                        )
                        .fetch_one(&mut *c)
                        .await?;
                        let event =
                            query_as!(EventRow, "SELECT seq, id, at_ms, kind, service_id, panel, subject, generation, data FROM event WHERE seq = $1", row.seq).fetch_one(&mut *c).await?;
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
        self.write(move |c| {
            Box::pin(async move {
                let owner = owner.to_string();
                let done = match again {
                    Some(due) => {
                        query!(
                            "UPDATE delivery SET owner = NULL, due_ms = $1
                                 WHERE seq = $2 AND hook = $3 AND owner = $4 AND epoch = $5",
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
                            "DELETE FROM delivery WHERE seq = $1 AND hook = $2 AND owner = $3 AND epoch = $4",
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
        self.publish().await?;
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
        self.write(move |c| Box::pin(async move { audit(c, Some(entry), now).await })).await
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.publish().await?;
        let most = crate::limit(limit);
        let mut reader = self.reader().await?;
        let rows = query_as!(
            AuditRow,
            "SELECT seq, at_ms, actor, action, subject, body FROM audit ORDER BY seq DESC LIMIT $1",
            most
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(AuditRow::model).collect::<Result<_>>()?)
    }
}

/// Writes an audit row, if there is one.
pub(crate) async fn audit(c: &mut PgConnection, entry: Option<NewAudit>, now: Millis) -> Db<()> {
    let Some(NewAudit { actor, action, subject, body }) = entry else { return Ok(()) };
    let body = to_json(&(actor, action, subject, body), "pending.body")?;
    pend(c, AUDIT, now, body).await
}

/// Appends to the feed. The events get their numbers from whoever publishes them: see [`PostgresStore::publish`].
pub(crate) async fn append(c: &mut PgConnection, events: Vec<NewEvent>, now: Millis) -> Db<()> {
    if events.is_empty() {
        return Ok(());
    }
    for event in events {
        let body = to_json(&(Uuid::now_v7(), event), "pending.body")?;
        pend(c, EVENT, now, body).await?;
    }
    signals::tell(c, Signal::Events).await
}

const EVENT: &str = "event";
pub(crate) const AUDIT: &str = "audit";
/// Rows that are numbered in one transaction, at most: bounds how long a reader waits for another's publishing.
const PUBLISHED: i64 = 500;

async fn pend(c: &mut PgConnection, kind: &str, now: Millis, body: String) -> Db<()> {
    query!("INSERT INTO pending (kind, at_ms, body) VALUES ($1, $2, $3)", kind, now, body).execute(&mut *c).await?;
    Ok(())
}

impl PostgresStore {
    /// Numbers what was committed and is not numbered yet, and queues the deliveries that it leads to.
    ///
    /// One at a time, on whatever host: the row of `publisher` is locked until the numbers are committed, and a publisher that
    /// froze is ended by the server. So numbers have no gaps, rise in the order in which they become visible, and a reader who
    /// has seen a number has seen all below. What one run commits stays in its order: it is committed one after the other.
    pub(crate) async fn publish(&self) -> Result<()> {
        loop {
            let waiting = query_scalar!(r#"SELECT EXISTS (SELECT 1 FROM pending) AS "any!""#)
                .fetch_one(&self.pool)
                .await
                .map_err(DbError::from)?;
            if !waiting || self.write(|c| Box::pin(publish(c))).await? {
                return Ok(());
            }
        }
    }
}

/// `true` if nothing was left.
async fn publish(c: &mut PgConnection) -> Db<bool> {
    let last = query!("SELECT event_seq, audit_seq FROM publisher WHERE one = 1 FOR UPDATE").fetch_one(&mut *c).await?;
    // Read after the lock is held: what another publisher has just numbered is gone from here.
    let rows =
        query!("SELECT id, kind, at_ms, body FROM pending ORDER BY id LIMIT $1", PUBLISHED).fetch_all(&mut *c).await?;
    // A hook that is being deleted waits, or is gone before its deliveries are made.
    let objects =
        query!("SELECT name, body FROM object WHERE kind = 'hook' ORDER BY name FOR SHARE").fetch_all(&mut *c).await?;
    let mut hooks: Vec<(String, serde_json::Value)> = Vec::with_capacity(objects.len());
    for object in objects {
        hooks.push((object.name, from_json(&object.body, "object.body")?));
    }
    let all = limit(rows.len()) < PUBLISHED;
    let (mut events, mut audits) = (last.event_seq, last.audit_seq);
    for row in &rows {
        if row.kind == AUDIT {
            audits += 1;
            let (actor, action, subject, body): (String, String, String, serde_json::Value) =
                from_json(&row.body, "pending.body")?;
            let body = to_json(&body, "audit.body")?;
            query!(
                "INSERT INTO audit (seq, at_ms, actor, action, subject, body) VALUES ($1, $2, $3, $4, $5, $6)",
                audits,
                row.at_ms,
                actor,
                action,
                subject,
                body
            )
            .execute(&mut *c)
            .await?;
        } else {
            events += 1;
            let (id, event): (Uuid, NewEvent) = from_json(&row.body, "pending.body")?;
            number(c, events, row.at_ms, id, event, &hooks).await?;
        }
    }
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    query!("DELETE FROM pending WHERE id = ANY($1)", &ids).execute(&mut *c).await?;
    query!("UPDATE publisher SET event_seq = $1, audit_seq = $2 WHERE one = 1", events, audits)
        .execute(&mut *c)
        .await?;
    Ok(all)
}

async fn number(
    c: &mut PgConnection,
    seq: i64,
    at_ms: Millis,
    id: Uuid,
    event: NewEvent,
    hooks: &[(String, serde_json::Value)],
) -> Db<()> {
    let wanted = rules::hooks_for(hooks.iter().map(|(name, body)| (name.as_str(), body)), &event);
    let id = id.to_string();
    let service = event.service_id.map(|s| s.to_string());
    let data = to_json(&event.data, "event.data")?;
    query!(
        "INSERT INTO event (seq, id, at_ms, kind, service_id, panel, subject, generation, data)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        seq,
        id,
        at_ms,
        event.kind,
        service,
        event.panel,
        event.subject,
        i64::from(event.generation),
        data
    )
    .execute(&mut *c)
    .await?;
    for hook in wanted {
        query!(
            "INSERT INTO delivery (seq, hook, service_id, attempt, due_ms, owner, epoch) VALUES ($1, $2, $3, 0, $4, NULL, 0)",
            seq,
            hook,
            service,
            at_ms
        )
        .execute(&mut *c)
        .await?;
    }
    Ok(())
}
