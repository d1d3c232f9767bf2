//! The tables on `docs/exam.md`.
//!
//! Takes text, replaces a section of the page.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace;

/// Replaces the section of the live plays, or that of the committed tapes.
pub fn write(live: bool, text: &str) -> Result<()> {
    let path = workspace().join("docs/exam.md");
    let page = fs::read_to_string(&path)?;
    let section = if live { "cargo xtask exam --live" } else { "cargo xtask exam" };
    Ok(fs::write(&path, replaced(&page, section, text)?)?)
}

/// The page with this text between the section's markers.
fn replaced(page: &str, section: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin: {section} -->"), format!("<!-- end: {section} -->"));
    let (before, rest) = page.split_once(&begin).with_context(|| format!("no `{begin}`"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no `{end}`"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_changes() {
        let page = "a\n<!-- begin: x -->\nold\n<!-- end: x -->\n<!-- begin: x y -->\nkept\n<!-- end: x y -->\n";
        let new = "a\n<!-- begin: x -->\nnew\n<!-- end: x -->\n<!-- begin: x y -->\nkept\n<!-- end: x y -->\n";
        assert_eq!(replaced(page, "x", "new\n").unwrap(), new);
        assert!(replaced(page, "y", "").is_err());
    }
}
