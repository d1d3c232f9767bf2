//! Retained resources that were acquired one after the other, and how evenly they come. Pure.
//!
//! Takes cohorts whose resources are old enough to be retained, oldest first.

use super::share::Share;
use crate::ledger::Cohort;

/// Longest pause between acquisitions of retained resources that belong together, in mean distances: one in a thousand is
/// longer where they come at random, and there are some dozens in a run.
const LONGEST_PAUSE: f64 = 7.0;
/// The same while too few are known for a mean distance, seconds.
const FIRST_PAUSE_S: f64 = 10.0;
/// How much longer than the one before a pause may be that comes again and again.
const LONGER_PAUSE: f64 = 1.5;
/// Below this share, most are released, and the rate of the retained ones follows that of all: the load.
const MOST_RELEASED: f64 = 0.5;
/// A difference of so many standard deviations is no chance, though it is looked for at every report.
const DEVIATIONS: f64 = 2.5;
/// What comes later than the middle has an even pace if it slows down by no more than this, surely: more evenly than
/// anything that fills up, whose pace halves again and again.
const EVEN: f64 = 0.75;
/// One-sided 90 percent quantile of the normal distribution, in standard deviations.
const NORMAL_90: f64 = 1.28;
/// Fewest resources in a half of which that can be said.
const LEAST_EVEN: u64 = 50;
/// Equal parts of a run's time over which it is compared how many come.
const PARTS: usize = 8;
/// 95 percent quantile of the index of dispersion of eight Poisson counts: of chi-squared with seven degrees of freedom,
/// divided by seven.
const DISPERSED: f64 = 2.01;
/// From this share on, all are kept.
const KEPT_WHOLE: f64 = 0.9;

/// How the later half of a run differs from the earlier one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The rate in the later half relative to that in the earlier half; where most are released, the share.
    pub ratio: f64,
    /// So much it is at least, with a probability of 90 percent; where most are released, 0.
    pub low: f64,
    /// Whether the halves differ by more than chance.
    pub differs: bool,
}

#[cfg(test)]
impl Pace {
    /// An even one.
    pub(crate) const fn example() -> Self {
        Self { ratio: 1.0, low: 0.8, differs: false }
    }
}

/// What was retained and acquired in a part of a run's time.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    retained: f64,
    acquired: f64,
}

impl Part {
    /// The share that was retained.
    fn share(self) -> f64 {
        self.retained / self.acquired.max(1.0)
    }
}

/// Cohorts that follow each other without a long pause in what they retain.
pub(super) struct Run {
    pub(super) start_ms: u32,
    pub(super) end_ms: u32,
    /// What they retain.
    pub(super) count: u64,
    pub(super) acquired: u64,
    pub(super) cohorts: u32,
    pub(super) retaining: u32,
    /// The longest pause in it, or that comes again and again, seconds.
    paused_s: f64,
    /// Oldest first.
    parts: Vec<Cohort>,
}

impl Run {
    /// The last run.
    pub(super) fn last(cohorts: impl DoubleEndedIterator<Item = Cohort> + Clone) -> Option<Self> {
        let whole = Self::of(cohorts.clone().rev(), usual_pause_s(cohorts))?;
        // What goes on after a table has been filled: its beginning says nothing any more.
        Some(whole.even_half().unwrap_or(whole))
    }

    /// The last run of cohorts that come newest first. A pause that is about as long as `paused_s` does not end it.
    fn of(cohorts: impl Iterator<Item = Cohort>, paused_s: f64) -> Option<Self> {
        let mut run: Option<Self> = None;
        let mut between = (0, 0);
        for one in cohorts {
            if one.outstanding == 0 {
                // It belongs to the run only if an earlier one does.
                between = (between.0 + one.acquired, between.1 + 1);
                continue;
            }
            let count = u64::from(one.outstanding);
            match &mut run {
                None => {
                    run = Some(Self {
                        start_ms: one.start_ms,
                        end_ms: one.end_ms,
                        count,
                        acquired: one.acquired,
                        cohorts: 1,
                        retaining: 1,
                        paused_s,
                        parts: vec![one],
                    });
                }
                Some(run) => {
                    let pause_s = f64::from(run.start_ms.saturating_sub(one.end_ms)) / 1000.0;
                    if pause_s > run.longest_pause_s() {
                        break;
                    }
                    run.paused_s = run.paused_s.max(pause_s);
                    run.start_ms = one.start_ms;
                    run.count += count;
                    run.acquired += one.acquired + between.0;
                    run.cohorts += 1 + between.1;
                    run.retaining += 1;
                    run.parts.push(one);
                }
            }
            between = (0, 0);
        }
        if let Some(run) = &mut run {
            run.parts.reverse();
        }
        run
    }

    /// The later half, if the whole slows down and the later half by itself does not.
    fn even_half(&self) -> Option<Self> {
        let whole = self.pace();
        if !whole.differs || whole.ratio >= EVEN {
            return None;
        }
        let middle_ms = self.start_ms.midpoint(self.end_ms);
        let later = self.parts.iter().rev().filter(|one| one.start_ms >= middle_ms);
        let half = Self::of(later.copied(), self.paused_s)?;
        let pace = half.pace();
        (half.count >= 2 * LEAST_EVEN && pace.low >= EVEN).then_some(half)
    }

    pub(super) fn over_s(&self) -> f64 {
        f64::from(self.end_ms - self.start_ms) / 1000.0
    }

    /// The share of what was acquired that was retained.
    pub(super) fn share(&self) -> Option<Share> {
        Share::of(self.count, self.acquired)
    }

    /// A longer pause ends it, seconds.
    pub(super) fn longest_pause_s(&self) -> f64 {
        let distance_s = self.over_s() / self.count as f64;
        FIRST_PAUSE_S.max(LONGEST_PAUSE * distance_s).max(LONGER_PAUSE * self.paused_s)
    }

    /// How many of them come at once: the index of dispersion of their numbers in equal parts of the time, where that is
    /// more than chance; else 1. A cache that keeps what it acquires grows when more is in use than ever before: in
    /// bursts. Where only a part is retained, its rate follows the load, which may come in bursts.
    pub(super) fn burst(&self) -> f64 {
        if (self.count as f64) < KEPT_WHOLE * self.acquired as f64 {
            return 1.0;
        }
        if self.end_ms <= self.start_ms {
            return self.count as f64;
        }
        let numbers = self.divided::<PARTS>().map(|part| part.retained);
        let mean = self.count as f64 / PARTS as f64;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        let index = squares / (PARTS - 1) as f64 / mean;
        if index > DISPERSED { index } else { 1.0 }
    }

    /// How evenly they come.
    pub(super) fn pace(&self) -> Pace {
        let [earlier, later] = self.divided();
        let share = self.count as f64 / (self.acquired as f64).max(1.0);
        if share < MOST_RELEASED {
            let (before, after) = (earlier.share(), later.share());
            let variance = |acquired: f64| share * (1.0 - share) / acquired.max(1.0);
            let spread = (variance(earlier.acquired) + variance(later.acquired)).sqrt();
            return Pace {
                ratio: after / before.max(f64::MIN_POSITIVE),
                low: 0.0,
                differs: (after - before).abs() / spread.max(f64::MIN_POSITIVE) > DEVIATIONS,
            };
        }
        let ratio = later.retained / earlier.retained.max(f64::MIN_POSITIVE);
        // Of the logarithm of a ratio of two Poisson counts.
        let spread = (1.0 / earlier.retained.max(1.0) + 1.0 / later.retained.max(1.0)).sqrt();
        Pace {
            ratio,
            low: ratio * (-NORMAL_90 * spread).exp(),
            differs: (later.retained - earlier.retained).abs() / (self.count as f64).sqrt()
                > DEVIATIONS,
        }
    }

    /// What was retained and acquired in `N` equal parts of its time; a cohort over a boundary counts in parts.
    fn divided<const N: usize>(&self) -> [Part; N] {
        let (from, span) = (f64::from(self.start_ms), f64::from(self.end_ms - self.start_ms));
        let mut parts = [Part::default(); N];
        for one in &self.parts {
            let (start, end) = (f64::from(one.start_ms), f64::from(one.end_ms));
            let mut before = 0.0;
            for (at, part) in (1..).zip(&mut parts) {
                let boundary = from + span * f64::from(at) / N as f64;
                let until = if end > start {
                    ((boundary - start) / (end - start)).clamp(0.0, 1.0)
                } else {
                    f64::from(u8::from(end <= boundary))
                };
                part.retained += (until - before) * f64::from(one.outstanding);
                part.acquired += (until - before) * one.acquired as f64;
                before = until;
            }
        }
        parts
    }
}

/// The longest pause that comes again and again between cohorts that retain something, oldest first; seconds.
fn usual_pause_s(cohorts: impl Iterator<Item = Cohort>) -> f64 {
    let retaining: Vec<Cohort> = cohorts.filter(|one| one.outstanding > 0).collect();
    let pauses = retaining.windows(2).filter_map(|pair| match pair {
        [one, next] => Some(f64::from(next.start_ms.saturating_sub(one.end_ms)) / 1000.0),
        _ => None,
    });
    let (mut longest, mut second) = (0.0_f64, 0.0_f64);
    for pause in pauses {
        second = second.max(pause.min(longest));
        longest = longest.max(pause);
    }
    second
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cohort for each second, with what it retains of a hundred.
    fn seconds(retains: impl Fn(u32) -> u32) -> Vec<Cohort> {
        let one = |second: u32| Cohort {
            start_ms: second * 1000,
            end_ms: second * 1000 + 900,
            acquired: u64::from(retains(second)),
            outstanding: retains(second),
        };
        (0..100).map(one).collect()
    }

    #[test]
    fn what_goes_on_after_a_table_is_full_is_a_run_of_its_own() {
        let run = Run::last(seconds(|at| if at < 20 { 100 } else { 5 }).into_iter()).unwrap();
        assert!(run.start_ms >= 50_000 && run.pace().low > 0.75, "{:?}", run.pace());
        // What slows down all the time has no even half.
        let slows = |at: u32| 100 >> (at / 25);
        let run = Run::last(seconds(slows).into_iter()).unwrap();
        assert!(run.start_ms == 0 && run.pace().differs && run.pace().ratio < 0.4);
    }

    #[test]
    fn what_comes_at_once_is_a_burst_if_all_is_kept() {
        // Twelve in each of three seconds, as a cache grows when more is in use than ever before.
        let bursts = |at: u32| if [0, 45, 99].contains(&at) { 12 } else { 0 };
        let run = Run::last(seconds(bursts).into_iter()).unwrap();
        assert!(f64::from(36) / run.burst() < 6.0, "{}", run.burst());
        let even = Run::last(seconds(|at| u32::from(at % 3 == 0)).into_iter()).unwrap();
        assert!(even.burst() <= 1.0, "{}", even.burst());
        // Where most are released, bursts are those of the load.
        let mut released = seconds(bursts);
        released.iter_mut().for_each(|one| one.acquired = 100);
        assert!(Run::last(released.into_iter()).unwrap().burst() <= 1.0);
    }

    #[test]
    fn few_may_come_evenly_or_not() {
        let run = Run::last(seconds(|at| u32::from(at % 8 == 0)).into_iter()).unwrap();
        let pace = run.pace();
        assert!((0.7..1.4).contains(&pace.ratio) && pace.low < 0.5 && !pace.differs, "{pace:?}");
    }
}
