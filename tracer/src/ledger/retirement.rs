//! Call sites of processes that have ended, on their way back to the pool of numbers.
//!
//! A number may be used again once three things are certain: nothing of its process is in flight to the ledger, the
//! programs find it no longer by a stack, and no later process with the same id has found it before that. Takes ends and
//! cycles, says whose numbers are ready for the next step. Pure.

use crate::target::Pid;

/// Full cycles until nothing of a process that has ended is in flight: the one that brings its end, the next one, whose
/// drain takes the rest, and one more for a program that had not sent its record yet. As many until a process whose
/// fork is not known yet is.
const CYCLES: u32 = 3;

/// A process that has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    pid: Pid,
    /// Full cycles since the last step.
    cycles: u32,
    /// Whether the programs have forgotten its stacks.
    unlinked: bool,
}

/// Processes that have ended, and whose numbers are not free yet.
#[derive(Debug, Default)]
pub(super) struct Retirement(Vec<Ended>);

impl Retirement {
    /// A process has ended.
    pub(super) fn ended(&mut self, pid: Pid) {
        self.reborn(pid);
        self.0.push(Ended { pid, cycles: 0, unlinked: false });
    }

    /// Its id belongs to a new process, and with it the numbers: that may have found them by the same stacks.
    pub(super) fn reborn(&mut self, pid: Pid) {
        self.0.retain(|one| one.pid != pid);
    }

    /// Counts a full cycle.
    pub(super) fn cycled(&mut self) {
        for one in &mut self.0 {
            one.cycles = one.cycles.saturating_add(1);
        }
    }

    /// The processes whose stacks the programs are to forget.
    pub(super) fn to_unlink(&self) -> impl Iterator<Item = Pid> {
        self.ready(false)
    }

    /// The programs have forgotten these stacks.
    pub(super) fn unlinked(&mut self) {
        for one in self.0.iter_mut().filter(|one| !one.unlinked && one.cycles >= CYCLES) {
            (one.unlinked, one.cycles) = (true, 0);
        }
    }

    /// Whether any process is ready for the last step.
    pub(super) fn is_ready(&self) -> bool {
        self.ready(true).next().is_some()
    }

    /// Takes the processes whose numbers are free.
    pub(super) fn take_free(&mut self) -> Vec<Pid> {
        let free = self.ready(true).collect();
        self.0.retain(|one| !one.unlinked || one.cycles < CYCLES);
        free
    }

    fn ready(&self, unlinked: bool) -> impl Iterator<Item = Pid> {
        let ready = move |one: &&Ended| one.unlinked == unlinked && one.cycles >= CYCLES;
        self.0.iter().filter(ready).map(|one| one.pid)
    }
}
