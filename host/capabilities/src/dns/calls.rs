//! What a DNS provider is told of the call at hand, bound to one zone.

use std::sync::atomic::Ordering;

use wasmtime::component::Resource;

use crate::{
    bindings::wharf::dns::{calls, zones},
    call::{Bound, CallState, DnsCall, ZoneBinding},
    hook::{as_text, with_defaults},
};

impl CallState {
    fn zone(&self) -> wasmtime::Result<&ZoneBinding> {
        match &self.bound {
            Bound::Zone(binding) => Ok(binding),
            _ => Err(wasmtime::Error::msg("this call is about no zone")),
        }
    }
}

impl zones::Host for CallState {}
impl calls::Host for CallState {}

impl calls::HostCall for CallState {
    async fn config(&mut self, _: Resource<DnsCall>, key: String) -> wasmtime::Result<Option<String>> {
        self.charge(key.len());
        let value = with_defaults(&self.caller.manifest, &self.zone()?.zone.settings).get(&key).and_then(as_text);
        Ok(if self.is_secret_setting(&key) { None } else { value })
    }

    async fn deadline_ms(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<u32> {
        self.charge(0);
        Ok(self.left_ms())
    }

    async fn cancelled(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<bool> {
        self.charge(0);
        Ok(self.zone()?.cancelled.load(Ordering::Relaxed))
    }

    async fn idempotency_key(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<String> {
        self.charge(0);
        Ok(self.zone()?.idempotency_key.clone())
    }

    async fn learnt(&mut self, _: Resource<DnsCall>, key: String) -> wasmtime::Result<Option<String>> {
        self.charge(key.len());
        Ok(self.zone()?.learnt.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()))
    }

    async fn progress(&mut self, _: Resource<DnsCall>, done: u32, total: u32) -> wasmtime::Result<()> {
        self.charge(0);
        self.zone()?.progress.set(done, total);
        Ok(())
    }

    async fn drop(&mut self, handle: Resource<DnsCall>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
