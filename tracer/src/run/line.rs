//! The running line: collector and reporter, from attach to last report.

use std::{
    sync::{
        Arc, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{
    Reports,
    attach::{Attached, Listing},
    attacher::{self, Channels, TargetEvent},
    calibrate::{ProbeCosts, calibrate},
    choose::{Targets, explain, explain_late, without_return_probes},
    collect_options::manner,
    command::{Exits, follow, launch},
    governor::Governor,
    journal::Journal,
};
use crate::{
    assemble::{Assembly, Blocks, Levels, Member, SessionInfo, unmatched_packs},
    collect::{
        Snapshot,
        collector::{Collector, Request, TrackedProcess, now_ns},
    },
    error::Failure,
    kernel::{Backend, Footprint, Loaded, Programs},
    packs::Fault,
    preflight::Facts,
    report::{Host, Report, Word},
    settings::{Format, Settings, Wanted},
    target::{Identity, identify, launch::Launched, mappings, watch::Watch},
    unwind::Library,
};

/// How long the status of a command that has ended is waited for.
const EXIT_PATIENCE: Duration = Duration::from_millis(500);
/// Collector and reporter at work.
pub(super) struct Line {
    attacher: JoinHandle<Programs>,
    targets: Vec<Identity>,
    requests: Sender<Request>,
    collector: JoinHandle<std::io::Result<()>>,
    reporter: JoinHandle<Option<Report>>,
    reports: Reports,
    command: Option<Arc<Launched>>,
    exits: Exits,
    journal: Option<Journal>,
    /// What users' packs name that is not there.
    unmatched: Vec<String>,
}

impl Line {
    /// Attaches to the targets and starts the threads. `begun` is when leaktrace was started.
    pub(super) fn start(
        settings: &Settings,
        targets: Targets,
        loaded: Loaded,
        facts: &Facts,
        begun: Instant,
    ) -> anyhow::Result<Self> {
        let Loaded { mut programs, tables, log, backend, footprint } = loaded;
        let journal = settings.log_connections.as_deref().map(Journal::open).transpose()?;
        let budget = budget(settings, &mut programs)?;
        let exits = Exits::default();
        let without = without_return_probes(settings, facts, &targets);
        let (requests, incoming) = mpsc::channel();
        let (news, heard) = mpsc::channel();
        let (command, identities) = match targets {
            Targets::Running(identities) => (None, identities),
            Targets::Command { program, args } => {
                let launched = launch(&program, &args, news, requests.clone())?;
                let identity = identify(launched.pid()).map_err(explain)?;
                (Some(launched), vec![identity])
            }
        };
        let mut library =
            Library::new(tables.unwind_pages()).context("could not start making unwind tables")?;
        let mut attached = Attached::new(settings, without);
        let mut followed = Vec::with_capacity(identities.len());
        for identity in &identities {
            let pid = identity.pid;
            let late = |error| explain_late(pid, error);
            let watch = Watch::new(pid).map_err(late)?;
            let mappings = mappings::read(pid).map_err(late)?;
            library.learn(pid, &mappings);
            let allocators = attached.attach(&mut programs, pid, &mappings).map_err(|error| {
                if watch.ended() { Failure::Ended { pid: pid.0 }.into() } else { error }
            })?;
            let mappings = Arc::new(mappings);
            followed.push(TrackedProcess { pid, watch, allocators, mappings });
        }
        let probed = attached.probed();
        let mut collector = Collector::new(tables, library, followed, probed, manner(settings))
            .context("could not write to the programs' tables")?;
        let journal = journal.map(|(journal, tell)| {
            collector.log_connections(tell);
            journal
        });
        if !settings.trial.bare_traps {
            collector.start().context("could not switch recording on")?;
        }
        let loaded = (backend, footprint);
        let mut session = session(settings, &identities, attached.listing(), facts, loaded, begun);
        let unmatched = unmatched(settings, &session);
        let journal = journal.map(|opened| opened.begin(&mut session)).transpose()?;
        if let Some(command) = &command {
            command.resume();
            follow(Arc::clone(command), heard, requests.clone(), Arc::clone(&exits))?;
        }
        log.map(|log| spawn("programs' log", || log.forward())).transpose()?;
        let (snapshots, pictures) = mpsc::channel();
        let (latest, reports) = watch::channel(None);
        let (listings, listed) = mpsc::channel();
        let (changes, changed) = mpsc::channel();
        let aloud = settings.format != Format::Tui;
        let ears = Channels { requests: requests.clone(), listings, aloud };
        let pids = identities.iter().map(|identity| identity.pid).collect();
        let keep =
            |(share, prices)| Governor::new(share, prices, pids, requests.clone(), &mut programs);
        let governor = budget.map(keep).transpose()?;
        let attacher = attacher::start(programs, attached, changed, ears, governor)?;
        let interval = settings.interval;
        let collector = spawn("collector", move || {
            collect(collector, &incoming, interval, &changes, &snapshots)
        })?;
        let ends = Arc::clone(&exits);
        let reporter =
            spawn("reporter", move || report(session, &pictures, &listed, &latest, &ends))?;
        Ok(Self {
            attacher,
            targets: identities,
            requests,
            collector,
            reporter,
            reports,
            command,
            exits,
            journal,
            unmatched,
        })
    }

    /// Says on stderr what is wrong with packs: when tracing has begun, so that a refusal stands alone.
    pub(super) fn warn(&self, settings: &Settings) {
        for fault in &settings.pack_faults {
            crate::error::warn(&left_out(fault), &fault.help);
        }
        for text in &self.unmatched {
            crate::error::warn(text, "nm -D --defined-only LIB has the names of functions");
        }
    }

    /// Says on stderr that tracing has begun: a report on stdout is never mixed with messages.
    pub(super) fn announce(&self) {
        let pids: Vec<String> = self.targets.iter().map(|one| one.pid.to_string()).collect();
        crate::error::say(&format!("tracing {} (Ctrl-C ends)", pids.join(", ")));
    }

    /// Who is traced, as it was at the attach.
    pub(super) fn targets(&self) -> &[Identity] {
        &self.targets
    }

    /// The latest report, as it changes.
    pub(super) fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// Returns when every target has ended, or the line has broken.
    pub(super) async fn ended(&self) {
        let mut reports = self.reports.clone();
        let over = |report: &Option<Arc<Report>>| {
            report
                .as_ref()
                .is_some_and(|report| report.targets.iter().all(|target| target.exited.is_some()))
        };
        // An error means that the reporter is gone: there is nothing to wait for either.
        drop(reports.wait_for(over).await);
        // How a command of ours ended is known a moment after the end itself.
        let limit = Instant::now() + EXIT_PATIENCE;
        let unknown = |command: &Arc<Launched>| {
            !self.exits.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&command.pid())
        };
        while self.command.as_ref().is_some_and(unknown) && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops recording, for whoever has seen enough.
    /// `None` when what keeps the probes on is gone, and they with it.
    pub(super) fn leave(self) -> Option<Programs> {
        // A collector that is gone needs no request. The reporter may be naming things that nobody
        // will read; it ends with the process.
        drop(self.requests.send(Request::Stop));
        drop(self.collector.join());
        if let Some(journal) = &self.journal {
            journal.settle();
        }
        // A command that still runs is given back to itself.
        drop(self.command);
        self.attacher.join().ok()
    }

    /// Stops recording and waits for the last report.
    pub(super) fn stop(self) -> (anyhow::Result<Report>, Option<Programs>) {
        drop(self.requests.send(Request::Stop));
        let collected = self.collector.join();
        drop(self.requests);
        let report = self.reporter.join();
        drop(self.command);
        let report = match (collected, report) {
            (Ok(Ok(())), Ok(Some(report))) => Ok(report),
            (Ok(Err(error)), _) => {
                Err(anyhow::Error::from(error).context("could not read the kernel's tables"))
            }
            _ => Err(anyhow::anyhow!("could not finish the report: a thread of leaktrace failed")),
        };
        (report, self.attacher.join().ok())
    }
}

/// A thread with a name.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("could not start the {name}'s thread"))
}

/// The collector: tells the attacher of what is new, and the reporter of everything.
fn collect(
    collector: Collector,
    requests: &Receiver<Request>,
    interval: Duration,
    changes: &Sender<TargetEvent>,
    snapshots: &Sender<Snapshot>,
) -> std::io::Result<()> {
    // Nobody is left to attach, or to report, when the line is being torn down.
    let tell = |pid| drop(changes.send(TargetEvent::Executed(pid)));
    collector.run(requests, interval, tell, |snapshot| {
        for (pid, mappings) in &snapshot.mappings {
            drop(changes.send(TargetEvent::Mapped(*pid, Arc::clone(mappings))));
        }
        drop(snapshots.send(snapshot));
    })
}

/// The reporter: snapshots in, the latest report out. Returns the last one.
fn report(
    session: SessionInfo,
    snapshots: &Receiver<Snapshot>,
    listings: &Receiver<Listing>,
    latest: &watch::Sender<Option<Arc<Report>>>,
    exits: &Exits,
) -> Option<Report> {
    let mut assembly = Assembly::new(session);
    let mut last = None;
    while let Ok(mut snapshot) = snapshots.recv() {
        // Only the newest counts; what older ones say of mappings is said once and must be kept.
        while let Ok(newer) = snapshots.try_recv() {
            let mut mappings = std::mem::take(&mut snapshot.mappings);
            mappings.extend(newer.mappings.iter().cloned());
            let mut process_events = std::mem::take(&mut snapshot.process_events);
            process_events.extend(newer.process_events.iter().cloned());
            snapshot = Snapshot { process_events, mappings, ..newer };
        }
        if let Some(Listing { probes, refused, warnings, allocators }) = listings.try_iter().last()
        {
            assembly.probed(probes, refused, warnings, allocators);
        }
        for (pid, exit) in exits.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            assembly.exited(*pid, *exit);
        }
        let report = assembly.report(&snapshot);
        if snapshot.last {
            last = Some(report);
        } else {
            latest.send_replace(Some(Arc::new(report)));
        }
    }
    last
}

/// The share that tracing may take, and the prices that it is reckoned by, if there is a budget.
fn budget(
    settings: &Settings,
    programs: &mut Programs,
) -> anyhow::Result<Option<(f64, ProbeCosts)>> {
    settings.max_overhead.map(|share| Ok((share.fraction(), calibrate(programs)?))).transpose()
}

/// What users' packs name that is not there, as far as that is known: a command has not loaded its libraries yet.
fn unmatched(settings: &Settings, session: &SessionInfo) -> Vec<String> {
    match settings.target {
        Wanted::Command { .. } => Vec::new(),
        _ => unmatched_packs(&settings.packs, &session.probes),
    }
}

fn left_out(fault: &Fault) -> String {
    format!("left out a pack: {}", fault.text)
}

fn session(
    settings: &Settings,
    identities: &[Identity],
    listing: Listing,
    facts: &Facts,
    (backend, footprint): (Option<Backend>, Footprint),
    begun: Instant,
) -> SessionInfo {
    let name = rustix::system::uname();
    let targets: Vec<_> = identities.iter().cloned().map(Member::named).collect();
    SessionInfo {
        host: Host {
            kernel: name.release().to_string_lossy().into_owned(),
            arch: name.machine().to_string_lossy().into_owned(),
            fd_backend: backend.map(|backend| Word::named(backend.name())),
            lockdown: facts.lockdown.as_deref().map(Word::named),
        },
        probes: listing.probes,
        refused: listing.refused,
        untraced: listing.warnings,
        allocators: listing.allocators,
        started_at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        started_ns: now_ns(),
        attach_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        kernel_bytes: [footprint.maps_bytes, footprint.unwind_bytes],
        light: settings.light.then(|| Levels::begin(now_ns(), &targets)),
        targets,
        log: None,
        kinds: settings.kinds.clone(),
        blocks: Blocks::of(&settings.packs),
        packs: settings.packs.clone(),
        faults: settings.pack_faults.iter().map(left_out).collect(),
        live: settings.format == Format::Tui,
        top: settings.top.unwrap_or(usize::MAX),
    }
}
