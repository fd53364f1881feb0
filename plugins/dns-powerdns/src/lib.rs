//! PowerDNS Authoritative, by its HTTP API: forward and reverse zones, versions 4.1 and later.
//!
//! One PATCH a batch, applied whole or not at all; nothing is sent for what is so already; other people's values,
//! disabled values and comments survive. Values are merged here, between a look and the write, because servers before
//! 4.9.12 and 5.0.2 only know REPLACE; newer ones merge a single value in their own transaction.

mod api;
mod normal;
mod plan;
mod work;

#[cfg(test)]
mod tests;

use wharf_sdk::dns::prelude::*;

use api::Api;

struct PowerDns;

/// Runs `f` with the API that the zone's settings name.
fn with_api<R>(call: &Call, f: impl FnOnce(&mut Api<http::Host>) -> Result<R, Problem>) -> Result<R, Problem> {
    let url = call.config("server-url").ok_or_else(|| {
        Problem::fix_config("server-url", "The setting `server-url` is missing: enter the API's address.")
    })?;
    let server = call.config("server-id").unwrap_or_else(|| "localhost".into());
    let mut host = http::Host;
    f(&mut Api::new(&mut host, &url, &server))
}

impl Provider for PowerDns {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        forms::verdicts(&normal::PowerDnsForms, &can, &zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        with_api(call, |api| work::probe(api, &zone))
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        let nonce = connection::nonce();
        with_api(call, |api| Ok(work::test(api, zone.as_deref(), try_write, &nonce))).unwrap_or_else(connection::unset)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        let zones = with_api(call, |api| api.zones())?;
        Ok(zones.into_iter().map(|z| ZoneRef { id: z.id, name: z.name }).collect())
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        with_api(call, |api| work::read(api, &zone, &what))
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        with_api(call, |api| work::apply(api, &zone, &batch, || call.cancelled()))
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("not-asynchronous", "PowerDNS never takes a change on for later."))
    }
}

wharf_sdk::export_dns_provider!(PowerDns);
