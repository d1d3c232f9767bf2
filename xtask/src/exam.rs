//! `exam`: builds leaktrace and runs the exam of its verdicts, which is in `tests/src/exam`.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::process::{build_leaktrace, cargo, run as run_command, target_dir, workspace};

/// Runs the program in place of this one: signals reach it directly, and its exit status is this command's.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    build_leaktrace()?;
    // A debug build: it mostly waits, and shares the libraries that the tests' own build has compiled.
    run_command(cargo().args(["build", "--package", "tests", "--bin", "exam"]))?;
    let error =
        Command::new(target_dir().join("debug/exam")).args(options).current_dir(workspace()).exec();
    Err(error).context("could not run `exam`")
}
