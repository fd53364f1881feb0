//! What is to be known of the books.

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{Millis, operation::Reason};

use super::{MemoryStore, State};
use crate::{
    Claim, Merge, Meta, Result,
    rules::{self, leases},
    tables::floor_key,
};

#[async_trait]
impl Meta for MemoryStore {
    async fn meta(&self, key: &str) -> Result<Option<String>> {
        Ok(self.read().meta.get(key).cloned())
    }

    async fn set_meta(&self, key: &str, value: Option<&str>) -> Result<()> {
        self.write("set_meta", |state| {
            match value {
                Some(value) => state.meta.insert(key.to_owned(), value.to_owned()),
                None => state.meta.remove(key),
            };
            Ok(())
        })
    }

    async fn stop_all(&self, reason: Reason, now: Millis) -> Result<u64> {
        self.write("stop_all", |state| {
            let owner = Uuid::new_v4();
            let mut stopped = 0;
            // Each end may make the next operation of the service live: again, until none is left.
            while let Some((operation, live)) = state.queue.iter_mut().next() {
                let operation = *operation;
                live.owner = Some(owner);
                live.epoch += 1;
                (live.preempted, live.nudged, live.wait_slot) = (false, false, None);
                let claim = Claim { operation, owner, epoch: live.epoch };
                let service = live.service;
                let there = state.operations.get(&operation).cloned().ok_or_else(|| rules::no_operation(operation))?;
                let service = state.services.get(&service).cloned().ok_or_else(|| rules::no_service(service))?;
                state.commit(rules::stop(claim, &service, &there, &reason, now))?;
                stopped += 1;
            }
            Ok(stopped)
        })
    }

    async fn merge(&self, merge: Merge) -> Result<()> {
        self.write("merge", |state| {
            for (vmid, why) in merge.burnt {
                state.foreign.entry((merge.server.clone(), vmid)).or_insert(why);
            }
            let above = merge.above.max(state.above(&merge.server));
            state.meta.insert(floor_key(&merge.server), above.to_string());
            for mut lease in merge.resting {
                let (family, number) = leases::number(lease.address);
                let there = state.leases.entry((lease.domain.clone(), family, number));
                there
                    .and_modify(|l| {
                        if l.service_id.is_none() {
                            l.free_after_ms = lease.free_after_ms
                        }
                    })
                    .or_insert_with(|| {
                        (lease.service_id, lease.index, lease.ptr) = (None, 0, None);
                        lease
                    });
            }
            Ok(())
        })
    }
}

impl State {
    /// The greatest number that was seen on the server when restored books were merged with it.
    pub(super) fn above(&self, server: &str) -> u32 {
        self.meta.get(&floor_key(server)).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}
