//! `exam`: builds leaktrace and runs the exam of its verdicts, which is in `tests/src/exam`.

use anyhow::Result;

use crate::process::{asks_for_help, build_leaktrace, exec};

/// Runs it; returns only if it cannot be run.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    if !asks_for_help(options) {
        build_leaktrace()?;
    }
    // A debug build: it mostly waits, and shares the libraries that the tests' own build has compiled.
    exec(&["--package", "tests", "--bin", "exam"], options)
}
