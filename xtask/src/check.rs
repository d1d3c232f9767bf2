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

/// Format, house rules, clippy, other architectures: cheap ones first.
pub(crate) fn source() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run_command(
        cargo()
            .args(["clippy", "--workspace", "--exclude", "tracer-ebpf", "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )?;
    unsupported_architecture()
}

/// What is compiled for a processor that leaktrace does not support, compiled for this one: no other standard library
/// is needed, and the libraries are compiled already.
fn unsupported_architecture() -> Result<()> {
    for package in ["tracer-common", "leaktrace"] {
        run_command(
            cargo().args(["rustc", "--package", package, "--lib", "--profile", "check"]).args([
                "--",
                "--cfg",
                "leaktrace_unsupported_arch",
                "-D",
                "warnings",
            ]),
        )?;
    }
    Ok(())
}
