//! Sections of the documentation that a command writes.
//!
//! Takes a page, the name of a section and its text; replaces what is between the section's markers. It writes nothing else.

use std::fs;

use anyhow::{Context as _, Result};

use crate::workspace;

/// Replaces a section of a page in `docs`: what is between `<!-- begin: SECTION -->` and `<!-- end: SECTION -->`.
pub fn write(page: &str, section: &str, text: &str) -> Result<()> {
    let path = workspace().join("docs").join(page);
    let before = fs::read_to_string(&path)?;
    let after = replaced(&before, section, text).with_context(|| path.display().to_string())?;
    Ok(fs::write(&path, after)?)
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

    #[test]
    fn the_pages_have_their_sections() -> Result<()> {
        for (page, section) in [
            ("exam.md", "cargo xtask exam"),
            ("exam.md", "cargo xtask exam --live"),
            ("healthy-servers.md", "cargo xtask servers"),
        ] {
            let text = fs::read_to_string(workspace().join("docs").join(page))?;
            replaced(&text, section, "").with_context(|| page)?;
        }
        Ok(())
    }
}
