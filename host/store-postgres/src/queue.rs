//! The queue of live operations: claims, wake-ups and what is asked of it. Accepting and committing are in modules of
//! their own.

mod accept;
pub(crate) mod commit;

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, query, query_as, query_scalar};
use uuid::Uuid;
use wharf_model::{
    Millis,
    operation::{LogBody, Operation, OperationId},
};
use wharf_store::rows::{QueueRow, uid};
use wharf_store::{
    Accept, Accepted, Claim, Commit, Committed, NewAudit, Queue, QueueCounts, Result, Run, Signal, StoreError, rules,
};

use crate::{
    PostgresStore,
    error::{Db, DbError},
    events, limit, services, signals,
};

#[async_trait]
impl Queue for PostgresStore {
    async fn accept(&self, accept: Accept) -> Result<Accepted> {
        self.write(move |c| Box::pin(async move { accept::accept(c, accept).await })).await
    }

    async fn claim(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Run>> {
        self.write(move |c| {
                Box::pin(async move {
                    let (owner, until, most) = (owner.to_string(), now.saturating_add(ttl_ms), limit(n));
                    let farthest = now.saturating_add(rules::FARTHEST_MS);
                    query!(
                        "UPDATE queue SET due_ms = CASE WHEN owner IS NULL THEN $1::BIGINT ELSE $2::BIGINT END
                         WHERE operation_id IN (
                            SELECT operation_id FROM queue WHERE due_ms > $3 AND wait_slot IS NULL
                            FOR UPDATE SKIP LOCKED)",
                        now,
                        until,
                        farthest
                    )
                    .execute(&mut *c)
                    .await?;
                    let mut rows = query_as!(
                        QueueRow,
                        "UPDATE queue SET taken_over = CASE WHEN owner IS NULL THEN 0 ELSE 1 END, owner = $1, epoch = epoch + 1, rev = rev + 1,
                            was_due_ms = due_ms, due_ms = $2, nudged = 0, topic = NULL
                         WHERE operation_id IN (
                            SELECT operation_id FROM queue WHERE due_ms <= $3 AND wait_slot IS NULL
                            ORDER BY due_ms, operation_id LIMIT $4 FOR UPDATE SKIP LOCKED)
                         RETURNING operation_id, service_id, due_ms, was_due_ms, owner, epoch, rev, taken_over, preempted,
                             nudged, wait_slot, ticket, topic",
                        owner,
                        until,
                        now,
                        most
                    )
                    .fetch_all(&mut *c)
                    .await?;
                    rows.sort_by(|a, b| (a.was_due_ms, &a.operation_id).cmp(&(b.was_due_ms, &b.operation_id)));
                    let mut runs = Vec::with_capacity(rows.len());
                    for row in rows {
                        query!(
                            "UPDATE operation SET status = 'running', started_ms = COALESCE(started_ms, $2) WHERE id = $1",
                            row.operation_id,
                            now
                        )
                        .execute(&mut *c)
                        .await?;
                        runs.push(run(c, row).await?);
                    }
                    Ok(runs)
                })
            })
            .await
    }

    async fn reload(&self, claim: &Claim) -> Result<Run> {
        let claim = *claim;
        let mut reader = self.reader().await?;
        let seen: Db<Option<Run>> = async {
            // One picture of all rows: a claim that is lost meanwhile must not be read half before and half after.
            let mut snapshot = reader.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
            let row = held(&mut snapshot, &claim).await?;
            // A nudge is taken note of by a write; nearly always there is none.
            let run = if row.nudged == 0 { Some(run(&mut snapshot, row).await?) } else { None };
            snapshot.commit().await?;
            Ok(run)
        }
        .await;
        if let Some(run) = seen? {
            return Ok(run);
        }
        drop(reader);
        self.write(move |c| {
            Box::pin(async move {
                // The row is locked before anything is read of the run.
                query!("SELECT epoch FROM queue WHERE operation_id = $1 FOR UPDATE", claim.operation.to_string())
                    .fetch_optional(&mut *c)
                    .await?;
                let row = held(c, &claim).await?;
                query!("UPDATE queue SET nudged = 0 WHERE operation_id = $1", row.operation_id)
                    .execute(&mut *c)
                    .await?;
                run(c, row).await
            })
        })
        .await
    }

    async fn renew(&self, claim: &Claim, ttl_ms: i64, now: Millis) -> Result<()> {
        let claim = *claim;
        self.write(move |c| {
            Box::pin(async move {
                let (id, owner) = (claim.operation.to_string(), claim.owner.to_string());
                let until = now.saturating_add(ttl_ms);
                let done = query!(
                    "UPDATE queue SET due_ms = $4 WHERE operation_id = $1 AND owner = $2 AND epoch = $3",
                    id,
                    owner,
                    claim.epoch,
                    until
                )
                .execute(&mut *c)
                .await?;
                if done.rows_affected() == 0 { Err(StoreError::ClaimLost.into()) } else { Ok(()) }
            })
        })
        .await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.write(move |c| Box::pin(async move { commit::commit(c, commit).await })).await
    }

    async fn next_due(&self) -> Result<Option<Millis>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!(r#"SELECT MIN(due_ms) AS "due?: i64" FROM queue WHERE wait_slot IS NULL"#)
            .fetch_one(&mut *reader)
            .await
            .map_err(DbError::from)?)
    }

    async fn wake_topic(&self, topic: &str, now: Millis) -> Result<u64> {
        let topic = topic.to_owned();
        self.write(move |c| {
            Box::pin(async move {
                let woken = query!(
                    "UPDATE queue SET due_ms = LEAST(due_ms, $2), topic = NULL
                         WHERE owner IS NULL AND wait_slot IS NULL AND operation_id IN (
                            SELECT operation_id FROM queue
                            WHERE topic = $1 AND owner IS NULL AND wait_slot IS NULL
                            ORDER BY operation_id FOR UPDATE)",
                    topic,
                    now
                )
                .execute(&mut *c)
                .await?;
                if woken.rows_affected() > 0 {
                    signals::tell(c, Signal::Queue).await?;
                }
                Ok(woken.rows_affected())
            })
        })
        .await
    }

    async fn append_log(&self, operation: OperationId, lines: Vec<LogBody>, now: Millis) -> Result<()> {
        self.write(move |c| {
            Box::pin(async move {
                let id = operation.to_string();
                let known = query!("SELECT id FROM operation WHERE id = $1 FOR NO KEY UPDATE", id)
                    .fetch_optional(&mut *c)
                    .await?;
                if known.is_some() {
                    crate::services::append_log(c, operation, lines, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn wake(&self, operation: OperationId, now: Millis) -> Result<bool> {
        self.write(move |c| {
            Box::pin(async move {
                let id = operation.to_string();
                let woken = query!(
                    "UPDATE queue SET due_ms = LEAST(due_ms, $2), topic = NULL
                         WHERE operation_id = $1 AND owner IS NULL AND wait_slot IS NULL",
                    id,
                    now
                )
                .execute(&mut *c)
                .await?;
                if woken.rows_affected() > 0 {
                    signals::tell(c, Signal::Queue).await?;
                }
                Ok(woken.rows_affected() > 0)
            })
        })
        .await
    }

    async fn issued_tasks(&self, server: &str) -> Result<Vec<(OperationId, String)>> {
        let mut reader = self.reader().await?;
        let rows = query!(
            r#"SELECT e.operation_id AS "operation!: String", e.task AS "task!: String" FROM effect e
               JOIN queue q ON q.operation_id = e.operation_id
               WHERE e.server = $1 AND e.state = 'issued' AND e.task IS NOT NULL ORDER BY e.operation_id"#,
            server
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(|r| Ok((uid(&r.operation)?, r.task))).collect::<Result<_>>()?)
    }

    async fn servers_with_tasks(&self) -> Result<Vec<String>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!(
            r#"SELECT DISTINCT e.server AS "server!: String" FROM effect e
               JOIN queue q ON q.operation_id = e.operation_id WHERE e.state = 'issued' ORDER BY 1"#
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?)
    }

    async fn slots(&self) -> Result<BTreeMap<String, Vec<OperationId>>> {
        let mut reader = self.reader().await?;
        let rows = query!("SELECT pool, operation_id FROM slot ORDER BY pool, number")
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        let mut slots: BTreeMap<String, Vec<OperationId>> = BTreeMap::new();
        for row in rows {
            slots.entry(row.pool).or_default().push(uid(&row.operation_id)?);
        }
        Ok(slots)
    }

    async fn resume(&self, operation: OperationId, state: Option<String>, audit: NewAudit, now: Millis) -> Result<()> {
        self.write(move |c| {
                Box::pin(async move {
                    let no_operation = || rules::no_operation(operation);
                    let service_id = services::operation(c, operation).await?.ok_or_else(no_operation)?.service_id;
                    services::lock_service(c, service_id).await?.ok_or_else(|| rules::no_service(service_id))?;
                    let mut row = services::operation(c, operation).await?.ok_or_else(no_operation)?;
                    let service = service_id.to_string();
                    let terminated = query_scalar!(
                        "SELECT COUNT(*) AS \"count!\" FROM operation WHERE service_id = $1 AND generation > $2 AND kind = $3",
                        service,
                        i64::from(row.generation),
                        rules::TERMINATE
                    )
                    .fetch_one(&mut *c)
                    .await?;
                    rules::resume(&mut row, state, terminated > 0, now)?;
                    let live = query_scalar!(r#"SELECT COUNT(*) AS "count!" FROM queue WHERE service_id = $1"#, service)
                        .fetch_one(&mut *c)
                        .await?;
                    if live > 0 {
                        let message = "another operation of the service is live: let it end first";
                        return Err(StoreError::Conflict(message.into()).into());
                    }
                    services::update_operation(c, &row).await?;
                    enqueue(c, &row, now).await?;
                    signals::tell(c, Signal::Queue).await?;
                    events::audit(c, Some(audit), now).await
                })
            })
            .await
    }

    async fn queue_counts(&self) -> Result<QueueCounts> {
        self.publish().await?;
        let mut reader = self.reader().await?;
        let row = query!(
            r#"SELECT COUNT(*) AS "live!: i64", COUNT(wait_slot) AS "parked!: i64", COUNT(owner) AS "claimed!: i64",
                (SELECT COUNT(*) FROM operation WHERE status = 'needs-admin') AS "needs_admin!: i64",
                (SELECT COUNT(*) FROM queue q JOIN effect e ON e.operation_id = q.operation_id AND e.state = 'intent')
                    AS "sent!: i64",
                (SELECT COUNT(*) FROM delivery) AS "deliveries!: i64",
                (SELECT COUNT(*) FROM record WHERE open = 1) AS "records!: i64",
                (SELECT COUNT(*) FROM record WHERE open = 1 AND attempt > 0) AS "records_failed!: i64" FROM queue"#
        )
        .fetch_one(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(QueueCounts {
            live: row.live,
            parked: row.parked,
            claimed: row.claimed,
            needs_admin: row.needs_admin,
            sent: row.sent,
            deliveries: row.deliveries,
            records: row.records,
            records_failed: row.records_failed,
        })
    }
}

/// Refuses what is asked for under a claim that is not the one that counts; nobody else can claim the run until this
/// transaction ends. Locks the service first, as everybody does.
pub(crate) async fn fence(c: &mut PgConnection, claim: Option<Claim>) -> Db<()> {
    let Some(claim) = claim else { return Ok(()) };
    let row = held(c, &claim).await?;
    services::lock_service(c, uid(&row.service_id)?).await?;
    query!("SELECT epoch FROM queue WHERE operation_id = $1 FOR NO KEY UPDATE", row.operation_id)
        .fetch_optional(&mut *c)
        .await?;
    // As it stands now that nobody can change it.
    held(c, &claim).await.map(|_| ())
}

/// The live row, if the claim is still the one that counts.
async fn held(c: &mut PgConnection, claim: &Claim) -> Db<QueueRow> {
    let (id, owner) = (claim.operation.to_string(), claim.owner.to_string());
    query_as!(
        QueueRow,
        "SELECT operation_id, service_id, due_ms, was_due_ms, owner, epoch, rev, taken_over, preempted,
            nudged, wait_slot, ticket, topic
            FROM queue WHERE operation_id = $1 AND owner = $2 AND epoch = $3",
        id,
        owner,
        claim.epoch
    )
    .fetch_optional(&mut *c)
    .await?
    .ok_or(DbError::Store(StoreError::ClaimLost))
}

/// All that a worker needs of a claimed row.
async fn run(c: &mut PgConnection, row: QueueRow) -> Db<Run> {
    let operation = uid(&row.operation_id)?;
    let service = uid(&row.service_id)?;
    let owner = row.owner.as_deref().ok_or(DbError::Store(StoreError::ClaimLost))?;
    Ok(Run {
        claim: Claim { operation, owner: uid(owner)?, epoch: row.epoch },
        service: services::service(c, service).await?.ok_or_else(|| rules::no_service(service))?,
        operation: services::operation(c, operation).await?.ok_or_else(|| rules::no_operation(operation))?,
        effect: services::last_effect(c, operation).await?,
        preempted: row.preempted != 0,
        taken_over: row.taken_over != 0,
    })
}

/// Makes an operation live and due. Its epochs go on where they were, so that a claim from before stays void.
async fn enqueue(c: &mut PgConnection, operation: &Operation, now: Millis) -> Db<()> {
    let (id, service) = (operation.id.to_string(), operation.service_id.to_string());
    query!(
        "INSERT INTO queue (operation_id, service_id, due_ms, was_due_ms, epoch, rev, taken_over, preempted, nudged)
         SELECT id, $2, $3, $3, epoch, 0, 0, 0, 0 FROM operation WHERE id = $1",
        id,
        service,
        now
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}
