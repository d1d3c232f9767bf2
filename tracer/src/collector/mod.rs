//! The collector's loop: BPF maps and records → ledger → snapshots.
//!
//! Owns the BPF maps and the ledger. Takes requests, hands on a snapshot per interval. A slow reader of
//! snapshots never blocks it.

mod cycle;
mod generations;
mod id_pools;
mod pauses;
mod processes;
mod requests;
mod usage;

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

use rustix::event::{Timespec, epoll};
use tracer_common::{attach::ProbeNumber, loss::Loss, stack::StackEnd};

use self::{
    cycle::{Drains, receive},
    generations::Generations,
    usage::FirstUsage,
};
pub use self::{
    processes::TrackedProcess,
    requests::{Probed, Reading, Request},
};
use crate::{
    kernel::{Drained, Tables, now_ns},
    ledger::{Ledger, connections::Occurrence, events::Event},
    lib_objects::{details::ObjectReader, ledger::Objects},
    options::TraceOptions,
    reconcile::{
        fds::{FdReconciliation, SCANS},
        pages::{Touches, route_event},
        sockets::connections,
    },
    snapshot::{ProcessEvent, SiteFigures, Snapshot, site_figures, windows::Windows},
    target::{Pid, mappings::Mappings, memory},
    unwind::Library,
};

/// Longest time between two drains: a resource that lives longer may cost a record at its release.
const MAX_DRAIN_INTERVAL: Duration = Duration::from_millis(250);
/// The same with `--light`, where nothing dies in the kernel because releases are not seen there.
const MAX_LIGHT_DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time: a drain of an empty table takes about a millisecond.
const MIN_DRAIN_INTERVAL: Duration = Duration::from_millis(5);
/// With more blocks and records than this in one cycle, the next drain comes sooner.
const CROWDED: usize = 1 << 16;
/// Maximum number of records read between two drains, so that drains are never starved.
const MAX_RECORDS_PER_CYCLE: usize = 1 << 18;
/// Longest wait before requests are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The same where requests open and close sampling windows.
const BUDGET_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Longest wait for unwind tables before recording begins. Tables that are not ready then come later.
const TABLES_TIMEOUT: Duration = Duration::from_millis(500);

/// The loop's state.
pub struct Collector {
    tables: Tables,
    /// An epoll instance; wakes up when the BPF programs find the ring buffer crowded.
    wakes: OwnedFd,
    ledger: Ledger,
    library: Library,
    generations: Generations,
    /// A stack had an address outside of known code.
    unknown_code_seen: bool,
    /// When memory maps are read again.
    next_scan: Instant,
    targets: Vec<TrackedProcess>,
    probes: ProbeNumber,
    /// Where library objects are traced: their reader.
    objects: Option<ObjectReader>,
    options: TraceOptions,
    drained_batch: Vec<Drained>,
    /// In light mode: pages that were touched.
    touches: Option<Touches>,
    /// In light mode: the targets' usage at the start.
    first_usage: Option<FirstUsage>,
    /// Where file descriptors are traced: their reconciliation with `/proc`.
    fds: Option<FdReconciliation>,
    /// The next connection number to allocate.
    next_connection: u32,
    malformed: u64,
    doubts_seen: u64,
    ended: Vec<Pid>,
    changed: Vec<(Pid, Arc<Mappings>)>,
    process_events: Vec<ProcessEvent>,
    /// Sampling windows, where there is a budget.
    windows: Option<Windows>,
    /// Whether recording is paused.
    paused: bool,
    /// Targets that called exec and of which the attacher has not been notified yet.
    executed: Vec<Pid>,
}

impl Collector {
    /// A collector over `tables`, with recording still off; `library` already knows the targets.
    pub fn new(
        tables: Tables,
        library: Library,
        targets: Vec<TrackedProcess>,
        probed: Probed,
        options: TraceOptions,
    ) -> io::Result<Self> {
        let wakes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Edge-triggered: the buffer nearly always holds something, which is no reason to wake up.
        // SAFETY: the ring buffer's descriptor stays open as long as the tables, which live as long as the collector.
        let ring = unsafe { BorrowedFd::borrow_raw(tables.as_raw_fd()) };
        let when = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&wakes, ring, epoll::EventData::new_u64(0), when)?;
        let mut collector = Self {
            tables,
            wakes,
            ledger: Ledger::default(),
            library,
            generations: Generations::default(),
            unknown_code_seen: false,
            next_scan: Instant::now(),
            targets: Vec::new(),
            probes: 0,
            objects: options.traces_objects().then(|| ObjectReader::new(options.live)),
            drained_batch: Vec::new(),
            touches: options.light.then(Touches::new),
            first_usage: None,
            fds: options.traces_descriptors().then(FdReconciliation::default),
            next_connection: 1,
            malformed: 0,
            doubts_seen: 0,
            ended: Vec::new(),
            changed: Vec::new(),
            process_events: Vec::new(),
            windows: options.max_overhead.map(|share| Windows::new(share.fraction())),
            paused: false,
            executed: Vec::new(),
            options,
        };
        collector.learn_probes(probed);
        collector.allocate_initial_ids()?;
        collector.library.settle(TABLES_TIMEOUT, &mut collector.tables)?;
        for target in targets {
            collector.write_code_ranges(&target)?;
            collector.tables.add_target(target.pid.0, collector.options.children)?;
            collector.changed.push((target.pid, Arc::clone(&target.mappings)));
            collector.targets.push(target);
        }
        if collector.options.light {
            collector.first_usage = Some(FirstUsage::read(collector.running()));
        }
        Ok(collector)
    }

    /// Turns recording on.
    pub fn start(&mut self) -> io::Result<()> {
        if let Some(windows) = &mut self.windows {
            windows.begin(now_ns());
        }
        if let Some(fds) = &mut self.fds {
            fds.begin(self.targets.iter().map(|one| one.pid));
        }
        self.tables.switch(true)?;
        self.cycle()?;
        if let Some(fds) = &mut self.fds {
            fds.add_preexisting(&mut self.ledger);
        }
        Ok(())
    }

    /// Runs until a stop request (or until the senders are gone), handing a snapshot to `publish` every `interval`
    /// and at the end. Calls `executed` for each target that has called exec.
    pub fn run(
        mut self,
        requests: &Receiver<Request>,
        interval: Duration,
        executed: impl Fn(Pid),
        mut publish: impl FnMut(Snapshot),
    ) -> io::Result<()> {
        self.allocate_remaining_ids()?;
        let most = if self.options.light { MAX_LIGHT_DRAIN_INTERVAL } else { MAX_DRAIN_INTERVAL };
        let most = most.min(interval);
        let mut pause = most;
        let mut next_drain = Instant::now();
        let mut next_snapshot = Instant::now();
        loop {
            match requests.try_recv() {
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => break,
                Ok(request) => self.handle_request(request)?,
                Err(TryRecvError::Empty) => {}
            }
            let now = Instant::now();
            if now >= next_drain && !self.paused {
                let received = self.cycle()?;
                // A touched page may be checked late; without a drain it is not lost.
                let full = self.tables.drained_late() && !self.options.light;
                pause = if full || received > CROWDED { pause / 2 } else { pause * 3 / 2 }
                    .clamp(MIN_DRAIN_INTERVAL, most);
                next_drain = Instant::now() + pause;
            }
            // The end of a target is reported at once.
            if now >= next_snapshot || self.has_newly_ended() {
                // Its last events, a fork for example, must be known when its end is reported.
                self.cycle()?;
                self.refresh_targets();
                self.reconcile_descriptors(false)?;
                publish(self.snapshot(false)?);
                next_snapshot = (next_snapshot + interval).max(now + interval / 2);
            }
            self.executed.drain(..).for_each(&executed);
            let until = if self.paused { next_snapshot } else { next_drain.min(next_snapshot) };
            if self.wait(until) {
                next_drain = Instant::now();
            }
        }
        // As often as it takes to believe the results.
        for _ in 0..SCANS {
            self.reconcile_descriptors(true)?;
        }
        self.finish()?;
        self.refresh_targets();
        publish(self.snapshot(true)?);
        Ok(())
    }

    /// Receives events from the kernel, see [`receive`], and applies them. Returns the number of resources and records.
    fn cycle(&mut self) -> io::Result<usize> {
        let Self { tables, drained_batch, ledger, malformed, unknown_code_seen, touches, .. } =
            self;
        let (mut events, begun) = (Vec::new(), ledger.connections_begun());
        let apply = |event: Option<Event>| match event {
            Some(event) => {
                *unknown_code_seen |=
                    matches!(&event, Event::Site(site) if site.end == StackEnd::Elsewhere);
                if matches!(event, Event::Forked { .. } | Event::Executed { .. }) {
                    events.push(event.clone());
                }
                route_event(ledger, touches, event);
            }
            None => *malformed += 1,
        };
        let received = receive(tables, drained_batch, MAX_RECORDS_PER_CYCLE, apply)?;
        if received.records < MAX_RECORDS_PER_CYCLE {
            self.ledger.cycled();
        }
        // Replaces the numbers that were used.
        self.allocate_connections(self.ledger.connections_begun() - begun)?;
        if let Some(touches) = &mut self.touches {
            touches.check_touched(&mut self.ledger);
        }
        if let Some(fds) = &mut self.fds {
            fds.log_occurrences(&mut self.ledger);
        }
        self.apply_process_events(&events);
        if std::mem::take(&mut self.unknown_code_seen) || Instant::now() >= self.next_scan {
            self.refresh_targets();
        }
        if self.library.arrived(&mut self.tables)? {
            self.refresh_code_ranges();
        }
        Ok(received.drained + received.records)
    }

    /// Cycles until nothing arrives any more: for when recording is off.
    fn drain_completely(&mut self) -> io::Result<()> {
        while self.cycle()? > 0 || self.ledger.is_waiting() {}
        Ok(())
    }

    /// Compares the ledger with `/proc`, unless the last scan was a short while ago; `now` forces a scan.
    fn reconcile_descriptors(&mut self, now: bool) -> io::Result<()> {
        let Some(fds) = &self.fds else { return Ok(()) };
        let Some(scan) = fds.scan(&self.ledger, self.running(), now) else { return Ok(()) };
        // One more cycle brings everything that was opened until the listing.
        self.cycle()?;
        if let Some(fds) = &mut self.fds {
            fds.reconcile(&scan, &mut self.ledger, &mut self.tables);
        }
        Ok(())
    }

    /// Starts the log of connections, where descriptors are traced.
    pub fn log_connections(&mut self, log: impl FnMut(Occurrence) + Send + 'static) {
        if let Some(fds) = &mut self.fds {
            fds.log_connections(&mut self.ledger, log);
        }
    }

    fn snapshot(&mut self, last: bool) -> io::Result<Snapshot> {
        let mut losses: BTreeMap<Loss, u64> =
            self.tables.losses().filter(|(_, count)| *count > 0).collect();
        let lost = [Loss::ReleaseDropped, Loss::ReleaseBusy]
            .iter()
            .map(|reason| losses.get(reason).copied().unwrap_or(0))
            .sum();
        if lost > self.doubts_seen {
            // Resources must have reached the ledger before they can be set aside.
            self.cycle()?;
            self.ledger.doubt(&self.tables.lost_release_positions()?);
            self.doubts_seen = lost;
        }
        for (reason, count) in
            [(Loss::Doubtful, self.ledger.doubtful()), (Loss::Malformed, self.malformed)]
        {
            if count > 0 {
                losses.insert(reason, count);
            }
        }
        if let Some(touches) = &mut self.touches {
            touches.check_resident(&mut self.ledger, &self.ended, last);
        }
        let ledger = &mut self.ledger;
        let at_ns = now_ns();
        ledger.set_now(at_ns);
        self.tables.died(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        Ok(Snapshot {
            at_ns,
            last,
            resident: self.resident(),
            usage: self.usage()?,
            objects: self.objects(at_ns, last)?,
            connections: connections(
                self.fds.as_mut(),
                &mut self.ledger,
                self.options.min_age,
                at_ns,
            ),
            sites: self.figures(at_ns)?,
            lives_origin_ns: self.ledger.lives_origin_ns(),
            losses,
            unknown_releases: self.ledger.unknown_releases(),
            hits: (0..self.probes).map(|probe| self.tables.hits(probe)).collect(),
            descriptors: self
                .fds
                .as_ref()
                .map_or_else(Vec::new, |fds| fds.descriptors(&self.ledger)),
            unseen: self.fds.as_ref().map_or((0, 0), |fds| fds.unseen),
            ended: self.ended.clone(),
            sampling: self.windows.as_ref().map(|windows| windows.sampling(at_ns)),
            unwind: self.library.status(),
            without_table: self.library.files_without_table(),
            process_events: std::mem::take(&mut self.process_events),
            mappings: std::mem::take(&mut self.changed),
        })
    }

    /// The library objects, where they are traced. Reading the fields of many takes a while; see [`Self::figures`].
    fn objects(&mut self, at_ns: u64, last: bool) -> io::Result<Option<Objects>> {
        let Self { objects, ledger, tables, drained_batch, .. } = self;
        let Some(reader) = objects else { return Ok(None) };
        let (begun, mut drains) = (Instant::now(), Drains::new());
        let all = reader.read(tables, ledger, at_ns, last, |tables, pid, locations| {
            drains.keep_up(tables, drained_batch);
            memory::numbers(pid, locations)
        })?;
        log::debug!("library objects took {:?}", begun.elapsed());
        drains.result().map(|()| Some(all))
    }

    /// The figures of one moment. With many blocks this takes a while; meanwhile the young generation is drained,
    /// and the drained resources reach the ledger with the next cycle, before any record is read.
    fn figures(&mut self, at_ns: u64) -> io::Result<Vec<SiteFigures>> {
        let Self { ledger, tables, drained_batch, .. } = self;
        let min_age_ns = u64::try_from(self.options.min_age.as_nanos()).unwrap_or(u64::MAX);
        let (begun, mut drains) = (Instant::now(), Drains::new());
        let mut sites = site_figures(ledger, at_ns, min_age_ns, || {
            drains.keep_up(tables, drained_batch);
        });
        if let Some(windows) = self.windows.as_ref().filter(|windows| windows.is_estimated()) {
            windows.add_batches(at_ns, ledger, &mut sites);
        }
        log::debug!("figures of {} call sites took {:?}", sites.len(), begun.elapsed());
        drains.result().map(|()| sites)
    }

    /// Sleeps until `until`, a crowded ring buffer, or the next check for requests. Returns whether the ring buffer
    /// is crowded.
    fn wait(&mut self, until: Instant) -> bool {
        let poll_interval =
            if self.windows.is_some() { BUDGET_POLL_INTERVAL } else { POLL_INTERVAL };
        let timeout = until.saturating_duration_since(Instant::now()).min(poll_interval);
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        let mut events = [MaybeUninit::uninit(); 1];
        // An interrupted wait is a short wait.
        epoll::wait(&self.wakes, &mut events, Some(&timeout))
            .is_ok_and(|(woken, _)| !woken.is_empty())
    }
}
