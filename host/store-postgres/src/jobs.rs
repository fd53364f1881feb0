//! Jobs and pruning.

use async_trait::async_trait;
use sqlx::{PgConnection, query, query_as};
use uuid::Uuid;
use wharf_model::{Millis, job::Job};
use wharf_store::{
    JobClaim, JobEnd, Jobs, NewAudit, Prune, Result, Signal, StoreError,
    rows::{JobRow, to_json},
    rules,
};

use crate::{
    PostgresStore,
    error::{Db, DbError},
    events, limit, signals,
};

#[async_trait]
impl Jobs for PostgresStore {
    async fn declare_job(&self, name: &str, every_ms: i64, stale_ms: i64, now: Millis) -> Result<()> {
        let name = name.to_owned();
        self.write(move |c| {
                Box::pin(async move {
                    query!(
                        "INSERT INTO job (name, every_ms, stale_ms, due_ms, was_due_ms, epoch, forced, declared_ms, last_epoch,
                            runs, took_over)
                         VALUES ($1, $2, $3, $4, $4, 0, 0, $4, 0, 0, 0)
                         ON CONFLICT (name) DO UPDATE SET every_ms = $2, stale_ms = $3",
                        name,
                        every_ms,
                        stale_ms,
                        now
                    )
                    .execute(&mut *c)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn claim_jobs(&self, names: &[&str], owner: Uuid, ttl_ms: i64, now: Millis) -> Result<Vec<JobClaim>> {
        // In one order on all hosts, so that none waits for another that waits for it.
        let mut names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        names.sort();
        self.write(move |c| {
            Box::pin(async move {
                let mut due = Vec::new();
                for name in names {
                    let Some(mut job) = lock(c, &name).await? else { continue };
                    let mended = rules::jobs::mend_clock(&mut job, ttl_ms, now);
                    if job.due_ms <= now {
                        due.push(job);
                    } else if mended {
                        update(c, &job).await?;
                    }
                }
                due.sort_by(|a, b| (a.due_ms, &a.name).cmp(&(b.due_ms, &b.name)));
                let mut claims = Vec::with_capacity(due.len());
                for mut job in due {
                    rules::jobs::claim(&mut job, owner, ttl_ms, now);
                    update(c, &job).await?;
                    claims.push(JobClaim { name: job.name, owner, epoch: job.epoch });
                }
                Ok(claims)
            })
        })
        .await
    }

    async fn renew_job(&self, claim: &JobClaim, ttl_ms: i64, now: Millis) -> Result<()> {
        let claim = claim.clone();
        self.write(move |c| {
            Box::pin(async move {
                let (owner, until) = (claim.owner.to_string(), now.saturating_add(ttl_ms));
                let done = query!(
                    "UPDATE job SET due_ms = $4 WHERE name = $1 AND owner = $2 AND epoch = $3",
                    claim.name,
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

    async fn end_job(&self, claim: &JobClaim, end: JobEnd, now: Millis) -> Result<()> {
        let claim = claim.clone();
        self.write(move |c| {
            Box::pin(async move {
                let row = lock(c, &claim.name).await?;
                let held = row.filter(|j| j.owner == Some(claim.owner) && j.epoch == claim.epoch);
                let mut row = held.ok_or(StoreError::ClaimLost)?;
                rules::jobs::end(&mut row, &end, now);
                update(c, &row).await?;
                match end {
                    JobEnd::Done { events, .. } => events::append(c, events, now).await,
                    JobEnd::Failed { .. } => Ok(()),
                }
            })
        })
        .await
    }

    async fn job(&self, name: &str) -> Result<Option<Job>> {
        Ok(job(&mut *self.reader().await?, name).await?)
    }

    async fn jobs(&self) -> Result<Vec<Job>> {
        let mut reader = self.reader().await?;
        let rows = query_as!(
            JobRow,
            "SELECT name, every_ms, stale_ms, due_ms, was_due_ms, owner, epoch, forced, declared_ms,
            last_begun_ms, last_ended_ms, last_ok_ms, last_result, last_error, last_epoch, runs, took_over
            FROM job ORDER BY name"
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(JobRow::model).collect::<Result<_>>()?)
    }

    async fn force_job(&self, name: &str, audit: NewAudit, now: Millis) -> Result<Job> {
        let name = name.to_owned();
        self.write(move |c| {
            Box::pin(async move {
                let mut row = lock(c, &name).await?.ok_or_else(|| rules::jobs::no_job(&name))?;
                let before = row.clone();
                rules::jobs::force(&mut row, now);
                update(c, &row).await?;
                // Whoever runs jobs looks at once.
                signals::tell(c, Signal::Queue).await?;
                events::audit(c, Some(audit), now).await?;
                Ok(before)
            })
        })
        .await
    }

    async fn clear_job_locks(&self, name: Option<&str>, audit: NewAudit, now: Millis) -> Result<Vec<String>> {
        let name = name.map(str::to_owned);
        self.write(move |c| {
            Box::pin(async move {
                let rows = match &name {
                    Some(name) => vec![lock(c, name).await?.ok_or_else(|| rules::jobs::no_job(name))?],
                    None => {
                        let rows =
                            query_as!(JobRow, "SELECT name, every_ms, stale_ms, due_ms, was_due_ms, owner, epoch, forced, declared_ms,
                                last_begun_ms, last_ended_ms, last_ok_ms, last_result, last_error, last_epoch, runs, took_over
                                FROM job WHERE owner IS NOT NULL ORDER BY name FOR UPDATE")
                                .fetch_all(&mut *c)
                                .await?;
                        rows.into_iter().map(JobRow::model).collect::<Result<Vec<Job>>>()?
                    }
                };
                let mut held = Vec::new();
                for mut row in rows {
                    if rules::jobs::clear(&mut row, now) {
                        update(c, &row).await?;
                        held.push(row.name);
                    }
                }
                events::audit(c, Some(audit), now).await?;
                Ok(held)
            })
        })
        .await
    }

    async fn next_job_due(&self, names: &[&str]) -> Result<Option<Millis>> {
        let mut reader = self.reader().await?;
        let rows = query!("SELECT name, due_ms FROM job").fetch_all(&mut *reader).await.map_err(DbError::from)?;
        Ok(rows.into_iter().filter(|r| names.contains(&r.name.as_str())).map(|r| r.due_ms).min())
    }

    async fn prune(&self, what: Prune, limit: usize) -> Result<u64> {
        // What is not numbered yet is as old as what is.
        self.publish().await?;
        let most = crate::limit(limit);
        self.write(move |c| Box::pin(async move { prune(c, what, most).await })).await
    }
}

async fn job(c: &mut PgConnection, name: &str) -> Db<Option<Job>> {
    let row = query_as!(
        JobRow,
        "SELECT name, every_ms, stale_ms, due_ms, was_due_ms, owner, epoch, forced, declared_ms,
        last_begun_ms, last_ended_ms, last_ok_ms, last_result, last_error, last_epoch, runs, took_over
        FROM job WHERE name = $1",
        name
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(JobRow::model).transpose()?)
}

/// As [`job`], and nobody else changes it until this transaction ends.
async fn lock(c: &mut PgConnection, name: &str) -> Db<Option<Job>> {
    let row = query_as!(
        JobRow,
        "SELECT name, every_ms, stale_ms, due_ms, was_due_ms, owner, epoch, forced, declared_ms,
        last_begun_ms, last_ended_ms, last_ok_ms, last_result, last_error, last_epoch, runs, took_over
        FROM job WHERE name = $1 FOR UPDATE",
        name
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(JobRow::model).transpose()?)
}

/// Everything but its name and when it was declared.
async fn update(c: &mut PgConnection, job: &Job) -> Db<()> {
    let owner = job.owner.map(|o| o.to_string());
    let result = job.last_result.as_ref().map(|r| to_json(r, "job.last_result")).transpose()?;
    query!(
        "UPDATE job SET due_ms = $2, was_due_ms = $3, owner = $4, epoch = $5, forced = $6, last_begun_ms = $7,
            last_ended_ms = $8, last_ok_ms = $9, last_result = $10, last_error = $11, last_epoch = $12, runs = $13,
            took_over = $14
         WHERE name = $1",
        job.name,
        job.due_ms,
        job.was_due_ms,
        owner,
        job.epoch,
        i64::from(job.forced),
        job.last_begun_ms,
        job.last_ended_ms,
        job.last_ok_ms,
        result,
        job.last_error,
        job.last_epoch,
        job.runs,
        job.took_over
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

async fn prune(c: &mut PgConnection, what: Prune, most: i64) -> Db<u64> {
    let done =
        match what {
            Prune::Events { before } => return prune_events(c, before, most).await,
            Prune::Audit { before } => query!(
                "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at_ms < $1 ORDER BY at_ms, seq LIMIT $2)",
                before,
                most
            )
            .execute(&mut *c)
            .await?,
            Prune::Keys { before } => {
                query!(
                    "DELETE FROM idempotency WHERE (scope, key) IN (
                    SELECT scope, key FROM idempotency WHERE at_ms < $1 ORDER BY at_ms, scope, key LIMIT $2
                    FOR UPDATE SKIP LOCKED)",
                    before,
                    most
                )
                .execute(&mut *c)
                .await?
            }
            Prune::Effects => return prune_effects(c, most).await,
        };
    Ok(done.rows_affected())
}

/// Remembers up to where they are gone, so that no reader passes over a gap unseen.
async fn prune_events(c: &mut PgConnection, before: i64, most: i64) -> Db<u64> {
    let rows = query!(
        r#"DELETE FROM event WHERE seq IN (
            SELECT e.seq FROM event e WHERE e.at_ms < $1
               AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.seq = e.seq)
            ORDER BY e.at_ms, e.seq LIMIT $2)
           RETURNING seq, panel"#,
        before,
        most
    )
    .fetch_all(&mut *c)
    .await?;
    let count = rows.len();
    for (key, upto) in rules::events::gone(rows.into_iter().map(|r| (r.seq, r.panel))) {
        let upto = upto.to_string();
        query!(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET
                value = GREATEST(meta.value::BIGINT, excluded.value::BIGINT)::TEXT",
            key,
            upto
        )
        .execute(&mut *c)
        .await?;
    }
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Only operations that have too many are looked at closer: there are few.
async fn prune_effects(c: &mut PgConnection, most: i64) -> Db<u64> {
    let kept = i64::from(rules::EFFECTS_KEPT);
    let long = query!(
        r#"SELECT q.operation_id AS "operation!: String",
              (SELECT MAX(e.sequence) FROM effect e WHERE e.operation_id = q.operation_id) AS "last!: i64"
           FROM queue q WHERE EXISTS (SELECT 1 FROM effect e WHERE e.operation_id = q.operation_id AND e.sequence > $1)
           ORDER BY q.operation_id"#,
        kept
    )
    .fetch_all(&mut *c)
    .await?;
    let mut gone: u64 = 0;
    for row in long {
        let left = most.saturating_sub(limit(usize::try_from(gone).unwrap_or(usize::MAX)));
        let below = row.last.saturating_sub(kept);
        let done = query!(
            "DELETE FROM effect WHERE operation_id = $1 AND sequence IN (
                SELECT sequence FROM effect WHERE operation_id = $1 AND sequence < $2 AND state IN ('ok', 'failed')
                ORDER BY sequence LIMIT $3)",
            row.operation,
            below,
            left
        )
        .execute(&mut *c)
        .await?;
        gone += done.rows_affected();
    }
    Ok(gone)
}
