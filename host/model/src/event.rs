//! Events: what happened, in order, for panels and lifecycle hooks.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Millis, service::ServiceId};

/// An event before it has its place in the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    pub kind: String,
    pub service_id: Option<ServiceId>,
    /// Panel that may read it; none = admins only.
    pub panel: Option<String>,
    /// The service as `panel:ref`, or what else it is about.
    pub subject: String,
    pub generation: u32,
    /// Thin: ids, phase, generation. No secret.
    pub data: serde_json::Value,
}

/// An event in the feed. `seq` rises without ever being handed out late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub seq: i64,
    pub id: Uuid,
    pub at_ms: Millis,
    #[serde(flatten)]
    pub event: NewEvent,
}

/// One event on its way to one hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub hook: String,
    pub event: Event,
    /// Attempts begun, this one included.
    pub attempt: u32,
    pub epoch: i64,
}
