//! Reads a target's memory while it runs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use super::Pid;

/// Ranges that one system call can read at most (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;

/// Reads the integers at these addresses, with their sizes in bytes (8 at most); `None` where nothing is mapped. One
/// system call reads about a thousand of them.
pub fn numbers(pid: Pid, locations: &[(u64, u8)]) -> Vec<Option<u64>> {
    let mut numbers = Vec::with_capacity(locations.len());
    let process = nix::unistd::Pid::from_raw(pid.0.cast_signed());
    let mut bytes = [0; 8 * MAX_RANGES];
    let mut rest = locations;
    while !rest.is_empty() {
        let batch = rest.get(..MAX_RANGES).unwrap_or(rest);
        let len = |size: u8| usize::from(size).min(8);
        let remote: Vec<RemoteIoVec> = batch
            .iter()
            .map(|(address, size)| RemoteIoVec {
                base: usize::try_from(*address).unwrap_or(usize::MAX),
                len: len(*size),
            })
            .collect();
        let all: usize = remote.iter().map(|one| one.len).sum();
        let buffer = bytes.get_mut(..all).unwrap_or_default();
        let read = process_vm_readv(process, &mut [IoSliceMut::new(buffer)], &remote).unwrap_or(0);
        let mut at = 0;
        let before = numbers.len();
        for one in &remote {
            let Some(piece) = bytes.get(at..at + one.len).filter(|_| at + one.len <= read) else {
                break;
            };
            let mut word = [0; 8];
            word.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            numbers.push(Some(u64::from_le_bytes(word)));
            at += one.len;
        }
        // The call stops before the first unmapped address.
        if numbers.len() - before < batch.len() {
            numbers.push(None);
        }
        rest = rest.get(numbers.len() - before..).unwrap_or_default();
    }
    numbers
}

/// One process's memory.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// Fails if the process has ended, or if we may not read its memory.
    pub fn open(pid: Pid) -> io::Result<Self> {
        File::open(pid.proc_path("mem")).map(Self)
    }

    /// Reads the bytes from `address` on; fails where nothing is mapped.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, address)
    }

    /// Reads the integer of `bytes` bytes (8 at most) at `address`; `None` where nothing is mapped.
    pub fn number(&self, address: u64, bytes: u8) -> Option<u64> {
        let mut word = [0; 8];
        self.read(address, word.get_mut(..usize::from(bytes))?).ok()?;
        Some(u64::from_le_bytes(word))
    }
}

/// The memory of several processes, each opened once.
#[derive(Debug, Default)]
pub struct Memories(BTreeMap<Pid, Option<Memory>>);

impl Memories {
    /// The memory of a process; `None` if the process has ended, or if we may not read its memory.
    pub fn of(&mut self, pid: Pid) -> Option<&Memory> {
        self.0.entry(pid).or_insert_with(|| Memory::open(pid).ok()).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_by_size_and_unmapped_ones_are_none() {
        let word = 0x1122_3344_5566_7788_u64;
        let memory = Memory::open(Pid::own()).unwrap();
        let address = &raw const word as u64;
        assert_eq!(memory.number(address, 8), Some(word));
        assert_eq!((memory.number(address, 2), memory.number(address, 9)), (Some(0x7788), None));
        assert_eq!(memory.number(8, 4), None);
    }

    #[test]
    fn thousands_are_read_in_batches_and_unmapped_ones_are_none() {
        let words: Vec<u64> = (0..5000).map(|at| at << 32 | 7).collect();
        let mut locations: Vec<(u64, u8)> =
            words.iter().map(|word| (&raw const *word as u64, 8)).collect();
        let mut expected: Vec<Option<u64>> = words.iter().copied().map(Some).collect();
        for (at, bytes) in [(0, 8), (1023, 4), (2500, 1), (2501, 8), (5003, 4)] {
            locations.insert(at, (8, bytes));
            expected.insert(at, None);
        }
        locations.push((&raw const words[1] as u64, 4));
        expected.push(Some(7));
        assert_eq!(numbers(Pid::own(), &locations), expected);
        assert_eq!(numbers(Pid(u32::MAX >> 1), &locations[..3]), [None; 3]);
    }
}
