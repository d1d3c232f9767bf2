//! The whole screen: header, sums, table, details or help, footer.
//!
//! Takes the state, returns cells. Formats only what is visible.

use ratatui::buffer::Buffer;

use super::paint;
use crate::tui::{
    layout,
    rows::{body, detail, footer, header, help, limits},
    state::{Page, ViewState},
    text::{Role, Row},
    theme::Theme,
};

/// Paints everything.
pub fn draw(state: &ViewState, theme: Theme, buffer: &mut Buffer) {
    for (line, row) in (0_u16..).zip(lines(state)) {
        paint::row(&row, line, theme, buffer);
    }
}

/// Every line of the screen, from the top.
fn lines(state: &ViewState) -> Vec<Row> {
    if layout::too_small(state) {
        return vec![too_small(state)];
    }
    let mut lines = header::rows(state);
    let layout = layout::of(state, lines.len());
    lines.truncate(layout.header);
    match state.shown.as_deref() {
        _ if state.page == Some(Page::Help) => {
            lines.extend(help::rows(state, layout.width, layout.detail));
        }
        _ if state.page == Some(Page::Limits) => {
            lines.extend(limits::rows(state, layout.width, layout.detail));
        }
        None => lines.extend([Row::new(), Row::of(Role::Muted, "   attaching…")]),
        Some(_) => {
            lines.extend(body::rows(state, &layout));
            lines.resize(layout.header + layout.totals + layout.table, Row::new());
            if layout.detail > 0 {
                lines.extend(detail::rows(state, layout.width, layout.detail));
            }
        }
    }
    lines.resize(layout.header + layout.totals + layout.table + layout.detail, Row::new());
    let footer = footer::rows(state);
    lines.truncate((lines.len() + 1).saturating_sub(footer.len()));
    lines.extend(footer);
    lines
}

fn too_small(state: &ViewState) -> Row {
    let (columns, rows) = layout::SMALLEST;
    let size = state.size;
    let lost = state.shown.as_deref().map_or(0, |report| header::lost(&report.accounting));
    let row = Row::of(
        Role::Text,
        format!("needs {columns}x{rows}, has {}x{}; q quits", size.columns, size.rows),
    );
    if lost > 0 { row.with(Role::Loud, format!(" LOST {lost}")) } else { row }
}
