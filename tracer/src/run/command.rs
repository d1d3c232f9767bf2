//! Follows a command that leaktrace starts: into other programs that it executes, and to its end.
//!
//! Takes events of the command, passes on requests to the collector and the exit status.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use super::{choose::explain, loading::is_loaded, threads::spawn};
use crate::{
    collector::Request,
    report::Exit,
    target::{
        Pid,
        launch::{Event, Launched},
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

/// Starts a command and stops it before its first instruction. Sends its events to `events`.
pub(super) fn launch(
    program: &OsStr,
    args: &[OsString],
    events: Sender<Event>,
    requests: Sender<Request>,
) -> anyhow::Result<Arc<Launched>> {
    let known = Arc::new(OnceLock::new());
    let pid = Arc::clone(&known);
    let launched = Launched::start(program, args, is_loaded, move |event| {
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
