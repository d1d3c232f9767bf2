//! Library objects in the ledger: blocks that turn out to be objects, and objects that move. Pure.

use tracer_common::{attach::ProbeNumber, kind::Kind};

use super::{
    Ledger,
    events::{Block, Handle},
};

impl Ledger {
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
            Some(block) => Some(block),
            // Its address was reused before this event arrived: it was settled, though nobody released it.
            None => self.take_owed(from, position).inspect(|block| self.totals.unsettle(block)),
        };
        if let Some(block) = block {
            let block = self.totals.resize(&block, size);
            self.place(to, Block { position, ..block });
        }
    }

    /// The probe of a call site, and which of its function's two object types the call site creates: 0 or 1. `None` for
    /// a copy that came with a fork.
    pub(crate) fn constructor_of(&self, site: u32) -> Option<(ProbeNumber, u8)> {
        self.totals.constructor_of(site)
    }

    /// Caller-allocated objects.
    pub(crate) fn caller_allocated(&self) -> impl Iterator<Item = (Handle, Block)> {
        self.blocks.of_kind(Kind::CallerAllocated)
    }
}
