//! Mappings of every kind are unmapped in pieces: the report contains the remaining pieces, and a big heap block is no
//! mapping.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Trace, Victim, compare::Named, report::symbols};

fn compared(arguments: &[&str]) -> Result<()> {
    let mut victim = Victim::start("maps", arguments)?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    truth.compare(&report, Named::ByFirstFrame, &["heap", "mmap"], false)?;
    let Ok(stacks) = truth.number("stacks") else { return Ok(()) };
    let from_libc = report.list("/sites")?.iter().filter(|site| {
        let module = site.pointer("/frames/0/module").and_then(Value::as_str);
        site.get("kind").and_then(Value::as_str) == Some("mmap")
            && module.is_some_and(|path| path.contains("libc"))
    });
    let count: u64 = from_libc
        .inspect(|site| assert!(!symbols(site).is_empty()))
        .filter_map(|site| site.get("outstanding_count").and_then(Value::as_u64))
        .sum();
    ensure!(count >= stacks, "{count} mappings by libc, {stacks} stacks:\n{}", report.summary());
    Ok(())
}

#[test]
fn cut_replaced_joined_and_moved() -> Result<()> {
    compared(&[])
}

#[test]
fn stacks_of_threads_are_mapped_by_libc() -> Result<()> {
    compared(&["threads"])
}

/// A file on a disk, larger than what is mapped of it: this program.
fn file() -> Result<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}

/// Traces `segments`, which uses every way with so many threads.
fn every_way(threads: &str, options: &[&str]) -> Result<()> {
    let mut victim = Victim::start("segments", &[threads, &file()?])?;
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    // `setlocale` allocates on the heap, too.
    truth.compare(&report, Named::ByFirstFrame, &["mmap"], true)
}

#[test]
fn files_shared_memory_and_the_break() -> Result<()> {
    every_way("1", &[])
}

#[test]
fn by_eight_threads_at_once() -> Result<()> {
    every_way("8", &[])
}

#[test]
fn without_return_probes() -> Result<()> {
    every_way("4", &["--no-return-probes"])
}

#[test]
fn mappings_only() -> Result<()> {
    let mut victim = Victim::start("segments", &["3", &file()?])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "mmap"])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    let heap = ["keep_block", "keep_small"];
    let mapped = truth.without(&heap);
    mapped.compare(&report, Named::ByFirstFrame, &[], true)?;
    ensure!(report.total("mmap")? == truth.sum("mmap"), "{}", report.summary());
    Ok(())
}
