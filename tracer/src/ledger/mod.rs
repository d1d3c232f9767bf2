//! The table of outstanding resources, for every kind.
//!
//! Takes records and drained resources, which `events` decodes, passes on sums by call site and the outstanding
//! resources. Pure: no IO, no clock.
//!
//! Events about one resource may arrive out of order: drained resources are read from a map, releases come
//! through the ring buffer, and neither waits for the other. Sequence positions restore the order: a release
//! acts on what was acquired at or before its position. An address that is acquired a second time proves a
//! release in between; that release is *owed* and settles nothing when it arrives.
//! `docs/decisions/0002-two-generations.md` has the argument.

mod blocks;
pub mod connections;
pub mod events;
pub mod fds;
mod forks;
mod lives;
mod packed;
mod ranges;
mod retags;
mod sum;
mod totals;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use tracer_common::{
    kind::{Extent, Kind},
    stack::Digest,
    state::Died,
};

pub use self::lives::{Cohort, LIFETIMES, Lives, lifetime_end_s};
pub(crate) use self::packed::TICK_BITS;
use self::{
    blocks::Blocks,
    events::{Block, Event, Handle, Site},
    fds::ClosedRange,
    forks::{Family, Held},
    ranges::{FreedPart, Ranges},
    totals::Totals,
};
pub use self::{sum::Sum, totals::Tally};
use crate::target::Pid;

/// What a resize released, in case it fails.
#[derive(Debug)]
struct Pending {
    handle: Handle,
    taken: Taken,
}

/// What a release removed from the ledger.
#[derive(Debug)]
enum Taken {
    /// A block.
    Block(Block),
    /// Parts of ranges.
    Parts(Vec<FreedPart>),
    /// Unknown, and counted as such.
    Unknown,
    /// A block that was settled before.
    Owed(Block),
    /// The block may still arrive with a fork: the release at this position is held until then.
    Held(u64),
    /// A release that does not count.
    Nothing,
}

/// The table.
#[derive(Debug, Default)]
pub struct Ledger {
    blocks: Blocks,
    ranges: HashMap<(Pid, Kind), Ranges>,
    /// Blocks that were settled before their release arrived.
    owed: HashMap<Handle, Vec<Block>, FixedState>,
    pending: HashMap<(Pid, u32), Pending>,
    totals: Totals,
    family: Family,
    /// Ranges of descriptors that were closed recently.
    closed_ranges: Vec<ClosedRange>,
    /// The allocators' code: its releases of unknown ranges are not counted.
    internal: HashMap<Pid, Vec<(u64, u64)>>,
    unknown_releases: u64,
    doubtful: u64,
    /// When recording last resumed after a pause; 0 without one.
    resumed_ns: u64,
    /// A lower bound for the acquisition times of outstanding resources, if there was any.
    earliest_ns: Option<u64>,
}

impl Ledger {
    /// Applies one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Acquired { handle, block } => self.acquired(handle, block),
            Event::Released { handle, size, position, time_ns, caller, resizing } => {
                self.totals.lives.advance(time_ns);
                let taken = match handle.kind.extent() {
                    Extent::Handle => self.released(handle, Held { position, thread: resizing }),
                    Extent::Range => self.unmapped(handle, size, position, caller),
                };
                if let Some(thread) = resizing {
                    self.pending.insert((handle.pid, thread), Pending { handle, taken });
                }
            }
            Event::Closed { pid, fd, position, time_ns, may_be_closed } => {
                self.totals.lives.advance(time_ns);
                self.closed(pid, fd, position, may_be_closed);
            }
            Event::RangeClosed { pid, first, last, position } => {
                self.totals.lives.advance(0);
                self.closed_range(pid, first, last, position);
            }
            Event::Restored { handle, thread } => self.restored(handle, thread),
            Event::Retagged { handle, site, position } => self.retagged(&handle, site, position),
            Event::Moved { from, handle, size, position } => {
                self.moved(&Handle { value: from, ..handle }, handle, size, position);
            }
            Event::Site(site) => self.totals.learn(site),
            Event::Forked { parent, child, files, position, .. } => {
                self.forked(parent, child, files, position);
            }
            Event::Connected(record) => self.totals.connections.connected(&record),
            Event::Disconnected(record) => self.totals.connections.disconnected(&record),
            Event::FilesEnded { pid, position } => {
                self.totals.lives.advance(0);
                self.forget_descriptors(pid, position);
            }
            Event::Executed { pid, position, time_ns, .. } => {
                self.totals.lives.advance(time_ns);
                self.forget_until(pid, position);
                self.family.executed(pid, position);
                self.totals.executed(pid);
            }
        }
    }

    /// Sets the time now: what has no time of its own happens now.
    pub fn set_now(&mut self, now_ns: u64) {
        self.totals.lives.advance(now_ns);
    }

    /// Sets the totals of resources that died young at a call site.
    pub fn set_died(&mut self, site: usize, died: Died) {
        if died.count > 0 {
            let site = u32::try_from(site).unwrap_or(0);
            self.totals.tally(site).died = died;
            self.totals.lives.set_young(site, died.count);
        }
    }

    /// How long a call site's resources live; `None` until one of them has outlived a drain.
    pub fn lives(&self, site: u32) -> Option<Arc<Lives>> {
        self.totals.lives.get(site).cloned()
    }

    /// The time that times of [`Lives`] count from: `CLOCK_MONOTONIC`, nanoseconds.
    pub const fn lives_origin_ns(&self) -> u64 {
        self.totals.lives.origin_ns()
    }

    /// Releases all memory of a target: it called exec, and the kernel has taken the memory back.
    pub fn forget(&mut self, pid: Pid) {
        self.forget_until(pid, u64::MAX);
    }

    /// The same for what it had acquired until `position`: the drain may already have brought some of what
    /// came after.
    fn forget_until(&mut self, pid: Pid, position: u64) {
        let totals = &mut self.totals;
        let kinds = Kind::ALL.into_iter().filter(|kind| !kind.is_descriptor());
        self.blocks.retain_of(pid, kinds, |_, block| {
            let keep = block.position > position;
            if !keep {
                totals.settle(block);
            }
            keep
        });
        for kind in Kind::ALL {
            let gone = self
                .ranges
                .get_mut(&(pid, kind))
                .map(|ranges| ranges.release(0, u64::MAX, position));
            self.totals.settle_parts(&gone.unwrap_or_default());
        }
        let memory = |handle: &Handle| handle.pid == pid && !handle.kind.is_descriptor();
        for (_, owed) in self.owed.iter_mut().filter(|(handle, _)| memory(handle)) {
            owed.retain(|block| block.position > position);
        }
        self.pending.retain(|(owner, _), _| *owner != pid);
    }

    /// Recording resumes after a pause, before which everything had been read. Releases in between were not seen,
    /// so nothing waits for them.
    pub fn resumed(&mut self, now_ns: u64) {
        self.resumed_ns = now_ns;
        self.owed.clear();
        self.pending.clear();
    }

    /// A cycle has ended that drained everything young and read every record. Only then is it certain what
    /// the child of a fork has not inherited.
    pub fn cycled(&mut self) {
        self.range_cycled();
        for (handle, held) in self.family.cycle() {
            self.unmatched_release(handle, held);
        }
    }

    /// Whether some resources that a child inherits may still be in flight.
    pub fn is_waiting(&self) -> bool {
        self.family.is_open()
    }

    /// Sets the allocator's code in a target, as ranges `[start, end)`.
    pub fn set_internal(&mut self, pid: Pid, code: Vec<(u64, u64)>) {
        self.internal.insert(pid, code);
    }

    /// Sets aside every resource that a lost release may have been about: `positions` holds the position of
    /// the last lost one by slot (see [`Digest::slot`]).
    pub fn doubt(&mut self, positions: &[u64]) {
        let Ok(slots) = u32::try_from(positions.len()) else { return };
        if slots == 0 {
            return;
        }
        let lost = |handle: &Handle| {
            let slot = Digest::seeded(handle.pid.0, 0).with(handle.value).slot(slots);
            positions.get(slot as usize).copied().unwrap_or(0)
        };
        let totals = &mut self.totals;
        let mut doubtful = 0;
        self.blocks.retain(|handle, block| {
            let keep = lost(handle) == 0 || block.position > lost(handle);
            if !keep {
                totals.set_aside(block);
                doubtful += 1;
            }
            keep
        });
        // Of a lost release of a range, only the start is known.
        let latest = positions.iter().copied().max().unwrap_or(0);
        for ranges in self.ranges.values_mut() {
            let covered: Vec<Block> =
                ranges.outstanding().filter(|block| block.position <= latest).collect();
            if !covered.is_empty() {
                doubtful += covered.len() as u64;
                for block in &covered {
                    totals.set_aside(block);
                }
                ranges.release(0, u64::MAX, latest);
            }
        }
        self.doubtful += doubtful;
    }

    /// Call sites by number, with their stacks and totals.
    pub fn sites(&self) -> impl Iterator<Item = (u32, Option<Site>, Tally)> {
        self.totals.iter()
    }

    /// One more than the highest call-site number that the BPF programs have used.
    pub fn site_numbers(&self) -> usize {
        self.totals.numbers()
    }

    /// Every outstanding resource, in no order.
    pub fn outstanding(&self) -> impl Iterator<Item = Block> {
        let ranges = self.ranges.values().flat_map(Ranges::outstanding);
        self.blocks.iter().chain(ranges)
    }

    /// The outstanding block with that handle.
    pub(crate) fn block(&self, handle: &Handle) -> Option<Block> {
        self.blocks.get(handle)
    }

    /// The handles of all outstanding blocks of one kind, in no order.
    pub(crate) fn handles(&self, kind: Kind) -> impl Iterator<Item = Handle> {
        self.blocks.handles(kind)
    }

    /// An upper bound for the ages of outstanding resources.
    pub fn longest_age_ns(&self, now_ns: u64) -> u64 {
        self.earliest_ns.map_or(0, |earliest_ns| now_ns.saturating_sub(earliest_ns))
    }

    /// Releases of resources whose acquisition was never seen.
    pub const fn unknown_releases(&self) -> u64 {
        self.unknown_releases
    }

    /// Resources set aside because their release may be among the lost ones.
    pub const fn doubtful(&self) -> u64 {
        self.doubtful
    }

    fn acquired(&mut self, handle: Handle, block: Block) {
        self.earliest_ns = Some(self.earliest_ns.map_or(block.time_ns, |ns| ns.min(block.time_ns)));
        self.totals.lives.advance(block.time_ns);
        self.totals.acquire(&block);
        match handle.kind.extent() {
            Extent::Range => {
                let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
                let gone = ranges.acquire(handle.value, block);
                self.totals.settle_parts(&gone);
            }
            Extent::Handle => self.arrived(handle, block),
        }
    }

    /// Adds a block; an earlier or later block at the same address may already be there.
    fn place(&mut self, handle: Handle, block: Block) {
        // Of two blocks at one address, the release of the earlier one is still in flight.
        if let Some(earlier) = self.blocks.place(&handle, block) {
            self.totals.settle(&earlier);
            // Unless that was before a pause: then its release was not seen.
            if earlier.time_ns >= self.resumed_ns {
                self.owed.entry(handle).or_default().push(earlier);
            }
        }
    }

    fn released(&mut self, handle: Handle, release: Held) -> Taken {
        let position = release.position;
        if let Some(block) = self.blocks.take(&handle, position) {
            self.totals.settle(&block);
            return Taken::Block(block);
        }
        if let Some(block) = self.take_owed(&handle, position) {
            return Taken::Owed(block);
        }
        if self.family.hold(handle, release) {
            return Taken::Held(position);
        }
        self.unknown_releases += 1;
        Taken::Unknown
    }

    /// Takes the oldest block at the address whose release is owed and which this release can end.
    fn take_owed(&mut self, handle: &Handle, position: u64) -> Option<Block> {
        let owed = self.owed.get_mut(handle)?;
        let oldest = owed
            .iter()
            .enumerate()
            .filter(|(_, block)| block.position <= position)
            .min_by_key(|(_, block)| block.position)
            .map(|(at, _)| at);
        let block = oldest.map(|at| owed.swap_remove(at));
        if owed.is_empty() {
            self.owed.remove(handle);
        }
        block
    }

    fn unmapped(&mut self, handle: Handle, size: u64, position: u64, caller: u64) -> Taken {
        let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
        let gone = ranges.release(handle.value, size, position);
        if gone.is_empty() {
            let internal = self.internal.get(&handle.pid).is_some_and(|code| {
                code.iter().any(|(start, end)| (*start..*end).contains(&caller))
            });
            if internal {
                return Taken::Nothing;
            }
            self.unknown_releases += 1;
            return Taken::Unknown;
        }
        self.totals.settle_parts(&gone);
        Taken::Parts(gone)
    }

    fn restored(&mut self, handle: Handle, thread: u32) {
        let Some(pending) = self.pending.remove(&(handle.pid, thread)) else { return };
        if pending.handle != handle {
            return;
        }
        match pending.taken {
            Taken::Block(block) => {
                self.totals.unsettle(&block);
                self.place(handle, block);
            }
            Taken::Parts(parts) => {
                for part in parts {
                    self.totals.unsettle_part(&part);
                    let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
                    let gone = ranges.restore(&part);
                    self.totals.settle_parts(&gone);
                }
            }
            Taken::Unknown => self.unknown_releases -= 1,
            Taken::Owed(block) => self.owed.entry(handle).or_default().push(block),
            Taken::Held(position) => self.family.unhold(&handle, position),
            Taken::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests;
