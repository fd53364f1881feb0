//! Choosing addresses: lowest free first, all leases of a set in one network, all or nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use wharf_model::{
    Millis,
    lease::{Lease, Range},
    service::{Service, ServiceId},
};

use crate::{LeaseSet, LeaseWish, RestClock, Result, StoreError};

/// Family (4 or 6) and number of an address: the order in which addresses are sorted.
pub fn number(address: IpAddr) -> (u8, u128) {
    match address {
        IpAddr::V4(v4) => (4, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (6, v6.to_bits()),
    }
}

/// The address of a family and a number; none if there is no such address.
pub fn address(family: u8, number: u128) -> Option<IpAddr> {
    match family {
        4 => u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from_bits(n))),
        6 => Some(IpAddr::V6(Ipv6Addr::from_bits(number))),
        _ => None,
    }
}

/// One set a family, or the sets would not know of each other.
pub fn check_wish(wish: &LeaseWish) -> Result<()> {
    let mut families = BTreeSet::new();
    for set in &wish.sets {
        if !matches!(set.family, 4 | 6) || !families.insert(set.family) {
            return Err(StoreError::Conflict(format!(
                "the wish for addresses has a second set, or one of an unknown family: {}",
                set.family
            )));
        }
    }
    Ok(())
}

/// Leases in the order in which they are shown: IPv4 first, by index.
pub fn sort(leases: &mut [Lease]) {
    leases.sort_by_key(|l| (number(l.address).0, l.index, number(l.address).1));
}

/// How many the service lacks of this set.
pub fn lacking(set: &LeaseSet, held: &[Lease]) -> usize {
    let held = held.iter().filter(|l| number(l.address).0 == set.family).count();
    usize::try_from(set.count).unwrap_or(usize::MAX).saturating_sub(held)
}

/// What all leases of a set have in common.
#[derive(PartialEq)]
struct Wire<'a> {
    domain: &'a str,
    bridge: &'a str,
    vlan: Option<u16>,
    prefix_length: u8,
    gateway: Option<IpAddr>,
}

impl<'a> Wire<'a> {
    fn of(domain: &'a str, network: &'a wharf_model::lease::Network) -> Self {
        Self {
            domain,
            bridge: &network.bridge,
            vlan: network.vlan,
            prefix_length: network.prefix_length,
            gateway: network.gateway,
        }
    }
}

/// The leases that fill a set, new ones only. `taken[i]` = numbers within `set.ranges[i]` that are held or resting.
/// `Conflict` if it can't be filled. `held` are all leases of the service.
pub fn fill(
    service: ServiceId,
    set: &LeaseSet,
    held: &[Lease],
    taken: &[BTreeSet<u128>],
    now: Millis,
) -> Result<Vec<Lease>> {
    let need = lacking(set, held);
    if need == 0 {
        return Ok(Vec::new());
    }
    let mine: Vec<&Lease> = held.iter().filter(|l| number(l.address).0 == set.family).collect();
    let primary = mine.iter().min_by_key(|l| l.index).map(|l| Wire::of(&l.domain, &l.network));
    let first_index = mine.iter().map(|l| l.index.saturating_add(1)).max().unwrap_or(0);

    let usable: Vec<(&Range, &BTreeSet<u128>)> = set
        .ranges
        .iter()
        .zip(taken)
        .filter(|(r, _)| number(r.first).0 == set.family && number(r.last).0 == set.family)
        .collect();
    let mut wires: Vec<Wire<'_>> = Vec::new();
    for (range, _) in &usable {
        let wire = Wire::of(&range.domain, &range.network);
        if primary.as_ref().is_none_or(|p| *p == wire) && !wires.contains(&wire) {
            wires.push(wire);
        }
    }
    for wire in wires {
        let mut chosen: BTreeMap<u128, &Range> = BTreeMap::new();
        let mut order: Vec<u128> = Vec::new();
        for (range, taken) in usable.iter().filter(|(r, _)| Wire::of(&r.domain, &r.network) == wire) {
            let excluded: BTreeSet<u128> = range.excluded.iter().map(|a| number(*a).1).collect();
            let last = number(range.last).1;
            let mut at = number(range.first).1;
            while order.len() < need && at <= last {
                if !taken.contains(&at) && !excluded.contains(&at) && !chosen.contains_key(&at) {
                    chosen.insert(at, range);
                    order.push(at);
                }
                match at.checked_add(1) {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
        if order.len() < need {
            continue;
        }
        return order
            .into_iter()
            .zip(first_index..)
            .map(|(n, index)| match (chosen.get(&n), address(set.family, n)) {
                (Some(range), Some(address)) => Ok(Lease {
                    domain: range.domain.clone(),
                    address,
                    pool: range.pool.clone(),
                    service_id: Some(service),
                    index,
                    network: range.network.clone(),
                    ptr: None,
                    leased_ms: now,
                    free_after_ms: 0,
                }),
                _ => Err(StoreError::Corrupt(format!("{n} is no IPv{} address", set.family))),
            })
            .collect();
    }
    Err(StoreError::Conflict(format!(
        "the pools have not enough free IPv{} addresses in one network: {need} more are needed",
        set.family
    )))
}

/// Whether the service's addresses may be freed. `ever_numbered` = a VM number was reserved for it at some time.
pub fn may_release(service: &Service, ever_numbered: bool) -> Result<()> {
    if service.absence_proven_ms.is_some() || !ever_numbered {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "the addresses of service {} stay leased until the absence of its VM is proven",
        service.id
    )))
}

/// A lease that goes to rest.
pub fn rest(lease: &mut Lease, quarantine_ms: &BTreeMap<String, i64>, clock: Option<RestClock>, now: Millis) {
    let rest = quarantine_ms.get(&lease.pool).copied().unwrap_or(super::QUARANTINE_MS);
    let from = clock.map_or(now, |clock| clock.at_ms.max(now));
    lease.service_id = None;
    lease.ptr = None;
    lease.free_after_ms = from.saturating_add(rest);
}

/// Until when rests may have ended: what both the caller and the rest clock have seen.
pub fn rest_ended_by(clock: Option<RestClock>, now: Millis) -> Millis {
    clock.map_or(now, |clock| clock.at_ms.min(now))
}

/// By how much all rests are moved when the rest clock is set to `now`, of which `measured_ms` have really passed. A clock
/// that runs up to 2 % wrong is let be: that is far more than any does by itself.
pub fn rest_moves_by(clock: RestClock, measured_ms: i64, now: Millis) -> i64 {
    let measured = measured_ms.max(0);
    let moved = now.saturating_sub(clock.at_ms).saturating_sub(measured);
    if moved.saturating_abs() <= measured / 50 { 0 } else { moved }
}

/// Somebody else has looked at the rest clock meanwhile.
pub fn rest_counted(seen: i64, looks: i64) -> StoreError {
    StoreError::Conflict(format!("the rest clock is at look {looks}, not {seen}: another host has counted meanwhile"))
}
