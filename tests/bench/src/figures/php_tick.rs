//! The one-minute cron tick of the PHP module, simulated by its own rule and its own clock: nothing of the module was run.
//!
//! The rule is documented: the hook only writes the state `creation`, and a cron job that runs once a minute carries services
//! on. So nothing can reach Proxmox before the next tick. The simulation is generous: a tick begins on time, finds the service
//! at once and calls Proxmox with no delay of its own.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::stats::Samples;

const TICK_US: u64 = 60_000_000;

/// What the table says of it.
pub const RULE: &str = "computed, not measured: orders at random moments, work begins with the next full minute";

/// Time from hook to first call, for so many orders at random moments of a day.
pub fn simulate(orders: usize) -> Samples {
    // The same each time.
    let mut random = StdRng::seed_from_u64(1);
    (0..orders)
        .map(|_| {
            let ordered = random.random_range(0..86_400_000_000_u64);
            let tick = ordered.div_ceil(TICK_US) * TICK_US;
            #[allow(clippy::cast_precision_loss, reason = "at most a minute")]
            let waited = (tick - ordered) as f64;
            waited
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_all_orders_wait_for_half_a_minute_and_none_for_more_than_one() {
        let waits = simulate(10_000);
        assert!((29e6..31e6).contains(&waits.p50()), "{}", waits.p50());
        assert!(waits.most() <= 60e6 && waits.p99() > 59e6);
    }
}
