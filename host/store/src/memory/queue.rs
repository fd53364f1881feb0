//! The queue of live operations.

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{
    Millis,
    effect::{Effect, EffectState, SlotPool},
    operation::{LogBody, LogEntry, Operation, OperationId, Status},
    service::{Service, ServiceId},
};

use super::{Known, Live, MemoryStore, Mutant, State};
use crate::{
    Accept, Accepted, Claim, Commit, Committed, NewAudit, Queue, QueueCounts, Result, Run, StoreError, Then,
    rules::{self, Plan, SlotMove},
};

#[async_trait]
impl Queue for MemoryStore {
    async fn accept(&self, accept: Accept) -> Result<Accepted> {
        self.write("accept", |state| state.accept(accept))
    }

    async fn claim(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<Run>> {
        self.write("claim", |state| {
            let farthest = now.saturating_add(rules::FARTHEST_MS);
            for live in state.queue.values_mut().filter(|l| l.due_ms > farthest && l.wait_slot.is_none()) {
                live.due_ms = if live.owner.is_some() { now.saturating_add(ttl_ms) } else { now };
            }
            let mut due: Vec<(Millis, OperationId)> = state
                .queue
                .iter()
                .filter(|(_, live)| live.due_ms <= now && live.wait_slot.is_none())
                .map(|(id, live)| (live.due_ms, *id))
                .collect();
            due.sort_unstable();
            due.truncate(n);
            let mut runs = Vec::with_capacity(due.len());
            for (_, id) in due {
                if let Some(live) = state.queue.get_mut(&id) {
                    live.taken_over = live.owner.is_some();
                    live.owner = Some(owner);
                    live.epoch += 1;
                    live.due_ms = now.saturating_add(ttl_ms);
                    live.nudged = false;
                    live.topic = None;
                }
                if let Some(operation) = state.operations.get_mut(&id) {
                    rules::begin(operation, now);
                }
                runs.push(state.run(id)?);
            }
            Ok(runs)
        })
    }

    async fn reload(&self, claim: &Claim) -> Result<Run> {
        self.write("reload", |state| {
            state.held(claim)?.nudged = false;
            state.run(claim.operation)
        })
    }

    async fn renew(&self, claim: &Claim, ttl_ms: i64, now: Millis) -> Result<()> {
        self.write("renew", |state| {
            state.held(claim)?.due_ms = now.saturating_add(ttl_ms);
            Ok(())
        })
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        self.write("commit", |state| state.commit(commit))
    }

    async fn next_due(&self) -> Result<Option<Millis>> {
        Ok(self.read().queue.values().filter(|l| l.wait_slot.is_none()).map(|l| l.due_ms).min())
    }

    async fn wake_topic(&self, topic: &str, now: Millis) -> Result<u64> {
        self.write("wake_topic", |state| {
            let mut woken = 0;
            for live in state.queue.values_mut() {
                if live.owner.is_none() && live.wait_slot.is_none() && live.topic.as_deref() == Some(topic) {
                    live.due_ms = live.due_ms.min(now);
                    live.topic = None;
                    woken += 1;
                }
            }
            Ok(woken)
        })
    }

    async fn wake(&self, operation: OperationId, now: Millis) -> Result<bool> {
        self.write("wake", |state| {
            let live = state.queue.get_mut(&operation).filter(|l| l.owner.is_none() && l.wait_slot.is_none());
            Ok(live.is_some_and(|live| {
                live.due_ms = live.due_ms.min(now);
                live.topic = None;
                true
            }))
        })
    }

    async fn append_log(&self, operation: OperationId, lines: Vec<LogBody>, now: Millis) -> Result<()> {
        self.write("append_log", |state| {
            if state.operations.contains_key(&operation) {
                state.append_log(operation, lines, now);
            }
            Ok(())
        })
    }

    async fn issued_tasks(&self, server: &str) -> Result<Vec<(OperationId, String)>> {
        let state = self.read();
        let issued = state.queue.keys().filter_map(|id| state.last_effect(*id)).filter(|e| e.server == server);
        Ok(issued
            .filter(|e| e.state == EffectState::Issued)
            .filter_map(|e| e.task.clone().map(|task| (e.operation_id, task)))
            .collect())
    }

    async fn servers_with_tasks(&self) -> Result<Vec<String>> {
        let state = self.read();
        let issued = state.queue.keys().filter_map(|id| state.last_effect(*id));
        let mut servers: Vec<String> =
            issued.filter(|e| e.state == EffectState::Issued).map(|e| e.server.clone()).collect();
        servers.sort();
        servers.dedup();
        Ok(servers)
    }

    async fn slots(&self) -> Result<BTreeMap<String, Vec<OperationId>>> {
        let state = self.read();
        let pools = state.slots.iter().filter(|(_, held)| !held.is_empty());
        Ok(pools.map(|(pool, held)| (pool.clone(), held.values().copied().collect())).collect())
    }

    async fn resume(&self, operation: OperationId, to: Option<String>, audit: NewAudit, now: Millis) -> Result<()> {
        self.write("resume", |state| {
            let mut row = state.operations.get(&operation).cloned().ok_or_else(|| rules::no_operation(operation))?;
            let terminated = state
                .operations
                .values()
                .any(|o| o.service_id == row.service_id && o.generation > row.generation && o.kind == rules::TERMINATE);
            rules::resume(&mut row, to, terminated, now)?;
            if state.live_of(row.service_id).is_some() {
                return Err(StoreError::Conflict("another operation of the service is live: let it end first".into()));
            }
            state.enqueue(&row, now);
            state.operations.insert(row.id, row);
            state.audit(Some(audit), now);
            Ok(())
        })
    }

    async fn queue_counts(&self) -> Result<QueueCounts> {
        let state = self.read();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(QueueCounts {
            live: count(state.queue.len()),
            parked: count(state.queue.values().filter(|l| l.wait_slot.is_some()).count()),
            claimed: count(state.queue.values().filter(|l| l.owner.is_some()).count()),
            needs_admin: count(state.operations.values().filter(|o| o.status == Status::NeedsAdmin).count()),
            sent: count(
                state
                    .queue
                    .keys()
                    .filter_map(|id| state.effects.get(id))
                    .flatten()
                    .filter(|e| e.state == EffectState::Intent)
                    .count(),
            ),
            deliveries: count(state.deliveries.len()),
            records: count(state.records.values().filter(|r| r.open).count()),
            records_failed: count(state.records.values().filter(|r| r.open && r.attempt > 0).count()),
        })
    }
}

impl State {
    pub(super) fn by_ref(&self, panel: &str, reference: &str) -> Option<Service> {
        let id = self.refs.get(&(panel.to_owned(), reference.to_owned()))?;
        self.services.get(id).cloned()
    }

    fn live_of(&self, service: ServiceId) -> Option<OperationId> {
        self.queue.iter().find(|(_, live)| live.service == service).map(|(id, _)| *id)
    }

    fn last_effect(&self, operation: OperationId) -> Option<&Effect> {
        self.effects.get(&operation).and_then(|e| e.last())
    }

    /// Refuses what is asked for under a claim that is not the one that counts.
    pub(super) fn fence(&mut self, claim: Option<&Claim>) -> Result<()> {
        match claim {
            Some(claim) => self.held(claim).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The live row, if the claim is still the one that counts.
    fn held(&mut self, claim: &Claim) -> Result<&mut Live> {
        let unfenced = self.mutant == Mutant::NoFence;
        self.queue
            .get_mut(&claim.operation)
            .filter(|live| unfenced || (live.owner == Some(claim.owner) && live.epoch == claim.epoch))
            .ok_or(StoreError::ClaimLost)
    }

    fn run(&self, id: OperationId) -> Result<Run> {
        let live = self.queue.get(&id).ok_or(StoreError::ClaimLost)?;
        let owner = live.owner.ok_or(StoreError::ClaimLost)?;
        Ok(Run {
            claim: Claim { operation: id, owner, epoch: live.epoch },
            service: self.services.get(&live.service).cloned().ok_or_else(|| rules::no_service(live.service))?,
            operation: self.operations.get(&id).cloned().ok_or_else(|| rules::no_operation(id))?,
            effect: self.last_effect(id).cloned(),
            preempted: live.preempted,
            taken_over: live.taken_over,
        })
    }

    /// Open operations, oldest first, the live one before all.
    pub(super) fn open(&self, service: ServiceId) -> Vec<Operation> {
        let ids = self.by_service.get(&service).into_iter().flat_map(|m| m.values());
        let mut open: Vec<Operation> =
            ids.filter_map(|id| self.operations.get(id)).filter(|o| !o.status.is_final()).cloned().collect();
        open.sort_by_key(|o| (o.status == Status::Queued, o.generation));
        open
    }

    fn enqueue(&mut self, operation: &Operation, now: Millis) {
        self.queue.insert(
            operation.id,
            Live {
                service: operation.service_id,
                due_ms: now,
                owner: None,
                epoch: self.epochs.get(&operation.id).copied().unwrap_or(0),
                taken_over: false,
                preempted: false,
                nudged: false,
                wait_slot: None,
                ticket: None,
                topic: None,
            },
        );
    }

    fn accept(&mut self, accept: Accept) -> Result<Accepted> {
        let Accept { panel, reference, idempotency, decide, now } = accept;
        self.idempotency.retain(|_, known| known.at_ms > now.saturating_sub(rules::IDEMPOTENCY_MS));
        if let Some((scope, key, fingerprint)) = &idempotency
            && let Some(known) = self.idempotency.get(&(scope.clone(), key.clone()))
        {
            if known.fingerprint != *fingerprint {
                return Ok(Accepted::KeyReused);
            }
            let Some(service) = known.service.and_then(|id| self.services.get(&id)) else {
                return Ok(Accepted::NoService);
            };
            let operation = known.operation.and_then(|id| self.operations.get(&id));
            return Ok(Accepted::Done {
                service: Box::new(service.clone()),
                operation: operation.cloned().map(Box::new),
                replayed: true,
            });
        }
        let service = self.by_ref(&panel, &reference);
        let open = service.as_ref().map(|s| self.open(s.id)).unwrap_or_default();
        let decision = decide(service.as_ref(), &open);
        let (service, operation) = match rules::plan(&panel, &reference, decision, service, &open, now)? {
            Plan::Answer(answer) => return Ok(answer),
            Plan::KeyOnly { service, operation } => {
                (service, operation.and_then(|id| self.operations.get(&id)).cloned().map(Box::new))
            }
            Plan::Write(writes) => {
                if writes.created && self.services.contains_key(&writes.service.id) {
                    return Err(StoreError::Conflict(format!("the service id {} is taken", writes.service.id)));
                }
                if let Some((operation, _)) = &writes.operation
                    && self.operations.contains_key(&operation.id)
                {
                    return Err(StoreError::Conflict(format!("the operation id {} is taken", operation.id)));
                }
                let service = writes.service;
                for cancelled in writes.cancelled {
                    self.operations.insert(cancelled.id, cancelled);
                }
                if let Some(live) = writes.preempt.and_then(|id| self.queue.get_mut(&id)) {
                    live.preempted = true;
                    if live.owner.is_some() {
                        live.nudged = true;
                    } else {
                        live.due_ms = live.due_ms.min(now);
                        live.wait_slot = None;
                        live.topic = None;
                    }
                }
                let unlocked = self.mutant == Mutant::NoServiceLock;
                let operation = writes.operation.map(|(operation, live)| {
                    if live || unlocked {
                        self.enqueue(&operation, now);
                    }
                    self.by_service.entry(service.id).or_default().insert(operation.generation, operation.id);
                    self.operations.insert(operation.id, operation.clone());
                    Box::new(operation)
                });
                self.refs.insert((service.panel.clone(), service.reference.clone()), service.id);
                self.services.insert(service.id, service.clone());
                self.events(writes.events, now);
                self.cut_history(service.id);
                (Some(Box::new(service)), operation)
            }
        };
        if let Some((scope, key, fingerprint)) = idempotency {
            let known = Known {
                fingerprint,
                service: service.as_ref().map(|s| s.id),
                operation: operation.as_ref().map(|o| o.id),
                at_ms: now,
            };
            self.idempotency.insert((scope, key), known);
        }
        Ok(match service {
            Some(service) => Accepted::Done { service, operation, replayed: false },
            None => Accepted::NoService,
        })
    }

    pub(super) fn commit(&mut self, mut commit: Commit) -> Result<Committed> {
        let id = commit.claim.operation;
        let now = commit.now;
        let mut live = self.held(&commit.claim)?.clone();
        let mut operation = self.operations.get(&id).cloned().ok_or_else(|| rules::no_operation(id))?;
        let mut service = self.services.get(&live.service).cloned().ok_or_else(|| rules::no_service(live.service))?;
        if live.preempted {
            rules::overtaken(&mut commit, service.phase);
        }
        rules::advance(&mut operation, &commit);
        rules::patch_service(&mut service, std::mem::take(&mut commit.service), now);
        let last = self.last_effect(id).cloned();
        let mut moved = match commit.effect.take() {
            Some(change) => Some(rules::move_effect(change, &operation, last.clone(), now)?),
            None => None,
        };

        // Whether the run parks must be known before `then`, and whether `then` is possible before anything is written.
        let mut taken = None;
        let mut parked = None;
        if let Some(moved) = &mut moved
            && let SlotMove::Take(pool) = &moved.slot
        {
            let held = self.slots.get(&pool.name);
            let numbers: Vec<u32> = held.into_iter().flat_map(|h| h.keys().copied()).collect();
            match rules::free_slot(&numbers, pool.cap) {
                Some(number) => {
                    taken = Some((pool.name.clone(), number));
                    rules::grant(&mut moved.effect);
                }
                None => parked = Some(pool.clone()),
            }
        }
        let mut released = true;
        let mut over = false;
        match (&parked, commit.then) {
            (Some(pool), _) => {
                live.owner = None;
                live.wait_slot = Some(pool.name.clone());
                live.topic = None;
                if live.ticket.is_none() {
                    self.tickets += 1;
                    live.ticket = Some(self.tickets);
                }
                rules::wait(&mut operation, Some(rules::slot_reason(pool)));
                if live.nudged {
                    live.wait_slot = None;
                    live.due_ms = now;
                }
            }
            (None, Then::Keep) => released = false,
            (None, Then::Wait { due_ms, topic, reason }) => {
                live.owner = None;
                live.due_ms = if live.nudged { now } else { due_ms };
                live.topic = topic;
                rules::wait(&mut operation, reason);
            }
            (None, Then::Finish { status, phase, reason }) => {
                rules::finish(&mut operation, &mut service, status, phase, reason, now)?;
                over = true;
            }
        }

        // From here on nothing fails.
        let changed = moved.as_ref().map(|m| m.effect.clone());
        if let Some((pool, number)) = taken {
            self.slots.entry(pool).or_default().insert(number, id);
            live.ticket = None;
        }
        self.queue.insert(id, live);
        let mut freed = None;
        if let Some(moved) = moved {
            let effects = self.effects.entry(id).or_default();
            if !moved.fresh {
                effects.pop();
            }
            effects.push(moved.effect);
            if let SlotMove::Free(pool) = moved.slot {
                freed = Some(pool);
            }
        }
        self.append_log(id, commit.log, now);
        self.operations.insert(id, operation);
        let service_id = service.id;
        self.services.insert(service_id, service);
        self.events(commit.events, now);
        if over {
            if let Some(live) = self.queue.remove(&id) {
                self.epochs.insert(id, live.epoch);
            }
            let unresolved = self.last_effect(id).filter(|e| !e.state.is_resolved()).and_then(|e| e.slot.clone());
            freed = freed.or(unresolved);
        }
        if let Some(pool) = freed {
            self.free_slot(id, &pool, now);
        }
        if over {
            let next = self.open(service_id).into_iter().next();
            if let Some(mut next) = next.filter(|o| o.status == Status::Queued) {
                rules::promote(&mut next);
                self.enqueue(&next, now);
                self.operations.insert(next.id, next);
            }
            self.cut_history(service_id);
        }
        Ok(if released {
            Committed::Released { parked: parked.is_some() }
        } else {
            Committed::Held { effect: changed }
        })
    }

    /// Gives the run's slot back, if it holds one, and wakes the first that waits for it, if one is free now.
    fn free_slot(&mut self, operation: OperationId, pool: &SlotPool, now: Millis) {
        let held = self.slots.entry(pool.name.clone()).or_default();
        held.retain(|_, holder| *holder != operation);
        let numbers: Vec<u32> = held.keys().copied().collect();
        if rules::free_slot(&numbers, pool.cap).is_none() {
            return;
        }
        let waiting = self.queue.values_mut().filter(|l| l.wait_slot.as_ref() == Some(&pool.name));
        if let Some(first) = waiting.min_by_key(|l| l.ticket) {
            first.wait_slot = None;
            first.due_ms = now;
        }
    }

    fn append_log(&mut self, operation: OperationId, bodies: Vec<LogBody>, now: Millis) {
        if bodies.is_empty() {
            return;
        }
        let log = self.logs.entry(operation).or_default();
        for body in bodies {
            log.last += 1;
            log.entries.push(LogEntry { n: log.last, at_ms: now, body });
        }
        let cap = usize::try_from(rules::LOG_CAP).unwrap_or(usize::MAX);
        let mut surplus = log.entries.len().saturating_sub(cap);
        if surplus > 0 {
            log.entries.retain(|entry| {
                let goes = surplus > 0 && !rules::stays(&entry.body);
                surplus -= usize::from(goes);
                !goes
            });
        }
    }

    /// Keeps the last operations of a service; open ones stay whatever their number.
    fn cut_history(&mut self, service: ServiceId) {
        let Some(all) = self.by_service.get_mut(&service) else { return };
        let old: Vec<(u32, OperationId)> = all.iter().rev().skip(rules::HISTORY).map(|(g, id)| (*g, *id)).collect();
        for (generation, id) in old {
            if self.operations.get(&id).is_some_and(|o| o.status.is_final()) {
                all.remove(&generation);
                self.operations.remove(&id);
                self.logs.remove(&id);
                self.effects.remove(&id);
                self.epochs.remove(&id);
            }
        }
    }
}
