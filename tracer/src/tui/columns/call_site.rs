//! The cell of a call site: its function, source and callers.

use crate::{
    format,
    report::{Frame, Site},
    tui::{
        alike::Difference,
        names,
        text::{Role, Row},
    },
};

/// A function's own name up to this width is not cut to make space for its source.
const NAME: usize = 28;

/// Function, source and, if there is space, its callers.
pub(super) fn call_site(site: &Site, cells: usize) -> Row {
    function(&site.frames, site.headline, None, cells)
}

/// The same of a call site that would look like another: with what differs.
pub(super) fn distinct(site: &Site, difference: Option<Difference>, cells: usize) -> Row {
    let difference = difference.map(|difference| (difference, site.acquired_by.as_str()));
    function(&site.frames, site.headline, difference, cells)
}

/// The same for any stack; with what distinguishes it, and the acquiring function.
pub(super) fn function(
    frames: &[Frame],
    headline: usize,
    difference: Option<(Difference, &str)>,
    cells: usize,
) -> Row {
    if let Some((difference, acquired_by)) = difference
        && let Some(row) = told_apart(frames, headline, difference, acquired_by, cells)
    {
        return row;
    }
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

/// Function, its source if there is space, and what distinguishes it from other rows.
fn told_apart(
    frames: &[Frame],
    headline: usize,
    difference: Difference,
    acquired_by: &str,
    cells: usize,
) -> Option<Row> {
    let asked = frames.get(headline)?;
    let label = asked.label();
    let role = if asked.symbol.is_some() { Role::Strong } else { Role::Text };
    let forms = forms(frames, headline, difference, acquired_by)?;
    let least = names::width(&names::last_part(&label)).min(cells / 2);
    // The line is a part of what distinguishes it, too: it stays if its file does not fit, but not at the price of the rest.
    let line = asked.line.map_or_else(String::new, |line| format!(":{line}"));
    let fitting = |behind: &str| {
        let taken = least + names::width(behind);
        forms.iter().find(|form| names::width(form) + taken < cells)
    };
    let (note, line) = match (fitting(&line), fitting("")) {
        (Some(form), _) => (form.clone(), line),
        (None, Some(form)) => (form.clone(), String::new()),
        (None, None) => {
            (names::start_of(forms.last()?, cells.saturating_sub(least + 1)), String::new())
        }
    };
    let space = cells.saturating_sub(names::width(&note) + 1);
    let source = asked.source().filter(|source| {
        let bare = names::width(&names::last_part(&label));
        bare + names::width(source) < space
    });
    let behind = source.map_or(line, |source| format!(" {source}"));
    let name = names::function(&label, space.saturating_sub(names::width(&behind)));
    let row = Row::of(role, name).with(Role::Muted, behind);
    Some(row.with(Role::Text, format!(" {note}")))
}

/// The forms of a difference, the longest first.
fn forms(
    frames: &[Frame],
    headline: usize,
    difference: Difference,
    acquired_by: &str,
) -> Option<Vec<String>> {
    Some(match difference {
        Difference::Caller { at, line } => {
            let frame = frames.get(at)?;
            let name = short(frame);
            let arrow = if at == headline + 1 { "←" } else { "← … ←" };
            let mut forms = Vec::new();
            // A file without a line would not distinguish.
            if let Some(source) = frame.source().filter(|_| frame.line.is_some() || !line) {
                forms.push(format!("{arrow} {name} {source}"));
            }
            let last = names::last_part(&frame.label());
            for name in [name, last] {
                let place = if line { place_in(frame) } else { String::new() };
                forms.push(format!("{arrow} {name}{place}"));
            }
            if line {
                forms.push(format!("←{}", place_in(frame)));
            }
            forms
        }
        Difference::Callee(at) => {
            let frame = frames.get(at)?;
            let name = names::last_part(&frame.label());
            let named = frame.line.map(|line| format!("via {name}:{line}"));
            named.into_iter().chain([format!("via {name}")]).collect()
        }
        Difference::Module => {
            vec![format!("in {}", format::file_name(frames.get(headline)?.module.as_deref()?))]
        }
        Difference::Offset => vec![format!("+{:#x}", frames.get(headline)?.offset?)],
        Difference::AcquiredBy if acquired_by.is_empty() => return None,
        Difference::AcquiredBy => vec![format!("by {acquired_by}")],
    })
}

/// Where in its function a frame is: `:33`, or `+0x3c` without lines.
fn place_in(frame: &Frame) -> String {
    match (frame.line, frame.offset) {
        (Some(line), _) => format!(":{line}"),
        (None, Some(offset)) => format!("+{offset:#x}"),
        (None, None) => String::new(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::sample;

    #[test]
    fn what_distinguishes_a_row_is_shown_at_any_width() {
        let first = sample::site(1).frames.first().cloned().unwrap();
        let frame = |name: &str, line| Frame {
            symbol: Some(name.into()),
            file: Some("/src/gateway/zoo.cpp".into()),
            line,
            offset: Some(0x3c),
            ..first.clone()
        };
        let frames = [
            frame("grow(int)", Some(7)),
            frame("make(int)", Some(29)),
            frame("handle_request(int)", Some(33)),
            frame("serve", None),
        ];
        let caller = |at, line| Difference::Caller { at, line };
        for (difference, cells, text) in [
            (caller(2, true), 60, "make(int) zoo.cpp:29 ← handle_request(int) zoo.cpp:33"),
            (caller(2, true), 40, "make:29 ← handle_request(int) zoo.cpp:33"),
            (caller(2, true), 38, "make(int):29 ← handle_request(int):33"),
            (caller(2, true), 28, "make:29 ← handle_request:33"),
            (caller(2, true), 14, "make:29 ←:33"),
            (caller(2, false), 29, "make:29 ← handle_request(int)"),
            (caller(3, true), 40, "make(int) zoo.cpp:29 ← … ← serve+0x3c"),
            (Difference::Callee(0), 31, "make(int) zoo.cpp:29 via grow:7"),
            (Difference::Offset, 30, "make(int) zoo.cpp:29 +0x3c"),
            (Difference::AcquiredBy, 40, "make(int) zoo.cpp:29 by calloc"),
        ] {
            let row = function(&frames, 1, Some((difference, "calloc")), cells);
            assert_eq!(row.text(), text, "{difference:?} {cells}");
        }
    }
}
