//! Rows in pages, and pages above them up to one root.
//!
//! Pure: takes rows, hands on pages as they will lie from a first one on.

use tracer_common::unwind::{PAGE_ROWS, Page, branch};

/// Pages that a table of that many rows takes.
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

/// The pages of a table whose first page will be `first`; the last one is the root. And the levels
/// from the root to the rows.
pub(super) fn lay_out(rows: &[u64], first: u32) -> (Vec<Page>, u32) {
    let mut pages: Vec<Page> = Vec::new();
    let mut entries = rows.to_vec();
    let mut levels = 0;
    loop {
        levels += 1;
        let mut above = Vec::new();
        for chunk in entries.chunks(PAGE_ROWS) {
            // What is not used sorts behind everything.
            let mut page = [u64::MAX; PAGE_ROWS];
            for (place, entry) in page.iter_mut().zip(chunk) {
                *place = *entry;
            }
            let number = u16::try_from(first as usize + pages.len()).unwrap_or(u16::MAX);
            let address = chunk.first().map_or(0, |entry| u32::try_from(entry >> 32).unwrap_or(0));
            above.push(branch(address, number));
            pages.push(page);
        }
        if above.len() <= 1 {
            return (pages, levels);
        }
        entries = above;
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::unwind::{key, row, rule_of};

    use super::*;

    /// What the programs do.
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
