//! Memory of the targets as a whole and how far they are from their limits: a page, and a line of the header while a
//! limit is near.
//!
//! Pure; takes the report and the state, returns rows.

use crate::{
    format,
    report::{Limit, ProcessMemory, Report, TimeToLimit},
    tui::{
        names,
        state::ViewState,
        text::{Role, Row},
    },
};

/// A limit that is reached within so many seconds is in the header: an hour is time enough to act.
const NEAR_S: f64 = 3600.0;
/// A limit that is reached within so many seconds is an alarm.
const URGENT_S: f64 = 600.0;

/// The limits that will be reached soon.
fn nearest(report: &Report) -> impl Iterator<Item = (&Limit, TimeToLimit)> {
    let near = |limit: &Limit| limit.time_to_limit_s.filter(|time| time.mid <= NEAR_S);
    report.limits.iter().filter_map(move |limit| Some((limit, near(limit)?)))
}

/// Whether the header has a line about a limit.
pub(super) fn is_near(report: &Report) -> bool {
    nearest(report).next().is_some()
}

/// The header's line: the first limit that will be reached, and how many more.
pub(super) fn near(report: &Report, width: usize) -> Option<Row> {
    let mut all = nearest(report);
    let (limit, time) = all.next()?;
    let more = match all.count() {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    // Without who limits it, where there is little space.
    let short = limit.what.split(" (").next().unwrap_or(&limit.what);
    let time_left = format!("{}, reached in {}{more}", used(limit), within(time));
    let cells = width.saturating_sub(NAMED_KEY);
    let long = format!("limit near: {} {time_left}", limit.what);
    let text = if names::width(&long) < cells { long } else { format!("{short} {time_left}") };
    let row = Row::of(urgency(time), names::start_of(&format!(" {text}"), cells));
    Some(row.with(Role::Accent, "  l").with(Role::Muted, " limits"))
}

/// Cells for the key of the page.
const NAMED_KEY: usize = 12;

fn urgency(time: TimeToLimit) -> Role {
    if time.mid <= URGENT_S {
        Role::Bad
    } else if time.mid <= NEAR_S {
        Role::Doubtful
    } else {
        Role::Text
    }
}

/// `912 of 1,024`, in bytes for memory.
fn used(limit: &Limit) -> String {
    let write = if is_memory(limit) { format::bytes } else { format::count };
    format!("{} of {}", write(limit.used), write(limit.limit))
}

/// Its name says what is limited; memory is in bytes.
fn is_memory(limit: &Limit) -> bool {
    limit.what.starts_with("memory") || limit.what.starts_with("address space")
}

fn within(time: TimeToLimit) -> String {
    match time.high {
        Some(high) => format::roughly_between(time.low, high),
        None => format!("{} at the earliest", format::roughly(time.low)),
    }
}

/// Title line and the lines that fit below it, in `height` lines.
pub fn rows(state: &ViewState, width: usize, height: usize) -> Vec<Row> {
    super::page("Memory and limits", lines(state, width), state, width, height)
}

/// The whole page.
pub fn lines(state: &ViewState, width: usize) -> Vec<Row> {
    let Some(report) = state.shown.as_deref() else { return Vec::new() };
    let mut rows = vec![Row::new(), Row::of(Role::Strong, " Memory of the targets")];
    match &report.memory {
        Some(memory) => memory_lines(&mut rows, memory, width),
        None => rows.push(Row::of(Role::Muted, "   It cannot be read.")),
    }
    rows.extend([Row::new(), Row::of(Role::Strong, " Limits, soonest first")]);
    if report.limits.is_empty() {
        rows.push(Row::of(Role::Muted, "   None is known."));
    }
    for limit in &report.limits {
        let whose = limit.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
        rows.push(Row::of(Role::Text, "   ").with(Role::Text, names::clean(&limit.what) + &whose));
        let mut row = Row::of(Role::Text, "     ")
            .with(Role::Accent, bar(limit))
            .with(Role::Strong, format!("  {}", used(limit)));
        row = match limit.time_to_limit_s {
            Some(time) => row.with(urgency(time), format!("  reached in {}", within(time))),
            None => row.with(Role::Muted, "  does not surely grow"),
        };
        rows.push(row);
    }
    rows
}

fn memory_lines(rows: &mut Vec<Row>, memory: &ProcessMemory, width: usize) {
    let figures = [
        ("resident", memory.rss_bytes, "all of the following"),
        ("  anonymous", memory.anon_bytes, "heap, stacks and private data"),
        ("    stacks", memory.stacks_bytes, "of threads"),
        ("  files", memory.file_bytes, "programs, libraries and mapped files"),
        ("  shared", memory.shared_bytes, "shared memory"),
        ("allocated", memory.heap_used_bytes, "what the allocator has given to the program"),
        ("kept free", memory.heap_kept_bytes, "free memory that the allocator keeps"),
        ("outstanding", Some(memory.outstanding_bytes), "acquired since the attach, not released"),
    ];
    for (name, bytes, help) in figures {
        let Some(bytes) = bytes else { continue };
        rows.push(
            Row::of(Role::Text, format!("   {name:<14}"))
                .with(Role::Strong, format!("{:>10}", format::bytes(bytes)))
                .with(Role::Muted, format!("   {help}"))
                .fitted(width),
        );
    }
    let mut unexplained: Vec<String> = memory.unexplained().collect();
    let explained = memory.explained_growth.map(|share| {
        let rest = unexplained.is_empty() && share < MOST_EXPLAINED;
        format!(
            "Outstanding memory explains {} of the growth of anonymous memory.{}",
            format::percent(share),
            if rest { " The rest is memory that leaktrace does not trace." } else { "" },
        )
    });
    for text in explained.into_iter().chain(unexplained.drain(..).map(sentence)) {
        rows.push(Row::new());
        let lines = names::wrapped(&text, width.saturating_sub(5)).into_iter();
        rows.extend(lines.map(|line| Row::of(Role::Text, format!("   {line}"))));
    }
}

/// With a capital letter and a full stop.
fn sentence(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text + "."
}

/// Below this share, most of the growth has another cause.
const MOST_EXPLAINED: f64 = 0.5;

/// How much of the limit is used, as a bar.
fn bar(limit: &Limit) -> String {
    const CELLS: usize = 20;
    let share = limit.used as f64 / limit.limit.max(1) as f64;
    let full = (0..CELLS).filter(|cell| (*cell as f64) < share * CELLS as f64).count();
    "█".repeat(full) + &"░".repeat(CELLS - full)
}
