//! Installs the dependencies of commands, or names them: Debian packages, and tools built by cargo.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    kernels,
    lanes::{LANES, Lane},
    nextest,
    process::{cargo, exists, is_root, note, run},
};

/// Packages that build the kernel programs.
const BPF: [&str; 5] =
    ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "libpolly-22-dev"];

/// The version of the linker that the committed objects were made with.
pub(crate) const BPF_LINKER: &str = "0.13.0";

/// Installs everything.
pub(crate) fn all() -> Result<()> {
    LANES.iter().try_for_each(for_lane)?;
    nextest::install()?;
    for_bpf()
}

/// Installs the packages of a lane's tests.
pub(crate) fn for_lane(lane: &Lane) -> Result<()> {
    let is_kernels = lane.name == "kernels";
    if is_kernels && kernels::disabled() {
        return Ok(());
    }
    // The machine may have a node that is not Debian's.
    let packages = lane.packages.iter().filter(|name| **name != "nodejs" || !exists("node"));
    install(&missing(&packages.copied().collect::<Vec<_>>()))?;
    if is_kernels { kernels::fetch_always_tested() } else { Ok(()) }
}

/// Installs the packages for virtual machines, without kernels.
pub(crate) fn for_vm() -> Result<()> {
    install(&missing(Lane::named("kernels")?.packages))
}

/// Installs the packages of the demo and the bench.
pub(crate) fn for_demo() -> Result<()> {
    install(&missing(&["gcc", "libc6-dev", "libevent-dev", "wrk"]))
}

/// Installs the additional packages of the bench of library objects.
pub(crate) fn for_bench_of_objects() -> Result<()> {
    install(&missing(&["nginx-light", "openssl"]))
}

/// Installs what `servers` runs beside the packages that it unpacks.
pub(crate) fn for_servers() -> Result<()> {
    let mut names = vec!["iproute2", "openssl", "python3"];
    // The machine may have a node that is not Debian's.
    if !exists("node") {
        names.push("nodejs");
    }
    install(&missing(&names))
}

/// Installs the tools that build the kernel programs.
pub(crate) fn for_bpf() -> Result<()> {
    install(&missing(&BPF))?;
    if !exists("bpf-linker") {
        // Linked against the LLVM of Debian's rustc-web: another one may "succeed" with broken BTF.
        run(cargo()
            .args(["install", "bpf-linker", "--version", BPF_LINKER])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_SYS_221_PREFIX", "/usr/lib/llvm-22")
            .env("LLVM_PREFIX", "/usr/lib/llvm-22"))?;
    }
    Ok(())
}

/// Those of `packages` that are not installed according to dpkg.
fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &&&str| {
        Command::new("dpkg-query")
            .args(["-W", "-f=${db:Status-Status}", package])
            .output()
            .is_ok_and(|output| output.stdout == b"installed")
    };
    packages.iter().filter(|package| !installed(package)).copied().collect()
}

fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !exists("apt-get") {
        bail!("missing: {names}\nhelp: install what your system calls these Debian packages");
    }
    if !is_root() {
        bail!("missing: {names}\nhelp: sudo apt-get install -y --no-install-recommends {names}");
    }
    let apt = |words: &[&str]| {
        run(Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let mut command = vec!["install", "-y", "--no-install-recommends"];
    command.extend(packages);
    if apt(&command).is_err() {
        update_lists()?;
        apt(&command)?;
    }
    Ok(())
}

/// Updates the package lists.
pub(crate) fn update_lists() -> Result<()> {
    note("the package lists may be old: fetching them");
    run(Command::new("apt-get").arg("update"))
}
