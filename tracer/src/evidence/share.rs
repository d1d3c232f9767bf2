//! A share of a number of trials, with its interval. Pure.

use statrs::function::beta::inv_beta_reg;

use super::OUTSIDE_95;

/// Trials up to which the exact interval is worth its time; it is narrower than a thousandth beyond.
const EXACT_MOST: u64 = 1_000_000;

/// A share between 0 and 1, with the bounds of its 95 percent interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The estimate.
    pub share: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Share {
    /// The share of `hits` in `trials`, with the exact interval of Clopper and Pearson; `None` without a trial.
    pub fn of(hits: u64, trials: u64) -> Option<Self> {
        if trials == 0 {
            return None;
        }
        let hits = hits.min(trials);
        let (count, all) = (hits as f64, trials as f64);
        let share = count / all;
        if trials > EXACT_MOST {
            // The score interval of Wilson: with that many trials the same within its rounding.
            let square = super::NORMAL_95 * super::NORMAL_95;
            let middle = (count + square / 2.0) / (all + square);
            let half = super::NORMAL_95 / (all + square)
                * (count * (all - count) / all + square / 4.0).sqrt();
            return Some(Self {
                share,
                low: (middle - half).max(0.0),
                high: (middle + half).min(1.0),
            });
        }
        let low =
            if hits == 0 { 0.0 } else { inv_beta_reg(count, all - count + 1.0, OUTSIDE_95 / 2.0) };
        let high = if hits == trials {
            1.0
        } else {
            inv_beta_reg(count + 1.0, all - count, 1.0 - OUTSIDE_95 / 2.0)
        };
        Some(Self { share, low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(share: Option<Share>, expected: [f64; 3]) {
        let Share { share, low, high } = share.unwrap();
        let all = [share, low, high].into_iter().zip(expected);
        assert!(
            all.clone().all(|(one, other)| (one - other).abs() < 5e-5),
            "{:?}",
            all.collect::<Vec<_>>()
        );
    }

    /// Values of R's `binom.test`.
    #[test]
    fn the_interval_is_the_exact_one() {
        near(Share::of(10, 100), [0.1, 0.04900, 0.17622]);
        near(Share::of(0, 20), [0.0, 0.0, 0.16843]);
        near(Share::of(20, 20), [1.0, 0.83157, 1.0]);
        near(Share::of(1, 1000), [0.001, 0.000_025, 0.005_558]);
        assert_eq!(Share::of(0, 0), None);
    }

    #[test]
    fn a_share_of_very_many_has_a_narrow_interval() {
        near(Share::of(500_000, 1_000_000), [0.5, 0.49902, 0.50098]);
        near(Share::of(30, 3_000_000_000), [1e-8, 0.0, 0.0]);
        let rare = Share::of(30, 3_000_000_000).unwrap();
        assert!(rare.low > 6e-9 && rare.high < 1.5e-8, "{rare:?}");
    }
}
