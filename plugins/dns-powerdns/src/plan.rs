//! From what is there and what is asked for to what is sent: pure.
//!
//! Other people's values, disabled values and the TTL of a shared set stay. What is so already is not sent: an
//! identical write would raise the zone's serial and wake its secondaries.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use wharf_sdk::dns::prelude::*;

use crate::api::{Record, Set};

/// TTL of a new set when none is asked for: an hour.
const DEFAULT_TTL: u32 = 3600;
/// RFC 2181 §8.
pub const MAX_TTL: u32 = 0x7fff_ffff;

/// A set in the course of a batch.
#[derive(Debug, Clone)]
struct State {
    name: String,
    rtype: String,
    before: Vec<Record>,
    now: Vec<Record>,
    ttl_before: Option<u32>,
    ttl: u32,
}

impl State {
    fn enabled(&self) -> impl Iterator<Item = &str> {
        self.now.iter().filter(|r| !r.disabled).map(|r| r.content.as_str())
    }

    fn rrset(&self) -> Rrset {
        Rrset {
            name: self.name.clone(),
            rtype: self.rtype.clone(),
            ttl: Some(self.ttl),
            values: self.enabled().map(|data| Value::new(canonical(&self.rtype, data))).collect(),
            owner: None,
            version: None,
            ext: Vec::new(),
        }
    }

    fn changed(&self) -> bool {
        let ttl_counts = !self.now.is_empty() && self.ttl_before.is_some_and(|before| before != self.ttl);
        self.before != self.now || ttl_counts
    }

    fn has(&self, data: &str, disabled: bool) -> bool {
        self.now.iter().any(|r| r.disabled == disabled && names::same_data(&self.rtype, &r.content, data))
    }
}

/// A value in canonical form; as it is when it can't be read.
pub fn canonical(rtype: &str, data: &str) -> String {
    names::canonical_data(rtype, data).unwrap_or_else(|_| data.to_owned())
}

/// What a change leads to: a set's index and whether it was touched, or why it can't be.
type Step = Result<(usize, bool), Problem>;

/// A batch, worked out.
pub struct Plan {
    states: Vec<State>,
    /// By change, in the order of the batch.
    steps: Vec<(u32, Step)>,
}

/// Works a batch out against what is there.
pub fn plan(zone: &str, present: &[Set], batch: &[Change]) -> Plan {
    let mut plan = Plan { states: Vec::new(), steps: Vec::new() };
    for change in batch {
        let step = plan.step(zone, present, change);
        plan.steps.push((change.id, step));
    }
    plan
}

impl Plan {
    fn state(&mut self, present: &[Set], name: &str, rtype: &str) -> usize {
        let labels = names::labels(name);
        if let Some(at) = self.states.iter().position(|s| s.rtype == rtype && names::labels(&s.name) == labels) {
            return at;
        }
        let found = present.iter().find(|s| s.rtype.eq_ignore_ascii_case(rtype) && names::labels(&s.name) == labels);
        let records = found.map(|s| s.records.clone()).unwrap_or_default();
        let ttl_before = found.filter(|s| !s.records.is_empty()).map(|s| s.ttl);
        self.states.push(State {
            name: name.to_owned(),
            rtype: rtype.to_owned(),
            now: records.clone(),
            before: records,
            ttl: ttl_before.unwrap_or(DEFAULT_TTL),
            ttl_before,
        });
        self.states.len() - 1
    }

    fn step(&mut self, zone: &str, present: &[Set], change: &Change) -> Step {
        let name = names::canonical(&change.name).map_err(|e| Problem::fix_input("name", e.to_string()))?;
        if !names::is_within(&name, zone) {
            return Err(Problem::fix_input("out-of-zone", format!("{name} is not in the zone {zone}")));
        }
        let rtype = change.rtype.to_ascii_uppercase();
        let at = self.state(present, &name, &rtype);
        let Some(state) = self.states.get_mut(at) else {
            return Err(Problem::report_bug("plan", "A set got lost in the plan."));
        };
        if let Some(expected) = &change.expect {
            let fold = |data: &str| canonical(&rtype, data);
            let live: BTreeSet<String> =
                state.before.iter().filter(|r| !r.disabled).map(|r| fold(&r.content)).collect();
            let expected: BTreeSet<String> = expected.iter().map(|d| fold(d)).collect();
            if live != expected {
                let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(Problem::replan(
                    "changed",
                    format!("{name} {rtype} holds [{}] and not [{}].", list(&live), list(&expected)),
                ));
            }
        }
        let (now, ttl) = (state.now.clone(), state.ttl);
        let edited = edit(state, change);
        if let Err(problem) = edited {
            (state.now, state.ttl) = (now, ttl);
            return Err(problem);
        }
        let touched = state.now != now || (state.ttl != ttl && state.ttl_before.is_some());
        Ok((at, touched))
    }

    /// What is to be sent, emptied sets first so that one type can make room for another; with `merge` as EXTEND or
    /// PRUNE where exactly one value comes or goes among others.
    pub fn patches(&self, merge: bool) -> Vec<Json> {
        let mut changed: Vec<&State> = self.states.iter().filter(|s| s.changed()).collect();
        changed.sort_by_key(|s| !s.now.is_empty());
        changed.into_iter().map(|s| patch(s, merge)).collect()
    }

    /// Whether anybody's values stand beside those that come or go, so that a merge in the server's own transaction
    /// is worth asking for.
    pub fn shared(&self) -> bool {
        self.states.iter().any(|s| one_difference(s).is_some())
    }

    /// Outcomes when all was written.
    pub fn done(self) -> Vec<(u32, Outcome)> {
        let Self { states, steps } = self;
        steps
            .into_iter()
            .map(|(id, step)| {
                let outcome = match step {
                    Err(problem) => Outcome::Failed(problem),
                    Ok((at, touched)) => match states.get(at) {
                        Some(s) if touched && s.changed() => Outcome::Applied(s.rrset()),
                        Some(s) => Outcome::Unchanged(s.rrset()),
                        None => Outcome::NotAttempted,
                    },
                };
                (id, outcome)
            })
            .collect()
    }

    /// Outcomes when the one request failed. Nothing was written, or it is unknown; a refusal that names one set
    /// belongs to that set's changes alone, the others were not attempted.
    pub fn failed(self, problem: &Problem) -> Vec<(u32, Outcome)> {
        let blamed: Vec<usize> = if problem.action == ProblemAction::FixInput {
            let named = |s: &State| s.changed() && names_set(&problem.message, &s.name, &s.rtype);
            self.states.iter().enumerate().filter(|(_, s)| named(s)).map(|(at, _)| at).collect()
        } else {
            Vec::new()
        };
        let Self { states, steps } = self;
        steps
            .into_iter()
            .map(|(id, step)| {
                let outcome = match step {
                    Err(own) => Outcome::Failed(own),
                    Ok((at, _)) => match states.get(at) {
                        Some(s) if !s.changed() => Outcome::Unchanged(s.rrset()),
                        _ if blamed.is_empty() || blamed.contains(&at) => Outcome::Failed(problem.clone()),
                        _ => Outcome::NotAttempted,
                    },
                };
                (id, outcome)
            })
            .collect()
    }
}

fn edit(state: &mut State, change: &Change) -> Result<(), Problem> {
    match &change.edit {
        Edit::AddValues(values) => {
            let new = state.now.is_empty();
            for value in values {
                add(state, &value.data)?;
            }
            // The TTL of a set that others use too is theirs as well.
            if new {
                state.ttl = change.ttl.unwrap_or(state.ttl).min(MAX_TTL);
            }
        }
        Edit::RemoveValues(values) => {
            let rtype = state.rtype.clone();
            state.now.retain(|r| r.disabled || !values.iter().any(|v| names::same_data(&rtype, &r.content, v)));
        }
        Edit::Replace(values) => {
            let rtype = state.rtype.clone();
            state.now.retain(|r| r.disabled || values.iter().any(|v| names::same_data(&rtype, &r.content, &v.data)));
            for value in values {
                add(state, &value.data)?;
            }
            state.ttl = change.ttl.unwrap_or(state.ttl).min(MAX_TTL);
        }
        Edit::Delete => state.now.retain(|r| r.disabled),
    }
    Ok(())
}

fn add(state: &mut State, data: &str) -> Result<(), Problem> {
    if state.has(data, false) {
        return Ok(());
    }
    if state.has(data, true) {
        // The server takes a value once, enabled or not, and somebody has switched this one off.
        return Err(Problem::fix_config(
            "value-disabled",
            format!("{} {} {data} is there, but disabled. Enable or delete it on the server.", state.name, state.rtype),
        ));
    }
    let data = names::canonical_data(&state.rtype, data).map_err(|e| Problem::fix_input("value", e.to_string()))?;
    state.now.push(Record { content: data, disabled: false });
    Ok(())
}

/// The one value that comes (true) or goes (false), when others stay and nothing else differs.
fn one_difference(state: &State) -> Option<(bool, &str)> {
    if state.before.is_empty() || state.now.is_empty() || state.ttl_before != Some(state.ttl) {
        return None;
    }
    let mut come = state.now.iter().filter(|r| !state.before.contains(r));
    let mut go = state.before.iter().filter(|r| !state.now.contains(r));
    match (come.next(), come.next(), go.next(), go.next()) {
        (Some(one), None, None, None) => Some((true, &one.content)),
        (None, None, Some(one), None) => Some((false, &one.content)),
        _ => None,
    }
}

fn patch(state: &State, merge: bool) -> Json {
    let State { name, rtype, ttl, now, .. } = state;
    let record = |content: &str, disabled: bool| json!({"content": content, "disabled": disabled});
    if now.is_empty() {
        return json!({"name": name, "type": rtype, "changetype": "DELETE"});
    }
    // The TTL goes along in any case: EXTEND and PRUNE ask for it, though the manual leaves it out.
    if let (true, Some((comes, content))) = (merge, one_difference(state)) {
        let changetype = if comes { "EXTEND" } else { "PRUNE" };
        let records = [record(content, false)];
        return json!({"name": name, "type": rtype, "ttl": ttl, "changetype": changetype, "records": records});
    }
    // Without `comments` those that are there stay.
    let records: Vec<Json> = now.iter().map(|r| record(&r.content, r.disabled)).collect();
    json!({"name": name, "type": rtype, "ttl": ttl, "changetype": "REPLACE", "records": records})
}

/// Whether a refusal speaks of this set: `RRset <name> IN <type>…`, `Record <name>/<type> …`.
fn names_set(message: &str, name: &str, rtype: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let (name, rtype) = (name.to_ascii_lowercase(), rtype.to_ascii_lowercase());
    [format!(" {name} in {rtype}"), format!(" {name}/{rtype}"), format!("{name}: ")].iter().any(|n| message.contains(n))
}

/// A set as it is read: enabled values in canonical form; none when nothing is enabled.
pub fn visible(set: &Set) -> Option<Rrset> {
    let values: Vec<Value> =
        set.records.iter().filter(|r| !r.disabled).map(|r| Value::new(canonical(&set.rtype, &r.content))).collect();
    (!values.is_empty()).then(|| Rrset {
        name: names::canonical(&set.name).unwrap_or_else(|_| set.name.clone()),
        rtype: set.rtype.clone(),
        ttl: Some(set.ttl),
        values,
        owner: None,
        version: None,
        ext: Vec::new(),
    })
}
