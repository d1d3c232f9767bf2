//! A command of ours, as the line follows it: into another program, and to its end.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use super::{choose::explain, line::spawn, loading::is_loaded};
use crate::{
    collect::collector::Request,
    report::Exit,
    target::{
        Pid,
        launch::{Event, Launched},
    },
};

/// How long a command that is about to end waits for its last events to be read.
const FLUSH_PATIENCE: Duration = Duration::from_millis(1500);

/// How commands of ours have ended.
pub(super) type Exits = Arc<Mutex<BTreeMap<Pid, Exit>>>;

/// A command of ours has become another program, which stands still until this returns: what the
/// first one held is gone.
fn forget(pid: Pid, requests: &Sender<Request>) {
    let (done, finished) = mpsc::sync_channel(1);
    if requests.send(Request::Forget(pid, done)).is_ok() {
        // Late is as good as never: the command must not be held longer.
        _ = finished.recv_timeout(FLUSH_PATIENCE);
    }
}

/// Follows a command of ours to its end.
pub(super) fn follow(
    command: Arc<Launched>,
    news: Receiver<Event>,
    requests: Sender<Request>,
    exits: Exits,
) -> anyhow::Result<()> {
    let pid = command.pid();
    spawn("command", move || {
        while let Ok(event) = news.recv() {
            match event {
                Event::Executed => {}
                Event::Exiting => {
                    let (done, finished) = mpsc::sync_channel(1);
                    if requests.send(Request::Flush(done)).is_ok() {
                        // Late is as good as never: the command must not be held longer.
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

/// Starts a command and holds it before its first instruction. `news` is told what becomes of it.
pub(super) fn launch(
    program: &OsStr,
    args: &[OsString],
    news: Sender<Event>,
    requests: Sender<Request>,
) -> anyhow::Result<Arc<Launched>> {
    let known = Arc::new(OnceLock::new());
    let pid = Arc::clone(&known);
    let launched = Launched::start(program, args, is_loaded, move |event| {
        if let (Event::Executed, Some(pid)) = (event, known.get()) {
            forget(*pid, &requests);
        }
        // Nobody listens when the line is being torn down.
        _ = news.send(event);
    })
    .map_err(explain)?;
    // Set once: nothing was there before.
    _ = pid.set(launched.pid());
    Ok(Arc::new(launched))
}
