//! The targets' memory as a whole, as the report shows it.
//!
//! Takes the snapshots' readings in order, and the outstanding memory; hands on sums over the targets, how they grow, and
//! how much of that outstanding memory explains.

use std::collections::BTreeMap;

use tracer_common::{kind::ResourceKind, mapping::Backing};

use super::{Assembly, limits::since_ms};
use crate::{
    analyze::{
        limit::{Forecast, Rise},
        unexplained::{Asked, Growth},
    },
    report::{MemoryGrowth, PartGrowth, ProcessMemory, Resource, Total},
    snapshot::{SiteFigures, Snapshot},
    target::limits::ProcessReading,
};

/// The history of the targets' memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    anonymous: Forecast,
    file: Forecast,
    shared: Forecast,
    /// Outstanding blocks, and private mappings without a file.
    asked: Forecast,
    private_files: Forecast,
    shared_files: Forecast,
    shared_mappings: Forecast,
    /// What no traced call asks for, and is known: free memory that the allocator keeps, and stacks.
    kept: Forecast,
    stacks: Forecast,
    /// Stacks of threads that are outstanding, also of those that have ended.
    thread_stacks: Forecast,
    /// The last figures: between two readings, and after the targets have ended.
    last: Option<ProcessMemory>,
    first_ns: Option<u64>,
}

/// The targets' memory at a snapshot, with warnings about growth that nothing explains.
pub(super) fn report(
    assembly: &mut Assembly,
    snapshot: &Snapshot,
    totals: &BTreeMap<Resource, Total>,
    warnings: &mut Vec<String>,
) -> Option<ProcessMemory> {
    let mapped = Mapped::of(assembly, snapshot);
    let mut memory = assembly.memory.report(snapshot, totals, mapped);
    let options = &assembly.session.options;
    let traces_memory = options.light || options.kinds.contains(&ResourceKind::Heap);
    if let Some(memory) = memory.as_mut().filter(|_| !traces_memory) {
        // Nothing was asked about it: that is not a share of 0.
        memory.explained_growth = None;
    }
    warnings.extend(memory.iter().flat_map(ProcessMemory::unexplained));
    memory
}

/// Outstanding mappings by what is behind them, bytes; those without a shared part or a file are not apart.
#[derive(Clone, Copy, Debug, Default)]
struct Mapped {
    private_files: u64,
    shared_files: u64,
    shared: u64,
    /// Whether all memory that leaktrace can trace is traced, all the time.
    is_complete: bool,
}

impl Mapped {
    /// The mappings of a snapshot.
    fn of(assembly: &Assembly, snapshot: &Snapshot) -> Self {
        let options = &assembly.session.options;
        let traced = |kind| options.kinds.contains(&kind);
        let mut mapped = Self {
            is_complete: traced(ResourceKind::Heap)
                && traced(ResourceKind::Mmap)
                && !options.light
                && snapshot.sampling.is_none(),
            ..Self::default()
        };
        let mmap = Resource::Plain(ResourceKind::Mmap);
        let wanted = |site: &&SiteFigures| assembly.kind(site) == mmap && assembly.is_wanted(site);
        for site in snapshot.sites.iter().filter(|site| site.detail != 0).filter(wanted) {
            match Backing::from_number(site.detail) {
                Some(Backing::PrivateFile) => mapped.private_files += site.aged.bytes,
                Some(Backing::SharedFile) => mapped.shared_files += site.aged.bytes,
                Some(Backing::SharedAnonymous) => mapped.shared += site.aged.bytes,
                Some(Backing::Anonymous) | None => {}
            }
        }
        mapped
    }

    const fn bytes(&self) -> u64 {
        self.private_files + self.shared_files + self.shared
    }
}

impl Memory {
    /// Adds the figures of a snapshot. `None` while no target's memory was read.
    fn report(
        &mut self,
        snapshot: &Snapshot,
        totals: &BTreeMap<Resource, Total>,
        mapped: Mapped,
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
            let file_bytes = sum(|one| one.memory.file);
            let shared_bytes = sum(|one| one.memory.shared);
            let stacks_bytes = sum(|one| one.stacks);
            let thread_stacks = snapshot.threads.values().map(|threads| threads.resident_bytes);
            let before = self.last.unwrap_or_default();
            let amounts = [
                (&mut self.anonymous, anon_bytes),
                (&mut self.file, file_bytes),
                (&mut self.shared, shared_bytes),
                (&mut self.asked, Some(outstanding_bytes.saturating_sub(mapped.bytes()))),
                (&mut self.private_files, Some(mapped.private_files)),
                (&mut self.shared_files, Some(mapped.shared_files)),
                (&mut self.shared_mappings, Some(mapped.shared)),
                (&mut self.kept, before.heap_kept_bytes),
                (&mut self.stacks, stacks_bytes),
                (&mut self.thread_stacks, Some(thread_stacks.sum())),
            ];
            for (history, bytes) in amounts {
                if let Some(bytes) = bytes {
                    history.push(at_ms, bytes);
                }
            }
            self.last = Some(ProcessMemory {
                heap_used_bytes: before.heap_used_bytes,
                heap_kept_bytes: before.heap_kept_bytes,
                rss_bytes: sum(|one| one.memory.rss),
                anon_bytes,
                file_bytes,
                shared_bytes,
                stacks_bytes,
                explained_growth: self.explained(),
                growth: self.growth(mapped.is_complete),
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
        self.asked.slope_over(&rise)?;
        let left = self.asked_over(&rise).leaves_of(self.growth_over(&rise));
        Some((1.0 - left.anonymous / rise.slope.per_s).clamp(0.0, 1.0))
    }

    /// How the parts grow that surely grow.
    fn growth(&self, is_complete: bool) -> MemoryGrowth {
        let of = |part: &Forecast, which: fn(&Growth) -> f64| {
            let rise = part.rise()?;
            let mut asked = self.asked_over(&rise);
            let slope = |known: &Forecast| known.slope_over(&rise).unwrap_or(0.0).max(0.0);
            // Threads that run have their stacks in both; those of outstanding threads were asked for.
            let other_stacks = slope(&self.stacks) - slope(&self.thread_stacks);
            asked.anonymous += slope(&self.kept) + other_stacks.max(0.0);
            let left = which(&asked.leaves_of(self.growth_over(&rise)));
            Some(PartGrowth {
                bytes_per_s: rise.slope.per_s,
                unexplained_bytes_per_s: is_complete.then_some(left),
                over_s: rise.over_s,
            })
        };
        MemoryGrowth {
            anonymous: of(&self.anonymous, |growth| growth.anonymous),
            file: of(&self.file, |growth| growth.file),
            shared: of(&self.shared, |growth| growth.shared),
        }
    }

    /// The slopes of resident memory over the time of a rise.
    fn growth_over(&self, rise: &Rise) -> Growth {
        let slope = |part: &Forecast| part.slope_over(rise).unwrap_or(0.0);
        Growth {
            anonymous: slope(&self.anonymous),
            file: slope(&self.file),
            shared: slope(&self.shared),
        }
    }

    /// The slopes of outstanding memory over the time of a rise.
    fn asked_over(&self, rise: &Rise) -> Asked {
        let slope = |part: &Forecast| part.slope_over(rise).unwrap_or(0.0);
        Asked {
            anonymous: slope(&self.asked) + slope(&self.thread_stacks).max(0.0),
            private_file: slope(&self.private_files),
            shared_file: slope(&self.shared_files),
            shared: slope(&self.shared_mappings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format,
        snapshot::{LimitReadings, SiteThreads},
        target::{Pid, usage::Usage},
    };

    const COMPLETE: Mapped =
        Mapped { private_files: 0, shared_files: 0, shared: 0, is_complete: true };

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
            last = memory.report(&snapshot, &totals(5000 + known * second), COMPLETE);
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

    /// The report after 40 seconds of growth of anonymous, file and shared memory by so much a second, of which that much
    /// is known.
    fn grown([anonymous, file, shared]: [u64; 3], heap: u64, mapped: Mapped) -> ProcessMemory {
        let mut memory = Memory::default();
        let mut last = None;
        for second in 0..40 {
            let now = |per_s: u64| Some((1 << 20) + per_s * second);
            let memory_now = Usage {
                anonymous: now(anonymous),
                file: now(file),
                shared: now(shared),
                ..Usage::default()
            };
            let reading = ProcessReading { memory: memory_now, ..ProcessReading::default() };
            let mapped = Mapped {
                private_files: mapped.private_files * second,
                shared_files: mapped.shared_files * second,
                shared: mapped.shared * second,
                is_complete: mapped.is_complete,
            };
            let all = heap * second + mapped.bytes();
            last = memory.report(&snapshot(second, &[reading]), &totals(all), mapped);
        }
        last.unwrap()
    }

    #[test]
    fn each_part_of_memory_grows_by_what_was_asked_for_and_the_rest() {
        let unit = 1 << 20;
        let mapped =
            Mapped { private_files: unit, shared_files: 2 * unit, shared: unit, is_complete: true };
        let memory = grown([3 * unit, unit, 2 * unit], unit, mapped);
        let rates = |part: Option<PartGrowth>| {
            let part = part.unwrap();
            [part.bytes_per_s, part.unexplained_bytes_per_s.unwrap()].map(format::magnitude)
        };
        assert_eq!(rates(memory.growth.anonymous), [3 * unit, unit]);
        assert_eq!(rates(memory.growth.file), [unit, 0]);
        assert_eq!(rates(memory.growth.shared), [2 * unit, 0]);
        let share = memory.explained_growth.unwrap();
        assert!((share - 2.0 / 3.0).abs() < 1e-6, "{share}");
        let warnings: Vec<String> = memory.unexplained().collect();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("anonymous memory grows by 3.0 MiB/s"), "{warnings:?}");

        // A file that is mapped explains no anonymous memory.
        let files = Mapped { shared_files: 3 * unit, private_files: 0, ..mapped };
        let memory = grown([unit, 0, 0], 0, files);
        assert!(memory.explained_growth.unwrap() < 1e-6);
        // Of memory that is not traced nothing can be said.
        let untraced = Mapped { is_complete: false, ..Mapped::default() };
        let memory = grown([unit, 0, 0], 0, untraced);
        assert_eq!(memory.growth.anonymous.unwrap().unexplained_bytes_per_s, None);
        assert_eq!(memory.unexplained().count(), 0);
    }

    #[test]
    fn stacks_of_threads_that_ended_and_were_never_joined_explain_growth() {
        const UNIT: u64 = 1 << 20;
        let mut memory = Memory::default();
        // Threads that run grow by a fourth of that; their stacks are among all that run.
        for second in 0..40 {
            let mut snapshot = snapshot(second, &[reading(4 * UNIT * second, Some(UNIT * second))]);
            let resident_bytes = 3 * UNIT * second;
            snapshot.threads =
                [(1, SiteThreads { resident_bytes, ..SiteThreads::default() })].into();
            memory.report(&snapshot, &totals(0), COMPLETE);
        }
        let memory = memory.last.unwrap();
        assert!((memory.explained_growth.unwrap() - 0.75).abs() < 1e-6, "{memory:?}");
        let anonymous = memory.growth.anonymous.unwrap();
        let rates = [anonymous.bytes_per_s, anonymous.unexplained_bytes_per_s.unwrap()];
        assert_eq!(rates.map(format::magnitude), [4 * UNIT, UNIT]);
    }

    #[test]
    fn memory_is_the_sum_over_the_targets_and_unknown_if_one_is() {
        let mut memory = Memory::default();
        let both = snapshot(1, &[reading(100, Some(7)), reading(50, Some(3))]);
        let now = memory.report(&both, &totals(9), COMPLETE).unwrap();
        assert_eq!((now.rss_bytes, now.anon_bytes), (Some(8342), Some(150)));
        assert_eq!((now.stacks_bytes, now.outstanding_bytes), (Some(10), 9));
        let one_unknown = snapshot(2, &[reading(100, None), reading(50, Some(3))]);
        assert_eq!(memory.report(&one_unknown, &totals(9), COMPLETE).unwrap().stacks_bytes, None);
    }

    #[test]
    fn without_a_reading_the_last_one_stays() {
        let mut memory = Memory::default();
        let without = Snapshot { at_ns: 1, ..Snapshot::default() };
        assert_eq!(memory.report(&without, &totals(9), COMPLETE), None);
        memory.report(&snapshot(1, &[reading(100, None)]), &totals(9), COMPLETE);
        let now = memory.report(&without, &totals(11), COMPLETE).unwrap();
        assert_eq!((now.anon_bytes, now.outstanding_bytes), (Some(100), 11));
    }
}
