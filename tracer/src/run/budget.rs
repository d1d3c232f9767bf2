//! When to trace and when not to, so that tracing costs no more than it may.
//!
//! Takes what was measured of each window, hands on what to do next. Pure: reads no clock.
//!
//! What tracing costs is *debt*, in processor time of the targets; it is paid off by the share of their
//! processor time that was granted. While the debt is small, tracing goes on. When it is not, there is a pause
//! until it is paid, and then a window.

use crate::collect::windows::{FOLLOWED_NS, PaceError};

/// How much debt tracing may be in before it pauses: what a second of one processor pays for.
const CREDIT_NS: f64 = 1e9;
/// A window's least length: half of it to see what is acquired, half to see it go.
pub(super) const WINDOW_NS: u64 = 2 * FOLLOWED_NS;
/// What the costs of a minute ago still count for.
const HALF_LIFE_NS: f64 = 30e9;
/// System calls that must have been counted, on each side, before the pace is told by them.
const LEAST_CALLS: u64 = 200;

/// The state of the account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Between 0 and 1.
    share: f64,
    debt_ns: f64,
    /// Processor time of targets and what tracing cost of it, of the recent past.
    recent: (f64, f64),
    /// System calls and time, while recorded and while not.
    traced: Calls,
    apart: Calls,
    /// Processor time of targets while they were recorded, and what tracing cost of it.
    recorded: (f64, f64),
}

/// System calls within some time.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    count: u64,
    ns: u64,
    /// Number of stretches, the sum of their rates, and of the squares of these.
    stretches: u64,
    rates: f64,
    squares: f64,
}

/// What was measured of a stretch of time.
#[expect(clippy::struct_field_names, reason = "units belong to the names")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stretch {
    /// Its length, nanoseconds.
    pub(super) length_ns: u64,
    /// Processor time of the targets, nanoseconds.
    pub(super) cpu_ns: u64,
    /// What of it tracing took, nanoseconds.
    pub(super) cost_ns: u64,
}

impl Budget {
    /// Nothing spent yet.
    pub(super) const fn new(share: f64) -> Self {
        Self {
            share,
            debt_ns: 0.0,
            recent: (0.0, 0.0),
            traced: Calls { count: 0, ns: 0, stretches: 0, rates: 0.0, squares: 0.0 },
            apart: Calls { count: 0, ns: 0, stretches: 0, rates: 0.0, squares: 0.0 },
            recorded: (0.0, 0.0),
        }
    }

    /// What was granted, between 0 and 1.
    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    /// Time has gone by; with `recorded`, in a window.
    ///
    /// A hit costs a busy target more than its price, which was measured by a program that does nothing else: caches
    /// and buffers are lost, too. Where the pace is known by system calls it tells what was really lost.
    pub(super) fn spend(&mut self, stretch: Stretch, recorded: bool) {
        let cpu_ns = stretch.cpu_ns as f64;
        let lost =
            if recorded && self.counts() { self.pace().map(|pace| 1.0 - pace) } else { None };
        let cost_ns = (stretch.cost_ns as f64).max(cpu_ns * lost.unwrap_or(0.0));
        let kept = 0.5_f64.powf(stretch.length_ns as f64 / HALF_LIFE_NS);
        self.recent = (self.recent.0 * kept + cpu_ns, self.recent.1 * kept + cost_ns);
        self.debt_ns = (self.debt_ns + cost_ns - self.share * cpu_ns).max(0.0);
        if recorded {
            self.recorded.0 += cpu_ns;
            self.recorded.1 += cost_ns;
        }
    }

    /// System calls were counted for a while; with `recorded`, in a window.
    pub(super) const fn count(&mut self, calls: u64, ns: u64, recorded: bool) {
        if ns == 0 {
            return;
        }
        let of = if recorded { &mut self.traced } else { &mut self.apart };
        let rate = calls as f64 / ns as f64;
        of.count += calls;
        of.ns += ns;
        of.stretches += 1;
        of.rates += rate;
        of.squares += rate * rate;
    }

    /// Whether tracing that goes on must pause.
    pub(super) fn is_spent(&self) -> bool {
        self.debt_ns > self.share * CREDIT_NS
    }

    /// Whether tracing that has paused may go on.
    pub(super) fn is_paid(&self) -> bool {
        self.debt_ns <= 0.0
    }

    /// The share that tracing has cost of late.
    pub(super) fn cost(&self) -> Option<f64> {
        (self.recent.0 > 0.0).then(|| (self.recent.1 / self.recent.0).min(1.0))
    }

    /// Work that targets get done per time while recorded, relative to when they are not: by their system calls; or,
    /// where they make few, by what tracing leaves them of their processor time.
    pub(super) fn pace(&self) -> Option<f64> {
        let Self { traced, apart, recorded, .. } = self;
        let pace = if self.counts() {
            (traced.count as f64 / traced.ns as f64) / (apart.count as f64 / apart.ns as f64)
        } else if recorded.0 > 0.0 {
            1.0 - recorded.1 / recorded.0
        } else {
            return None;
        };
        Some(pace.clamp(0.01, 1.0))
    }

    const fn counts(&self) -> bool {
        self.traced.count >= LEAST_CALLS && self.apart.count >= LEAST_CALLS
    }

    /// How far the pace may be off, by what was counted between windows: short stretches, which may be quicker or
    /// slower ones. How windows differ is in the errors of figures already.
    pub(super) fn pace_error(&self) -> Option<PaceError> {
        let Calls { stretches, rates, squares, .. } = self.apart;
        if !self.counts() || stretches < 2 {
            return None;
        }
        let number = stretches as f64;
        let mean = rates / number;
        let variance = ((squares - rates * mean) / (number - 1.0)).max(0.0);
        Some(PaceError { relative: (variance / number).sqrt() / mean, stretches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_costs_little_goes_on_for_ever() {
        let mut budget = Budget::new(0.05);
        for _ in 0..10_000 {
            let stretch = Stretch { length_ns: 100 * MS, cpu_ns: 50 * MS, cost_ns: 2 * MS };
            budget.spend(stretch, true);
            assert!(!budget.is_spent());
        }
        assert!((budget.cost().unwrap() - 0.04).abs() < 1e-6);
    }

    #[test]
    fn what_costs_much_pauses_until_the_share_is_kept() {
        let mut budget = Budget::new(0.05);
        let (mut cost, mut cpu, mut windows) = (0, 0, 0);
        for _ in 0..200 {
            while !budget.is_spent() {
                budget.spend(
                    Stretch { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 84 * MS },
                    true,
                );
                (cost, cpu, windows) = (cost + 84, cpu + 100, windows + 1);
            }
            while !budget.is_paid() {
                budget.spend(Stretch { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 0 }, false);
                cpu += 100;
            }
        }
        let share = f64::from(cost) / f64::from(cpu);
        assert!((0.04..=0.05).contains(&share), "{share} in {windows} windows");
        assert!(budget.cost().unwrap() < 0.06, "{:?}", budget.cost());
    }

    #[test]
    fn what_is_lost_is_more_than_the_price_of_hits_where_the_pace_says_so() {
        let mut budget = Budget::new(0.05);
        budget.count(1000, 100 * MS, true);
        budget.count(5000, 100 * MS, false);
        budget.spend(Stretch { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 40 * MS }, true);
        assert!((budget.cost().unwrap() - 0.8).abs() < 1e-6, "{:?}", budget.cost());
        budget.spend(Stretch { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 0 }, false);
        assert!((budget.cost().unwrap() - 0.4).abs() < 1e-3, "{:?}", budget.cost());
    }

    #[test]
    fn the_pace_is_told_by_system_calls_where_there_are_enough() {
        let mut budget = Budget::new(0.05);
        assert_eq!(budget.pace(), None);
        budget.spend(Stretch { length_ns: 100, cpu_ns: 100, cost_ns: 75 }, true);
        assert_eq!(budget.pace(), Some(0.25));
        budget.count(1000, 100 * MS, true);
        assert_eq!(budget.pace(), Some(0.25));
        budget.count(5000, 100 * MS, false);
        assert_eq!(budget.pace(), Some(0.2));
    }

    #[test]
    fn the_pace_is_as_uncertain_as_the_stretches_between_windows_differ() {
        let mut budget = Budget::new(0.05);
        budget.count(1000, 100 * MS, true);
        budget.count(4000, 100 * MS, false);
        assert_eq!(budget.pace_error(), None);
        budget.count(6000, 100 * MS, false);
        // Their standard deviation is √2 × 1000, and their mean's standard error 1000: a fifth of 5000.
        let error = budget.pace_error().unwrap();
        assert!((error.relative - 0.2).abs() < 1e-9 && error.stretches == 2, "{error:?}");
    }
}
