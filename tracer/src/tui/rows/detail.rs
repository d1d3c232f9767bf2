//! Details of the selected row: its finding or its call site, below the table or alone.
//!
//! Pure; takes the state, returns rows.

use super::{finding, object, site};
use crate::{
    format,
    report::Connection,
    tui::{
        lists::{List, Listed as _},
        names,
        state::{Pane, ViewState},
        text::{Role, Row, packed, rule},
    },
};

/// Number of lines of the whole content, for scrolling.
pub fn length(state: &ViewState, width: usize) -> usize {
    // What does not depend on the space is as long as it can be.
    content(state, width, usize::MAX, true).map_or(0, |content| content.len())
}

/// Title line and the lines that fit below it, in `height` lines.
pub fn rows(state: &ViewState, width: usize, height: usize) -> Vec<Row> {
    let space = height.saturating_sub(1);
    let full = state.at.pane == Pane::Detail;
    let Some(content) = content(state, width, space, full) else { return unknown(state, width) };
    let last = last(state);
    let lines = content.len();
    let first = if full { state.scroll.min(lines.saturating_sub(space)) } else { 0 };
    let mut remark = Row::new();
    if lines > space {
        let text = if full {
            format!("lines {}–{} of {lines}", first + 1, (first + space).min(lines))
        } else {
            let noun = if lines - space == 1 { "line" } else { "lines" };
            format!("{} more {noun}: Enter", lines - space)
        };
        remark = Row::of(Role::Muted, text);
    }
    let parts = match (last.finding(), last.site()) {
        (Some(finding), _) => finding::title(finding, width),
        (None, Some(site)) => site::title(site, last, width),
        (None, None) => Vec::new(),
    };
    let title = packed(parts, width.saturating_sub(remark.width() + 8), 2);
    let mut rows = vec![rule(title, remark, width)];
    rows.extend(content.into_iter().skip(first).take(space));
    rows
}

/// The view of the last report that had the item.
fn last(state: &ViewState) -> &ViewState {
    state.gone.as_ref().map_or(state, |gone| &gone.last)
}

fn content(state: &ViewState, width: usize, space: usize, full: bool) -> Option<Vec<Row>> {
    let Some(gone) = &state.gone else {
        let mut rows = if full { ended(state, width) } else { Vec::new() };
        rows.extend(of_item(state, width, space, full)?);
        return Some(rows);
    };
    let mut rows = notice(state.list, gone.since_s, width);
    rows.extend(of_item(&gone.last, width, space, full)?);
    Some(rows)
}

/// Says that the item is gone, above what was last known of it.
fn notice(list: List, since_s: f64, width: usize) -> Vec<Row> {
    let what = match list {
        List::Findings => "finding",
        List::Fds => "descriptor",
        List::Connections => "connection",
        List::Objects => "object",
        List::Sites | List::Clients | List::Leaving | List::ObjectTypes => "call site",
    };
    let text = format!(
        "This {what} has been gone since {}; its last figures follow. Esc goes back to the list.",
        format::clock(since_s)
    );
    noticed(&text, width)
}

/// Says that the connection is over, while it is still listed among those that closed recently.
fn ended(state: &ViewState, width: usize) -> Vec<Row> {
    let at = state.at.order.get(state.at.cursor).filter(|_| state.list == List::Connections);
    let connection = at.zip(state.context()).and_then(|(at, all)| Connection::get(&all, *at));
    let Some((connection, since_s)) = connection.and_then(|one| Some((one, one.closed_s?))) else {
        return Vec::new();
    };
    let whom =
        connection.closed_by.as_ref().map_or_else(String::new, |by| format!(" ({})", by.name()));
    noticed(&format!("This connection ended at {}{whom}.", format::clock(since_s)), width)
}

/// A sentence that stands out, and an empty line below.
fn noticed(text: &str, width: usize) -> Vec<Row> {
    let lines = names::wrapped(text, width.saturating_sub(2)).into_iter();
    let lines = lines.map(|line| Row::of(Role::Text, " ").with(Role::Notice, line));
    lines.chain([Row::new()]).collect()
}

fn of_item(state: &ViewState, width: usize, space: usize, full: bool) -> Option<Vec<Row>> {
    match (state.finding(), state.site()) {
        (Some(finding), _) => Some(finding::content(finding, state, width, full)),
        (None, Some(site)) => Some(site::content(site, state, width, space, full)),
        (None, None) => None,
    }
}

/// Shown when the call site of the selected item is unknown.
fn unknown(state: &ViewState, width: usize) -> Vec<Row> {
    let whose = state.label().map(|label| names::middle(&label, width / 3)).unwrap_or_default();
    let (title, text) = match state.list {
        List::ObjectTypes => ("none left", "All that were created have been released."),
        List::Objects => {
            ("call site not shown", "Its call site is not among those reported (--top).")
        }
        _ => (
            "call site unknown",
            "It was opened before the attach, or in a way that is not traced.",
        ),
    };
    let title = Row::of(Role::Notice, whose).with(Role::Muted, format!("  {title}"));
    let title = rule(title, Row::new(), width);
    let lines = names::wrapped(text, width.saturating_sub(6)).into_iter();
    let lines = lines.map(|line| Row::of(Role::Muted, format!("   {line}")));
    [title, Row::new()].into_iter().chain(object::rows(state, width)).chain(lines).collect()
}
