//! Stacks of real programs under load reach the bottom of the thread's stack, through libraries without frame pointers.
//!
//! That holds from when unwind tables are loaded: on a busy machine that takes longer, and earlier stacks say so.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Load, Report, Trace, programs::program, report::Amounts};

/// At most one stack in this many may be truncated.
const ONE_IN: u64 = 200;
/// The reason of truncated stacks in the first moments, which a busy machine prolongs.
const LOADING: &str = "unwind table still being loaded";

#[expect(clippy::print_stdout, reason = "a measured figure is part of the test's outcome")]
fn reaches(name: &str) -> Result<()> {
    let program = program(name)?;
    let service = (program.start)()?;
    let load = Load::start(&service, program.demand, Duration::from_secs(60))?;
    let report = Trace::attach(service.pid(), &["-d", "3s"])?.finish()?;
    let answered = load.end()?;
    ensure!(report.lost()?.is_empty(), "lost {}", report.lost()?);
    let mut taken = 0;
    for kind in ["heap", "mmap"] {
        taken += report.total(kind)?.acquired_count;
    }
    let reasons = reasons(&report)?;
    let early = reasons.get(LOADING).map_or(0, |reason| reason.count);
    taken -= early;
    let cut = report.number("/accounting/truncated_stacks")? - early;
    println!("{name}: {taken} stacks, {cut} cut, {early} before them; {answered} requests");
    ensure!(taken > 1000, "only {taken} stacks were taken");
    ensure!(cut * ONE_IN <= taken, "{cut} of {taken} stacks are cut:\n{}", listed(&reasons)?);
    Ok(())
}

/// Stacks truncated for one reason.
#[derive(Default)]
struct Cut {
    count: u64,
    /// Stack of the biggest such call site.
    biggest: u64,
    /// Last frame of that stack.
    example: String,
}

/// Truncated stacks by reason.
fn reasons(report: &Report) -> Result<BTreeMap<&str, Cut>> {
    let mut reasons: BTreeMap<&str, Cut> = BTreeMap::new();
    for site in report.list("/sites")? {
        let Some(why) = site.get("truncated_why").and_then(Value::as_str) else { continue };
        let count = Amounts::read(site)?.acquired_count;
        let cut = reasons.entry(why).or_default();
        cut.count += count;
        if count > cut.biggest {
            cut.biggest = count;
            cut.example = tests::report::symbols(site).join(" <- ");
        }
    }
    Ok(reasons)
}

fn listed(reasons: &BTreeMap<&str, Cut>) -> Result<String> {
    let mut text = String::new();
    for (why, Cut { count, biggest, example }) in reasons {
        writeln!(text, "{count} × {why}, such as {biggest} × {example}")?;
    }
    Ok(text)
}

#[test]
fn libevent() -> Result<()> {
    reaches("libevent")
}

#[test]
fn uwebsockets() -> Result<()> {
    reaches("uwebsockets")
}

#[test]
fn nginx() -> Result<()> {
    reaches("nginx")
}

#[test]
fn nginx_tls() -> Result<()> {
    reaches("nginx_tls")
}

#[test]
fn memcached() -> Result<()> {
    reaches("memcached")
}

#[test]
fn redis() -> Result<()> {
    reaches("redis")
}

#[test]
fn node() -> Result<()> {
    reaches("node")
}

#[test]
fn python() -> Result<()> {
    reaches("python")
}
