//! When to look at the heaps of the targets, and the thread that does: for sums now and then, and before the end to verify
//! what is outstanding.
//!
//! Live only: takes the step that is due, passes on that step, or a finished look before it. A tape has the looks as steps.
//! The collector goes on meanwhile, so that nothing is lost while a large heap is read.

use std::{
    collections::BTreeMap,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracer_common::kind::ResourceKind;

use super::{Request, steps::Step};
use crate::{
    heap::{self, Asked},
    ledger::Ledger,
    lib_objects::{
        internals::{self, Territories},
        ledger::Internals,
    },
    options::{TraceMode, TraceOptions},
    reconcile::heap::{HeapReading, HeapVerification},
    target::Pid,
};

/// Looks for sums take at most this share of one processor, in each of two ways: reading is slowed down to a quarter, and the
/// next one is due after ten times as long as the last one took.
const SHARE: f64 = 0.25;
const PAUSE: u32 = 10;

/// Shortest time between two looks for sums: the heap of a small process is read in milliseconds.
const MIN_PAUSE: Duration = Duration::from_secs(5);

/// Longest time of a look for sums. A heap for which that is not enough has none.
const MAX_LOOK: Duration = Duration::from_secs(20);

/// Whether outstanding blocks are verified by the heap: all of them are known only where everything is recorded.
pub(super) fn verifies(options: &TraceOptions) -> bool {
    options.mode() == TraceMode::Probes
        && options.kinds.contains(&ResourceKind::Heap)
        && options.max_overhead.is_none()
}

/// Longest time of a look before the end: the user waits for the report. Some GiB are read in it.
const MAX_LAST_LOOK: Duration = Duration::from_secs(1);

/// Looks before the end: the second one confirms what the first one has found free.
const LAST_LOOKS: u32 = 2;

/// Targets whose heaps are read at most: more are the children of a server that forks, and short-lived.
const MAX_TARGETS: usize = 32;

/// Longest wait for a look, between two cycles.
const POLL: Duration = Duration::from_millis(3);

/// A look that is under way.
struct Task {
    thread: JoinHandle<(HeapReading, Option<Internals>)>,
    begun: Instant,
    is_last: bool,
}

/// When to look next.
pub(super) struct HeapLooks {
    /// Whether outstanding blocks are verified at the end.
    verifies: bool,
    task: Option<Task>,
    /// When the next look for sums is due; `None` if they took too long.
    next: Option<Instant>,
    /// The step that is due after a look.
    deferred: Option<Step>,
    last_looks: u32,
    /// The ledger knows all that was acquired before the stop.
    is_complete: bool,
}

impl HeapLooks {
    pub(super) fn new(verifies: bool) -> Self {
        Self {
            verifies,
            task: None,
            next: Some(Instant::now()),
            deferred: None,
            last_looks: 0,
            is_complete: false,
        }
    }

    /// The step that is due: what `due` says, or something before it.
    pub(super) fn step(
        &mut self,
        due: impl FnOnce() -> Step,
        verification: &HeapVerification,
        ledger: &Ledger,
        (running, territories): (&[Pid], &dyn Fn() -> Option<Territories>),
    ) -> Step {
        let due = self.deferred.take().unwrap_or_else(due);
        if let Some(task) = self.task.take_if(|task| task.thread.is_finished()) {
            self.deferred = Some(due);
            let (reading, internals) = self.finished(task);
            return Step::Heap(reading, internals);
        }
        if matches!(due, Step::Stop | Step::Request(Request::Stop)) {
            return self.before_the_end(due, verification, ledger, (running, territories));
        }
        let is_due = self.next.is_some_and(|next| Instant::now() >= next);
        if self.task.is_none() && is_due && matches!(due, Step::Snapshot) && is_few(running) {
            let nothing = running.iter().map(|pid| (*pid, Vec::new())).collect();
            self.task = begin(nothing, self.territories(territories), false);
        }
        due
    }

    /// What is to be done before the collector stops.
    fn before_the_end(
        &mut self,
        stop: Step,
        verification: &HeapVerification,
        ledger: &Ledger,
        (running, territories): (&[Pid], &dyn Fn() -> Option<Territories>),
    ) -> Step {
        let is_last = self.task.as_ref().is_some_and(|task| task.is_last);
        if is_last {
            std::thread::sleep(POLL);
            self.deferred = Some(stop);
            return Step::Cycle;
        }
        if !self.is_complete {
            self.is_complete = true;
            self.deferred = Some(stop);
            return Step::Cycle;
        }
        let is_confirmed = self.last_looks > 0 && !verification.has_begun();
        if self.last_looks >= LAST_LOOKS || is_confirmed || running.is_empty() || !is_few(running) {
            return stop;
        }
        let questions = if self.verifies {
            verification.questions(ledger, running)
        } else if self.last_looks == 0 {
            running.iter().map(|pid| (*pid, Vec::new())).collect()
        } else {
            BTreeMap::new()
        };
        if questions.is_empty() && self.last_looks > 0 {
            return stop;
        }
        // A look for sums that is not finished comes too late; its thread ends by itself.
        let territories = if self.last_looks == 0 { self.territories(territories) } else { None };
        self.task = begin(questions, territories, true);
        self.last_looks += 1;
        self.deferred = Some(stop);
        Step::Cycle
    }

    /// What libraries have acquired by themselves, where all of it is known.
    fn territories(&self, all: &dyn Fn() -> Option<Territories>) -> Option<Territories> {
        all().filter(|_| self.verifies)
    }

    /// What a look has found.
    fn finished(&mut self, task: Task) -> (HeapReading, Option<Internals>) {
        let took = task.begun.elapsed();
        let is_last = task.is_last;
        // A thread that has failed has seen nothing.
        let (mut reading, internals) = task.thread.join().unwrap_or_default();
        reading.verifies = is_last && self.verifies && !reading.looks.is_empty();
        log::debug!("a look at {} heaps took {took:?}", reading.looks.len());
        self.next = (took < MAX_LOOK).then(|| Instant::now() + (took * PAUSE).max(MIN_PAUSE));
        (reading, internals)
    }
}

fn is_few(running: &[Pid]) -> bool {
    running.len() <= MAX_TARGETS
}

/// Begins a look at these processes.
fn begin(
    questions: BTreeMap<Pid, Vec<Asked>>,
    territories: Option<Territories>,
    is_last: bool,
) -> Option<Task> {
    let begun = Instant::now();
    let (share, most) = if is_last { (1.0, MAX_LAST_LOOK) } else { (SHARE, MAX_LOOK) };
    let look = move || {
        let looks = questions.into_iter().filter_map(|(pid, asked)| {
            // A process that has ended, or whose memory may not be read, has no heap.
            Some((pid, heap::look(pid, &asked, share, begun + most).ok()??))
        });
        let reading = HeapReading { looks: looks.collect(), verifies: false };
        let deadline = Instant::now() + most;
        (reading, territories.map(|all| internals::look(all, share, deadline)))
    };
    let thread = std::thread::Builder::new().name("heap".to_owned()).spawn(look).ok()?;
    Some(Task { thread, begun, is_last })
}
