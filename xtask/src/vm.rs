//! `vm`: leaktrace on other kernels, in a virtual machine each; the tests `runs_on_other_kernels` alone.

use anyhow::{Result, bail};

use crate::{
    kernels::{NO_VM, SERIES, unwanted},
    test,
};

/// Boots one kernel of [`SERIES`], or all.
pub(crate) fn run(series: &str) -> Result<()> {
    if unwanted() {
        bail!("{NO_VM}=1 is set\nhelp: unset it");
    }
    if series != "all" && !SERIES.contains(&series) {
        bail!("no kernel `{series}`\nhelp: one of {}, all", SERIES.join(", "));
    }
    let filter = match series {
        "all" => "binary(runs_on_other_kernels)".to_owned(),
        // The whole name: 6.1 begins 6.12, too.
        one => format!(
            "binary(runs_on_other_kernels) & test(=everything_holds_on_linux_{})",
            one.replace('.', "_")
        ),
    };
    test::run(&["-E", &filter])
}
