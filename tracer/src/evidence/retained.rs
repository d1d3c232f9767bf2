//! What is never released: resources far older than any that was released, and whether new ones keep coming.
//!
//! Takes cohorts and lifetimes of one call site. Pure.

use super::{
    run::{Pace, Run},
    share::Share,
};
use crate::ledger::{LIFETIMES, Lives, lifetime_end_s};

/// Of those that reached an age, so many may have been released later and the age still counts as the longest usual
/// lifetime: stragglers must not hide a leak. (Where these are more than single ones, [`Retained::rest_s`] shows it.)
const STRAGGLERS: f64 = 0.05;
/// Resources count as retained from so many times the longest usual lifetime on: hardly any that reach it are released.
const MATURE: f64 = 1.25;
/// A drain and a snapshot later, seconds: the least age of any that do.
pub const LEAST_MATURE_S: f64 = 2.0;
/// Those that live for so many times the longest usual lifetime are more than late.
const LATE: f64 = 2.0;
/// Releases have ended at an age if so few of those that were to be expected after it came, as a share; and of all that
/// reached it: others may live far longer than most.
const ENDED: f64 = 0.1;
/// Fewer releases that were to be expected may all stay away by chance: one in 400 Poisson counts of mean 6 is 0.
const LEAST_EXPECTED: f64 = 6.0;
/// Buckets of lifetimes that are a doubling.
const DOUBLING: usize = 2;

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
    /// How many of them come at once, on average; 1 where they come evenly.
    pub burst: f64,
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
    /// How the later half of the time differs from the earlier one.
    pub pace: Pace,
}

impl Retained {
    /// How often something was retained: what came at once counts once.
    pub fn times(&self) -> f64 {
        self.count as f64 / self.burst
    }
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
            burst: 1.0,
            share: Share { share: 0.02, low: 0.015, high: 0.027 },
            since_ms: 70_000,
            over_s: 100.0,
            cohorts: (9, 9),
            continues: true,
            pace: Pace::example(),
        }
    }
}

/// What a call site retains; `None` while nothing has outlived its usual lifetime for long enough.
pub(super) fn retained(lives: &Lives, usual: Usual, now_ms: u32) -> Option<Retained> {
    let Usual { age_s: usual_s, mature_s } = usual;
    let until_ms = f64::from(now_ms) - mature_s * 1000.0;
    let mature = || lives.cohorts().iter().filter(|one| f64::from(one.end_ms) <= until_ms);
    let run = Run::last(mature().copied())?;
    // What a cohort over the boundary retains is not known yet, so it is no pause.
    let later = lives.cohorts().iter().find(|one| f64::from(one.end_ms) > until_ms);
    let known_ms = later.map_or(until_ms, |one| until_ms.min(f64::from(one.start_ms)));
    let pause_s = (known_ms - f64::from(run.end_ms)).max(0.0) / 1000.0;
    let share = run.share()?;
    let pace = run.pace();
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
        stragglers: later_than(late_age_s(usual_s)),
        rest_s: if late == 0 { f64::INFINITY } else { exposure_s / late as f64 },
        count: run.count,
        burst: run.burst(),
        share,
        since_ms: run.start_ms,
        over_s: run.over_s(),
        cohorts: (run.cohorts, run.retaining),
        continues: pause_s <= run.longest_pause_s(),
        pace,
    })
}

/// The longest usual lifetime, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    /// The lifetime, seconds.
    age_s: f64,
    /// The age from which on resources count as retained, seconds.
    pub(super) mature_s: f64,
}

impl Usual {
    /// That of a call site; `None` while there is none that anything has outlived.
    pub(super) fn of(lives: &Lives, now_ms: u32) -> Option<Self> {
        // In ascending order: the first one counts.
        let buckets = (0..LIFETIMES - 1).map_while(|bucket| After::of(lives, now_ms, bucket));
        let mut usual =
            buckets.enumerate().filter(|(_, after)| after.have_ended() || after.hardly_any());
        let (bucket, _) = usual.next()?;
        let age_s = lifetime_end_s(bucket);
        Some(Self { age_s, mature_s: MATURE * age_s + LEAST_MATURE_S })
    }
}

/// The age from which on resources of this usual lifetime are far too old, seconds.
fn late_age_s(usual_s: f64) -> f64 {
    LATE * usual_s + LEAST_MATURE_S
}

/// The age from which on resources would count as retained, seconds, while nothing has outlived the others.
pub(super) fn mature_s(lives: &Lives) -> f64 {
    let longest = lives.lifetimes().iter().rposition(|count| *count > 0);
    late_age_s(longest.map_or(0.0, lifetime_end_s))
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
        self.expected >= LEAST_EXPECTED
            && self.released <= ENDED * self.expected.min(self.released + self.there)
    }
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
                probe: 0,
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
        retained(&lives, Usual::of(&lives, now_ms)?, now_ms)
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
        assert!(found.continues && found.over_s > 30.0 && !found.pace.differs, "{found:?}");
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
        assert!(found.pace.ratio < 0.5 && found.pace.differs, "{found:?}");
    }
}
