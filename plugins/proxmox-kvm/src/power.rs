//! Suspend and unsuspend: switched off and kept off over a reboot of the node, and back. The client is denied by the
//! host in the moment that it accepts the suspension; here only the VM follows.

use crate::host::{Host, How, Presence, Write};
use crate::run::{Run, Stop, Turn};

pub const SUSPEND: [&str; 3] = ["suspend", "onboot_off", "suspended"];
pub const UNSUSPEND: [&str; 3] = ["unsuspend", "onboot_on", "resumed"];

impl<H: Host> Run<'_, H> {
    /// What a state of either needs.
    pub fn power_turn(&mut self, state: &'static str) -> Result<Turn, Stop> {
        if self.host.number().is_none() || self.look()?.presence == Presence::None {
            return Ok(Turn::skipped("there is no VM yet"));
        }
        let vm = self.own_vm()?;
        match state {
            "onboot_off" | "onboot_on" => {
                let wanted = if state == "onboot_on" { "1" } else { "0" };
                if vm.get("onboot").unwrap_or("0") == wanted {
                    return Ok(self.by_effect(state));
                }
                let write = Write::Configure {
                    set: vec![("onboot".into(), wanted.into())],
                    delete: Vec::new(),
                    digest: vm.digest,
                };
                Ok(Turn::Submit { write, states: vec![state], password: None })
            }
            "suspended" => self.stop("suspended", &vm),
            _ => {
                if self.suspended() {
                    return Ok(Turn::skipped("the service was suspended again"));
                }
                if vm.status == "running" {
                    return Ok(match self.memo.effects.get(state) {
                        Some(id) => Turn::Reached(How::ByEffect(id.clone())),
                        None => Turn::skipped("no change"),
                    });
                }
                if self.result_of("start").is_some_and(|e| e.ok) {
                    return Ok(Turn::Reached(How::ByEffect(self.memo.effects.get(state).cloned().unwrap_or_default())));
                }
                Ok(Turn::Submit { write: Write::Start, states: vec![state], password: None })
            }
        }
    }
}
