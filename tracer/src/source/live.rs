//! The live side of a record source: what the collector writes to the programs, and what is kept open for that.
//!
//! Takes code ranges, targets and requests to delete; hands on nothing that the ledger needs. A tape has none of this.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use tracer_common::state::Process;

use super::{RecordSource, generations::Generations};
use crate::{
    kernel::Tables,
    options::DisabledCache,
    tape::{Question, Timer},
    target::{
        Pid,
        mappings::{FileId, Mappings},
        pages::Frames,
        watch::Watch,
    },
    unwind::Library,
};

/// Minimum time between scans of memory maps, in multiples of a scan's duration: they take at most 2 percent of the
/// time.
const MAPPINGS_SHARE: u32 = 50;
/// The same for scans of descriptors and of resident pages: at most 5 percent.
const SCAN_SHARE: u32 = 20;

/// The maps, the unwind tables, and the processes.
pub(super) struct Live {
    pub(super) tables: Tables,
    pub(super) library: Library,
    generations: Generations,
    /// Report the ends of targets that have not ended yet.
    pub(super) watches: BTreeMap<Pid, Watch>,
    pub(super) timers: Timers,
    /// The machine's page frames, once they are needed.
    pub(super) frames: Option<Frames>,
}

impl Live {
    /// Nothing is watched yet.
    pub(super) fn new(tables: Tables, library: Library) -> Self {
        Self {
            tables,
            library,
            generations: Generations::default(),
            watches: BTreeMap::new(),
            timers: Timers::default(),
            frames: None,
        }
    }
}

/// When each scan is due, and when it has begun.
#[derive(Default)]
pub(super) struct Timers([Option<(Instant, Instant)>; 3]);

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
    fn begin(&mut self, timer: Timer) {
        let now = Instant::now();
        if let Some(slot) = self.of(timer) {
            *slot = Some((now, now));
        }
    }

    /// It has ended. The next one is due after a multiple of its duration.
    fn end(&mut self, timer: Timer) {
        let share = if timer == Timer::Mappings { MAPPINGS_SHARE } else { SCAN_SHARE };
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

impl RecordSource {
    /// Turns recording on or off for all programs at once.
    pub fn switch(&mut self, on: bool) -> io::Result<()> {
        self.live.as_mut().map_or(Ok(()), |live| live.tables.switch(on))
    }

    /// Waits until programs that are running have ended.
    pub fn settle(&self, time: Duration) {
        if self.live.is_some() {
            std::thread::sleep(time);
        }
    }

    /// Forgets which calls threads are in. Recording must be off.
    pub fn forget_threads(&mut self) -> io::Result<()> {
        self.live.as_mut().map_or(Ok(()), |live| live.tables.forget_threads())
    }

    /// Waits for unwind tables.
    pub fn settle_tables(&mut self, timeout: Duration) -> io::Result<()> {
        self.live.as_mut().map_or(Ok(()), |live| live.library.settle(timeout, &mut live.tables))
    }

    /// Makes a process a target, and its future children too if `follow` is set.
    pub fn add_target(&mut self, pid: Pid, follow: bool) -> io::Result<()> {
        self.live.as_mut().map_or(Ok(()), |live| live.tables.add_target(pid.0, follow))
    }

    /// A target has ended: the kernel may reuse its id.
    pub fn remove_target(&mut self, pid: Pid) {
        if let Some(live) = &mut self.live {
            live.watches.remove(&pid);
            live.generations.end(pid);
            live.tables.remove_target(pid.0);
        }
    }

    /// Passes a target's code ranges and unwind tables to the programs. Returns why that failed, if it did.
    pub fn write_code_ranges(
        &mut self,
        pid: Pid,
        mappings: &Mappings,
        options: StackOptions,
        is_allocator: impl Fn(FileId) -> bool,
    ) -> Option<String> {
        self.ask(Question::CodeRanges(pid.0), |live| {
            live.write_code_ranges(pid, mappings, options, is_allocator)
                .err()
                .map(|error| error.to_string())
        })
    }

    /// Builds the unwind tables of a target's new objects.
    pub fn learn_code(&mut self, pid: Pid, mappings: &Mappings) {
        if let Some(live) = &mut self.live {
            live.library.learn(pid, mappings);
        }
    }

    /// Forgets the tables of objects that no target maps.
    pub fn forget_unmapped(&mut self, mapped: &[&Mappings]) {
        if let Some(live) = &mut self.live {
            live.library.forget_unmapped(mapped);
        }
    }

    /// Logs that all tables are there, if they are.
    pub fn log_tables(&self) {
        if let Some(live) = &self.live {
            live.library.log_if_complete();
        }
    }

    /// Removes a connection that has ended from its socket's address.
    pub fn forget_connection(&mut self, socket: u64, number: u32) {
        if let Some(live) = &mut self.live {
            live.tables.forget_connection(socket, number);
        }
    }

    /// Deletes the release request of an object that has ended.
    pub fn delete_release_request(&self, id: &tracer_common::object::ObjectId) {
        if let Some(live) = &self.live {
            live.tables.delete_release_request(id);
        }
    }

    /// A scan begins.
    pub fn begin_scan(&mut self, timer: Timer) {
        if let Some(live) = &mut self.live {
            live.timers.begin(timer);
        }
    }

    /// A scan has ended.
    pub fn end_scan(&mut self, timer: Timer) {
        if let Some(live) = &mut self.live {
            live.timers.end(timer);
        }
    }

    /// Whether any watched process has ended; not for a tape.
    pub fn any_ended(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.watches.values().any(Watch::ended))
    }

    /// Watches a process that was opened before.
    pub fn keep_watch(&mut self, pid: Pid, watch: Watch) {
        if let Some(live) = &mut self.live {
            live.watches.insert(pid, watch);
        }
    }
}

impl Live {
    fn write_code_ranges(
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
            self.tables.forget()?;
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
