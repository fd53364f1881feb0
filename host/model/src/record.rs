//! DNS records: what should be, and what we wrote. One row is both wish and ledger.

use serde::{Deserialize, Serialize};

use crate::{Millis, service::ServiceId};

/// A record that a service wants, in one zone. Names are absolute, lower case, with the final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordKey {
    /// Name of the zone object (not of the DNS zone: several providers may hold zones of one name).
    pub zone: String,
    pub name: String,
    pub rtype: String,
    pub value: String,
    pub service_id: ServiceId,
}

/// The row. `wanted && written` = as it should be; `wanted && !written` = to add; `!wanted && written` = to remove;
/// neither = the row goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub key: RecordKey,
    pub ttl: Option<u32>,
    pub wanted: bool,
    pub written: bool,
    /// Failures in a row.
    pub attempt: u32,
    pub due_ms: Millis,
    /// The last failure, in plain words.
    pub reason: Option<String>,
    pub updated_ms: Millis,
}
