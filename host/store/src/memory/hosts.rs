//! Who works on these books.

use async_trait::async_trait;
use uuid::Uuid;
use wharf_model::Millis;

use super::MemoryStore;
use crate::{Host, HostView, Hosts, Result, rules};

#[async_trait]
impl Hosts for MemoryStore {
    // Not counted as a write, as faults are: nothing rests on it.
    async fn host_seen(&self, host: &Host) -> Result<()> {
        let mut state = self.read();
        state.hosts.retain(|_, known| known.seen_ms > host.seen_ms - rules::HOST_FORGOTTEN_MS);
        state.hosts.insert(host.id, host.clone());
        Ok(())
    }

    async fn host_gone(&self, id: Uuid) -> Result<()> {
        let mut state = self.read();
        state.hosts.remove(&id);
        state.watches.retain(|_, (owner, _)| *owner != id);
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<HostView>> {
        let state = self.read();
        let mut hosts: Vec<HostView> = state
            .hosts
            .values()
            .map(|host| HostView {
                host: host.clone(),
                runs: rules::count(state.queue.values().filter(|live| live.owner == Some(host.id)).count()),
                watches: state.watches.iter().filter(|(_, w)| w.0 == host.id).map(|(s, _)| s.clone()).collect(),
                dns_queues: state
                    .dns
                    .iter()
                    .filter(|(_, h)| h.owner == Some(host.id))
                    .map(|(q, _)| q.clone())
                    .collect(),
            })
            .collect();
        rules::sort_hosts(&mut hosts);
        Ok(hosts)
    }

    async fn hold_watch(&self, server: &str, owner: Uuid, ttl_ms: i64, now: Millis) -> Result<bool> {
        let mut state = self.read();
        let free = state.watches.get(server).is_none_or(|(holder, until)| *holder == owner || *until <= now);
        if free {
            state.watches.insert(server.to_owned(), (owner, now.saturating_add(ttl_ms)));
        }
        Ok(free)
    }
}
