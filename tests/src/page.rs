//! Sections of the documentation that a command writes.
//!
//! Takes a page, the name of a section and its text; replaces what is between the section's markers. It writes nothing else.
//! `xtask` contains this file, too: it names no other file of its crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Replaces a section of a page in `docs`: what is between `<!-- begin: SECTION -->` and `<!-- end: SECTION -->`.
pub fn write(page: &str, section: &str, text: &str) -> Result<()> {
    let path = docs().join(page);
    let before = fs::read_to_string(&path)?;
    let after = replaced(&before, section, text).with_context(|| path.display().to_string())?;
    Ok(fs::write(&path, after)?)
}

/// The documentation: its folder is beside that of the crate.
fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs")
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
        assert_eq!(replaced(page, "x", "new\n\n").unwrap(), new);
        assert!(replaced(page, "y", "").is_err());
        assert!(replaced(page, "z", "new").is_err());
    }

    #[test]
    fn the_pages_have_their_sections() -> Result<()> {
        for (page, section) in [
            ("exam.md", "cargo xtask exam"),
            ("exam.md", "cargo xtask exam --live"),
            ("healthy-servers.md", "cargo xtask servers"),
            ("measurements.md", "cargo xtask bench"),
            ("measurements.md", "cargo xtask bench --growth"),
            ("measurements.md", "cargo xtask bench --stacks"),
            ("measurements.md", "cargo xtask bench --objects"),
            ("measurements.md", "cargo xtask bench --soak"),
        ] {
            let text = fs::read_to_string(docs().join(page))?;
            replaced(&text, section, "").with_context(|| page)?;
        }
        Ok(())
    }
}
