//! From figures of sampling windows to estimates for the whole time, with their error.
//!
//! Takes a snapshot, returns one in which each figure covers the whole time. Pure.
//!
//! The first window stands for itself. The others sample the *work* of the targets, not their time: traced targets
//! get less done, and what they acquire follows their work. The measured slowdown (pace) converts time to work. A
//! figure over windows, divided by their work and multiplied by all work, is a ratio estimate of a cluster sample;
//! its error comes from the variance between batches of windows (W. G. Cochran, Sampling Techniques, chapter 6; the
//! two-sided 95 % quantiles are Student's) and from the error of the pace itself.

use std::collections::HashMap;

use crate::{
    ledger::Sum,
    snapshot::{
        Snapshot,
        windows::{BATCHES, Batches, Sampling},
    },
};

/// Student's two-sided 95 % quantiles for 1 to 15 degrees of freedom.
const QUANTILES: [f64; BATCHES - 2] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131,
];

/// Errors of estimates: half the width of their 95 % confidence interval. `None` with fewer than two batches to
/// compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Of the number acquired, and its bytes.
    pub acquired: Option<Sum>,
    /// Of the number outstanding, and its bytes.
    pub outstanding: Option<Sum>,
}

/// A snapshot whose figures cover the whole time.
#[derive(Clone, Debug)]
pub struct Estimated {
    /// The figures.
    pub snapshot: Snapshot,
    errors: HashMap<u32, Errors>,
    scale: Scale,
}

/// Work, in nanoseconds at full pace.
#[derive(Clone, Copy, Debug, Default)]
struct Scale {
    recorded: [f64; BATCHES],
    counted: [f64; BATCHES],
    all: f64,
    /// Error of the pace, relative: half the width of its confidence interval.
    pace_error: f64,
}

impl Scale {
    fn new(sampling: &Sampling) -> Self {
        let pace = sampling.overhead.pace.unwrap_or(1.0);
        let work = |times: [u64; BATCHES]| times.map(|ns| ns as f64 * pace);
        let recorded_ns = sampling.recorded_ns.iter().sum::<u64>();
        let recorded = work(sampling.recorded_ns);
        let apart = sampling.elapsed_ns.saturating_sub(recorded_ns) as f64;
        Self {
            recorded,
            counted: work(sampling.counted_ns),
            all: apart + recorded.iter().sum::<f64>(),
            pace_error: sampling.overhead.pace_error.map_or(0.0, |error| {
                let at = usize::try_from(error.stretches)
                    .map_or(usize::MAX, |count| count.saturating_sub(2));
                // With more degrees of freedom the quantile is still smaller.
                let quantile = QUANTILES.get(at).or(QUANTILES.last()).copied().unwrap_or(0.0);
                quantile * error.relative
            }),
        }
    }

    /// The estimate for all work, and its error.
    fn ratio(&self, values: [u64; BATCHES], work: &[f64; BATCHES]) -> (u64, Option<u64>) {
        let [first, values @ ..] = values.map(|value| value as f64);
        let [first_work, work @ ..] = work;
        let (sum, sampled) = (values.iter().sum::<f64>(), work.iter().sum::<f64>());
        let others = self.all - first_work;
        if sampled <= 0.0 {
            // The first window is the only data: the rest may be like it.
            let scale = if *first_work > 0.0 { self.all / first_work } else { 0.0 };
            return (whole(first * scale), (scale <= 1.0).then_some(0));
        }
        let (ratio, scale) = (sum / sampled, (others / sampled).max(1.0));
        let used = work.iter().filter(|work| **work > 0.0).count();
        let quantile = used.checked_sub(2).and_then(|at| QUANTILES.get(at));
        let squares: f64 =
            values.iter().zip(work).map(|(value, work)| (value - ratio * work).powi(2)).sum();
        // Recorded figures are exact: only the rest is estimated.
        let drawn = 1.0 - 1.0 / scale;
        let error = quantile.map(|quantile| {
            let count = used as f64;
            let of_windows = quantile * scale * (drawn * squares * count / (count - 1.0)).sqrt();
            // The unrecorded part is proportional to the pace.
            of_windows.hypot(self.pace_error * sum * (scale - 1.0))
        });
        (whole(first + sum * scale), error.map(whole))
    }

    fn sums(&self, values: &[Sum; BATCHES], work: &[f64; BATCHES]) -> (Sum, Option<Sum>) {
        let (count, count_error) = self.ratio(values.map(|sum| sum.count), work);
        let (bytes, bytes_error) = self.ratio(values.map(|sum| sum.bytes), work);
        let error = count_error.zip(bytes_error).map(|(count, bytes)| Sum { count, bytes });
        (Sum { count, bytes }, error)
    }

    fn errors(&self, batches: &Batches) -> Errors {
        Errors {
            acquired: self.sums(&batches.acquired, &self.recorded).1,
            outstanding: self.sums(&batches.outstanding, &self.counted).1,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count, not negative"
)]
fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

/// The estimates for a snapshot; `None` when its figures are exact.
pub fn estimate(snapshot: &Snapshot) -> Option<Estimated> {
    let sampling = snapshot.sampling.filter(|sampling| sampling.estimated)?;
    let scale = Scale::new(&sampling);
    let mut snapshot = snapshot.clone();
    let mut errors = HashMap::new();
    for site in &mut snapshot.sites {
        let Some(batches) = &site.batches else { continue };
        let (acquired, of_acquired) = scale.sums(&batches.acquired, &scale.recorded);
        let (outstanding, of_outstanding) = scale.sums(&batches.outstanding, &scale.counted);
        let error = Errors { acquired: of_acquired, outstanding: of_outstanding };
        errors.insert(site.number, error);
        // Resources of the least age keep their share of all outstanding ones.
        site.aged = Sum {
            count: part(outstanding.count, site.aged.count, site.outstanding.count),
            bytes: part(outstanding.bytes, site.aged.bytes, site.outstanding.bytes),
        };
        // Both are estimates: outstanding must not exceed acquired.
        site.acquired = Sum {
            count: acquired.count.max(outstanding.count),
            bytes: acquired.bytes.max(outstanding.bytes),
        };
        site.outstanding = outstanding;
        site.released = Sum {
            count: site.acquired.count - outstanding.count,
            bytes: site.acquired.bytes - outstanding.bytes,
        };
    }
    Some(Estimated { snapshot, errors, scale })
}

/// Scales `all` by `some / of`.
fn part(all: u64, some: u64, of: u64) -> u64 {
    if of == 0 { all } else { whole(all as f64 * some as f64 / of as f64) }
}

impl Estimated {
    /// The errors of a call site's figures.
    pub fn errors(&self, site: u32) -> Errors {
        self.errors.get(&site).copied().unwrap_or_default()
    }

    /// The errors of sums over call sites.
    pub fn errors_of_sum(&self, batches: &[&Batches]) -> Errors {
        let mut sum = Batches::default();
        let add = |to: &mut [Sum; BATCHES], from: &[Sum; BATCHES]| {
            for (to, from) in to.iter_mut().zip(from) {
                to.merge(*from);
            }
        };
        for one in batches {
            add(&mut sum.acquired, &one.acquired);
            add(&mut sum.outstanding, &one.outstanding);
        }
        self.scale.errors(&sum)
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
