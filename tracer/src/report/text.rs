//! The report as text, for a person: losses first, then call sites, then how it was looked, and
//! what would mend missing names.
//!
//! Takes a [`Report`], hands on lines. Names and command lines come from the target, so nothing of
//! them that could steer a terminal passes. Adds and judges nothing; leaves out only what it says.

mod light;
mod names;
mod probes;
mod sites;

use std::io::{self, Write};

use tracer_common::{loss::Loss, stack::StackEnd};

use super::{Amount, Report, Target, Unwind};
use crate::format::{bytes, count, printable, seconds};

/// How much is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// At most so many call sites; all when `None`.
    pub top: Option<usize>,
    /// Lines are broken, and rows of tables cut with `…`, at so many columns; never when `None`, as
    /// in a file.
    pub width: Option<usize>,
}

/// Writes the report.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let mut page = Page { width: options.width, out };
    head(report, &mut page)?;
    accounting(report, &mut page)?;
    if let Some(light) = &report.light {
        light::write(light, report.fds.as_ref(), &mut page)?;
    }
    sites::write(report, options.top, &mut page)?;
    if report.light.is_none() {
        probes::write(&report.probes, &mut page)?;
    }
    names::write(&report.modules, &mut page)
}

/// Lines of a bounded width, without what steers a terminal.
struct Page<'a, W> {
    width: Option<usize>,
    out: &'a mut W,
}

impl<W: Write> Page<'_, W> {
    /// Prose: broken between words, so that nothing of it is ever missing.
    fn line(&mut self, line: &str) -> io::Result<()> {
        let line = printable(line.trim_end());
        let width = self.width.unwrap_or(usize::MAX);
        let indent = line.chars().take_while(|sign| *sign == ' ').count();
        let mut row = String::new();
        let mut columns = 0;
        for word in line.split_inclusive(' ') {
            let long = word.trim_end().chars().count();
            if columns + long > width && !row.trim().is_empty() {
                self.row(&row)?;
                row = " ".repeat(indent + CONTINUED);
                columns = indent + CONTINUED;
            }
            row += word;
            columns += word.chars().count();
        }
        self.row(&row)
    }

    /// A row of a table: cut, so that columns stay columns.
    fn row(&mut self, row: &str) -> io::Result<()> {
        writeln!(self.out, "{}", cut(printable(row.trim_end()), self.width.unwrap_or(usize::MAX)))
    }
}

/// How much further than its beginning the rest of a broken line is indented.
const CONTINUED: usize = 4;

/// At most so many columns, the last of them `…` if something is missing.
fn cut(text: String, width: usize) -> String {
    if text.chars().count() <= width {
        return text;
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

fn head(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let window = &report.window;
    page.line(&format!(
        "leaktrace {}: traced {} from {}, attached in {} ms",
        report.version,
        seconds(window.duration_s),
        window.started_at,
        count(window.attach_ms),
    ))?;
    for target in &report.targets {
        page.line(&format!("  {}", described(target)))?;
        page.line(&format!("      {}", target.cmdline.join(" ")))?;
    }
    page.line(&format!("  on {} {}", report.host.kernel, report.host.arch))?;
    let several = report.targets.len() > 1;
    for allocator in report.allocators.iter().filter(|one| one.in_use) {
        let whose = if several { format!(" (pid {})", allocator.pid) } else { String::new() };
        page.line(&format!("  allocator: {}{whose}", allocator.sentence))?;
    }
    for warning in &report.warnings {
        page.line(&format!("WARNING: {warning}"))?;
    }
    page.line("")?;
    for (kind, total) in &report.totals {
        let about = about(total.error.is_some());
        page.line(&format!(
            "{:<6} outstanding {about}{} in {about}{}{}; acquired {about}{} in {about}{}{}, released {about}{} in {about}{}",
            kind.name(),
            bytes(total.outstanding_bytes),
            count(total.outstanding_count),
            off_by(total.error.and_then(|error| error.outstanding)),
            bytes(total.acquired_bytes),
            count(total.acquired_count),
            inherited(total.inherited_bytes, total.inherited_count),
            bytes(total.released_bytes),
            count(total.released_count),
        ))?;
    }
    Ok(())
}

/// What stands before a figure that is an estimate.
const fn about(estimated: bool) -> &'static str {
    if estimated { "~" } else { "" }
}

/// How far an estimate may be off.
fn off_by(error: Option<Amount>) -> String {
    error.map_or_else(String::new, |Amount { bytes: most, count: number }| {
        format!(" (± {} in {})", bytes(most), count(number))
    })
}

/// How the budget was kept, and what that means for the figures.
fn budget(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let Some(budget) = report.accounting.budget else { return Ok(()) };
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let cost = budget.cost.map_or_else(|| "not known yet".to_owned(), percent);
    page.line(&format!(
        "budget {} of the targets' processor time; tracing takes {cost}",
        percent(budget.share)
    ))?;
    if !report.accounting.estimated {
        return page.line("       traced all the time: the figures are exact");
    }
    let pace = budget.pace.map_or_else(String::new, |pace| {
        format!(", in which the targets got {} of their usual work done", percent(pace))
    });
    page.line(&format!(
        "       ESTIMATED: recorded {} of {} in {} windows{pace}; all figures marked ~ are estimates from that, wrong by \
         more than what follows ± once in twenty times",
        seconds(budget.recorded_s),
        seconds(report.window.duration_s),
        count(budget.windows)
    ))?;
    page.line("       what is released between two windows may count as outstanding until its address is used again")
}

/// What came with forks, where anything did.
fn inherited(total: u64, number: u64) -> String {
    if number == 0 {
        return String::new();
    }
    format!(", inherited {} in {}", bytes(total), count(number))
}

fn described(target: &Target) -> String {
    let rss = target.rss_bytes.map_or_else(|| "unknown".to_owned(), bytes);
    let state = match target.exited {
        None => format!("rss {rss}"),
        Some(exit) => match (exit.signal, exit.status) {
            (Some(signal), _) => format!("killed by signal {signal}, last rss {rss}"),
            (None, Some(status)) => format!("ended with status {status}, last rss {rss}"),
            (None, None) => format!("ended, last rss {rss}"),
        },
    };
    format!("{} (pid {}): {state}", target.exe.as_deref().unwrap_or("unknown program"), target.pid)
}

fn accounting(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let accounting = &report.accounting;
    let acquired: u64 = report.totals.values().map(|total| total.acquired_count).sum();
    let lost = accounting.lost.values().copied().fold(0_u64, u64::saturating_add);
    if lost > 0 {
        page.line("")?;
        page.line(&format!(
            "LOST {}: THE FIGURES ARE INCOMPLETE, what is outstanding may be too high or too low",
            count(lost)
        ))?;
        for (reason, cases) in &accounting.lost {
            let known = Loss::ALL.into_iter().find(|loss| loss.name() == reason);
            let sentence = known.map_or(reason.as_str(), |loss| loss.sentence());
            page.line(&format!("  {:>12}  {sentence}", count(*cases)))?;
        }
        page.line("")?;
    }
    budget(report, page)?;
    let mut seen = format!("seen   {} events", count(accounting.events));
    if lost == 0 {
        seen += ", lost 0";
    }
    page.line(&format!(
        "{seen}; {} releases of what was acquired before or never; {} failed acquisitions",
        count(accounting.unknown_frees),
        count(accounting.failed_acquires),
    ))?;
    page.line(&format!(
        "stacks {} of {} cut before the thread's bottom ({})",
        count(accounting.truncated_stacks),
        count(acquired),
        share(accounting.truncated_stacks, acquired),
    ))?;
    for end in StackEnd::ALL {
        if let Some(cut) = accounting.truncated_by.get(end.name()) {
            page.line(&format!("       {} cut: {}", count(*cut), end.sentence()))?;
        }
    }
    page.line(&tables(&accounting.unwind))?;
    let own = accounting.collector.rss_bytes.map_or_else(|| "unknown".to_owned(), bytes);
    page.line(&format!(
        "cost   leaktrace itself used {} of processor time and {own} of memory",
        seconds(accounting.collector.cpu_s),
    ))
}

/// What leads through code without frame pointers.
fn tables(unwind: &Unwind) -> String {
    let some = |count_of: u64, what: &str| match count_of {
        0 => String::new(),
        _ => format!("; {} {what}", count(count_of)),
    };
    format!(
        "       unwind tables of {} objects take {}{}{}",
        count(unwind.objects),
        bytes(unwind.bytes),
        some(unwind.loading, "are being made"),
        some(unwind.without, "have none"),
    )
}

/// `0.1 %`; some is never written as none, nor almost all as all.
fn share(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        small if small < 0.1 => "under 0.1 %".to_owned(),
        most if most > 99.9 && part < whole => "over 99.9 %".to_owned(),
        other => format!("{other:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn text(report: &Report, top: Option<usize>, width: Option<usize>) -> String {
        let mut out = Vec::new();
        write(report, &Options { top, width }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 80, 120] {
            for line in text(&sample::lossy(), None, Some(width)).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn nothing_of_the_target_steers_the_terminal() {
        let text = text(&sample::lossy(), None, None);
        assert!(!text.chars().any(|sign| sign.is_control() && sign != '\n'));
    }

    #[test]
    fn losses_are_said_in_capitals_and_none_is_said_too() {
        assert!(text(&sample::lossy(), None, None).contains("\nLOST 1,852: "));
        let calm = text(&sample::sample(), None, None);
        assert!(calm.contains("lost 0;") && !calm.contains("LOST"));
    }

    #[test]
    fn a_reason_of_a_later_version_is_shown_by_its_key() {
        let mut report = sample::sample();
        report.accounting.lost.insert("some_later_reason".to_owned(), 3);
        assert!(text(&report, None, None).contains("3  some_later_reason"));
    }

    #[test]
    fn shares_never_round_to_none_or_all() {
        for (part, whole, text) in [
            (0, 0, "0 %"),
            (1, 1_000_000, "under 0.1 %"),
            (1, 3, "33.3 %"),
            (999_999, 1_000_000, "over 99.9 %"),
            (7, 7, "100.0 %"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }
}
