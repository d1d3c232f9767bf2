//! `churn`: builds and runs the load generator of `tests/churn`.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::process::{cargo, workspace};

/// Runs the program in place of this one: signals reach it directly, and its exit status is this command's.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let error = cargo()
        .args(["run", "--quiet", "--release", "--package", "churn", "--manifest-path"])
        .arg(workspace().join("Cargo.toml"))
        .arg("--")
        .args(options)
        .exec();
    Err(error).context("could not run `cargo run --package churn`")
}
