//! What the names and addresses of a service should be, written into every matching zone by way of the books.
//!
//! Bounded by [`ADDRESSES`] a service. A zone that is off is left alone; what was written there stays in the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use wharf_model::{
    lease::Lease,
    manifest::Manifest,
    object::{ObjectKind, Zone},
    record::RecordKey,
    service::ServiceId,
};
use wharf_store::{Books, Claim, StoreError};

use super::names;
use crate::{
    base::{books, failure},
    bindings::wharf::{
        base::common::{Action, Failure},
        dns::naming,
    },
    call::{Bound, CallState},
    hook::with_defaults,
    http::rules::expanded_origin,
};

/// The fact of a service in which the host keeps the name that was declared, for who names things in another way than by zones.
pub const DECLARED: &str = "declared-name";
/// Addresses that one name may have.
const ADDRESSES: usize = 256;

/// The queue of a provider server: all zones behind it are written one after the other, since parallel writes lose
/// records. A plugin that names no request, or a setting that is missing, leaves the zone a queue of its own.
pub(super) fn queue_of(name: &str, zone: &Zone, manifest: Option<&Manifest>) -> String {
    let origin = manifest.and_then(|manifest| {
        let rule = manifest.requests.first()?;
        expanded_origin(rule, &with_defaults(manifest, &zone.settings))
    });
    match origin {
        Some(origin) => format!("{}|{origin}", zone.plugin),
        None => format!("{}|zone {name}", zone.plugin),
    }
}

/// Records that should be, and what an admin should know about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    records: BTreeMap<RecordKey, Option<u32>>,
    warnings: BTreeSet<String>,
    /// Names that no zone holds.
    homeless: BTreeSet<String>,
}

/// What `fqdn` (checked), its addresses and the leases of the service come to in these zones (name of the object, zone).
fn wanted_records(
    service: ServiceId,
    fqdn: &str,
    addresses: &[IpAddr],
    leases: &[Lease],
    zones: &[(String, Zone)],
) -> Wanted {
    let mut wanted = Wanted::default();
    for ip in addresses {
        let rtype = if ip.is_ipv4() { "A" } else { "AAAA" };
        let found = zones
            .iter()
            .filter(|(_, zone)| names::matches(&zone.zone, fqdn))
            .map(|(n, z)| (n, z, fqdn.to_owned()))
            .collect();
        wanted.add(service, rtype, &ip.to_string(), found);
    }
    if !addresses.is_empty() && wanted.records.is_empty() {
        wanted.homeless.insert(fqdn.to_owned());
    }
    for lease in leases {
        let own = lease.ptr.as_deref().map(names::host_name).transpose().unwrap_or_else(|error| {
            wanted.warnings.insert(format!(
                "the reverse name of {} is not usable, so it follows the host name: {error}",
                lease.address
            ));
            None
        });
        let target = own.as_deref().unwrap_or(fqdn);
        let found: Vec<_> = zones
            .iter()
            .filter_map(|(n, z)| names::ptr_owner(&z.zone, z.covers, lease.address).map(|owner| (n, z, owner)))
            .collect();
        if found.is_empty() {
            wanted.homeless.insert(format!("the reverse name of {}", lease.address));
        }
        // Where a classless zone covers the address, the parent holds a CNAME at its name, and nothing can stand beside that.
        let plain = names::reverse_name(lease.address).unwrap_or_default();
        let classless = found.iter().any(|(_, _, owner)| *owner != plain);
        let (kept, left): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, _, owner)| !classless || *owner != plain);
        for (name, zone, _) in left {
            wanted.warnings.insert(format!(
                "zone {name} ({}) gets no PTR for {}: a classless zone below it holds it, by a CNAME here",
                zone.zone, lease.address
            ));
        }
        wanted.add(service, "PTR", target, kept);
    }
    wanted
}

impl Wanted {
    fn add(&mut self, service: ServiceId, rtype: &str, value: &str, found: Vec<(&String, &Zone, String)>) {
        let depth = |zone: &Zone| names::labels(&zone.zone).len();
        let deepest = found.iter().map(|(_, zone, _)| depth(zone)).max().unwrap_or(0);
        let deepest_name = found
            .iter()
            .find(|(_, zone, _)| depth(zone) == deepest)
            .map(|(name, ..)| (*name).clone())
            .unwrap_or_default();
        for (name, zone, owner) in found {
            if depth(zone) < deepest {
                self.warnings.insert(format!(
                    "zone {name} ({}) is shadowed by zone {deepest_name}: once that is delegated, what is written in {name} is never served",
                    zone.zone
                ));
            }
            let key = RecordKey {
                zone: name.clone(),
                name: owner,
                rtype: rtype.to_owned(),
                value: value.to_owned(),
                service_id: service,
            };
            self.records.insert(key, zone.ttl);
        }
    }
}

/// Zones that are not off, the queue of each, the queues of those that are, and what is wrong with the rest.
#[derive(Default)]
struct Zones {
    all: Vec<(String, Zone)>,
    queues: BTreeMap<String, String>,
    off: BTreeMap<String, String>,
    warnings: Vec<String>,
}

async fn zones(of: &Books) -> Result<Zones, StoreError> {
    let current: BTreeMap<_, _> = of.rollouts().await?.into_iter().map(|r| (r.id, r.current)).collect();
    let manifests: BTreeMap<String, Manifest> = of
        .plugin_versions()
        .await?
        .into_iter()
        .filter(|row| current.get(&row.id) == Some(&row.version))
        .map(|row| (row.id, row.manifest))
        .collect();
    let mut zones = Zones::default();
    for object in of.objects(ObjectKind::Zone).await? {
        match serde_json::from_value::<Zone>(object.body) {
            Ok(zone) => {
                let queue = queue_of(&object.name, &zone, manifests.get(&zone.plugin));
                if zone.off {
                    zones.off.insert(object.name, queue);
                } else {
                    zones.queues.insert(object.name.clone(), queue);
                    zones.all.push((object.name, zone));
                }
            }
            // One bad zone must not keep the others from being written.
            Err(error) => zones.warnings.push(format!("zone {} can't be read ({error}): save it again", object.name)),
        }
    }
    Ok(zones)
}

/// What the books are to be told of a service's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    pub records: Vec<(RecordKey, Option<u32>)>,
    /// Provider queues by zone object.
    pub queues: BTreeMap<String, String>,
    /// The same of zones that are switched off: `records` has none in them.
    pub off: BTreeMap<String, String>,
    /// What an admin should know.
    pub warnings: Vec<String>,
    /// Names that no zone holds.
    pub homeless: BTreeSet<String>,
}

/// What `fqdn` (checked), its addresses and the leases of the service come to in the zones of the books that are not off.
///
/// # Errors
/// The books can't be read.
pub async fn wishes(
    of: &Books,
    service: ServiceId,
    fqdn: &str,
    addresses: &[IpAddr],
    leases: &[Lease],
) -> Result<Wishes, StoreError> {
    let Zones { all, queues, off, mut warnings } = zones(of).await?;
    let Wanted { records, warnings: more, homeless } = wanted_records(service, fqdn, addresses, leases, &all);
    warnings.extend(more);
    Ok(Wishes { records: records.into_iter().collect(), queues, off, warnings, homeless })
}

fn bad_name(code: &str, error: &names::NameError) -> Failure {
    failure(Action::FixInput, code, error.to_string())
}

impl CallState {
    fn named_service(&self) -> Result<(ServiceId, Claim), Failure> {
        match &self.bound {
            Bound::Operation(binding) => Ok((binding.run.service.id, binding.run.claim)),
            _ => Err(failure(Action::ReportBug, "no-service", "this call is about no service, so it has no names")),
        }
    }

    async fn declare_names(&mut self, fqdn: &str, addresses: &[String]) -> Result<(), Failure> {
        let (service, claim) = self.named_service()?;
        let fqdn = names::host_name(fqdn).map_err(|e| bad_name("host-name", &e))?;
        if addresses.len() > ADDRESSES {
            let text = format!("a name may have {ADDRESSES} addresses, {} were given", addresses.len());
            return Err(failure(Action::FixInput, "too-many", text));
        }
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|a| names::address(a))
            .collect::<Result<_, _>>()
            .map_err(|e| bad_name("address", &e))?;
        let leases = self.lender.books.leases_of(service).await.map_err(|e| books(&e))?;
        let wishes = wishes(&self.lender.books, service, &fqdn, &addresses, &leases).await.map_err(|e| books(&e))?;
        for warning in &wishes.warnings {
            self.log.push("warn", warning, Vec::new());
        }
        for name in &wishes.homeless {
            self.log.push("info", &format!("no zone holds {name}: it is written nowhere"), Vec::new());
        }
        if let Bound::Operation(binding) = &mut self.bound {
            binding.facts.insert(DECLARED.to_owned(), Some(fqdn));
        }
        let now = self.lender.clock.now_ms();
        self.lender
            .books
            .want_records(Some(&claim), service, wishes.records, wishes.queues, now)
            .await
            .map_err(|e| books(&e))
    }
}

impl naming::Host for CallState {
    async fn declare(&mut self, fqdn: String, addresses: Vec<String>) -> wasmtime::Result<Result<(), Failure>> {
        self.charge(fqdn.len() + addresses.iter().map(String::len).sum::<usize>());
        Ok(self.declare_names(&fqdn, &addresses).await)
    }

    async fn withdraw(&mut self) -> wasmtime::Result<Result<(), Failure>> {
        self.charge(0);
        let (service, claim) = match self.named_service() {
            Ok(named) => named,
            Err(failure) => return Ok(Err(failure)),
        };
        // Zones may have moved to another server since.
        let queues = match zones(&self.lender.books).await {
            Ok(zones) => zones.queues,
            Err(error) => return Ok(Err(books(&error))),
        };
        let now = self.lender.clock.now_ms();
        Ok(self.lender.books.want_records(Some(&claim), service, Vec::new(), queues, now).await.map_err(|e| books(&e)))
    }

    async fn progress(&mut self) -> wasmtime::Result<Result<naming::Tally, Failure>> {
        self.charge(0);
        let (service, _) = match self.named_service() {
            Ok(named) => named,
            Err(failure) => return Ok(Err(failure)),
        };
        let records = match self.lender.books.records_of(service).await {
            Ok(records) => records,
            Err(error) => return Ok(Err(books(&error))),
        };
        let mut tally = naming::Tally { waiting: 0, written: 0, failed: 0 };
        for record in records {
            // One that should be gone and is not is work to do like any other.
            let settled = record.wanted && record.written;
            let count = match (settled, record.attempt) {
                (true, _) => &mut tally.written,
                (false, 0) => &mut tally.waiting,
                (false, _) => &mut tally.failed,
            };
            *count = count.saturating_add(1);
        }
        Ok(Ok(tally))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn zone(name: &str, dns: &str) -> (String, Zone) {
        (name.to_owned(), serde_json::from_value(json!({"zone": dns, "plugin": "p", "ttl": 60})).unwrap())
    }

    fn lease(address: &str, ptr: Option<&str>) -> Lease {
        serde_json::from_value(json!({
            "domain": "default", "address": address, "pool": "p", "service_id": null, "index": 0, "ptr": ptr, "leased_ms": 0,
            "free_after_ms": 0,
            "network": {"prefix_length": 24, "gateway": null, "nameservers": [], "bridge": "vmbr0", "vlan": null},
        }))
        .unwrap()
    }

    fn records(leases: &[Lease], zones: &[(String, Zone)]) -> (Vec<String>, BTreeSet<String>) {
        let addresses: Vec<IpAddr> = leases.iter().map(|l| l.address).collect();
        let wanted = wanted_records(Uuid::nil(), "vm.a.example.", &addresses, leases, zones);
        let lines = wanted.records.keys().map(|k| format!("{} {} {} {}", k.zone, k.name, k.rtype, k.value)).collect();
        (lines, wanted.warnings)
    }

    #[test]
    fn every_matching_zone_gets_its_records_and_a_shadowed_one_a_warning() {
        let zones = [
            zone("parent", "example"),
            zone("child", "a.example."),
            zone("mirror", "A.example"),
            zone("other", "notexample"),
        ];
        let (lines, warnings) = records(&[lease("192.0.2.1", None), lease("2001:db8::1", None)], &zones);
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(lines.contains(&"mirror vm.a.example. AAAA 2001:db8::1".to_owned()), "{lines:?}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings.iter().all(|w| w.contains("zone parent")), "{warnings:?}");
    }

    #[test]
    fn a_ptr_follows_the_host_name_unless_the_lease_has_its_own() {
        let zones = [
            zone("v4", "2.0.192.in-addr.arpa"),
            zone("one", "2.2.0.192.in-addr.arpa"),
            zone("v6", "8.b.d.0.1.0.0.2.ip6.arpa"),
        ];
        let leases = [
            lease("192.0.2.1", None),
            lease("192.0.2.3", Some("Mail.Example.com")),
            lease("192.0.2.4", Some("1.2.3.4")),
        ];
        let (lines, warnings) = records(&leases, &zones);
        assert_eq!(
            lines,
            [
                "v4 1.2.0.192.in-addr.arpa. PTR vm.a.example.",
                "v4 3.2.0.192.in-addr.arpa. PTR mail.example.com.",
                "v4 4.2.0.192.in-addr.arpa. PTR vm.a.example.",
            ]
        );
        assert!(warnings.iter().any(|w| w.contains("192.0.2.4")), "{warnings:?}");
        // A zone that is the very name.
        let (lines, _) = records(&[lease("192.0.2.2", None)], &zones);
        assert!(lines.contains(&"one 2.2.0.192.in-addr.arpa. PTR vm.a.example.".to_owned()), "{lines:?}");
    }

    #[test]
    fn a_classless_zone_holds_the_ptr_and_its_parent_does_not() {
        let zones = [zone("parent", "2.0.192.in-addr.arpa"), zone("part", "64/26.2.0.192.in-addr.arpa")];
        let (lines, warnings) = records(&[lease("192.0.2.70", None), lease("192.0.2.1", None)], &zones);
        assert_eq!(
            lines,
            [
                "parent 1.2.0.192.in-addr.arpa. PTR vm.a.example.",
                "part 70.64/26.2.0.192.in-addr.arpa. PTR vm.a.example."
            ]
        );
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn zones_behind_one_server_share_a_queue() {
        let manifest: Manifest = serde_json::from_value(json!({
            "id": "pp", "name": "P", "version": "1.0.0", "world": "dns-provider", "licence": "MIT", "wants": {},
            "requests": [{"methods": ["GET"], "origin": "{server-url}", "path": "/api/*"}],
        }))
        .unwrap();
        let with = |url: &str| {
            let zone =
                serde_json::from_value(json!({"zone": "a.example", "plugin": "pp", "settings": {"server-url": url}}))
                    .unwrap();
            queue_of("a", &zone, Some(&manifest))
        };
        assert_eq!(with("https://NS.test:443/x"), "pp|https://ns.test");
        assert_eq!(with("https://ns.test/y"), with("https://NS.test:443/x"));
        assert_eq!(with(""), "pp|zone a");
    }
}
