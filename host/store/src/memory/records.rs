//! DNS: wishes and ledger.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{
    Millis,
    lease::Lease,
    record::{Record, RecordKey},
    service::ServiceId,
};

use super::{Hold, MemoryStore, State, Wish};
use crate::{Claim, DnsClaim, RecordOutcome, Records, Result, Saying, StoreError, rules::records};

#[async_trait]
impl Records for MemoryStore {
    async fn want_records(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        wanted: Vec<(RecordKey, Option<u32>)>,
        queues: BTreeMap<String, String>,
        now: Millis,
    ) -> Result<()> {
        self.write("want_records", |state| {
            state.fence(claim)?;
            state.want(service, wanted, &queues, now)
        })
    }

    async fn say_records(&self, saying: Saying, now: Millis) -> Result<bool> {
        self.write("say_records", |state| {
            let id = saying.service.id;
            let service = state.services.get(&id).cloned();
            if !records::may_say(&saying, service.as_ref(), &state.leases_of(id), &state.open(id))? {
                return Ok(false);
            }
            let Saying { ptr, wanted, queues, audit, .. } = saying;
            state.want(id, wanted, &queues, now)?;
            if let Some((address, name)) = ptr {
                let own = |lease: &&mut Lease| lease.service_id == Some(id) && lease.address == address;
                for lease in state.leases.values_mut().filter(own) {
                    lease.ptr.clone_from(&name);
                }
            }
            state.audit(Some(audit), now);
            Ok(true)
        })
    }

    async fn records_of(&self, service: ServiceId) -> Result<Vec<Record>> {
        let state = self.read();
        Ok(state.records.iter().filter(|(k, _)| k.service_id == service).map(|(k, r)| r.record(k)).collect())
    }

    async fn records_in(&self, zone: &str) -> Result<Vec<Record>> {
        let state = self.read();
        Ok(state.records.iter().filter(|(k, _)| k.zone == zone).map(|(k, r)| r.record(k)).collect())
    }

    async fn hurry_records(&self, service: Option<ServiceId>, now: Millis) -> Result<u64> {
        self.write("hurry_records", |state| {
            let mut hurried = 0;
            for (key, row) in &mut state.records {
                if row.open && service.is_none_or(|s| s == key.service_id) {
                    row.due_ms = row.due_ms.min(now);
                    hurried += 1;
                }
            }
            Ok(hurried)
        })
    }

    async fn recheck_records(&self, keys: &[RecordKey], now: Millis) -> Result<u64> {
        self.write("recheck_records", |state| {
            let mut opened = 0;
            for key in keys {
                // What was sent stays sent: it may be there all the same, and must then go with its service.
                if let Some(row) = state.records.get_mut(key).filter(|row| row.wanted && !row.open) {
                    (row.open, row.attempt, row.due_ms) = (true, 0, now);
                    opened += 1;
                }
            }
            Ok(opened)
        })
    }

    async fn claim_dns(&self, owner: Uuid, ttl_ms: i64, n: usize, now: Millis) -> Result<Vec<DnsClaim>> {
        self.write("claim_dns", |state| {
            let mut due: BTreeMap<String, Millis> = BTreeMap::new();
            for row in state.records.values().filter(|r| r.open && r.due_ms <= now) {
                let first = due.entry(row.queue.clone()).or_insert(row.due_ms);
                *first = row.due_ms.min(*first);
            }
            due.retain(|queue, _| state.dns.get(queue).is_none_or(|h| h.owner.is_none() || h.until_ms <= now));
            let mut due: Vec<(Millis, String)> = due.into_iter().map(|(queue, due)| (due, queue)).collect();
            due.sort_unstable();
            due.truncate(n);
            let claims = due.into_iter().map(|(_, queue)| {
                let hold = state.dns.entry(queue.clone()).or_default();
                *hold = Hold { owner: Some(owner), epoch: hold.epoch + 1, until_ms: now.saturating_add(ttl_ms) };
                DnsClaim { queue, owner, epoch: hold.epoch }
            });
            Ok(claims.collect())
        })
    }

    async fn renew_dns(&self, claim: &DnsClaim, ttl_ms: i64, now: Millis) -> Result<()> {
        self.write("renew_dns", |state| {
            state.dns_held(claim)?.until_ms = now.saturating_add(ttl_ms);
            Ok(())
        })
    }

    async fn due_records(&self, claim: &DnsClaim, limit: usize, now: Millis) -> Result<Vec<Record>> {
        self.write("due_records", |state| {
            state.dns_held(claim)?;
            let mut due: Vec<(Millis, &RecordKey, &mut Wish)> = state
                .records
                .iter_mut()
                .filter(|(_, row)| row.open && row.queue == claim.queue && row.due_ms <= now)
                .map(|(key, row)| (row.due_ms, key, row))
                .collect();
            due.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
            due.truncate(limit);
            due.sort_by(|a, b| a.1.cmp(b.1));
            Ok(due
                .into_iter()
                .map(|(_, key, row)| {
                    row.sought = row.wanted;
                    row.record(key)
                })
                .collect())
        })
    }

    async fn mark_sent(&self, claim: &DnsClaim, keys: &[RecordKey], now: Millis) -> Result<()> {
        self.write("mark_sent", |state| {
            state.dns_held(claim)?;
            for key in keys {
                if state.records.get(key).is_none_or(|row| row.wanted != row.sought) {
                    return Err(records::changed(key));
                }
            }
            for key in keys {
                if let Some(row) = state.records.get_mut(key).filter(|row| row.wanted) {
                    row.sent = true;
                    row.updated_ms = now;
                }
            }
            Ok(())
        })
    }

    async fn settle_records(
        &self,
        claim: &DnsClaim,
        outcomes: Vec<(RecordKey, RecordOutcome)>,
        now: Millis,
    ) -> Result<()> {
        self.write("settle_records", |state| {
            state.dns_held(claim)?;
            for (key, outcome) in outcomes {
                let Some(row) = state.records.get_mut(&key) else { continue };
                row.updated_ms = now;
                let same = row.wanted == row.sought;
                match outcome {
                    RecordOutcome::Done => {
                        row.sent = row.sought;
                        row.attempt = 0;
                        row.reason = None;
                        row.open = !same;
                        if !row.wanted && !row.sent {
                            state.records.remove(&key);
                        }
                    }
                    RecordOutcome::Failed { reason, due_ms } => {
                        row.attempt = row.attempt.saturating_add(1);
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
            }
            Ok(())
        })
    }

    async fn release_dns(&self, claim: &DnsClaim, _now: Millis) -> Result<()> {
        self.write("release_dns", |state| {
            state.dns_held(claim)?.owner = None;
            Ok(())
        })
    }

    async fn next_dns_due(&self) -> Result<Option<Millis>> {
        let state = self.read();
        let free_from =
            |queue: &str| state.dns.get(queue).filter(|h| h.owner.is_some()).map_or(Millis::MIN, |h| h.until_ms);
        Ok(state.records.values().filter(|r| r.open).map(|r| r.due_ms.max(free_from(&r.queue))).min())
    }
}

impl State {
    fn want(
        &mut self,
        service: ServiceId,
        wanted: Vec<(RecordKey, Option<u32>)>,
        queues: &BTreeMap<String, String>,
        now: Millis,
    ) -> Result<()> {
        records::check_wanted(service, &wanted, queues)?;
        let keys: BTreeSet<RecordKey> = wanted.iter().map(|(key, _)| key.clone()).collect();
        let left = self.records.keys().filter(|key| key.service_id == service && !keys.contains(key));
        let handed_on: BTreeSet<RecordKey> =
            left.filter(|key| self.twins(key).any(|(_, twin)| twin.wanted)).cloned().collect();
        self.records.retain(|key, row| {
            if key.service_id != service {
                return true;
            }
            if handed_on.contains(key) {
                return false;
            }
            if let Some(queue) = queues.get(&key.zone) {
                row.queue.clone_from(queue);
            }
            if row.wanted && !keys.contains(key) {
                row.wish(false, now);
            }
            row.wanted || row.sent
        });
        for (key, ttl) in wanted {
            let mut inherited = false;
            let given_up = self.twins(&key).filter(|(_, twin)| !twin.wanted).map(|(key, _)| key.clone());
            for twin in given_up.collect::<Vec<_>>() {
                inherited |= self.records.remove(&twin).is_some_and(|twin| twin.sent);
            }
            match self.records.get_mut(&key) {
                Some(row) if row.wanted => {
                    if row.open {
                        row.ttl = ttl;
                    }
                }
                Some(row) => {
                    row.ttl = ttl;
                    row.sent |= inherited;
                    row.wish(true, now);
                }
                None => {
                    let queue = queues.get(&key.zone).cloned().unwrap_or_default();
                    self.records.insert(
                        key,
                        Wish {
                            queue,
                            ttl,
                            wanted: true,
                            sent: inherited,
                            open: true,
                            sought: true,
                            attempt: 0,
                            due_ms: now,
                            reason: None,
                            updated_ms: now,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// The same record in the ledgers of other services.
    fn twins(&self, key: &RecordKey) -> impl Iterator<Item = (&RecordKey, &Wish)> {
        let of = |service_id: ServiceId| RecordKey { service_id, ..key.clone() };
        let own = key.service_id;
        self.records.range(of(Uuid::nil())..=of(Uuid::max())).filter(move |(twin, _)| twin.service_id != own)
    }

    fn dns_held(&mut self, claim: &DnsClaim) -> Result<&mut Hold> {
        self.dns
            .get_mut(&claim.queue)
            .filter(|h| h.owner == Some(claim.owner) && h.epoch == claim.epoch)
            .ok_or(StoreError::ClaimLost)
    }
}

impl Wish {
    /// The wish turns round: there is work at once.
    fn wish(&mut self, wanted: bool, now: Millis) {
        self.wanted = wanted;
        self.open = true;
        self.attempt = 0;
        self.reason = None;
        self.due_ms = now;
        self.updated_ms = now;
    }

    fn record(&self, key: &RecordKey) -> Record {
        Record {
            key: key.clone(),
            ttl: self.ttl,
            wanted: self.wanted,
            written: records::written(self.wanted, self.sent, self.open),
            attempt: self.attempt,
            due_ms: self.due_ms,
            reason: self.reason.clone(),
            updated_ms: self.updated_ms,
        }
    }
}
