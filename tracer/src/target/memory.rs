//! A target's memory, read while it runs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use super::Pid;

/// Pieces that one system call reads at most (`UIO_MAXIOV`).
const PIECES: usize = 1024;

/// The numbers at these addresses, of so many bytes each (8 at most); `None` where nothing is mapped. Of thousands at once.
pub fn numbers(pid: Pid, places: &[(u64, u8)]) -> Vec<Option<u64>> {
    let mut numbers = Vec::with_capacity(places.len());
    let process = nix::unistd::Pid::from_raw(pid.0.cast_signed());
    let mut bytes = [0; 8 * PIECES];
    let mut rest = places;
    while !rest.is_empty() {
        let batch = rest.get(..PIECES).unwrap_or(rest);
        let len = |size: u8| usize::from(size).min(8);
        let remote: Vec<RemoteIoVec> = batch
            .iter()
            .map(|(address, size)| RemoteIoVec {
                base: usize::try_from(*address).unwrap_or(usize::MAX),
                len: len(*size),
            })
            .collect();
        let all: usize = remote.iter().map(|one| one.len).sum();
        let room = bytes.get_mut(..all).unwrap_or_default();
        let read = process_vm_readv(process, &mut [IoSliceMut::new(room)], &remote).unwrap_or(0);
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
        // It stops before the first that is not there.
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
    /// An error when the process is gone, or may not be looked into.
    pub fn open(pid: Pid) -> io::Result<Self> {
        File::open(pid.proc_path("mem")).map(Self)
    }

    /// The bytes from `address` on; an error where nothing is mapped.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, address)
    }

    /// The number of `bytes` bytes (8 at most) at `address`; `None` where nothing is mapped.
    pub fn number(&self, address: u64, bytes: u8) -> Option<u64> {
        let mut word = [0; 8];
        self.read(address, word.get_mut(..usize::from(bytes))?).ok()?;
        Some(u64::from_le_bytes(word))
    }
}

/// Memories of several processes, each opened once.
#[derive(Debug, Default)]
pub struct Memories(BTreeMap<Pid, Option<Memory>>);

impl Memories {
    /// That of a process; `None` when the process is gone, or may not be looked into.
    pub fn of(&mut self, pid: Pid) -> Option<&Memory> {
        self.0.entry(pid).or_insert_with(|| Memory::open(pid).ok()).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_their_size_and_nothing_where_nothing_is() {
        let word = 0x1122_3344_5566_7788_u64;
        let memory = Memory::open(Pid::own()).unwrap();
        let address = &raw const word as u64;
        assert_eq!(memory.number(address, 8), Some(word));
        assert_eq!((memory.number(address, 2), memory.number(address, 9)), (Some(0x7788), None));
        assert_eq!(memory.number(8, 4), None);
    }

    #[test]
    fn thousands_are_read_at_once_and_those_that_are_not_there_are_left_out() {
        let words: Vec<u64> = (0..5000).map(|at| at << 32 | 7).collect();
        let mut places: Vec<(u64, u8)> =
            words.iter().map(|word| (&raw const *word as u64, 8)).collect();
        let mut expected: Vec<Option<u64>> = words.iter().copied().map(Some).collect();
        for (at, bytes) in [(0, 8), (1023, 4), (2500, 1), (2501, 8), (5003, 4)] {
            places.insert(at, (8, bytes));
            expected.insert(at, None);
        }
        places.push((&raw const words[1] as u64, 4));
        expected.push(Some(7));
        assert_eq!(numbers(Pid::own(), &places), expected);
        assert_eq!(numbers(Pid(u32::MAX >> 1), &places[..3]), [None; 3]);
    }
}
