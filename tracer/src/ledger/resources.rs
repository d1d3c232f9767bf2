//! Outstanding resources, and the releases that are owed, with their totals.
//!
//! A part of the ledger, which calls it in the order of events. It knows no forks and holds no release back. Pure.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::{kind::Kind, stack::Digest};

use super::{
    blocks::Blocks,
    deferred::Deferred,
    events::{Block, Handle},
    ranges::Ranges,
    totals::Totals,
};
use crate::target::Pid;

/// The resources.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) blocks: Blocks,
    pub(super) ranges: HashMap<(Pid, Kind), Ranges, FixedState>,
    /// Blocks that were settled before their release arrived.
    pub(super) owed: HashMap<Handle, Vec<Block>, FixedState>,
    pub(super) totals: Totals,
    /// Children whose copies are not made yet.
    pub(super) deferred: Deferred,
    /// When recording last resumed after a pause; 0 without one.
    resumed_ns: u64,
}

impl Resources {
    /// Adds a block; an earlier or later block at the same address may already be there.
    pub(super) fn place(&mut self, handle: Handle, block: Block) {
        // Of two blocks at one address, the release of the earlier one is still in flight.
        if let Some(earlier) = self.blocks.place(&handle, block) {
            self.totals.settle(&earlier);
            let later = self.blocks.get(&handle).map_or(u64::MAX, |later| later.position);
            self.deferred.released(&handle, &earlier, later);
            // Unless that was before a pause: then its release was not seen.
            if earlier.time_ns >= self.resumed_ns {
                self.owed.entry(handle).or_default().push(earlier);
            }
        }
    }

    /// Takes the oldest block at the address whose release is owed and which this release can end.
    pub(super) fn take_owed(&mut self, handle: &Handle, position: u64) -> Option<Block> {
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

    /// Recording resumes: releases during the pause were not seen, so nothing waits for them.
    pub(super) fn resumed(&mut self, now_ns: u64) {
        self.resumed_ns = now_ns;
        self.owed.clear();
    }

    /// Releases all memory that a target had acquired until `position`: the drain may already have brought some of
    /// what came after.
    pub(super) fn forget_memory(&mut self, pid: Pid, position: u64) {
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
            let Some(ranges) = self.ranges.get_mut(&(pid, kind)) else { continue };
            let gone = ranges.release(0, u64::MAX, position);
            if ranges.is_empty() {
                self.ranges.remove(&(pid, kind));
            }
            self.totals.settle_parts(&gone);
        }
        let memory = |handle: &Handle| handle.pid == pid && !handle.kind.is_descriptor();
        self.owed.retain(|handle, owed| {
            if memory(handle) {
                owed.retain(|block| block.position > position);
            }
            !owed.is_empty()
        });
    }

    /// Sets aside every resource that a lost release may have been about: `positions` holds the position of
    /// the last lost one by slot (see [`Digest::slot`]). Returns how many it set aside.
    pub(super) fn doubt(&mut self, positions: &[u64]) -> u64 {
        let Ok(slots) = u32::try_from(positions.len()) else { return 0 };
        if slots == 0 {
            return 0;
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
        doubtful
    }

    /// Every outstanding resource, in no order.
    pub(super) fn outstanding(&self) -> impl Iterator<Item = Block> {
        let ranges = self.ranges.values().flat_map(Ranges::outstanding);
        self.blocks.iter().chain(ranges)
    }

    /// A block that was drained before its constructor returned turns out to be an object.
    pub(super) fn retagged(&mut self, handle: &Handle, site: u32, position: u64) {
        if let Some(block) = self.blocks.take(handle, position) {
            let block = if block.site == site { block } else { self.totals.retag(&block, site) };
            self.place(*handle, block);
            return;
        }
        // Its address was reused before this event arrived: it was settled as a plain block.
        let owed = self.owed.get_mut(handle).into_iter().flatten();
        let earlier = owed.filter(|block| block.position <= position);
        if let Some(block) = earlier.max_by_key(|block| block.position)
            && block.site != site
        {
            self.totals.retag_settled(block, site);
            block.site = site;
        }
    }

    /// A resize has moved a drained object.
    pub(super) fn moved(&mut self, from: &Handle, to: Handle, size: u64, position: u64) {
        let block = match self.blocks.take(from, position) {
            Some(block) => {
                self.deferred.released(from, &block, position);
                Some(block)
            }
            // Its address was reused before this event arrived: it was settled, though nobody released it.
            None => self.take_owed(from, position).inspect(|block| self.totals.unsettle(block)),
        };
        if let Some(block) = block {
            let block = self.totals.resize(&block, size);
            self.place(to, Block { position, ..block });
        }
    }
}
