//! What the ledger knows of file descriptors that is not known of memory: ranges closed at once, and
//! descriptors that were found open, or found closed. Pure.

use std::ops::RangeInclusive;

use tracer_common::{
    descriptor::{FdOrigin, FdType},
    kind::Kind,
};

use super::{
    decode::{Block, Handle},
    family::Held,
    ledger::{Ledger, Taken},
};
use crate::target::Pid;

/// Full cycles until everything that was young when a range was closed has reached the ledger: the one that
/// brings the news, the next one, whose drain takes the rest, and one more for a program that was on its way.
const CYCLES: u32 = 3;

/// Descriptors that were closed at once.
#[derive(Debug)]
pub(super) struct ClosedRange {
    pid: Pid,
    fds: RangeInclusive<u32>,
    position: u64,
    cycles: u32,
}

impl ClosedRange {
    fn covers(&self, handle: &Handle, block: &Block) -> bool {
        handle.pid == self.pid
            && handle.kind.is_descriptor()
            && u32::try_from(handle.value).is_ok_and(|fd| self.fds.contains(&fd))
            && block.position <= self.position
    }
}

/// A descriptor that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenDescriptor {
    /// Whose table it is in.
    pub pid: Pid,
    /// Its number.
    pub fd: u32,
    /// Number of its call site.
    pub site: u32,
    /// `CLOCK_MONOTONIC` of when it was opened (or found), nanoseconds.
    pub time_ns: u64,
    /// Its place in the order of things; with the number it names one descriptor for good.
    pub position: u64,
}

impl Ledger {
    /// A descriptor is closed, unless it was not open.
    pub(super) fn closed(&mut self, pid: Pid, fd: u32, position: u64, may_be_closed: bool) {
        let handle = Handle { pid, kind: Kind::Descriptor, value: fd.into() };
        let taken = self.released(handle, Held { position, thread: None });
        if may_be_closed && matches!(taken, Taken::Unknown) {
            self.unknown_releases -= 1;
        }
    }

    /// Every descriptor from `first` to `last` is closed.
    pub(super) fn closed_range(&mut self, pid: Pid, first: u32, last: u32, position: u64) {
        let range = ClosedRange { pid, fds: first..=last, position, cycles: 0 };
        self.settle_descriptors(pid, |fd, block| {
            range.covers(&Handle { pid, kind: Kind::Descriptor, value: fd }, block)
        });
        for (handle, owed) in &mut self.owed {
            owed.retain(|block| !range.covers(handle, block));
        }
        self.closed_ranges.push(range);
    }

    /// Where in the order of things a descriptor was closed that reaches the ledger only now, if it was in a range.
    pub(super) fn range_closed(&self, handle: &Handle, block: &Block) -> Option<u64> {
        let covering = self.closed_ranges.iter().filter(|range| range.covers(handle, block));
        covering.map(|range| range.position).min()
    }

    /// A full cycle is over.
    pub(super) fn range_cycled(&mut self) {
        self.closed_ranges.retain_mut(|range| {
            range.cycles += 1;
            range.cycles < CYCLES
        });
    }

    /// All descriptors of a table that were opened until `position` are gone with it.
    pub(super) fn forget_descriptors(&mut self, pid: Pid, position: u64) {
        self.settle_descriptors(pid, |_, block| block.position <= position);
        for (handle, owed) in &mut self.owed {
            if handle.pid == pid && handle.kind.is_descriptor() {
                owed.retain(|block| block.position > position);
            }
        }
    }

    /// Closes those of a table that `is_closed` names. Returns how many.
    pub(super) fn settle_descriptors(
        &mut self,
        pid: Pid,
        mut is_closed: impl FnMut(u64, &Block) -> bool,
    ) -> u64 {
        let (book, mut count) = (&mut self.book, 0);
        self.blocks.retain_of(pid, [Kind::Descriptor].into_iter(), |fd, block| {
            let closed = is_closed(fd, block);
            if closed {
                book.settle(block);
                count += 1;
            }
            !closed
        });
        count
    }

    /// A descriptor was found that is not known: open since before the attach, or opened in a way that was not seen.
    pub(super) fn found_open(
        &mut self,
        pid: Pid,
        fd: u32,
        sort: FdType,
        opener: FdOrigin,
        now: u64,
    ) {
        let site = self.book.found(pid, opener, sort);
        let tally = self.book.tally(site);
        if opener == FdOrigin::Before {
            tally.inherit(0);
        } else {
            tally.acquired.add(0);
            tally.outstanding.add(0);
        }
        // First in the order of things: whatever is seen of that number came later.
        let block = Block { size: 0, time_ns: now, position: 0, site, connection: 0 };
        self.place(Handle { pid, kind: Kind::Descriptor, value: u64::from(fd) }, block);
    }

    /// The descriptor of that number, if it is known to be open: its place in the order of things.
    pub(super) fn open_descriptor(&self, pid: Pid, fd: u32) -> Option<u64> {
        let handle = Handle { pid, kind: Kind::Descriptor, value: u64::from(fd) };
        self.blocks.get(&handle).map(|block| block.position)
    }

    /// Every descriptor that is open, by table and number.
    pub(super) fn open_descriptors(&self) -> Vec<OpenDescriptor> {
        let all = self.blocks.of_kind(Kind::Descriptor).filter_map(|(handle, block)| {
            let Block { site, time_ns, position, .. } = block;
            let fd = u32::try_from(handle.value).ok()?;
            Some(OpenDescriptor { pid: handle.pid, fd, site, time_ns, position })
        });
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|one| (one.pid, one.fd));
        all
    }

    /// Forgets releases of descriptors that have not come until now: they never will.
    pub(super) fn forgive_descriptors(&mut self) {
        self.owed.retain(|handle, _| !handle.kind.is_descriptor());
    }
}

#[cfg(test)]
#[path = "descriptors_tests.rs"]
mod tests;
