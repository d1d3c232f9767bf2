//! The blocks of a heap at one moment, whatever allocator they are from.
//!
//! Takes what an allocator's reader has found; answers which blocks are allocated, and whether an address is the start of
//! one. Pure. Takes one 64th of the heap's size: a bit for each place where a block can begin, and one for those allocated.

use std::collections::BTreeSet;

/// An allocated block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The address that the program has.
    pub address: u64,
    /// Bytes that the program may use: what it asked for, rounded up by the allocator.
    pub size: u64,
    /// Bytes that it takes in the heap.
    pub gross: u64,
}

/// What a heap says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// An allocated block of this many usable bytes begins there.
    Allocated(u64),
    /// The address is in a free part of the heap.
    Free,
    /// The address is within an allocated block, not at its beginning.
    Inside,
    /// The address is in no part of the heap that was understood.
    Unknown,
}

/// One bit for each place of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: usize, value: bool) {
        if at / 64 >= self.0.len() {
            self.0.resize(at / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at / 64) {
            *word = *word & !(1 << (at % 64)) | u64::from(value) << (at % 64);
        }
    }

    fn get(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// The first set bit at `at` or after it.
    fn next(&self, at: usize) -> Option<usize> {
        let first = self.0.get(at / 64)? & (u64::MAX << (at % 64));
        if first != 0 {
            return Some(at / 64 * 64 + first.trailing_zeros() as usize);
        }
        let skipped = self.0.iter().skip(at / 64 + 1).position(|word| *word != 0)?;
        let index = at / 64 + 1 + skipped;
        self.0.get(index).map(|word| index * 64 + word.trailing_zeros() as usize)
    }

    /// The last set bit at `at` or before it.
    fn last(&self, at: usize) -> Option<usize> {
        let first = self.0.get(at / 64)? & (u64::MAX >> (63 - at % 64));
        if first != 0 {
            return Some(at / 64 * 64 + 63 - first.leading_zeros() as usize);
        }
        let index = self.0.get(..at / 64)?.iter().rposition(|word| *word != 0)?;
        self.0.get(index).map(|word| index * 64 + 63 - word.leading_zeros() as usize)
    }

    fn clear_from(&mut self, at: usize) {
        self.0.truncate(at / 64 + 1);
        if let Some(word) = self.0.get_mut(at / 64) {
            *word &= !(u64::MAX << (at % 64));
        }
    }
}

/// Memory that is divided into chunks, which are allocated or free, without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Address of the first chunk.
    first: u64,
    /// The address after the last one.
    end: u64,
    chunks: Bits,
    allocated: Bits,
}

impl Span {
    /// Chunks begin at multiples of this many bytes.
    const PLACE: u64 = 16;
    /// Bytes of a chunk before what the program may use.
    const BEFORE: u64 = 16;
    /// Bytes of a chunk that the program may not use; the rest of what is before it belongs to the previous chunk.
    const OVERHEAD: u64 = 8;

    /// A span that begins there, without chunks yet.
    pub(super) fn new(first: u64) -> Self {
        Self { first, end: first, chunks: Bits::default(), allocated: Bits::default() }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    fn place(&self, chunk: u64) -> Option<usize> {
        let offset = chunk.checked_sub(self.first).filter(|_| chunk < self.end)?;
        (offset % Self::PLACE == 0).then(|| usize::try_from(offset / Self::PLACE).ok())?
    }

    fn address(&self, place: usize) -> u64 {
        self.first + place as u64 * Self::PLACE
    }

    /// Adds a chunk at the end.
    pub(super) fn push(&mut self, bytes: u64) {
        let at = usize::try_from((self.end - self.first) / Self::PLACE).unwrap_or(usize::MAX);
        self.chunks.set(at, true);
        self.end += bytes;
    }

    /// Removes all chunks from this address on.
    pub(super) fn cut(&mut self, chunk: u64) {
        if let Some(at) = self.place(chunk) {
            self.chunks.clear_from(at);
            self.allocated.clear_from(at);
            self.end = chunk;
        }
    }

    /// Marks a chunk as allocated or free; says whether there is one.
    pub(super) fn mark(&mut self, chunk: u64, allocated: bool) -> bool {
        let Some(at) = self.place(chunk).filter(|at| self.chunks.get(*at)) else { return false };
        self.allocated.set(at, allocated);
        true
    }

    /// Bytes of the chunk that begins there, and whether it is allocated.
    pub(super) fn chunk(&self, chunk: u64) -> Option<(u64, bool)> {
        let at = self.place(chunk).filter(|at| self.chunks.get(*at))?;
        let next = self.chunks.next(at + 1).map_or(self.end, |next| self.address(next));
        Some((next - chunk, self.allocated.get(at)))
    }

    /// The chunk that an address is in: its address and bytes, and whether it is allocated.
    fn around(&self, address: u64) -> Option<(u64, u64, bool)> {
        let inside = address.checked_sub(self.first).filter(|_| address < self.end)?;
        let at = self.chunks.last(usize::try_from(inside / Self::PLACE).ok()?)?;
        let start = self.address(at);
        self.chunk(start).map(|(bytes, allocated)| (start, bytes, allocated))
    }

    /// Its chunks: address, bytes, and whether allocated.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, u64, bool)> {
        let mut next = self.chunks.next(0);
        std::iter::from_fn(move || {
            let at = next?;
            next = self.chunks.next(at + 1);
            let end = next.map_or(self.end, |next| self.address(next));
            let start = self.address(at);
            Some((start, end - start, self.allocated.get(at)))
        })
    }

    const fn block(chunk: u64, gross: u64) -> Block {
        Block { address: chunk + Self::BEFORE, size: gross - Self::OVERHEAD, gross }
    }
}

/// The figures of one arena: a part of a heap with a lock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// Its address; 0 for memory that the allocator maps for single blocks.
    pub address: u64,
    /// Allocated blocks.
    pub blocks: u64,
    /// Bytes of them in the heap.
    pub used_bytes: u64,
    /// Bytes of free chunks in caches of threads.
    pub thread_cached_bytes: u64,
    /// Bytes of free chunks in the arena's own lists and caches.
    pub free_bytes: u64,
    /// Bytes at the end of it, from which new chunks are cut.
    pub top_bytes: u64,
    /// Bytes of the arena's own records.
    pub own_bytes: u64,
}

impl Arena {
    /// Bytes that are free, and that the allocator keeps.
    pub const fn kept_bytes(&self) -> u64 {
        self.thread_cached_bytes + self.free_bytes + self.top_bytes
    }
}

/// A heap at one moment.
#[derive(Clone, Debug, Default)]
pub struct Heap {
    /// The allocator, with its version where that is known.
    pub allocator: String,
    /// In address order.
    pub(super) spans: Vec<Span>,
    /// Blocks in mappings of their own, in address order.
    pub(super) mapped: Vec<Block>,
    /// Addresses of blocks in which the allocator keeps its own records.
    pub(super) own: BTreeSet<u64>,
    /// Its arenas, the main one first; at the end blocks in mappings of their own, if there are any.
    pub arenas: Vec<Arena>,
    /// What was not understood or does not agree, a sentence each.
    pub doubts: Vec<String>,
}

impl Heap {
    /// All allocated blocks, in no particular order.
    pub fn blocks(&self) -> impl Iterator<Item = Block> {
        let small = self.spans.iter().flat_map(|span| {
            let allocated = span.chunks().filter(|(.., allocated)| *allocated);
            allocated.map(|(chunk, bytes, _)| Span::block(chunk, bytes))
        });
        small.chain(self.mapped.iter().copied())
    }

    /// Whether the allocator keeps its own records in this block.
    pub fn is_own(&self, block: &Block) -> bool {
        self.own.contains(&block.address)
    }

    /// What the heap says of an address.
    pub fn state(&self, address: u64) -> State {
        let mapped = self.mapped.partition_point(|block| block.address <= address);
        if let Some(block) = mapped.checked_sub(1).and_then(|at| self.mapped.get(at)) {
            if block.address == address {
                return State::Allocated(block.size);
            }
            if address < block.address + block.size {
                return State::Inside;
            }
        }
        let chunk = address.wrapping_sub(Span::BEFORE);
        let after = self.spans.partition_point(|span| span.first <= chunk);
        let span = after.checked_sub(1).and_then(|at| self.spans.get(at));
        match span.filter(|span| chunk < span.end) {
            None => State::Unknown,
            Some(span) => match span.around(chunk) {
                Some((start, bytes, true)) if start == chunk => {
                    State::Allocated(Span::block(chunk, bytes).size)
                }
                Some((.., false)) => State::Free,
                _ => State::Inside,
            },
        }
    }

    /// Bytes in use by the program, with what the allocator adds to each block.
    pub fn used_bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.used_bytes).sum()
    }

    /// Bytes that are free, and that the allocator keeps.
    pub fn kept_bytes(&self) -> u64 {
        self.arenas.iter().map(Arena::kept_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A span with chunks of these sizes; every second one is allocated.
    fn span(sizes: &[u64]) -> Span {
        let mut span = Span::new(0x1000);
        for (index, size) in sizes.iter().enumerate() {
            let chunk = span.end();
            span.push(*size);
            assert!(span.mark(chunk, index % 2 == 0));
        }
        span
    }

    #[test]
    fn addresses_are_blocks_only_where_an_allocated_one_begins() {
        let spans = vec![span(&[32, 48, 4096, 32])];
        let mapped = vec![Block { address: 0x9010, size: 8176, gross: 8192 }];
        let heap = Heap { spans, mapped, ..Heap::default() };
        let states = [
            (0x1010, State::Allocated(24)),
            (0x1018, State::Inside),
            (0x1030, State::Free),
            (0x1060, State::Allocated(4088)),
            (0x2060, State::Free),
            (0x2080, State::Unknown),
            (0xff0, State::Unknown),
            (0x9010, State::Allocated(8176)),
            (0x9020, State::Inside),
            (0x1070, State::Inside),
            (0x1040, State::Free),
            (0xb020, State::Unknown),
        ];
        for (address, state) in states {
            assert_eq!(heap.state(address), state, "{address:#x}");
        }
        let blocks: Vec<_> = heap.blocks().map(|block| (block.address, block.gross)).collect();
        assert_eq!(blocks, [(0x1010, 32), (0x1060, 4096), (0x9010, 8192)]);
    }

    #[test]
    fn a_span_that_is_cut_grows_again_from_there() {
        let mut span = span(&[32, 48, 4096, 32]);
        span.cut(0x1050);
        assert_eq!(span.end(), 0x1050);
        span.push(64);
        let chunks: Vec<_> = span.chunks().collect();
        assert_eq!(chunks, [(0x1000, 32, true), (0x1020, 48, false), (0x1050, 64, false)]);
        assert!(!span.mark(0x1060, true));
    }
}
