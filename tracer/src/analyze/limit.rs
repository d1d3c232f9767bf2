//! How long until a rising amount reaches a limit.
//!
//! Pure: the caller supplies the time.

use std::collections::VecDeque;

use super::{HISTORY, slope};

/// Two-sided 95 percent quantile of the normal distribution, in standard deviations.
const NORMAL_95: f64 = 1.96;

/// The recent history of an amount.
#[derive(Clone, Debug, Default)]
pub struct TimeSeries {
    points: VecDeque<(f64, f64)>,
}

/// When a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Seconds, at the recent rate.
    pub seconds: f64,
    /// 95 percent interval: earliest and latest; the latest is `None` when the limit may never be reached.
    pub between: (f64, Option<f64>),
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

    /// When the amount reaches `bound`; `None` when it does not rise, or with too little history.
    pub fn reaches(&self, bound: f64) -> Option<Reached> {
        let rate = self.slope().filter(|rate| *rate > 0.0)?;
        let (_, now) = *self.points.back()?;
        let left = (bound - now).max(0.0);
        let off = NORMAL_95 * self.error(rate);
        let latest = (rate > off).then(|| left / (rate - off));
        Some(Reached { seconds: left / rate, between: (left / (rate + off), latest) })
    }

    /// Standard error of the slope, from the variance of the changes between samples. The samples of an amount are
    /// not independent, but the changes between them are.
    fn error(&self, rate: f64) -> f64 {
        let steps = self.points.iter().zip(self.points.iter().skip(1));
        let mut squares = 0.0;
        let (mut number, mut whole) = (0.0, 0.0);
        for ((from_s, from), (to_s, to)) in steps {
            let time = to_s - from_s;
            let off = to - from - rate * time;
            squares += off * off;
            number += 1.0;
            whole += time;
        }
        if number < 2.0 || whole <= 0.0 {
            return f64::INFINITY;
        }
        // The variance of the sum of all steps, over their time.
        (squares * number / (number - 1.0)).sqrt() / whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = f64>) -> TimeSeries {
        let mut series = TimeSeries::default();
        for (at, value) in values.into_iter().enumerate() {
            series.push(at as f64, value);
        }
        series
    }

    #[test]
    fn a_steady_rise_has_an_exact_time_to_the_limit() {
        let even = series((0..20).map(|at| f64::from(at) * 2.0));
        let reached = even.reaches(138.0).unwrap();
        assert!((reached.seconds - 50.0).abs() < 1e-9, "{reached:?}");
        assert!((reached.between.0 - 50.0).abs() < 1e-6);
        assert!((reached.between.1.unwrap() - 50.0).abs() < 1e-6);
        // The amount is already there.
        assert!(even.reaches(10.0).unwrap().seconds.abs() < 1e-9);
    }

    #[test]
    fn a_flat_or_falling_amount_never_reaches_the_limit() {
        assert_eq!(series([5.0, 5.0, 5.0, 5.0]).reaches(10.0), None);
        assert_eq!(series([9.0, 8.0, 7.0, 6.0]).reaches(10.0), None);
        assert_eq!(series([1.0, 2.0]).reaches(10.0), None);
    }

    #[test]
    fn an_uneven_rise_widens_the_interval() {
        let steps = [3.0, 1.0, 2.0, 4.0, 0.0, 2.0, 3.0, 1.0, 2.0, 2.0];
        let sums = steps.iter().scan(0.0, |sum, step| {
            *sum += step;
            Some(*sum)
        });
        let reached = series(sums).reaches(118.0).unwrap();
        let latest = reached.between.1.unwrap();
        assert!(reached.between.0 < reached.seconds && reached.seconds < latest, "{reached:?}");
        assert!(latest < 150.0, "{reached:?}");
        let wild = series([0.0, 50.0, 1.0, 49.0, 2.0, 51.0, 3.0, 52.0]);
        assert!(wild.reaches(1000.0).is_none_or(|reached| reached.between.1.is_none()));
    }
}
