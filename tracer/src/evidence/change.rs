//! Where a series last began to go another way. Pure.

/// Points that each side of a change needs: fewer fit any line.
const LEAST: usize = 4;
/// How much less two lines must be off than one, in squares. A smaller gain comes from noise that depends on itself.
const GAIN: f64 = 0.2;
/// Changes looked for, each behind the one before.
const MOST_CHANGES: usize = 4;

/// Sums of a stretch of points, from which its line follows.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    time: f64,
    value: f64,
    times: f64,
    values: f64,
    shared: f64,
}

impl Sums {
    fn add(&mut self, (time, value): (f64, f64)) {
        self.count += 1.0;
        self.time += time;
        self.value += value;
        self.times += time * time;
        self.values += value * value;
        self.shared += time * value;
    }

    fn without(self, other: Self) -> Self {
        Self {
            count: self.count - other.count,
            time: self.time - other.time,
            value: self.value - other.value,
            times: self.times - other.times,
            values: self.values - other.values,
            shared: self.shared - other.shared,
        }
    }

    /// Slope and intercept of the least-squares line, and the squares that it is off by.
    fn line(self) -> (f64, f64, f64) {
        let times = self.times - self.time * self.time / self.count;
        let values = (self.values - self.value * self.value / self.count).max(0.0);
        let shared = self.shared - self.time * self.value / self.count;
        let slope = if times > 0.0 { shared / times } else { 0.0 };
        let off = (values - slope * shared).max(0.0);
        (slope, (self.value - slope * self.time) / self.count, off)
    }
}

/// The index of the first point after the last change of direction, or of a jump upward; 0 without one.
///
/// A drop is no change: whatever fills up, is emptied and fills up again would seem to grow each time.
pub(super) fn last_change(points: &[(f64, f64)]) -> usize {
    // A recent change may be small beside earlier ones: it shows in a shorter window.
    let windows = [0, points.len() / 2, points.len() * 3 / 4];
    windows.into_iter().map(|start| change_after(points, start)).max().unwrap_or(0)
}

/// The same for the points from `start` on.
fn change_after(points: &[(f64, f64)], start: usize) -> usize {
    let (mut at, mut found) = (start, 0);
    for _ in 0..MOST_CHANGES {
        let Some(more) = points.get(at..).and_then(change) else { break };
        at += more;
        found = at;
    }
    found
}

fn change(points: &[(f64, f64)]) -> Option<usize> {
    if points.len() < 2 * LEAST {
        return None;
    }
    let (origin_time, origin) = *points.first()?;
    // Relative to the first point, so that large values keep their digits.
    let moved = points.iter().map(|(time, value)| (time - origin_time, value - origin));
    let mut all = Sums::default();
    moved.clone().for_each(|point| all.add(point));
    let (.., whole) = all.line();
    // What is within rounding of a line is one.
    if whole <= 1e-12 * all.values.max(1e-9) {
        return None;
    }
    let mut left = Sums::default();
    let mut best: Option<(f64, usize)> = None;
    for (at, point) in moved.enumerate() {
        if at >= LEAST && at + LEAST <= points.len() {
            let right = all.without(left);
            let ((left_slope, left_from, left_off), (slope, from, right_off)) =
                (left.line(), right.line());
            let off = left_off + right_off;
            let time = point.0;
            let jump = (from + slope * time) - (left_from + left_slope * time);
            let noise = (off / all.count).sqrt();
            let drops = jump < -(2.0 * noise).max(0.02 * (from + slope * time + origin).abs());
            if !drops && off < GAIN * whole && best.is_none_or(|(least, _)| off < least) {
                best = Some((off, at));
            }
        }
        left.add(point);
    }
    best.map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::random::Random;

    fn series(count: u32, value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|at| (f64::from(at), value(f64::from(at)))).collect()
    }

    #[test]
    fn what_has_filled_up_has_changed_when_it_was_full() {
        let filled = series(20, |at| at.min(6.0) * 1e6);
        let at = last_change(&filled);
        assert!((6..=7).contains(&at), "{at}");
        // The earliest that it can be seen.
        assert!((5..=7).contains(&last_change(&filled[..11])));
    }

    #[test]
    fn what_begins_to_grow_has_changed_then() {
        let mut random = Random::new(3);
        let noise: Vec<f64> = (0..60).map(|_| random.normal()).collect();
        let grows = (0_u32..60).zip(noise).map(|(at, noise)| {
            (f64::from(at), 500.0 + noise + f64::from(at.saturating_sub(40)) * 5.0)
        });
        let grows: Vec<_> = grows.collect();
        let at = last_change(&grows);
        assert!((37..=43).contains(&at), "{at}");
    }

    #[test]
    fn lines_and_noise_have_no_change() {
        assert_eq!(last_change(&series(60, |at| 1e9 + at * 7.0)), 0);
        assert_eq!(last_change(&series(60, |_| 5.0)), 0);
        assert_eq!(last_change(&series(7, |at| at.min(3.0))), 0);
        let with_change = (0..100).filter(|seed| {
            let mut random = Random::new(*seed);
            let points: Vec<_> = (0..60).map(|at| (f64::from(at), random.normal())).collect();
            last_change(&points) > 0
        });
        assert!(with_change.count() < 3);
    }

    #[test]
    fn a_drop_is_no_change() {
        assert_eq!(last_change(&series(60, |at| at % 30.0 * 10.0)), 0);
    }

    #[test]
    fn of_several_changes_the_last_one_counts() {
        let at = last_change(&series(60, |at| at.min(20.0) * 10.0 + (at - 45.0).max(0.0) * 8.0));
        assert!((43..=46).contains(&at), "{at}");
    }
}
