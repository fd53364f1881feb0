//! Leases of the service at hand.
//!
//! All leases of a service share bridge, VLAN and, in a family, gateway. Pools that fit together form a group; groups are
//! tried in the order of their pools' names, each all or nothing.

use std::{collections::BTreeMap, net::IpAddr};

use wharf_model::{
    lease::{Lease, Network, Range},
    object::{ObjectKind, Pool},
};
use wharf_store::{LeaseSet, LeaseWish, StoreError};

use crate::{
    base::{books, failure},
    bindings::wharf::{
        base::common::{Action, Failure},
        ipam::leases,
    },
    call::CallState,
};

/// Addresses that one service may ask for, in a family.
const MOST: u32 = 256;

type Answer<T> = wasmtime::Result<Result<T, Failure>>;

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Network and broadcast of an IPv4 prefix, the anycast address of an IPv6 one: never leased. Host routes and
/// point-to-point prefixes (RFC 3021, RFC 6164) have neither.
fn reserved(address: IpAddr, prefix_length: u8) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(address) if prefix_length < 31 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_length)).unwrap_or(0);
            let network = u32::from(address) & mask;
            vec![IpAddr::V4(network.into()), IpAddr::V4((network | !mask).into())]
        }
        IpAddr::V6(address) if prefix_length < 127 => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_length)).unwrap_or(0);
            vec![IpAddr::V6((u128::from(address) & mask).into())]
        }
        _ => Vec::new(),
    }
}

/// What of a pool may be leased.
pub fn range(name: &str, pool: &Pool) -> Range {
    let mut excluded = pool.excluded.clone();
    excluded.extend(pool.gateway);
    excluded.extend(reserved(pool.first, pool.prefix_length));
    Range {
        pool: name.to_owned(),
        domain: pool.domain.clone(),
        first: pool.first,
        last: pool.last,
        excluded,
        network: Network {
            prefix_length: pool.prefix_length,
            gateway: pool.gateway,
            nameservers: pool.nameservers.clone(),
            bridge: pool.bridge.clone(),
            vlan: pool.vlan,
        },
    }
}

/// One way to fill a wish: the ranges of each family, all on one bridge and VLAN, each family behind one gateway.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    bridge: String,
    vlan: Option<u16>,
    v4: Vec<Range>,
    v6: Vec<Range>,
}

/// All ways, in order. `held` binds the choice to what the service has already.
fn groups(ranges: &[Range], held: &[Lease], wish: &leases::Wish) -> Vec<Group> {
    let fits = |range: &Range| {
        wish.bridge.as_ref().is_none_or(|b| *b == range.network.bridge)
            && wish.vlan.is_none_or(|v| range.network.vlan.unwrap_or(0) == u16::try_from(v).unwrap_or(u16::MAX))
            && held
                .first()
                .is_none_or(|l| l.network.bridge == range.network.bridge && l.network.vlan == range.network.vlan)
    };
    let same_gateway = |range: &Range, family: u8, gateway: Option<IpAddr>| {
        self::family(range.first) == family && range.network.gateway == gateway
    };
    let gateways = |bridge: &str, vlan: Option<u16>, family: u8| -> Vec<Option<IpAddr>> {
        if let Some(lease) = held.iter().find(|l| self::family(l.address) == family) {
            return vec![lease.network.gateway];
        }
        let mut seen = Vec::new();
        for range in ranges.iter().filter(|r| fits(r) && r.network.bridge == bridge && r.network.vlan == vlan) {
            if self::family(range.first) == family && !seen.contains(&range.network.gateway) {
                seen.push(range.network.gateway);
            }
        }
        seen
    };
    let mut places: Vec<(String, Option<u16>)> = Vec::new();
    for range in ranges.iter().filter(|r| fits(r)) {
        let place = (range.network.bridge.clone(), range.network.vlan);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let mut all = Vec::new();
    for (bridge, vlan) in places {
        let pick = |family: u8, gateway: Option<IpAddr>| -> Vec<Range> {
            ranges
                .iter()
                .filter(|r| {
                    fits(r) && r.network.bridge == bridge && r.network.vlan == vlan && same_gateway(r, family, gateway)
                })
                .cloned()
                .collect()
        };
        let choices = |family: u8, count: u32| -> Vec<Vec<Range>> {
            if count == 0 {
                return vec![Vec::new()];
            }
            gateways(&bridge, vlan, family).into_iter().map(|g| pick(family, g)).collect()
        };
        for v4 in choices(4, wish.ipv4) {
            for v6 in choices(6, wish.ipv6) {
                all.push(Group { bridge: bridge.clone(), vlan, v4: v4.clone(), v6 });
            }
        }
    }
    all
}

fn to_guest(lease: &Lease) -> leases::Lease {
    leases::Lease {
        address: lease.address.to_string(),
        family: u32::from(family(lease.address)),
        prefix_length: u32::from(lease.network.prefix_length),
        gateway: lease.network.gateway.map(|g| g.to_string()),
        nameservers: lease.network.nameservers.iter().map(ToString::to_string).collect(),
        bridge: lease.network.bridge.clone(),
        vlan: lease.network.vlan.map(u32::from),
        index: lease.index,
        ext: vec![("pool".into(), lease.pool.clone())],
    }
}

impl CallState {
    /// Pools of the server at hand, by name; unreadable ones are named in the log and left out.
    async fn pools(&mut self, server: &str) -> Result<Vec<(String, Pool)>, StoreError> {
        let objects = self.lender.books.objects(ObjectKind::Pool).await?;
        let mut pools = Vec::new();
        for object in objects {
            match serde_json::from_value::<Pool>(object.body) {
                Ok(pool) if pool.server == server => pools.push((object.name, pool)),
                Ok(_) => {}
                Err(error) => self.log.push(
                    "warn",
                    &format!("the pool `{}` can't be read ({error}): save it again", object.name),
                    Vec::new(),
                ),
            }
        }
        Ok(pools)
    }
}

impl leases::Host for CallState {
    async fn reserve(&mut self, wish: leases::Wish) -> Answer<Vec<leases::Lease>> {
        let (service, server, claim) = {
            let run = &self.operation()?.run;
            (run.service.id, run.service.server.clone(), run.claim)
        };
        if wish.ipv4 > MOST || wish.ipv6 > MOST {
            let text = format!(
                "{} of IPv4 and {} of IPv6 were asked for; at most {MOST} addresses of each can be held",
                wish.ipv4, wish.ipv6
            );
            return Ok(Err(failure(Action::FixInput, "too-many-addresses", text)));
        }
        if wish.vlan.is_some_and(|v| v > 4094) {
            return Ok(Err(failure(Action::FixInput, "vlan", "a VLAN is 1 to 4094, or 0 for untagged")));
        }
        let now = self.lender.clock.now_ms();
        let held = match self.lender.books.leases_of(service).await {
            Ok(held) => held,
            Err(error) => return Ok(Err(books(&error))),
        };
        let count = |family_wanted: u8| held.iter().filter(|l| family(l.address) == family_wanted).count();
        if count(4) >= usize::try_from(wish.ipv4).unwrap_or(0) && count(6) >= usize::try_from(wish.ipv6).unwrap_or(0) {
            return Ok(Ok(held.iter().map(to_guest).collect()));
        }
        let pools = match self.pools(&server).await {
            Ok(pools) => pools,
            Err(error) => return Ok(Err(books(&error))),
        };
        let ranges: Vec<Range> = pools.iter().map(|(name, pool)| range(name, pool)).collect();
        for group in groups(&ranges, &held, &wish) {
            let mut sets = Vec::new();
            for (family, count, ranges) in [(4, wish.ipv4, &group.v4), (6, wish.ipv6, &group.v6)] {
                if count > 0 {
                    sets.push(LeaseSet { family, count, ranges: ranges.clone() });
                }
            }
            match self.lender.books.lease(Some(&claim), LeaseWish { service, sets }, now).await {
                Ok(all) => return Ok(Ok(all.iter().map(to_guest).collect())),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Ok(Err(books(&error))),
            }
        }
        let mut place = String::new();
        if let Some(bridge) = &wish.bridge {
            place = format!(" on bridge {bridge}, VLAN {}", wish.vlan.unwrap_or(0));
        }
        let names: Vec<&str> = pools.iter().map(|(name, _)| name.as_str()).collect();
        let looked = if names.is_empty() {
            "this server has no pool".to_owned()
        } else {
            format!("looked at {}", names.join(", "))
        };
        let text = format!(
            "not enough free addresses: {} IPv4 and {} IPv6 are wanted{place}; {looked}. It goes on by itself when a pool has room: \
             add a pool, or widen one",
            wish.ipv4, wish.ipv6
        );
        Ok(Err(failure(Action::Busy, "addresses-short", text)))
    }

    async fn held(&mut self) -> Answer<Vec<leases::Lease>> {
        let service = self.operation()?.run.service.id;
        Ok(self
            .lender
            .books
            .leases_of(service)
            .await
            .map(|all| all.iter().map(to_guest).collect())
            .map_err(|e| books(&e)))
    }

    async fn release(&mut self) -> Answer<()> {
        let (service, server, claim) = {
            let run = &self.operation()?.run;
            (run.service.id, run.service.server.clone(), run.claim)
        };
        let now = self.lender.clock.now_ms();
        let pools = match self.pools(&server).await {
            Ok(pools) => pools,
            Err(error) => return Ok(Err(books(&error))),
        };
        let rest: BTreeMap<String, i64> =
            pools.into_iter().map(|(name, pool)| (name, i64::from(pool.quarantine_s) * 1_000)).collect();
        match self.lender.books.release_leases(Some(&claim), service, rest, now).await {
            Ok(_) => Ok(Ok(())),
            Err(StoreError::Conflict(_)) => {
                let text = "addresses are kept until the VM's absence is proven: call prove-absence, and release in a later step";
                Ok(Err(failure(Action::Busy, "absence-unproven", text)))
            }
            Err(error) => Ok(Err(books(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(
        name: &str,
        first: &str,
        last: &str,
        length: u8,
        gateway: Option<&str>,
        bridge: &str,
        vlan: Option<u16>,
    ) -> Range {
        range(
            name,
            &Pool {
                server: "s".into(),
                domain: "default".into(),
                bridge: bridge.into(),
                vlan,
                first: first.parse().unwrap(),
                last: last.parse().unwrap(),
                prefix_length: length,
                gateway: gateway.map(|g| g.parse().unwrap()),
                nameservers: Vec::new(),
                excluded: Vec::new(),
                quarantine_s: 0,
            },
        )
    }

    fn wish(ipv4: u32, ipv6: u32, bridge: Option<&str>, vlan: Option<u32>) -> leases::Wish {
        leases::Wish { ipv4, ipv6, bridge: bridge.map(str::to_owned), vlan }
    }

    #[test]
    fn network_broadcast_and_gateway_are_never_leased() {
        let range = pool("p", "192.0.2.0", "192.0.2.255", 24, Some("192.0.2.1"), "vmbr0", None);
        for address in ["192.0.2.0", "192.0.2.255", "192.0.2.1"] {
            assert!(range.excluded.contains(&address.parse().unwrap()), "{address}");
        }
        assert!(reserved("192.0.2.7".parse().unwrap(), 32).is_empty());
        assert_eq!(reserved("2001:db8::5".parse().unwrap(), 64), vec!["2001:db8::".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn both_families_come_from_one_bridge_and_vlan() {
        let ranges = [
            pool("a", "192.0.2.2", "192.0.2.9", 24, Some("192.0.2.1"), "vmbr0", None),
            pool("b", "2001:db8::2", "2001:db8::9", 64, Some("2001:db8::1"), "vmbr1", Some(5)),
            pool("c", "2001:db8:1::2", "2001:db8:1::9", 64, Some("2001:db8:1::1"), "vmbr0", None),
        ];
        let found = groups(&ranges, &[], &wish(1, 1, None, None));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].v4[0].pool.as_str(), found[0].v6[0].pool.as_str()), ("a", "c"));
    }

    #[test]
    fn a_fixed_vlan_of_zero_means_untagged() {
        let ranges = [
            pool("a", "192.0.2.2", "192.0.2.9", 24, None, "vmbr0", Some(7)),
            pool("b", "198.51.100.2", "198.51.100.9", 24, None, "vmbr0", None),
        ];
        let found = groups(&ranges, &[], &wish(1, 0, Some("vmbr0"), Some(0)));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].v4[0].pool, "b");
    }

    #[test]
    fn pools_with_other_gateways_are_never_mixed() {
        let ranges = [
            pool("a", "192.0.2.2", "192.0.2.2", 24, Some("192.0.2.1"), "vmbr0", None),
            pool("b", "198.51.100.2", "198.51.100.9", 24, Some("198.51.100.1"), "vmbr0", None),
        ];
        let found = groups(&ranges, &[], &wish(2, 0, None, None));
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|g| g.v4.len() == 1));
    }
}
