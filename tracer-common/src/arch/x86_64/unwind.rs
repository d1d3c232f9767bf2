//! Unwind rules, and the registers that they find frames by: `rsp`, `rbp`, and rarely `rbx`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::stack::Digest;

/// The frame address is computed from `rsp`.
pub const BASE_STACK: u8 = 0;
/// The frame address is computed from `rbp`.
pub const BASE_FRAME: u8 = 1;
/// The frame address is computed from `rbx`: glibc's lazy binding does so.
pub const BASE_RBX: u8 = 2;

/// The register keeps its value.
pub const KEPT: u8 = 0;
/// The register was saved at an offset from the canonical frame address.
pub const SAVED_AT_FRAME_ADDRESS: u8 = 1;
/// The register was saved at an offset from `rbp`: functions that align their stack.
pub const SAVED_AT_FRAME_POINTER: u8 = 2;

/// How to get from a frame to its caller. The return address always lies directly below the canonical frame
/// address: any other layout is [`crate::unwind::RULE_UNKNOWN`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Default,
)]
#[repr(C)]
pub struct Rule {
    /// Register from which the frame address is computed: [`BASE_STACK`], [`BASE_FRAME`] or [`BASE_RBX`].
    pub base: u8,
    /// 1 when the frame address is the word at base + `offset`, plus `add`.
    pub deref: u8,
    /// Location of `rbp`: [`KEPT`], [`SAVED_AT_FRAME_ADDRESS`] or [`SAVED_AT_FRAME_POINTER`].
    pub rbp: u8,
    /// Location of `rbx`.
    pub rbx: u8,
    /// Bytes from the base register.
    pub offset: i32,
    /// Bytes from the word read.
    pub add: i32,
    /// Bytes to the saved `rbp`.
    pub rbp_offset: i32,
    /// Bytes to the saved `rbx`.
    pub rbx_offset: i32,
}

impl Rule {
    /// The rule of [`crate::unwind::RULE_GAP`]: follow the frame pointer.
    pub const FRAME_POINTER: Self = Self {
        base: BASE_FRAME,
        deref: 0,
        rbp: SAVED_AT_FRAME_ADDRESS,
        rbx: KEPT,
        offset: 16,
        add: 0,
        rbp_offset: -16,
        rbx_offset: 0,
    };
    /// The rule at a function's first instruction, and of [`crate::unwind::RULE_PLT`] in the first half of an entry:
    /// only the return address is on the stack.
    pub const ENTRY: Self = Self {
        base: BASE_STACK,
        deref: 0,
        rbp: KEPT,
        rbx: KEPT,
        offset: 8,
        add: 0,
        rbp_offset: 0,
        rbx_offset: 0,
    };
}

const _: () = assert!(size_of::<Rule>() == 20);

/// The walk used the initial value of `rbp`.
pub const USES_RBP: u32 = 1;
/// The same for `rbx`.
pub const USES_RBX: u32 = 2;
/// Both.
pub const USES_REGISTERS: u32 = USES_RBP | USES_RBX;

/// The registers, besides the stack pointer, by which rules find frames: their values, or where these are saved.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrameRegisters {
    /// `rbp`, the frame pointer.
    pub rbp: u64,
    /// `rbx`, by which some functions restore their stack pointer.
    pub rbx: u64,
}

impl FrameRegisters {
    /// The digest after those that the walk used: [`USES_RBP`], [`USES_RBX`].
    #[inline(always)]
    #[must_use]
    pub const fn add_used(self, proof: Digest, uses: u32) -> Digest {
        if uses & USES_REGISTERS == 0 {
            return proof;
        }
        let rbp = if uses & USES_RBP != 0 { self.rbp } else { 0 };
        let rbx = if uses & USES_RBX != 0 { self.rbx } else { 0 };
        proof.with(rbp).with(rbx)
    }
}

/// Offsets, from the stack pointer in the function that a signal handler returns to, of the interrupted
/// registers: `struct ucontext` of the kernel's `asm/ucontext.h` with `uc_mcontext` at 40.
pub mod signal {
    /// `rbp`.
    pub const RBP: u64 = 120;
    /// `rbx`.
    pub const RBX: u64 = 128;
    /// `rsp`.
    pub const RSP: u64 = 160;
    /// `rip`.
    pub const RIP: u64 = 168;
}
