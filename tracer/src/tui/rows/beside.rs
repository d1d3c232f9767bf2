//! Two columns on a wide screen, and the curve in the right one.
//!
//! Pure; takes rows and figures, returns rows.

use crate::{
    format,
    tui::{
        figures,
        text::{Role, Row},
    },
};

/// From this width on, stack and figures are side by side.
pub(super) const WIDE: usize = 110;
/// Width of the figures beside the stack, in cells.
pub(super) const BESIDE: usize = 46;

/// The left column in `cells` cells, a line, and the right column.
pub(super) fn side_by_side(left: &[Row], right: &[Row], cells: usize) -> Vec<Row> {
    let row = |number: usize| {
        let left = left.get(number).cloned().unwrap_or_default().fitted(cells);
        left.with(Role::Rule, "│ ").and(right.get(number).cloned().unwrap_or_default())
    };
    (0..left.len().max(right.len())).map(row).collect()
}

/// The curve with the values at its top and bottom.
pub(super) fn curve(trend: &[u64], height: usize) -> Vec<Row> {
    let curve = figures::curve(trend, BESIDE - 13, height);
    let lines = curve.lines.len();
    let label = |number: usize| match number {
        0 => format::bytes(curve.top),
        _ if number + 1 == lines => format::bytes(curve.foot),
        _ => String::new(),
    };
    curve
        .lines
        .iter()
        .enumerate()
        .map(|(number, line)| {
            Row::of(Role::Muted, format!(" {:>9} ", label(number))).with(Role::Accent, line)
        })
        .collect()
}
