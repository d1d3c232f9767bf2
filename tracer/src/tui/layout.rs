//! Where the parts of the screen stand.
//!
//! Pure: takes the state, hands on line numbers. `update` asks it how long a page is, `draw` where to
//! paint; both get the same answer.

use super::{
    lists::List,
    rows::header,
    state::{Pane, ViewState},
};

/// The smallest screen on which anything useful fits.
pub const SMALLEST: (u16, u16) = (60, 12);

/// Line numbers and heights of the parts; a height of 0 is "not there".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Cells from left to right.
    pub width: usize,
    /// Lines of the header, from the top.
    pub header: usize,
    /// Lines of the sums with their title line and column titles, below the header.
    pub summary: usize,
    /// Lines of the table with its title line and column titles, below the sums.
    pub table: usize,
    /// Lines of the details or the help with their title line, below the table.
    pub detail: usize,
}

impl Layout {
    /// Rows of the table that are visible at once.
    pub fn table_rows(&self) -> usize {
        self.table.saturating_sub(2)
    }

    /// Lines of details or help that are visible at once.
    pub fn detail_rows(&self) -> usize {
        self.detail.saturating_sub(1)
    }
}

/// Whether the screen is too small for anything but one line.
pub fn too_small(state: &ViewState) -> bool {
    state.size.columns < SMALLEST.0 || state.size.rows < SMALLEST.1
}

/// The parts for this state. The last line of the screen is always the footer.
pub fn of(state: &ViewState) -> Layout {
    let width = usize::from(state.size.columns);
    let rows = usize::from(state.size.rows);
    let header = header::rows(state).len();
    let body = rows.saturating_sub(header + 1);
    let alone = state.help || state.pane == Pane::Detail;
    let detail = match state.pane {
        _ if alone => body,
        // Clients have no call site.
        Pane::Split if !state.at.order.is_empty() && state.list != List::Clients => {
            (body * 9 / 20).clamp(11, 20).min(body.saturating_sub(5))
        }
        Pane::Split | Pane::Table | Pane::Detail => 0,
    };
    let rest = body - detail;
    let summary = match (state.list, state.digest.types.len()) {
        // At least half is the table's.
        (List::Fds, types) if !alone && types > 0 => (types + 2).min(rest / 2),
        _ => 0,
    };
    // A title without a row says nothing.
    let summary = if summary < 3 { 0 } else { summary };
    Layout { width, header, summary, table: rest - summary, detail }
}
