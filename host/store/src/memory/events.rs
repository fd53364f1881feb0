//! Events, deliveries to hooks, audit.

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{
    Millis,
    event::{Delivery, Event, NewEvent},
    object::ObjectKind,
    plugin::AuditEntry,
};

use super::{MemoryStore, Pending, State};
use crate::{Events, NewAudit, Result, StoreError, rules};

#[async_trait]
impl Events for MemoryStore {
    async fn append_events(&self, events: Vec<NewEvent>, now: Millis) -> Result<()> {
        self.write("append_events", |state| {
            state.events(events, now);
            Ok(())
        })
    }

    async fn events_after(&self, after: i64, panel: Option<&str>, limit: usize) -> Result<Vec<Event>> {
        let state = self.read();
        rules::events::go_on(after, state.meta.get(&rules::events::gone_key(panel)).map(String::as_str))?;
        let visible = |e: &&Event| e.seq > after && panel.is_none_or(|p| e.event.panel.as_deref() == Some(p));
        Ok(state.events.iter().filter(visible).take(limit).cloned().collect())
    }

    async fn claim_deliveries(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Delivery>> {
        self.write("claim_deliveries", |state| {
            let mut due: Vec<(Millis, i64, String)> = state
                .deliveries
                .iter()
                .filter(|((seq, hook), row)| {
                    row.due_ms <= now
                        && (row.service.is_none()
                            || !state
                                .deliveries
                                .iter()
                                .any(|((s, h), r)| s < seq && h == hook && r.service == row.service))
                })
                .map(|((seq, hook), row)| (row.due_ms, *seq, hook.clone()))
                .collect();
            due.sort_unstable();
            due.truncate(n);
            let mut claimed = Vec::with_capacity(due.len());
            for (_, seq, hook) in due {
                let event = state.events.iter().find(|e| e.seq == seq).cloned();
                let row = state.deliveries.get_mut(&(seq, hook.clone()));
                if let (Some(event), Some(row)) = (event, row) {
                    row.owner = Some(owner);
                    row.epoch += 1;
                    row.attempt = row.attempt.saturating_add(1);
                    row.due_ms = now.saturating_add(ttl_ms);
                    claimed.push(Delivery { hook, event, attempt: row.attempt, epoch: row.epoch });
                }
            }
            Ok(claimed)
        })
    }

    async fn settle_delivery(
        &self,
        owner: Uuid,
        delivery: &Delivery,
        again: Option<Millis>,
        _now: Millis,
    ) -> Result<()> {
        self.write("settle_delivery", |state| {
            let key = (delivery.event.seq, delivery.hook.clone());
            let row = state.deliveries.get_mut(&key).filter(|r| r.owner == Some(owner) && r.epoch == delivery.epoch);
            let row = row.ok_or(StoreError::ClaimLost)?;
            match again {
                Some(due_ms) => {
                    row.owner = None;
                    row.due_ms = due_ms;
                }
                None => {
                    state.deliveries.remove(&key);
                }
            }
            Ok(())
        })
    }

    async fn next_delivery_due(&self) -> Result<Option<Millis>> {
        let state = self.read();
        let first = |seq: i64, hook: &str, row: &Pending| {
            row.service.is_none()
                || !state.deliveries.iter().any(|((s, h), r)| *s < seq && h == hook && r.service == row.service)
        };
        Ok(state.deliveries.iter().filter(|((s, h), r)| first(*s, h, r)).map(|(_, r)| r.due_ms).min())
    }

    async fn audit(&self, entry: NewAudit, now: Millis) -> Result<()> {
        self.write("audit", |state| {
            state.audit(Some(entry), now);
            Ok(())
        })
    }

    async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        Ok(self.read().audit.iter().rev().take(limit).cloned().collect())
    }
}

impl State {
    pub(super) fn audit(&mut self, entry: Option<NewAudit>, now: Millis) {
        if let Some(NewAudit { actor, action, subject, body }) = entry {
            self.audit_seq += 1;
            let seq = self.audit_seq;
            self.audit.push(AuditEntry { seq, at_ms: now, actor, action, subject, body });
        }
    }

    /// Appends to the feed, and queues a delivery for each hook that wants it.
    pub(super) fn events(&mut self, events: Vec<NewEvent>, now: Millis) {
        for event in events {
            self.event_seq += 1;
            let seq = self.event_seq;
            let hooks =
                self.objects.values().filter(|o| o.kind == ObjectKind::Hook).map(|o| (o.name.as_str(), &o.body));
            for hook in rules::hooks_for(hooks, &event) {
                let row = Pending { service: event.service_id, due_ms: now, ..Pending::default() };
                self.deliveries.insert((seq, hook), row);
            }
            self.events.push(Event { seq, id: Uuid::now_v7(), at_ms: now, event });
        }
    }
}
