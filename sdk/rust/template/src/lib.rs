//! A DNS provider for Wharf. `api.rs` speaks to the API, `work.rs` says what has to be sent; this file joins both to the
//! contract (`wit/deps/dns/dns.wit` has every word of it).
//!
//! The host plans, matches zones, waits and repeats. A provider translates: it reads, applies a batch once, and maps each
//! error to what the host must do about it.

mod api;
mod work;

#[cfg(test)]
mod tests;

use wharf_sdk::dns::prelude::*;

use api::Api;

struct Plugin;

/// Runs `f` with the API that the zone's settings name.
fn with_api<R>(call: &Call, f: impl FnOnce(&mut Api<http::Host>) -> Result<R, Problem>) -> Result<R, Problem> {
    let url = call.config("server-url").ok_or_else(|| {
        Problem::fix_config("server-url", "The setting `server-url` is missing: enter the API's address.")
    })?;
    f(&mut Api::new(&mut http::Host, &url))
}

impl Provider for Plugin {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        forms::verdicts(&work::ExampleForms, &can, &zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        with_api(call, |api| work::probe(api, &zone))
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        // A name that nobody has.
        let nonce: String = entropy::fresh(6).iter().map(|b| format!("{b:02x}")).collect();
        with_api(call, |api| Ok(work::test(api, zone.as_deref(), try_write, &nonce)))
            .unwrap_or_else(|problem| vec![work::check("reach", false, problem.message)])
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        with_api(call, |api| Ok(api.zones()?.into_iter().map(work::zone_ref).collect()))
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        with_api(call, |api| work::read(api, &zone, &what))
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        // Time to write down what was done, before the host ends the call.
        let stop = || call.cancelled() || call.deadline_ms() < 2_000;
        with_api(call, |api| work::apply(api, &zone, &batch, stop))
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("not-asynchronous", "This provider never takes a change on for later."))
    }
}

wharf_sdk::export_dns_provider!(Plugin);
