//! Tables of the text report: columns as wide as their widest cell.
//!
//! Takes cells, returns lines.

use std::io::{self, Write};

use super::Page;

/// Rows of one table, the header first: text (the first column) is left-aligned, figures are right-aligned.
pub(super) fn table(rows: &[Vec<String>], page: &mut Page<'_, impl Write>) -> io::Result<()> {
    table_of(rows, |column| column == 0, page)
}

/// The same, with other columns left-aligned.
pub(super) fn table_of(
    rows: &[Vec<String>],
    is_text: impl Fn(usize) -> bool,
    page: &mut Page<'_, impl Write>,
) -> io::Result<()> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let aligned = |(column, (cell, width)): (usize, (&String, &usize))| {
            let width = *width;
            if is_text(column) { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") }
        };
        let line: String = row.iter().zip(&widths).enumerate().map(aligned).collect();
        page.row(line.trim_end())?;
    }
    Ok(())
}
