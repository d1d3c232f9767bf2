//! The bench's victim does what its options say, and leaktrace sees all of it: `bench --growth` measures what its
//! tables name.

use anyhow::Result;
use serde_json::Value;
use tests::{Report, Trace, Victim};

/// Runs the victim briefly under leaktrace; returns its last answer and the report.
fn played(dials: &[&str], options: &[&str]) -> Result<(Value, Report)> {
    let mut victim = Victim::start("growth", &[&["0.2"], dials].concat())?;
    let trace = Trace::attach(victim.pid(), &[&["--kind", "heap,mmap"], options].concat())?;
    victim.go()?;
    victim.answer()?;
    victim.go()?;
    let answer = victim.answer()?;
    let report = trace.stop()?;
    assert_eq!(report.lost()?, "");
    assert_eq!(report.number("/accounting/truncated_stacks")?, 0, "{dials:?}");
    let heap = report.total("heap")?;
    let seen = (Some(heap.acquired_count), Some(heap.outstanding_count));
    let said = |key: &str| answer.get(key).and_then(Value::as_u64);
    assert_eq!(seen, (said("acquired_count"), said("outstanding_count")), "{dials:?}");
    Ok((answer, report))
}

/// Frames of a call site, without inlined ones.
fn frames(site: &Value) -> usize {
    let all = site["frames"].as_array().into_iter().flatten();
    all.filter(|frame| frame["inlined"] != true).count()
}

#[test]
fn threads() -> Result<()> {
    played(&["threads=4"], &[])?;
    Ok(())
}

#[test]
fn held_blocks() -> Result<()> {
    let (_, report) = played(&["held=20000"], &[])?;
    assert_eq!(report.total("heap")?.outstanding_count, 20_000);
    Ok(())
}

#[test]
fn call_sites_of_the_same_depth() -> Result<()> {
    let (_, report) = played(&["sites=1000", "depth=5"], &[])?;
    let sites = report.list("/sites")?;
    assert_eq!((sites.len(), report.number("/sites_left_out")?), (1000, 0));
    assert!(sites.iter().all(|site| frames(site) == 5), "{}", report.summary());
    // Nothing is outstanding there.
    let (_, report) = played(&["sites=1001", "depth=5"], &[])?;
    let shown = report.list("/sites")?.len();
    assert_eq!((shown, report.number("/sites_left_out")?), (50, 951));
    Ok(())
}

#[test]
fn depth_to_the_frame() -> Result<()> {
    for depth in [1, 2, 16, 120] {
        let (_, report) = played(&[&format!("depth={depth}")], &[])?;
        let depths: Vec<usize> = report.list("/sites")?.iter().map(frames).collect();
        assert_eq!(depths, [depth], "{}", report.summary());
    }
    Ok(())
}

#[test]
fn an_odd_number_of_functions() -> Result<()> {
    let takes = (0..3).flat_map(|n| ["--alloc".to_owned(), format!("take_{n}:size@0")]);
    let gives = (0..2).flat_map(|n| ["--free".to_owned(), format!("give_{n}")]);
    let options: Vec<String> = takes.chain(gives).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (_, report) = played(&["functions=5"], &options)?;
    let sites = report.list("/sites")?;
    let mut by: Vec<&str> = sites.iter().filter_map(|one| one["acquired_by"].as_str()).collect();
    by.sort_unstable();
    assert_eq!(by, ["malloc", "take_0", "take_1", "take_2"]);
    Ok(())
}
