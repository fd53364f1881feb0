//! Thousands of seeded histories in virtual time: panels order, suspend and terminate while hosts die, freeze and go by wrong
//! clocks, the books fail, and the cluster does what clusters do. Whatever happened, all comes to rest and the books, the
//! cluster and the feed agree.
//!
//! `WHARF_TEST_SIM_SEEDS` = how many seeds there are in all (10,000 otherwise). A seed that fails is printed with its trace and
//! the command that replays it.

use std::collections::BTreeMap;

use crate::simulated::{Missing, plan::Kind, run::play};
use wharf_store::memory::Mutant;

/// The tests between which the seeds are divided, so that they run side by side.
const SHARES: u64 = 8;
/// From so many seeds on each kind of mishap must have struck.
const ENOUGH: u64 = 150;

fn seeds() -> u64 {
    let set = std::env::var("WHARF_TEST_SIM_SEEDS").ok().map(|n| n.parse().expect("WHARF_TEST_SIM_SEEDS is a number"));
    set.unwrap_or(10_000)
}

/// Plays every eighth seed.
fn share(nth: u64) {
    let mut struck: BTreeMap<Kind, u32> = BTreeMap::new();
    let (mut played, began) = (0, std::time::Instant::now());
    let mut failed = Vec::new();
    for seed in (nth..seeds()).step_by(SHARES as usize) {
        let run = play(seed, Missing::Nothing);
        if run.failure.is_some() {
            // One history is enough to read; of the others the numbers.
            if failed.is_empty() {
                println!("{}", run.tell(seed));
            }
            failed.push(seed);
        }
        for (kind, times) in run.struck {
            *struck.entry(kind).or_default() += times;
        }
        played += 1;
    }
    println!("{played} seeds in {:.1} s: {struck:?}", began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "these seeds failed, each can be replayed by WHARF_SEED: {failed:?}");
    if played >= ENOUGH {
        for kind in Kind::ALL {
            assert!(struck.contains_key(&kind), "{kind:?} never happened in {played} seeds: {struck:?}");
        }
    }
}

macro_rules! shares {
    ($($name:ident = $nth:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                share($nth);
            }
        )*
    };
}

shares! {
    nothing_is_lost_or_doubled_in_the_first_eighth_of_the_seeds = 0,
    nothing_is_lost_or_doubled_in_the_second_eighth_of_the_seeds = 1,
    nothing_is_lost_or_doubled_in_the_third_eighth_of_the_seeds = 2,
    nothing_is_lost_or_doubled_in_the_fourth_eighth_of_the_seeds = 3,
    nothing_is_lost_or_doubled_in_the_fifth_eighth_of_the_seeds = 4,
    nothing_is_lost_or_doubled_in_the_sixth_eighth_of_the_seeds = 5,
    nothing_is_lost_or_doubled_in_the_seventh_eighth_of_the_seeds = 6,
    nothing_is_lost_or_doubled_in_the_last_eighth_of_the_seeds = 7,
}

/// The seed of `WHARF_SEED`, with its trace; without it the first few.
#[test]
fn a_replay_of_a_seed_is_the_same_run_to_the_last_request() {
    let named = std::env::var("WHARF_SEED").ok().map(|n| n.parse::<u64>().expect("WHARF_SEED is a number"));
    for seed in named.map_or(0..40, |n| n..n + 1) {
        let first = play(seed, Missing::Nothing);
        if named.is_some() {
            println!("{}", first.trace);
        }
        let second = play(seed, Missing::Nothing);
        if first.digest() != second.digest() {
            let differ = first.trace.lines().zip(second.trace.lines()).find(|(a, b)| a != b);
            panic!("seed {seed} is two runs, which part at {differ:?}");
        }
        assert!(first.failure.is_none(), "{}", first.tell(seed));
    }
}

/// Whether one of the seeds notices that this is missing.
fn is_noticed(missing: Missing, seeds: u64) -> Option<u64> {
    // What these panics say is expected, and would bury the rest.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let noticed = (0..seeds).find(|seed| {
        let run = play(*seed, missing);
        if let Some(failure) = &run.failure {
            println!("{missing:?} is noticed by seed {seed}: {}", failure.lines().next().unwrap_or_default());
        }
        run.failure.is_some()
    });
    std::panic::set_hook(hook);
    noticed
}

#[test]
fn without_the_fence_a_seed_fails() {
    assert!(is_noticed(Missing::Books(Mutant::NoFence), 3_000).is_some());
}

#[test]
fn without_the_lock_of_the_service_a_seed_fails() {
    assert!(is_noticed(Missing::Books(Mutant::NoServiceLock), 400).is_some());
}

#[test]
fn without_the_probe_of_what_is_in_doubt_a_seed_fails() {
    assert!(is_noticed(Missing::Probe, 400).is_some());
}

#[test]
fn without_the_wait_for_what_is_in_doubt_a_seed_fails() {
    assert!(is_noticed(Missing::Wait, 400).is_some());
}
