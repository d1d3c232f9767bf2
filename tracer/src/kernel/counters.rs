//! Counters: losses, hits and system calls that the programs count, and runs that the kernel skipped.

use aya::maps::{MapData, PerCpuArray};
use tracer_common::{attach::ProbeNumber, loss::Loss};

use super::{missed_runs::MissedRuns, priority_guard::PriorityGuards};

/// The counters.
pub struct Counters {
    /// By reason.
    pub(super) losses: PerCpuArray<MapData, u64>,
    /// By probe.
    pub(super) hits: PerCpuArray<MapData, u64>,
    /// By probe.
    pub(super) failed: PerCpuArray<MapData, u64>,
    pub(super) syscalls: PerCpuArray<MapData, u64>,
    pub(super) missed_runs: MissedRuns,
    pub(super) guards: PriorityGuards,
}

impl Counters {
    /// Losses by reason, counted by the programs and by the kernel.
    pub fn losses(&self) -> impl Iterator<Item = (Loss, u64)> {
        let count = |reason| match reason {
            Loss::ProgramSkipped => self.missed_runs.skipped(),
            _ => self.total(&self.losses, reason as u32),
        };
        Loss::ALL.into_iter().map(move |reason| (reason, count(reason)))
    }

    /// Hits and failed acquisitions of the probe with this number.
    pub fn hits(&self, probe: ProbeNumber) -> (u64, u64) {
        (self.total(&self.hits, u32::from(probe)), self.total(&self.failed, u32::from(probe)))
    }

    /// System calls of targets, counted while a `Calls` of `Programs::count_syscalls` is held.
    pub fn syscalls(&self) -> u64 {
        self.total(&self.syscalls, 0)
    }

    fn total(&self, counters: &PerCpuArray<MapData, u64>, index: u32) -> u64 {
        let _guard = self.guards.begin();
        counters.get(&index, 0).map_or(0, |values| values.iter().sum())
    }
}
