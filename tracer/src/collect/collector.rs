//! The collector's loop: tables and records → ledger → snapshots.
//!
//! Owns the kernel's tables and the ledger. Takes requests, hands on a snapshot per interval. A slow
//! reader of snapshots never holds it back.

use std::{
    collections::BTreeMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    time::{ClockId, clock_gettime},
};
use tracer_common::{
    limits,
    loss::Loss,
    state::{CodeRange, Process},
};

use super::{
    decode::{Event, decode, drained},
    ledger::Ledger,
    snapshot::{Kin, Snapshot, site_figures},
};
use crate::{
    kernel::{Drained, Tables},
    target::{
        Pid,
        mappings::{self, FileId, Mappings},
        watch::Watch,
    },
};

/// Longest time between two drains: what dies later than that may cost a record.
const DRAIN_AT_MOST: Duration = Duration::from_millis(250);
/// Shortest: a drain of an empty table takes about a millisecond.
const DRAIN_AT_LEAST: Duration = Duration::from_millis(5);
/// Drained at once, the table was so full that the next drain must come sooner.
const CROWDED: usize = limits::YOUNG_ENTRIES as usize / 4;
/// Records read between two drains, so that a drain always comes.
const RECORDS_AT_ONCE: usize = 1 << 18;
/// Longest wait without a look at requests.
const PATIENCE: Duration = Duration::from_millis(50);
/// Time for programs that are running when recording is switched off.
const SETTLE: Duration = Duration::from_millis(2);

/// What may be asked of the collector while it runs.
pub enum Request {
    /// Read everything now, what is mapped too, and say when it is done: a target is about to end.
    Flush(SyncSender<()>),
    /// Another program has taken a target's place: all it had is gone. Says when it is done; the
    /// new program must not run before.
    Forget(Pid, SyncSender<()>),
    /// More probes are on, for a target that has become another program.
    Attached {
        /// The target.
        pid: Pid,
        /// The object that is its allocator.
        allocator: FileId,
        /// How many numbers of probes are in use.
        probes: u8,
    },
    /// Switch recording off and make the last snapshot.
    Stop,
}

/// One target as the collector follows it.
pub struct Followed {
    /// Its process.
    pub pid: Pid,
    /// Tells when it ends.
    pub watch: Watch,
    /// The objects that are its allocator.
    pub allocators: Vec<FileId>,
    /// What was mapped when last looked.
    pub mappings: Arc<Mappings>,
}

/// The loop's state.
pub struct Collector {
    pub(super) tables: Tables,
    /// Tells when the programs ask for a reader.
    pub(super) wakes: OwnedFd,
    pub(super) ledger: Ledger,
    pub(super) targets: Vec<Followed>,
    pub(super) probes: u8,
    pub(super) min_age: Duration,
    pub(super) taken: Vec<Drained>,
    pub(super) malformed: u64,
    pub(super) doubts_seen: u64,
    pub(super) ended: Vec<Pid>,
    pub(super) changed: BTreeMap<Pid, Arc<Mappings>>,
    pub(super) kin: Vec<Kin>,
    /// Targets that are another program since the attacher was last told.
    pub(super) executed: Vec<Pid>,
}

impl Collector {
    /// A collector over `tables`, with recording still off. `probes` is the number of probes.
    pub fn new(
        tables: Tables,
        targets: Vec<Followed>,
        probes: u8,
        min_age: Duration,
        children: bool,
    ) -> io::Result<Self> {
        let wakes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // By edge: the buffer nearly always holds something, which is no reason to wake up.
        // SAFETY: the ring buffer's descriptor is open as long as the tables are, which live as long
        // as the collector.
        let ring = unsafe { BorrowedFd::borrow_raw(tables.as_raw_fd()) };
        let when = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&wakes, ring, epoll::EventData::new_u64(0), when)?;
        let mut collector = Self {
            tables,
            wakes,
            ledger: Ledger::default(),
            targets: Vec::new(),
            probes,
            min_age,
            taken: Vec::new(),
            malformed: 0,
            doubts_seen: 0,
            ended: Vec::new(),
            changed: BTreeMap::new(),
            kin: Vec::new(),
            executed: Vec::new(),
        };
        // All at once: a server's first second can bring tens of thousands. Number 0 is the unknown one.
        collector.tables.give_sites(1..limits::SITES)?;
        for target in targets {
            collector.admit(&target)?;
            collector.tables.adopt(target.pid.0, children)?;
            collector.changed.insert(target.pid, Arc::clone(&target.mappings));
            collector.targets.push(target);
        }
        Ok(collector)
    }

    /// Turns recording on.
    pub fn start(&mut self) -> io::Result<()> {
        self.tables.switch(true)
    }

    /// Runs until it is told to stop (or nobody is left to tell it), handing a snapshot to `publish`
    /// every `interval` and at the end. `executed` is told of each target that has become another
    /// program.
    pub fn run(
        mut self,
        requests: &Receiver<Request>,
        interval: Duration,
        executed: impl Fn(Pid),
        mut publish: impl FnMut(Snapshot),
    ) -> io::Result<()> {
        let mut pause = DRAIN_AT_MOST.min(interval);
        let mut next_drain = Instant::now();
        let mut next_snapshot = Instant::now();
        loop {
            match requests.try_recv() {
                Ok(Request::Flush(done)) => {
                    self.cycle()?;
                    self.look_at_targets();
                    // The asker may have stopped waiting.
                    _ = done.send(());
                }
                Ok(Request::Forget(pid, done)) => {
                    self.exhaust()?;
                    self.ledger.forget(pid);
                    self.look_at_targets();
                    _ = done.send(());
                }
                Ok(Request::Attached { pid, allocator, probes }) => {
                    self.probes = probes;
                    self.attached(pid, allocator);
                }
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            if now >= next_drain {
                let brought = self.cycle()?;
                pause = if brought > CROWDED { pause / 2 } else { pause * 3 / 2 }
                    .clamp(DRAIN_AT_LEAST, DRAIN_AT_MOST.min(interval));
                next_drain = Instant::now() + pause;
            }
            // The end of a target is news that does not wait.
            if now >= next_snapshot || self.has_newly_ended() {
                // What it did last, a fork for example, is to be known when its end is.
                self.cycle()?;
                self.look_at_targets();
                publish(self.snapshot(false)?);
                next_snapshot = (next_snapshot + interval).max(now + interval / 2);
            }
            self.executed.drain(..).for_each(&executed);
            if self.wait(next_drain.min(next_snapshot)) {
                next_drain = Instant::now();
            }
        }
        self.tables.switch(false)?;
        std::thread::sleep(SETTLE);
        self.exhaust()?;
        self.look_at_targets();
        publish(self.snapshot(true)?);
        Ok(())
    }

    /// Drains the young, then reads the records: in this order, so that a record never speaks of a
    /// resource that has been drained and has not reached the ledger. Returns how many there were.
    fn cycle(&mut self) -> io::Result<usize> {
        self.tables.drain(&mut self.taken)?;
        let mut brought = self.taken.len();
        for (key, young) in self.taken.drain(..) {
            match drained(&key, &young) {
                Some(event) => self.ledger.apply(event),
                None => self.malformed += 1,
            }
        }
        let known = self.ledger.site_numbers();
        let (ledger, malformed) = (&mut self.ledger, &mut self.malformed);
        let mut family = Vec::new();
        let records = self.tables.records(RECORDS_AT_ONCE, |record| match decode(record) {
            Some(event) => {
                if matches!(event, Event::Forked { .. } | Event::Executed { .. }) {
                    family.push(event.clone());
                }
                ledger.apply(event);
            }
            None => *malformed += 1,
        });
        if records < RECORDS_AT_ONCE {
            ledger.cycled();
        }
        brought += records;
        family.into_iter().for_each(|event| self.related(&event));
        if self.ledger.site_numbers() > known {
            self.look_at_targets();
        }
        Ok(brought)
    }

    /// Cycles until nothing comes any more: for when nothing is recorded meanwhile.
    fn exhaust(&mut self) -> io::Result<()> {
        while self.cycle()? > 0 || self.ledger.is_waiting() {}
        Ok(())
    }

    /// Tells the programs where the target's code is.
    fn admit(&mut self, target: &Followed) -> io::Result<()> {
        let ranges = target.mappings.executable_ranges(limits::EXECUTABLE_RANGES);
        let mut process = Process::new(&ranges);
        process.trampoline = target
            .mappings
            .iter()
            .find(|mapping| mapping.special.as_deref() == Some("[uprobes]"))
            .map_or(0, |mapping| mapping.start);
        let objects = target.mappings.objects();
        let internal: Vec<(u64, u64)> = objects
            .iter()
            .filter(|object| target.allocators.contains(&object.file))
            .flat_map(|object| &object.mappings)
            .filter(|mapping| mapping.executable)
            .map(|mapping| (mapping.start, mapping.end))
            .collect();
        process.allocator = CodeRange {
            start: internal.iter().map(|(start, _)| *start).min().unwrap_or(0),
            end: internal.iter().map(|(_, end)| *end).max().unwrap_or(0),
        };
        self.tables.admit(target.pid.0, &process)?;
        self.ledger.set_internal(target.pid, internal);
        Ok(())
    }

    fn has_newly_ended(&self) -> bool {
        self.targets.iter().any(|one| !self.ended.contains(&one.pid) && one.watch.ended())
    }

    /// Notices ends, and libraries that came or went.
    pub(super) fn look_at_targets(&mut self) {
        let mut targets = std::mem::take(&mut self.targets);
        for target in &mut targets {
            if self.ended.contains(&target.pid) {
                continue;
            }
            if target.watch.ended() {
                self.gone(target.pid);
                continue;
            }
            // It may end between the question and the reading: the next look will tell.
            let Ok(mappings) = mappings::read(target.pid) else { continue };
            if mappings.iter().next().is_none() || mappings == *target.mappings {
                continue;
            }
            target.mappings = Arc::new(mappings);
            if let Err(error) = self.admit(target) {
                log::warn!(
                    "could not renew what the programs know of process {}: {error}",
                    target.pid
                );
            }
            self.changed.insert(target.pid, Arc::clone(&target.mappings));
        }
        targets.retain(|target| !self.ended.contains(&target.pid));
        self.targets = targets;
    }

    fn snapshot(&mut self, last: bool) -> io::Result<Snapshot> {
        let mut losses: BTreeMap<Loss, u64> =
            self.tables.losses().filter(|(_, count)| *count > 0).collect();
        let lost = [Loss::ReleaseDropped, Loss::ReleaseBusy]
            .iter()
            .map(|reason| losses.get(reason).copied().unwrap_or(0))
            .sum();
        if lost > self.doubts_seen {
            // What a doubt is about must have reached the ledger before it can be set aside.
            self.cycle()?;
            self.ledger.doubt(&self.tables.doubts()?);
            self.doubts_seen = lost;
        }
        for (reason, count) in
            [(Loss::Doubtful, self.ledger.doubtful()), (Loss::Malformed, self.malformed)]
        {
            if count > 0 {
                losses.insert(reason, count);
            }
        }
        let ledger = &mut self.ledger;
        self.tables.died(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        let at_ns = now_ns();
        let min_age_ns = u64::try_from(self.min_age.as_nanos()).unwrap_or(u64::MAX);
        Ok(Snapshot {
            at_ns,
            last,
            sites: site_figures(&self.ledger, at_ns, min_age_ns),
            losses,
            unknown_releases: self.ledger.unknown_releases(),
            hits: (0..self.probes).map(|probe| self.tables.hits(probe)).collect(),
            ended: self.ended.clone(),
            kin: std::mem::take(&mut self.kin),
            mappings: std::mem::take(&mut self.changed).into_iter().collect(),
        })
    }

    /// Sleeps until `until`, a crowded ring buffer, or a time after which requests are looked at.
    /// Returns whether the ring buffer is crowded.
    fn wait(&mut self, until: Instant) -> bool {
        let timeout = until.saturating_duration_since(Instant::now()).min(PATIENCE);
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        let mut events = [MaybeUninit::uninit(); 1];
        // An interrupted wait is a short one.
        epoll::wait(&self.wakes, &mut events, Some(&timeout))
            .is_ok_and(|(woken, _)| !woken.is_empty())
    }
}

/// `CLOCK_MONOTONIC`, which the programs use too.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
