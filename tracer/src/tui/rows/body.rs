//! The body of the screen: the list's title and table, totals above it, or why it is empty.
//!
//! Pure; takes the state and the layout, returns rows.

use super::{
    answer,
    table::{self, Shown},
};
use crate::{
    format,
    report::{Fds, Report, Resource, VerdictClass},
    tui::{
        columns::{self, TableContext},
        layout::Layout,
        lists::{List, Listed, column, with_items},
        model::ColumnId,
        names,
        state::ViewState,
        summary::TypeRow,
        text::{Role, Row, rule},
    },
};

/// Totals and table, a title line above each.
pub fn rows(state: &ViewState, layout: &Layout) -> Vec<Row> {
    let Some(context) = state.context() else { return Vec::new() };
    let mut lines = sums(&context, layout);
    if layout.table == 0 {
        return lines;
    }
    let at = &state.at;
    let space = layout.table.saturating_sub(1);
    lines.push(title(state, &context, layout.width, layout.table_rows()));
    if at.order.is_empty() {
        lines.push(Row::new());
        if state.list == List::Findings && state.at.filter.is_empty() {
            lines.extend(answer::body(context.report, state, layout.width));
            lines.push(Row::new());
            lines.push(answer::folded(context.report, state, layout.width));
            return lines;
        }
        let text = format!("   {}", nothing(state, &context, layout.width));
        lines.push(Row::of(Role::Muted, text).fitted(layout.width));
        return lines;
    }
    let what =
        Shown { order: &at.order, top: at.top, cursor: Some(at.cursor), sort: Some(at.sort) };
    lines.extend(with_items!(state.list, Item => {
        table::rows::<Item>(&context, &what, layout.width, space - layout.folded.min(space))
    }));
    if layout.folded > 0 {
        lines.push(answer::folded(context.report, state, layout.width));
    }
    lines
}

/// Descriptors by type; the last line counts the types that are omitted.
fn sums(context: &TableContext<'_>, layout: &Layout) -> Vec<Row> {
    if layout.totals == 0 {
        return Vec::new();
    }
    let all = TypeRow::number(context);
    let space = layout.totals.saturating_sub(2);
    let shown = if all > space { space.saturating_sub(1) } else { all };
    let order: Vec<usize> = (0..shown).collect();
    let (title, remark) = context.report.fds.as_ref().map(turnover).unwrap_or_default();
    let mut lines = vec![rule(title, remark, layout.width)];
    let what = Shown { order: &order, top: 0, cursor: None, sort: None };
    // Figures far from their labels are hard to read: not the full width of a wide screen.
    let rows = table::rows::<TypeRow>(context, &what, layout.width.min(SUMS), shown + 1);
    lines.extend(rows.into_iter().map(|row| row.fitted(layout.width)));
    if shown < all {
        let noun = if all - shown == 1 { "type" } else { "types" };
        let more = format!("   … {} more {noun}", all - shown);
        lines.push(Row::of(Role::Muted, more).fitted(layout.width));
    }
    lines
}

/// Title of the totals: turnover of all descriptors; at the right, what was not seen.
fn turnover(fds: &Fds) -> (Row, Row) {
    let known = |word: &str, number: Option<u64>| {
        Some(format!("{word} {}", format::count(number.filter(|number| *number > 0)?)))
    };
    let rate =
        fds.opened_per_s.map(|rate| format!(" ({})", columns::per_second(Some(rate)).text()));
    let opened = known("opened", fds.opened).map(|text| text + &rate.unwrap_or_default());
    let full = fds.seconds_to_limit_between.map(|(from, to)| match to {
        Some(to) => format!("limit reached in {}", format::roughly_between(from, to)),
        None => format!("limit reached in {} at the earliest", format::roughly(from)),
    });
    let parts = [full, opened, known("closed", fds.closed)];
    let unseen =
        [known("opened unseen", fds.opened_unseen), known("closed unseen", fds.closed_unseen)];
    let words = |words: &[Option<String>]| {
        words.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let text = words(&parts);
    let mut title = Row::of(Role::Strong, "By type");
    if !text.is_empty() {
        title = title.with(Role::Muted, format!("  {text}"));
    }
    (title, Row::of(Role::Doubtful, words(&unseen)))
}

/// Maximum width of the totals in cells.
const SUMS: usize = 64;

/// The title of the list.
const fn name(list: List) -> &'static str {
    match list {
        List::Findings => "Findings",
        List::Sites => "Call sites",
        List::Fds => "File descriptors",
        List::Connections => "Connections",
        List::Clients => "Clients",
        List::Leaving => "Left behind",
        List::ObjectTypes => "Objects by kind",
        List::Objects => "Objects",
    }
}

fn title(state: &ViewState, context: &TableContext<'_>, width: usize, page: usize) -> Row {
    let at = &state.at;
    let (all, found) = (state.list.number(context), at.order.len());
    let mut title = Row::of(Role::Strong, name(state.list));
    if found > 0 {
        let last = (at.top + page).min(found);
        let place = format!(" {}–{last} of {}", at.top + 1, format::count(found as u64));
        title = title.with(Role::Muted, place);
    }
    for (number, role, one, many) in alerts(state, context) {
        if number > 0 {
            let word = if number == 1 { one } else { many };
            title = title
                .with(Role::Muted, ", ")
                .with(role, format!("{} {word}", format::count(number as u64)));
        }
    }
    if !at.filter.is_empty() {
        let filter = names::start_of(&at.filter, width / 4);
        title = title
            .with(Role::Muted, "  filter ")
            .with(Role::Notice, format!(" {filter} "))
            .with(Role::Muted, format!(" of {}", format::count(all as u64)));
    }
    let mut remark = Row::of(Role::Muted, order(state));
    if let Some(mark) = &state.baseline
        && matches!(state.list, List::Findings | List::Sites)
        && width >= 100
    {
        let since = format!("Δ since mark at {}, ", format::clock(mark.at_s));
        remark = Row::of(Role::Muted, since).and(remark);
    }
    rule(title, remark, width)
}

/// Items of the list that need attention.
fn alerts(
    state: &ViewState,
    context: &TableContext<'_>,
) -> Vec<(usize, Role, &'static str, &'static str)> {
    let summary = &state.summary;
    match state.list {
        List::Findings => {
            let of =
                |class| context.report.findings.iter().filter(|one| one.class == class).count();
            vec![
                (of(VerdictClass::Leak), Role::Bad, "leak", "leaks"),
                (of(VerdictClass::Suspect), Role::Doubtful, "suspect", "suspects"),
            ]
        }
        List::Sites => vec![
            (summary.leaks, Role::Bad, "leak", "leaks"),
            (summary.suspects, Role::Doubtful, "suspect", "suspects"),
        ],
        List::Fds => vec![(summary.fds_without_peer, Role::Doubtful, PEER_GONE, PEER_GONE)],
        List::Connections => {
            vec![(summary.connections_without_peer, Role::Doubtful, PEER_GONE, PEER_GONE)]
        }
        List::ObjectTypes => vec![(summary.asked, Role::Doubtful, ASKED, ASKED)],
        List::Clients | List::Leaving | List::Objects => Vec::new(),
    }
}

/// Sockets that the target has open, with nobody at the other end.
const PEER_GONE: &str = "without a peer any more";

/// Objects whose release was requested, and that still exist.
const ASKED: &str = "with a release requested";

/// The order of the list, in words.
fn order(state: &ViewState) -> String {
    let sort = state.at.sort;
    let words = with_items!(state.list, Item => column::<Item>(sort.by)
        .map(|column| format!("by {} {}", column.title, table::arrow(column, sort.reversed))));
    match (sort.by, sort.reversed) {
        (ColumnId::Verdict, false) => "worst first".to_owned(),
        (ColumnId::Verdict, true) => "worst last".to_owned(),
        _ => words.unwrap_or_default(),
    }
}

fn nothing(state: &ViewState, context: &TableContext<'_>, width: usize) -> String {
    let report = context.report;
    let connections = state.list.is_of_connections();
    let text = if connections && report.connections.is_none() {
        "Connections are not traced."
    } else if state.list == List::Fds && report.fds.is_none() {
        "File descriptors are not traced: --kind fd,socket traces them."
    } else if state.list == List::Fds && report.light.is_some() {
        "With --light, only the sums by type are known."
    } else if let (true, None) = (state.list.is_of_objects(), &report.objects) {
        no_objects(report)
    } else if state.list.number(context) > 0 {
        let filter = names::start_of(&state.at.filter, width / 4);
        return match state.list {
            List::Findings | List::Sites => {
                let what = if state.list == List::Sites { "call site" } else { "finding" };
                format!("No {what} matches “{filter}” in its stack or kind. Esc shows all.")
            }
            _ => format!("No match for “{filter}”. Esc shows all."),
        };
    } else if state.list == List::Fds {
        "No descriptors are open."
    } else if state.list.is_of_objects() && report.totals.keys().any(Resource::is_object) {
        "No objects left: all that were created have been released."
    } else if state.list.is_of_objects() {
        "No objects of known library types created so far."
    } else if let (List::Leaving, Some(all)) = (state.list, &report.connections)
        && all.closed > 0
    {
        "Closed connections have left nothing behind so far."
    } else if connections {
        "No connections so far."
    } else if report.accounting.events == 0 {
        "Nothing acquired or released so far."
    } else {
        "Nothing is outstanding: everything acquired has been released."
    };
    text.to_owned()
}

/// Why objects are not traced.
const fn no_objects(report: &Report) -> &'static str {
    if report.light.is_some() {
        "Objects of libraries are not traced with --light."
    } else if report.accounting.budget.is_some() {
        "Objects of libraries are not traced with --max-overhead."
    } else {
        "Objects are not traced: --kind heap,mmap,object traces them."
    }
}
