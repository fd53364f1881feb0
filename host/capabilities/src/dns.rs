//! What names and addresses should be, said by provisioners; and what a DNS provider is told of its call.
//!
//! Every matching zone is written: by suffix on label boundaries, the zone itself included. Which records those are is kept in
//! the books; writing them is the engine's, through a queue for each provider server.

pub mod names;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::atomic::Ordering,
};

use url::Url;
use wasmtime::component::Resource;
use wharf_model::{
    object::{ObjectKind, Zone},
    record::RecordKey,
};
use wharf_store::StoreError;

use crate::{
    base::{books, failure},
    bindings::wharf::{
        base::common::{Action, Failure},
        dns::{calls, naming, zones},
    },
    call::{Bound, CallState, DnsCall, ZoneBinding},
    hook::as_text,
};

type Answer<T> = wasmtime::Result<Result<T, Failure>>;

/// Which provider server a zone is written to: writes to one are never parallel. The plugin, and every host that its
/// settings name.
pub fn queue(zone: &Zone) -> String {
    let mut hosts: Vec<String> = zone
        .settings
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, value)| Url::parse(value.as_str()?).ok())
        .filter_map(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)))
        .collect();
    hosts.sort();
    format!("{}|{}", zone.plugin, hosts.join(","))
}

/// A record before its zones are known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    rtype: &'static str,
    value: String,
}

/// A or AAAA of the name, and a PTR for each leased address.
fn wanted(fqdn: &str, addresses: &[IpAddr], leases: &[(IpAddr, Option<String>)]) -> Vec<Wanted> {
    let mut all = Vec::new();
    for address in addresses {
        let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
        all.push(Wanted { name: fqdn.to_owned(), rtype, value: address.to_string() });
    }
    for (address, ptr) in leases {
        if let Some(name) = names::reverse(*address) {
            let value = ptr.as_deref().map_or_else(|| fqdn.to_owned(), names::canonical);
            all.push(Wanted { name, rtype: "PTR", value });
        }
    }
    all
}

/// Zones that a record belongs to; a shorter one beneath a longer one is told of, since it may never be asked.
fn matching<'a>(name: &str, all: &'a [(String, Zone)]) -> (Vec<&'a (String, Zone)>, Vec<&'a str>) {
    let found: Vec<&(String, Zone)> = all.iter().filter(|(_, zone)| names::within(name, &zone.zone)).collect();
    let longest = found.iter().map(|(_, zone)| names::canonical(&zone.zone).len()).max().unwrap_or(0);
    let shadowed =
        found.iter().filter(|(_, zone)| names::canonical(&zone.zone).len() < longest).map(|(n, _)| n.as_str()).collect();
    (found, shadowed)
}

impl CallState {
    async fn zones(&mut self) -> Result<Vec<(String, Zone)>, StoreError> {
        let mut all = Vec::new();
        for object in self.lender.books.objects(ObjectKind::Zone).await? {
            match serde_json::from_value::<Zone>(object.body) {
                Ok(zone) if !zone.off => all.push((object.name, zone)),
                Ok(_) => {}
                Err(error) => self.log.push("warn", &format!("the zone `{}` can't be read ({error}): save it again", object.name), Vec::new()),
            }
        }
        Ok(all)
    }

    async fn want(&mut self, records: Vec<Wanted>) -> Result<(), StoreError> {
        let service = match &self.bound {
            Bound::Operation(binding) => binding.run.service.id,
            _ => return Ok(()),
        };
        let zones = self.zones().await?;
        let mut keys = Vec::new();
        let mut queues: BTreeMap<String, String> = BTreeMap::new();
        for record in records {
            let (found, shadowed) = matching(&record.name, &zones);
            if found.is_empty() {
                self.log.push("info", &format!("no zone for {} {}: it is not written anywhere", record.name, record.rtype), Vec::new());
            }
            for name in shadowed {
                let text = format!("{} also falls into the zone `{name}`, beneath a longer one: if that is delegated, it is never asked", record.name);
                self.log.push("warn", &text, Vec::new());
            }
            for (name, zone) in found {
                queues.insert(name.clone(), queue(zone));
                let key = RecordKey {
                    zone: name.clone(),
                    name: record.name.clone(),
                    rtype: record.rtype.to_owned(),
                    value: record.value.clone(),
                    service_id: service,
                };
                keys.push((key, zone.ttl));
            }
        }
        // A record that is to go may lie in a zone that matches nothing any more.
        for record in self.lender.books.records_of(service).await? {
            if let Some((_, zone)) = zones.iter().find(|(name, _)| *name == record.key.zone) {
                queues.entry(record.key.zone).or_insert_with(|| queue(zone));
            }
        }
        self.lender.books.want_records(service, keys, queues, self.lender.clock.now_ms()).await
    }
}

impl zones::Host for CallState {}

impl naming::Host for CallState {
    async fn declare(&mut self, fqdn: String, addresses: Vec<String>) -> Answer<()> {
        let service = self.operation()?.run.service.id;
        let fqdn = match names::host_name(&fqdn) {
            Ok(fqdn) => fqdn,
            Err(text) => return Ok(Err(failure(Action::FixInput, "host-name", text))),
        };
        let mut parsed = Vec::new();
        for text in &addresses {
            match text.parse::<IpAddr>() {
                Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
                    return Ok(Err(failure(Action::FixInput, "address", format!("`{text}` is an IPv4 address in IPv6 clothes"))));
                }
                Ok(address) => parsed.push(address),
                Err(_) => return Ok(Err(failure(Action::FixInput, "address", format!("`{text}` is not an address")))),
            }
        }
        let leases = match self.lender.books.leases_of(service).await {
            Ok(leases) => leases.into_iter().map(|l| (l.address, l.ptr)).collect::<Vec<_>>(),
            Err(error) => return Ok(Err(books(&error))),
        };
        Ok(self.want(wanted(&fqdn, &parsed, &leases)).await.map_err(|e| books(&e)))
    }

    async fn withdraw(&mut self) -> Answer<()> {
        self.operation()?;
        Ok(self.want(Vec::new()).await.map_err(|e| books(&e)))
    }

    async fn progress(&mut self) -> Answer<naming::Tally> {
        let service = self.operation()?.run.service.id;
        let records = match self.lender.books.records_of(service).await {
            Ok(records) => records,
            Err(error) => return Ok(Err(books(&error))),
        };
        let mut tally = naming::Tally { waiting: 0, written: 0, failed: 0 };
        for record in records {
            if record.wanted && record.written && record.reason.is_none() {
                tally.written += 1;
            } else if record.reason.is_some() {
                tally.failed += 1;
            } else {
                tally.waiting += 1;
            }
        }
        Ok(Ok(tally))
    }
}

impl CallState {
    fn zone(&self) -> wasmtime::Result<&ZoneBinding> {
        match &self.bound {
            Bound::Zone(binding) => Ok(binding),
            _ => Err(wasmtime::Error::msg("this call is about no zone")),
        }
    }
}

impl calls::Host for CallState {}

impl calls::HostCall for CallState {
    async fn config(&mut self, _: Resource<DnsCall>, key: String) -> wasmtime::Result<Option<String>> {
        // A secret is never told, whatever was left in the settings by mistake.
        if self.caller.manifest.slot(&key).is_some() {
            return Ok(None);
        }
        Ok(self.zone()?.zone.settings.get(&key).and_then(as_text))
    }

    async fn deadline_ms(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<u32> {
        Ok(self.left_ms())
    }

    async fn cancelled(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<bool> {
        Ok(self.zone()?.cancelled.load(Ordering::Relaxed))
    }

    async fn idempotency_key(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<String> {
        Ok(self.zone()?.idempotency_key.clone())
    }

    async fn progress(&mut self, _: Resource<DnsCall>, done: u32, total: u32) -> wasmtime::Result<()> {
        if let Bound::Zone(binding) = &mut self.bound {
            binding.progress = Some((done.min(total), total));
        }
        Ok(())
    }

    async fn drop(&mut self, handle: Resource<DnsCall>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str, plugin: &str, url: &str) -> (String, Zone) {
        let settings = serde_json::json!({"server-url": url, "other": 5});
        (name.into(), Zone { zone: name.into(), plugin: plugin.into(), settings, ttl: None, off: false })
    }

    #[test]
    fn zones_of_one_server_share_a_queue_and_others_do_not() {
        let (a, b, c) = (zone("a.", "p", "http://ns:8081/x"), zone("b.", "p", "http://ns:8081/"), zone("c.", "p", "https://ns/"));
        assert_eq!(queue(&a.1), queue(&b.1));
        assert_ne!(queue(&a.1), queue(&c.1));
    }

    #[test]
    fn every_matching_zone_is_written_and_the_shorter_one_is_told_of() {
        let all = [zone("example.com", "p", ""), zone("example.com.", "q", ""), zone("vm.example.com", "p", ""), zone("ample.com", "p", "")];
        let (found, shadowed) = matching("a.vm.example.com.", &all);
        assert_eq!(found.len(), 3);
        assert_eq!(shadowed, ["example.com", "example.com."]);
    }

    #[test]
    fn a_lease_with_a_name_of_its_own_keeps_it() {
        let ip: IpAddr = "192.0.2.5".parse().unwrap();
        let all = wanted("vm.example.com.", &[ip], &[(ip, Some("Mail.Example.org".into()))]);
        assert_eq!(all[0], Wanted { name: "vm.example.com.".into(), rtype: "A", value: "192.0.2.5".into() });
        assert_eq!(all[1].value, "mail.example.org.");
    }
}
