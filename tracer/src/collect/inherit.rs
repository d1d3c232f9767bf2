//! Inheritance: the part of the ledger that handles forks. Pure.

use tracer_common::kind::Kind;

use super::{
    decode::{Block, Handle},
    family::Held,
    ledger::{Ledger, Taken},
};
use crate::target::Pid;

impl Ledger {
    /// Gives the child a copy of the parent's resources: of descriptors if `files`, otherwise of all others.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid, files: bool, position: u64) {
        // The id may have been another process's before; this one's first resources may be drained already.
        if files {
            self.forget_descriptors(child, position);
        } else {
            self.forget_until(child, position);
        }
        for (handle, held) in self.family.opened(parent, child, files, position) {
            self.unmatched_release(handle, held);
        }
        // No copy goes to the parent, not even a copy of a copy: a child of the child would have to be its parent.
        // So the parent's tables can be read while they are copied.
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_descriptor() == files) {
            let Some(table) = self.blocks.detach(parent, kind) else { continue };
            let held = table.iter().filter(|(_, block)| block.position <= position);
            for (value, block) in held {
                self.inherit(child, Handle { pid: parent, kind, value }, block);
            }
            self.blocks.reattach(parent, kind, table);
        }
        // Displaced resources whose release has not arrived were still there at the fork, too.
        let owed: Vec<(Handle, Block)> = self
            .owed
            .iter()
            .filter(|(handle, _)| handle.pid == parent && handle.kind.is_descriptor() == files)
            .flat_map(|(handle, all)| all.iter().map(|one| (*handle, *one)))
            .filter(|(_, block)| block.position <= position)
            .collect();
        for (handle, block) in owed {
            self.inherit(child, handle, block);
        }
        if files {
            return;
        }
        for kind in Kind::ALL {
            let Some(ranges) = self.ranges.get(&(parent, kind)) else { continue };
            let mut copy = ranges.clone();
            copy.replace_sites(|site| self.totals.copy(child, site));
            for block in copy.outstanding() {
                self.totals.inherit(&block);
            }
            self.ranges.insert((child, kind), copy);
        }
        if let Some(code) = self.internal.get(&parent).cloned() {
            self.internal.insert(child, code);
        }
    }

    /// Adds `child`'s copy of its parent's block.
    fn inherit(&mut self, child: Pid, handle: Handle, block: Block) {
        // The parent's connections are not the child's.
        let site = self.totals.copy(child, block.site);
        let copy = Block { site, connection: 0, ..block };
        self.totals.inherit(&copy);
        self.arrived(Handle { pid: child, ..handle }, copy);
    }

    /// Adds a block that reaches the ledger, perhaps later than events that affect it.
    pub(super) fn arrived(&mut self, handle: Handle, block: Block) {
        let closed = self.range_closed(&handle, &block);
        for child in self.family.heirs(&handle, &block, closed.unwrap_or(u64::MAX)) {
            self.inherit(child, handle, block);
        }
        if closed.is_some() {
            self.totals.settle(&block);
        } else if let Some(held) = self.family.take_held(&handle, &block) {
            self.totals.settle(&block);
            self.resolve_pending(&handle, held, Taken::Block(block));
        } else if self.family.is_from_before_exec(&handle, &block) {
            self.totals.settle(&block);
        } else {
            self.place(handle, block);
        }
    }

    /// Records the result of a held release for the resize that waits for it.
    fn resolve_pending(&mut self, handle: &Handle, held: Held, taken: Taken) {
        let Some(thread) = held.thread else { return };
        if let Some(pending) = self.pending.get_mut(&(handle.pid, thread))
            && pending.handle == *handle
            && matches!(pending.taken, Taken::Held(position) if position == held.position)
        {
            pending.taken = taken;
        }
    }

    /// Counts a held release that stayed unmatched.
    pub(super) fn unmatched_release(&mut self, handle: Handle, held: Held) {
        self.unknown_releases += 1;
        self.resolve_pending(&handle, held, Taken::Unknown);
    }
}
