//! `--light`: memory growth by the stacks that touched the memory, without a probe in the target.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tests::{
    Report, Trace, Victim, compare::Named, compile::victim_with, report::symbols,
    service::changed_code,
};

/// The current value of a level of the first process, and its change.
fn level(report: &Report, name: &str) -> Result<(u64, i64)> {
    let level = report.at(&format!("/light/processes/0/{name}"))?;
    let now = level.get("now").and_then(Value::as_u64).context("a level")?;
    Ok((now, level.get("change").and_then(Value::as_i64).context("a change")?))
}

fn sockets(pid: u32) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        count += u64::from(fs::read_link(entry?.path())?.to_string_lossy().starts_with("socket:"));
    }
    Ok(count)
}

/// The victim, linked statically: another test's system-wide probes of libc are not in it.
fn alone() -> Result<Victim> {
    Victim::start_program(&victim_with("touches", "touches_static", &["-static"])?, &[])
}

#[test]
fn the_stack_that_grows_comes_first_and_every_page_is_counted() -> Result<()> {
    let mut victim = alone()?;
    let before = sockets(victim.pid())?;
    let trace = Trace::attach(victim.pid(), &["--light", "-i", "250ms"])?;
    ensure!(changed_code(victim.pid())?.is_empty(), "{:?}", changed_code(victim.pid())?);
    victim.go()?;
    let truth = victim.truth()?;
    ensure!(changed_code(victim.pid())?.is_empty(), "{:?}", changed_code(victim.pid())?);
    let after = sockets(victim.pid())?;
    let report = trace.stop()?;
    truth.compare(&report, Named::ByAnyFrame, &[], false)?;
    let first = report.list("/sites")?.iter().find(|site| {
        site.get("growth_bytes_per_s").and_then(Value::as_f64).is_some_and(|rate| rate > 0.0)
    });
    let first = first.context("a call site that grows")?;
    ensure!(symbols(first).first() == Some(&"write_most"), "{}", report.summary());
    ensure!(first["acquired_by"] == "page fault" && first["truncated"] == false, "{first}");
    ensure!(report.list("/probes")?.is_empty(), "no probe");
    // In this victim, memory becomes resident only by faults: the touched pages equal the growth.
    let (_, grown) = level(&report, "anonymous")?;
    let touched = i64::try_from(report.total("pages")?.outstanding_bytes)?;
    // The kernel counts per CPU; a reading of the sum may lack up to 64 pages of each.
    let slack = 4096 * 64 * i64::try_from(std::thread::available_parallelism()?.get())?;
    ensure!((grown - touched).abs() <= slack, "{grown} B grown, {touched} B touched");
    ensure!(level(&report, "brk")?.1 >= 50 * 4096, "{:?}", level(&report, "brk")?);
    ensure!(after - before == 20);
    ensure!(level(&report, "fds_by_type/socket")? == (after, 20));
    ensure!(report.number("/fds/by_type/socket")? == after);
    ensure!(report.at("/fds/opened")?.is_null() && report.at("/connections")?.is_null());
    Ok(())
}

#[test]
fn a_look_at_the_code_would_find_a_probe() -> Result<()> {
    let victim = alone()?;
    let trace = Trace::attach(victim.pid(), &[])?;
    ensure!(!changed_code(victim.pid())?.is_empty(), "probes are on and not found");
    trace.stop().map(drop)
}

#[test]
fn two_targets_have_figures_of_their_own_and_keep_them() -> Result<()> {
    let mut victims = [Victim::start("touches", &[])?, Victim::start("touches", &[])?];
    let pids = victims.each_ref().map(Victim::pid);
    let list = format!("{},{}", pids[0], pids[1]);
    let mut trace = Trace::start(&["-p", &list, "--light"])?;
    trace.wait_until_attached()?;
    for victim in &mut victims {
        victim.go()?;
    }
    let mut truths = Vec::new();
    for victim in &mut victims {
        truths.push(victim.truth()?);
        victim.exit()?;
    }
    // leaktrace ends by itself when its last target has ended.
    let report = trace.finish()?;
    // One program, so one row for both, with what each of them has. Pages touched in the last moment may be gone before
    // leaktrace reads them.
    let [first, second] = truths.as_slice() else { bail!("{} truths", truths.len()) };
    let both = first.plus(second).without(&["write_parts", "write_most"]);
    both.compare(&report, Named::ByAnyFrame, &[], false)?;
    let pages = report.list("/sites")?.iter().find(|site| symbols(site).contains(&"write_pages"));
    let of_each = pages.and_then(|site| site["by_process"].as_array()).context("no row")?;
    for (truth, pid) in truths.iter().zip(pids) {
        let own = of_each.iter().find(|one| one["pid"] == pid).context("a figure of each")?;
        ensure!(own["count"] == truth.site("write_pages")?.outstanding_count, "{of_each:?}");
    }
    let known = report.list("/light/processes")?;
    ensure!(known.iter().all(|one| one["rss"]["now"].as_u64() > Some(4 << 20)), "{known:?}");
    ensure!(known.len() == 2 && report.at("/fds")?.is_null(), "{known:?}");
    Ok(())
}
