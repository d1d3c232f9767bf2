//! Every size and bound, each with its reason.

/// Frames kept of one stack. A bound of the kernel's own unwinder as well (`perf_event_max_stack`).
pub const STACK_FRAMES: u32 = 127;
/// The same as a length.
pub const STACK_DEPTH: usize = STACK_FRAMES as usize;

/// Resources that may be young at once: acquired, but not drained yet. Past it acquisitions travel
/// through the ring buffer instead, so the bound costs time and no data. 96 bytes each.
pub const YOUNG_ENTRIES: u32 = 1 << 18;

/// Ring buffer: 64-byte records, so 16 MiB holds 233,000 of them (8 bytes of header each).
pub const RING_BYTES: u32 = 1 << 24;

/// Threads followed at once; each costs one [`crate::state::Thread`] (1.8 KiB).
pub const THREADS: u32 = 8192;

/// Threads whose room is remembered by the lowest bits of their id: a power of two.
pub const RECENT_THREADS: u32 = 4096;

/// Call sites, each a function and a whole stack of one target.
pub const SITES: u32 = 1 << 17;

/// Ranges of executable memory kept per target. Anonymous neighbours are merged beyond it, then the
/// last ones are left out, and said. 40 bytes each.
pub const EXECUTABLE_RANGES: usize = 256;

/// Different unwind rules in all tables: as many as a row can name. 20 bytes each.
pub const RULES: u32 = 1 << 16;

/// Pages of unwind tables held when nothing is known of the targets: 512 rows of 8 bytes each, so
/// 16 MiB (Debian's libc takes 60 pages). What the targets' objects need is added.
pub const UNWIND_PAGES: u32 = 1 << 12;

/// Pages of unwind tables at most: 256 MiB.
pub const UNWIND_PAGES_MOST: u32 = 1 << 16;

/// Levels of one table at most: three hold more rows than there are pages.
pub const TABLE_LEVELS: u32 = 3;

/// Slots that remember the unwind rules of addresses. 512 KiB.
pub const KNOWN_SLOTS: u32 = 1 << 16;

/// Walks of stacks that are remembered. 288 bytes each: 4.5 MiB.
pub const REMEMBERED_WALKS: u32 = 1 << 14;

/// Targets traced at once, children included: what a server that forks per worker needs. Each costs
/// one [`crate::state::Process`] (2 KiB).
pub const TARGETS: u32 = 256;

/// Places that remember where the last fork of a process is in the order of things, by the lowest bits
/// of its id. Two processes that share one send a few more records than needed. 32 KiB.
pub const FORKS: u32 = 4096;

/// Objects of libraries of which more is known than their call site. 160 bytes each: 20 MiB.
pub const OBJECTS: u32 = 1 << 17;

/// Objects whose release was asked for and that are still there. 80 bytes each with the kernel's own: 2.5 MiB. Beyond it
/// an object is one whose release was not asked for, and that is counted.
pub const ASKS: u32 = 1 << 15;

/// Probes of functions, as numbered by the attach cookie: below it. A process with 30 copies of each library that
/// the packs know has 4,000. Its counters take 16 bytes each on every CPU: 64 KiB per CPU.
pub const PROBES: u32 = 1 << 12;

/// Slots that remember the position of the last lost release, by hash of the handle. 8 MiB.
pub const DOUBT_SLOTS: u32 = 1 << 20;

/// Connections that are known at once. 80 bytes each: 10 MiB.
pub const CONNECTIONS: u32 = 1 << 17;

/// Numbers for connections that are handed out ahead of the collector: what a machine begins in a second at the most.
pub const FREE_CONNECTIONS: u32 = 1 << 17;
