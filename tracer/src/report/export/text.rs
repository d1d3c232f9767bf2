//! The report as text, for people: the answer and the findings first, then losses, call sites, the probes, and how to get
//! missing names.
//!
//! Takes a [`Report`], returns lines. Names and command lines come from the target, so their control characters are
//! removed. Adds and judges nothing; says what it leaves out.

mod connections;
mod fds;
mod findings;
mod invalid_releases;
mod light;
mod memory;
mod names;
mod objects;
mod probes;
mod sites;
mod table;

use std::io::{self, Write};

use tracer_common::stack::StackEnd;

use super::Options;
use crate::{
    format::{bytes, count, count_per_s, in_percent, percent, printable, seconds},
    report::{Amount, Errors, Frame, Report, Target, Unwind, Zombies},
};

/// Writes the report.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let mut page = Page { width: Some(options.width.unwrap_or(WIDEST)), out };
    title(report, &mut page)?;
    findings::write(report, options, &mut page)?;
    head(report, &mut page)?;
    memory::write(report, &mut page)?;
    accounting(report, &mut page)?;
    invalid_releases::write(&report.invalid_releases, &mut page)?;
    if let Some(objects) = &report.objects {
        objects::write(objects, report, &mut page)?;
    }
    if let Some(light) = &report.light {
        light::write(light, report.fds.as_ref(), &mut page)?;
    } else if let Some(fds) = &report.fds {
        fds::write(fds, report, &mut page)?;
    }
    if let Some(connections) = &report.connections {
        connections::write(connections, &report.sites, &mut page)?;
    }
    sites::write(report, options.top, &mut page)?;
    if report.light.is_none() {
        probes::write(&report.probes, &mut page)?;
    }
    names::write(&report.modules, &mut page)
}

/// The widest line outside a terminal: pagers, mails and tickets wrap longer ones anywhere.
const WIDEST: usize = 200;

/// Writes lines of a bounded width, without control characters.
struct Page<'a, W> {
    width: Option<usize>,
    out: &'a mut W,
}

impl<W: Write> Page<'_, W> {
    /// Prose: wrapped between words, so that no text is lost.
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

    /// A table row: cut, so that columns stay aligned.
    fn row(&mut self, row: &str) -> io::Result<()> {
        writeln!(self.out, "{}", cut(printable(row.trim_end()), self.width.unwrap_or(usize::MAX)))
    }
}

/// A rate that is never negative, so without a sign.
fn per_second(per_s: f64) -> String {
    count_per_s(per_s).trim_start_matches('+').to_owned()
}

/// A frame with its source.
fn place(frame: &Frame) -> String {
    match frame.source() {
        Some(source) => format!("{}  {source}", frame.short_label()),
        None => frame.short_label(),
    }
}

/// Extra indentation of the continuation lines of a wrapped line.
const CONTINUED: usize = 4;

/// At most `width` columns, the last of them `…` if something is cut.
fn cut(text: String, width: usize) -> String {
    if text.chars().count() <= width {
        return text;
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

fn title(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let window = &report.window;
    page.line(&format!(
        "leaktrace {}: traced {} from {}, attached in {} ms",
        report.version,
        seconds(window.duration_s),
        window.started_at,
        count(window.attach_ms),
    ))
}

fn head(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    for target in &report.targets {
        page.line(&format!("  {}", described(target)))?;
        page.line(&format!("      {}", target.cmdline.join(" ")))?;
        if !target.zombies.is_empty() {
            page.line(&format!("      {}", zombies(&target.zombies)))?;
        }
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
    for (kind, total) in report.totals.iter().filter(|(kind, _)| !kind.is_object()) {
        let estimate = Estimate(total.error);
        if kind.is_thread() {
            page.line(&format!(
                "{:<6} not released {}; started {}, released {}",
                kind.name(),
                count(total.outstanding_count),
                count(total.acquired_count),
                count(total.released_count),
            ))?;
            continue;
        }
        if kind.is_descriptor() {
            page.line(&format!(
                "{:<6} open {}; opened {}{}, closed {}",
                kind.name(),
                estimate.open(total.outstanding_count),
                estimate.opened(total.acquired_count),
                inherited_count(total.inherited_count),
                estimate.closed(total.released_count),
            ))?;
            continue;
        }
        page.line(&format!(
            "{:<6} outstanding {}; acquired {}{}, released {}",
            kind.name(),
            estimate.outstanding(total.outstanding_bytes, total.outstanding_count, " in "),
            estimate.acquired(total.acquired_bytes, total.acquired_count),
            inherited(total.inherited_bytes, total.inherited_count),
            estimate.released(total.released_bytes, total.released_count),
        ))?;
    }
    objects::total(report, page)
}

/// Formats figures: plain if they are exact (`None`); else with a mark and their error.
#[derive(Clone, Copy)]
struct Estimate(Option<Errors>);

impl Estimate {
    fn outstanding(self, total: u64, number: u64, between: &str) -> String {
        self.with(self.0.and_then(|error| error.outstanding), total, number, between)
    }

    fn acquired(self, total: u64, number: u64) -> String {
        self.with(self.0.and_then(|error| error.acquired), total, number, " in ")
    }

    fn with(self, error: Option<Amount>, total: u64, number: u64, between: &str) -> String {
        let (total, number) = (bytes(total), count(number));
        if self.0.is_none() {
            return total + between + &number;
        }
        let [of_total, of_number] = error.map_or_else(
            || ["?".to_owned(), "?".to_owned()],
            |error| [bytes(error.bytes), count(error.count)],
        );
        format!("~{total} ± {of_total}{between}~{number} ± {of_number}")
    }

    /// The difference of the two: it has no error of its own.
    fn released(self, total: u64, number: u64) -> String {
        let mark = self.mark();
        format!("{mark}{} in {mark}{}", bytes(total), count(number))
    }

    /// The count of resources that have no size.
    fn open(self, number: u64) -> String {
        self.count_only(self.0.and_then(|error| error.outstanding), number)
    }

    fn opened(self, number: u64) -> String {
        self.count_only(self.0.and_then(|error| error.acquired), number)
    }

    fn closed(self, number: u64) -> String {
        self.mark().to_owned() + &count(number)
    }

    fn count_only(self, error: Option<Amount>, number: u64) -> String {
        if self.0.is_none() {
            return count(number);
        }
        let error = error.map_or_else(|| "?".to_owned(), |error| count(error.count));
        format!("~{} ± {error}", count(number))
    }

    /// The prefix of an estimate.
    const fn mark(self) -> &'static str {
        if self.0.is_some() { "~" } else { "" }
    }
}

/// The budget, how far it was kept, and its effect on the figures.
fn budget(report: &Report, page: &mut Page<'_, impl Write>) -> io::Result<()> {
    let Some(budget) = report.accounting.budget else { return Ok(()) };
    let recently = budget.cost.map_or_else(
        || "not enough data yet on its cost".to_owned(),
        |cost| format!("recently it used {}", percent(cost)),
    );
    page.line(&format!(
        "budget tracing may use {} % of the targets' CPU time; {recently}",
        in_percent(budget.share)
    ))?;
    if !report.accounting.estimated {
        return page.line("       recorded continuously: the figures are exact");
    }
    let pace = budget.pace.map_or_else(String::new, |pace| {
        format!(", during which the targets ran at {} of their usual speed", percent(pace))
    });
    let windows = if budget.windows == 1 { "window" } else { "windows" };
    page.line(&format!(
        "       ESTIMATED: recorded {} of {}, in {} {windows}{pace}",
        seconds(budget.recorded_s),
        seconds(report.window.duration_s),
        count(budget.windows)
    ))?;
    page.line(
        "       a figure with ~ is extrapolated to the whole time; ± is its 95% confidence interval \
         (?: not enough data yet)",
    )?;
    page.line(
        "       a block released between two windows counts as outstanding until its address is reused",
    )
}

/// The same, for resources without a size.
fn inherited_count(number: u64) -> String {
    if number == 0 { String::new() } else { format!(", inherited {}", count(number)) }
}

/// Resources inherited by forks, if there are any.
fn inherited(total: u64, number: u64) -> String {
    if number == 0 {
        return String::new();
    }
    format!(", inherited {} in {}", bytes(total), count(number))
}

/// Children that their parent has not waited for.
fn zombies(all: &[Zombies]) -> String {
    let total: u64 = all.iter().map(|one| one.count).sum();
    let named: Vec<String> =
        all.iter().map(|one| format!("{} {}", count(one.count), one.name)).collect();
    let noun = if total == 1 { "zombie" } else { "zombies" };
    let named = named.join(", ");
    format!("{} {noun}, children that have ended and are not waited for: {named}", count(total))
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
            "LOST {}: THE FIGURES ARE INCOMPLETE, outstanding amounts may be too high or too low",
            count(lost)
        ))?;
        for (reason, cases) in &accounting.lost {
            page.line(&format!("  {:>12}  {}", count(*cases), reason.sentence()))?;
        }
        page.line("")?;
    }
    budget(report, page)?;
    let mut seen = format!("seen   {} events", count(accounting.events));
    if lost == 0 {
        seen += ", lost 0";
    }
    page.line(&format!(
        "{seen}; {} frees of unknown blocks (allocated before the attach); {} failed allocations",
        count(accounting.unknown_frees),
        count(accounting.failed_acquires),
    ))?;
    if let Some(verified) = accounting.verified {
        page.line(&format!(
            "heap   verified {} of {} outstanding blocks: they are allocated in the heap itself",
            count(verified.blocks),
            count(verified.of),
        ))?;
    }
    let cut = accounting.truncated_stacks;
    page.line(&if accounting.estimated {
        // The total above covers the whole time, and this rate does not.
        format!(
            "stacks {} of those recorded truncated (did not reach the thread's entry)",
            count(cut)
        )
    } else {
        let share = percent(cut as f64 / acquired.max(1) as f64);
        format!(
            "stacks {} of {} ({share}) truncated (did not reach the thread's entry)",
            count(cut),
            count(acquired)
        )
    })?;
    for end in StackEnd::ALL {
        if let Some(cut) = accounting.truncated_by.get(&end.into()) {
            page.line(&format!("       {} truncated: {}", count(*cut), end.sentence()))?;
        }
    }
    page.line(&tables(&accounting.unwind))?;
    let or_unknown = |figure: Option<u64>| figure.map_or_else(|| "unknown".to_owned(), bytes);
    let own = &accounting.collector;
    page.line(&format!(
        "cost   leaktrace itself used {} of CPU time and {} of memory",
        seconds(own.cpu_s),
        or_unknown(own.rss_bytes),
    ))?;
    let tables = own
        .kernel_unwind_bytes
        .map_or_else(String::new, |held| format!(", and {} held for unwind tables", bytes(held)));
    page.line(&format!("       kernel memory: {}{tables}", or_unknown(own.kernel_bytes)))
}

/// Tables for unwinding code without frame pointers.
fn tables(unwind: &Unwind) -> String {
    let some = |count_of: u64, what: &str| match count_of {
        0 => String::new(),
        _ => format!("; {} {what}", count(count_of)),
    };
    format!(
        "       unwind tables of {} files take {}{}{}",
        count(unwind.objects),
        bytes(unwind.bytes),
        some(unwind.loading, "still loading"),
        some(unwind.without, "without one"),
    )
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::ResourceKind;

    use super::*;
    use crate::report::{Threads, Word, fixtures};

    fn text(report: &Report, top: Option<usize>, width: Option<usize>) -> String {
        let mut out = Vec::new();
        write(report, &Options { top, width, ..Options::default() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [40, 80, 120] {
            for report in [fixtures::lossy(), fixtures::served(), fixtures::objects()] {
                for line in text(&report, None, Some(width)).lines() {
                    assert!(line.chars().count() <= width, "{width}: {line}");
                }
            }
        }
    }

    #[test]
    fn threads_have_states_and_stacks_and_targets_have_zombies() {
        let mut report = fixtures::lossy();
        let site = report.sites.first_mut().unwrap();
        site.kind = ResourceKind::Thread.into();
        site.threads = Some(Threads { alive: 2, ended: 1_300, stack_bytes: 10 << 30 });
        site.resident_bytes = Some(5 << 20);
        let zombie = |name: &str, count| Zombies { name: name.to_owned(), count };
        report.targets.first_mut().unwrap().zombies = vec![zombie("sh", 40), zombie("cat", 1)];
        let text = text(&report, None, None);
        let states = "2 alive, 1,300 ended and not joined; stacks: 5.0 MiB resident of 10.0 GiB address space";
        assert!(text.contains(states), "{text}");
        let zombies = "41 zombies, children that have ended and are not waited for: 40 sh, 1 cat";
        assert!(text.contains(zombies), "{text}");
    }

    #[test]
    fn control_characters_of_the_target_are_removed() {
        let mut served = fixtures::served();
        for fd in &mut served.fds.as_mut().unwrap().table {
            fd.peer = Some("\u{1b}[31mpeer".to_owned());
        }
        served.connections.as_mut().unwrap().clients[0].address += "\u{1b}[31m";
        for report in [fixtures::lossy(), served] {
            let text = text(&report, None, None);
            assert!(!text.chars().any(|sign| sign.is_control() && sign != '\n'));
        }
    }

    #[test]
    fn losses_are_in_capitals_and_no_loss_is_stated() {
        assert!(text(&fixtures::lossy(), None, None).contains("\nLOST 1,852: "));
        let calm = text(&fixtures::sample(), None, None);
        assert!(calm.contains("lost 0;") && !calm.contains("LOST"));
    }

    #[test]
    fn a_reason_of_a_later_version_is_shown_by_its_key() {
        let mut report = fixtures::sample();
        report.accounting.lost.insert(Word::named("some_later_reason"), 3);
        assert!(text(&report, None, None).contains("3  some_later_reason"));
    }
}
