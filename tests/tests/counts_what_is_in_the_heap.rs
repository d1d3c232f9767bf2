//! A census is exact: block by block what a program at rest holds, with the figures of its own C library.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    Trace, Victim,
    census::{self, Census},
    compile, scratch, trace, wait_until,
};

/// A few blocks are the C library's own: caches of threads, what it keeps per thread.
fn is_own(kind: &str, size: u64) -> bool {
    kind == "(caches of threads)" || [280, 648].contains(&size)
}

#[test]
fn every_block_of_eight_threads_is_found_and_no_other() -> Result<()> {
    let mut victim = Victim::start("heap_state", &["5000"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let census = Census::take(victim.pid(), &[])?;
    let held = census.contains_all(&truth)?;
    let others: Vec<_> =
        census.blocks.iter().filter(|(address, _)| !held.contains(address)).collect();
    // Two per thread at most: its cache, and the table of its thread-local storage.
    assert!(others.len() <= 2 * 9, "{others:?}");
    assert!(others.iter().all(|(_, (size, kind))| is_own(kind, *size)), "{others:?}");
    assert_eq!(census.doubts(), &Value::Array(Vec::new()));

    census.sums_equal(&truth)?;
    let arenas = census.json["census"]["arenas"].as_array().context("the arenas")?;
    let mapped = arenas.iter().find(|arena| arena["address"].is_null()).context("mapped blocks")?;
    assert_eq!((&mapped["blocks"], &mapped["used_bytes"]), (&truth["hblks"], &truth["hblkhd"]));
    victim.exit()
}

#[test]
fn blocks_from_before_are_counted_and_two_censuses_differ_by_what_came_between() -> Result<()> {
    let mut victim = Victim::start("heap_lost", &["200000", "200000"])?;
    let output = scratch("census.json")?;
    let mut series = Command::new(trace::leaktrace()?)
        .args(["census", "-p", &victim.pid().to_string(), "-f", "json"])
        .args(["--every", "100ms", "-d", "60s", "-o"])
        .arg(&output)
        .spawn()?;
    let census = Census::take(victim.pid(), &[])?;
    assert_eq!((census.of_size(104), census.of_size(200)), (200_000, 200_000));
    victim.go()?;
    let truth = victim.answer()?;
    assert_eq!(victim.line()?, "ready");
    let after = Census::take(victim.pid(), &[])?;
    assert_eq!(after.of_size(328), truth["more"]);
    assert_eq!(after.number("blocks") - census.number("blocks"), 1000);
    // The series ends with the program, and has seen the same.
    victim.kill()?;
    wait_until("the end of the series", Duration::from_secs(20), || {
        Ok(series.try_wait()?.is_some())
    })?;
    let text = std::fs::read_to_string(&output)?;
    let all: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    all.iter().try_for_each(census::validate)?;
    assert!(all[0]["difference"].is_null());
    let grown: i64 = all
        .iter()
        .filter_map(|one| one["difference"]["by_size"].as_array())
        .flatten()
        .filter(|size| size["size"] == 328)
        .filter_map(|size| size["count"].as_i64())
        .sum();
    let first = all[0]["census"]["by_size"].as_array().context("sizes")?;
    let before =
        first.iter().filter(|one| one["size"] == 328).filter_map(|one| one["count"].as_i64());
    assert_eq!(grown + before.sum::<i64>(), 1000);
    Ok(())
}

#[test]
fn memory_that_the_allocator_keeps_is_no_leak_and_what_pins_it_is_named() -> Result<()> {
    let mut victim = Victim::start("heap_fragmented", &["400000"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let census = Census::take(victim.pid(), &[])?;
    let usable = truth["usable"].as_u64().context("a size")?;
    assert_eq!(census.of_size(usable), truth["kept"]);
    let used = census.arenas("used_bytes") + census.arenas("thread_cached_bytes");
    assert_eq!(used, truth["uordblks"]);
    assert_eq!(
        census.number("kept_bytes") - census.arenas("thread_cached_bytes"),
        truth["fordblks"]
    );
    assert!(census.number("kept_bytes") > 100 * census.number("used_bytes"));
    // The kept blocks are more than a page apart: each pins at least one.
    let pinned = &census.json["census"]["pinned"];
    assert_eq!(pinned["by_size"][0]["size"], usable);
    assert!(pinned["pages"].as_u64() >= truth["kept"].as_u64(), "{pinned}");
    victim.exit()
}

#[test]
fn what_is_freed_between_kept_blocks_is_kept_by_the_allocator_not_by_a_call_site() -> Result<()> {
    let mut victim = Victim::start("heap_fragmented", &["100000"])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    victim.exit()?;
    let of = |name: &str| report.sites("heap", |frames| frames.first() == Some(&name));
    let (kept, freed) = (of("remember")?, of("decode")?);
    let count = truth["kept"].as_u64().context("a count")?;
    assert_eq!((kept.outstanding_count, kept.outstanding_bytes), (count, 48 * count));
    assert_eq!((freed.acquired_count, freed.released_count), (100_000, 100_000));
    assert_eq!(freed.outstanding_count, 0);
    let (said, fordblks) = (report.number("/memory/heap_kept_bytes")?, truth["fordblks"].as_u64());
    // The C library's own figure leaves out what is cached for the thread.
    let fordblks = fordblks.context("a size")?;
    assert!(said >= fordblks && said - fordblks < 64 << 10, "{said}, not {fordblks}");
    let leaks = report.list("/findings")?.iter().filter(|one| one["class"] == "leak");
    assert_eq!(leaks.count(), 0, "{}", report.at("/findings")?);
    Ok(())
}

/// The victim with known types, built with these flags.
fn types(product: &str, flags: &[&str]) -> Result<()> {
    let program = compile::victim_with("heap_types", product, flags)?;
    let mut victim = Victim::start_program(&program, &["1000"])?;
    victim.go()?;
    let truth = victim.answer()?;
    let census = Census::take(victim.pid(), &["--show-content", "16"])?;
    for (name, count) in truth.as_object().context("types")? {
        let found = census.of_type(name);
        // Others have text and zeros, too, such as the C++ library.
        let fits = if name.starts_with("(text") || name.starts_with("(zeros") {
            Some(found) >= count.as_u64() && Some(found) < count.as_u64().map(|count| count + 20)
        } else {
            Some(found) == count.as_u64()
        };
        assert!(fits, "{name}: {found}, not {count}: {}", census.json);
    }
    victim.exit()
}

#[test]
fn classes_are_named() -> Result<()> {
    types("heap_types", &[])
}

#[test]
fn classes_are_named_in_a_stripped_program() -> Result<()> {
    types("heap_types_stripped", &["-s"])
}

#[test]
fn classes_are_named_in_a_static_program_without_position_independence() -> Result<()> {
    types("heap_types_static", &["-s", "-static", "-no-pie"])
}

#[test]
fn classes_are_named_by_symbol_without_type_information() -> Result<()> {
    types("heap_types_no_rtti", &["-fno-rtti"])
}

#[test]
fn what_cannot_be_read_is_refused_in_one_line() -> Result<()> {
    let refusal = |pid: &str| -> Result<String> {
        let output = Command::new(trace::leaktrace()?).args(["census", "-p", pid]).output()?;
        assert_eq!(output.status.code(), Some(2));
        Ok(String::from_utf8(output.stderr)?)
    };
    let gone = refusal("4194303")?;
    assert!(gone.starts_with("leaktrace: could not find process `4194303`"), "{gone}");
    assert!(gone.contains("\nhelp: "), "{gone}");
    // A thread of the kernel.
    let kernel = refusal("2")?;
    assert!(kernel.contains("help:") && kernel.lines().count() == 2, "{kernel}");
    Ok(())
}
