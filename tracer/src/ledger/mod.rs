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
mod deferred;
mod derived;
pub mod events;
pub mod fds;
mod forks;
mod lives;
mod packed;
mod past;
mod ranges;
mod resources;
mod retirement;
mod sum;
mod taken;
mod tally;
mod threads;
mod totals;
mod trees;
mod unknown;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;
use tracer_common::{
    attach::ProbeNumber,
    descriptor::{FdOrigin, FdType},
    kind::{Extent, Kind},
    stack::Digest,
    state::Died,
};

pub use self::lives::{Cohort, LIFETIMES, Lives, lifetime_end_s};
pub(crate) use self::packed::TICK_BITS;
use self::{
    connections::Connections,
    events::{Block, Event, Handle, Site},
    fds::{ClosedRanges, OpenDescriptor},
    forks::{Family, Held},
    resources::Resources,
    retirement::Retirement,
    taken::{Pending, Taken},
    threads::Threads,
    trees::{Left, Trees},
    unknown::UnknownReleases,
};
pub use self::{past::FunctionKey, sum::Sum, tally::Tally, threads::OutstandingThread};
use crate::target::Pid;

/// The table.
#[derive(Debug, Default)]
pub struct Ledger {
    resources: Resources,
    pending: HashMap<(Pid, u32), Pending, FixedState>,
    family: Family,
    trees: Trees,
    /// Processes that have ended, and whose call sites are not gone yet.
    retirement: Retirement,
    closed_ranges: ClosedRanges,
    threads: Threads,
    unknown: UnknownReleases,
    doubtful: u64,
    /// A lower bound for the acquisition times of outstanding resources, if there was any.
    earliest_ns: Option<u64>,
}

impl Ledger {
    /// Applies one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Acquired { handle, block } => self.acquired(handle, block),
            Event::Released { handle, size, position, time_ns, probe, caller, resizing } => {
                self.resources.totals.lives.advance(time_ns);
                let taken = match handle.kind.extent() {
                    Extent::Handle => {
                        let release = Held { position, thread: resizing };
                        self.released_by(handle, release, (probe, caller))
                    }
                    Extent::Range => self.unmapped(handle, size, position, caller),
                };
                if let Some(thread) = resizing {
                    self.pending.insert((handle.pid, thread), Pending { handle, taken });
                }
            }
            Event::Closed { pid, fd, position, time_ns, may_be_closed } => {
                self.resources.totals.lives.advance(time_ns);
                self.closed(pid, fd, position, may_be_closed);
            }
            Event::RangeClosed { pid, first, last, position } => {
                self.resources.totals.lives.advance(0);
                self.closed_ranges.close(&mut self.resources, pid, first..=last, position);
            }
            Event::Restored { handle, thread } => self.restored(handle, thread),
            Event::Retagged { handle, site, position } => {
                self.copy_for_use(&handle);
                self.resources.retagged(&handle, site, position);
            }
            Event::Moved { from, handle, size, position } => {
                let from = Handle { value: from, ..handle };
                self.copy_for_use(&from);
                self.resources.moved(&from, handle, size, position);
            }
            Event::Thread { handle, change, time_ns } => {
                self.resources.totals.lives.advance(time_ns);
                self.threads.apply(&mut self.resources, handle, change);
            }
            // Says to which generation of code a stack belongs; see `Ledger::generation`.
            Event::Loaded(_) => {}
            Event::Site(site) => {
                let image = self.trees.image(site.pid);
                self.resources.totals.learn(Site { image, ..site });
            }
            Event::Forked { parent, child, files, position, time_ns } => {
                self.forked(parent, child, files, (position, time_ns));
            }
            Event::Connected(record) => self.resources.totals.connections.connected(&record),
            Event::Disconnected(record) => self.resources.totals.connections.disconnected(&record),
            Event::FilesEnded { pid, position } => {
                self.resources.totals.lives.advance(0);
                self.resources.forget_descriptors(pid, position);
            }
            Event::Executed { pid, parent, position, time_ns } => {
                self.resources.totals.lives.advance(time_ns);
                self.forget_until(pid, position);
                self.family.executed(pid, position);
                self.resources.totals.executed(pid);
                if let Some(image) = self.trees.executed(pid, parent) {
                    self.resources.totals.forget_image(image);
                }
            }
            Event::Ended { pid, position, time_ns } => {
                self.resources.totals.lives.advance(time_ns);
                self.ended(pid, position);
            }
        }
    }

    /// The addresses of a call site as the BPF programs know them, once its record has been read.
    pub(crate) fn unwound(&self, site: u32) -> Option<&Arc<[u64]>> {
        self.resources.totals.unwound(site)
    }

    /// The number of the call site whose stack is that of `site` in the generations of code that these addresses have.
    pub(crate) fn generation(&mut self, site: u32, frames: Arc<[u64]>) -> u32 {
        self.resources.totals.generation(site, frames)
    }

    /// A target that its user has named; its tree begins with it.
    pub fn begin(&mut self, pid: Pid) {
        self.trees.begin(pid);
    }

    /// A target that was running when its ancestor became one.
    pub fn adopt(&mut self, ancestor: Pid, pid: Pid) {
        self.trees.adopt(ancestor, pid);
    }

    /// A target has ended. While others of its tree live, the kernel has given back what it held until `position`; the
    /// figures of the last one are final.
    pub fn ended(&mut self, pid: Pid, position: u64) {
        let Left::Others { image } = self.trees.end(pid) else { return };
        self.forget_until(pid, position);
        let Self { closed_ranges, resources, family, retirement, .. } = self;
        closed_ranges.close(resources, pid, 0..=u32::MAX, position);
        family.executed(pid, position);
        family.ended(pid);
        retirement.ended(pid);
        self.unknown.ended(pid);
        self.threads.forget(pid);
        if let Some(image) = image {
            self.resources.totals.forget_image(image);
        }
    }

    /// The call sites of processes that have ended, with the digests of their stacks, which the BPF programs are to forget.
    /// Their numbers are free some cycles later.
    pub(crate) fn unlink_stacks(&mut self) -> Vec<(u32, Digest)> {
        let sites = self.retirement.to_unlink().flat_map(|pid| self.resources.totals.numbered(pid));
        let sites = sites.map(|site| (site.number, site.digest())).collect();
        self.retirement.unlinked();
        sites
    }

    /// Number of those stacks.
    pub(crate) fn stacks_to_unlink(&self) -> usize {
        let sites = self.retirement.to_unlink().map(|pid| self.resources.totals.numbered(pid));
        sites.map(Iterator::count).sum()
    }

    /// Whether [`Self::retire`] has something to do.
    pub(crate) fn may_retire(&self) -> bool {
        self.retirement.is_ready()
    }

    /// Gives back the call sites of processes that have ended; what died young there must be known. Returns their numbers.
    pub(crate) fn retire(&mut self) -> HashSet<u32, FixedState> {
        let pids = self.retirement.take_free();
        pids.iter().for_each(|pid| self.family.forget(*pid));
        self.resources.totals.retire(&pids, |image| self.trees.user(image))
    }

    /// What processes that have ended acquired, and released by that, by function; call sites stand for the rest.
    pub fn past(&self) -> impl Iterator<Item = (FunctionKey, Sum)> {
        self.resources.totals.past()
    }

    /// Sets the time now: what has no time of its own happens now.
    pub fn set_now(&mut self, now_ns: u64) {
        self.resources.totals.lives.advance(now_ns);
    }

    /// Sets the totals of resources that died young at a call site.
    pub fn set_died(&mut self, site: usize, died: Died) {
        if died.count > 0 {
            let site = u32::try_from(site).unwrap_or(0);
            let died = self.resources.totals.set_died(site, died);
            self.resources.totals.lives.set_young(site, died.count);
        }
    }

    /// How long a call site's resources live; `None` until one of them has outlived a drain.
    pub fn lives(&self, site: u32) -> Option<Arc<Lives>> {
        self.resources.totals.lives.get(site).cloned()
    }

    /// The time that times of [`Lives`] count from: `CLOCK_MONOTONIC`, nanoseconds.
    pub const fn lives_origin_ns(&self) -> u64 {
        self.resources.totals.lives.origin_ns()
    }

    /// Releases all memory of a target: it called exec, and the kernel has taken the memory back.
    pub fn forget(&mut self, pid: Pid) {
        self.forget_until(pid, u64::MAX);
    }

    /// The same for what it had acquired until `position`.
    fn forget_until(&mut self, pid: Pid, position: u64) {
        // Its children keep their copies, and its own are gone.
        for child in self.resources.deferred.children(Some(pid)) {
            self.copy_deferred(child);
        }
        self.resources.deferred.forget(pid);
        self.resources.forget_memory(pid, position);
        self.pending.retain(|(owner, _), _| *owner != pid);
    }

    /// Recording resumes after a pause, before which everything had been read. Releases in between were not seen,
    /// so nothing waits for them.
    pub fn resumed(&mut self, now_ns: u64) {
        self.resources.resumed(now_ns);
        self.pending.clear();
        self.unknown.resumed();
    }

    /// A cycle has ended that drained everything young and read every record. Only then is it certain what
    /// the child of a fork has not inherited.
    pub fn cycled(&mut self) {
        self.closed_ranges.cycled();
        self.retirement.cycled();
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
        self.unknown.set_internal(pid, code);
    }

    /// Sets the code of a target that starts threads, as ranges `[start, end)`.
    pub fn set_thread_starts(&mut self, pid: Pid, code: Vec<(u64, u64)>) {
        self.threads.set_starts(pid, code);
    }

    /// Every thread that has not been released, in no order.
    pub fn outstanding_threads(&mut self) -> Vec<OutstandingThread> {
        self.threads.prune(&self.resources);
        self.threads.outstanding(&self.resources)
    }

    /// Sets aside every resource that a lost release may have been about: `positions` holds the position of
    /// the last lost one by slot (see [`Digest::slot`]).
    ///
    /// [`Digest::slot`]: tracer_common::stack::Digest::slot
    pub fn doubt(&mut self, positions: &[u64]) {
        self.copy_due(0, true);
        self.doubtful += self.resources.doubt(positions);
    }

    /// Call sites by number, with their stacks and totals; without the copies of processes that have ended, and without
    /// those by which the C library allocates what belongs to a thread.
    pub fn sites(&self) -> impl Iterator<Item = (u32, Option<Site>, Tally)> {
        let all = self.resources.totals.iter(|image| self.trees.user(image));
        let is_own = |site: &Site| !self.threads.is_part_of_start(site);
        let all = all.filter(move |(_, site, _)| site.as_ref().is_none_or(is_own));
        all.filter(|(_, site, tally)| {
            let copy = site.as_ref().filter(|site| site.origin.is_some());
            tally.outstanding().count > 0 || copy.is_none_or(|site| self.trees.lives(site.pid))
        })
    }

    /// One more than the highest call-site number that the BPF programs have used.
    pub fn site_numbers(&self) -> usize {
        self.resources.totals.numbers()
    }

    /// Every outstanding resource, in no order.
    pub fn outstanding(&self) -> impl Iterator<Item = Block> {
        self.resources.outstanding()
    }

    /// The outstanding block with that handle.
    pub(crate) fn block(&self, handle: &Handle) -> Option<Block> {
        self.resources.blocks.get(handle)
    }

    /// All outstanding blocks of one kind, in no order.
    pub(crate) fn blocks(&self, kind: Kind) -> impl Iterator<Item = (Handle, Block)> {
        self.resources.blocks.of_kind(kind)
    }

    /// The probe of a call site, and which of its function's two object types the call site creates: 0 or 1. `None` for
    /// a copy that came with a fork.
    pub(crate) fn constructor_of(&self, site: u32) -> Option<(ProbeNumber, u8)> {
        self.resources.totals.constructor_of(site)
    }

    /// Connections.
    pub const fn connections(&self) -> &Connections {
        &self.resources.totals.connections
    }

    /// The same, to change them.
    pub const fn connections_mut(&mut self) -> &mut Connections {
        &mut self.resources.totals.connections
    }

    /// Closes the descriptors of a table for which `is_closed` returns `true`. Returns their number.
    pub(crate) fn settle_descriptors(
        &mut self,
        pid: Pid,
        is_closed: impl FnMut(u64, &Block) -> bool,
    ) -> u64 {
        self.resources.settle_descriptors(pid, is_closed)
    }

    /// Adds a descriptor found by a scan: open since before the attach, or opened without a probe seeing it.
    pub(crate) fn found_open(
        &mut self,
        pid: Pid,
        fd: u32,
        fd_type: FdType,
        origin: FdOrigin,
        now: u64,
    ) {
        self.resources.found_open(pid, fd, fd_type, origin, now);
    }

    /// The sequence position of an open descriptor.
    pub(crate) fn open_descriptor(&self, pid: Pid, fd: u32) -> Option<u64> {
        self.resources.open_descriptor(pid, fd)
    }

    /// Every descriptor that is open, by table and number.
    pub(crate) fn open_descriptors(&self) -> Vec<OpenDescriptor> {
        self.resources.open_descriptors()
    }

    /// Forgets owed releases of descriptors: those that have not arrived by now never will.
    pub(crate) fn forget_owed_descriptors(&mut self) {
        self.resources.forget_owed_descriptors();
    }

    /// An upper bound for the ages of outstanding resources.
    pub fn longest_age_ns(&self, now_ns: u64) -> u64 {
        self.earliest_ns.map_or(0, |earliest_ns| now_ns.saturating_sub(earliest_ns))
    }

    /// Releases of resources whose acquisition was never seen.
    pub const fn unknown_releases(&self) -> u64 {
        self.unknown.count
    }

    /// Of these, releases of blocks.
    pub const fn unknown_blocks(&self) -> u64 {
        self.unknown.blocks
    }

    /// Resources set aside because their release may be among the lost ones.
    pub const fn doubtful(&self) -> u64 {
        self.doubtful
    }

    fn acquired(&mut self, handle: Handle, block: Block) {
        self.unknown.acquired(&handle);
        self.earliest_ns = Some(self.earliest_ns.map_or(block.time_ns, |ns| ns.min(block.time_ns)));
        self.resources.totals.lives.advance(block.time_ns);
        self.resources.totals.acquire(&block);
        match handle.kind.extent() {
            Extent::Range => {
                let ranges = self.resources.ranges.entry((handle.pid, handle.kind)).or_default();
                let gone = ranges.acquire(handle.value, block);
                self.resources.totals.settle_parts(&gone);
            }
            Extent::Handle => self.arrived(handle, block),
        }
    }

    fn released(&mut self, handle: Handle, release: Held) -> Taken {
        let position = release.position;
        self.copy_for_use(&handle);
        if let Some(block) = self.resources.blocks.take(&handle, position) {
            self.resources.totals.settle(&block);
            self.resources.deferred.released(&handle, &block, position);
            return Taken::Block(block);
        }
        if let Some(block) = self.resources.take_owed(&handle, position) {
            // Until now, only an upper bound of this position was known.
            self.resources.deferred.unreleased(&handle, &block);
            self.resources.deferred.released(&handle, &block, position);
            return Taken::Owed(block);
        }
        if self.family.hold(handle, release) {
            return Taken::Held(position);
        }
        self.unknown.count(&handle);
        Taken::Unknown
    }

    /// The same for a release by a call with this probe and return address.
    fn released_by(&mut self, handle: Handle, release: Held, by: (ProbeNumber, u64)) -> Taken {
        let taken = self.released(handle, release);
        match taken {
            // An allocator that empties a thread's cache frees what was free already.
            Taken::Unknown if self.unknown.excuse(&handle, by.1) => return Taken::Nothing,
            Taken::Unknown if release.thread.is_none() && self.unknown.was_released(&handle) => {
                let image = self.trees.image(handle.pid);
                self.resources.totals.release_again((handle.pid, image), by);
            }
            Taken::Block(_) | Taken::Owed(_) => self.unknown.released(handle),
            _ => {}
        }
        taken
    }

    /// Closes a descriptor, if it was open.
    fn closed(&mut self, pid: Pid, fd: u32, position: u64, may_be_closed: bool) {
        let handle = Handle { pid, kind: Kind::Descriptor, value: fd.into() };
        let taken = self.released(handle, Held { position, thread: None });
        if may_be_closed && matches!(taken, Taken::Unknown) {
            self.unknown.uncount(&handle);
        }
    }

    fn unmapped(&mut self, handle: Handle, size: u64, position: u64, caller: u64) -> Taken {
        let ranges = self.resources.ranges.entry((handle.pid, handle.kind)).or_default();
        let gone = ranges.release(handle.value, size, position);
        if gone.is_empty() {
            if self.unknown.is_internal(handle.pid, caller) {
                return Taken::Nothing;
            }
            self.unknown.count(&handle);
            return Taken::Unknown;
        }
        self.resources.totals.settle_parts(&gone);
        Taken::Parts(gone)
    }

    fn restored(&mut self, handle: Handle, thread: u32) {
        let Some(pending) = self.pending.remove(&(handle.pid, thread)) else { return };
        if pending.handle != handle {
            return;
        }
        match pending.taken {
            Taken::Block(block) => {
                self.resources.totals.unsettle(&block);
                self.resources.deferred.unreleased(&handle, &block);
                self.resources.place(handle, block);
            }
            Taken::Parts(parts) => {
                for part in parts {
                    self.resources.totals.unsettle_part(&part);
                    let ranges =
                        self.resources.ranges.entry((handle.pid, handle.kind)).or_default();
                    let gone = ranges.restore(&part);
                    self.resources.totals.settle_parts(&gone);
                }
            }
            Taken::Unknown => self.unknown.uncount(&handle),
            Taken::Owed(block) => self.resources.owed.entry(handle).or_default().push(block),
            Taken::Held(position) => self.family.unhold(&handle, position),
            Taken::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests;
