//! Hetzner, by its Cloud API v1: zones and their sets of records.
//!
//! Hetzner takes a write on as an action and does it later, set by set. So `apply` answers `accepted` for what is not done at its
//! end, `poll` asks what became of it, and nothing waits in between. Values are added and taken away by themselves; where one takes the place of another the
//! set is written whole, with the comments of those that stay. Facts of the API: <https://docs.hetzner.cloud/reference/cloud>
//! and what stands in `sdk/testkit/src/facades/hetzner.rs`; each place says which.

mod api;
mod normal;
mod work;

#[cfg(test)]
mod tests;

use wharf_sdk::dns::prelude::*;

use api::Api;

struct Hetzner;

/// Where the API is when the settings do not say.
const API: &str = "https://api.hetzner.cloud/v1";
/// A call that has less left makes no further request.
const LEAST_MS: u32 = 1_500;

/// Runs `f` with the API that the zone's settings name.
fn with_api<R>(call: &Call, f: impl FnOnce(&mut Api<http::Host>) -> Result<R, Problem>) -> Result<R, Problem> {
    let zone = call.config("zone").filter(|zone| !zone.is_empty()).ok_or_else(|| {
        Problem::fix_config("zone", "The setting `zone` is missing: enter the zone's name at Hetzner.")
    })?;
    let url = call.config("server-url").unwrap_or_else(|| API.into());
    let mut host = http::Host;
    f(&mut Api::new(&mut host, &url, &zone))
}

/// Nobody waits any more, or there is no time for another request.
fn is_over(call: &Call) -> bool {
    call.cancelled() || call.deadline_ms() < LEAST_MS
}

impl Provider for Hetzner {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        forms::verdicts(&normal::HetznerForms, &can, &zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        with_api(call, |api| work::probe(api, &zone))
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        let nonce = connection::nonce();
        let stop = || is_over(call);
        with_api(call, |api| Ok(work::test(api, zone.as_deref(), try_write, &nonce, stop)))
            .unwrap_or_else(connection::unset)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        with_api(call, |api| work::zones(api, || is_over(call)))
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        with_api(call, |api| work::read(api, &zone, &what, || is_over(call)))
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        with_api(call, |api| work::apply(api, &zone, &batch, || is_over(call)))
    }

    fn poll(call: &Call, zone: ZoneRef, operation: String) -> Result<Outcome, Problem> {
        with_api(call, |api| work::poll(api, &zone, &operation))
    }
}

wharf_sdk::export_dns_provider!(Hetzner);
