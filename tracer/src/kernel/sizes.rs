//! How many entries the maps are made with: by what is traced, and by how many processors produce it.
//!
//! Pure. Takes what a run needs, hands on the length of every map that is not the same in all runs.

use tracer_common::{
    limits,
    state::{DIED_SITES, NUMBERS},
};

use super::{
    object::{LoadOptions, TraceMode},
    tables,
};

/// Room for young pages with `--light`. While the table is drained the kernel runs no program at a page fault on that
/// processor (`bpf_disable_instrumentation`); where it is preempted meanwhile, touches go unseen. So
/// the walk is kept short: a sixteenth of what calls need.
const YOUNG_PAGES: u32 = 1 << 14;

/// Pages in one copy of the counters of what died young.
#[expect(clippy::cast_possible_truncation, reason = "512 fits")]
const DIED_PAGES: u32 = limits::SITES / DIED_SITES as u32;

/// Maps whose length differs between runs.
const SIZED: usize = 12;

/// Names of maps, and how many entries each is made with.
pub(super) type Sizes = [(&'static str, u32); SIZED];

/// What a run with these needs, on a host that may have so many processors, makes of the maps.
pub(super) fn of(needs: &LoadOptions, cpus: u32) -> Sizes {
    let (targets, threads) = (targets(needs), threads(needs));
    [
        (tables::UNWIND_PAGES, needs.unwind_pages),
        (tables::YOUNG, young(needs.means, cpus)),
        (tables::DIED, DIED_PAGES * died_stripes(cpus)),
        (tables::TARGETS, targets),
        (tables::PROCESSES, targets),
        (tables::THREADS, threads),
        (tables::THREAD_STATES, threads),
        (tables::FREE_THREAD_STATES, threads),
        (tables::OBJECTS, objects(needs)),
        (tables::ASKS, objects(needs).div_ceil(limits::OBJECTS_PER_ASK)),
        (tables::CONNECTIONS, if needs.descriptors { limits::CONNECTIONS } else { 1 }),
        (tables::FREE_CONNECTIONS, if needs.descriptors { limits::FREE_CONNECTIONS } else { 1 }),
    ]
}

/// Copies of the counters of what died young: a power of two.
pub(super) fn died_stripes(cpus: u32) -> u32 {
    cpus.clamp(1, limits::DIED_STRIPES).next_power_of_two()
}

/// How many resources may be young, see [`limits::YOUNG_ENTRIES`].
fn young(means: TraceMode, cpus: u32) -> u32 {
    let all = cpus.next_power_of_two().saturating_mul(limits::YOUNG_PER_CPU);
    match means {
        TraceMode::Probes | TraceMode::Neither => {
            all.clamp(limits::YOUNG_LEAST, limits::YOUNG_ENTRIES)
        }
        TraceMode::Touches => YOUNG_PAGES,
    }
}

/// How many targets there may be at once.
fn targets(needs: &LoadOptions) -> u32 {
    if needs.children {
        return limits::TARGETS;
    }
    needs.targets.clamp(limits::TARGETS_LEAST, limits::TARGETS)
}

/// How many threads of targets there may be at once.
fn threads(needs: &LoadOptions) -> u32 {
    let least = if needs.children { limits::THREADS_OF_CHILDREN } else { limits::THREADS_LEAST };
    needs.threads.saturating_mul(limits::THREADS_HEADROOM).clamp(least, limits::THREADS)
}

/// Of how many objects more may be known than their call site.
fn objects(needs: &LoadOptions) -> u32 {
    match needs.objects {
        Objects::None => 1,
        Objects::ByDefault => limits::OBJECTS_BY_DEFAULT,
        Objects::Named => limits::OBJECTS,
    }
}

/// Whether objects of libraries are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// They are not.
    None,
    /// Along with everything else.
    ByDefault,
    /// The user has named them.
    Named,
}

const _: () = assert!(limits::DIED_STRIPES.is_power_of_two());
// Every target that the maps have room for can have a number.
const _: () = assert!(limits::TARGETS <= NUMBERS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processors_fill_grows_with_them_to_a_bound() {
        let stripes = [1, 2, 3, 8, 256, 8192].map(died_stripes);
        assert_eq!(stripes, [1, 2, 4, 8, 8, 8]);
        let young = [1, 2, 3, 4, 8, 8192].map(|cpus| young(TraceMode::Probes, cpus));
        assert_eq!(young, [1 << 16, 1 << 16, 1 << 17, 1 << 17, 1 << 18, 1 << 18]);
        assert_eq!(super::young(TraceMode::Touches, 256), 1 << 14);
    }

    #[test]
    fn threads_have_room_for_four_times_as_many_within_bounds() {
        let of = |count| threads(&LoadOptions { threads: count, ..LoadOptions::by_default() });
        assert_eq!([0, 256, 1000, 100_000].map(of), [1024, 1024, 4000, 8192]);
        let children = LoadOptions { children: true, ..LoadOptions::by_default() };
        assert_eq!((threads(&children), targets(&children)), (4096, 256));
        assert_eq!(targets(&LoadOptions { targets: 40, ..LoadOptions::by_default() }), 40);
    }
}
