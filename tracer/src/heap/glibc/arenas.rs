//! Finds glibc's arenas in a process, without symbols: the main one by its empty lists, the others by the ring.
//!
//! Takes memory and mappings, passes on [`Arena`]s whose fields agree with each other. Must not walk chunks.

use super::layout::{
    ARENAS, ArenaLayout, BIN_BACK, BIN_COUNT, CHUNK_ALIGNMENT, FLAGS, MIN_CHUNK, PREVIOUS_IN_USE,
    SIZE, heap,
};
use crate::{
    heap::{
        memory::Memory,
        regions::{Purpose, purpose},
    },
    target::mappings::{Mapping, Mappings},
};

/// The largest segment of variables that is searched: the main arena is in that of the C library (8 KiB), or in that of a
/// static program, where other variables are, too.
const MAX_SEGMENT_BYTES: u64 = 64 << 20;

/// The most arenas of a ring that are followed: glibc makes eight per processor by default.
const MAX_ARENAS: usize = 1 << 16;

/// An arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arena {
    /// Its address.
    pub(super) address: u64,
    /// Where its fields are.
    pub(super) layout: &'static ArenaLayout,
    /// Whether it is the main one, whose chunks are where `sbrk(2)` puts them.
    pub(super) is_main: bool,
    /// Bytes that it has from the kernel.
    pub(super) system_bytes: u64,
}

/// One C library's arenas: the main one first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring {
    /// The arenas.
    pub(super) arenas: Vec<Arena>,
    /// Bytes of blocks in mappings of their own, as the C library counts them; `None` if the count was not found.
    pub(super) mapped_bytes: Option<u64>,
    /// Whether the ring could not be followed to its end.
    pub(super) is_cut: bool,
}

/// The arenas of every C library in a process: normally one, more after `dlmopen(3)`.
pub(super) fn find(memory: &impl Memory, mappings: &Mappings) -> Vec<Ring> {
    let mut rings = Vec::new();
    let all: Vec<&Mapping> = mappings.iter().collect();
    for (at, mapping) in all.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| all.get(at));
        let is_next = |before: &&Mapping| {
            before.end == mapping.start && purpose(before) == Purpose::Variables
        };
        // Variables without an initial value are behind the others, in a mapping without a file.
        let is_searched = purpose(mapping) == Purpose::Variables
            || purpose(mapping) == Purpose::Dynamic && before.is_some_and(is_next);
        if is_searched && mapping.end - mapping.start <= MAX_SEGMENT_BYTES {
            rings.extend(in_segment(memory, mapping.start, mapping.end));
        }
    }
    rings
}

fn in_segment(memory: &impl Memory, start: u64, end: u64) -> Vec<Ring> {
    let segment = Segment::read(memory, start, end);
    let mut found: Vec<Ring> = Vec::new();
    let mut after = start;
    for address in segment.empty_bins() {
        if address < after {
            continue;
        }
        // The layouts differ in what is before the lists. The ring leads to an arena's beginning, so it ends with one only.
        let rings = ARENAS.iter().filter_map(|layout| {
            // It may be any of the lists: those before it may be in use.
            let candidates = (0..BIN_COUNT).map(|bin| address.wrapping_sub(bin * 16 + layout.bins));
            let mut main = candidates.filter_map(|base| main_arena(memory, &segment, base, layout));
            Some(ring(memory, &segment, main.next()?))
        });
        let Some(ring) = rings.min_by_key(|ring| ring.is_cut) else { continue };
        after = ring.arenas.first().map_or(after, |main| main.address + main.layout.bytes());
        found.push(ring);
    }
    found
}

/// Words of variables; 0 where there is nothing.
struct Segment {
    start: u64,
    words: Vec<u64>,
}

impl Segment {
    fn read(memory: &impl Memory, start: u64, end: u64) -> Self {
        const PIECE: u64 = 4096;
        let mut words = Vec::new();
        let mut buffer = vec![0; 4096];
        for address in (start..end).step_by(4096) {
            buffer.fill(0);
            let most = usize::try_from((end - address).min(PIECE)).unwrap_or(0);
            let Some(wanted) = buffer.get_mut(..most) else { break };
            memory.read(address, wanted);
            words.extend(
                wanted.chunks_exact(8).filter_map(|bytes| {
                    bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
                }),
            );
        }
        Self { start, words }
    }

    fn word(&self, address: u64) -> Option<u64> {
        let offset = address.checked_sub(self.start)? / 8;
        self.words.get(usize::try_from(offset).ok()?).copied()
    }

    /// The addresses of words that look like an empty list's.
    fn empty_bins(&self) -> impl Iterator<Item = u64> {
        self.words.windows(2).zip(0_u64..).filter_map(|(pair, index)| {
            let address = self.start + index * 8;
            let empty = address.wrapping_sub(BIN_BACK);
            (pair == [empty, empty]).then_some(address)
        })
    }
}

/// The main arena at an address, if its fields agree with each other.
fn main_arena(
    memory: &impl Memory,
    segment: &Segment,
    base: u64,
    layout: &'static ArenaLayout,
) -> Option<Arena> {
    let field = |offset| segment.word(base.checked_add(offset)?);
    let system_bytes = field(layout.system_bytes())?;
    let most = field(layout.most_system_bytes())?;
    let next = field(layout.next())?;
    if system_bytes == 0 || most < system_bytes || next % 8 != 0 || next == 0 {
        return None;
    }
    for bin in 0..BIN_COUNT {
        let address = base + layout.bins + bin * 16;
        let [forward, back] = [segment.word(address)?, segment.word(address + 8)?];
        let empty = address - BIN_BACK;
        let is_list =
            |link: u64| link != 0 && link.is_multiple_of(CHUNK_ALIGNMENT) && link != empty;
        if [forward, back] != [empty; 2] && !(is_list(forward) && is_list(back)) {
            return None;
        }
    }
    let found = Arena { address: base, layout, is_main: true, system_bytes };
    top(memory, &found).map(|_| found)
}

/// The last chunk of an arena, and its bytes.
pub(super) fn top(memory: &impl Memory, arena: &Arena) -> Option<(u64, u64)> {
    let top = memory.word(arena.address + arena.layout.top())?;
    let head = memory.word(top.checked_add(SIZE).filter(|_| top % CHUNK_ALIGNMENT == 0)?)?;
    let size = head & !FLAGS;
    let ends_a_page = top.checked_add(size)? % 4096 == 0;
    (head & FLAGS & !super::layout::NOT_MAIN_ARENA == PREVIOUS_IN_USE
        && size >= MIN_CHUNK / 2
        && ends_a_page)
        .then_some((top, size))
}

/// The main arena, and all that it leads to.
fn ring(memory: &impl Memory, segment: &Segment, main: Arena) -> Ring {
    let mut ring = Ring {
        arenas: vec![main],
        mapped_bytes: mapped_bytes(memory, segment, &main),
        is_cut: false,
    };
    let mut at = main.address;
    loop {
        let next = memory.word(at + main.layout.next());
        let Some(next) = next.filter(|next| next % 8 == 0 && ring.arenas.len() < MAX_ARENAS) else {
            ring.is_cut = true;
            return ring;
        };
        if next == main.address {
            return ring;
        }
        let start = next & !(heap::ALIGNMENT - 1);
        let owner = memory.word(start + heap::ARENA);
        let system_bytes = memory.word(next.wrapping_add(main.layout.system_bytes()));
        let (Some(owner), Some(system_bytes)) = (owner, system_bytes) else {
            ring.is_cut = true;
            return ring;
        };
        if owner != next || !heap::BYTES.contains(&(next - start)) {
            ring.is_cut = true;
            return ring;
        }
        ring.arenas.push(Arena { address: next, is_main: false, system_bytes, ..main });
        at = next;
    }
}

/// Bytes of mapped blocks in `struct malloc_par`, which is found by the address of the first chunk of the main arena.
fn mapped_bytes(memory: &impl Memory, segment: &Segment, main: &Arena) -> Option<u64> {
    let (top, size) = top(memory, main)?;
    let start = (top + size).checked_sub(main.system_bytes)?;
    segment.words.windows(3).find_map(|words| match words {
        // The most that there has been, and where the heap begins.
        [bytes, most, first] if *first == start && bytes <= most && bytes % 4096 == 0 => {
            Some(*bytes)
        }
        _ => None,
    })
}
