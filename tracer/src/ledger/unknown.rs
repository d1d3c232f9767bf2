//! Releases of what the ledger does not have: acquired before the attach, or released before.
//!
//! Takes handles in the order in which the ledger settles them. Remembers what was released lately, to tell a second release
//! of it from a first one. Pure.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _},
};

use foldhash::fast::FixedState;
use tracer_common::kind::Kind;

use super::{events::Handle, taken};
use crate::target::Pid;

/// Handles that are remembered at most: a second release usually follows soon. They take 1.5 MiB.
const REMEMBERED: usize = 1 << u16::BITS;

/// Such releases.
#[derive(Debug, Default)]
pub(super) struct UnknownReleases {
    /// Their number.
    pub(super) count: u64,
    /// Those of blocks: mappings and descriptors from before the attach are few, and what releases them is often something
    /// that is not recorded, as a mapped file.
    pub(super) blocks: u64,
    /// The allocators' code: its releases of unknown ranges are not counted.
    internal: HashMap<Pid, Vec<(u64, u64)>, FixedState>,
    /// The last released handle of each hash; empty before the first one.
    released: Vec<Option<Handle>>,
}

impl UnknownReleases {
    /// Counts a release of a resource whose acquisition was never seen.
    pub(super) fn count(&mut self, handle: &Handle) {
        self.count += taken::counts(handle);
        self.blocks += u64::from(handle.kind == Kind::Heap);
    }

    /// Undoes [`Self::count`].
    pub(super) fn uncount(&mut self, handle: &Handle) {
        self.count -= taken::counts(handle);
        self.blocks -= u64::from(handle.kind == Kind::Heap);
    }

    /// Sets the allocator's code in a target, as ranges `[start, end)`.
    pub(super) fn set_internal(&mut self, pid: Pid, code: Vec<(u64, u64)>) {
        self.internal.insert(pid, code);
    }

    /// Whether this address is in an allocator's own code.
    pub(super) fn is_internal(&self, pid: Pid, caller: u64) -> bool {
        let code = self.internal.get(&pid);
        code.is_some_and(|code| code.iter().any(|(start, end)| (*start..*end).contains(&caller)))
    }

    /// Undoes [`Self::count`] for a release by an allocator's own code.
    pub(super) fn excuse(&mut self, handle: &Handle, caller: u64) -> bool {
        let internal = self.is_internal(handle.pid, caller);
        if internal {
            self.uncount(handle);
        }
        internal
    }

    /// A child has its parent's code.
    pub(super) fn forked(&mut self, parent: Pid, child: Pid) {
        if let Some(code) = self.internal.get(&parent).cloned() {
            self.internal.insert(child, code);
        }
    }

    /// A target has ended.
    pub(super) fn ended(&mut self, pid: Pid) {
        self.internal.remove(&pid);
    }

    /// A resource that the ledger has was released.
    pub(super) fn released(&mut self, handle: Handle) {
        if taken::counts(&handle) == 0 {
            return;
        }
        if self.released.is_empty() {
            self.released = vec![None; REMEMBERED];
        }
        if let Some(last) = self.released.get_mut(hash(&handle)) {
            *last = Some(handle);
        }
    }

    /// A handle is in use again.
    pub(super) fn acquired(&mut self, handle: &Handle) {
        if let Some(last) = self.released.get_mut(hash(handle))
            && *last == Some(*handle)
        {
            *last = None;
        }
    }

    /// Whether a handle was released lately and is not known to be in use again.
    pub(super) fn was_released(&self, handle: &Handle) -> bool {
        self.released.get(hash(handle)).is_some_and(|last| *last == Some(*handle))
    }

    /// Recording resumes after a pause: what happened meanwhile was not seen.
    pub(super) fn resumed(&mut self) {
        self.released.fill(None);
    }
}

/// The hash of a handle.
fn hash(handle: &Handle) -> usize {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u64(handle.value);
    hasher.write_u32(handle.pid.0);
    hasher.write_u8(handle.kind as u8);
    let [low, high, ..] = hasher.finish().to_le_bytes();
    u16::from_le_bytes([low, high]).into()
}
