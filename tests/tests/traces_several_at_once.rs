//! Several targets in one run: each has its own figures, and the others continue when one ends.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Trace, Truth, Victim, report::symbols};

fn of(pid: u32) -> impl Fn(&Value) -> bool {
    move |site| site.get("pid").and_then(Value::as_u64) == Some(u64::from(pid))
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
    for (truth, pid) in truths.iter().zip(&pids) {
        truth.sites_only().equals(&report.keep_sites(of(*pid))?)?;
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
