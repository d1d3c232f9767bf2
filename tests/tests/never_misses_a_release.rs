//! Acquisitions of an allocator are recorded only if its release function is probed, too: otherwise the report says
//! what is not traced, and contains no false leak.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Report, Trace, Victim, compile::victim_with, trace::Refusal};

/// Warnings of a report about untraced functions.
fn untraced(report: &Report) -> Result<Vec<String>> {
    let all = report.list("/warnings")?.iter().map(|one| one.as_str().unwrap_or("").to_owned());
    Ok(all.filter(|one| one.contains("is not traced")).collect())
}

/// Status and reason of a probe.
fn probe(report: &Report, function: &str) -> Result<(String, String)> {
    let probes = report.list("/probes")?;
    let found = probes.iter().find(|probe| probe["function"] == function);
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let found = found.with_context(|| format!("no probe `{function}`"))?;
    Ok((text(&found["status"]), text(&found["why"])))
}

#[test]
fn a_pool_whose_release_the_kernel_refuses_is_left_out_and_the_rest_is_exact() -> Result<()> {
    let mut victim = Victim::start("unprobed", &[])?;
    let pair = ["--kind", "heap", "--alloc", "pool_get:size@0", "--free", "pool_put"];
    let trace = Trace::attach(victim.pid(), &pair)?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    let warnings = untraced(&report)?;
    let [warning] = warnings.as_slice() else { anyhow::bail!("one warning, not {warnings:?}") };
    ensure!(
        warning.contains("`pool_put` of unprobed cannot be probed: ") && !warning.ends_with(": "),
        "{warning}"
    );
    for function in ["pool_get", "pool_put"] {
        let (status, why) = probe(&report, function)?;
        ensure!(status == "refused" && !why.is_empty(), "{function}: {status} {why}");
    }
    truth.equals(&report)
}

#[test]
fn an_allocator_whose_free_the_kernel_refuses_is_refused_when_nothing_else_is_traced() -> Result<()>
{
    // Statically linked: there is no libc.so with an allocator that would be probed, too.
    let program = victim_with("unprobed", "unprobed_static", &["-DOWN_ALLOCATOR", "-static"])?;
    let victim = Victim::start_program(&program, &[])?;
    let pid = victim.pid().to_string();
    Refusal::of(&[], &["-p", &pid, "-f", "json", "--kind", "heap"])?
        .names("`free` of unprobed_static cannot be probed: ")
}

#[test]
fn an_allocator_whose_free_the_kernel_refuses_is_left_out_beside_descriptors() -> Result<()> {
    let program = victim_with("unprobed", "unprobed_own", &["-DOWN_ALLOCATOR"])?;
    let mut victim = Victim::start_program(&program, &[])?;
    let trace = Trace::attach(victim.pid(), &["--kind", "heap,mmap,fd"])?;
    victim.go()?;
    victim.truth()?;
    let report = trace.stop()?;
    ensure!(untraced(&report)?.len() == 1, "{:?}", report.at("/warnings")?);
    for kind in ["heap", "mmap"] {
        let total = report.total(kind)?;
        ensure!((total.acquired_count, total.outstanding_count) == (0, 0), "{kind}: {total:?}");
    }
    ensure!(report.total("fd")?.outstanding_count == 4, "{}", report.summary());
    ensure!(report.number("/accounting/unknown_frees")? == 0, "{}", report.at("/accounting")?);
    Ok(())
}

/// Traces a victim with that many pairs of functions, all of them given by options.
fn many_functions(count: usize) -> Result<()> {
    let mut victim = Victim::start("many_functions", &[&count.to_string()])?;
    // Also call sites of which nothing is outstanding.
    let mut options = ["--kind", "heap", "--top", "2000"].map(str::to_owned).to_vec();
    for number in 0..count {
        options.extend(["--alloc".to_owned(), format!("get_{number:04}:size@0")]);
        options.extend(["--free".to_owned(), format!("put_{number:04}")]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let trace = Trace::attach(victim.pid(), &options)?;
    victim.go()?;
    let truth = victim.truth()?;
    let report = trace.stop()?;
    ensure!(untraced(&report)?.is_empty(), "{:?}", report.at("/warnings")?);
    let on = |function: &&Value| {
        function["status"] == "on"
            && function["function"].as_str().is_some_and(|name| name.contains("t_"))
    };
    let probes = report.list("/probes")?.iter().filter(on).count();
    ensure!(probes == 2 * count, "{probes} of {} functions are probed", 2 * count);
    truth.equals(&report)
}

#[test]
fn more_than_208_functions() -> Result<()> {
    many_functions(120)
}

#[test]
fn more_than_1000_functions() -> Result<()> {
    many_functions(1100)
}
