//! All text of the screen, before it has colors.
//!
//! Takes the report and the view's state, returns [`Row`](super::text::Row)s. Does not depend on the terminal; `theme`
//! decides the look of a role, `draw` the position of a row.

mod answer;
mod beside;
pub mod body;
mod cohorts;
mod counts;
pub mod detail;
mod finding;
pub mod footer;
pub mod header;
pub mod help;
mod left_behind;
mod light;
pub mod limits;
mod object;
mod site;
pub mod stack;
pub mod table;

use super::{
    state::ViewState,
    text::{Role, Row, rule},
};
use crate::report::Module;

/// The object files of the report shown.
fn modules(state: &ViewState) -> &[Module] {
    state.shown.as_ref().map_or(&[], |report| &report.modules)
}

/// A page that covers the body: title line, and the lines from the scroll position on, in `height` lines.
fn page(
    title: &str,
    content: Vec<Row>,
    state: &ViewState,
    width: usize,
    height: usize,
) -> Vec<Row> {
    let space = height.saturating_sub(1);
    let first = state.scroll.min(content.len().saturating_sub(space));
    let last = (first + space).min(content.len());
    let remark = if content.len() > space {
        Row::of(Role::Muted, format!("lines {}–{last} of {}", first + 1, content.len()))
    } else {
        Row::new()
    };
    let mut rows = vec![rule(Row::of(Role::Strong, title), remark, width)];
    rows.extend(content.into_iter().skip(first).take(space));
    rows
}
