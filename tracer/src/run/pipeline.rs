//! The running pipeline: collector and reporter, from attach to the last report.
//!
//! Takes settings, targets and loaded programs, passes on reports. Must not decide what a report contains.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{
    Reports,
    attach::Attached,
    attacher::{self, Channels, TargetEvent},
    choose::{Running, Targets, explain, explain_late, is_gone, without_return_probes},
    command::{Exits, follow, launch},
    journal::Journal,
    overhead::{Governor, ProbeCosts, calibrate},
    reporter::{self, Inputs, Listing},
    threads::spawn,
};
use crate::{
    assemble::{Assembly, Blocks, Member, SessionInfo, unmatched_packs},
    collector::{Beginning, Collector, Request, TrackedProcess},
    error::Failure,
    kernel::{Footprint, Loaded, Programs, now_ns},
    options::{FdBackend, TraceOptions},
    packs::Fault,
    preflight::Facts,
    report::{Host, Report, Word},
    settings::{Format, Settings, TargetSpec},
    snapshot::Snapshot,
    source::RecordSource,
    suppressions::Suppressions,
    tape::{Answers, TapeWriter},
    target::{
        Identity, Pid, identify,
        launch::{self, Launched},
        mappings, usage,
        watch::Watch,
    },
    unwind::Library,
};

/// How long to wait for the exit status of a command that has ended.
const EXIT_PATIENCE: Duration = Duration::from_millis(500);

/// A running pipeline.
pub(super) struct Pipeline {
    attacher: JoinHandle<Programs>,
    targets: Vec<Identity>,
    /// How many of them the user has not given.
    adopted: usize,
    requests: Sender<Request>,
    collector: JoinHandle<std::io::Result<()>>,
    reporter: JoinHandle<Option<Report>>,
    reports: Reports,
    command: Option<Arc<Launched>>,
    /// Where its output goes, if not to the terminal.
    command_output: Option<PathBuf>,
    exits: Exits,
    journal: Option<Journal>,
    /// The findings to hide, from the next report on.
    suppressions: watch::Sender<Suppressions>,
    /// Functions and marks of users' packs that match nothing.
    unmatched: Vec<String>,
    no_descriptors: Option<String>,
}

impl Pipeline {
    /// Attaches to the targets and starts the threads. `begun` is the time when leaktrace started.
    pub(super) fn start(
        settings: &Settings,
        targets: Targets,
        loaded: Loaded,
        facts: &Facts,
        begun: Instant,
        tape: Option<&TapeWriter>,
    ) -> anyhow::Result<Self> {
        let recorder = || Answers::live(tape.map(TapeWriter::recorder));
        let (collected_answers, reported_answers) = (recorder(), recorder());
        let Loaded { mut programs, tables, log, backend, footprint } = loaded;
        let journal = settings.log_connections.as_deref().map(Journal::open).transpose()?;
        let budget = budget(&settings.options, &mut programs)?;
        let exits = Exits::default();
        let command_output = targets.command_output();
        let without = without_return_probes(&settings.options, facts, &targets);
        let (requests, incoming) = mpsc::channel();
        let (events, received) = mpsc::channel();
        let (command, mut running) = running(targets, events, requests.clone())?;
        let mut library = Library::new(tables.unwind_pages())
            .context("could not start building unwind tables")?;
        let mut attached = Attached::new(settings, without);
        let attach = |pid| attach(pid, &mut attached, &mut programs, &mut library);
        let tracked = attach_all(&mut running, settings.options.children, attach)?;
        let (targets, watches): (Vec<_>, Vec<_>) = tracked.into_iter().unzip();
        let Running { all: identities, parents, warnings } = running;
        let pids = || identities.iter().map(|identity| identity.pid);
        let mut source = RecordSource::live(tables, library, collected_answers);
        pids().zip(watches).for_each(|(pid, watch)| source.keep_watch(pid, watch));
        let (probed, options) = (attached.probed(), settings.options.clone());
        let beginning = Beginning { targets, probed, options, interval: settings.interval };
        let mut collector =
            Collector::new(source, Some(beginning)).context("could not write to the BPF maps")?;
        let journal = journal.map(|(journal, log)| {
            collector.log_connections(log);
            journal
        });
        if !settings.options.test_options.bare_traps {
            collector.start().context("could not start recording")?;
        }
        let loaded = (backend, footprint);
        let (members, listing) = (members(&identities, &parents), attached.listing());
        let mut session = session(settings, members, listing, facts, loaded, begun);
        session.faults.extend(warnings);
        let unmatched = unmatched(settings, &session);
        let journal = journal.map(|opened| opened.begin(&mut session)).transpose()?;
        if let Some(command) = &command {
            command.resume();
            follow(Arc::clone(command), received, requests.clone(), Arc::clone(&exits))?;
        }
        log.map(|log| spawn("programs' log", || log.forward())).transpose()?;
        let (snapshots, collected) = mpsc::channel();
        let (latest, reports) = watch::channel(None);
        let (listings, listed) = mpsc::channel();
        let (changes, changed) = mpsc::channel();
        let may_print = settings.format != Format::Tui;
        let channels = Channels { requests: requests.clone(), listings, may_print };
        let govern = |(share, costs)| {
            Governor::new(share, costs, pids().collect(), requests.clone(), &mut programs)
        };
        let governor = budget.map(govern).transpose()?;
        let attacher = attacher::start(programs, attached, changed, channels, governor)?;
        let (children, channels) = (settings.options.children, (changes, snapshots));
        let collector =
            spawn("collector", move || collect(collector, children, &incoming, &channels))?;
        let ends = Arc::clone(&exits);
        let (suppressions, suppressed) = watch::channel(settings.suppressions.clone());
        let reporter = spawn("reporter", move || {
            let inputs = Inputs { listings: &listed, exits: &ends, suppressions: &suppressed };
            report(session, reported_answers, &collected, &inputs, &latest)
        })?;
        Ok(Self {
            attacher,
            targets: identities,
            adopted: parents.len(),
            requests,
            collector,
            reporter,
            reports,
            command,
            command_output,
            exits,
            journal,
            suppressions,
            unmatched,
            no_descriptors: settings.no_descriptors.clone(),
        })
    }

    /// Reports faults of packs on stderr. Called after tracing has started, so that a failure to start is shown alone.
    pub(super) fn warn(&self, settings: &Settings) {
        for fault in &settings.pack_faults {
            crate::error::warn(&skipped(fault), &fault.help);
        }
        if let Some(text) = &self.no_descriptors {
            crate::error::warn(
                text,
                "leaktrace doctor says what this host allows; --kind heap,mmap,object leaves them out",
            );
        }
        for text in &self.unmatched {
            crate::error::warn(text, "nm -D --defined-only LIB shows the names of functions");
        }
    }

    /// Reports on stderr that tracing has started: stdout contains only the report.
    pub(super) fn announce(&self) {
        let given = self.targets.len().saturating_sub(self.adopted);
        let pids: Vec<String> =
            self.targets.iter().take(given).map(|one| one.pid.to_string()).collect();
        let adopted = match self.adopted {
            0 => String::new(),
            1 => " and 1 child".to_owned(),
            count => format!(" and {count} children"),
        };
        crate::error::say(&format!("tracing {}{adopted} (Ctrl-C ends)", pids.join(", ")));
    }

    /// The targets, as they were at the attach.
    pub(super) fn targets(&self) -> &[Identity] {
        &self.targets
    }

    /// The file that the command's output goes to, because the screen has the terminal.
    pub(super) fn command_output(&self) -> Option<&Path> {
        self.command_output.as_deref()
    }

    /// A channel with the latest report.
    pub(super) fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// The findings to hide: what is sent applies from the next report on.
    pub(super) fn suppressions(&self) -> watch::Sender<Suppressions> {
        self.suppressions.clone()
    }

    /// Returns when every target has ended, or the pipeline has failed.
    pub(super) async fn ended(&self) {
        let mut reports = self.reports.clone();
        let over = |report: &Option<Arc<Report>>| {
            report
                .as_ref()
                .is_some_and(|report| report.targets.iter().all(|target| target.exited.is_some()))
        };
        // An error means that the reporter has ended: there is nothing to wait for.
        drop(reports.wait_for(over).await);
        // The exit status of a command arrives a moment after its end.
        let limit = Instant::now() + EXIT_PATIENCE;
        let unknown = |command: &Arc<Launched>| {
            !self.exits.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&command.pid())
        };
        while self.command.as_ref().is_some_and(unknown) && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops recording without a last report. `None` if the attacher has failed, and detached the probes with it.
    pub(super) fn leave(self) -> Option<Programs> {
        // A collector that has ended needs no request. The reporter may still be at work on a report that nobody will
        // read; it ends with the process.
        drop(self.requests.send(Request::Stop));
        drop(self.collector.join());
        if let Some(journal) = &self.journal {
            journal.settle();
        }
        // Detaches from a command that still runs.
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
                Err(anyhow::Error::from(error).context("could not read the BPF maps"))
            }
            _ => Err(anyhow::anyhow!("could not finish the report: a thread of leaktrace failed")),
        };
        (report, self.attacher.join().ok())
    }
}

/// The collector's thread: sends target events to the attacher, and snapshots to the reporter.
fn collect(
    collector: Collector,
    children: bool,
    requests: &Receiver<Request>,
    (changes, snapshots): &(Sender<TargetEvent>, Sender<Snapshot>),
) -> std::io::Result<()> {
    // During shutdown the attacher or the reporter may have ended already.
    let executed = |pid| drop(changes.send(TargetEvent::Executed(pid)));
    collector.run(Some(requests), executed, |snapshot| {
        for (pid, mappings) in &snapshot.mappings {
            drop(changes.send(TargetEvent::Mapped(*pid, Arc::clone(mappings))));
        }
        // The last one's figures stay.
        let running = &snapshot.resident;
        let gone = snapshot.ended.iter().filter(|pid| !running.contains_key(pid));
        for pid in gone.filter(|_| children && !running.is_empty()) {
            drop(changes.send(TargetEvent::Ended(*pid)));
        }
        drop(snapshots.send(snapshot));
    })
}

/// The processes to trace, and the command among them, which is started and held.
fn running(
    targets: Targets,
    events: Sender<launch::Event>,
    requests: Sender<Request>,
) -> anyhow::Result<(Option<Arc<Launched>>, Running)> {
    Ok(match targets {
        Targets::Running(running) => (None, running),
        Targets::Command(command) => {
            let launched = launch(&command, events, requests)?;
            let identity = identify(launched.pid()).map_err(explain)?;
            (Some(launched), Running { all: vec![identity], ..Running::default() })
        }
    })
}

/// The reporter's thread. Returns the last report.
fn report(
    session: SessionInfo,
    answers: Answers,
    snapshots: &Receiver<Snapshot>,
    inputs: &Inputs<'_>,
    latest: &watch::Sender<Option<Arc<Report>>>,
) -> Option<Report> {
    let publish = |report, _| drop(latest.send_replace(Some(Arc::new(report))));
    // Live, neither fails.
    let mut assembly = Assembly::new(answers, Some(session)).ok()?;
    reporter::report(&mut assembly, snapshots, Some(inputs), publish).ok()?.map(|(last, _)| last)
}

/// The share of CPU time that tracing may take, and the cost of a probe hit, if there is a budget.
fn budget(
    options: &TraceOptions,
    programs: &mut Programs,
) -> anyhow::Result<Option<(f64, ProbeCosts)>> {
    options.max_overhead.map(|share| Ok((share.fraction(), calibrate(programs)?))).transpose()
}

/// Attaches to all targets. Of several, one that has ended is left out, and so is an adopted one that cannot be traced.
fn attach_all(
    running: &mut Running,
    children: bool,
    mut attach: impl FnMut(Pid) -> anyhow::Result<(TrackedProcess, Watch)>,
) -> anyhow::Result<Vec<(TrackedProcess, Watch)>> {
    let (mut tracked, mut failed, mut at) = (Vec::new(), None, 0);
    loop {
        while let Some(pid) = running.all.get(at).map(|one| one.pid) {
            match attach(pid) {
                Ok(one) => {
                    tracked.push(one);
                    at += 1;
                    continue;
                }
                Err(error) if running.parents.remove(&pid).is_some() => {
                    if !is_gone(&error) {
                        let why = crate::error::line(&error);
                        running.warnings.push(format!("process {pid} is not traced: {why}"));
                    }
                }
                Err(error) if running.all.len() > 1 && is_gone(&error) => {
                    running.warnings.push(format!("process {pid} is not traced: it has ended"));
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
            running.all.remove(at);
        }
        // Attaching takes a while, in which more may have been forked.
        if !children || running.adopt() == 0 {
            break;
        }
    }
    match failed {
        Some(error) if tracked.is_empty() => Err(error),
        _ => Ok(tracked),
    }
}

/// The targets as reports list them.
fn members(identities: &[Identity], parents: &BTreeMap<Pid, Pid>) -> Vec<Member> {
    let member = |identity: &Identity| match parents.get(&identity.pid) {
        Some(parent) => Member::adopted(identity.clone(), *parent),
        None => Member::named(identity.clone()),
    };
    identities.iter().map(member).collect()
}

/// Attaches to a target for the first time.
fn attach(
    pid: Pid,
    attached: &mut Attached,
    programs: &mut Programs,
    library: &mut Library,
) -> anyhow::Result<(TrackedProcess, Watch)> {
    let late = |error| explain_late(pid, error);
    let watch = Watch::new(pid).map_err(late)?;
    let mappings = mappings::read(pid).map_err(late)?;
    library.add_process(pid, &mappings);
    let allocators = attached.attach(programs, pid, &mappings).map_err(|error| {
        if watch.ended() { Failure::Ended { pid: pid.0 }.into() } else { error }
    })?;
    Ok((TrackedProcess { pid, allocators, mappings: Arc::new(mappings) }, watch))
}

/// Functions and marks of users' packs that match nothing. Empty for a command, which has not loaded its libraries yet.
fn unmatched(settings: &Settings, session: &SessionInfo) -> Vec<String> {
    match settings.target {
        TargetSpec::Command { .. } => Vec::new(),
        _ => unmatched_packs(&settings.packs, &session.probes),
    }
}

fn skipped(fault: &Fault) -> String {
    format!("skipped a pack: {}", fault.text)
}

fn session(
    settings: &Settings,
    targets: Vec<Member>,
    listing: Listing,
    facts: &Facts,
    (backend, footprint): (Option<FdBackend>, Footprint),
    begun: Instant,
) -> SessionInfo {
    let name = rustix::system::uname();
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
        own_usage: usage::own,
        targets,
        log: None,
        options: settings.options.clone(),
        suppressions: settings.suppressions.clone(),
        blocks: Blocks::of(&settings.packs),
        packs: settings.packs.clone(),
        faults: settings
            .pack_faults
            .iter()
            .map(skipped)
            .chain(settings.no_descriptors.clone())
            .collect(),
    }
}
