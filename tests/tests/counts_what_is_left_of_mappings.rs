//! Mappings are unmapped in pieces: the report contains the remaining pieces, and a big heap block is no mapping.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Trace, Victim, compare::Named, report::symbols};

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
