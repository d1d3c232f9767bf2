//! An amount over time in several resolutions: the last refreshes, then minima of ten seconds, then of five minutes.
//!
//! Bounded: 60 refreshes, ten minutes, three hours. An amount that does not change takes no memory in the coarser two.
//! Pure: the caller supplies the time.

use std::collections::VecDeque;

/// Refreshes kept: one minute at the default interval.
const RECENT: usize = 60;
/// Lengths of a stretch in the coarser resolutions, seconds, and how many are kept.
const LEVELS: [(u32, u32); 2] = [(10, 60), (300, 36)];

/// An amount at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    at_ms: u32,
    count: u32,
    bytes: u64,
}

/// The lowest amounts of a stretch, and its number since the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lowest {
    stretch: u32,
    count: u32,
    bytes: u64,
}

/// One of the coarser resolutions. Of stretches with equal amounts, only the first is stored.
#[derive(Clone, Debug, Default)]
struct Level {
    closed: VecDeque<Lowest>,
    open: Option<Lowest>,
}

impl Level {
    fn push(&mut self, (length_s, most): (u32, u32), point: Point) {
        let stretch = point.at_ms / 1000 / length_s;
        let Point { count, bytes, .. } = point;
        match &mut self.open {
            Some(open) if open.stretch == stretch => {
                open.count = open.count.min(count);
                open.bytes = open.bytes.min(bytes);
            }
            open => {
                let closed = open.replace(Lowest { stretch, count, bytes });
                let Some(closed) = closed else { return };
                let same = |last: &Lowest| (last.count, last.bytes) == (closed.count, closed.bytes);
                if !self.closed.back().is_some_and(same) {
                    self.closed.push_back(closed);
                }
                // The last one before the oldest stretch that is kept says what the amount was then.
                let oldest = stretch.saturating_sub(most);
                while self.closed.get(1).is_some_and(|second| second.stretch <= oldest) {
                    self.closed.pop_front();
                }
            }
        }
    }

    /// The closed stretches with their times in seconds, oldest first.
    fn points(&self, (length_s, most): (u32, u32)) -> Vec<(f64, Lowest)> {
        let (Some(first), Some(open)) = (self.closed.front(), self.open) else { return Vec::new() };
        let mut stored = self.closed.iter().copied().peekable();
        let Some(mut now) = stored.next() else { return Vec::new() };
        (first.stretch.max(open.stretch.saturating_sub(most))..open.stretch)
            .map(|stretch| {
                while let Some(next) = stored.next_if(|next| next.stretch <= stretch) {
                    now = next;
                }
                ((f64::from(stretch) + 0.5) * f64::from(length_s), now)
            })
            .collect()
    }
}

/// The history of an amount.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    recent: VecDeque<Point>,
    levels: [Level; 2],
}

/// A resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// The last refreshes.
    Refreshes,
    /// The last ten minutes, in minima of ten seconds.
    TenSeconds,
    /// The last three hours, in minima of five minutes.
    FiveMinutes,
}

/// Number and bytes over time: seconds, value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve {
    /// The numbers.
    pub(super) count: Vec<(f64, f64)>,
    /// The bytes.
    pub(super) bytes: Vec<(f64, f64)>,
}

impl Series {
    /// Adds the amount at this time, milliseconds since any moment before the first one.
    pub(super) fn push(&mut self, at_ms: u32, count: u64, bytes: u64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let point = Point { at_ms, count: u32::try_from(count).unwrap_or(u32::MAX), bytes };
        self.recent.push_back(point);
        for (level, bounds) in self.levels.iter_mut().zip(LEVELS) {
            level.push(bounds, point);
        }
    }

    /// Bytes at the last refreshes, oldest first.
    pub(super) fn recent_bytes(&self) -> impl Iterator<Item = u64> {
        self.recent.iter().map(|point| point.bytes)
    }

    /// The amounts in one resolution, oldest first. Of the coarser ones, only stretches that are over.
    pub(super) fn curve(&self, resolution: Resolution) -> Curve {
        let level = |at: usize| {
            let points = self.levels.get(at).zip(LEVELS.get(at));
            let points = points.map(|(level, bounds)| level.points(*bounds)).unwrap_or_default();
            Curve {
                count: points.iter().map(|(at_s, low)| (*at_s, f64::from(low.count))).collect(),
                bytes: points.iter().map(|(at_s, low)| (*at_s, low.bytes as f64)).collect(),
            }
        };
        match resolution {
            Resolution::Refreshes => {
                let at_s = |point: &Point| f64::from(point.at_ms) / 1000.0;
                Curve {
                    count: self
                        .recent
                        .iter()
                        .map(|one| (at_s(one), f64::from(one.count)))
                        .collect(),
                    bytes: self.recent.iter().map(|one| (at_s(one), one.bytes as f64)).collect(),
                }
            }
            Resolution::TenSeconds => level(0),
            Resolution::FiveMinutes => level(1),
        }
    }

    /// The lowest count of the last refreshes that reach this far back; `None` while the history is shorter.
    pub(super) fn lowest_count_over(&self, seconds: u32) -> Option<u32> {
        let last_ms = self.recent.back()?.at_ms;
        let from_ms = last_ms.checked_sub(seconds.saturating_mul(1000))?;
        (self.recent.front()?.at_ms <= from_ms).then_some(())?;
        self.recent.iter().filter(|one| one.at_ms >= from_ms).map(|one| one.count).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(curve: &[(f64, f64)]) -> Vec<f64> {
        curve.iter().map(|(_, value)| *value).collect()
    }

    #[test]
    fn each_resolution_has_its_minima() {
        let mut series = Series::default();
        for second in 0..1000_u32 {
            series.push(second * 1000, u64::from(second % 10 + second / 10 * 100), 7);
        }
        let recent = series.curve(Resolution::Refreshes);
        assert_eq!((recent.count.len(), recent.count[0]), (60, (940.0, 9400.0)));
        let tens = series.curve(Resolution::TenSeconds);
        assert_eq!(
            (tens.count.len(), tens.count[0], tens.count[59]),
            (60, (395.0, 3900.0), (985.0, 9800.0))
        );
        assert_eq!(values(&tens.bytes), [7.0; 60]);
        let minutes = series.curve(Resolution::FiveMinutes);
        assert_eq!(minutes.count, [(150.0, 0.0), (450.0, 3000.0), (750.0, 6000.0)]);
        assert_eq!(series.lowest_count_over(20), Some(9709));
        assert_eq!(series.lowest_count_over(90), None);
    }

    #[test]
    fn what_does_not_change_takes_no_memory_and_has_all_its_points() {
        let mut series = Series::default();
        for second in 0..100_000_u32 {
            series.push(second * 1000, if second < 90_000 { 4 } else { 5 }, 9);
        }
        assert!(series.levels.iter().all(|level| level.closed.len() <= 2));
        let tens = series.curve(Resolution::TenSeconds);
        assert_eq!((tens.count.len(), tens.count[0].1), (60, 5.0));
        let minutes = values(&series.curve(Resolution::FiveMinutes).count);
        assert_eq!((minutes.len(), minutes[0], minutes[35]), (36, 4.0, 5.0));
        assert_eq!(minutes.iter().filter(|value| **value < 4.5).count(), 3);
    }

    #[test]
    fn a_new_series_has_nothing_closed() {
        let mut series = Series::default();
        assert_eq!(series.curve(Resolution::TenSeconds), Curve::default());
        series.push(5000, 1, 1);
        assert_eq!(series.curve(Resolution::TenSeconds), Curve::default());
        assert_eq!(series.curve(Resolution::Refreshes).count, [(5.0, 1.0)]);
    }
}
