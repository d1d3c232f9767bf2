//! Allocates pages of the programs' unwind tables: first fit over runs of pages. Pure.

use std::{collections::BTreeMap, ops::Range};

/// Free runs of pages: first page → number of pages. Adjacent runs are always merged.
#[derive(Debug)]
pub(super) struct Pages {
    free_runs: BTreeMap<u32, u32>,
}

impl Pages {
    /// `count` pages, all free.
    pub(super) fn new(count: u32) -> Self {
        Self { free_runs: BTreeMap::from([(0, count)]) }
    }

    /// Allocates `count` pages from the first run that is long enough.
    pub(super) fn allocate(&mut self, count: u32) -> Option<Range<u32>> {
        let (first, length) =
            self.free_runs.iter().map(|(at, length)| (*at, *length)).find(|run| run.1 >= count)?;
        self.free_runs.remove(&first);
        if length > count {
            self.free_runs.insert(first + count, length - count);
        }
        Some(first..first + count)
    }

    /// Frees a run.
    pub(super) fn free(&mut self, run: Range<u32>) {
        let (mut first, mut end) = (run.start, run.end);
        if let Some(length) = self.free_runs.remove(&end) {
            end += length;
        }
        if let Some((before, length)) = self.free_runs.range(..first).next_back()
            && before + length == first
        {
            first = *before;
        }
        if end > first {
            self.free_runs.insert(first, end - first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pages;

    #[test]
    fn a_freed_run_merges_with_its_neighbors() {
        let mut pages = Pages::new(10);
        let [a, b, c] = [3, 3, 4].map(|count| pages.allocate(count).unwrap());
        assert!(pages.allocate(1).is_none());
        pages.free(a);
        pages.free(c);
        assert!(pages.allocate(5).is_none());
        pages.free(b);
        assert_eq!(pages.allocate(10), Some(0..10));
    }
}
