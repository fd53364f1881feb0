//! What the provider does, over any transport.

use std::collections::BTreeMap;

use wharf_sdk::batch::Work;
use wharf_sdk::dns::prelude::*;

use crate::api::{Action, Api, Listed, Pages, Row, Write};
use crate::normal::{HetznerForms, TYPES, capabilities};

/// Above so many names the first page of the whole zone says whether all of it is cheaper than a look at each.
const SINGLE_LOOKS: usize = 20;
/// Requests of one call, of the 200 that the host allows, less what the looks at the end need.
const REQUESTS: u32 = 190;
/// How often a change that another one has to wait for is asked for, one right after the other.
const POLLS: u32 = 5;
/// The same for the trial record of a connection test, which has to be gone at the end.
const TRIAL_POLLS: u32 = 20;

/// Finds the zone.
pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {
    let found = api.zone(zone)?;
    let ttls = HetznerForms.ttls();
    let info = ZoneInfo {
        zone: found.to_ref(),
        writable: found.writable(),
        serial: None,
        ttl_min: Some(ttls.min),
        ttl_max: Some(ttls.max),
        ttl_default: found.ttl,
        records_used: found.record_count,
        records_max: None,
        ext: ext([("mode", found.mode)]),
    };
    Ok(Probed { info, can: capabilities() })
}

/// All zones of the project. A list that may lack some is no list.
pub fn zones<T: Transport>(api: &mut Api<T>, stop: impl Fn() -> bool) -> Result<Vec<ZoneRef>, Problem> {
    let Pages { items, complete } = api.zones(stop)?;
    if complete { Ok(items.iter().map(|zone| zone.to_ref()).collect()) } else { Err(unsteady()) }
}

fn unsteady() -> Problem {
    Problem::retry("unsteady-list", "The list changed while it was read, or took too long: nothing was written.")
}

fn relative(zone: &str, name: &str) -> String {
    names::relative(name, zone).unwrap_or_else(|| name.to_owned())
}

fn absolute(zone: &str, name: &str) -> String {
    let whole = if name == "@" { zone.to_owned() } else { format!("{name}.{zone}") };
    names::canonical(&whole).unwrap_or(whole)
}

/// Name and type.
type Key = (String, String);

/// What stands in the zone, with the comments of values.
#[derive(Default)]
struct There {
    sets: Vec<Set>,
    comments: BTreeMap<(Key, String), String>,
}

impl There {
    fn of(zone: &str, listed: Vec<Listed>) -> Self {
        let mut there = Self::default();
        for Listed { name, rtype, ttl, records } in listed {
            let name = absolute(zone, &name);
            let key = (name.clone(), rtype.clone());
            for row in &records {
                if let Some(comment) = row.comment.clone().filter(|c| !c.is_empty()) {
                    there.comments.insert((key.clone(), row.value.clone()), comment);
                }
            }
            let held = records.into_iter().map(|row| Held { data: row.value, ttl, ..Held::default() }).collect();
            there.sets.push(Set { name, rtype, held });
        }
        there
    }

    fn row(&self, work: &Work, held: &Held) -> Row {
        let comment = self.comments.get(&(key_of(work), held.data.clone())).cloned();
        Row { value: held.data.clone(), comment }
    }
}

fn key_of(work: &Work) -> Key {
    (work.name.clone(), work.rtype.clone())
}

/// What stands under these names, and whether that is all of it.
fn present<T: Transport>(
    api: &mut Api<T>,
    zone: &str,
    wanted: &[String],
    stop: &impl Fn() -> bool,
) -> Result<(There, bool), Problem> {
    if wanted.len() > SINGLE_LOOKS {
        let dear = |pages: u64| pages > wanted.len() as u64;
        let Pages { mut items, complete } = api.sets(dear, stop)?;
        if complete {
            let wanted: Vec<String> = wanted.iter().map(|name| relative(zone, name)).collect();
            items.retain(|set| wanted.contains(&set.name));
            return Ok((There::of(zone, items), true));
        }
        if stop() {
            return Ok((There::default(), false));
        }
    }
    let (mut all, mut is_all) = (Vec::new(), true);
    for (at, name) in wanted.iter().enumerate() {
        if at > 0 && stop() {
            return Ok((There::of(zone, all), false));
        }
        let Pages { items, complete } = api.sets_of(&relative(zone, name), stop)?;
        all.extend(items);
        is_all &= complete;
    }
    Ok((There::of(zone, all), is_all))
}

/// Reads, page by page. What changed meanwhile, or was left off for time, is told as incomplete.
pub fn read<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    what: &Selector,
    stop: impl Fn() -> bool,
) -> Result<Snapshot, Problem> {
    let (There { mut sets, .. }, complete) = match what {
        Selector::Keys(keys) => {
            let mut wanted: Vec<String> = keys.iter().filter_map(|(name, _)| names::canonical(name).ok()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            present(api, &zone.name, &wanted, &stop)?
        }
        Selector::All | Selector::Below(_) => {
            let Pages { items, complete } = api.sets(|_| false, stop)?;
            (There::of(&zone.name, items), complete)
        }
    };
    match what {
        Selector::All => {}
        Selector::Below(name) => sets.retain(|s| names::is_within(&s.name, name)),
        Selector::Keys(keys) => {
            let asked: Vec<_> = keys.iter().map(|(n, t)| (names::labels(n), t.to_ascii_uppercase())).collect();
            sets.retain(|s| asked.contains(&(names::labels(&s.name), s.rtype.clone())));
        }
    }
    let rrsets = sets.iter().filter_map(Set::rrset).collect();
    Ok(Snapshot { rrsets, complete, version: None, calls: api.calls, ext: Vec::new() })
}

/// What has to be sent for a set, in order. Values come and go by themselves; where one takes the place of another the set is
/// written whole, so that there is no moment without it.
fn steps(there: &There, work: &Work) -> Vec<Write> {
    let rows = |held: &mut dyn Iterator<Item = &Held>| held.map(|h| there.row(work, h)).collect::<Vec<_>>();
    let (come, gone) = (rows(&mut work.come()), rows(&mut work.gone()));
    if work.before.is_empty() {
        return vec![Write::Create { ttl: work.ttl(), rows: come }];
    }
    let mut steps = Vec::new();
    match (come.is_empty(), gone.is_empty()) {
        (false, false) => steps.push(Write::Set(rows(&mut work.now.iter()))),
        (false, true) => steps.push(Write::Add(come)),
        (true, false) => steps.push(Write::Remove(gone)),
        (true, true) => {}
    }
    if !work.now.is_empty() && work.before.first().is_some_and(|held| held.ttl != work.ttl()) {
        steps.push(Write::Retime(work.ttl()));
    }
    steps
}

/// An operation's id: what to ask for, and the set to look at when it is done.
fn operation(action: &Action, (name, rtype): &Key) -> String {
    format!("{} {rtype} {name}", action.id)
}

/// Asks for an action, so many times at most, without a pause.
fn settled<T: Transport>(api: &mut Api<T>, mut action: Action, polls: u32) -> Result<Action, Problem> {
    for _ in 0..polls {
        if !action.is_running() {
            break;
        }
        action = api.action(action.id)?;
    }
    Ok(action)
}

/// Applies a batch: looks, compares, and hands over what differs, set by set. `stop` says that nobody waits any more.
pub fn apply<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    changes: &[Change],
    stop: impl Fn() -> bool,
) -> Result<Report, Problem> {
    let changes: Vec<Change> = changes.iter().map(|change| forms::as_stored(&HetznerForms, change)).collect();
    let ttls = HetznerForms.ttls();
    let report = |outcomes, calls| Report { outcomes, version: None, calls, ext: Vec::new() };
    // Refuses doubled ids before any request.
    Batch::new(&zone.name, &[], &changes, &ttls)?;
    let wanted = batch::names_of(&zone.name, &changes);
    let (there, complete) = present(api, &zone.name, &wanted, &stop)?;
    if !complete {
        if stop() {
            return Ok(report(changes.iter().map(|c| (c.id, Outcome::NotAttempted)).collect(), api.calls));
        }
        return Err(unsteady());
    }
    let batch = Batch::new(&zone.name, &there.sets, &changes, &ttls)?;
    let fates =
        Run { api: &mut *api, zone: &zone.name, there: &there, fates: BTreeMap::new() }.all(batch.changed(), &stop);
    let is_stale =
        |fate: &Fate| matches!(fate, Fate::Failed(p) if p.action == ProblemAction::Replan && p.code == "changed");
    let fate = |work: &Work| fates.get(&key_of(work)).cloned().unwrap_or(Fate::NotAttempted);
    if fates.values().any(is_stale)
        && !stop()
        && let Ok((there, true)) = present(api, &zone.name, &wanted, &stop)
        && let Some(outcomes) = batch::look_again(&zone.name, &there.sets, &changes, &ttls, fate)
    {
        return Ok(report(outcomes, api.calls));
    }
    Ok(report(batch.outcomes(fate), api.calls))
}

struct Run<'r, 't, T: Transport> {
    api: &'r mut Api<'t, T>,
    zone: &'r str,
    there: &'r There,
    fates: BTreeMap<Key, Fate>,
}

impl<T: Transport> Run<'_, '_, T> {
    /// What became of each set. What can't be written is told before anything is sent.
    fn all(mut self, mut works: Vec<&Work>, stop: &impl Fn() -> bool) -> BTreeMap<Key, Fate> {
        works.retain(|work| match forms::refusal(&HetznerForms, &TYPES, self.zone, work) {
            Some(problem) => {
                self.fates.insert(key_of(work), Fate::Failed(problem));
                false
            }
            None => true,
        });
        let clashes = batch::all_in_the_way(&works, &self.there.sets, |_| true);
        self.fates.extend(clashes.into_iter().map(|(work, problem)| (key_of(work), Fate::Failed(problem))));
        works.retain(|work| !self.fates.contains_key(&key_of(work)));
        // Of the name at hand: what it must wait for.
        let mut running: Vec<(String, Action)> = Vec::new();
        let mut sent = 0;
        for work in works {
            let steps = steps(self.there, work);
            let needed = POLLS + u32::try_from(steps.len()).unwrap_or(u32::MAX);
            if stop() || self.api.calls.saturating_add(needed) > REQUESTS {
                break;
            }
            if let Some(at) = running.iter().position(|(name, _)| *name == work.name) {
                let (_, action) = running.swap_remove(at);
                match settled(self.api, action, POLLS) {
                    // Its outcome is told by its own poll; a type that should have made room may not have.
                    Ok(action) if !action.is_running() && action.done().is_ok() => {}
                    _ => continue,
                }
            }
            match self.write(work, &steps) {
                Ok((action, fate)) => {
                    sent += 1;
                    if action.is_running() {
                        running.push((work.name.clone(), action));
                    }
                    self.fates.insert(key_of(work), fate);
                }
                // What was handed over before holds the lock: the rest has its turn when that is done.
                Err(problem) if problem.code == "locked" && sent > 0 => break,
                Err(problem) => {
                    let goes_on = matches!(problem.action, ProblemAction::FixInput | ProblemAction::Replan);
                    self.fates.insert(key_of(work), Fate::Failed(problem));
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        self.look();
        self.fates
    }

    /// Most of what was handed over is done while the rest is: one question for many of them saves as many polls. What it does
    /// not tell is polled.
    fn look(&mut self) {
        let id = |fate: &Fate| match fate {
            Fate::Accepted(operation) => operation.split(' ').next()?.parse::<u64>().ok(),
            _ => None,
        };
        let ids: Vec<u64> = self.fates.values().filter_map(id).collect();
        let Ok(actions) = self.api.actions(&ids) else { return };
        for fate in self.fates.values_mut() {
            let Some(action) = id(fate).and_then(|id| actions.iter().find(|action| action.id == id)) else { continue };
            match action.done() {
                Ok(()) if action.is_running() => {}
                Ok(()) => *fate = Fate::Written,
                Err(problem) => *fate = Fate::Failed(problem),
            }
        }
    }

    fn write(&mut self, work: &Work, steps: &[Write]) -> Result<(Action, Fate), Problem> {
        let (name, key) = (relative(self.zone, &work.name), key_of(work));
        let mut last: Option<Action> = None;
        for step in steps {
            // A set that is being changed is locked.
            if let Some(action) = last.take() {
                let action = settled(self.api, action, POLLS)?;
                if action.is_running() {
                    let text = "The values are being written; the TTL has its turn after them.";
                    return Ok((action, Fate::Failed(Problem::replan("partly-done", text))));
                }
                action.done()?;
            }
            let is_first = last.is_none() && Some(step) == steps.first();
            let action = self.api.write(&name, &work.rtype, step).map_err(|problem| match problem.action {
                // `retry` promises that nothing was written, and a part of this set was.
                ProblemAction::Retry if !is_first => {
                    Problem { action: ProblemAction::Replan, code: "partly-done".into(), ..problem }
                }
                _ => problem,
            })?;
            action.done()?;
            last = Some(action);
        }
        let action = last.ok_or_else(|| Problem::report_bug("no-steps", "A set that differs needs no write."))?;
        let fate = if action.is_running() { Fate::Accepted(operation(&action, &key)) } else { Fate::Written };
        Ok((action, fate))
    }
}

/// What became of a change that was taken on.
pub fn poll<T: Transport>(api: &mut Api<T>, zone: &ZoneRef, asked: &str) -> Result<Outcome, Problem> {
    let mut parts = asked.splitn(3, ' ');
    let id = parts.next().and_then(|id| id.parse::<u64>().ok());
    let (Some(id), Some(rtype), Some(name)) = (id, parts.next(), parts.next()) else {
        return Err(Problem::report_bug("unknown-operation", format!("`{asked}` is no operation of this provider.")));
    };
    let action = api.action(id)?;
    if action.is_running() {
        return Ok(Outcome::Accepted(asked.to_owned()));
    }
    if let Err(problem) = action.done() {
        return Ok(Outcome::Failed(problem));
    }
    let Pages { items, .. } = api.sets_of(&relative(&zone.name, name), || false)?;
    let there = There::of(&zone.name, items);
    let found = there.sets.iter().find(|set| set.rtype == rtype).and_then(Set::rrset);
    // Gone with its last value.
    let empty = || Rrset {
        name: name.to_owned(),
        rtype: rtype.to_owned(),
        ttl: None,
        values: Vec::new(),
        owner: None,
        version: None,
        ext: Vec::new(),
    };
    Ok(Outcome::Applied(found.unwrap_or_else(empty)))
}

/// Tells reachability, credentials and zone apart. `nonce` makes the name of the trial record unique.
pub fn test<T: Transport>(
    api: &mut Api<T>,
    zone: Option<&str>,
    try_write: bool,
    nonce: &str,
    stop: impl Fn() -> bool,
) -> Vec<Check> {
    const WHO: &str = "Hetzner";
    const CREDENTIALS: &str = "The API token is";
    let mut checks = Checks::default();
    let found = match zone {
        Some(zone) => api.zone(zone).map(Some),
        None => zones(api, &stop).map(|_| None),
    };
    let found = match found {
        Ok(found) => found,
        Err(problem) => {
            checks.turned_away(WHO, CREDENTIALS, &[], problem);
            return checks.done();
        }
    };
    checks.let_in(WHO, CREDENTIALS);
    let Some(found) = found else { return checks.done() };
    if !found.writable() {
        checks.bad("zone", format!("The zone {} is a copy at Hetzner: write to its primary instead.", found.name));
        return checks.done();
    }
    checks.good("zone", format!("The zone {} is there.", found.name));
    if let Err(problem) = api.sets_of("@", &stop) {
        checks.bad("read", problem.message);
        return checks.done();
    }
    checks.good("read", "Records can be read.");
    if try_write {
        let zone = found.to_ref();
        checks.trial(&zone, nonce, |change| {
            let mut report = apply(api, &zone, &[change], &stop)?;
            for (_, outcome) in &mut report.outcomes {
                for _ in 0..TRIAL_POLLS {
                    let Outcome::Accepted(operation) = outcome else { break };
                    let operation = operation.clone();
                    *outcome = poll(api, &zone, &operation)?;
                }
            }
            Ok(report)
        });
    }
    checks.done()
}
