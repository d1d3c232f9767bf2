//! How long the resources of one call site live: cohorts by time of acquisition, and lifetimes of released ones.
//!
//! Bounded: [`Lives`] has a fixed size, whatever the call site acquires, and a call site has none until something that
//! it acquired has outlived a drain. Resources that die young never get here; the kernel counts them by call site, and
//! [`Lives::add_young`] takes their number. Pure: time comes with the events.

use std::sync::Arc;

use tracer_common::limits;

use super::{events::Block, packed::TICK_BITS};

/// Cohorts of a call site. Their width grows with their age: of a run of ten minutes, a cohort is a fifth of its age
/// wide, of a minute a tenth.
const COHORTS: usize = 24;
/// Buckets of lifetimes: the first one, and two per doubling up to three days.
pub const LIFETIMES: usize = 40;
/// End of the first bucket of lifetimes, milliseconds: the longest time between two drains, so that whatever dies young
/// belongs to it.
const FIRST_MS: u64 = 250;
/// How much earlier than the first acquisition another one may be: they do not arrive in order.
const EARLIER_NS: u64 = 60 * 1_000_000_000;
/// Least width of a cohort, milliseconds.
const LEAST_WIDTH_MS: u32 = 1_000;

/// The lives of all call sites' resources.
///
/// A snapshot shares them; what changes afterwards is copied once.
#[derive(Debug, Default)]
pub(super) struct AllLives {
    /// By number, and those of copied call sites.
    sites: [Vec<Option<Arc<Lives>>>; 2],
    /// The time that counts as zero; `CLOCK_MONOTONIC`, nanoseconds.
    origin_ns: Option<u64>,
    /// The latest time that any event had.
    latest_ns: u64,
    /// The time of the current event.
    now_ns: u64,
}

impl AllLives {
    /// An event happened at this time; 0 for an event without one, which counts as the latest.
    pub(super) fn advance(&mut self, time_ns: u64) {
        if time_ns > 0 {
            self.origin_ns.get_or_insert(time_ns.saturating_sub(EARLIER_NS));
        }
        self.latest_ns = self.latest_ns.max(time_ns);
        self.now_ns = if time_ns == 0 { self.latest_ns } else { time_ns };
    }

    /// Adds an acquisition at a call site where `young` resources have died young so far.
    pub(super) fn acquire(&mut self, block: &Block, young: u64) {
        let at_ms = self.ms(block.time_ns);
        let [sites, copies] = &mut self.sites;
        let (sites, index) = match block.site.checked_sub(limits::SITES) {
            None => (sites, block.site),
            Some(index) => (copies, index),
        };
        let index = index as usize;
        if sites.len() <= index {
            sites.resize(index + 1, None);
        }
        let Some(place) = sites.get_mut(index) else { return };
        let lives = place.get_or_insert_with(|| Arc::new(Lives::new(young, at_ms)));
        Arc::make_mut(lives).acquire(at_ms);
    }

    /// Undoes [`Self::acquire`].
    pub(super) fn withdraw(&mut self, block: &Block) {
        let at_ms = self.ms(block.time_ns);
        if let Some(lives) = self.get_mut(block.site) {
            lives.withdraw(at_ms);
        }
    }

    /// Records a release by the current event.
    pub(super) fn release(&mut self, block: &Block) {
        let (acquired_ms, now_ms) = (self.ms(block.time_ns), self.ms(self.now_ns));
        if let Some(lives) = self.get_mut(block.site) {
            lives.release(acquired_ms, now_ms);
        }
    }

    /// Undoes [`Self::release`].
    pub(super) fn unrelease(&mut self, block: &Block) {
        let (acquired_ms, now_ms) = (self.ms(block.time_ns), self.ms(self.now_ns));
        if let Some(lives) = self.get_mut(block.site) {
            lives.unrelease(acquired_ms, now_ms);
        }
    }

    /// Sets how many resources of a call site have died young until the latest time.
    pub(super) fn set_young(&mut self, site: u32, young: u64) {
        let now_ms = self.ms(self.latest_ns);
        if self.get(site).is_some_and(|lives| !lives.has_young(young))
            && let Some(lives) = self.get_mut(site)
        {
            lives.add_young(young, now_ms);
        }
    }

    /// Forgets a call site, which is gone.
    pub(super) fn forget(&mut self, site: u32) {
        let [sites, copies] = &mut self.sites;
        let place = match site.checked_sub(limits::SITES) {
            None => sites.get_mut(site as usize),
            Some(index) => copies.get_mut(index as usize),
        };
        if let Some(place) = place {
            *place = None;
        }
    }

    /// The lives of a call site's resources, if any has outlived a drain.
    pub(super) fn get(&self, site: u32) -> Option<&Arc<Lives>> {
        let [sites, copies] = &self.sites;
        let lives = match site.checked_sub(limits::SITES) {
            None => sites.get(site as usize),
            Some(index) => copies.get(index as usize),
        };
        lives?.as_ref()
    }

    fn get_mut(&mut self, site: u32) -> Option<&mut Lives> {
        let [sites, copies] = &mut self.sites;
        let lives = match site.checked_sub(limits::SITES) {
            None => sites.get_mut(site as usize),
            Some(index) => copies.get_mut(index as usize),
        };
        lives?.as_mut().map(Arc::make_mut)
    }

    /// The time that the cohorts' times count from, nanoseconds.
    pub(super) const fn origin_ns(&self) -> u64 {
        match self.origin_ns {
            Some(ns) => ns,
            None => 0,
        }
    }

    /// Milliseconds since the origin, at most 49 days.
    /// Milliseconds since the origin. Blocks that are stored keep their time in ticks: a release must get the same number
    /// as its acquisition, or it would be another cohort's.
    fn ms(&self, time_ns: u64) -> u32 {
        let time_ns = time_ns >> TICK_BITS << TICK_BITS;
        u32::try_from(time_ns.saturating_sub(self.origin_ns()) / 1_000_000).unwrap_or(u32::MAX)
    }
}

/// Resources acquired in one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cohort {
    /// When the stretch began, milliseconds since the ledger's origin.
    pub start_ms: u32,
    /// The last acquisition in it.
    pub end_ms: u32,
    /// Those of them that are outstanding.
    pub outstanding: u32,
    /// Resources acquired in it, including those that died young.
    pub acquired: u64,
}

/// The lives of one call site's resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lives {
    cohorts: [Cohort; COHORTS],
    used: usize,
    lifetimes: [u64; LIFETIMES],
    /// Resources that died young and are already in a cohort.
    young: u64,
}

impl Lives {
    /// Nothing acquired yet, except `young` resources that have died.
    pub(super) fn new(young: u64, at_ms: u32) -> Self {
        let mut lives = Self {
            cohorts: [Cohort::default(); COHORTS],
            used: 0,
            lifetimes: [0; LIFETIMES],
            young,
        };
        if young > 0 {
            lives.cohort(at_ms).acquired = young;
        }
        lives
    }

    /// The lives of several call sites' resources together. Cohorts that are together do not begin at the same times: the
    /// result has them by age, with a width that grows with it.
    pub(crate) fn merged(all: &[&Arc<Self>]) -> Option<Arc<Self>> {
        let [first, rest @ ..] = all else { return None };
        if rest.is_empty() {
            return Some(Arc::clone(first));
        }
        let mut merged = Self::new(0, 0);
        for one in all {
            merged.young += one.young;
            merged.lifetimes.iter_mut().zip(&one.lifetimes).for_each(|(sum, more)| *sum += more);
        }
        let cohorts = || all.iter().flat_map(|one| one.cohorts());
        let from_ms = cohorts().map(|one| one.start_ms).min()?;
        let until_ms = cohorts().map(|one| one.end_ms).max()?;
        let longest = f64::from(until_ms - from_ms).max(1.0);
        let mut cells = [const { None::<Cohort> }; COHORTS];
        for one in cohorts() {
            let age = f64::from(until_ms - one.start_ms.midpoint(one.end_ms)) / longest;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
            let place = (age.sqrt() * COHORTS as f64) as usize;
            let Some(cell) = cells.get_mut(COHORTS - 1 - place.min(COHORTS - 1)) else { continue };
            let cell = cell.get_or_insert(Cohort { acquired: 0, outstanding: 0, ..*one });
            cell.start_ms = cell.start_ms.min(one.start_ms);
            cell.end_ms = cell.end_ms.max(one.end_ms);
            cell.acquired += one.acquired;
            cell.outstanding = cell.outstanding.saturating_add(one.outstanding);
        }
        for cell in cells.into_iter().flatten() {
            let last = merged.used.checked_sub(1).and_then(|at| merged.cohorts.get_mut(at));
            let start_ms =
                last.as_ref().map_or(cell.start_ms, |last| cell.start_ms.max(last.start_ms));
            if let Some(last) = last {
                last.end_ms = last.end_ms.min(start_ms);
            }
            if let Some(place) = merged.cohorts.get_mut(merged.used) {
                *place = Cohort { start_ms, end_ms: cell.end_ms.max(start_ms), ..cell };
                merged.used += 1;
            }
        }
        Some(Arc::new(merged))
    }

    /// Adds an acquisition.
    pub(super) fn acquire(&mut self, at_ms: u32) {
        let cohort = self.cohort(at_ms);
        cohort.acquired += 1;
        cohort.outstanding += 1;
    }

    /// Undoes [`Self::acquire`]: the resource belongs elsewhere, or its fate is unknown.
    pub(super) fn withdraw(&mut self, at_ms: u32) {
        let cohort = self.cohort(at_ms);
        cohort.acquired = cohort.acquired.saturating_sub(1);
        cohort.outstanding = cohort.outstanding.saturating_sub(1);
    }

    /// Records the release of a resource.
    pub(super) fn release(&mut self, acquired_ms: u32, now_ms: u32) {
        let cohort = self.cohort(acquired_ms);
        cohort.outstanding = cohort.outstanding.saturating_sub(1);
        if let Some(count) = self.lifetimes.get_mut(bucket(acquired_ms, now_ms)) {
            *count += 1;
        }
    }

    /// Undoes [`Self::release`].
    pub(super) fn unrelease(&mut self, acquired_ms: u32, now_ms: u32) {
        self.cohort(acquired_ms).outstanding += 1;
        if let Some(count) = self.lifetimes.get_mut(bucket(acquired_ms, now_ms)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Counts the resources that have died young since the last call; `young` is their number so far.
    pub(super) fn add_young(&mut self, young: u64, now_ms: u32) {
        let more = young.saturating_sub(self.young);
        if more > 0 {
            self.young = young;
            self.cohort(now_ms).acquired += more;
        }
    }

    /// Whether this many have died young so far: then there is nothing to add.
    pub(super) const fn has_young(&self, young: u64) -> bool {
        self.young >= young
    }

    /// The cohorts, oldest first.
    pub fn cohorts(&self) -> &[Cohort] {
        self.cohorts.get(..self.used).unwrap_or_default()
    }

    /// Released resources by lifetime, without those that died young; see [`lifetime_end_s`].
    pub const fn lifetimes(&self) -> &[u64; LIFETIMES] {
        &self.lifetimes
    }

    /// The cohort of this time; a new one if the last one is wide enough.
    fn cohort(&mut self, at_ms: u32) -> &mut Cohort {
        let newest = self.used.checked_sub(1).and_then(|at| self.cohorts.get(at)).copied();
        let mut at = self.used.saturating_sub(1);
        match newest {
            Some(newest) if at_ms < newest.start_ms => {
                // Drained resources arrive a little late, releases are of any age.
                at = self.cohorts().partition_point(|one| one.start_ms <= at_ms).saturating_sub(1);
            }
            Some(newest) if at_ms <= newest.end_ms.max(newest.start_ms + LEAST_WIDTH_MS - 1) => {}
            Some(_) | None => {
                if self.used == COHORTS {
                    self.merge(at_ms);
                }
                at = self.used;
                self.used += 1;
                // A time that a cohort has had must never become another one's: a release would miss its acquisition.
                let after = newest.map_or(0, |newest| newest.end_ms + 1);
                let start_ms = after.max(at_ms / LEAST_WIDTH_MS * LEAST_WIDTH_MS);
                if let Some(cohort) = self.cohorts.get_mut(at) {
                    *cohort = Cohort { start_ms, end_ms: at_ms, ..Cohort::default() };
                }
            }
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "`at` is below `used`, which is at most `COHORTS`"
        )]
        let cohort = &mut self.cohorts[at];
        cohort.start_ms = cohort.start_ms.min(at_ms);
        cohort.end_ms = cohort.end_ms.max(at_ms);
        cohort
    }

    /// Merges the two neighbors that together are narrowest for their age.
    fn merge(&mut self, now_ms: u32) {
        let width = |pair: &[Cohort]| match pair {
            [older, newer] => {
                let age = f64::from(now_ms.saturating_sub(older.start_ms).max(1));
                f64::from(newer.end_ms.saturating_sub(older.start_ms)) / age
            }
            _ => f64::INFINITY,
        };
        let pairs = self.cohorts().windows(2).map(width).enumerate();
        let Some((at, _)) = pairs.min_by(|one, other| one.1.total_cmp(&other.1)) else { return };
        if let Some([older, newer]) = self.cohorts.get_mut(at..at + 2) {
            older.end_ms = newer.end_ms;
            older.outstanding = older.outstanding.saturating_add(newer.outstanding);
            older.acquired += newer.acquired;
        }
        self.cohorts.copy_within(at + 2..self.used, at + 1);
        self.used -= 1;
    }
}

/// The bucket of a lifetime.
fn bucket(acquired_ms: u32, now_ms: u32) -> usize {
    let lifetime_ms = u64::from(now_ms.saturating_sub(acquired_ms));
    let quotient = lifetime_ms / FIRST_MS;
    let Some(octave) = quotient.checked_ilog2() else { return 0 };
    // The square says which half of the octave it is: the upper one begins at the square root of two.
    let scaled = lifetime_ms as f64 / (FIRST_MS << octave) as f64;
    let upper = usize::from(scaled * scaled >= 2.0);
    (1 + 2 * octave as usize + upper).min(LIFETIMES - 1)
}

/// The end of a bucket of lifetimes, seconds. The last one has none.
pub fn lifetime_end_s(bucket: usize) -> f64 {
    let halves = f64::from(u32::try_from(bucket).unwrap_or(u32::MAX));
    if bucket + 1 >= LIFETIMES {
        f64::INFINITY
    } else {
        FIRST_MS as f64 / 1000.0 * (halves / 2.0).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_one_begins() {
        assert_eq!(bucket(1000, 1000), 0);
        assert_eq!(bucket(1000, 1249), 0);
        assert_eq!(bucket(1000, 1250), 1);
        for at in 0..LIFETIMES - 2 {
            let end_ms = lifetime_end_s(at) * 1000.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let (below, above) = ((end_ms * 0.999).floor() as u32, (end_ms * 1.001).ceil() as u32);
            assert_eq!((bucket(0, below), bucket(0, above)), (at, at + 1), "{end_ms}");
        }
        assert_eq!(bucket(0, u32::MAX), LIFETIMES - 1);
    }

    #[test]
    fn cohorts_keep_what_was_acquired_and_what_is_left() {
        let mut lives = Lives::new(7, 0);
        for second in 0..600 {
            for step in 0..10 {
                lives.acquire(second * 1000 + step * 100);
            }
            // All but one of ten are released half a minute later.
            if let Some(then) = second.checked_sub(30) {
                (1..10).for_each(|step| lives.release(then * 1000 + step * 100, second * 1000));
            }
            lives.add_young(7 + u64::from(second) * 5, second * 1000 + 900);
        }
        let cohorts = lives.cohorts();
        assert!(cohorts.len() <= COHORTS && cohorts.len() > COHORTS / 2);
        let acquired: u64 = cohorts.iter().map(|one| one.acquired).sum();
        let outstanding: u32 = cohorts.iter().map(|one| one.outstanding).sum();
        assert_eq!((acquired, outstanding), (6000 + 7 + 599 * 5, 600 + 30 * 9));
        assert!(cohorts.windows(2).all(|pair| pair[0].end_ms <= pair[1].start_ms));
        // Old ones are wide, young ones are narrow.
        let width = |one: &Cohort| one.end_ms - one.start_ms;
        assert!(width(&cohorts[1]) > 20_000 && width(&cohorts[cohorts.len() - 2]) < 5_000);
        let old: Vec<f64> = cohorts
            .iter()
            .filter(|one| one.end_ms < 500_000)
            .map(|one| f64::from(one.outstanding) / one.acquired as f64)
            .collect();
        assert!(old.iter().all(|share| (share - 1.0 / 15.0).abs() < 0.01), "{old:?}");
        assert_eq!(lives.lifetimes().iter().sum::<u64>(), 570 * 9);
    }

    #[test]
    fn each_release_finds_the_cohort_of_its_acquisition() {
        // Times that begin within a second, hardly ever come in order, and pause.
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u32::try_from((random >> 33) % below).unwrap()
        };
        let mut lives = Lives::new(3, 58_872);
        let mut acquired = Vec::new();
        let mut now_ms = 58_872;
        for _ in 0..20_000 {
            now_ms += if next(500) == 0 { next(9_000) } else { next(30) };
            let at_ms = now_ms.saturating_sub(next(300));
            lives.acquire(at_ms);
            acquired.push(at_ms);
            if next(3) > 0 {
                let at = next(acquired.len() as u64) as usize;
                lives.release(acquired.swap_remove(at), now_ms);
            }
        }
        for at_ms in acquired {
            lives.release(at_ms, now_ms);
        }
        let left: Vec<u32> = lives.cohorts().iter().map(|one| one.outstanding).collect();
        assert!(left.iter().all(|left| *left == 0), "{left:?}");
        assert_eq!(lives.cohorts().iter().map(|one| one.acquired).sum::<u64>(), 20_003);
    }

    #[test]
    fn what_is_undone_leaves_no_trace() {
        let mut lives = Lives::new(0, 0);
        lives.acquire(100);
        let before = lives.clone();
        lives.acquire(200);
        lives.withdraw(200);
        lives.release(100, 5000);
        lives.unrelease(100, 5000);
        assert_eq!(lives.lifetimes(), before.lifetimes());
        let sums = |one: &Lives| {
            one.cohorts().iter().map(|c| (c.acquired, c.outstanding)).collect::<Vec<_>>()
        };
        assert_eq!(sums(&lives), sums(&before));
    }

    #[test]
    fn the_size_is_bounded() {
        assert!(size_of::<Lives>() <= 1024, "{}", size_of::<Lives>());
    }
}
