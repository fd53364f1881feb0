//! What the provider does, over any transport.

use wharf_sdk::dns::prelude::*;

use crate::{
    api::Api,
    listing::{self, Line},
    normal::capabilities,
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
    // A TTL that nobody asked for is the zone's.
    let ttls = Ttls { default: None, ..Ttls::default() };
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
    let mut checks = Vec::new();
    let mut say = |step: &str, ok: bool, detail: String| {
        checks.push(Check { step: step.into(), ok, detail, ext: Vec::new() });
    };
    let asked = match zone {
        None => api.domains().map(|_| None),
        Some(zone) => probe(api, zone).map(Some),
    };
    let probed = match asked {
        Ok(probed) => {
            say("reach", true, "The server answers.".into());
            say("auth", true, "The credentials are accepted.".into());
            probed
        }
        Err(problem) => {
            let step = match problem.code.as_str() {
                "resolve" => "dns",
                "tls" => "tls",
                "zone-not-found" | "zone-name" => "zone",
                "credentials" | "privilege" | "address-not-allowed" | "user-not-found" | "unknown-slot" => "auth",
                _ => "reach",
            };
            if problem.provider_code.is_some() || step == "zone" {
                say("reach", true, "The server answers.".into());
            }
            if step == "zone" {
                say("auth", true, "The credentials are accepted.".into());
            }
            say(step, false, problem.message);
            return checks;
        }
    };
    let Some(Probed { info, .. }) = probed else { return checks };
    if !info.writable {
        let why = match ext_get(&info.ext, "source") {
            Some(source) => format!("is a copy of the one on {source}: write to that server instead"),
            None => "is suspended in HestiaCP: unsuspend it there".to_owned(),
        };
        say("zone", false, format!("The zone {} {why}.", info.zone.name));
        return checks;
    }
    say("zone", true, format!("The zone {} is there.", info.zone.name));
    if let Err(problem) = api.records(&info.zone) {
        say("read", false, problem.message);
        return checks;
    }
    say("read", true, "Records can be read.".into());
    if try_write {
        match trial(api, &info.zone, nonce) {
            Ok(()) => say("write", true, "A trial record was written and removed.".into()),
            Err(message) => say("write", false, message),
        }
    }
    checks
}

/// Writes a record of its own and takes it away.
fn trial<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, nonce: &str) -> Result<(), String> {
    let text = "\"trial\"";
    let mut write = |edit: Edit| {
        let name = format!("_wharf-{nonce}.{}", zone.name);
        let (rtype, ttl) = ("TXT".into(), Some(60));
        let change = Change { id: 1, name, rtype, ttl, edit, expect: None, owner: None, ext: Vec::new() };
        let report = apply(api, zone, &[change])?;
        match report.outcomes.into_iter().next() {
            Some((_, Outcome::Applied(_) | Outcome::Unchanged(_))) => Ok(()),
            Some((_, Outcome::Failed(problem))) => Err(problem),
            _ => Err(Problem::retry("no-time", "There was no time to write the trial record.")),
        }
    };
    match write(Edit::AddValues(vec![Value::new(text)])) {
        // Taken away where it may be there: a write without an answer may have happened.
        Err(problem) if problem.action != ProblemAction::Verify => Err(problem.message),
        wrote => {
            let removed = write(Edit::RemoveValues(vec![text.into()]));
            wrote.and(removed).map_err(|problem| problem.message)
        }
    }
}
