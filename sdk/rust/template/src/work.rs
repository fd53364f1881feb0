//! What the provider does, over any transport.

use std::collections::BTreeMap;

use wharf_sdk::dns::prelude::*;

use crate::api::{Api, Record, Zone};

/// Types that the API takes. Others are read and left alone.
const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];
/// Above so many names one read of the whole zone is cheaper than a look at each.
const SINGLE_LOOKS: usize = 20;
const TTLS: Ttls = Ttls { default: Some(3_600), min: 60, max: 86_400 };

pub fn zone_ref(zone: Zone) -> ZoneRef {
    ZoneRef { name: dotted(&zone.name), id: zone.id }
}

pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {
    let wanted = names::labels(zone);
    let found = api.zones()?.into_iter().find(|z| names::labels(&z.name) == wanted);
    let found = found.ok_or_else(|| {
        Problem::fix_config("zone-not-found", format!("The account has no zone {zone} Create it, or remove it here."))
    })?;
    let info = ZoneInfo {
        zone: zone_ref(found),
        writable: true,
        serial: None,
        ttl_min: Some(TTLS.min),
        ttl_max: Some(TTLS.max),
        ttl_default: TTLS.default,
        records_used: None,
        records_max: None,
        ext: Vec::new(),
    };
    let can = Capabilities {
        types: TYPES.map(String::from).to_vec(),
        max_values: 0,
        max_changes: 50,
        atomic: false,
        // Records are written one by one, so neighbours are never touched.
        native_merge: true,
        conditional: false,
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        parallel_per_zone: 1,
        parallel_per_server: 1,
        asynchronous: false,
        reverse_only: false,
        ext: Vec::new(),
    };
    Ok(Probed { info, can })
}

pub fn check(step: &str, ok: bool, detail: impl Into<String>) -> Check {
    Check { step: step.into(), ok, detail: detail.into(), ext: Vec::new() }
}

/// What works, step by step, up to the first that does not.
pub fn test<T: Transport>(api: &mut Api<T>, zone: Option<&str>, try_write: bool, nonce: &str) -> Vec<Check> {
    let zones = match api.zones() {
        Ok(zones) => zones,
        Err(problem) => {
            // The first two are codes of the host (`wit/deps/http/http.wit`).
            let step = match problem.code.as_str() {
                "resolve" => "dns",
                "tls" => "tls",
                "credentials" => "auth",
                _ => "reach",
            };
            return vec![check(step, false, problem.message)];
        }
    };
    let mut checks = vec![check("auth", true, "The token is accepted.")];
    let Some(zone) = zone else { return checks };
    let Some(found) = zones.into_iter().find(|z| names::labels(&z.name) == names::labels(zone)) else {
        checks.push(check("zone", false, "The account has no such zone."));
        return checks;
    };
    checks.push(check("zone", true, "The zone is there."));
    if try_write {
        checks.push(match trial(api, &zone_ref(found), nonce) {
            Ok(()) => check("write", true, "A trial record was written and removed."),
            Err(problem) => check("write", false, problem.message),
        });
    }
    checks
}

/// Writes a record of our own and takes it away in any case: a write without an answer may have happened.
fn trial<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, nonce: &str) -> Result<(), Problem> {
    let name = format!("_wharf-{nonce}.{}", zone.name);
    let mut change = |edit: Edit| {
        let (name, rtype) = (name.clone(), "TXT".to_owned());
        let one = Change { id: 1, name, rtype, ttl: Some(60), edit, expect: None, owner: None, ext: Vec::new() };
        match apply(api, zone, &[one], || false)?.outcomes.into_iter().next() {
            Some((_, Outcome::Failed(problem))) => Err(problem),
            _ => Ok(()),
        }
    };
    let written = change(Edit::AddValues(vec![Value::new("\"trial\"")]));
    let removed = change(Edit::RemoveValues(vec!["\"trial\"".to_owned()]));
    written.and(removed)
}

pub fn read<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, what: &Selector) -> Result<Snapshot, Problem> {
    let keys = match what {
        Selector::Keys(keys) => keys.as_slice(),
        _ => &[],
    };
    let mut looked: Vec<String> = keys.iter().map(|(name, _)| name.clone()).collect();
    looked.sort();
    looked.dedup();
    let (sets, complete) = match what {
        Selector::Keys(_) => present(api, zone, &looked)?,
        _ => whole(api, zone)?,
    };
    let wanted = |set: &Set| match what {
        Selector::All => true,
        Selector::Below(name) => names::is_within(&set.name, name),
        Selector::Keys(keys) => keys
            .iter()
            .any(|(n, t)| set.rtype.eq_ignore_ascii_case(t) && names::labels(&set.name) == names::labels(n)),
    };
    let rrsets = sets.iter().filter(|set| wanted(set)).filter_map(Set::rrset).collect();
    Ok(Snapshot { rrsets, complete, version: None, calls: api.calls, ext: Vec::new() })
}

/// Looks, compares, and sends what differs. `stop` says that time is up or nobody waits any more.
pub fn apply<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    changes: &[Change],
    stop: impl Fn() -> bool,
) -> Result<Report, Problem> {
    let (sets, complete) = present(api, zone, &batch::names_of(&zone.name, changes))?;
    if !complete {
        return Err(Problem::retry("incomplete", "The zone changed while it was read, so nothing was written."));
    }
    let batch = Batch::new(&zone.name, &sets, changes, &TTLS)?;
    let mut fates: BTreeMap<(String, String), Fate> = BTreeMap::new();
    let mut ended = false;
    for work in batch.changed() {
        let fate = if ended || stop() {
            ended = true;
            Fate::NotAttempted
        } else {
            match write(api, zone, work) {
                Ok(()) => Fate::Written,
                Err(problem) => {
                    // What was refused hurts itself alone; everything else would hurt the next one too.
                    ended = problem.action != ProblemAction::FixInput;
                    Fate::Failed(problem)
                }
            }
        };
        fates.insert((work.name.clone(), work.rtype.clone()), fate);
    }
    let fate =
        |work: &batch::Work| fates.get(&(work.name.clone(), work.rtype.clone())).cloned().unwrap_or(Fate::NotAttempted);
    Ok(Report { outcomes: batch.outcomes(fate), version: None, calls: api.calls, ext: Vec::new() })
}

/// Writes one set, record by record: what goes first, so that a CNAME finds room.
fn write<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, work: &batch::Work) -> Result<(), Problem> {
    let mut written = 0;
    let mut done = |result: Result<(), Problem>| match result {
        Ok(()) => {
            written += 1;
            Ok(())
        }
        // `retry` promises that nothing was written, and a part of this set was.
        Err(problem) if written > 0 && problem.action == ProblemAction::Retry => {
            Err(Problem { action: ProblemAction::Verify, ..problem })
        }
        Err(problem) => Err(problem),
    };
    for held in work.gone() {
        done(api.delete(&zone.id, held.id.as_deref().unwrap_or_default()))?;
    }
    for held in work.retimed() {
        if let (Some(id), Some(ttl)) = (&held.id, held.ttl) {
            done(api.set_ttl(&zone.id, id, ttl))?;
        }
    }
    for held in work.come() {
        done(api.create(&zone.id, bare(&work.name), &work.rtype, &held.data, held.ttl))?;
    }
    Ok(())
}

/// What the API takes, for `normalize`. Refuse in `name` and `value` what it would refuse: then a plan shows it before anything
/// is sent.
pub struct ExampleForms;

impl Forms for ExampleForms {
    fn ttls(&self) -> Ttls {
        TTLS
    }
}

/// What stands under these names, and whether that is all of it.
fn present<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, wanted: &[String]) -> Result<(Vec<Set>, bool), Problem> {
    if wanted.len() > SINGLE_LOOKS {
        return whole(api, zone);
    }
    let (mut sets, mut complete) = (Vec::new(), true);
    for name in wanted {
        let list = api.records(&zone.id, Some(bare(name)))?;
        complete &= list.complete;
        sets.extend(grouped(list.records));
    }
    Ok((sets, complete))
}

fn whole<T: Transport>(api: &mut Api<T>, zone: &ZoneRef) -> Result<(Vec<Set>, bool), Problem> {
    let list = api.records(&zone.id, None)?;
    Ok((grouped(list.records), list.complete))
}

fn grouped(records: Vec<Record>) -> Vec<Set> {
    let mut sets: BTreeMap<(String, String), Set> = BTreeMap::new();
    for record in records {
        let name = dotted(&record.name);
        let set = sets.entry((name.clone(), record.rtype.clone())).or_insert_with(|| Set {
            name,
            rtype: record.rtype.clone(),
            held: Vec::new(),
        });
        set.held.push(Held { id: Some(record.id), data: record.data, ttl: Some(record.ttl), hidden: false });
    }
    sets.into_values().collect()
}

/// The API writes names without the final dot.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn dotted(name: &str) -> String {
    names::canonical(name).unwrap_or_else(|_| name.to_owned())
}
