//! Call sites as text: one paragraph each, worst first.
//!
//! Takes the report's sites in their order, returns lines. Does not reorder; says what it leaves out.

use std::io::{self, Write};

use super::{Estimate, Page, cut, inherited, inherited_count, place};
use crate::{
    format::{bytes, bytes_per_s, count, count_per_s, percent, seconds},
    report::{Frame, Orphans, Report, Site, Threads, VerdictClass},
};

pub(super) fn write(
    report: &Report,
    top: Option<usize>,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let shown = top.unwrap_or(usize::MAX).min(report.sites.len());
    page.line("")?;
    if report.sites.is_empty() {
        page.line("no call site has allocated anything")?;
    } else {
        page.line(&format!("call sites, worst first ({shown} of {})", report.sites.len()))?;
    }
    let several = report.targets.len() > 1;
    for (rank, site) in (1_usize..).zip(report.sites.iter().take(shown)) {
        page.line("")?;
        paragraph(rank, site, several, page)?;
    }
    let rest = report.sites.iter().skip(shown);
    let (mut left_out, mut open) = (0, 0);
    for site in rest {
        left_out += site.outstanding_bytes;
        open += if site.kind.is_descriptor() { site.outstanding_count } else { 0 };
    }
    let more = report.sites.len() - shown;
    if more == 0 {
        return Ok(());
    }
    let noun = if more == 1 { "site" } else { "sites" };
    page.line("")?;
    let open = match open {
        0 => String::new(),
        1 => " and 1 open descriptor".to_owned(),
        _ => format!(" and {} open descriptors", count(open)),
    };
    page.line(&format!("… {} more call {noun} with {}{open}", count(more as u64), bytes(left_out)))
}

/// The process of a call site, where there are several.
fn whose(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn paragraph(
    rank: usize,
    site: &Site,
    several: bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let whose = whose(site.pid.filter(|_| several));
    let estimate = Estimate(site.error);
    let held = if site.kind.is_thread() {
        format!(
            "thread{whose}  {} of {} not released",
            count(site.outstanding_count),
            count(site.acquired_count)
        )
    } else if site.kind.is_descriptor() {
        format!(
            "{}{whose}  {} of {}{} open",
            site.kind_name(),
            estimate.open(site.outstanding_count),
            estimate.mark(),
            count(site.acquired_count),
        )
    } else {
        format!(
            "{}{whose}  {} of {}{} outstanding",
            site.kind.name(),
            estimate.outstanding(site.outstanding_bytes, site.outstanding_count, ", "),
            estimate.mark(),
            count(site.acquired_count),
        )
    };
    page.line(&format!("#{rank}  {held}  {}", growth(site)))?;
    let asked = site.asked().map_or_else(|| "unknown stack".to_owned(), place);
    page.line(&format!("    {asked}  by {}", site.acquired_by))?;
    let ages = site.age_s.map_or_else(String::new, |age| {
        format!(
            "; ages {} to {}, median {}",
            seconds(age.min),
            seconds(age.max),
            seconds(age.median)
        )
    });
    if let Some(threads) = site.threads {
        page.line(&format!("    {}", states(threads, site.resident_bytes)))?;
    }
    if let Some(arena) = &site.arena {
        page.line(&format!("    {}", arena.sentence()))?;
    }
    page.line(&if site.kind.is_thread() {
        format!(
            "    started {}, released {}{ages}",
            count(site.acquired_count),
            count(site.released_count)
        )
    } else if site.kind.is_descriptor() {
        format!(
            "    opened {}{}, closed {}{ages}",
            estimate.opened(site.acquired_count),
            inherited_count(site.inherited.count),
            estimate.closed(site.released_count)
        )
    } else {
        format!(
            "    acquired {}{}, released {}{ages}",
            estimate.acquired(site.acquired_bytes, site.acquired_count),
            inherited(site.inherited.bytes, site.inherited.count),
            estimate.released(site.released_bytes, site.released_count)
        )
    })?;
    if let Some(orphans) = site.orphans.filter(|orphans| orphans.count > 0) {
        let of = if site.kind.has_bytes() {
            format!("{} in {}", bytes(orphans.bytes), count(orphans.count))
        } else {
            count(orphans.count)
        };
        page.line(&format!("    {of} left behind by {}", leaving(orphans)))?;
    }
    if let Some(lost) = site.lost {
        page.line(&format!(
            "    {} in {} that no pointer refers to any more",
            bytes(lost.bytes),
            count(lost.count)
        ))?;
    }
    verdict(site, page)?;
    stack(site, page)
}

/// How many closed connections left it, and of how many, if known.
fn leaving(orphans: Orphans) -> String {
    match (orphans.share, orphans.compared()) {
        (Some(share), Some(all)) => {
            format!("{} of {} closed connections", percent(share), count(all))
        }
        _ if orphans.connections == 1 => "1 closed connection".to_owned(),
        _ => format!("{} closed connections", count(orphans.connections)),
    }
}

/// The states of threads, and what their stacks take.
fn states(threads: Threads, resident_bytes: Option<u64>) -> String {
    let Threads { alive, ended, stack_bytes } = threads;
    format!(
        "{} alive, {} ended and not joined; stacks: {} resident of {} address space",
        count(alive),
        count(ended),
        resident_bytes.map_or_else(|| "?".to_owned(), bytes),
        bytes(stack_bytes)
    )
}

fn growth(site: &Site) -> String {
    if !site.kind.has_bytes() {
        return site
            .growth_count_per_s
            .map_or_else(|| "not enough data yet".to_owned(), count_per_s);
    }
    match (site.growth_bytes_per_s, site.growth_count_per_s) {
        (Some(bytes), Some(count)) => format!("{} ({})", bytes_per_s(bytes), count_per_s(count)),
        (Some(bytes), None) => bytes_per_s(bytes),
        (None, Some(count)) => count_per_s(count),
        (None, None) => "not enough data yet".to_owned(),
    }
}

fn verdict(site: &Site, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let verdict = &site.verdict;
    if verdict.class == VerdictClass::Unknown {
        return Ok(());
    }
    let mut class = verdict.class.name().to_owned();
    if verdict.class.is_accusation() {
        class.make_ascii_uppercase();
    }
    page.line(&format!("    {class} ({:.2}): {}", verdict.confidence, verdict.reasons.join("; ")))
}

/// One row per level. A name too long for the line loses its end; the source behind it is kept.
fn stack(site: &Site, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    for (level, frame) in site.frames.iter().enumerate() {
        let is_jit = |at: Option<usize>| {
            at.and_then(|at| site.frames.get(at)).is_some_and(Frame::is_nameless_jit)
        };
        // Of generated code without names, one row says all.
        if is_jit(Some(level)) && is_jit(level.checked_sub(1)) {
            continue;
        }
        let mut behind = frame.source().map_or_else(String::new, |source| format!("  {source}"));
        if frame.tail_call {
            behind += "  [left by a tail jump]";
        }
        if frame.inlined {
            behind += "  [inlined]";
        }
        if let (None, Some(why)) = (&frame.symbol, &frame.why_unnamed) {
            behind = format!("{behind}  [no name: {why}]");
        }
        let before = format!("      {level:>3}  ");
        let taken = before.chars().count() + behind.chars().count();
        let space = page.width.map_or(usize::MAX, |width| width.saturating_sub(taken));
        page.row(&format!("{before}{}{behind}", cut(frame.short_label(), space.max(LEAST_NAME))))?;
    }
    if site.truncated {
        let why = site.truncated_why.as_deref().unwrap_or("reason unknown");
        page.row(&format!("        …  [truncated: {why}]"))?;
    }
    Ok(())
}

/// A shorter name would not be recognizable; then the line loses its end instead.
const LEAST_NAME: usize = 16;
