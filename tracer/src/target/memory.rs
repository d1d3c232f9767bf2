//! Reads a target's memory while it runs: the one way from target memory to the collector.

use std::io::{self, IoSliceMut};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
};

use super::Pid;

/// Ranges that one system call can read at most (`UIO_MAXIOV`).
pub const MAX_RANGES: usize = 1024;

/// Integers read from memory; `None` where nothing is mapped.
pub type Numbers = Vec<Option<u64>>;

/// The integers at these addresses, with their sizes in bytes (8 at most). Fails if the process has ended, or if we may
/// not read its memory. One system call reads about a thousand of them.
pub fn numbers(pid: Pid, locations: &[(u64, u8)]) -> io::Result<Numbers> {
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
        let read = match process_vm_readv(process, &mut [IoSliceMut::new(buffer)], &remote) {
            Ok(read) => read,
            // Nothing is mapped at the first address.
            Err(Errno::EFAULT) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut at = 0;
        let before = numbers.len();
        for one in &remote {
            let piece = bytes.get(at..at + one.len).filter(|_| at + one.len <= read);
            let Some(piece) = piece else { break };
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
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_by_size_and_unmapped_ones_are_none() {
        let word = 0x1122_3344_5566_7788_u64;
        let address = &raw const word as u64;
        let locations = [(address, 8), (address, 2), (8, 4), (u64::MAX, 8)];
        let found = numbers(Pid::own(), &locations).unwrap();
        assert_eq!(found, [Some(word), Some(0x7788), None, None]);
    }

    #[test]
    fn the_memory_of_a_process_that_has_ended_cannot_be_read() {
        let word = 1_u64;
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let locations = [(&raw const word as u64, 8)];
        for pid in [Pid(child.id()), Pid(u32::MAX >> 1)] {
            assert!(numbers(pid, &locations).is_err());
        }
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
        assert_eq!(numbers(Pid::own(), &locations).unwrap(), expected);
    }
}
