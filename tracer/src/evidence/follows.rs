//! Whether an amount follows the load. Pure.

use super::slope::{MOST_POINTS, theil_sen};

/// Least change of the load, as a share of its highest value: a load that hardly changes explains nothing.
const LEAST_CHANGE: f64 = 0.2;
/// Points needed.
const LEAST_POINTS: usize = 8;

/// How an amount depends on the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Follows {
    /// Pearson's correlation, -1 to 1.
    pub correlation: f64,
    /// Whether the amount still rises when the part that the load explains is taken out.
    pub rest_rises: bool,
}

impl Follows {
    /// Whether the load explains the amount.
    pub fn explains(&self) -> bool {
        // Nine tenths are eight tenths of the variance.
        self.correlation >= 0.9 && !self.rest_rises
    }
}

/// Compares amounts with loads at the same times (time in seconds, load, amount); `None` while the load has hardly
/// changed.
pub(super) fn follows(points: &[(f64, f64, f64)]) -> Option<Follows> {
    if points.len() < LEAST_POINTS {
        return None;
    }
    let count = points.len() as f64;
    let highest = points.iter().map(|(_, load, _)| *load).fold(0.0, f64::max);
    let lowest = points.iter().map(|(_, load, _)| *load).fold(f64::INFINITY, f64::min);
    if highest - lowest < LEAST_CHANGE * highest || highest <= 0.0 {
        return None;
    }
    let mean_load = points.iter().map(|(_, load, _)| load).sum::<f64>() / count;
    let mean = points.iter().map(|(.., amount)| amount).sum::<f64>() / count;
    let (mut loads, mut amounts, mut shared) = (0.0, 0.0, 0.0);
    for (_, load, amount) in points {
        let (load, amount) = (load - mean_load, amount - mean);
        loads += load * load;
        amounts += amount * amount;
        shared += load * amount;
    }
    if amounts <= 0.0 {
        return Some(Follows { correlation: 0.0, rest_rises: false });
    }
    let each = shared / loads;
    let step = points.len().div_ceil(MOST_POINTS);
    let rest: Vec<(f64, f64)> = points
        .iter()
        .step_by(step)
        .map(|(time, load, amount)| (*time, amount - each * load))
        .collect();
    let rest_rises = theil_sen(&rest).is_some_and(|slope| slope.rises());
    Some(Follows { correlation: shared / (loads * amounts).sqrt(), rest_rises })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(load: impl Fn(f64) -> f64, amount: impl Fn(f64) -> f64) -> Vec<(f64, f64, f64)> {
        (0..40).map(f64::from).map(|at| (at, load(at), amount(at))).collect()
    }

    #[test]
    fn what_each_connection_holds_follows_the_connections() {
        let wave = |at: f64| 100.0 + 50.0 * (at / 5.0).sin();
        let held = follows(&points(wave, |at| 3.0 * wave(at) + 7.0 + at % 3.0)).unwrap();
        assert!(held.explains(), "{held:?}");
        let leaked = follows(&points(wave, |at| 3.0 * wave(at) + 40.0 * at)).unwrap();
        assert!(!leaked.explains(), "{leaked:?}");
        let apart = follows(&points(wave, |at| 100.0 + (at * 1.7).cos())).unwrap();
        assert!(!apart.explains(), "{apart:?}");
    }

    #[test]
    fn a_constant_load_explains_nothing() {
        assert_eq!(follows(&points(|at| 100.0 + at % 2.0, |at| at)), None);
        assert_eq!(follows(&points(|_| 0.0, |at| at)), None);
    }
}
