//! What the ledger of DNS records says, and what it refuses.

use std::collections::BTreeMap;

use wharf_model::{record::RecordKey, service::ServiceId};

use crate::{Result, StoreError};

/// `Record::written` as it is shown. A wanted record counts as written when that is confirmed; one that is no longer
/// wanted counts as written as long as it may still be at the provider.
pub fn written(wanted: bool, sent: bool, open: bool) -> bool {
    if wanted { sent && !open } else { sent }
}

/// Wishes of one service only, in zones whose provider queue is known.
pub fn check_wanted(
    service: ServiceId,
    wanted: &[(RecordKey, Option<u32>)],
    queues: &BTreeMap<String, String>,
) -> Result<()> {
    for (key, _) in wanted {
        if key.service_id != service {
            return Err(StoreError::Conflict(format!("the record {} {} is of another service", key.name, key.rtype)));
        }
        if !queues.contains_key(&key.zone) {
            return Err(StoreError::Conflict(format!("no provider queue was given for the zone {}", key.zone)));
        }
    }
    Ok(())
}

/// The wish for a record turned round after it was handed out: it must not be sent as planned.
pub fn changed(key: &RecordKey) -> StoreError {
    StoreError::Conflict(format!(
        "the wish for the record {} {} has changed: read the due records again",
        key.name, key.rtype
    ))
}
