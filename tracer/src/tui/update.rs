//! The effect of each key on the view, and of reports and the size of the screen.
//!
//! Pure: takes the state and a logical key, changes the state, returns what the loop must do. Nothing here touches
//! the terminal, and no key affects tracing: pausing freezes the view.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind};

use super::{
    keys::{self, Key},
    layout::{self, Layout},
    lists::{Id, List},
    model::{ColumnId, SortBy, SortOrder},
    order,
    rows::{detail, header, help, limits},
    state::{Page, Pane, Remark, Size, ViewState},
};
use crate::report::{Finding, Report};

/// The action that the loop must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changed.
    None,
    /// Draw.
    Redraw,
    /// Draw every cell, including those believed unchanged.
    Repaint,
    /// Save the shown report.
    Save,
    /// Append the view's `suppression` to the user's file.
    Suppress,
    /// Switch from light to full tracing.
    Full,
    /// Quit.
    Quit,
}

/// Receives a new report. While paused, only stores it; returns whether the view changed.
pub fn receive(state: &mut ViewState, report: Arc<Report>) -> bool {
    let changed = state.receive(report);
    if changed {
        scroll(state);
    }
    changed
}

/// Sets the size of the screen.
pub fn resize(state: &mut ViewState, size: Size) {
    state.size = size;
    scroll(state);
}

/// Visible rows of the table.
pub fn page(state: &ViewState) -> usize {
    layout_of(state).table_rows()
}

fn layout_of(state: &ViewState) -> Layout {
    layout::of(state, header::rows(state).len())
}

/// Scrolls the table to its cursor, after a change of either.
fn scroll(state: &mut ViewState) {
    let page = page(state);
    state.scroll_to_cursor(page);
}

/// Filters and sorts again.
fn arrange(state: &mut ViewState) {
    state.arrange();
    scroll(state);
}

/// Puts the cursor on a row.
fn put_cursor(state: &mut ViewState, row: usize) {
    state.put_cursor(row);
    scroll(state);
}

/// Says that a key stroke has no meaning at all.
pub fn unknown(state: &mut ViewState, event: &KeyEvent) -> Effect {
    let KeyCode::Char(letter) = event.code else { return Effect::None };
    if event.kind == KeyEventKind::Release || letter.is_control() || state.typing.is_some() {
        return Effect::None;
    }
    state.remark = Some(Remark::passing(format!("{letter} does nothing; ? lists the keys")));
    Effect::Redraw
}

/// Why a key has no effect now, as the rest of a sentence; `None` if it has one.
fn no_effect(state: &ViewState, key: Key) -> Option<&'static str> {
    let none = state.at.order.is_empty();
    let covers = matches!(
        key,
        Key::SortLeft
            | Key::SortRight
            | Key::SortBy(_)
            | Key::Reverse
            | Key::Suppress
            | Key::Mark
            | Key::Unmark
            | Key::Full
    );
    match key {
        _ if state.typing.is_some() => None,
        _ if covers && state.page.is_some() => Some("on this page; Esc closes it"),
        Key::Full if state.switching => Some("more: full tracing is being prepared"),
        Key::Full if !state.is_light() => Some("here: all is traced already"),
        Key::Suppress if state.finding().is_none() => Some("here: it suppresses findings (1)"),
        Key::Growing if state.list == List::Findings && state.summary.growing == 0 => {
            Some("here: no finding merely grows")
        }
        Key::Split if state.page.is_none() && state.list == List::Clients => {
            Some("here: clients have no details; Enter lists their connections")
        }
        Key::Open | Key::Split if none && state.page.is_none() => Some("here: the list is empty"),
        Key::SortLeft | Key::SortRight | Key::SortBy(_) | Key::Reverse if none => {
            Some("here: the list is empty")
        }
        Key::SortBy(what) if sort_column(state, what).is_none() => {
            Some("here: the list has no such column")
        }
        Key::Unmark if state.baseline.is_none() => Some("here: nothing is marked (m marks)"),
        Key::Back
            if state.page.is_none()
                && state.at.pane != Pane::Detail
                && state.at.filter.is_empty() =>
        {
            Some("here: nothing is open; q quits")
        }
        _ => None,
    }
}

/// Applies a key.
pub fn update(state: &mut ViewState, key: Key) -> Effect {
    state.remark = None;
    let asked = state.suppression.take();
    if let Some(why) = no_effect(state, key) {
        let stroke = keys::stroke(key);
        let more = if key == Key::Back { "" } else { "; ? lists the keys" };
        state.remark = Some(Remark::passing(format!("{stroke} does nothing {why}{more}")));
        return Effect::Redraw;
    }
    match key {
        Key::Close if state.page.is_some() => state.page = None,
        Key::Close | Key::Quit => return Effect::Quit,
        Key::Repaint => return Effect::Repaint,
        Key::Save if state.shown.is_none() => return Effect::Redraw,
        Key::Save => return Effect::Save,
        Key::Full => return Effect::Full,
        Key::Help => toggle_page(state, Page::Help),
        Key::Limits => toggle_page(state, Page::Limits),
        Key::Suppress => return suppress(state, asked.as_deref()),
        Key::Growing => {
            // From another list, the key is a request to see them.
            state.growing_wanted = Some(!(state.shows_growing() && state.list == List::Findings));
            show(state, List::Findings);
            arrange(state);
        }
        Key::Back => back(state),
        Key::Up | Key::Down | Key::PageUp | Key::PageDown | Key::Home | Key::End => {
            move_cursor(state, key);
        }
        Key::Open => open(state),
        Key::Split => split(state),
        Key::SortLeft | Key::SortRight => sort_beside(state, key == Key::SortRight),
        Key::SortBy(what) => sort_by(state, what),
        Key::Reverse => {
            state.at.sort.reversed = !state.at.sort.reversed;
            arrange(state);
        }
        Key::Findings => show(state, List::Findings),
        Key::Sites => show(state, List::Sites),
        Key::Fds => show(state, List::Fds),
        Key::Clients if matches!(state.list, List::Connections | List::Leaving) => {
            show(state, List::Clients);
        }
        Key::Leaving if state.list != List::Leaving => show(state, List::Leaving),
        Key::Connections | Key::Clients | Key::Leaving => show(state, List::Connections),
        Key::Objects => show(state, List::ObjectTypes),
        Key::Each if state.list == List::Objects => show(state, List::ObjectTypes),
        Key::Each if state.finding().is_some() => sites_of_finding(state),
        Key::Each => each(state),
        Key::Pause => {
            if state.toggle_pause() {
                scroll(state);
            }
        }
        Key::Mark => {
            state.mark();
            scroll(state);
            if !matches!(state.list, List::Findings | List::Sites) && state.baseline.is_some() {
                let text = "marked: findings (1) and call sites (2) show the change since";
                state.remark = Some(Remark::passing(text));
            }
        }
        Key::Unmark => {
            state.unmark();
            scroll(state);
        }
        Key::Filter => {
            state.page = None;
            if state.at.pane == Pane::Detail {
                state.close_details();
                state.at.pane = Pane::Table;
            }
            state.typing = Some(state.at.filter.clone());
        }
        Key::Typed(_) | Key::Erase | Key::EraseAll | Key::Accept => write(state, key),
    }
    Effect::Redraw
}

/// Switches to another list; closes whatever covers the table.
fn show(state: &mut ViewState, list: List) {
    state.page = None;
    state.scroll = 0;
    state.came_from = None;
    state.close_details();
    if state.go(list) {
        scroll(state);
    }
}

fn toggle_page(state: &mut ViewState, page: Page) {
    state.page = (state.page != Some(page)).then_some(page);
    state.scroll = 0;
}

/// Closes the topmost layer.
fn back(state: &mut ViewState) {
    state.scroll = 0;
    if state.page.is_some() {
        state.page = None;
    } else if let Some(before) = state.typing.take() {
        state.at.filter = before;
        arrange(state);
    } else if state.at.pane == Pane::Detail {
        state.close_details();
        arrange(state);
    } else if !state.at.filter.is_empty() {
        state.at.filter.clear();
        arrange(state);
        if let Some(list) = state.came_from.take() {
            show(state, list);
        }
    }
}

fn open(state: &mut ViewState) {
    if state.page.is_some() || state.at.pane == Pane::Detail {
        back(state);
    } else if let Some(Id::ObjectType(kind)) = state.id() {
        filtered(state, List::Sites, order::KIND.to_owned() + &kind);
    } else if state.finding().is_some() || state.site().is_some() {
        state.scroll = 0;
        state.at.pane = Pane::Detail;
        put_cursor(state, state.at.cursor);
    } else if state.list == List::Clients && !state.at.order.is_empty() {
        // All of one client's connections, by its address.
        open_client(state);
    } else if !state.at.order.is_empty() {
        state.remark = Some(Remark::done(
            "call site unknown: it was opened before the attach, or in a way that is not traced",
        ));
    }
}

/// The connections of the client under the cursor.
fn open_client(state: &mut ViewState) {
    let Some(Id::Client(address)) = state.id() else { return };
    filtered(state, List::Connections, address);
}

/// Single objects of the type or the call site under the cursor; all objects from other items.
fn each(state: &mut ViewState) {
    let filter = match state.id() {
        Some(Id::ObjectType(kind)) => order::KIND.to_owned() + &kind,
        Some(Id::Site(number)) if state.site().is_some_and(|site| site.kind.is_object()) => {
            format!("{}{number}", order::SITE)
        }
        _ => String::new(),
    };
    filtered(state, List::Objects, filter);
}

/// The call sites of the finding under the cursor; Esc leads back.
fn sites_of_finding(state: &mut ViewState) {
    let Some(finding) = state.finding() else { return };
    let numbers: Vec<String> = finding.sites.iter().map(u32::to_string).collect();
    filtered(state, List::Sites, order::SITE.to_owned() + &numbers.join(","));
    state.came_from = Some(List::Findings);
}

/// Asks before it requests the suppression of the finding under the cursor.
fn suppress(state: &mut ViewState, asked: Option<&str>) -> Effect {
    let Some(finding) = state.finding() else { return Effect::Redraw };
    let Some(pattern) = suppression(finding) else {
        state.remark = Some(Remark::failed("no suppression: the finding has no function"));
        return Effect::Redraw;
    };
    if asked == Some(&pattern) {
        state.suppression = Some(pattern);
        return Effect::Suppress;
    }
    state.remark = Some(Remark::done(format!("x again suppresses it from now on: {pattern}")));
    state.suppression = Some(pattern);
    Effect::Redraw
}

/// The line of a suppressions file that hides this finding: its function's whole name, since `leak:f` would hide every
/// function with an f.
fn suppression(finding: &Finding) -> Option<String> {
    let label = finding.asked()?.label();
    let is_line = !label.is_empty() && !label.chars().any(char::is_control);
    is_line.then(|| format!("leak:^{label}$"))
}

/// Another list, filtered.
fn filtered(state: &mut ViewState, list: List, filter: String) {
    show(state, list);
    state.at.filter = filter;
    arrange(state);
}

fn split(state: &mut ViewState) {
    state.page = None;
    state.scroll = 0;
    let was = state.at.pane;
    state.close_details();
    state.at.pane = match was {
        Pane::Table | Pane::Detail => Pane::Split,
        Pane::Split => Pane::Table,
    };
    scroll(state);
}

/// Moves the cursor, or scrolls the page that covers the table.
fn move_cursor(state: &mut ViewState, key: Key) {
    let layout = layout_of(state);
    if state.page.is_some() || state.at.pane == Pane::Detail {
        let lines = match state.page {
            Some(Page::Help) => help::lines(state, layout.width).len(),
            Some(Page::Limits) => limits::lines(state, layout.width).len(),
            None => detail::length(state, layout.width),
        };
        let last = lines.saturating_sub(layout.detail_rows());
        state.scroll = moved(state.scroll.min(last), key, layout.detail_rows(), last);
    } else if key == Key::Home {
        put_cursor(state, 0);
        state.at.selected = None;
    } else {
        let last = state.at.order.len().saturating_sub(1);
        let row = moved(state.at.cursor, key, layout.table_rows(), last);
        put_cursor(state, row);
    }
}

fn moved(from: usize, key: Key, page: usize, last: usize) -> usize {
    // One line of the old page stays visible.
    let page = page.saturating_sub(1).max(1);
    let to = match key {
        Key::Up => from.saturating_sub(1),
        Key::Down => from + 1,
        Key::PageUp => from.saturating_sub(page),
        Key::PageDown => from + page,
        Key::Home => 0,
        Key::End => last,
        _ => from,
    };
    to.min(last)
}

/// The available column beside the sorting column, with wraparound.
fn sort_beside(state: &mut ViewState, right: bool) {
    let Some(context) = state.context() else { return };
    let columns = state.list.sortable(&context);
    let at = columns.iter().position(|by| *by == state.at.sort.by).unwrap_or(0);
    let step = if right { 1 } else { columns.len().saturating_sub(1) };
    if let Some(next) = columns.get((at + step) % columns.len().max(1)) {
        state.at.sort = SortOrder { by: *next, reversed: false };
        arrange(state);
    }
}

/// Sorts by what a letter stands for; by the same again: in reverse.
fn sort_by(state: &mut ViewState, what: SortBy) {
    let Some(by) = sort_column(state, what) else { return };
    let again = state.at.sort.by == by && !state.at.sort.reversed;
    state.at.sort = SortOrder { by, reversed: again };
    arrange(state);
}

/// The column of the list that a letter stands for.
fn sort_column(state: &ViewState, what: SortBy) -> Option<ColumnId> {
    if what == SortBy::Worst {
        return Some(state.list.first_sort().by);
    }
    let there = state.list.sortable(&state.context()?);
    what.columns().iter().copied().find(|column| there.contains(column))
}

fn write(state: &mut ViewState, key: Key) {
    match key {
        Key::Typed(character) => state.at.filter.push(character),
        Key::Erase => {
            state.at.filter.pop();
        }
        Key::EraseAll => state.at.filter.clear(),
        _ => state.typing = None,
    }
    arrange(state);
}
