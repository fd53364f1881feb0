//! Restored books: nothing is written anywhere until they were merged with the clusters.
//!
//! Orders since the backup are not in these books, but their VMs and addresses are in use. While the mark stands, wishes are
//! taken on and stored, and every loop that claims anything stands still: runs, task watches, DNS, webhooks, jobs. The mark is
//! set by `wharf store restore` alone, while no host runs, so a host that found none at its start need not look again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use futures::StreamExt;
use serde::Serialize;
use tokio::sync::watch;
use wharf_capabilities::effects::Guest;
use wharf_model::{
    Millis,
    lease::Lease,
    object::{ObjectKind, Pool},
    service::Phase,
};
use wharf_store::{Merge, NewAudit, StoreError, queue::subject, tables::RECONCILE};

use crate::Engine;

impl Engine {
    /// Waits until the books may be worked on: `false` if the host is to stop before that.
    pub(crate) async fn merged(&self, mut stop: watch::Receiver<bool>) -> bool {
        let mut told = false;
        while !*stop.borrow() {
            match self.books.meta(RECONCILE).await {
                Ok(None) => return true,
                Ok(Some(since)) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(
                            since,
                            "the books were restored: nothing is sent to any cluster, DNS server or webhook until `wharf store \
                             reconcile` has merged them with the clusters"
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "can't tell whether the books were restored"),
            }
            let pause = Duration::from_millis(u64::try_from(self.config.sweep_ms).unwrap_or(5_000));
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                () = tokio::time::sleep(pause) => {}
                changed = stop.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                }
            }
        }
        false
    }
}

/// Guests that are looked at at once.
const AT_ONCE: usize = 4;
/// An address that was seen in a VM that these books do not know rests until an admin has looked: 9999-12-31.
pub const BLOCKED_MS: Millis = 253_402_214_400_000;
/// Addresses of one pool that are looked at, at most: a pool of IPv6 has more than can be counted.
const LONGEST: u128 = 65_536;

/// What a merge has found. Stored in the books, and shown.
#[derive(Debug, Default, Serialize)]
pub struct Merged {
    /// Whether work has begun: every server was merged, or left out by an admin.
    pub done: bool,
    /// By server, why it could not be merged.
    pub waiting_for: BTreeMap<String, String>,
    pub left_out: Vec<String>,
    /// In words: VMs that no service owns, services whose VM is missing. Nothing is done to either.
    pub findings: Vec<String>,
    /// Numbers and addresses that are kept from being given out.
    pub numbers: usize,
    pub addresses: usize,
}

impl Engine {
    /// Merges what every server holds into restored books, by looking only, and lets work begin once all are merged. `without`
    /// names servers that an admin answers for. May be called at any time, again and again.
    pub async fn reconcile(&self, without: &[String], by: &str) -> Result<Merged, StoreError> {
        let mut merged = Merged::default();
        for server in self.books.objects(ObjectKind::Server).await? {
            if without.contains(&server.name) {
                merged.left_out.push(server.name);
                continue;
            }
            match self.look_through(&server.name).await? {
                Ok((merge, findings)) => {
                    merged.numbers += merge.burnt.len();
                    merged.addresses += merge.resting.len();
                    merged.findings.extend(findings);
                    self.books.merge(merge).await?;
                }
                Err(why) => {
                    merged.waiting_for.insert(server.name, why);
                }
            }
        }
        merged.done = merged.waiting_for.is_empty();
        let body = serde_json::to_value(&merged).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let now = self.clock.now_ms();
        self.books.set_meta("reconcile-report", Some(&body.to_string())).await?;
        let audit = NewAudit { actor: by.into(), action: "store.reconcile".into(), subject: "books".into(), body };
        self.books.audit(audit, now).await?;
        if merged.done {
            self.books.set_meta(RECONCILE, None).await?;
            self.nudge();
        }
        Ok(merged)
    }

    /// The inner error says why the server can't be looked through.
    async fn look_through(&self, server: &str) -> Result<Result<(Merge, Vec<String>), String>, StoreError> {
        let remembered = match self.effector.remembered(server).await {
            Ok(remembered) => remembered,
            Err(why) => return Ok(Err(why)),
        };
        let guests = match self.effector.guests(server).await {
            Ok(guests) => guests,
            Err(why) => return Ok(Err(why)),
        };
        let ours: BTreeMap<u32, _> =
            self.books.vmids(server).await?.into_iter().map(|(vmid, service, live)| (vmid, (service, live))).collect();
        if guests.is_empty() && ours.values().any(|(_, live)| *live) {
            return Ok(Err("the token sees no VM at all: give it VM.Audit on /vms".into()));
        }
        let there: BTreeSet<u32> = guests.iter().map(|g| g.vmid).collect();
        let vms: Vec<Guest> = guests.into_iter().filter(|g| !g.container && !g.template).collect();
        let looks = vms.into_iter().map(|guest| async move {
            let config = self.effector.guest_config(server, &guest).await;
            (guest.vmid, config)
        });
        let looked: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        let (mut findings, mut seen, mut marked) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut most = 1;
        for (vmid, config) in looked {
            let config = match config {
                Ok(Some(config)) => config,
                Ok(None) => continue,
                Err(why) => return Ok(Err(format!("VM {vmid}: {why}"))),
            };
            let addresses = config.addresses.unwrap_or_default();
            most = most.max(addresses.len());
            seen.extend(addresses);
            if let Some(owner) = config.owner {
                marked.insert(vmid);
                if self.books.service(owner).await?.is_none() {
                    findings.push(format!(
                        "VM {vmid} on {server} carries the marker of a service that these books do not know ({owner}): order it \
                         anew from the panel, or remove the VM by hand"
                    ));
                }
            }
        }
        for (vmid, (service, live)) in &ours {
            if *live
                && !there.contains(vmid)
                && let Some(service) = self.books.service(*service).await?.filter(|s| s.phase == Phase::Active)
            {
                findings.push(format!(
                    "{} should have VM {vmid}, and there is none on {server}: it was removed since the backup, or never restored",
                    subject(&service)
                ));
            }
        }
        // Whoever's they are: a number that was in use may be so again in a backup of Proxmox or in somebody's notes.
        let burnt: Vec<(u32, String)> = there
            .iter()
            .map(|vmid| (*vmid, "a guest when the books were merged".to_owned()))
            .chain(remembered.iter().map(|(vmid, user)| (*vmid, format!("in a task of {user}"))))
            .filter(|(vmid, _)| !ours.contains_key(vmid))
            .collect();
        let gone = remembered.keys().filter(|vmid| !there.contains(vmid) && !ours.contains_key(vmid)).count();
        // Numbers are given out in rising order, so what was made and forgotten lies below these.
        let above = ours.keys().chain(&marked).max().copied().unwrap_or(0);
        let resting = self.seen_addresses(&seen, gone.saturating_mul(most)).await?;
        Ok(Ok((Merge { server: server.to_owned(), burnt, above, resting }, findings)))
    }

    /// Addresses of pools that were seen in VMs are blocked; those that VMs may have had that were made and removed since the
    /// backup rest as if they were freed now. Addresses are given out from the lowest on, so these lie below the greatest in
    /// use, or are the next `more`.
    async fn seen_addresses(&self, seen: &BTreeSet<IpAddr>, more: usize) -> Result<Vec<Lease>, StoreError> {
        let now = self.clock.now_ms();
        let mut resting = Vec::new();
        for row in self.books.objects(ObjectKind::Pool).await? {
            let Ok(pool) = serde_json::from_value::<Pool>(row.body) else { continue };
            let range = wharf_capabilities::ipam::range(&row.name, &pool);
            let there = self.books.leases_in(&row.name).await?;
            let blocked: BTreeSet<u128> =
                there.iter().filter(|l| l.free_after_ms >= BLOCKED_MS).map(|l| number(l.address)).collect();
            let used: BTreeSet<u128> = there.iter().map(|l| number(l.address)).collect();
            let (first, last) = (number(range.first), number(range.last));
            let seen: BTreeSet<u128> = seen
                .iter()
                .filter(|a| a.is_ipv4() == range.first.is_ipv4())
                .map(|a| number(*a))
                .filter(|n| (first..=last).contains(n))
                .collect();
            let excluded: BTreeSet<u128> = range.excluded.iter().map(|a| number(*a)).collect();
            let top = used.union(&seen).max().copied();
            let (mut more, rest) = (more, now.saturating_add(i64::from(pool.quarantine_s) * 1_000));
            for at in first..=last.min(first.saturating_add(LONGEST)) {
                let free_after_ms = if seen.contains(&at) {
                    BLOCKED_MS
                } else if blocked.contains(&at) {
                    // Blocked before, and its VM is proven to be gone.
                    rest
                } else if used.contains(&at) || excluded.contains(&at) {
                    continue;
                } else if top.is_some_and(|top| at < top) {
                    rest
                } else if more > 0 {
                    more -= 1;
                    rest
                } else {
                    continue;
                };
                resting.push(Lease {
                    domain: range.domain.clone(),
                    address: address(at, range.first),
                    pool: row.name.clone(),
                    service_id: None,
                    index: 0,
                    network: range.network.clone(),
                    ptr: None,
                    leased_ms: now,
                    free_after_ms,
                });
            }
        }
        Ok(resting)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Of the same family as `like`.
fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::from_bits(number).into(),
    }
}
