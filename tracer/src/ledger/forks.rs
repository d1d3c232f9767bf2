//! Forks and execs: gives a child copies of its parent's resources, also of those that arrive late.
//!
//! A child has a copy of everything its parent held at the fork. Those of the parent's resources that were still
//! young reach the ledger after the fork event: until all must have arrived, the fork is *open*, and releases of
//! the child that match nothing are *held*. Pure.

use std::collections::HashMap;

use tracer_common::kind::Kind;

use super::{
    Ledger, Taken,
    events::{Block, Handle},
};
use crate::target::Pid;

/// Full cycles until everything that was young at a fork has reached the ledger: the one that brings the fork
/// event, the next one, whose drain takes the rest, and one more for a program that had taken a resource out
/// of the young generation and had not sent its record yet.
const CYCLES: u32 = 3;

/// A fork that is open.
#[derive(Debug)]
struct Fork {
    parent: Pid,
    child: Pid,
    /// Whether descriptors were copied; otherwise, memory.
    files: bool,
    position: u64,
    cycles: u32,
}

/// A release of a resource that the child may be about to inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) position: u64,
    /// The thread, if the release begins a resize.
    pub(super) thread: Option<u32>,
}

/// Process events that the ledger has to know.
#[derive(Debug, Default)]
pub(super) struct Family {
    open: Vec<Fork>,
    held: HashMap<Handle, Vec<Held>>,
    /// Sequence positions of execs by process, ascending.
    executed: HashMap<Pid, Vec<u64>>,
}

impl Family {
    /// Opens a fork; the child's id may have been another process's before. Returns held releases of that one, which
    /// will never match anything.
    pub(super) fn opened(
        &mut self,
        parent: Pid,
        child: Pid,
        files: bool,
        position: u64,
    ) -> Vec<(Handle, Held)> {
        let others =
            |fork: &Fork| fork.files != files || fork.parent != child && fork.child != child;
        self.open.retain(others);
        if !files {
            self.executed.remove(&child);
        }
        let stale =
            self.take_all(|handle| handle.pid == child && handle.kind.is_descriptor() == files);
        self.open.push(Fork { parent, child, files, position, cycles: 0 });
        stale
    }

    /// Records that `pid` called exec.
    pub(super) fn executed(&mut self, pid: Pid, position: u64) {
        self.executed.entry(pid).or_default().push(position);
    }

    /// Sequence positions of the execs that ended resources like this one.
    fn ends(&self, handle: &Handle) -> impl Iterator<Item = u64> {
        let all = if handle.kind.is_descriptor() { None } else { self.executed.get(&handle.pid) };
        all.into_iter().flatten().copied()
    }

    /// Whether the resource was acquired before the last exec.
    pub(super) fn is_from_before_exec(&self, handle: &Handle, block: &Block) -> bool {
        self.ends(handle).last().is_some_and(|last| block.position <= last)
    }

    /// The children that inherit a resource which reaches the ledger now. It was released before `until`.
    pub(super) fn heirs(&self, handle: &Handle, block: &Block, until: u64) -> Vec<Pid> {
        let ended = |before: u64| {
            let mut held = self.held.get(handle).into_iter().flatten();
            let since = block.position..before;
            held.any(|held| since.contains(&held.position))
                || self.ends(handle).any(|at| since.contains(&at))
        };
        self.open
            .iter()
            .filter(|fork| fork.files == handle.kind.is_descriptor() && fork.position < until)
            .filter(|fork| fork.parent == handle.pid && block.position <= fork.position)
            .filter(|fork| !ended(fork.position))
            .map(|fork| fork.child)
            .collect()
    }

    /// Holds a release that matched nothing; `false` when there is nothing to wait for.
    pub(super) fn hold(&mut self, handle: Handle, held: Held) -> bool {
        let files = handle.kind.is_descriptor();
        let waits = self.open.iter().any(|fork| fork.child == handle.pid && fork.files == files);
        if waits {
            self.held.entry(handle).or_default().push(held);
        }
        waits
    }

    /// The held release that ended this resource.
    pub(super) fn take_held(&mut self, handle: &Handle, block: &Block) -> Option<Held> {
        let all = self.held.get(handle)?;
        // They are in order: the first one not before the resource ended it.
        let at = all.iter().position(|held| held.position >= block.position)?;
        // Unless an exec lies between them.
        let since = block.position..all.get(at)?.position;
        if self.ends(handle).any(|at| since.contains(&at)) {
            return None;
        }
        Some(self.held.get_mut(handle)?.remove(at))
    }

    /// Drops a held release: its resize has failed.
    pub(super) fn unhold(&mut self, handle: &Handle, position: u64) {
        if let Some(all) = self.held.get_mut(handle) {
            all.retain(|held| held.position != position);
        }
    }

    /// Whether a fork is open.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Counts a full cycle. Returns the held releases that stayed unmatched.
    pub(super) fn cycle(&mut self) -> Vec<(Handle, Held)> {
        let mut closed = Vec::new();
        self.open.retain_mut(|fork| {
            fork.cycles += 1;
            let open = fork.cycles < CYCLES;
            if !open {
                closed.push(fork.child);
            }
            open
        });
        // Earlier execs matter only while resources are in flight to a child.
        if self.open.is_empty() {
            self.executed.values_mut().for_each(|all| drop(all.drain(..all.len() - 1)));
        }
        if closed.is_empty() { Vec::new() } else { self.take_all(|one| closed.contains(&one.pid)) }
    }

    fn take_all(&mut self, which: impl Fn(&Handle) -> bool) -> Vec<(Handle, Held)> {
        let taken = self.held.extract_if(|handle, _| which(handle));
        taken.flat_map(|(handle, all)| all.into_iter().map(move |one| (handle, one))).collect()
    }
}

impl Ledger {
    /// Gives the child a copy of the parent's resources: of descriptors if `files`, otherwise of all others.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid, files: bool, position: u64) {
        // The id may have been another process's before; this one's first resources may be drained already.
        if files {
            self.resources.forget_descriptors(child, position);
        } else {
            self.forget_until(child, position);
        }
        for (handle, held) in self.family.opened(parent, child, files, position) {
            self.unmatched_release(handle, held);
        }
        // No copy goes to the parent, not even a copy of a copy: a child of the child would have to be its parent.
        // So the parent's tables can be read while they are copied.
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_descriptor() == files) {
            let Some(table) = self.resources.blocks.detach(parent, kind) else { continue };
            let held = table.iter().filter(|(_, block)| block.position <= position);
            for (value, block) in held {
                self.inherit(child, Handle { pid: parent, kind, value }, block);
            }
            self.resources.blocks.reattach(parent, kind, table);
        }
        // Displaced resources whose release has not arrived were still there at the fork, too.
        let owed: Vec<(Handle, Block)> = self
            .resources
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
            let Some(ranges) = self.resources.ranges.get(&(parent, kind)) else { continue };
            let mut copy = ranges.clone();
            copy.replace_sites(|site| self.resources.totals.copy(child, site));
            for block in copy.outstanding() {
                self.resources.totals.inherit(&block);
            }
            self.resources.ranges.insert((child, kind), copy);
        }
        if let Some(code) = self.internal.get(&parent).cloned() {
            self.internal.insert(child, code);
        }
    }

    /// Adds `child`'s copy of its parent's block.
    fn inherit(&mut self, child: Pid, handle: Handle, block: Block) {
        // The parent's connections are not the child's.
        let site = self.resources.totals.copy(child, block.site);
        let copy = Block { site, connection: 0, ..block };
        self.resources.totals.inherit(&copy);
        self.arrived(Handle { pid: child, ..handle }, copy);
    }

    /// Adds a block that reaches the ledger, perhaps later than events that affect it.
    pub(super) fn arrived(&mut self, handle: Handle, block: Block) {
        let closed = self.closed_ranges.position(&handle, &block);
        for child in self.family.heirs(&handle, &block, closed.unwrap_or(u64::MAX)) {
            self.inherit(child, handle, block);
        }
        if closed.is_some() {
            self.resources.totals.settle(&block);
        } else if let Some(held) = self.family.take_held(&handle, &block) {
            self.resources.totals.settle(&block);
            self.resolve_pending(&handle, held, Taken::Block(block));
        } else if self.family.is_from_before_exec(&handle, &block) {
            self.resources.totals.settle(&block);
        } else {
            self.resources.place(handle, block);
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
