//! `servers`: builds leaktrace and runs the program of `tests` that traces healthy servers under load.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{
    packages,
    process::{build_leaktrace, cargo, leaktrace, workspace},
};

/// Runs the program in place of this one: signals reach it directly, and its exit status is this command's.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    if !options.iter().any(|option| ["-h", "--help"].contains(option)) {
        packages::for_servers()?;
        build_leaktrace()?;
    }
    let error = cargo()
        .args(["run", "--quiet", "--package", "tests", "--bin", "servers", "--manifest-path"])
        .arg(workspace().join("Cargo.toml"))
        .arg("--")
        .args(options)
        .env("LEAKTRACE_BIN", leaktrace())
        .exec();
    Err(error).context("could not run `cargo run --package tests --bin servers`")
}
