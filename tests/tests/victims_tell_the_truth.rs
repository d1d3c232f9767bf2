//! The victims' own accounts, checked by a witness that counts below them. Needs neither root nor leaktrace.

use std::fs;

use anyhow::Result;
use tests::{Victim, scratch};

/// Outstanding blocks, their bytes, and releases of unknown blocks, as the witness saw them.
fn witnessed(name: &str, arguments: &[&str]) -> Result<()> {
    let note = scratch(&format!("witness-{name}"))?;
    let mut victim = Victim::start_witnessed(name, arguments, &note)?;
    victim.go()?;
    let truth = victim.truth()?;
    let text = fs::read_to_string(&note)?;
    let seen: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let sum = truth.sum("heap");
    let unknown = truth.number("unknown_frees").unwrap_or(0);
    assert_eq!(seen, [sum.outstanding_count, sum.outstanding_bytes, unknown], "{name}");
    victim.exit()
}

#[test]
fn ground_truth_with_eight_threads() -> Result<()> {
    witnessed("ground_truth", &["8", "100000"])
}

#[test]
fn ground_truth_with_one_thread() -> Result<()> {
    witnessed("ground_truth", &["1", "100000", "7"])
}

#[test]
fn failing() -> Result<()> {
    witnessed("failing", &[])
}

#[test]
fn pre_attach() -> Result<()> {
    witnessed("pre_attach", &[])
}

#[test]
fn filtered() -> Result<()> {
    witnessed("filtered", &[])
}

#[test]
fn cxx() -> Result<()> {
    witnessed("cxx", &[])
}

#[test]
fn maps_hold_big_blocks_on_the_heap() -> Result<()> {
    witnessed("maps", &[])
}

#[test]
fn steady_leak_growing_cache_and_churn() -> Result<()> {
    witnessed("steady_leak", &["200", "1"])?;
    witnessed("growing_cache", &["500", "1"])?;
    witnessed("churn", &["2", "100000"])
}

/// Bytes of address space that a process has mapped.
fn mapped_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib: u64 = line.and_then(|text| text.split_whitespace().next()).unwrap_or("").parse()?;
    Ok(kib * 1024)
}

#[test]
fn maps_knows_how_much_it_maps() -> Result<()> {
    const PAGE: u64 = 4096;
    let mut victim = Victim::start("maps", &[])?;
    let before = mapped_bytes(victim.pid())?;
    victim.go()?;
    let truth = victim.truth()?;
    let grown = mapped_bytes(victim.pid())? - before;
    // One page of a file in each of 20 rounds; a big block has a page for its header.
    let files = 20 * PAGE;
    let big = truth.site("big_malloc")?;
    let blocks = (big.outstanding_bytes / big.outstanding_count / PAGE + 1) * PAGE;
    assert_eq!(grown, truth.sum("mmap").outstanding_bytes + files + blocks * big.outstanding_count);
    victim.exit()
}

#[test]
fn hoard() -> Result<()> {
    witnessed("hoard", &["300", "10000"])
}
