//! How much room the tables of targets will need, before any is made.

use std::{collections::BTreeSet, fs::File};

use object::read::ReadCache;
use tracer_common::{limits, unwind::PAGE_ROWS};

use super::compile::expected_rows;
use crate::target::{
    Pid,
    mappings::{self, open_path},
};

/// Pages for what these processes have mapped, and for what may come. Reads only the headers of their
/// objects; one that cannot be read counts nothing here, and is told of where its table is made.
pub fn expected_pages(pids: impl Iterator<Item = Pid>) -> u32 {
    let mut seen = BTreeSet::new();
    let mut rows = 0;
    for pid in pids {
        let Ok(mappings) = mappings::read(pid) else { continue };
        for object in mappings.objects() {
            if seen.insert(object.file)
                && let Ok(file) = File::open(open_path(pid, object.code))
            {
                rows += expected_rows(&ReadCache::new(file));
            }
        }
    }
    let pages = u32::try_from(rows / PAGE_ROWS as u64).unwrap_or(u32::MAX);
    let spare = if seen.is_empty() { limits::UNWIND_PAGES } else { limits::UNWIND_PAGES_SPARE };
    spare.saturating_add(pages).min(limits::UNWIND_PAGES_MOST)
}
