//! Runs a tracing session: builds the pipeline, starts and stops its threads.
//!
//! Takes [`Settings`], passes on the exit status. Three threads: the collector (kernel → snapshot), the reporter
//! (snapshot → report) and this one (screen, signals, shutdown). Only the request to stop flows back, and a slow screen
//! blocks no other thread. Switching from light to full tracing builds a second pipeline.

mod attach;
mod attacher;
mod census;
mod choose;
mod command;
mod journal;
mod libraries;
mod loading;
mod mode_switch;
mod overhead;
mod pairs;
mod pipeline;
mod points;
mod programs;
mod refused;
mod replay;
mod reporter;
mod screen;
mod shutdown;
mod threads;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::Format,
    error, format,
    output::Output,
    preflight::{Facts, Roots},
    report::{Report, export},
    settings::{Settings, TargetSpec},
    tape::TapeWriter,
};
use pipeline::Pipeline;

pub use census::census;
pub use replay::{replay, reports, reports_at};

/// Targets that a line names at most.
const NAMED: usize = 5;

/// Traces according to `settings` until a signal, the duration or the targets' end stops it; delivers the report.
pub fn trace(settings: &Settings) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let facts = Facts::gather(&Roots::default());
    facts.check()?;
    let stdout_free = !matches!(settings.target, TargetSpec::Command { .. });
    let output = Output::prepare(settings.output.as_deref(), stdout_free)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the event loop")?;
    let tape = settings.record.as_deref().map(|path| TapeWriter::create(path, settings.redact));
    let tape = tape.transpose()?.map(Arc::new);
    let mut pipeline = start(settings, &facts, begun, tape.as_deref())?;
    pipeline.warn(settings);
    let outcome = runtime.block_on(attend(settings, &facts, &mut pipeline, tape.as_ref()));
    // Timers and signal handlers must not outlive their use: a second Ctrl-C ends leaktrace at once.
    drop(runtime);
    if settings.format == Format::Tui && outcome.is_ok() {
        let closing = closing_lines(&pipeline);
        // A tape has the last report, too, which nobody waits for otherwise.
        let programs = match &tape {
            None => pipeline.leave(),
            Some(tape) => {
                let (report, programs) = pipeline.stop();
                tape.finish(report.is_ok());
                programs
            }
        };
        shutdown::leave(programs);
        for line in closing {
            error::say(&line);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (report, programs) = pipeline.stop();
    if let Some(tape) = &tape {
        tape.finish(report.is_ok());
    }
    let delivered = match (report, outcome) {
        (Ok(report), Ok(())) => write(settings, &report)
            .and_then(|bytes| output.deliver(&bytes).map_err(anyhow::Error::from)),
        // The screen has failed, but there is a report: delivers it as without a screen.
        (Ok(report), Err(error)) => {
            let delivered = write(settings, &report).and_then(|bytes| Ok(output.deliver(&bytes)?));
            delivered.and(Err(error))
        }
        (Err(error), _) => Err(error),
    };
    shutdown::leave(programs);
    delivered.map(|()| ExitCode::SUCCESS)
}

/// What remains to be read in the terminal once the screen is gone: what was traced, the answer, and where the command's
/// output is.
fn closing_lines(pipeline: &Pipeline) -> Vec<String> {
    let report = pipeline.reports().borrow().clone();
    let summary = report.map(|report| {
        let pids: Vec<String> =
            report.targets.iter().take(NAMED).map(|target| target.pid.to_string()).collect();
        let more = match report.targets.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {} more", format::count(more as u64)),
        };
        let time = format::seconds(report.window.duration_s);
        format!("traced {}{more} for {time}. {}", pids.join(", "), report.answer.sentence)
    });
    let output = pipeline
        .command_output()
        .map(|path| format!("the output of the command is in `{}`", path.display()));
    summary.into_iter().chain(output).collect()
}

/// Attaches to the targets. `begun` is the time of the request.
fn start(
    settings: &Settings,
    facts: &Facts,
    begun: Instant,
    tape: Option<&TapeWriter>,
) -> anyhow::Result<Pipeline> {
    let targets = choose::targets(settings)?;
    match programs::load(&settings.options, targets.running(), facts) {
        Ok(loaded) => Pipeline::start(settings, targets, loaded, facts, begun, tape),
        Err(error) => {
            // The other kinds do not need what tracing descriptors needs.
            let Some(settings) = settings.without_descriptors(&error::line(&error)) else {
                return Err(error);
            };
            let loaded = programs::load(&settings.options, targets.running(), facts)?;
            Pipeline::start(&settings, targets, loaded, facts, begun, tape)
        }
    }
}

fn write(settings: &Settings, report: &Report) -> anyhow::Result<Vec<u8>> {
    let options = export::Options {
        top: settings.options.top,
        width: None,
        show_suppressed: settings.show_suppressed,
    };
    bytes_of(report, settings.format, options)
}

/// The report in a format.
fn bytes_of(report: &Report, format: Format, options: export::Options) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    export::write(format.written(), report, &options, &mut bytes)
        .context("could not write the report")?;
    Ok(bytes)
}

/// Waits for the end: a signal, the requested duration, the end of all targets, or `q`.
async fn attend(
    settings: &Settings,
    facts: &Facts,
    pipeline: &mut Pipeline,
    tape: Option<&Arc<TapeWriter>>,
) -> anyhow::Result<()> {
    let end = end(settings.duration)?;
    if settings.format == Format::Tui {
        // The screen stays after all targets have ended, so that the user can read what they left behind.
        return screen::show(settings, facts, pipeline, tape, end).await;
    }
    // Not earlier: a reader of this line may send a signal at once.
    pipeline.announce();
    tokio::select! {
        () = end => {}
        () = pipeline.ended() => log::info!("all targets have ended"),
    }
    Ok(())
}

/// Waits for a signal or the requested duration. Signal handlers are installed when this returns.
fn end(duration: Option<Duration>) -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("could not listen to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    Ok(async move {
        let time_up = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => log::info!("interrupted"),
            _ = terminate.recv() => log::info!("terminated"),
            _ = hang_up.recv() => log::info!("the terminal is gone"),
            () = time_up => log::info!("time is up"),
        }
    })
}

/// The latest report.
pub(crate) type Reports = watch::Receiver<Option<Arc<Report>>>;
