//! Effects as the engine sees them: something to execute, to probe when in doubt, and to watch. And what it may ask of a
//! server beside that: which nodes are touched, and what is there.

use std::{collections::BTreeMap, net::IpAddr};

use async_trait::async_trait;
use wharf_model::{
    effect::{Effect, EffectResult},
    service::{Service, ServiceId},
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

/// A guest of a server, as one look at all of them shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    pub vmid: u32,
    pub node: String,
    /// It can only be copied, or it is no VM at all: never a service's.
    pub template: bool,
    pub container: bool,
}

/// What a guest's own configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestConfig {
    /// Whose it is, by its ownership marker.
    pub owner: Option<ServiceId>,
    /// A copy that is not finished: it has no marker yet.
    pub copying: bool,
    /// The fixed addresses that it is given; none if the server gives it no addresses.
    pub addresses: Option<Vec<IpAddr>>,
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

    /// The nodes that are touched by this effect, or, without one, the node of the service's VM. As far as they can be told:
    /// what is not there yet is on none. `Err` = the server can't be asked right now.
    async fn nodes(&self, _effect: Option<&Effect>, _service: &Service) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// All guests of a server, in one look. `Err` says why there is none: parked, out of reach, not allowed.
    async fn guests(&self, _server: &str) -> Result<Vec<Guest>, String> {
        Err("this kind of server can't be looked through".into())
    }

    /// Numbers of guests that the server remembers work on, and who did it, as far back as its nodes keep their tasks. `Err`
    /// if any of its nodes does not answer: what is not seen is not proven to be free.
    async fn remembered(&self, _server: &str) -> Result<BTreeMap<u32, String>, String> {
        Err("this kind of server can't be looked through".into())
    }

    /// A closer look at one of them; none if it is gone by now.
    async fn guest_config(&self, _server: &str, _guest: &Guest) -> Result<Option<GuestConfig>, String> {
        Ok(None)
    }
}
