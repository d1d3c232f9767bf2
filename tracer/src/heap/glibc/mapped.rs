//! Finds glibc's blocks in mappings of their own: large ones.
//!
//! Takes memory and ranges of anonymous memory, passes on blocks. The kernel merges neighboring mappings, so that a block
//! need not be alone in its mapping, nor at its beginning.

use super::layout::{CHUNK_ALIGNMENT, FLAGS, HEADER_BYTES, IS_MAPPED, MIN_CHUNK, SIZE};
use crate::heap::{blocks::Block, memory::Memory};

/// Bytes of a page, the unit of such blocks.
const PAGE: u64 = 4096;

/// The blocks in anonymous memory between two addresses.
pub(super) fn find(memory: &impl Memory, start: u64, end: u64) -> Vec<Block> {
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        match block(memory, at, end) {
            Some((block, bytes)) => {
                found.push(block);
                at += bytes;
            }
            // Some other memory, in the same mapping.
            None => at += PAGE,
        }
    }
    found
}

/// Bytes of the pages behind a chunk: none up to glibc 2.42; since 2.43 a chunk's size leaves out a header, so that what the
/// program may use ends like in any other chunk.
const TAILS: [u64; 2] = [0, HEADER_BYTES];

/// The block that begins with the page at `start`, and the bytes of its pages.
fn block(memory: &impl Memory, start: u64, end: u64) -> Option<(Block, u64)> {
    let [before, head] = memory.words(start)?;
    let bytes = head & !FLAGS;
    let tail = TAILS.into_iter().find(|tail| (bytes + tail).is_multiple_of(PAGE))?;
    let whole = bytes + tail;
    let is_possible = before == 0 && head & FLAGS == IS_MAPPED && whole >= PAGE;
    if !is_possible || start.checked_add(whole)? > end {
        return None;
    }
    let chunk = aligned(memory, start, whole, tail).unwrap_or(start);
    // The size of the next chunk does not begin within this one: two words are overhead, unless they are behind it.
    let overhead = if tail == 0 { HEADER_BYTES } else { HEADER_BYTES + SIZE };
    let size = (start + whole).checked_sub(chunk + overhead)?;
    Some((Block { address: chunk + HEADER_BYTES, size, gross: whole }, whole))
}

/// The chunk of a block that was requested with an alignment: it begins later, and says how much later.
fn aligned(memory: &impl Memory, start: u64, whole: u64, tail: u64) -> Option<u64> {
    let powers = (5..=whole.ilog2()).map(|power| 1_u64 << power);
    powers.into_iter().find_map(|alignment| {
        let content = (start + HEADER_BYTES).next_multiple_of(alignment);
        // If the first place is too near for a chunk before it, glibc takes the next one.
        [content, content + alignment].into_iter().find_map(|content| {
            let chunk = content.checked_sub(HEADER_BYTES)?;
            let lead =
                chunk.checked_sub(start).filter(|lead| *lead >= MIN_CHUNK / 2 && *lead < whole)?;
            let [before, head] = memory.words(chunk + SIZE - 8)?;
            let is_it = before == lead && whole.checked_sub(lead + tail)? | IS_MAPPED == head;
            (is_it && chunk % CHUNK_ALIGNMENT == 0).then_some(chunk)
        })
    })
}
