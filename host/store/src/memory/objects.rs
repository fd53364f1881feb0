//! Objects, secrets and the plugins' own small stores.

use async_trait::async_trait;
use wharf_model::{
    Millis,
    object::{Object, ObjectKind},
};

use super::MemoryStore;
use crate::{NewAudit, Objects, Result, StoreError};

#[async_trait]
impl Objects for MemoryStore {
    async fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>> {
        Ok(self.read().objects.get(&(kind, name.to_owned())).cloned())
    }

    async fn objects(&self, kind: ObjectKind) -> Result<Vec<Object>> {
        Ok(self.read().objects.values().filter(|o| o.kind == kind).cloned().collect())
    }

    async fn put_object(
        &self,
        kind: ObjectKind,
        name: &str,
        body: serde_json::Value,
        expect: Option<i64>,
        audit: Option<NewAudit>,
        now: Millis,
    ) -> Result<Object> {
        self.write("put_object", |state| {
            let key = (kind, name.to_owned());
            let old = state.objects.get(&key);
            let revision = old.map_or(0, |o| o.revision);
            if let Some(expect) = expect.filter(|e| *e != revision) {
                return Err(StoreError::Conflict(match (expect, revision) {
                    (0, _) => format!("{kind} {name} exists already"),
                    (_, 0) => format!("{kind} {name} does not exist, so it has no revision {expect}"),
                    _ => format!("{kind} {name} is at revision {revision}, not {expect}: read it again"),
                }));
            }
            let object = Object {
                kind,
                name: name.to_owned(),
                revision: revision + 1,
                body,
                created_ms: old.map_or(now, |o| o.created_ms),
                updated_ms: now,
            };
            state.objects.insert(key, object.clone());
            state.audit(audit, now);
            Ok(object)
        })
    }

    async fn delete_object(&self, kind: ObjectKind, name: &str, audit: Option<NewAudit>, now: Millis) -> Result<bool> {
        self.write("delete_object", |state| {
            if state.objects.remove(&(kind, name.to_owned())).is_none() {
                return Ok(false);
            }
            let owner = format!("{kind}/{name}");
            state.secrets.retain(|(o, _), _| *o != owner);
            if kind == ObjectKind::Hook {
                state.deliveries.retain(|(_, hook), _| hook != name);
            }
            state.audit(audit, now);
            Ok(true)
        })
    }

    async fn put_secret(&self, owner: &str, slot: &str, sealed: &[u8], _now: Millis) -> Result<()> {
        self.write("put_secret", |state| {
            state.secrets.insert((owner.to_owned(), slot.to_owned()), sealed.to_vec());
            Ok(())
        })
    }

    async fn put_secret_once(&self, owner: &str, slot: &str, sealed: &[u8], _now: Millis) -> Result<Vec<u8>> {
        self.write("put_secret_once", |state| {
            let key = (owner.to_owned(), slot.to_owned());
            Ok(state.secrets.entry(key).or_insert_with(|| sealed.to_vec()).clone())
        })
    }

    async fn secret(&self, owner: &str, slot: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.read().secrets.get(&(owner.to_owned(), slot.to_owned())).cloned())
    }

    async fn secret_slots(&self, owner: &str) -> Result<Vec<String>> {
        Ok(self.read().secrets.keys().filter(|(o, _)| o == owner).map(|(_, slot)| slot.clone()).collect())
    }

    async fn delete_secret(&self, owner: &str, slot: &str) -> Result<()> {
        self.write("delete_secret", |state| {
            state.secrets.remove(&(owner.to_owned(), slot.to_owned()));
            Ok(())
        })
    }

    async fn all_secrets(&self) -> Result<Vec<(String, String, Vec<u8>)>> {
        Ok(self.read().secrets.iter().map(|((o, s), v)| (o.clone(), s.clone(), v.clone())).collect())
    }

    async fn kv_get(&self, plugin: &str, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.read().kv.get(&(plugin.to_owned(), key.to_owned())).cloned())
    }

    async fn kv_set(&self, plugin: &str, key: &str, value: &[u8], max_total: usize) -> Result<bool> {
        self.write("kv_set", |state| {
            let others: usize = state
                .kv
                .iter()
                .filter(|((p, k), _)| p == plugin && k != key)
                .map(|((_, k), v)| k.len() + v.len())
                .sum();
            if others + key.len() + value.len() > max_total {
                return Ok(false);
            }
            state.kv.insert((plugin.to_owned(), key.to_owned()), value.to_vec());
            Ok(true)
        })
    }

    async fn kv_delete(&self, plugin: &str, key: &str) -> Result<()> {
        self.write("kv_delete", |state| {
            state.kv.remove(&(plugin.to_owned(), key.to_owned()));
            Ok(())
        })
    }

    async fn kv_keys(&self, plugin: &str, prefix: &str, limit: usize) -> Result<Vec<String>> {
        let state = self.read();
        let keys = state.kv.keys().filter(|(p, k)| p == plugin && k.starts_with(prefix));
        Ok(keys.take(limit).map(|(_, k)| k.clone()).collect())
    }
}
