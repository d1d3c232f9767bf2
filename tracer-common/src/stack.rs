//! Stacks as the kernel side unwinds them: why unwinding stopped, and the digest of a stack.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Why unwinding stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StackEnd {
    /// At the thread's outermost frame: the stack is complete.
    Bottom = 0,
    /// Code without an unwind table, and with an invalid frame pointer.
    FramePointerLost = 1,
    /// The bound [`crate::limits::STACK_DEPTH`] was reached.
    TooDeep = 2,
    /// The stack's memory could not be read.
    Unreadable = 3,
    /// The address is outside the known executable memory: code that was just loaded or generated.
    Elsewhere = 4,
    /// The unwind table of the code was still being loaded.
    Loading = 5,
    /// The unwind table has a rule that leaktrace does not know.
    RuleUnknown = 6,
    /// The next frame is not above this one: the stack is damaged, or does not match its table.
    NotClimbing = 7,
    /// The return address is the trampoline of another tracer's return probe.
    Hijacked = 8,
    /// The memory map changed during the walk.
    Changed = 9,
}

impl StackEnd {
    /// Every end, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Bottom,
        Self::FramePointerLost,
        Self::TooDeep,
        Self::Unreadable,
        Self::Elsewhere,
        Self::Loading,
        Self::RuleUnknown,
        Self::NotClimbing,
        Self::Hijacked,
        Self::Changed,
    ];

    /// The end with this number; an unknown number counts as unreadable.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Bottom,
            1 => Self::FramePointerLost,
            2 => Self::TooDeep,
            4 => Self::Elsewhere,
            5 => Self::Loading,
            6 => Self::RuleUnknown,
            7 => Self::NotClimbing,
            8 => Self::Hijacked,
            9 => Self::Changed,
            _ => Self::Unreadable,
        }
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bottom => "bottom",
            Self::FramePointerLost => "frame_pointer_lost",
            Self::TooDeep => "too_deep",
            Self::Unreadable => "unreadable",
            Self::Elsewhere => "elsewhere",
            Self::Loading => "loading",
            Self::RuleUnknown => "rule_unknown",
            Self::NotClimbing => "not_climbing",
            Self::Hijacked => "hijacked",
            Self::Changed => "changed",
        }
    }

    /// Why the stack ends there, for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Bottom => "whole stack",
            Self::FramePointerLost => "code without unwind table or frame pointers",
            Self::TooDeep => "deeper than 127 frames",
            Self::Unreadable => "stack memory not readable",
            Self::Elsewhere => "code that was just loaded or made",
            Self::Loading => "unwind table still being loaded",
            Self::RuleUnknown => "unwind rule not known to leaktrace",
            Self::NotClimbing => "next frame not above this one",
            Self::Hijacked => "return address taken by another tracer",
            Self::Changed => "memory map changed meanwhile",
        }
    }
}

/// Flag of an interrupted frame: its address is that of the interrupted instruction, and no return address.
pub const INTERRUPTED: u64 = 1 << 63;

/// 128 bits over a stack's contents, its function and its target. Two stacks that differ share a
/// digest with a probability of 2⁻¹²⁸ per pair: storing by digest is storing by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Digest {
    /// First lane.
    pub high: u64,
    /// Second lane, with other constants.
    pub low: u64,
}

impl Digest {
    /// The initial digest.
    pub const NOTHING: Self = Self { high: 0x9e37_79b9_7f4a_7c15, low: 0xd1b5_4a32_d192_ed03 };

    /// The digest before the first address: of the target and of the probe, with the detail that distinguishes its
    /// call sites.
    #[inline(always)]
    pub const fn seeded(pid: u32, probe: u32) -> Self {
        Self::NOTHING.with(((pid as u64) << 32) | probe as u64)
    }

    /// The digest after one more address. Two multiply-and-fold steps with odd constants.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, word: u64) -> Self {
        let high = (self.high ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let low = (self.low.wrapping_add(word)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self { high: high ^ (high >> 32), low: low ^ (low >> 29) }
    }
}

impl Digest {
    /// A slot in a table of `slots`, a power of two.
    #[expect(clippy::cast_possible_truncation, reason = "takes the lowest bits")]
    #[inline(always)]
    pub const fn slot(self, slots: u32) -> u32 {
        (self.low as u32) & (slots - 1)
    }
}

/// Whether `next` may be the frame pointer after `current`: above it, aligned, and within the
/// largest usual stack (8 MiB for the main stack, and by default for threads).
#[inline(always)]
pub const fn plausible_frame(current: u64, next: u64) -> bool {
    next > current && next.is_multiple_of(8) && next - current < 8 << 20
}

#[cfg(test)]
mod tests {
    use super::{Digest, StackEnd, plausible_frame};

    #[test]
    fn end_numbers_round_trip() {
        for (number, end) in (0_u8..).zip(StackEnd::ALL) {
            assert_eq!((end as u8, StackEnd::from_number(number)), (number, end));
        }
    }

    #[test]
    fn digests_distinguish_order_length_probe_and_target() {
        let digest = |pid, probe, words: &[u64]| {
            words.iter().fold(Digest::seeded(pid, probe), |digest, word| digest.with(*word))
        };
        let all = [
            digest(1, 1, &[10, 20]),
            digest(1, 1, &[20, 10]),
            digest(1, 1, &[10]),
            digest(1, 2, &[10, 20]),
            digest(1, 1 << 16 | 1, &[10, 20]),
            digest(1, 2 << 16 | 1, &[10, 20]),
            digest(2, 1, &[10, 20]),
            digest(1, 1, &[10, 20, 0]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(at + 1).any(|other| other == one), "{all:?}");
        }
    }

    #[test]
    fn a_frame_pointer_must_climb() {
        assert!(plausible_frame(0x1000, 0x1010));
        assert!(!plausible_frame(0x1000, 0x1000));
        assert!(!plausible_frame(0x1000, 0x0ff0));
        assert!(!plausible_frame(0x1000, 0x1011));
        assert!(!plausible_frame(0x1000, 0x1000 + (8 << 20)));
    }
}
