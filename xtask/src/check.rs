//! `check`: all checks that need neither root nor packages, in a minute or two: the lane `fast`.

use anyhow::Result;

use crate::{
    process::{cargo, run as run_command},
    test::{self, Selection},
    tidy,
};

/// Checks the sources and runs the tests of the lane.
pub(crate) fn run() -> Result<()> {
    test::run(&Selection::lane("fast")?)
}

/// Format, house rules, clippy: cheap ones first.
pub(crate) fn source() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run_command(
        cargo()
            .args(["clippy", "--workspace", "--exclude", "tracer-ebpf", "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )
}
