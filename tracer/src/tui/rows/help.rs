//! The help page: keys, columns, marks, words, and losses, all from their tables.
//!
//! Pure; takes the state, returns rows.

use crate::{
    format,
    report::{
        Client, Connection, Fd, Finding, Leaving, LibraryObject, ObjectType, ProbeStatus, Report,
        Site, VerdictClass,
    },
    tui::{
        columns::verdict_words,
        keys::{BINDINGS, Key},
        lists::{self, Listed},
        names,
        state::ViewState,
        summary::TypeRow,
        text::{Role, Row},
    },
};

/// Words of the screen that are neither keys nor columns.
const WORDS: [(&str, &str); 10] = [
    ("finding", "one cause: the call sites that leak together, with what they leave behind"),
    ("quiet", "call sites that neither leak nor grow"),
    ("outstanding", "acquired and not released yet"),
    ("call site", "the call stack of an allocation, shown by the function that requested it"),
    ("lost", "events that were not recorded; figures may be off by that many"),
    ("slow", "probes that the kernel single-steps: each call costs far more"),
    ("refused", "probes that could not be attached; missing: no loaded file has the function"),
    ("rss", "resident memory of the targets; own rss: of leaktrace itself"),
    ("own cpu", "CPU time of leaktrace itself, as a share of one CPU"),
    ("unknown frees", "frees of unknown blocks (allocated before the attach)"),
];

/// The same, if descriptors and connections are traced.
const COUNTS: [(&str, &str); 5] = [
    ("fds, conns", "open file descriptors and their limit; connections"),
    (
        "limit reached",
        "time until the limit of open descriptors is reached, at the current growth rate",
    ),
    ("new/s", "connections opened per second"),
    (
        "orphans",
        "resources acquired for a connection and still there 1s (or --min-age) after it closed",
    ),
    ("unseen", "descriptors opened or closed in a way that leaktrace does not trace"),
];

/// The same, if objects are traced.
const OBJECTS: [(&str, &str); 3] = [
    ("objects", "instances of a library's types; their memory is not also counted as heap"),
    ("asked", "release requested, but other references remain, or the release is deferred"),
    (
        "pending",
        "waiting for an event; this and queued bytes are known only for supported library versions",
    ),
];

/// The same, if there is a budget.
const COST: (&str, &str) = (
    "cost",
    "the share of the targets' CPU time that tracing used recently, and its limit (--max-overhead)",
);

/// The same, if figures are estimates.
const ESTIMATES: [(&str, &str); 4] = [
    ("windows", "periods in which everything is recorded; between them the targets have no probes"),
    (
        "~",
        "an estimate: figures from the windows, scaled to the whole time; growth is computed from estimates, \
           ages from what was recorded",
    ),
    ("±", "95% confidence interval; ? means not enough data yet"),
    (
        "outstanding ~",
        "includes blocks released between two windows, until their address is reused",
    ),
];

/// Title line and the lines that fit below it, in `height` lines.
pub fn rows(state: &ViewState, width: usize, height: usize) -> Vec<Row> {
    super::page("Help", lines(state, width), state, width, height)
}

/// The whole page.
pub fn lines(state: &ViewState, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let there = |key: Key| key != Key::Full || state.is_light();
    for binding in BINDINGS.iter().filter(|one| !one.help.is_empty() && there(one.key)) {
        entry(&mut rows, Role::Accent, binding.shown, binding.help, width);
    }
    table::<Finding>(&mut rows, "Columns of findings", width);
    table::<Site>(&mut rows, "Columns of call sites", width);
    if let Some(report) = state.shown.as_deref() {
        if report.fds.is_some() {
            table::<TypeRow>(&mut rows, "Columns of descriptors by type", width);
        }
        if report.fds.as_ref().is_some_and(|fds| !fds.table.is_empty()) {
            table::<Fd>(&mut rows, "Columns of file descriptors", width);
        }
        if report.objects.is_some() {
            table::<ObjectType>(&mut rows, "Columns of objects by kind", width);
            table::<LibraryObject>(&mut rows, "Columns of objects", width);
        }
        if report.connections.is_some() {
            table::<Connection>(&mut rows, "Columns of connections", width);
            table::<Client>(&mut rows, "Columns of clients", width);
            table::<Leaving>(&mut rows, "Columns of resources left behind", width);
        }
    }
    let judged = state.summary.judged
        || state.shown.as_deref().is_some_and(|report| !report.findings.is_empty());
    if judged {
        heading(&mut rows, "Verdicts");
    }
    for class in VerdictClass::ALL.iter().filter(|class| judged && **class != VerdictClass::Unknown)
    {
        let (mark, word, role) = verdict_words(*class);
        entry(&mut rows, role, &format!("{mark} {word}"), class.sentence(), width);
    }
    heading(&mut rows, "Words");
    for (word, help) in WORDS {
        entry(&mut rows, Role::Text, word, help, width);
    }
    let shown = state.shown.as_deref();
    if shown.is_some_and(|report| report.fds.is_some() && lists::has_other_lists(report)) {
        for (word, help) in COUNTS {
            entry(&mut rows, Role::Text, word, help, width);
        }
    }
    if shown.is_some_and(|report| report.objects.is_some()) {
        for (word, help) in OBJECTS {
            entry(&mut rows, Role::Text, word, help, width);
        }
    }
    let account = state.shown.as_deref().map(|report| &report.accounting);
    let budget = account.filter(|account| account.budget.is_some()).map(|_| COST);
    let estimates = account.filter(|account| account.estimated).map(|_| ESTIMATES);
    for (word, help) in budget.into_iter().chain(estimates.into_iter().flatten()) {
        entry(&mut rows, Role::Text, word, help, width);
    }
    if let Some(report) = state.shown.as_deref() {
        now(&mut rows, report, width);
    }
    rows
}

fn table<T: Listed>(rows: &mut Vec<Row>, title: &str, width: usize) {
    heading(rows, title);
    for column in T::COLUMNS {
        entry(rows, Role::Text, column.title, column.help, width);
    }
}

/// Details of what the header only counts: losses by reason, and the probes that are not attached.
fn now(rows: &mut Vec<Row>, report: &Report, width: usize) {
    let lost = &report.accounting.lost;
    if lost.values().any(|count| *count > 0) {
        heading(rows, "Lost so far");
        for (reason, count) in lost {
            entry(rows, Role::Bad, &format::count(*count), reason.sentence(), width);
        }
    }
    if !report.suppressed.is_empty() {
        heading(rows, "Suppressed");
    }
    for one in &report.suppressed {
        let noun = if one.findings == 1 { "finding" } else { "findings" };
        let amount = super::table::amount(one.outstanding.bytes, one.outstanding.count);
        let text = format!("hides {} {noun}: {amount}", format::count(one.findings));
        entry(rows, Role::Text, &one.pattern, &text, width);
    }
    if !report.allocators.is_empty() {
        heading(rows, "Allocators");
    }
    for allocator in &report.allocators {
        let role = if allocator.in_use { Role::Text } else { Role::Muted };
        entry(rows, role, &format!("pid {}", allocator.pid), &allocator.sentence, width);
    }
    let off = |status| report.probes.iter().filter(move |probe| probe.status == status);
    let off: Vec<_> = off(ProbeStatus::Refused).chain(off(ProbeStatus::Missing)).collect();
    if !off.is_empty() {
        heading(rows, "Probes that are not on");
    }
    for probe in off {
        let why = probe.why.as_deref().unwrap_or("no file loaded by the target has the function");
        entry(rows, Role::Text, &probe.function, why, width);
    }
}

fn heading(rows: &mut Vec<Row>, text: &str) {
    rows.push(Row::new());
    rows.push(Row::of(Role::Strong, format!(" {text}")));
}

fn entry(rows: &mut Vec<Row>, role: Role, name: &str, help: &str, width: usize) {
    let name = names::middle(name, 14);
    for (number, line) in names::wrapped(help, width.saturating_sub(20)).into_iter().enumerate() {
        let begin = if number == 0 { name.as_str() } else { "" };
        let blanks = " ".repeat(16 - names::width(begin).min(15));
        rows.push(
            Row::of(Role::Text, "  ")
                .with(role, begin)
                .with(Role::Text, blanks)
                .with(Role::Muted, line),
        );
    }
}
