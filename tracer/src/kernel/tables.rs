//! The maps, typed: what user space reads and writes of them.
//!
//! Takes nothing but the maps, hands on plain values. The one place that names maps.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, Queue, RingBuf},
};
use tracer_common::{
    limits,
    object::{Object, ObjectId},
    record::Change,
    stack_cache::CachedWalk,
    state::{
        Connection, DIED_SITES, Died, DiedPage, Key, Process, Target, Thread, Young, memory_state,
    },
    unwind::{Page, Rule, RuleNumber},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    batch, missed_runs::MissedRuns, object::Failed, priority_guard::PriorityGuard,
    sizes::died_stripes,
};

/// The maps that must be in the object.
#[cfg(test)]
pub(super) const NAMES: [&str; 26] = [
    SWITCH,
    TARGETS,
    BLANK_PROCESS,
    PROCESSES,
    YOUNG,
    DIED,
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
];
const SWITCH: &str = "SWITCH";
pub(super) const TARGETS: &str = "TARGETS";
const BLANK_PROCESS: &str = "BLANK_PROCESS";
pub(super) const PROCESSES: &str = "PROCESSES";
pub(super) const YOUNG: &str = "YOUNG";
pub(super) const DIED: &str = "DIED";
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

/// A drain that brings more than this part of what the young have room for came late.
const CROWDED_PART: usize = 4;

/// Entries taken out of the young per system call.
const BATCH: usize = 1 << 14;

/// A value whose every bit pattern is one and which has no padding: what aya calls plain old data.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: zerocopy's derives have checked exactly what the trait promises.
unsafe impl<T: FromBytes + IntoBytes + Immutable + Copy + 'static> Pod for Plain<T> {}

/// A resource taken out of the young.
pub type Drained = (Key, Young);

/// What the programs are handed out by number.
#[derive(Clone, Copy, Debug)]
pub enum IdPool {
    /// Numbers for call sites.
    Sites,
    /// Rooms for threads.
    Rooms,
    /// Numbers for connections.
    Connections,
}

/// The maps.
pub struct Tables {
    switch: Array<MapData, u32>,
    targets: HashMap<MapData, u32, Plain<Target>>,
    processes: HashMap<MapData, u32, Plain<Process>>,
    states: Array<MapData, u32>,
    young: MapData,
    /// A drain that brings more came late.
    young_most: usize,
    /// The last drain was one.
    is_crowded: bool,
    room: batch::Room<Key, Young>,
    died: MapData,
    died_room: Vec<DiedPage>,
    /// Copies of the counters of what died young.
    died_stripes: usize,
    free_sites: Queue<MapData, u32>,
    connections: HashMap<MapData, u64, Plain<[u8; size_of::<Connection>()]>>,
    free_connections: Queue<MapData, u32>,
    pub(super) objects: MapData,
    pub(super) object_room: batch::Room<Key, Object>,
    pub(super) asks: MapData,
    pub(super) ask_room: batch::Room<ObjectId, u64>,
    records: RingBuf<MapData>,
    unwind_pages: Array<MapData, Plain<Page>>,
    rules: Array<MapData, Plain<Rule>>,
    known: MapData,
    stack_cache: MapData,
    doubt: MapData,
    pub(super) losses: PerCpuArray<MapData, u64>,
    pub(super) hits: PerCpuArray<MapData, u64>,
    pub(super) failed: PerCpuArray<MapData, u64>,
    pub(super) pace: PerCpuArray<MapData, u64>,
    pub(super) threads: HashMap<MapData, u64, u32>,
    /// What stands in them is the programs' own.
    pub(super) rooms: Array<MapData, Plain<[u8; size_of::<Thread>()]>>,
    pub(super) free_rooms: Queue<MapData, u32>,
    /// The kernel leaves out programs that read and write the maps, see [`PriorityGuard`].
    priority_guard: bool,
    pub(super) missed_runs: MissedRuns,
}

impl Tables {
    /// Takes the maps out of a loaded object; its programs keep using them.
    pub(super) fn take(
        ebpf: &mut Ebpf,
        priority_guard: bool,
        missed_runs: MissedRuns,
    ) -> Result<Self, Failed> {
        let mut map = |name: &'static str| ebpf.take_map(name).ok_or(Failed::Missing { name });
        let wrong = |name: &'static str| move |_: MapError| Failed::Missing { name };
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
            young_most: young.info().map_err(wrong(YOUNG))?.max_entries() as usize / CROWDED_PART,
            young,
            is_crowded: false,
            room: batch::Room::new(BATCH),
            died: data(map(DIED)?, DIED)?,
            died_room: Vec::new(),
            died_stripes,
            free_sites: map(FREE_SITES)?.try_into().map_err(wrong(FREE_SITES))?,
            connections: map(CONNECTIONS)?.try_into().map_err(wrong(CONNECTIONS))?,
            free_connections: map(FREE_CONNECTIONS)?.try_into().map_err(wrong(FREE_CONNECTIONS))?,
            objects: data(map(OBJECTS)?, OBJECTS)?,
            object_room: batch::Room::new(BATCH),
            asks: data(map(ASKS)?, ASKS)?,
            ask_room: batch::Room::new(BATCH),
            records: map(RECORDS)?.try_into().map_err(wrong(RECORDS))?,
            unwind_pages: map(UNWIND_PAGES)?.try_into().map_err(wrong(UNWIND_PAGES))?,
            rules: map(RULES)?.try_into().map_err(wrong(RULES))?,
            known: data(map(RULE_CACHE)?, RULE_CACHE)?,
            stack_cache: data(map(STACK_CACHE)?, STACK_CACHE)?,
            doubt: data(map(DOUBT)?, DOUBT)?,
            losses: map(LOSSES)?.try_into().map_err(wrong(LOSSES))?,
            hits: map(HITS)?.try_into().map_err(wrong(HITS))?,
            failed: map(FAILED)?.try_into().map_err(wrong(FAILED))?,
            pace: map(SYSCALLS)?.try_into().map_err(wrong(SYSCALLS))?,
            threads: map(THREADS)?.try_into().map_err(wrong(THREADS))?,
            rooms: map(THREAD_STATES)?.try_into().map_err(wrong(THREAD_STATES))?,
            free_rooms: map(FREE_THREAD_STATES)?.try_into().map_err(wrong(FREE_THREAD_STATES))?,
            priority_guard,
            missed_runs,
        })
    }

    /// Turns recording on or off for all programs at once.
    pub fn switch(&mut self, on: bool) -> io::Result<()> {
        let _guard = self.priority_guard();
        self.missed_runs.switch(on);
        self.switch.set(0, u32::from(on), 0).map_err(io::Error::other)
    }

    /// Makes a process a target, its later children too if `follow` says so. Where its code is must be
    /// known ([`Self::admit`]).
    pub fn adopt(&mut self, pid: u32, follow: bool) -> io::Result<()> {
        let _guard = self.priority_guard();
        let number = self.processes.get(&pid, 0).map_err(io::Error::other)?.0.number;
        let follow = u32::from(follow);
        let target = Target { owner: pid, follow, programs: 0, number, files: pid, padding: 0 };
        self.targets.insert(pid, Plain(target), 0).map_err(io::Error::other)
    }

    /// A target has ended: its id may become another's.
    pub fn dismiss(&mut self, pid: u32) {
        let _guard = self.priority_guard();
        // Not there for a child that was never followed.
        drop((self.targets.remove(&pid), self.processes.remove(&pid)));
    }

    /// Tells the programs where a target's code is, or renews that.
    pub fn admit(&mut self, pid: u32, process: &Process) -> io::Result<()> {
        let _guard = self.priority_guard();
        let state = memory_state(process.generation, process.walks);
        // In this order: what is stack_cache under a new state must be of the new ranges.
        self.processes
            .insert(pid, Plain(*process), 0)
            .and_then(|()| self.states.set(process.number, state, 0))
            .map_err(io::Error::other)
    }

    /// Where the programs need it, see [`PriorityGuard`].
    pub(super) fn priority_guard(&self) -> Option<PriorityGuard> {
        if self.priority_guard { PriorityGuard::begin() } else { None }
    }

    /// Pages of unwind tables that there is room for.
    pub fn unwind_pages(&self) -> u32 {
        self.unwind_pages.len()
    }

    /// Puts a page of unwind rows in its place.
    pub fn write_unwind_page(&mut self, index: u32, page: &Page) -> io::Result<()> {
        let _guard = self.priority_guard();
        self.unwind_pages.set(index, Plain(*page), 0).map_err(io::Error::other)
    }

    /// Says what the number of an unwind rule means.
    pub fn write_unwind_rule(&mut self, number: RuleNumber, rule: &Rule) -> io::Result<()> {
        let _guard = self.priority_guard();
        self.rules.set(number.into(), Plain(*rule), 0).map_err(io::Error::other)
    }

    /// Forgets what the programs remember of addresses and walks.
    pub fn forget(&mut self) -> io::Result<()> {
        let _guard = self.priority_guard();
        batch::clear::<u64>(self.known.fd().as_fd(), limits::RULE_CACHE_SLOTS)?;
        batch::clear::<CachedWalk>(self.stack_cache.fd().as_fd(), limits::CACHED_WALKS)
    }

    /// The connection `number`, whose socket the kernel had there, is over: what comes there next is another one.
    pub fn forget_connection(&mut self, socket: u64, number: u32) {
        let _guard = self.priority_guard();
        // The programs may have seen its end, or another one's beginning, which they tell.
        let known = self.connections.get(&socket, 0);
        if known.is_ok_and(|known| known.0.first_chunk() == Some(&number.to_ne_bytes())) {
            drop(self.connections.remove(&socket));
        }
    }

    /// Hands the programs more of what there is one of each number of: those of `numbers`, in order.
    pub fn give(&mut self, what: IdPool, numbers: impl Iterator<Item = u32>) -> io::Result<()> {
        let _guard = self.priority_guard();
        let queue = match what {
            IdPool::Sites => &mut self.free_sites,
            IdPool::Rooms => &mut self.free_rooms,
            IdPool::Connections => &mut self.free_connections,
        };
        numbers.into_iter().try_for_each(|number| queue.push(number, 0)).map_err(io::Error::other)
    }

    /// Takes everything out of the young, appending to `taken`.
    pub fn drain(&mut self, taken: &mut Vec<Drained>) -> io::Result<()> {
        let _guard = self.priority_guard();
        let before = taken.len();
        let outcome = batch::take_all(self.young.fd().as_fd(), &mut self.room, taken);
        self.is_crowded = taken.len() - before > self.young_most;
        outcome
    }

    /// Whether the last drain found the table so full that the next must come sooner.
    pub const fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Threads that there is room for.
    pub fn rooms(&self) -> u32 {
        self.rooms.len()
    }

    /// Hands each waiting record to `read`, oldest first, at most `most` of them.
    /// Returns how many there were.
    pub fn records(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < most {
            let Some(record) = self.records.next() else { break };
            read(&record);
            count += 1;
        }
        count
    }

    /// What died young at the sites numbered below `sites`, in their order.
    pub fn died(&mut self, sites: usize, mut read: impl FnMut(usize, Died)) -> io::Result<()> {
        let _guard = self.priority_guard();
        if sites == 0 {
            return Ok(());
        }
        let pages = sites.div_ceil(DIED_SITES) * self.died_stripes;
        batch::read_first(self.died.fd().as_fd(), pages, &mut self.died_room)?;
        let sum = |values: &[DiedPage], place: usize| {
            values.iter().filter_map(|page| page.get(place)).fold(Died::default(), |sum, died| {
                Died { count: sum.count + died.count, bytes: sum.bytes + died.bytes }
            })
        };
        self.died_room
            .chunks(self.died_stripes)
            .flat_map(|values| (0..DIED_SITES).map(move |place| sum(values, place)))
            .take(sites)
            .enumerate()
            .for_each(|(site, died)| read(site, died));
        Ok(())
    }

    /// Position of the last lost release by slot, see `Digest::slot`.
    pub fn doubts(&self) -> io::Result<Vec<u64>> {
        let _guard = self.priority_guard();
        let mut positions = Vec::new();
        batch::read_first(self.doubt.fd().as_fd(), limits::DOUBT_SLOTS as usize, &mut positions)?;
        Ok(positions)
    }
}

impl AsRawFd for Tables {
    /// Readable when the ring buffer fills faster than the collector comes.
    fn as_raw_fd(&self) -> RawFd {
        self.records.as_raw_fd()
    }
}

/// How many processors the host may have.
pub(super) fn cpus() -> Result<u32, Failed> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, source)| Failed::Object { path: path.into(), source })?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}

fn data(map: Map, name: &'static str) -> Result<MapData, Failed> {
    match map {
        Map::HashMap(data) | Map::PerCpuArray(data) | Map::Array(data) => Ok(data),
        _ => Err(Failed::Missing { name }),
    }
}

// Records are read where the ring buffer has them; its alignment is 8.
const _: () = assert!(align_of::<Change>() == 8);
