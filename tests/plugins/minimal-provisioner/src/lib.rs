//! The least provisioner: a VM without disks or addresses that is cloned, then started; or stopped, then destroyed.

use wharf_sdk::provisioner::prelude::*;

struct Plugin;

impl Provisioner for Plugin {
    fn step(op: &Operation) -> Result<Outcome, Failure> {
        let vm = op.vm();
        let (kind, state) = (op.kind(), op.state());
        match (kind.as_str(), state.as_str()) {
            ("deploy", "begun") => {
                vm.reserve_number(100)?;
                let view = vm.look()?;
                match view.presence() {
                    Presence::Ours => return Ok(Outcome::one(Reached::done("cloned"))),
                    Presence::Copying => return Ok(Outcome::wait_for("vm", 1000, "The copy has begun.")),
                    Presence::Foreign => return Ok(Outcome::Stuck("The number belongs to another VM.".into())),
                    Presence::None => {}
                }
                let images = cluster::image("minimal")?;
                let template = images
                    .first()
                    .ok_or_else(|| Failure::fix_config("no-image", "No image `minimal` on this server: add one."))?;
                vm.submit_clone(template.number, "minimal.example", false, &ext([("target", &template.node)]))?;
                Ok(Outcome::Submitted)
            }
            ("deploy", "cloned") if vm.look()?.status() == "running" => Ok(Outcome::one(Reached::done("ready"))),
            ("deploy", "cloned") => vm.submit_start().map(|_| Outcome::Submitted),
            ("terminate", "begun") => {
                let view = vm.look()?;
                match (view.presence(), view.status().as_str()) {
                    (Presence::Ours, "running") => vm.submit_stop().map(|_| Outcome::Submitted),
                    (Presence::Ours, _) => vm.submit_destroy().map(|_| Outcome::Submitted),
                    _ => {
                        vm.prove_absence()?;
                        Ok(Outcome::one(Reached::done("gone")))
                    }
                }
            }
            _ => Err(Failure::report_bug("unknown-state", format!("No way on from {kind}, state {state}."))),
        }
    }
}

wharf_sdk::export_provisioner!(Plugin);
