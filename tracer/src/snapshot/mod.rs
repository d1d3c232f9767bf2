//! The snapshot: THE WAIST. Only code left of it needs root, the kernel and a clock.
//!
//! Takes the ledger at one moment, passes on plain figures with addresses instead of names.

mod ages;
pub mod windows;

use std::{collections::BTreeMap, sync::Arc};

use tracer_common::{attach::ProbeNumber, descriptor::FdType, loss::Loss, stack::StackEnd};

use self::{
    ages::add_ages,
    windows::{Batches, Sampling},
};
use crate::{
    ledger::{
        FunctionKey, Ledger, Lives, Sum,
        connections::{Figures, LeftBehind},
    },
    lib_objects::ledger::Objects,
    reconcile::{
        fds::FdDetails,
        heap::{HeapSums, Verified},
    },
    target::{
        Identity, Pid,
        limits::{Bounded, ProcessReading},
        mappings::Mappings,
        usage::ProcessUsage,
        zombies::Zombies,
    },
};

/// The state of all targets at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Whether this is the last one.
    pub last: bool,
    /// Call sites that acquired anything, by number.
    pub sites: Vec<SiteFigures>,
    /// Threads of the minimum age that have not been released, by number of their call site.
    pub threads: BTreeMap<u32, SiteThreads>,
    /// The time that the times of their lives count from: `CLOCK_MONOTONIC`, nanoseconds.
    pub lives_origin_ns: u64,
    /// Losses by reason, only those that occurred.
    pub losses: BTreeMap<Loss, u64>,
    /// Releases of resources whose acquisition was never seen.
    pub unknown_releases: u64,
    /// Of these, releases of blocks.
    pub unknown_blocks: u64,
    /// Hits and failed acquisitions, by probe number.
    pub hits: Vec<(u64, u64)>,
    /// Open file descriptors, by process and number.
    pub descriptors: Vec<FdDetails>,
    /// Numbers of descriptors that were opened, and closed, without a probe seeing it.
    pub unseen: (u64, u64),
    /// Library objects, where they are traced.
    pub objects: Option<Objects>,
    /// Connections, where they are traced.
    pub connections: Option<Figures>,
    /// What processes that have ended acquired, and released by that, by function; without what a call site stands for.
    pub past: Vec<(FunctionKey, Sum)>,
    /// Targets that have ended: those whose figures are final, and others since the last snapshot.
    pub ended: Vec<Pid>,
    /// Resident memory of the others, bytes.
    pub resident: BTreeMap<Pid, u64>,
    /// Their memory and limits; `None` while the last reading was a short while ago.
    pub limits: Option<LimitReadings>,
    /// Sums over their heaps, from the last look at them; `None` while they could not be read.
    pub heap: Option<HeapSums>,
    /// In the last snapshot: how outstanding blocks compare with the heaps; `None` if they were not asked.
    pub verified: Option<Verified>,
    /// In light mode: the kernel's figures for them.
    pub usage: Option<TargetUsage>,
    /// Progress of the unwind tables.
    pub unwind: crate::unwind::Status,
    /// Files without an unwind table because there was no space for it.
    pub without_table: Vec<String>,
    /// Process events since the last snapshot, in order.
    pub process_events: Vec<ProcessEvent>,
    /// Sampling under a budget; `None` without one. The figures of call sites cover what was recorded.
    pub sampling: Option<Sampling>,
    /// Memory maps of the targets whose maps have changed since the last snapshot, in order.
    pub mappings: Vec<(Pid, Arc<Mappings>)>,
}

/// Threads that have not been released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteThreads {
    /// Those that run.
    pub alive: u64,
    /// Those that have ended.
    pub ended: u64,
    /// Address space of their stacks, bytes.
    pub stack_bytes: u64,
    /// Resident memory of their stacks, bytes.
    pub resident_bytes: u64,
}

impl SiteThreads {
    /// Adds others.
    pub(crate) const fn merge(&mut self, other: Self) {
        self.alive += other.alive;
        self.ended += other.ended;
        self.stack_bytes += other.stack_bytes;
        self.resident_bytes += other.resident_bytes;
    }
}

/// Memory and limits of the targets that run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitReadings {
    /// Those of each process.
    pub processes: BTreeMap<Pid, ProcessReading>,
    /// The children of each that it has not waited for.
    pub zombies: BTreeMap<Pid, Zombies>,
    /// Those that they share with each other or with the rest of the system.
    pub shared: Vec<Bounded>,
}

/// The kernel's figures for the targets that run.
#[derive(Clone, Debug, Default)]
pub struct TargetUsage {
    /// The figures at the start, and when that was: `CLOCK_MONOTONIC`, nanoseconds.
    pub start: Arc<(u64, BTreeMap<Pid, ProcessUsage>)>,
    /// The figures now.
    pub now: BTreeMap<Pid, ProcessUsage>,
    /// Whether the kernel shows which page frames there are.
    pub frames_are_shown: bool,
}

/// A process has become a target, or a target has called exec.
#[derive(Clone, Debug)]
pub struct ProcessEvent {
    /// The process.
    pub pid: Pid,
    /// The target that it is a child of, if it was no target before.
    pub parent: Option<Pid>,
    /// Its identity now, if it still existed when it was read.
    pub identity: Option<Identity>,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Whether it called exec.
    pub executed: bool,
}

/// One call site at that moment, of one process, or of all that run the same code.
#[derive(Clone, Debug)]
pub struct SiteFigures {
    /// Its number.
    pub number: u32,
    /// Its target; `None` for the unknown call site.
    pub pid: Option<Pid>,
    /// Number of the probe; `None` for the unknown call site.
    pub probe: Option<ProbeNumber>,
    /// The type of the descriptors that are opened there.
    pub fd_type: FdType,
    /// For a function that creates objects of two types: which one, 0 or 1.
    pub detail: u8,
    /// Return addresses, innermost first.
    pub frames: Arc<[u64]>,
    /// Why unwinding stopped.
    pub end: StackEnd,
    /// Whether the target has called exec since: the addresses belong to the former program's memory.
    pub former: bool,
    /// The call site that this is a copy of, if it came with a fork; its own number if that one is gone, or if it stands
    /// for processes that have ended.
    pub origin: Option<u32>,
    /// The program in memory that the addresses belong to: equal for processes that have forked from each other.
    pub image: u32,
    /// Resources acquired.
    pub acquired: Sum,
    /// Copies of the parent's resources, which came with a fork; not included in `acquired`.
    pub inherited: Sum,
    /// Resources released.
    pub released: Sum,
    /// Outstanding resources.
    pub outstanding: Sum,
    /// The outstanding resources of the minimum age.
    pub aged: Sum,
    /// Their ages.
    pub ages: Option<Ages>,
    /// The outstanding resources that closed connections left behind.
    pub orphans: LeftBehind,
    /// How long its resources live, if any has outlived a drain.
    pub lives: Option<Arc<Lives>>,
    /// What is in these figures and says nothing about a leak.
    pub apart: Apart,
    /// The outstanding resources of the minimum age by process, most first, where it has those of several.
    pub processes: Vec<(Pid, Sum)>,
    /// Figures by batch, where there is a budget.
    pub batches: Option<Box<Batches>>,
}

/// The part of a call site's figures that says nothing about a leak: copies that came with forks, while the originals are
/// there, and what processes did that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    /// Of the resources acquired.
    pub acquired: Sum,
    /// Of those released.
    pub released: Sum,
    /// Of those outstanding.
    pub outstanding: Sum,
}

impl Default for SiteFigures {
    /// The unknown call site, with nothing.
    fn default() -> Self {
        Self {
            number: 0,
            pid: None,
            probe: None,
            fd_type: FdType::Unknown,
            detail: 0,
            frames: Arc::from([]),
            end: StackEnd::Unreadable,
            former: false,
            origin: None,
            image: 0,
            acquired: Sum::default(),
            inherited: Sum::default(),
            released: Sum::default(),
            outstanding: Sum::default(),
            aged: Sum::default(),
            ages: None,
            orphans: LeftBehind::default(),
            lives: None,
            apart: Apart::default(),
            processes: Vec::new(),
            batches: None,
        }
    }
}

impl SiteFigures {
    /// The resources acquired that say something about a leak.
    pub(crate) const fn judged_acquired(&self) -> Sum {
        self.acquired.without(self.apart.acquired)
    }

    /// The same of those released.
    pub(crate) const fn judged_released(&self) -> Sum {
        self.released.without(self.apart.released)
    }

    /// The same of those outstanding.
    pub(crate) const fn judged_outstanding(&self) -> Sum {
        self.outstanding.without(self.apart.outstanding)
    }
}

/// Ages in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// The youngest.
    pub min_ms: u32,
    /// The median. With more than a million resources outstanding (of all targets), it is within 1.6 percent.
    pub median_ms: u32,
    /// The oldest.
    pub max_ms: u32,
}

impl Ages {
    /// The ages of two groups with so many members: the median is that of the larger one.
    pub(crate) fn merged(self, other: Self, count: u64, other_count: u64) -> Self {
        Self {
            min_ms: self.min_ms.min(other.min_ms),
            median_ms: if other_count > count { other.median_ms } else { self.median_ms },
            max_ms: self.max_ms.max(other.max_ms),
        }
    }
}

/// The figures of every call site that acquired anything; resources left behind by connections as of their last
/// settlement. `pause` is called again and again, at most a few milliseconds apart, for work that cannot wait for
/// the end of the walk.
pub fn site_figures(
    ledger: &Ledger,
    now_ns: u64,
    min_age_ns: u64,
    pause: impl FnMut(),
) -> Vec<SiteFigures> {
    let mut figures: Vec<SiteFigures> = ledger
        .sites()
        .filter(|(_, _, tally)| tally.acquired().count + tally.inherited().count > 0)
        .map(|(number, site, tally)| SiteFigures {
            number,
            pid: site.as_ref().map(|site| site.pid),
            probe: site.as_ref().map(|site| site.probe),
            fd_type: site.as_ref().map_or(FdType::Unknown, |site| site.fd_type),
            detail: site.as_ref().map_or(0, |site| site.detail),
            former: site.as_ref().is_some_and(|site| site.former),
            origin: site.as_ref().and_then(|site| site.origin),
            image: site.as_ref().map_or(0, |site| site.image),
            end: site.as_ref().map_or(StackEnd::Unreadable, |site| site.end),
            frames: site.map_or_else(|| Arc::from([]), |site| site.frames),
            acquired: tally.acquired(),
            inherited: tally.inherited(),
            released: tally.released(),
            outstanding: tally.outstanding(),
            aged: Sum::default(),
            ages: None,
            orphans: ledger.connections().left_behind(number),
            lives: ledger.lives(number),
            apart: Apart::default(),
            processes: Vec::new(),
            batches: None,
        })
        .collect();
    add_ages(ledger, &mut figures, now_ns, min_age_ns, pause);
    figures
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::Kind;

    use super::*;
    use crate::ledger::events::{Block, Event, Handle};

    #[test]
    fn ages_cover_resources_of_the_minimum_age_and_sums_cover_all() {
        let mut ledger = Ledger::default();
        for (value, seconds) in [(1, 9), (2, 5), (3, 1)] {
            let block = Block {
                size: 10,
                time_ns: (10 - seconds) * 1_000_000_000,
                position: 0,
                site: 3,
                connection: 0,
            };
            let handle = Handle { pid: Pid(1), kind: Kind::Heap, value };
            ledger.apply(Event::Acquired { handle, block });
        }
        let figures = site_figures(&ledger, 10_000_000_000, 2_000_000_000, || {});
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].outstanding, Sum { count: 3, bytes: 30 });
        assert_eq!(figures[0].aged, Sum { count: 2, bytes: 20 });
        assert_eq!(figures[0].ages, Some(Ages { min_ms: 5000, median_ms: 9000, max_ms: 9000 }));
    }
}
