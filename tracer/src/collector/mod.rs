//! The collector's loop: BPF maps and records → ledger → snapshots.
//!
//! Owns the BPF maps and the ledger. Takes requests, passes on a snapshot per interval. A slow reader of
//! snapshots never blocks it.

mod cycle;
mod heap_looks;
mod id_pools;
mod pacer;
mod processes;
mod requests;
mod steps;
mod thread_stacks;
mod usage;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tracer_common::{attach::ProbeNumber, loss::Loss, stack::StackEnd};

use self::{
    cycle::{Drains, receive},
    heap_looks::{HeapLooks, verifies},
    id_pools::IdPools,
    pacer::Pacer,
    processes::Processes,
    steps::{Step, on_tape},
    thread_stacks::ThreadStacks,
    usage::{FirstUsage, limits, resident},
};
pub use self::{
    processes::TrackedProcess,
    requests::{Probed, Reading, Request},
};
use crate::{
    kernel::{Drained, IdPool},
    ledger::{Ledger, connections::Occurrence, events::Event},
    lib_objects::{details::ObjectReader, ledger::Objects},
    options::{TestOptions, TraceOptions},
    reconcile::{
        fds::{FdReconciliation, SCANS},
        heap::HeapVerification,
        pages::{Touches, route_event},
        sockets::connections,
    },
    snapshot::{SiteFigures, Snapshot, site_figures, windows::Windows},
    source::{RecordSource, StackOptions},
    tape::{Question, Redact, Redactor, Timer},
    target::{Pid, limits::Wanted},
};

/// Maximum number of records read between two drains, so that drains are never starved.
const MAX_RECORDS_PER_CYCLE: usize = 1 << 18;
/// Call sites of ended processes whose numbers are given back at once. To unlink their stacks takes some milliseconds,
/// mostly for a look at the whole stack cache.
const RETIRED_AT_ONCE: usize = 1 << 12;
/// Longest wait for unwind tables before recording begins. Tables that are not ready then come later.
const TABLES_TIMEOUT: Duration = Duration::from_millis(500);

/// The loop's state.
pub struct Collector {
    source: RecordSource,
    ledger: Ledger,
    /// A stack had an address outside of known code.
    unknown_code_seen: bool,
    processes: Processes,
    probes: ProbeNumber,
    /// Where library objects are traced: their reader.
    objects: Option<ObjectReader>,
    options: TraceOptions,
    /// When to do what; `None` for a tape, which says so itself.
    pacer: Option<Pacer>,
    drained_batch: Vec<Drained>,
    /// In light mode: pages that were touched.
    touches: Option<Touches>,
    /// In light mode: the targets' usage at the start.
    first_usage: Option<FirstUsage>,
    /// Where file descriptors are traced: their reconciliation with `/proc`.
    fds: Option<FdReconciliation>,
    /// Where threads are traced: the memory of their stacks.
    thread_stacks: Option<ThreadStacks>,
    id_pools: IdPools,
    malformed: u64,
    doubts_seen: u64,
    /// What the heaps of the targets say.
    heaps: HeapVerification,
    /// When to look at them; `None` for a tape, which has the looks.
    heap_looks: Option<HeapLooks>,
    /// Sampling windows, where there is a budget.
    windows: Option<Windows>,
    /// Whether recording is paused.
    paused: bool,
}

/// With what a collector begins.
#[derive(Clone, Serialize, Deserialize)]
pub struct Beginning {
    /// The targets, whose code the source knows.
    pub targets: Vec<TrackedProcess>,
    /// Their probes.
    pub probed: Probed,
    /// What to trace, and how.
    pub options: TraceOptions,
    /// Time between two snapshots.
    pub interval: Duration,
}

impl Redact for Beginning {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        let target = |one: &TrackedProcess| TrackedProcess {
            mappings: Arc::new(one.mappings.redacted(redactor)),
            ..one.clone()
        };
        Self { targets: self.targets.iter().map(target).collect(), ..self.clone() }
    }
}

impl Collector {
    /// A collector with recording still off. With a tape as `source`, it begins as the recorded one did.
    pub fn new(mut source: RecordSource, live: Option<Beginning>) -> io::Result<Self> {
        let live = || live.ok_or_else(|| io::Error::other("there is nothing to trace"));
        let Beginning { targets, probed, options, interval } =
            source.answers().try_ask(Question::Targets, live)?;
        let TestOptions { frames, forget, .. } = options.test_options;
        let mut collector = Self {
            pacer: Pacer::new(&source, interval, &options)?,
            heap_looks: source.ring().is_some().then(|| HeapLooks::new(verifies(&options))),
            heaps: HeapVerification::default(),
            source,
            ledger: Ledger::default(),
            unknown_code_seen: false,
            processes: Processes::new(StackOptions { frames, forget }, options.children),
            probes: 0,
            objects: options.traces_objects().then(|| ObjectReader::new(options.live)),
            drained_batch: Vec::new(),
            touches: options.light.then(Touches::new),
            first_usage: None,
            fds: options.traces_descriptors().then(FdReconciliation::default),
            thread_stacks: options.traces_threads().then(ThreadStacks::default),
            id_pools: IdPools::new(options.traces_descriptors(), options.descriptors_are_named),
            malformed: 0,
            doubts_seen: 0,
            windows: options.max_overhead.map(|share| Windows::new(share.fraction())),
            paused: false,
            options,
        };
        collector.learn_probes(probed);
        let Self { id_pools, processes, source, ledger, options, first_usage, .. } = &mut collector;
        id_pools.allocate_initial(source, ledger)?;
        source.settle_tables(TABLES_TIMEOUT)?;
        for target in targets {
            processes.add(target, source, ledger)?;
        }
        if options.light {
            *first_usage = Some(FirstUsage::read(source, &processes.running()));
        }
        Ok(collector)
    }

    /// Turns recording on.
    pub fn start(&mut self) -> io::Result<()> {
        if let Some(windows) = &mut self.windows {
            windows.begin(self.source.now_ns());
        }
        if let Some(fds) = &mut self.fds {
            fds.begin(&mut self.source, self.processes.running().into_iter());
        }
        self.source.switch(true)?;
        self.cycle()?;
        if let Some(fds) = &mut self.fds {
            fds.add_preexisting(&mut self.source, &mut self.ledger);
        }
        Ok(())
    }

    /// Runs until a stop request (or until the senders are gone), handing a snapshot to `publish` every interval
    /// and at the end. Calls `executed` for each target that has called exec. A tape has the requests itself.
    pub fn run(
        mut self,
        requests: Option<&Receiver<Request>>,
        executed: impl Fn(Pid),
        mut publish: impl FnMut(Snapshot),
    ) -> io::Result<()> {
        self.id_pools.allocate_remaining(&mut self.source, &self.ledger)?;
        for portion in 0..id_pools::PORTIONS {
            self.id_pools.allocate_portion(portion, &mut self.source, &self.ledger)?;
            self.cycle()?;
        }
        loop {
            match self.next_step(requests)? {
                Step::Stop => break,
                Step::Heap(reading, internals) => self.take_look(reading, internals),
                Step::Request(request) => self.handle_request(request)?,
                Step::Cycle => {
                    let received = self.cycle()?;
                    let late = self.source.drained_late();
                    self.pacer.iter_mut().for_each(|pacer| pacer.cycled(received, late));
                }
                Step::Snapshot => {
                    // Its last events, a fork for example, must be known when its end is reported.
                    self.cycle()?;
                    self.refresh_targets();
                    self.reconcile_descriptors(false)?;
                    let snapshot = self.snapshot(false)?;
                    self.pacer.iter_mut().for_each(|pacer| pacer.published(snapshot.sites.len()));
                    publish(snapshot);
                    self.source.answers().flush();
                }
            }
            self.processes.take_executed().into_iter().for_each(&executed);
        }
        // As often as it takes to believe the results.
        for _ in 0..SCANS {
            self.reconcile_descriptors(true)?;
        }
        self.finish()?;
        self.heaps.settle(&mut self.ledger);
        self.refresh_targets();
        publish(self.snapshot(true)?);
        self.source.answers().flush();
        Ok(())
    }

    /// What to do next.
    fn next_step(&mut self, requests: Option<&Receiver<Request>>) -> io::Result<Step> {
        let Self { pacer, heap_looks, source, paused, .. } = self;
        let Self { heaps, ledger, processes, objects, .. } = self;
        let due = pacer.as_mut().zip(heap_looks.as_mut()).map(|(pacer, looks)| {
            let due = || pacer.next(requests, source, *paused);
            let mappings = || processes.mappings();
            let territories = || Some(objects.as_ref()?.territories(ledger, &mappings()));
            looks.step(due, heaps, ledger, (&processes.running(), &territories))
        });
        on_tape(due, source)
    }

    /// Receives events from the kernel, see [`receive`], and applies them. Returns the number of resources and records.
    fn cycle(&mut self) -> io::Result<usize> {
        let Self {
            source,
            drained_batch,
            ledger,
            malformed,
            unknown_code_seen,
            touches,
            processes,
            ..
        } = self;
        let (mut events, begun) = (Vec::new(), ledger.connections().begun());
        let apply = |event: Option<Event>| match event {
            Some(Event::Loaded(load)) => *unknown_code_seen |= processes.loaded(&load),
            Some(mut event) => {
                processes.assign_generation(&mut event, ledger);
                *unknown_code_seen |=
                    matches!(&event, Event::Site(site) if site.end == StackEnd::Elsewhere);
                if matches!(
                    event,
                    Event::Forked { .. } | Event::Executed { .. } | Event::Ended { .. }
                ) {
                    events.push(event.clone());
                }
                route_event(ledger, touches, event);
            }
            None => *malformed += 1,
        };
        let received = receive(source, drained_batch, MAX_RECORDS_PER_CYCLE, apply)?;
        processes.assign_generations(ledger);
        if received.records < MAX_RECORDS_PER_CYCLE {
            self.ledger.cycled();
        }
        // Replaces the numbers that were used.
        let used = self.ledger.connections().begun() - begun;
        self.id_pools.allocate_connections(&mut self.source, &self.ledger, used)?;
        if let Some(touches) = &mut self.touches {
            touches.check_touched(&mut self.source, &mut self.ledger);
        }
        if let Some(fds) = &mut self.fds {
            fds.log_occurrences(&mut self.ledger);
        }
        let Self { processes, source, ledger, fds, .. } = self;
        processes.apply(&events, source, ledger, fds.as_mut());
        self.retire_sites(RETIRED_AT_ONCE)?;
        if std::mem::take(&mut self.unknown_code_seen) || self.source.is_due(Timer::Mappings) {
            self.refresh_targets();
        }
        if self.source.tables_arrived()? {
            self.processes.refresh_code_ranges(&mut self.source, &mut self.ledger);
        }
        Ok(received.drained + received.records)
    }

    /// Gives the call-site numbers of processes that have ended back to the programs, once there are `enough` of them.
    fn retire_sites(&mut self, enough: usize) -> io::Result<()> {
        let Self { source, ledger, windows, .. } = self;
        if ledger.stacks_to_unlink() >= enough {
            source.unlink_stacks(&ledger.unlink_stacks())?;
        }
        if !ledger.may_retire() {
            return Ok(());
        }
        // The last chance to know what died young there.
        source.died_young(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        let free = ledger.retire();
        windows.iter_mut().for_each(|windows| windows.forget_sites(free.iter().copied()));
        source.add_ids(IdPool::Sites, free.into_iter())
    }

    /// Detects targets that have ended, and libraries that were mapped or unmapped.
    fn refresh_targets(&mut self) {
        let Self { processes, source, ledger, fds, .. } = self;
        processes.refresh(source, ledger, fds.as_ref());
    }

    /// Compares the ledger with `/proc`, unless the last scan was a short while ago; `now` forces a scan.
    fn reconcile_descriptors(&mut self, now: bool) -> io::Result<()> {
        if self.fds.is_none() {
            return Ok(());
        }
        let running = self.processes.running();
        let scan = FdReconciliation::scan(&mut self.source, &self.ledger, running.into_iter(), now);
        let Some(scan) = scan else { return Ok(()) };
        // One more cycle brings everything that was opened until the listing.
        self.cycle()?;
        if let Some(fds) = &mut self.fds {
            fds.reconcile(&scan, &mut self.ledger, &mut self.source);
        }
        Ok(())
    }

    /// Starts the log of connections, where descriptors are traced.
    pub fn log_connections(&mut self, log: impl FnMut(Occurrence) + Send + 'static) {
        if let Some(fds) = &mut self.fds {
            fds.log_connections(&mut self.ledger, log);
        }
    }

    /// Losses by reason so far; what a lost release may have been about is set aside.
    fn losses(&mut self) -> io::Result<BTreeMap<Loss, u64>> {
        let mut losses: BTreeMap<Loss, u64> =
            self.source.losses().filter(|(_, count)| *count > 0).collect();
        let lost = [Loss::ReleaseDropped, Loss::ReleaseBusy]
            .iter()
            .map(|reason| losses.get(reason).copied().unwrap_or(0))
            .sum();
        if lost > self.doubts_seen {
            // Resources must have reached the ledger before they can be set aside.
            self.cycle()?;
            let positions = self.source.lost_release_positions()?;
            self.ledger.doubt(&positions);
            self.doubts_seen = lost;
        }
        let missed = self.heaps.verified().map_or(0, |verified| verified.missed_releases);
        for (reason, count) in [
            (Loss::Doubtful, self.ledger.doubtful()),
            (Loss::Malformed, self.malformed),
            (Loss::MissedRelease, missed),
        ] {
            if count > 0 {
                losses.insert(reason, count);
            }
        }
        Ok(losses)
    }

    fn snapshot(&mut self, last: bool) -> io::Result<Snapshot> {
        let losses = self.losses()?;
        if self.touches.is_some() {
            let ended = self.processes.ended();
            Touches::check_resident(&mut self.source, &mut self.ledger, ended, last);
        }
        let ledger = &mut self.ledger;
        let mut died_young = Vec::new();
        self.source
            .died_young(ledger.site_numbers(), |site, died| died_young.push((site, died)))?;
        let at_ns = self.source.now_ns();
        ledger.set_now(at_ns);
        died_young.into_iter().for_each(|(site, died)| ledger.set_died(site, died));
        ledger.copy_due(at_ns, last);
        // Frees what is kept of ended processes at least once per snapshot.
        self.retire_sites(0)?;
        let gone = self.processes.take_gone();
        if let Some(fds) = &mut self.fds {
            gone.iter().for_each(|pid| fds.forget(*pid));
        }
        let (unwind, without_table) = self.source.table_status();
        let running = self.processes.running();
        let resident = resident(&mut self.source, &running);
        let Self { first_usage, source, drained_batch, fds, thread_stacks, .. } = self;
        let times = (at_ns, self.options.min_age);
        let threads = thread_stacks.as_mut().map(|all| all.sums(source, &mut self.ledger, times));
        let wanted = Wanted { count: fds.is_none(), fresh: last };
        let limits = limits(source, drained_batch, &running, wanted)?;
        let usage =
            first_usage.as_ref().map(|first| first.compare(source, drained_batch, &running));
        Ok(Snapshot {
            at_ns,
            last,
            resident,
            limits,
            heap: self.heaps.sums(&running),
            verified: self.heaps.verified().filter(|_| last),
            usage: usage.transpose()?,
            objects: self.objects(at_ns, last)?,
            connections: connections(
                self.fds.as_mut(),
                &mut self.ledger,
                self.options.min_age,
                at_ns,
            ),
            sites: self.figures(at_ns)?,
            threads: threads.unwrap_or_default(),
            lives_origin_ns: self.ledger.lives_origin_ns(),
            losses,
            unknown_releases: self.ledger.unknown_releases(),
            unknown_blocks: self.ledger.unknown_blocks(),
            hits: self.source.hits(self.probes),
            descriptors: self
                .fds
                .as_ref()
                .map_or_else(Vec::new, |fds| fds.descriptors(&self.ledger)),
            unseen: self.fds.as_ref().map_or((0, 0), |fds| fds.unseen),
            past: self.ledger.past().collect(),
            ended: self.processes.ended().iter().chain(&gone).copied().collect(),
            sampling: self.windows.as_ref().map(|windows| windows.sampling(at_ns)),
            unwind,
            without_table,
            process_events: self.processes.take_events(),
            mappings: self.processes.take_changed(&gone),
        })
    }

    /// The library objects, where they are traced. Reading the fields of many takes a while; see [`Self::figures`].
    fn objects(&mut self, at_ns: u64, last: bool) -> io::Result<Option<Objects>> {
        let Self { objects, ledger, source, drained_batch, .. } = self;
        let Some(reader) = objects else { return Ok(None) };
        let (begun, mut drains) = (Instant::now(), Drains::new());
        let all = reader.read(source, ledger, at_ns, last, |source, pid, locations| {
            drains.keep_up(source, drained_batch);
            source.numbers(pid, locations)
        })?;
        log::debug!("library objects took {:?}", begun.elapsed());
        drains.result().map(|()| Some(all))
    }

    /// The figures of one moment. With many blocks this takes a while; meanwhile the young generation is drained,
    /// and the drained resources reach the ledger with the next cycle, before any record is read.
    fn figures(&mut self, at_ns: u64) -> io::Result<Vec<SiteFigures>> {
        let Self { ledger, source, drained_batch, .. } = self;
        let min_age_ns = u64::try_from(self.options.min_age.as_nanos()).unwrap_or(u64::MAX);
        let (begun, mut drains) = (Instant::now(), Drains::new());
        let mut sites = site_figures(ledger, at_ns, min_age_ns, || {
            drains.keep_up(source, drained_batch);
        });
        if let Some(windows) = self.windows.as_ref().filter(|windows| windows.is_estimated()) {
            windows.add_batches(at_ns, ledger, &mut sites);
        }
        log::debug!("figures of {} call sites took {:?}", sites.len(), begun.elapsed());
        drains.result().map(|()| sites)
    }
}

#[cfg(test)]
mod tests;
