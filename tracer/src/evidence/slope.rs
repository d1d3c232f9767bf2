//! The slope of a series that has outliers and depends on itself: Theil and Sen's, with its interval. Pure.

use super::NORMAL_95;

/// Points up to which the slope is calculated; its time grows with their square.
pub(super) const MOST_POINTS: usize = 30;

/// Change per second, with the bounds of its 95 percent interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// The median of the slopes between any two points.
    pub per_s: f64,
    /// The lower bound; minus infinity with very few points.
    pub low: f64,
    /// The upper bound; infinity with very few points.
    pub high: f64,
}

impl Slope {
    /// No change at all.
    const FLAT: Self = Self { per_s: 0.0, low: 0.0, high: 0.0 };

    /// The slope of an amount that is so many times as large.
    pub(super) fn times(self, factor: f64) -> Self {
        if factor <= 0.0 {
            return Self::FLAT;
        }
        Self { per_s: self.per_s * factor, low: self.low * factor, high: self.high * factor }
    }

    /// Whether it is surely above zero.
    pub fn rises(&self) -> bool {
        self.low > 0.0
    }

    /// Whether it is surely below zero.
    pub fn falls(&self) -> bool {
        self.high < 0.0
    }
}

/// The slope of a few points (times in seconds ascending, values). `None` with fewer than three.
///
/// The interval is that of Sen (1968) from the variance of Kendall's statistic, which is corrected for serial correlation
/// as by Yue and Wang (2004): the more neighbors depend on each other, the fewer points they are worth.
pub(super) fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    let number = points.len();
    if number < 3 {
        return None;
    }
    let (first, value) = *points.first()?;
    if points.iter().all(|(_, other)| other.total_cmp(&value).is_eq()) {
        return (points.last()?.0 > first).then_some(Slope::FLAT);
    }
    let mut slopes = Vec::with_capacity(number * (number - 1) / 2);
    for (at, (time, value)) in points.iter().enumerate() {
        for (later_time, later) in points.iter().skip(at + 1) {
            if later_time > time {
                slopes.push((later - value) / (later_time - time));
            }
        }
    }
    let middle = slopes.len() / 2;
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| slopes.get(index).copied().unwrap_or_default();
    let per_s =
        if slopes.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle - 1), at(middle)) };
    let off = NORMAL_95 * (variance(points) * correction(points, per_s)).sqrt();
    // The bounds are order statistics of the slopes.
    let count = slopes.len() as f64;
    let (below, above) = (((count - off) / 2.0).floor(), f64::midpoint(count, off).ceil());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "compared with 0")]
    let low =
        if below < 0.0 { f64::NEG_INFINITY } else { at((below as usize).min(slopes.len() - 1)) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    let high = if above >= count + 1.0 || off >= count {
        f64::INFINITY
    } else {
        at((above as usize).min(slopes.len() - 1))
    };
    Some(Slope { per_s, low, high })
}

/// The variance of Kendall's statistic, with equal values taken out.
fn variance(points: &[(f64, f64)]) -> f64 {
    let term = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0) / 18.0;
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    values.sort_unstable_by(f64::total_cmp);
    let tied: f64 = values
        .chunk_by(|one, other| one.total_cmp(other).is_eq())
        .map(|run| term(run.len() as f64))
        .sum();
    (term(points.len() as f64) - tied).max(0.0)
}

/// The factor by which serial correlation widens the variance; at least 1.
fn correction(points: &[(f64, f64)], per_s: f64) -> f64 {
    let number = points.len();
    if number < 6 {
        return 1.0;
    }
    let count = number as f64;
    let rest = points.iter().map(|(time, value)| value - per_s * time);
    let mean = rest.clone().sum::<f64>() / count;
    let squares: f64 = rest.clone().map(|one| (one - mean).powi(2)).sum();
    let largest = points.iter().map(|(_, value)| value.abs()).fold(0.0, f64::max);
    // What is left of a line is rounding.
    if squares <= 1e-20 * largest * largest * count {
        return 1.0;
    }
    let next = rest.clone().skip(1);
    let shared: f64 = rest.zip(next).map(|(one, next)| (one - mean) * (next - mean)).sum();
    // Taking out the trend made neighbors seem less alike.
    let alike = ((count * shared / squares + 2.0) / (count - 4.0)).clamp(0.0, 0.95);
    let weights = (1_u32..).map(f64::from).take(number - 1);
    1.0 + 2.0 * weights.map(|lag| (1.0 - lag / count) * alike.powf(lag)).sum::<f64>()
}

/// The minima of at most [`MOST_POINTS`] stretches of equal length: a sawtooth becomes flat, and neighbors depend less
/// on each other. A minimum counts at the time of its stretch's middle.
pub(super) fn minima(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(MOST_POINTS).max(1);
    // What is left over at the beginning is dropped: all stretches are equally long.
    points
        .rchunks_exact(each)
        .rev()
        .map(|stretch| {
            let lowest = stretch.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
            let first = stretch.first().map_or(0.0, |(time, _)| *time);
            let last = stretch.last().map_or(0.0, |(time, _)| *time);
            (f64::midpoint(first, last), lowest)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::Random;

    fn series(count: usize, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|at| (at as f64, value(at as f64))).collect()
    }

    #[test]
    fn a_line_has_its_slope_and_a_narrow_interval() {
        let slope = theil_sen(&series(20, |at| 7.0 + 3.0 * at)).unwrap();
        assert!((slope.per_s - 3.0).abs() < 1e-9 && slope.rises(), "{slope:?}");
        assert!((slope.low - 3.0).abs() < 1e-9 && (slope.high - 3.0).abs() < 1e-9);
        let flat = theil_sen(&series(20, |_| 5.0)).unwrap();
        assert_eq!((flat.per_s, flat.low, flat.high), (0.0, 0.0, 0.0));
        assert!(!flat.rises() && !flat.falls());
        assert!(theil_sen(&series(20, |at| -at)).unwrap().falls());
    }

    #[test]
    fn three_points_are_too_few_for_bounds() {
        let slope = theil_sen(&series(3, |at| at)).unwrap();
        assert!((slope.per_s - 1.0).abs() < 1e-9 && slope.low == f64::NEG_INFINITY, "{slope:?}");
        assert_eq!(theil_sen(&series(2, |at| at)), None);
    }

    #[test]
    fn an_outlier_does_not_move_it() {
        let slope =
            theil_sen(&series(20, |at| if (at - 12.0).abs() < 0.5 { 900.0 } else { 2.0 * at }))
                .unwrap();
        assert!((slope.per_s - 2.0).abs() < 0.1, "{slope:?}");
    }

    /// Of series without a trend, about one in twenty may seem to have one; where each value depends on the one
    /// before, the correction must keep it near that.
    #[test]
    fn noise_rarely_seems_to_rise() {
        for (memory, most) in [(0.0, 0.08), (0.6, 0.16)] {
            let mut wrong = 0;
            for seed in 0..400 {
                let mut random = Random::new(seed);
                let mut value = 0.0;
                let points: Vec<_> = (0..30)
                    .map(|at| {
                        value = memory * value + random.normal();
                        (f64::from(at), value)
                    })
                    .collect();
                let slope = theil_sen(&points).unwrap();
                wrong += u32::from(slope.rises() || slope.falls());
            }
            assert!(f64::from(wrong) / 400.0 < most, "{memory}: {wrong} of 400");
        }
    }

    #[test]
    fn the_minima_of_a_sawtooth_are_flat() {
        let minima = minima(&series(60, |at| at % 2.0 * 100.0));
        assert_eq!(minima.len(), 30);
        assert!(minima.iter().all(|(_, value)| *value == 0.0));
    }
}
