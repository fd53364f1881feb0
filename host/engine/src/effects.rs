//! Resolves an effect: send it, watch it, or find out what became of it.
//!
//! The order of commit and call is the whole point: *intent* is committed before the call, the task id or result after it.
//! An intent that this worker did not commit itself just now is in doubt: it waits until the call can't arrive any more,
//! then it is probed, and adopted or sent again; never repeated blindly.

use std::time::Duration;

use wharf_capabilities::effects::{Execution, TaskView};
use wharf_model::{
    effect::{Effect, EffectResult, EffectState},
    operation::{Reason, Status},
};
use wharf_store::{Commit, Committed, EffectChange, Run, Then, rules};

use crate::{
    Engine,
    step::host_line,
    worker::{Hold, Stopped},
};

/// Between lines about a task that takes long: every 15 s at first, so that nobody wonders, and every 5 minutes of one
/// that takes its time.
const BEAT_MS: i64 = 15_000;
const BEATS_MS: i64 = 120_000;
const LONG_BEAT_MS: i64 = 300_000;

/// When a running task is looked at again, unless the watcher sees its end before, and what is said meanwhile.
fn heartbeat(kind: &str, issued_ms: i64, now: i64) -> (i64, String) {
    let waited = (now - issued_ms).max(0);
    let beat = if waited < BEATS_MS { BEAT_MS } else { LONG_BEAT_MS };
    let full = waited / beat * beat;
    let next = if waited < BEATS_MS { full + beat } else { (full + beat).max(waited + BEAT_MS) };
    let mut text = format!("the server is working on the {kind}");
    if full > 0 {
        text = format!("{text}, {} s so far", full / 1000);
    }
    (issued_ms + next, text)
}

/// Where resolving has led.
pub(crate) enum Resolved {
    /// The claim was given back.
    Given,
    /// Held on to: load the run again and go on. `now_fresh` = its effect is an intent that this worker committed.
    Again { now_fresh: bool },
}

impl Engine {
    pub(crate) async fn resolve_effect(&self, run: &Run, fresh: bool, hold: &Hold) -> Result<Resolved, Stopped> {
        let Some(effect) = &run.effect else { return Ok(Resolved::Again { now_fresh: false }) };
        match effect.state {
            EffectState::Planned if run.preempted => {
                let result = EffectResult {
                    ok: false,
                    code: "cancelled".into(),
                    message: "not sent: a newer wish has overtaken this operation".into(),
                };
                self.settle(run, effect, result).await
            }
            EffectState::Planned => {
                if let Some(held) = self.held_back(run, Some(effect)).await? {
                    // Its turn for a slot is the next one's.
                    self.wait_paused(run, held, true).await?;
                    return Ok(Resolved::Given);
                }
                let now = self.clock.now_ms();
                let deadline_ms = now + self.effector.call_timeout_ms(&effect.server).await;
                let mut commit = Commit::new(run.claim, now, Then::Keep);
                commit.effect = Some(EffectChange::Send { deadline_ms });
                self.kill.reach("commit:send:before").await;
                let done = self.write(run, commit).await?;
                self.kill.reach("commit:send:after").await;
                Ok(match done {
                    Committed::Held { .. } => Resolved::Again { now_fresh: true },
                    Committed::Released { .. } => Resolved::Given,
                })
            }
            EffectState::Intent if fresh => {
                if let Some(held) = self.held_back(run, Some(effect)).await? {
                    self.wait_paused(run, held, true).await?;
                    return Ok(Resolved::Given);
                }
                self.may_send(hold).await?;
                self.kill.reach("call:execute:before").await;
                let execution = hold.away(self.effector.execute(effect, &run.service)).await;
                self.kill.reach("call:execute:after").await;
                self.after_execution(run, effect, execution).await
            }
            EffectState::Intent => {
                let now = self.clock.now_ms();
                let settled_ms = effect.deadline_ms + self.config.doubt_margin_ms;
                let longest = self.effector.call_timeout_ms(&effect.server).await + self.config.doubt_margin_ms;
                if settled_ms - now > rules::FARTHEST_MS.max(longest) {
                    // The clock was set back: that time will not come, so it is waited for by another clock.
                    let longest = Duration::from_millis(u64::try_from(longest).unwrap_or(60_000));
                    hold.away(tokio::time::sleep(longest)).await;
                } else if now < settled_ms {
                    let reason = format!(
                        "it is not known whether the {} reached the server; looking again when it can't arrive any more",
                        effect.kind
                    );
                    return self.wait(run, settled_ms, "in-doubt", reason).await;
                }
                self.kill.reach("call:probe:before").await;
                let execution = hold.away(self.effector.probe(effect, &run.service)).await;
                self.kill.reach("call:probe:after").await;
                self.after_execution(run, effect, execution).await
            }
            EffectState::Issued => {
                self.kill.reach("call:task:before").await;
                let view = hold.away(self.effector.task(effect, &run.service)).await;
                self.kill.reach("call:task:after").await;
                match view {
                    // The watcher wakes it earlier.
                    TaskView::Running => {
                        let (due, reason) =
                            heartbeat(&effect.kind, effect.issued_ms.unwrap_or(effect.created_ms), self.clock.now_ms());
                        self.wait(run, due, "task", reason).await
                    }
                    TaskView::Ended(result) => self.settle(run, effect, result).await,
                    TaskView::Lost { .. } => {
                        let execution = hold.away(self.effector.probe(effect, &run.service)).await;
                        self.after_execution(run, effect, execution).await
                    }
                    TaskView::Unreachable { reason } => self.wait_failed(run, "server-unreachable", reason, None).await,
                }
            }
            EffectState::Ok | EffectState::Failed => Ok(Resolved::Again { now_fresh: false }),
        }
    }

    async fn after_execution(&self, run: &Run, effect: &Effect, execution: Execution) -> Result<Resolved, Stopped> {
        let now = self.clock.now_ms();
        match execution {
            Execution::Done(result) => self.settle(run, effect, result).await,
            Execution::Task(task) => {
                let (due_ms, message) = heartbeat(&effect.kind, now, now);
                let reason = Some(Reason { code: "task".into(), message });
                let mut commit = Commit::new(run.claim, now, Then::Wait { due_ms, topic: None, reason });
                commit.effect = Some(EffectChange::Issued { task });
                self.kill.reach("commit:issued:before").await;
                self.write(run, commit).await?;
                self.kill.reach("commit:issued:after").await;
                self.work.notify_one();
                Ok(Resolved::Given)
            }
            Execution::NotSent { code, reason, retry_after_ms } => {
                let attempt = run.operation.attempt + 1;
                let due_ms = now + retry_after_ms.unwrap_or_else(|| self.backoff_ms(attempt));
                let reason = Reason { code, message: reason };
                let mut commit =
                    Commit::new(run.claim, now, Then::Wait { due_ms, topic: None, reason: Some(reason.clone()) });
                self.note(run, &mut commit, "info", &reason);
                commit.attempt = Some(attempt);
                commit.effect = Some(EffectChange::NotSent);
                self.kill.reach("commit:not-sent:before").await;
                self.write(run, commit).await?;
                self.kill.reach("commit:not-sent:after").await;
                Ok(Resolved::Given)
            }
            Execution::InDoubt { reason } => {
                let settled = Some(effect.deadline_ms + self.config.doubt_margin_ms);
                let settled = settled.filter(|at| at - now <= rules::FARTHEST_MS).unwrap_or(now + BEAT_MS);
                let due = settled.max(now + self.config.backoff_first_ms);
                self.wait(run, due, "in-doubt", reason).await
            }
            Execution::Stuck { reason } => {
                let reason = Reason { code: "effect-stuck".into(), message: reason };
                let mut commit = Commit::new(run.claim, now, Then::Keep);
                commit.log.push(host_line("error", reason.message.clone()));
                match self.kind_of(run) {
                    Some(kind) => {
                        let phase = kind.stuck_phase.clone();
                        self.finish(run, &kind, &mut commit, Status::NeedsAdmin, &phase, Some(reason));
                    }
                    None => {
                        commit.then = Then::Finish {
                            status: Status::NeedsAdmin,
                            phase: wharf_model::service::Phase::NeedsAdmin,
                            reason: Some(reason),
                        };
                    }
                }
                self.kill.reach("commit:effect-stuck:before").await;
                self.write(run, commit).await?;
                self.kill.reach("commit:effect-stuck:after").await;
                Ok(Resolved::Given)
            }
        }
    }

    /// Writes the end of an effect. A first failure lets the step decide at once; further ones back off.
    async fn settle(&self, run: &Run, effect: &Effect, result: EffectResult) -> Result<Resolved, Stopped> {
        let now = self.clock.now_ms();
        let mut commit = Commit::new(run.claim, now, Then::Keep);
        let mut held = true;
        if !result.ok {
            let attempt = run.operation.attempt + 1;
            commit.attempt = Some(attempt);
            let reason = Reason { code: result.code.clone(), message: result.message.clone() };
            commit.log.push(host_line(
                "warn",
                format!("{} {} failed ({}): {}", effect.kind, effect.id(), reason.code, reason.message),
            ));
            if attempt > 1 && !run.preempted {
                held = false;
                commit.then =
                    Then::Wait { due_ms: now + self.backoff_ms(attempt - 1), topic: None, reason: Some(reason) };
            }
        } else if !result.code.is_empty() {
            commit.log.push(host_line("warn", format!("{} {}: {}", effect.kind, effect.id(), result.message)));
        }
        commit.effect = Some(EffectChange::Resolved(result));
        self.kill.reach("commit:resolved:before").await;
        self.write(run, commit).await?;
        self.kill.reach("commit:resolved:after").await;
        Ok(if held { Resolved::Again { now_fresh: false } } else { Resolved::Given })
    }

    async fn wait(&self, run: &Run, due_ms: i64, code: &str, message: String) -> Result<Resolved, Stopped> {
        let reason = Reason { code: code.into(), message };
        let mut commit = Commit::new(
            run.claim,
            self.clock.now_ms(),
            Then::Wait { due_ms, topic: None, reason: Some(reason.clone()) },
        );
        match code {
            "in-doubt" => self.note(run, &mut commit, "warn", &reason),
            // A short task is not worth a line.
            "task" if reason.message.ends_with("so far") => self.note(run, &mut commit, "info", &reason),
            _ => {}
        }
        self.kill.reach("commit:wait:before").await;
        self.write(run, commit).await?;
        self.kill.reach("commit:wait:after").await;
        Ok(Resolved::Given)
    }

    async fn wait_failed(
        &self,
        run: &Run,
        code: &str,
        message: String,
        retry_after_ms: Option<i64>,
    ) -> Result<Resolved, Stopped> {
        let now = self.clock.now_ms();
        let attempt = run.operation.attempt + 1;
        let reason = Reason { code: code.into(), message };
        let due_ms = now + retry_after_ms.unwrap_or_else(|| self.backoff_ms(attempt));
        let mut commit = Commit::new(run.claim, now, Then::Wait { due_ms, topic: None, reason: Some(reason.clone()) });
        commit.attempt = Some(attempt);
        self.note(run, &mut commit, "warn", &reason);
        self.write(run, commit).await?;
        Ok(Resolved::Given)
    }

    /// A line in the log, once for each reason.
    pub(crate) fn note(&self, run: &Run, commit: &mut Commit, level: &str, reason: &Reason) {
        if run.operation.reason.as_ref() != Some(reason) {
            commit.log.push(host_line(level, reason.message.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_task_is_told_of_every_15_seconds_for_two_minutes_then_every_five_minutes() {
        let at = |waited: i64| heartbeat("shutdown", 1_000, 1_000 + waited);
        assert_eq!(at(0), (16_000, "the server is working on the shutdown".into()));
        assert_eq!(at(15_200), (31_000, "the server is working on the shutdown, 15 s so far".into()));
        assert_eq!(at(119_999).0, 121_000);
        assert_eq!(at(120_000).0, 301_000);
        assert_eq!(at(300_500), (601_000, "the server is working on the shutdown, 300 s so far".into()));
    }

    #[test]
    fn a_clock_that_was_set_back_does_no_harm() {
        assert_eq!(heartbeat("shutdown", 1_000, -5_000).0, 16_000);
    }
}
