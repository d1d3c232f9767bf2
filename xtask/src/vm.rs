//! `test-vm`: leaktrace on other kernels, each in a virtual machine; runs only the tests `runs_on_other_kernels`.

use anyhow::{Result, bail, ensure};

use crate::{
    kernels::{self, NO_VM, SERIES, Series, disabled},
    nextest, packages,
    process::{build_leaktrace, note, print},
};

/// Boots one kernel of [`SERIES`], or all, and prints one line for each.
pub(crate) fn run(wanted: &str) -> Result<()> {
    if disabled() {
        bail!("{NO_VM}=1 is set\nhelp: unset it");
    }
    let chosen: Vec<&Series> =
        SERIES.iter().filter(|series| wanted == "all" || wanted == series.name).collect();
    if chosen.is_empty() {
        let names = SERIES.map(|series| series.name).join(", ");
        bail!("no kernel `{wanted}`\nhelp: one of {names}, all");
    }
    nextest::install()?;
    packages::for_vm()?;
    build_leaktrace()?;
    let outcomes: Vec<(&str, Result<()>)> =
        chosen.into_iter().map(|series| (series.name, test_one(series))).collect();
    for (name, outcome) in &outcomes {
        match outcome {
            Ok(()) => print(&format!("kernel {name}: everything holds")),
            Err(error) => print(&format!("kernel {name}: FAILED: {error:#}")),
        }
    }
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} kernels failed", outcomes.len());
    }
    Ok(())
}

fn test_one(series: &Series) -> Result<()> {
    kernels::fetch(series)?;
    // The complete name: 6.1 is also a prefix of 6.12.
    let name = series.name.replace('.', "_");
    let filter = format!("binary(runs_on_other_kernels) & test(/_on_linux_{name}$/)");
    let options = ["--run-ignored", "all"];
    ensure!(nextest::run(&filter, &options)?.passed, "tests failed");
    Ok(())
}

/// Prints which kernels only `test-vm` tests.
pub(crate) fn list_untested() {
    let names: Vec<&str> = SERIES
        .iter()
        .filter(|series| !series.is_always_tested())
        .map(|series| series.name)
        .collect();
    note(&format!(
        "kernels {} are tested only on request: cargo xtask test-vm --kernel all",
        names.join(" and ")
    ));
}
