//! Steps of operations, and plan checks.
//!
//! Guarantees that what a step reports is sound: states are the manifest's, in order, none left out; a write is reported
//! as submitted exactly if one was submitted; numbers are in range and texts cut. What is not sound becomes a failure
//! `report-bug`, and with any failure the write, the memo and the facts of the step are dropped.

use std::collections::BTreeMap;

use wasmtime::component::Resource;
use wharf_capabilities::{
    bindings::wharf::{base::common, provisioner::protocol},
    call::{Bound, OperationBinding, OperationHandle},
};
use wharf_model::manifest::Manifest;
use wharf_store::Run;

use crate::{
    call::{Job, host_error},
    registry::Exports,
    report::{Action, CallError, Failure, Finding, How, Outcome, Reached, StepReport},
    runtime::Runtime,
    text,
};

/// Longest wait that a step can ask for, and longest pause after a failure: an hour. JavaScript turns -1 into seven weeks;
/// asking again costs nothing.
const MAX_WAIT_MS: u32 = 3_600_000;
/// Shortest: a step that asks to be called again at once is called often enough.
const MIN_WAIT_MS: u32 = 100;
/// Longest memo, the contract's word.
const MAX_MEMO: usize = 64 * 1024;
/// Findings of one plan check.
const MAX_FINDINGS: usize = 100;

impl Runtime {
    /// Carries an operation on, once, on the newest rolled-out version that reads its state, else on the one that wrote
    /// it.
    ///
    /// # Errors
    /// The plugin gave no answer: not installed, trap, time-out, limit. What it answers as failure is in the report.
    pub async fn step(&self, run: Run) -> Result<StepReport, CallError> {
        let callee = self.for_state(&run.operation.plugin, run.operation.state_version).await?;
        let job: Job<Result<protocol::Outcome, common::Failure>> = Box::new(|store, instance, exports| {
            Box::pin(async move {
                let Exports::Provisioner(main, _) = exports else {
                    wasmtime::bail!("it is not a provisioner: name one in the plan");
                };
                let plugin = main.load(&mut *store, instance)?;
                let handle = store.data_mut().call.table.push(OperationHandle)?;
                let handle = Resource::new_borrow(handle.rep());
                plugin.wharf_provisioner_provisioning().call_step(&mut *store, handle).await
            })
        });
        let checks = Checks::of(&callee.loaded.manifest, &run);
        let bound = Bound::Operation(Box::new(OperationBinding::new(run)));
        let mut done = self.call(&callee, bound, "step", job).await?;
        let log = done.log();
        let Bound::Operation(left) = done.call.bound else {
            return Err(host_error("the step lost its operation: report it".to_owned()));
        };
        let mut report = StepReport {
            version: callee.loaded.row.version.clone(),
            writes: callee.loaded.manifest.state.writes,
            answer: Ok(Outcome::Submitted),
            submitted: left.submitted,
            memo: left.memo,
            facts: left.facts,
            absence_proven_ms: left.absence_proven_ms,
            log,
            took: done.took,
        };
        report.answer = match done.answer {
            Ok(outcome) => checks.outcome(outcome, report.submitted.is_some(), &report.memo),
            Err(failure) => Err(self::failure(failure)),
        };
        if report.answer.is_err() {
            report.submitted = None;
            report.memo = None;
            report.facts = BTreeMap::new();
        }
        Ok(report)
    }

    /// What the provisioner has to say against these settings on this server; empty without that export.
    ///
    /// # Errors
    /// As for [`Self::step`].
    pub async fn check_plan(
        &self,
        plugin: &str,
        server: &str,
        settings: &serde_json::Value,
    ) -> Result<Vec<Finding>, CallError> {
        let callee = self.current(plugin).await?;
        if !matches!(callee.loaded.exports, Exports::Provisioner(_, Some(_))) {
            return Ok(Vec::new());
        }
        let settings = settings.to_string();
        let job: Job<Vec<Finding>> = Box::new(move |store, instance, exports| {
            Box::pin(async move {
                let Exports::Provisioner(_, Some(check)) = exports else { return Ok(Vec::new()) };
                let part = check.load(&mut *store, instance)?;
                let found = part.wharf_provisioner_plan_check().call_check(&mut *store, &settings).await?;
                Ok(found
                    .into_iter()
                    .take(MAX_FINDINGS)
                    .map(|f| Finding {
                        field: text::cut(&f.field, 256),
                        message: text::cut(&f.message, text::MESSAGE),
                        remedy: text::cut(&f.remedy, text::MESSAGE),
                        fatal: f.fatal,
                    })
                    .collect())
            })
        });
        Ok(self.call(&callee, Bound::Server(server.to_owned()), "plan-check", job).await?.answer)
    }
}

/// A failure in the house's words: texts cut, times in range.
pub(crate) fn failure(of: common::Failure) -> Failure {
    Failure {
        action: match of.action {
            common::Action::FixInput => Action::FixInput,
            common::Action::FixConfig => Action::FixConfig,
            common::Action::Busy => Action::Busy,
            common::Action::Retry => Action::Retry,
            common::Action::Unknown => Action::Unknown,
            common::Action::ReportBug => Action::ReportBug,
        },
        code: text::cut(&of.code, text::CODE),
        message: text::cut(&of.message, text::MESSAGE),
        retry_after_ms: of.retry_after_ms.map(|ms| ms.min(MAX_WAIT_MS)),
        ext: text::cut_ext(of.ext),
    }
}

/// An answer that can't be used.
pub(crate) fn bad_answer(message: String) -> Failure {
    Failure { action: Action::ReportBug, code: "bad-answer".to_owned(), message, retry_after_ms: None, ext: Vec::new() }
}

/// What an answer is held to.
struct Checks {
    kind: String,
    state: String,
    /// States after the present one, in order; none if the manifest does not know the present one.
    ahead: Option<Vec<String>>,
    generation: u32,
    /// Sequence of the last effect, 0 = none.
    last_effect: u32,
}

impl Checks {
    fn of(manifest: &Manifest, run: &Run) -> Self {
        let states = manifest.operation(&run.operation.kind).map(|o| o.states.as_slice()).unwrap_or_default();
        let here = states.iter().position(|s| s.id == run.operation.state);
        Self {
            kind: run.operation.kind.clone(),
            state: run.operation.state.clone(),
            ahead: here.map(|n| states.iter().skip(n + 1).map(|s| s.id.clone()).collect()),
            generation: run.operation.generation,
            last_effect: run.effect.as_ref().map_or(0, |e| e.sequence),
        }
    }

    fn outcome(
        &self,
        outcome: protocol::Outcome,
        submitted: bool,
        memo: &Option<Option<String>>,
    ) -> Result<Outcome, Failure> {
        if let Some(Some(memo)) = memo
            && memo.len() > MAX_MEMO
        {
            return Err(bad_answer(format!("the step remembered {} bytes, and {MAX_MEMO} can be kept", memo.len())));
        }
        let what = match &outcome {
            protocol::Outcome::Submitted if submitted => return Ok(Outcome::Submitted),
            protocol::Outcome::Submitted => {
                return Err(bad_answer("the step answered `submitted`, but submitted no write".to_owned()));
            }
            protocol::Outcome::Reached(_) => "reached",
            protocol::Outcome::Waiting(_) => "waiting",
            protocol::Outcome::Stuck(_) => "stuck",
        };
        if submitted {
            return Err(bad_answer(format!(
                "the step submitted a write, but answered `{what}`: the write was dropped"
            )));
        }
        match outcome {
            protocol::Outcome::Submitted => Ok(Outcome::Submitted),
            protocol::Outcome::Reached(states) => self.reached(states).map(Outcome::Reached),
            protocol::Outcome::Waiting(wait) => Ok(Outcome::Waiting {
                after_ms: wait.after_ms.clamp(MIN_WAIT_MS, MAX_WAIT_MS),
                topic: text::cut_option(wait.topic.filter(|t| !t.is_empty()), text::CODE),
                reason: text::cut(&wait.reason, text::MESSAGE),
            }),
            protocol::Outcome::Stuck(why) => Ok(Outcome::Stuck(text::cut(&why, text::MESSAGE))),
        }
    }

    fn reached(&self, states: Vec<protocol::Reached>) -> Result<Vec<Reached>, Failure> {
        let Some(ahead) = &self.ahead else {
            return Err(bad_answer(format!(
                "the operation `{}` is at the state `{}`, which the manifest does not list",
                self.kind, self.state
            )));
        };
        if states.is_empty() {
            return Err(bad_answer("the step answered `reached` without any state".to_owned()));
        }
        if states.len() > ahead.len() {
            return Err(bad_answer(format!(
                "the step reached {} states after `{}`, and there are {} in `{}`",
                states.len(),
                self.state,
                ahead.len(),
                self.kind
            )));
        }
        let mut out = Vec::with_capacity(states.len());
        for (given, expected) in states.into_iter().zip(ahead) {
            if given.state != *expected {
                return Err(bad_answer(format!(
                    "the step reached `{}` where `{expected}` comes next in `{}`",
                    text::cut(&given.state, text::CODE),
                    self.kind
                )));
            }
            let how = match given.how {
                protocol::How::Done => How::Done,
                protocol::How::Skipped(why) => How::Skipped(text::cut(&why, text::MESSAGE)),
                protocol::How::ByEffect(id) => How::ByEffect(self.effect(id)?),
            };
            out.push(Reached { state: given.state, how });
        }
        Ok(out)
    }

    fn effect(&self, id: String) -> Result<String, Failure> {
        let known = id.split_once('.').is_some_and(|(generation, sequence)| {
            generation.parse() == Ok(self.generation)
                && sequence.parse::<u32>().is_ok_and(|n| (1..=self.last_effect).contains(&n))
        });
        if known {
            return Ok(id);
        }
        Err(bad_answer(format!("the step names the write `{}`, which this operation never made", text::cut(&id, 64))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Checks {
        Checks {
            kind: "deploy".into(),
            state: "a".into(),
            ahead: Some(vec!["b".into(), "c".into(), "d".into()]),
            generation: 2,
            last_effect: 3,
        }
    }

    fn reached(states: &[&str]) -> protocol::Outcome {
        protocol::Outcome::Reached(
            states
                .iter()
                .map(|s| protocol::Reached { state: (*s).into(), how: protocol::How::Done, ext: Vec::new() })
                .collect(),
        )
    }

    fn refused(outcome: protocol::Outcome, submitted: bool) -> String {
        let failure = checks().outcome(outcome, submitted, &None).unwrap_err();
        assert_eq!((failure.action, failure.code.as_str()), (Action::ReportBug, "bad-answer"));
        failure.message
    }

    #[test]
    fn states_are_taken_in_the_manifests_order() {
        assert!(checks().outcome(reached(&["b", "c"]), false, &None).is_ok());
    }

    #[test]
    fn a_state_left_out_repeated_or_unknown_is_refused_by_name() {
        for (states, name) in [(&["c"][..], "`c`"), (&["b", "b"], "`b`"), (&["b", "x"], "`x`"), (&["a"], "`a`")] {
            let text = refused(reached(states), false);
            assert!(text.contains(name), "{text}");
        }
        assert!(refused(reached(&[]), false).contains("without any state"));
        assert!(refused(reached(&["b", "c", "d", "e"]), false).contains("there are 3"));
    }

    #[test]
    fn a_write_and_its_outcome_belong_together() {
        assert_eq!(checks().outcome(protocol::Outcome::Submitted, true, &None), Ok(Outcome::Submitted));
        assert!(refused(protocol::Outcome::Submitted, false).contains("submitted no write"));
        assert!(refused(reached(&["b"]), true).contains("answered `reached`"));
        assert!(refused(protocol::Outcome::Stuck("x".into()), true).contains("answered `stuck`"));
    }

    #[test]
    fn a_write_that_was_never_made_is_not_believed() {
        let by = |id: &str| {
            protocol::Outcome::Reached(vec![protocol::Reached {
                state: "b".into(),
                how: protocol::How::ByEffect(id.into()),
                ext: Vec::new(),
            }])
        };
        assert!(checks().outcome(by("2.3"), false, &None).is_ok());
        for id in ["2.4", "2.0", "1.1", "nonsense", ""] {
            assert!(refused(by(id), false).contains("never made"), "{id}");
        }
    }

    #[test]
    fn a_wait_of_seven_weeks_that_was_minus_one_becomes_an_hour() {
        let wait = protocol::Wait {
            after_ms: u32::MAX,
            topic: Some(String::new()),
            reason: "x".repeat(5000),
            ext: Vec::new(),
        };
        let Ok(Outcome::Waiting { after_ms, topic, reason }) =
            checks().outcome(protocol::Outcome::Waiting(wait), false, &None)
        else {
            panic!("it is a wait");
        };
        assert_eq!((after_ms, topic), (MAX_WAIT_MS, None));
        assert!(reason.len() < 2100);
    }
}
