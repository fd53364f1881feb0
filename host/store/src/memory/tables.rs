//! What is to be known of the books.

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::{Millis, operation::Reason};

use super::MemoryStore;
use crate::{Claim, Meta, Result, rules};

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
}
