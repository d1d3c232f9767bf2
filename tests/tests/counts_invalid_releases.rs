//! Releases of what is not there are counted by call site: closes of descriptors that are not open, and releases of blocks
//! that have been released before.

use anyhow::Result;
use tests::{
    Trace, Victim,
    invalid_releases::{of_victim, reported},
};

#[test]
fn of_four_threads_at_full_speed() -> Result<()> {
    let mut victim = Victim::start("invalid_releases", &[])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.answer()?;
    let report = trace.stop()?;
    assert_eq!(report.lost_by_target()?, "");
    assert_eq!(reported(&report)?, of_victim(&truth)?, "{}", report.summary());
    // They open and acquire nothing.
    assert_eq!(report.number("/fds/opened")?, 40_000, "{}", report.at("/fds")?);
    assert_eq!(report.number("/fds/closed")?, 40_000, "{}", report.at("/fds")?);
    victim.exit()?;
    Ok(())
}

#[test]
fn closes_of_other_descriptors_are_none() -> Result<()> {
    let mut victim = Victim::start("descriptors", &["threads", "4", "2000", "1"])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    victim.answer()?;
    let report = trace.stop()?;
    assert!(report.number("/fds/opened")? > 1_000, "{}", report.at("/fds")?);
    // One function of this victim tries what has no effect.
    let names: Vec<String> = reported(&report)?.into_keys().map(|(name, ..)| name).collect();
    assert_eq!(names, ["none_of_these"], "{}", report.at("/invalid_releases")?);
    victim.exit()?;
    Ok(())
}
