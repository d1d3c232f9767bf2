//! The attacher: probes libraries that targets load during tracing, and programs that they execute.
//!
//! A thread of its own, because reading an object and attaching take longer than a collector's cycle may. Takes changed
//! mappings from the collector's snapshots, passes on allocators to the collector before their first hit, and the list
//! of probes to the reporter.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    attach::Attached, loading::is_loaded, overhead::Governor, reporter::Listing, threads::spawn,
};
use crate::{
    collector::Request,
    format::printable,
    kernel::Programs,
    target::{
        Pid, TargetError,
        mappings::{self, Mappings},
        watch::Watch,
    },
};

/// How long the collector may take to learn of an allocator, which is then probed anyway.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long to wait for a new program's libraries: loading takes milliseconds, on a busy machine more.
const LOADING: Duration = Duration::from_secs(5);
/// Timeout without a budget, where the thread only waits for target events: a day, since it has nothing else to do.
const FOREVER: Duration = Duration::from_secs(86_400);
/// Time between two checks of its libraries.
const PAUSE: Duration = Duration::from_millis(1);

/// The attacher's outgoing channels.
pub(super) struct Channels {
    /// The collector.
    pub(super) requests: Sender<Request>,
    /// The reporter.
    pub(super) listings: Sender<Listing>,
    /// Whether it may print to stderr.
    pub(super) may_print: bool,
}

/// What the attacher receives.
pub(super) enum TargetEvent {
    /// A target's mappings have changed.
    Mapped(Pid, Arc<Mappings>),
    /// A target has executed another program.
    Executed(Pid),
    /// A target has ended, and given back what it held.
    Ended(Pid),
}

/// Handles target events until the channel closes; returns the programs.
pub(super) fn start(
    programs: Programs,
    attached: Attached,
    events: Receiver<TargetEvent>,
    channels: Channels,
    mut governor: Option<Governor>,
) -> anyhow::Result<JoinHandle<Programs>> {
    spawn("attacher", move || {
        let mut attacher = Attacher { programs, attached, channels };
        if let Some(governor) = &mut governor {
            governor.learn(&attacher.attached.listing().probes);
        }
        loop {
            let pause = governor.as_ref().map_or(FOREVER, Governor::pause);
            let one = match events.recv_timeout(pause) {
                Ok(one) => one,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(one) = &mut governor
                        && let Err(failed) = one.check(&mut attacher.programs)
                    {
                        // Stops tracing rather than exceed the budget.
                        attacher.programs.detach_all();
                        governor = None;
                        let failed = anyhow::Error::from(failed);
                        log::error!("tracing has stopped: {failed:#}");
                    }
                    continue;
                }
            };
            match one {
                TargetEvent::Ended(pid) => attacher.attached.forget(pid),
                TargetEvent::Mapped(pid, mappings) => attacher.attach(pid, &mappings, false),
                TargetEvent::Executed(pid) => match loaded(pid) {
                    Ok(mappings) => {
                        attacher.attach(pid, &mappings, true);
                        log::info!("process {pid} has executed another program, which is traced");
                    }
                    // Not a warning: the process has ended already.
                    Err(error) => log::info!("could not trace process {pid} any further: {error}"),
                },
            }
            if let Some(governor) = &mut governor {
                governor.learn(&attacher.attached.listing().probes);
            }
        }
        attacher.programs
    })
}

struct Attacher {
    programs: Programs,
    attached: Attached,
    channels: Channels,
}

impl Attacher {
    /// Attaches to what a target has mapped; `executed` if it runs another program than before.
    fn attach(&mut self, pid: Pid, mappings: &Mappings, executed: bool) {
        let Self { programs, attached, channels } = self;
        let report = |attached: &Attached, allocators| {
            // Joining the threads reports a reporter or collector that has failed.
            drop(channels.listings.send(attached.listing()));
            let (done, received) = mpsc::sync_channel(1);
            let request =
                Request::Allocators { pid, files: allocators, probed: attached.probed(), done };
            if channels.requests.send(request).is_ok() {
                _ = received.recv_timeout(PATIENCE);
            }
        };
        let probed = attached.attach_more(programs, pid, mappings, executed, report);
        if probed.is_empty() {
            return;
        }
        drop(channels.listings.send(attached.listing()));
        if channels.may_print {
            let names = printable(&probed.join(", "));
            crate::error::say(&format!("process {pid} has loaded {names}, which is probed too"));
        }
    }
}

/// The mappings of a program that has just started, once its C library is loaded.
fn loaded(pid: Pid) -> Result<Mappings, TargetError> {
    let watch = Watch::new(pid)?;
    let begun = Instant::now();
    loop {
        let mappings = mappings::read(pid)?;
        if is_loaded(&mappings) || watch.ended() || begun.elapsed() > LOADING {
            return Ok(mappings);
        }
        thread::sleep(PAUSE);
    }
}
