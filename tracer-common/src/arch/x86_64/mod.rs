//! x86-64.

mod syscalls;
mod unwind;

pub use syscalls::{IO_URING_ENTER, READ, READV, syscall_actions};
pub use unwind::{
    BASE_FRAME, BASE_RBX, BASE_STACK, FrameRegisters, KEPT, Rule, SAVED_AT_FRAME_ADDRESS,
    SAVED_AT_FRAME_POINTER, USES_RBP, USES_RBX, USES_REGISTERS, signal,
};

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
