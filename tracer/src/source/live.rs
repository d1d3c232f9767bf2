//! The live side of a record source: what is kept open to ask the kernel and to write to its programs.
//!
//! Takes code ranges, targets and requests to delete; passes on nothing that the ledger needs. A tape has none of this.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use tracer_common::state::Process;

use super::generations::Generations;
use crate::{
    kernel::{CodeLoads, Tables},
    options::DisabledCache,
    tape::Timer,
    target::{
        Pid,
        limits::{ProcessReader, SharedReader},
        mappings::{FileId, Mappings},
        pages::Frames,
        watch::Watch,
    },
    unwind::Library,
};

/// Minimum time between scans of memory maps, or of limits, in multiples of a scan's duration: they take at most 2 percent
/// of the time.
const MAPPINGS_SHARE: u32 = 50;
/// The same for scans of descriptors and of resident pages: at most 5 percent.
const SCAN_SHARE: u32 = 20;

/// The maps, the unwind tables, and the processes.
pub(super) struct Live {
    pub(super) tables: Tables,
    pub(super) library: Library,
    pub(super) generations: Generations,
    /// Reports code that is mapped, if the kernel does.
    pub(super) code_loads: Option<CodeLoads>,
    /// Report the ends of targets that have not ended yet.
    pub(super) watches: BTreeMap<Pid, Watch>,
    /// Those of them whose end is to be reported at once.
    pub(super) prompt: BTreeSet<Pid>,
    /// When memory maps were read whose code has not changed since, as far as the kernel has reported.
    pub(super) maps_read: BTreeMap<Pid, Instant>,
    pub(super) timers: Timers,
    /// The machine's page frames, once they are needed.
    pub(super) frames: Option<Frames>,
    /// Read limits.
    pub(super) process_limits: ProcessReader,
    pub(super) shared_limits: SharedReader,
}

impl Live {
    /// Nothing is watched yet.
    pub(super) fn new(tables: Tables, library: Library) -> Self {
        Self {
            tables,
            library,
            generations: Generations::default(),
            code_loads: CodeLoads::open()
                .inspect_err(|error| log::info!("loaded code is known from /proc only: {error}"))
                .ok(),
            watches: BTreeMap::new(),
            prompt: BTreeSet::new(),
            maps_read: BTreeMap::new(),
            timers: Timers::default(),
            frames: None,
            process_limits: ProcessReader::default(),
            shared_limits: SharedReader::default(),
        }
    }
}

/// For how long a memory map counts as it was read, while the kernel reports no new code: so long for each target. Each exec
/// has those of all targets looked at; fifty logins on a server of a hundred processes would have thousands of them read.
const MAPS_STAY: Duration = Duration::from_millis(2);

impl Live {
    /// Whether the memory map of a process has just been read.
    pub(super) fn knows_maps(&self, pid: Pid) -> bool {
        let read = self.maps_read.get(&pid).filter(|_| self.code_loads.is_some());
        let targets = u32::try_from(self.watches.len()).unwrap_or(u32::MAX);
        read.is_some_and(|read| read.elapsed() < MAPS_STAY.saturating_mul(targets))
    }
}

/// When each scan is due, and when it has begun.
#[derive(Default)]
pub(super) struct Timers([Option<(Instant, Instant)>; 4]);

impl Timers {
    fn of(&mut self, timer: Timer) -> Option<&mut Option<(Instant, Instant)>> {
        self.0.get_mut(timer as usize)
    }

    /// Whether a scan is due.
    pub(super) fn is_due(&mut self, timer: Timer) -> bool {
        let now = Instant::now();
        self.of(timer).and_then(|slot| *slot).is_none_or(|(_, next)| now >= next)
    }

    /// A scan begins.
    pub(super) fn begin(&mut self, timer: Timer) {
        let now = Instant::now();
        if let Some(slot) = self.of(timer) {
            *slot = Some((now, now));
        }
    }

    /// It has ended. The next one is due after a multiple of its duration.
    pub(super) fn end(&mut self, timer: Timer) {
        let share = match timer {
            Timer::Mappings | Timer::Limits => MAPPINGS_SHARE,
            Timer::Descriptors | Timer::Pages => SCAN_SHARE,
        };
        if let Some(Some((begun, next))) = self.of(timer) {
            *next = Instant::now() + begun.elapsed() * share;
        }
    }
}

/// The parts of a target's description that the collector's options decide.
#[derive(Clone, Copy, Debug)]
pub struct StackOptions {
    /// Maximum number of frames per stack.
    pub frames: u32,
    /// The cache to disable.
    pub forget: Option<DisabledCache>,
}

impl Live {
    /// Passes a target's code ranges and unwind tables to the programs.
    pub(super) fn write_code_ranges(
        &mut self,
        pid: Pid,
        mappings: &Mappings,
        options: StackOptions,
        is_allocator: impl Fn(FileId) -> bool,
    ) -> io::Result<()> {
        let ranges = self.library.ranges(pid, mappings, is_allocator);
        let Some(next) = self.generations.next(pid) else {
            return Err(io::Error::other("too many targets"));
        };
        if next.wrapped {
            self.tables.clear_caches()?;
        }
        let mut process = Process::new(next.number, next.count, &ranges);
        process.depth = options.frames;
        match options.forget {
            None => process.walks = 1,
            Some(DisabledCache::Walks) => {}
            Some(DisabledCache::Addresses) => process.generation = 0,
        }
        process.trampoline = mappings
            .iter()
            .find(|mapping| mapping.special.as_deref() == Some("[uprobes]"))
            .map_or(0, |mapping| mapping.start);
        self.tables.write_code_ranges(pid.0, &process)
    }
}
