//! The help page: keys, columns, marks and words, and what was lost, all from their tables.
//!
//! Pure; takes the state, hands on rows.

use super::{Role, Row, rule};
use crate::{
    format,
    report::{
        Client, Connection, Fd, Leaving, LibraryObject, ObjectType, ProbeStatus, Report, Site,
        VerdictClass,
    },
    tui::{
        columns::verdict_words,
        digest::TypeRow,
        keys::{BINDINGS, Key},
        lists::{self, Listed},
        names,
        state::ViewState,
    },
};

/// Words of the screen that are neither key nor column.
const WORDS: [(&str, &str); 8] = [
    ("outstanding", "acquired, release not seen"),
    ("call site", "the stack that acquired; shown by the frame that asked"),
    ("lost", "records that did not reach the ledger; figures may be off by that many"),
    ("dear", "probes the kernel single-steps: each call costs far more"),
    ("refused", "probes that could not be put on; missing: no object has the function"),
    ("rss", "memory of the targets that is resident; own rss: that of leaktrace itself"),
    ("own cpu", "processor time of leaktrace itself, as a share of one processor"),
    ("unknown frees", "releases of what was acquired before the attach"),
];

/// The same, where descriptors and connections are traced.
const COUNTS: [(&str, &str); 5] = [
    ("fds, conns", "file descriptors open, of how many allowed; connections"),
    ("full in", "when the limit of open descriptors is reached, if they go on growing as they do"),
    ("churn", "connections opened per second"),
    (
        "orphans",
        "what was acquired for a connection and is still there a second (or --min-age) after its end",
    ),
    ("unseen", "descriptors found opened or closed in a way that is not traced"),
];

/// The same, where objects are traced.
const OBJECTS: [(&str, &str); 3] = [
    (
        "objects",
        "what a library makes and releases under a type name of its own; their blocks are not counted as heap, too",
    ),
    ("asked", "somebody asked for the release; others hold references, or it is deferred"),
    (
        "pending",
        "waits for something to happen; it and queued bytes are read where a version's layout is known",
    ),
];

/// The same, where there is a budget.
const COST: (&str, &str) = (
    "cost",
    "the share of the targets' processor time that tracing took lately, and the most it may take (--max-overhead)",
);

/// The same, where figures are estimates.
const ESTIMATES: [(&str, &str); 4] = [
    (
        "windows",
        "stretches of time in which everything is recorded; between them no probe is in the targets",
    ),
    (
        "~",
        "an estimate: what was seen in the windows, scaled to the whole time; growth follows from estimates, \
           ages are of what was recorded",
    ),
    ("±", "in 19 of 20 cases the truth is within that; ? is too little seen to tell"),
    (
        "outstanding ~",
        "includes blocks released between two windows, until their address is used again",
    ),
];

/// Title line and what fits below it, in `height` lines.
pub fn rows(state: &ViewState, width: usize, height: usize) -> Vec<Row> {
    let content = lines(state, width);
    let room = height.saturating_sub(1);
    let first = state.scroll.min(content.len().saturating_sub(room));
    let last = (first + room).min(content.len());
    let remark = if content.len() > room {
        Row::of(Role::Muted, format!("lines {}–{last} of {}", first + 1, content.len()))
    } else {
        Row::new()
    };
    let mut rows = vec![rule(Row::of(Role::Strong, "Help"), remark, width)];
    rows.extend(content.into_iter().skip(first).take(room));
    rows
}

/// The whole page.
pub fn lines(state: &ViewState, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let there = |key: Key| key != Key::Full || state.is_light();
    for binding in BINDINGS.iter().filter(|one| !one.help.is_empty() && there(one.key)) {
        entry(&mut rows, Role::Accent, binding.shown, binding.help, width);
    }
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
            table::<Leaving>(&mut rows, "Columns of what was left behind", width);
        }
    }
    heading(&mut rows, "Verdicts");
    for class in VerdictClass::ALL.iter().filter(|class| **class != VerdictClass::Unknown) {
        let (mark, word, role) = verdict_words(*class);
        entry(&mut rows, role, &format!("{mark} {word}"), class.sentence(), width);
    }
    heading(&mut rows, "Words");
    for (word, help) in WORDS {
        entry(&mut rows, Role::Text, word, help, width);
    }
    let shown = state.shown.as_deref();
    if shown.is_some_and(|report| report.fds.is_some() && lists::are_many(report)) {
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

/// What the header could only count: losses by reason, and the probes that are not on.
fn now(rows: &mut Vec<Row>, report: &Report, width: usize) {
    let lost = &report.accounting.lost;
    if lost.values().any(|count| *count > 0) {
        heading(rows, "Lost so far");
        for (reason, count) in lost {
            entry(rows, Role::Bad, &format::count(*count), reason.sentence(), width);
        }
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
        let why = probe.why.as_deref().unwrap_or("no object of the target has the function");
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
