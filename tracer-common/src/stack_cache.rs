//! The stack cache: call sites of earlier walks.
//!
//! The registers and the memory map at the beginning of a walk, and the stack words that it reads, determine its
//! result. A walk with the same beginning, and the same words in the same places, leads to the same call site: the
//! programs compare the words instead of walking.
//!
//! Any CPU reads and replaces entries at any time, without a lock. An entry therefore carries a digest of its whole
//! contents: a copy taken while another CPU replaced the entry fails the check.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    arch::{FrameRegisters, USES_REGISTERS},
    limits::CACHED_WALKS,
    stack::Digest,
};

/// Stack words that a cached walk has read, at most: 60 to 120 frames need as many.
pub const WALK_WORDS: usize = 128;
/// Greatest distance of these words from the stack pointer, in words: 8 KiB of stack.
pub const REACH_WORDS: usize = 1024;
/// Ways of the set-associative cache: walks with the same first frame and stack pointer that it holds at once. A
/// wrapper like `operator new` has many callers.
pub const WAYS: u32 = 4;

/// The walk has read words that the cache cannot compare. Lower bits say which registers it used
/// ([`USES_REGISTERS`]).
pub const ELSEWHERE: u32 = 1 << 2;
const _: () = assert!(USES_REGISTERS < ELSEWHERE);

/// A finished walk, or one in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CachedWalk {
    /// Digest of the walk's beginning and of the words read; at its end of the whole entry.
    pub proof: Digest,
    /// The call site it led to; 0 in an entry never used.
    pub site: u32,
    /// Words read.
    pub count: u32,
    /// Bits of [`USES_REGISTERS`], and [`ELSEWHERE`].
    pub uses: u32,
    /// One more than the highest word index read.
    pub reach: u32,
    /// Index of each word, and a part of it: see [`mark`].
    pub words: [u32; WALK_WORDS],
}

/// Owner of a walk: a process, its number and memory-map generation (8 bits each), and a probe with the detail that
/// distinguishes its call sites (24 bits). In one word, since each step of a digest takes time at every call; process ids
/// have 22 bits at most (`PID_MAX_LIMIT`).
#[inline(always)]
pub const fn walk_owner(pid: u32, probe: u32, number: u32, generation: u32) -> u64 {
    (pid as u64) << 40
        | (probe as u64 & 0xff_ffff) << 16
        | (number as u64 & 0xff) << 8
        | generation as u64 & 0xff
}

/// The digest of a walk's beginning, without the registers that few walks use.
#[inline(always)]
pub const fn begin(owner: u64, caller: u64, stack_pointer: u64) -> Digest {
    Digest::NOTHING.with(owner).with(caller).with(stack_pointer)
}

/// The first of the [`WAYS`] entries that may hold a walk with this beginning.
#[inline(always)]
pub const fn set(begin: Digest) -> u32 {
    begin.slot(CACHED_WALKS / WAYS) * WAYS
}

/// The digest after one more word.
#[inline(always)]
pub const fn read(proof: Digest, place: u32, word: u64) -> Digest {
    proof.with(word ^ (place as u64) << 52)
}

/// The digest of the whole entry. It includes the registers only if the walk used them.
#[inline(always)]
pub const fn end(
    proof: Digest,
    uses: u32,
    initial: FrameRegisters,
    site: u32,
    count: u32,
) -> Digest {
    let rest = (uses as u64) << 48 | (count as u64) << 32 | site as u64;
    initial.add_used(proof, uses).with(rest)
}

/// A word in an entry: its index (in words above the initial stack pointer), and 16 bits of it, so that the
/// comparison with another caller's stack ends at the first word that differs.
#[expect(clippy::cast_possible_truncation, reason = "takes the lowest bits")]
#[inline(always)]
pub const fn mark(place: u32, word: u64) -> u32 {
    ((word ^ (word >> 16)) as u32) << 16 | place
}

/// The word index of a mark.
#[inline(always)]
pub const fn place(mark: u32) -> usize {
    mark as usize & (REACH_WORDS - 1)
}

const _: () = assert!(CACHED_WALKS.is_power_of_two() && WAYS.is_power_of_two());
const _: () = assert!(size_of::<CachedWalk>() == 32 + 4 * WALK_WORDS);

#[cfg(test)]
mod tests {
    use super::{REACH_WORDS, begin, mark, place, read, set, walk_owner};
    use crate::limits::CACHED_WALKS;

    #[test]
    fn a_mark_holds_its_index_and_distinguishes_words() {
        let last = u32::try_from(REACH_WORDS).unwrap() - 1;
        assert_eq!(place(mark(last, u64::MAX)), REACH_WORDS - 1);
        let word = 0x7f12_3456_789a_u64;
        for bit in 0..32 {
            assert_ne!(mark(3, word), mark(3, word ^ 1 << bit), "bit {bit}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_proof_holds_for_its_own_walk_only() {
        use super::end;
        use crate::arch::{FrameRegisters, x86_64::USES_RBP};

        let start = begin(walk_owner(7, 1, 3, 9), 0x4010, 0x7ffe_0000);
        let proof = |words: &[(u32, u64)], uses, rbp, site| {
            let all = words.iter().fold(start, |proof, (place, word)| read(proof, *place, *word));
            let initial = FrameRegisters { rbp, rbx: 0 };
            end(all, uses, initial, site, u32::try_from(words.len()).unwrap())
        };
        let words = [(1, 0x5000), (4, 0x6000)];
        let one = proof(&words, 0, 0, 5);
        assert_eq!(one, proof(&words, 0, 99, 5), "rbp was not used");
        let others = [
            proof(&words, 0, 0, 6),
            proof(&words, USES_RBP, 0, 5),
            proof(&words, USES_RBP, 99, 5),
            proof(&words[..1], 0, 0, 5),
            proof(&[(1, 0x5000), (5, 0x6000)], 0, 0, 5),
            proof(&[(4, 0x6000), (1, 0x5000)], 0, 0, 5),
            proof(&[(1, 0x5000), (4, 0x6001)], 0, 0, 5),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != one && !others[at + 1..].contains(other), "{at}");
        }
    }

    #[test]
    fn the_beginning_is_part_of_a_walk() {
        let one = begin(walk_owner(7, 1, 3, 9), 0x4010, 0x7ffe_0000);
        assert!(set(one) < CACHED_WALKS);
        for other in [
            begin(walk_owner(8, 1, 3, 9), 0x4010, 0x7ffe_0000),
            begin(walk_owner(7, 2, 3, 9), 0x4010, 0x7ffe_0000),
            begin(walk_owner(7, 1 << 16 | 1, 3, 9), 0x4010, 0x7ffe_0000),
            begin(walk_owner(7, 0xff_ffff, 3, 9), 0x4010, 0x7ffe_0000),
            begin(walk_owner(7, 1, 4, 9), 0x4010, 0x7ffe_0000),
            begin(walk_owner(7, 1, 3, 10), 0x4010, 0x7ffe_0000),
            begin(walk_owner(7, 1, 3, 9), 0x4011, 0x7ffe_0000),
            begin(walk_owner(7, 1, 3, 9), 0x4010, 0x7ffe_0008),
        ] {
            assert_ne!(one, other);
        }
    }
}
