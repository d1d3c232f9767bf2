//! A target's memory, read while it runs.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::Pid;

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
}
