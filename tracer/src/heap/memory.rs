//! Reads the memory of a process from outside, at a bounded price for it.
//!
//! Takes addresses, passes on bytes. It writes nothing, stops nothing, and touches only pages that the process has, in
//! memory or swapped out: reading another one would make the kernel build page tables for it. Unmapped memory and a process
//! that has ended are no errors: there is less to read. Must not know what the bytes mean.

use std::{
    cell::Cell,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use tracer_common::kind::PAGE_BYTES;

use super::regions;
use crate::{
    arch::{Architecture as _, Host},
    target::{Pid, pages},
};

/// Bytes of a word, which is what a pointer takes: leaktrace traces 64-bit programs only.
pub const WORD_BYTES: u64 = 8;

/// Swapped memory read in one second at most: it comes back into the memory of a process that may have little.
const SWAPPED_BYTES_PER_S: u64 = 32 << 20;

/// Pages whose state one call reads at most: 4 MiB of memory.
const PAGES_AT_ONCE: usize = 1024;

/// The shortest pause that is worth a system call.
const MIN_PAUSE: Duration = Duration::from_millis(2);

/// Memory that can be read.
pub trait Memory {
    /// Fills `buffer` with the bytes at an address. Returns how many of them there are: reading ends at the first page
    /// that cannot be read without changing the process.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;

    /// The word at an address.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.read(address, &mut bytes) == bytes.len()).then(|| u64::from_le_bytes(bytes))
    }

    /// The words at an address, if all of them can be read.
    fn words<const COUNT: usize>(&self, address: u64) -> Option<[u64; COUNT]> {
        let mut bytes = vec![0; COUNT * 8];
        if self.read(address, &mut bytes) < bytes.len() {
            return None;
        }
        let mut words = [0; COUNT];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(*bytes.first_chunk()?);
        }
        Some(words)
    }
}

/// The address in a pointer, without the bits that the processor ignores and programs keep tags in.
pub fn untagged(pointer: u64) -> u64 {
    pointer & Host::POINTER_MASK
}

/// What reading has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCost {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of pages that had to be swapped in for it.
    pub swapped_bytes: u64,
}

/// The memory of a running process.
#[derive(Debug)]
pub struct ProcessMemory {
    /// Stays with this memory when the process executes another program, and when its id is used again.
    memory: File,
    pages: File,
    /// Memory in which another program handles page faults: never read.
    avoided: Vec<Range<u64>>,
    /// The share of one processor that reading may take.
    share: f64,
    cost: Cell<ReadCost>,
    /// Time to wait before the next read, so that the share is kept.
    owed: Cell<Duration>,
    /// When to stop reading.
    deadline: Option<Instant>,
}

impl ProcessMemory {
    /// Opens the memory of a process, which needs root or the rights of a debugger. Reading takes at most this share of
    /// one processor.
    pub fn open(pid: Pid, share: f64) -> io::Result<Self> {
        Ok(Self {
            memory: File::open(pid.proc_path("mem"))?,
            pages: File::open(pid.proc_path("pagemap"))?,
            avoided: regions::handled_elsewhere(pid)?,
            share: share.clamp(0.01, 1.0),
            cost: Cell::default(),
            owed: Cell::default(),
            deadline: None,
        })
    }

    /// The same, of which nothing can be read any more at some time.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Whether that time has come.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// What reading has cost so far.
    pub fn cost(&self) -> ReadCost {
        self.cost.get()
    }

    /// Bytes from `address` on, `most` at most, on pages that the process has; how many of them are on swapped pages.
    fn extent(&self, address: u64, most: usize) -> (usize, u64) {
        if self.avoided.iter().any(|range| range.contains(&address)) {
            return (0, 0);
        }
        let avoided = self.avoided.iter().map(|range| range.start).filter(|start| *start > address);
        let end = address.saturating_add(most as u64).min(avoided.min().unwrap_or(u64::MAX));
        let (first, last) = (address / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        let count = usize::try_from(last - first).unwrap_or(usize::MAX).min(PAGES_AT_ONCE);
        let mut bytes = [0; PAGES_AT_ONCE * 8];
        let wanted = bytes.get_mut(..count * 8).unwrap_or_default();
        let read = self.pages.read_at(wanted, first * 8).unwrap_or(0);
        let mut at = first;
        let mut swapped = 0;
        for entry in wanted.get(..read).unwrap_or_default().chunks_exact(8) {
            let entry = pages::Entry::from_bytes(*entry.first_chunk().unwrap_or(&[0; 8]));
            if !entry.is_mapped() {
                break;
            }
            swapped += u64::from(entry.is_swapped()) * PAGE_BYTES;
            at += 1;
        }
        let there = (at * PAGE_BYTES).min(end).saturating_sub(address);
        (usize::try_from(there).unwrap_or(0), swapped)
    }

    /// Adds what a read has cost, and waits if reading has taken more than its share.
    fn account(&self, bytes: u64, swapped_bytes: u64, took: Duration) {
        let cost = self.cost.get();
        self.cost.set(ReadCost {
            bytes: cost.bytes + bytes,
            swapped_bytes: cost.swapped_bytes + swapped_bytes,
        });
        let pause = took.mul_f64(1.0 / self.share - 1.0)
            + Duration::from_secs_f64(swapped_bytes as f64 / SWAPPED_BYTES_PER_S as f64);
        let owed = self.owed.get() + pause;
        if owed < MIN_PAUSE {
            self.owed.set(owed);
            return;
        }
        std::thread::sleep(owed);
        self.owed.set(Duration::ZERO);
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let begun = Instant::now();
        if self.deadline.is_some_and(|deadline| begun >= deadline) {
            return 0;
        }
        let mut done = 0;
        let mut swapped = 0;
        while done < buffer.len() {
            let at = address.wrapping_add(done as u64);
            let (there, some_swapped) = self.extent(at, buffer.len() - done);
            let Some(wanted) = buffer.get_mut(done..done + there).filter(|some| !some.is_empty())
            else {
                break;
            };
            // Memory that was unmapped meanwhile is an error of the kernel's, and none of ours.
            let read = self.memory.read_at(wanted, at).unwrap_or(0);
            done += read;
            swapped += some_swapped;
            if read < there {
                break;
            }
        }
        self.account(done as u64, swapped, begun.elapsed());
        done
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Memory made up by a test.
    #[derive(Default)]
    pub(in crate::heap) struct Fake(BTreeMap<u64, Vec<u8>>);

    impl Fake {
        /// Adds zeroed memory.
        pub(in crate::heap) fn map(&mut self, address: u64, bytes: u64) {
            self.0.insert(address, vec![0; usize::try_from(bytes).unwrap()]);
        }

        pub(in crate::heap) fn set(&mut self, address: u64, word: u64) {
            self.fill(address, &word.to_le_bytes());
        }

        pub(in crate::heap) fn fill(&mut self, address: u64, bytes: &[u8]) {
            let (start, memory) = self.0.range_mut(..=address).next_back().unwrap();
            let at = usize::try_from(address - start).unwrap();
            memory[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    impl Memory for Fake {
        fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
            let Some((start, memory)) = self.0.range(..=address).next_back() else { return 0 };
            let at = usize::try_from(address - start).unwrap();
            let there = memory.get(at..).unwrap_or_default();
            let count = there.len().min(buffer.len());
            buffer[..count].copy_from_slice(&there[..count]);
            count
        }
    }

    #[test]
    fn only_pages_that_the_process_has_are_read() {
        const PAGE: usize = 4096;
        let mut memory = vec![0_u8; 8 << 20];
        let first = memory.as_ptr().addr().next_multiple_of(PAGE) - memory.as_ptr().addr();
        for page in [0, 1, 3] {
            memory[first + page * PAGE] = std::hint::black_box(7);
        }
        let own = ProcessMemory::open(Pid::own(), 1.0).unwrap();
        let start = (memory.as_ptr().addr() + first) as u64;
        let mut buffer = vec![1; 4 * PAGE];
        assert_eq!(own.read(start, &mut buffer), 2 * PAGE);
        assert_eq!((buffer[0], buffer[1], buffer[PAGE]), (7, 0, 7));
        assert_eq!(own.read(start + 2 * PAGE_BYTES, &mut buffer), 0);
        assert_eq!(own.word(start + 3 * PAGE_BYTES), Some(7));
        assert_eq!(own.word(8), None);
        assert_eq!(own.cost().bytes, 2 * PAGE as u64 + 8);
        // Reading made no page present.
        assert_eq!(own.read(start, &mut buffer), 2 * PAGE);
    }

    #[test]
    fn a_process_that_has_ended_has_nothing_to_read() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid(child.id());
        let memory = ProcessMemory::open(pid, 1.0).unwrap();
        let stack = crate::target::mappings::read(pid).unwrap().iter().last().unwrap().start;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(memory.word(stack), None);
        assert!(ProcessMemory::open(pid, 1.0).is_err());
    }
}
