//! Forks and execs: gives a child copies of its parent's resources, also of those that arrive late.
//!
//! A child has a copy of everything its parent held at the fork. Those of the parent's resources that were still
//! young reach the ledger after the fork event: until all must have arrived, the fork is *open*, and releases of
//! the child that match nothing are *held*. Pure.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::kind::Kind;

use super::{
    Ledger,
    deferred::is_copied,
    events::{Block, Handle},
    resources::Resources,
    taken::Taken,
};
use crate::target::Pid;

/// Full cycles until everything that was young at a fork has reached the ledger: the one that brings the fork
/// event, the next one, whose drain takes the rest, and one more for a program that had taken a resource out
/// of the young generation and had not sent its record yet.
const CYCLES: u32 = 3;

/// A fork that is open.
#[derive(Debug)]
struct Fork {
    child: Pid,
    position: u64,
    cycles: u32,
}

/// A process, and whether its descriptors are meant; otherwise, its memory.
type Side = (Pid, bool);

/// A release of a resource that the child may be about to inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) position: u64,
    /// The thread, if the release begins a resize.
    pub(super) thread: Option<u32>,
}

/// The held releases of one handle, in the order in which they arrived. Nearly always it is one: a child that ends releases
/// thousands of blocks that its parent acquired before the attach, and each of them needs no memory of its own.
#[derive(Debug)]
struct Releases {
    first: Held,
    later: Vec<Held>,
}

/// The held releases of one process's memory, or of its descriptors.
type OfSide = HashMap<Handle, Releases, FixedState>;

/// Process events that the ledger has to know.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// By parent, in the order of their positions.
    open: HashMap<Side, Vec<Fork>, FixedState>,
    /// The parent of each child whose fork is open.
    parents: HashMap<Side, Pid, FixedState>,
    /// By child: a fork that opens or closes, or a child that ends, costs no look at those of other children.
    held: HashMap<Side, OfSide, FixedState>,
    /// Sequence positions of execs by process, ascending.
    executed: HashMap<Pid, Vec<u64>, FixedState>,
}

const fn side_of(handle: &Handle) -> Side {
    (handle.pid, handle.kind.is_descriptor())
}

impl Releases {
    fn iter(&self) -> impl Iterator<Item = &Held> {
        std::iter::once(&self.first).chain(&self.later)
    }
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
        self.close((child, files));
        let mut stale = self.take_all((child, files));
        for fork in self.open.remove(&(child, files)).unwrap_or_default() {
            self.parents.remove(&(fork.child, files));
            stale.extend(self.take_all((fork.child, files)));
        }
        if !files {
            self.executed.remove(&child);
        }
        let forks = self.open.entry((parent, files)).or_default();
        let at = forks.partition_point(|fork| fork.position <= position);
        forks.insert(at, Fork { child, position, cycles: 0 });
        self.parents.insert((child, files), parent);
        stale
    }

    /// Closes the fork of a child.
    fn close(&mut self, child: Side) {
        let Some(parent) = self.parents.remove(&child) else { return };
        let side = (parent, child.1);
        if let Some(forks) = self.open.get_mut(&side) {
            forks.retain(|fork| fork.child != child.0);
            if forks.is_empty() {
                self.open.remove(&side);
            }
        }
    }

    /// A process has ended: nobody needs what it would still inherit, unless it has children itself, or has released
    /// something that may be that.
    pub(super) fn ended(&mut self, pid: Pid) {
        if [false, true].into_iter().any(|files| self.held.contains_key(&(pid, files))) {
            return;
        }
        for files in [false, true] {
            if !self.open.contains_key(&(pid, files)) {
                self.close((pid, files));
            }
        }
    }

    /// Records that `pid` called exec, or has ended.
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

    /// Whether a release of this handle is held.
    pub(super) fn holds(&self, handle: &Handle) -> bool {
        self.held_of(handle).is_some()
    }

    fn held_of(&self, handle: &Handle) -> Option<&Releases> {
        self.held.get(&side_of(handle))?.get(handle)
    }

    /// Forgets the execs and the end of a process of which nothing is in flight any more.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.executed.remove(&pid);
    }

    /// The children that inherit a resource which reaches the ledger now. It was released before `until`.
    pub(super) fn heirs(&self, handle: &Handle, block: &Block, until: u64) -> Vec<Pid> {
        if !handle.kind.is_inherited() {
            return Vec::new();
        }
        let Some(forks) = self.open.get(&side_of(handle)) else { return Vec::new() };
        let since = forks.partition_point(|fork| fork.position < block.position);
        let forks = forks.get(since..).unwrap_or_default();
        if forks.is_empty() {
            return Vec::new();
        }
        let held = self.held_of(handle);
        let ended = |before: u64| {
            let since = block.position..before;
            held.into_iter().flat_map(Releases::iter).any(|held| since.contains(&held.position))
                || self.ends(handle).any(|at| since.contains(&at))
        };
        forks
            .iter()
            .filter(|fork| fork.position < until && !ended(fork.position))
            .map(|fork| fork.child)
            .collect()
    }

    /// Holds a release that matched nothing; `false` when there is nothing to wait for.
    pub(super) fn hold(&mut self, handle: Handle, held: Held) -> bool {
        let side = side_of(&handle);
        let waits = handle.kind.is_inherited() && self.parents.contains_key(&side);
        if waits {
            self.held
                .entry(side)
                .or_default()
                .entry(handle)
                .and_modify(|all| all.later.push(held))
                .or_insert(Releases { first: held, later: Vec::new() });
        }
        waits
    }

    /// The held release that ended this resource.
    pub(super) fn take_held(&mut self, handle: &Handle, block: &Block) -> Option<Held> {
        // They are in order: the first one not before the resource ended it.
        let all = self.held_of(handle)?.iter();
        let found = *all.into_iter().find(|held| held.position >= block.position)?;
        // Unless an exec lies between them.
        let since = block.position..found.position;
        if self.ends(handle).any(|at| since.contains(&at)) {
            return None;
        }
        self.unhold(handle, found.position);
        Some(found)
    }

    /// Drops a held release: it is no longer one, or its resize has failed.
    pub(super) fn unhold(&mut self, handle: &Handle, position: u64) {
        let Some(of) = self.held.get_mut(&side_of(handle)) else { return };
        let Some(all) = of.get_mut(handle) else { return };
        all.later.retain(|held| held.position != position);
        if all.first.position != position {
            return;
        }
        if all.later.is_empty() {
            of.remove(handle);
            if of.is_empty() {
                self.held.remove(&side_of(handle));
            }
        } else {
            all.first = all.later.remove(0);
        }
    }

    /// Whether a fork is open.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Counts a full cycle. Returns the held releases that stayed unmatched.
    pub(super) fn cycle(&mut self) -> Vec<(Handle, Held)> {
        let mut closed = Vec::new();
        self.open.retain(|(_, files), forks| {
            forks.retain_mut(|fork| {
                fork.cycles += 1;
                let open = fork.cycles < CYCLES;
                if !open {
                    closed.push((fork.child, *files));
                    self.parents.remove(&(fork.child, *files));
                }
                open
            });
            !forks.is_empty()
        });
        // Earlier execs matter only while resources are in flight to a child.
        if self.open.is_empty() {
            self.executed.values_mut().for_each(|all| drop(all.drain(..all.len() - 1)));
        }
        closed.into_iter().flat_map(|side| self.take_all(side)).collect()
    }

    /// The held releases of one child.
    fn take_all(&mut self, side: Side) -> Vec<(Handle, Held)> {
        let of = self.held.remove(&side).unwrap_or_default();
        let each = |(handle, all): (Handle, Releases)| {
            std::iter::once(all.first).chain(all.later).map(move |one| (handle, one))
        };
        of.into_iter().flat_map(each).collect()
    }
}

impl Ledger {
    /// Gives the child a copy of the parent's resources: of descriptors if `files`, otherwise of all others. Of those
    /// that are released by handle it gets them later, see [`Deferred`].
    ///
    /// [`Deferred`]: super::deferred::Deferred
    pub(super) fn forked(
        &mut self,
        parent: Pid,
        child: Pid,
        files: bool,
        (position, time_ns): (u64, u64),
    ) {
        // The id may have been another process's before; this one's first resources may be drained already.
        if files {
            self.resources.forget_descriptors(child, position);
        } else {
            self.forget_until(child, position);
            self.copy_deferred(parent);
            self.trees.forked(parent, child);
            self.retirement.reborn(child);
            self.resources.deferred.begin(parent, child, position, time_ns);
        }
        for (handle, held) in self.family.opened(parent, child, files, position) {
            self.unmatched_release(handle, held);
        }
        // No copy goes to the parent, not even a copy of a copy: a child of the child would have to be its parent.
        // So the parent's tables can be read while they are copied.
        if files {
            self.copy_table(parent, child, Kind::Descriptor, |_, block| block.position <= position);
        }
        // Displaced resources whose release has not arrived were still there at the fork, too.
        let owed: Vec<(Handle, Block)> = self
            .resources
            .owed
            .iter()
            .filter(|(handle, _)| handle.pid == parent && handle.kind.is_descriptor() == files)
            .filter(|(handle, _)| handle.kind.is_inherited())
            .flat_map(|(handle, all)| all.iter().map(|one| (*handle, *one)))
            .filter(|(_, block)| block.position <= position)
            .collect();
        for (handle, block) in owed {
            self.inherit(child, handle, block);
            self.resources.deferred.mark_copied(&Handle { pid: child, ..handle });
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
        self.unknown.forked(parent, child);
        self.threads.forked(parent, child);
    }

    /// Copies those blocks of one kind that `wanted` accepts.
    fn copy_table(
        &mut self,
        parent: Pid,
        child: Pid,
        kind: Kind,
        wanted: impl Fn(u64, &Block) -> bool,
    ) {
        // No copy goes to the parent, not even a copy of a copy: a child of the child would have to be its parent.
        // So the parent's table can be read while it is copied.
        let Some(table) = self.resources.blocks.detach(parent, kind) else { return };
        for (value, block) in table.iter().filter(|(value, block)| wanted(*value, block)) {
            self.inherit(child, Handle { pid: parent, kind, value }, block);
        }
        self.resources.blocks.reattach(parent, kind, table);
    }

    /// Makes the copies of a child that has none yet.
    pub(super) fn copy_deferred(&mut self, child: Pid) {
        let Some(missing) = self.resources.deferred.complete(child) else { return };
        for kind in Kind::ALL.into_iter().filter(|kind| is_copied(*kind)) {
            let needed = |value, block: &Block| missing.needs(kind, value, block);
            self.copy_table(missing.parent(), child, kind, needed);
        }
        for (handle, block) in missing.released {
            self.inherit(child, handle, block);
        }
    }

    /// Makes the copies of the children that have lived long enough, or of `all`.
    pub fn copy_due(&mut self, now_ns: u64, all: bool) {
        let deferred = &self.resources.deferred;
        let due = if all { deferred.children(None) } else { deferred.due(now_ns) };
        due.into_iter().for_each(|child| self.copy_deferred(child));
    }

    /// Makes a child's copy of one block, if it has none: something happens to it.
    pub(super) fn copy_for_use(&mut self, handle: &Handle) {
        let Resources { deferred, blocks, .. } = &mut self.resources;
        if deferred.lacks(handle)
            && let Some(block) = deferred.take(handle, |handle| blocks.get(handle))
        {
            self.inherit(handle.pid, *handle, block);
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
        let stays = closed.is_none()
            && !self.family.holds(&handle)
            && !self.family.is_from_before_exec(&handle, &block);
        for child in self.family.heirs(&handle, &block, closed.unwrap_or(u64::MAX)) {
            let copy = Handle { pid: child, ..handle };
            let deferred = self.resources.deferred.lacks(&copy);
            // The parent's will be found when the child's is needed.
            if deferred && stays && !self.family.holds(&copy) {
                continue;
            }
            self.inherit(child, handle, block);
            if deferred {
                self.resources.deferred.mark_copied(&copy);
            }
        }
        if closed.is_some() {
            self.resources.totals.settle(&block);
        } else if let Some(held) = self.family.take_held(&handle, &block) {
            self.resources.totals.settle(&block);
            self.resolve_pending(&handle, held, Taken::Block(block));
        } else if self.family.is_from_before_exec(&handle, &block) {
            self.resources.totals.settle(&block);
            // A copy's call site may be new: the exec has not seen it.
            self.resources.totals.leave(block.site);
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
        self.unknown.count(&handle);
        self.resolve_pending(&handle, held, Taken::Unknown);
    }
}
