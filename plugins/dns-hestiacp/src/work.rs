//! What the provider does, over any transport.

use wharf_sdk::dns::prelude::*;

use crate::{
    api::Api,
    listing::{self, Line},
    normal::{HestiaForms, capabilities},
    run::Run,
};

/// Finds the zone.
pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {
    let (zone, domain) = api.domain(zone)?;
    let is_suspended = domain.suspended == "yes";
    let mut more = ext([("suspended", domain.suspended.as_str())]);
    if !domain.source.is_empty() {
        more.push(("source".into(), domain.source.clone()));
    }
    let info = ZoneInfo {
        zone,
        // Additions to a suspended domain are refused; a copy of another server is overwritten by its next transfer.
        writable: !is_suspended && domain.source.is_empty(),
        serial: Some(domain.serial).filter(|s| !s.is_empty()),
        ttl_min: None,
        ttl_max: None,
        ttl_default: domain.ttl.parse().ok().filter(|ttl| *ttl <= batch::MAX_TTL),
        records_used: domain.records.parse().ok(),
        records_max: None,
        ext: more,
    };
    Ok(Probed { info, can: capabilities() })
}

/// Reads. A zone comes in one answer, so what is read is complete.
pub fn read<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, what: &Selector) -> Result<Snapshot, Problem> {
    let mut lines = api.records(zone)?;
    match what {
        Selector::All => {}
        Selector::Below(name) => lines.retain(|l| names::is_within(&l.name, name)),
        Selector::Keys(keys) => {
            let wanted: Vec<_> = keys.iter().map(|(n, t)| (names::labels(n), t.to_ascii_uppercase())).collect();
            lines.retain(|l| wanted.contains(&(names::labels(&l.name), l.rtype.clone())));
        }
    }
    let rrsets = listing::sets(&lines).iter().filter_map(Set::rrset).collect();
    Ok(Snapshot { rrsets, complete: true, version: None, calls: api.calls, ext: Vec::new() })
}

/// Applies a batch: looks, compares, and runs a command for each value that differs.
pub fn apply<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, changes: &[Change]) -> Result<Report, Problem> {
    let ttls = HestiaForms.ttls();
    let report = |outcomes, calls| Report { outcomes, version: None, calls, ext: Vec::new() };
    // Ids that stand twice are refused before anything is asked, and nothing is asked for names of other zones.
    let blind = Batch::new(&zone.name, &[], changes, &ttls)?;
    if batch::names_of(&zone.name, changes).is_empty() {
        return Ok(report(blind.outcomes(|_| Fate::NotAttempted), api.calls));
    }
    let lines: Vec<Line> = api.records(zone)?;
    let batch = Batch::new(&zone.name, &listing::sets(&lines), changes, &ttls)?;
    let works = batch.changed();
    let keys: Vec<(String, String)> = works.iter().map(|w| (w.name.clone(), w.rtype.clone())).collect();
    let fates = Run::new(api, zone, lines).all(&works);
    let fate = |name: &str, rtype: &str| {
        let at = keys.iter().position(|(n, t)| n == name && t == rtype);
        at.and_then(|at| fates.get(at)).cloned().unwrap_or(Fate::NotAttempted)
    };
    let outcomes = batch.outcomes(|work| fate(&work.name, &work.rtype));
    Ok(report(outcomes, api.calls))
}

/// Tells reachability, credentials and zone apart, and stops at the first that is wrong: a command that is not allowed counts
/// as a failed login there. `nonce` makes the name of the trial record unique.
pub fn test<T: Transport>(api: &mut Api<T>, zone: Option<&str>, try_write: bool, nonce: &str) -> Vec<Check> {
    const WHO: &str = "The server";
    const CREDENTIALS: &str = "The credentials are";
    let mut checks = Checks::default();
    let asked = match zone {
        None => api.domains().map(|_| None),
        Some(zone) => probe(api, zone).map(Some),
    };
    let probed = match asked {
        Ok(probed) => {
            checks.let_in(WHO, CREDENTIALS);
            probed
        }
        Err(problem) => {
            checks.turned_away(WHO, CREDENTIALS, &["privilege", "address-not-allowed", "user-not-found"], problem);
            return checks.done();
        }
    };
    let Some(Probed { info, .. }) = probed else { return checks.done() };
    if !info.writable {
        let why = match ext_get(&info.ext, "source") {
            Some(source) => format!("is a copy of the one on {source}: write to that server instead"),
            None => "is suspended in HestiaCP: unsuspend it there".to_owned(),
        };
        checks.bad("zone", format!("The zone {} {why}.", info.zone.name));
        return checks.done();
    }
    checks.good("zone", format!("The zone {} is there.", info.zone.name));
    if let Err(problem) = api.records(&info.zone) {
        checks.bad("read", problem.message);
        return checks.done();
    }
    checks.good("read", "Records can be read.");
    if try_write {
        checks.trial(&info.zone, nonce, |change| apply(api, &info.zone, &[change]));
    }
    checks.done()
}
