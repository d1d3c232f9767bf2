//! Resources that are ranges of addresses: parts can be released, and several at once.
//!
//! Takes acquisitions and releases of ranges, hands on what each took away. Pure.

use std::collections::{BTreeMap, HashMap};

use super::decode::Block;

/// What is left of one resource is in pieces of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// First address behind it.
    end: u64,
    /// The resource it belongs to; its number is the one it got here.
    owner: u64,
    block: Block,
}

/// One consequence of a release: so much of a resource of that site went, and whether it was its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    /// First address that went.
    pub(super) start: u64,
    /// What the resource was; its size is that of the part.
    pub(super) block: Block,
    /// Whether nothing is left of the resource.
    pub(super) last: bool,
    /// Its number.
    owner: u64,
}

/// Outstanding ranges of one target and kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    pieces: BTreeMap<u64, Piece>,
    /// Pieces left, by resource.
    left: HashMap<u64, u32>,
    next_owner: u64,
}

impl Ranges {
    /// A new resource at `start`. What it covers of earlier ones is gone: the kernel replaces it.
    pub(super) fn acquire(&mut self, start: u64, block: Block) -> Vec<Gone> {
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

    /// Releases `[start, start + size)` of whatever was acquired at or before `position`.
    pub(super) fn release(&mut self, start: u64, size: u64, position: u64) -> Vec<Gone> {
        let end = start.saturating_add(size);
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
            gone.push(Gone { start: from, block, last: pieces == 0, owner: piece.owner });
        }
        gone
    }

    /// That release was none: the part belongs to its resource again. What has come in its place is gone.
    pub(super) fn restore(&mut self, part: &Gone) -> Vec<Gone> {
        let Gone { start, block, owner, .. } = *part;
        let gone = self.release(start, block.size, u64::MAX);
        self.pieces.insert(start, Piece { end: start.saturating_add(block.size), owner, block });
        *self.left.entry(owner).or_default() += 1;
        gone
    }

    /// Gives every resource another call site, and takes it from its connection.
    pub(super) fn hand_down(&mut self, mut other: impl FnMut(u32) -> u32) {
        for piece in self.pieces.values_mut() {
            piece.block.site = other(piece.block.site);
            piece.block.connection = 0;
        }
    }

    /// Every resource once, with the bytes that are left of it.
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
        let part = Gone { start: 0x2000, block: block(1, 0x1000, 0), last: false, owner: 0 };
        assert_eq!(gone, [part]);
        assert_eq!(left(&ranges), [(1, 0x2000)]);
        assert!(!ranges.release(0x1000, 0x1000, 1)[0].last);
        assert!(ranges.release(0x3000, 0x1000, 1)[0].last);
        assert_eq!(left(&ranges), []);
    }

    #[test]
    fn one_release_can_end_several() {
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
    fn an_acquisition_replaces_what_it_covers() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x2000, 0));
        ranges.acquire(0x2000, block(2, 0x1000, 1));
        assert_eq!(left(&ranges), [(1, 0x1000), (2, 0x1000)]);
    }

    #[test]
    fn a_release_does_not_act_on_what_came_after_it() {
        let mut ranges = Ranges::default();
        ranges.acquire(0x1000, block(1, 0x1000, 5));
        assert_eq!(ranges.release(0x1000, 0x1000, 4), []);
        assert_eq!(left(&ranges), [(1, 0x1000)]);
    }

    proptest! {
        /// Against a model that knows the owner of every page.
        #[test]
        fn agrees_with_a_page_table(deeds in proptest::collection::vec((any::<bool>(), 0_u32..40, 1_u32..12), 1..60)) {
            let mut ranges = Ranges::default();
            let mut pages = [None::<u32>; 64];
            for (number, (acquire, start, pages_wanted)) in (1_u32..).zip(deeds) {
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
