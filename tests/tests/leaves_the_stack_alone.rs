//! Where return probes would harm the target, outcomes are read without them, and equal the truth all the same.

use std::process::Command;

use anyhow::{Result, ensure};
use tests::{
    Report, Trace, Truth, Victim,
    compare::Named,
    compile::{archive, victim, victim_by, victim_with},
};

/// Behaves as on a kernel where return probes could kill the target.
const WITHOUT: [&str; 1] = ["--no-return-probes"];

/// Traces a victim from `go` until it prints its truth.
fn traced(mut victim: Victim, options: &[&str]) -> Result<(Truth, Report)> {
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.truth()?;
    Ok((truth, trace.stop()?))
}

/// The report's explanation for each probed function, if it has one.
fn remarks(report: &Report) -> Result<Vec<(String, String, String)>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = report.list("/probes")?.iter();
    Ok(all.map(|one| (text(&one["function"]), text(&one["status"]), text(&one["why"]))).collect())
}

/// No acquiring function has a return probe, and none is missing for lack of one.
fn is_without(report: &Report) -> Result<()> {
    none_is_refused(report)?;
    for (function, status, why) in remarks(report)? {
        // Threads are known by the kernel's task, and joins are always read at return instructions.
        if ["pthread_", "thrd_"].iter().any(|prefix| function.starts_with(prefix)) {
            continue;
        }
        let acquires = !function.contains("free") && function != "munmap";
        let said = why.contains("outcome read at its return instructions: no return probes");
        ensure!(status != "on" || said == acquires, "{function}: {why}");
    }
    Ok(())
}

/// No function is left out because its return instructions were not found.
fn none_is_refused(report: &Report) -> Result<()> {
    for (function, status, why) in remarks(report)? {
        ensure!(status != "refused", "{function}: {why}");
    }
    Ok(())
}

fn equals_without(name: &str, arguments: &[&str]) -> Result<()> {
    let (truth, report) = traced(Victim::start(name, arguments)?, &WITHOUT)?;
    truth.equals(&report)?;
    is_without(&report)
}

#[test]
fn every_allocator_function_of_glibc_from_eight_threads() -> Result<()> {
    equals_without("ground_truth", &["8", "100000"])
}

#[test]
fn calls_that_are_abandoned() -> Result<()> {
    equals_without("abandoned", &[])
}

#[test]
fn acquisitions_and_resizes_that_fail() -> Result<()> {
    equals_without("failing", &[])
}

#[test]
fn mappings() -> Result<()> {
    let (truth, report) = traced(Victim::start("maps", &[])?, &WITHOUT)?;
    truth.compare(&report, Named::ByFirstFrame, &["heap", "mmap"], false)?;
    is_without(&report)
}

/// The ground truth with another allocator.
fn by_another(command: &mut Command) -> Result<()> {
    let victim = Victim::start_command(command.args(["4", "20000", "3"]))?;
    let (truth, report) = traced(victim, &WITHOUT)?;
    truth.equals(&report)?;
    none_is_refused(&report)
}

fn preloaded(library: &str, flags: &[&str]) -> Result<()> {
    let program = victim_with("ground_truth", &format!("ground_truth_under_{library}"), flags)?;
    by_another(Command::new(program).env("LD_PRELOAD", library))
}

#[test]
fn every_allocator_function_of_jemalloc() -> Result<()> {
    preloaded("libjemalloc.so.2", &["-DNO_PVALLOC"])
}

#[test]
fn every_allocator_function_of_tcmalloc() -> Result<()> {
    preloaded("libtcmalloc_minimal.so.4", &[])
}

#[test]
fn every_allocator_function_of_mimalloc() -> Result<()> {
    preloaded("libmimalloc.so.2", &[])
}

#[test]
fn every_allocator_function_of_a_static_glibc() -> Result<()> {
    by_another(&mut Command::new(victim_by(
        "gcc",
        "ground_truth",
        "truth_static",
        &["-static"],
        &[],
    )?))
}

#[test]
fn every_allocator_function_of_musl() -> Result<()> {
    by_another(&mut Command::new(victim_by("musl-gcc", "ground_truth", "truth_musl", &[], &[])?))
}

/// The sums of every form of `new` and `delete`.
fn cxx(library: Option<&str>) -> Result<()> {
    let mut command = Command::new(victim("cxx")?);
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    let (truth, report) = traced(Victim::start_command(&mut command)?, &WITHOUT)?;
    assert_eq!(report.total("heap")?, truth.sum("heap"), "{}", report.summary());
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    assert_eq!(report.number("/accounting/unknown_frees")?, truth.number("unknown_frees")?);
    Ok(())
}

#[test]
fn new_and_delete_by_libstdcxx() -> Result<()> {
    cxx(None)
}

#[test]
fn new_and_delete_by_jemalloc() -> Result<()> {
    cxx(Some("libjemalloc.so.2"))
}

#[test]
fn new_and_delete_by_tcmalloc() -> Result<()> {
    cxx(Some("libtcmalloc_minimal.so.4"))
}

#[test]
fn new_and_delete_by_mimalloc() -> Result<()> {
    cxx(Some("libmimalloc.so.2"))
}

/// A program that catches `std::bad_alloc` also catches it while traced, and every block is counted.
fn catches(command: &mut Command, options: &[&str]) -> Result<Report> {
    let (truth, report) = traced(Victim::start_command(command)?, options)?;
    truth.compare(&report, Named::ByAnyFrame, &["heap"], true)?;
    ensure!(truth.number("failed_acquires")? > 0);
    Ok(report)
}

fn catches_under(library: &str) -> Result<()> {
    let report = catches(Command::new(victim("catching")?).env("LD_PRELOAD", library), &[])?;
    let said = "outcome read at its return instructions: it may throw an exception";
    for (function, status, why) in remarks(&report)? {
        let throws = function.starts_with("_Zn") && !function.ends_with("nothrow_t");
        ensure!(!throws || status != "on" || why.contains(said), "{function}: {why}");
        ensure!(!throws || status != "refused", "{function}: {why}");
        ensure!(function != "calloc" || !why.contains("return instructions"), "{function}: {why}");
    }
    ensure!(report.list("/warnings")?.is_empty());
    Ok(())
}

#[test]
fn an_exception_of_jemallocs_operator_new_is_caught() -> Result<()> {
    catches_under("libjemalloc.so.2")
}

#[test]
fn an_exception_of_tcmallocs_operator_new_is_caught() -> Result<()> {
    catches_under("libtcmalloc_minimal.so.4")
}

#[test]
fn an_exception_of_libstdcxx_is_caught() -> Result<()> {
    catches(&mut Command::new(victim("catching")?), &[])?;
    catches(&mut Command::new(victim("catching")?), &WITHOUT).map(drop)
}

#[test]
fn an_exception_of_an_allocator_in_the_executable_is_caught() -> Result<()> {
    let libraries = [&*archive("libjemalloc.a")?];
    let program = victim_by("g++", "catching", "catching_own_jemalloc", &[], &libraries)?;
    catches(&mut Command::new(program), &[]).map(drop)
}
