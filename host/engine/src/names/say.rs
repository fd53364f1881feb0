//! Says all names of a service anew, outside of its operations: for an admin's button, and when an address gets a name of its own.
//!
//! Guarantees that what is said was made of the service and its leases as they are in the books at that moment, that the service is
//! active and has no open operation then, and that name, wishes and audit row are written together or not at all. Bounded by
//! [`TRIES`]. Every address of the service gets the name, as the shipped provisioner declares it: which ones a provisioner named is not
//! kept. Nothing here asks a provider: the queue does, and writes only what differs.

use std::net::IpAddr;

use serde::Serialize;
use wharf_capabilities::dns::{
    DECLARED,
    names::{self, NameError},
    wishes,
};
use wharf_model::{
    record::RecordKey,
    service::{Service, ServiceId},
};
use wharf_store::{NewAudit, Saying, StoreError, queue::subject, rules::records};

use crate::Engine;

/// How often it is begun anew because the service was changed meanwhile. Each time takes milliseconds, so more than two mean that
/// many say names of one service at once.
const TRIES: usize = 8;

/// Why the names of a service were not said. Nothing was written then.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// What the service is instead, and the remedy.
    #[error("{0}")]
    NotActive(String),
    #[error(
        "no name was ever declared for this service: its provisioner gives it none, or the panel named none in the order"
    )]
    NeverNamed,
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("this service does not have the address {0}")]
    NoAddress(IpAddr),
    #[error("the names of this service are being changed by others: try again")]
    Contended,
    #[error("there is no such service")]
    NoService,
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for SayError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(text) => Self::NotActive(text),
            other => Self::Store(other),
        }
    }
}

/// What was said of a service's names. It is in the books; the queue writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The name whose addresses they are.
    pub name: String,
    /// Records that should be, in all zones.
    pub records: usize,
    /// Of those, how many were thought to be written and are looked at again.
    pub rechecked: u64,
    /// What an admin should know.
    pub warnings: Vec<String>,
    /// Names that no zone holds: they are written nowhere.
    pub homeless: Vec<String>,
}

/// What is said beside all names.
#[derive(Debug, Clone)]
struct Own {
    address: IpAddr,
    name: Option<String>,
}

impl Engine {
    /// Says all names of a service anew, and has all its records looked at: what somebody else removed is written again.
    ///
    /// # Errors
    /// It is not active or an operation is under way, it has no name, or the books can't be used.
    pub async fn set_names(&self, service: ServiceId, actor: &str) -> Result<Said, SayError> {
        let (mut said, keys) = self.say_names(service, None, actor).await?;
        let now = self.clock.now_ms();
        said.rechecked = self.books.recheck_records(&keys, now).await?;
        // What is waiting for its next try is tried now, too.
        self.books.hurry_records(Some(service), now).await?;
        self.dns_work.notify_one();
        Ok(said)
    }

    /// Gives the PTR of an address a name of its own, or (none) has it follow the service's name again; says all names anew.
    ///
    /// # Errors
    /// As [`Engine::set_names`]; besides, it is no name of a host, or the service does not have the address.
    pub async fn set_ptr(
        &self,
        service: ServiceId,
        address: IpAddr,
        name: Option<&str>,
        actor: &str,
    ) -> Result<Said, SayError> {
        let own = Own { address, name: name.map(names::host_name).transpose()? };
        let (said, _) = self.say_names(service, Some(own), actor).await?;
        self.dns_work.notify_one();
        Ok(said)
    }

    /// What was said, and its records in zones that are not off.
    async fn say_names(
        &self,
        id: ServiceId,
        own: Option<Own>,
        actor: &str,
    ) -> Result<(Said, Vec<RecordKey>), SayError> {
        for _ in 0..TRIES {
            let service = self.books.service(id).await?.ok_or(SayError::NoService)?;
            // Refused in the right words: what is not active has no name or address yet, or none any more.
            records::may_be_said(&service, &[])?;
            let (saying, said, keys) = self.saying(service, own.clone(), actor).await?;
            if self.books.say_records(saying, self.clock.now_ms()).await? {
                return Ok((said, keys));
            }
        }
        Err(SayError::Contended)
    }

    async fn saying(
        &self,
        service: Service,
        own: Option<Own>,
        actor: &str,
    ) -> Result<(Saying, Said, Vec<RecordKey>), SayError> {
        // Checked when it was declared; a fact is only as good as who wrote it.
        let fqdn = service.facts.get(DECLARED).and_then(|name| names::host_name(name).ok());
        let fqdn = fqdn.ok_or(SayError::NeverNamed)?;
        let leases = self.books.leases_of(service.id).await?;
        let mut named = leases.clone();
        if let Some(own) = &own {
            let its: Vec<_> = named.iter_mut().filter(|lease| lease.address == own.address).collect();
            if its.is_empty() {
                return Err(SayError::NoAddress(own.address));
            }
            for lease in its {
                lease.ptr.clone_from(&own.name);
            }
        }
        let addresses: Vec<IpAddr> = leases.iter().map(|lease| lease.address).collect();
        let mut wishes = wishes(&self.books, service.id, &fqdn, &addresses, &named).await?;
        let keys = wishes.records.iter().map(|(key, _)| key.clone()).collect();
        // What stands in a zone that is off is left alone. Not said again, it would be removed as soon as the zone is on.
        for record in self.books.records_of(service.id).await?.into_iter().filter(|record| record.wanted) {
            let Some(queue) = wishes.off.get(&record.key.zone) else { continue };
            let zone = &record.key.zone;
            if wishes.queues.insert(zone.clone(), queue.clone()).is_none() {
                wishes.warnings.push(format!(
                    "zone {zone} is switched off: what is in it stays as it is; set all names of this service again when it is on"
                ));
            }
            wishes.records.push((record.key, record.ttl));
        }
        let audit = match &own {
            Some(Own { address, name }) => NewAudit {
                actor: actor.to_owned(),
                action: "service.ptr".into(),
                subject: subject(&service),
                body: serde_json::json!({ "address": address, "name": name }),
            },
            None => NewAudit {
                actor: actor.to_owned(),
                action: "service.names".into(),
                subject: subject(&service),
                body: serde_json::json!({ "name": fqdn }),
            },
        };
        let said = Said {
            name: fqdn,
            records: wishes.records.len(),
            rechecked: 0,
            warnings: wishes.warnings,
            homeless: wishes.homeless.into_iter().collect(),
        };
        let ptr = own.map(|own| (own.address, own.name));
        let (wanted, queues) = (wishes.records, wishes.queues);
        Ok((Saying { service, leases, ptr, wanted, queues, audit }, said, keys))
    }
}
