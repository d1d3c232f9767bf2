//! A look at a heap: asks it about blocks that the ledger calls outstanding, and how much the allocator keeps.
//!
//! Takes addresses, passes on what the heap says of them. Must not decide what that means for the ledger.

use std::{io, time::Instant};

use serde::{Deserialize, Serialize};

use super::{State, memory::ProcessMemory, read};
use crate::target::{Pid, mappings};

/// A block that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its address.
    pub address: u64,
    /// Requested bytes.
    pub size: u64,
    /// Sequence position of its acquisition, which distinguishes it from others at the same address.
    pub position: u64,
}

/// What a heap says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Bytes in use by the program.
    pub used_bytes: u64,
    /// Bytes that are free, and that the allocator keeps.
    pub kept_bytes: u64,
    /// How many of the blocks are allocated.
    pub allocated: u64,
    /// Those that are not: the heap is free there, or has a smaller block.
    pub released: Vec<Asked>,
    /// How many of them the heap says nothing about: they are another allocator's, or in a part that was not understood.
    pub unclear: u64,
}

/// Looks at the heap of a process. `None` if there is none that can be read, or not until the deadline.
pub fn look(pid: Pid, asked: &[Asked], share: f64, deadline: Instant) -> io::Result<Option<Look>> {
    let memory = ProcessMemory::open(pid, share)?.until(deadline);
    let mappings = mappings::read(pid).map_err(io::Error::other)?;
    let Some(heap) = read(&memory, &mappings) else { return Ok(None) };
    if memory.is_over() {
        return Ok(None);
    }
    let mut look =
        Look { used_bytes: heap.used_bytes(), kept_bytes: heap.kept_bytes(), ..Look::default() };
    for one in asked {
        match heap.state(one.address) {
            State::Allocated(size) if size >= one.size => look.allocated += 1,
            State::Allocated(_) | State::Free => look.released.push(*one),
            // A pool's blocks are parts of one that it has from the allocator.
            State::Inside | State::Unknown => look.unclear += 1,
        }
    }
    log::debug!("heap of {pid}: {heap:?}", heap = heap.doubts);
    Ok(Some(look))
}
