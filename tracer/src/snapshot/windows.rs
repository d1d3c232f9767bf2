//! Sampling windows: figures per batch of windows, where not everything is recorded.
//!
//! Takes the times at which recording starts and stops, passes on figures by *batch*. The first window is a batch of
//! its own because its start is not random. Of the others every sixteenth belongs to the same batch, so that batches
//! are alike and their differences show the error of an estimate. Pure: reads no clock.
//!
//! A resource acquired in a window without a release in it counts as outstanding. Nearly all resources acquired
//! shortly before the end of a window would count, the blocks of a request in progress for example. So the last part
//! of each window serves only to see the releases of earlier acquisitions. A later release shows when the address is
//! acquired or released again in another window.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SiteFigures;
use crate::ledger::{Ledger, Sum, TICK_BITS};

/// Number of batches; the first one holds only the first window.
pub const BATCHES: usize = 17;

/// Length of the last part of a window, nanoseconds: resources acquired in it do not count as outstanding.
pub const FOLLOWED_NS: u64 = 100_000_000;
/// Rounding error of the times of outstanding blocks, nanoseconds; far shorter than the time between two windows.
const ROUNDED_NS: u64 = 1 << TICK_BITS;

/// Figures of one call site by batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Resources acquired in windows.
    pub acquired: [Sum; BATCHES],
    /// The outstanding ones of those acquired in the counted parts of windows.
    pub outstanding: [Sum; BATCHES],
}

impl Batches {
    /// Adds the figures of another call site.
    pub(crate) fn merge(&mut self, other: &Self) {
        let sums =
            [(&mut self.acquired, &other.acquired), (&mut self.outstanding, &other.outstanding)];
        for (into, from) in sums {
            into.iter_mut().zip(from).for_each(|(into, from)| into.merge(*from));
        }
    }
}

/// Sampling at one moment of a run with a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Time recorded, by batch, nanoseconds.
    pub recorded_ns: [u64; BATCHES],
    /// The part of it whose outstanding resources are counted.
    pub counted_ns: [u64; BATCHES],
    /// Time since recording began, nanoseconds.
    pub elapsed_ns: u64,
    /// Windows so far. If the first one never ended, the figures are complete and not estimates.
    pub windows: u64,
    /// Whether there was time without recording.
    pub estimated: bool,
    /// The governor's measurements.
    pub overhead: OverheadReading,
}

/// Measurements of the governor: the overhead of tracing, and how fast the targets work while traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverheadReading {
    /// The share of the targets' processor time that tracing may take, between 0 and 1.
    pub budget: f64,
    /// The share that it took recently; `None` while too little is known.
    pub cost: Option<f64>,
    /// The targets' rate of work (system calls, where enough were counted) while recorded, relative to the rate
    /// while not.
    pub pace: Option<f64>,
    /// Error of the pace; `None` until there are two stretches to compare.
    pub pace_error: Option<PaceError>,
}

/// Error of a pace that was measured in stretches of time between windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaceError {
    /// Standard error, as a share of the pace.
    pub relative: f64,
    /// Number of stretches measured.
    pub stretches: u64,
}

/// One window, `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Span {
    start_ns: u64,
    end_ns: Option<u64>,
}

impl Span {
    fn length_ns(&self, now_ns: u64) -> u64 {
        self.end_ns.unwrap_or(now_ns).saturating_sub(self.start_ns)
    }

    /// The end of the part whose outstanding resources are counted.
    fn counted_until_ns(&self, now_ns: u64) -> u64 {
        self.end_ns.unwrap_or(now_ns).saturating_sub(FOLLOWED_NS)
    }
}

/// All windows, and the acquisitions in those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    spans: Vec<Span>,
    /// Acquisitions in each batch, by call site.
    acquired: BTreeMap<u32, [Sum; BATCHES]>,
    /// Acquisitions before the open window, by call site.
    before: BTreeMap<u32, Sum>,
    /// When recording ended for good: later times do not count.
    finished_ns: Option<u64>,
    pub(crate) overhead: OverheadReading,
}

impl Windows {
    /// Without a window; `budget` between 0 and 1.
    pub(crate) fn new(budget: f64) -> Self {
        let mut windows = Self::default();
        windows.overhead.budget = budget;
        windows
    }

    /// Forgets call sites, whose numbers may be others' from now on.
    pub(crate) fn forget_sites(&mut self, gone: impl IntoIterator<Item = u32>) {
        for site in gone {
            self.acquired.remove(&site);
            self.before.remove(&site);
        }
    }

    /// Recording starts.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.spans.push(Span { start_ns: now_ns, end_ns: None });
    }

    /// Recording has stopped, and everything recorded has reached the ledger.
    pub(crate) fn end(&mut self, now_ns: u64, ledger: &Ledger) {
        let Some(span) = self.spans.last_mut().filter(|span| span.end_ns.is_none()) else { return };
        span.end_ns = Some(now_ns);
        let at = self.spans.len() - 1;
        for (site, acquired) in ledger.sites().map(|(site, _, tally)| (site, tally.acquired())) {
            let new = since(acquired, self.before.get(&site).copied());
            if new.count > 0 {
                add_to(self.acquired.entry(site).or_default(), at, new);
                self.before.insert(site, acquired);
            }
        }
    }

    /// Whether there was time without recording: only then are figures by batch needed.
    pub(crate) fn is_estimated(&self) -> bool {
        self.spans.first().is_some_and(|span| span.end_ns.is_some())
    }

    /// Recording has stopped for good. An open window extends to the end: no pause follows it.
    pub(crate) const fn finish(&mut self, now_ns: u64) {
        self.finished_ns = Some(now_ns);
    }

    /// Sampling at this moment.
    pub(crate) fn sampling(&self, now_ns: u64) -> Sampling {
        let now_ns = self.finished_ns.unwrap_or(now_ns);
        let by_batch = |length_ns: &dyn Fn(&Span) -> u64| {
            let mut sums = [0; BATCHES];
            for (at, span) in self.spans.iter().enumerate() {
                if let Some(sum) = sums.get_mut(batch(at)) {
                    *sum += length_ns(span);
                }
            }
            sums
        };
        let first = self.spans.first();
        Sampling {
            recorded_ns: by_batch(&|span| span.length_ns(now_ns)),
            counted_ns: by_batch(&|span| {
                span.counted_until_ns(now_ns).saturating_sub(span.start_ns)
            }),
            elapsed_ns: first.map_or(0, |span| now_ns.saturating_sub(span.start_ns)),
            windows: self.spans.len() as u64,
            estimated: self.is_estimated(),
            overhead: self.overhead,
        }
    }

    /// Figures by batch, for each call site.
    fn batches(&self, now_ns: u64, ledger: &Ledger) -> BTreeMap<u32, Batches> {
        let now_ns = self.finished_ns.unwrap_or(now_ns);
        let last = self.spans.len().saturating_sub(1);
        let mut all: BTreeMap<u32, Batches> = BTreeMap::new();
        for (site, acquired) in ledger.sites().map(|(site, _, tally)| (site, tally.acquired())) {
            let mut by_batch = self.acquired.get(&site).copied().unwrap_or_default();
            add_to(&mut by_batch, last, since(acquired, self.before.get(&site).copied()));
            all.insert(site, Batches { acquired: by_batch, ..Batches::default() });
        }
        for block in ledger.outstanding() {
            let after =
                self.spans.partition_point(|span| span.start_ns <= block.time_ns + ROUNDED_NS);
            let at = after.saturating_sub(1);
            let Some(span) = self.spans.get(at) else { continue };
            if block.time_ns <= span.counted_until_ns(now_ns)
                && let Some(batches) = all.get_mut(&block.site)
            {
                add_to(&mut batches.outstanding, at, Sum { count: 1, bytes: block.size });
            }
        }
        all
    }

    /// Adds figures by batch to those of the call sites.
    pub(crate) fn add_batches(&self, now_ns: u64, ledger: &Ledger, sites: &mut [SiteFigures]) {
        let mut batches = self.batches(now_ns, ledger);
        for site in sites {
            site.batches = batches.remove(&site.number).map(Box::new);
        }
    }
}

/// The batch of a window, by its number from 0.
const fn batch(window: usize) -> usize {
    if window == 0 { 0 } else { 1 + (window - 1) % (BATCHES - 1) }
}

/// Adds to the batch of a window, by its number from 0.
fn add_to(sums: &mut [Sum; BATCHES], window: usize, more: Sum) {
    if let Some(sum) = sums.get_mut(batch(window)) {
        sum.merge(more);
    }
}

fn since(now: Sum, before: Option<Sum>) -> Sum {
    let before = before.unwrap_or_default();
    Sum {
        count: now.count.saturating_sub(before.count),
        bytes: now.bytes.saturating_sub(before.bytes),
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::Kind;

    use super::*;
    use crate::{
        ledger::events::{Block, Event, Handle},
        target::Pid,
    };

    fn acquire(ledger: &mut Ledger, value: u64, time_ns: u64, site: u32) {
        let block = Block { size: 10, time_ns, position: time_ns, site, connection: 0 };
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        ledger.apply(Event::Acquired { handle, block });
    }

    #[test]
    fn each_window_counts_its_acquisitions_except_those_in_its_last_part() {
        let (mut ledger, mut windows) = (Ledger::default(), Windows::default());
        windows.begin(1_000_000_000);
        acquire(&mut ledger, 1, 1_100_000_000, 3);
        acquire(&mut ledger, 2, 1_200_000_000, 3);
        acquire(&mut ledger, 3, 1_450_000_000, 3);
        windows.end(1_500_000_000, &ledger);
        let batches = windows.batches(1_600_000_000, &ledger);
        assert_eq!(batches[&3].outstanding[0], Sum { count: 2, bytes: 20 });
        windows.begin(3_000_000_000);
        ledger.resumed(3_000_000_000);
        // The first one's address is acquired again: it was released meanwhile.
        acquire(&mut ledger, 1, 3_100_000_000, 4);
        windows.end(3_250_000_000, &ledger);
        let batches = windows.batches(4_000_000_000, &ledger);
        assert_eq!(batches[&3].acquired[0], Sum { count: 3, bytes: 30 });
        assert_eq!(batches[&3].outstanding[0], Sum { count: 1, bytes: 10 });
        assert_eq!(batches[&4].acquired[1], Sum { count: 1, bytes: 10 });
        assert_eq!(batches[&4].outstanding[1], Sum { count: 1, bytes: 10 });
        let sampling = windows.sampling(4_000_000_000);
        assert_eq!((sampling.windows, sampling.estimated), (2, true));
        assert_eq!(sampling.elapsed_ns, 3_000_000_000);
        assert_eq!(sampling.recorded_ns[..3], [500_000_000, 250_000_000, 0]);
        assert_eq!(sampling.counted_ns[..3], [400_000_000, 150_000_000, 0]);
    }

    #[test]
    fn a_first_window_without_an_end_covers_everything() {
        let (mut ledger, mut windows) = (Ledger::default(), Windows::default());
        windows.begin(1_000_000_000);
        acquire(&mut ledger, 1, 1_100_000_000, 3);
        let sampling = windows.sampling(2_000_000_000);
        assert!(!sampling.estimated && sampling.recorded_ns[0] == sampling.elapsed_ns);
        let batches = windows.batches(2_000_000_000, &ledger);
        assert_eq!(batches[&3].acquired[0], Sum { count: 1, bytes: 10 });
        windows.finish(2_000_000_000);
        let late = windows.sampling(2_500_000_000);
        assert!(!late.estimated && late.recorded_ns[0] == late.elapsed_ns);
        assert_eq!(late.elapsed_ns, 1_000_000_000);
    }

    #[test]
    fn the_ledger_does_not_wait_for_a_release_between_windows() {
        let mut ledger = Ledger::default();
        acquire(&mut ledger, 1, 1_000_000_000, 3);
        ledger.resumed(3_000_000_000);
        acquire(&mut ledger, 1, 3_000_000_010, 3);
        // If the ledger waited for the first one's release, it would take this release for it.
        ledger.apply(Event::Released {
            handle: Handle { pid: Pid(1), kind: Kind::Heap, value: 1 },
            size: 0,
            position: 4_000_000_000,
            time_ns: 0,
            probe: 0,
            caller: 0,
            resizing: None,
        });
        let (_, _, tally) = ledger.sites().nth(3).unwrap();
        assert_eq!(tally.outstanding(), Sum::default());
        assert_eq!(tally.released(), Sum { count: 2, bytes: 20 });
        assert_eq!(ledger.unknown_releases(), 0);
    }
}
