//! The operation at hand, as a provisioner sees it. What it writes is buffered and committed with the outcome.

use wasmtime::component::Resource;

use crate::{
    base::cut,
    bindings::wharf::{
        provisioner::{operations, protocol},
        proxmox::vms,
    },
    call::{Bound, CallState, OperationBinding, OperationHandle, VmHandle},
};

const MEMO_BYTES: usize = 64 * 1024;
const FACT_KEY_BYTES: usize = 100;
const FACT_VALUE_BYTES: usize = 4 * 1024;
const FACTS: usize = 100;

impl CallState {
    pub(crate) fn operation(&self) -> wasmtime::Result<&OperationBinding> {
        match &self.bound {
            Bound::Operation(binding) => Ok(binding),
            _ => Err(wasmtime::Error::msg("this call is about no operation")),
        }
    }

    pub(crate) fn operation_mut(&mut self) -> wasmtime::Result<&mut OperationBinding> {
        match &mut self.bound {
            Bound::Operation(binding) => Ok(binding),
            _ => Err(wasmtime::Error::msg("this call is about no operation")),
        }
    }

    fn age(&self, since: i64) -> u64 {
        u64::try_from(self.lender.clock.now_ms() - since).unwrap_or(0)
    }
}

/// Whether the service has room for this key after everything that was said in this step.
fn keeps_room(binding: &OperationBinding, key: &str) -> bool {
    let said = &binding.facts;
    let kept = binding.run.service.facts.keys().filter(|k| !said.contains_key(*k));
    let set = said.iter().filter(|(_, value)| value.is_some()).map(|(k, _)| k);
    kept.chain(set).filter(|k| *k != key).count() < FACTS
}

impl protocol::Host for CallState {}
impl operations::Host for CallState {}

impl operations::HostOperation for CallState {
    async fn id(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<String> {
        Ok(self.operation()?.run.operation.id.to_string())
    }

    async fn kind(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<String> {
        Ok(self.operation()?.run.operation.kind.clone())
    }

    async fn state(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<String> {
        Ok(self.operation()?.run.operation.state.clone())
    }

    async fn state_version(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<u32> {
        Ok(self.operation()?.run.operation.state_version)
    }

    async fn generation(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<u32> {
        Ok(self.operation()?.run.operation.generation)
    }

    async fn attempt(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<u32> {
        Ok(self.operation()?.run.operation.attempt)
    }

    async fn settings(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<String> {
        Ok(self.operation()?.run.service.settings.to_string())
    }

    async fn service(&mut self, _: Resource<OperationHandle>, key: String) -> wasmtime::Result<Option<String>> {
        let service = &self.operation()?.run.service;
        Ok(match key.as_str() {
            "id" => Some(service.id.to_string()),
            "panel" => Some(service.panel.clone()),
            "ref" => Some(service.reference.clone()),
            "plan" => Some(service.plan.clone()),
            "server" => Some(service.server.clone()),
            "suspended" => Some(service.suspended.to_string()),
            other => service.order.get(other).cloned(),
        })
    }

    async fn fact(&mut self, _: Resource<OperationHandle>, key: String) -> wasmtime::Result<Option<String>> {
        let binding = self.operation()?;
        Ok(match binding.facts.get(&key) {
            Some(said) => said.clone(),
            None => binding.run.service.facts.get(&key).cloned(),
        })
    }

    async fn set_fact(
        &mut self,
        _: Resource<OperationHandle>,
        key: String,
        value: Option<String>,
    ) -> wasmtime::Result<()> {
        let too_long = value.as_ref().is_some_and(|v| v.len() > FACT_VALUE_BYTES);
        let binding = self.operation_mut()?;
        let full = value.is_some() && !keeps_room(binding, &key);
        if key.is_empty() || key.len() > FACT_KEY_BYTES || too_long || full {
            // No way to answer: the call ends, and says why.
            return Err(wasmtime::Error::msg(format!(
                "set-fact `{}`: a key has 1 to {FACT_KEY_BYTES} bytes, a value at most {FACT_VALUE_BYTES}, a service {FACTS} keys",
                cut(&key, FACT_KEY_BYTES)
            )));
        }
        binding.facts.insert(key, value);
        Ok(())
    }

    async fn memo(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<Option<String>> {
        let binding = self.operation()?;
        Ok(binding.memo.clone().unwrap_or_else(|| binding.run.operation.memo.clone()))
    }

    async fn remember(&mut self, _: Resource<OperationHandle>, memo: Option<String>) -> wasmtime::Result<()> {
        if memo.as_ref().is_some_and(|m| m.len() > MEMO_BYTES) {
            return Err(wasmtime::Error::msg(format!("remember: a memo has at most {MEMO_BYTES} bytes")));
        }
        self.operation_mut()?.memo = Some(memo);
        Ok(())
    }

    async fn last_effect(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<Option<vms::Effect>> {
        let effect = self.operation()?.run.effect.as_ref();
        Ok(effect.and_then(|e| {
            e.result.as_ref().map(|result| vms::Effect {
                id: e.id(),
                kind: e.kind.clone(),
                ok: result.ok,
                code: result.code.clone(),
                message: result.message.clone(),
                ext: Vec::new(),
            })
        }))
    }

    async fn age_ms(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<u64> {
        let operation = &self.operation()?.run.operation;
        Ok(self.age(operation.started_ms.unwrap_or(operation.created_ms)))
    }

    async fn state_age_ms(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<u64> {
        Ok(self.age(self.operation()?.run.operation.state_ms))
    }

    async fn vm(&mut self, _: Resource<OperationHandle>) -> wasmtime::Result<Resource<VmHandle>> {
        Ok(self.table.push(VmHandle)?)
    }

    async fn drop(&mut self, handle: Resource<OperationHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
