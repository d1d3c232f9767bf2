//! `servers`: builds leaktrace and runs the program of `tests` that traces healthy servers under load.

use anyhow::Result;

use crate::{
    packages,
    process::{asks_for_help, build_leaktrace, exec},
};

/// Runs it; returns only if it cannot be run.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    if !asks_for_help(options) {
        packages::for_servers()?;
        build_leaktrace()?;
    }
    exec(&["--package", "tests", "--bin", "servers"], options)
}
