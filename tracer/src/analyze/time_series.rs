//! The history of an amount that the kernel counts: its change and its rate.
//!
//! Pure: the caller supplies the time.

use std::collections::VecDeque;

use super::{HISTORY, slope};
use crate::report::Level;

/// The recent history of an amount.
#[derive(Clone, Debug, Default)]
pub struct TimeSeries {
    points: VecDeque<(f64, f64)>,
}

impl TimeSeries {
    /// Adds a sample.
    pub fn push(&mut self, at_s: f64, now: f64) {
        if self.points.len() == HISTORY {
            self.points.pop_front();
        }
        self.points.push_back((at_s, now));
    }

    /// Change per second; `None` with too little history.
    pub fn slope(&self) -> Option<f64> {
        slope(self.points.iter().copied())
    }
}

/// The history of one amount.
#[derive(Clone, Debug, Default)]
pub struct History {
    first: Option<u64>,
    series: TimeSeries,
}

impl History {
    /// A history that starts with this amount.
    pub fn since(first: u64) -> Self {
        Self { first: Some(first), series: TimeSeries::default() }
    }

    /// Adds a sample, returns the current figures.
    pub fn push(&mut self, at_s: f64, now: u64) -> Level {
        let first = *self.first.get_or_insert(now);
        self.series.push(at_s, now as f64);
        Level {
            now,
            change: i64::try_from(i128::from(now) - i128::from(first)).unwrap_or(i64::MAX),
            growth_per_s: self.series.slope(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::History;

    #[test]
    fn change_is_known_at_once_and_growth_after_a_while() {
        let mut history = History::default();
        assert_eq!(history.push(0.0, 1000).growth_per_s, None);
        assert_eq!(history.push(1.0, 900).change, -100);
        let level = history.push(2.0, 800);
        assert_eq!((level.now, level.change, level.growth_per_s), (800, -200, Some(-100.0)));
        assert_eq!(History::since(0).push(5.0, 3).change, 3);
    }
}
