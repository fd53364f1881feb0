//! An honest provider of the plain API, by records with ids, in pages. Its setting `mutation` names a case of the conformance
//! kit, and then it breaks just that: where the code asks `breaks(n)`, the answer that an honest one gives is no.

mod api;

use api::{Api, Record};
use wharf_sdk::dns::prelude::*;

/// As the API has it.
const TTLS: Ttls = Ttls { default: None, min: 60, max: 86_400 };
const TYPES: [&str; 5] = ["A", "AAAA", "CNAME", "PTR", "TXT"];
/// Of the requests that the host allows in one call, those that are used.
const REQUESTS: u32 = 150;
/// Time that is left for the report.
const REPORT_MS: u32 = 1_000;
/// Above so many names one look at the whole zone is cheaper.
const SINGLE_LOOKS: usize = 5;

struct Plugin;

fn can() -> Capabilities {
    Capabilities {
        types: TYPES.map(String::from).to_vec(),
        max_values: 0,
        max_changes: 1_000,
        atomic: false,
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
    }
}

/// How it would be stored, and why so.
fn stored(can: &Capabilities, zone: &str, set: &Rrset) -> Result<(Rrset, Vec<String>), Problem> {
    let name = names::canonical(&set.name).map_err(|e| Problem::fix_input("name", e.to_string()))?;
    if !names::is_within(&name, zone) {
        return Err(Problem::fix_input("out-of-zone", format!("{name} is not in the zone {zone}")));
    }
    if !can.types.contains(&set.rtype) {
        return Err(Problem::fix_input("type", format!("Records of type {} are not written here.", set.rtype)));
    }
    let mut reasons = Vec::new();
    if name != set.name {
        reasons.push("the name is stored in lower case with a final dot".to_owned());
    }
    let ttl = TTLS.fit(set.ttl);
    if ttl != set.ttl {
        reasons.push("a TTL is 60 to 86,400 seconds".to_owned());
    }
    let mut values = Vec::new();
    for value in &set.values {
        let data =
            names::canonical_data(&set.rtype, &value.data).map_err(|e| Problem::fix_input("value", e.to_string()))?;
        if data != value.data {
            reasons.push(format!("{} is stored as {data}", value.data));
        }
        values.push(Value { data, ..value.clone() });
    }
    Ok((Rrset { name, ttl, values, ..set.clone() }, reasons))
}

/// Records by name and type.
fn sets(records: &[Record], apart: bool) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for r in records {
        let held = Held { id: Some(r.id.clone()), data: r.data.clone(), ttl: r.ttl, hidden: r.disabled };
        match sets.iter_mut().find(|s| !apart && s.name == r.name && s.rtype == r.rtype) {
            Some(set) => set.held.push(held),
            None => sets.push(Set { name: r.name.clone(), rtype: r.rtype.clone(), held: vec![held] }),
        }
    }
    sets
}

/// What stands under the names of a batch.
fn present(api: &mut Api, zone: &ZoneRef, names: &[String]) -> Result<Vec<Set>, Problem> {
    let mut records = Vec::new();
    if names.len() > SINGLE_LOOKS {
        records = whole(api, zone, None)?;
    } else {
        for name in names {
            records.extend(whole(api, zone, Some(name))?);
        }
    }
    Ok(sets(&records, false))
}

/// All records, or none: from a part nothing is concluded.
fn whole(api: &mut Api, zone: &ZoneRef, name: Option<&str>) -> Result<Vec<Record>, Problem> {
    let listed = api.records(&zone.id, name)?;
    if listed.whole { Ok(listed.all) } else { Err(Problem::retry("moving", "The zone changed while it was read.")) }
}

/// Takes away what was not there before and is not its own.
fn tidy(api: &mut Api, zone: &ZoneRef, known: &[Record], own: &[Change]) -> Result<(), Problem> {
    for record in api.records(&zone.id, None)?.all {
        if !known.iter().any(|k| k.id == record.id) && !own.iter().any(|c| c.name == record.name) {
            api.delete(&zone.id, &record.id)?;
        }
    }
    Ok(())
}

/// Writes one set's differences.
fn write(api: &mut Api, zone: &ZoneRef, work: &batch::Work) -> Result<(), Problem> {
    let mut gone: Vec<String> = work.gone().filter_map(|h| h.id.clone()).collect();
    if api.breaks(16) && !gone.is_empty() {
        gone = work.before.iter().filter_map(|h| h.id.clone()).collect();
    }
    if api.breaks(17) && work.now.is_empty() {
        gone.clear();
    }
    if api.breaks(15) {
        gone.extend(
            work.before.iter().filter(|h| work.come().next().is_some() && !h.hidden).filter_map(|h| h.id.clone()),
        );
    }
    if api.breaks(38) && work.come().next().is_some() {
        gone.clear();
    }
    for id in gone {
        api.delete(&zone.id, &id)?;
    }
    for held in work.retimed() {
        if let Some(id) = &held.id {
            api.retime(&zone.id, id, held.ttl)?;
        }
    }
    for held in work.come() {
        let ttl = if api.breaks(44) { held.ttl.map(|t| t.max(120)) } else { held.ttl };
        api.add(&zone.id, &work.name, &work.rtype, &held.data, ttl)?;
    }
    Ok(())
}

fn apply(call: &Call, api: &mut Api, zone: &ZoneRef, changes: &[Change]) -> Result<Report, Problem> {
    let ids: Vec<u32> = changes.iter().map(|c| c.id).collect();
    let mut changes = changes.to_vec();
    if api.breaks(37) {
        for (n, change) in changes.iter_mut().enumerate() {
            change.id = u32::try_from(n).unwrap_or(u32::MAX);
        }
    }
    if api.breaks(18) {
        changes.iter_mut().for_each(|c| c.expect = None);
    }
    if api.breaks(32) {
        changes.truncate(1_000);
    }
    for change in &changes {
        if !TYPES.contains(&change.rtype.as_str()) {
            return Err(Problem::fix_input("type", format!("Records of type {} are not written here.", change.rtype)));
        }
    }
    let before_all = if api.breaks(51) { Some(whole(api, zone, None)?) } else { None };
    let mut there =
        if api.breaks(25) { Vec::new() } else { present(api, zone, &batch::names_of(&zone.name, &changes))? };
    if api.breaks(27) {
        // From when the zone was probed.
        let known = call.learnt("ids").unwrap_or_default();
        for held in there.iter_mut().flat_map(|s| &mut s.held) {
            held.id = known.lines().find_map(|l| l.strip_suffix(&format!(" {}", held.data))).map(str::to_owned);
        }
        for line in known.lines() {
            let (Some((id, data)), Some(change)) = (line.split_once(' '), changes.first()) else { continue };
            let held = Held { id: Some(id.to_owned()), data: data.to_owned(), ttl: None, hidden: false };
            there.push(Set { name: change.name.clone(), rtype: change.rtype.clone(), held: vec![held] });
        }
    }
    let plan = Batch::new(&zone.name, &there, &changes, &TTLS)?;
    let mut fates: Vec<(String, String, Fate)> = Vec::new();
    let mut works = plan.changed();
    if api.breaks(29) {
        works.reverse();
    }
    let total = u32::try_from(works.len()).unwrap_or(u32::MAX);
    let mut failed = false;
    for (n, work) in works.into_iter().enumerate() {
        let needed = u32::try_from(work.before.len() + work.now.len()).unwrap_or(u32::MAX);
        let late = call.deadline_ms() < REPORT_MS;
        // Time would end the call in a trap, or the last request in an error just before: this is always the trap.
        assert!(!(late && api.breaks(34)), "time has run out in the middle of the batch");
        let dear = api.calls.saturating_add(needed) > REQUESTS && api.calls > 20 && !api.breaks(53);
        let stop = late || dear || (call.cancelled() && !api.breaks(35));
        let fate = match if stop { None } else { Some(write(api, zone, work)) } {
            None => Fate::NotAttempted,
            Some(Ok(())) if api.actions.is_empty() => Fate::Written,
            Some(Ok(())) => {
                let actions = std::mem::take(&mut api.actions).join(",");
                Fate::Accepted(format!("{} {} {actions}", work.name, work.rtype))
            }
            Some(Err(problem)) => {
                failed = true;
                Fate::Failed(problem)
            }
        };
        fates.push((work.name.clone(), work.rtype.clone(), fate));
        call.progress(u32::try_from(n + 1).unwrap_or(u32::MAX), total);
        // What is refused to one is refused to all: the next would only ask again.
        if matches!(fates.last(), Some((_, _, Fate::Failed(p))) if !matches!(p.action, ProblemAction::FixInput | ProblemAction::Replan))
        {
            break;
        }
    }
    let lie = api.breaks(31) && failed || api.breaks(33);
    let touched = plan.outcomes(|work| {
        let own = fates.iter().find(|(name, rtype, _)| *name == work.name && *rtype == work.rtype);
        if lie { Fate::Written } else { own.map_or(Fate::NotAttempted, |(_, _, fate)| fate.clone()) }
    });
    let mut outcomes = touched;
    if api.breaks(37) {
        outcomes = ids.iter().zip(outcomes).map(|(id, (_, outcome))| (*id, outcome)).collect();
    }
    if api.breaks(32) {
        let made_up = |id: &u32| {
            (
                *id,
                Outcome::Applied(Rrset {
                    name: String::new(),
                    rtype: String::new(),
                    ttl: None,
                    values: Vec::new(),
                    owner: None,
                    version: None,
                    ext: Vec::new(),
                }),
            )
        };
        outcomes.extend(ids.iter().skip(1_000).map(made_up));
    }
    if api.breaks(51) {
        let known = before_all.unwrap_or_default();
        tidy(api, zone, &known, &changes)?;
    }
    if api.breaks(14) && total == 0 {
        // Once more, for good measure.
        for record in there.iter().flat_map(|s| &s.held) {
            if let Some(id) = &record.id {
                api.retime(&zone.id, id, record.ttl)?;
            }
        }
    }
    Ok(Report { outcomes, version: None, calls: api.calls, ext: Vec::new() })
}

fn test(call: &Call, zone: Option<&str>, try_write: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut say =
        |step: &str, ok: bool, detail: String| checks.push(Check { step: step.into(), ok, detail, ext: Vec::new() });
    let mut api = match Api::new(call) {
        Ok(api) => api,
        Err(problem) => {
            say("reach", false, problem.message);
            return checks;
        }
    };
    let found = match zone {
        Some(name) => api.zone(name).map(Some),
        None => api.zones().map(|_| None),
    };
    match found {
        Err(problem) => {
            let step = match problem.code.as_str() {
                "resolve" if !api.breaks(52) => "dns",
                "tls" => "tls",
                "credentials" => "auth",
                "zone-not-found" => "zone",
                _ => "reach",
            };
            say(step, false, problem.message);
        }
        Ok(None) => say("auth", true, "The token is accepted.".into()),
        Ok(Some(zone)) => {
            say("auth", true, "The token is accepted.".into());
            say("zone", zone.writable, format!("The zone {} is there.", zone.name));
            if try_write {
                let nonce: String = entropy::fresh(6).iter().map(|b| format!("{b:02x}")).collect();
                let (name, text) = (format!("_wharf-{nonce}.{}", zone.name), "\"trial\"");
                let wrote = api.add(&zone.id, &name, "TXT", text, None);
                let removed = api.records(&zone.id, Some(&name)).and_then(|listed| {
                    listed
                        .all
                        .iter()
                        .filter(|r| r.name == name && r.data == text)
                        .try_for_each(|r| api.delete(&zone.id, &r.id))
                });
                match wrote.and(removed) {
                    Ok(()) => say("write", true, "A trial record was written and removed.".into()),
                    Err(problem) => say("write", false, problem.message),
                }
            }
        }
    }
    checks
}

impl Provider for Plugin {
    fn normalize(can: Capabilities, zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        let verdict = |set: Rrset| match stored(&can, &zone, &set) {
            Err(problem) => Verdict::Refused(problem),
            Ok((_, reasons)) if reasons.is_empty() => Verdict::Ok(set),
            Ok((other, reasons)) => Verdict::Adjusted((other, format!("{}.", reasons.join("; ")))),
        };
        let unsteady = ext_get(&can.ext, "mutation") == Some("1");
        sets.into_iter()
            .map(|set| match verdict(set) {
                Verdict::Adjusted((set, why)) if unsteady => {
                    Verdict::Adjusted((set, format!("{why} {:?}", entropy::fresh(4))))
                }
                other => other,
            })
            .collect()
    }

    fn probe(call: &Call, zone: Name) -> Result<Probed, Problem> {
        let mut api = Api::new(call)?;
        let found = api.zone(&zone)?;
        if api.breaks(3) {
            for other in api.zones()?.all {
                api.records(&other.id, None)?;
            }
        }
        let mut learnt = Vec::new();
        if api.breaks(27) {
            let known: Vec<String> =
                api.records(&found.id, None)?.all.iter().map(|r| format!("{} {}", r.id, r.data)).collect();
            learnt = ext([("ids", known.join("\n"))]);
        }
        let mut can = can();
        can.atomic = api.breaks(30);
        can.asynchronous = call.config("slow").as_deref() == Some("true");
        can.ext = if api.breaks(1) { ext([("mutation", "1")]) } else { Vec::new() };
        let info = ZoneInfo {
            zone: ZoneRef { id: found.id, name: found.name },
            writable: found.writable || api.breaks(49),
            serial: None,
            ttl_min: Some(TTLS.min),
            ttl_max: Some(TTLS.max),
            ttl_default: None,
            records_used: None,
            records_max: None,
            ext: learnt,
        };
        Ok(Probed { info, can })
    }

    fn test_connection(call: &Call, zone: Option<Name>, try_write: bool) -> Vec<Check> {
        test(call, zone.as_deref(), try_write)
    }

    fn list_zones(call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        let listed = Api::new(call)?.zones()?;
        Ok(listed.all.into_iter().map(|z| ZoneRef { id: z.id, name: z.name }).collect())
    }

    fn read(call: &Call, zone: ZoneRef, what: Selector) -> Result<Snapshot, Problem> {
        let mut api = Api::new(call)?;
        let (mut records, mut complete) = (Vec::new(), true);
        let mut take = |api: &mut Api, name: Option<&str>| -> Result<(), Problem> {
            let listed = api.records(&zone.id, name)?;
            complete &= listed.whole;
            records.extend(listed.all);
            Ok(())
        };
        match &what {
            Selector::Keys(keys) if keys.len() <= SINGLE_LOOKS => {
                for (name, _) in keys {
                    take(&mut api, Some(name))?;
                }
            }
            _ => take(&mut api, None)?,
        }
        let wanted = |r: &Record| match &what {
            Selector::All => true,
            Selector::Below(name) => names::is_within(&r.name, name),
            Selector::Keys(keys) => keys.iter().any(|(n, t)| *n == r.name && *t == r.rtype),
        };
        records.retain(wanted);
        let mut rrsets: Vec<Rrset> = sets(&records, api.breaks(11)).iter().filter_map(Set::rrset).collect();
        if api.breaks(13) {
            for value in rrsets.iter_mut().filter(|s| s.rtype == "AAAA").flat_map(|s| &mut s.values) {
                value.data = value.data.to_uppercase();
            }
        }
        if api.breaks(42) {
            rrsets.iter_mut().for_each(|s| s.name = s.name.replace("xn--bcher-kva", "b\u{fc}cher"));
        }
        let calls = if api.breaks(12) { 1 } else { api.calls };
        Ok(Snapshot { rrsets, complete, version: None, calls, ext: Vec::new() })
    }

    fn apply(call: &Call, zone: ZoneRef, changes: Vec<Change>) -> Result<Report, Problem> {
        let mut api = Api::new(call)?;
        if api.breaks(39) && changes.iter().any(|c| c.name.len() > 72) {
            return Err(Problem::fix_input("name", "The name is too long."));
        }
        if api.breaks(45) && changes.iter().any(|c| c.rtype == "PTR") {
            let replaced = |c: Change| match c.edit {
                Edit::AddValues(values) => Change { edit: Edit::Replace(values), ..c },
                _ => c,
            };
            let changes: Vec<Change> = changes.into_iter().map(replaced).collect();
            return apply(call, &mut api, &zone, &changes);
        }
        apply(call, &mut api, &zone, &changes)
    }

    fn poll(call: &Call, zone: ZoneRef, operation: String) -> Result<Outcome, Problem> {
        let mut api = Api::new(call)?;
        let mut parts = operation.split(' ');
        let (Some(name), Some(rtype), Some(actions)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Problem::report_bug("operation", format!("There is no operation {operation}.")));
        };
        for action in actions.split(',') {
            if !api.done(action)? {
                return Ok(Outcome::Accepted(operation));
            }
        }
        let records: Vec<Record> =
            whole(&mut api, &zone, Some(name))?.into_iter().filter(|r| r.rtype == rtype).collect();
        let empty = || Set { name: name.to_owned(), rtype: rtype.to_owned(), held: Vec::new() };
        let set = sets(&records, false).into_iter().next().unwrap_or_else(empty);
        Ok(Outcome::Applied(set.rrset().unwrap_or_else(|| Rrset {
            name: set.name,
            rtype: set.rtype,
            ttl: None,
            values: Vec::new(),
            owner: None,
            version: None,
            ext: Vec::new(),
        })))
    }
}

wharf_sdk::export_dns_provider!(Plugin);
