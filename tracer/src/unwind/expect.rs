//! Estimates the size of the targets' unwind tables before any is built.

use std::{collections::BTreeSet, fs::File};

use object::read::ReadCache;
use tracer_common::{limits, unwind::PAGE_ROWS};

use super::compile::expected_rows;
use crate::target::{
    Pid,
    mappings::{self, open_path},
};

/// Pages for the objects that these processes have mapped, and spare pages for later ones. Reads only the objects'
/// headers. An unreadable object counts nothing here; the error is reported when its table is built.
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
