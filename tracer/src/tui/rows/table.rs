//! The table of call sites: its title, the columns that fit, and the visible rows only.
//!
//! Pure; takes the report and the state, hands on rows. With 50,000 call sites it still looks at no
//! more than a screenful.

use super::{Role, Row, rule};
use crate::{
    format,
    report::{Frame, Report, Site},
    tui::{
        columns::{self, By, COLUMNS, Column, Needs},
        figures, names,
        state::ViewState,
    },
};

/// Title line, column titles and the visible call sites, in `height` lines.
pub fn rows(report: &Report, state: &ViewState, width: usize, height: usize) -> Vec<Row> {
    let mut lines = vec![title(report, state, width, height)];
    let shown = height.saturating_sub(2);
    if state.order.is_empty() {
        lines.extend(nothing(report, state, width));
        return lines;
    }
    let columns = chosen(state, width);
    let gap = " ".repeat(gap(width));
    lines.push(titles(&columns, state, &gap, width));
    for (number, at) in state.order.iter().enumerate().skip(state.top).take(shown) {
        let Some(site) = report.sites.get(*at) else { continue };
        let mut row = Row::of(Role::Text, " ");
        for (place, (column, cells)) in columns.iter().enumerate() {
            if place > 0 {
                row = row.with(Role::Text, gap.clone());
            }
            let cell = (column.cell)(site, state.baseline.as_ref(), *cells);
            row = row.and(aligned(cell, column.left, *cells));
        }
        row.selected = number == state.cursor;
        lines.push(row.fitted(width));
    }
    lines
}

fn title(report: &Report, state: &ViewState, width: usize, height: usize) -> Row {
    let (all, found) = (report.sites.len(), state.order.len());
    let mut title = Row::of(Role::Strong, "Call sites");
    if found > 0 {
        let last = (state.top + height.saturating_sub(2)).min(found);
        let place = format!(" {}–{last} of {}", state.top + 1, format::count(found as u64));
        title = title.with(Role::Muted, place);
    }
    for (number, one, many) in
        [(state.digest.leaks, "leak", "leaks"), (state.digest.suspects, "suspect", "suspects")]
    {
        if number > 0 {
            let word = if number == 1 { one } else { many };
            title = title.with(Role::Muted, ", ").with(Role::Bad, format!("{number} {word}"));
        }
    }
    if !state.filter.is_empty() {
        let filter = names::start_of(&state.filter, width / 4);
        title = title
            .with(Role::Muted, "  filter ")
            .with(Role::Notice, format!(" {filter} "))
            .with(Role::Muted, format!(" of {}", format::count(all as u64)));
    }
    let column = columns::column(state.sort.by);
    let order = match (column.by, state.sort.reversed) {
        (By::Verdict, false) => "worst first".to_owned(),
        (By::Verdict, true) => "worst last".to_owned(),
        _ => format!("by {} {}", column.title, arrow(column, state.sort.reversed)),
    };
    let mut remark = Row::of(Role::Muted, order);
    if let Some(mark) = &state.baseline
        && width >= 100
    {
        let since = format!("Δ since mark at {}, ", format::clock(mark.at_s));
        remark = Row::of(Role::Muted, since).and(remark);
    }
    rule(title, remark, width)
}

fn nothing(report: &Report, state: &ViewState, width: usize) -> Vec<Row> {
    let text = if report.accounting.events == 0 {
        "Nothing was acquired or released so far.".to_owned()
    } else if report.sites.is_empty() {
        "Nothing is outstanding: all that was acquired has been released.".to_owned()
    } else {
        let filter = names::start_of(&state.filter, width / 4);
        format!("No call site has “{filter}” in its stack or kind. Esc shows all.")
    };
    vec![Row::new(), Row::of(Role::Muted, format!("   {text}")).fitted(width)]
}

const fn arrow(column: &Column, reversed: bool) -> &'static str {
    if column.largest_first == reversed { "▲" } else { "▼" }
}

fn gap(width: usize) -> usize {
    if width < 100 { 1 } else { 2 }
}

/// The columns that fit, in the table's order, each with its width. The one that orders the table is
/// kept before others.
pub fn chosen(state: &ViewState, width: usize) -> Vec<(&'static Column, usize)> {
    let there = |column: &&Column| match column.needs {
        Needs::Nothing => true,
        Needs::Baseline => state.baseline.is_some(),
        Needs::Judgement => state.digest.judged,
        Needs::ManyTargets => state.digest.many_targets,
    };
    let leave = |column: &Column| if column.by == state.sort.by { 16 } else { column.leave };
    let mut by_importance: Vec<&Column> = COLUMNS.iter().filter(there).collect();
    by_importance.sort_by_key(|column| leave(column));
    let mut room = width.saturating_sub(2);
    let mut kept = Vec::new();
    for column in by_importance {
        let cells = (column.width)(width);
        let needed = if column.by == By::Site { 0 } else { cells + gap(width) };
        if room >= needed + leave(column) {
            room -= needed;
            kept.push(column.by);
        }
    }
    COLUMNS
        .iter()
        .filter(|column| kept.contains(&column.by))
        .map(|column| (column, if column.by == By::Site { room } else { (column.width)(width) }))
        .collect()
}

fn titles(columns: &[(&Column, usize)], state: &ViewState, gap: &str, width: usize) -> Row {
    let mut row = Row::of(Role::Text, " ");
    for (place, (column, cells)) in columns.iter().enumerate() {
        let sorted = column.by == state.sort.by;
        let role = if sorted { Role::Sorted } else { Role::Title };
        let marked = format!("{}{}", column.title, arrow(column, state.sort.reversed));
        let text = match names::width(&marked) <= *cells {
            true if sorted => marked,
            _ if *cells < 4 => String::new(),
            _ => column.title.to_owned(),
        };
        if place > 0 {
            row = row.with(Role::Text, gap);
        }
        row = row.and(aligned(Row::of(role, text), column.left, *cells));
    }
    row.fitted(width)
}

fn aligned(cell: Row, left: bool, cells: usize) -> Row {
    let missing = cells.saturating_sub(cell.width());
    if left { cell.fitted(cells) } else { Row::of(Role::Text, " ".repeat(missing)).and(cell) }
}

/// Function, source and, where there is room, who called it.
pub fn call_site(site: &Site, cells: usize) -> Row {
    let Some(asked) = site.asked() else { return Row::of(Role::Muted, "unknown stack") };
    let source = asked.source().unwrap_or_default();
    let role = if asked.symbol.is_some() { Role::Strong } else { Role::Text };
    let label = asked.label();
    if source.is_empty() {
        return callers(Row::of(role, names::function(&label, cells)), site, cells);
    }
    // The source keeps its place as long as a recognizable function fits beside it.
    let least = names::width(&names::last_part(&label)).min(cells / 2);
    let kept = names::middle(&source, cells.saturating_sub(least + 1).min(28));
    if names::width(&kept) < 8 {
        return Row::of(role, names::function(&label, cells));
    }
    let room = cells.saturating_sub(names::width(&kept) + 1);
    let row = Row::of(role, names::function(&label, room)).with(Role::Muted, format!(" {kept}"));
    callers(row, site, cells)
}

/// The row with ` ← caller ← caller`, as far as they fit unshortened enough to be known.
fn callers(mut row: Row, site: &Site, cells: usize) -> Row {
    for frame in site.frames.iter().skip(site.headline + 1) {
        let room = cells.saturating_sub(row.width() + 3);
        let name = short(frame);
        let wanted = names::width(&name);
        if room < wanted.min(16) {
            break;
        }
        let name = names::function(&name, room.min(32));
        row = row.with(Role::Muted, format!(" ← {name}"));
    }
    row
}

/// A caller's name without template arguments and parameters.
fn short(frame: &Frame) -> String {
    let label = frame.label();
    names::function(&label, 32.min(names::width(&label)))
}

/// `36.1 MiB in 9,120`.
pub fn amount(bytes: u64, count: u64) -> String {
    format!("{} in {}", format::bytes(bytes), figures::count(count))
}
