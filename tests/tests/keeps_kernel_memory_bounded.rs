//! The maps use the memory that the report says, which equals the prediction of `leaktrace doctor` and stays within the
//! documented limit.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use tests::{Trace, Victim, trace::leaktrace};

const MIB: u64 = 1 << 20;

/// The first kernel that reports a map's memory; older ones report another number (`docs/report.schema.json`).
const REPORTS_MEMORY: (u32, u32) = (6, 4);

/// A map that only the programs still hold (what a target starts as, `BLANK_PROCESS`) has no descriptor that could be
/// read: 10,264 bytes and the map's own.
const WITHOUT_DESCRIPTOR: u64 = 12 << 10;

/// The kernel's own numbers of a process's maps: by map id, value size and memory in bytes.
fn maps(pid: u32) -> Result<BTreeMap<u64, (u64, u64)>> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that was closed meanwhile is no map.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let number = |key: &str| {
            info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(bytes)) = (number("map_id:"), number("memlock:")) {
            maps.insert(id, (number("value_size:").unwrap_or(0), bytes));
        }
    }
    Ok(maps)
}

/// Number of possible CPUs.
fn possible_cpus() -> Result<u64> {
    let ranges = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = ranges.trim().rsplit([',', '-']).next().context("a list of processors")?;
    Ok(last.parse::<u64>()? + 1)
}

fn kernel() -> Result<(u32, u32)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).context("a release with two numbers")
}

/// Memory of maps by default according to `leaktrace doctor`, bytes.
fn predicted() -> Result<f64> {
    let Output { stdout, .. } = Command::new(leaktrace()?).arg("doctor").output()?;
    let text = String::from_utf8(stdout)?;
    let row = text.lines().find(|line| line.contains("kernel memory")).context("a row")?;
    let mut words = row.split_whitespace().skip_while(|word| *word != "memory").skip(1);
    let (figure, unit) = words.next().zip(words.next()).context("a figure")?;
    ensure!(unit == "MiB", "{row}");
    Ok(figure.parse::<f64>()? * MIB as f64)
}

#[test]
fn the_report_equals_the_kernels_figures_and_the_doctors_prediction() -> Result<()> {
    let mut victim = Victim::start("ground_truth", &["2", "1000", "5"])?;
    let trace = Trace::attach(victim.pid(), &[])?;
    let counted = maps(trace.pid())?;
    victim.go()?;
    victim.truth()?;
    let report = trace.stop()?;
    let maps_bytes = report.number("/accounting/collector/kernel_bytes")?;
    let unwind_bytes = report.number("/accounting/collector/kernel_unwind_bytes")?;
    // Only pages of unwind tables have entries of 4,096 bytes.
    let (unwind, others): (Vec<_>, Vec<_>) =
        counted.values().partition(|(value_size, _)| *value_size == 4096);
    let sum = |of: Vec<&(u64, u64)>| of.into_iter().map(|(_, bytes)| bytes).sum::<u64>();
    ensure!(sum(unwind) == unwind_bytes, "{unwind_bytes}: {counted:?}");
    let others = sum(others);
    ensure!(
        others <= maps_bytes && maps_bytes - others <= WITHOUT_DESCRIPTOR,
        "{maps_bytes} and {others}: {counted:?}"
    );
    ensure!(unwind_bytes >= report.number("/accounting/unwind/bytes")?);
    ensure!(unwind_bytes <= 129 * MIB, "{unwind_bytes}");
    if kernel()? < REPORTS_MEMORY {
        return Ok(());
    }
    let most = if possible_cpus()? <= 2 { 64 } else { 128 };
    ensure!(possible_cpus()? > 256 || maps_bytes <= most * MIB, "{maps_bytes}");
    let predicted = predicted()?;
    ensure!((maps_bytes as f64 / predicted - 1.0).abs() < 0.01, "{maps_bytes} for {predicted}");
    Ok(())
}
