//! The record source: all that the collector learns from outside, and all that it writes there.
//!
//! Takes questions, passes on answers: of the BPF maps, the ring buffer, the clock, `/proc` and target memory; or those
//! of a tape, for which nothing is written anywhere. A live answer goes onto a tape, if one is recorded. It interprets
//! nothing and keeps no figures. See `docs/decisions/0013-tapes.md`.

mod bytes;
mod generations;
mod live;
mod processes;

use std::{io, os::fd::AsRawFd as _, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tracer_common::{
    attach::ProbeNumber,
    loss::Loss,
    object::{Object, ObjectId},
    stack::Digest,
    state::{Died, Key, Young},
};

use crate::{
    kernel::{self, Drained, IdPool, Tables},
    tape::{Answers, Question, Redact, Timer},
    target::{
        Pid,
        mappings::{FileId, Mappings},
        watch::Watch,
    },
    unwind::{Library, Status},
};
use live::Live;

pub use bytes::{List, Pairs};
pub use live::StackOptions;

/// Bytes of records that become one answer on a tape.
const RECORDS_BYTES: usize = 1 << 16;
/// Drained resources that become one answer on a tape.
const DRAINED_AT_ONCE: usize = 1 << 12;

/// The live tables, ring buffer and processes, or a tape.
pub struct RecordSource {
    /// `None` for a tape.
    live: Option<Box<Live>>,
    answers: Answers,
}

/// Counts of tables, and the files that have none.
pub type TableStatus = (Status, Vec<String>);

impl RecordSource {
    /// The running system. Its answers also go onto a tape, if `answers` does.
    pub fn live(tables: Tables, library: Library, answers: Answers) -> Self {
        Self { live: Some(Box::new(Live::new(tables, library))), answers }
    }

    /// A tape.
    pub const fn tape(answers: Answers) -> Self {
        Self { live: None, answers }
    }

    /// Answers to questions that are not about the kernel or processes.
    pub const fn answers(&mut self) -> &mut Answers {
        &mut self.answers
    }

    /// The answer, by default none.
    fn ask<T>(&mut self, question: Question, live: impl FnOnce(&mut Live) -> T) -> T
    where
        T: Serialize + DeserializeOwned + Redact + Default,
    {
        let Self { live: source, answers } = self;
        answers.ask(question, || source.as_deref_mut().map(live).unwrap_or_default())
    }

    /// The answer, or a failure.
    fn try_ask<T>(
        &mut self,
        question: Question,
        live: impl FnOnce(&mut Live) -> io::Result<T>,
    ) -> io::Result<T>
    where
        T: Serialize + DeserializeOwned + Redact + Default,
    {
        let Self { live: source, answers } = self;
        answers.try_ask(question, || source.as_deref_mut().map_or_else(|| Ok(T::default()), live))
    }

    /// Writes to the running system; a tape takes nothing.
    fn write(&mut self, live: impl FnOnce(&mut Live) -> io::Result<()>) -> io::Result<()> {
        self.live.as_deref_mut().map_or(Ok(()), live)
    }

    /// Readable when the ring buffer fills up; `None` for a tape.
    pub fn ring(&self) -> Option<std::os::fd::RawFd> {
        self.live.as_ref().map(|live| live.tables.as_raw_fd())
    }

    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub fn now_ns(&mut self) -> u64 {
        self.ask(Question::Now, |_| kernel::now_ns())
    }

    /// Takes all entries out of the table of young resources and appends them to `taken`.
    pub fn drain(&mut self, taken: &mut Vec<Drained>) -> io::Result<()> {
        if let Some(live) = &mut self.live {
            live.tables.drain(taken)?;
            if !self.answers.is_recorded() {
                return Ok(());
            }
            // An empty answer ends the list. What was drained early is in it.
            for some in taken.chunks(DRAINED_AT_ONCE).chain([Default::default()]) {
                self.answers.ask(Question::Drained, || Pairs::<Key, Young>(some.to_vec()));
            }
            return Ok(());
        }
        loop {
            let none = || Ok(Pairs::default());
            let Pairs(mut some) = self.answers.try_ask(Question::Drained, none)?;
            if some.is_empty() {
                return Ok(());
            }
            taken.append(&mut some);
        }
    }

    /// The same while a snapshot is made, where a tape has no answer: what is taken now, a tape's next drain takes.
    pub fn drain_early(&mut self, taken: &mut Vec<Drained>) -> io::Result<()> {
        self.write(|live| live.tables.drain(taken))
    }

    /// Whether the last drain came late. A tape has no next drain that could come sooner.
    pub fn drained_late(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.tables.drained_late())
    }

    /// Passes waiting records to `read`, oldest first, at most `most` of them. Returns how many it passed.
    pub fn records(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> io::Result<usize> {
        let Self { live, answers } = self;
        if let Some(live) = live {
            if !answers.is_recorded() {
                return Ok(live.tables.records(most, read));
            }
            let mut some = List::default();
            let count = live.tables.records(most, |record| {
                some.push(record);
                if some.len() >= RECORDS_BYTES {
                    answers.ask(Question::Records, || std::mem::take(&mut some));
                }
                read(record);
            });
            if !some.is_empty() {
                answers.ask(Question::Records, || some);
            }
            // An empty answer ends the list.
            answers.ask(Question::Records, List::default);
            return Ok(count);
        }
        let mut count = 0;
        loop {
            let some = answers.try_ask(Question::Records, || Ok(List::default()))?;
            if some.is_empty() {
                return Ok(count);
            }
            for record in some.iter() {
                read(record);
                count += 1;
            }
        }
    }

    /// Passes to `read` what died young at each site with an id below `sites`, in ascending order.
    pub fn died_young(
        &mut self,
        sites: usize,
        mut read: impl FnMut(usize, Died),
    ) -> io::Result<()> {
        if let (Some(live), false) = (&mut self.live, self.answers.is_recorded()) {
            return live.tables.died_young(sites, read);
        }
        let all: Vec<(u64, u64)> = self.try_ask(Question::Died, |live| {
            let mut all = Vec::with_capacity(sites);
            live.tables.died_young(sites, |_, died| all.push((died.count, died.bytes)))?;
            Ok(all)
        })?;
        let all = all.into_iter().map(|(count, bytes)| Died { count, bytes });
        all.enumerate().for_each(|(site, died)| read(site, died));
        Ok(())
    }

    /// Losses by reason, counted by the programs and by the kernel.
    pub fn losses(&mut self) -> impl Iterator<Item = (Loss, u64)> {
        let counts: Vec<u64> = self.ask(Question::Losses, |live| {
            let losses = live.tables.counters.losses();
            losses.map(|(_, count)| count).collect()
        });
        Loss::ALL.into_iter().zip(counts)
    }

    /// Hits and failed acquisitions of this many probes.
    pub fn hits(&mut self, probes: ProbeNumber) -> Vec<(u64, u64)> {
        self.ask(Question::Hits, |live| {
            (0..probes).map(|probe| live.tables.counters.hits(probe)).collect()
        })
    }

    /// Hits of this many probes, and counted system calls; nothing for a tape, which has nobody to send them to.
    pub fn reading(&self, probes: ProbeNumber) -> (Vec<u64>, u64) {
        let Some(live) = &self.live else { return (Vec::new(), 0) };
        (
            (0..probes).map(|probe| live.tables.counters.hits(probe).0).collect(),
            live.tables.counters.syscalls(),
        )
    }

    /// Sequence position of the last lost release by slot.
    pub fn lost_release_positions(&mut self) -> io::Result<Vec<u64>> {
        self.try_ask(Question::LostReleases, |live| live.tables.lost_release_positions())
    }

    /// Every live library object, as the programs know it.
    pub fn objects(&mut self) -> io::Result<Vec<(Key, Object)>> {
        let Pairs(all) = self.try_ask(Question::Objects, |live| {
            let mut seen = Vec::new();
            live.tables.lib_objects.objects(&mut seen)?;
            Ok(Pairs(seen))
        })?;
        Ok(all)
    }

    /// The objects with a pending release request, and when it was made (`CLOCK_MONOTONIC`, nanoseconds).
    pub fn release_requests(&mut self) -> io::Result<Vec<(ObjectId, u64)>> {
        let Pairs(all) = self.try_ask(Question::ReleaseRequests, |live| {
            live.tables.lib_objects.release_requests().map(Pairs)
        })?;
        Ok(all)
    }

    /// Deletes the object at `key` if it was constructed at this time (`CLOCK_MONOTONIC`, nanoseconds). Returns whether
    /// it was still there and had not been replaced by another object.
    pub fn remove_object(&mut self, key: &Key, time_ns: u64) -> bool {
        self.ask(Question::RemovedObject(key.handle), |live| {
            live.tables.lib_objects.remove_object(key, time_ns)
        })
    }

    /// Whether it is time for a scan again: the last one was long enough ago.
    pub fn is_due(&mut self, timer: Timer) -> bool {
        self.ask(Question::IsDue(timer), |live| live.timers.is_due(timer))
    }

    /// Whether unwind tables have arrived since the last call; writes them.
    pub fn tables_arrived(&mut self) -> io::Result<bool> {
        self.try_ask(Question::TablesArrived, |live| live.library.write_finished(&mut live.tables))
    }

    /// Whether unwind tables are being built; not for a tape.
    pub fn awaits_tables(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.library.is_building())
    }

    /// Progress of the unwind tables, and files without one because there was no space for it.
    pub fn table_status(&mut self) -> TableStatus {
        self.ask(Question::Tables, |live| {
            (live.library.status(), live.library.files_without_table())
        })
    }

    /// Adds `numbers` to a pool of the programs, in order.
    pub fn add_ids(&mut self, pool: IdPool, numbers: impl Iterator<Item = u32>) -> io::Result<()> {
        self.write(|live| live.tables.add_ids(pool, numbers))
    }

    /// Capacity for threads; none for a tape.
    pub fn thread_states(&self) -> u32 {
        self.live.as_ref().map_or(0, |live| live.tables.thread_capacity())
    }

    /// Turns recording on or off for all programs at once.
    pub fn switch(&mut self, on: bool) -> io::Result<()> {
        self.write(|live| live.tables.switch(on))
    }

    /// Waits until programs that are running have ended.
    pub fn settle(&self, time: Duration) {
        if self.live.is_some() {
            std::thread::sleep(time);
        }
    }

    /// Forgets which calls threads are in. Recording must be off.
    pub fn forget_threads(&mut self) -> io::Result<()> {
        self.write(|live| live.tables.forget_threads())
    }

    /// Waits for unwind tables.
    pub fn settle_tables(&mut self, timeout: Duration) -> io::Result<()> {
        self.write(|live| live.library.wait(timeout, &mut live.tables))
    }

    /// Makes a process a target, and its future children too if `follow` is set.
    pub fn add_target(&mut self, pid: Pid, follow: bool) -> io::Result<()> {
        self.write(|live| live.tables.add_target(pid.0, follow))
    }

    /// A target has ended: its number may be another's.
    pub fn forget_target(&mut self, pid: Pid) {
        if let Some(live) = &mut self.live {
            live.watches.remove(&pid);
            live.prompt.remove(&pid);
            live.generations.end(pid);
            live.process_limits.forget(pid);
        }
    }

    /// The programs forget a target that has ended: the kernel may reuse its id.
    pub fn remove_target(&mut self, pid: Pid) {
        if let Some(live) = &mut self.live {
            live.tables.remove_target(pid.0);
        }
    }

    /// The programs forget the stacks of call sites, whose processes have ended.
    pub fn unlink_stacks(&mut self, sites: &[(u32, Digest)]) -> io::Result<()> {
        self.write(|live| live.tables.unlink_stacks(sites))
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
            live.library.add_process(pid, mappings);
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
            live.tables.lib_objects.delete_release_request(id);
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

    /// Whether any process has ended that was a target from the beginning; not for a tape. A server's children may end
    /// every few milliseconds.
    pub fn any_ended(&self) -> bool {
        self.live.as_ref().is_some_and(|live| {
            let watched = live.prompt.iter().filter_map(|pid| live.watches.get(pid));
            watched.into_iter().any(Watch::ended)
        })
    }

    /// Watches a process that was opened before.
    pub fn keep_watch(&mut self, pid: Pid, watch: Watch) {
        if let Some(live) = &mut self.live {
            live.watches.insert(pid, watch);
            live.prompt.insert(pid);
        }
    }
}
