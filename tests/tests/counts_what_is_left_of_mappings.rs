//! Mappings of every kind are unmapped in pieces: the report contains the remaining pieces, and a big heap block is no
//! mapping. What no probe sees is in the account of resident memory.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{
    Report, Trace, Victim,
    compare::Named,
    compile::{victim, victim_with},
    report::symbols,
};

fn compared(arguments: &[&str], options: &[&str]) -> Result<()> {
    let mut victim = Victim::start("maps", arguments)?;
    let trace = Trace::attach(victim.pid(), options)?;
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
    compared(&[], &[])
}

#[test]
fn stacks_of_threads_are_mapped_by_libc_where_threads_are_not_traced() -> Result<()> {
    compared(&["threads"], &["--kind", "heap,mmap"])
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
fn of_a_program_that_contains_its_c_library() -> Result<()> {
    let program = victim_with("segments", "segments_static", &["-static"])?;
    let mut victim = Victim::start_program(&program, &["4", &file()?])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    // Files of the locale count as the program's here.
    let truth = victim.truth()?.sites_only();
    truth.compare(&trace.stop()?, Named::ByFirstFrame, &[], true)
}

#[test]
fn under_another_allocator() -> Result<()> {
    let mut command = Command::new(victim("segments")?);
    command.args(["4", &file()?]).env("LD_PRELOAD", "libjemalloc.so.2");
    let mut victim = Victim::start_command(&mut command)?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    victim.truth()?.compare(&trace.stop()?, Named::ByFirstFrame, &["mmap"], true)
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

/// The report on `segments` after 14 seconds in which it maps and touches memory in these ways.
fn grown(ways: &[&str]) -> Result<Report> {
    let file = file()?;
    ensure!(Path::new(&file).metadata()?.len() > 128 << 10, "{file} is too small");
    let arguments: Vec<&str> = ["grow", &file].into_iter().chain(ways.iter().copied()).collect();
    let mut victim = Victim::start("segments", &arguments)?;
    let trace = Trace::attach(victim.pid(), &["-d", "14s"])?;
    victim.go()?;
    let report = trace.finish()?;
    victim.kill()?;
    Ok(report)
}

/// How a part of resident memory grows, and how much of that nothing explains: bytes per second.
fn growth(report: &Report, part: &str) -> Result<[f64; 2]> {
    let of = |key: &str| {
        let at = format!("/memory/growth/{part}/{key}");
        report.at(&at)?.as_f64().with_context(|| format!("{at}: {}", report.summary()))
    };
    Ok([of("bytes_per_s")?, of("unexplained_bytes_per_s")?])
}

/// The warnings about memory that no traced call asked for.
fn unasked(report: &Report) -> Result<Vec<String>> {
    let all = report.list("/warnings")?.iter().filter_map(Value::as_str);
    Ok(all.filter(|text| text.contains("no traced call asked for")).map(str::to_owned).collect())
}

#[test]
fn what_the_kernel_gave_directly_is_named_as_unexplained() -> Result<()> {
    let report = grown(&["arena"])?;
    let [all, unexplained] = growth(&report, "anonymous")?;
    ensure!(unexplained > 0.9 * all && all > 1e6, "{unexplained} of {all}");
    let warnings = unasked(&report)?;
    ensure!(
        warnings.len() == 1 && warnings[0].starts_with("anonymous memory grows by "),
        "{warnings:?}"
    );
    let share = report.at("/memory/explained_growth")?.as_f64().context("a share")?;
    ensure!(share < 0.1, "{share}");
    ensure!(report.at("/memory/growth/shared")?.is_null(), "{}", report.summary());
    Ok(())
}

#[test]
fn what_was_asked_for_explains_every_part_of_memory() -> Result<()> {
    let ways = ["shared_file", "private_file", "shared_memory", "memory_file", "break"];
    let report = grown(&ways)?;
    for part in ["anonymous", "file", "shared"] {
        let [all, unexplained] = growth(&report, part)?;
        ensure!(unexplained < 0.1 * all && all > 1e6, "{part}: {unexplained} of {all}");
    }
    let warnings = unasked(&report)?;
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(())
}

#[test]
fn of_six_ways_one_is_unexplained() -> Result<()> {
    let ways = ["shared_file", "private_file", "shared_memory", "memory_file", "break", "arena"];
    let report = grown(&ways)?;
    let [all, unexplained] = growth(&report, "anonymous")?;
    let share = unexplained / all;
    // A third each: written copies of a file, the break, and what was mapped directly.
    ensure!((0.25..0.42).contains(&share), "{share}: {}", report.summary());
    for part in ["file", "shared"] {
        let [all, unexplained] = growth(&report, part)?;
        ensure!(unexplained < 0.1 * all, "{part}: {unexplained} of {all}");
    }
    ensure!(unasked(&report)?.len() == 1, "{:?}", report.at("/warnings")?);
    Ok(())
}

#[test]
fn arenas_of_a_runtime_are_named_as_such() -> Result<()> {
    // Objects of 192 bytes with their header: CPython acquires arenas of 1 MiB for them.
    let program = "import sys; print('ready', flush=True); sys.stdin.readline(); \
        kept = [bytes(150) + bytes([n % 256]) for n in range(400000)]; \
        print('{\"kept\": %d}' % len(kept), flush=True); sys.stdin.readline()";
    let mut python = Victim::start_command(Command::new("/usr/bin/python3").args(["-c", program]))?;
    let trace = Trace::attach(python.pid(), &[])?;
    python.go()?;
    let truth = python.answer()?;
    let report = trace.stop()?;
    python.exit()?;
    let is_arena = |site: &&Value| site.pointer("/arena/of").is_some_and(|of| of == "CPython");
    let arenas = report.list("/sites")?.iter().filter(is_arena);
    let bytes: u64 = arenas
        .inspect(|site| assert_eq!(site["kind"], "mmap", "{site}"))
        .filter_map(|site| site["outstanding_bytes"].as_u64())
        .sum();
    let least = 184 * truth["kept"].as_u64().context("the number of objects")?;
    assert!((least..2 * least).contains(&bytes), "{bytes} bytes\n{}", report.summary());
    Ok(())
}
