//! The line on the screen, until someone leaves it.
//!
//! Takes a running line, hands on nothing: the line may be another at the end, when a key has asked for
//! full tracing instead of light.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::{
    line::Line,
    mode_switch::{self, Going},
};
use crate::{
    error,
    output::Output,
    preflight::Facts,
    report::{Report, json},
    settings::Settings,
    tui::{Leave, Screen},
};

/// How long a signal may come after the error that has the same cause.
const PATIENCE: Duration = Duration::from_millis(100);

/// Shows the line until a key leaves it or `end` comes.
pub(super) async fn show(
    settings: &Settings,
    facts: &Facts,
    line: &mut Line,
    end: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    const TERMINAL: &str = "could not use the terminal";
    let mut screen = Screen::enter().context(TERMINAL)?;
    let mut going = None;
    tokio::pin!(end);
    loop {
        tokio::select! {
            left = screen.show(line.reports(), save) => match left {
                Err(error) => {
                    // A terminal that is gone says so by an error and by a signal, either of them first.
                    let hung_up = tokio::time::timeout(PATIENCE, &mut end).await.is_ok();
                    return if hung_up { Ok(()) } else { Err(error).context(TERMINAL) };
                }
                Ok(Leave::Quit) => return Ok(()),
                Ok(Leave::Full) => match mode_switch::begin(settings, facts, line) {
                    Ok(begun) => {
                        going = Some(begun);
                        screen.show_switching();
                    }
                    Err(error) => screen.stay(&error::line(&error)),
                },
            },
            full = Going::there(&mut going) => match full {
                Ok(full) => {
                    mode_switch::retire(std::mem::replace(line, full));
                    screen.reset();
                }
                Err(error) => screen.stay(&error::line(&error)),
            },
            () = &mut end => return Ok(()),
        }
    }
}

/// Saves what the screen shows beside where leaktrace was started.
fn save(report: &Report) -> Result<PathBuf, String> {
    let pid = report.targets.first().map_or(0, |target| target.pid);
    let seconds = report.window.duration_s.max(0.0);
    let name = format!("leaktrace-{pid}-{seconds:.0}s.json");
    let mut bytes = Vec::new();
    json::write(report, &mut bytes).map_err(|error| error.to_string())?;
    let path = PathBuf::from(name);
    let output = Output::prepare(Some(&path), false).map_err(|failure| failure.to_string())?;
    output.deliver(&bytes).map_err(|failure| failure.to_string())?;
    Ok(path)
}
