//! What is in a heap: its allocated blocks by size and by type, and the pages that single small blocks keep.
//!
//! Takes a heap, its memory and [`Types`], passes on sums. Must not judge, and knows no call site.

use std::collections::{BTreeMap, HashMap};

use super::{
    blocks::{Block, Heap},
    memory::Memory,
    types::{Kind, PREFIX_BYTES, Types},
    window::Window,
};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// A block of at most an eighth of a page that keeps a page alone wastes the rest of it.
const SMALL: u64 = PAGE / 8;

/// Blocks, and bytes that the program may use in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Number of blocks.
    pub count: u64,
    /// Usable bytes.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, block: &Block) {
        self.count += 1;
        self.bytes += block.size;
    }
}

/// Resident pages that one small block each keeps from being given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Pages by usable size of the block.
    pub pages: BTreeMap<u64, u64>,
}

/// The blocks of a heap at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All allocated blocks.
    pub all: Sum,
    /// By usable size.
    pub by_size: BTreeMap<u64, Sum>,
    /// By what they are.
    pub by_type: HashMap<Kind, Sum>,
    /// Pages that single small blocks keep.
    pub pinned: Pinned,
    /// The beginning of one block of each type, if requested.
    pub samples: HashMap<Kind, Vec<u8>>,
}

/// Counts the blocks of a heap, and passes each to `visit`. Keeps the first `content` bytes of one block of each type.
pub fn take(
    memory: &impl Memory,
    heap: &Heap,
    types: &mut Types<'_, impl Memory>,
    content: usize,
    mut visit: impl FnMut(&Block, &Kind),
) -> Census {
    let mut census = Census::default();
    let mut window = Window::default();
    let mut pages = Pages::default();
    for block in heap.blocks() {
        census.all.add(&block);
        census.by_size.entry(block.size).or_default().add(&block);
        let kind = if heap.is_own(&block) {
            Kind::Allocator
        } else {
            let wanted = usize::try_from(block.size).unwrap_or(usize::MAX);
            let prefix = window.bytes(memory, block.address, wanted.min(PREFIX_BYTES));
            types.kind(prefix)
        };
        visit(&block, &kind);
        if content > 0 && !census.samples.contains_key(&kind) {
            let wanted = usize::try_from(block.size).unwrap_or(usize::MAX).min(content);
            let mut sample = vec![0; wanted];
            let read = memory.read(block.address, &mut sample);
            sample.truncate(read);
            census.samples.insert(kind.clone(), sample);
        }
        census.by_type.entry(kind).or_default().add(&block);
        pages.add(&block);
    }
    census.pinned.pages = pages.finish();
    census
}

/// Counts the pages with exactly one block, which is small. Blocks of a span come in address order.
#[derive(Default)]
struct Pages {
    /// The page of the last block's end, and the small block that is alone there so far.
    page: u64,
    alone: Option<u64>,
    pinned: BTreeMap<u64, u64>,
}

impl Pages {
    fn add(&mut self, block: &Block) {
        // A chunk begins up to a header before its block, which takes memory, too.
        let (start, end) = (block.address - 8, block.address + block.size);
        let (first, last) = (start / PAGE, (end - 1) / PAGE);
        let is_small = block.gross <= SMALL;
        if first == self.page {
            self.alone = None;
        } else {
            self.flush();
            self.alone = is_small.then_some(block.size);
        }
        if last != first {
            self.page = first;
            self.flush();
            // A small block that is on two pages pins both, if nothing else is there.
            self.alone = is_small.then_some(block.size);
        }
        self.page = last;
    }

    fn flush(&mut self) {
        if let Some(size) = self.alone.take() {
            *self.pinned.entry(size).or_default() += 1;
        }
    }

    fn finish(mut self) -> BTreeMap<u64, u64> {
        self.flush();
        self.pinned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(blocks: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut pages = Pages::default();
        for (address, size) in blocks {
            pages.add(&Block { address: *address, size: *size, gross: size + 8 });
        }
        pages.finish().into_iter().collect()
    }

    #[test]
    fn pages_with_one_small_block_are_pinned() {
        assert_eq!(pinned(&[(0x1010, 24)]), [(24, 1)]);
        assert_eq!(pinned(&[(0x1010, 24), (0x1040, 24)]), []);
        assert_eq!(pinned(&[(0x1010, 24), (0x2040, 24), (0x9010, 40)]), [(24, 2), (40, 1)]);
        // On two pages, alone on both; with a neighbor on the second.
        assert_eq!(pinned(&[(0x1ff0, 40)]), [(40, 2)]);
        assert_eq!(pinned(&[(0x1ff0, 40), (0x2100, 24)]), [(40, 1)]);
        // A large block pins its own pages only.
        assert_eq!(pinned(&[(0x1010, 9000), (0x8010, 24)]), [(24, 1)]);
        assert_eq!(pinned(&[(0x1010, 1000)]), []);
    }
}
