//! Libraries that are loaded while tracing: found in changed mappings, probed as the first ones were.
//!
//! A thread of its own, since reading an object and attaching take longer than a collector's cycle may.
//! Takes changed mappings from the collector's snapshots; tells the collector which code is an
//! allocator's before the first hit there, and the reporter what is probed.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::attach::{Attached, Listing};
use crate::{
    collect::collector::Request,
    format::printable,
    kernel::Programs,
    target::{Pid, mappings::Mappings},
};

/// How long the collector may take to hear of an allocator before it is probed all the same.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Whom the attacher tells.
pub(super) struct Ears {
    /// The collector.
    pub(super) requests: Sender<Request>,
    /// The reporter.
    pub(super) listings: Sender<Listing>,
    /// Whether stderr is free for a line.
    pub(super) aloud: bool,
}

/// Follows the mappings of all targets until nobody sends any more; gives the programs back.
pub(super) fn start(
    mut programs: Programs,
    mut attached: Attached,
    changes: Receiver<(Pid, Arc<Mappings>)>,
    ears: Ears,
) -> anyhow::Result<JoinHandle<Programs>> {
    super::line::spawn("attacher", move || {
        while let Ok((pid, mappings)) = changes.recv() {
            let tell = |attached: &Attached, allocators| {
                // A reporter or collector that is gone is noticed where it is joined.
                drop(ears.listings.send(attached.listing()));
                let (done, heard) = mpsc::sync_channel(1);
                let request = Request::Allocators {
                    pid,
                    files: allocators,
                    probes: attached.numbers(),
                    done,
                };
                if ears.requests.send(request).is_ok() {
                    _ = heard.recv_timeout(PATIENCE);
                }
            };
            let probed = attached.attach_more(&mut programs, pid, &mappings, tell);
            if probed.is_empty() {
                continue;
            }
            drop(ears.listings.send(attached.listing()));
            if ears.aloud {
                let names = printable(&probed.join(", "));
                crate::error::say(&format!("process {pid} has loaded {names}: probed too"));
            }
        }
        programs
    })
}
