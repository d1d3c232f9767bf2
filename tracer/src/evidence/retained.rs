//! What is never released: resources far older than any that was released, and whether new ones keep coming.
//!
//! Takes cohorts and lifetimes of one call site. Pure.

use super::share::Share;
use crate::ledger::{Cohort, LIFETIMES, Lives, lifetime_end_s};

/// Of those that reached an age, so many may have been released later and the age still counts as the longest usual
/// lifetime: single stragglers must not hide a leak.
const STRAGGLERS: f64 = 0.02;
/// Resources count as retained from twice the longest usual lifetime on; a drain and a snapshot later, seconds: the least
/// age of any that do.
pub const LEAST_MATURE_S: f64 = 2.0;
/// The same where releases have ended, as a factor: how long it takes until so much is sure is waited for already.
const ENDED_MATURE: f64 = 1.25;
/// Releases have ended at an age if so few of those that were to be expected after it came, as a share.
const ENDED: f64 = 0.1;
/// Fewer releases that were to be expected may all stay away by chance: one in 400 Poisson counts of mean 6 is 0.
const LEAST_EXPECTED: f64 = 6.0;
/// Buckets of lifetimes that are a doubling.
const DOUBLING: usize = 2;
/// Longest pause between acquisitions of retained resources that belong together, in mean distances: one in a thousand is
/// longer where they come at random, and there are some dozens in a run.
const LONGEST_PAUSE: f64 = 7.0;
/// The same while too few are known for a mean distance, seconds.
const FIRST_PAUSE_S: f64 = 10.0;
/// How much longer than the one before a pause may be that comes again and again.
const LONGER_PAUSE: f64 = 1.5;

/// The resources of a call site that outlived every usual lifetime.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retained {
    /// The longest usual lifetime of released ones, seconds.
    pub usual_s: f64,
    /// Released ones that lived for more than twice as long.
    pub stragglers: u64,
    /// At the rate at which mature ones were released, the time until a retained one is, seconds; infinite without any.
    pub rest_s: f64,
    /// Retained resources that were acquired one after the other, until recently.
    pub count: u64,
    /// Everything acquired in that time, and the share that was retained.
    pub share: Share,
    /// When the first of them was acquired, milliseconds since the ledger's origin.
    pub since_ms: u32,
    /// Since then until the last of them was, seconds.
    pub over_s: f64,
    /// Cohorts among them, and those that retain something.
    pub cohorts: (u32, u32),
    /// Whether new ones are still coming.
    pub continues: bool,
    /// The rate in the later half of the time relative to that in the earlier half; where most are released, the share.
    pub pace: f64,
    /// Whether that difference is larger than chance.
    pub pace_differs: bool,
}

#[cfg(test)]
impl Retained {
    /// Fifty resources of 2,500 over a hundred seconds, none of them released since.
    pub(crate) fn example() -> Self {
        Self {
            usual_s: 1.0,
            stragglers: 0,
            rest_s: f64::INFINITY,
            count: 50,
            share: Share { share: 0.02, low: 0.015, high: 0.027 },
            since_ms: 70_000,
            over_s: 100.0,
            cohorts: (9, 9),
            continues: true,
            pace: 1.0,
            pace_differs: false,
        }
    }
}

/// Below this share, most are released, and the rate of the retained ones follows that of all: the load.
const MOST_RELEASED: f64 = 0.5;
/// A difference of so many standard deviations is no chance, though it is looked for at every report.
const DEVIATIONS: f64 = 2.5;

/// What a call site retains; `None` while nothing has outlived the usual lifetime for long enough.
pub(super) fn retained(lives: &Lives, now_ms: u32) -> Option<Retained> {
    let Usual { age_s: usual_s, mature_s } = Usual::of(lives, now_ms)?;
    let until_ms = f64::from(now_ms) - mature_s * 1000.0;
    let mature = || lives.cohorts().iter().filter(|one| f64::from(one.end_ms) <= until_ms);
    let run = run(mature().copied().rev(), usual_pause_s(mature().copied()))?;
    let pause_s = (until_ms - f64::from(run.end_ms)) / 1000.0;
    let (earlier, later) = run.halves();
    let share = Share::of(run.count, run.acquired)?;
    let all = run.count as f64;
    let (pace, differs) = if share.share < MOST_RELEASED {
        let shares = [earlier.0 / earlier.1.max(1.0), later.0 / later.1.max(1.0)];
        let [before, after] = shares;
        let variance = |share: f64, acquired: f64| share * (1.0 - share) / acquired.max(1.0);
        let spread = (variance(share.share, earlier.1) + variance(share.share, later.1)).sqrt();
        (
            after / before.max(f64::MIN_POSITIVE),
            (after - before).abs() / spread.max(f64::MIN_POSITIVE),
        )
    } else {
        (later.0 / earlier.0.max(f64::MIN_POSITIVE), (later.0 - earlier.0).abs() / all.sqrt())
    };
    let old = || {
        mature().map(|one| (f64::from(now_ms - one.end_ms) / 1000.0, f64::from(one.outstanding)))
    };
    let exposure_s: f64 = old().map(|(age_s, count)| (age_s - mature_s) * count).sum();
    let later_than = |age_s: f64| -> u64 {
        let buckets = lives.lifetimes().iter().enumerate().skip(1);
        let late = buckets.filter(|(bucket, _)| lifetime_end_s(bucket - 1) >= age_s);
        late.map(|(_, count)| count).sum()
    };
    let late = later_than(mature_s);
    Some(Retained {
        usual_s,
        stragglers: later_than(mature_age_s(usual_s)),
        rest_s: if late == 0 { f64::INFINITY } else { exposure_s / late as f64 },
        count: run.count,
        share,
        since_ms: run.start_ms,
        over_s: run.over_s(),
        cohorts: (run.cohorts, run.retaining),
        continues: pause_s <= run.longest_pause_s(),
        pace,
        pace_differs: differs > DEVIATIONS,
    })
}

/// The longest usual lifetime, and what follows from it.
#[derive(Clone, Copy, Debug)]
struct Usual {
    /// The lifetime, seconds.
    age_s: f64,
    /// The age from which on resources count as retained, seconds.
    mature_s: f64,
}

impl Usual {
    /// That of a call site; `None` while there is none that anything has outlived.
    fn of(lives: &Lives, now_ms: u32) -> Option<Self> {
        // In ascending order: the first one counts.
        let buckets = (0..LIFETIMES - 1).map_while(|bucket| After::of(lives, now_ms, bucket));
        let usual = buckets.enumerate().find_map(|(bucket, after)| {
            let age_s = lifetime_end_s(bucket);
            if after.have_ended() {
                Some(Self { age_s, mature_s: ENDED_MATURE * age_s + LEAST_MATURE_S })
            } else {
                after.hardly_any().then(|| Self { age_s, mature_s: mature_age_s(age_s) })
            }
        });
        usual
    }
}

/// The age from which on resources of this usual lifetime count as retained, seconds.
fn mature_age_s(usual_s: f64) -> f64 {
    2.0 * usual_s + LEAST_MATURE_S
}

/// The age from which on resources of a call site would count as retained, seconds; also when none does.
pub(super) fn mature_s(lives: &Lives, now_ms: u32) -> f64 {
    let longest = || lives.lifetimes().iter().rposition(|count| *count > 0);
    let usual = Usual::of(lives, now_ms).map(|usual| usual.mature_s);
    usual.unwrap_or_else(|| mature_age_s(longest().map_or(0.0, lifetime_end_s)))
}

/// What happened to the resources that reached an age, the end of a bucket of lifetimes.
#[derive(Clone, Copy, Debug)]
struct After {
    /// Those released later.
    released: f64,
    /// Those still there.
    there: f64,
    /// Releases to be expected, if as many of those that reach an age were released until twice that age as before.
    expected: f64,
}

impl After {
    /// `None` when nothing is there that is so old.
    fn of(lives: &Lives, now_ms: u32, bucket: usize) -> Option<Self> {
        let age_s = lifetime_end_s(bucket);
        let (mut there, mut doublings) = (0.0, 0.0);
        for one in lives.cohorts() {
            let of_one_s = f64::from(now_ms.saturating_sub(one.end_ms)) / 1000.0;
            if of_one_s >= age_s {
                let count = f64::from(one.outstanding);
                there += count;
                doublings += count * (of_one_s / age_s).log2();
            }
        }
        if there <= 0.0 {
            return None;
        }
        let (until, later) = lives.lifetimes().split_at(bucket + 1);
        let released = later.iter().sum::<u64>() as f64;
        let before: u64 = until.iter().rev().take(DOUBLING).sum();
        let share = before as f64 / (before as f64 + released + there);
        // Of those that were released, each one was at risk for about one doubling.
        let expected = -(-share).ln_1p() * (doublings + released);
        Some(Self { released, there, expected })
    }

    /// Whether hardly any of those that reached the age were released.
    fn hardly_any(&self) -> bool {
        self.released <= STRAGGLERS * (self.released + self.there)
    }

    /// Whether releases have ended, though some came later: what is still there would have been released if they had not.
    fn have_ended(&self) -> bool {
        self.expected >= LEAST_EXPECTED && self.released <= ENDED * self.expected
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

/// Cohorts that follow each other without a long pause in what they retain.
struct Run {
    start_ms: u32,
    end_ms: u32,
    count: u64,
    acquired: u64,
    cohorts: u32,
    retaining: u32,
    /// The longest pause in it, or that comes again and again, seconds.
    paused_s: f64,
    parts: Vec<Cohort>,
}

impl Run {
    fn over_s(&self) -> f64 {
        f64::from(self.end_ms - self.start_ms) / 1000.0
    }

    /// A longer pause ends it, seconds.
    fn longest_pause_s(&self) -> f64 {
        let distance_s = self.over_s() / self.count as f64;
        FIRST_PAUSE_S.max(LONGEST_PAUSE * distance_s).max(LONGER_PAUSE * self.paused_s)
    }

    /// What was retained and acquired in the earlier and in the later half of its time; a cohort over the middle counts in
    /// parts.
    fn halves(&self) -> ((f64, f64), (f64, f64)) {
        let middle = f64::midpoint(f64::from(self.start_ms), f64::from(self.end_ms));
        let mut halves = ((0.0, 0.0), (0.0, 0.0));
        for one in &self.parts {
            let (start, end) = (f64::from(one.start_ms), f64::from(one.end_ms));
            let before = if end > start {
                ((middle - start) / (end - start)).clamp(0.0, 1.0)
            } else {
                f64::from(u8::from(end <= middle))
            };
            let (retained, acquired) = (f64::from(one.outstanding), one.acquired as f64);
            halves.0.0 += before * retained;
            halves.0.1 += before * acquired;
            halves.1.0 += (1.0 - before) * retained;
            halves.1.1 += (1.0 - before) * acquired;
        }
        halves
    }
}

/// The last run; `cohorts` come newest first. A pause that is about as long as `paused_s` does not end it.
fn run(cohorts: impl Iterator<Item = Cohort>, paused_s: f64) -> Option<Run> {
    let mut run: Option<Run> = None;
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
                run = Some(Run {
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
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use tracer_common::kind::Kind;

    use crate::{
        evidence::random::Random,
        ledger::{
            Ledger,
            events::{Block, Event, Handle},
        },
        target::Pid,
    };

    const FOREVER: f64 = 1e6;

    /// The lives of resources that were acquired at a time and released after another, both in seconds; and the time now on
    /// their clock.
    fn lives(resources: impl Iterator<Item = (f64, f64)>, now_s: f64) -> (Arc<Lives>, u32) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small, not negative"
        )]
        let ns = |seconds: f64| ((seconds + 100.0) * 1e9) as u64;
        let mut events = Vec::new();
        for (value, (at_s, lives_s)) in (1_u64..).zip(resources) {
            let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
            let (time_ns, ended_ns) = (ns(at_s), ns(at_s + lives_s));
            let block = Block { size: 10, time_ns, position: 0, site: 1, connection: 0 };
            events.push((time_ns, Event::Acquired { handle, block }));
            let released = Event::Released {
                handle,
                size: 0,
                position: 0,
                time_ns: ended_ns,
                caller: 0,
                resizing: None,
            };
            events.push((ended_ns, released));
        }
        events.sort_by_key(|(time_ns, _)| *time_ns);
        let mut ledger = Ledger::default();
        for (time_ns, event) in events {
            if time_ns <= ns(now_s) {
                ledger.apply(event);
            }
        }
        let now_ms = (ns(now_s) - ledger.lives_origin_ns()) / 1_000_000;
        (ledger.lives(1).unwrap(), u32::try_from(now_ms).unwrap())
    }

    /// Resources acquired at random, ten per second in a minute; `life` is the lifetime of each.
    fn minute(mut life: impl FnMut(&mut Random, f64) -> f64) -> Option<Retained> {
        let mut random = Random::new(1);
        let all: Vec<_> = (0..600)
            .map(|_| {
                let at = random.between(0.0, 60.0);
                (at, life(&mut random, at))
            })
            .collect();
        let (lives, now_ms) = lives(all.into_iter(), 60.0);
        retained(&lives, now_ms)
    }

    #[test]
    fn a_share_that_is_never_released_is_retained() {
        let found =
            minute(|random, _| if random.chance(0.1) { FOREVER } else { random.exponential(0.5) });
        let found = found.unwrap();
        assert!((35..75).contains(&found.count), "{found:?}");
        assert!(
            found.share.low < 0.1 && 0.1 < found.share.high && found.share.low > 0.05,
            "{found:?}"
        );
        assert!(found.continues && found.over_s > 30.0 && !found.pace_differs, "{found:?}");
        assert!(found.usual_s <= 4.0, "{found:?}");
    }

    #[test]
    fn a_share_among_lives_of_all_lengths_is_retained_as_soon_as_releases_have_ended() {
        let found =
            minute(|random, _| if random.chance(0.2) { FOREVER } else { random.exponential(3.5) });
        let found = found.unwrap();
        // Twice the longest lifetime would leave less of the minute.
        assert!(found.usual_s >= 11.0 && found.over_s >= 20.0, "{found:?}");
        assert!(found.share.low < 0.2 && 0.2 < found.share.high, "{found:?}");
        assert_eq!(minute(|random, _| random.exponential(15.0)), None);
    }

    #[test]
    fn bursts_are_one_run() {
        let found = minute(|_, at| if at % 12.0 < 1.0 { FOREVER } else { 0.1 }).unwrap();
        assert!(found.continues && found.over_s > 40.0, "{found:?}");
    }

    #[test]
    fn what_is_always_released_is_not_retained() {
        assert_eq!(minute(|random, _| random.exponential(3.0)), None);
        assert_eq!(minute(|_, _| 20.0), None);
    }

    #[test]
    fn what_was_retained_only_at_the_beginning_does_not_continue() {
        let found =
            minute(|random, at| if at < 10.0 { FOREVER } else { random.exponential(0.2) }).unwrap();
        assert!(!found.continues && found.over_s < 20.0, "{found:?}");
    }

    #[test]
    fn what_begins_late_has_its_beginning() {
        let found =
            minute(|random, at| if at > 30.0 { FOREVER } else { random.exponential(0.2) }).unwrap();
        // The clock begins a minute before the first event. Cohorts of that age are four seconds wide.
        assert!(found.continues && (85_000..93_000).contains(&found.since_ms), "{found:?}");
        assert!(found.share.share > 0.85, "{found:?}");
    }

    #[test]
    fn a_table_that_fills_ever_more_slowly_slows_down() {
        let found =
            minute(|random, at| if random.chance((-at / 12.0).exp()) { FOREVER } else { 0.1 })
                .unwrap();
        assert!(found.pace < 0.5 && found.pace_differs, "{found:?}");
    }
}
