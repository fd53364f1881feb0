//! What a lifecycle hook is told or asked, bound to one event or question.

use wasmtime::component::Resource;
use wharf_model::manifest::Manifest;

use crate::{
    bindings::wharf::hook::events,
    call::{Bound, CallState, DeliveryHandle, HookBinding, Question, QuestionHandle},
};

impl CallState {
    fn hook(&self) -> wasmtime::Result<&HookBinding> {
        match &self.bound {
            Bound::Hook(binding) => Ok(binding),
            _ => Err(wasmtime::Error::msg("this call is about no event")),
        }
    }

    pub(crate) fn is_secret_setting(&self, key: &str) -> bool {
        is_secret(&self.caller.manifest, key)
    }

    fn hook_settings(&mut self) -> wasmtime::Result<serde_json::Value> {
        self.charge(0);
        Ok(open_settings(&self.caller.manifest, &self.hook()?.settings))
    }

    fn question(&mut self) -> wasmtime::Result<&Question> {
        self.charge(0);
        self.hook()?.question.as_ref().ok_or_else(|| wasmtime::Error::msg("this call is about no question"))
    }
}

/// Whether a setting is a secret: by the manifest's slots or by its schema. Such values are kept apart already; this is
/// the second lock.
fn is_secret(manifest: &Manifest, key: &str) -> bool {
    let marked = manifest.settings.pointer("/properties").and_then(|p| p.get(key)).and_then(|p| p.get("x-secret"));
    manifest.slot(key).is_some() || marked.and_then(serde_json::Value::as_bool) == Some(true)
}

/// Settings as a plugin may see them: defaults filled in, without the secret ones.
pub fn open_settings(manifest: &Manifest, settings: &serde_json::Value) -> serde_json::Value {
    let mut all = with_defaults(manifest, settings);
    if let Some(map) = all.as_object_mut() {
        map.retain(|key, _| !is_secret(manifest, key));
    }
    all
}

/// Settings with what the manifest's schema says for those that are missing, at the top level.
pub(crate) fn with_defaults(manifest: &Manifest, settings: &serde_json::Value) -> serde_json::Value {
    let mut all = settings.as_object().cloned().unwrap_or_default();
    let properties = manifest.settings.get("properties").and_then(serde_json::Value::as_object);
    for (key, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default")
            && all.get(key).is_none_or(serde_json::Value::is_null)
        {
            all.insert(key.clone(), default.clone());
        }
    }
    serde_json::Value::Object(all)
}

/// A setting as text: strings as they are, everything else as JSON.
pub(crate) fn as_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

impl events::Host for CallState {}

impl events::HostDelivery for CallState {
    async fn event(&mut self, _: Resource<DeliveryHandle>) -> wasmtime::Result<events::Event> {
        self.charge(0);
        let event = self.hook()?.event.as_ref().ok_or_else(|| wasmtime::Error::msg("this call is about no event"))?;
        Ok(events::Event {
            id: event.id.to_string(),
            kind: event.event.kind.clone(),
            subject: event.event.subject.clone(),
            at_ms: u64::try_from(event.at_ms).unwrap_or(0),
            generation: event.event.generation,
            data: event.event.data.to_string(),
            ext: Vec::new(),
        })
    }

    async fn attempt(&mut self, _: Resource<DeliveryHandle>) -> wasmtime::Result<u32> {
        self.charge(0);
        Ok(self.hook()?.attempt)
    }

    async fn settings(&mut self, _: Resource<DeliveryHandle>) -> wasmtime::Result<String> {
        Ok(self.hook_settings()?.to_string())
    }

    async fn setting(&mut self, _: Resource<DeliveryHandle>, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.hook_settings()?.get(&key).and_then(as_text))
    }

    async fn drop(&mut self, handle: Resource<DeliveryHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl events::HostQuestion for CallState {
    async fn kind(&mut self, _: Resource<QuestionHandle>) -> wasmtime::Result<String> {
        Ok(self.question()?.kind.clone())
    }

    async fn subject(&mut self, _: Resource<QuestionHandle>) -> wasmtime::Result<String> {
        Ok(self.question()?.subject.clone())
    }

    async fn wish(&mut self, _: Resource<QuestionHandle>) -> wasmtime::Result<String> {
        Ok(self.question()?.wish.to_string())
    }

    async fn settings(&mut self, _: Resource<QuestionHandle>) -> wasmtime::Result<String> {
        Ok(self.hook_settings()?.to_string())
    }

    async fn drop(&mut self, handle: Resource<QuestionHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
