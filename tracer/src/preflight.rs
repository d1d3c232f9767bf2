//! Checks what this host and a process allow, before tracing starts.
//!
//! Takes `/proc` and `/sys` (or directories in their place), passes on [`Facts`] and [`Candidate`], whose checks read
//! nothing more: a test can simulate every host on any other. Must not attach anything.

mod candidate;
mod host;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use candidate::Candidate;
pub use host::{Facts, NEEDED_KERNEL};

/// The kernel's file systems with information about itself.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/proc`
    pub proc: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// A small file's text without the final newline; `None` if it cannot be read.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The value after `key:` in a file like `/proc/self/status`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
}

/// Number of the namespace that `/proc/self/ns/<name>` points at.
fn namespace(roots: &Roots, name: &str) -> Option<u64> {
    let link = fs::read_link(roots.proc.join("self/ns").join(name)).ok()?;
    link.to_str()?.rsplit_once('[')?.1.strip_suffix(']')?.parse().ok()
}
