//! What the names of services are, how the world sees them, and what others must enter so that it does.
//!
//! The world is asked when somebody wants to know, at most [`AT_ONCE`] questions at a time; a VM never waits for it. What writes is
//! in `say`: it says all names of a service anew, to the books.

mod say;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use futures::StreamExt;
use serde::Serialize;
use wharf_capabilities::dns::{
    DECLARED,
    classless::{self, ParentRecord},
    confirmed::{Confirmed, confirm},
    look::{Kind, Look, NoAnswer, Resolvers},
    names,
};
use wharf_model::{
    object::{ObjectKind, Zone},
    record::Record,
    service::{Service, ServiceId},
};
use wharf_plugins::dns::Selector;
use wharf_store::{ServiceFilter, StoreError};

pub use self::say::{Said, SayError};
use crate::{Engine, zones::ZoneError};

/// Questions that are open at once.
const AT_ONCE: usize = 16;
/// Services that are read at once for the list of names.
const PAGE: usize = 500;

/// Why nothing could be looked up.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    #[error(transparent)]
    NoResolver(#[from] NoAnswer),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A PTR as it should be in one of our zones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OurPtr {
    /// Name of the zone object.
    pub zone: String,
    pub name: String,
    pub value: String,
    /// It is known to be there.
    pub written: bool,
    /// Why it could not be written when that was tried last.
    pub reason: Option<String>,
}

/// An address, the names that we gave it, and what the world says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AddressNames {
    pub address: IpAddr,
    pub reverse_name: String,
    pub ours: Vec<OurPtr>,
    #[serde(flatten)]
    pub seen: Confirmed,
    /// What is wrong although we did our part, in plain words.
    pub warning: Option<String>,
}

/// A record that the parent of a classless zone must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentLine {
    #[serde(flatten)]
    pub record: ParentRecord,
    /// Whether it is there; none = nobody answered.
    pub present: Option<bool>,
}

/// The parent's side of a classless zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentPlan {
    pub zone: String,
    pub dns_zone: String,
    /// The zone that somebody else holds.
    pub parent: String,
    pub covers: String,
    pub records: Vec<ParentLine>,
}

/// An address with its names, for other people's tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The name whose address it is; none = it was given none.
    pub forward: Option<String>,
    pub ip: IpAddr,
    /// The name that the address leads to.
    pub reverse: Option<String>,
}

impl Engine {
    /// Made at the first question: a host that nobody asks needs none.
    fn looker(&self) -> Result<Arc<dyn Look>, NoAnswer> {
        let mut kept = self.look.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(look) = kept.as_ref() {
            return Ok(Arc::clone(look));
        }
        let look: Arc<dyn Look> = Arc::new(Resolvers::new(&self.config.resolvers)?);
        *kept = Some(Arc::clone(&look));
        Ok(look)
    }

    /// Each address of a service: what its names should be, and what the world says of them now.
    ///
    /// # Errors
    /// The books can't be read, or there is no resolver at all. One that does not answer is a verdict.
    pub async fn service_names(&self, service: ServiceId) -> Result<Vec<AddressNames>, NamesError> {
        let look = self.looker()?;
        let records = self.books.records_of(service).await?;
        let zones = self.zones_by_name().await?;
        let leases = self.books.leases_of(service).await?;
        let asked = leases.into_iter().map(|lease| {
            let (look, records, zones) = (&look, &records, &zones);
            async move {
                let seen = confirm(look.as_ref(), lease.address).await;
                of_address(lease.address, records, zones, seen)
            }
        });
        Ok(futures::stream::iter(asked).buffered(AT_ONCE).collect().await)
    }

    async fn zones_by_name(&self) -> Result<BTreeMap<String, Zone>, StoreError> {
        let objects = self.books.objects(ObjectKind::Zone).await?;
        Ok(objects.into_iter().filter_map(|o| Some((o.name, serde_json::from_value(o.body).ok()?))).collect())
    }

    /// What whoever holds the parent of a classless zone must enter, and what of it is there. The zone's own name servers are read
    /// at its provider.
    ///
    /// # Errors
    /// It is no classless zone, its provider can't be asked, or there is no resolver.
    pub async fn zone_parent(&self, name: &str) -> Result<ParentPlan, ZoneError> {
        let zone = self.zone(name).await?;
        let range = classless::range(&zone).ok_or_else(|| ZoneError::NotClassless(name.to_owned()))?;
        let apex = names::canonical(&zone.zone);
        let seen = self.see(name, Selector::Keys(vec![(apex.clone(), "NS".to_owned())])).await?;
        let servers = seen.sets.iter().filter(|s| s.rtype == "NS" && s.name == apex);
        let servers: Vec<String> = servers.flat_map(|s| s.values.iter().map(|v| v.data.clone())).collect();
        let look = self.looker().map_err(ZoneError::NoResolver)?;
        let asked = classless::parent_side(&zone.zone, range, &servers).into_iter().map(|record| {
            let look = &look;
            async move {
                let kind = if record.rtype == "NS" { Kind::Ns } else { Kind::Cname };
                let seen = look.look(&record.name, kind).await;
                ParentLine { present: seen.ok().map(|s| s.values.contains(&record.value)), record }
            }
        });
        let records = futures::stream::iter(asked).buffered(AT_ONCE).collect().await;
        Ok(ParentPlan {
            zone: name.to_owned(),
            dns_zone: zone.zone,
            parent: classless::parent(range),
            covers: range.to_string(),
            records,
        })
    }

    /// All addresses that services hold, with their names as they should be. In no zone of ours, too.
    ///
    /// # Errors
    /// The books can't be read.
    pub async fn all_names(&self) -> Result<Vec<Named>, StoreError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let filter = ServiceFilter { after, limit: PAGE, ..ServiceFilter::default() };
            let services: Vec<Service> = self.books.services(filter).await?;
            let Some(last) = services.last() else { return Ok(all) };
            after = Some(last.id);
            for service in &services {
                let forward = service.facts.get(DECLARED);
                for lease in self.books.leases_of(service.id).await? {
                    let reverse = lease.ptr.as_deref().map(names::canonical);
                    all.push(Named {
                        forward: forward.cloned(),
                        ip: lease.address,
                        reverse: reverse.or_else(|| forward.cloned()),
                    });
                }
            }
        }
    }
}

fn of_address(address: IpAddr, records: &[Record], zones: &BTreeMap<String, Zone>, seen: Confirmed) -> AddressNames {
    let reverse_name = names::reverse_name(address).unwrap_or_default();
    let owner = |record: &Record| {
        let zone = zones.get(&record.key.zone)?;
        names::ptr_owner(&zone.zone, zone.covers, address)
    };
    let of_it = records.iter().filter(|r| r.wanted && r.key.rtype == "PTR" && owner(r).as_ref() == Some(&r.key.name));
    let ours: Vec<OurPtr> = of_it
        .map(|r| OurPtr {
            zone: r.key.zone.clone(),
            name: r.key.name.clone(),
            value: r.key.value.clone(),
            written: r.written,
            reason: r.reason.clone(),
        })
        .collect();
    // Written under another name than the plain one: somebody else's CNAME must lead there.
    let hidden = ours.iter().find(|p| p.written && p.name != reverse_name && !seen.by.contains(&p.name));
    let warning = hidden.filter(|_| seen.error.is_none()).map(|p| {
        format!(
            "PTR written but unreachable: {reverse_name} has no CNAME to {}. Whoever holds the parent zone must add it: `wharf zone parent {}`",
            p.name, p.zone
        )
    });
    AddressNames { address, reverse_name, ours, seen, warning }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_capabilities::dns::confirmed::Verdict;
    use wharf_model::record::RecordKey;

    fn seen(by: &[&str], error: Option<&str>) -> Confirmed {
        Confirmed {
            verdict: Verdict::NoPtr,
            by: by.iter().map(|b| (*b).to_owned()).collect(),
            ptr: Vec::new(),
            forward: Vec::new(),
            error: error.map(str::to_owned),
        }
    }

    fn record(name: &str, written: bool) -> Record {
        Record {
            key: RecordKey {
                zone: "part".into(),
                name: name.into(),
                rtype: "PTR".into(),
                value: "vm.example.".into(),
                service_id: uuid::Uuid::nil(),
            },
            ttl: None,
            wanted: true,
            written,
            attempt: 0,
            due_ms: 0,
            reason: None,
            updated_ms: 0,
        }
    }

    #[test]
    fn a_pointer_that_no_cname_of_the_parent_leads_to_is_said_to_be_unreachable() {
        let zone = Zone { zone: "64/26.2.0.192.in-addr.arpa.".into(), ..Zone::default() };
        let zones = BTreeMap::from([("part".to_owned(), zone)]);
        let owner = "70.64/26.2.0.192.in-addr.arpa.";
        let warning = |record: Record, seen: Confirmed| {
            of_address("192.0.2.70".parse().unwrap(), &[record], &zones, seen).warning
        };
        let text = warning(record(owner, true), seen(&[], None)).unwrap();
        assert!(text.contains("unreachable") && text.contains("wharf zone parent part"), "{text}");
        assert_eq!(warning(record(owner, true), seen(&[owner], None)), None, "the CNAME is there");
        assert_eq!(warning(record(owner, false), seen(&[], None)), None, "it is not written yet");
        assert_eq!(warning(record(owner, true), seen(&[], Some("timed out"))), None, "nothing is known");
        let other = record("71.64/26.2.0.192.in-addr.arpa.", true);
        assert_eq!(warning(other, seen(&[], None)), None, "it is another address's");
    }
}
