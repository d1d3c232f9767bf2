//! Probes as text: their locations, the cost of a hit, and which are not attached and why.
//!
//! Takes the report's probes, returns an aligned table. Functions that no object has share one line: they are
//! information, and there are many.

use std::io::{self, Write};

use super::Page;
use crate::{
    format::{count, file_name},
    report::{Probe, ProbeStatus},
};

const HEAD: [&str; 6] = ["function", "object", "offset", "hits", "cost of a hit", "note"];

/// The column of hits: numbers are right-aligned.
const HITS: usize = 3;

pub(super) fn write(probes: &[Probe], page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let number = |status| probes.iter().filter(|probe| probe.status == status).count();
    page.line("")?;
    page.line(&format!(
        "probes: {} on, {} refused, {} missing",
        number(ProbeStatus::On),
        number(ProbeStatus::Refused),
        number(ProbeStatus::Missing),
    ))?;
    let rows: Vec<[String; 6]> =
        probes.iter().filter(|probe| probe.status != ProbeStatus::Missing).map(cells).collect();
    if !rows.is_empty() {
        let head = HEAD.map(str::to_owned);
        let mut widths = [0; 6];
        for row in rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in [&head].into_iter().chain(&rows) {
            page.row(&aligned(row, widths))?;
        }
    }
    let missing: Vec<&str> = probes
        .iter()
        .filter(|probe| probe.status == ProbeStatus::Missing)
        .map(|probe| probe.function.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    page.line(&format!("  not in this target: {}", missing.join(", ")))
}

fn cells(probe: &Probe) -> [String; 6] {
    let absent = || "-".to_owned();
    let cost = match (probe.status, probe.emulated) {
        (ProbeStatus::Refused | ProbeStatus::Missing, _) => "OFF",
        (ProbeStatus::On, Some(true)) => "fast (emulated)",
        (ProbeStatus::On, Some(false)) => "SLOW (single-stepped)",
        (ProbeStatus::On, None) => "unknown",
    };
    [
        probe.function.clone(),
        probe.object.as_deref().map_or_else(absent, |path| file_name(path).to_owned()),
        probe.offset.map_or_else(absent, |offset| offset.to_string()),
        count(probe.hits),
        cost.to_owned(),
        probe.why.clone().unwrap_or_default(),
    ]
}

fn aligned(row: &[String; 6], widths: [usize; 6]) -> String {
    let mut line = String::new();
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        line += "  ";
        let blank = " ".repeat(width.saturating_sub(cell.chars().count()));
        line += &if column == HITS { blank + cell } else { cell.clone() + &blank };
    }
    line
}
