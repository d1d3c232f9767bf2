//! leaktrace's report equals the program's own account, number by number, with nothing lost.

use anyhow::{Context as _, Result};
use tests::{Trace, Victim, compare::Named, report::symbols};

fn equals(name: &str, arguments: &[&str]) -> Result<()> {
    let mut victim = Victim::start(name, arguments)?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    truth.equals(&trace.stop()?)
}

#[test]
fn every_allocator_function_from_eight_threads_at_full_speed() -> Result<()> {
    equals("ground_truth", &["8", "1000000"])
}

#[test]
fn every_allocator_function_from_one_thread() -> Result<()> {
    equals("ground_truth", &["1", "200000", "3"])
}

#[test]
fn more_threads_than_processors_by_far() -> Result<()> {
    equals("ground_truth", &["64", "20000", "5"])
}

#[test]
fn two_million_short_lived_blocks_leave_nothing() -> Result<()> {
    equals("churn", &["2", "1000000"])
}

#[test]
fn a_slow_steady_leak() -> Result<()> {
    equals("steady_leak", &["200", "3"])
}

#[test]
fn a_bounded_cache() -> Result<()> {
    equals("growing_cache", &["500", "3"])
}

#[test]
fn a_cache_that_is_full_no_longer_grows_and_is_no_leak() -> Result<()> {
    let mut victim = Victim::start("filled_cache", &["5000", "3000", "12000"])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    victim.exit()?;
    truth.equals(&report)?;
    let site = report.list("/sites")?.iter().find(|site| symbols(site).first() == Some(&"fill"));
    let site = site.context("the cache")?;
    assert_eq!((&site["outstanding_count"], &site["acquired_count"]), (&5000.into(), &5000.into()));
    let rates = ["growth_count_per_s", "growth_bytes_per_s"].map(|key| site[key].as_f64());
    assert!(rates.iter().all(|rate| rate.is_none_or(|rate| rate.abs() < 1.0)), "{site}");
    let class = site["verdict"]["class"].as_str();
    assert!(matches!(class, Some("steady" | "settling")), "{}", site["verdict"]);
    assert_eq!(report.list("/findings")?, [] as [serde_json::Value; 0]);
    Ok(())
}

#[test]
fn new_and_delete_in_all_their_forms() -> Result<()> {
    let mut victim = Victim::start("cxx", &[])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    assert_eq!(report.total("heap")?, truth.sum("heap"), "{}", report.summary());
    // Behind `operator new`, in a library without frame pointers. The three excluded sites are allocated by functions
    // of the C++ library that are inlined into `round`.
    truth.without(&["vectors", "strings", "shared"]).compare(
        &report,
        Named::ByAnyFrame,
        &["heap"],
        true,
    )
}

#[test]
fn sixty_five_thousand_call_sites_at_once() -> Result<()> {
    let mut victim = Victim::start("many_sites", &[])?;
    // All call sites as JSON would be hundreds of megabytes; the sums cover all of them.
    let trace = Trace::attach(victim.pid(), &["--top", "100"])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    assert!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    assert_eq!(report.total("heap")?, truth.sum("heap"));
    let sites = report.list("/sites")?;
    let alone = |site: &serde_json::Value| site["outstanding_count"].as_u64() == Some(1);
    assert!(sites.len() == 100 && sites.iter().all(alone), "{}", report.summary());
    Ok(())
}
