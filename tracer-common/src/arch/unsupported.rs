//! Every architecture without a folder of its own: leaktrace refuses to trace there, so no value here is ever used.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    stack::Digest,
    syscall::{NOTHING, NUMBERS},
};

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// `read`: no system call has this number.
pub const READ: u64 = u64::MAX;
/// `readv`: the same.
pub const READV: u64 = u64::MAX - 1;
/// `io_uring_enter`: the same.
pub const IO_URING_ENTER: u64 = u64::MAX - 2;

/// The action for each system call, by its number: none.
pub const fn syscall_actions() -> [u8; NUMBERS] {
    [NOTHING; NUMBERS]
}

/// A walk uses no registers.
pub const USES_REGISTERS: u32 = 0;

/// The registers, besides the stack pointer, by which rules find frames: none.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrameRegisters {
    /// The programs have no values without a size.
    pub nothing: u64,
}

impl FrameRegisters {
    /// The digest after those that the walk used.
    #[must_use]
    pub const fn add_used(self, proof: Digest, _: u32) -> Digest {
        proof
    }
}

/// How to get from a frame to its caller: not known.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Rule {
    /// Maps have no values without a size.
    pub nothing: u32,
}

impl Rule {
    /// The rule of [`crate::unwind::RULE_GAP`].
    pub const FRAME_POINTER: Self = Self { nothing: 0 };
    /// The rule at a function's first instruction.
    pub const ENTRY: Self = Self { nothing: 0 };
}
