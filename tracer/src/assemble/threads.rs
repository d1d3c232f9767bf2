//! Threads of call sites, and the children that targets have not waited for.
//!
//! Takes snapshots, passes on parts of reports. Pure.

use std::collections::BTreeMap;

use super::{Resource, Snapshot};
use crate::{
    report::{Threads, Zombies},
    snapshot::SiteThreads,
    target::Pid,
};

/// Names of programs whose zombies a process has, at most: one has a few.
const MOST_ZOMBIES: usize = 20;

/// The threads of a call site, and the resident memory of their stacks; `None` for other kinds.
pub(super) fn of(
    kind: &Resource,
    snapshot: &Snapshot,
    site: u32,
) -> (Option<Threads>, Option<u64>) {
    if !kind.is_thread() {
        return (None, None);
    }
    let SiteThreads { alive, ended, stack_bytes, resident_bytes } =
        snapshot.threads.get(&site).copied().unwrap_or_default();
    (Some(Threads { alive, ended, stack_bytes }), Some(resident_bytes))
}

/// What the stacks of a call site's threads take: of their address space, only what is resident takes memory.
pub(super) fn resident(snapshot: &Snapshot, site: u32) -> u64 {
    snapshot.threads.get(&site).map_or(0, |threads| threads.resident_bytes)
}

/// The children of each process that it has not waited for, as last seen.
#[derive(Debug, Default)]
pub(super) struct AllZombies(BTreeMap<Pid, Vec<Zombies>>);

impl AllZombies {
    /// Learns those of a snapshot.
    pub(super) fn learn(&mut self, snapshot: &Snapshot) {
        for (pid, seen) in snapshot.limits.iter().flat_map(|limits| &limits.zombies) {
            let named = seen.iter().map(|(name, count)| (name.clone(), *count));
            let named = named.map(|(name, count)| Zombies { name, count });
            self.0.insert(*pid, named.take(MOST_ZOMBIES).collect());
        }
    }

    /// Those of a process.
    pub(super) fn of(&self, pid: Pid) -> Vec<Zombies> {
        self.0.get(&pid).cloned().unwrap_or_default()
    }

    /// Forgets a process.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.0.remove(&pid);
    }
}
