//! What the provider does, over any transport.

use wharf_sdk::dns::prelude::*;

use crate::api::{self, Api, has_merge};
use crate::normal::capabilities;
use crate::plan;

/// Above so many names one read of the whole zone is cheaper than a look at each.
const SINGLE_LOOKS: usize = 20;

/// Finds the zone.
pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {
    let meta = api.zone(zone)?;
    let version = api.version()?;
    let info = ZoneInfo {
        writable: meta.writable(),
        zone: ZoneRef { id: meta.id, name: meta.name },
        serial: meta.serial.map(|s| s.to_string()),
        ttl_min: None,
        ttl_max: None,
        ttl_default: None,
        records_used: None,
        records_max: None,
        ext: ext([("kind", meta.kind), ("version", version.clone())]),
    };
    Ok(Probed { info, can: capabilities(has_merge(&version)) })
}

/// Reads. A zone comes in one answer, so what is read is complete.
pub fn read<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, what: &Selector) -> Result<Snapshot, Problem> {
    let sets: Vec<api::Set> = match what {
        Selector::All => api.all(&zone.id)?,
        Selector::Below(name) => api.all(&zone.id)?.into_iter().filter(|s| names::is_within(&s.name, name)).collect(),
        Selector::Keys(keys) if keys.len() > SINGLE_LOOKS => {
            let wanted: Vec<_> = keys.iter().map(|(n, t)| (names::labels(n), t.to_ascii_uppercase())).collect();
            let mut sets = api.all(&zone.id)?;
            sets.retain(|s| wanted.contains(&(names::labels(&s.name), s.rtype.to_ascii_uppercase())));
            sets
        }
        Selector::Keys(keys) => {
            let mut sets = Vec::new();
            for (name, rtype) in keys {
                sets.extend(api.one(&zone.id, name, rtype)?);
            }
            sets
        }
    };
    let rrsets = sets.iter().filter_map(|set| plan::held(set).rrset()).collect();
    Ok(Snapshot { rrsets, complete: true, version: None, calls: api.calls, ext: Vec::new() })
}

/// What stands under these names, disabled values included. A filtered read of the zone hides those, and a REPLACE
/// made from it would delete them; so names are searched for, and where the server can't search the zone is read whole.
fn present<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, wanted: &[String]) -> Result<Vec<api::Set>, Problem> {
    if wanted.len() > SINGLE_LOOKS {
        return api.all(&zone.id);
    }
    let mut sets = Vec::new();
    for name in wanted {
        match api.search(&zone.id, name)? {
            Some(found) => sets.extend(found),
            None => return api.all(&zone.id),
        }
    }
    // Nothing found is good news only from a search that finds something: every zone has its SOA.
    if sets.is_empty() && !api.search(&zone.id, &zone.name)?.is_some_and(|s| s.iter().any(|s| s.rtype == "SOA")) {
        return api.all(&zone.id);
    }
    Ok(sets)
}

/// Applies a batch: looks, compares, and sends what differs in one request. `stop` says that nobody waits any more.
pub fn apply<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    changes: &[Change],
    stop: impl Fn() -> bool,
) -> Result<Report, Problem> {
    let ttls = Ttls::default();
    // Refuses doubled ids before any request.
    Batch::new(&zone.name, &[], changes, &ttls)?;
    let wanted = batch::names_of(&zone.name, changes);
    let sets = if wanted.is_empty() { Vec::new() } else { present(api, zone, &wanted)? };
    let batch = Batch::new(&zone.name, &sets.iter().map(plan::held).collect::<Vec<_>>(), changes, &ttls)?;
    let report = |outcomes, calls| Report { outcomes, version: None, calls, ext: Vec::new() };
    if batch.changed().is_empty() {
        return Ok(report(batch.outcomes(|_| Fate::NotAttempted), api.calls));
    }
    let merge = plan::is_shared(&batch) && has_merge(&api.version()?);
    if stop() {
        return Ok(report(batch.outcomes(|_| Fate::NotAttempted), api.calls));
    }
    let told = api.patch(&zone.id, &plan::patches(&batch, merge));
    let outcomes = match told {
        Ok(()) => batch.outcomes(|_| Fate::Written),
        Err(problem) => plan::failed(batch, &problem),
    };
    Ok(report(outcomes, api.calls))
}

/// Tells reachability, credentials and zone apart. `nonce` makes the name of the trial record unique.
pub fn test<T: Transport>(api: &mut Api<T>, zone: Option<&str>, try_write: bool, nonce: &str) -> Vec<Check> {
    let mut checks = Checks::default();
    match api.version() {
        Ok(version) => checks.let_in("The server", &format!("PowerDNS {version}; the API key is")),
        Err(problem) => {
            checks.turned_away("The server", "The API key is", &[], problem);
            return checks.done();
        }
    }
    let Some(zone) = zone else { return checks.done() };
    let meta = match api.zone(zone) {
        Ok(meta) => meta,
        Err(problem) => {
            checks.bad("zone", problem.message);
            return checks.done();
        }
    };
    if !meta.writable() {
        let why = format!("The zone {} is a copy here (kind {}): write to its primary instead.", meta.name, meta.kind);
        checks.bad("zone", why);
        return checks.done();
    }
    checks.good("zone", format!("The zone {} is there, kind {}.", meta.name, meta.kind));
    let zone = ZoneRef { id: meta.id, name: meta.name };
    match api.one(&zone.id, &zone.name, "SOA") {
        Ok(_) => checks.good("read", "Records can be read."),
        Err(problem) => checks.bad("read", problem.message),
    }
    if try_write {
        checks.trial(&zone, nonce, |change| apply(api, &zone, &[change], || false));
    }
    checks.done()
}
