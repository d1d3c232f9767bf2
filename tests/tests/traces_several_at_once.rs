//! Several targets in one run: each has its own figures, and the others continue when one ends.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Trace, Truth, Victim, report::symbols};

/// Bytes of heap that one process holds at a call site.
fn held_by(site: &Value, pid: u32) -> u64 {
    if site["kind"] != "heap" {
        return 0;
    }
    let of_process = site["by_process"].as_array().into_iter().flatten();
    match of_process.clone().find(|one| one["pid"] == pid) {
        Some(one) => one["bytes"].as_u64().unwrap_or(0),
        None if of_process.count() == 0 && site["pid"] == pid => {
            site["outstanding_bytes"].as_u64().unwrap_or(0)
        }
        None => 0,
    }
}

#[test]
fn three_targets_of_which_one_ends_early() -> Result<()> {
    let mut victims = Vec::new();
    for seed in ["11", "12", "13"] {
        victims.push(Victim::start("ground_truth", &["2", "60000", seed])?);
    }
    let pids: Vec<u32> = victims.iter().map(Victim::pid).collect();
    let list = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut trace = Trace::start(&["-p", &list])?;
    trace.wait_until_attached()?;
    let mut truths: Vec<Truth> = Vec::new();
    for victim in &mut victims {
        victim.go()?;
    }
    for (at, victim) in victims.iter_mut().enumerate() {
        truths.push(victim.truth()?);
        if at == 0 {
            // Resources that it held stay in the figures.
            victim.exit()?;
        }
    }
    let report = trace.stop()?;
    // They run the same program: each call site has the sums of all three.
    let sum = truths.iter().map(Truth::sites_only).reduce(|sum, one| sum.plus(&one));
    sum.context("no truth")?.equals(&report)?;
    for (truth, pid) in truths.iter().zip(&pids) {
        let held = truth.sum("heap").outstanding_bytes;
        let said: u64 = report.list("/sites")?.iter().map(|site| held_by(site, *pid)).sum();
        ensure!(said >= held, "{pid} holds {held}, {said} reported");
    }
    let ended: Vec<bool> =
        report.list("/targets")?.iter().map(|one| !one["exited"].is_null()).collect();
    ensure!(ended == [true, false, false], "{ended:?}");
    ensure!(report.number("/accounting/unknown_frees")? == 0, "{}", report.summary());
    Ok(())
}

#[test]
fn two_hundred_threads() -> Result<()> {
    let mut victim = Victim::start("ground_truth", &["200", "4000", "7"])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    ensure!(report.list("/sites")?.iter().all(|site| !symbols(site).is_empty()), "stacks");
    truth.equals(&report)
}
