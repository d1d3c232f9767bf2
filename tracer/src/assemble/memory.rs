//! The targets' memory as a whole, as the report shows it.
//!
//! Takes the snapshots' readings in order, and the outstanding memory; hands on sums over the targets, and how much of
//! their growth outstanding memory explains.

use std::collections::BTreeMap;

use super::limits::since_ms;
use crate::{
    analyze::limit::Forecast,
    report::{ProcessMemory, Resource, Total},
    snapshot::Snapshot,
    target::limits::ProcessReading,
};

/// The history of the targets' memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    anonymous: Forecast,
    outstanding: Forecast,
    /// The last figures: between two readings, and after the targets have ended.
    last: Option<ProcessMemory>,
    first_ns: Option<u64>,
}

impl Memory {
    /// Adds the figures of a snapshot. `None` while no target's memory was read.
    pub(super) fn report(
        &mut self,
        snapshot: &Snapshot,
        totals: &BTreeMap<Resource, Total>,
    ) -> Option<ProcessMemory> {
        let outstanding_bytes = totals
            .iter()
            .filter(|(kind, _)| !kind.is_descriptor())
            .map(|(_, total)| total.outstanding_bytes)
            .fold(0_u64, u64::saturating_add);
        let readings = snapshot.limits.as_ref().filter(|readings| !readings.processes.is_empty());
        if let Some(readings) = readings {
            let at_ms = since_ms(*self.first_ns.get_or_insert(snapshot.at_ns), snapshot.at_ns);
            // Of all targets, or unknown.
            let sum = |of: fn(&ProcessReading) -> Option<u64>| -> Option<u64> {
                readings.processes.values().map(of).sum()
            };
            let anon_bytes = sum(|one| one.memory.anonymous);
            if let Some(anonymous) = anon_bytes {
                self.anonymous.push(at_ms, anonymous);
                self.outstanding.push(at_ms, outstanding_bytes);
            }
            let before = self.last.unwrap_or_default();
            self.last = Some(ProcessMemory {
                heap_used_bytes: before.heap_used_bytes,
                heap_kept_bytes: before.heap_kept_bytes,
                rss_bytes: sum(|one| one.memory.rss),
                anon_bytes,
                file_bytes: sum(|one| one.memory.file),
                shared_bytes: sum(|one| one.memory.shared),
                stacks_bytes: sum(|one| one.stacks),
                explained_growth: self.explained(),
                ..ProcessMemory::default()
            });
        }
        let last = self.last.as_mut()?;
        last.outstanding_bytes = outstanding_bytes;
        if let Some(heap) = snapshot.heap {
            last.heap_used_bytes = Some(heap.used_bytes);
            last.heap_kept_bytes = Some(heap.kept_bytes);
        }
        Some(*last)
    }

    /// The share of the growth of anonymous memory that outstanding memory explains; `None` while anonymous memory does
    /// not surely grow.
    fn explained(&self) -> Option<f64> {
        let rise = self.anonymous.rise()?;
        let outstanding = self.outstanding.slope_over(&rise)?;
        Some((outstanding / rise.slope.per_s).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::ResourceKind;

    use super::*;
    use crate::{
        snapshot::LimitReadings,
        target::{Pid, usage::Usage},
    };

    fn reading(anonymous: u64, stacks: Option<u64>) -> ProcessReading {
        let memory = Usage {
            rss: Some(anonymous + 4096),
            anonymous: Some(anonymous),
            file: Some(4096),
            shared: Some(0),
            ..Usage::default()
        };
        ProcessReading { memory, stacks, limits: Vec::new() }
    }

    fn snapshot(second: u64, processes: &[ProcessReading]) -> Snapshot {
        let processes = processes.iter().cloned().zip(1..);
        let processes = processes.map(|(one, pid)| (Pid(pid), one)).collect();
        let limits = LimitReadings { processes, ..LimitReadings::default() };
        Snapshot { at_ns: second * 1_000_000_000, limits: Some(limits), ..Snapshot::default() }
    }

    fn totals(heap: u64) -> BTreeMap<Resource, Total> {
        let total = |outstanding_bytes| Total { outstanding_bytes, ..Total::default() };
        [(ResourceKind::Heap.into(), total(heap)), (ResourceKind::Fd.into(), total(77))].into()
    }

    /// The share that is explained after 40 seconds of growth by so many bytes a second, of which so many are known.
    fn explained(grows: u64, known: u64) -> Option<f64> {
        let mut memory = Memory::default();
        let mut last = None;
        for second in 0..40 {
            let snapshot = snapshot(second, &[reading((1 << 20) + grows * second, None)]);
            last = memory.report(&snapshot, &totals(5000 + known * second));
        }
        last.unwrap().explained_growth
    }

    #[test]
    fn growth_is_explained_by_the_growth_of_outstanding_memory() {
        for (grows, known, share) in
            [(4096, 4096, 1.0), (8192, 2048, 0.25), (4096, 9000, 1.0), (4096, 0, 0.0)]
        {
            let explained = explained(grows, known).unwrap();
            assert!((explained - share).abs() < 1e-9, "{grows} {known}: {explained}");
        }
        assert_eq!(explained(0, 4096), None);
    }

    #[test]
    fn memory_is_the_sum_over_the_targets_and_unknown_if_one_is() {
        let mut memory = Memory::default();
        let both = snapshot(1, &[reading(100, Some(7)), reading(50, Some(3))]);
        let now = memory.report(&both, &totals(9)).unwrap();
        assert_eq!((now.rss_bytes, now.anon_bytes), (Some(8342), Some(150)));
        assert_eq!((now.stacks_bytes, now.outstanding_bytes), (Some(10), 9));
        let one_unknown = snapshot(2, &[reading(100, None), reading(50, Some(3))]);
        assert_eq!(memory.report(&one_unknown, &totals(9)).unwrap().stacks_bytes, None);
    }

    #[test]
    fn without_a_reading_the_last_one_stays() {
        let mut memory = Memory::default();
        let without = Snapshot { at_ns: 1, ..Snapshot::default() };
        assert_eq!(memory.report(&without, &totals(9)), None);
        memory.report(&snapshot(1, &[reading(100, None)]), &totals(9));
        let now = memory.report(&without, &totals(11)).unwrap();
        assert_eq!((now.anon_bytes, now.outstanding_bytes), (Some(100), 11));
    }
}
