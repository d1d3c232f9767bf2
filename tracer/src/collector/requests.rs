//! Requests to the running collector, and its answers.

use std::{io, sync::mpsc::SyncSender};

use serde::{Deserialize, Serialize};
use tracer_common::attach::ProbeNumber;

use super::Collector;
use crate::{
    lib_objects::fields::ObjectUses,
    reconcile::caller_allocated::LivenessChecks,
    snapshot::windows::OverheadReading,
    target::{Pid, mappings::FileId},
};

/// A request to the running collector.
pub enum Request {
    /// Read everything now, memory maps too, and confirm: a target is about to end.
    Flush(SyncSender<()>),
    /// A target has called exec: everything it held is gone. The collector confirms; the new program must not
    /// run before.
    Forget(Pid, SyncSender<()>),
    /// Sets a target's allocators and what there is to know about probes. The collector confirms once the BPF
    /// programs know.
    Allocators {
        /// The target.
        pid: Pid,
        /// Files of all its allocators.
        files: Vec<FileId>,
        /// The probes.
        probed: Probed,
        /// Receives the confirmation.
        done: SyncSender<()>,
    },
    /// Stop recording, read everything, and send a reading.
    Pause(SyncSender<Reading>),
    /// Resume recording and send a reading.
    Resume(SyncSender<Reading>),
    /// Send a reading.
    Read(SyncSender<Reading>),
    /// The governor's measurements of overhead and pace.
    OverheadReading(OverheadReading),
    /// Stop recording and make the last snapshot.
    Stop,
}

/// What the collector knows about probes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Probed {
    /// Number of probe numbers in use.
    pub numbers: ProbeNumber,
    /// Liveness checks of caller-allocated objects.
    pub liveness: LivenessChecks,
    /// What functions do to library objects.
    pub uses: ObjectUses,
}

/// Counters at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Hits by probe number.
    pub hits: Vec<u64>,
    /// Counted system calls of the targets.
    pub calls: u64,
}

impl Collector {
    /// Learns of probes.
    pub(super) fn learn_probes(&mut self, Probed { numbers, liveness, uses }: Probed) {
        self.probes = self.probes.max(numbers);
        if let Some(objects) = &mut self.objects {
            objects.extend(liveness, uses);
        }
    }

    /// Handles a request. The sender may have stopped waiting for the answer.
    pub(super) fn handle_request(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Flush(done) => {
                self.cycle()?;
                self.refresh_targets();
                _ = done.send(());
            }
            Request::Forget(pid, done) => {
                self.drain_completely()?;
                self.ledger.forget(pid);
                self.refresh_targets();
                _ = done.send(());
            }
            Request::Allocators { pid, files, probed, done } => {
                self.learn_probes(probed);
                self.learn_allocators(pid, files);
                _ = done.send(());
            }
            Request::Pause(done) => {
                self.pause()?;
                drop(done.send(self.reading()));
            }
            Request::Resume(done) => {
                self.resume()?;
                drop(done.send(self.reading()));
            }
            Request::Read(done) => drop(done.send(self.reading())),
            Request::OverheadReading(reading) => {
                if let Some(windows) = &mut self.windows {
                    windows.overhead = reading;
                }
            }
            // Ends the loop.
            Request::Stop => {}
        }
        Ok(())
    }
}
