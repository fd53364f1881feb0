//! Drives one run: resolve the effect, call the step, commit, again; until it waits or ends.

use tracing::Instrument;
use wharf_model::{
    manifest::OperationKind,
    operation::{LogBody, Reason, Status, StepResult},
    service::Phase,
};
use wharf_plugins::{
    plugin_topic,
    report::{Action, CallError, Failure, How, Outcome, Reached, StepReport},
};
use wharf_store::{Commit, Committed, EffectChange, Run, Then};

use crate::{
    Engine,
    effects::Resolved,
    traces,
    worker::{Hold, Stopped},
};

/// Waiting reasons of plugins are asked for between these.
const SHORTEST_WAIT_MS: i64 = 100;
const LONGEST_WAIT_MS: i64 = 3_600_000;

impl Engine {
    /// Carries a claimed run on. `Ok` = it was given back or has ended.
    pub(crate) async fn drive(&self, mut run: Run, hold: &Hold) -> Result<(), Stopped> {
        // Found at claiming, an intent is not ours to send: it is in doubt.
        let mut fresh = false;
        loop {
            if run.effect.as_ref().is_some_and(|e| !e.state.is_resolved()) {
                match self.resolve_effect(&run, fresh, hold).await? {
                    Resolved::Given => return Ok(()),
                    Resolved::Again { now_fresh } => {
                        fresh = now_fresh;
                        run = self.books.reload(&run.claim).await?;
                        continue;
                    }
                }
            }
            if run.preempted {
                return self.cancel(&run).await;
            }
            if let Some(held) = self.held_back(&run, None).await? {
                return self.wait_paused(&run, held, false).await;
            }
            let Some(kind) = self.kind_of(&run) else {
                let text = format!(
                    "no version of plugin `{}` that knows the operation `{}` is installed and enabled",
                    run.operation.plugin, run.operation.kind
                );
                let cause = wharf_plugins::report::Cause::NotInstalled;
                let error = CallError { cause, version: None, text, log: Vec::new(), used: Default::default() };
                return self.commit_call_error(&run, None, error).await;
            };
            self.kill.reach("step:before").await;
            // What a step asks of the books by itself (addresses, a number, room) is not fenced: a host that stood still must
            // not begin one.
            self.may_send(hold).await?;
            let span = traces::step(&run);
            let answer = self.runtime.step(run.clone()).instrument(span.clone()).await;
            traces::stepped(&span, &answer);
            drop(span);
            self.kill.reach("step:after").await;
            let go_on = match answer {
                Err(error) => {
                    self.commit_call_error(&run, Some(&kind), error).await?;
                    false
                }
                Ok(report) => {
                    // Swapped since it was looked up: what was called decides what its states mean.
                    let kind = self.kind_in(&run, &report.version).unwrap_or(kind);
                    self.commit_step(&run, &kind, report).await?
                }
            };
            if !go_on {
                return Ok(());
            }
            fresh = true;
            run = self.books.reload(&run.claim).await?;
        }
    }

    /// The operation as the version knows it that a step of it would run on now.
    pub(crate) fn kind_of(&self, run: &Run) -> Option<OperationKind> {
        let manifest = self.runtime.manifest_for_state(&run.operation.plugin, run.operation.state_version)?;
        manifest.operation(&run.operation.kind).cloned()
    }

    fn kind_in(&self, run: &Run, version: &semver::Version) -> Option<OperationKind> {
        self.runtime.manifest_of(&run.operation.plugin, version)?.operation(&run.operation.kind).cloned()
    }

    /// Commits what a step answered. `true` = the claim is still held.
    async fn commit_step(&self, run: &Run, kind: &OperationKind, report: StepReport) -> Result<bool, Stopped> {
        let now = self.clock.now_ms();
        let mut commit = Commit::new(run.claim, now, Then::Keep);
        commit.memo = report.memo.clone();
        commit.service.facts = report.facts.clone().into_iter().collect();
        commit.service.absence_proven_ms = report.absence_proven_ms.map(Some);
        commit.log = lines(&report.log);
        self.note_phase(run, kind, &mut commit);
        let edge;
        match report.answer.clone() {
            Ok(Outcome::Submitted) => {
                edge = ("commit:submitted:before", "commit:submitted:after");
                let Some(submitted) = report.submitted.clone() else {
                    return self.commit_failure(run, kind, commit, &report, no_write()).await;
                };
                let deadline_ms = now + self.effector.call_timeout_ms(&submitted.server).await;
                // Whatever is written may bring the VM back.
                commit.service.absence_proven_ms = Some(None);
                commit.effect = Some(EffectChange::New {
                    kind: submitted.kind,
                    server: submitted.server,
                    body: submitted.body,
                    slot: submitted.slot,
                    deadline_ms,
                });
            }
            Ok(Outcome::Reached(states)) => {
                edge = ("commit:reached:before", "commit:reached:after");
                let Some(last) = states.last().map(|r| r.state.clone()) else {
                    return self.commit_failure(run, kind, commit, &report, no_state()).await;
                };
                self.log_reached(run, kind, &report, &states, &mut commit, now);
                commit.state = Some((last.clone(), report.writes));
                commit.attempt = Some(0);
                if kind.states.last().is_some_and(|s| s.id == last) {
                    self.before_finish(run).await?;
                    let phase = self.phase_after(run, kind).await?;
                    self.finish(run, kind, &mut commit, Status::Succeeded, &phase, None);
                }
            }
            Ok(Outcome::Waiting { after_ms, topic, reason }) => {
                edge = ("commit:waiting:before", "commit:waiting:after");
                let reason = Reason { code: "waiting".into(), message: reason };
                self.log_pause(run, kind, &report.version.to_string(), &reason, &mut commit, false);
                commit.attempt = Some(0);
                commit.then = Then::Wait {
                    due_ms: now + i64::from(after_ms).clamp(SHORTEST_WAIT_MS, LONGEST_WAIT_MS),
                    topic: topic.map(|t| self.topic(run, &t)),
                    reason: Some(reason),
                };
            }
            Ok(Outcome::Stuck(why)) => {
                edge = ("commit:stuck:before", "commit:stuck:after");
                let reason = Reason { code: "stuck".into(), message: why };
                self.log_pause(run, kind, &report.version.to_string(), &reason, &mut commit, true);
                self.finish(run, kind, &mut commit, Status::NeedsAdmin, &kind.stuck_phase, Some(reason));
            }
            Err(failure) => return self.commit_failure(run, kind, commit, &report, failure).await,
        }
        self.kill.reach(edge.0).await;
        let done = self.write(run, commit).await?;
        self.kill.reach(edge.1).await;
        Ok(matches!(done, Committed::Held { .. }))
    }

    async fn commit_failure(
        &self,
        run: &Run,
        kind: &OperationKind,
        mut commit: Commit,
        report: &StepReport,
        failure: Failure,
    ) -> Result<bool, Stopped> {
        // What a failed step remembered is dropped: only its log is kept.
        commit.memo = None;
        commit.service.facts.clear();
        commit.service.absence_proven_ms = None;
        let attempt = run.operation.attempt + 1;
        let busy = failure.action == Action::Busy;
        let reason = Reason { code: failure.code, message: failure.message };
        self.log_pause(run, kind, &report.version.to_string(), &reason, &mut commit, !busy);
        let pause = failure
            .retry_after_ms
            .map_or_else(|| self.backoff_ms(attempt), |ms| i64::from(ms).clamp(SHORTEST_WAIT_MS, LONGEST_WAIT_MS));
        commit.attempt = Some(attempt);
        let topic = (failure.action == Action::ReportBug).then(|| plugin_topic(&run.operation.plugin));
        commit.then = Then::Wait { due_ms: commit.now + pause, topic, reason: Some(reason) };
        self.kill.reach("commit:failure:before").await;
        self.write(run, commit).await?;
        self.kill.reach("commit:failure:after").await;
        Ok(false)
    }

    async fn commit_call_error(
        &self,
        run: &Run,
        kind: Option<&OperationKind>,
        error: CallError,
    ) -> Result<(), Stopped> {
        let now = self.clock.now_ms();
        let attempt = run.operation.attempt + 1;
        let reason = Reason { code: format!("plugin-{}", error.cause.as_str()), message: error.text };
        let topic = Some(plugin_topic(&run.operation.plugin));
        let then = Then::Wait { due_ms: now + self.backoff_ms(attempt), topic, reason: Some(reason.clone()) };
        let mut commit = Commit::new(run.claim, now, then);
        commit.log = lines(&error.log);
        if let Some(kind) = kind {
            let version = error.version.map(|v| v.to_string()).unwrap_or_default();
            self.log_pause(run, kind, &version, &reason, &mut commit, true);
        } else {
            commit.log.push(host_line("error", reason.message));
        }
        commit.attempt = Some(attempt);
        self.kill.reach("commit:call-error:before").await;
        self.write(run, commit).await?;
        self.kill.reach("commit:call-error:after").await;
        Ok(())
    }

    /// Ends an operation that a newer wish has overtaken.
    async fn cancel(&self, run: &Run) -> Result<(), Stopped> {
        let now = self.clock.now_ms();
        let reason = Reason { code: "overtaken".into(), message: "overtaken by a newer wish for this service".into() };
        self.before_finish(run).await?;
        let mut commit = Commit::new(
            run.claim,
            now,
            Then::Finish { status: Status::Cancelled, phase: run.service.phase, reason: Some(reason) },
        );
        commit.log.push(host_line("info", "ended here: a newer wish has overtaken this operation".into()));
        commit.events.push(event(run, "operation.finished", run.service.phase, Status::Cancelled));
        self.kill.reach("commit:cancel:before").await;
        self.write(run, commit).await?;
        self.kill.reach("commit:cancel:after").await;
        Ok(())
    }

    /// What was promised to this operation is given back before its end is written: done twice it harms nobody, done never
    /// it would block others.
    async fn before_finish(&self, run: &Run) -> Result<(), Stopped> {
        self.books.release_room(Some(&run.claim), run.service.id).await?;
        Ok(())
    }

    /// The phase that this operation leads to. A suspension or its end mends nothing that had stopped before it: the service
    /// goes on needing an admin.
    async fn phase_after(&self, run: &Run, kind: &OperationKind) -> Result<String, Stopped> {
        let aside = |kind: &str| matches!(kind, "suspend" | "unsuspend");
        if aside(&kind.kind) {
            let history = self.books.operations(run.service.id, wharf_store::rules::HISTORY).await?;
            let mut before = history.iter().filter(|o| {
                o.generation < run.operation.generation && !aside(&o.kind) && o.status != Status::Cancelled
            });
            if before.next().is_some_and(|o| o.status == Status::NeedsAdmin) {
                return Ok(Phase::NeedsAdmin.as_str().to_owned());
            }
        }
        Ok(kind.final_phase.clone())
    }

    pub(crate) fn finish(
        &self,
        run: &Run,
        kind: &OperationKind,
        commit: &mut Commit,
        status: Status,
        phase: &str,
        reason: Option<Reason>,
    ) {
        let phase = Phase::parse(phase).unwrap_or(Phase::NeedsAdmin);
        if phase != run.service.phase {
            commit.events.push(event(run, "service.phase-changed", phase, status));
        }
        let what = if status == Status::NeedsAdmin { "operation.needs-admin" } else { "operation.finished" };
        let mut ended = event(run, what, phase, status);
        if let (Some(reason), Some(data)) = (&reason, ended.data.as_object_mut()) {
            data.insert("code".into(), reason.code.clone().into());
            data.insert("reason".into(), reason.message.clone().into());
        }
        commit.events.push(ended);
        let (service, kind) = (wharf_store::queue::subject(&run.service), &kind.kind);
        let why = reason.as_ref().map(|r| r.message.as_str());
        if status == Status::NeedsAdmin {
            tracing::error!(service, operation = %run.operation.id, kind, why, "operation stopped: a person has to go on with it");
        } else {
            tracing::info!(service, operation = %run.operation.id, kind, status = status.as_str(), why, "operation ended");
        }
        commit.then = Then::Finish { status, phase, reason };
    }

    /// Writes, tells listeners, and wakes those whom an end may help.
    pub(crate) async fn write(&self, run: &Run, commit: Commit) -> Result<Committed, Stopped> {
        let ended = matches!(commit.then, Then::Finish { .. });
        let freed_slot = matches!(commit.effect, Some(EffectChange::Resolved(_) | EffectChange::NotSent));
        let events = !commit.events.is_empty();
        let now = commit.now;
        let done = self.books.commit(commit).await?;
        self.notices.tell(crate::Notice::Operation(run.operation.id));
        if events {
            self.notices.tell(crate::Notice::Events);
            self.delivery_work.notify_one();
        }
        if ended {
            // Hints: whoever misses them looks again after the time it asked for.
            let _ = self.books.wake_topic("room", now).await;
            if run.service.absence_proven_ms.is_some() {
                let _ = self.books.wake_topic("addresses", now).await;
            }
        }
        if ended || freed_slot {
            self.work.notify_one();
        }
        self.dns_work.notify_one();
        Ok(done)
    }

    /// While an operation runs the service has its phase; a suspended or overtaken one keeps what it has.
    fn note_phase(&self, run: &Run, kind: &OperationKind, commit: &mut Commit) {
        if let Some(phase) = Phase::parse(&kind.phase)
            && run.service.phase != phase
            && !run.preempted
        {
            commit.service.phase = Some(phase);
            commit.events.push(event(run, "service.phase-changed", phase, Status::Running));
        }
    }

    fn log_reached(
        &self,
        run: &Run,
        kind: &OperationKind,
        report: &StepReport,
        states: &[Reached],
        commit: &mut Commit,
        now: i64,
    ) {
        let mut from = run.operation.state.clone();
        // The first state has taken all the time since the one before; those reached with it took none of their own.
        let mut duration_ms = now - run.operation.state_ms;
        for reached in states {
            let number = kind.states.iter().position(|s| s.id == reached.state).unwrap_or(0);
            let label = kind.states.get(number).map(|s| s.label.clone()).unwrap_or_default();
            let (result, effect) = match &reached.how {
                How::Done => (StepResult::Success, None),
                How::ByEffect(id) => (StepResult::Success, Some(id.clone())),
                How::Skipped(reason) => (StepResult::Skip { reason: reason.clone() }, None),
            };
            commit.log.push(LogBody::Step {
                number: u32::try_from(number).unwrap_or(0),
                label,
                from: std::mem::replace(&mut from, reached.state.clone()),
                to: reached.state.clone(),
                result,
                effect,
                version: report.version.to_string(),
                duration_ms: std::mem::take(&mut duration_ms),
                epoch: run.claim.epoch,
            });
        }
    }

    /// A step that did not get on: said once for each reason, errors each time.
    pub(crate) fn log_pause(
        &self,
        run: &Run,
        kind: &OperationKind,
        version: &str,
        reason: &Reason,
        commit: &mut Commit,
        is_error: bool,
    ) {
        if !is_error && run.operation.reason.as_ref() == Some(reason) {
            return;
        }
        let at = kind.states.iter().position(|s| s.id == run.operation.state).unwrap_or(0);
        let next = kind.states.get(at + 1);
        commit.log.push(LogBody::Step {
            number: u32::try_from(at + 1).unwrap_or(0),
            label: next.map(|s| s.label.clone()).unwrap_or_default(),
            from: run.operation.state.clone(),
            to: run.operation.state.clone(),
            result: if is_error {
                StepResult::Error { code: reason.code.clone(), message: reason.message.clone() }
            } else {
                StepResult::Waiting { reason: reason.message.clone() }
            },
            effect: None,
            version: version.to_owned(),
            duration_ms: 0,
            epoch: run.claim.epoch,
        });
    }

    /// "dns" and "vm" are about this service, other topics about everybody.
    fn topic(&self, run: &Run, topic: &str) -> String {
        if matches!(topic, "dns" | "vm") { format!("{topic}:{}", run.service.id) } else { topic.to_owned() }
    }
}

/// A line that the host itself writes into an operation's log.
pub(crate) fn host_line(level: &str, message: String) -> LogBody {
    LogBody::Line { level: level.into(), message, fields: Vec::new() }
}

fn lines(log: &[wharf_capabilities::call::LogLine]) -> Vec<LogBody> {
    log.iter()
        .map(|line| LogBody::Line {
            level: line.level.clone(),
            message: line.message.clone(),
            fields: line.fields.clone(),
        })
        .collect()
}

pub(crate) fn event(run: &Run, kind: &str, phase: Phase, status: Status) -> wharf_model::event::NewEvent {
    wharf_model::event::NewEvent {
        kind: kind.into(),
        service_id: Some(run.service.id),
        panel: Some(run.service.panel.clone()),
        subject: wharf_store::queue::subject(&run.service),
        generation: run.operation.generation,
        data: serde_json::json!({
            "service": run.service.id,
            "phase": phase.as_str(),
            "generation": run.operation.generation,
            "operation": run.operation.id,
            "kind": run.operation.kind,
            "status": status.as_str(),
        }),
    }
}

fn bug(code: &str, message: &str) -> Failure {
    Failure {
        action: Action::ReportBug,
        code: code.into(),
        message: message.into(),
        retry_after_ms: None,
        ext: Vec::new(),
    }
}

fn no_write() -> Failure {
    bug("no-write", "the step answered `submitted` but handed no write over: report this to the plugin's author")
}

fn no_state() -> Failure {
    bug("no-state", "the step answered `reached` without a state: report this to the plugin's author")
}
