//! Lays out rows as a tree of pages with one root.
//!
//! Pure: takes rows, passes on consecutive pages from a given page number on.

use tracer_common::unwind::{PAGE_ROWS, Page, branch};

/// The number of pages of a table with this many rows.
pub(super) fn pages_of(rows: usize) -> u32 {
    let mut pages = 0;
    let mut entries = rows;
    loop {
        entries = entries.div_ceil(PAGE_ROWS);
        pages += entries;
        if entries <= 1 {
            return u32::try_from(pages).unwrap_or(u32::MAX);
        }
    }
}

/// The pages of a table whose first page has number `first`, the root last; and the number of levels of the
/// tree.
pub(super) fn lay_out(rows: &[u64], first: u32) -> (Vec<Page>, u32) {
    let mut pages: Vec<Page> = Vec::new();
    let mut entries = rows.to_vec();
    let mut levels = 0;
    loop {
        levels += 1;
        let mut parents = Vec::new();
        for chunk in entries.chunks(PAGE_ROWS) {
            // Unused entries compare greater than every row.
            let mut page = [u64::MAX; PAGE_ROWS];
            for (slot, entry) in page.iter_mut().zip(chunk) {
                *slot = *entry;
            }
            let number = u16::try_from(first as usize + pages.len()).unwrap_or(u16::MAX);
            let address = chunk.first().map_or(0, |entry| u32::try_from(entry >> 32).unwrap_or(0));
            parents.push(branch(address, number));
            pages.push(page);
        }
        if parents.len() <= 1 {
            return (pages, levels);
        }
        entries = parents;
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::unwind::{key, row, rule_of};

    use super::*;

    /// The lookup that the programs do.
    fn find(pages: &[Page], first: u32, levels: u32, address: u32) -> u64 {
        let mut page = pages.last().unwrap();
        for _ in 1..levels {
            let entry = page.iter().take_while(|entry| **entry <= key(address)).last();
            let number = rule_of(*entry.unwrap_or(&page[0]));
            page = &pages[usize::from(number) - first as usize];
        }
        *page.iter().take_while(|entry| **entry <= key(address)).last().unwrap()
    }

    #[test]
    fn every_row_is_found_from_the_root() {
        for count in [1, 511, 512, 513, 512 * 512, 512 * 512 + 1] {
            let rows: Vec<u64> = (0..count).map(|at| row(at * 8, (at % 1000) as u16)).collect();
            let (pages, levels) = lay_out(&rows, 40);
            assert_eq!(pages.len(), pages_of(rows.len()) as usize, "{count}");
            for at in (0..count).step_by(97).chain([count - 1]) {
                for inside in [0, 7] {
                    let found = find(&pages, 40, levels, at * 8 + inside);
                    assert_eq!(found, rows[at as usize], "{count}: {at}");
                }
            }
        }
    }
}
