//! The table, for any type of items: column titles, the columns that fit, and the visible rows only.
//!
//! Pure; takes a list's columns and order, returns rows. With 100,000 items it still formats no more than one
//! screenful.

use crate::{
    format,
    tui::{
        columns::{Column, TableContext},
        figures,
        lists::Listed,
        model::SortOrder,
        names,
        text::{Role, Row},
    },
};

/// The visible part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Indexes of the items in the report, in order.
    pub order: &'a [usize],
    /// Index into `order` of the first visible one.
    pub top: usize,
    /// Index into `order` of the cursor, if there is one.
    pub cursor: Option<usize>,
    /// The sorting column, if any.
    pub sort: Option<SortOrder>,
}

/// Column titles and the visible items, in `height` lines.
pub fn rows<T: Listed>(
    context: &TableContext<'_>,
    what: &Shown<'_>,
    width: usize,
    height: usize,
) -> Vec<Row> {
    let columns = chosen::<T>(context, what.sort, width);
    let gap = " ".repeat(gap(width));
    let mut lines = vec![titles(&columns, what.sort, &gap, width)];
    let visible = what.order.iter().enumerate().skip(what.top).take(height.saturating_sub(1));
    for (number, at) in visible {
        let Some(entry) = context.entry::<T>(*at) else { continue };
        let mut row = Row::of(Role::Text, " ");
        for (place, (column, cells)) in columns.iter().enumerate() {
            if place > 0 {
                row = row.with(Role::Text, gap.clone());
            }
            row = row.and(aligned((column.cell)(&entry, *cells), column.left, *cells));
        }
        row.selected = what.cursor == Some(number);
        lines.push(row.fitted(width));
    }
    lines
}

/// The direction in which a column is sorted.
pub const fn arrow<T>(column: &Column<T>, reversed: bool) -> &'static str {
    if column.largest_first == reversed { "▲" } else { "▼" }
}

fn gap(width: usize) -> usize {
    if width < 100 { 1 } else { 2 }
}

/// The columns that fit, in the table's order, each with its width. The sorting column is kept before others.
fn chosen<T: Listed>(
    context: &TableContext<'_>,
    sort: Option<SortOrder>,
    width: usize,
) -> Vec<(&'static Column<T>, usize)> {
    let sorted = |column: &Column<T>| sort.is_some_and(|sort| sort.by == column.by);
    let leave = |column: &Column<T>| if sorted(column) { 16 } else { column.leave };
    let mut by_importance: Vec<&Column<T>> =
        T::COLUMNS.iter().filter(|column| column.is_available(context)).collect();
    by_importance.sort_by_key(|column| leave(column));
    let mut space = width.saturating_sub(2);
    let mut kept = Vec::new();
    for column in by_importance {
        let cells = column.cells(context, width);
        let needed = if cells == 0 { 0 } else { cells + gap(width) };
        if cells == 0 || space >= needed + leave(column) {
            space -= needed;
            kept.push(column.by);
        }
    }
    let cells = |column: &Column<T>| match column.cells(context, width) {
        0 => space,
        cells => cells,
    };
    let shown = T::COLUMNS.iter().filter(|column| kept.contains(&column.by));
    shown.map(|column| (column, cells(column))).collect()
}

fn titles<T>(
    columns: &[(&Column<T>, usize)],
    sort: Option<SortOrder>,
    gap: &str,
    width: usize,
) -> Row {
    let mut row = Row::of(Role::Text, " ");
    for (place, (column, cells)) in columns.iter().enumerate() {
        let sorted = sort.filter(|sort| sort.by == column.by);
        let role = if sorted.is_some() { Role::Sorted } else { Role::Title };
        let marked = sorted.map(|sort| format!("{}{}", column.title, arrow(column, sort.reversed)));
        let text = match marked {
            Some(marked) if names::width(&marked) <= *cells => marked,
            _ if *cells < 4 && names::width(column.title) > *cells => String::new(),
            _ => column.title.to_owned(),
        };
        if place > 0 {
            row = row.with(Role::Text, gap);
        }
        row = row.and(aligned(Row::of(role, text), column.left, *cells));
    }
    row.fitted(width)
}

fn aligned(cell: Row, left: bool, cells: usize) -> Row {
    let missing = cells.saturating_sub(cell.width());
    if left { cell.fitted(cells) } else { Row::of(Role::Text, " ".repeat(missing)).and(cell) }
}

/// `36.1 MiB in 9,120`.
pub fn amount(bytes: u64, count: u64) -> String {
    format!("{} in {}", format::bytes(bytes), figures::count(count))
}
