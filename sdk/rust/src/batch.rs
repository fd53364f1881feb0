//! From what is there and what is asked for to what has to be sent: pure, and the same for every provider.
//!
//! A provider reads the names of a batch ([`names_of`]), hands over what it found ([`Batch::new`]), sends what [`Batch::changed`]
//! says, and tells what became of each set ([`Batch::outcomes`]). Kept by this: other people's values, and values that are there
//! and not served, stay; so does the TTL of a set that others use too; what is so already is not sent; a change whose `expect`
//! does not hold writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dns::{Change, Edit, Outcome, Problem, Rrset, Value},
    names,
};

/// RFC 2181 §8.
pub const MAX_TTL: u32 = 0x7fff_ffff;

/// One value as the provider has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The provider's own, where it writes by id. A value that is to be written has none.
    pub id: Option<String>,
    /// As the provider shows it.
    pub data: String,
    /// Seconds; none = automatic.
    pub ttl: Option<u32>,
    /// There, and not an ordinary value that is served: disabled, or an alias of the provider's. Never changed, never counted.
    pub hidden: bool,
}

/// All that the provider has under a name and type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    pub name: String,
    pub rtype: String,
    pub held: Vec<Held>,
}

impl Set {
    /// As it is read: values in canonical form; none when nothing of it is served.
    pub fn rrset(&self) -> Option<Rrset> {
        let name = names::canonical(&self.name).unwrap_or_else(|_| self.name.clone());
        rrset(&name, &self.rtype, &self.held)
    }
}

/// What a provider makes of TTLs, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttls {
    /// Of a new set when none is asked for; none = the provider's automatic one.
    pub default: Option<u32>,
    pub min: u32,
    pub max: u32,
}

impl Default for Ttls {
    fn default() -> Self {
        Self { default: Some(3_600), min: 0, max: MAX_TTL }
    }
}

impl Ttls {
    /// Within the bounds. None stays none: that is the provider's own.
    pub fn fit(&self, ttl: Option<u32>) -> Option<u32> {
        ttl.map(|ttl| ttl.clamp(self.min, self.max.max(self.min)))
    }
}

/// A set in the course of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    pub name: String,
    pub rtype: String,
    pub before: Vec<Held>,
    /// What shall be there. What comes has no id.
    pub now: Vec<Held>,
}

impl Work {
    pub fn is_changed(&self) -> bool {
        self.before != self.now
    }

    /// Values that have to be written.
    pub fn come(&self) -> impl Iterator<Item = &Held> {
        self.now.iter().filter(|held| !self.before.iter().any(|b| self.is_same(b, held)))
    }

    /// Values that have to go.
    pub fn gone(&self) -> impl Iterator<Item = &Held> {
        self.before.iter().filter(|held| !self.now.iter().any(|n| self.is_same(n, held)))
    }

    /// Values that stay with another TTL: as they shall be.
    pub fn retimed(&self) -> impl Iterator<Item = &Held> {
        self.now.iter().filter(|held| self.before.iter().any(|b| self.is_same(b, held) && b.ttl != held.ttl))
    }

    /// Of the values that shall be served.
    pub fn ttl(&self) -> Option<u32> {
        self.now.iter().find(|h| !h.hidden).and_then(|h| h.ttl)
    }

    /// As it shall be.
    pub fn rrset(&self) -> Rrset {
        rrset(&self.name, &self.rtype, &self.now).unwrap_or_else(|| Rrset {
            name: self.name.clone(),
            rtype: self.rtype.clone(),
            ttl: None,
            values: Vec::new(),
            owner: None,
            version: None,
            ext: Vec::new(),
        })
    }

    fn is_same(&self, a: &Held, b: &Held) -> bool {
        a.id == b.id && a.hidden == b.hidden && names::same_data(&self.rtype, &a.data, &b.data)
    }

    fn served(&self) -> impl Iterator<Item = &Held> {
        self.now.iter().filter(|h| !h.hidden)
    }

    fn add(&mut self, data: &str, ttl: Option<u32>) -> Result<(), Problem> {
        if self.served().any(|h| names::same_data(&self.rtype, &h.data, data)) {
            return Ok(());
        }
        if self.now.iter().any(|h| h.hidden && names::same_data(&self.rtype, &h.data, data)) {
            let message = format!(
                "{} {} {data} is there, but disabled. Enable or delete it at the provider.",
                self.name, self.rtype
            );
            return Err(Problem::fix_config("value-disabled", message));
        }
        let data = names::canonical_data(&self.rtype, data).map_err(|e| Problem::fix_input("value", e.to_string()))?;
        self.now.push(Held { data, ttl, ..Held::default() });
        Ok(())
    }

    fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.now.retain(|h| h.hidden || !unwanted(&h.data));
    }

    fn edit(&mut self, change: &Change, ttls: &Ttls) -> Result<(), Problem> {
        let asked = ttls.fit(change.ttl);
        let rtype = self.rtype.clone();
        match &change.edit {
            Edit::AddValues(values) => {
                // The TTL of a set that others use too is theirs as well.
                let others = self.served().next().map(|h| h.ttl);
                let ttl = others.unwrap_or_else(|| asked.or(ttls.default));
                for value in values {
                    self.add(&value.data, ttl)?;
                }
            }
            Edit::RemoveValues(values) => {
                self.remove(|data| values.iter().any(|v| names::same_data(&rtype, data, v)));
            }
            Edit::Replace(values) => {
                let ttl = asked.or_else(|| self.ttl()).or(ttls.default);
                self.remove(|data| !values.iter().any(|v| names::same_data(&rtype, data, &v.data)));
                for value in values {
                    self.add(&value.data, ttl)?;
                }
                for held in self.now.iter_mut().filter(|h| !h.hidden) {
                    held.ttl = ttl;
                }
            }
            Edit::Delete => self.remove(|_| true),
        }
        Ok(())
    }
}

/// What became of a set's writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Written,
    /// Taken on by the provider under this id, to be polled.
    Accepted(String),
    Failed(Problem),
    NotAttempted,
}

/// What a change leads to: a set's index and whether it changed anything, or why it can't be.
type Step = Result<(usize, bool), Problem>;

/// A batch, worked out.
#[derive(Debug, Clone)]
pub struct Batch {
    works: Vec<Work>,
    /// By change, in the order of the batch.
    steps: Vec<(u32, Step)>,
}

/// What is there and what is worked on, found by labels and type: thousands of either are no product of both.
struct Places<'p> {
    present: BTreeMap<(Vec<String>, String), Vec<&'p Set>>,
    works: BTreeMap<(Vec<String>, String), usize>,
}

impl<'p> Places<'p> {
    fn of(present: &'p [Set]) -> Self {
        let mut places = Self { present: BTreeMap::new(), works: BTreeMap::new() };
        for set in present {
            let key = (names::labels(&set.name), set.rtype.to_ascii_uppercase());
            places.present.entry(key).or_default().push(set);
        }
        places
    }
}

/// The names that have to be looked at for a batch, canonical; those outside of the zone are left out.
pub fn names_of(zone: &str, changes: &[Change]) -> Vec<String> {
    let found: BTreeSet<String> = changes
        .iter()
        .filter_map(|c| names::canonical(&c.name).ok())
        .filter(|name| names::is_within(name, zone))
        .collect();
    found.into_iter().collect()
}

impl Batch {
    /// Works it out against what is there.
    ///
    /// # Errors
    /// Two changes have the same id: then none can be answered for.
    pub fn new(zone: &str, present: &[Set], changes: &[Change], ttls: &Ttls) -> Result<Self, Problem> {
        let ids: BTreeSet<u32> = changes.iter().map(|c| c.id).collect();
        if ids.len() != changes.len() {
            return Err(Problem::report_bug("duplicate-change", "Two changes of the batch have the same id."));
        }
        let mut batch = Self { works: Vec::new(), steps: Vec::with_capacity(changes.len()) };
        let mut places = Places::of(present);
        for change in changes {
            let step = batch.step(zone, &mut places, change, ttls);
            batch.steps.push((change.id, step));
        }
        Ok(batch)
    }

    /// Sets that have to be written: emptied ones first, so that one type can make room for another.
    pub fn changed(&self) -> Vec<&Work> {
        let mut changed: Vec<&Work> = self.works.iter().filter(|w| w.is_changed()).collect();
        changed.sort_by_key(|w| !w.now.is_empty());
        changed
    }

    /// One outcome for each change, in the order of the batch. `fate` is asked for sets that had to be written.
    pub fn outcomes(self, fate: impl Fn(&Work) -> Fate) -> Vec<(u32, Outcome)> {
        let Self { works, steps } = self;
        let outcome = |step: Step| match step {
            Err(problem) => Outcome::Failed(problem),
            Ok((at, touched)) => match works.get(at) {
                None => Outcome::NotAttempted,
                Some(work) if !work.is_changed() => Outcome::Unchanged(work.rrset()),
                Some(work) => match fate(work) {
                    Fate::Written if touched => Outcome::Applied(work.rrset()),
                    Fate::Written => Outcome::Unchanged(work.rrset()),
                    Fate::Accepted(operation) => Outcome::Accepted(operation),
                    Fate::Failed(problem) => Outcome::Failed(problem),
                    Fate::NotAttempted => Outcome::NotAttempted,
                },
            },
        };
        steps.into_iter().map(|(id, step)| (id, outcome(step))).collect()
    }

    fn at(&mut self, places: &mut Places<'_>, name: &str, rtype: &str) -> usize {
        let key = (names::labels(name), rtype.to_owned());
        if let Some(at) = places.works.get(&key) {
            return *at;
        }
        let before: Vec<Held> =
            places.present.get(&key).into_iter().flatten().flat_map(|set| set.held.iter().cloned()).collect();
        let (name, rtype) = (name.to_owned(), rtype.to_owned());
        self.works.push(Work { name, rtype, now: before.clone(), before });
        let at = self.works.len() - 1;
        places.works.insert(key, at);
        at
    }

    fn step(&mut self, zone: &str, places: &mut Places<'_>, change: &Change, ttls: &Ttls) -> Step {
        let name = names::canonical(&change.name).map_err(|e| Problem::fix_input("name", e.to_string()))?;
        if !names::is_within(&name, zone) {
            return Err(Problem::fix_input("out-of-zone", format!("{name} is not in the zone {zone}")));
        }
        let rtype = change.rtype.to_ascii_uppercase();
        let at = self.at(places, &name, &rtype);
        let Some(work) = self.works.get_mut(at) else {
            return Err(Problem::report_bug("batch", "A set got lost while the batch was worked out."));
        };
        if let Some(expected) = &change.expect {
            // As it was before this batch: the second change of a set expects nothing.
            let fold = |data: &str| canonical(&rtype, data);
            let live: BTreeSet<String> = work.before.iter().filter(|h| !h.hidden).map(|h| fold(&h.data)).collect();
            let expected: BTreeSet<String> = expected.iter().map(|d| fold(d)).collect();
            if live != expected {
                let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let message = format!("{name} {rtype} holds [{}] and not [{}].", list(&live), list(&expected));
                return Err(Problem::replan("changed", message));
            }
        }
        let former = work.now.clone();
        if let Err(problem) = work.edit(change, ttls) {
            work.now = former;
            return Err(problem);
        }
        let touched = work.now != former;
        Ok((at, touched))
    }
}

/// The set that can't stand beside another of its name: a CNAME stands alone (RFC 1034 §3.6.2). Providers refuse the request
/// without saying whose fault it was, so it is looked for before. `alone`: types that the provider keeps apart from a CNAME.
/// Values that are hidden count.
pub fn in_the_way<'w>(works: &[&'w Work], there: &[Set], alone: impl Fn(&str) -> bool) -> Option<(&'w Work, Problem)> {
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for set in there {
        counts.entry(&set.name).or_default().insert(&set.rtype, set.held.len());
    }
    for work in works {
        counts.entry(&work.name).or_default().insert(&work.rtype, work.now.len());
    }
    let is_cname = |rtype: &str| rtype == "CNAME";
    works.iter().filter(|w| w.come().next().is_some()).find_map(|work| {
        let at_name = counts.get(work.name.as_str())?;
        let clash = |other: &&str, count: usize| match (is_cname(&work.rtype), is_cname(other)) {
            (true, true) => count > 1,
            (true, false) => count > 0 && alone(other),
            (false, true) => count > 0 && alone(&work.rtype),
            (false, false) => false,
        };
        let (other, _) = at_name.iter().find(|(other, count)| clash(other, **count))?;
        let message = format!("{} has a record of type {other}, which can't be beside {}.", work.name, work.rtype);
        Some((*work, Problem::fix_input("conflict", message)))
    })
}

/// All sets that [`in_the_way`] finds, one after another without those found before: for providers that write set by set.
pub fn all_in_the_way<'w>(works: &[&'w Work], there: &[Set], alone: impl Fn(&str) -> bool) -> Vec<(&'w Work, Problem)> {
    let (mut left, mut found) = (works.to_vec(), Vec::new());
    while let Some((work, problem)) = in_the_way(&left, there, &alone) {
        left.retain(|other| !std::ptr::eq(*other, work));
        found.push((work, problem));
    }
    found
}

/// Outcomes after a second look, where a write met something that was not there at the first: a value that somebody else, or an
/// earlier try without an answer, had written. What is as it should be by now is so; the rest is planned again. `fate`: of the
/// sets of the first look. None if the changes can't be worked out any more.
pub fn look_again(
    zone: &str,
    there: &[Set],
    changes: &[Change],
    ttls: &Ttls,
    fate: impl Fn(&Work) -> Fate,
) -> Option<Vec<(u32, Outcome)>> {
    // What was expected has changed, and that is known.
    let changes: Vec<Change> = changes.iter().map(|c| Change { expect: None, ..c.clone() }).collect();
    let batch = Batch::new(zone, there, &changes, ttls).ok()?;
    let changed = || Problem::replan("changed", "The records were changed by somebody else meanwhile.");
    let written: BTreeSet<(String, String)> = batch
        .works
        .iter()
        .filter(|work| matches!(fate(work), Fate::Written | Fate::Accepted(_)))
        .map(|work| (work.name.clone(), work.rtype.clone()))
        .collect();
    let outcomes = batch.outcomes(|work| match fate(work) {
        Fate::Written => Fate::Failed(changed()),
        other => other,
    });
    let told = |outcome| match outcome {
        Outcome::Unchanged(set) if written.contains(&(set.name.clone(), set.rtype.clone())) => Outcome::Applied(set),
        other => other,
    };
    Some(outcomes.into_iter().map(|(id, outcome)| (id, told(outcome))).collect())
}

/// A value in canonical form; as it is when it can't be read.
pub fn canonical(rtype: &str, data: &str) -> String {
    names::canonical_data(rtype, data).unwrap_or_else(|_| data.to_owned())
}

fn rrset(name: &str, rtype: &str, held: &[Held]) -> Option<Rrset> {
    let mut values: Vec<Value> = Vec::new();
    for one in held.iter().filter(|h| !h.hidden) {
        let data = canonical(rtype, &one.data);
        // Some providers keep the same value twice.
        if !values.iter().any(|v| v.data == data) {
            values.push(Value::new(data));
        }
    }
    let ttl = held.iter().find(|h| !h.hidden).map(|h| h.ttl)?;
    Some(Rrset {
        name: name.to_owned(),
        rtype: rtype.to_owned(),
        ttl,
        values,
        owner: None,
        version: None,
        ext: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "example.test.";
    const NAME: &str = "vm.example.test.";

    fn held(id: &str, data: &str) -> Held {
        Held { id: Some(id.into()), data: data.into(), ttl: Some(600), hidden: false }
    }

    fn set(held: Vec<Held>) -> Set {
        Set { name: NAME.into(), rtype: "A".into(), held }
    }

    fn change(id: u32, edit: Edit) -> Change {
        Change {
            id,
            name: NAME.into(),
            rtype: "A".into(),
            ttl: Some(300),
            edit,
            expect: None,
            owner: None,
            ext: Vec::new(),
        }
    }

    fn add(data: &str) -> Edit {
        Edit::AddValues(vec![Value::new(data)])
    }

    fn batch(present: &[Set], changes: &[Change]) -> Batch {
        Batch::new(ZONE, present, changes, &Ttls::default()).unwrap()
    }

    #[test]
    fn a_value_that_comes_leaves_its_neighbours_and_takes_their_ttl() {
        let batch = batch(&[set(vec![held("1", "192.0.2.1")])], &[change(7, add("192.0.2.2"))]);
        let work = batch.changed()[0];
        assert_eq!(work.come().map(|h| (h.data.as_str(), h.ttl)).collect::<Vec<_>>(), [("192.0.2.2", Some(600))]);
        assert_eq!((work.gone().count(), work.retimed().count()), (0, 0));
        let outcomes = batch.outcomes(|_| Fate::Written);
        assert!(matches!(&outcomes[..], [(7, Outcome::Applied(set))] if set.values.len() == 2));
    }

    #[test]
    fn what_is_so_already_needs_no_write() {
        let batch = batch(&[set(vec![held("1", "192.0.2.1")])], &[change(1, add("192.0.2.1"))]);
        assert!(batch.changed().is_empty());
        assert!(matches!(&batch.outcomes(|_| panic!("asked"))[..], [(1, Outcome::Unchanged(_))]));
    }

    #[test]
    fn every_copy_of_a_value_goes_and_nothing_else() {
        let there = set(vec![held("1", "192.0.2.1"), held("2", "192.0.2.1"), held("3", "192.0.2.9")]);
        let batch = batch(&[there], &[change(1, Edit::RemoveValues(vec!["192.0.2.1".into()]))]);
        let gone: Vec<_> = batch.changed()[0].gone().filter_map(|h| h.id.clone()).collect();
        assert_eq!(gone, ["1", "2"]);
    }

    #[test]
    fn a_replaced_set_gets_its_ttl_and_keeps_the_ids_of_what_stays() {
        let there = set(vec![held("1", "192.0.2.1"), held("2", "192.0.2.2")]);
        let wanted = vec![Value::new("192.0.2.2"), Value::new("192.0.2.3")];
        let batch = batch(&[there], &[change(1, Edit::Replace(wanted))]);
        let work = batch.changed()[0];
        assert_eq!(work.gone().filter_map(|h| h.id.clone()).collect::<Vec<_>>(), ["1"]);
        assert_eq!(work.retimed().map(|h| (h.id.clone(), h.ttl)).collect::<Vec<_>>(), [(Some("2".into()), Some(300))]);
        assert_eq!(work.come().map(|h| h.data.clone()).collect::<Vec<_>>(), ["192.0.2.3"]);
    }

    #[test]
    fn what_is_hidden_is_neither_lost_nor_adopted() {
        let off = Held { hidden: true, ..held("1", "192.0.2.1") };
        let there = [set(vec![off, held("2", "192.0.2.2")])];
        let emptied = batch(&there, &[change(1, Edit::Delete)]);
        assert_eq!(emptied.changed()[0].gone().filter_map(|h| h.id.clone()).collect::<Vec<_>>(), ["2"]);
        let outcomes = batch(&there, &[change(1, add("192.0.2.1"))]).outcomes(|_| Fate::Written);
        assert!(matches!(&outcomes[..], [(1, Outcome::Failed(p))] if p.code == "value-disabled"));
    }

    #[test]
    fn a_change_that_expects_something_else_writes_nothing_and_its_neighbours_go_on() {
        let stale = Change { expect: Some(vec!["192.0.2.7".into()]), ..change(1, add("192.0.2.2")) };
        let other = Change { name: "b.example.test.".into(), ..change(2, add("192.0.2.3")) };
        let batch = batch(&[set(vec![held("1", "192.0.2.1")])], &[stale, other]);
        assert_eq!(batch.changed().len(), 1);
        let outcomes = batch.outcomes(|_| Fate::Written);
        assert!(matches!(&outcomes[..], [(1, Outcome::Failed(p)), (2, Outcome::Applied(_))] if p.code == "changed"));
    }

    #[test]
    fn a_type_that_goes_makes_room_before_another_comes() {
        let there = set(vec![held("1", "192.0.2.1")]);
        let cname = Change { rtype: "cname".into(), ..change(1, Edit::AddValues(vec![Value::new("b.test.")])) };
        let batch = batch(&[there], &[cname, change(2, Edit::Delete)]);
        let order: Vec<_> = batch.changed().iter().map(|w| w.rtype.clone()).collect();
        assert_eq!(order, ["A", "CNAME"]);
    }

    #[test]
    fn a_cname_is_alone_and_the_change_that_would_crowd_it_is_named() {
        let blamed = |there: &[Set], changes: &[Change]| {
            let batch = batch(there, changes);
            in_the_way(&batch.changed(), there, |rtype| rtype != "TXT").map(|(work, p)| (work.rtype.clone(), p.code))
        };
        let of = |id: u32, rtype: &str, edit: Edit| Change { rtype: rtype.into(), ..change(id, edit) };
        let cname = |id: u32| of(id, "CNAME", Edit::AddValues(vec![Value::new("b.test.")]));
        let there = [set(vec![held("1", "192.0.2.1")])];
        assert_eq!(blamed(&there, &[cname(1)]), Some(("CNAME".into(), "conflict".into())));
        assert_eq!(blamed(&there, &[cname(1), of(2, "A", Edit::Delete)]), None);
        let there = [Set { rtype: "CNAME".into(), ..set(vec![held("1", "b.test.")]) }];
        assert_eq!(blamed(&there, &[change(1, add("192.0.2.2"))]), Some(("A".into(), "conflict".into())));
        assert_eq!(blamed(&there, &[of(1, "TXT", add("\"a\""))]), None);
        let other = Change { name: "b.example.test.".into(), ..cname(3) };
        let both = batch(&[], &[change(1, add("192.0.2.2")), cname(2), other]);
        let found: Vec<_> = all_in_the_way(&both.changed(), &[], |_| true).into_iter().map(|(w, _)| &w.rtype).collect();
        assert_eq!(found.len(), 1, "one of the two, and then the other has room: {found:?}");
        let second = of(1, "CNAME", Edit::AddValues(vec![Value::new("c.test.")]));
        assert_eq!(blamed(&there, &[second]), Some(("CNAME".into(), "conflict".into())));
    }

    #[test]
    fn a_second_look_tells_what_is_so_by_now_and_what_was_undone() {
        let at = |n: u32| format!("n{n}.example.test.");
        let asked: Vec<Change> = (1..=5).map(|n| Change { name: at(n), ..change(n, add("192.0.2.1")) }).collect();
        let there = |n: u32| Set { name: at(n), ..set(vec![held("1", "192.0.2.1")]) };
        let fate = |work: &Work| match work.name.as_str() {
            "n1.example.test." | "n4.example.test." => Fate::Written,
            "n2.example.test." => Fate::Failed(Problem::replan("already-there", "It is there.")),
            "n3.example.test." => Fate::Accepted("7".into()),
            _ => Fate::NotAttempted,
        };
        let told = look_again(ZONE, &[there(1), there(2)], &asked, &Ttls::default(), fate).unwrap();
        assert!(matches!(&told[0].1, Outcome::Applied(_)), "written, and there");
        assert!(matches!(&told[1].1, Outcome::Unchanged(_)), "somebody else's, and as it should be");
        assert_eq!(told[2].1, Outcome::Accepted("7".into()));
        assert!(matches!(&told[3].1, Outcome::Failed(p) if p.code == "changed"), "written, and not there");
        assert_eq!(told[4].1, Outcome::NotAttempted);
    }

    #[test]
    fn two_changes_of_one_id_are_refused_whole() {
        let refused = Batch::new(ZONE, &[], &[change(1, add("192.0.2.1")), change(1, Edit::Delete)], &Ttls::default());
        assert_eq!(refused.unwrap_err().code, "duplicate-change");
    }

    #[test]
    fn a_ttl_is_brought_within_the_bounds() {
        let ttls = Ttls { default: None, min: 60, max: 86_400 };
        assert_eq!(
            [Some(1), Some(300), Some(u32::MAX), None].map(|t| ttls.fit(t)),
            [Some(60), Some(300), Some(86_400), None]
        );
    }
}
