//! File descriptors in the ledger, beyond what memory needs: ranges closed in one call, and descriptors found open or
//! closed by a scan. Pure.

use std::{collections::HashMap, ops::RangeInclusive};

use foldhash::fast::FixedState;
use tracer_common::{
    descriptor::{FdOrigin, FdType},
    kind::Kind,
};

use super::{
    events::{Block, Handle},
    resources::Resources,
};
use crate::target::Pid;

/// Full cycles until everything that was young when a range was closed has reached the ledger: the one that brings
/// the close, the next one, whose drain takes the rest, and one more for a program that had not sent its record yet.
const CYCLES: u32 = 3;

/// Descriptors that were closed in one call.
#[derive(Debug)]
struct ClosedRange {
    fds: RangeInclusive<u32>,
    position: u64,
    cycles: u32,
}

impl ClosedRange {
    /// Whether it had closed a descriptor of its table.
    fn covers(&self, handle: &Handle, block: &Block) -> bool {
        handle.kind.is_descriptor()
            && u32::try_from(handle.value).is_ok_and(|fd| self.fds.contains(&fd))
            && block.position <= self.position
    }
}

/// Ranges of descriptors that were closed recently, by table.
#[derive(Debug, Default)]
pub(super) struct ClosedRanges(HashMap<Pid, Vec<ClosedRange>, FixedState>);

/// An open descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenDescriptor {
    /// The process whose table it is in.
    pub pid: Pid,
    /// Its number.
    pub fd: u32,
    /// Number of its call site.
    pub site: u32,
    /// `CLOCK_MONOTONIC` of when it was opened (or found), nanoseconds.
    pub time_ns: u64,
    /// Its sequence position; identifies one descriptor together with its number.
    pub position: u64,
}

impl ClosedRanges {
    /// The sequence position at which a closed range covered this descriptor, which reaches the ledger only now.
    pub(super) fn position(&self, handle: &Handle, block: &Block) -> Option<u64> {
        if !handle.kind.is_descriptor() {
            return None;
        }
        let of_table = self.0.get(&handle.pid).into_iter().flatten();
        let covering = of_table.filter(|range| range.covers(handle, block));
        covering.map(|range| range.position).min()
    }

    /// Closes every descriptor from `first` to `last`.
    pub(super) fn close(
        &mut self,
        resources: &mut Resources,
        pid: Pid,
        fds: RangeInclusive<u32>,
        position: u64,
    ) {
        let range = ClosedRange { fds, position, cycles: 0 };
        resources.settle_descriptors(pid, |fd, block| {
            range.covers(&Handle { pid, kind: Kind::Descriptor, value: fd }, block)
        });
        resources.owed.retain(|handle, owed| {
            owed.retain(|block| handle.pid != pid || !range.covers(handle, block));
            !owed.is_empty()
        });
        self.0.entry(pid).or_default().push(range);
    }

    /// Counts a full cycle.
    pub(super) fn cycled(&mut self) {
        self.0.retain(|_, all| {
            all.retain_mut(|range| {
                range.cycles += 1;
                range.cycles < CYCLES
            });
            !all.is_empty()
        });
    }
}

impl Resources {
    /// Closes all descriptors of a table that were opened until `position`: the table is gone.
    pub(super) fn forget_descriptors(&mut self, pid: Pid, position: u64) {
        self.settle_descriptors(pid, |_, block| block.position <= position);
        self.owed.retain(|handle, owed| {
            if handle.pid == pid && handle.kind.is_descriptor() {
                owed.retain(|block| block.position > position);
            }
            !owed.is_empty()
        });
    }

    /// Closes the descriptors of a table for which `is_closed` returns `true`. Returns their number.
    pub(super) fn settle_descriptors(
        &mut self,
        pid: Pid,
        mut is_closed: impl FnMut(u64, &Block) -> bool,
    ) -> u64 {
        let (totals, mut count) = (&mut self.totals, 0);
        self.blocks.retain_of(pid, [Kind::Descriptor].into_iter(), |fd, block| {
            let closed = is_closed(fd, block);
            if closed {
                totals.settle(block);
                count += 1;
            }
            !closed
        });
        count
    }

    /// Adds a descriptor found by a scan: open since before the attach, or opened without a probe seeing it.
    pub(super) fn found_open(
        &mut self,
        pid: Pid,
        fd: u32,
        fd_type: FdType,
        origin: FdOrigin,
        now: u64,
    ) {
        let site = self.totals.found(pid, origin, fd_type);
        let tally = self.totals.tally(site);
        if origin == FdOrigin::Before {
            tally.inherit(0);
        } else {
            tally.acquired.add(0);
            tally.outstanding.add(0);
        }
        // Position 0: every event about that number comes later.
        let block = Block { size: 0, time_ns: now, position: 0, site, connection: 0 };
        self.place(Handle { pid, kind: Kind::Descriptor, value: u64::from(fd) }, block);
    }

    /// The sequence position of an open descriptor.
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

    /// Forgets owed releases of descriptors: those that have not arrived by now never will.
    pub(super) fn forget_owed_descriptors(&mut self) {
        self.owed.retain(|handle, _| !handle.kind.is_descriptor());
    }
}

#[cfg(test)]
#[path = "fds_tests.rs"]
mod tests;
