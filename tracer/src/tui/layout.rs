//! The layout of the screen.
//!
//! Pure: takes the state and the height of the header, returns line numbers. `update` asks it for the page length, `draw`
//! for the positions; both get the same answer.

use super::{
    lists::List,
    state::{Pane, ViewState},
};

/// The smallest screen on which the layout is usable.
pub const SMALLEST: (u16, u16) = (60, 12);

/// Line numbers and heights of the parts; a part with height 0 is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Width in cells.
    pub width: usize,
    /// Lines of the header, from the top.
    pub header: usize,
    /// Lines of the totals with their title line and column titles, below the header.
    pub totals: usize,
    /// Lines of the table with its title line and column titles, below the totals.
    pub table: usize,
    /// Lines at the end of the table for what is not listed.
    pub folded: usize,
    /// Lines of the details or the help with their title line, below the table.
    pub detail: usize,
}

impl Layout {
    /// Visible rows of the table.
    pub fn table_rows(&self) -> usize {
        self.table.saturating_sub(2 + self.folded)
    }

    /// Visible lines of details or help.
    pub fn detail_rows(&self) -> usize {
        self.detail.saturating_sub(1)
    }
}

/// Whether the screen is too small for more than one line.
pub fn too_small(state: &ViewState) -> bool {
    state.size.columns < SMALLEST.0 || state.size.rows < SMALLEST.1
}

/// The layout for this state, below a header of so many lines. The last line of the screen is always the footer.
pub fn of(state: &ViewState, header: usize) -> Layout {
    let width = usize::from(state.size.columns);
    let rows = usize::from(state.size.rows);
    let body = rows.saturating_sub(header + 1);
    let alone = state.page.is_some() || state.at.pane == Pane::Detail;
    let folded = usize::from(state.list == List::Findings && !alone && state.shown.is_some());
    let detail = match state.at.pane {
        _ if alone => body,
        // Findings are few: no more lines than they need, and at most half.
        Pane::Split if !state.at.order.is_empty() && state.list == List::Findings => {
            body - (state.at.order.len() + 3).min(body / 2)
        }
        // Clients have no call site.
        Pane::Split if !state.at.order.is_empty() && state.list != List::Clients => {
            (body * 9 / 20).clamp(11, 20).min(body.saturating_sub(5))
        }
        Pane::Split | Pane::Table | Pane::Detail => 0,
    };
    let rest = body - detail;
    let totals = match (state.list, state.summary.types.len()) {
        // The table gets at least half.
        (List::Fds, types) if !alone && types > 0 => (types + 2).min(rest / 2),
        _ => 0,
    };
    // A title without rows is useless.
    let totals = if totals < 3 { 0 } else { totals };
    let table = rest - totals;
    Layout { width, header, totals, table, folded: folded.min(table), detail }
}
