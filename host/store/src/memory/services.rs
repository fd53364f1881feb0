//! Services, operations, logs and effects, to read.

use std::collections::BTreeMap;

use async_trait::async_trait;
use wharf_model::{
    effect::Effect,
    operation::{LogEntry, Operation, OperationId},
    service::{Service, ServiceId},
};

use super::MemoryStore;
use crate::{Result, ServiceFilter, Services};

#[async_trait]
impl Services for MemoryStore {
    async fn service(&self, id: ServiceId) -> Result<Option<Service>> {
        Ok(self.read().services.get(&id).cloned())
    }

    async fn service_by_ref(&self, panel: &str, reference: &str) -> Result<Option<Service>> {
        Ok(self.read().by_ref(panel, reference))
    }

    async fn services(&self, filter: ServiceFilter) -> Result<Vec<Service>> {
        let state = self.read();
        let wanted = |s: &&Service| {
            filter.panel.as_ref().is_none_or(|p| *p == s.panel)
                && filter.phase.is_none_or(|p| p == s.phase)
                && filter.after.is_none_or(|a| s.id > a)
        };
        Ok(state.services.values().filter(wanted).take(filter.limit).cloned().collect())
    }

    async fn phase_counts(&self) -> Result<BTreeMap<String, i64>> {
        let mut counts = BTreeMap::new();
        for service in self.read().services.values() {
            *counts.entry(service.phase.as_str().to_owned()).or_insert(0) += 1;
        }
        Ok(counts)
    }

    async fn live_state_versions(&self, plugin: &str) -> Result<Vec<(u32, i64)>> {
        let state = self.read();
        let mut counts = BTreeMap::new();
        for operation in state.queue.keys().filter_map(|id| state.operations.get(id)) {
            if operation.plugin == plugin {
                *counts.entry(operation.state_version).or_insert(0) += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }

    async fn operation(&self, id: OperationId) -> Result<Option<Operation>> {
        Ok(self.read().operations.get(&id).cloned())
    }

    async fn operations(&self, service: ServiceId, limit: usize) -> Result<Vec<Operation>> {
        let state = self.read();
        let ids = state.by_service.get(&service).into_iter().flat_map(|m| m.values().rev());
        Ok(ids.filter_map(|id| state.operations.get(id)).take(limit).cloned().collect())
    }

    async fn log(&self, operation: OperationId, after: i64, limit: usize) -> Result<Vec<LogEntry>> {
        let state = self.read();
        let entries = state.logs.get(&operation).into_iter().flat_map(|l| l.entries.iter());
        Ok(entries.filter(|e| e.n > after).take(limit).cloned().collect())
    }

    async fn effects(&self, operation: OperationId) -> Result<Vec<Effect>> {
        Ok(self.read().effects.get(&operation).cloned().unwrap_or_default())
    }
}
