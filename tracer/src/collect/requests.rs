//! What may be asked of the collector while it runs, and its answers.

use std::{io, sync::mpsc::SyncSender};

use tracer_common::attach::ProbeNumber;

use super::{caller_allocated::LivenessChecks, collector::Collector, windows::OverheadReading};
use crate::target::{Pid, mappings::FileId};

/// What may be asked of the collector while it runs.
pub enum Request {
    /// Read everything now, what is mapped too, and say when it is done: a target is about to end.
    Flush(SyncSender<()>),
    /// Another program has taken a target's place: all it had is gone. Says when it is done; the
    /// new program must not run before.
    Forget(Pid, SyncSender<()>),
    /// These files are a target's allocators from now on, and there are so many probes. Says when that
    /// is known to the programs.
    Allocators {
        /// The target.
        pid: Pid,
        /// All of them.
        files: Vec<FileId>,
        /// Number of probes, and their signs.
        probed: (ProbeNumber, LivenessChecks),
        /// Is told.
        done: SyncSender<()>,
    },
    /// Switch recording off, read everything, and say where things stand.
    Pause(SyncSender<Reading>),
    /// Switch it on again.
    Resume(SyncSender<Reading>),
    /// Say where things stand.
    Read(SyncSender<Reading>),
    /// What is known of cost and pace.
    OverheadReading(OverheadReading),
    /// Switch recording off and make the last snapshot.
    Stop,
}

/// Where things stand.
#[derive(Clone, Debug)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// Hits by number of the probe.
    pub hits: Vec<u64>,
    /// System calls of targets that were counted.
    pub calls: u64,
}

impl Collector {
    /// Does what is asked for. The asker may have stopped waiting.
    pub(super) fn answer(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Flush(done) => {
                self.cycle()?;
                self.look_at_targets();
                _ = done.send(());
            }
            Request::Forget(pid, done) => {
                self.exhaust()?;
                self.ledger.forget(pid);
                self.look_at_targets();
                _ = done.send(());
            }
            Request::Allocators { pid, files, probed: (probes, signs), done } => {
                self.probes = self.probes.max(probes);
                self.signs.extend(signs);
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
            Request::OverheadReading(told) => {
                if let Some(windows) = &mut self.windows {
                    windows.told = told;
                }
            }
            // Ends the loop.
            Request::Stop => {}
        }
        Ok(())
    }
}
