//! A provisioner of other states and other settings than the shipped one, on the same unchanged host: `wanted` →
//! `copied` → `flavoured` → `awake`, and `unwanted` → `asleep` → `forgotten`. It leases no addresses and keeps no memo:
//! every step looks and decides anew.

use serde::Deserialize;
use wharf_sdk::provisioner::prelude::*;

#[derive(Debug, Deserialize)]
struct Settings {
    flavour: String,
    image: String,
}

/// Cores of a flavour; 1 GiB of RAM goes with each.
fn cores(flavour: &str) -> Result<u32, Failure> {
    match flavour {
        "mild" => Ok(1),
        "medium" => Ok(2),
        "hot" => Ok(4),
        other => Err(Failure::fix_input("flavour", format!("There is no flavour `{other}`: mild, medium or hot."))),
    }
}

struct Tiny;

impl Provisioner for Tiny {
    fn step(op: &Operation) -> Result<Outcome, Failure> {
        // A failed write is told once; the next attempt decides anew.
        if let Some(effect) = op.last_effect().filter(|e| !e.ok && op.attempt() == 0 && e.code != "number-taken") {
            return Err(Failure::retry(effect.code, format!("{}: {}", effect.kind, effect.message)));
        }
        let vm = op.vm();
        if op.kind() == "deploy" && op.state() == "wanted" {
            let number = vm.reserve_number(20_000)?;
            log::info(&format!("the copy is number {number}"));
        }
        let view = vm.look()?;
        if let Some(lock) = view.lock() {
            return Ok(Outcome::wait_for("vm", 1000, format!("Proxmox holds the lock `{lock}`.")));
        }
        if view.presence() == Presence::Copying {
            return Ok(Outcome::wait_for("vm", 1000, "The copy has just begun."));
        }
        match op.kind().as_str() {
            "deploy" => deploy(op, &vm, &view),
            "terminate" => terminate(op, &vm, &view),
            other => Err(Failure::report_bug("unknown-kind", format!("No operation `{other}`."))),
        }
    }
}

fn deploy(op: &Operation, vm: &Vm, view: &View) -> Result<Outcome, Failure> {
    let settings: Settings = op.settings_as()?;
    let cores = cores(&settings.flavour)?;
    let wanted = [("cores", cores), ("memory", cores * 1024)].map(|(key, value)| (key.to_owned(), value.to_string()));
    match (op.state().as_str(), view.presence()) {
        ("wanted", Presence::None) => {
            let image = &settings.image;
            let template = cluster::image(image)?.into_iter().next();
            let template =
                template.ok_or_else(|| Failure::fix_config("no-image", format!("No image `{image}` here: add it.")))?;
            let name = format!("tiny-{}", vm.number().unwrap_or_default());
            vm.submit_clone(template.number, &name, false, &Ext::new())?;
            Ok(Outcome::Submitted)
        }
        ("wanted", Presence::Ours) => Ok(Outcome::one(Reached::done("copied"))),
        ("copied", Presence::Ours) if wanted.iter().all(|(k, v)| view.config(k).as_ref() == Some(v)) => {
            Ok(Outcome::one(Reached::done("flavoured")))
        }
        ("copied", Presence::Ours) => {
            vm.submit_configure(&wanted, &[], &view.digest())?;
            Ok(Outcome::Submitted)
        }
        ("flavoured", Presence::Ours) if view.status() == "running" => Ok(Outcome::one(Reached::done("awake"))),
        ("flavoured", Presence::Ours) => vm.submit_start().map(|_| Outcome::Submitted),
        (state, presence) => Ok(Outcome::Stuck(format!("At {state} the VM is {presence:?}: look at it on its node."))),
    }
}

fn terminate(op: &Operation, vm: &Vm, view: &View) -> Result<Outcome, Failure> {
    match (op.state().as_str(), view.presence()) {
        (_, Presence::Foreign) => Ok(Outcome::Stuck("The number belongs to another VM: it is not touched.".into())),
        ("unwanted", Presence::Ours) if view.status() != "stopped" => vm.submit_stop().map(|_| Outcome::Submitted),
        ("unwanted", _) => Ok(Outcome::one(Reached::done("asleep"))),
        (_, Presence::Ours) => vm.submit_destroy().map(|_| Outcome::Submitted),
        _ => {
            let absence = vm.prove_absence()?;
            absence.leftovers.iter().for_each(|volume| log::warn(&format!("left over: {volume}")));
            Ok(Outcome::one(Reached::done("forgotten")))
        }
    }
}

wharf_sdk::export_provisioner!(Tiny);

#[cfg(test)]
mod tests {
    use super::cores;

    #[test]
    fn only_the_flavours_of_the_manifest_are_known() {
        assert_eq!(["mild", "medium", "hot"].map(|f| cores(f).unwrap()), [1, 2, 4]);
        assert!(cores("sweet").unwrap_err().message.contains("`sweet`"));
    }
}
