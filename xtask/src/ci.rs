//! `ci`: everything that has to hold before a change goes in. What CI runs is what a person runs.

use anyhow::Result;

use crate::{
    bpf,
    process::{cargo, run as run_command},
    test, tidy,
};

/// Cheap checks first.
pub(crate) fn run() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    run_command(
        cargo()
            .args(["clippy", "--workspace", "--exclude", "tracer-ebpf", "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )?;
    bpf::check()?;
    test::run_and_tell(&[])
}
