//! Tells lifecycle hooks of events: at least once, in order for a service, by a queue of its own.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tracing::Instrument;
use wharf_capabilities::call::HookBinding;
use wharf_model::{
    event::Delivery,
    object::{Hook, ObjectKind},
};
use wharf_plugins::report::{Action, Failure, Heard};
use wharf_store::NewAudit;

use crate::{Engine, traces};

/// Deliveries in flight on this host.
const CONCURRENCY: usize = 16;
/// Longest that one delivery is held; the plugin's call limit is far below.
const TTL_MS: i64 = 60_000;
/// A hook that is off keeps its events and is looked at again after this.
const OFF_RETRY_MS: i64 = 300_000;
/// A hook asks for no longer pause than this between two attempts.
const LONGEST_RETRY_MS: i64 = 86_400_000;

impl Engine {
    pub(crate) async fn delivery_loop(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.kill.reach("claim-deliveries").await;
            let now = self.clock.now_ms();
            let claimed = match self.books.claim_deliveries(self.owner, TTL_MS, CONCURRENCY, now).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, "can't read the queue of deliveries");
                    Vec::new()
                }
            };
            let some = !claimed.is_empty();
            futures::stream::iter(claimed)
                .for_each_concurrent(CONCURRENCY, |delivery| {
                    let engine = Arc::clone(&self);
                    async move {
                        // A panic about one must not end the loop for all.
                        if AssertUnwindSafe(engine.deliver(delivery)).catch_unwind().await.is_err() {
                            tracing::error!("the host failed while telling a hook; the event is told again");
                        }
                    }
                })
                .await;
            if some {
                continue;
            }
            let pause = self.pause_until(self.books.next_delivery_due().await).await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.delivery_work.notified() => {}
                // Whoever could have said stop is gone: that is a stop, too.
                changed = stop.changed() => if changed.is_err() { break },
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) {
        let span = traces::delivery(&delivery);
        let again = self.tell(&delivery).instrument(span.clone()).await;
        span.record("outcome", if again.is_some() { "later" } else { "done" });
        drop(span);
        let now = self.clock.now_ms();
        let due = again.map(|pause| now + pause);
        self.kill.reach("commit:delivery:before").await;
        if let Err(error) = self.books.settle_delivery(self.owner, &delivery, due, now).await {
            tracing::warn!(hook = delivery.hook, event = %delivery.event.id, %error, "can't write what became of a delivery; it is repeated");
        }
    }

    /// `Some(pause)` = again after so many milliseconds.
    async fn tell(&self, delivery: &Delivery) -> Option<i64> {
        let object = match self.books.object(ObjectKind::Hook, &delivery.hook).await {
            Ok(Some(object)) => object,
            // The hook was deleted: nobody is left to be told.
            Ok(None) => return None,
            Err(_) => return Some(self.backoff_ms(delivery.attempt)),
        };
        let Ok(hook) = serde_json::from_value::<Hook>(object.body.clone()) else {
            tracing::error!(hook = delivery.hook, "the hook's settings can't be read: save it again");
            return Some(OFF_RETRY_MS);
        };
        if hook.off {
            return Some(OFF_RETRY_MS);
        }
        let binding = HookBinding {
            name: delivery.hook.clone(),
            settings: hook.settings.clone(),
            event: Some(delivery.event.clone()),
            attempt: delivery.attempt,
            question: None,
        };
        self.kill.reach("call:tell:before").await;
        let told = self.runtime.tell(&hook.plugin, binding).await;
        self.kill.reach("call:tell:after").await;
        match told {
            Ok(report) => match report.answer {
                Ok(Heard::Delivered | Heard::Ignored) => None,
                Ok(Heard::GivenUp(why)) => {
                    let kind = &delivery.event.event.kind;
                    tracing::warn!(hook = delivery.hook, event = %delivery.event.id, kind, reason = why, "the hook gave an event up: it was not delivered");
                    None
                }
                Err(failure) => self.after_failure(delivery, hook, object.revision, failure).await,
            },
            Err(error) => {
                tracing::warn!(hook = delivery.hook, %error, cause = error.cause.as_str(), "a lifecycle hook gave no answer");
                Some(self.backoff_ms(delivery.attempt))
            }
        }
    }

    async fn after_failure(&self, delivery: &Delivery, mut hook: Hook, revision: i64, failure: Failure) -> Option<i64> {
        let name = &delivery.hook;
        match failure.action {
            Action::Busy | Action::Retry | Action::Unknown => {
                tracing::info!(
                    hook = name,
                    attempt = delivery.attempt,
                    reason = failure.message,
                    "delivery failed; it is tried again"
                );
                Some(
                    failure
                        .retry_after_ms
                        .map_or_else(|| self.backoff_ms(delivery.attempt), |ms| i64::from(ms).min(LONGEST_RETRY_MS)),
                )
            }
            Action::FixInput | Action::ReportBug => {
                tracing::warn!(hook = name, event = %delivery.event.id, kind = delivery.event.event.kind, reason = failure.message, "event dropped by the hook");
                None
            }
            Action::FixConfig => {
                tracing::error!(
                    hook = name,
                    reason = failure.message,
                    "hook switched off: mend it and switch it on again; its events are kept"
                );
                hook.off = true;
                hook.off_reason = Some(failure.message.clone());
                let audit = NewAudit {
                    actor: "host".into(),
                    action: "hook.off".into(),
                    subject: format!("hook/{name}"),
                    body: serde_json::json!({"code": failure.code, "reason": failure.message}),
                };
                if let Ok(body) = serde_json::to_value(&hook) {
                    // Changed by an admin meanwhile: that newer setting counts, and is tried.
                    let _ = self
                        .books
                        .put_object(ObjectKind::Hook, name, body, Some(revision), Some(audit), self.clock.now_ms())
                        .await;
                }
                Some(OFF_RETRY_MS)
            }
        }
    }
}
