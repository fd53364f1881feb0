//! Terminate: stop, backups, DNS, destroy with proof of absence, addresses, identity.
//!
//! Only what carries this service's mark is touched. Backups and DNS are best effort; a VM that can't be stopped or
//! destroyed, or whose absence can't be proven, ends the operation as stuck, with its addresses still held: freed too
//! early they would be given to somebody else.

use crate::deploy::FACTS;
use crate::host::{Action, Failure, Host, How, Level, Look, Presence, Write};
use crate::run::{Run, Stop, Turn};

pub const STATES: [&str; 7] =
    ["terminate", "stopped", "backups_removed", "dns_removed", "destroyed", "released", "remove"];

/// The guest has this long to shut down, then it is switched off.
pub const SHUTDOWN_S: u32 = 120;
/// A hard stop has this long.
const HARD_STOP_MS: u64 = 60_000;
const HEARTBEAT_MS: u64 = 15_000;
const LOOK_MS: u32 = 5_000;
/// Absence is asked for again so long before it counts as unproven.
const PROOF_MS: u64 = 120_000;
/// A VM that is started again by others while it is taken away is stopped so often.
const RESTOPS: u32 = 3;

/// What a look says about taking the VM away.
enum Target {
    Gone,
    Ours(Look),
}

impl<H: Host> Run<'_, H> {
    /// What a state of the termination needs.
    pub fn terminate_turn(&mut self, state: &'static str) -> Result<Turn, Stop> {
        match state {
            "stopped" => match self.target()? {
                Target::Gone => Ok(Turn::skipped("there is no VM")),
                Target::Ours(vm) => self.stop("stopped", &vm),
            },
            "backups_removed" => Ok(self.backups_removed()),
            "dns_removed" => Ok(self.dns_removed()),
            "destroyed" => self.destroyed(),
            "released" => self.released(),
            _ => {
                for fact in FACTS {
                    self.host.set_fact(fact, None);
                }
                self.info("terminated successfully");
                Ok(Turn::Reached(How::Done))
            }
        }
    }

    /// Looks whether there is something of ours to take away. Waits while Proxmox works on it.
    fn target(&mut self) -> Result<Target, Stop> {
        let Some(number) = self.host.number() else {
            return Ok(Target::Gone);
        };
        let vm = self.look()?;
        match vm.presence {
            Presence::None => Ok(Target::Gone),
            Presence::Copying => Err(Turn::wait(2_000, Some("vm"), format!("the copy of VM {number} has just begun: it is let finish first")).into()),
            Presence::Ours => match vm.lock.as_deref() {
                Some("destroyed") => Err(Turn::Stuck(format!(
                    "VM {number} was left half destroyed (lock `destroyed`): as root on its node run `qm unlock {number}` and destroy it, then terminate again."
                ))
                .into()),
                Some(lock) => Err(Turn::wait(2_000, Some("vm"), format!("Proxmox holds the lock `{lock}` on VM {number}")).into()),
                None => Ok(Target::Ours(vm)),
            },
            // The number may have been taken by somebody else before ours was ever made. Only proof counts.
            Presence::Foreign => match self.host.prove_absence() {
                Ok(_) => {
                    self.info(format!("VM {number} belongs to somebody else and is left alone; this service's own is gone"));
                    Ok(Target::Gone)
                }
                Err(failure) if matches!(failure.action, Action::Retry | Action::Unknown) => Err(failure.into()),
                Err(failure) => Err(Turn::Stuck(format!(
                    "VM {number} does not carry this service's mark: it is not touched, and the addresses stay held. Find \
                     out whose it is. ({})",
                    failure.message
                ))
                .into()),
            },
        }
    }

    /// Asks the guest, then switches off hard. Shared with suspend.
    pub fn stop(&mut self, state: &'static str, vm: &Look) -> Result<Turn, Stop> {
        if vm.status == "stopped" {
            return Ok(self.by_effect(state));
        }
        let now = self.host.now_ms();
        let states: &[&'static str] = if state == "stopped" { &["stopped"] } else { &["suspended"] };
        // A paused guest hears nothing.
        if self.memo.stop_since_ms.is_none() && vm.status != "paused" {
            self.memo.stop_since_ms = Some(now);
            self.memo.heartbeats = 0;
            return Ok(Turn::submit(Write::Shutdown { timeout_s: SHUTDOWN_S, force: true }, states));
        }
        if self.memo.hard_stop_since_ms.is_none() {
            let waited =
                self.memo.stop_since_ms.map_or(u64::from(SHUTDOWN_S) * 1000, |since| now.saturating_sub(since));
            let refused = self.result_of("shutdown").is_some_and(|e| !e.ok);
            if waited < u64::from(SHUTDOWN_S) * 1000 && !refused {
                return Ok(self.heartbeat(waited, SHUTDOWN_S, &vm.status));
            }
            if let Some(effect) = self.result_of("shutdown").filter(|e| !e.ok) {
                self.warn(format!("the guest did not shut down ({}): it is switched off hard", effect.message));
            }
            self.memo.hard_stop_since_ms = Some(now);
            self.memo.heartbeats = 0;
            return Ok(Turn::submit(Write::Stop, states));
        }
        let waited = self.memo.hard_stop_since_ms.map_or(0, |since| now.saturating_sub(since));
        if waited < HARD_STOP_MS {
            return Ok(self.heartbeat(waited, 60, &vm.status));
        }
        Ok(Turn::Stuck(format!(
            "The VM still runs {}s after the hard stop (status: {}). Stop it on its node, then try again. Its addresses stay held.",
            waited / 1000,
            vm.status
        )))
    }

    /// One line every 15 s while it still runs.
    fn heartbeat(&mut self, waited: u64, of_s: u32, status: &str) -> Turn {
        if waited / HEARTBEAT_MS > self.memo.heartbeats {
            self.memo.heartbeats = waited / HEARTBEAT_MS;
            self.info(format!("still running, waited {}s / {of_s}s, status: {status}", waited / 1000));
        }
        // The reason stays the same while it lasts, so it is not a line of its own every time.
        Turn::wait(LOOK_MS, Some("vm"), format!("the VM still runs and has {of_s}s to stop"))
    }

    /// Best effort: what can't be removed is logged and left.
    fn backups_removed(&mut self) -> Turn {
        if let Some((flight, effect)) = &self.settled
            && !effect.ok
            && flight.key.starts_with("remove-backup")
        {
            self.host.log(Level::Error, &format!("{}: {}", flight.key, effect.message));
        }
        let all = match self.host.backups() {
            Ok(all) => all,
            Err(failure) => {
                self.host.log(Level::Error, &format!("backups: {}", failure.message));
                return Turn::skipped(format!("the backups can't be listed: {}", failure.message));
            }
        };
        let next = all.iter().find(|b| b.ours && !b.protected && !self.memo.backups_tried.contains(&b.volume));
        if let Some(backup) = next {
            self.memo.backups_tried.push(backup.volume.clone());
            return Turn::submit(Write::RemoveBackup(backup.volume.clone()), &["backups_removed"]);
        }
        for other in &all {
            let why = match (other.ours, other.protected) {
                (false, _) => "not provably this service's",
                (true, true) => "protected",
                (true, false) => "could not be removed",
            };
            self.warn(format!("backup left alone ({why}): {}", other.volume));
        }
        match self.memo.effects.get("backups_removed") {
            Some(id) => Turn::Reached(How::ByEffect(id.clone())),
            None => Turn::skipped("there are no backups of ours"),
        }
    }

    /// Best effort: the records' queue goes on by itself.
    fn dns_removed(&mut self) -> Turn {
        if self.memo.dns_since_ms.is_none()
            && let Err(failure) = self.host.withdraw_names()
        {
            self.host.log(Level::Error, &format!("DNS: {}", failure.message));
            return Turn::skipped(format!("DNS records could not be withdrawn: {}", failure.message));
        }
        self.dns_pass()
    }

    fn destroyed(&mut self) -> Result<Turn, Stop> {
        match self.target()? {
            Target::Gone => self.proven(),
            Target::Ours(vm) if vm.status == "stopped" => {
                if let Some(effect) = self.result_of("destroy") {
                    if !effect.ok {
                        return Ok(Turn::Stuck(format!(
                            "Proxmox did not destroy the VM: {}. Mend the cause, then terminate again. Its addresses stay held.",
                            effect.message
                        )));
                    }
                    return Ok(Turn::wait(2_000, Some("vm"), "the VM was destroyed and is still listed"));
                }
                Ok(Turn::submit(Write::Destroy, &["destroyed"]))
            }
            Target::Ours(_) if self.memo.restops < RESTOPS => {
                // Started again by other hands after it was stopped.
                self.memo.restops += 1;
                Ok(Turn::submit(Write::Stop, &[]))
            }
            Target::Ours(vm) => Ok(Turn::Stuck(format!(
                "The VM is started again and again (status: {}): find out by whom (HA?), then terminate again. Its addresses stay held.",
                vm.status
            ))),
        }
    }

    fn proven(&mut self) -> Result<Turn, Stop> {
        match self.host.prove_absence() {
            Ok(absence) => {
                for volume in &absence.leftovers {
                    self.warn(format!(
                        "a volume with the VM's number is left: {volume} (not removed; see whose it is)"
                    ));
                }
                Ok(match self.memo.effects.get("destroyed") {
                    Some(id) => Turn::Reached(How::ByEffect(id.clone())),
                    None => Turn::skipped("there is no VM"),
                })
            }
            Err(failure) => {
                let now = self.host.now_ms();
                let since = *self.memo.absent_since_ms.get_or_insert(now);
                if now.saturating_sub(since) < PROOF_MS {
                    return Ok(Turn::wait(
                        LOOK_MS,
                        Some("vm"),
                        format!("the VM's absence is not proven yet: {}", failure.message),
                    ));
                }
                Ok(Turn::Stuck(format!(
                    "The VM's absence can't be proven: {} Its addresses stay held. Bring all nodes of the cluster back, then terminate again.",
                    failure.message
                )))
            }
        }
    }

    fn released(&mut self) -> Result<Turn, Stop> {
        match self.host.release_leases() {
            Ok(()) => Ok(Turn::Reached(How::Done)),
            // The proof may be of an earlier hour: ask for a fresh one, once.
            Err(failure) if failure.code == "absence-unproven" => {
                self.host.prove_absence()?;
                self.host.release_leases()?;
                Ok(Turn::Reached(How::Done))
            }
            Err(failure) => {
                Err(Failure { message: format!("The addresses could not be released: {}", failure.message), ..failure }
                    .into())
            }
        }
    }
}
