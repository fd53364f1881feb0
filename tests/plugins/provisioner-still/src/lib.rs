//! A provisioner that touches nothing: each step reaches the next of fifty states. What a deploy of it takes is the host's own.

use wharf_sdk::provisioner::prelude::*;

struct Still;

/// The number of the state after this one: `s7` → 8.
fn next(state: &str) -> Option<u32> {
    state.strip_prefix('s')?.parse::<u32>().ok().map(|n| n + 1)
}

impl Provisioner for Still {
    fn step(op: &Operation) -> Result<Outcome, Failure> {
        let (kind, state) = (op.kind(), op.state());
        match (kind.as_str(), next(&state)) {
            ("deploy", Some(n)) => Ok(Outcome::one(Reached::done(format!("s{n}")))),
            ("terminate", _) => {
                op.vm().prove_absence()?;
                Ok(Outcome::one(Reached::done("gone")))
            }
            _ => Err(Failure::report_bug("unknown-state", format!("No way on from {kind}, state {state}."))),
        }
    }
}

wharf_sdk::export_provisioner!(Still);

#[cfg(test)]
mod tests {
    use super::next;

    #[test]
    fn states_follow_each_other() {
        assert_eq!((next("s0"), next("s49"), next("begun")), (Some(1), Some(50), None));
    }
}
