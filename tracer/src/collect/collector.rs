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
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    time::{ClockId, clock_gettime},
};
use tracer_common::{attach::ProbeNumber, loss::Loss, stack::StackEnd};

pub use super::requests::{Reading, Request};
use super::{
    caller_allocated::LivenessChecks,
    decode::{Event, decode, drained},
    fd_reconciliation::Found,
    generations::Generations,
    ledger::Ledger,
    options::CollectOptions,
    snapshot::{ProcessEvent, SiteFigures, Snapshot, site_figures},
    touched::{Touches, take_in},
    windows::Windows,
};
use crate::{
    kernel::{Drained, Tables},
    target::{
        Pid,
        mappings::{FileId, Mappings},
        watch::Watch,
    },
    unwind::Library,
};

/// Longest time between two drains: what dies later than that may cost a record.
const DRAIN_AT_MOST: Duration = Duration::from_millis(250);
/// The same where nothing dies in the kernel, as releases are not seen there: with `--light`.
const LIGHT_DRAIN_AT_MOST: Duration = Duration::from_secs(1);
/// Shortest: a drain of an empty table takes about a millisecond.
const DRAIN_AT_LEAST: Duration = Duration::from_millis(5);
/// So many blocks and records at once, and the next drain must come sooner.
const CROWDED: usize = 1 << 16;
/// Records read between two drains, so that a drain always comes.
const RECORDS_AT_ONCE: usize = 1 << 18;
/// Longest wait without a look at requests.
const PATIENCE: Duration = Duration::from_millis(50);
/// The same where windows of recording are opened and closed by requests.
const BUDGET_PATIENCE: Duration = Duration::from_millis(5);
/// Longest wait for unwind tables before recording begins. What is not ready then comes later.
const TABLES_PATIENCE: Duration = Duration::from_millis(500);
/// Longest walk over the ledger without a drain.
const WALK_AT_ONCE: Duration = Duration::from_millis(50);

/// One target as the collector follows it.
pub struct TrackedProcess {
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
    pub(super) library: Library,
    pub(super) generations: Generations,
    /// A stack led to memory that was not known to hold code.
    pub(super) strayed: bool,
    /// Not before then is it asked again what targets have mapped.
    pub(super) next_look: Instant,
    pub(super) targets: Vec<TrackedProcess>,
    pub(super) probes: ProbeNumber,
    pub(super) signs: LivenessChecks,
    /// How many of those placed were looked at in this round.
    pub(super) placed_next: usize,
    pub(super) manner: CollectOptions,
    pub(super) taken: Vec<Drained>,
    /// Where page faults are traced.
    pub(super) touches: Option<Touches>,
    /// Where file descriptors are traced.
    pub(super) found: Option<Found>,
    /// Number of the next connection to be handed out.
    pub(super) next_connection: u32,
    pub(super) malformed: u64,
    pub(super) doubts_seen: u64,
    pub(super) ended: Vec<Pid>,
    pub(super) changed: Vec<(Pid, Arc<Mappings>)>,
    pub(super) kin: Vec<ProcessEvent>,
    /// Where there is a budget.
    pub(super) windows: Option<Windows>,
    /// Nothing is recorded for now.
    pub(super) paused: bool,
    /// Targets that are another program since the attacher was last told.
    pub(super) executed: Vec<Pid>,
}

impl Collector {
    /// A collector over `tables`, with recording still off. `probed` is the number of probes, and their signs;
    /// `library` has been told of the targets.
    pub fn new(
        tables: Tables,
        library: Library,
        targets: Vec<TrackedProcess>,
        (probes, signs): (ProbeNumber, LivenessChecks),
        manner: CollectOptions,
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
            library,
            generations: Generations::default(),
            strayed: false,
            next_look: Instant::now(),
            targets: Vec::new(),
            probes,
            signs,
            placed_next: 0,
            taken: Vec::new(),
            touches: manner.light.then(Touches::new),
            found: manner.descriptors.then(Found::default),
            next_connection: 1,
            malformed: 0,
            doubts_seen: 0,
            ended: Vec::new(),
            changed: Vec::new(),
            kin: Vec::new(),
            windows: manner.budget.map(Windows::new),
            paused: false,
            executed: Vec::new(),
            manner,
        };
        collector.give_first()?;
        collector.library.settle(TABLES_PATIENCE, &mut collector.tables)?;
        for target in targets {
            collector.admit(&target)?;
            collector.tables.adopt(target.pid.0, collector.manner.children)?;
            collector.changed.push((target.pid, Arc::clone(&target.mappings)));
            collector.targets.push(target);
        }
        Ok(collector)
    }

    /// Turns recording on.
    pub fn start(&mut self) -> io::Result<()> {
        if let Some(windows) = &mut self.windows {
            windows.begin(now_ns());
        }
        if let Some(found) = &mut self.found {
            found.begin(self.targets.iter().map(|one| one.pid));
        }
        self.tables.switch(true)?;
        self.cycle()?;
        self.take_in_first();
        Ok(())
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
        self.give_the_rest()?;
        let most = if self.manner.light { LIGHT_DRAIN_AT_MOST } else { DRAIN_AT_MOST };
        let most = most.min(interval);
        let mut pause = most;
        let mut next_drain = Instant::now();
        let mut next_snapshot = Instant::now();
        loop {
            match requests.try_recv() {
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => break,
                Ok(request) => self.answer(request)?,
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            if now >= next_drain && !self.paused {
                let brought = self.cycle()?;
                // A page that was touched may be looked at late; without a drain it is not lost.
                let full = self.tables.is_crowded() && !self.manner.light;
                pause = if full || brought > CROWDED { pause / 2 } else { pause * 3 / 2 }
                    .clamp(DRAIN_AT_LEAST, most);
                next_drain = Instant::now() + pause;
            }
            // The end of a target is news that does not wait.
            if now >= next_snapshot || self.has_newly_ended() {
                // What it did last, a fork for example, is to be known when its end is.
                self.cycle()?;
                self.look_at_targets();
                self.look_at_descriptors(false)?;
                publish(self.snapshot(false)?);
                next_snapshot = (next_snapshot + interval).max(now + interval / 2);
            }
            self.executed.drain(..).for_each(&executed);
            let until = if self.paused { next_snapshot } else { next_drain.min(next_snapshot) };
            if self.wait(until) {
                next_drain = Instant::now();
            }
        }
        self.look_at_descriptors_at_last()?;
        self.finish()?;
        self.look_at_targets();
        publish(self.snapshot(true)?);
        Ok(())
    }

    /// Drains the young, then reads the records: in this order, so that a record never speaks of a
    /// resource that has been drained and has not reached the ledger. Returns how many there were.
    pub(super) fn cycle(&mut self) -> io::Result<usize> {
        self.tables.drain(&mut self.taken)?;
        let mut brought = self.taken.len();
        let Self { ledger, malformed, strayed, touches, .. } = self;
        for (key, young) in self.taken.drain(..) {
            match drained(&key, &young) {
                Some(event) => take_in(ledger, touches, event),
                None => *malformed += 1,
            }
        }
        let (mut family, begun) = (Vec::new(), ledger.connections_begun());
        let records = self.tables.records(RECORDS_AT_ONCE, |record| match decode(record) {
            Some(event) => {
                *strayed |= matches!(&event, Event::Site(site) if site.end == StackEnd::Elsewhere);
                if matches!(event, Event::Forked { .. } | Event::Executed { .. }) {
                    family.push(event.clone());
                }
                take_in(ledger, touches, event);
            }
            None => *malformed += 1,
        });
        if records < RECORDS_AT_ONCE {
            ledger.cycled();
        }
        brought += records;
        // As many as were used.
        self.give_connections(self.ledger.connections_begun() - begun)?;
        self.look_at_touched();
        self.tell_of_connections();
        self.all_related(&family);
        if std::mem::take(&mut self.strayed) || Instant::now() >= self.next_look {
            self.look_at_targets();
        }
        if self.library.arrived(&mut self.tables)? {
            self.renew_ranges();
        }
        Ok(brought)
    }

    /// Cycles until nothing comes any more: for when nothing is recorded meanwhile.
    pub(super) fn exhaust(&mut self) -> io::Result<()> {
        while self.cycle()? > 0 || self.ledger.is_waiting() {}
        Ok(())
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
        self.look_at_pages(last);
        let ledger = &mut self.ledger;
        self.tables.died(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        let at_ns = now_ns();
        Ok(Snapshot {
            at_ns,
            last,
            objects: self.objects(at_ns, last)?,
            connections: self.connections(at_ns),
            sites: self.figures(at_ns)?,
            losses,
            unknown_releases: self.ledger.unknown_releases(),
            hits: (0..self.probes).map(|probe| self.tables.hits(probe)).collect(),
            descriptors: self.descriptors(),
            unseen: self.found.as_ref().map_or((0, 0), |found| found.unseen),
            ended: self.ended.clone(),
            sampling: self.windows.as_ref().map(|windows| windows.sampling(at_ns)),
            unwind: self.library.status(),
            without_table: self.library.without_room(),
            kin: std::mem::take(&mut self.kin),
            mappings: std::mem::take(&mut self.changed),
        })
    }

    /// The figures of one moment. Many blocks take a while; meanwhile the young are drained, and what
    /// was drained reaches the ledger with the next cycle, before any record is read.
    fn figures(&mut self, at_ns: u64) -> io::Result<Vec<SiteFigures>> {
        let Self { ledger, tables, taken, .. } = self;
        let min_age_ns = u64::try_from(self.manner.min_age.as_nanos()).unwrap_or(u64::MAX);
        let (begun, mut drained, mut failed) = (Instant::now(), Instant::now(), None);
        let mut sites = site_figures(ledger, at_ns, min_age_ns, || {
            if drained.elapsed() >= WALK_AT_ONCE && failed.is_none() {
                failed = tables.drain(taken).err();
                drained = Instant::now();
            }
        });
        if let Some(windows) = self.windows.as_ref().filter(|windows| windows.are_some_of_it()) {
            windows.add_batches(at_ns, ledger, &mut sites);
        }
        log::debug!("figures of {} call sites took {:?}", sites.len(), begun.elapsed());
        failed.map_or(Ok(sites), Err)
    }

    /// Sleeps until `until`, a crowded ring buffer, or a time after which requests are looked at.
    /// Returns whether the ring buffer is crowded.
    fn wait(&mut self, until: Instant) -> bool {
        let patience = if self.windows.is_some() { BUDGET_PATIENCE } else { PATIENCE };
        let timeout = until.saturating_duration_since(Instant::now()).min(patience);
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
