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

use super::{
    decode::{Block, Event, Handle, Site},
    ranges::{Gone, Ranges},
};
use crate::target::Pid;

/// A number of resources and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    /// Adds one resource.
    pub const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What is known of one call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    acquired: Sum,
    released: Sum,
    outstanding: Sum,
    died: Died,
}

impl Tally {
    /// Everything acquired, what died young included.
    pub const fn acquired(&self) -> Sum {
        Sum {
            count: self.acquired.count + self.died.count,
            bytes: self.acquired.bytes + self.died.bytes,
        }
    }

    /// Everything released, what died young included.
    pub const fn released(&self) -> Sum {
        Sum {
            count: self.released.count + self.died.count,
            bytes: self.released.bytes + self.died.bytes,
        }
    }

    /// What is outstanding.
    pub const fn outstanding(&self) -> Sum {
        self.outstanding
    }
}

/// What a resize took away, in case it fails.
#[derive(Debug)]
struct Pending {
    handle: Handle,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    Block(Block),
    Parts(Vec<Gone>),
    /// It was not known, and counted so.
    Unknown,
    /// It had been settled before.
    Owed,
}

/// The table.
#[derive(Debug, Default)]
pub struct Ledger {
    blocks: HashMap<Handle, Block, FixedState>,
    ranges: HashMap<(Pid, Kind), Ranges>,
    owed: HashMap<Handle, u32, FixedState>,
    pending: HashMap<(Pid, u32), Pending>,
    /// By number; number 0 is the unknown call site.
    sites: Vec<Option<Site>>,
    tallies: Vec<Tally>,
    /// Code whose own releases of unknown ranges are no news: the allocator's.
    internal: HashMap<Pid, Vec<(u64, u64)>>,
    unknown_releases: u64,
    doubtful: u64,
}

impl Ledger {
    /// Takes in one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Acquired { handle, block } => self.acquired(handle, block),
            Event::Released { handle, size, position, caller, resizing } => {
                let taken = match handle.kind.extent() {
                    Extent::Handle => self.released(handle, position),
                    Extent::Range => self.unmapped(handle, size, position, caller),
                };
                if let Some(thread) = resizing {
                    self.pending.insert((handle.pid, thread), Pending { handle, taken });
                }
            }
            Event::Restored { handle, thread } => self.restored(handle, thread),
            Event::Site(site) => {
                let number = site.number as usize;
                if self.sites.len() <= number {
                    self.sites.resize(number + 1, None);
                }
                if let Some(place) = self.sites.get_mut(number) {
                    *place = Some(site);
                }
            }
        }
    }

    /// Sets what died young at a call site so far.
    pub fn set_died(&mut self, site: usize, died: Died) {
        if died.count > 0 {
            self.tally(u32::try_from(site).unwrap_or(0)).died = died;
        }
    }

    /// Everything a target had is gone: another program runs in its place. Released, because the
    /// kernel has taken it back.
    pub fn forget(&mut self, pid: Pid) {
        let blocks: Vec<Handle> =
            self.blocks.keys().filter(|handle| handle.pid == pid).copied().collect();
        for handle in blocks {
            if let Some(block) = self.blocks.remove(&handle) {
                self.settle_block(&block);
            }
        }
        let ranges: Vec<_> =
            self.ranges.keys().filter(|(owner, _)| *owner == pid).copied().collect();
        for key in ranges {
            let gone = self.ranges.remove(&key).unwrap_or_default().release(0, u64::MAX, u64::MAX);
            self.settle(&gone);
        }
        self.owed.retain(|handle, _| handle.pid != pid);
        self.pending.retain(|(owner, _), _| *owner != pid);
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
        let tallies = &mut self.tallies;
        let mut doubtful = 0;
        self.blocks.retain(|handle, block| {
            let keep = lost(handle) == 0 || block.position > lost(handle);
            if !keep {
                take_back(tallies, block);
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
                covered.iter().for_each(|block| take_back(tallies, block));
                ranges.release(0, u64::MAX, latest);
            }
        }
        self.doubtful += doubtful;
    }

    /// Call sites in the order of their numbers, with what is known of each.
    pub fn sites(&self) -> impl Iterator<Item = (u32, Option<&Site>, Tally)> {
        let count = self.sites.len().max(self.tallies.len());
        (0..count).map(|number| {
            let tally = self.tallies.get(number).copied().unwrap_or_default();
            let site = self.sites.get(number).and_then(Option::as_ref);
            (u32::try_from(number).unwrap_or(0), site, tally)
        })
    }

    /// Numbers of call sites in use: every one is below.
    pub fn site_numbers(&self) -> usize {
        self.sites.len()
    }

    /// Every outstanding resource, in no order.
    pub fn outstanding(&self) -> impl Iterator<Item = Block> {
        let ranges = self.ranges.values().flat_map(Ranges::outstanding);
        self.blocks.values().copied().chain(ranges)
    }

    /// Releases of what was never seen to be acquired.
    pub const fn unknown_releases(&self) -> u64 {
        self.unknown_releases
    }

    /// Resources set aside because their release may be among the lost ones.
    pub const fn doubtful(&self) -> u64 {
        self.doubtful
    }

    fn tally(&mut self, site: u32) -> &mut Tally {
        let site = site as usize;
        if self.tallies.len() <= site {
            self.tallies.resize(site + 1, Tally::default());
        }
        #[expect(clippy::indexing_slicing, reason = "made to be there by the lines above")]
        &mut self.tallies[site]
    }

    fn acquired(&mut self, handle: Handle, block: Block) {
        let tally = self.tally(block.site);
        tally.acquired.add(block.size);
        tally.outstanding.add(block.size);
        match handle.kind.extent() {
            Extent::Range => {
                let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
                let gone = ranges.acquire(handle.value, block);
                self.settle(&gone);
            }
            Extent::Handle => self.place(handle, block),
        }
    }

    /// Puts a block in its place, in which another life of its address may stand.
    fn place(&mut self, handle: Handle, block: Block) {
        let earlier = match self.blocks.get(&handle) {
            // News of an earlier life of this address: its release is still on its way.
            Some(present) if present.position > block.position => Some(block),
            _ => self.blocks.insert(handle, block),
        };
        if let Some(earlier) = earlier {
            self.settle_block(&earlier);
            *self.owed.entry(handle).or_default() += 1;
        }
    }

    fn released(&mut self, handle: Handle, position: u64) -> Taken {
        if self.blocks.get(&handle).is_some_and(|block| block.position <= position)
            && let Some(block) = self.blocks.remove(&handle)
        {
            self.settle_block(&block);
            return Taken::Block(block);
        }
        if let Some(owed) = self.owed.get_mut(&handle) {
            *owed -= 1;
            if *owed == 0 {
                self.owed.remove(&handle);
            }
            return Taken::Owed;
        }
        self.unknown_releases += 1;
        Taken::Unknown
    }

    fn unmapped(&mut self, handle: Handle, size: u64, position: u64, caller: u64) -> Taken {
        let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
        let gone = ranges.release(handle.value, size, position);
        if gone.is_empty() {
            let internal = self.internal.get(&handle.pid).is_some_and(|code| {
                code.iter().any(|(start, end)| (*start..*end).contains(&caller))
            });
            if internal {
                return Taken::Owed;
            }
            self.unknown_releases += 1;
            return Taken::Unknown;
        }
        self.settle(&gone);
        Taken::Parts(gone)
    }

    fn restored(&mut self, handle: Handle, thread: u32) {
        let Some(pending) = self.pending.remove(&(handle.pid, thread)) else { return };
        if pending.handle != handle {
            return;
        }
        match pending.taken {
            Taken::Block(block) => {
                let tally = self.tally(block.site);
                tally.released.count -= 1;
                tally.released.bytes -= block.size;
                tally.outstanding.add(block.size);
                self.place(handle, block);
            }
            Taken::Parts(parts) => {
                for part in parts {
                    let tally = self.tally(part.block.site);
                    tally.released.bytes -= part.block.size;
                    tally.outstanding.bytes += part.block.size;
                    if part.last {
                        tally.released.count -= 1;
                        tally.outstanding.count += 1;
                    }
                    let ranges = self.ranges.entry((handle.pid, handle.kind)).or_default();
                    ranges.acquire(part.start, part.block);
                }
            }
            Taken::Unknown => self.unknown_releases -= 1,
            Taken::Owed => *self.owed.entry(handle).or_default() += 1,
        }
    }

    fn settle_block(&mut self, block: &Block) {
        let tally = self.tally(block.site);
        tally.released.add(block.size);
        tally.outstanding.count -= 1;
        tally.outstanding.bytes -= block.size;
    }

    fn settle(&mut self, gone: &[Gone]) {
        for part in gone {
            let tally = self.tally(part.block.site);
            tally.released.bytes += part.block.size;
            tally.outstanding.bytes -= part.block.size;
            if part.last {
                tally.released.count += 1;
                tally.outstanding.count -= 1;
            }
        }
    }
}

/// A doubtful resource is neither outstanding nor known to be released.
fn take_back(tallies: &mut [Tally], block: &Block) {
    if let Some(tally) = tallies.get_mut(block.site as usize) {
        tally.outstanding.count -= 1;
        tally.outstanding.bytes -= block.size;
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
