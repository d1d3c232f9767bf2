//! Libraries that are loaded while tracing, and programs that targets become: found in what is mapped,
//! probed as the first ones were.
//!
//! A thread of its own, since reading an object and attaching take longer than a collector's cycle may.
//! Takes changed mappings from the collector's snapshots; tells the collector which code is an
//! allocator's before the first hit there, and the reporter what is probed.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    attach::{Attached, Listing},
    governor::Governor,
    loading::is_loaded,
};
use crate::{
    collect::collector::Request,
    format::printable,
    kernel::Programs,
    target::{
        Pid, TargetError,
        mappings::{self, Mappings},
        watch::Watch,
    },
};

/// How long the collector may take to hear of an allocator before it is probed all the same.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How long a new program's libraries are waited for: loading takes milliseconds, on a busy machine more.
const LOADING: Duration = Duration::from_secs(5);
/// Without a budget nothing but news is waited for.
const FOR_EVER: Duration = Duration::from_secs(86_400);
/// Time between two looks at it.
const PAUSE: Duration = Duration::from_millis(1);

/// Whom the attacher tells.
pub(super) struct Channels {
    /// The collector.
    pub(super) requests: Sender<Request>,
    /// The reporter.
    pub(super) listings: Sender<Listing>,
    /// Whether stderr is free for a line.
    pub(super) aloud: bool,
}

/// What the attacher hears.
pub(super) enum TargetEvent {
    /// A target has other things mapped than before.
    Mapped(Pid, Arc<Mappings>),
    /// A target has become another program.
    Executed(Pid),
}

/// Follows what is mapped in all targets until nobody sends any more; gives the programs back.
pub(super) fn start(
    programs: Programs,
    attached: Attached,
    news: Receiver<TargetEvent>,
    ears: Channels,
    mut governor: Option<Governor>,
) -> anyhow::Result<JoinHandle<Programs>> {
    super::line::spawn("attacher", move || {
        let mut attacher = Attacher { programs, attached, ears };
        if let Some(governor) = &mut governor {
            governor.learn(&attacher.attached.listing().probes);
        }
        loop {
            let pause = governor.as_ref().map_or(FOR_EVER, Governor::pause);
            let one = match news.recv_timeout(pause) {
                Ok(one) => one,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(one) = &mut governor
                        && let Err(failed) = one.look(&mut attacher.programs)
                    {
                        // Rather nothing than too much.
                        attacher.programs.detach_all();
                        governor = None;
                        let failed = anyhow::Error::from(failed);
                        log::error!("tracing has paused for good: {failed:#}");
                    }
                    continue;
                }
            };
            match one {
                TargetEvent::Mapped(pid, mappings) => attacher.look(pid, &mappings, false),
                TargetEvent::Executed(pid) => match loaded(pid) {
                    Ok(mappings) => {
                        attacher.look(pid, &mappings, true);
                        log::info!("process {pid} is followed into its new program");
                    }
                    // Not a warning: it has ended already.
                    Err(error) => log::info!("could not follow process {pid}: {error}"),
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
    ears: Channels,
}

impl Attacher {
    /// Looks at what a target has mapped; `anew` when it is another program than before.
    fn look(&mut self, pid: Pid, mappings: &Mappings, anew: bool) {
        let Self { programs, attached, ears } = self;
        let tell = |attached: &Attached, allocators| {
            // A reporter or collector that is gone is noticed where it is joined.
            drop(ears.listings.send(attached.listing()));
            let (done, heard) = mpsc::sync_channel(1);
            let request =
                Request::Allocators { pid, files: allocators, probed: attached.probed(), done };
            if ears.requests.send(request).is_ok() {
                _ = heard.recv_timeout(PATIENCE);
            }
        };
        let probed = attached.attach_more(programs, pid, mappings, anew, tell);
        if probed.is_empty() {
            return;
        }
        drop(ears.listings.send(attached.listing()));
        if ears.aloud {
            let names = printable(&probed.join(", "));
            crate::error::say(&format!("process {pid} has loaded {names}: probed too"));
        }
    }
}

/// What a program that has just begun has mapped, once its C library is there.
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
