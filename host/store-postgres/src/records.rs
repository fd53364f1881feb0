//! DNS: wishes and ledger.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;
use wharf_model::{
    Millis,
    record::{Record, RecordKey},
    service::ServiceId,
};
use wharf_store::rows::RecordRow;
use wharf_store::{Claim, DnsClaim, RecordOutcome, Records, Result, Saying, Signal, StoreError, rules::records};

use crate::{
    PostgresStore, addresses,
    error::{Db, DbError},
    events, limit,
    lock::Lock,
    queue, services, signals,
};

#[async_trait]
impl Records for PostgresStore {
    async fn want_records(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        wanted: Vec<(RecordKey, Option<u32>)>,
        queues: BTreeMap<String, String>,
        now: Millis,
    ) -> Result<()> {
        let claim = claim.copied();
        self.write(move |c| Box::pin(async move { want(c, claim, service, wanted, queues, now).await })).await
    }

    async fn say_records(&self, saying: Saying, now: Millis) -> Result<bool> {
        self.write(move |c| Box::pin(async move { say(c, saying, now).await })).await
    }

    async fn records_of(&self, service: ServiceId) -> Result<Vec<Record>> {
        let id = service.to_string();
        let mut reader = self.reader().await?;
        let rows = query_as!(
            RecordRow,
            "SELECT zone, name, rtype, value, service_id, queue, ttl, wanted, sent, open, sought, attempt, due_ms,
                reason, updated_ms
                FROM record WHERE service_id = $1 ORDER BY zone, name, rtype, value",
            id
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(RecordRow::model).collect::<Result<_>>()?)
    }

    async fn records_in(&self, zone: &str) -> Result<Vec<Record>> {
        let mut reader = self.reader().await?;
        let rows = query_as!(
            RecordRow,
            "SELECT zone, name, rtype, value, service_id, queue, ttl, wanted, sent, open, sought, attempt, due_ms,
                reason, updated_ms
                FROM record WHERE zone = $1 ORDER BY zone, name, rtype, value, service_id",
            zone
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(RecordRow::model).collect::<Result<_>>()?)
    }

    async fn hurry_records(&self, service: Option<ServiceId>, now: Millis) -> Result<u64> {
        self.write(move |c| {
                Box::pin(async move {
                    Lock::Records.take(c).await?;
                    let id = service.map(|s| s.to_string());
                    let done = query!(
                        "UPDATE record SET due_ms = LEAST(due_ms, $2) WHERE open = 1 AND ($1::TEXT IS NULL OR service_id = $1)",
                        id,
                        now
                    )
                    .execute(&mut *c)
                    .await?;
                    if done.rows_affected() > 0 {
                        signals::tell(c, Signal::Records).await?;
                    }
                    Ok(done.rows_affected())
                })
            })
            .await
    }

    async fn recheck_records(&self, keys: &[RecordKey], now: Millis) -> Result<u64> {
        let keys = keys.to_vec();
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                let mut opened = 0;
                for RecordKey { zone, name, rtype, value, service_id } in keys {
                    // What was sent stays sent: it may be there all the same, and must then go with its service.
                    let done = query!(
                        "UPDATE record SET open = 1, attempt = 0, due_ms = $6
                         WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5
                           AND wanted = 1 AND open = 0",
                        zone,
                        name,
                        rtype,
                        value,
                        service_id.to_string(),
                        now
                    )
                    .execute(&mut *c)
                    .await?;
                    opened += done.rows_affected();
                }
                if opened > 0 {
                    signals::tell(c, Signal::Records).await?;
                }
                Ok(opened)
            })
        })
        .await
    }

    async fn claim_dns(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<DnsClaim>> {
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                let (most, word, until) = (limit(n), owner.to_string(), now.saturating_add(ttl_ms));
                let due = query_scalar!(
                    r#"SELECT r.queue AS "queue!: String" FROM record r LEFT JOIN dns_queue d ON d.queue = r.queue
                           WHERE r.open = 1 AND r.due_ms <= $1 AND (d.owner IS NULL OR d.until_ms <= $1)
                           GROUP BY r.queue ORDER BY MIN(r.due_ms), r.queue LIMIT $2"#,
                    now,
                    most
                )
                .fetch_all(&mut *c)
                .await?;
                let mut claims = Vec::with_capacity(due.len());
                for queue in due {
                    let epoch = query_scalar!(
                        "INSERT INTO dns_queue (queue, owner, epoch, until_ms) VALUES ($1, $2, 1, $3)
                             ON CONFLICT (queue) DO UPDATE SET owner = $2, epoch = dns_queue.epoch + 1, until_ms = $3
                             RETURNING epoch",
                        queue,
                        word,
                        until
                    )
                    .fetch_one(&mut *c)
                    .await?;
                    claims.push(DnsClaim { queue, owner, epoch });
                }
                Ok(claims)
            })
        })
        .await
    }

    async fn renew_dns(&self, claim: &DnsClaim, ttl_ms: i64, now: Millis) -> Result<()> {
        let claim = claim.clone();
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                fence(c, &claim).await?;
                let until = now.saturating_add(ttl_ms);
                query!("UPDATE dns_queue SET until_ms = $2 WHERE queue = $1", claim.queue, until)
                    .execute(&mut *c)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn due_records(&self, claim: &DnsClaim, limit: usize, now: Millis) -> Result<Vec<Record>> {
        let claim = claim.clone();
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                fence(c, &claim).await?;
                let most = crate::limit(limit);
                let rows = query_as!(
                    RecordRow,
                    "SELECT zone, name, rtype, value, service_id, queue, ttl, wanted, sent, open, sought, attempt, due_ms,
                        reason, updated_ms
                        FROM record WHERE queue = $1 AND open = 1 AND due_ms <= $2
                         ORDER BY due_ms, zone, name, rtype, value, service_id LIMIT $3",
                    claim.queue,
                    now,
                    most
                )
                .fetch_all(&mut *c)
                .await?;
                let mut due = Vec::with_capacity(rows.len());
                for row in rows {
                    if row.sought != row.wanted {
                        query!(
                            "UPDATE record SET sought = wanted
                                 WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5",
                            row.zone,
                            row.name,
                            row.rtype,
                            row.value,
                            row.service_id
                        )
                        .execute(&mut *c)
                        .await?;
                    }
                    due.push(row.model()?);
                }
                due.sort_by(|a, b| a.key.cmp(&b.key));
                Ok(due)
            })
        })
        .await
    }

    async fn mark_sent(&self, claim: &DnsClaim, keys: &[RecordKey], now: Millis) -> Result<()> {
        let (claim, keys) = (claim.clone(), keys.to_vec());
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                fence(c, &claim).await?;
                for key in keys {
                    let row = find(c, &key).await?.filter(|row| row.wanted == row.sought);
                    let row = row.ok_or_else(|| records::changed(&key))?;
                    if row.wanted != 0 {
                        query!(
                            "UPDATE record SET sent = 1, updated_ms = $6
                                 WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5",
                            row.zone,
                            row.name,
                            row.rtype,
                            row.value,
                            row.service_id,
                            now
                        )
                        .execute(&mut *c)
                        .await?;
                    }
                }
                Ok(())
            })
        })
        .await
    }

    async fn settle_records(
        &self,
        claim: &DnsClaim,
        outcomes: Vec<(RecordKey, RecordOutcome)>,
        now: Millis,
    ) -> Result<()> {
        let claim = claim.clone();
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                fence(c, &claim).await?;
                for (key, outcome) in outcomes {
                    settle(c, &key, outcome, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn release_dns(&self, claim: &DnsClaim, _now: Millis) -> Result<()> {
        let claim = claim.clone();
        self.write(move |c| {
            Box::pin(async move {
                Lock::Records.take(c).await?;
                fence(c, &claim).await?;
                query!("UPDATE dns_queue SET owner = NULL WHERE queue = $1", claim.queue).execute(&mut *c).await?;
                Ok(())
            })
        })
        .await
    }

    async fn next_dns_due(&self) -> Result<Option<Millis>> {
        let mut reader = self.reader().await?;
        Ok(query_scalar!(
            r#"SELECT MIN(GREATEST(r.due_ms, CASE WHEN d.owner IS NULL THEN r.due_ms ELSE d.until_ms END)) AS "due?: i64"
               FROM record r LEFT JOIN dns_queue d ON d.queue = r.queue WHERE r.open = 1"#
        )
        .fetch_one(&mut *reader)
        .await
        .map_err(DbError::from)?)
    }
}

async fn fence(c: &mut PgConnection, claim: &DnsClaim) -> Db<()> {
    let owner = claim.owner.to_string();
    query_scalar!(
        "SELECT epoch FROM dns_queue WHERE queue = $1 AND owner = $2 AND epoch = $3 FOR UPDATE",
        claim.queue,
        owner,
        claim.epoch
    )
    .fetch_optional(&mut *c)
    .await?
    .map(|_| ())
    .ok_or(DbError::Store(StoreError::ClaimLost))
}

async fn find(c: &mut PgConnection, key: &RecordKey) -> Db<Option<RecordRow>> {
    let service = key.service_id.to_string();
    Ok(query_as!(
        RecordRow,
        "SELECT zone, name, rtype, value, service_id, queue, ttl, wanted, sent, open, sought, attempt, due_ms,
            reason, updated_ms
            FROM record WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5",
        key.zone,
        key.name,
        key.rtype,
        key.value,
        service
    )
    .fetch_optional(&mut *c)
    .await?)
}

async fn want(
    c: &mut PgConnection,
    claim: Option<Claim>,
    service: ServiceId,
    wanted: Vec<(RecordKey, Option<u32>)>,
    queues: BTreeMap<String, String>,
    now: Millis,
) -> Db<()> {
    records::check_wanted(service, &wanted, &queues)?;
    Lock::Records.take(c).await?;
    queue::fence(c, claim).await?;
    let id = service.to_string();
    for (zone, queue) in &queues {
        query!("UPDATE record SET queue = $3 WHERE service_id = $1 AND zone = $2 AND queue <> $3", id, zone, queue)
            .execute(&mut *c)
            .await?;
    }
    let keys: BTreeSet<&RecordKey> = wanted.iter().map(|(key, _)| key).collect();
    let rows = query_as!(
        RecordRow,
        "SELECT zone, name, rtype, value, service_id, queue, ttl, wanted, sent, open, sought, attempt, due_ms,
        reason, updated_ms
        FROM record WHERE service_id = $1 AND wanted = 1",
        id
    )
    .fetch_all(&mut *c)
    .await?;
    for row in rows {
        let sent = row.sent != 0;
        let key = row.model()?.key;
        if keys.contains(&key) {
            continue;
        }
        let heirs = query_scalar!(
            r#"SELECT COUNT(*) AS "count!" FROM record
             WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id <> $5 AND wanted = 1"#,
            key.zone,
            key.name,
            key.rtype,
            key.value,
            id
        )
        .fetch_one(&mut *c)
        .await?;
        if sent && heirs == 0 {
            query!(
                "UPDATE record SET wanted = 0, open = 1, attempt = 0, reason = NULL, due_ms = $6, updated_ms = $6
                 WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5",
                key.zone,
                key.name,
                key.rtype,
                key.value,
                id,
                now
            )
            .execute(&mut *c)
            .await?;
        } else {
            remove(c, &key).await?;
        }
    }
    for (key, ttl) in &wanted {
        let given_up = query_scalar!(
            "DELETE FROM record
             WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id <> $5 AND wanted = 0 RETURNING sent",
            key.zone,
            key.name,
            key.rtype,
            key.value,
            id
        )
        .fetch_all(&mut *c)
        .await?;
        let inherited = i64::from(given_up.into_iter().any(|sent| sent != 0));
        // New: due now. Wanted again: due now, for its removal may be under way. Wanted as before: as it is, but the TTL of one
        // that is still to be written may change.
        query!(
            "INSERT INTO record (zone, name, rtype, value, service_id, queue, ttl, wanted, sent, open, sought, attempt, due_ms,
                updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $9, 1, 1, 0, $8, $8)
             ON CONFLICT (zone, name, rtype, value, service_id) DO UPDATE SET
                ttl = CASE WHEN record.wanted = 0 OR record.open = 1 THEN $7 ELSE record.ttl END,
                sent = GREATEST(record.sent, $9),
                open = CASE WHEN record.wanted = 0 THEN 1 ELSE record.open END,
                attempt = CASE WHEN record.wanted = 0 THEN 0 ELSE record.attempt END,
                reason = CASE WHEN record.wanted = 0 THEN NULL ELSE record.reason END,
                due_ms = CASE WHEN record.wanted = 0 THEN $8 ELSE record.due_ms END,
                updated_ms = CASE WHEN record.wanted = 0 THEN $8 ELSE record.updated_ms END,
                wanted = 1",
            key.zone,
            key.name,
            key.rtype,
            key.value,
            id,
            // `check_wanted` saw to it that there is one.
            queues.get(&key.zone).map(String::as_str).unwrap_or_default(),
            ttl.map(i64::from),
            now,
            inherited
        )
        .execute(&mut *c)
        .await?;
    }
    signals::tell(c, Signal::Records).await
}

async fn say(c: &mut PgConnection, saying: Saying, now: Millis) -> Db<bool> {
    let id = saying.service.id;
    // Before the service, as `Lock` has it; `want` takes it once more.
    Lock::Records.take(c).await?;
    // Whoever accepts a wish for the service waits for this row, so no operation begins before this is over.
    let service = services::lock_service(c, id).await?;
    let leases = addresses::leases_of(c, id).await?;
    let open = services::open_operations(c, id).await?;
    if !records::may_say(&saying, service.as_ref(), &leases, &open)? {
        return Ok(false);
    }
    let Saying { ptr, wanted, queues, audit, .. } = saying;
    if let Some((address, name)) = ptr {
        addresses::set_ptr(c, id, address, name).await?;
    }
    want(c, None, id, wanted, queues, now).await?;
    events::audit(c, Some(audit), now).await?;
    Ok(true)
}

async fn remove(c: &mut PgConnection, key: &RecordKey) -> Db<()> {
    let service = key.service_id.to_string();
    query!(
        "DELETE FROM record WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5",
        key.zone,
        key.name,
        key.rtype,
        key.value,
        service
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

async fn settle(c: &mut PgConnection, key: &RecordKey, outcome: RecordOutcome, now: Millis) -> Db<()> {
    let Some(mut row) = find(c, key).await? else { return Ok(()) };
    // The wish may have turned round since the record was handed out: then what was done is not what is wanted now.
    let same = row.wanted == row.sought;
    match outcome {
        RecordOutcome::Done => {
            row.sent = row.sought;
            row.attempt = 0;
            row.reason = None;
            row.open = i64::from(!same);
            if row.wanted == 0 && row.sent == 0 {
                return remove(c, key).await;
            }
        }
        RecordOutcome::Failed { reason, due_ms } => {
            row.attempt += 1;
            row.reason = Some(reason);
            if same {
                row.due_ms = due_ms;
            }
        }
        RecordOutcome::Postponed { due_ms } => {
            if same {
                row.due_ms = due_ms;
            }
        }
    }
    query!(
        "UPDATE record SET sent = $6, open = $7, attempt = $8, due_ms = $9, reason = $10, updated_ms = $11
         WHERE zone = $1 AND name = $2 AND rtype = $3 AND value = $4 AND service_id = $5",
        row.zone,
        row.name,
        row.rtype,
        row.value,
        row.service_id,
        row.sent,
        row.open,
        row.attempt,
        row.due_ms,
        row.reason,
        now
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}
