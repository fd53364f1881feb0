//! What the provider does, over any transport.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use wharf_sdk::batch::Work;
use wharf_sdk::dns::prelude::*;

use crate::api::{Api, Filter, Listed, batch_body};
use crate::normal::{CloudflareForms, Plan, capabilities};
use crate::records::{Record, new_record, patch, retime, sets};

/// Above so many names one read of the whole zone is cheaper than a look at each.
const SINGLE_LOOKS: usize = 20;
/// What a request may carry is 1 MiB (`wit/deps/http/http.wit`).
const BODY_BYTES: usize = 900_000;

/// Finds the zone.
pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {
    let found = api.zone(zone)?;
    let used = api.count(&found.id)?.and_then(|n| u32::try_from(n).ok());
    let named = found.plan.as_ref().and_then(|p| p.legacy_id.clone()).unwrap_or_default();
    let plan = Plan::of(Some(&named));
    // A zone that has more was given more.
    let most = plan.records_max(found.created_on.as_deref()).filter(|most| used.is_none_or(|used| used <= *most));
    let ttls = CloudflareForms::from(plan).ttls();
    let info = ZoneInfo {
        zone: found.to_ref(),
        writable: found.writable(),
        serial: None,
        ttl_min: Some(ttls.min),
        ttl_max: Some(ttls.max),
        ttl_default: None,
        records_used: used,
        records_max: most,
        ext: ext([("plan", named), ("kind", found.kind.clone().unwrap_or_default())]),
    };
    Ok(Probed { info, can: capabilities(plan) })
}

/// All zones that the token reaches. A list that may lack some is no list.
pub fn zones<T: Transport>(api: &mut Api<T>, stop: impl Fn() -> bool) -> Result<Vec<ZoneRef>, Problem> {
    let Listed { items, complete } = api.zones(stop)?;
    if !complete {
        return Err(Problem::retry("unsteady-list", "The list of zones changed while it was read, or took too long."));
    }
    Ok(items.iter().map(|zone| zone.to_ref()).collect())
}

/// Reads, page by page. What changed meanwhile, or was left off for time, is told as incomplete.
pub fn read<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    what: &Selector,
    stop: impl Fn() -> bool,
) -> Result<Snapshot, Problem> {
    let (records, complete) = match what {
        Selector::All => whole(api, zone, Filter::All, &stop)?,
        Selector::Below(name) => {
            let (mut records, complete) = whole(api, zone, Filter::Ending(name), &stop)?;
            records.retain(|r| names::is_within(&r.name, name));
            (records, complete)
        }
        Selector::Keys(keys) => {
            let mut wanted: BTreeMap<Vec<String>, (&str, Vec<String>)> = BTreeMap::new();
            for (name, rtype) in keys {
                wanted.entry(names::labels(name)).or_insert((name, Vec::new())).1.push(rtype.to_ascii_uppercase());
            }
            let (mut records, complete) = if wanted.len() > SINGLE_LOOKS {
                whole(api, zone, Filter::All, &stop)?
            } else {
                let mut all = (Vec::new(), true);
                for (name, types) in wanted.values() {
                    // One type is asked for by itself; of several the name is.
                    let one = types.first().filter(|first| types.iter().all(|t| t == *first)).map(String::as_str);
                    let (found, complete) = if all.1 && stop() {
                        (Vec::new(), false)
                    } else {
                        whole(api, zone, Filter::Name(name, one), &stop)?
                    };
                    all.0.extend(found);
                    all.1 &= complete;
                    if !all.1 {
                        break;
                    }
                }
                all
            };
            // What was not asked for is left out, also where something in between ignores a filter.
            let asked =
                |r: &Record| wanted.get(&names::labels(&r.name)).is_some_and(|(_, types)| types.contains(&r.rtype));
            records.retain(asked);
            (records, complete)
        }
    };
    let rrsets = sets(&records).iter().filter_map(Set::rrset).collect();
    Ok(Snapshot { rrsets, complete, version: None, calls: api.calls, ext: Vec::new() })
}

fn whole<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    filter: Filter<'_>,
    stop: impl Fn() -> bool,
) -> Result<(Vec<Record>, bool), Problem> {
    let Listed { items, complete } = api.records(&zone.id, filter, stop)?;
    Ok((items, complete))
}

/// All that stands under these names, of any type: a CNAME is in the way of others. None if nobody waits any more.
fn present<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    wanted: &[String],
    stop: &impl Fn() -> bool,
) -> Result<Option<Vec<Set>>, Problem> {
    let mut records = Vec::new();
    let mut complete = true;
    if wanted.len() > SINGLE_LOOKS {
        (records, complete) = whole(api, zone, Filter::All, stop)?;
        let wanted: BTreeSet<Vec<String>> = wanted.iter().map(|name| names::labels(name)).collect();
        records.retain(|r| wanted.contains(&names::labels(&r.name)));
    } else {
        for (at, name) in wanted.iter().enumerate() {
            if at > 0 && stop() {
                return Ok(None);
            }
            let (found, all) = whole(api, zone, Filter::Name(name, None), stop)?;
            records.extend(found);
            complete &= all;
        }
    }
    if complete {
        return Ok(Some(sets(&records)));
    }
    if stop() {
        return Ok(None);
    }
    Err(Problem::retry("unsteady-list", "The records changed while they were read: nothing was written."))
}

/// Applies a batch: looks, compares, and sends what differs in one request, which Cloudflare does whole or not at all. What is
/// more than one request may hold goes in further ones, by whole sets. `stop` says that nobody waits any more.
pub fn apply<T: Transport>(
    api: &mut Api<T>,
    zone: &ZoneRef,
    changes: &[Change],
    plan: Plan,
    stop: impl Fn() -> bool,
) -> Result<Report, Problem> {
    let taken = CloudflareForms::from(plan);
    let ttls = taken.ttls();
    let changes: Vec<Change> = changes.iter().map(|change| forms::as_stored(&taken, change)).collect();
    // Refuses doubled ids before any request.
    Batch::new(&zone.name, &[], &changes, &ttls)?;
    let wanted = batch::names_of(&zone.name, &changes);
    let Some(there) = present(api, zone, &wanted, &stop)? else {
        let outcomes = changes.iter().map(|c| (c.id, Outcome::NotAttempted)).collect();
        return Ok(Report { outcomes, version: None, calls: api.calls, ext: Vec::new() });
    };
    let batch = Batch::new(&zone.name, &there, &changes, &ttls)?;
    let mut fates: BTreeMap<Key, Fate> = BTreeMap::new();
    let mut stale = false;
    tell_of_proxied(&batch.changed(), &there);
    // 81053 and 81054 do not say of which record they speak. Other types may stand beside a CNAME, as far as is known.
    let apart = |rtype: &str| matches!(rtype, "A" | "AAAA");
    if let Some((work, problem)) = batch::in_the_way(&batch.changed(), &there, apart) {
        fates.insert(key_of(work), Fate::Failed(problem));
    } else {
        for part in parts(&batch.changed(), plan.batch()) {
            if let Some(problem) = part.problem {
                fates.extend(part.keys.into_iter().map(|key| (key, Fate::Failed(problem.clone()))));
                continue;
            }
            if stop() {
                break;
            }
            match api.batch(&zone.id, &part.body()) {
                Ok(()) => fates.extend(part.keys.into_iter().map(|key| (key, Fate::Written))),
                Err(problem) => {
                    stale = problem.action == ProblemAction::Replan;
                    fates.extend(part.keys.into_iter().map(|key| (key, Fate::Failed(problem.clone()))));
                    break;
                }
            }
        }
    }
    let fate = |work: &Work| fates.get(&key_of(work)).cloned().unwrap_or(Fate::NotAttempted);
    // A record was there already, or gone already, so the transaction was undone.
    if stale
        && let Ok(Some(there)) = present(api, zone, &wanted, &stop)
        && let Some(outcomes) = batch::look_again(&zone.name, &there, &changes, &ttls, fate)
    {
        return Ok(Report { outcomes, version: None, calls: api.calls, ext: Vec::new() });
    }
    Ok(Report { outcomes: batch.outcomes(fate), version: None, calls: api.calls, ext: Vec::new() })
}

/// Name and type.
type Key = (String, String);

fn key_of(work: &Work) -> Key {
    (work.name.clone(), work.rtype.clone())
}

/// Cloudflare treats all addresses of a name as proxied when one of them is
/// (<https://developers.cloudflare.com/dns/proxy-status/>): what is written beside it stands there, and is not what is served.
fn tell_of_proxied(works: &[&Work], there: &[Set]) {
    let proxied: BTreeSet<&str> =
        there.iter().filter(|s| s.held.iter().any(|h| h.hidden)).map(|s| s.name.as_str()).collect();
    for work in works.iter().filter(|w| proxied.contains(w.name.as_str())) {
        if matches!(work.rtype.as_str(), "A" | "AAAA") && work.come().next().is_some() {
            log::warn(&format!(
                "{} has a proxied record, so Cloudflare answers with its own addresses there.",
                work.name
            ));
        }
    }
}

/// Sets that go in one request.
#[derive(Default)]
struct Part {
    keys: Vec<Key>,
    deletes: Vec<Json>,
    patches: Vec<Json>,
    posts: Vec<Json>,
    bytes: usize,
    /// Why it can't be sent at all.
    problem: Option<Problem>,
}

impl Part {
    fn of(work: &Work) -> Self {
        let mut part = Self { keys: vec![key_of(work)], ..Self::default() };
        let mut gone = work.gone().filter_map(|h| h.id.as_deref());
        for held in work.come() {
            // A value that takes the place of another is changed where it stands: what is served changes in one step, which
            // Cloudflare does not promise of a delete and a post.
            match gone.next() {
                Some(id) => part.patches.push(patch(id, &work.name, &work.rtype, held)),
                None => part.posts.push(new_record(&work.name, &work.rtype, held)),
            }
        }
        part.deletes.extend(gone.map(|id| json!({ "id": id })));
        let retimed = |held: &Held| Some(retime(held.id.as_deref()?, &work.name, &work.rtype, held));
        part.patches.extend(work.retimed().filter_map(retimed));
        let all = part.deletes.iter().chain(&part.patches).chain(&part.posts);
        part.bytes = all.map(|op| op.to_string().len() + 1).sum();
        part
    }

    fn count(&self) -> usize {
        self.deletes.len() + self.patches.len() + self.posts.len()
    }

    fn take(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.deletes.extend(other.deletes);
        self.patches.extend(other.patches);
        self.posts.extend(other.posts);
        self.bytes += other.bytes;
    }

    fn body(&self) -> Json {
        batch_body(&self.deletes, &self.patches, &self.posts)
    }
}

/// As few requests as the plan's limit and the size of a body allow, in order.
fn parts(works: &[&Work], most: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for work in works {
        let mut next = Part::of(work);
        if next.count() > most || next.bytes > BODY_BYTES {
            let message = format!(
                "{} {} needs {} changes at once, more than the {most} that Cloudflare does in one batch of this plan.",
                work.name,
                work.rtype,
                next.count()
            );
            next.problem = Some(Problem::fix_input("too-many-values", message));
            parts.push(next);
            continue;
        }
        match parts.last_mut() {
            Some(last)
                if last.problem.is_none()
                    && last.count() + next.count() <= most
                    && last.bytes + next.bytes <= BODY_BYTES =>
            {
                last.take(next);
            }
            _ => parts.push(next),
        }
    }
    parts
}

/// Tells reachability, credentials and zone apart. `nonce` makes the name of the trial record unique.
pub fn test<T: Transport>(api: &mut Api<T>, zone: Option<&str>, try_write: bool, nonce: &str) -> Vec<Check> {
    const WHO: &str = "Cloudflare";
    const CREDENTIALS: &str = "The API token is";
    let mut checks = Checks::default();
    // The zone is what a token of least privilege may be asked about.
    let found = match zone {
        Some(zone) => api.zone(zone).map(Some),
        None => zones(api, || false).map(|_| None),
    };
    let found = match found {
        Ok(found) => {
            checks.let_in(WHO, CREDENTIALS);
            found
        }
        Err(problem) => {
            checks.turned_away(WHO, CREDENTIALS, &[], problem);
            return checks.done();
        }
    };
    let Some(found) = found else { return checks.done() };
    if !found.writable() {
        let why = format!("The zone {} is a copy at Cloudflare: write to its primary instead.", found.name);
        checks.bad("zone", why);
        return checks.done();
    }
    let plan = Plan::of(found.plan.as_ref().and_then(|p| p.legacy_id.as_deref()));
    checks.good("zone", format!("The zone {} is there.", found.name));
    let zone = found.to_ref();
    if let Err(problem) = api.count(&zone.id) {
        checks.bad("read", problem.message);
        return checks.done();
    }
    checks.good("read", "Records can be read.");
    if try_write {
        checks.trial(&zone, nonce, |change| apply(api, &zone, &[change], plan, || false));
    }
    checks.done()
}
