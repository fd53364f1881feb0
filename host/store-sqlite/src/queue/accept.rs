//! Taking wishes on.

use sqlx::{SqliteConnection, query};
use wharf_store::{
    Accept, Accepted,
    rules::{self, Plan, Writes},
};

use super::enqueue;
use crate::{error::Db, events, services};
use wharf_store::rows::uid;

pub(super) async fn accept(c: &mut SqliteConnection, accept: Accept) -> Db<Accepted> {
    let Accept { panel, reference, idempotency, decide, now } = accept;
    let forgotten = now.saturating_sub(rules::IDEMPOTENCY_MS);
    query!("DELETE FROM idempotency WHERE at_ms <= ?1", forgotten).execute(&mut *c).await?;
    if let Some((scope, key, fingerprint)) = &idempotency {
        let known = query!(
            "SELECT fingerprint, service_id, operation_id FROM idempotency WHERE scope = ?1 AND key = ?2",
            scope,
            key
        )
        .fetch_optional(&mut *c)
        .await?;
        if let Some(known) = known {
            if known.fingerprint != *fingerprint {
                return Ok(Accepted::KeyReused);
            }
            let service = match &known.service_id {
                Some(id) => services::service(c, uid(id)?).await?,
                None => None,
            };
            let Some(service) = service else { return Ok(Accepted::NoService) };
            let operation = match &known.operation_id {
                Some(id) => services::operation(c, uid(id)?).await?,
                None => None,
            };
            return Ok(Accepted::Done {
                service: Box::new(service),
                operation: operation.map(Box::new),
                replayed: true,
            });
        }
    }
    let service = services::service_by_ref(c, &panel, &reference).await?;
    let open = match &service {
        Some(service) => services::open_operations(c, service.id).await?,
        None => Vec::new(),
    };
    let decision = decide(service.as_ref(), &open);
    let (service, operation) = match rules::plan(&panel, &reference, decision, service, &open, now)? {
        Plan::Answer(answer) => return Ok(answer),
        Plan::KeyOnly { service, operation } => {
            let operation = match operation {
                Some(id) => services::operation(c, id).await?,
                None => None,
            };
            (service, operation.map(Box::new))
        }
        Plan::Write(writes) => {
            let Writes { service, created, operation, cancelled, preempt, events } = *writes;
            services::put_service(c, &service, created).await?;
            for cancelled in &cancelled {
                services::update_operation(c, cancelled).await?;
            }
            if let Some(live) = preempt {
                // A worker that holds it may have looked already: the nudge ends its next wait at once. Nobody holds it:
                // it is due, parked or not.
                let live = live.to_string();
                query!(
                    "UPDATE queue SET preempted = 1, nudged = owner IS NOT NULL,
                        due_ms = CASE WHEN owner IS NULL THEN MIN(due_ms, ?2) ELSE due_ms END,
                        wait_slot = NULL, topic = NULL
                     WHERE operation_id = ?1",
                    live,
                    now
                )
                .execute(&mut *c)
                .await?;
            }
            if let Some((operation, live)) = &operation {
                services::insert_operation(c, operation).await?;
                if *live {
                    enqueue(c, operation, now).await?;
                }
            }
            events::append(c, events, now).await?;
            services::cut_history(c, service.id).await?;
            (Some(Box::new(service)), operation.map(|(operation, _)| Box::new(operation)))
        }
    };
    if let Some((scope, key, fingerprint)) = &idempotency {
        let service = service.as_ref().map(|s| s.id.to_string());
        let operation = operation.as_ref().map(|o| o.id.to_string());
        query!(
            "INSERT INTO idempotency (scope, key, fingerprint, service_id, operation_id, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            scope,
            key,
            fingerprint,
            service,
            operation,
            now
        )
        .execute(&mut *c)
        .await?;
    }
    Ok(match service {
        Some(service) => Accepted::Done { service, operation, replayed: false },
        None => Accepted::NoService,
    })
}
