//! The reader on heaps that are made up, byte by byte: every rule that a real heap exercises only by chance.

use super::{
    layout::{ARENAS, ArenaLayout, CHUNK_ALIGNMENT, IS_MAPPED},
    *,
};
use crate::heap::{blocks::State, memory::tests::Fake};

const LIBC: u64 = 0x7f00_0000_0000;
const MAIN: u64 = LIBC + 0x2c0;
const HEAP: u64 = 0x5500_0000_0000;
const HEAP_BYTES: u64 = 0x21000;

/// A process with a main arena, and what its mappings are.
struct Made {
    memory: Fake,
    maps: String,
    /// The next chunk of the main heap.
    at: u64,
    layout: &'static ArenaLayout,
}

impl Made {
    fn new() -> Self {
        Self::of(&ARENAS[0])
    }

    fn of(layout: &'static ArenaLayout) -> Self {
        let mut memory = Fake::default();
        memory.map(LIBC, 0x2000);
        memory.map(HEAP, HEAP_BYTES);
        for bin in 0..layout::BIN_COUNT {
            let address = MAIN + layout.bins + bin * 16;
            memory.set(address, address - 16);
            memory.set(address + 8, address - 16);
        }
        memory.set(MAIN + layout.next(), MAIN);
        memory.set(MAIN + layout.system_bytes(), HEAP_BYTES);
        memory.set(MAIN + layout.most_system_bytes(), HEAP_BYTES);
        let maps = format!(
            "{LIBC:x}-{:x} rw-p 00000000 08:01 7 /usr/lib/libc.so.6\n{HEAP:x}-{:x} rw-p 00000000 00:00 0 [heap]\n",
            LIBC + 0x2000,
            HEAP + HEAP_BYTES
        );
        Self { memory, maps, at: HEAP, layout }
    }

    /// Adds a line about anonymous memory to the mappings.
    fn anonymous(&mut self, start: u64, bytes: u64) {
        self.maps.extend([format!("{start:x}-{:x} rw-p 00000000 00:00 0\n", start + bytes)]);
    }

    /// Adds a chunk; returns its address. `previous` says whether the chunk before it is allocated.
    fn chunk(&mut self, bytes: u64, previous: bool) -> u64 {
        let chunk = self.at;
        self.memory.set(chunk + 8, bytes | u64::from(previous));
        self.at += bytes;
        chunk
    }

    /// Ends the heap, and reads it.
    fn read(mut self, last: bool) -> Heap {
        let bytes = HEAP + HEAP_BYTES - self.at;
        let top = self.chunk(bytes, last);
        self.memory.set(MAIN + self.layout.top(), top);
        // A free chunk before the last one would have been merged with it.
        assert!(last);
        let mappings = Mappings::parse(self.maps.as_bytes());
        read(&self.memory, &mappings).unwrap()
    }

    /// Makes a thread's cache in this chunk, with these lists of contents.
    fn fill_cache(
        &mut self,
        chunk: u64,
        layout: &TcacheLayout,
        room: u64,
        lists: &[(usize, &[u64])],
        safe: bool,
    ) {
        let content = chunk + 16;
        for list in 0..layout.lists {
            let chunks =
                lists.iter().find(|(index, _)| *index == list).map_or(&[][..], |(_, all)| all);
            let count =
                if layout.counts_room { room - chunks.len() as u64 } else { chunks.len() as u64 };
            let at = content + (list * layout.count_bytes) as u64;
            self.memory.fill(at, &count.to_le_bytes()[..layout.count_bytes]);
            let head = content + (layout.counts_bytes() + list * 8) as u64;
            self.memory.set(head, chunks.first().copied().unwrap_or(0));
            for pair in chunks.iter().zip(chunks.iter().skip(1).chain([&0])) {
                let key = if safe { pair.0 >> 12 } else { 0 };
                self.memory.set(*pair.0, pair.1 ^ key);
            }
        }
    }
}

fn addresses(heap: &Heap) -> Vec<u64> {
    heap.blocks().map(|block| block.address).collect()
}

#[test]
fn the_next_chunk_says_whether_one_is_allocated() {
    let mut made = Made::new();
    let first = made.chunk(0x20, true);
    let free = made.chunk(0x400, true);
    let third = made.chunk(0x90, false);
    let heap = made.read(true);
    assert_eq!(addresses(&heap), [first + 16, third + 16]);
    assert_eq!(heap.state(free + 16), State::Free);
    assert_eq!(heap.state(third + 16), State::Allocated(0x88));
    assert_eq!((heap.used_bytes(), heap.arenas[0].free_bytes), (0xb0, 0x400));
    assert_eq!(heap.used_bytes() + heap.kept_bytes(), HEAP_BYTES);
    assert_eq!(heap.doubts, [""; 0]);
}

#[test]
fn an_arena_in_use_is_found_although_lists_are_not_empty() {
    let mut made = Made::new();
    made.chunk(0x20, true);
    let free = made.chunk(0x400, true);
    made.chunk(0x90, false);
    for bin in [0, 1, 40, 126] {
        made.memory.set(MAIN + ARENAS[0].bins + bin * 16, free);
        made.memory.set(MAIN + ARENAS[0].bins + bin * 16 + 8, free);
    }
    let heap = made.read(true);
    assert_eq!((heap.arenas[0].address, heap.arenas[0].blocks), (MAIN, 2));
}

#[test]
fn chunks_in_caches_of_threads_are_free_in_every_layout() {
    for (layout, room, safe, more) in [
        (TCACHES[0], 0, false, 0),
        (TCACHES[1], 0, false, 0),
        (TCACHES[1], 0, true, 0),
        (TCACHES[2], 16, true, 0),
        // Made of a free chunk.
        (TCACHES[2], 16, true, CHUNK_ALIGNMENT),
    ] {
        let mut made = Made::new();
        let cache = made.chunk(layout.chunk + more, true);
        let small: Vec<u64> = (0..4).map(|_| made.chunk(0x20, true) + 16).collect();
        let large: Vec<u64> = (0..2).map(|_| made.chunk(0x100, true) + 16).collect();
        made.fill_cache(cache, &layout, room, &[(0, &small[1..]), (14, &large)], safe);
        let heap = made.read(true);
        assert_eq!(addresses(&heap), [cache + 16, small[0]], "{layout:?}");
        assert!(heap.is_own(&heap.blocks().next().unwrap()));
        assert_eq!(heap.arenas[0].thread_cached_bytes, 3 * 0x20 + 2 * 0x100);
        assert_eq!(heap.allocator, format!("glibc {}", layout.versions));
        assert_eq!(heap.used_bytes() + heap.kept_bytes(), HEAP_BYTES);
    }
}

#[test]
fn a_block_whose_counts_do_not_agree_with_its_lists_is_no_cache() {
    let layout = TCACHES[1];
    let mut made = Made::new();
    let cache = made.chunk(layout.chunk, true);
    let small: Vec<u64> = (0..3).map(|_| made.chunk(0x20, true) + 16).collect();
    // The list leads to chunks of another size than its own.
    made.fill_cache(cache, &layout, 0, &[(5, &small)], true);
    let heap = made.read(true);
    assert_eq!(heap.arenas[0].blocks, 4);
    assert_eq!((heap.arenas[0].thread_cached_bytes, heap.allocator.as_str()), (0, "glibc"));
}

#[test]
fn chunks_in_fastbins_are_free() {
    for safe in [false, true] {
        let mut made = Made::new();
        let chunks: Vec<u64> = (0..4).map(|_| made.chunk(0x30, true)).collect();
        made.memory.set(MAIN + layout::FASTBINS + 8, chunks[2]);
        let key = |at: u64| if safe { (at + 16) >> 12 } else { 0 };
        made.memory.set(chunks[2] + 16, chunks[0] ^ key(chunks[2]));
        made.memory.set(chunks[0] + 16, key(chunks[0]));
        let heap = made.read(true);
        assert_eq!(addresses(&heap), [chunks[1] + 16, chunks[3] + 16]);
        assert_eq!(heap.doubts, [""; 0]);
    }
}

#[test]
fn other_arenas_are_in_mappings_of_their_own_that_end_with_a_fence() {
    for layout in &ARENAS {
        other_arenas(layout);
    }
}

fn other_arenas(layout: &'static ArenaLayout) {
    const FIRST: u64 = 0x7e00_0000_0000;
    const SECOND: u64 = FIRST + heap::ALIGNMENT;
    let mut made = Made::of(layout);
    let held = made.chunk(0x40, true) + 16;
    let arena = FIRST + 0x30;
    for (start, previous, bytes) in [(FIRST, 0, 0x2000), (SECOND, FIRST, 0x3000)] {
        made.memory.map(start, bytes);
        made.memory.set(start, arena);
        made.memory.set(start + heap::PREVIOUS, previous);
        made.memory.set(start + heap::SIZE, bytes);
        made.anonymous(start, bytes);
    }
    made.memory.set(MAIN + layout.next(), arena);
    made.memory.set(arena + layout.next(), MAIN);
    made.memory.set(arena + layout.system_bytes(), 0x5000);
    // The first mapping: two chunks, then the fence.
    let chunks = (arena + layout.bytes()).next_multiple_of(16);
    let free = 0x2000 - 0x20 - (chunks - FIRST) - 0x50;
    made.memory.set(chunks + 8, 0x50 | 5);
    made.memory.set(chunks + 0x50 + 8, free | 5);
    made.memory.set(FIRST + 0x2000 - 0x20 + 8, 0x10);
    made.memory.set(FIRST + 0x2000 - 0x10 + 8, 1);
    // The second one: one chunk, and the last.
    made.memory.set(SECOND + 0x30 + 8, 0x60 | 5);
    made.memory.set(SECOND + 0x90 + 8, (0x3000 - 0x90) | 1);
    made.memory.set(arena + layout.top(), SECOND + 0x90);
    let read = made.read(true);
    let mut found = addresses(&read);
    found.sort_unstable();
    assert_eq!(found, [held, chunks + 16, SECOND + 0x40]);
    let other = read.arenas[1];
    assert_eq!((other.blocks, other.used_bytes, other.free_bytes), (2, 0xb0, free));
    assert_eq!(other.used_bytes + other.kept_bytes() + other.own_bytes, 0x5000);
    assert_eq!(read.doubts, [""; 0]);
}

#[test]
fn mapped_blocks_are_found_among_their_neighbors_and_compared_with_the_count() {
    // Up to 2.42, and since.
    mapped_blocks(&ARENAS[0], 0, 16);
    mapped_blocks(&ARENAS[1], 16, 24);
}

/// With so many bytes behind each chunk that its size leaves out, and this overhead.
fn mapped_blocks(layout: &'static ArenaLayout, tail: u64, overhead: u64) {
    const START: u64 = 0x7e00_1000_0000;
    let mut made = Made::of(layout);
    made.chunk(0x40, true);
    made.memory.map(START, 0x10_0000);
    made.anonymous(START, 0x10_0000);
    // Other memory; a plain block; one aligned to 16 KiB, with what is left of the header before it; other memory.
    made.memory.set(START, 0x1234);
    made.memory.set(START + 0x1000 + 8, (0x30000 - tail) | IS_MAPPED);
    made.memory.set(START + 0x31000 + 8, (0x40000 - tail) | IS_MAPPED);
    let aligned = START + 0x34000 - 16;
    let lead = aligned - (START + 0x31000);
    made.memory.set(aligned, lead);
    made.memory.set(aligned + 8, (0x40000 - lead - tail) | IS_MAPPED);
    // The C library's own count.
    made.memory.set(LIBC + 0x1800, 0x70000 + tail);
    made.memory.set(LIBC + 0x1808, 0x90000);
    made.memory.set(LIBC + 0x1810, HEAP);
    let heap = made.read(true);
    let sizes: Vec<_> = heap.mapped.iter().map(|block| (block.address, block.size)).collect();
    assert_eq!(
        sizes,
        [(START + 0x1010, 0x30000 - overhead), (START + 0x34000, 0x40000 - lead - overhead)]
    );
    assert_eq!(heap.doubts, [""; 0]);
    assert_eq!(heap.arenas.last().unwrap().used_bytes, 0x70000);
}

#[test]
fn what_is_damaged_is_left_out_and_said() {
    let mut made = Made::new();
    made.chunk(0x40, true);
    let broken = made.chunk(0x50, true);
    made.memory.set(broken + 8, 0x7_0000_0001);
    let heap = made.read(true);
    assert_eq!(heap.blocks().count(), 0);
    let [doubt] = heap.doubts.as_slice() else { panic!("{:?}", heap.doubts) };
    assert!(doubt.contains("impossible size") && doubt.contains("132 KiB"), "{doubt}");
}

#[test]
fn memory_that_is_gone_ends_the_reading() {
    let mut made = Made::new();
    // The process ends between a look at the last chunk and one at the first.
    made.memory.map(HEAP, 0);
    made.memory.map(HEAP + 0x20000, 0x1000);
    made.at = HEAP + 0x20000;
    let heap = made.read(true);
    assert_eq!(heap.blocks().count(), 0);
    assert_eq!(heap.doubts.len(), 1, "{:?}", heap.doubts);
}

#[test]
fn without_an_arena_there_is_no_heap() {
    let mut made = Made::new();
    made.memory.set(MAIN + ARENAS[0].system_bytes(), 0);
    let mappings = Mappings::parse(made.maps.as_bytes());
    assert!(read(&made.memory, &mappings).is_none());
}
