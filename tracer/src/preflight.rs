//! What this host and a process allow, before anything is tried.
//!
//! Takes `/proc` and `/sys` (or what stands for them), hands on [`Facts`] and [`Candidate`], which
//! judge themselves without looking again: every host can be tried out on any other. Attaches
//! nothing.

mod candidate;
mod host;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use candidate::Candidate;
pub use host::{Facts, NEEDED_KERNEL};

/// Where the kernel tells about itself.
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

/// A small file's text without the final newline; `None` when it cannot be read.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// The value behind `key:` in a file like `/proc/self/status`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
}

/// Number of the namespace that `/proc/self/ns/<name>` points at.
fn namespace(roots: &Roots, name: &str) -> Option<u64> {
    let link = fs::read_link(roots.proc.join("self/ns").join(name)).ok()?;
    link.to_str()?.rsplit_once('[')?.1.strip_suffix(']')?.parse().ok()
}
