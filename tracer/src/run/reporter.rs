//! The reporter's thread: turns snapshots into reports.
//!
//! Takes snapshots, lists of probes and exits of commands, passes on reports. Which snapshots a report stands for, and what
//! was known of probes and exits then, goes onto a tape, or comes from one.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError, mpsc::Receiver},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracer_common::attach::ProbeNumber;

use crate::{
    assemble::{Assembly, redacted_allocators},
    probes::{Probe, allocator::Allocator},
    report::{Exit, Report},
    snapshot::Snapshot,
    suppressions::Suppressions,
    tape::{Question, Redact, Redactor, redact},
    target::Pid,
};

/// What the reporter takes in, beside snapshots.
pub(super) struct Inputs<'a> {
    /// Probes, whenever they change.
    pub(super) listings: &'a Receiver<Listing>,
    /// How commands have ended.
    pub(super) exits: &'a Mutex<BTreeMap<Pid, Exit>>,
    /// The findings to hide, of which keys may add some. A tape has none.
    pub(super) suppressions: &'a watch::Receiver<Suppressions>,
}

/// The state of the probes at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Listing {
    /// Every probe, and the functions that no object defines.
    pub(super) probes: Vec<Probe>,
    /// Why the kernel refused some, by number.
    pub(super) refused: BTreeMap<ProbeNumber, String>,
    /// Sentences about what is not traced, and why.
    pub(super) warnings: Vec<String>,
    /// The allocators of each target.
    pub(super) allocators: BTreeMap<Pid, Vec<Allocator>>,
}

/// What one report begins with.
#[derive(Serialize, Deserialize)]
struct Turn {
    /// Number of snapshots since the last report. Only the newest is reported.
    snapshots: u32,
    listing: Option<Listing>,
    exits: BTreeMap<Pid, Exit>,
}

impl Redact for Turn {
    fn redacted(&self, _: &mut Redactor) -> Self {
        let listing = self.listing.as_ref().map(|listing| Listing {
            probes: listing.probes.iter().map(Probe::redacted).collect(),
            refused: listing.refused.clone(),
            warnings: listing.warnings.iter().map(|one| redact::sentence(one)).collect(),
            allocators: redacted_allocators(&listing.allocators),
        });
        Self { snapshots: self.snapshots, listing, exits: self.exits.clone() }
    }
}

/// Reports the newest snapshot, again and again, until the last one. `publish` also gets the moment of the snapshot;
/// that of the last one is returned with it.
/// Without `inputs`, a tape has them.
pub(super) fn report(
    assembly: &mut Assembly,
    snapshots: &Receiver<Snapshot>,
    inputs: Option<&Inputs<'_>>,
    mut publish: impl FnMut(Report, u64),
) -> io::Result<Option<(Report, u64)>> {
    loop {
        let mut all = Vec::new();
        if inputs.is_some() {
            all.extend(snapshots.recv());
            while let Ok(newer) = snapshots.try_recv() {
                all.push(newer);
            }
            if all.is_empty() {
                return Ok(None);
            }
        }
        let Turn { snapshots: count, listing, exits } =
            assembly.answers().try_ask(Question::Turn, || {
                let listing = inputs.and_then(|inputs| inputs.listings.try_iter().last());
                let exits = inputs.map(|inputs| {
                    inputs.exits.lock().unwrap_or_else(PoisonError::into_inner).clone()
                });
                let snapshots = u32::try_from(all.len()).unwrap_or(u32::MAX);
                Ok(Turn { snapshots, listing, exits: exits.unwrap_or_default() })
            })?;
        while all.len() < usize::try_from(count).unwrap_or(usize::MAX) {
            // A collector whose tape has ended sends no more.
            all.push(snapshots.recv().map_err(|_closed| io::ErrorKind::UnexpectedEof)?);
        }
        let Some(snapshot) = all.into_iter().reduce(merge) else {
            return Err(io::Error::other("the tape is damaged"));
        };
        if let Some(Listing { probes, refused, warnings, allocators }) = listing {
            assembly.probed(probes, refused, warnings, allocators);
        }
        for (pid, exit) in exits {
            assembly.exited(pid, exit);
        }
        if let Some(inputs) = inputs {
            assembly.suppress(inputs.suppressions.borrow().clone());
        }
        let report = assembly.report(&snapshot);
        assembly.answers().flush();
        if let Some(fault) = assembly.fault() {
            return Err(io::Error::other(fault));
        }
        if snapshot.last {
            return Ok(Some((report, snapshot.at_ns)));
        }
        publish(report, snapshot.at_ns);
    }
}

/// The newer one, with the mappings and process events of the skipped one, which are sent once.
fn merge(mut skipped: Snapshot, newer: Snapshot) -> Snapshot {
    let mut mappings = std::mem::take(&mut skipped.mappings);
    mappings.extend(newer.mappings.iter().cloned());
    let mut process_events = std::mem::take(&mut skipped.process_events);
    process_events.extend(newer.process_events.iter().cloned());
    Snapshot { process_events, mappings, ..newer }
}
