//! What a worker commits: the fence first, then everything or nothing.

use sqlx::{SqliteConnection, query, query_as, query_scalar};
use wharf_model::{
    Millis,
    effect::SlotPool,
    operation::{OperationId, Status},
};
use wharf_store::rows::{QueueRow, num, uid};
use wharf_store::{
    Commit, Committed, Result, StoreError, Then,
    rules::{self, SlotMove},
};

use super::enqueue;
use crate::{
    error::{Db, DbError},
    events, services,
};

pub(crate) async fn commit(c: &mut SqliteConnection, mut commit: Commit) -> Db<Committed> {
    let (id, owner) = (commit.claim.operation.to_string(), commit.claim.owner.to_string());
    let mut live = query_as!(
        QueueRow,
        "UPDATE queue SET rev = rev + 1 WHERE operation_id = ?1 AND owner = ?2 AND epoch = ?3 RETURNING *",
        id,
        owner,
        commit.claim.epoch
    )
    .fetch_optional(&mut *c)
    .await?
    .ok_or(DbError::Store(StoreError::ClaimLost))?;

    let now = commit.now;
    let service_id = uid(&live.service_id)?;
    let mut operation = services::operation(c, commit.claim.operation)
        .await?
        .ok_or_else(|| rules::no_operation(commit.claim.operation))?;
    let mut service = services::service(c, service_id).await?.ok_or_else(|| rules::no_service(service_id))?;
    if live.preempted != 0 {
        rules::overtaken(&mut commit, service.phase);
    }
    let before = operation.clone();
    rules::advance(&mut operation, &commit);
    let mut touched = rules::patch_service(&mut service, std::mem::take(&mut commit.service), now);

    let mut parked = None;
    let mut freed = None;
    let mut effect = None;
    if let Some(change) = commit.effect.take() {
        let last = services::last_effect(c, operation.id).await?;
        let mut moved = rules::move_effect(change, &operation, last, now)?;
        match moved.slot {
            SlotMove::Stay => {}
            SlotMove::Free(pool) => freed = Some(pool),
            SlotMove::Take(pool) => {
                if take_slot(c, &pool, operation.id).await? {
                    rules::grant(&mut moved.effect);
                    live.ticket = None;
                } else {
                    parked = Some(pool);
                }
            }
        }
        services::put_effect(c, &moved.effect, moved.fresh).await?;
        effect = Some(moved.effect);
    }

    let mut over = false;
    let mut held = false;
    match (&parked, commit.then) {
        (Some(pool), _) => {
            if live.ticket.is_none() {
                live.ticket = Some(
                    query_scalar!(r#"SELECT COALESCE(MAX(ticket), 0) + 1 AS "ticket!: i64" FROM queue"#)
                        .fetch_one(&mut *c)
                        .await?,
                );
            }
            live.owner = None;
            live.topic = None;
            live.wait_slot = Some(pool.name.clone());
            rules::wait(&mut operation, Some(rules::slot_reason(pool)));
            if live.nudged != 0 {
                live.wait_slot = None;
                live.due_ms = now;
            }
        }
        (None, Then::Keep) => held = true,
        (None, Then::Wait { due_ms, topic, reason }) => {
            live.owner = None;
            live.due_ms = if live.nudged != 0 { now } else { due_ms };
            live.topic = topic;
            rules::wait(&mut operation, reason);
        }
        (None, Then::Finish { status, phase, reason }) => {
            rules::finish(&mut operation, &mut service, status, phase, reason, now)?;
            over = true;
            touched = true;
        }
    }

    if operation != before {
        services::update_operation(c, &operation).await?;
    }
    if touched {
        services::put_service(c, &service, false).await?;
    }
    services::append_log(c, operation.id, commit.log, now).await?;
    events::append(c, commit.events, now).await?;
    if over {
        query!("UPDATE operation SET epoch = ?2 WHERE id = ?1", id, live.epoch).execute(&mut *c).await?;
        query!("DELETE FROM queue WHERE operation_id = ?1", id).execute(&mut *c).await?;
        if freed.is_none() {
            let last = match effect.take() {
                Some(effect) => Some(effect),
                None => services::last_effect(c, operation.id).await?,
            };
            freed = last.filter(|e| !e.state.is_resolved()).and_then(|e| e.slot);
        }
    } else {
        query!(
            "UPDATE queue SET due_ms = ?2, owner = ?3, wait_slot = ?4, ticket = ?5, topic = ?6 WHERE operation_id = ?1",
            id,
            live.due_ms,
            live.owner,
            live.wait_slot,
            live.ticket,
            live.topic
        )
        .execute(&mut *c)
        .await?;
    }
    if let Some(pool) = freed {
        free_slot(c, operation.id, &pool, now).await?;
    }
    if over {
        let next = services::open_operations(c, service_id).await?.into_iter().next();
        if let Some(mut next) = next.filter(|o| o.status == Status::Queued) {
            rules::promote(&mut next);
            services::update_operation(c, &next).await?;
            enqueue(c, &next, now).await?;
        }
        services::cut_history(c, service_id).await?;
    }
    Ok(if held { Committed::Held { effect } } else { Committed::Released { parked: parked.is_some() } })
}

async fn held_slots(c: &mut SqliteConnection, pool: &str) -> Db<Vec<u32>> {
    let rows = query_scalar!("SELECT number FROM slot WHERE pool = ?1", pool).fetch_all(&mut *c).await?;
    Ok(rows.into_iter().map(|n| num(n, "slot.number")).collect::<Result<_>>()?)
}

async fn take_slot(c: &mut SqliteConnection, pool: &SlotPool, operation: OperationId) -> Db<bool> {
    let held = held_slots(c, &pool.name).await?;
    let Some(number) = rules::free_slot(&held, pool.cap) else { return Ok(false) };
    let operation = operation.to_string();
    query!("INSERT INTO slot (pool, number, operation_id) VALUES (?1, ?2, ?3)", pool.name, number, operation)
        .execute(&mut *c)
        .await?;
    Ok(true)
}

/// Gives the run's slot back, if it holds one, and wakes the first that waits for it, if one is free now.
async fn free_slot(c: &mut SqliteConnection, operation: OperationId, pool: &SlotPool, now: Millis) -> Db<()> {
    let operation = operation.to_string();
    query!("DELETE FROM slot WHERE operation_id = ?1", operation).execute(&mut *c).await?;
    if rules::free_slot(&held_slots(c, &pool.name).await?, pool.cap).is_none() {
        return Ok(());
    }
    query!(
        "UPDATE queue SET wait_slot = NULL, due_ms = ?2 WHERE operation_id = (
            SELECT operation_id FROM queue WHERE wait_slot = ?1 ORDER BY ticket LIMIT 1)",
        pool.name,
        now
    )
    .execute(&mut *c)
    .await?;
    Ok(())
}
