//! The reporter's thread: turns snapshots into reports.
//!
//! Takes snapshots, lists of probes and exits of commands, passes on reports. Which snapshots a report stands for, and what
//! was known of probes and exits then, goes onto a tape, or comes from one.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError, mpsc::Receiver},
    time::{Duration, Instant},
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

/// Time between two reports for each call site: a report takes some 7 µs for each. With up to 5,000 of them every snapshot
/// has a report. (The time that the last report took would not do: with thousands of processes that come and go it depends
/// on the time since the one before.)
const PER_SITE: Duration = Duration::from_micros(200);

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
    let mut due = Instant::now();
    loop {
        let mut turn = Gathered::default();
        if inputs.is_some() {
            turn.wait(assembly, snapshots, due);
            if turn.newest.is_none() {
                return Ok(None);
            }
        }
        let Turn { snapshots: count, listing, exits } =
            assembly.answers().try_ask(Question::Turn, || {
                let listing = inputs.and_then(|inputs| inputs.listings.try_iter().last());
                let exits = inputs.map(|inputs| {
                    inputs.exits.lock().unwrap_or_else(PoisonError::into_inner).clone()
                });
                Ok(Turn { snapshots: turn.count, listing, exits: exits.unwrap_or_default() })
            })?;
        while turn.count < count {
            // A collector whose tape has ended sends no more.
            let next = snapshots.recv().map_err(|_closed| io::ErrorKind::UnexpectedEof)?;
            turn.add(assembly, next);
        }
        let Some(snapshot) = turn.newest else {
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
        let began = Instant::now();
        let report = assembly.report(&snapshot);
        due = began + pause(report.sites.len());
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

/// Snapshots that get one report together.
#[derive(Default)]
struct Gathered {
    count: u32,
    /// The newest, with what the others say once.
    newest: Option<Snapshot>,
}

impl Gathered {
    /// Waits for a snapshot, and for those that come until a report is due. None if there are no more.
    fn wait(&mut self, assembly: &mut Assembly, snapshots: &Receiver<Snapshot>, due: Instant) {
        let mut next = snapshots.recv().ok();
        while let Some(snapshot) = next {
            // Whoever waits for these is not to wait longer.
            let urgent = snapshot.last || snapshot.resident.is_empty();
            self.add(assembly, snapshot);
            let rest =
                if urgent { Duration::ZERO } else { due.saturating_duration_since(Instant::now()) };
            next = snapshots.recv_timeout(rest).ok();
        }
    }

    /// Adds a newer snapshot. The one before gets no report, but remains in the history of call sites.
    fn add(&mut self, assembly: &mut Assembly, newer: Snapshot) {
        self.count = self.count.saturating_add(1);
        self.newest = Some(match self.newest.take() {
            None => newer,
            Some(skipped) => {
                assembly.learn(&skipped);
                merge(skipped, newer)
            }
        });
    }
}

/// The time from a report of so many call sites to the next one.
fn pause(sites: usize) -> Duration {
    PER_SITE * u32::try_from(sites).unwrap_or(u32::MAX)
}

/// The newer one, with what the skipped one says once: mappings, process events, ends of processes, and the last reading of
/// limits.
fn merge(mut skipped: Snapshot, newer: Snapshot) -> Snapshot {
    let mut mappings = std::mem::take(&mut skipped.mappings);
    mappings.extend(newer.mappings.iter().cloned());
    let mut process_events = std::mem::take(&mut skipped.process_events);
    process_events.extend(newer.process_events.iter().cloned());
    // A pid whose process has ended may be that of a new one.
    let is_new = |pid: &Pid| newer.process_events.iter().any(|event| event.pid == *pid);
    let mut ended = std::mem::take(&mut skipped.ended);
    ended.retain(|pid| !newer.ended.contains(pid) && !is_new(pid));
    ended.extend(&newer.ended);
    let limits = newer.limits.clone().or(skipped.limits);
    Snapshot { ended, limits, process_events, mappings, ..newer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{LimitReadings, ProcessEvent};

    #[test]
    fn reports_of_very_many_call_sites_are_further_apart() {
        assert_eq!(pause(50_000), Duration::from_secs(10));
        // With few call sites the next snapshot gets a report.
        assert!(pause(5_000) <= Duration::from_secs(1));
        assert_eq!(pause(0), Duration::ZERO);
    }

    #[test]
    fn what_a_snapshot_says_once_is_not_skipped_with_it() {
        let event = |pid| ProcessEvent {
            pid: Pid(pid),
            parent: None,
            identity: None,
            at_ns: 1,
            executed: false,
        };
        let skipped = Snapshot {
            ended: vec![Pid(1), Pid(2), Pid(3)],
            process_events: vec![event(4)],
            limits: Some(LimitReadings::default()),
            ..Snapshot::default()
        };
        // The first is final in both; the pid of the second is another process's now.
        let newer = Snapshot {
            at_ns: 9,
            ended: vec![Pid(1)],
            process_events: vec![event(2)],
            ..Snapshot::default()
        };
        let merged = merge(skipped, newer);
        assert_eq!(merged.at_ns, 9);
        assert_eq!(merged.ended, [Pid(3), Pid(1)]);
        let pids: Vec<Pid> = merged.process_events.iter().map(|event| event.pid).collect();
        assert_eq!(pids, [Pid(4), Pid(2)]);
        assert!(merged.limits.is_some());
    }
}
