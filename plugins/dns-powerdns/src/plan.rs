//! From a batch that was worked out to what is sent, and from the one answer to what became of each change: pure.
//!
//! An identical write would raise the zone's serial and wake its secondaries: what is so already is not sent. A REPLACE carries
//! everything that stays, disabled values included.

use serde_json::{Value as Json, json};
use wharf_sdk::batch::Work;
use wharf_sdk::dns::prelude::*;

use crate::api;

/// A set of the server's. A TTL is of all its values.
pub fn held(set: &api::Set) -> Set {
    let one = |record: &api::Record| Held {
        id: None,
        data: record.content.clone(),
        ttl: Some(set.ttl),
        hidden: record.disabled,
    };
    Set { name: set.name.clone(), rtype: set.rtype.clone(), held: set.records.iter().map(one).collect() }
}

/// What is to be sent, emptied sets first so that one type can make room for another; with `merge` as EXTEND or PRUNE where
/// exactly one value comes or goes among others.
pub fn patches(batch: &Batch, merge: bool) -> Vec<Json> {
    batch.changed().into_iter().map(|work| patch(work, merge)).collect()
}

/// Whether anybody's values stand beside those that come or go, so that a merge in the server's own transaction is worth asking
/// for.
pub fn is_shared(batch: &Batch) -> bool {
    batch.changed().into_iter().any(|work| one_difference(work).is_some())
}

/// Outcomes when the one request failed. Nothing was written, or it is unknown; a refusal that names one set belongs to that
/// set's changes alone, the others were not attempted.
pub fn failed(batch: Batch, problem: &Problem) -> Vec<(u32, Outcome)> {
    let names = |work: &Work| names_set(&problem.message, &work.name, &work.rtype);
    let is_named = problem.action == ProblemAction::FixInput && batch.changed().into_iter().any(names);
    batch.outcomes(|work| if is_named && !names(work) { Fate::NotAttempted } else { Fate::Failed(problem.clone()) })
}

/// The one value that comes (true) or goes (false), when others stay and nothing else differs.
fn one_difference(work: &Work) -> Option<(bool, &str)> {
    if work.before.is_empty() || work.now.is_empty() || work.retimed().next().is_some() {
        return None;
    }
    let (mut come, mut gone) = (work.come(), work.gone());
    match (come.next(), come.next(), gone.next(), gone.next()) {
        (Some(one), None, None, None) if Some(one.ttl) == work.before.first().map(|held| held.ttl) => {
            Some((true, &one.data))
        }
        (None, None, Some(one), None) => Some((false, &one.data)),
        _ => None,
    }
}

fn patch(work: &Work, merge: bool) -> Json {
    let Work { name, rtype, now, .. } = work;
    let record = |content: &str, disabled: bool| json!({"content": content, "disabled": disabled});
    let Some(first) = now.first() else {
        return json!({"name": name, "type": rtype, "changetype": "DELETE"});
    };
    // The TTL goes along in any case: EXTEND and PRUNE ask for it, though the manual leaves it out.
    let ttl = work.ttl().or(first.ttl);
    if let (true, Some((comes, content))) = (merge, one_difference(work)) {
        let changetype = if comes { "EXTEND" } else { "PRUNE" };
        let records = [record(content, false)];
        return json!({"name": name, "type": rtype, "ttl": ttl, "changetype": changetype, "records": records});
    }
    // Without `comments` those that are there stay.
    let records: Vec<Json> = now.iter().map(|held| record(&held.data, held.hidden)).collect();
    json!({"name": name, "type": rtype, "ttl": ttl, "changetype": "REPLACE", "records": records})
}

/// Whether a refusal speaks of this set: `RRset <name> IN <type>…`, `Record <name>/<type> …`.
fn names_set(message: &str, name: &str, rtype: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let (name, rtype) = (name.to_ascii_lowercase(), rtype.to_ascii_lowercase());
    [format!(" {name} in {rtype}"), format!(" {name}/{rtype}"), format!("{name}: ")].iter().any(|n| message.contains(n))
}
