//! Threads that have not been released: which of them are detached, and which have ended.
//!
//! A part of the ledger. A thread is released when it is joined, which is a release as any other, or when it is detached
//! and has ended, in whichever order: that is decided here. So is which call sites are within the function that starts
//! threads: a stack that the C library keeps for the next thread belongs to that one, not to who started the first. Pure.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::kind::Kind;

use super::{
    events::{Handle, Site, ThreadChange},
    resources::Resources,
};
use crate::target::Pid;

/// Innermost frames among which the function that starts threads may be: it calls the dynamic linker, which allocates
/// thread-local storage, in two functions of its own.
const WITHIN: usize = 4;

/// A thread that has not been released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutstandingThread {
    /// Its handle; of threads, that is the address of a structure at the top of its stack.
    pub handle: Handle,
    /// Number of its call site.
    pub site: u32,
    /// `CLOCK_MONOTONIC` of its start, nanoseconds.
    pub time_ns: u64,
    /// Whether it has ended.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    detached: bool,
    ended: bool,
}

/// The state of threads that are no longer as they were at their start.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// By handle and sequence position of the start: another thread may have the handle later.
    states: HashMap<(Handle, u64), State, FixedState>,
    /// The code that starts threads, as ranges `[start, end)`.
    starts: HashMap<Pid, Vec<(u64, u64)>, FixedState>,
}

impl Threads {
    /// The thread with this handle has changed its state.
    pub(super) fn apply(
        &mut self,
        resources: &mut Resources,
        handle: Handle,
        change: ThreadChange,
    ) {
        match change {
            ThreadChange::Detached(position) => self.detached(resources, handle, position),
            ThreadChange::Ended(started) => self.ended(resources, handle, started),
        }
    }

    /// The thread with this handle is detached.
    fn detached(&mut self, resources: &mut Resources, handle: Handle, position: u64) {
        let present = resources.blocks.get(&handle);
        // If another thread has its handle by now, it was released before.
        let Some(thread) = present.filter(|thread| thread.position <= position) else { return };
        let key = (handle, thread.position);
        let state = self.states.entry(key).or_default();
        state.detached = true;
        if state.ended {
            self.release(resources, key);
        }
    }

    /// The thread with this handle has ended which was started at `started`.
    fn ended(&mut self, resources: &mut Resources, handle: Handle, started: u64) {
        let key = (handle, started);
        if resources.blocks.get(&handle).is_none_or(|thread| thread.position != started) {
            // It was joined, or another thread has its handle, which proves that it was released.
            self.states.remove(&key);
            _ = resources.take_owed(&handle, started);
            return;
        }
        let state = self.states.entry(key).or_default();
        state.ended = true;
        if state.detached {
            self.release(resources, key);
        }
    }

    fn release(&mut self, resources: &mut Resources, key: (Handle, u64)) {
        self.states.remove(&key);
        if let Some(thread) = resources.blocks.take(&key.0, key.1) {
            resources.totals.settle(&thread);
        }
    }

    /// Every thread that has not been released, in no order.
    pub(super) fn outstanding(&self, resources: &Resources) -> Vec<OutstandingThread> {
        let threads = resources.blocks.of_kind(Kind::Thread).map(|(handle, thread)| {
            let state = self.states.get(&(handle, thread.position));
            let ended = state.is_some_and(|state| state.ended);
            OutstandingThread { handle, site: thread.site, time_ns: thread.time_ns, ended }
        });
        threads.collect()
    }

    /// Forgets the states of threads that were released.
    pub(super) fn prune(&mut self, resources: &Resources) {
        self.states.retain(|(handle, started), _| {
            resources.blocks.get(handle).is_some_and(|thread| thread.position == *started)
        });
    }

    /// Sets the code of a target that starts threads.
    pub(super) fn set_starts(&mut self, pid: Pid, code: Vec<(u64, u64)>) {
        self.starts.insert(pid, code);
    }

    /// A child has the code of its parent.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid) {
        if let Some(code) = self.starts.get(&parent).cloned() {
            self.starts.insert(child, code);
        }
    }

    /// Forgets a process.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.starts.remove(&pid);
    }

    /// Whether what is acquired at a call site belongs to a thread that is being started.
    pub(super) fn is_part_of_start(&self, site: &Site) -> bool {
        let Some(code) = self.starts.get(&site.pid) else { return false };
        let mut within = site.unwound.iter().take(WITHIN);
        within.any(|frame| code.iter().any(|(start, end)| (*start..*end).contains(frame)))
    }
}

#[cfg(test)]
#[path = "threads_tests.rs"]
mod tests;
