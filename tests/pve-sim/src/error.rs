//! Errors as the API gives them: a status, a reason phrase, and for bad parameters a map of names to texts.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a call answers when it fails. `reason` stands in the HTTP reason phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub reason: String,
    pub errors: BTreeMap<String, String>,
}

impl ApiError {
    #[must_use]
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), errors: BTreeMap::new() }
    }

    /// Perl's `die`: 500 with the text.
    #[must_use]
    pub fn die(text: impl Into<String>) -> Self {
        Self::new(500, text)
    }

    /// 400 for one parameter. An empty name appears as `_root`, as in the real schema checker.
    #[must_use]
    pub fn param(name: &str, text: impl Into<String>) -> Self {
        Self::params([(name.to_owned(), text.into())].into())
    }

    /// 400 for several parameters.
    #[must_use]
    pub fn params(errors: BTreeMap<String, String>) -> Self {
        let errors = errors.into_iter().map(|(k, v)| if k.is_empty() { ("_root".to_owned(), v) } else { (k, v) });
        Self { status: 400, reason: "Parameter verification failed.".into(), errors: errors.collect() }
    }

    /// 403, with path and privilege as an admin needs them.
    #[must_use]
    pub fn forbidden(path: &str, privilege: &str) -> Self {
        Self::new(403, format!("Permission check failed ({path}, {privilege})"))
    }

    /// What a call says about a VM whose configuration isn't on the node: gone, or on another one.
    #[must_use]
    pub fn no_config(node: &str, vmid: u32) -> Self {
        Self::die(format!("Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"))
    }
}

impl From<ApiError> for String {
    fn from(e: ApiError) -> Self {
        if e.errors.is_empty() {
            return e.reason;
        }
        let list: Vec<_> = e.errors.iter().map(|(k, v)| format!("{k}: {v}")).collect();
        format!("{} {}", e.reason, list.join("; "))
    }
}

/// Sets a member of a JSON object; anything else is left alone.
pub(crate) trait Put {
    fn put(&mut self, key: &str, value: Value);
}

impl Put for Value {
    fn put(&mut self, key: &str, value: Value) {
        if let Some(map) = self.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    }
}
