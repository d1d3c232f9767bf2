//! Requests to the running collector, and how it handles and answers them: among them pauses, which keep the overhead
//! within a budget.

use std::{io, sync::mpsc::SyncSender, time::Duration};

use serde::{Deserialize, Serialize};
use tracer_common::attach::ProbeNumber;

use super::Collector;
use crate::{
    kernel,
    lib_objects::{fields::ObjectUses, internals::OwningPacks, ledger::Internals},
    reconcile::{caller_allocated::LivenessChecks, heap::HeapReading},
    snapshot::windows::OverheadReading,
    tape::Question,
    target::{Pid, mappings::FileId},
};

/// Time for BPF programs that are running when recording stops.
const SETTLE: Duration = Duration::from_millis(2);

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
    /// The code that starts threads: file, offset and length. A question of its own, since older tapes lack it.
    #[serde(skip)]
    pub thread_starts: Vec<(FileId, (u64, u64))>,
    /// The packs whose objects own what their library acquires by itself. A tape has what was found.
    #[serde(skip)]
    pub owning_packs: OwningPacks,
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
    pub(super) fn learn_probes(&mut self, probed: Probed) {
        let Probed { numbers, liveness, uses, thread_starts, owning_packs } = probed;
        self.probes = self.probes.max(numbers);
        let answers = self.source.answers();
        self.processes.thread_starts = answers.ask_since(Question::ThreadStarts, || thread_starts);
        if let Some(objects) = &mut self.objects {
            objects.extend(liveness, uses, owning_packs);
        }
    }

    /// Takes in a look at the heaps. What libraries have acquired there is a question of its own, since older tapes lack it.
    pub(super) fn take_look(&mut self, reading: HeapReading, internals: Option<Internals>) {
        self.heaps.take(reading);
        let internals = self.source.answers().ask_since(Question::Internals, || internals);
        if let Some((objects, internals)) = self.objects.as_mut().zip(internals) {
            objects.take_internals(internals);
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
                let Self { processes, source, ledger, fds, .. } = self;
                processes.learn_allocators(pid, files, source, ledger, fds.as_ref());
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

    /// Stops recording; on return everything recorded is in the ledger.
    fn pause(&mut self) -> io::Result<()> {
        let at_ns = self.switch_off()?;
        if let Some(windows) = &mut self.windows {
            windows.end(at_ns, &self.ledger);
        }
        Ok(())
    }

    /// The same for good.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let at_ns = self.switch_off()?;
        if let Some(windows) = &mut self.windows {
            windows.finish(at_ns);
        }
        Ok(())
    }

    /// Cycles until nothing arrives any more: for when recording is off.
    fn drain_completely(&mut self) -> io::Result<()> {
        while self.cycle()? > 0 || self.ledger.is_waiting() {}
        Ok(())
    }

    /// Stops recording and returns the time of that.
    fn switch_off(&mut self) -> io::Result<u64> {
        self.source.switch(false)?;
        self.paused = true;
        let at_ns = self.source.now_ns();
        self.source.settle(SETTLE);
        self.drain_completely()?;
        let ledger = &mut self.ledger;
        self.source.died_young(ledger.site_numbers(), |site, died| ledger.set_died(site, died))?;
        Ok(at_ns)
    }

    /// Resumes recording, with no thread in a call that began before.
    fn resume(&mut self) -> io::Result<()> {
        self.source.forget_threads()?;
        self.paused = false;
        let at_ns = self.source.now_ns();
        self.ledger.resumed(at_ns);
        if let Some(windows) = &mut self.windows {
            windows.begin(at_ns);
        }
        self.source.switch(true)
    }

    /// The counters now.
    fn reading(&self) -> Reading {
        let (hits, calls) = self.source.reading(self.probes);
        Reading { at_ns: kernel::now_ns(), hits, calls }
    }
}
