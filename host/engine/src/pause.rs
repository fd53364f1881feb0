//! Pauses: an admin holds back a server, a node, a panel, a kind of operation, or everything.
//!
//! They are rows of the books, read before each step and right before each write leaves: every host sees a pause from its
//! next move on. What is paused waits with the admin's own words and holds no slot; wishes are taken on as ever. A write that
//! has left before is watched to its end, and one in doubt is looked for: both only read. Removing a pause wakes all that
//! wait for one; those that another pause still holds go back to waiting.

use wharf_model::{
    Millis,
    effect::Effect,
    object::{Object, ObjectKind, Pause, PauseScope},
    operation::Reason,
};
use wharf_store::{Commit, EffectChange, NewAudit, Run, StoreError, Then};

use crate::{Engine, worker::Stopped};

/// What runs wait for that are paused.
pub const TOPIC: &str = "pause";

/// A pause that holds a run back.
pub(crate) struct Held {
    /// In the admin's words.
    reason: Reason,
    /// Only for so long, and not for a topic: it is not known whether it is held at all.
    again_ms: Option<i64>,
}

impl Engine {
    /// Begins a pause: what in its scope has not left yet waits from now on. `Conflict` if it is paused already.
    pub async fn pause(&self, scope: PauseScope, reason: &str, by: &str) -> Result<Object, StoreError> {
        let name = scope.name();
        if self.books.object(ObjectKind::Pause, &name).await?.is_some() {
            return Err(already(&name));
        }
        let pause = Pause { scope, reason: reason.to_owned(), by: by.to_owned() };
        let body = serde_json::to_value(&pause).map_err(|e| StoreError::Corrupt(e.to_string()))?;
        let audit = audit(by, "pause.add", &name, serde_json::json!({ "reason": reason }));
        let now = self.clock.now_ms();
        let put = self.books.put_object(ObjectKind::Pause, &name, body, Some(0), Some(audit), now).await;
        put.map_err(|error| match error {
            StoreError::Conflict(_) => already(&name),
            other => other,
        })
    }

    /// Ends a pause, and wakes all that wait for one. `false` if there was none.
    pub async fn unpause(&self, scope: &PauseScope, by: &str) -> Result<bool, StoreError> {
        let name = scope.name();
        let audit = audit(by, "pause.remove", &name, serde_json::json!({}));
        let now = self.clock.now_ms();
        let removed = self.books.delete_object(ObjectKind::Pause, &name, Some(audit), now).await?;
        // Even if it was gone already: its remover may have died before this.
        self.books.wake_topic(TOPIC, now).await?;
        self.work.notify_one();
        Ok(removed)
    }

    /// Whether a pause holds the run back, or this write of it.
    pub(crate) async fn held_back(&self, run: &Run, effect: Option<&Effect>) -> Result<Option<Held>, Stopped> {
        let rows = self.books.objects(ObjectKind::Pause).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let server = effect.map_or(&run.service.server, |e| &e.server);
        // Asked only if there is a pause of a node that may be it.
        let mut nodes: Option<Vec<String>> = None;
        for row in rows {
            let Some(scope) = PauseScope::parse(&row.name) else {
                tracing::error!(
                    pause = row.name,
                    "a pause of an unknown kind can't be heeded: is a host older than the others?"
                );
                continue;
            };
            let holds = match &scope {
                PauseScope::Everything => true,
                PauseScope::Server(name) => name == server,
                PauseScope::Panel(name) => *name == run.service.panel,
                PauseScope::Kind(kind) => *kind == run.operation.kind,
                PauseScope::Node { server: of, .. } if of != server => false,
                PauseScope::Node { node, .. } => {
                    if nodes.is_none() {
                        match self.effector.nodes(effect, &run.service).await {
                            Ok(found) => nodes = Some(found),
                            Err(why) => {
                                let message = format!(
                                    "{} is paused, and it can't be told whether this is there: {why}",
                                    row.name
                                );
                                let reason = Reason { code: "paused".into(), message };
                                return Ok(Some(Held { reason, again_ms: Some(self.backoff_ms(3)) }));
                            }
                        }
                    }
                    nodes.iter().flatten().any(|n| n == node)
                }
            };
            if holds {
                let told: Option<Pause> = serde_json::from_value(row.body).ok();
                let (by, why) = told.map_or(("somebody".into(), "no reason can be read".into()), |p| (p.by, p.reason));
                let message = format!("paused: {by} since {} ({}): {why}", moment(row.created_ms), row.name);
                return Ok(Some(Held { reason: Reason { code: "paused".into(), message }, again_ms: None }));
            }
        }
        Ok(None)
    }

    /// Gives the claim back until the pause is removed. `unsent`: its effect was about to be sent, and gives its slot back.
    pub(crate) async fn wait_paused(&self, run: &Run, held: Held, unsent: bool) -> Result<(), Stopped> {
        let now = self.clock.now_ms();
        let topic = held.again_ms.is_none().then(|| TOPIC.to_owned());
        // The topic wakes it; the time is for a wake-up that got lost.
        let due_ms = now + held.again_ms.unwrap_or(self.config.backoff_longest_ms);
        let waits = topic.is_some();
        let then = Then::Wait { due_ms, topic, reason: Some(held.reason.clone()) };
        let mut commit = Commit::new(run.claim, now, then);
        self.note(run, &mut commit, "info", &held.reason);
        if unsent {
            commit.effect = Some(EffectChange::NotSent);
        }
        self.kill.reach("commit:paused:before").await;
        self.write(run, commit).await?;
        self.kill.reach("commit:paused:after").await;
        // Removed since it was looked at: its wake-up came too early for this run.
        if waits && self.held_back(run, run.effect.as_ref().filter(|e| !e.state.is_resolved())).await?.is_none() {
            self.books.wake(run.operation.id, self.clock.now_ms()).await?;
            self.work.notify_one();
        }
        Ok(())
    }
}

fn already(name: &str) -> StoreError {
    StoreError::Conflict(format!("{name} is paused already: remove that pause first to give another reason"))
}

fn audit(by: &str, action: &str, name: &str, body: serde_json::Value) -> NewAudit {
    NewAudit { actor: by.into(), action: action.into(), subject: format!("pause/{name}"), body }
}

/// `2026-11-21 10:58 UTC`, for people.
fn moment(at_ms: Millis) -> String {
    let minutes = at_ms.div_euclid(60_000);
    let (day, minute) = (minutes.div_euclid(1_440), minutes.rem_euclid(1_440));
    // Days since 1970 to a date: http://howardhinnant.github.io/date_algorithms.html#civil_from_days
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let y = yoe + era * 400 + i64::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02} {:02}:{:02} UTC", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn a_moment_is_told_for_people() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_400_000 - 1), "2000-02-28 23:59 UTC");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_795_258_725_000), "2026-11-21 10:58 UTC");
    }
}
