//! `test-vm`: leaktrace on other kernels, each in a virtual machine; runs only the tests `runs_on_other_kernels`.

use anyhow::{Result, bail, ensure};

use crate::{
    each,
    kernels::{self, NO_VM, SERIES, Series, disabled},
    nextest, packages,
    process::{build_leaktrace, note},
};

/// Boots one kernel of [`SERIES`], or all, and prints one line for each.
pub(crate) fn run(wanted: &str) -> Result<()> {
    if disabled() {
        bail!("{NO_VM}=1 is set\nhelp: unset it");
    }
    let chosen = each::choose("kernel", &SERIES, |series| series.name, wanted)?;
    nextest::install()?;
    packages::for_vm()?;
    build_leaktrace()?;
    let label = |series: &Series| format!("kernel {}", series.name);
    each::test("kernel", &chosen, label, |series| test_one(series).map(|()| label(series)))
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
