//! Resources that are address ranges: one release can cover a part of a resource, or several resources.
//!
//! Takes acquisitions and releases of ranges, passes on the parts that each one released. Pure.

use std::collections::{BTreeMap, HashMap};

use tracer_common::kind::PAGE_BYTES;

use super::events::Block;

/// A contiguous piece of a resource that is still outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// One past the last address.
    end: u64,
    /// The resource it belongs to, by its number here.
    owner: u64,
    block: Block,
}

/// A part of a resource that a release covers, and whether it was the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreedPart {
    /// First address of the part.
    pub(super) start: u64,
    /// The resource, with the size of the part.
    pub(super) block: Block,
    /// Whether this was the last part of the resource.
    pub(super) last: bool,
    /// Number of the resource.
    owner: u64,
}

/// Outstanding ranges of one target and kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    pieces: BTreeMap<u64, Piece>,
    /// Number of pieces left, by resource.
    left: HashMap<u64, u32>,
    next_owner: u64,
}

impl Ranges {
    /// Adds a resource at `start`. Returns the parts of earlier resources that it covers: the kernel replaces them.
    pub(super) fn acquire(&mut self, start: u64, block: Block) -> Vec<FreedPart> {
        let gone = self.release(start, block.size, u64::MAX);
        if block.size > 0 {
            let owner = self.next_owner;
            self.next_owner += 1;
            let end = start.saturating_add(block.size);
            self.pieces.insert(start, Piece { end, owner, block });
            self.left.insert(owner, 1);
        }
        gone
    }

    /// Releases `[start, start + size)`, up to the end of its last page as the kernel does, of every resource acquired at
    /// or before `position`.
    pub(super) fn release(&mut self, start: u64, size: u64, position: u64) -> Vec<FreedPart> {
        let end = end_of_page(start.saturating_add(size));
        let first = self.pieces.range(..start).next_back().map_or(start, |(at, _)| *at);
        let touched: Vec<(u64, Piece)> = self
            .pieces
            .range(first..end)
            .map(|(at, piece)| (*at, *piece))
            .filter(|(_, piece)| piece.end > start && piece.block.position <= position)
            .collect();
        let mut gone = Vec::with_capacity(touched.len());
        for (at, piece) in touched {
            self.pieces.remove(&at);
            let mut pieces = self.left.remove(&piece.owner).unwrap_or(1) - 1;
            if at < start {
                self.pieces.insert(at, Piece { end: start, ..piece });
                pieces += 1;
            }
            if piece.end > end {
                self.pieces.insert(end, piece);
                pieces += 1;
            }
            if pieces > 0 {
                self.left.insert(piece.owner, pieces);
            }
            let (from, to) = (at.max(start), piece.end.min(end));
            let block = Block { size: to - from, ..piece.block };
            gone.push(FreedPart { start: from, block, last: pieces == 0, owner: piece.owner });
        }
        gone
    }

    /// Undoes a release: the part belongs to its resource again. Returns parts that were acquired there meanwhile.
    pub(super) fn restore(&mut self, part: &FreedPart) -> Vec<FreedPart> {
        let FreedPart { start, block, owner, .. } = *part;
        let gone = self.release(start, block.size, u64::MAX);
        self.pieces.insert(start, Piece { end: start.saturating_add(block.size), owner, block });
        *self.left.entry(owner).or_default() += 1;
        gone
    }

    /// Replaces every resource's call site and detaches it from its connection.
    pub(super) fn replace_sites(&mut self, mut other: impl FnMut(u32) -> u32) {
        for piece in self.pieces.values_mut() {
            piece.block.site = other(piece.block.site);
            piece.block.connection = 0;
        }
    }

    /// Whether nothing is outstanding.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Every resource once, with its remaining bytes.
    pub(super) fn outstanding(&self) -> impl Iterator<Item = Block> {
        let mut sums: HashMap<u64, Block> = HashMap::with_capacity(self.left.len());
        for (start, piece) in &self.pieces {
            let size = piece.end - start;
            sums.entry(piece.owner)
                .and_modify(|block| block.size += size)
                .or_insert(Block { size, ..piece.block });
        }
        sums.into_values()
    }
}

/// The end of the page that ends at or after this address. A length need not be whole pages: that of a file is not.
const fn end_of_page(end: u64) -> u64 {
    match end.checked_next_multiple_of(PAGE_BYTES) {
        Some(end) => end,
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(site: u32, size: u64, position: u64) -> Block {
        Block { size, time_ns: 0, position, site, connection: 0 }
    }

    fn left(ranges: &Ranges) -> Vec<(u32, u64)> {
        let mut left: Vec<_> = ranges.outstanding().map(|block| (block.site, block.size)).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn a_hole_leaves_one_resource_with_fewer_bytes() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x3000, 0));
        let gone = ranges.release(0x2000, 0x1000, 1);
        let part = FreedPart { start: 0x2000, block: block(1, 0x1000, 0), last: false, owner: 0 };
        assert_eq!(gone, [part]);
        assert_eq!(left(&ranges), [(1, 0x2000)]);
        assert!(!ranges.release(0x1000, 0x1000, 1)[0].last);
        assert!(ranges.release(0x3000, 0x1000, 1)[0].last);
        assert_eq!(left(&ranges), []);
    }

    #[test]
    fn one_release_can_cover_several_resources() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x1000, 0));
        ranges.acquire(0x2000, block(2, 0x1000, 0));
        assert_eq!(ranges.release(0, 0x10000, 1).iter().filter(|gone| gone.last).count(), 2);
    }

    #[test]
    fn a_part_that_is_restored_belongs_to_its_resource_again() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x3000, 0));
        let gone = ranges.release(0x2000, 0x1000, 1);
        assert_eq!(ranges.restore(&gone[0]), []);
        assert_eq!(left(&ranges), [(1, 0x3000)]);
        assert_eq!(ranges.release(0, 0x10000, 1).iter().filter(|gone| gone.last).count(), 1);
    }

    #[test]
    fn an_acquisition_replaces_the_ranges_it_covers() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x2000, 0));
        ranges.acquire(0x2000, block(2, 0x1000, 1));
        assert_eq!(left(&ranges), [(1, 0x1000), (2, 0x1000)]);
    }

    #[test]
    fn lengths_reach_to_the_end_of_their_last_page() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x1800, 0));
        assert!(ranges.release(0x1000, 0x1001, 1)[0].last);
        ranges.acquire(0x1000, block(2, 0x3000, 2));
        ranges.acquire(0x2000, block(3, 0x10, 3));
        assert_eq!(left(&ranges), [(2, 0x2000), (3, 0x10)]);
        assert_eq!(ranges.release(0, u64::MAX, 4).len(), 3);
    }

    #[test]
    fn the_break_is_cut_at_any_byte() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1010, block(1, 0x700, 0));
        ranges.acquire(0x1710, block(2, 0x700, 1));
        // Moved back by 0x900 from 0x1e10.
        let gone = ranges.release(0x1510, 0x900, 2);
        assert_eq!(gone.iter().map(|part| part.last).collect::<Vec<_>>(), [false, true]);
        assert_eq!(left(&ranges), [(1, 0x500)]);
    }

    #[test]
    fn a_release_ignores_later_acquisitions() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x1000, 5));
        assert_eq!(ranges.release(0x1000, 0x1000, 4), []);
        assert_eq!(left(&ranges), [(1, 0x1000)]);
    }

    proptest! {
        /// Compares with a model that records the owner of every page.
        #[test]
        fn agrees_with_a_page_table(steps in proptest::collection::vec((any::<bool>(), 0_u32..40, 1_u32..12), 1..60)) {
            let mut ranges = Ranges::default();
            let mut pages = [None::<u32>; 64];
            for (number, (acquire, start, pages_wanted)) in (1_u32..).zip(steps) {
                let covered = &mut pages[start as usize..(start + pages_wanted) as usize];
                let (start, pages_wanted) = (u64::from(start), u64::from(pages_wanted));
                if acquire {
                    covered.fill(Some(number));
                    ranges.acquire(start << 12, block(number, pages_wanted << 12, 0));
                } else {
                    covered.fill(None);
                    ranges.release(start << 12, pages_wanted << 12, 0);
                }
                let mut expected: HashMap<u32, u64> = HashMap::new();
                for site in pages.iter().flatten() {
                    *expected.entry(*site).or_default() += 1 << 12;
                }
                let mut expected: Vec<_> = expected.into_iter().collect();
                expected.sort_unstable();
                prop_assert_eq!(left(&ranges), expected);
            }
        }
    }
}
