//! In C++ and Rust, too, call sites are named after the code that asked for memory: behind every form of `new`, behind
//! Rust's libraries and its global allocators. The report of each function equals its own account.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tests::{
    Victim,
    allocators::{says, traced},
    compare::Named,
    compile::{cargo_victim, rust_victim, victim, victim_by},
    mimalloc,
    report::{headline, symbols},
};

/// Containers of `cxx` all belong to one function; each other site is a function of its own.
const CONTAINERS: [&str; 3] = ["vectors", "strings", "shared"];

/// Every form of `new` and `delete`: the sums, and the call sites of functions behind `operator new`.
fn cxx(command: &mut Command, start: &str) -> Result<()> {
    let (truth, report) = traced(Victim::start_command(command)?, &[])?;
    assert_eq!(report.total("heap")?, truth.sum("heap"), "{}", report.summary());
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    assert_eq!(report.number("/accounting/unknown_frees")?, truth.number("unknown_frees")?);
    truth.without(&CONTAINERS).compare(&report, Named::ByAnyFrame, &[], true)?;
    says(&report, start)
}

/// The same with a preloaded allocator.
fn cxx_preloaded(library: &str, start: &str) -> Result<()> {
    cxx(Command::new(victim("cxx")?).env("LD_PRELOAD", library), start)
}

#[test]
fn new_and_delete_by_libstdcxx() -> Result<()> {
    cxx(&mut Command::new(victim("cxx")?), "glibc 2.")
}

#[test]
fn new_and_delete_by_jemalloc() -> Result<()> {
    cxx_preloaded("libjemalloc.so.2", "jemalloc")
}

#[test]
fn new_and_delete_by_tcmalloc() -> Result<()> {
    cxx_preloaded("libtcmalloc_minimal.so.4", "tcmalloc")
}

#[test]
fn new_and_delete_by_mimalloc() -> Result<()> {
    cxx_preloaded("libmimalloc.so.2", "mimalloc")
}

/// The same with mimalloc linked as an object file, both generations.
fn cxx_own_mimalloc(kind: &str, flags: &[&str]) -> Result<()> {
    for generation in ["v2", "v3"] {
        let product = format!("cxx_{kind}_mimalloc_{generation}");
        let start = format!("mimalloc in the executable {product}");
        let program = victim_by("g++", "cxx", &product, flags, &[&mimalloc::object(generation)?])?;
        cxx(&mut Command::new(program), &start).context(product)?;
    }
    Ok(())
}

#[test]
fn new_and_delete_by_mimalloc_in_the_executable() -> Result<()> {
    cxx_own_mimalloc("own", &[])
}

#[test]
fn new_and_delete_by_mimalloc_in_a_static_executable() -> Result<()> {
    cxx_own_mimalloc("static", &["-static"])
}

/// A Rust program: sums, and the functions that asked for memory, whatever library frames come between; each of them is
/// the headline of its call sites.
fn rust(program: &Path, start: &str) -> Result<()> {
    let (truth, report) = traced(Victim::start_program(program, &[])?, &[])?;
    assert_eq!(report.total("heap")?, truth.sum("heap"), "{}", report.summary());
    truth.compare(&report, Named::ByAnyFrame, &["heap"], true)?;
    for site in report.list("/sites")?.iter().filter(|site| site["kind"] == "heap") {
        let headline = headline(site).unwrap_or_default();
        let function = headline.rsplit("::").next().unwrap_or_default();
        ensure!(
            truth.site(function).is_ok() && site["truncated_why"].is_null(),
            "{headline} of {:?}, {}",
            symbols(site),
            site["truncated_why"]
        );
    }
    says(&report, start)
}

#[test]
fn a_rust_program_with_the_systems_allocator() -> Result<()> {
    rust(&rust_victim("boxes", "boxes", &["-Copt-level=0", "-g"])?, "glibc 2.")?;
    rust(&rust_victim("boxes", "boxes_optimized", &["-Copt-level=3", "-g"])?, "glibc 2.")
}

#[test]
fn a_rust_program_with_jemalloc_as_its_global_allocator() -> Result<()> {
    let program = cargo_victim("jemallocator")?;
    rust(&program, "jemalloc 5.3.0 in the executable jemallocator, as _rjem_malloc")
}
