//! Unwind tables for the programs: `.eh_frame`, reduced to the rules that find return addresses.
//!
//! A table is a sequence of rows, ascending by address; a row is valid up to the next one. A row refers to
//! one of the rules that all tables share, since few different ones exist (a thousand for all of
//! a server's libraries). Rows are grouped in pages; above them are pages whose entries hold the first address
//! and the number of a page below, up to one root. A search looks up one page per level, which takes
//! the verifier fewer instructions than one element per step.

pub use crate::arch::Rule;

/// Rows in a page: 4 KiB, the size of one map update.
pub const PAGE_ROWS: usize = 512;

/// A page of rows.
pub type Page = [u64; PAGE_ROWS];

/// Number of a rule.
pub type RuleNumber = u16;

/// Code without a table: the unwinder follows the frame pointer, and checks every step.
pub const RULE_GAP: RuleNumber = 0;
/// The outermost frame, which has no caller.
pub const RULE_BOTTOM: RuleNumber = 1;
/// The kernel's signal frame: the interrupted registers are on the stack.
pub const RULE_SIGNAL: RuleNumber = 2;
/// An entry of the procedure linkage table: one word more on the stack in its second half.
pub const RULE_PLT: RuleNumber = 3;
/// A rule that the programs do not know.
pub const RULE_UNKNOWN: RuleNumber = 4;
/// The first number that tables define.
pub const RULE_FIRST: RuleNumber = 5;

/// One row: this rule applies from this address on, relative to the object's origin.
#[inline(always)]
pub const fn row(address: u32, rule: RuleNumber) -> u64 {
    (address as u64) << 32 | rule as u64
}

/// The rule of a row.
#[expect(clippy::cast_possible_truncation, reason = "takes the lowest bits")]
#[inline(always)]
pub const fn rule_of(row: u64) -> RuleNumber {
    row as RuleNumber
}

/// An entry of a page above the rows: from this address on, the page with this number.
#[inline(always)]
pub const fn branch(address: u32, page: u16) -> u64 {
    row(address, page)
}

/// The upper bound of rows at or below an address, with which a search compares.
#[inline(always)]
pub const fn key(address: u32) -> u64 {
    (address as u64) << 32 | 0xffff_ffff
}

/// The rule cache: a direct-mapped table from addresses to rules. An entry is one word, so that reads and writes are
/// atomic. 31 bits of address beside the 16 of the slot make 47: all that user space has. The other bits hold the
/// process, the generation of its memory map, and the rule.
pub mod rule_cache {
    use super::RuleNumber;
    use crate::limits::RULE_CACHE_SLOTS;

    const SLOT_BITS: u32 = RULE_CACHE_SLOTS.trailing_zeros();

    /// The slot of an address.
    #[expect(clippy::cast_possible_truncation, reason = "masked to the table's length")]
    #[inline(always)]
    pub const fn slot(address: u64, process: u8) -> u32 {
        // Processes that map the same library at the same address should not collide in every slot.
        (address as u32 ^ (process as u32).wrapping_mul(0x9e5)) & (RULE_CACHE_SLOTS - 1)
    }

    /// A word without its rule. Never 0: generations begin at 1.
    #[inline(always)]
    pub const fn tag(address: u64, process: u8, generation: u8) -> u64 {
        ((address >> SLOT_BITS) & 0x7fff_ffff) << 33
            | (address >> 47 & 1) << 32
            | (process as u64) << 24
            | (generation as u64) << 16
    }

    /// The word to store.
    #[inline(always)]
    pub const fn word(tag: u64, rule: RuleNumber) -> u64 {
        tag | rule as u64
    }

    /// The rule, if the word has this tag.
    #[expect(clippy::cast_possible_truncation, reason = "takes the lowest bits")]
    #[inline(always)]
    pub const fn rule(word: u64, tag: u64) -> Option<RuleNumber> {
        if word & !0xffff == tag { Some(word as RuleNumber) } else { None }
    }
}

const _: () = assert!(size_of::<Page>() == 4096);
const _: () = assert!(crate::limits::RULE_CACHE_SLOTS == 1 << 16 && crate::limits::TARGETS <= 256);

#[cfg(test)]
mod tests {
    use super::{key, row, rule_cache, rule_of};

    #[test]
    fn a_key_finds_its_own_row_and_not_the_next() {
        assert!(row(0x1000, 7) <= key(0x1000) && row(0x1001, 0) > key(0x1000));
        assert_eq!(rule_of(row(u32::MAX, 9)), 9);
    }

    #[test]
    fn a_word_matches_only_its_own_tag() {
        let address = 0x7f12_3456_789a_u64;
        let tag = rule_cache::tag(address, 3, 1);
        let word = rule_cache::word(tag, 77);
        assert_eq!(rule_cache::rule(word, tag), Some(77));
        // Every address that shares the slot differs in the tag.
        for bit in 16..47 {
            let other = address ^ (1 << bit);
            assert_eq!(rule_cache::slot(other, 3), rule_cache::slot(address, 3));
            assert_eq!(rule_cache::rule(word, rule_cache::tag(other, 3, 1)), None, "bit {bit}");
        }
        assert_eq!(rule_cache::rule(word, rule_cache::tag(address, 4, 1)), None);
        assert_eq!(rule_cache::rule(word, rule_cache::tag(address, 3, 2)), None);
        assert_eq!(rule_cache::rule(0, rule_cache::tag(0, 0, 1)), None);
    }
}
