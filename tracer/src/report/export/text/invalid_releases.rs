//! Releases of what is not there as text: by call site, most frequent first.
//!
//! Takes the report's list, returns a paragraph, and nothing when there is none.

use std::io::{self, Write};

use super::{Page, place};
use crate::{
    format::count,
    report::{InvalidRelease, WhyInvalid, Word},
};

/// Call sites that are shown.
const SHOWN: usize = 10;

pub(super) fn write(
    releases: &[InvalidRelease],
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    if releases.is_empty() {
        return Ok(());
    }
    page.line("")?;
    page.line("invalid releases:")?;
    for one in releases.iter().take(SHOWN) {
        let what = match one.why {
            Word::Known(WhyInvalid::NotOpen) => "of a descriptor that is not open (EBADF)",
            Word::Known(WhyInvalid::AlreadyReleased) => "of a block that is released already",
            Word::Other(_) => "of something else",
        };
        let caller = one.frames.get(one.headline).or_else(|| one.frames.first());
        let by = caller.map_or_else(|| "an unknown caller".to_owned(), place);
        page.line(&format!("  {:>12}  {by}: {} {what}", count(one.count), one.released_by))?;
    }
    match releases.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => page.line(&format!("                and {} more call sites", count(more as u64))),
    }
}
