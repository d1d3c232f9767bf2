//! Map sizes: the number of entries, by what is traced and by the number of CPUs.
//!
//! Pure. Takes the options of a run and the capacity that its targets need, passes on the length of every map that differs between runs.

use tracer_common::{
    limits,
    state::{DIED_SITES, NUMBERS},
};

use super::{cpus::died_stripes, tables};
use crate::options::{TraceMode, TraceOptions};

/// Entries for young pages with `--light`. During a drain the kernel skips page-fault programs on that CPU
/// (`bpf_disable_instrumentation`), and where the drain is preempted, touches are missed. So the table, and with it the
/// walk, is short: a sixteenth of the table for calls.
const YOUNG_PAGES: u32 = 1 << 14;

/// Pages in one copy of the counters of resources that died young.
#[expect(clippy::cast_possible_truncation, reason = "512 fits")]
const DIED_PAGES: u32 = limits::SITES / DIED_SITES as u32;

/// Maps whose length differs between runs.
const SIZED: usize = 13;

/// Names of maps, with their numbers of entries.
pub(super) type Sizes = [(&'static str, u32); SIZED];

/// Connections tracked at once where they are traced along with everything else, at least: 0.4 MiB, which keeps all maps
/// below 64 MiB on two processors.
const CONNECTIONS_LEAST: u32 = 1 << 12;

/// So many times as many connections may be open as there are descriptors at the attach: load varies.
const CONNECTIONS_HEADROOM: u32 = 4;

/// What the targets of a run need in the maps.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Size of the unwind tables, in pages.
    pub unwind_pages: u32,
    /// How many targets there are.
    pub targets: u32,
    /// How many threads they have.
    pub threads: u32,
    /// How many file descriptors they have open.
    pub descriptors: u32,
}

impl Capacity {
    /// The capacity for one target with one thread, of whose code nothing is known.
    pub(super) const ONE: Self =
        Self { unwind_pages: limits::UNWIND_PAGES_SPARE, targets: 1, threads: 1, descriptors: 3 };
}

/// The map sizes of a run with these options and targets, on a host with this many possible CPUs.
pub(super) fn of(options: &TraceOptions, capacity: &Capacity, cpus: u32) -> Sizes {
    let (targets, threads) = (targets(options, capacity), threads(options, capacity));
    let descriptors = options.traces_descriptors();
    [
        (tables::UNWIND_PAGES, capacity.unwind_pages),
        (tables::YOUNG, young(options.mode(), cpus)),
        (tables::DIED, DIED_PAGES * died_stripes(cpus)),
        (tables::TARGETS, targets),
        (tables::PROCESSES, targets),
        (tables::THREADS, threads),
        (tables::THREAD_STATES, threads),
        (tables::FREE_THREAD_STATES, threads),
        (tables::STARTED, if options.traces_threads() { threads } else { 1 }),
        (tables::OBJECTS, objects(options)),
        (tables::ASKS, objects(options).div_ceil(limits::OBJECTS_PER_ASK)),
        (tables::CONNECTIONS, connections(options, capacity)),
        (tables::FREE_CONNECTIONS, if descriptors { limits::FREE_CONNECTIONS } else { 1 }),
    ]
}

/// Capacity for young resources, see [`limits::YOUNG_ENTRIES`].
fn young(mode: TraceMode, cpus: u32) -> u32 {
    let all = cpus.next_power_of_two().saturating_mul(limits::YOUNG_PER_CPU);
    match mode {
        TraceMode::Probes | TraceMode::None => {
            all.clamp(limits::YOUNG_LEAST, limits::YOUNG_ENTRIES)
        }
        TraceMode::PageFaults => YOUNG_PAGES,
    }
}

/// Capacity for targets.
fn targets(options: &TraceOptions, capacity: &Capacity) -> u32 {
    if options.children {
        return limits::TARGETS;
    }
    capacity.targets.clamp(limits::TARGETS_LEAST, limits::TARGETS)
}

/// Capacity for threads of targets.
fn threads(options: &TraceOptions, capacity: &Capacity) -> u32 {
    let least = if options.children { limits::THREADS_OF_CHILDREN } else { limits::THREADS_LEAST };
    capacity.threads.saturating_mul(limits::THREADS_HEADROOM).clamp(least, limits::THREADS)
}

/// Capacity for connections tracked at once. Where they are traced only along with everything else, it follows the
/// descriptors that the targets have: each connection takes one.
fn connections(options: &TraceOptions, capacity: &Capacity) -> u32 {
    if !options.traces_descriptors() {
        return 1;
    }
    if options.descriptors_are_named || options.children {
        return limits::CONNECTIONS;
    }
    let expected = capacity.descriptors.saturating_mul(CONNECTIONS_HEADROOM);
    expected.clamp(CONNECTIONS_LEAST, limits::CONNECTIONS)
}

/// Capacity for library objects; beyond it, only their call sites are recorded.
fn objects(options: &TraceOptions) -> u32 {
    match (options.traces_objects(), options.objects_are_named) {
        (false, _) => 1,
        (true, false) => limits::OBJECTS_BY_DEFAULT,
        (true, true) => limits::OBJECTS,
    }
}

// Every target that fits into the maps can have a number.
const _: () = assert!(limits::TARGETS <= NUMBERS);

#[cfg(test)]
mod tests {
    use tracer_common::kind::ResourceKind;

    use super::*;

    #[test]
    fn stripes_and_young_entries_grow_with_the_cpus_up_to_a_bound() {
        let stripes = [1, 2, 3, 8, 256, 8192].map(died_stripes);
        assert_eq!(stripes, [1, 2, 4, 8, 8, 8]);
        let young = [1, 2, 3, 4, 8, 8192].map(|cpus| young(TraceMode::Probes, cpus));
        assert_eq!(young, [1 << 16, 1 << 16, 1 << 17, 1 << 17, 1 << 18, 1 << 18]);
        assert_eq!(super::young(TraceMode::PageFaults, 256), 1 << 14);
    }

    #[test]
    fn the_connection_capacity_follows_the_descriptors_unless_they_are_named() {
        let default = TraceOptions::default();
        let of = |descriptors, options: &TraceOptions| {
            connections(options, &Capacity { descriptors, ..Capacity::ONE })
        };
        assert_eq!(
            [3, 1024, 9_000, 50_000].map(|open| of(open, &default)),
            [4096, 4096, 36_000, 131_072]
        );
        let named = TraceOptions { descriptors_are_named: true, ..TraceOptions::default() };
        let children = TraceOptions { children: true, ..TraceOptions::default() };
        let heap = TraceOptions { kinds: vec![ResourceKind::Heap], ..TraceOptions::default() };
        assert_eq!([of(3, &named), of(3, &children), of(9_000, &heap)], [131_072, 131_072, 1]);
    }

    #[test]
    fn the_thread_capacity_is_four_times_the_threads_within_bounds() {
        let default = TraceOptions::default();
        let of = |threads| super::threads(&default, &Capacity { threads, ..Capacity::ONE });
        assert_eq!([0, 256, 1000, 100_000].map(of), [1024, 1024, 4000, 8192]);
        let children = TraceOptions { children: true, ..TraceOptions::default() };
        let one = Capacity::ONE;
        assert_eq!((threads(&children, &one), targets(&children, &one)), (4096, 256));
        assert_eq!(targets(&default, &Capacity { targets: 40, ..one }), 40);
    }
}
