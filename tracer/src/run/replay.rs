//! Replays a tape: the same collector, reporter and screen, with the answers that were recorded.
//!
//! Takes a tape, passes on its reports. Opens no other file, needs no root, and traces nothing. Reports come as fast as they
//! can be made; on the screen at the times of the recorded ones.

use std::{
    io,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::watch;

use super::{Reports, bytes_of, reporter, screen, threads::spawn};
use crate::{
    assemble::Assembly,
    cli::Format,
    collector::Collector,
    error::{self, Failure},
    output::Output,
    report::{Report, export},
    settings::Replay,
    snapshot::Snapshot,
    source::RecordSource,
    suppressions::Suppressions,
    tape::{Answers, Fault, Tape},
    tui::{Leave, Screen},
};

/// Snapshots that wait for the reporter: what is unpacked and not used yet only takes memory.
const AHEAD: usize = 2;

/// One recorded pipeline that runs again.
struct Line {
    collector: JoinHandle<io::Result<()>>,
    snapshots: Receiver<Snapshot>,
    assembly: Assembly,
}

impl Line {
    /// The pipeline with this number, from its start.
    fn start(tape: &Tape, number: u32, suppressions: &Suppressions) -> anyhow::Result<Self> {
        let [collected, reported] = [2 * number, 2 * number + 1].map(|stream| tape.player(stream));
        let source = RecordSource::tape(Answers::replayed(collected?));
        let (sender, snapshots) = mpsc::sync_channel(AHEAD);
        let collector = spawn("collector", move || {
            let mut collector = Collector::new(source, None)?;
            collector.start()?;
            // The reporter may have ended: its part of the tape is shorter.
            collector.run(None, |_| {}, |snapshot| drop(sender.send(snapshot)))
        })?;
        let mut assembly = Assembly::new(Answers::replayed(reported?), None)?;
        assembly.suppress(suppressions.clone());
        Ok(Self { collector, snapshots, assembly })
    }

    /// Passes every report to `publish`, with the time of its snapshot in nanoseconds. Returns why the last one is not
    /// the run's last, if it is not.
    fn run(self, mut publish: impl FnMut(Report, u64)) -> Option<Fault> {
        let Self { collector, snapshots, mut assembly } = self;
        let last = reporter::report(&mut assembly, &snapshots, None, &mut publish);
        drop(snapshots);
        let collected = collector.join();
        if let Ok(Some((report, at_ns))) = last {
            publish(report, at_ns);
            return None;
        }
        let of_collector = match &collected {
            Ok(Err(error)) => error.get_ref().and_then(|error| error.downcast_ref()).copied(),
            _ => None,
        };
        // The collector's fault is reported: the reporter then only waited for a snapshot that never came.
        Some(of_collector.or(assembly.fault()).unwrap_or(Fault::Ended))
    }
}

/// Replays a tape according to `settings`.
pub fn replay(settings: &Replay) -> anyhow::Result<ExitCode> {
    let tape = Tape::open(&settings.tape)?;
    let lines = tape.streams() / 2;
    let unusable = |why: String| Failure::NotATape { path: settings.tape.clone(), why };
    if lines == 0 {
        return Err(unusable("it ends before the first report".to_owned()).into());
    }
    if settings.format == Format::Tui {
        return show(&tape, lines, settings);
    }
    let output = Output::prepare(settings.output.as_deref(), true)?;
    let times = if settings.at.is_empty() { &[Duration::MAX][..] } else { &settings.at };
    let (chosen, fault) = reports_at(&settings.suppressions, &tape, times);
    if let Some(fault) = fault.filter(|fault| *fault != Fault::Ended) {
        return Err(unusable(fault.to_string()).into());
    }
    if chosen.is_empty() {
        return Err(unusable("it ends before the first report".to_owned()).into());
    }
    if fault.is_some() {
        warn_of_end(settings);
    }
    output.deliver(&written(&chosen, settings)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The reports as bytes: one below the other, or a line of JSON each if times were given.
fn written(reports: &[Arc<Report>], settings: &Replay) -> anyhow::Result<Vec<u8>> {
    let options = export::Options {
        top: settings.top,
        width: None,
        show_suppressed: settings.show_suppressed,
    };
    let mut bytes = Vec::new();
    for (number, report) in reports.iter().enumerate() {
        let format = settings.format.written();
        if !settings.at.is_empty() && format == export::Format::Json {
            export::json::write_line(report, settings.top, &mut bytes)
                .context("could not write the report")?;
            continue;
        }
        if number > 0 && format == export::Format::Text {
            bytes.push(b'\n');
        }
        bytes.extend(bytes_of(report, settings.format, options)?);
    }
    Ok(bytes)
}

/// For each of these times after tracing began, the last report at or before it; the first one if none is that early.
/// Empty if the tape has no report. Also returns why the last report is not that of the whole run, if it is not.
pub fn reports_at(
    suppressions: &Suppressions,
    tape: &Tape,
    times: &[Duration],
) -> (Vec<Arc<Report>>, Option<Fault>) {
    let mut chosen: Vec<Option<Arc<Report>>> = vec![None; times.len()];
    let fault = reports_without(suppressions, tape, |report| {
        let report = Arc::new(report);
        for (time, chosen) in times.iter().zip(&mut chosen) {
            if chosen.is_none() || report.window.duration_s <= time.as_secs_f64() {
                *chosen = Some(Arc::clone(&report));
            }
        }
    });
    (chosen.into_iter().flatten().collect(), fault)
}

/// Passes the reports of a tape to `publish`, oldest first. Returns why the last one is not that of the whole run, if it
/// is not.
pub fn reports(tape: &Tape, publish: impl FnMut(Report)) -> Option<Fault> {
    reports_without(&Suppressions::default(), tape, publish)
}

/// The same, without the findings that these suppressions hide.
fn reports_without(
    suppressions: &Suppressions,
    tape: &Tape,
    mut publish: impl FnMut(Report),
) -> Option<Fault> {
    // Full tracing that has followed light tracing is what a live run reports.
    let Some(number) = (tape.streams() / 2).checked_sub(1) else { return Some(Fault::Ended) };
    match Line::start(tape, number, suppressions) {
        Ok(line) => line.run(|report, _| publish(report)),
        Err(error) => Some(fault_of(&error)),
    }
}

/// The fault of a tape that is the cause of an error.
fn fault_of(error: &anyhow::Error) -> Fault {
    let cause = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref()).copied().unwrap_or(Fault::Ended)
}

fn warn_of_end(settings: &Replay) {
    let path = settings.tape.display();
    error::warn(
        &format!(
            "the tape `{path}` ends early: this is its last report, not that of the whole run"
        ),
        "leaktrace was ended before it could finish the tape, or the disk was full",
    );
}

/// Shows the reports on the screen at their times, until the user quits.
fn show(tape: &Tape, lines: u32, settings: &Replay) -> anyhow::Result<ExitCode> {
    const TERMINAL: &str = "could not use the terminal";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the event loop")?;
    let (latest, reports) = watch::channel(None);
    let played = tape.clone();
    // Not joined: whoever quits does not wait for the tape's end.
    let (suppressions, suppressed) = watch::channel(settings.suppressions.clone());
    let mut files = screen::Files::new(&settings.new_suppressions, suppressions);
    let player = spawn("tape", move || play(&played, lines, &suppressed, &latest))?;
    let mut screen = Screen::enter().context(TERMINAL)?;
    let shown = runtime.block_on(show_until_quit(&mut screen, &reports, &mut files));
    drop(screen);
    drop(runtime);
    if player.is_finished() {
        player.join().map_err(|_panic| anyhow::anyhow!("a thread of leaktrace failed"))??;
    }
    shown.context(TERMINAL)?;
    Ok(ExitCode::SUCCESS)
}

async fn show_until_quit(
    screen: &mut Screen,
    reports: &Reports,
    files: &mut screen::Files,
) -> io::Result<()> {
    loop {
        match screen.show(reports.clone(), files).await? {
            Leave::Quit => return Ok(()),
            Leave::Full => screen.stay("a tape has only what was recorded"),
        }
    }
}

/// Passes the reports on at their times. The last one stays.
fn play(
    tape: &Tape,
    lines: u32,
    suppressions: &watch::Receiver<Suppressions>,
    latest: &watch::Sender<Option<Arc<Report>>>,
) -> anyhow::Result<()> {
    let mut start: Option<(Instant, u64)> = None;
    for number in 0..lines {
        let line = match Line::start(tape, number, &suppressions.borrow()) {
            Ok(line) => line,
            // A pipeline that was not used any more has no report.
            Err(_) if number > 0 => break,
            Err(error) => return Err(error),
        };
        line.run(|report, at_ns| {
            let (begun, first_ns) = *start.get_or_insert_with(|| (Instant::now(), at_ns));
            let due = begun + Duration::from_nanos(at_ns.saturating_sub(first_ns));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            latest.send_replace(Some(Arc::new(report)));
        });
    }
    Ok(())
}
