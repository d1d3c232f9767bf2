//! The bottom line: the filter while it is typed, the last result, or the current key hints.
//!
//! Pure; takes the state, returns one row; more if a result is longer than the screen is wide.

use crate::{
    format,
    report::Report,
    tui::{
        keys::{BINDINGS, Key},
        lists::List,
        names,
        state::{Page, Pane, Remark, ViewState},
        text::{Role, Row, Segment, packed, spread},
    },
};

/// Shown while probes are being attached; fits the smallest screen.
const SWITCHING: &str = " attaching for full tracing… light continues until then ";

/// The most lines that a long result covers.
const MOST: usize = 4;

/// The bottom lines: one, or as many as the last result needs, so that a path is never cut.
pub fn rows(state: &ViewState) -> Vec<Row> {
    let width = usize::from(state.size.columns);
    match &state.remark {
        Some(remark) if state.typing.is_none() => result(remark, width),
        _ => vec![row(state)],
    }
}

fn result(remark: &Remark, width: usize) -> Vec<Row> {
    let role = if remark.failed { Role::Loud } else { Role::Notice };
    let mut lines = names::wrapped(&remark.text, width.saturating_sub(4));
    if lines.len() > MOST {
        let rest = lines.split_off(MOST - 1).concat();
        lines.push(names::middle(&rest, width.saturating_sub(4)));
    }
    let longest = lines.iter().map(|line| names::width(line)).max().unwrap_or(0);
    let line = |text: String| {
        let blank = " ".repeat(longest - names::width(&text));
        Row::of(Role::Text, " ").with(role, format!(" {text}{blank} ")).fitted(width)
    };
    lines.into_iter().map(line).collect()
}

/// The bottom line without a result.
fn row(state: &ViewState) -> Row {
    let width = usize::from(state.size.columns);
    if state.typing.is_some() {
        return typing(state, width);
    }
    if state.switching {
        return Row::of(Role::Text, " ").with(Role::Notice, SWITCHING).fitted(width);
    }
    hints(state, width)
}

fn typing(state: &ViewState, width: usize) -> Row {
    let right = Row::of(Role::Accent, "Enter")
        .with(Role::Muted, " apply  ")
        .with(Role::Accent, "Esc")
        .with(Role::Muted, " cancel ");
    let space = width.saturating_sub(right.width() + 6);
    // The user types at the end of a long filter.
    let long = state.at.filter.chars().count().saturating_sub(space);
    let end: String = state.at.filter.chars().skip(long).collect();
    let left = Row::of(Role::Accent, " / ").with(Role::Strong, end).with(Role::Accent, "▏");
    spread(left, right, width)
}

fn hints(state: &ViewState, width: usize) -> Row {
    let has_rows = !state.at.order.is_empty();
    let useful = |key: Key| match key {
        Key::Help => true,
        Key::Limits if state.page == Some(Page::Limits) => true,
        _ if state.page.is_some() => false,
        Key::Close => true,
        Key::Open => has_rows || state.at.pane == Pane::Detail,
        Key::Full => state.may_switch_to_full(),
        Key::Clients | Key::Leaving => state.list.is_of_connections(),
        Key::Growing => state.list == List::Findings && state.summary.growing > 0,
        Key::Suppress => state.finding().is_some(),
        Key::Limits => state.shown.as_deref().is_some_and(has_limits),
        Key::Each => {
            state.list.is_of_objects()
                || state.finding().is_some()
                || state.list == List::Sites
                    && state.site().is_some_and(|site| site.kind.is_object())
        }
        // Clients have no details to show below; changes since a mark exist for findings and call sites.
        Key::Split => state.list != List::Clients && state.shown.is_some(),
        Key::Mark => matches!(state.list, List::Findings | List::Sites) && state.shown.is_some(),
        _ => state.shown.is_some(),
    };
    let mut segments = Vec::new();
    for binding in BINDINGS.iter().filter(|binding| useful(binding.key)) {
        let Some((stroke, word)) = binding.hint else { continue };
        let word = match binding.key {
            Key::Pause if state.paused => "resume",
            Key::Clients if state.list == List::Clients => "one by one",
            Key::Leaving if state.list == List::Leaving => "one by one",
            Key::Each if state.list == List::Objects => "by kind",
            Key::Each if state.list == List::Findings => "call sites",
            Key::Open if state.at.pane == Pane::Detail => "back",
            Key::Open if state.list == List::ObjectTypes => "call sites",
            Key::Open if state.list == List::Clients => "its connections",
            Key::Mark if state.baseline.is_some() => "re-mark",
            Key::Limits if state.page == Some(Page::Limits) => "close   Up Down scroll",
            Key::Help if state.page == Some(Page::Help) => "close   Up Down scroll",
            _ => word,
        };
        let row = Row::of(Role::Accent, stroke).with(Role::Muted, format!(" {word}"));
        segments.push(Segment { rank: rank(binding.key), row });
        if binding.key == Key::Mark
            && let Some(mark) = &state.baseline
        {
            let since = format!(" unmark {}", format::clock(mark.at_s));
            segments.push(Segment {
                rank: 3,
                row: Row::of(Role::Accent, "u").with(Role::Muted, since),
            });
        }
    }
    Row::of(Role::Text, " ").and(packed(segments, width.saturating_sub(2), 2)).fitted(width)
}

/// Whether there is anything on the page of limits.
fn has_limits(report: &Report) -> bool {
    report.memory.is_some() || !report.limits.is_empty()
}

/// Which hints are dropped first when the line is short.
const fn rank(key: Key) -> u8 {
    match key {
        Key::Help | Key::Close => 0,
        Key::Open
        | Key::Filter
        | Key::Full
        | Key::Clients
        | Key::Leaving
        | Key::Each
        | Key::Suppress => 1,
        Key::Pause | Key::Mark | Key::SortLeft => 2,
        Key::Save | Key::Limits => 3,
        _ => 4,
    }
}
