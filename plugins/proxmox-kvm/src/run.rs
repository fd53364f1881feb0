//! One step of any operation: settles the last write, goes through the states that are reached already, and hands over
//! at most one write.
//!
//! States are gone through strictly in the manifest's order. What a step reaches it returns at once; the write that the
//! next state needs is decided anew by the next step, so a step that is repeated or lost does no harm.

use crate::deploy;
use crate::disks;
use crate::host::{Action, Effect, Failure, Host, How, Level, Look, Outcome, Presence, Reached, Wait, Write};
use crate::memo::{Flight, Memo};
use crate::settings::Settings;
use crate::{power, terminate};

/// The kinds of operation with their states, first to final, as the manifest lists them.
pub const KINDS: [(&str, &[&str]); 4] = [
    ("deploy", &deploy::STATES),
    ("terminate", &terminate::STATES),
    ("suspend", &power::SUSPEND),
    ("unsuspend", &power::UNSUSPEND),
];

/// Name of the secret with the OS user's password.
pub const PASSWORD: &str = "os-password";
/// Wait for a lock or a copy, when nothing better is known.
const VM_WAIT_MS: u32 = 2_000;
/// Collisions with other writers of the configuration that are answered at once; more wait a moment.
const COLLISIONS_AT_ONCE: u32 = 3;

/// What a state answers.
pub enum Turn {
    Reached(How),
    /// Hand this over; on success it satisfies these states.
    Submit {
        write: Write,
        states: Vec<&'static str>,
        password: Option<String>,
    },
    Wait(Wait),
    Stuck(String),
}

impl Turn {
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Reached(How::Skipped(why.into()))
    }

    pub fn submit(write: Write, states: &[&'static str]) -> Self {
        Self::Submit { write, states: states.to_vec(), password: None }
    }

    pub fn wait(after_ms: u32, topic: Option<&str>, reason: impl Into<String>) -> Self {
        Self::Wait(Wait { after_ms, topic: topic.map(str::to_owned), reason: reason.into(), ext: Vec::new() })
    }
}

/// Ends a state's turn early.
pub enum Stop {
    Turn(Turn),
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Turn> for Stop {
    fn from(turn: Turn) -> Self {
        Self::Turn(turn)
    }
}

/// One call of `step`.
pub struct Run<'a, H: Host> {
    pub host: &'a H,
    pub settings: Settings,
    pub memo: Memo,
    /// The write that was in flight, with its result.
    pub settled: Option<(Flight, Effect)>,
    looked: Option<Look>,
}

/// Carries the operation on, once.
pub fn step<H: Host>(host: &H) -> Result<Outcome, Failure> {
    let kind = host.kind();
    let states = KINDS.iter().find(|(k, _)| *k == kind).map(|(_, states)| *states).ok_or_else(|| {
        Failure::report_bug(
            "unknown-kind",
            format!("This plugin knows no operation `{kind}`: its manifest and its code disagree."),
        )
    })?;
    let settings =
        if kind == "deploy" { Settings::parse(&host.settings())? } else { Settings::parse_lenient(&host.settings()) };
    let mut run = Run { host, settings, memo: Memo::read(host.memo().as_deref()), settled: None, looked: None };
    match run.go(states) {
        Ok(outcome) => {
            host.remember(&run.memo.write());
            Ok(outcome)
        }
        // Expected contention is no error and not counted as an attempt. Nothing was done, so nothing is remembered.
        Err(busy) if busy.action == Action::Busy => Ok(Outcome::Waiting(Wait {
            after_ms: busy.retry_after_ms.unwrap_or(5_000),
            topic: topic_of(&busy.code).map(str::to_owned),
            reason: busy.message,
            ext: Vec::new(),
        })),
        Err(failure) => Err(failure),
    }
}

/// What ends a wait of this code early.
fn topic_of(code: &str) -> Option<&'static str> {
    match code {
        "addresses-short" => Some("addresses"),
        "no-room" => Some("room"),
        "locked" | "still-there" | "busy" => Some("vm"),
        _ => None,
    }
}

impl<H: Host> Run<'_, H> {
    fn go(&mut self, states: &'static [&'static str]) -> Result<Outcome, Failure> {
        if let Some(wait) = self.settle() {
            return Ok(Outcome::Waiting(wait));
        }
        let here = self.host.state();
        let at = states.iter().position(|s| *s == here).ok_or_else(|| {
            Failure::report_bug("unknown-state", format!("`{here}` is no state of this operation: set one that is."))
        })?;
        let mut reached = Vec::new();
        for state in states.iter().skip(at + 1) {
            let before = self.memo.clone();
            let turn = match self.turn(state) {
                Ok(turn) | Err(Stop::Turn(turn)) => Ok(turn),
                Err(Stop::Failed(failure)) => Err(failure),
            };
            match turn {
                Ok(Turn::Reached(how)) => reached.push(Reached { state: (*state).to_owned(), how, ext: Vec::new() }),
                // What was reached is told first; the rest is decided anew, as if this turn had not been.
                _ if !reached.is_empty() => {
                    self.memo = before;
                    break;
                }
                Err(failure) => return Err(failure),
                Ok(turn) => return self.hand_over(turn),
            }
        }
        if reached.is_empty() {
            return Err(Failure::report_bug(
                "final-state",
                format!("`{here}` is the final state: there is nothing left to do."),
            ));
        }
        Ok(Outcome::Reached(reached))
    }

    fn hand_over(&mut self, turn: Turn) -> Result<Outcome, Failure> {
        match turn {
            Turn::Reached(_) => Err(Failure::report_bug("turn", "A reached state was to be handed over.")),
            Turn::Submit { write, states, password } => {
                self.submit(&write, &states, password)?;
                Ok(Outcome::Submitted)
            }
            Turn::Wait(wait) => Ok(Outcome::Waiting(wait)),
            Turn::Stuck(why) => Ok(Outcome::Stuck(why)),
        }
    }

    fn turn(&mut self, state: &'static str) -> Result<Turn, Stop> {
        match self.host.kind().as_str() {
            "deploy" => self.deploy_turn(state),
            "terminate" => self.terminate_turn(state),
            _ => self.power_turn(state),
        }
    }

    /// Takes in the result of the write in flight. A wait comes back when the server was busy.
    fn settle(&mut self) -> Option<Wait> {
        let flight = self.memo.flight.take()?;
        // Without its result the write never left: the VM is looked at and the write decided anew.
        let effect = self.host.last_effect().filter(|e| e.id == flight.id)?;
        if effect.ok {
            for state in &flight.states {
                self.memo.effects.insert(state.clone(), flight.id.clone());
            }
            if let Some(print) = &flight.password {
                self.host.set_fact("password-set", Some(print));
            }
            self.memo.collisions = 0;
        } else {
            match effect.code.as_str() {
                "locked" | "busy" => {
                    // It did not begin: its time has not begun either.
                    match flight.key.as_str() {
                        "shutdown" => self.memo.stop_since_ms = None,
                        "stop" => self.memo.hard_stop_since_ms = None,
                        _ => {}
                    }
                    return Some(Wait {
                        after_ms: 5_000,
                        topic: Some("vm".into()),
                        reason: format!("Proxmox is busy with the VM ({}): asked again in a moment", effect.message),
                        ext: Vec::new(),
                    });
                }
                "digest" => {
                    self.memo.collisions += 1;
                    self.host.log(
                        Level::Info,
                        "somebody else changed the VM's configuration in the same moment: looking again",
                    );
                    if self.memo.collisions > COLLISIONS_AT_ONCE {
                        return Some(Wait {
                            after_ms: VM_WAIT_MS,
                            topic: None,
                            reason: "the VM's configuration keeps changing under our hands".into(),
                            ext: Vec::new(),
                        });
                    }
                    return None;
                }
                _ => {}
            }
        }
        self.settled = Some((flight, effect));
        None
    }

    /// Hands a write over. The same aim right after it failed, or after it claimed success without effect, is an error
    /// first, so that the host shows it and backs off; the attempt after that tries again.
    fn submit(&mut self, write: &Write, states: &[&'static str], password: Option<String>) -> Result<(), Failure> {
        let attempt = self.host.attempt();
        if let Some((flight, effect)) = &self.settled
            && flight.key == write.key()
            && (attempt == 0 || attempt == flight.attempt)
        {
            return Err(failed(flight, effect, write));
        }
        let id = self.host.submit(write)?;
        self.memo.flight = Some(Flight {
            id,
            key: write.key(),
            states: states.iter().map(|s| (*s).to_owned()).collect(),
            attempt,
            password,
        });
        Ok(())
    }

    /// One look a step is enough: nothing is written while it runs.
    pub fn look(&mut self) -> Result<Look, Failure> {
        if let Some(look) = &self.looked {
            return Ok(look.clone());
        }
        let look = self.host.look()?;
        self.looked = Some(look.clone());
        Ok(look)
    }

    /// After another number was reserved.
    pub fn look_again(&mut self) {
        self.looked = None;
    }

    /// The VM, ours and free to be written to; else what to do instead.
    pub fn own_vm(&mut self) -> Result<Look, Stop> {
        let look = self.look()?;
        let number = self.host.number().unwrap_or_default();
        match look.presence {
            Presence::Ours => match &look.lock {
                Some(lock) => Err(Turn::wait(VM_WAIT_MS, Some("vm"), format!("Proxmox holds the lock `{lock}` on VM {number}")).into()),
                None => Ok(look),
            },
            Presence::Copying => Err(Turn::wait(VM_WAIT_MS, Some("vm"), format!("the copy of VM {number} has just begun")).into()),
            Presence::None => {
                // A VM on its way between two nodes may be out of sight for a moment: only proof makes it gone.
                self.host.prove_absence()?;
                Err(Turn::Stuck(format!(
                    "VM {number} is gone: it was removed by other hands. Terminate the service, or reset it to `creation` to deploy it again."
                ))
                .into())
            }
            Presence::Foreign => Err(Turn::Stuck(format!(
                "VM {number} does not carry this service's mark any more: it is not touched. Find out whose it is; if it \
                 is this one, restore the mark in its description."
            ))
            .into()),
        }
    }

    /// Reached by the write that satisfied the state, if one did; else because nothing had to change.
    pub fn by_effect(&self, state: &str) -> Turn {
        match self.memo.effects.get(state) {
            Some(id) => Turn::Reached(How::ByEffect(id.clone())),
            None => Turn::skipped("no change"),
        }
    }

    /// What the write in flight became, if it had this aim.
    pub fn result_of(&self, key: &str) -> Option<&Effect> {
        self.settled.as_ref().filter(|(flight, _)| flight.key == key).map(|(_, effect)| effect)
    }

    pub fn suspended(&self) -> bool {
        self.host.service("suspended").as_deref() == Some("true")
    }

    pub fn info(&self, message: impl AsRef<str>) {
        self.host.log(Level::Info, message.as_ref());
    }

    pub fn warn(&self, message: impl AsRef<str>) {
        self.host.log(Level::Warn, message.as_ref());
    }

    /// Whether all of the VM's volumes stand on shared storage, by what the storages say.
    pub fn on_shared_storage(&self, look: &Look) -> Result<bool, Failure> {
        let storages = self.host.storages()?;
        Ok(disks::volumes(&look.config)
            .iter()
            .filter_map(|d| d.storage())
            .all(|name| storages.iter().any(|s| s.name == name && s.shared)))
    }
}

/// The failure of a write, in the form that tells the host what to do.
fn failed(flight: &Flight, effect: &Effect, write: &Write) -> Failure {
    if effect.ok {
        let keys = match write {
            Write::Configure { set, delete, .. } => set
                .iter()
                .map(|(k, _)| k.as_str())
                .chain(delete.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(", "),
            other => other.key(),
        };
        return Failure::retry(
            "not-applied",
            format!("Proxmox reported success (effect {}), but the VM does not show it: {keys}.", flight.id),
        );
    }
    let action = match effect.code.as_str() {
        "refused" | "forbidden" | "parked" => Action::FixConfig,
        "unknown" => Action::Unknown,
        _ => Action::Retry,
    };
    let code = if effect.code.is_empty() { "failed" } else { effect.code.as_str() };
    Failure::new(action, code, format!("{}: {}", flight.key, effect.message))
}
