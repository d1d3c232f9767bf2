//! Every size and bound, each with its reason.
//!
//! A bound's cost depends on the size of the bounded value, which an assertion beside it checks at compile time.
//! `tracer/src/kernel/footprint.rs` computes and bounds the memory of all maps of a run.

use crate::{
    arch::FrameRegisters,
    object::{Object, ObjectId},
    stack_cache::CachedWalk,
    state::{Connection, Died, Key, Process, Started, Thread, Young},
    unwind::Page,
};

/// The kernel's header of each hash map entry (`struct htab_elem`); key and value follow it.
pub const HASH_ENTRY_BYTES: usize = 48;

/// Frames kept of one stack. The kernel's own unwinder has the same bound (`perf_event_max_stack`).
pub const STACK_FRAMES: u32 = 127;
/// The same as a length.
pub const STACK_DEPTH: usize = STACK_FRAMES as usize;

/// Resources that may be young at once: acquired, but not drained yet. Further acquisitions go
/// through the ring buffer instead, so reaching the bound costs time and no data. 96 bytes each, and 16 for its bucket.
pub const YOUNG_ENTRIES: u32 = 1 << 18;
/// Young resources per CPU, with which the table grows. A CPU that does nothing else acquires as many in 100 ms, and
/// the collector drains sooner than that under load.
pub const YOUNG_PER_CPU: u32 = 1 << 15;
/// The smallest table: 7 MiB.
pub const YOUNG_LEAST: u32 = 1 << 16;
const _: () = assert!(HASH_ENTRY_BYTES + size_of::<Key>() + size_of::<Young>() == 96);

/// Ring buffer: 64-byte records, so 16 MiB holds 233,000 of them (8 bytes of header each). It has to absorb all records
/// while the collector walks a large ledger, so its size is the same on every machine.
pub const RING_BYTES: u32 = 1 << 24;

/// Threads followed at once, at most; each costs one [`Thread`] (3 KiB).
pub const THREADS: u32 = 8192;
/// The smallest number: a server that has few threads now may start more. 3 MiB.
pub const THREADS_LEAST: u32 = 1024;
/// The same where children are followed, whose threads do not exist yet. 12 MiB.
pub const THREADS_OF_CHILDREN: u32 = 4096;
/// Thread states, as a multiple of the threads that the targets have at the attach.
pub const THREADS_HEADROOM: u32 = 4;
const _: () = assert!(size_of::<Thread>() == 3008 + 2 * size_of::<FrameRegisters>());

// As many threads that recorded calls have started may run as there are thread states: 72 bytes each, and 16 for the
// bucket.
const _: () = assert!(HASH_ENTRY_BYTES + size_of::<u64>() + size_of::<Started>() == 72);

/// Slots that cache a thread's state by the lowest bits of its id: a power of two.
pub const RECENT_THREADS: u32 = 4096;

/// Call sites, each a function and a whole stack of one target. 11 MiB.
pub const SITES: u32 = 1 << 17;

/// Copies of the counters of resources that died young, at most: a power of two. A CPU adds to the copy that the lowest
/// bits of its number choose, so that the cache lines of a call site's counters do not bounce between all CPUs; a copy
/// for each would take 2 MiB per CPU. Smaller machines have fewer.
pub const DIED_STRIPES: u32 = 8;
const _: () = assert!(size_of::<Died>() * SITES as usize == 2 << 20);

/// Ranges of executable memory kept per target. Beyond it adjacent anonymous ranges are merged, then the
/// last ones are left out, which reports mention. 40 bytes each.
pub const EXECUTABLE_RANGES: usize = 256;

/// Different unwind rules in all tables: as many as a row can name. 20 bytes each, which the kernel rounds up to 24:
/// 1.5 MiB.
pub const RULES: u32 = 1 << 16;

/// Pages of unwind tables when the targets' needs are unknown: 512 rows of 8 bytes each, so 16 MiB. Debian's libc
/// takes 60 pages, and node 620.
pub const UNWIND_PAGES: u32 = 1 << 12;
/// Spare pages for objects that targets load later, beside those that their present objects need: 8 MiB, a million
/// rows. LLVM, which graphics drivers load, has 5 to 7 MB of `.eh_frame`, and so fewer rows.
pub const UNWIND_PAGES_SPARE: u32 = 1 << 11;
/// Pages of unwind tables at most: 128 MiB, or 16 million rows, as many as 80 MB of `.eh_frame` yield if each row takes
/// 5 bytes of it. node has 3 MB, LLVM 22 has 7 MB: a program of ten times that size fits. Beyond it objects
/// have no table, which every report states.
pub const UNWIND_PAGES_MOST: u32 = 1 << 15;
const _: () = assert!(size_of::<Page>() == 4096);

/// Levels of one table at most: three hold more rows than there are pages.
pub const TABLE_LEVELS: u32 = 3;

/// Slots of the cache of unwind rules by address. 512 KiB.
pub const RULE_CACHE_SLOTS: u32 = 1 << 16;

/// Entries of the stack cache. 544 bytes each: 8.5 MiB.
pub const CACHED_WALKS: u32 = 1 << 14;
const _: () = assert!(size_of::<CachedWalk>() == 544);

/// Targets traced at once, children included: enough for a server that forks its workers. Each costs
/// one [`Process`] (10 KiB).
pub const TARGETS: u32 = 256;
/// The smallest number, where children are not followed.
pub const TARGETS_LEAST: u32 = 16;
const _: () = assert!(size_of::<Process>() == 10_264);

/// Slots with the sequence position of a process's last fork, by the lowest bits of its id. Two processes
/// that share a slot send a few more records than needed. 32 KiB.
pub const FORKS: u32 = 4096;

/// Library objects with details beyond their call site, where `--kind` names them. 152 bytes each, and 16
/// for its bucket: 21 MiB.
pub const OBJECTS: u32 = 1 << 17;
/// One in so many objects may be live after a release request: 80 bytes each, and the bucket, 3 MiB.
/// Further requests are counted as lost.
pub const OBJECTS_PER_ASK: u32 = 4;
/// As [`OBJECTS`], where they are traced along with everything else: 5.25 MiB, and 0.75 MiB for requests.
pub const OBJECTS_BY_DEFAULT: u32 = 1 << 15;
const _: () = assert!(HASH_ENTRY_BYTES + size_of::<Key>() + size_of::<Object>() == 152);
const _: () = assert!(HASH_ENTRY_BYTES + size_of::<ObjectId>() + size_of::<u64>() == 80);

/// Upper bound of the functions' probe numbers, which the attach cookie carries. A process with 30 copies of each
/// library that the packs know has 4,000. Its counters take 16 bytes each on every CPU: 64 KiB per CPU.
pub const PROBES: u32 = 1 << 12;

/// Slots with the position of the last lost release, by hash of the handle. 4 MiB. Of 5,000 lost releases, one
/// in a hundred of the other blocks shares a slot with one, and is set aside with it.
pub const DOUBT_SLOTS: u32 = 1 << 19;

/// Connections tracked at once, where they are traced. 80 bytes each, and 16 for its bucket: 12 MiB.
pub const CONNECTIONS: u32 = 1 << 17;
const _: () = assert!(HASH_ENTRY_BYTES + size_of::<u64>() + size_of::<Connection>() == 80);

/// Free connection numbers that the collector keeps in stock: as many connections as a machine opens in a second at
/// most. 4 bytes each: 512 KiB.
pub const FREE_CONNECTIONS: u32 = 1 << 17;
