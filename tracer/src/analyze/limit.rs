//! How long until a rising amount reaches a limit.
//!
//! Takes an amount at each reading, passes on when it reaches its limit; nothing while that cannot be said. Pure: the
//! caller supplies the time.

use crate::{evidence::Gauge, report::TimeToLimit};

pub use crate::evidence::Rise;

/// How far a rise is extrapolated, in multiples of the time that it was seen over: three hours ahead after a minute, a day
/// and a half after ten. Nothing goes on unchanged for longer just because it did so for a moment.
const HORIZON: f64 = 200.0;

/// The history of an amount that has a limit.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    gauge: Gauge,
}

impl Forecast {
    /// Adds the amount at this time, milliseconds since any moment before the first one.
    pub fn push(&mut self, at_ms: u32, now: u64) {
        self.gauge.push(at_ms, now);
    }

    /// When the amount reaches `limit`; `None` while it does not surely rise, or when that is too far ahead to be said.
    pub fn reaches(&self, limit: u64) -> Option<TimeToLimit> {
        let rise = self.rise()?;
        let left = limit.saturating_sub(self.gauge.now()) as f64;
        let mid = left / rise.slope.per_s;
        (mid <= HORIZON * rise.over_s).then(|| TimeToLimit {
            low: left / rise.slope.high,
            mid,
            high: Some(left / rise.slope.low),
        })
    }

    /// How the amount rises; `None` while it does not surely rise.
    pub fn rise(&self) -> Option<Rise> {
        self.gauge.rise()
    }

    /// The change per second over the time of another amount's rise.
    pub fn slope_over(&self, rise: &Rise) -> Option<f64> {
        self.gauge.slope_over(rise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(amounts: impl IntoIterator<Item = u64>) -> Forecast {
        let mut forecast = Forecast::default();
        amounts.into_iter().zip(0..).for_each(|(now, at)| forecast.push(at * 1000, now));
        forecast
    }

    #[test]
    fn a_steady_rise_has_an_exact_time_to_the_limit() {
        let even = forecast((0..20).map(|at| at * 2));
        let reached = even.reaches(138).unwrap();
        assert!((reached.mid - 50.0).abs() < 1e-6, "{reached:?}");
        assert!((reached.low - 50.0).abs() < 1e-6);
        assert!((reached.high.unwrap() - 50.0).abs() < 1e-6);
        // The amount is already there.
        assert!(even.reaches(10).unwrap().mid.abs() < 1e-9);
    }

    #[test]
    fn an_uneven_rise_has_an_interval() {
        let steps = [3, 1, 2, 4, 0, 2, 3, 1, 2, 2].into_iter().cycle().take(40);
        let sums = steps.scan(0, |sum, step| {
            *sum += step;
            Some(*sum)
        });
        let reached = forecast(sums).reaches(280).unwrap();
        assert!(reached.low < reached.mid && reached.mid < reached.high.unwrap(), "{reached:?}");
        assert!((100.0..=100.1).contains(&reached.mid), "{reached:?}");
    }

    #[test]
    fn an_idle_amount_never_reaches_its_limit() {
        assert_eq!(forecast([5; 50]).reaches(10), None);
        assert_eq!(forecast((0..50).map(|at| 100 - at)).reaches(200), None);
        assert_eq!(forecast((0..50).map(|at| 12 + at % 2)).reaches(1024), None);
        assert_eq!(forecast([1, 2]).reaches(10), None);
    }

    #[test]
    fn a_limit_too_far_ahead_is_not_forecast() {
        let slow = |seconds: u64| forecast((0..seconds).map(|at| 10 + at / 10));
        // A tenth per second: 30,000 seconds.
        assert_eq!(slow(60).reaches(3016), None);
        let reached = slow(600).reaches(3070).unwrap();
        assert!((28_000.0..32_000.0).contains(&reached.mid), "{reached:?}");
    }
}
