//! The windows of time in which everything is recorded, where that is not all the time.
//!
//! Takes the moments at which recording goes on and off, hands on figures by *batch*. The first window is a batch of
//! its own: nobody has drawn it, it is the beginning. Of the others every sixteenth is of the same batch, so that
//! batches are alike and their differences tell how far an estimate may be off. Pure: knows no clock.
//!
//! What was acquired in a window and not seen to go counts as outstanding. What is acquired shortly before recording goes
//! off would nearly all count: a request's blocks for example, whose request is under way. So the last part of
//! each window is there only to see what was acquired before it go. What goes later shows when its address is
//! acquired or released again in another window.

use std::collections::BTreeMap;

use super::{
    ledger::{Ledger, Sum},
    packed::TICK_BITS,
};

/// Number of batches; the first has the first window alone.
pub const BATCHES: usize = 17;

/// The last part of a window, nanoseconds: what is acquired in it is not looked for among what is outstanding.
pub const FOLLOWED_NS: u64 = 100_000_000;
/// By how much times of outstanding blocks may be too early, nanoseconds; far less than lies between two windows.
const ROUNDED_NS: u64 = 1 << TICK_BITS;

/// Figures of one call site by batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// Acquired in windows.
    pub acquired: [Sum; BATCHES],
    /// Outstanding of what was acquired in the windows that are looked at.
    pub outstanding: [Sum; BATCHES],
}

/// What a budget makes of a run, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Time recorded, by batch, nanoseconds.
    pub recorded_ns: [u64; BATCHES],
    /// The part of it whose outstanding resources are counted.
    pub counted_ns: [u64; BATCHES],
    /// Time since recording began, nanoseconds.
    pub elapsed_ns: u64,
    /// Windows so far. Everything is known, and nothing is an estimate, if the first one never ended.
    pub windows: u64,
    /// Whether there was a time without recording.
    pub estimated: bool,
    /// What was told of cost and pace.
    pub told: OverheadReading,
}

/// What is measured beside: how dear tracing is, and how fast targets are while they are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OverheadReading {
    /// The share of targets' processor time that tracing may take, between 0 and 1.
    pub budget: f64,
    /// The share that it has taken lately; `None` while too little is known.
    pub cost: Option<f64>,
    /// Work that targets get done per time while recorded, relative to when they are not.
    pub pace: Option<f64>,
    /// How far the pace may be off; `None` while there were not two stretches to compare.
    pub pace_error: Option<PaceError>,
}

/// How far a pace may be off that was measured in stretches of time between windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PaceError {
    /// Its standard error, as a share of it.
    pub relative: f64,
    /// How many stretches it comes from.
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

/// All windows, and what was acquired in those that are over.
#[derive(Debug, Default)]
pub(super) struct Windows {
    spans: Vec<Span>,
    /// Acquired in each batch, by call site.
    acquired: BTreeMap<u32, [Sum; BATCHES]>,
    /// Acquired before the window that is open, by call site.
    before: BTreeMap<u32, Sum>,
    /// When recording ended for good: what comes later is nobody's question.
    over_ns: Option<u64>,
    pub(super) told: OverheadReading,
}

impl Windows {
    /// Recording goes on.
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.spans.push(Span { start_ns: now_ns, end_ns: None });
    }

    /// Recording is off, and all that was recorded has reached the ledger.
    pub(super) fn end(&mut self, now_ns: u64, ledger: &Ledger) {
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

    /// Whether there was a time without recording: only then are figures by batch asked for.
    pub(super) fn are_some_of_it(&self) -> bool {
        self.spans.first().is_some_and(|span| span.end_ns.is_some())
    }

    /// Recording is off for good. A window that is open goes to the end: there was no pause behind it.
    pub(super) const fn finish(&mut self, now_ns: u64) {
        self.over_ns = Some(now_ns);
    }

    /// The state of things.
    pub(super) fn sampling(&self, now_ns: u64) -> Sampling {
        let now_ns = self.over_ns.unwrap_or(now_ns);
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
            estimated: self.are_some_of_it(),
            told: self.told,
        }
    }

    /// Figures by batch, for each call site.
    pub(super) fn batches(&self, now_ns: u64, ledger: &Ledger) -> BTreeMap<u32, Batches> {
        let now_ns = self.over_ns.unwrap_or(now_ns);
        let last = self.spans.len().saturating_sub(1);
        let mut all: BTreeMap<u32, Batches> = BTreeMap::new();
        for (site, acquired) in ledger.sites().map(|(site, _, tally)| (site, tally.acquired())) {
            let mut by_batch = self.acquired.get(&site).copied().unwrap_or_default();
            add_to(&mut by_batch, last, since(acquired, self.before.get(&site).copied()));
            all.insert(site, Batches { acquired: by_batch, ..Batches::default() });
        }
        for block in ledger.outstanding() {
            let behind =
                self.spans.partition_point(|span| span.start_ns <= block.time_ns + ROUNDED_NS);
            let at = behind.saturating_sub(1);
            let Some(span) = self.spans.get(at) else { continue };
            if block.time_ns <= span.counted_until_ns(now_ns)
                && let Some(batches) = all.get_mut(&block.site)
            {
                add_to(&mut batches.outstanding, at, Sum { count: 1, bytes: block.size });
            }
        }
        all
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
        collect::decode::{Block, Event, Handle},
        target::Pid,
    };

    fn acquire(ledger: &mut Ledger, value: u64, time_ns: u64, site: u32) {
        let block = Block { size: 10, time_ns, position: time_ns, site, connection: 0 };
        let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
        ledger.apply(Event::Acquired { handle, block });
    }

    #[test]
    fn each_window_has_what_was_acquired_in_it_and_its_end_only_follows() {
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
        // The address of the first comes again: it has gone meanwhile.
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
    fn a_first_window_without_an_end_is_everything() {
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
    fn a_release_between_windows_is_not_waited_for() {
        let mut ledger = Ledger::default();
        acquire(&mut ledger, 1, 1_000_000_000, 3);
        ledger.resumed(3_000_000_000);
        acquire(&mut ledger, 1, 3_000_000_010, 3);
        // Were the first one's release waited for, it would be taken for this.
        ledger.apply(Event::Released {
            handle: Handle { pid: Pid(1), kind: Kind::Heap, value: 1 },
            size: 0,
            position: 4_000_000_000,
            caller: 0,
            resizing: None,
        });
        let (_, _, tally) = ledger.sites().nth(3).unwrap();
        assert_eq!(tally.outstanding(), Sum::default());
        assert_eq!(tally.released(), Sum { count: 2, bytes: 20 });
        assert_eq!(ledger.unknown_releases(), 0);
    }
}
