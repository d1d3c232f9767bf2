//! The cell of a call site: its function, source and callers.

use crate::{
    report::{Frame, Site},
    tui::{
        names,
        text::{Role, Row},
    },
};

/// A function's own name up to this width is not cut to make space for its source.
const NAME: usize = 28;

/// Function, source and, if there is space, its callers.
pub(super) fn call_site(site: &Site, cells: usize) -> Row {
    function(&site.frames, site.headline, cells)
}

/// The same for any stack.
pub(super) fn function(frames: &[Frame], headline: usize, cells: usize) -> Row {
    let Some(asked) = frames.get(headline).or_else(|| frames.first()) else {
        return Row::of(Role::Muted, "unknown stack");
    };
    let above = frames.get(headline + 1..).unwrap_or_default();
    let source = asked.source().unwrap_or_default();
    let role = if asked.symbol.is_some() { Role::Strong } else { Role::Text };
    let label = asked.label();
    if source.is_empty() {
        return callers(Row::of(role, names::function(&label, cells)), above, cells);
    }
    // The source is kept as long as a recognizable function name fits beside it.
    let least = names::width(&names::last_part(&label)).min((cells / 2).max(NAME));
    let kept = names::middle(&source, cells.saturating_sub(least + 1).min(28));
    if names::width(&kept) < 8 {
        return Row::of(role, names::function(&label, cells));
    }
    let space = cells.saturating_sub(names::width(&kept) + 1);
    let row = Row::of(role, names::function(&label, space)).with(Role::Muted, format!(" {kept}"));
    callers(row, above, cells)
}

/// The row with ` ← caller ← caller`, as many as fit with recognizable names.
fn callers(mut row: Row, frames: &[Frame], cells: usize) -> Row {
    for frame in frames {
        let space = cells.saturating_sub(row.width() + 3);
        let name = short(frame);
        let wanted = names::width(&name);
        if space < wanted.min(16) {
            break;
        }
        let name = names::function(&name, space.min(32));
        row = row.with(Role::Muted, format!(" ← {name}"));
    }
    row
}

/// A caller's name without template arguments and parameters.
fn short(frame: &Frame) -> String {
    let label = frame.label();
    names::function(&label, 32.min(names::width(&label)))
}
