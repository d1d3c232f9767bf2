//! `churn`: builds and runs the load generator of `tests/churn`.

use anyhow::Result;

use crate::process::exec;

/// Runs it; returns only if it cannot be run.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    exec(&["--release", "--package", "churn"], options)
}
