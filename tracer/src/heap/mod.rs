//! The heap of a running process, read from outside: which blocks are allocated, what they are, what the allocator keeps.
//!
//! Takes a process's memory and mappings; passes on a [`Heap`], the same for every allocator, and a [`Census`] of what is in
//! it. No probe, no stop, no write, and no page is made present. Each allocator has a folder here, which finds its layout in
//! the heap and verifies it there. Must not know call sites, the ledger, or reports.

pub mod blocks;
pub mod census;
mod glibc;
pub mod look;
pub mod memory;
pub mod regions;
pub mod types;
mod window;

pub use blocks::{Arena, Block, Heap, State};
pub use census::Census;
pub use look::{Asked, Look, look};
pub use memory::{Memory, ProcessMemory};
pub use types::Types;

use crate::target::mappings::Mappings;

/// The allocators whose heaps can be read.
pub const READABLE: [&str; 1] = ["glibc"];

/// The heap; `None` if none of an allocator was found that leaktrace can read.
pub fn read(memory: &impl Memory, mappings: &Mappings) -> Option<Heap> {
    glibc::read(memory, mappings)
}
