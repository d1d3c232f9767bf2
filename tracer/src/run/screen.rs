//! Shows a pipeline's reports on the screen until the user quits.
//!
//! Takes a running pipeline, passes on nothing: a key may replace the pipeline of light tracing by one of full tracing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;

use super::{
    mode_switch::{self, Switch},
    pipeline::Pipeline,
};
use crate::{
    error,
    output::Output,
    preflight::Facts,
    report::{
        Report,
        export::{Options, json},
    },
    settings::Settings,
    tape::TapeWriter,
    tui::{Leave, Screen},
};

/// How long a signal may arrive after the error that has the same cause.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the pipeline's reports until the user quits or `end` completes.
pub(super) async fn show(
    settings: &Settings,
    facts: &Facts,
    pipeline: &mut Pipeline,
    tape: Option<&Arc<TapeWriter>>,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    const TERMINAL: &str = "could not use the terminal";
    let mut screen = Screen::enter().context(TERMINAL)?;
    let mut switch = None;
    tokio::pin!(end);
    loop {
        tokio::select! {
            left = screen.show(pipeline.reports(), save) => match left {
                Err(error) => {
                    // A closed terminal causes an error and a signal, in any order.
                    let hung_up = tokio::time::timeout(PATIENCE, &mut end).await.is_ok();
                    return if hung_up { Ok(()) } else { Err(error).context(TERMINAL) };
                }
                Ok(Leave::Quit) => return Ok(()),
                Ok(Leave::Full) => match mode_switch::begin(settings, facts, pipeline, tape) {
                    Ok(begun) => {
                        switch = Some(begun);
                        screen.show_switching();
                    }
                    Err(error) => screen.stay(&error::line(&error)),
                },
            },
            full = Switch::finished(&mut switch) => match full {
                Ok(full) => {
                    mode_switch::retire(std::mem::replace(pipeline, full));
                    screen.reset();
                }
                Err(error) => screen.stay(&error::line(&error)),
            },
            () = &mut end => return Ok(()),
        }
    }
}

/// Saves the report that the screen shows in the current directory.
pub(super) fn save(report: &Report) -> Result<PathBuf, String> {
    let pid = report.targets.first().map_or(0, |target| target.pid);
    let seconds = report.window.duration_s.max(0.0);
    let name = format!("leaktrace-{pid}-{seconds:.0}s.json");
    let mut bytes = Vec::new();
    json::write(report, &Options::default(), &mut bytes).map_err(|error| error.to_string())?;
    let path = PathBuf::from(name);
    let output = Output::prepare(Some(&path), false).map_err(|failure| failure.to_string())?;
    output.deliver(&bytes).map_err(|failure| failure.to_string())?;
    Ok(path)
}
