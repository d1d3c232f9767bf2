//! Follows a command that leaktrace starts: into other programs that it executes, and to its end.
//!
//! Takes events of the command, passes on requests to the collector and the exit status.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use super::{
    choose::{CommandLine, explain},
    loading::is_loaded,
    threads::spawn,
};
use crate::{
    collector::Request,
    error::Failure,
    report::Exit,
    target::{
        Pid,
        launch::{Event, Launched, Streams},
    },
};

/// How long a command that is about to end waits for its last events to be read.
const FLUSH_PATIENCE: Duration = Duration::from_millis(1500);

/// Exit statuses of commands.
pub(super) type Exits = Arc<Mutex<BTreeMap<Pid, Exit>>>;

/// Discards what the collector knows of a command, which has executed another program and stays stopped until this
/// returns: the resources of the first program are gone.
fn forget(pid: Pid, requests: &Sender<Request>) {
    let (done, finished) = mpsc::sync_channel(1);
    if requests.send(Request::Forget(pid, done)).is_ok() {
        // Ignores a timeout: the command must not stay stopped longer.
        _ = finished.recv_timeout(FLUSH_PATIENCE);
    }
}

/// Follows a command to its end.
pub(super) fn follow(
    command: Arc<Launched>,
    events: Receiver<Event>,
    requests: Sender<Request>,
    exits: Exits,
) -> anyhow::Result<()> {
    let pid = command.pid();
    spawn("command", move || {
        while let Ok(event) = events.recv() {
            match event {
                Event::Executed => {}
                Event::Exiting => {
                    let (done, finished) = mpsc::sync_channel(1);
                    if requests.send(Request::Flush(done)).is_ok() {
                        // Ignores a timeout: the command must not stay stopped longer.
                        _ = finished.recv_timeout(FLUSH_PATIENCE);
                    }
                    command.let_exit();
                }
                Event::Exited { status, signal } => {
                    let mut exits = exits.lock().unwrap_or_else(PoisonError::into_inner);
                    exits.insert(pid, Exit { status, signal });
                }
            }
        }
    })
    .map(drop)
}

/// The streams of a command whose output must not be written over the screen, nor take its keys. What the user has
/// redirected remains so.
fn streams(output: &Path) -> Result<Streams, Failure> {
    let failed = |source| Failure::CommandOutput { path: output.to_owned(), source };
    let mut new = OpenOptions::new();
    let file = new.append(true).create_new(true).mode(0o600).open(output).map_err(failed)?;
    let input = io::stdin().is_terminal().then(|| File::open("/dev/null"));
    let error = io::stderr().is_terminal().then(|| file.try_clone());
    let (input, error) = (input.transpose().map_err(failed)?, error.transpose().map_err(failed)?);
    Ok([input, Some(file), error])
}

/// Starts a command and stops it before its first instruction. Sends its events to `events`.
pub(super) fn launch(
    command: &CommandLine,
    events: Sender<Event>,
    requests: Sender<Request>,
) -> anyhow::Result<Arc<Launched>> {
    let known = Arc::new(OnceLock::new());
    let pid = Arc::clone(&known);
    let streams = command.output.as_deref().map(streams).transpose()?.unwrap_or_default();
    let launched =
        Launched::start(&command.program, &command.args, streams, is_loaded, move |event| {
            if let (Event::Executed, Some(pid)) = (event, known.get()) {
                forget(*pid, &requests);
            }
            // During shutdown the receiver may have ended already.
            _ = events.send(event);
        })
        .map_err(explain)?;
    // The cell was empty: this cannot fail.
    _ = pid.set(launched.pid());
    Ok(Arc::new(launched))
}
