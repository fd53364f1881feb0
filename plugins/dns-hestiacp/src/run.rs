//! Carries a worked-out batch through, command by command.
//!
//! Before each command that names a line by its number the zone is listed, unless nothing was written since it was listed last:
//! numbers are given out again, and a command takes every line of its number. A line of somebody else under the same number
//! therefore stops the change. What comes in place of what goes is one command: there is no moment without it, and the last A
//! of a zone, which can't be deleted, can be changed. Nothing is repeated.

use std::{collections::VecDeque, rc::Rc};

use wharf_sdk::{batch::Work, dns::prelude::*};

use crate::{
    api::{Api, Reload, Wanted},
    listing::{self, Line},
    normal::{self, HestiaForms},
};

/// Requests of one call, of the 200 that the host allows, less what a single step and the last look need.
const REQUESTS: u32 = 190;
/// Milliseconds that are kept for the report.
const RESERVE_MS: u32 = 2_000;

/// What has to be done to one value.
enum What<'w> {
    /// This one, and no copy of it, instead of that.
    Change {
        from: &'w str,
        to: &'w Held,
    },
    Delete {
        data: &'w str,
    },
    Add {
        held: &'w Held,
    },
}

struct Step<'w> {
    work: usize,
    what: What<'w>,
    /// It has stood at the end of the queue before.
    waited: bool,
}

/// How far a set is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Steps are left, so many of them done.
    Open {
        done: u32,
        left: u32,
    },
    Failed(Problem),
}

pub struct Run<'r, 't, T: Transport> {
    api: &'r mut Api<'t, T>,
    zone: &'r ZoneRef,
    /// Values that shall go, by set: (name, type, data).
    going: Vec<(String, String, String)>,
    /// As the zone was listed, if nothing was written since.
    seen: Option<Rc<Vec<Line>>>,
    wrote: bool,
}

fn distinct<'h>(held: impl Iterator<Item = &'h Held>) -> Vec<&'h Held> {
    let mut out: Vec<&Held> = Vec::new();
    for one in held {
        if !out.iter().any(|o| o.data == one.data) {
            out.push(one);
        }
    }
    out
}

/// The steps of a set: changes first, so that there is no gap, then what goes or comes beyond them.
fn steps(at: usize, work: &Work) -> Vec<Step<'_>> {
    let (gone, come) = (distinct(work.gone()), distinct(work.come()));
    let pairs = gone.len().min(come.len());
    let changed = gone.iter().zip(&come).map(|(from, to)| What::Change { from: &from.data, to });
    let retimed = distinct(work.retimed()).into_iter().map(|held| What::Change { from: &held.data, to: held });
    let deleted = gone.iter().skip(pairs).map(|held| What::Delete { data: &held.data });
    let added = come.iter().skip(pairs).map(|held| What::Add { held });
    let all = changed.chain(retimed).chain(deleted).chain(added);
    all.map(|what| Step { work: at, what, waited: false }).collect()
}

/// Numbers of the lines that hold a value and are served.
fn numbers(lines: &[Line], work: &Work, data: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for line in lines.iter().filter(|l| !l.is_suspended && l.is(&work.name, &work.rtype, data)) {
        if !ids.contains(&line.id) {
            ids.push(line.id.clone());
        }
    }
    ids
}

/// Whether a problem is of one set alone, so that the others can go on.
fn is_lone(problem: &Problem) -> bool {
    matches!(problem.action, ProblemAction::FixInput | ProblemAction::Replan)
        || matches!(problem.code.as_str(), "last-record" | "shared-id")
}

impl<'r, 't, T: Transport> Run<'r, 't, T> {
    /// `lines`: the zone as it was listed just now.
    pub fn new(api: &'r mut Api<'t, T>, zone: &'r ZoneRef, lines: Vec<Line>) -> Self {
        Self { api, zone, going: Vec::new(), seen: Some(Rc::new(lines)), wrote: false }
    }

    /// What became of each set, in the order given.
    pub fn all(mut self, works: &[&Work]) -> Vec<Fate> {
        let mut states: Vec<State> = Vec::with_capacity(works.len());
        let mut queue: VecDeque<Step<'_>> = VecDeque::new();
        // HestiaCP would take a CNAME beside others, and its DNS server would not load the zone any more.
        let there = self.seen.as_deref().map(|lines| listing::sets(lines)).unwrap_or_default();
        let clashes = batch::all_in_the_way(works, &there, |_| true);
        let clash = |work: &Work| clashes.iter().find(|(w, _)| std::ptr::eq(*w, work)).map(|(_, p)| p.clone());
        for (at, work) in works.iter().enumerate() {
            let refused = clash(work).or_else(|| forms::refusal(&HestiaForms, &normal::TYPES, &self.zone.name, work));
            let steps = if refused.is_some() { Vec::new() } else { steps(at, work) };
            states.push(refused.map_or(State::Open { done: 0, left: steps.len() as u32 }, State::Failed));
            if !steps.is_empty() {
                let data = distinct(work.gone()).into_iter().map(|held| held.data.clone());
                self.going.extend(data.map(|data| (work.name.clone(), work.rtype.clone(), data)));
            }
            queue.extend(steps);
        }
        let (mut done, total) = (0, queue.len() as u32);
        let mut stopped = None;
        while let Some(mut step) = queue.pop_front() {
            let Some((work, state)) = works.get(step.work).zip(states.get_mut(step.work)) else { continue };
            let State::Open { done: of_set, left } = state else { continue };
            if !self.has_room() {
                break;
            }
            self.api.watch().progress(done, total);
            match self.step(work, &step.what, queue.is_empty()) {
                Ok(()) => {
                    done += 1;
                    (*of_set, *left) = (*of_set + 1, left.saturating_sub(1));
                }
                // Another address is to come: then this one is not the last any more.
                Err(problem) if problem.code == "last-record" && !step.waited && comes(&queue, works, &work.rtype) => {
                    step.waited = true;
                    queue.push_back(step);
                }
                Err(problem) => {
                    let lone = is_lone(&problem);
                    // What was to go with the rest of its set stays with it.
                    self.going.retain(|(name, rtype, _)| (name, rtype) != (&work.name, &work.rtype));
                    *state = State::Failed(problem.clone());
                    if !lone {
                        stopped = Some(problem);
                        break;
                    }
                    done += 1;
                }
            }
        }
        if total > 0 {
            self.api.watch().progress(done, total);
        }
        self.last_look(works, &mut states, stopped.as_ref());
        states.into_iter().map(fate).collect()
    }

    /// Whether there is time and there are requests for another step.
    fn has_room(&self) -> bool {
        let watch = self.api.watch();
        // A look, a command and the last look.
        let needed = RESERVE_MS.saturating_add(self.api.slowest_ms.saturating_mul(3));
        self.api.calls < REQUESTS && !watch.is_cancelled() && watch.left_ms() >= needed
    }

    /// The last command of a batch has the DNS server load its zones; so has one that may turn out to be the last.
    fn reload(&self, is_last: bool) -> Reload {
        let needed = RESERVE_MS.saturating_add(self.api.slowest_ms.saturating_mul(5));
        let is_near_the_end = self.api.calls + 4 >= REQUESTS || self.api.watch().left_ms() < needed;
        if is_last || is_near_the_end { Reload::Now } else { Reload::Later }
    }

    /// The zone as it is now.
    fn lines(&mut self) -> Result<Rc<Vec<Line>>, Problem> {
        if let Some(seen) = &self.seen {
            return Ok(Rc::clone(seen));
        }
        let lines = Rc::new(self.api.records(self.zone)?);
        self.seen = Some(Rc::clone(&lines));
        Ok(lines)
    }

    fn written(&mut self) {
        self.wrote = true;
        self.seen = None;
    }

    fn step(&mut self, work: &Work, what: &What<'_>, is_last: bool) -> Result<(), Problem> {
        match what {
            What::Add { held } => self.add(work, held, is_last),
            What::Delete { data } => {
                let ids = numbers(&self.lines()?, work, data);
                self.delete(work, data, &ids, is_last)
            }
            What::Change { from, to } => {
                let ids = numbers(&self.lines()?, work, from);
                let Some((first, copies)) = ids.split_first() else { return self.add(work, to, is_last) };
                let lines = self.lines()?;
                self.guard(&lines, work, from, first)?;
                let kept = lines.iter().find(|l| &l.id == first && l.is(&work.name, &work.rtype, from));
                // The owner as it is kept there: A-labels would be refused.
                let owner = kept.map(|l| l.record.clone()).unwrap_or_default();
                let wanted = Wanted::new(owner, &work.rtype, &to.data, to.ttl);
                let reload = self.reload(is_last && copies.is_empty());
                // Whatever comes of it, the list is old now.
                self.written();
                self.api.change(self.zone, first, &wanted, reload).map_err(|problem| no_glue(work, to, problem))?;
                self.delete(work, from, copies, is_last)
            }
        }
    }

    fn add(&mut self, work: &Work, held: &Held, is_last: bool) -> Result<(), Problem> {
        let owner = normal::relative(&self.zone.name, &work.name)?;
        let wanted = Wanted::new(owner, &work.rtype, &held.data, held.ttl);
        let reload = self.reload(is_last);
        self.written();
        self.api.add(self.zone, &wanted, reload).map_err(|problem| no_glue(work, held, problem))
    }

    /// Deletes these lines, each looked at right before.
    fn delete(&mut self, work: &Work, data: &str, ids: &[String], is_last: bool) -> Result<(), Problem> {
        for (n, id) in ids.iter().enumerate() {
            let lines = self.lines()?;
            if !numbers(&lines, work, data).contains(id) {
                continue;
            }
            self.guard(&lines, work, data, id)?;
            let of_type = lines.iter().filter(|l| l.rtype == work.rtype).count();
            if matches!(work.rtype.as_str(), "A" | "NS") && of_type <= 1 {
                return Err(last_record(self.zone, &work.rtype));
            }
            let reload = self.reload(is_last && n + 1 == ids.len());
            self.written();
            self.api.delete(self.zone, id, reload).map_err(|problem| match problem.action {
                // A number and a domain that are right are refused for one reason only.
                ProblemAction::FixInput if matches!(work.rtype.as_str(), "A" | "NS") => {
                    Problem { provider_code: problem.provider_code, ..last_record(self.zone, &work.rtype) }
                }
                _ => problem,
            })?;
        }
        Ok(())
    }

    /// A command takes all lines of a number: they must all be lines that shall go.
    fn guard(&self, lines: &[Line], work: &Work, data: &str, id: &str) -> Result<(), Problem> {
        let shall_go = |line: &Line| {
            !line.is_suspended
                && (line.is(&work.name, &work.rtype, data)
                    || self.going.iter().any(|(name, rtype, data)| line.is(name, rtype, data)))
        };
        let Some(other) = lines.iter().find(|line| line.id == id && !shall_go(line)) else { return Ok(()) };
        let message = format!(
            "In HestiaCP {} {} {data} has the id {id}, and so has {} {} {}: a command would take both. Delete the id {id} in the \
             panel and enter there what is not Wharf's once more.",
            work.name, work.rtype, other.name, other.rtype, other.data
        );
        Err(Problem::fix_config("shared-id", message))
    }

    /// An exit code of 0 is no proof (measured: of six lines added at once one was lost). So the zone is listed once more, where
    /// there is time, and what is not as it was said to be is told.
    fn last_look(&mut self, works: &[&Work], states: &mut [State], stopped: Option<&Problem>) {
        let left = self.api.watch().left_ms();
        if !self.wrote || stopped.is_some() || left < RESERVE_MS.saturating_add(self.api.slowest_ms) {
            return;
        }
        self.seen = None;
        let Ok(lines) = self.lines() else { return };
        for (work, state) in works.iter().zip(states.iter_mut()) {
            // When the DNS server can't load its zones the line is written, and the code is that of a refusal
            // (`bin/v-add-dns-record` ends with a text in place of a number).
            let is_refused = matches!(state, State::Failed(problem) if problem.code == "refused");
            if !is_refused && !matches!(state, State::Open { left: 0, .. }) {
                continue;
            }
            let lost = distinct(work.come()).into_iter().find(|held| numbers(&lines, work, &held.data).is_empty());
            let stays = |held: &&Held| work.now.iter().any(|n| names::same_data(&work.rtype, &n.data, &held.data));
            let left = distinct(work.gone())
                .into_iter()
                .find(|held| !stays(held) && !numbers(&lines, work, &held.data).is_empty());
            let wrong =
                lost.map(|held| (held, "is not in its list")).or(left.map(|held| (held, "is still in its list")));
            if let Some((held, what)) = wrong {
                let message = format!(
                    "HestiaCP said that it was done, and {} {} {} {what}: somebody else may have changed the zone at the same time.",
                    work.name, work.rtype, held.data
                );
                if !is_refused {
                    *state = State::Failed(Problem::verify("not-as-said", message));
                }
            } else if is_refused {
                let (name, rtype) = (&work.name, &work.rtype);
                log::warn(&format!(
                    "HestiaCP refused {name} {rtype} and wrote it: its DNS server may not have loaded its zones."
                ));
                *state = State::Open { done: 1, left: 0 };
            }
        }
    }
}

fn comes(queue: &VecDeque<Step<'_>>, works: &[&Work], rtype: &str) -> bool {
    queue.iter().any(|step| {
        matches!(step.what, What::Add { .. }) && works.get(step.work).is_some_and(|work| work.rtype == rtype)
    })
}

fn last_record(zone: &ZoneRef, rtype: &str) -> Problem {
    let message = format!(
        "HestiaCP keeps at least one {rtype} record in a zone, and this is the last one of {}. Add another {rtype} record there \
         (one for the zone itself, say), or delete the zone in the panel; then this one goes.",
        zone.name
    );
    Problem::fix_config("last-record", message)
}

/// The zone was listed just now: what does not exist is the address of a name server within it.
fn no_glue(work: &Work, held: &Held, problem: Problem) -> Problem {
    if (work.rtype.as_str(), problem.code.as_str()) != ("NS", "zone-not-found") {
        return problem;
    }
    let message = format!("HestiaCP wants an A record for {} before it is a name server of {}", held.data, work.name);
    Problem { action: ProblemAction::FixInput, code: "no-glue".into(), message, ..problem }
}

fn fate(state: State) -> Fate {
    match state {
        State::Open { left: 0, .. } => Fate::Written,
        State::Open { done: 0, .. } => Fate::NotAttempted,
        State::Open { .. } => {
            Fate::Failed(Problem::replan("partly-done", "A part of it is done; the call had to end before the rest."))
        }
        State::Failed(problem) => Fate::Failed(problem),
    }
}
