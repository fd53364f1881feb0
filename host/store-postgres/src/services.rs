//! Services, operations, logs and effects: to read, and the statements that write their rows.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{PgConnection, query, query_as};
use wharf_model::{
    effect::Effect,
    operation::{LogBody, LogEntry, Operation, OperationId},
    service::{Service, ServiceId},
};
use wharf_store::rows::{EffectRow, OperationRow, ServiceRow, from_json, num, to_json};
use wharf_store::{Result, ServiceFilter, Services, rules};

use crate::{
    PostgresStore,
    error::{Db, DbError},
    limit,
};

#[async_trait]
impl Services for PostgresStore {
    async fn service(&self, id: ServiceId) -> Result<Option<Service>> {
        Ok(service(&mut *self.reader().await?, id).await?)
    }

    async fn service_by_ref(&self, panel: &str, reference: &str) -> Result<Option<Service>> {
        Ok(service_by_ref(&mut *self.reader().await?, panel, reference).await?)
    }

    async fn services(&self, filter: ServiceFilter) -> Result<Vec<Service>> {
        let phase = filter.phase.map(|p| p.as_str());
        let after = filter.after.map(|id| id.to_string()).unwrap_or_default();
        let most = limit(filter.limit);
        let mut reader = self.reader().await?;
        let rows = query_as!(
            ServiceRow,
            "SELECT id, panel, reference, plan, server, plugin, options, settings, ordered, facts, phase,
                suspended, generation, state, state_version, vmid, absence_proven_ms, created_ms, updated_ms
                FROM service WHERE ($1::TEXT IS NULL OR panel = $1) AND ($2::TEXT IS NULL OR phase = $2) AND id > $3
             ORDER BY id LIMIT $4",
            filter.panel,
            phase,
            after,
            most
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(ServiceRow::model).collect::<Result<_>>()?)
    }

    async fn phase_counts(&self) -> Result<BTreeMap<String, i64>> {
        let mut reader = self.reader().await?;
        let rows = query!(r#"SELECT phase, COUNT(*) AS "count!: i64" FROM service GROUP BY phase"#)
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        Ok(rows.into_iter().map(|r| (r.phase, r.count)).collect())
    }

    async fn live_state_versions(&self, plugin: &str) -> Result<Vec<(u32, i64)>> {
        let mut reader = self.reader().await?;
        let rows = query!(
            r#"SELECT o.state_version AS "version!: i64", COUNT(*) AS "count!: i64"
               FROM queue q JOIN operation o ON o.id = q.operation_id WHERE o.plugin = $1 GROUP BY 1 ORDER BY 1"#,
            plugin
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows
            .into_iter()
            .map(|r| Ok((num(r.version, "operation.state_version")?, r.count)))
            .collect::<Result<_>>()?)
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>> {
        Ok(operation(&mut *self.reader().await?, id).await?)
    }

    async fn operations(&self, service: ServiceId, limit: usize) -> Result<Vec<Operation>> {
        let (service, most) = (service.to_string(), crate::limit(limit));
        let mut reader = self.reader().await?;
        let rows = query_as!(
            OperationRow,
            "SELECT id, service_id, generation, kind, plugin, status, state, state_version, memo, attempt,
                reason_code, reason_message, created_ms, started_ms, state_ms, ended_ms, log_last, log_rows,
                epoch
                FROM operation WHERE service_id = $1 ORDER BY generation DESC LIMIT $2",
            service,
            most
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(OperationRow::model).collect::<Result<_>>()?)
    }

    async fn log(&self, operation: OperationId, after: i64, limit: usize) -> Result<Vec<LogEntry>> {
        let (operation, most) = (operation.to_string(), crate::limit(limit));
        let mut reader = self.reader().await?;
        let rows = query!(
            "SELECT n, at_ms, body FROM operation_log WHERE operation_id = $1 AND n > $2 ORDER BY n LIMIT $3",
            operation,
            after,
            most
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        let entry = |n, at_ms, body: String| Ok(LogEntry { n, at_ms, body: from_json(&body, "operation_log.body")? });
        Ok(rows.into_iter().map(|r| entry(r.n, r.at_ms, r.body)).collect::<Result<_>>()?)
    }

    async fn effects(&self, operation: OperationId) -> Result<Vec<Effect>> {
        let operation = operation.to_string();
        let mut reader = self.reader().await?;
        let rows = query_as!(
            EffectRow,
            "SELECT operation_id, sequence, service_id, generation, kind, server, body, slot_pool, slot_cap,
            state, task, deadline_ms, result, created_ms, issued_ms, resolved_ms
            FROM effect WHERE operation_id = $1 ORDER BY sequence",
            operation
        )
        .fetch_all(&mut *reader)
        .await
        .map_err(DbError::from)?;
        Ok(rows.into_iter().map(EffectRow::model).collect::<Result<_>>()?)
    }
}

pub(crate) async fn service(c: &mut PgConnection, id: ServiceId) -> Db<Option<Service>> {
    let id = id.to_string();
    let row = query_as!(
        ServiceRow,
        "SELECT id, panel, reference, plan, server, plugin, options, settings, ordered, facts, phase,
        suspended, generation, state, state_version, vmid, absence_proven_ms, created_ms, updated_ms
        FROM service WHERE id = $1",
        id
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(ServiceRow::model).transpose()?)
}

/// As [`service`], and nobody else changes it until this transaction ends.
pub(crate) async fn lock_service(c: &mut PgConnection, id: ServiceId) -> Db<Option<Service>> {
    let id = id.to_string();
    let row = query_as!(
        ServiceRow,
        "SELECT id, panel, reference, plan, server, plugin, options, settings, ordered, facts, phase,
        suspended, generation, state, state_version, vmid, absence_proven_ms, created_ms, updated_ms
        FROM service WHERE id = $1 FOR NO KEY UPDATE",
        id
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(ServiceRow::model).transpose()?)
}

pub(crate) async fn service_by_ref(c: &mut PgConnection, panel: &str, reference: &str) -> Db<Option<Service>> {
    let row = query_as!(
        ServiceRow,
        "SELECT id, panel, reference, plan, server, plugin, options, settings, ordered, facts, phase,
        suspended, generation, state, state_version, vmid, absence_proven_ms, created_ms, updated_ms
        FROM service WHERE panel = $1 AND reference = $2",
        panel,
        reference
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(ServiceRow::model).transpose()?)
}

/// Inserts, or replaces all that can change.
pub(crate) async fn put_service(c: &mut PgConnection, service: &Service, new: bool) -> Db<()> {
    let id = service.id.to_string();
    let options = to_json(&service.options, "service.options")?;
    let settings = to_json(&service.settings, "service.settings")?;
    let ordered = to_json(&service.order, "service.ordered")?;
    let facts = to_json(&service.facts, "service.facts")?;
    let phase = service.phase.as_str();
    if new {
        query!(
            "INSERT INTO service (id, panel, reference, plan, server, plugin, options, settings, ordered, facts, phase, suspended,
                generation, state, state_version, vmid, absence_proven_ms, created_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            id,
            service.panel,
            service.reference,
            service.plan,
            service.server,
            service.plugin,
            options,
            settings,
            ordered,
            facts,
            phase,
            i64::from(service.suspended),
            i64::from(service.generation),
            service.state,
            i64::from(service.state_version),
            service.vmid.map(i64::from),
            service.absence_proven_ms,
            service.created_ms,
            service.updated_ms
        )
        .execute(&mut *c)
        .await?;
        return Ok(());
    }
    query!(
        "UPDATE service SET plan = $2, options = $3, settings = $4, ordered = $5, facts = $6, phase = $7, suspended = $8,
            generation = $9, state = $10, state_version = $11, vmid = $12, absence_proven_ms = $13, updated_ms = $14
         WHERE id = $1",
        id,
        service.plan,
        options,
        settings,
        ordered,
        facts,
        phase,
        i64::from(service.suspended),
        i64::from(service.generation),
        service.state,
        i64::from(service.state_version),
        service.vmid.map(i64::from),
        service.absence_proven_ms,
        service.updated_ms
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

pub(crate) async fn operation(c: &mut PgConnection, id: OperationId) -> Db<Option<Operation>> {
    let id = id.to_string();
    let row = query_as!(
        OperationRow,
        "SELECT id, service_id, generation, kind, plugin, status, state, state_version, memo, attempt,
        reason_code, reason_message, created_ms, started_ms, state_ms, ended_ms, log_last, log_rows,
        epoch
        FROM operation WHERE id = $1",
        id
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(OperationRow::model).transpose()?)
}

/// Open operations, oldest first, the live one before all.
pub(crate) async fn open_operations(c: &mut PgConnection, service: ServiceId) -> Db<Vec<Operation>> {
    let service = service.to_string();
    let rows = query_as!(
        OperationRow,
        "SELECT id, service_id, generation, kind, plugin, status, state, state_version, memo, attempt,
            reason_code, reason_message, created_ms, started_ms, state_ms, ended_ms, log_last, log_rows,
            epoch
            FROM operation WHERE service_id = $1 AND status IN ('queued', 'running', 'waiting')
         ORDER BY (status = 'queued'), generation",
        service
    )
    .fetch_all(&mut *c)
    .await?;
    Ok(rows.into_iter().map(OperationRow::model).collect::<Result<_>>()?)
}

pub(crate) async fn insert_operation(c: &mut PgConnection, operation: &Operation) -> Db<()> {
    let (id, service) = (operation.id.to_string(), operation.service_id.to_string());
    let status = operation.status.as_str();
    query!(
        "INSERT INTO operation (id, service_id, generation, kind, plugin, status, state, state_version, attempt, created_ms, state_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        id,
        service,
        i64::from(operation.generation),
        operation.kind,
        operation.plugin,
        status,
        operation.state,
        i64::from(operation.state_version),
        i64::from(operation.attempt),
        operation.created_ms,
        operation.state_ms
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

pub(crate) async fn update_operation(c: &mut PgConnection, operation: &Operation) -> Db<()> {
    let id = operation.id.to_string();
    let status = operation.status.as_str();
    let code = operation.reason.as_ref().map(|r| r.code.as_str());
    let message = operation.reason.as_ref().map(|r| r.message.as_str());
    query!(
        "UPDATE operation SET status = $2, state = $3, state_version = $4, memo = $5, attempt = $6, reason_code = $7,
            reason_message = $8, started_ms = $9, state_ms = $10, ended_ms = $11
         WHERE id = $1",
        id,
        status,
        operation.state,
        i64::from(operation.state_version),
        operation.memo,
        i64::from(operation.attempt),
        code,
        message,
        operation.started_ms,
        operation.state_ms,
        operation.ended_ms
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

pub(crate) async fn last_effect(c: &mut PgConnection, operation: OperationId) -> Db<Option<Effect>> {
    let operation = operation.to_string();
    let row = query_as!(
        EffectRow,
        "SELECT operation_id, sequence, service_id, generation, kind, server, body, slot_pool, slot_cap,
            state, task, deadline_ms, result, created_ms, issued_ms, resolved_ms
            FROM effect WHERE operation_id = $1 ORDER BY sequence DESC LIMIT 1",
        operation
    )
    .fetch_optional(&mut *c)
    .await?;
    Ok(row.map(EffectRow::model).transpose()?)
}

/// Inserts, or replaces all that can change.
pub(crate) async fn put_effect(c: &mut PgConnection, effect: &Effect, new: bool) -> Db<()> {
    let operation = effect.operation_id.to_string();
    let state = effect.state.as_str();
    if new {
        let service = effect.service_id.to_string();
        let body = to_json(&effect.body, "effect.body")?;
        let pool = effect.slot.as_ref().map(|s| s.name.as_str());
        let cap = effect.slot.as_ref().map(|s| i64::from(s.cap));
        query!(
            "INSERT INTO effect (operation_id, sequence, service_id, generation, kind, server, body, slot_pool, slot_cap, state,
                deadline_ms, created_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            operation,
            i64::from(effect.sequence),
            service,
            i64::from(effect.generation),
            effect.kind,
            effect.server,
            body,
            pool,
            cap,
            state,
            effect.deadline_ms,
            effect.created_ms
        )
        .execute(&mut *c)
        .await?;
        return Ok(());
    }
    let result = effect.result.as_ref().map(|r| to_json(r, "effect.result")).transpose()?;
    query!(
        "UPDATE effect SET state = $3, task = $4, deadline_ms = $5, result = $6, issued_ms = $7, resolved_ms = $8
         WHERE operation_id = $1 AND sequence = $2",
        operation,
        i64::from(effect.sequence),
        state,
        effect.task,
        effect.deadline_ms,
        result,
        effect.issued_ms,
        effect.resolved_ms
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}

/// Numbers go on without gaps; beyond the cap the oldest entries go, steps that were made stay.
pub(crate) async fn append_log(c: &mut PgConnection, operation: OperationId, bodies: Vec<LogBody>, now: i64) -> Db<()> {
    if bodies.is_empty() {
        return Ok(());
    }
    let id = operation.to_string();
    let added = limit(bodies.len());
    let counts = query!(
        "UPDATE operation SET log_last = log_last + $2, log_rows = log_rows + $2 WHERE id = $1 RETURNING log_last, log_rows",
        id,
        added
    )
    .fetch_optional(&mut *c)
    .await?
    .ok_or_else(|| rules::no_operation(operation))?;
    for (n, body) in (counts.log_last - added + 1..).zip(bodies) {
        let step = i64::from(rules::stays(&body));
        let body = to_json(&body, "operation_log.body")?;
        query!(
            "INSERT INTO operation_log (operation_id, n, at_ms, step, body) VALUES ($1, $2, $3, $4, $5)",
            id,
            n,
            now,
            step,
            body
        )
        .execute(&mut *c)
        .await?;
    }
    let surplus = counts.log_rows - rules::LOG_CAP;
    if surplus > 0 {
        let gone = query!(
            "DELETE FROM operation_log WHERE operation_id = $1 AND n IN (
                SELECT n FROM operation_log WHERE operation_id = $1 AND step = 0 ORDER BY n LIMIT $2)",
            id,
            surplus
        )
        .execute(&mut *c)
        .await?;
        let gone = i64::try_from(gone.rows_affected()).unwrap_or(i64::MAX);
        query!("UPDATE operation SET log_rows = log_rows - $2 WHERE id = $1", id, gone).execute(&mut *c).await?;
    }
    Ok(())
}

/// Keeps the last operations of a service; open ones stay whatever their number.
pub(crate) async fn cut_history(c: &mut PgConnection, service: ServiceId) -> Db<()> {
    let service = service.to_string();
    let keep = limit(rules::HISTORY);
    query!(
        "DELETE FROM operation WHERE service_id = $1 AND status IN ('succeeded', 'cancelled', 'needs-admin') AND generation <= (
            SELECT generation FROM operation WHERE service_id = $1 ORDER BY generation DESC LIMIT 1 OFFSET $2)",
        service,
        keep
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}
