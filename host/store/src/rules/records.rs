//! What the ledger of DNS records says, and what it refuses.

use std::collections::BTreeMap;

use wharf_model::{
    lease::Lease,
    operation::Operation,
    record::RecordKey,
    service::{Phase, Service, ServiceId},
};

use crate::{Result, Saying, StoreError, rules};

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

/// Whether somebody else than an operation may say names of this service now. `open` = its open operations.
pub fn may_be_said(service: &Service, open: &[Operation]) -> Result<()> {
    if let Some(operation) = open.first() {
        return Err(StoreError::Conflict(format!(
            "an operation ({}) is under way for this service, which says its names itself: try again when it has ended",
            operation.kind
        )));
    }
    match service.phase {
        Phase::Active => Ok(()),
        phase @ (Phase::Terminating | Phase::Terminated) => Err(StoreError::Conflict(format!(
            "this service is {phase}: its names are taken back, and it gets none any more"
        ))),
        phase => Err(StoreError::Conflict(format!(
            "this service is {phase}, and names are said of an active one only: try again when it is active"
        ))),
    }
}

/// Whether this is said of what is in the books: `service`, its `leases` and its `open` operations, read in the same transaction.
pub fn may_say(saying: &Saying, service: Option<&Service>, leases: &[Lease], open: &[Operation]) -> Result<bool> {
    let service = service.ok_or_else(|| rules::no_service(saying.service.id))?;
    may_be_said(service, open)?;
    if let Some((address, _)) = &saying.ptr
        && !leases.iter().any(|lease| lease.address == *address)
    {
        return Err(StoreError::NotFound(format!("the address {address} of service {}", service.id)));
    }
    Ok(*service == saying.service && leases == saying.leases)
}

/// The wish for a record turned round after it was handed out: it must not be sent as planned.
pub fn changed(key: &RecordKey) -> StoreError {
    StoreError::Conflict(format!(
        "the wish for the record {} {} has changed: read the due records again",
        key.name, key.rtype
    ))
}
