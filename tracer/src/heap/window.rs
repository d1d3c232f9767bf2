//! A copy of a piece of memory, for whoever reads a heap from its beginning to its end.
//!
//! Takes memory and addresses in ascending order, passes on bytes. Must not know what they mean.

use super::memory::Memory;

/// Bytes read at once: a system call for each block would cost more than reading.
const BYTES: usize = 1 << 20;

/// A copy of a piece of memory.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
    len: usize,
}

impl Window {
    /// Reads memory from an address on.
    pub(super) fn fill(&mut self, memory: &impl Memory, start: u64) {
        self.bytes.resize(BYTES, 0);
        self.start = start;
        self.len = memory.read(start, &mut self.bytes);
    }

    /// Bytes that were read; `None` if some of them were not.
    pub(super) fn get(&self, address: u64, count: usize) -> Option<&[u8]> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.bytes.get(..self.len)?.get(offset..offset.checked_add(count)?)
    }

    /// A word that was read.
    pub(super) fn word(&self, address: u64) -> Option<u64> {
        self.get(address, 8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Up to `count` bytes at an address; reads there first if necessary.
    pub(super) fn bytes(&mut self, memory: &impl Memory, address: u64, count: usize) -> &[u8] {
        if self.get(address, count).is_none() {
            self.fill(memory, address);
        }
        let there = address.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let read = self.bytes.get(..self.len).unwrap_or_default();
        let rest = there.and_then(|at| read.get(at..)).unwrap_or_default();
        rest.get(..count).unwrap_or(rest)
    }
}
