//! Where glibc keeps what in its heap: the layouts of versions 2.28 to 2.43 for 64-bit programs.
//!
//! Constants only. A version is never trusted: whoever uses a layout verifies it on what the heap contains.
//! Sources: `malloc/malloc.c` and `malloc/arena.c` of glibc.

/// Chunks begin at multiples of this many bytes.
pub(super) const CHUNK_ALIGNMENT: u64 = 16;
/// Offset of what the program may use in its chunk.
pub(super) const HEADER_BYTES: u64 = 16;
/// Offset of a chunk's size, with flags, in it.
pub(super) const SIZE: u64 = 8;
/// Bytes of the smallest chunk.
pub(super) const MIN_CHUNK: u64 = 32;
/// Flag of a size: the chunk before it is allocated.
pub(super) const PREVIOUS_IN_USE: u64 = 1;
/// Flag of a size: the chunk is a mapping of its own.
pub(super) const IS_MAPPED: u64 = 2;
/// Flag of a size: the chunk belongs to another arena than the main one.
pub(super) const NOT_MAIN_ARENA: u64 = 4;
/// All flags of a size.
pub(super) const FLAGS: u64 = 7;

/// A layout of `struct malloc_state`, an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ArenaLayout {
    /// Offset of the heads of the lists of free chunks, two words each. The other fields are before or behind them.
    pub(super) bins: u64,
    /// Number of fastbins: lists of free small chunks that still count as allocated.
    pub(super) fastbins: usize,
    /// Whether the C library's count of blocks in mappings of their own is exact; if not, it is off by 16 bytes for each of them
    /// that was moved.
    pub(super) counts_moved: bool,
}

impl ArenaLayout {
    /// Offset of the last chunk, from which new ones are cut.
    pub(super) const fn top(&self) -> u64 {
        self.bins - 0x10
    }

    /// Offset of the next arena, in a ring.
    pub(super) const fn next(&self) -> u64 {
        self.bins + 0x800
    }

    /// Offset of the bytes that the arena has from the kernel.
    pub(super) const fn system_bytes(&self) -> u64 {
        self.bins + 0x818
    }

    /// Offset of the most that it has had.
    pub(super) const fn most_system_bytes(&self) -> u64 {
        self.bins + 0x820
    }

    /// Bytes of an arena.
    pub(super) const fn bytes(&self) -> u64 {
        self.bins + 0x828
    }
}

/// All layouts of an arena: up to 2.42, and since 2.43, which has no fastbins.
pub(super) const ARENAS: [ArenaLayout; 2] = [
    ArenaLayout { bins: 0x70, fastbins: 10, counts_moved: true },
    ArenaLayout { bins: 0x18, fastbins: 0, counts_moved: false },
];

/// Offset of the fastbins in an arena that has some.
pub(super) const FASTBINS: u64 = 0x10;
/// Number of lists of free chunks.
pub(super) const BIN_COUNT: u64 = 127;
/// An empty list's words point to itself, as if they were in a chunk: this many bytes before them.
pub(super) const BIN_BACK: u64 = 16;

/// Offsets in `struct _heap_info`, at the beginning of a mapping with chunks of an arena other than the main one.
pub(super) mod heap {
    /// Such mappings are aligned to this size, unless huge pages are configured.
    pub(in super::super) const ALIGNMENT: u64 = 64 << 20;
    /// The arena.
    pub(in super::super) const ARENA: u64 = 0;
    /// The mapping before it, of the same arena.
    pub(in super::super) const PREVIOUS: u64 = 8;
    /// Bytes of it that are in use.
    pub(in super::super) const SIZE: u64 = 16;
    /// Bytes of the structure, up to 2.34 and from 2.35 on.
    pub(in super::super) const BYTES: [u64; 2] = [0x20, 0x30];
}

/// A layout of `struct tcache_perthread_struct`: a thread's cache of free chunks, itself a block of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcacheLayout {
    /// The versions that use it.
    pub(super) versions: &'static str,
    /// Bytes of its chunk.
    pub(super) chunk: u64,
    /// Number of lists.
    pub(super) lists: usize,
    /// The first lists, which contain chunks of one size each.
    pub(super) exact: usize,
    /// Bytes of a count.
    pub(super) count_bytes: usize,
    /// Whether a count says how many more chunks there is room for, not how many there are.
    pub(super) counts_room: bool,
}

impl TcacheLayout {
    /// Whether a chunk of this size may contain one: a free chunk that is larger by less than a chunk is not divided.
    pub(super) const fn fits(&self, size: u64) -> bool {
        size == self.chunk || size == self.chunk + CHUNK_ALIGNMENT
    }

    /// Bytes before the heads of the lists.
    pub(super) const fn counts_bytes(&self) -> usize {
        self.lists * self.count_bytes
    }

    /// Bytes of the structure.
    pub(super) const fn bytes(&self) -> usize {
        self.counts_bytes() + self.lists * 8
    }
}

/// All layouts of a thread's cache.
pub(super) const TCACHES: [TcacheLayout; 3] = [
    TcacheLayout {
        versions: "2.28 to 2.29",
        chunk: 0x250,
        lists: 64,
        exact: 64,
        count_bytes: 1,
        counts_room: false,
    },
    TcacheLayout {
        versions: "2.30 to 2.41",
        chunk: 0x290,
        lists: 64,
        exact: 64,
        count_bytes: 2,
        counts_room: false,
    },
    TcacheLayout {
        versions: "2.42 to 2.43",
        chunk: 0x300,
        lists: 76,
        exact: 64,
        count_bytes: 2,
        counts_room: true,
    },
];

/// The most chunks in a list of a thread's cache or in a fastbin that are followed: a tunable allows 65,535 in the former;
/// the latter has no limit, but each lock of the arena may empty it.
pub(super) const MAX_LIST: usize = 1 << 20;
