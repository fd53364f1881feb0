//! Orphans: VMs that carry our marker or one of our numbers and belong to no service, and services whose VM is missing.
//! Reported, never deleted.
//!
//! One look at each server, and a closer one at those guests that are not the VM of a live service: at most [`CLOSER`] a
//! server, those that have one of our numbers first. A server that is parked or does not answer is passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::StreamExt;
use wharf_capabilities::effects::{Guest, GuestConfig};
use wharf_model::{
    object::ObjectKind,
    service::{Phase, Service, ServiceId},
};
use wharf_store::{ServiceFilter, queue::subject};

use super::{
    Found, JobError, ORPHANS,
    report::{Finding, Report},
};
use crate::Engine;

/// Configurations of guests that are read in a run, a server.
const CLOSER: usize = 1_000;
/// Of one server at a time: a report may take its time.
pub(super) const AT_ONCE: usize = 4;
const PAGE: usize = 500;

impl Engine {
    pub(super) async fn orphans(&self) -> Result<Found, JobError> {
        let before = Report::before(self.books.job(ORPHANS).await?.and_then(|j| j.last_result));
        let mut report = Report::default();
        // Read before the servers are looked at: what is made meanwhile is not yet missed, and is looked at again below.
        let mut active: HashMap<String, BTreeMap<u32, ServiceId>> = HashMap::new();
        let mut after = None;
        loop {
            let filter = ServiceFilter { phase: Some(Phase::Active), after, limit: PAGE, ..ServiceFilter::default() };
            let page = self.books.services(filter).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for service in page {
                if let Some(vmid) = service.vmid {
                    active.entry(service.server).or_default().insert(vmid, service.id);
                }
            }
        }
        let mut unread = BTreeSet::new();
        for server in self.books.objects(ObjectKind::Server).await? {
            let own = active.remove(&server.name).unwrap_or_default();
            match self.effector.guests(&server.name).await {
                // Without the right to see VMs a token sees none at all.
                Ok(guests) if guests.is_empty() && !own.is_empty() => {
                    let why = "the token sees no VM at all: give it VM.Audit on /vms".to_owned();
                    report.skipped.insert(server.name, why);
                }
                Ok(guests) => unread.extend(self.orphans_on(&server.name, guests, &own, &mut report).await?),
                Err(why) => {
                    report.skipped.insert(server.name, why);
                }
            }
        }
        report.unread = u64::try_from(unread.len()).unwrap_or(u64::MAX);
        let skipped = report.skipped.clone();
        let stands = |f: &Finding| {
            skipped.contains_key(&f.server) || f.vmid.is_some_and(|vmid| unread.contains(&(f.server.clone(), vmid)))
        };
        report.settle(before, stands, "orphan.found", self.clock.now_ms())
    }

    /// Puts what it finds into the report, and returns the guests that it could not look at.
    async fn orphans_on(
        &self,
        server: &str,
        guests: Vec<Guest>,
        active: &BTreeMap<u32, ServiceId>,
        report: &mut Report,
    ) -> Result<Vec<(String, u32)>, JobError> {
        report.looked_at.insert(server.to_owned(), u64::try_from(guests.len()).unwrap_or(u64::MAX));
        for (vmid, id) in active {
            if !guests.iter().any(|g| g.vmid == *vmid)
                && let Some(service) = self.settled(*id).await?
                && service.vmid == Some(*vmid)
            {
                let text = format!(
                    "{} should have VM {vmid}, and there is none on {server}: restore it under this number, or terminate the service",
                    subject(&service)
                );
                report.findings.push(Finding::new("vm-missing", server, Some(*vmid), Some(&service), text));
            }
        }
        let numbers: BTreeMap<u32, (ServiceId, bool)> =
            self.books.vmids(server).await?.into_iter().map(|(n, id, live)| (n, (id, live))).collect();
        let range = numbers.keys().next().zip(numbers.keys().next_back());
        let ours = |vmid: u32| range.is_some_and(|(first, last)| (*first..=*last).contains(&vmid));
        let mut closer = Vec::new();
        for guest in guests.into_iter().filter(|g| !g.template && !active.contains_key(&g.vmid)) {
            // The VM of a service that is being worked on, or that needs an admin.
            if let Some((id, true)) = numbers.get(&guest.vmid)
                && self.books.service(*id).await?.is_some_and(|s| s.phase != Phase::Terminated)
            {
                continue;
            }
            closer.push(guest);
        }
        closer.sort_by_key(|g| (!ours(g.vmid), g.vmid));
        let rest = closer.split_off(closer.len().min(CLOSER));
        let mut unread: Vec<(String, u32)> = rest.into_iter().map(|g| (server.to_owned(), g.vmid)).collect();
        let looks = closer.into_iter().map(|guest| async move {
            // What is no VM has no marker.
            let config = if guest.container {
                Ok(Some(GuestConfig::default()))
            } else {
                self.effector.guest_config(server, &guest).await
            };
            (guest, config)
        });
        let looked: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        for (guest, config) in looked {
            match config {
                Ok(Some(config)) => {
                    let found = self.unowned(server, &guest, &config, ours(guest.vmid)).await?;
                    report.findings.extend(found);
                }
                // Gone since.
                Ok(None) => {}
                Err(why) => {
                    tracing::debug!(server, vmid = guest.vmid, why, "a guest could not be looked at");
                    unread.push((server.to_owned(), guest.vmid));
                }
            }
        }
        Ok(unread)
    }

    /// What is wrong with a guest that is not the VM of a service as the books stand now.
    async fn unowned(
        &self,
        server: &str,
        guest: &Guest,
        config: &GuestConfig,
        ours: bool,
    ) -> Result<Option<Finding>, JobError> {
        let at = format!("VM {} on {server} ({})", guest.vmid, guest.node);
        if let Some(id) = config.owner {
            let service = self.books.service(id).await?;
            let text = match &service {
                None => format!("{at} carries the marker of a service that is not in the books: `wharf:{id}`"),
                Some(service) if service.phase == Phase::Terminated => {
                    format!("{at} carries the marker of {}, which is terminated", subject(service))
                }
                Some(service) if service.server == server && service.vmid == Some(guest.vmid) => return Ok(None),
                Some(service) => {
                    let own = service.vmid.map_or_else(|| "none".to_owned(), |n| format!("{n} on {}", service.server));
                    format!("{at} carries the marker of {}, whose VM is {own}: is it a copy?", subject(service))
                }
            };
            let text = format!("{text}; nothing is done to it: look at it, and remove it or its marker");
            return Ok(Some(Finding::new("unowned-vm", server, Some(guest.vmid), service.as_ref(), text)));
        }
        if !ours || config.copying {
            return Ok(None);
        }
        let what = if guest.container { "a container" } else { "a VM without our marker" };
        let text = format!(
            "{at} is {what} among the numbers that are used for services: give it another number, or services another range"
        );
        Ok(Some(Finding::new("stranger", server, Some(guest.vmid), None, text)))
    }

    /// The service, if it is active and nothing is done about it right now.
    pub(super) async fn settled(&self, id: ServiceId) -> Result<Option<Service>, JobError> {
        let Some(service) = self.books.service(id).await?.filter(|s| s.phase == Phase::Active) else { return Ok(None) };
        let newest = self.books.operations(id, 1).await?;
        Ok(newest.first().is_none_or(|o| o.status.is_final()).then_some(service))
    }
}
