//! One row to the cells of one line.
//!
//! Takes a row and a line number, paints; decides only the style of each part.

use ratatui::buffer::Buffer;

use crate::tui::{text::Row, theme::Theme};

/// Paints a row on line `line`; skips a row below the buffer.
pub fn row(row: &Row, line: u16, theme: Theme, buffer: &mut Buffer) {
    let area = buffer.area;
    if line >= area.height {
        return;
    }
    let mut at = 0;
    for part in &row.parts {
        // Mixed colors would make the cursor's line unreadable: it has one style.
        let style = if row.selected { theme.selected() } else { theme.style(part.role) };
        let space = usize::from(area.width.saturating_sub(at));
        (at, _) = buffer.set_stringn(at, line, &part.text, space, style);
    }
}
