//! A provisioner that misbehaves in every step, in the way that its setting names; without the setting, so that it can
//! stand in for a release gone wrong of any other provisioner, it traps.

use serde::Deserialize;
use wharf_sdk::provisioner::prelude::*;

#[derive(Debug, Default, Deserialize)]
struct Settings {
    mischief: Option<String>,
}

struct Hostile;

impl Provisioner for Hostile {
    fn step(op: &Operation) -> Result<Outcome, Failure> {
        let settings: Settings = op.settings_as()?;
        match settings.mischief.as_deref() {
            Some("loop") => loop {
                std::hint::black_box(());
            },
            Some("memory") => {
                let mut taken = Vec::new();
                loop {
                    // Written to, so that it is really taken; leaked by the trap that it ends with.
                    taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Some("flood") => loop {
                log::info("more of the same");
            },
            Some("gush") => Ok(Outcome::Stuck("x".repeat(20 << 20))),
            Some("lie") => Ok(Outcome::one(Reached::done("a-state-that-nobody-knows"))),
            _ => trap(),
        }
    }
}

#[expect(clippy::panic, reason = "what it is for")]
fn trap() -> ! {
    panic!("this release is broken")
}

wharf_sdk::export_provisioner!(Hostile);
