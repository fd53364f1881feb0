//! Effects as the engine sees them: something to execute, to probe when in doubt, and to watch.

use async_trait::async_trait;
use wharf_model::{
    effect::{Effect, EffectResult},
    service::Service,
};

/// What came of sending an effect, or of looking for one whose answer was lost.
#[derive(Debug, Clone, PartialEq)]
pub enum Execution {
    /// It is over, well or badly.
    Done(EffectResult),
    /// The server works on it; its task id.
    Task(String),
    /// Surely not done: locked, overloaded, refused before it began, connection never made. Try again after this time
    /// (none = the engine's back-off).
    NotSent { code: String, reason: String, retry_after_ms: Option<i64> },
    /// It may have been done. Probe after the effect's deadline.
    InDoubt { reason: String },
    /// Nobody but a person can tell, or may decide. Why, and what to do.
    Stuck { reason: String },
}

/// A look at a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskView {
    Running,
    Ended(EffectResult),
    /// The server does not know it (any more): probe.
    Lost {
        reason: String,
    },
    /// The server can't be asked right now.
    Unreachable {
        reason: String,
    },
}

/// Executes effects. One for each kind of server; the engine knows no more of it.
#[async_trait]
pub trait Effector: Send + Sync + 'static {
    /// How long an unanswered call of this effect may still arrive, in milliseconds.
    async fn call_timeout_ms(&self, server: &str) -> i64;
    /// Sends it, once.
    async fn execute(&self, effect: &Effect, service: &Service) -> Execution;
    /// Finds out what became of one that may have been sent. `NotSent` = surely not: it may be sent again.
    async fn probe(&self, effect: &Effect, service: &Service) -> Execution;
    /// Looks at the task of an issued effect.
    async fn task(&self, effect: &Effect, service: &Service) -> TaskView;
    /// Which of these tasks of one server have ended. Cheap: it is asked every tick; only a hint for waking.
    async fn ended_tasks(&self, server: &str, tasks: &[String]) -> Vec<String>;
}
