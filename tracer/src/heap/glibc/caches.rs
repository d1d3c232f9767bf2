//! Free chunks that their neighbors call allocated: those in the caches of threads, and those in an arena's fastbins.
//!
//! Takes memory and chunks, passes on the addresses of free chunks. A thread's cache is found without the thread: it is the
//! block whose counts agree with the lengths of its lists, which contain chunks of the right sizes.

use super::layout::{CHUNK_ALIGNMENT, HEADER_BYTES, MAX_LIST, MIN_CHUNK, TcacheLayout, arena};
use crate::heap::memory::{Memory, untagged};

/// How often a cache that changes is read again.
const MAX_REREADS: usize = 4;

/// A thread's cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// The chunks in its lists.
    pub(super) chunks: Vec<u64>,
    /// Lists that changed whenever they were read; what they had in common with their counts is in `chunks`.
    pub(super) unsteady: usize,
}

/// Counts, and heads of lists.
fn lists<'a>(
    content: &'a [u8],
    layout: &TcacheLayout,
) -> impl Iterator<Item = (usize, u64)> + use<'a> {
    let (counts, heads) = content.split_at_checked(layout.counts_bytes()).unwrap_or_default();
    let heads = heads.chunks_exact(8).filter_map(|head| head.first_chunk());
    counts.chunks_exact(layout.count_bytes).zip(heads).map(|(count, head)| {
        let count = count.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        (count, u64::from_le_bytes(*head))
    })
}

/// The room of an empty list, where counts say how much room there is.
fn room(content: &[u8], layout: &TcacheLayout) -> Option<usize> {
    let empty = lists(content, layout).filter(|(_, head)| *head == 0);
    empty.map(|(count, _)| count).next().filter(|_| layout.counts_room)
}

/// Whether a block may be a thread's cache that is not empty, by its counts and heads alone.
pub(super) fn looks_like(content: &[u8], layout: &TcacheLayout) -> bool {
    let room = room(content, layout);
    let plausible = lists(content, layout).all(|(count, head)| {
        let chunks = room.map_or(count, |room| room.wrapping_sub(count));
        (chunks == 0) == (head == 0) && head % CHUNK_ALIGNMENT == 0 && u16::try_from(chunks).is_ok()
    });
    plausible && lists(content, layout).any(|(_, head)| head != 0)
}

/// The thread's cache in a chunk; `None` if it is none, or an empty one. `size` says how large a chunk is.
pub(super) fn cache(
    memory: &impl Memory,
    chunk: u64,
    layout: &TcacheLayout,
    size: &impl Fn(u64) -> Option<u64>,
) -> Option<Cache> {
    let mut content = vec![0; layout.bytes()];
    let mut best: Option<Cache> = None;
    for _ in 0..MAX_REREADS {
        if memory.read(chunk + HEADER_BYTES, &mut content) < content.len() {
            return None;
        }
        let found = once(memory, &content, layout, size);
        if found.as_ref().is_some_and(|found| found.unsteady == 0) {
            return found;
        }
        best = best.into_iter().chain(found).min_by_key(|one| one.unsteady);
    }
    best
}

fn once(
    memory: &impl Memory,
    content: &[u8],
    layout: &TcacheLayout,
    size: &impl Fn(u64) -> Option<u64>,
) -> Option<Cache> {
    let room = room(content, layout);
    let mut cache = Cache::default();
    let mut agree = 0;
    for (list, (count, head)) in lists(content, layout).enumerate() {
        let expected = match room {
            Some(room) => room.wrapping_sub(count),
            None if layout.counts_room => return None,
            None => count,
        };
        if head == 0 && expected == 0 {
            continue;
        }
        let fits = |chunk: u64| {
            let exact = MIN_CHUNK + list as u64 * CHUNK_ALIGNMENT;
            size(chunk).is_some_and(|size| {
                if list < layout.exact { size == exact } else { size > exact / 2 }
            })
        };
        let chunks = follow(memory, head, 0, expected.min(MAX_LIST), &fits);
        if chunks.is_complete && chunks.chunks.len() == expected {
            agree += 1;
        } else {
            cache.unsteady += 1;
        }
        cache.chunks.extend(chunks.chunks);
    }
    // At most a few lists can change while they are read.
    (agree > 0 && cache.unsteady <= agree.max(2)).then_some(cache)
}

/// The free chunks in the fastbins of an arena. The second figure is how many lists could not be followed to their end.
pub(super) fn fastbins(
    memory: &impl Memory,
    address: u64,
    size: &impl Fn(u64) -> Option<u64>,
) -> (Vec<u64>, usize) {
    let Some(heads) = memory.words::<{ arena::FASTBIN_COUNT }>(address + arena::FASTBINS) else {
        return (Vec::new(), arena::FASTBIN_COUNT);
    };
    let mut all = Vec::new();
    let mut cut = 0;
    for (bin, head) in heads.into_iter().enumerate().filter(|(_, head)| *head != 0) {
        let exact = MIN_CHUNK + bin as u64 * CHUNK_ALIGNMENT;
        let fits = |chunk: u64| size(chunk) == Some(exact);
        let chunks = follow(memory, head, HEADER_BYTES, MAX_LIST, &fits);
        cut += usize::from(!chunks.is_complete);
        all.extend(chunks.chunks);
    }
    (all, cut)
}

/// A list as far as it could be followed.
#[derive(Default)]
struct Chunks {
    chunks: Vec<u64>,
    is_complete: bool,
}

/// Follows a list of free chunks. Links point to the content of a chunk, or `to_content` bytes before it. Since 2.32 a link is
/// combined with the address where it is; before, it is plain: what leads to the end of the list is right.
fn follow(
    memory: &impl Memory,
    head: u64,
    to_content: u64,
    most: usize,
    fits: &impl Fn(u64) -> bool,
) -> Chunks {
    let combined = |at: u64, link: u64| link ^ (at >> 12);
    let plain = |_: u64, link: u64| link;
    let first = along(memory, head, to_content, most, fits, &combined);
    if first.is_complete {
        return first;
    }
    let second = along(memory, head, to_content, most, fits, &plain);
    if second.is_complete || second.chunks.len() > first.chunks.len() { second } else { first }
}

fn along(
    memory: &impl Memory,
    head: u64,
    to_content: u64,
    most: usize,
    fits: &impl Fn(u64) -> bool,
    decode: &impl Fn(u64, u64) -> u64,
) -> Chunks {
    let mut found = Chunks::default();
    let mut link = head;
    while link != 0 {
        let content = untagged(link).wrapping_add(to_content);
        let chunk = content.wrapping_sub(HEADER_BYTES);
        if found.chunks.len() >= most || !content.is_multiple_of(CHUNK_ALIGNMENT) || !fits(chunk) {
            return found;
        }
        let Some(word) = memory.word(content) else { return found };
        found.chunks.push(chunk);
        link = decode(content, word);
    }
    found.is_complete = true;
    found
}
