//! Free chunks that their neighbors call allocated: those in the caches of threads, and those in an arena's fastbins.
//!
//! Takes memory and chunks, passes on the addresses of free chunks. A thread's cache is found without the thread: it is the
//! block whose counts agree with the lengths of its lists, which contain chunks of the right sizes.

use super::layout::{CHUNK_ALIGNMENT, FASTBINS, HEADER_BYTES, MAX_LIST, MIN_CHUNK, TcacheLayout};
use crate::heap::memory::{Memory, untagged};

/// How often a cache that changes is read again.
const MAX_REREADS: usize = 4;

/// How links between free chunks are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// Combined with the address where they are: since 2.32.
    Combined,
    /// As they are: before.
    Plain,
}

impl Links {
    const fn decode(self, at: u64, link: u64) -> u64 {
        match self {
            Self::Combined => link ^ (at >> 12),
            Self::Plain => link,
        }
    }
}

/// A thread's cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// The chunks in the lists that agree with their counts.
    pub(super) chunks: Vec<u64>,
    /// Lists with chunks that agree.
    pub(super) agreeing: usize,
    /// Lists that changed whenever they were read: their chunks are not known.
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
    links: Links,
    size: &impl Fn(u64) -> Option<u64>,
) -> Option<Cache> {
    let mut content = vec![0; layout.bytes()];
    let mut best: Option<Cache> = None;
    for _ in 0..MAX_REREADS {
        if memory.read(chunk + HEADER_BYTES, &mut content) < content.len() {
            return None;
        }
        let found = once(memory, &content, layout, links, size);
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
    links: Links,
    size: &impl Fn(u64) -> Option<u64>,
) -> Option<Cache> {
    let room = room(content, layout);
    let mut cache = Cache::default();
    for (list, (count, head)) in lists(content, layout).enumerate() {
        let expected = match room {
            Some(room) => room.wrapping_sub(count),
            None if layout.counts_room => return None,
            None => count,
        };
        if head == 0 && expected == 0 {
            continue;
        }
        let exact = MIN_CHUNK + list as u64 * CHUNK_ALIGNMENT;
        let fits = |chunk: u64| {
            let fits = |size| if list < layout.exact { size == exact } else { size > exact / 2 };
            size(chunk).is_some_and(fits)
        };
        match follow(memory, head, 0, expected.min(MAX_LIST), links, &fits) {
            Some(chunks) if chunks.len() == expected => {
                cache.agreeing += 1;
                cache.chunks.extend(chunks);
            }
            _ => cache.unsteady += 1,
        }
    }
    // At most a few lists can change while they are read.
    (cache.agreeing > 0 && cache.unsteady <= cache.agreeing.max(2)).then_some(cache)
}

/// The free chunks in the fastbins of an arena, which has so many of them. The second figure is how many lists changed whenever they were read.
pub(super) fn fastbins(
    memory: &impl Memory,
    address: u64,
    count: usize,
    links: Links,
    size: &impl Fn(u64) -> Option<u64>,
) -> (Vec<u64>, usize) {
    let mut best = (Vec::new(), count);
    for _ in 0..MAX_REREADS {
        let (mut all, mut unsteady) = (Vec::new(), 0);
        for bin in 0..count {
            let head = memory.word(address + FASTBINS + bin as u64 * 8).unwrap_or(0);
            if head == 0 {
                continue;
            }
            let exact = MIN_CHUNK + bin as u64 * CHUNK_ALIGNMENT;
            let fits = |chunk: u64| size(chunk) == Some(exact);
            match follow(memory, head, HEADER_BYTES, MAX_LIST, links, &fits) {
                Some(chunks) => all.extend(chunks),
                None => unsteady += 1,
            }
        }
        if unsteady == 0 {
            return (all, 0);
        }
        if unsteady < best.1 {
            best = (all, unsteady);
        }
    }
    best
}

/// Follows a list of free chunks to its end; `None` if that is not possible. Links point to the content of a chunk, or
/// `to_content` bytes before it.
fn follow(
    memory: &impl Memory,
    head: u64,
    to_content: u64,
    most: usize,
    links: Links,
    fits: &impl Fn(u64) -> bool,
) -> Option<Vec<u64>> {
    let mut found = Vec::new();
    let mut link = head;
    while link != 0 {
        let content = untagged(link).wrapping_add(to_content);
        let chunk = content.wrapping_sub(HEADER_BYTES);
        if found.len() >= most || !content.is_multiple_of(CHUNK_ALIGNMENT) || !fits(chunk) {
            return None;
        }
        found.push(chunk);
        link = links.decode(content, memory.word(content)?);
    }
    Some(found)
}
