//! How an amount that is read at each refresh rises now, sure enough to be extrapolated. Pure.
//!
//! Takes the amounts in order, passes on their rise with its interval; nothing while they may as well not rise.

use super::{
    series::{Resolution, Series},
    slope::{Slope, minima, theil_sen},
    trend::Trends,
};

/// Fewest points, and shortest time in seconds, that a rise is seen in: fewer may be a burst.
const LEAST_POINTS: usize = 10;
/// As above.
const LEAST_S: f64 = 5.0;
/// Time after which a shorter history may contradict a longer one, seconds: before, it has too few points.
const LEAST_CONTRADICTION_S: f64 = 30.0;
/// How far two intervals are apart at least if one contradicts the other, as a factor: those of an exact line have no width.
const TOLERANCE: f64 = 1.1;
/// Steps by which a shorter history must be off from a longer one that it contradicts.
const STEPS: f64 = 2.0;
/// Stretches whose increments are compared: enough for a variance, and so few that each is long against the noise.
const STRETCHES: usize = 10;
/// Two-sided 95 percent quantiles of Student's distribution with 6 to 9 degrees of freedom.
const STUDENT_95: [f64; STRETCHES - 6] = [2.447, 2.365, 2.306, 2.262];
/// A rise counts when the increments are so many standard errors above zero. It is looked at again at each refresh, so with
/// two an idle server's amounts would seem to rise every few minutes.
const SURE: f64 = 5.0;
/// Share of the slope that the later half must still have.
const STILL: f64 = 0.3;
/// How far back a rise is compared with what was before it, in multiples of its duration: the last few teeth of a sawtooth.
const LOOK_BACK: f64 = 4.0;
/// The share of a rise that must be above what was reached before it: else it may be the next tooth.
const NEW: f64 = 0.25;
/// What maxima are kept as minima of: all numbers up to here are exact in `f64`.
const CEILING: u64 = 1 << 53;

/// The history of one amount.
#[derive(Clone, Debug, Default)]
pub struct Gauge {
    series: Series,
    /// The amounts below [`CEILING`], whose minima are the amounts' maxima.
    below_ceiling: Series,
    now: u64,
}

/// How an amount rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rise {
    /// Per second, with its 95 percent interval. The lower bound is above zero.
    pub slope: Slope,
    /// The time that it was seen over, seconds.
    pub over_s: f64,
    resolution: Resolution,
    since_s: f64,
}

/// What is seen of an amount in a stretch of its history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    slope: Slope,
    is_sure: bool,
    /// Whether it begins with a change of direction.
    changed: bool,
    since_s: f64,
    over_s: f64,
    /// The last amount.
    last: f64,
}

impl Seen {
    /// Whether this shorter history shows that a longer one is over. `step` is the largest step lately: an amount that
    /// rises in steps stands still in between.
    fn contradicts(&self, longer: &Self, step: f64) -> bool {
        let (now, before) = (self.slope, longer.slope);
        let apart = now.high < before.low / TOLERANCE || now.low > before.high * TOLERANCE;
        let off = (now.per_s - before.per_s).abs() * self.over_s;
        apart && off > STEPS * step && (self.changed || self.over_s >= LEAST_CONTRADICTION_S)
    }
}

impl Gauge {
    /// Adds the amount at this time, milliseconds since any moment before the first one.
    pub fn push(&mut self, at_ms: u32, amount: u64) {
        self.now = amount;
        self.series.push(at_ms, 0, amount);
        self.below_ceiling.push(at_ms, 0, CEILING.saturating_sub(amount));
    }

    /// The last amount.
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// How the amount rises now; `None` while that is not sure.
    pub fn rise(&self) -> Option<Rise> {
        let (resolution, seen) = self.current()?;
        let Seen { slope, since_s, over_s, last, .. } = seen;
        // A coarser history does not have the last seconds, in which all may have been released.
        let fallen = last - self.now as f64 > NEW * slope.per_s * over_s;
        if !seen.is_sure || fallen {
            return None;
        }
        let rise = Rise { slope, over_s, resolution, since_s };
        self.is_new(&rise).then_some(rise)
    }

    /// The longest history that no shorter one contradicts: neither the whole of it, nor what is seen since its last change
    /// of direction.
    fn current(&self) -> Option<(Resolution, Seen)> {
        let trends = Trends::of(&self.series);
        let all = [
            (Resolution::Refreshes, trends.refreshes),
            (Resolution::TenSeconds, trends.ten_seconds),
            (Resolution::FiveMinutes, trends.five_minutes),
        ];
        let step = self.largest_step();
        let mut current = None;
        let mut shorter: Vec<Seen> = Vec::new();
        for (resolution, trend) in all {
            let Some(trend) = trend else { continue };
            let whole = self.seen(resolution, 0.0);
            let since = trend.changed.then(|| self.seen(resolution, trend.since_s)).flatten();
            let since = since.map(|seen| Seen { changed: true, ..seen });
            // Chance makes changes, and so do steps: what may as well go on as before counts with what was before.
            let is_over = |seen: &Seen| {
                whole.is_none_or(|whole| seen.is_sure || seen.contradicts(&whole, step))
            };
            let Some(seen) = since.filter(is_over).or(whole) else { continue };
            if shorter.iter().any(|shorter| shorter.contradicts(&seen, step)) {
                break;
            }
            current = Some((resolution, seen));
            shorter.extend(whole.into_iter().chain(since));
        }
        current
    }

    /// The largest rise from one refresh to the next.
    fn largest_step(&self) -> f64 {
        let amounts = self.series.recent_bytes();
        let steps = amounts.zip(self.series.recent_bytes().skip(1));
        steps.map(|(one, next)| next.saturating_sub(one)).max().unwrap_or(0) as f64
    }

    /// What is seen of the amount from a time on; `None` while that is too little.
    fn seen(&self, resolution: Resolution, since_s: f64) -> Option<Seen> {
        let points = self.points(resolution, since_s);
        let ((first_s, _), (last_s, last)) = (*points.first()?, *points.last()?);
        let over_s = last_s - first_s;
        if points.len() < LEAST_POINTS || over_s < LEAST_S {
            return None;
        }
        let slope = theil_sen(&minima(&points))?;
        let later = points.get(points.len() / 2..).and_then(|half| theil_sen(&minima(half)))?;
        let increments = increments(&points)?;
        // Points that stray together leave Sen's interval without bounds.
        let bounded = slope.low.is_finite() && slope.high.is_finite();
        let (low, high) =
            if bounded { (slope.low, slope.high) } else { (slope.per_s, slope.per_s) };
        let slope =
            Slope { low: low.min(increments.low), high: high.max(increments.high), ..slope };
        Some(Seen {
            slope,
            is_sure: slope.rises()
                && later.per_s >= STILL * slope.per_s
                && increments.per_s > SURE * increments.error,
            changed: false,
            since_s: first_s,
            over_s,
            last,
        })
    }

    /// Whether the rise leads above what was reached before it: whatever fills up and is emptied again and again rises,
    /// too, but only to where it has been.
    fn is_new(&self, rise: &Rise) -> bool {
        let from_s = rise.since_s - LOOK_BACK * rise.over_s;
        let all = [Resolution::Refreshes, Resolution::TenSeconds, Resolution::FiveMinutes];
        let (mut before, mut since) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for resolution in all {
            for (at_s, below) in self.below_ceiling.curve(resolution).bytes {
                let highest = CEILING as f64 - below;
                if at_s >= rise.since_s {
                    since = since.max(highest);
                } else if at_s >= from_s {
                    before = before.max(highest);
                }
            }
        }
        since - before >= NEW * rise.slope.per_s * rise.over_s
    }

    /// The change per second over the time of another amount's rise.
    pub fn slope_over(&self, rise: &Rise) -> Option<f64> {
        let points = self.points(rise.resolution, rise.since_s);
        theil_sen(&minima(&points)).map(|slope| slope.per_s)
    }

    fn points(&self, resolution: Resolution, since_s: f64) -> Vec<(f64, f64)> {
        let mut points = self.series.curve(resolution).bytes;
        points.retain(|(at_s, _)| *at_s >= since_s);
        points
    }
}

/// The change per second between stretches of a history.
struct Increments {
    per_s: f64,
    error: f64,
    low: f64,
    high: f64,
}

/// The interval of Sen takes what a line leaves over for noise around it. An amount that adds up chance (connections that
/// come and go) strays from any line, the further the longer; the increments between stretches show by how much.
fn increments(points: &[(f64, f64)]) -> Option<Increments> {
    let each = (points.len() / (STRETCHES + 1)).max(1);
    let stretches: Vec<(f64, f64)> = points
        .rchunks_exact(each)
        .take(STRETCHES + 1)
        .map(|stretch| {
            let count = stretch.len() as f64;
            let sum = |of: fn(&(f64, f64)) -> f64| stretch.iter().map(of).sum::<f64>();
            (sum(|(at_s, _)| *at_s) / count, sum(|(_, value)| *value) / count)
        })
        .collect();
    let steps = stretches.windows(2).filter_map(|pair| match pair {
        [(later_s, later), (at_s, value)] => Some((later_s - at_s, later - value)),
        _ => None,
    });
    let (time, change) = steps
        .clone()
        .fold((0.0, 0.0), |(time, change), (step_s, step)| (time + step_s, change + step));
    let count = stretches.len().checked_sub(1).filter(|count| *count > STRETCHES - 4)?;
    let quantile = STUDENT_95.get(count - 1 - 6)?;
    let per_s = change / time;
    let squares: f64 = steps.map(|(step_s, step)| (step - per_s * step_s).powi(2)).sum();
    let variance = squares / (count - 1) as f64;
    let error = (variance * count as f64).sqrt() / time;
    Some(Increments { per_s, error, low: per_s - quantile * error, high: per_s + quantile * error })
}

#[cfg(test)]
#[path = "gauge_tests.rs"]
mod tests;
