//! The share of resources that never dies: the estimate of Kaplan and Meier, from the lifetimes of those that were
//! released and the ages of those that are outstanding. Pure.

use super::{NORMAL_95, share::Share};

/// Resources that must have reached an age for the curve to go on there: fewer say nothing about it.
const LEAST_AT_RISK: f64 = 5.0;

/// Where the curve ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survival {
    /// The share that is still outstanding at that age, with its interval.
    pub share: Share,
    /// The age, seconds.
    pub age_s: f64,
}

/// The curve's end, from deaths and survivors by bucket of lifetime or age; `end_s` is the end of a bucket. `None` when
/// nothing is known.
///
/// Survivors of a bucket count half within it, as in a life table: their ages are spread over it. The interval is
/// Greenwood's, of the logarithm of the cumulative hazard, so that it stays between 0 and 1.
pub(super) fn kaplan_meier(
    deaths: &[u64],
    survivors: &[u64],
    end_s: impl Fn(usize) -> f64,
) -> Option<Survival> {
    let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let all = sum(deaths) + sum(survivors);
    if all == 0.0 {
        return None;
    }
    let (mut at_risk, mut share, mut variance, mut age_s) = (all, 1.0_f64, 0.0, 0.0);
    let mut effective = all;
    for (bucket, (died, survived)) in deaths.iter().zip(survivors).enumerate() {
        let (died, survived) = (*died as f64, *survived as f64);
        effective = at_risk - survived / 2.0;
        if at_risk < LEAST_AT_RISK && bucket > 0 || effective <= 0.0 {
            break;
        }
        share *= 1.0 - died / effective;
        if died < effective {
            variance += died / (effective * (effective - died));
        }
        age_s = end_s(bucket);
        at_risk -= died + survived;
        if at_risk <= 0.0 {
            break;
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let trials = effective.max(1.0) as u64;
    let share = if share <= 0.0 {
        Share::of(0, trials)?
    } else if share >= 1.0 {
        Share::of(trials, trials)?
    } else {
        let spread = (NORMAL_95 * variance.sqrt() / share.ln().abs()).exp();
        Share { share, low: share.powf(spread), high: share.powf(1.0 / spread) }
    };
    Some(Survival { share, age_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_s(bucket: usize) -> f64 {
        bucket as f64 + 1.0
    }

    /// Without survivors before the last bucket, the estimate is the plain share.
    #[test]
    fn a_share_that_never_dies_is_found_behind_the_lifetimes() {
        let deaths = [700, 150, 50, 0, 0, 0];
        let end = kaplan_meier(&deaths, &[0, 0, 0, 0, 0, 100], end_s).unwrap();
        assert!((end.share.share - 0.1).abs() < 1e-9, "{end:?}");
        // The log-log interval for 100 of 1,000.
        assert!(
            (end.share.low - 0.0823).abs() < 5e-4 && (end.share.high - 0.1194).abs() < 5e-4,
            "{end:?}"
        );
    }

    /// Survivors that are too young to have died do not count as never dying.
    #[test]
    fn young_survivors_are_censored() {
        let end = kaplan_meier(&[0, 0, 0, 100], &[50, 50, 50, 0], end_s).unwrap();
        assert!(end.share.share.abs() < 1e-9 && end.share.high < 0.04, "{end:?}");
        let end = kaplan_meier(&[0, 100, 0, 0], &[0, 0, 0, 100], end_s).unwrap();
        assert!((end.share.share - 0.5).abs() < 1e-9, "{end:?}");
    }

    /// The example of a textbook life table: 6-MP patients of Freireich et al. (1963), grouped by five weeks, against a
    /// calculation by hand.
    #[test]
    fn a_life_table_agrees_with_a_calculation_by_hand() {
        let (deaths, censored) = ([0, 6, 1, 2, 0], [0, 2, 3, 1, 6]);
        let end = kaplan_meier(&deaths, &censored, end_s).unwrap();
        let by_hand = (1.0 - 6.0 / 20.0) * (1.0 - 1.0 / 11.5) * (1.0 - 2.0 / 8.5);
        assert!((end.share.share - by_hand).abs() < 1e-9, "{end:?}");
    }

    #[test]
    fn extremes_have_exact_intervals() {
        let none = kaplan_meier(&[20, 0], &[0, 0], end_s).unwrap();
        assert!(none.share.share.abs() < 1e-9 && none.share.high > 0.1);
        let all = kaplan_meier(&[0, 0], &[0, 20], end_s).unwrap();
        assert!((all.share.share - 1.0).abs() < 1e-9 && all.share.low < 0.9);
        assert_eq!(kaplan_meier(&[0, 0], &[0, 0], end_s), None);
    }

    #[test]
    fn a_rare_leak_among_very_many_releases_has_its_share() {
        let end = kaplan_meier(&[10_000_000_000, 50, 0, 0], &[0, 0, 0, 100_000], end_s).unwrap();
        assert!((end.share.share / 1e-5 - 1.0).abs() < 1e-3, "{end:?}");
        assert!(end.share.low > 0.99e-5 && end.share.high < 1.01e-5, "{end:?}");
    }
}
