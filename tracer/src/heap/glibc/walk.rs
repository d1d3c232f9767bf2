//! Walks the chunks of one part of a heap, from its first to its last.
//!
//! Takes memory and an address, passes on a [`Span`] of chunks, allocated as far as their neighbors say; what caches have is
//! still marked as allocated. The process goes on meanwhile: where a size cannot be right, the walk goes back and reads
//! again. Must not know lists or caches.

use std::cell::Cell;

use super::layout::{
    CHUNK_ALIGNMENT, FLAGS, HEADER_BYTES, IS_MAPPED, MIN_CHUNK, PREVIOUS_IN_USE, SIZE, TCACHES,
};
use crate::heap::{blocks::Span, memory::Memory, window::Window};

/// How often a window is read again before the walk starts over.
const MAX_REREADS: u32 = 8;

/// How often a walk starts over.
const MAX_WALKS: u32 = 4;

/// Where a part of a heap ends.
pub(super) enum End<'a> {
    /// At the last chunk, which moves: asks for it, and its bytes.
    Top(&'a dyn Fn() -> Option<(u64, u64)>),
    /// At the chunks of impossible size before this address.
    Fence(u64),
}

/// A chunk with a size that cannot be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Its address.
    pub(super) at: u64,
}

/// What a walk has found.
#[derive(Debug)]
pub(super) struct Walked {
    /// The chunks, without the last one.
    pub(super) span: Span,
    /// Bytes of the last chunk.
    pub(super) top_bytes: u64,
    /// Chunks that may be a thread's cache.
    pub(super) maybe_caches: Vec<u64>,
}

/// Walks from the chunk at `first` to the end.
pub(super) fn walk(memory: &impl Memory, first: u64, end: &End<'_>) -> Result<Walked, Fault> {
    let mut fault = Fault { at: first };
    for _ in 0..MAX_WALKS {
        match Walk::new(memory, first).run(end) {
            Ok(walked) => return Ok(walked),
            Err(met) => fault = met,
        }
    }
    Err(fault)
}

struct Walk<'a, M> {
    memory: &'a M,
    span: Span,
    at: u64,
    /// The chunk before `at`.
    previous: Option<u64>,
    window: Window,
    /// `at` and `previous` when the window was read.
    begun: (u64, Option<u64>),
    rereads: Cell<u32>,
    maybe_caches: Vec<u64>,
}

impl<'a, M: Memory> Walk<'a, M> {
    fn new(memory: &'a M, first: u64) -> Self {
        Self {
            memory,
            span: Span::new(first),
            at: first,
            previous: None,
            window: Window::default(),
            begun: (first, None),
            rereads: Cell::new(0),
            maybe_caches: Vec::new(),
        }
    }

    fn run(mut self, end: &End<'_>) -> Result<Walked, Fault> {
        // The last chunk, and where memory ends.
        let (mut top, mut limit) = match end {
            End::Top(top) => {
                top().map(|(top, size)| (top, top + size)).ok_or(Fault { at: self.at })?
            }
            End::Fence(limit) => (u64::MAX, *limit),
        };
        loop {
            if let (true, End::Top(now)) = (self.at >= top, end) {
                let (address, size) = now().ok_or(Fault { at: self.at })?;
                // A chunk may have been merged with the last one meanwhile.
                if (address..address + size).contains(&self.at) {
                    let used = self.head().is_none_or(|head| head & PREVIOUS_IN_USE != 0);
                    self.end_previous(used || self.at > address);
                    return Ok(self.done(size));
                }
                if address == top {
                    self.again()?;
                    continue;
                }
                (top, limit) = (address, address + size);
            }
            let Some(head) = self.head() else {
                self.again()?;
                continue;
            };
            let size = head & !FLAGS;
            if let End::Fence(limit) = end
                && size < MIN_CHUNK
                && self.at + 2 * HEADER_BYTES >= *limit
            {
                self.end_previous(head & PREVIOUS_IN_USE != 0);
                return Ok(self.done(0));
            }
            let is_possible = size >= MIN_CHUNK
                && size.is_multiple_of(CHUNK_ALIGNMENT)
                && head & IS_MAPPED == 0
                && self.at.checked_add(size).is_some_and(|next| next <= limit);
            if !is_possible {
                self.again()?;
                continue;
            }
            self.end_previous(head & PREVIOUS_IN_USE != 0);
            if self.may_be_cache(size) {
                self.maybe_caches.push(self.at);
            }
            self.span.push(size);
            self.previous = Some(self.at);
            self.at += size;
        }
    }

    /// The size of the chunk at `at`, with its flags; reads the next window if necessary.
    fn head(&mut self) -> Option<u64> {
        if let Some(head) = self.window.word(self.at + SIZE) {
            return Some(head);
        }
        // Memory that is gone is read again as often as memory that changes, and no more.
        if self.at > self.begun.0 {
            self.begun = (self.at, self.previous);
            self.rereads.set(0);
        }
        self.window.fill(self.memory, self.at);
        self.window.word(self.at + SIZE)
    }

    /// Reads the window again, and goes back to its beginning.
    fn again(&mut self) -> Result<(), Fault> {
        if self.rereads.get() >= MAX_REREADS {
            return Err(Fault { at: self.at });
        }
        self.rereads.set(self.rereads.get() + 1);
        (self.at, self.previous) = self.begun;
        self.span.cut(self.at);
        let from = self.at;
        self.maybe_caches.retain(|chunk| *chunk < from);
        self.window.fill(self.memory, self.at);
        Ok(())
    }

    /// The next chunk says whether the one before it is allocated.
    fn end_previous(&mut self, allocated: bool) {
        if let Some(previous) = self.previous {
            self.span.mark(previous, allocated);
        }
    }

    /// Whether the chunk may be a thread's cache, by its size and by its lists, as far as the window has them.
    fn may_be_cache(&self, size: u64) -> bool {
        TCACHES.iter().filter(|layout| layout.fits(size)).any(|layout| {
            let content = self.window.get(self.at + HEADER_BYTES, layout.bytes());
            content.is_none_or(|content| super::caches::looks_like(content, layout))
        })
    }

    fn done(self, top_bytes: u64) -> Walked {
        Walked { span: self.span, top_bytes, maybe_caches: self.maybe_caches }
    }
}
