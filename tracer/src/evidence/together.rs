//! Whether what two call sites retain was acquired at the same times: then one cause acquires both. Pure.

use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::ledger::{Cohort, Lives};

/// Fewer stretches of time, or fewer retained resources, say nothing.
const LEAST_STRETCHES: usize = 4;
/// As above.
const LEAST: f64 = 8.0;
/// How probable it may be that independent call sites agree so well.
const BY_CHANCE: f64 = 0.01;

/// Whether two call sites retain resources in a fixed ratio, stretch of time by stretch of time, far more exactly than
/// independent ones do. `until_ms` is when what is acquired is no longer only in use, milliseconds since the ledger's
/// origin.
pub fn acquired_together(one: &Lives, other: &Lives, until_ms: u32) -> bool {
    let stretches = stretches(one.cohorts(), other.cohorts(), until_ms);
    let sum = |of: fn(&(f64, f64)) -> f64| stretches.iter().map(of).sum::<f64>();
    let (first, second) = (sum(|pair| pair.0), sum(|pair| pair.1));
    if stretches.len() < LEAST_STRETCHES || first < LEAST || second < LEAST {
        return false;
    }
    let ratio = first / second;
    // The squares of the differences, in units of their variance if both were counts of independent events.
    let square = |(one, other): &(f64, f64)| {
        let variance = one + ratio * ratio * other;
        if variance == 0.0 { 0.0 } else { (one - ratio * other).powi(2) / variance }
    };
    let squares: f64 = stretches.iter().map(square).sum();
    let freedom = (stretches.len() - 1) as f64;
    ChiSquared::new(freedom).is_ok_and(|chance| chance.cdf(squares) <= BY_CHANCE)
}

/// What both retain in the stretches between the times at which cohorts of both begin: whole seconds, mostly.
fn stretches(one: &[Cohort], other: &[Cohort], until_ms: u32) -> Vec<(f64, f64)> {
    let begins = |at: &u32| other.iter().any(|cohort| cohort.start_ms == *at);
    let starts = one.iter().map(|cohort| cohort.start_ms).filter(|at| *at <= until_ms);
    let starts: Vec<u32> = starts.filter(begins).collect();
    let between = |cohorts: &[Cohort], from: u32, to: u32| -> f64 {
        let inside = cohorts.iter().filter(|one| (from..to).contains(&one.start_ms));
        inside.map(|one| f64::from(one.outstanding)).sum()
    };
    let stretch = |pair: &[u32]| match *pair {
        [from, to] => Some((between(one, from, to), between(other, from, to))),
        _ => None,
    };
    starts.windows(2).filter_map(stretch).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use tracer_common::kind::Kind;

    use super::*;
    use crate::{
        evidence::random::Random,
        ledger::{
            Ledger,
            events::{Block, Event, Handle},
        },
        target::Pid,
    };

    /// Cohorts of call sites that are called at random times, and retain so many resources each time.
    pub(crate) fn lives(calls: &[u32], each: u64) -> Arc<Lives> {
        let mut ledger = Ledger::default();
        for (call, at_ms) in (0_u64..).zip(calls) {
            for step in 0..each {
                let handle = Handle { pid: Pid(1), kind: Kind::Heap, value: call << 8 | step };
                let time_ns = (100_000 + u64::from(*at_ms)) * 1_000_000;
                let block = Block { size: 1, time_ns, position: 0, site: 1, connection: 0 };
                ledger.apply(Event::Acquired { handle, block });
            }
        }
        ledger.lives(1).unwrap()
    }

    fn calls(random: &mut Random, per_s: f64, seconds: f64) -> Vec<u32> {
        let mut at_s = 0.0;
        let mut calls = Vec::new();
        while at_s < seconds {
            at_s += random.exponential(1.0 / per_s);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            calls.push((at_s * 1000.0) as u32);
        }
        calls
    }

    #[test]
    fn parts_of_one_cause_are_acquired_together_and_others_are_not() {
        let (mut hits, mut chances) = (0, 0);
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let owner = calls(&mut random, 2.0, 120.0);
            let stranger = calls(&mut random, 2.0, 120.0);
            let late: Vec<u32> = owner.iter().map(|at| at + 3).collect();
            let all = lives(&owner, 1);
            hits += u32::from(acquired_together(&all, &lives(&late, 3), 175_000));
            chances += u32::from(acquired_together(&all, &lives(&stranger, 1), 175_000));
        }
        assert!(hits >= 97 && chances <= 3, "{hits} {chances}");
    }

    #[test]
    fn few_resources_say_nothing() {
        let few = lives(&[1_000, 9_000, 20_000, 30_000], 1);
        assert!(!acquired_together(&few, &few, 120_000));
    }
}
