//! How fast a call site leaks, with an interval. Pure.

use statrs::distribution::{ContinuousCDF, Gamma};

use super::{Evidence, OUTSIDE_95, Slope};

/// How fast resources add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Resources per second.
    pub count_per_s: f64,
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Lower bound of `count_per_s`, 95 percent.
    pub low: f64,
    /// Upper bound of `count_per_s`, 95 percent.
    pub high: f64,
}

/// The rate at which retained resources come; without those, the present slope.
pub(super) fn rate(evidence: &Evidence) -> Option<Rate> {
    let outstanding = evidence.outstanding;
    let each = outstanding.bytes as f64 / outstanding.count.max(1) as f64;
    let retained = evidence.retained.filter(|retained| retained.continues && retained.over_s > 0.0);
    if let Some(retained) = retained {
        let (low, high) = events_of(retained.count);
        let per_s = |events: f64| events / retained.over_s;
        let count_per_s = per_s(retained.count as f64);
        return Some(Rate {
            count_per_s,
            bytes_per_s: count_per_s * each,
            low: per_s(low),
            high: per_s(high),
        });
    }
    // A rise so uneven that it has no bounds has no rate that could be relied on.
    let bounded = |slope: Slope| slope.low.is_finite() && slope.high.is_finite();
    let slope = evidence.trends.now().filter(|trend| bounded(trend.count))?;
    Some(Rate {
        count_per_s: slope.count.per_s.max(0.0),
        bytes_per_s: slope.bytes.per_s,
        low: slope.count.low.max(0.0),
        high: slope.count.high.max(0.0),
    })
}

/// The exact interval of Garwood for the mean of a Poisson count.
fn events_of(count: u64) -> (f64, f64) {
    let quantile = |shape: f64, below: f64| {
        Gamma::new(shape, 1.0).map_or(0.0, |gamma| gamma.inverse_cdf(below))
    };
    let count = count as f64;
    let low = if count < 1.0 { 0.0 } else { quantile(count, OUTSIDE_95 / 2.0) };
    (low, quantile(count + 1.0, 1.0 - OUTSIDE_95 / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::{Retained, Trend, Trends},
        ledger::Sum,
    };

    fn assert_close(one: f64, other: f64) {
        assert!((one - other).abs() <= 1e-3 * other.abs(), "{one} {other}");
    }

    #[test]
    fn the_interval_is_the_published_one() {
        // Garwood's bounds for 10 and for 100 events.
        let (low, high) = events_of(10);
        assert_close(low, 4.795);
        assert_close(high, 18.390);
        let (low, high) = events_of(100);
        assert_close(low, 81.36);
        assert_close(high, 121.63);
        assert_close(events_of(0).1, 3.689);
    }

    #[test]
    fn a_slope_without_bounds_is_no_rate() {
        let trend = |high| {
            let count = Slope { per_s: 3.0, low: 1.0, high };
            Trend {
                count,
                bytes: count,
                later: [count; 2],
                since_s: 0.0,
                over_s: 9.0,
                changed: false,
            }
        };
        let of = |high| {
            let trends = Trends { refreshes: Some(trend(high)), ..Trends::default() };
            rate(&Evidence { trends, ..Evidence::default() })
        };
        assert_eq!(of(f64::INFINITY), None);
        assert_close(of(5.0).unwrap().high, 5.0);
    }

    #[test]
    fn what_is_retained_counts_and_what_is_in_use_does_not() {
        let retained = Retained { count: 100, over_s: 50.0, ..Retained::example() };
        let outstanding = Sum { count: 5_000, bytes: 50_000 };
        let evidence = Evidence { retained: Some(retained), outstanding, ..Evidence::default() };
        let rate = rate(&evidence).unwrap();
        assert_close(rate.count_per_s, 2.0);
        assert_close(rate.bytes_per_s, 20.0);
        assert!(rate.low < 2.0 && rate.high > 2.0);
    }
}
