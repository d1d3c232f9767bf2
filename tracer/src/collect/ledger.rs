//! The table of outstanding resources: one for every kind.
//!
//! Takes events, hands on sums by call site and what is outstanding. Pure: no IO, no clock.
//!
//! Events about one resource may arrive out of order: what was drained is read from a table, what was
//! released comes through the ring buffer, and neither waits for the other. Positions put them in order
//! again: a release acts on what was acquired at or before its position. An address that was acquired
//! anew proves that it was released in between; that release is *owed* and settles nothing when it
//! arrives. `docs/decisions/0002-two-generations.md` has the argument.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::{
    kind::{Extent, Kind},
    stack::Digest,
    state::Died,
};

pub use super::tally::{Sum, Tally};
use super::{
    blocks::Blocks,
    decode::{Block, Event, Handle, Site},
    descriptors::ClosedRange,
    family::{Family, Held},
    ranges::{Gone, Ranges},
    tally::Book,
};
use crate::target::Pid;

/// What a resize took away, in case it fails.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) handle: Handle,
    pub(super) taken: Taken,
}

/// What a release took away.
#[derive(Debug)]
pub(super) enum Taken {
    /// A block.
    Block(Block),
    /// Parts of ranges.
    Parts(Vec<Gone>),
    /// It was not known, and counted so.
    Unknown,
    /// It had been settled before.
    Owed(Block),
    /// It may still come with a fork: the release at this position waits for it.
    Held(u64),
    /// It was nothing of interest.
    Nothing,
}

/// The table.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) blocks: Blocks,
    pub(super) ranges: HashMap<(Pid, Kind), Ranges>,
    /// What was settled before its release arrived.
    pub(super) owed: HashMap<Handle, Vec<Block>, FixedState>,
    pub(super) pending: HashMap<(Pid, u32), Pending>,
    pub(super) book: Book,
    pub(super) family: Family,
    /// Ranges of descriptors that were closed a short while ago.
    pub(super) closed_ranges: Vec<ClosedRange>,
    /// Code whose own releases of unknown ranges are no news: the allocator's.
    pub(super) internal: HashMap<Pid, Vec<(u64, u64)>>,
    pub(super) unknown_releases: u64,
    pub(super) doubtful: u64,
    /// When recording began again after a pause; 0 without one.
    resumed_ns: u64,
    /// When the first of all outstanding resources was acquired, or before; if there was any.
    earliest_ns: Option<u64>,
}

impl Ledger {
    /// Takes in one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Acquired { handle, block } => self.acquired(handle, block),
            Event::Released { handle, size, position, caller, resizing } => {
                let taken = match handle.kind.extent() {
                    Extent::Handle => self.released(handle, Held { position, thread: resizing }),
                    Extent::Range => self.unmapped(handle, size, position, caller),
                };
                if let Some(thread) = resizing {
                    self.pending.insert((handle.pid, thread), Pending { handle, taken });
                }
            }
            Event::Closed { pid, fd, position, may_be_closed } => {
                self.closed(pid, fd, position, may_be_closed);
            }
            Event::RangeClosed { pid, first, last, position } => {
                self.closed_range(pid, first, last, position);
            }
            Event::Restored { handle, thread } => self.restored(handle, thread),
            Event::Retagged { handle, site, position } => self.retagged(&handle, site, position),
            Event::Moved { from, handle, size, position } => {
                self.moved(&Handle { value: from, ..handle }, handle, size, position);
            }
            Event::Site(site) => self.book.learn(site),
            Event::Forked { parent, child, files, position, .. } => {
                self.forked(parent, child, files, position);
            }
            Event::Connected(record) => self.book.connections.connected(&record),
            Event::Disconnected(record) => self.book.connections.disconnected(&record),
            Event::FilesEnded { pid, position } => self.forget_descriptors(pid, position),
            Event::Executed { pid, position, .. } => {
                self.forget_until(pid, position);
                self.family.executed(pid, position);
                self.book.executed(pid);
            }
        }
    }

    /// Sets what died young at a call site so far.
    pub fn set_died(&mut self, site: usize, died: Died) {
        if died.count > 0 {
            self.book.tally(u32::try_from(site).unwrap_or(0)).died = died;
        }
    }

    /// All memory a target had is gone: another program runs in its place. Released, because the
    /// kernel has taken it back.
    pub fn forget(&mut self, pid: Pid) {
        self.forget_until(pid, u64::MAX);
    }

    /// The same for what it had acquired until `position`: of what came after, the drain may have
    /// brought some already.
    pub(super) fn forget_until(&mut self, pid: Pid, position: u64) {
        let book = &mut self.book;
        let kinds = Kind::ALL.into_iter().filter(|kind| !kind.is_descriptor());
        self.blocks.retain_of(pid, kinds, |_, block| {
            let keep = block.position > position;
            if !keep {
                book.settle(block);
            }
            keep
        });
        for kind in Kind::ALL {
            let gone = self
                .ranges
                .get_mut(&(pid, kind))
                .map(|ranges| ranges.release(0, u64::MAX, position));
            self.book.settle_parts(&gone.unwrap_or_default());
        }
        let memory = |handle: &Handle| handle.pid == pid && !handle.kind.is_descriptor();
        for (_, owed) in self.owed.iter_mut().filter(|(handle, _)| memory(handle)) {
            owed.retain(|block| block.position > position);
        }
        self.pending.retain(|(owner, _), _| *owner != pid);
    }

    /// Recording begins again after a pause, before which everything had been read. What was not seen in between
    /// is waited for in vain.
    pub fn resumed(&mut self, now_ns: u64) {
        self.resumed_ns = now_ns;
        self.owed.clear();
        self.pending.clear();
    }

    /// A cycle is over in which everything young was drained and every record read. Only then is known
    /// what the child of a fork has not inherited.
    pub fn cycled(&mut self) {
        self.range_cycled();
        for (handle, held) in self.family.cycle() {
            self.held_in_vain(handle, held);
        }
    }

    /// Whether some of what a child inherits may be still on its way.
    pub fn is_waiting(&self) -> bool {
        self.family.is_open()
    }

    /// Names the code of the allocator itself in a target: `[start, end)`.
    pub fn set_internal(&mut self, pid: Pid, code: Vec<(u64, u64)>) {
        self.internal.insert(pid, code);
    }

    /// Sets aside whatever a lost release may have been about: `positions` holds the position of the
    /// last one by slot (see [`Digest::slot`]).
    pub fn doubt(&mut self, positions: &[u64]) {
        let Ok(slots) = u32::try_from(positions.len()) else { return };
        if slots == 0 {
            return;
        }
        let lost = |handle: &Handle| {
            let slot = Digest::seeded(handle.pid.0, 0).with(handle.value).slot(slots);
            positions.get(slot as usize).copied().unwrap_or(0)
        };
        let book = &mut self.book;
        let mut doubtful = 0;
        self.blocks.retain(|handle, block| {
            let keep = lost(handle) == 0 || block.position > lost(handle);
            if !keep {
                book.set_aside(block);
                doubtful += 1;
            }
            keep
        });
        // A lost release of a range tells only where it began.
        let latest = positions.iter().copied().max().unwrap_or(0);
        for ranges in self.ranges.values_mut() {
            let covered: Vec<Block> =
                ranges.outstanding().filter(|block| block.position <= latest).collect();
            if !covered.is_empty() {
                doubtful += covered.len() as u64;
                for block in &covered {
                    book.set_aside(block);
                }
                ranges.release(0, u64::MAX, latest);
            }
        }
        self.doubtful += doubtful;
    }

    /// Call sites in the order of their numbers, with what is known of each.
    pub fn sites(&self) -> impl Iterator<Item = (u32, Option<Site>, Tally)> {
        self.book.iter()
    }

    /// Numbers of the kernel side's call sites in use: every one is below.
    pub fn site_numbers(&self) -> usize {
        self.book.numbers()
    }

    /// Every outstanding resource, in no order.
    pub fn outstanding(&self) -> impl Iterator<Item = Block> {
        let ranges = self.ranges.values().flat_map(Ranges::outstanding);
        self.blocks.iter().chain(ranges)
    }

    /// Nothing that is outstanding is older than this.
    pub fn longest_age_ns(&self, now_ns: u64) -> u64 {
        self.earliest_ns.map_or(0, |earliest_ns| now_ns.saturating_sub(earliest_ns))
    }

    /// Releases of what was never seen to be acquired.
    pub const fn unknown_releases(&self) -> u64 {
        self.unknown_releases
    }

    /// Resources set aside because their release may be among the lost ones.
    pub const fn doubtful(&self) -> u64 {
        self.doubtful
    }

    fn acquired(&mut self, handle: Handle, block: Block) {
        self.earliest_ns = Some(self.earliest_ns.map_or(block.time_ns, |ns| ns.min(block.time_ns)));
        self.book.acquire(&block);
        match handle.kind.extent() {
            Extent::Range => {
                let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
                let gone = ranges.acquire(handle.value, block);
                self.book.settle_parts(&gone);
            }
            Extent::Handle => self.arrived(handle, block),
        }
    }

    /// Puts a block in its place, in which another life of its address may stand.
    pub(super) fn place(&mut self, handle: Handle, block: Block) {
        // Whichever of two lives of this address is the earlier one: its release is still on its way.
        if let Some(earlier) = self.blocks.place(&handle, block) {
            self.book.settle(&earlier);
            // But if that was before a pause, it went unseen.
            if earlier.time_ns >= self.resumed_ns {
                self.owed.entry(handle).or_default().push(earlier);
            }
        }
    }

    pub(super) fn released(&mut self, handle: Handle, release: Held) -> Taken {
        let position = release.position;
        if let Some(block) = self.blocks.take(&handle, position) {
            self.book.settle(&block);
            return Taken::Block(block);
        }
        if let Some(block) = self.pay(&handle, position) {
            return Taken::Owed(block);
        }
        if self.family.hold(handle, release) {
            return Taken::Held(position);
        }
        self.unknown_releases += 1;
        Taken::Unknown
    }

    /// The oldest life of the address whose release is owed, if this can be it.
    pub(super) fn pay(&mut self, handle: &Handle, position: u64) -> Option<Block> {
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
        self.book.settle_parts(&gone);
        Taken::Parts(gone)
    }

    fn restored(&mut self, handle: Handle, thread: u32) {
        let Some(pending) = self.pending.remove(&(handle.pid, thread)) else { return };
        if pending.handle != handle {
            return;
        }
        match pending.taken {
            Taken::Block(block) => {
                self.book.unsettle(&block);
                self.place(handle, block);
            }
            Taken::Parts(parts) => {
                for part in parts {
                    self.book.unsettle_part(&part);
                    let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
                    let gone = ranges.restore(&part);
                    self.book.settle_parts(&gone);
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
#[path = "ledger_tests.rs"]
mod tests;
