//! cPanel & WHM: forward and reverse zones by WHM API 1, forward zones by the UAPI of an account. From version 94 on, which
//! brought `mass_edit_dns_zone`.
//!
//! A zone is read whole and changed in one request that names the serial which was read: when anybody has changed the zone
//! meanwhile nothing is written, and the host plans again. A record's handle is its place in the zone file, which that serial
//! guards. Facts of the API: <https://api.docs.cpanel.net/openapi/whm/operation/mass_edit_dns_zone/> and what stands in
//! `sdk/testkit/src/facades/cpanel.rs`; each place says which.

mod api;
mod normal;
mod work;
mod zone;

#[cfg(test)]
mod tests;

use wharf_sdk::dns::prelude::*;

use api::{Api, Door, Server};

struct CPanel;

/// A call that has less left makes no further request.
const LEAST_MS: u32 = 1_500;

/// The server that the zone's settings name.
fn server(config: impl Fn(&str) -> Option<String>) -> Result<Server, Problem> {
    let wanted = |key: &str, what: &str| {
        config(key)
            .filter(|text| !text.trim().is_empty())
            .ok_or_else(|| Problem::fix_config(key, format!("The setting `{key}` is missing: enter {what}.")))
    };
    let door = match config("interface").as_deref() {
        None | Some("whm") => Door::Whm,
        Some("cpanel") => Door::Account,
        Some(other) => {
            let text = format!("`{other}` is no interface of cPanel: choose whm or cpanel.");
            return Err(Problem::fix_config("interface", text));
        }
    };
    Ok(Server { url: wanted("server-url", "the server's address")?, user: wanted("user", "whose token it is")?, door })
}

/// Runs `f` with the API that the zone's settings name.
fn with_api<R>(call: &Call, f: impl FnOnce(&mut Api<http::Host>) -> Result<R, Problem>) -> Result<R, Problem> {
    let server = server(|key| call.config(key))?;
    let mut host = http::Host;
    f(&mut Api::new(&mut host, server))
}

/// Nobody waits any more, or there is no time for another request.
fn is_over(call: &Call) -> bool {
    call.cancelled() || call.deadline_ms() < LEAST_MS
}

impl Provider for CPanel {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        forms::verdicts(&normal::CPanelForms, &can, &zone, sets)
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        with_api(call, |api| work::probe(api, &zone))
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        let nonce = connection::nonce();
        with_api(call, |api| Ok(work::test(api, zone.as_deref(), try_write, &nonce))).unwrap_or_else(connection::unset)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        with_api(call, |api| api.zones())
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        with_api(call, |api| work::read(api, &zone, &what))
    }

    fn apply(call: &Call, zone: ZoneRef, batch: Vec<Change>) -> Result<Report, Problem> {
        with_api(call, |api| work::apply(api, &zone, &batch, || is_over(call)))
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("not-asynchronous", "cPanel never takes a change on for later."))
    }
}

wharf_sdk::export_dns_provider!(CPanel);
