//! What tests of allocators share: a victim's run, and the sentences that say who allocates.

use anyhow::{Result, ensure};

use crate::{Report, Trace, Truth, Victim};

/// Traces a victim from `go` to its truth.
pub fn traced(mut victim: Victim, options: &[&str]) -> Result<(Truth, Report)> {
    let trace = Trace::attach(victim.pid(), options)?;
    victim.go()?;
    let truth = victim.truth()?;
    Ok((truth, trace.stop()?))
}

/// The sentences on allocators in use, in order.
pub fn in_use(report: &Report) -> Result<Vec<String>> {
    let all = report.list("/allocators")?.iter();
    let used = all.filter(|one| one["in_use"] == true);
    Ok(used.filter_map(|one| one["sentence"].as_str()).map(str::to_owned).collect())
}

/// The first allocator in use, the one that `malloc` means, is introduced so.
pub fn says(report: &Report, start: &str) -> Result<()> {
    let said = in_use(report)?;
    ensure!(said.first().is_some_and(|first| first.starts_with(start)), "{start}: {said:?}");
    Ok(())
}
