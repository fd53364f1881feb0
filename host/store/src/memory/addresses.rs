//! Leases, VM numbers and room.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use wharf_model::{Millis, lease::Lease, service::ServiceId};

use super::{MemoryStore, State};
use crate::{
    Addresses, Claim, LeaseWish, RestClock, Rested, Result, Room, StoreError,
    rules::{self, leases},
};

#[async_trait]
impl Addresses for MemoryStore {
    async fn lease(&self, claim: Option<&Claim>, wish: LeaseWish, now: Millis) -> Result<Vec<Lease>> {
        self.write("lease", |state| {
            state.fence(claim)?;
            leases::check_wish(&wish)?;
            if !state.services.contains_key(&wish.service) {
                return Err(rules::no_service(wish.service));
            }
            let held = state.leases_of(wish.service);
            let ended_by = leases::rest_ended_by(state.rest, now);
            let mut new = Vec::new();
            for set in &wish.sets {
                let taken: Vec<BTreeSet<u128>> = set
                    .ranges
                    .iter()
                    .map(|range| {
                        let (family, first) = leases::number(range.first);
                        let (_, last) = leases::number(range.last);
                        let rows = state.leases.iter().filter(|((domain, f, n), lease)| {
                            *domain == range.domain
                                && *f == family
                                && (first..=last).contains(n)
                                && (lease.service_id.is_some() || lease.free_after_ms > ended_by)
                        });
                        rows.map(|((_, _, n), _)| *n).collect()
                    })
                    .collect();
                new.extend(leases::fill(wish.service, set, &held, &taken, now)?);
            }
            for lease in new {
                let (family, number) = leases::number(lease.address);
                state.leases.insert((lease.domain.clone(), family, number), lease);
            }
            Ok(state.leases_of(wish.service))
        })
    }

    async fn leases_of(&self, service: ServiceId) -> Result<Vec<Lease>> {
        Ok(self.read().leases_of(service))
    }

    async fn leases_in(&self, pool: &str) -> Result<Vec<Lease>> {
        let state = self.read();
        let mut found: Vec<Lease> = state.leases.values().filter(|l| l.pool == pool).cloned().collect();
        found.sort_by_key(|l| leases::number(l.address));
        Ok(found)
    }

    async fn release_leases(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        quarantine_ms: BTreeMap<String, i64>,
        now: Millis,
    ) -> Result<Vec<Lease>> {
        self.write("release_leases", |state| {
            state.fence(claim)?;
            let row = state.services.get(&service).ok_or_else(|| rules::no_service(service))?;
            leases::may_release(row, state.vmids.values().any(|(owner, _)| *owner == service))?;
            let mut released = state.leases_of(service);
            for lease in &mut released {
                leases::rest(lease, &quarantine_ms, state.rest, now);
                let (family, number) = leases::number(lease.address);
                state.leases.insert((lease.domain.clone(), family, number), lease.clone());
            }
            Ok(released)
        })
    }

    async fn rest_clock(&self) -> Result<Option<RestClock>> {
        Ok(self.read().rest)
    }

    async fn count_rest(&self, seen: i64, measured_ms: i64, now: Millis) -> Result<Rested> {
        self.write("count_rest", |state| {
            let looks = state.rest.map_or(0, |clock| clock.looks);
            if looks != seen {
                return Err(leases::rest_counted(seen, looks));
            }
            let before = state.leases.len();
            let moved_ms = state.rest.map_or(0, |clock| leases::rest_moves_by(clock, measured_ms, now));
            if let Some(clock) = state.rest.filter(|_| moved_ms != 0) {
                // What is free already does not rest again.
                state.leases.retain(|_, l| l.service_id.is_some() || l.free_after_ms > clock.at_ms);
                for lease in state.leases.values_mut().filter(|l| l.service_id.is_none()) {
                    lease.free_after_ms = lease.free_after_ms.saturating_add(moved_ms);
                }
            }
            state.leases.retain(|_, l| l.service_id.is_some() || l.free_after_ms > now);
            let clock = RestClock { at_ms: now, looks: looks + 1 };
            state.rest = Some(clock);
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            Ok(Rested {
                clock,
                moved_ms,
                freed: count(before - state.leases.len()),
                resting: count(state.leases.values().filter(|l| l.service_id.is_none()).count()),
            })
        })
    }

    async fn reserve_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        first: u32,
        taken: &[u32],
        _now: Millis,
    ) -> Result<u32> {
        self.write("reserve_vmid", |state| {
            state.fence(claim)?;
            if !state.services.contains_key(&service) {
                return Err(rules::no_service(service));
            }
            let live = state.vmids.iter().find(|(_, (owner, live))| *owner == service && *live);
            let vmid = match live {
                Some(((on, vmid), _)) if on == server => *vmid,
                Some(((on, vmid), _)) => {
                    return Err(StoreError::Conflict(format!(
                        "the service {service} has number {vmid} on server {on}"
                    )));
                }
                None => (first.max(state.above(server).saturating_add(1))..)
                    .find(|n| {
                        let key = (server.to_owned(), *n);
                        !taken.contains(n) && !state.vmids.contains_key(&key) && !state.foreign.contains_key(&key)
                    })
                    .ok_or_else(|| StoreError::Conflict(format!("no VM number from {first} on is free on {server}")))?,
            };
            state.vmids.insert((server.to_owned(), vmid), (service, true));
            if let Some(row) = state.services.get_mut(&service) {
                row.vmid = Some(vmid);
            }
            Ok(vmid)
        })
    }

    async fn burn_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        vmid: u32,
        _now: Millis,
    ) -> Result<()> {
        self.write("burn_vmid", |state| {
            state.fence(claim)?;
            match state.vmids.get_mut(&(server.to_owned(), vmid)) {
                Some((owner, live)) if *owner == service => *live = false,
                _ => return Err(StoreError::NotFound(format!("the number {vmid} of service {service} on {server}"))),
            }
            if let Some(row) = state.services.get_mut(&service).filter(|s| s.vmid == Some(vmid)) {
                row.vmid = None;
            }
            Ok(())
        })
    }

    async fn vmids(&self, server: &str) -> Result<Vec<(u32, ServiceId, bool)>> {
        let state = self.read();
        let rows = state.vmids.iter().filter(|((on, _), _)| on == server);
        Ok(rows.map(|((_, vmid), (service, live))| (*vmid, *service, *live)).collect())
    }

    async fn reserve_room(
        &self,
        claim: Option<&Claim>,
        room: Room,
        memory_limit_mib: u32,
        disk_limit_mib: u32,
    ) -> Result<bool> {
        self.write("reserve_room", |state| {
            state.fence(claim)?;
            let others: Vec<Room> = state.rooms.values().cloned().collect();
            let fits = rules::room_fits(&room, &others, memory_limit_mib, disk_limit_mib);
            if fits {
                state.rooms.insert(room.service, room);
            }
            Ok(fits)
        })
    }

    async fn release_room(&self, claim: Option<&Claim>, service: ServiceId) -> Result<()> {
        self.write("release_room", |state| {
            state.fence(claim)?;
            state.rooms.remove(&service);
            Ok(())
        })
    }

    async fn rooms(&self, server: &str) -> Result<Vec<Room>> {
        Ok(self.read().rooms.values().filter(|r| r.server == server).cloned().collect())
    }
}

impl State {
    pub(super) fn leases_of(&self, service: ServiceId) -> Vec<Lease> {
        let mut found: Vec<Lease> = self.leases.values().filter(|l| l.service_id == Some(service)).cloned().collect();
        leases::sort(&mut found);
        found
    }
}
