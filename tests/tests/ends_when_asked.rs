//! However a run ends, it ends with a report; several targets make one run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Report, Trace, Truth, Victim};

/// A victim traced from before its work until it is done.
fn done(options: &[&str]) -> Result<(Victim, Trace, Truth)> {
    let mut victim = Victim::start("steady_leak", &["1000", "1"])?;
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.truth()?;
    Ok((victim, trace, truth))
}

#[test]
fn sigint_and_sigterm_end_it_with_a_report() -> Result<()> {
    for signal in ["INT", "TERM"] {
        let (_victim, trace, truth) = done(&[])?;
        truth.equals(&trace.stop_by(signal)?)?;
    }
    Ok(())
}

#[test]
fn a_duration_ends_it_by_itself() -> Result<()> {
    let victim = Victim::start("steady_leak", &[])?;
    let trace = Trace::attach(victim.pid(), &["-d", "1500ms"])?;
    let start = Instant::now();
    let report = trace.finish()?;
    let traced = report.at("/window/duration_s")?.as_f64().context("a number")?;
    ensure!((1.4..2.5).contains(&traced), "traced for {traced} s");
    ensure!(start.elapsed() < Duration::from_secs(20), "ended after {:?}", start.elapsed());
    ensure!(report.at("/targets/0/exited")?.is_null(), "the target runs");
    Ok(())
}

#[test]
fn a_target_that_ends_leaves_a_report() -> Result<()> {
    let (mut victim, trace, truth) = done(&[])?;
    victim.kill()?;
    let report = trace.finish()?;
    ensure!(!report.at("/targets/0/exited")?.is_null(), "the target has ended");
    truth.equals(&report)
}

#[test]
fn a_process_is_found_by_its_name() -> Result<()> {
    let mut victim = Victim::start("growing_cache", &["500", "1"])?;
    let mut trace = Trace::start(&["-n", "growing_cache"])?;
    trace.wait_until_attached()?;
    victim.go()?;
    let truth = victim.truth()?;
    truth.equals(&trace.stop()?)
}

#[test]
fn two_processes_are_distinguished() -> Result<()> {
    let mut victims =
        [Victim::start("steady_leak", &["1000", "1"])?, Victim::start("failing", &[])?];
    let pids = victims.each_ref().map(|victim| victim.pid().to_string());
    let mut trace = Trace::start(&["-p", &pids.join(",")])?;
    trace.wait_until_attached()?;
    for victim in &mut victims {
        victim.go()?;
    }
    let truths = [victims[0].truth()?, victims[1].truth()?];
    let report = trace.stop()?;
    for (truth, pid) in truths.iter().zip(&pids) {
        truth.sites_only().equals(&of_target(&report, pid)?)?;
    }
    let both = truths[0].sum("heap").outstanding_count + truths[1].sum("heap").outstanding_count;
    ensure!(report.total("heap")?.outstanding_count == both, "{}", report.summary());
    let named: Vec<_> = report
        .list("/targets")?
        .iter()
        .filter_map(|target| target.get("pid").and_then(Value::as_u64))
        .map(|pid| pid.to_string())
        .collect();
    ensure!(named == pids, "targets {named:?}, asked for {pids:?}");
    Ok(())
}

/// The report with the call sites of one target only.
fn of_target(report: &Report, pid: &str) -> Result<Report> {
    report.keep_sites(|site| {
        site.get("pid").and_then(Value::as_u64).map(|of| of.to_string()).as_deref() == Some(pid)
    })
}
