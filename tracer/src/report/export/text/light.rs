//! Growth as the kernel counts it, as text.

use std::io::{self, Write};

use super::Page;
use crate::{
    format::{bytes, bytes_per_s, count, count_per_s, seconds},
    report::{Fds, Growing, Level, Light},
};

pub(super) fn write(
    light: &Light,
    fds: Option<&Fds>,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    page.line("")?;
    page.line("no probes: page faults are traced and kernel counters are read (--light)")?;
    let several = light.processes.len() > 1;
    for process in &light.processes {
        if several {
            page.line(&format!("pid {}", process.pid))?;
        }
        memory(process, page)?;
        descriptors(process, page)?;
    }
    if let Some(left) = fds.and_then(|fds| fds.seconds_to_limit) {
        page.line(&format!("the limit of file descriptors will be reached in {}", seconds(left)))?;
    }
    Ok(())
}

fn memory(process: &Growing, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    for (name, level) in process.memory() {
        let rate = level.growth_per_s.map(bytes_per_s);
        page.line(&row(name, &bytes(level.now), &change(level, bytes), rate))?;
    }
    Ok(())
}

fn descriptors(process: &Growing, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let own = process.fds.as_ref().map(|level| ("fds", level));
    let by_type = process.fds_by_type.iter().map(|(name, level)| (name.name(), level));
    for (rank, (name, level)) in own.into_iter().chain(by_type).enumerate() {
        let name = if rank == 0 { name.to_owned() } else { format!("  {name}") };
        let rate = level.growth_per_s.map(count_per_s);
        page.line(&row(&name, &count(level.now), &change(*level, count), rate))?;
    }
    Ok(())
}

fn row(name: &str, now: &str, change: &str, rate: Option<String>) -> String {
    let rate = rate.unwrap_or_else(|| "not enough data yet".to_owned());
    format!("  {name:<12} {now:>10}  {change:>11} since the start  {rate:>12}")
}

fn change(level: Level, write: fn(u64) -> String) -> String {
    let sign = if level.change < 0 { "-" } else { "+" };
    format!("{sign}{}", write(level.change.unsigned_abs()))
}
