//! The bottom line: the filter while it is typed, the last result, or the current key hints.
//!
//! Pure; takes the state, returns one row.

use crate::{
    format,
    report::Report,
    tui::{
        keys::{BINDINGS, Key},
        lists::List,
        names,
        state::{Page, ViewState},
        text::{Role, Row, Segment, packed, spread},
    },
};

/// Shown while probes are being attached; fits the smallest screen.
const SWITCHING: &str = " attaching for full tracing… light continues until then ";

/// The bottom line.
pub fn row(state: &ViewState) -> Row {
    let width = usize::from(state.size.columns);
    if state.typing.is_some() {
        return typing(state, width);
    }
    if let Some(remark) = &state.remark {
        let role = if remark.failed { Role::Loud } else { Role::Notice };
        let text = names::middle(&remark.text, width.saturating_sub(4));
        return Row::of(Role::Text, " ").with(role, format!(" {text} ")).fitted(width);
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
        Key::Open => has_rows,
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
