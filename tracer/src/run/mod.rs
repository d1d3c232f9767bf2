//! Builds the line, starts and stops its threads.
//!
//! Takes [`Settings`], hands on the exit status. Three threads: the collector (kernel → snapshot), the
//! reporter (snapshot → report) and this one (screen, signals, end). Nothing flows back but the wish to
//! stop, and a slow screen holds nobody up.

mod attach;
mod attacher;
mod choose;
mod goodbye;
mod line;
mod means;
mod points;

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
    output::Output,
    preflight::{Facts, Roots},
    report::{Report, json, text},
    settings::{Settings, Wanted},
    tui::{self, Feed},
    unwind,
};
use line::Line;

/// Traces as `settings` say, until something ends it, and delivers the report.
pub fn trace(settings: &Settings) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let facts = Facts::gather(&Roots::default());
    facts.check()?;
    let stdout_free = !matches!(settings.target, Wanted::Command { .. });
    let output = Output::prepare(settings.output.as_deref(), stdout_free)?;
    let targets = choose::targets(settings)?;
    let pages = unwind::expected_pages(targets.running().iter().map(|target| target.pid));
    let loaded = means::load(settings, pages, &facts)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the event loop")?;
    let line = Line::start(settings, targets, loaded, &facts, begun)?;
    let outcome = runtime.block_on(attend(settings, &line));
    // Timers and signal handlers must not outlive their use: a second Ctrl-C ends us at once.
    drop(runtime);
    if settings.format == Format::Tui && outcome.is_ok() {
        goodbye::leave(line.leave());
        return Ok(ExitCode::SUCCESS);
    }
    let (report, programs) = line.stop();
    let delivered = match (report, outcome) {
        (Ok(report), Ok(())) => write(settings, &report)
            .and_then(|bytes| output.deliver(&bytes).map_err(anyhow::Error::from)),
        // The screen is gone, but what was learned is not: it goes where a report would.
        (Ok(report), Err(error)) => {
            write(settings, &report).and_then(|bytes| Ok(output.deliver(&bytes)?))?;
            Err(error)
        }
        (Err(error), _) => Err(error),
    };
    goodbye::leave(programs);
    delivered.map(|()| ExitCode::SUCCESS)
}

fn write(settings: &Settings, report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match settings.format {
        Format::Json => {
            let mut report = report.clone();
            report.sites.truncate(settings.top.unwrap_or(usize::MAX));
            json::write(&report, &mut bytes)
        }
        Format::Text | Format::Tui => {
            let options = text::Options { top: settings.top, width: None };
            text::write(report, &options, &mut bytes)
        }
    }
    .context("could not write the report")?;
    Ok(bytes)
}

/// Waits for the end: a signal, the time asked for, the end of all targets, or `q`.
async fn attend(settings: &Settings, line: &Line) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let screen = settings.format == Format::Tui;
    let end = end(settings.duration, line, screen);
    if !screen {
        end.await?;
        return Ok(());
    }
    let feed = Feed { reports: line.reports(), stop: stopped };
    let shown = tui::run(feed, save);
    tokio::pin!(end, shown);
    tokio::select! {
        left = &mut shown => left.map(drop).context("could not use the terminal"),
        ended = &mut end => {
            stop.send_replace(true);
            shown.await.context("could not use the terminal")?;
            ended
        }
    }
}

/// The end that comes from outside the screen.
async fn end(duration: Option<Duration>, line: &Line, screen: bool) -> anyhow::Result<()> {
    let listen = |kind| signal(kind).context("could not listen to signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    // Only now: whoever reads it may send a signal at once.
    if !screen {
        line.announce();
    }
    let time_up = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let all_ended = async {
        line.ended().await;
        // Whoever looks at the screen wants to read what the targets left behind.
        if screen {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => log::info!("interrupted"),
        _ = terminate.recv() => log::info!("terminated"),
        _ = hang_up.recv() => log::info!("the terminal is gone"),
        () = time_up => log::info!("time is up"),
        () = all_ended => log::info!("all targets have ended"),
    }
    Ok(())
}

/// Saves what the screen shows beside where leaktrace was started.
fn save(report: &Report) -> Result<std::path::PathBuf, String> {
    let pid = report.targets.first().map_or(0, |target| target.pid);
    let seconds = report.window.duration_s.max(0.0);
    let name = format!("leaktrace-{pid}-{seconds:.0}s.json");
    let mut bytes = Vec::new();
    json::write(report, &mut bytes).map_err(|error| error.to_string())?;
    let path = std::path::PathBuf::from(name);
    let output = Output::prepare(Some(&path), false).map_err(|failure| failure.to_string())?;
    output.deliver(&bytes).map_err(|failure| failure.to_string())?;
    Ok(path)
}

/// The latest report, for whoever looks.
pub(crate) type Reports = watch::Receiver<Option<Arc<Report>>>;
