//! How an amount changes now: the slope since the last change of direction, in each resolution. Pure.

use super::{
    change::last_change,
    series::{Curve, Resolution, Series},
    slope::{Slope, minima, theil_sen},
};

/// Stretches of a coarser resolution before its slope counts.
const LEAST_STRETCHES: usize = 6;
/// Share of the slope that the later half must still have.
const STILL: f64 = 0.3;
/// Time after which the last minute may contradict the last ten, seconds: before, it has too few points.
const LEAST_CONTRADICTION_S: f64 = 30.0;
/// Shortest time that a slope is given for, seconds: below it, a single burst would look like one.
const LEAST_SPAN_S: f64 = 2.0;

/// The slopes of one resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Of the number of resources.
    pub count: Slope,
    /// Of their bytes.
    pub bytes: Slope,
    /// The slope of the number in the later half of the time, and that of the bytes: what has stopped within the time has
    /// none there.
    pub later: [Slope; 2],
    /// When it began: the last change of direction, or the beginning of the history; seconds on the series' clock.
    pub since_s: f64,
    /// Since then, seconds.
    pub over_s: f64,
    /// Whether there was a change of direction in the history.
    pub changed: bool,
}

/// The trends of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trends {
    /// Over the last refreshes.
    pub refreshes: Option<Trend>,
    /// Over the last ten minutes.
    pub ten_seconds: Option<Trend>,
    /// Over the last three hours.
    pub five_minutes: Option<Trend>,
}

impl Trend {
    /// Whether the number, or the bytes, surely rise, and still do so in the later half.
    pub fn rises(&self) -> [bool; 2] {
        let [count, bytes] = self.later;
        let still =
            |slope: &Slope, later: Slope| slope.rises() && later.per_s >= STILL * slope.per_s;
        [still(&self.count, count), still(&self.bytes, bytes)]
    }
}

impl Trends {
    /// The trends of a series.
    pub(super) fn of(series: &Series) -> Self {
        let coarse = |resolution| {
            let curve = series.curve(resolution);
            if curve.count.len() < LEAST_STRETCHES { None } else { trend(&curve) }
        };
        Self {
            refreshes: trend(&series.curve(Resolution::Refreshes)),
            ten_seconds: coarse(Resolution::TenSeconds),
            five_minutes: coarse(Resolution::FiveMinutes),
        }
    }

    /// The trend that says how the amount changes now: since a change in the last minute, else over ten minutes.
    pub fn now(&self) -> Option<Trend> {
        let changed = self.refreshes.filter(|trend| trend.changed);
        // What the last minute contradicts is over, though noise hides when it ended.
        let contradicts = |longer: &Trend| {
            self.refreshes.is_some_and(|recent| {
                recent.over_s >= LEAST_CONTRADICTION_S
                    && (recent.count.high < longer.count.low
                        || recent.bytes.high < longer.bytes.low)
            })
        };
        changed.or(self.ten_seconds.filter(|longer| !contradicts(longer))).or(self.refreshes)
    }
}

fn trend(curve: &Curve) -> Option<Trend> {
    let at = last_change(&curve.count).max(last_change(&curve.bytes));
    let whole = since(curve, 0);
    if at == 0 {
        return whole;
    }
    // A change counts if the slope is surely another one since then.
    let differs = |now: &Slope, before: &Slope| !(now.low..=now.high).contains(&before.per_s);
    since(curve, at)
        .filter(|now| {
            let differ = |whole: &Trend| {
                differs(&now.count, &whole.count) || differs(&now.bytes, &whole.bytes)
            };
            whole.as_ref().is_none_or(differ)
        })
        .or(whole)
}

/// The trend of a curve from its point `at` on.
fn since(curve: &Curve, at: usize) -> Option<Trend> {
    let (count, bytes) = (curve.count.get(at..)?, curve.bytes.get(at..)?);
    let ((since_s, _), (until_s, _)) = (*count.first()?, *count.last()?);
    let over_s = until_s - since_s;
    if over_s < LEAST_SPAN_S {
        return None;
    }
    let slope = |points: &[(f64, f64)]| theil_sen(&minima(points));
    let later = |points: &[(f64, f64)], whole: Slope| {
        points.get(points.len() / 2..).and_then(slope).unwrap_or(whole)
    };
    let of_count = slope(count)?;
    let later_count = later(count, of_count);
    let changed = at > 0;
    // Where all resources have one size, one slope is enough.
    if let Some(size) = size(count, bytes) {
        let (bytes, later) = (of_count.times(size), [later_count, later_count.times(size)]);
        return Some(Trend { count: of_count, bytes, later, since_s, over_s, changed });
    }
    let of_bytes = slope(bytes)?;
    let later = [later_count, later(bytes, of_bytes)];
    Some(Trend { count: of_count, bytes: of_bytes, later, since_s, over_s, changed })
}

/// The size of each resource, if all have the same.
fn size(count: &[(f64, f64)], bytes: &[(f64, f64)]) -> Option<f64> {
    let size = count.iter().zip(bytes).find(|((_, count), _)| *count > 0.0);
    let size = size.map_or(0.0, |((_, count), (_, bytes))| bytes / count);
    let fits = |((_, count), (_, bytes)): (&(f64, f64), &(f64, f64))| {
        (count * size - bytes).abs() <= 1e-9 * bytes
    };
    count.iter().zip(bytes).all(fits).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trends(seconds: u32, count: impl Fn(u32) -> u64) -> Trends {
        let mut series = Series::default();
        (0..seconds).for_each(|at| series.push(at * 1000, count(at), count(at) * 100));
        Trends::of(&series)
    }

    /// A cache of 5,000 blocks that is full after five seconds: a line through its history would rise for a minute.
    #[test]
    fn what_is_full_grows_no_more() {
        let fills = |at: u32| u64::from(at.min(5)) * 1000;
        for seconds in [11, 15, 30, 60, 90, 600] {
            let now = trends(seconds, fills).now().unwrap();
            assert_eq!((now.count.per_s, now.bytes.per_s), (0.0, 0.0), "{seconds}");
        }
        let now = trends(5, fills).now().unwrap();
        assert!((now.count.per_s - 1000.0).abs() < 1e-6, "{now:?}");
    }

    #[test]
    fn what_grows_since_a_while_has_the_slope_since_then() {
        let grows = |at: u32| 500 + u64::from(at.saturating_sub(600)) * 3;
        let now = trends(620, grows).now().unwrap();
        assert!((now.count.per_s - 3.0).abs() < 1e-6 && now.count.rises(), "{now:?}");
        assert!((598.0..=602.0).contains(&now.since_s), "{now:?}");
    }

    #[test]
    fn too_short_a_history_has_no_slope() {
        assert_eq!(trends(2, u64::from).now(), None);
        assert!((trends(4, u64::from).now().unwrap().count.per_s - 1.0).abs() < 1e-9);
    }

    /// A leak of one block in two minutes shows over hours.
    #[test]
    fn a_slow_rise_shows_in_the_coarse_resolution() {
        let trends = trends(7200, |at| 100 + u64::from(at / 120) + u64::from(at % 7));
        assert!(trends.five_minutes.unwrap().count.rises());
        assert!(!trends.refreshes.unwrap().count.rises());
    }

    #[test]
    fn a_sawtooth_does_not_rise_in_minima() {
        let trends = trends(600, |at| u64::from(at % 20) * 50);
        assert!(!trends.ten_seconds.unwrap().count.rises(), "{trends:?}");
    }
}
