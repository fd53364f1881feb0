//! What the provider does, over any transport.

use std::collections::BTreeMap;

use wharf_sdk::dns::prelude::*;

use crate::api::{Api, Door};
use crate::normal::{CPanelForms, capabilities, types};
use crate::zone::{Edits, Parsed};

/// Finds the zone.
pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {
    let parsed = api.parse(zone)?;
    let name = names::canonical(zone).map_err(|e| Problem::fix_input("zone-name", e.to_string()))?;
    let door = if api.door() == Door::Whm { "whm" } else { "cpanel" };
    let info = ZoneInfo {
        zone: ZoneRef { id: name.clone(), name },
        writable: true,
        serial: Some(parsed.serial),
        ttl_min: None,
        ttl_max: None,
        ttl_default: parsed.ttl,
        records_used: Some(parsed.records),
        records_max: None,
        ext: ext([("interface", door)]),
    };
    Ok(Probed { info, can: capabilities(api.door()) })
}

/// Reads. A zone comes in one answer, so what is read is complete, and its serial is the mark of its state.
pub fn read<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, what: &Selector) -> Result<Snapshot, Problem> {
    let Parsed { serial, mut sets, .. } = api.parse(&zone.name)?;
    match what {
        Selector::All => {}
        Selector::Below(name) => sets.retain(|s| names::is_within(&s.name, name)),
        Selector::Keys(keys) => {
            let wanted: Vec<_> = keys.iter().map(|(n, t)| (names::labels(n), t.to_ascii_uppercase())).collect();
            sets.retain(|s| wanted.contains(&(names::labels(&s.name), s.rtype.clone())));
        }
    }
    let rrsets = sets.iter().filter_map(Set::rrset).collect();
    Ok(Snapshot { rrsets, complete: true, version: Some(serial), calls: api.calls, ext: Vec::new() })
}

/// Applies a batch: looks, compares, and sends what differs in one request that holds for the serial of that look only. `stop`
/// says that nobody waits any more.
pub fn apply<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    changes: &[Change],
    stop: impl Fn() -> bool,
) -> Result<Report, Problem> {
    let changes: Vec<Change> = changes.iter().map(|change| forms::as_stored(&CPanelForms, change)).collect();
    let report = |outcomes, version, calls| Report { outcomes, version, calls, ext: Vec::new() };
    // Refuses doubled ids before any request; names of other zones are no reason to ask.
    let blind = Batch::new(&zone.name, &[], &changes, &CPanelForms.ttls())?;
    if batch::names_of(&zone.name, &changes).is_empty() {
        return Ok(report(blind.outcomes(|_| Fate::NotAttempted), None, api.calls));
    }
    let Parsed { serial, ttl, sets, .. } = api.parse(&zone.name)?;
    // A TTL that nobody asked for is the zone's.
    let ttls = CPanelForms.ttls();
    let ttls = Ttls { default: ttl.or(ttls.default), ..ttls };
    let batch = Batch::new(&zone.name, &sets, &changes, &ttls)?;
    let mut fates: BTreeMap<(String, String), Fate> = BTreeMap::new();
    let key = |work: &batch::Work| (work.name.clone(), work.rtype.clone());
    let mut version = Some(serial.clone());
    let works = batch.changed();
    // cPanel names a line of the file that would be, and not the change.
    if let Some((work, problem)) = batch::in_the_way(&works, &sets, |_| true) {
        fates.insert(key(work), Fate::Failed(problem));
    } else {
        let mut edits = Edits::default();
        let mut sent = Vec::new();
        for work in works {
            match forms::refusal(&CPanelForms, types(api.door()), &zone.name, work) {
                Some(problem) => {
                    fates.insert(key(work), Fate::Failed(problem));
                }
                None => {
                    edits.take(work);
                    sent.push(key(work));
                }
            }
        }
        if !edits.is_empty() && !stop() {
            let fate = match api.mass_edit(&zone.name, &serial, &edits) {
                Ok(new) => {
                    version = new;
                    Fate::Written
                }
                Err(problem) => Fate::Failed(problem),
            };
            fates.extend(sent.into_iter().map(|key| (key, fate.clone())));
        }
    }
    let outcomes = batch.outcomes(|work| fates.get(&key(work)).cloned().unwrap_or(Fate::NotAttempted));
    Ok(report(outcomes, version, api.calls))
}

/// Tells reachability, credentials and zone apart. `nonce` makes the name of the trial record unique.
pub fn test<T: Transport>(api: &mut Api<T>, zone: Option<&str>, try_write: bool, nonce: &str) -> Vec<Check> {
    const WHO: &str = "The server";
    const CREDENTIALS: &str = "The API token is";
    let mut checks = Checks::default();
    // A zone that was parsed was found and read.
    let found = match zone {
        None => api.zones().map(|_| None),
        Some(zone) => probe(api, zone).map(Some),
    };
    let probed = match found {
        Ok(probed) => probed,
        Err(problem) => {
            checks.turned_away(WHO, CREDENTIALS, &["privilege"], problem);
            return checks.done();
        }
    };
    checks.let_in(WHO, CREDENTIALS);
    let Some(Probed { info, .. }) = probed else { return checks.done() };
    checks.good("zone", format!("The zone {} is there.", info.zone.name));
    checks.good("read", "Records can be read.");
    if try_write {
        checks.trial(&info.zone, nonce, |change| apply(api, &info.zone, &[change], || false));
    }
    checks.done()
}
