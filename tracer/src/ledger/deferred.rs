//! Copies that a child has not needed yet: most children end before anybody asks for them.
//!
//! A fork copies all memory of a process at no cost, and so must the ledger: a server that forks a hundred times a second
//! with a million blocks would have it copy a hundred million. A child's copy of a block is made when the child does
//! something with it, and of all blocks when it has lived for a while. Until then its blocks are those that its parent
//! has, and those that its parent has released since, which are kept here. Pure.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use tracer_common::kind::Kind;

use super::events::{Block, Handle};
use crate::target::Pid;

/// How long a child may live until its copies are made. A server's workers live longer, its children for one request do
/// not. Their number in reports is too small for as long.
const DEFERRED_NS: u64 = 5_000_000_000;
/// With this many blocks that parents have released, it is worth looking for those that no child needs.
const PRUNED: usize = 1 << 12;

/// Whether a child gets its copies later. Descriptors are copied at the fork, threads never.
pub(super) const fn is_copied(kind: Kind) -> bool {
    kind.is_inherited() && !kind.is_descriptor()
}

/// What a process has in its memory, under this name.
type Name = (Kind, u64);

/// A child without its copies.
#[derive(Debug)]
struct Child {
    parent: Pid,
    /// Sequence position of the fork.
    position: u64,
    /// `CLOCK_MONOTONIC` of the fork, nanoseconds.
    time_ns: u64,
    /// What it has a copy of already.
    copied: HashSet<Name, FixedState>,
}

/// A process whose children are without copies.
#[derive(Debug, Default)]
struct Parent {
    children: u32,
    /// The last of their forks.
    until: u64,
    /// What it has released since the first of their forks, and at which sequence position.
    released: HashMap<Name, Vec<(Block, u64)>, FixedState>,
    /// Number of blocks in `released`, and at which number the next look is due.
    count: usize,
    prune_at: usize,
}

/// Children without their copies.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    children: HashMap<Pid, Child, FixedState>,
    parents: HashMap<Pid, Parent, FixedState>,
}

/// What remains to be copied for one child.
pub(super) struct Missing {
    parent: Pid,
    position: u64,
    copied: HashSet<Name, FixedState>,
    /// What the parent has released since.
    pub(super) released: Vec<(Handle, Block)>,
}

impl Missing {
    /// The process to copy from.
    pub(super) const fn parent(&self) -> Pid {
        self.parent
    }

    /// Whether a block that the parent has now is to be copied.
    pub(super) fn needs(&self, kind: Kind, value: u64, block: &Block) -> bool {
        block.position <= self.position && !self.copied.contains(&(kind, value))
    }
}

impl Deferred {
    /// A child without copies begins.
    pub(super) fn begin(&mut self, parent: Pid, child: Pid, position: u64, time_ns: u64) {
        self.forget(child);
        let copied = HashSet::default();
        self.children.insert(child, Child { parent, position, time_ns, copied });
        let of = self.parents.entry(parent).or_default();
        of.children += 1;
        of.until = of.until.max(position);
    }

    /// Forgets a child, which has ended or called exec: nobody will ask for its copies.
    pub(super) fn forget(&mut self, child: Pid) {
        let Some(Child { parent, .. }) = self.children.remove(&child) else { return };
        if let Some(of) = self.parents.get_mut(&parent) {
            of.children -= 1;
            if of.children == 0 {
                self.parents.remove(&parent);
            }
        }
    }

    /// Whether a child is without its copy of a block with this handle. Descriptors are copied at the fork.
    pub(super) fn lacks(&self, handle: &Handle) -> bool {
        if !is_copied(handle.kind) {
            return false;
        }
        let child = self.children.get(&handle.pid);
        child.is_some_and(|child| !child.copied.contains(&(handle.kind, handle.value)))
    }

    /// Records that a child has its copy of a block, if it had any.
    pub(super) fn mark_copied(&mut self, handle: &Handle) {
        if let Some(child) = self.children.get_mut(&handle.pid) {
            child.copied.insert((handle.kind, handle.value));
        }
    }

    /// The block that a child has under a handle by its fork, if its parent has `present` there now. Marks it as copied.
    pub(super) fn take(
        &mut self,
        handle: &Handle,
        present: impl FnOnce(&Handle) -> Option<Block>,
    ) -> Option<Block> {
        let child = self.children.get_mut(&handle.pid)?;
        let name = (handle.kind, handle.value);
        if child.copied.contains(&name) {
            return None;
        }
        let present = present(&Handle { pid: child.parent, ..*handle });
        let present = present.filter(|block| block.position <= child.position);
        let released = || {
            let all = self.parents.get(&child.parent)?.released.get(&name)?;
            let there = all.iter().find(|(block, at)| child.had(block, *at));
            there.map(|(block, _)| *block)
        };
        let block = present.or_else(released)?;
        child.copied.insert(name);
        Some(block)
    }

    /// A process releases a block at a sequence position: its children may have a copy of it.
    pub(super) fn released(&mut self, handle: &Handle, block: &Block, position: u64) {
        if self.parents.is_empty() || !is_copied(handle.kind) {
            return;
        }
        let Some(of) = self.parents.get_mut(&handle.pid) else { return };
        if block.position > of.until {
            return;
        }
        of.released.entry((handle.kind, handle.value)).or_default().push((*block, position));
        of.count += 1;
        if of.count >= of.prune_at.max(PRUNED) {
            let parent = handle.pid;
            let children = self.children.values().filter(|child| child.parent == parent);
            let first = children.map(|child| child.position).min().unwrap_or(u64::MAX);
            of.prune(first);
        }
    }

    /// The release of a block turns out not to have happened.
    pub(super) fn unreleased(&mut self, handle: &Handle, block: &Block) {
        let Some(of) = self.parents.get_mut(&handle.pid) else { return };
        if let Some(all) = of.released.get_mut(&(handle.kind, handle.value))
            && let Some(at) = all.iter().rposition(|(one, _)| one == block)
        {
            all.remove(at);
            of.count -= 1;
        }
    }

    /// What a child lacks, which is no longer deferred then.
    pub(super) fn complete(&mut self, pid: Pid) -> Option<Missing> {
        let child = self.children.get_mut(&pid)?;
        let copied = std::mem::take(&mut child.copied);
        let (parent, position) = (child.parent, child.position);
        let all = self.parents.get(&parent).into_iter().flat_map(|of| &of.released);
        let released = all
            .filter(|(name, _)| !copied.contains(name))
            .filter_map(|((kind, value), all)| {
                let (block, _) = all.iter().find(|(block, at)| child.had(block, *at))?;
                Some((Handle { pid: parent, kind: *kind, value: *value }, *block))
            })
            .collect();
        self.forget(pid);
        Some(Missing { parent, position, copied, released })
    }

    /// The children of a process, or of all.
    pub(super) fn children(&self, of: Option<Pid>) -> Vec<Pid> {
        let all = self.children.iter();
        let wanted = all.filter(|(_, child)| of.is_none_or(|parent| child.parent == parent));
        let mut wanted: Vec<_> = wanted.map(|(pid, _)| *pid).collect();
        wanted.sort_unstable();
        wanted
    }

    /// The children that have lived long enough.
    pub(super) fn due(&self, now_ns: u64) -> Vec<Pid> {
        let all = self.children.iter();
        let due = all.filter(|(_, child)| now_ns.saturating_sub(child.time_ns) >= DEFERRED_NS);
        let mut due: Vec<_> = due.map(|(pid, _)| *pid).collect();
        due.sort_unstable();
        due
    }

    /// Number of blocks and children kept; for tests.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.parents.values().map(|of| of.count).sum(), self.children.len())
    }
}

impl Child {
    /// Whether it has a copy of a block that its parent released at a sequence position.
    const fn had(&self, block: &Block, released: u64) -> bool {
        block.position <= self.position && released > self.position
    }
}

impl Parent {
    /// Drops what was released before the first fork of a child that is still without its copies.
    fn prune(&mut self, first: u64) {
        self.count = 0;
        self.released.retain(|_, all| {
            all.retain(|(_, at)| *at > first);
            self.count += all.len();
            !all.is_empty()
        });
        self.prune_at = self.count * 2;
    }
}
