//! Decides when to trace, so that tracing stays within its budget.
//!
//! Takes measurements of windows and pauses, passes on what to do next. Pure: reads no clock.
//!
//! The cost of tracing is *debt*, in CPU time of the targets; the granted share of their CPU time pays it off. Tracing
//! continues while the debt is small. Otherwise it pauses until the debt is paid; then a window follows.

use crate::snapshot::windows::{FOLLOWED_NS, PaceError};

/// The debt at which tracing pauses, divided by the share: what a second of one CPU pays off.
const CREDIT_NS: f64 = 1e9;
/// Minimum length of a window: half of it to see acquisitions, half to see their releases.
pub(super) const WINDOW_NS: u64 = 2 * FOLLOWED_NS;
/// Half-life of past costs: those of a minute ago count for a quarter.
const HALF_LIFE_NS: f64 = 30e9;
/// System calls to count inside and outside of windows before they determine the pace.
const LEAST_CALLS: u64 = 200;

/// The state of the account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Between 0 and 1.
    share: f64,
    debt_ns: f64,
    /// CPU time of targets, and the part of it that tracing cost, in the recent past.
    recent: (f64, f64),
    /// System calls inside and outside of windows.
    inside: Calls,
    outside: Calls,
    /// CPU time of targets in windows, and the part of it that tracing cost.
    recorded: (f64, f64),
}

/// System calls during some intervals.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    count: u64,
    ns: u64,
    /// Number of intervals, the sum of their rates, and of the squares of these.
    intervals: u64,
    rates: f64,
    squares: f64,
}

/// Measurements of an interval.
#[expect(clippy::struct_field_names, reason = "units belong to the names")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interval {
    /// Its length, nanoseconds.
    pub(super) length_ns: u64,
    /// CPU time of the targets, nanoseconds.
    pub(super) cpu_ns: u64,
    /// The part of it that tracing cost, nanoseconds.
    pub(super) cost_ns: u64,
}

impl Budget {
    /// Nothing spent yet.
    pub(super) const fn new(share: f64) -> Self {
        Self {
            share,
            debt_ns: 0.0,
            recent: (0.0, 0.0),
            inside: Calls { count: 0, ns: 0, intervals: 0, rates: 0.0, squares: 0.0 },
            outside: Calls { count: 0, ns: 0, intervals: 0, rates: 0.0, squares: 0.0 },
            recorded: (0.0, 0.0),
        }
    }

    /// The granted share, between 0 and 1.
    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    /// Charges an interval, which was in a window if `recorded`.
    ///
    /// A hit costs a busy target more than the calibrated cost, which was measured on an idle program: it also evicts
    /// caches. If system calls determine the pace, the pace shows the real cost.
    pub(super) fn spend(&mut self, interval: Interval, recorded: bool) {
        let cpu_ns = interval.cpu_ns as f64;
        let lost =
            if recorded && self.counts() { self.pace().map(|pace| 1.0 - pace) } else { None };
        let cost_ns = (interval.cost_ns as f64).max(cpu_ns * lost.unwrap_or(0.0));
        let kept = 0.5_f64.powf(interval.length_ns as f64 / HALF_LIFE_NS);
        self.recent = (self.recent.0 * kept + cpu_ns, self.recent.1 * kept + cost_ns);
        self.debt_ns = (self.debt_ns + cost_ns - self.share * cpu_ns).max(0.0);
        if recorded {
            self.recorded.0 += cpu_ns;
            self.recorded.1 += cost_ns;
        }
    }

    /// Adds a count of system calls, which was in a window if `recorded`.
    pub(super) const fn count(&mut self, calls: u64, ns: u64, recorded: bool) {
        if ns == 0 {
            return;
        }
        let of = if recorded { &mut self.inside } else { &mut self.outside };
        let rate = calls as f64 / ns as f64;
        of.count += calls;
        of.ns += ns;
        of.intervals += 1;
        of.rates += rate;
        of.squares += rate * rate;
    }

    /// Whether tracing must pause.
    pub(super) fn is_spent(&self) -> bool {
        self.debt_ns > self.share * CREDIT_NS
    }

    /// Whether tracing may resume.
    pub(super) fn is_paid(&self) -> bool {
        self.debt_ns <= 0.0
    }

    /// The share that tracing has cost recently.
    pub(super) fn cost(&self) -> Option<f64> {
        (self.recent.0 > 0.0).then(|| (self.recent.1 / self.recent.0).min(1.0))
    }

    /// The targets' work per time inside of windows, relative to outside: measured in system calls or, if there are
    /// few, by the share of CPU time that tracing leaves to the targets.
    pub(super) fn pace(&self) -> Option<f64> {
        let Self { inside, outside, recorded, .. } = self;
        let pace = if self.counts() {
            (inside.count as f64 / inside.ns as f64) / (outside.count as f64 / outside.ns as f64)
        } else if recorded.0 > 0.0 {
            1.0 - recorded.1 / recorded.0
        } else {
            return None;
        };
        Some(pace.clamp(0.01, 1.0))
    }

    const fn counts(&self) -> bool {
        self.inside.count >= LEAST_CALLS && self.outside.count >= LEAST_CALLS
    }

    /// The error of the pace, from the rates between windows: these intervals are short and vary. The errors of the
    /// reported figures already include the variation between windows.
    pub(super) fn pace_error(&self) -> Option<PaceError> {
        let Calls { intervals, rates, squares, .. } = self.outside;
        if !self.counts() || intervals < 2 {
            return None;
        }
        let number = intervals as f64;
        let mean = rates / number;
        let variance = ((squares - rates * mean) / (number - 1.0)).max(0.0);
        Some(PaceError { relative: (variance / number).sqrt() / mean, stretches: intervals })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn low_cost_never_pauses() {
        let mut budget = Budget::new(0.05);
        for _ in 0..10_000 {
            let interval = Interval { length_ns: 100 * MS, cpu_ns: 50 * MS, cost_ns: 2 * MS };
            budget.spend(interval, true);
            assert!(!budget.is_spent());
        }
        assert!((budget.cost().unwrap() - 0.04).abs() < 1e-6);
    }

    #[test]
    fn high_cost_pauses_until_the_share_is_kept() {
        let mut budget = Budget::new(0.05);
        let (mut cost, mut cpu, mut windows) = (0, 0, 0);
        for _ in 0..200 {
            while !budget.is_spent() {
                budget.spend(
                    Interval { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 84 * MS },
                    true,
                );
                (cost, cpu, windows) = (cost + 84, cpu + 100, windows + 1);
            }
            while !budget.is_paid() {
                budget.spend(Interval { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 0 }, false);
                cpu += 100;
            }
        }
        let share = f64::from(cost) / f64::from(cpu);
        assert!((0.04..=0.05).contains(&share), "{share} in {windows} windows");
        assert!(budget.cost().unwrap() < 0.06, "{:?}", budget.cost());
    }

    #[test]
    fn the_pace_may_show_a_higher_cost_than_the_hits() {
        let mut budget = Budget::new(0.05);
        budget.count(1000, 100 * MS, true);
        budget.count(5000, 100 * MS, false);
        budget.spend(Interval { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 40 * MS }, true);
        assert!((budget.cost().unwrap() - 0.8).abs() < 1e-6, "{:?}", budget.cost());
        budget.spend(Interval { length_ns: 100 * MS, cpu_ns: 100 * MS, cost_ns: 0 }, false);
        assert!((budget.cost().unwrap() - 0.4).abs() < 1e-3, "{:?}", budget.cost());
    }

    #[test]
    fn enough_system_calls_determine_the_pace() {
        let mut budget = Budget::new(0.05);
        assert_eq!(budget.pace(), None);
        budget.spend(Interval { length_ns: 100, cpu_ns: 100, cost_ns: 75 }, true);
        assert_eq!(budget.pace(), Some(0.25));
        budget.count(1000, 100 * MS, true);
        assert_eq!(budget.pace(), Some(0.25));
        budget.count(5000, 100 * MS, false);
        assert_eq!(budget.pace(), Some(0.2));
    }

    #[test]
    fn the_error_of_the_pace_is_the_variation_between_windows() {
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
