//! glibc's heap, 2.28 to 2.43: which blocks are allocated, caches of threads included.
//!
//! Takes memory and mappings, passes on a [`Heap`]. Layouts are found in the heap itself and verified there: no symbols, no
//! version. Parts that do not agree with their own records are left out, and the heap says so in words.

mod arenas;
mod caches;
mod layout;
mod mapped;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeSet;

use self::{
    arenas::Ring,
    caches::Links,
    layout::{HEADER_BYTES, TCACHES, TcacheLayout, heap},
    walk::{End, Fault, Walked, walk},
};
use super::{
    blocks::{self, Heap, Span},
    memory::Memory,
    regions::{Purpose, purpose},
};
use crate::{format, target::mappings::Mappings};

/// A count that leaves out moves may be off by one in so many bytes. A block that was not found is larger.
const MISCOUNT: u64 = 512;

/// Mappings of one arena that are followed at most: 64 MiB each.
const MAX_HEAPS: usize = 1 << 16;

/// The heap of a process whose C library is glibc; `None` if no arena of one was found.
pub(super) fn read(memory: &impl Memory, mappings: &Mappings) -> Option<Heap> {
    let rings = arenas::find(memory, mappings);
    if rings.is_empty() {
        return None;
    }
    let mut reading = Reading { memory, mappings, heap: Heap::default(), caches: Vec::new() };
    if rings.len() > 1 {
        let count = rings.len();
        reading
            .doubt(format!("{count} C libraries are loaded, each with a heap: these are the sums"));
    }
    for ring in &rings {
        reading.ring(ring);
    }
    reading.heap.spans.sort_by_key(Span::first);
    let links = reading.thread_caches();
    reading.fastbins(&rings, links);
    reading.mapped(&rings);
    Some(reading.finish())
}

/// A thread's cache.
struct Found {
    chunk: u64,
    layout: &'static TcacheLayout,
    cache: caches::Cache,
}

/// A heap that is being read.
struct Reading<'a, M> {
    memory: &'a M,
    mappings: &'a Mappings,
    heap: Heap,
    /// Chunks that may be a thread's cache.
    caches: Vec<u64>,
}

impl<M: Memory> Reading<'_, M> {
    fn doubt(&mut self, words: String) {
        self.heap.doubts.push(words);
    }

    fn ring(&mut self, ring: &Ring) {
        for arena in &ring.arenas {
            self.arena(arena);
        }
        if ring.is_cut {
            self.doubt(
                "the list of arenas changed or is damaged: there may be more than were read"
                    .to_owned(),
            );
        }
    }

    /// Reads all chunks of an arena.
    fn arena(&mut self, found: &arenas::Arena) {
        let (top_bytes, own_bytes) =
            if found.is_main { self.main_arena(found) } else { self.other_arena(found) };
        self.heap.arenas.push(blocks::Arena {
            address: found.address,
            top_bytes,
            own_bytes,
            ..Default::default()
        });
    }

    /// The main arena's chunks, where `sbrk(2)` has put them. Returns the bytes of the last one, and of its own records.
    fn main_arena(&mut self, found: &arenas::Arena) -> (u64, u64) {
        let memory = self.memory;
        let top = || arenas::top(memory, found);
        let Some((address, bytes)) = top() else {
            self.unread(found.system_bytes, found.address);
            return (0, 0);
        };
        // All of it in one piece: the usual case.
        let begin = (address + bytes).checked_sub(found.system_bytes);
        // A static program has moved the end of its data before, by any number of bytes.
        let whole = begin.map(|begin| begin.next_multiple_of(layout::CHUNK_ALIGNMENT));
        let own_bytes = whole.unwrap_or(0) - begin.unwrap_or(0);
        // Where the program itself moves the end of its data, only the kernel knows where that begins.
        let segment = self.mappings.find(address).map(|mapping| mapping.start);
        let mut fault = Fault { at: address };
        for start in [whole, segment].into_iter().flatten() {
            match walk(memory, start, &End::Top(&top)) {
                Ok(walked) => {
                    let read = walked.span.end() + walked.top_bytes - walked.span.first();
                    let missing = found.system_bytes.saturating_sub(read);
                    if missing > 0 && Some(start) != whole {
                        self.unread(missing, found.address);
                    }
                    return (self.take(walked), if Some(start) == whole { own_bytes } else { 0 });
                }
                Err(met) => fault = met,
            }
        }
        self.broken(fault, found.system_bytes, found.address);
        (bytes, 0)
    }

    /// Another arena's chunks, in one or more mappings. Returns the same.
    fn other_arena(&mut self, found: &arenas::Arena) -> (u64, u64) {
        let memory = self.memory;
        let top = || arenas::top(memory, found);
        let first_heap = found.address & !(heap::ALIGNMENT - 1);
        let info_bytes = found.address - first_heap;
        let Some((mut address, _)) = top() else {
            self.unread(found.system_bytes, found.address);
            return (0, 0);
        };
        let mut top_bytes = 0;
        let mut own_bytes = 0;
        for number in 0..MAX_HEAPS {
            let start = address & !(heap::ALIGNMENT - 1);
            let header = memory.words::<3>(start + heap::ARENA);
            let Some([owner, previous, size]) = header.filter(|words| words[0] == found.address)
            else {
                self.unread(found.system_bytes, found.address);
                break;
            };
            debug_assert_eq!((owner, heap::PREVIOUS, heap::SIZE), (found.address, 8, 16));
            let own = if start == first_heap {
                (info_bytes + found.layout.bytes()).next_multiple_of(layout::CHUNK_ALIGNMENT)
            } else {
                info_bytes
            };
            let end = if number == 0 { End::Top(&top) } else { End::Fence(start + size) };
            match walk(memory, start + own, &end) {
                Ok(walked) => {
                    // What is behind the last chunk of an earlier mapping marks its end.
                    let end = walked.span.end() + walked.top_bytes;
                    own_bytes += own + (start + size).saturating_sub(end);
                    top_bytes += self.take(walked);
                }
                Err(fault) => self.broken(fault, size, found.address),
            }
            if start == first_heap || previous == 0 {
                break;
            }
            address = previous;
        }
        (top_bytes, own_bytes)
    }

    /// Adds what a walk has found; returns the bytes of the last chunk.
    fn take(&mut self, walked: Walked) -> u64 {
        self.caches.extend(walked.maybe_caches);
        self.heap.spans.push(walked.span);
        walked.top_bytes
    }

    fn unread(&mut self, bytes: u64, arena: u64) {
        self.doubt(format!(
            "{} of the arena at {arena:#x} are not where its records say: they were not read",
            format::bytes(bytes)
        ));
    }

    fn broken(&mut self, Fault { at }: Fault, bytes: u64, arena: u64) {
        self.doubt(format!(
            "the chunk at {at:#x} has an impossible size: {} of the arena at {arena:#x} were not read; the heap is damaged, \
             changes very fast, or is not glibc's",
            format::bytes(bytes)
        ));
    }

    /// Takes out the chunks in the caches of threads. Returns how links are stored; `None` if no cache shows it.
    fn thread_caches(&mut self) -> Option<Links> {
        let candidates = std::mem::take(&mut self.caches);
        let [combined, plain] =
            [Links::Combined, Links::Plain].map(|links| self.caches_with(&candidates, links));
        let agreeing =
            |found: &[Found]| -> usize { found.iter().map(|one| one.cache.agreeing).sum() };
        let links =
            if agreeing(&plain) > agreeing(&combined) { Links::Plain } else { Links::Combined };
        let found = if links == Links::Plain { plain } else { combined };
        let is_known = !found.is_empty();
        let versions: BTreeSet<&str> = found.iter().map(|one| one.layout.versions).collect();
        self.heap.allocator = match versions.into_iter().collect::<Vec<_>>().as_slice() {
            [version] => format!("glibc {version}"),
            _ => "glibc".to_owned(),
        };
        let unsteady: usize = found.iter().map(|one| one.cache.unsteady).sum();
        let mut cached = Vec::new();
        for one in found {
            cached.extend(one.cache.chunks);
            self.heap.own.insert(one.chunk + HEADER_BYTES);
        }
        // Sums are by arena: of the one whose memory the chunk is in, not the one whose thread has it.
        for chunk in cached {
            if let Some(bytes) = mark_free(&mut self.heap.spans, chunk) {
                let address = self.arena_of(chunk);
                if let Some(arena) = self.heap.arenas.iter_mut().find(|one| one.address == address)
                {
                    arena.thread_cached_bytes += bytes;
                }
            }
        }
        if unsteady > 0 {
            self.doubt(format!(
                "{unsteady} lists of threads' caches changed while they were read: some free blocks count as allocated"
            ));
        }
        is_known.then_some(links)
    }

    /// The caches among these chunks, if links are stored like that.
    fn caches_with(&self, candidates: &[u64], links: Links) -> Vec<Found> {
        let size = |chunk| size_of(&self.heap.spans, chunk);
        let candidates = candidates.iter().filter(|chunk| is_allocated(&self.heap.spans, **chunk));
        let found = candidates.filter_map(|chunk| {
            let size_of_it = size(*chunk)?;
            let mut layouts = TCACHES.iter().filter(|layout| layout.fits(size_of_it));
            layouts.find_map(|layout| {
                let cache = caches::cache(self.memory, *chunk, layout, links, &size)?;
                Some(Found { chunk: *chunk, layout, cache })
            })
        });
        found.collect()
    }

    /// Takes out the chunks in the arenas' fastbins.
    fn fastbins(&mut self, rings: &[Ring], links: Option<Links>) {
        let read = |links| {
            let size = |chunk| size_of(&self.heap.spans, chunk);
            let all = rings.iter().flat_map(|ring| &ring.arenas).map(|arena| {
                caches::fastbins(self.memory, arena.address, arena.layout.fastbins, links, &size)
            });
            all.fold((Vec::new(), 0), |(mut chunks, unsteady), (more, some)| {
                chunks.extend(more);
                (chunks, unsteady + some)
            })
        };
        let (chunks, unsteady) = links.map_or_else(
            || {
                let (combined, plain) = (read(Links::Combined), read(Links::Plain));
                if plain.1 < combined.1 { plain } else { combined }
            },
            read,
        );
        for chunk in chunks {
            mark_free(&mut self.heap.spans, chunk);
        }
        if unsteady > 0 {
            self.doubt(format!(
                "{unsteady} lists of free chunks (fastbins) changed while they were read: some free blocks count as allocated"
            ));
        }
    }

    /// The address of the arena that a chunk's memory belongs to.
    fn arena_of(&self, chunk: u64) -> u64 {
        let start = chunk & !(heap::ALIGNMENT - 1);
        let is_it = |address: &u64| *address & !(heap::ALIGNMENT - 1) == start;
        let arenas = self.heap.arenas.iter().map(|arena| arena.address);
        if let Some(direct) = arenas.clone().find(is_it) {
            return direct;
        }
        let owner = self.memory.word(start + heap::ARENA);
        let others = arenas.clone().skip(1);
        owner
            .filter(|owner| others.clone().any(|address| address == *owner))
            .or(self.heap.arenas.first().map(|arena| arena.address))
            .unwrap_or(0)
    }

    /// Finds blocks in mappings of their own, and compares them with the C libraries' counts.
    fn mapped(&mut self, rings: &[Ring]) {
        for mapping in self.mappings.iter().filter(|one| purpose(one) == Purpose::Dynamic) {
            let mut at = mapping.start;
            // Arenas are anonymous memory, too, and may be merged with their neighbors.
            let arenas: Vec<(u64, u64)> = self
                .heap
                .spans
                .iter()
                .map(|span| {
                    let start = span.first();
                    (start & !4095, span.end())
                })
                .filter(|(start, _)| mapping.contains(*start))
                .collect();
            for (start, end) in arenas {
                self.heap.mapped.extend(mapped::find(self.memory, at, start.max(at)));
                at = at.max(end.next_multiple_of(4096));
            }
            if mapping.special.as_deref() != Some("[heap]") {
                self.heap.mapped.extend(mapped::find(self.memory, at, mapping.end));
            }
        }
        self.heap.mapped.sort_unstable();
        let found: u64 = self.heap.mapped.iter().map(|block| block.gross).sum();
        let is_exact =
            rings.iter().flat_map(|ring| &ring.arenas).all(|one| one.layout.counts_moved);
        let miscount = if is_exact { 0 } else { found / MISCOUNT };
        match rings.iter().map(|ring| ring.mapped_bytes).sum::<Option<u64>>() {
            None if found > 0 => self.doubt(format!(
                "blocks in mappings of their own ({}) could not be compared with the C library's count of them",
                format::bytes(found)
            )),
            Some(expected) if expected.abs_diff(found) > miscount => self.doubt(format!(
                "blocks in mappings of their own are {} by their headers, and {} by the C library's count",
                format::bytes(found),
                format::bytes(expected)
            )),
            _ => {}
        }
    }

    /// Adds up the arenas.
    fn finish(mut self) -> Heap {
        let owners: Vec<u64> =
            self.heap.spans.iter().map(|span| self.arena_of(span.first())).collect();
        for (span, owner) in self.heap.spans.iter().zip(owners) {
            let arena = self.heap.arenas.iter_mut().find(|arena| arena.address == owner);
            let Some(arena) = arena else { continue };
            for (_, bytes, allocated) in span.chunks() {
                if allocated {
                    arena.blocks += 1;
                    arena.used_bytes += bytes;
                } else {
                    arena.free_bytes += bytes;
                }
            }
        }
        for arena in &mut self.heap.arenas {
            // They are free chunks, too.
            arena.free_bytes = arena.free_bytes.saturating_sub(arena.thread_cached_bytes);
        }
        if !self.heap.mapped.is_empty() {
            self.heap.arenas.push(blocks::Arena {
                blocks: self.heap.mapped.len() as u64,
                used_bytes: self.heap.mapped.iter().map(|block| block.gross).sum(),
                ..Default::default()
            });
        }
        self.heap
    }
}

/// The span that contains an address; spans are sorted.
fn span_of(spans: &[Span], address: u64) -> Option<usize> {
    let after = spans.partition_point(|span| span.first() <= address);
    after.checked_sub(1).filter(|at| spans.get(*at).is_some_and(|one| address < one.end()))
}

/// Bytes of the chunk that begins there.
fn size_of(spans: &[Span], chunk: u64) -> Option<u64> {
    spans.get(span_of(spans, chunk)?)?.chunk(chunk).map(|(bytes, _)| bytes)
}

/// Whether an allocated chunk begins there.
fn is_allocated(spans: &[Span], chunk: u64) -> bool {
    let span = span_of(spans, chunk).and_then(|at| spans.get(at));
    span.and_then(|span| span.chunk(chunk)).is_some_and(|(_, allocated)| allocated)
}

/// Marks an allocated chunk as free, and returns its bytes; `None` if there is none.
fn mark_free(spans: &mut [Span], chunk: u64) -> Option<u64> {
    let at = span_of(spans, chunk)?;
    let span = spans.get_mut(at)?;
    let (bytes, allocated) = span.chunk(chunk)?;
    span.mark(chunk, false);
    allocated.then_some(bytes)
}
