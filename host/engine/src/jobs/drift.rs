//! Drift: VMs of services that are no longer as the books say. Reported, never mended here.
//!
//! Compared is what the host itself knows, whatever the product: that the number is a VM, that the VM carries the service's
//! marker, and that the fixed addresses which the server gives it are those that the service holds. The node is not: VMs may
//! move, and nobody remembers where they were. At most [`CLOSER`] services a run; the next run goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::StreamExt;
use wharf_capabilities::effects::{Guest, GuestConfig};
use wharf_model::{
    lease::Lease,
    service::{Phase, Service, ServiceId},
};
use wharf_store::{ServiceFilter, queue::subject};

use super::{
    DRIFT, Found, JobError,
    orphans::AT_ONCE,
    report::{Finding, Report},
};
use crate::Engine;

/// Services that are compared in a run.
const CLOSER: usize = 1_000;

impl Engine {
    pub(super) async fn drift(&self) -> Result<Found, JobError> {
        let before = Report::before(self.books.job(DRIFT).await?.and_then(|j| j.last_result));
        let mut report = Report::default();
        let filter =
            ServiceFilter { phase: Some(Phase::Active), after: before.next, limit: CLOSER, ..ServiceFilter::default() };
        let services = self.books.services(filter).await?;
        report.next = (services.len() == CLOSER).then(|| services.last().map(|s| s.id)).flatten();
        let mut guests: HashMap<String, BTreeMap<u32, Guest>> = HashMap::new();
        for server in services.iter().map(|s| s.server.clone()).collect::<BTreeSet<_>>() {
            match self.effector.guests(&server).await {
                Ok(found) => {
                    guests.insert(server, found.into_iter().map(|g| (g.vmid, g)).collect());
                }
                Err(why) => {
                    report.skipped.insert(server, why);
                }
            }
        }
        // A VM that is missing is told of as an orphan.
        let pairs: Vec<(ServiceId, Guest)> =
            services.iter().filter_map(|s| Some((s.id, guests.get(&s.server)?.get(&s.vmid?)?.clone()))).collect();
        let looks = pairs.into_iter().map(|(id, guest)| async move { (id, self.compare(id, &guest).await) });
        let looked: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        let mut seen = BTreeSet::new();
        for (id, compared) in looked {
            match compared? {
                Some((server, findings)) => {
                    *report.looked_at.entry(server).or_default() += 1;
                    report.findings.extend(findings);
                    seen.insert(id);
                }
                None => report.unread += 1,
            }
        }
        // What another run looked at stands as long as there is such a service.
        let mut stand = BTreeSet::new();
        for id in before.findings.iter().filter_map(|f| f.service) {
            if !seen.contains(&id) && self.books.service(id).await?.is_some_and(|s| s.phase == Phase::Active) {
                stand.insert(id);
            }
        }
        report.settle(before, |f| f.service.is_some_and(|id| stand.contains(&id)), "drift.found", self.clock.now_ms())
    }

    /// How a service's VM differs. None if it could not be looked at, or if it is being changed right now.
    async fn compare(&self, id: ServiceId, guest: &Guest) -> Result<Option<(String, Vec<Finding>)>, JobError> {
        let Some(before) = self.settled(id).await? else { return Ok(None) };
        let config = if guest.container {
            GuestConfig::default()
        } else {
            match self.effector.guest_config(&before.server, guest).await {
                Ok(Some(config)) => config,
                Ok(None) | Err(_) => return Ok(None),
            }
        };
        let leases = self.books.leases_of(id).await?;
        // Changed between the two looks: neither is wrong.
        let Some(service) = self.settled(id).await?.filter(|s| s.generation == before.generation) else {
            return Ok(None);
        };
        if service.vmid != Some(guest.vmid) {
            return Ok(None);
        }
        Ok(Some((service.server.clone(), differences(&service, guest, &config, &leases))))
    }
}

fn differences(service: &Service, guest: &Guest, config: &GuestConfig, leases: &[Lease]) -> Vec<Finding> {
    let (name, server, vmid) = (subject(service), &service.server, guest.vmid);
    let found = |kind: &str, text: String| Finding::new(kind, server, Some(vmid), Some(service), text);
    if guest.container {
        let text = format!("{vmid} on {server} is a container and not the VM of {name}: nothing is done to it");
        return vec![found("not-a-vm", text)];
    }
    if guest.template {
        return vec![found("template", format!("VM {vmid} of {name} on {server} was made a template"))];
    }
    if config.owner != Some(service.id) {
        let text = format!(
            "VM {vmid} on {server} does not carry the marker of {name}, and is left alone until it does: \
             if it is theirs, put the line `wharf:{}` into its notes",
            service.id
        );
        return vec![found("marker", text)];
    }
    // Without any, the VM gets its addresses some other way.
    let Some(addresses) = &config.addresses else { return Vec::new() };
    let mut wrong = Vec::new();
    for address in addresses {
        if !leases.iter().any(|l| l.address == *address) {
            wrong.push(format!("it is given {address}, which the service does not hold"));
        }
    }
    // Further addresses of a family may be handed on by other means than these lines.
    for lease in leases.iter().filter(|l| l.index == 0) {
        if !addresses.contains(&lease.address) {
            wrong.push(format!("it is not given {}, which is the service's first", lease.address));
        }
    }
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![found("addresses", format!("VM {vmid} of {name} on {server}: {}", wrong.join("; ")))]
}
