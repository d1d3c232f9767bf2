//! Typed access to the maps that user space reads and writes.
//!
//! Takes the maps of the loaded object, passes on plain values. The names of maps are defined here.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, Queue, RingBuf},
};
use tracer_common::{
    limits,
    record::Change,
    stack::Digest,
    stack_cache::CachedWalk,
    state::{
        Connection, DIED_SITES, Died, DiedPage, Key, Process, Target, Thread, Young, memory_state,
    },
    unwind::{Page, Rule, RuleNumber},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    batch,
    counters::Counters,
    cpus::{cpus, died_stripes},
    failed::KernelError,
    lib_objects::LibObjects,
    missed_runs::MissedRuns,
    priority_guard::PriorityGuards,
};

/// The maps that must be in the object.
#[cfg(test)]
pub(super) const NAMES: [&str; 28] = [
    SWITCH,
    TARGETS,
    BLANK_PROCESS,
    PROCESSES,
    YOUNG,
    DIED,
    SITES,
    FREE_SITES,
    CONNECTIONS,
    FREE_CONNECTIONS,
    OBJECTS,
    ASKS,
    OBJECT_FUNCTIONS,
    RECORDS,
    UNWIND_PAGES,
    RULES,
    RULE_CACHE,
    STACK_CACHE,
    DOUBT,
    LOSSES,
    HITS,
    FAILED,
    SYSCALLS,
    STATES,
    THREADS,
    THREAD_STATES,
    FREE_THREAD_STATES,
    STARTED,
];
const SWITCH: &str = "SWITCH";
pub(super) const TARGETS: &str = "TARGETS";
const BLANK_PROCESS: &str = "BLANK_PROCESS";
pub(super) const PROCESSES: &str = "PROCESSES";
pub(super) const YOUNG: &str = "YOUNG";
pub(super) const DIED: &str = "DIED";
const SITES: &str = "SITES";
const FREE_SITES: &str = "FREE_SITES";
pub(super) const CONNECTIONS: &str = "CONNECTIONS";
pub(super) const OBJECTS: &str = "OBJECTS";
pub(super) const ASKS: &str = "ASKS";
pub(super) const OBJECT_FUNCTIONS: &str = "OBJECT_FUNCTIONS";
pub(super) const FREE_CONNECTIONS: &str = "FREE_CONNECTIONS";
const RECORDS: &str = "RECORDS";
pub(super) const UNWIND_PAGES: &str = "UNWIND_PAGES";
const RULES: &str = "RULES";
const RULE_CACHE: &str = "RULE_CACHE";
const STACK_CACHE: &str = "STACK_CACHE";
const DOUBT: &str = "DOUBT";
const LOSSES: &str = "LOSSES";
const HITS: &str = "HITS";
const FAILED: &str = "FAILED";
const STATES: &str = "STATES";
const SYSCALLS: &str = "SYSCALLS";
pub(super) const THREADS: &str = "THREADS";
pub(super) const THREAD_STATES: &str = "THREAD_STATES";
pub(super) const FREE_THREAD_STATES: &str = "FREE_THREAD_STATES";
pub(super) const STARTED: &str = "STARTED";

/// A drain that returns more than one part in this many of the capacity of `YOUNG` came late.
const CROWDED_DIVISOR: usize = 4;

/// A value for which every bit pattern is valid and which has no padding: aya's plain old data.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: zerocopy's derives have checked exactly what the trait promises.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Pod for Plain<T> {}

/// A resource drained from `YOUNG`.
pub type Drained = (Key, Young);

/// A pool of ids that the programs allocate from.
#[derive(Clone, Copy, Debug)]
pub enum IdPool {
    /// Ids of call sites.
    Sites,
    /// Indexes of thread states.
    ThreadStates,
    /// Ids of connections.
    Connections,
}

/// The maps.
pub struct Tables {
    switch: Array<MapData, u32>,
    targets: HashMap<MapData, u32, Plain<Target>>,
    processes: HashMap<MapData, u32, Plain<Process>>,
    states: Array<MapData, u32>,
    young: MapData,
    /// A drain that returns more entries came late.
    late_drain_entries: usize,
    /// Whether the last drain came late.
    drained_late: bool,
    young_buffer: batch::Buffer<Key, Young>,
    died: MapData,
    died_buffer: Vec<DiedPage>,
    /// Copies of the counters of resources that died young.
    died_stripes: usize,
    sites: HashMap<MapData, Plain<Digest>, u32>,
    free_sites: Queue<MapData, u32>,
    connections: HashMap<MapData, u64, Plain<[u8; size_of::<Connection>()]>>,
    free_connections: Queue<MapData, u32>,
    /// The maps of library objects.
    pub lib_objects: LibObjects,
    records: RingBuf<MapData>,
    unwind_pages: Array<MapData, Plain<Page>>,
    rules: Array<MapData, Plain<Rule>>,
    rule_cache: MapData,
    stack_cache: MapData,
    doubt: MapData,
    /// What the programs and the kernel count.
    pub counters: Counters,
    threads: HashMap<MapData, u64, u32>,
    /// Opaque to user space.
    thread_states: Array<MapData, Plain<[u8; size_of::<Thread>()]>>,
    free_thread_states: Queue<MapData, u32>,
    guards: PriorityGuards,
}

impl Tables {
    /// Takes the maps out of a loaded object; its programs keep using them.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        guards: PriorityGuards,
        missed_runs: MissedRuns,
    ) -> Result<Self, KernelError> {
        let mut map = |name: &'static str| ebpf.take_map(name).ok_or(KernelError::Missing { name });
        let wrong = |name: &'static str| move |_: MapError| KernelError::Missing { name };
        let young = data(map(YOUNG)?, YOUNG)?;
        let died_stripes = died_stripes(cpus()?) as usize;
        let mut blank: Array<MapData, Plain<Process>> =
            map(BLANK_PROCESS)?.try_into().map_err(wrong(BLANK_PROCESS))?;
        blank.set(0, Plain(Process::new(0, 0, &[])), 0).map_err(wrong(BLANK_PROCESS))?;
        Ok(Self {
            targets: map(TARGETS)?.try_into().map_err(wrong(TARGETS))?,
            switch: map(SWITCH)?.try_into().map_err(wrong(SWITCH))?,
            processes: map(PROCESSES)?.try_into().map_err(wrong(PROCESSES))?,
            states: map(STATES)?.try_into().map_err(wrong(STATES))?,
            late_drain_entries: young.info().map_err(wrong(YOUNG))?.max_entries() as usize
                / CROWDED_DIVISOR,
            young,
            drained_late: false,
            young_buffer: batch::Buffer::new(),
            died: data(map(DIED)?, DIED)?,
            died_buffer: Vec::new(),
            died_stripes,
            sites: map(SITES)?.try_into().map_err(wrong(SITES))?,
            free_sites: map(FREE_SITES)?.try_into().map_err(wrong(FREE_SITES))?,
            connections: map(CONNECTIONS)?.try_into().map_err(wrong(CONNECTIONS))?,
            free_connections: map(FREE_CONNECTIONS)?.try_into().map_err(wrong(FREE_CONNECTIONS))?,
            lib_objects: LibObjects::new(
                data(map(OBJECTS)?, OBJECTS)?,
                data(map(ASKS)?, ASKS)?,
                guards,
            ),
            records: map(RECORDS)?.try_into().map_err(wrong(RECORDS))?,
            unwind_pages: map(UNWIND_PAGES)?.try_into().map_err(wrong(UNWIND_PAGES))?,
            rules: map(RULES)?.try_into().map_err(wrong(RULES))?,
            rule_cache: data(map(RULE_CACHE)?, RULE_CACHE)?,
            stack_cache: data(map(STACK_CACHE)?, STACK_CACHE)?,
            doubt: data(map(DOUBT)?, DOUBT)?,
            counters: Counters {
                losses: map(LOSSES)?.try_into().map_err(wrong(LOSSES))?,
                hits: map(HITS)?.try_into().map_err(wrong(HITS))?,
                failed: map(FAILED)?.try_into().map_err(wrong(FAILED))?,
                syscalls: map(SYSCALLS)?.try_into().map_err(wrong(SYSCALLS))?,
                missed_runs,
                guards,
            },
            threads: map(THREADS)?.try_into().map_err(wrong(THREADS))?,
            thread_states: map(THREAD_STATES)?.try_into().map_err(wrong(THREAD_STATES))?,
            free_thread_states: map(FREE_THREAD_STATES)?
                .try_into()
                .map_err(wrong(FREE_THREAD_STATES))?,
            guards,
        })
    }

    /// Turns recording on or off for all programs at once.
    pub fn switch(&mut self, on: bool) -> io::Result<()> {
        let _guard = self.guards.begin();
        self.counters.missed_runs.switch(on);
        self.switch.set(0, u32::from(on), 0).map_err(io::Error::other)
    }

    /// Makes a process a target, and its future children too if `follow` is set. Its code ranges must be written first
    /// ([`Self::write_code_ranges`]).
    pub fn add_target(&mut self, pid: u32, follow: bool) -> io::Result<()> {
        let _guard = self.guards.begin();
        let number = self.processes.get(&pid, 0).map_err(io::Error::other)?.0.number;
        let follow = u32::from(follow);
        let target = Target { owner: pid, follow, programs: 0, number, files: pid, padding: 0 };
        self.targets.insert(pid, Plain(target), 0).map_err(io::Error::other)
    }

    /// Removes a target that has ended: the kernel may reuse its id.
    pub fn remove_target(&mut self, pid: u32) {
        let _guard = self.guards.begin();
        // Absent for a child that was never followed.
        drop((self.targets.remove(&pid), self.processes.remove(&pid)));
    }

    /// Writes a target's code ranges for the programs, or updates them.
    pub fn write_code_ranges(&mut self, pid: u32, process: &Process) -> io::Result<()> {
        let _guard = self.guards.begin();
        let state = memory_state(process.generation, process.walks);
        // In this order: stacks cached under the new state must come from the new ranges.
        self.processes
            .insert(pid, Plain(*process), 0)
            .and_then(|()| self.states.set(process.number, state, 0))
            .map_err(io::Error::other)
    }

    /// Capacity for unwind tables, in pages.
    pub fn unwind_pages(&self) -> u32 {
        self.unwind_pages.len()
    }

    /// Writes a page of unwind rows.
    pub fn write_unwind_page(&mut self, index: u32, page: &Page) -> io::Result<()> {
        let _guard = self.guards.begin();
        self.unwind_pages.set(index, Plain(*page), 0).map_err(io::Error::other)
    }

    /// Writes the unwind rule with this number.
    pub fn write_unwind_rule(&mut self, number: RuleNumber, rule: &Rule) -> io::Result<()> {
        let _guard = self.guards.begin();
        self.rules.set(number.into(), Plain(*rule), 0).map_err(io::Error::other)
    }

    /// Clears the programs' rule cache and stack cache.
    pub fn clear_caches(&mut self) -> io::Result<()> {
        let _guard = self.guards.begin();
        batch::clear::<u64>(self.rule_cache.fd().as_fd(), limits::RULE_CACHE_SLOTS)?;
        batch::clear::<CachedWalk>(self.stack_cache.fd().as_fd(), limits::CACHED_WALKS)
    }

    /// Forgets the stacks of call sites, by number and digest: the programs find these numbers no longer.
    pub fn unlink_stacks(&mut self, sites: &[(u32, Digest)]) -> io::Result<()> {
        if sites.is_empty() {
            return Ok(());
        }
        let _guard = self.guards.begin();
        for (_, digest) in sites {
            // Absent where another CPU was first with the same stack, under another number.
            drop(self.sites.remove(&Plain(*digest)));
        }
        // Before the ids of their processes belong to others, whose walks would look the same.
        let numbers: HashSet<u32> = sites.iter().map(|(number, _)| *number).collect();
        let (map, mut walks) = (self.stack_cache.fd().as_fd(), Vec::<CachedWalk>::new());
        batch::read_first(map, limits::CACHED_WALKS as usize, &mut walks)?;
        let indexed = (0_u32..).zip(&walks);
        let mut stale: Vec<u32> =
            indexed.filter(|(_, walk)| numbers.contains(&walk.site)).map(|(at, _)| at).collect();
        batch::clear_some::<CachedWalk>(map, &mut stale)
    }

    /// Removes the connection `number`, which has ended, from its socket's address: the kernel may reuse the address
    /// for another socket.
    pub fn forget_connection(&mut self, socket: u64, number: u32) {
        let _guard = self.guards.begin();
        // The programs may have seen its end already, or the start of another connection, and report those.
        let current = self.connections.get(&socket, 0);
        if current.is_ok_and(|current| current.0.first_chunk() == Some(&number.to_ne_bytes())) {
            drop(self.connections.remove(&socket));
        }
    }

    /// Adds `numbers` to a pool, in order.
    pub fn add_ids(&mut self, pool: IdPool, numbers: impl Iterator<Item = u32>) -> io::Result<()> {
        let _guard = self.guards.begin();
        let queue = match pool {
            IdPool::Sites => &mut self.free_sites,
            IdPool::ThreadStates => &mut self.free_thread_states,
            IdPool::Connections => &mut self.free_connections,
        };
        numbers.into_iter().try_for_each(|number| queue.push(number, 0)).map_err(io::Error::other)
    }

    /// Capacity for threads.
    pub fn thread_capacity(&self) -> u32 {
        self.thread_states.len()
    }

    /// Forgets which calls threads are in. Recording must be off.
    pub fn forget_threads(&mut self) -> io::Result<()> {
        let indexes: Result<Vec<(u64, u32)>, MapError> = self.threads.iter().collect();
        for (thread, index) in indexes.map_err(io::Error::other)? {
            // A thread that exited in the meantime has already freed its state.
            if self.threads.remove(&thread).is_ok() {
                self.thread_states
                    .set(index, Plain([0; size_of::<Thread>()]), 0)
                    .and_then(|()| self.free_thread_states.push(index, 0))
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    /// Takes all entries out of `YOUNG` and appends them to `taken`.
    pub fn drain(&mut self, taken: &mut Vec<Drained>) -> io::Result<()> {
        let _guard = self.guards.begin();
        let before = taken.len();
        let outcome = batch::take_all(self.young.fd().as_fd(), &mut self.young_buffer, taken);
        self.drained_late = taken.len() - before > self.late_drain_entries;
        outcome
    }

    /// Whether the last drain found `YOUNG` so full that the next must come sooner.
    pub const fn drained_late(&self) -> bool {
        self.drained_late
    }

    /// Passes waiting records to `read`, oldest first, at most `most` of them. Returns how many it passed.
    pub fn records(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < most {
            let Some(record) = self.records.next() else { break };
            read(&record);
            count += 1;
        }
        count
    }

    /// Passes to `read` what died young at each site with an id below `sites`, in ascending order.
    pub fn died_young(
        &mut self,
        sites: usize,
        mut read: impl FnMut(usize, Died),
    ) -> io::Result<()> {
        let _guard = self.guards.begin();
        if sites == 0 {
            return Ok(());
        }
        let pages = sites.div_ceil(DIED_SITES) * self.died_stripes;
        batch::read_first(self.died.fd().as_fd(), pages, &mut self.died_buffer)?;
        let sum = |values: &[DiedPage], index: usize| {
            values.iter().filter_map(|page| page.get(index)).fold(Died::default(), |sum, died| {
                Died { count: sum.count + died.count, bytes: sum.bytes + died.bytes }
            })
        };
        self.died_buffer
            .chunks(self.died_stripes)
            .flat_map(|values| (0..DIED_SITES).map(move |index| sum(values, index)))
            .take(sites)
            .enumerate()
            .for_each(|(site, died)| read(site, died));
        Ok(())
    }

    /// Sequence position of the last lost release by slot, see `Digest::slot`.
    pub fn lost_release_positions(&self) -> io::Result<Vec<u64>> {
        let _guard = self.guards.begin();
        let mut positions = Vec::new();
        batch::read_first(self.doubt.fd().as_fd(), limits::DOUBT_SLOTS as usize, &mut positions)?;
        Ok(positions)
    }
}

impl AsRawFd for Tables {
    /// Readable when the ring buffer fills up before the collector drains it.
    fn as_raw_fd(&self) -> RawFd {
        self.records.as_raw_fd()
    }
}

fn data(map: Map, name: &'static str) -> Result<MapData, KernelError> {
    match map {
        Map::HashMap(data) | Map::PerCpuArray(data) | Map::Array(data) => Ok(data),
        _ => Err(KernelError::Missing { name }),
    }
}

// Records are read in place in the ring buffer, whose alignment is 8.
const _: () = assert!(align_of::<Change>() == 8);
