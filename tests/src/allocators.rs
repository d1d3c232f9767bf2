//! Helpers of allocator tests: runs a victim under leaktrace, and reads the report's sentences about allocators.

use anyhow::{Result, ensure};

use crate::{Report, Trace, Truth, Victim};

/// Traces a victim from `go` until it prints its truth.
pub fn traced(mut victim: Victim, options: &[&str]) -> Result<(Truth, Report)> {
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.truth()?;
    Ok((truth, trace.stop()?))
}

/// The report's sentences about the allocators in use, in order.
pub fn in_use(report: &Report) -> Result<Vec<String>> {
    let all = report.list("/allocators")?.iter();
    let used = all.filter(|one| one["in_use"] == true);
    Ok(used.filter_map(|one| one["sentence"].as_str()).map(str::to_owned).collect())
}

/// The sentence that introduces the allocator behind `malloc`.
pub fn says(report: &Report, start: &str) -> Result<()> {
    let said = in_use(report)?;
    ensure!(said.first().is_some_and(|first| first.starts_with(start)), "{start}: {said:?}");
    Ok(())
}
