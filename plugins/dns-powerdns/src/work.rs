//! What the provider does, over any transport.

use wharf_sdk::dns::prelude::*;

use crate::api::{Api, Set, has_merge};
use crate::normal::capabilities;
use crate::plan::{plan, visible};

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
    let sets: Vec<Set> = match what {
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
    let rrsets = sets.iter().filter_map(visible).collect();
    Ok(Snapshot { rrsets, complete: true, version: None, calls: api.calls, ext: Vec::new() })
}

/// What stands under these names, disabled values included. A filtered read of the zone hides those, and a REPLACE
/// made from it would delete them; so names are searched for, and where the server can't search the zone is read whole.
fn present<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, wanted: &[String]) -> Result<Vec<Set>, Problem> {
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
    batch: &[Change],
    stop: impl Fn() -> bool,
) -> Result<Report, Problem> {
    let mut ids: Vec<u32> = batch.iter().map(|c| c.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != batch.len() {
        return Err(Problem::report_bug("duplicate-change", "Two changes of the batch have the same id."));
    }
    let mut wanted: Vec<String> = batch.iter().filter_map(|c| names::canonical(&c.name).ok()).collect();
    wanted.retain(|name| names::is_within(name, &zone.name));
    wanted.sort_unstable();
    wanted.dedup();
    let sets = if wanted.is_empty() { Vec::new() } else { present(api, zone, &wanted)? };
    let plan = plan(&zone.name, &sets, batch);
    let report = |outcomes, calls| Report { outcomes, version: None, calls, ext: Vec::new() };
    if plan.patches(false).is_empty() {
        return Ok(report(plan.done(), api.calls));
    }
    let merge = plan.shared() && has_merge(&api.version()?);
    if stop() {
        return Ok(report(batch.iter().map(|c| (c.id, Outcome::NotAttempted)).collect(), api.calls));
    }
    match api.patch(&zone.id, &plan.patches(merge)) {
        Ok(()) => Ok(report(plan.done(), api.calls)),
        Err(problem) => Ok(report(plan.failed(&problem), api.calls)),
    }
}

/// Tells reachability, credentials and zone apart. `nonce` makes the name of the trial record unique.
pub fn test<T: Transport>(api: &mut Api<T>, zone: Option<&str>, try_write: bool, nonce: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut say = |step: &str, ok: bool, detail: String| {
        checks.push(Check { step: step.into(), ok, detail, ext: Vec::new() });
        ok
    };
    match api.version() {
        Ok(version) => {
            say("reach", true, "The server answers.".into());
            say("auth", true, format!("The API key is accepted; the server is PowerDNS {version}."));
        }
        Err(problem) => {
            if problem.http_status.is_some() {
                say("reach", true, "The server answers.".into());
            }
            let step = match problem.code.as_str() {
                "resolve" => "dns",
                "tls" => "tls",
                "credentials" => "auth",
                _ => "reach",
            };
            say(step, false, problem.message);
            return checks;
        }
    }
    let Some(zone) = zone else { return checks };
    let meta = match api.zone(zone) {
        Ok(meta) => meta,
        Err(problem) => {
            say("zone", false, problem.message);
            return checks;
        }
    };
    if meta.writable() {
        say("zone", true, format!("The zone {} is there, kind {}.", meta.name, meta.kind));
    } else {
        say(
            "zone",
            false,
            format!("The zone {} is a copy here (kind {}): write to its primary instead.", meta.name, meta.kind),
        );
        return checks;
    }
    let zone = ZoneRef { id: meta.id, name: meta.name };
    match api.one(&zone.id, &zone.name, "SOA") {
        Ok(_) => say("read", true, "Records can be read.".into()),
        Err(problem) => say("read", false, problem.message),
    };
    if try_write {
        let trial = |id: u32, edit: Edit| Change {
            id,
            name: format!("_wharf-{nonce}.{}", zone.name),
            rtype: "TXT".into(),
            ttl: Some(60),
            edit,
            expect: None,
            owner: None,
            ext: Vec::new(),
        };
        let mut write = |edit: Edit| match apply(api, &zone, &[trial(1, edit)], || false) {
            Err(problem) => Err(problem.message),
            Ok(report) => match report.outcomes.into_iter().next() {
                Some((_, Outcome::Applied(_) | Outcome::Unchanged(_))) => Ok(()),
                Some((_, Outcome::Failed(problem))) => Err(problem.message),
                _ => Err("The server said nothing of the trial record.".into()),
            },
        };
        let text = "\"trial\"";
        let wrote = write(Edit::AddValues(vec![Value::new(text)]));
        // Taken away in any case: a write without an answer may have happened.
        let removed = write(Edit::RemoveValues(vec![text.into()]));
        match wrote.and(removed) {
            Ok(()) => say("write", true, "A trial record was written and removed.".into()),
            Err(message) => say("write", false, message),
        };
    }
    checks
}
