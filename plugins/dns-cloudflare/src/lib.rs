//! Cloudflare, by its API v4: forward and reverse zones.
//!
//! A batch is one request that Cloudflare runs in one transaction; nothing is sent for what is so already. Records are written by
//! ids that never leave a call: they are looked up right before. Other people's records, their comments and proxied records
//! survive. Facts of the API: <https://developers.cloudflare.com/api/resources/dns/subresources/records/> and what was recorded
//! of it; each place says which.

mod api;
mod normal;
mod records;
mod waits;
mod work;

#[cfg(test)]
mod tests;

use wharf_sdk::dns::prelude::*;

use api::Api;
use normal::Plan;

struct Cloudflare;

/// Where the API is when the settings do not say.
const API: &str = "https://api.cloudflare.com/client/v4";
/// A call that has less left makes no further request.
const LEAST_MS: u32 = 1_500;

/// Runs `f` with the API that the zone's settings name.
fn with_api<R>(call: &Call, f: impl FnOnce(&mut Api<http::Host>) -> Result<R, Problem>) -> Result<R, Problem> {
    let zone_id = call.config("zone-id").filter(|id| !id.is_empty()).ok_or_else(|| {
        Problem::fix_config(
            "zone-id",
            "The setting `zone-id` is missing: copy it from the zone's overview at Cloudflare.",
        )
    })?;
    let url = call.config("server-url").unwrap_or_else(|| API.into());
    let account = call.config("account-id").filter(|id| !id.is_empty());
    let mut host = http::Host;
    f(&mut Api::new(&mut host, &url, &zone_id, account))
}

/// Nobody waits any more, or there is no time for another request.
fn is_over(call: &Call) -> bool {
    call.cancelled() || call.deadline_ms() < LEAST_MS
}

impl Provider for Cloudflare {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        forms::verdicts(&normal::CloudflareForms::of(&can), &can, &zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        with_api(call, |api| work::probe(api, &zone))
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        let nonce = connection::nonce();
        with_api(call, |api| Ok(work::test(api, zone.as_deref(), try_write, &nonce))).unwrap_or_else(connection::unset)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        with_api(call, |api| work::zones(api, || is_over(call)))
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        with_api(call, |api| work::read(api, &zone, &what, || is_over(call)))
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        let plan = Plan::of(call.learnt("plan").as_deref());
        with_api(call, |api| work::apply(api, &zone, &batch, plan, || is_over(call)))
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("not-asynchronous", "Cloudflare never takes a change on for later."))
    }
}

wharf_sdk::export_dns_provider!(Cloudflare);
