//! From what should be and what is there to the changes that are asked for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use wharf_model::record::{Record, RecordKey};
use wharf_plugins::dns::{Change, Edit, Outcome, Problem, ProblemAction, RrSet, Value};

use super::Done;

/// A change and the records it is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) change: Change,
    pub(super) keys: Vec<RecordKey>,
}

/// What is to be changed, and what is so already. Removals come before additions, as some providers want it.
pub(super) fn plan(
    records: &[Record],
    live: &[RrSet],
    complete: bool,
    ttl: Option<u32>,
) -> (BTreeMap<RecordKey, Done>, Vec<Planned>) {
    let live: BTreeMap<(&str, &str), &RrSet> = live.iter().map(|s| ((s.name.as_str(), s.rtype.as_str()), s)).collect();
    let mut done = BTreeMap::new();
    let mut groups: BTreeMap<(&str, &str), (Vec<&Record>, Vec<&Record>)> = BTreeMap::new();
    for record in records {
        let at = (record.key.name.as_str(), record.key.rtype.as_str());
        let stands =
            live.get(&at).is_some_and(|s| s.values.iter().any(|v| v.data.eq_ignore_ascii_case(&record.key.value)));
        // From a read that may lack something, only a presence can be concluded.
        if stands == record.wanted && (record.wanted || complete) {
            done.insert(record.key.clone(), Done::Ok);
            continue;
        }
        let group = groups.entry(at).or_default();
        if record.wanted { group.0.push(record) } else { group.1.push(record) }
    }
    let (mut removals, mut additions) = (Vec::new(), Vec::new());
    let mut id = 0;
    for ((name, rtype), (add, remove)) in groups {
        let set = live.get(&(name, rtype));
        let expect: Option<Vec<String>> =
            complete.then(|| set.map(|s| s.values.iter().map(|v| v.data.clone()).collect()).unwrap_or_default());
        let mut push = |edit: Edit, of: &[&Record], expect: Option<Vec<String>>, into: &mut Vec<Planned>| {
            id += 1;
            into.push(Planned {
                change: Change {
                    id,
                    name: name.to_owned(),
                    rtype: rtype.to_owned(),
                    // A TTL belongs to the whole set: one that others share keeps its own.
                    ttl: set.and_then(|s| s.ttl).or(of.iter().find_map(|r| r.ttl)).or(ttl),
                    edit,
                    expect,
                    owner: None,
                },
                keys: of.iter().map(|r| r.key.clone()).collect(),
            });
        };
        let both = !add.is_empty() && !remove.is_empty();
        if !remove.is_empty() {
            let values = remove.iter().map(|r| r.key.value.clone()).collect();
            push(Edit::RemoveValues(values), &remove, expect.clone(), &mut removals);
        }
        if !add.is_empty() {
            let values =
                add.iter().map(|r| Value { data: r.key.value.clone(), owner: None, ext: Vec::new() }).collect();
            // After a removal in the same batch the set is no longer as it was read.
            push(Edit::AddValues(values), &add, if both { None } else { expect }, &mut additions);
        }
    }
    removals.extend(additions);
    (done, removals)
}

/// Both halves of a batch, in its order; none where it is about one name. What belongs to one name stays together: its removals
/// make room for what comes.
pub(super) fn halves(batch: &[Planned]) -> Option<(Vec<Planned>, Vec<Planned>)> {
    let names: BTreeSet<&str> = batch.iter().map(|p| p.change.name.as_str()).collect();
    let first: BTreeSet<&str> = names.iter().take(names.len() / 2).copied().collect();
    if first.is_empty() {
        return None;
    }
    Some(batch.iter().cloned().partition(|p| first.contains(p.change.name.as_str())))
}

/// Changes that were refused for a reason which does not say whose fault it is: the same for all that were tried, of more than one
/// name. One bad record may have taken the others with it.
pub(super) fn refused_together<'p>(batch: &'p [Planned], outcomes: &BTreeMap<u32, Outcome>) -> Vec<&'p Planned> {
    let mut reasons: BTreeSet<&str> = BTreeSet::new();
    let mut refused = Vec::new();
    for planned in batch {
        match outcomes.get(&planned.change.id) {
            Some(Outcome::Failed(problem)) if is_refusal(problem) => {
                reasons.insert(problem.message.as_str());
                refused.push(planned);
            }
            Some(Outcome::Unchanged(_) | Outcome::NotAttempted) | None => {}
            // Something went through, so each has an outcome of its own.
            Some(Outcome::Applied(_) | Outcome::Accepted(_) | Outcome::Failed(_)) => return Vec::new(),
        }
    }
    let names: BTreeSet<&str> = refused.iter().map(|p| p.change.name.as_str()).collect();
    if reasons.len() == 1 && names.len() > 1 { refused } else { Vec::new() }
}

/// A name or value is not taken, whoever asks and how often.
pub(super) fn is_refusal(problem: &Problem) -> bool {
    problem.action == ProblemAction::FixInput
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, value: &str, wanted: bool, written: bool) -> Record {
        Record {
            key: RecordKey {
                zone: "z".into(),
                name: name.into(),
                rtype: "PTR".into(),
                value: value.into(),
                service_id: uuid::Uuid::nil(),
            },
            ttl: None,
            wanted,
            written,
            attempt: 0,
            due_ms: 0,
            reason: None,
            updated_ms: 0,
        }
    }

    fn set(name: &str, values: &[&str]) -> RrSet {
        RrSet {
            name: name.into(),
            rtype: "PTR".into(),
            ttl: Some(77),
            values: values.iter().map(|v| Value { data: (*v).into(), owner: None, ext: Vec::new() }).collect(),
            owner: None,
            version: None,
            ext: Vec::new(),
        }
    }

    #[test]
    fn what_is_so_already_is_not_written() {
        let records = [record("1.", "a.", true, false), record("2.", "b.", false, true)];
        let (done, changes) = plan(&records, &[set("1.", &["A."])], true, None);
        assert!(changes.is_empty());
        assert_eq!(done.len(), 2);
    }

    #[test]
    fn an_incomplete_read_never_proves_absence() {
        let (done, changes) = plan(&[record("2.", "b.", false, true)], &[], false, None);
        assert!(done.is_empty());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].change.expect, None);
    }

    #[test]
    fn a_shared_set_keeps_its_ttl_and_its_other_values() {
        let (_, changes) = plan(&[record("1.", "new.", true, false)], &[set("1.", &["foreign."])], true, Some(300));
        assert_eq!(changes[0].change.ttl, Some(77));
        assert!(matches!(&changes[0].change.edit, Edit::AddValues(v) if v.len() == 1));
        assert_eq!(changes[0].change.expect, Some(vec!["foreign.".into()]));
    }

    #[test]
    fn a_name_that_changes_is_removed_before_it_is_added() {
        let records = [record("1.", "new.", true, false), record("1.", "old.", false, true)];
        let (_, changes) = plan(&records, &[set("1.", &["old."])], true, None);
        assert!(matches!(changes[0].change.edit, Edit::RemoveValues(_)));
        assert!(matches!(changes[1].change.edit, Edit::AddValues(_)));
        assert_eq!(changes[1].change.expect, None);
    }

    fn planned(id: u32, name: &str) -> Planned {
        let edit = Edit::AddValues(vec![Value::new("a.")]);
        let change = Change { id, name: name.into(), rtype: "PTR".into(), ttl: None, edit, expect: None, owner: None };
        Planned { change, keys: Vec::new() }
    }

    fn refused(message: &str) -> Outcome {
        Outcome::Failed(Problem {
            action: ProblemAction::FixInput,
            code: "refused".into(),
            message: message.into(),
            retry_after_ms: None,
            http_status: None,
            provider_code: None,
            ext: Vec::new(),
        })
    }

    #[test]
    fn what_belongs_to_one_name_is_never_torn_apart() {
        let batch = [planned(1, "1."), planned(2, "2."), planned(3, "1."), planned(4, "3.")];
        let (first, rest) = halves(&batch).unwrap();
        let ids = |half: &[Planned]| half.iter().map(|p| p.change.id).collect::<Vec<_>>();
        assert_eq!((ids(&first), ids(&rest)), (vec![1, 3], vec![2, 4]));
        assert_eq!(halves(&[planned(1, "1."), planned(2, "1.")]), None);
    }

    #[test]
    fn a_refusal_is_of_all_only_where_nothing_tells_them_apart() {
        let batch = [planned(1, "1."), planned(2, "2."), planned(3, "3.")];
        let of = |outcomes: [Outcome; 3]| refused_together(&batch, &(1..).zip(outcomes).collect()).len();
        assert_eq!(of([refused("no"), refused("no"), refused("no")]), 3);
        assert_eq!(of([refused("no"), Outcome::Unchanged(set("2.", &[])), refused("no")]), 2);
        assert_eq!(of([refused("no"), refused("1. is bad"), refused("no")]), 0, "each has a reason of its own");
        assert_eq!(of([refused("no"), Outcome::Applied(set("2.", &[])), refused("no")]), 0, "something went through");
        assert_eq!(of([refused("no"), Outcome::NotAttempted, Outcome::NotAttempted]), 0, "one was tried");
    }
}
