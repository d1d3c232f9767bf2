//! Which pages of the programs' table are free.
//!
//! First fit over runs of pages; pure.

use std::{collections::BTreeMap, ops::Range};

/// Free runs of pages: first page → number of pages. Neighbors are always joined.
#[derive(Debug)]
pub(super) struct Pages {
    free: BTreeMap<u32, u32>,
}

impl Pages {
    /// `count` pages, all free.
    pub(super) fn new(count: u32) -> Self {
        Self { free: BTreeMap::from([(0, count)]) }
    }

    /// Takes a run of `count` pages, the first that is long enough.
    pub(super) fn take(&mut self, count: u32) -> Option<Range<u32>> {
        let (first, length) =
            self.free.iter().map(|(at, length)| (*at, *length)).find(|run| run.1 >= count)?;
        self.free.remove(&first);
        if length > count {
            self.free.insert(first + count, length - count);
        }
        Some(first..first + count)
    }

    /// Gives a run back.
    pub(super) fn give(&mut self, run: Range<u32>) {
        let (mut first, mut end) = (run.start, run.end);
        if let Some(length) = self.free.remove(&end) {
            end += length;
        }
        if let Some((before, length)) = self.free.range(..first).next_back()
            && before + length == first
        {
            first = *before;
        }
        if end > first {
            self.free.insert(first, end - first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pages;

    #[test]
    fn what_is_given_back_joins_its_neighbors() {
        let mut pages = Pages::new(10);
        let [a, b, c] = [3, 3, 4].map(|count| pages.take(count).unwrap());
        assert!(pages.take(1).is_none());
        pages.give(a);
        pages.give(c);
        assert!(pages.take(5).is_none());
        pages.give(b);
        assert_eq!(pages.take(10), Some(0..10));
    }
}
