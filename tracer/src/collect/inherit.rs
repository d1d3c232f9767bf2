//! What children have from their parents: the part of the ledger that knows of forks. Pure.

use tracer_common::kind::Kind;

use super::{
    decode::{Block, Handle},
    family::Held,
    ledger::{Ledger, Taken},
};
use crate::target::Pid;

impl Ledger {
    /// The child has a copy of everything its parent held: of descriptors if `files`, else of all else.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid, files: bool, position: u64) {
        // The id may have been another's before; what this one acquired may be drained already.
        if files {
            self.forget_descriptors(child, position);
        } else {
            self.forget_until(child, position);
        }
        for (handle, held) in self.family.opened(parent, child, files, position) {
            self.held_in_vain(handle, held);
        }
        // No copy goes to the parent, not even one of a copy: a child of the child would have to be its
        // parent. So its tables can be read while they are copied.
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_descriptor() == files) {
            let Some(table) = self.blocks.lift(parent, kind) else { continue };
            let held = table.iter().filter(|(_, block)| block.position <= position);
            for (value, block) in held {
                self.inherit(child, Handle { pid: parent, kind, value }, block);
            }
            self.blocks.lower(parent, kind, table);
        }
        // What was displaced and not released yet was still there at the fork, too.
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
            copy.hand_down(|site| self.book.copy(child, site));
            for block in copy.outstanding() {
                self.book.inherit(&block);
            }
            self.ranges.insert((child, kind), copy);
        }
        if let Some(code) = self.internal.get(&parent).cloned() {
            self.internal.insert(child, code);
        }
    }

    /// `child` has a copy of its parent's block.
    fn inherit(&mut self, child: Pid, handle: Handle, block: Block) {
        // What the parent served is not the child's concern.
        let site = self.book.copy(child, block.site);
        let copy = Block { site, connection: 0, ..block };
        self.book.inherit(&copy);
        self.arrived(Handle { pid: child, ..handle }, copy);
    }

    /// A block reaches the ledger, perhaps later than news of what became of it.
    pub(super) fn arrived(&mut self, handle: Handle, block: Block) {
        let closed = self.range_closed(&handle, &block);
        for child in self.family.heirs(&handle, &block, closed.unwrap_or(u64::MAX)) {
            self.inherit(child, handle, block);
        }
        if closed.is_some() {
            self.book.settle(&block);
        } else if let Some(held) = self.family.take_held(&handle, &block) {
            self.book.settle(&block);
            self.answer(&handle, held, Taken::Block(block));
        } else if self.family.is_past(&handle, &block) {
            self.book.settle(&block);
        } else {
            self.place(handle, block);
        }
    }

    /// What a held release took is known now.
    fn answer(&mut self, handle: &Handle, held: Held, taken: Taken) {
        let Some(thread) = held.thread else { return };
        if let Some(pending) = self.pending.get_mut(&(handle.pid, thread))
            && pending.handle == *handle
            && matches!(pending.taken, Taken::Held(position) if position == held.position)
        {
            pending.taken = taken;
        }
    }

    pub(super) fn held_in_vain(&mut self, handle: Handle, held: Held) {
        self.unknown_releases += 1;
        self.answer(&handle, held, Taken::Unknown);
    }
}
