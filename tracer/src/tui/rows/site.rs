//! The selected call site: verdict, figures, curve and stack.
//!
//! Pure; takes a call site and the state, returns rows. Wide screens have the stack at the left and the figures at
//! the right; narrow ones have the figures above the stack.

use super::{
    beside::{BESIDE, WIDE, curve, side_by_side},
    left_behind, object,
    stack::{self, Stack},
    table::amount,
};
use crate::{
    format,
    report::{Amount, Site},
    tui::{
        columns::{rate, verdict_words},
        figures, names,
        state::ViewState,
        text::{Role, Row, Segment, packed, spread},
    },
};

/// Its lines, in `space` lines if possible; all of them if it is shown in full.
pub(super) fn content(
    site: &Site,
    state: &ViewState,
    width: usize,
    space: usize,
    full: bool,
) -> Vec<Row> {
    let mut content = object::rows(state, width);
    let stack = Stack::of(site);
    let of_site = if width >= WIDE {
        let cells = width - BESIDE - 2;
        let left = if full {
            stack::full(&stack, super::modules(state), cells)
        } else {
            stack::short(&stack, cells)
        };
        side_by_side(&left, &beside(site, state, space.saturating_sub(content.len())), cells)
    } else if full {
        above(site, state, width, space)
    } else {
        let mut rows = brief(site, state, width);
        rows.extend(stack::short(&stack, width));
        rows
    };
    content.extend(of_site);
    content
}

/// Its function, source, and the function that acquires.
pub(super) fn title(site: &Site, state: &ViewState, width: usize) -> Vec<Segment> {
    let part = |rank, role, text| Segment { rank, row: Row::of(role, text) };
    let source = site.asked().and_then(crate::report::Frame::source).unwrap_or_default();
    let whose = state.label().map(|label| names::middle(&label, width / 3)).unwrap_or_default();
    let label =
        site.asked().map_or_else(|| "unknown stack".to_owned(), crate::report::Frame::label);
    vec![
        part(1, Role::Notice, whose),
        part(0, Role::Strong, names::function(&label, width * 2 / 5)),
        part(2, Role::Muted, names::clean(&source)),
        part(3, Role::Muted, format!("by {}", names::clean(&site.acquired_by))),
    ]
}

/// The figures in at most three lines, for a low screen.
fn brief(site: &Site, state: &ViewState, width: usize) -> Vec<Row> {
    let part = |rank, title: &str, role, text: String| Segment {
        rank,
        row: Row::of(Role::Muted, format!("{title} ")).with(role, text),
    };
    let mut lines = Vec::new();
    lines.extend(verdict_line(site).map(|row| row.fitted(width)));
    let indented = |parts| Row::of(Role::Text, " ").and(packed(parts, width.saturating_sub(2), 3));
    let about = figures::about(site.error.as_ref());
    let amount = match site.error {
        _ if !site.kind.has_bytes() => about.to_owned() + &format::count(site.outstanding_count),
        None => amount(site.outstanding_bytes, site.outstanding_count),
        Some(error) => format!(
            "~{} ± {} in ~{}",
            format::bytes(site.outstanding_bytes),
            error.outstanding.map_or_else(|| "?".to_owned(), |error| format::bytes(error.bytes)),
            figures::count(site.outstanding_count)
        ),
    };
    let marked = |number| about.to_owned() + &figures::count(number);
    let mut held = vec![
        part(0, "outstanding", Role::Strong, amount),
        part(1, "acquired", Role::Text, marked(site.acquired_count)),
        part(1, "released", Role::Text, marked(site.released_count)),
    ];
    if site.inherited.count > 0 {
        held.push(part(1, "inherited", Role::Text, figures::count(site.inherited.count)));
    }
    lines.push(indented(held));
    let growth = if site.kind.has_bytes() {
        rate(site.growth_bytes_per_s, format::bytes_per_s)
    } else {
        rate(site.growth_count_per_s, format::count_per_s)
    };
    let growth = Row::of(Role::Muted, "growth ").and(growth);
    let mut second = vec![Segment { rank: 0, row: growth }];
    if let Some(age) = site.age_s {
        let text = format!("{} to {}", format::seconds(age.min), format::seconds(age.max));
        second.push(part(1, "age", Role::Text, text));
    }
    second.extend(since_mark(site, state).map(|row| Segment { rank: 1, row }));
    let left = indented(second);
    let cells = width.saturating_sub(left.width() + 4).min(24);
    let curve = Row::of(Role::Accent, figures::spark(&site.trend_bytes, cells));
    lines.push(spread(left, curve.with(Role::Text, " "), width));
    let left_behind = left_behind::brief(site, state, width.saturating_sub(3));
    lines.extend(left_behind.into_iter().map(|line| Row::of(Role::Bad, format!(" {line}"))));
    lines
}

/// Everything in one column.
fn above(site: &Site, state: &ViewState, width: usize, space: usize) -> Vec<Row> {
    let mut rows = brief(site, state, width);
    rows.push(Row::new());
    rows.extend(stack::full(&Stack::of(site), super::modules(state), width));
    rows.push(Row::new());
    rows.extend(beside(site, state, space.min(20)));
    rows
}

/// Verdict, figures and curve in a column of [`BESIDE`] cells.
fn beside(site: &Site, state: &ViewState, space: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = verdict_line(site).into_iter().collect();
    for reason in &site.verdict.reasons {
        for (line, text) in names::wrapped(reason, BESIDE - 4).into_iter().enumerate() {
            let begin = if line == 0 { " · " } else { "   " };
            rows.push(Row::of(Role::Muted, begin).with(Role::Text, text));
        }
    }
    if !rows.is_empty() {
        rows.push(Row::new());
    }
    rows.extend(figure_lines(site, state));
    if let Some(age) = site.age_s {
        let [min, median, max] = [age.min, age.median, age.max].map(format::seconds);
        rows.push(Row::new());
        rows.push(
            Row::of(Role::Muted, " age         ")
                .with(Role::Text, format!("{min} to {max}, half over {median}")),
        );
    }
    let height = space.saturating_sub(rows.len() + 1).min(5);
    if height > 0 && site.trend_bytes.iter().any(|bytes| *bytes > 0) {
        rows.push(Row::new());
        rows.extend(curve(&site.trend_bytes, height));
    }
    rows
}

fn verdict_line(site: &Site) -> Option<Row> {
    let (mark, word, role) = verdict_words(site.verdict.class);
    if word.is_empty() {
        return None;
    }
    let sure = format!("  {:.0} % sure", site.verdict.confidence * 100.0);
    Some(Row::of(role, format!(" {mark} {word}")).with(Role::Muted, sure))
}

/// Bytes and count of every figure, one per line, aligned.
fn figure_lines(site: &Site, state: &ViewState) -> Vec<Row> {
    let line = |title: &str, bytes: Row, count: Row| {
        let blanks = |row: &Row, cells: usize| " ".repeat(cells.saturating_sub(row.width()));
        // Descriptors and threads have no bytes.
        let bytes = if site.kind.has_bytes() { bytes } else { Row::new() };
        Row::of(Role::Muted, format!(" {title:<12}{}", blanks(&bytes, 11)))
            .and(bytes)
            .with(Role::Text, blanks(&count, 12))
            .and(count)
    };
    let marked = |about: &str, role, title, bytes, count| {
        let count = Row::of(role, about.to_owned() + &format::count(count));
        line(title, Row::of(role, about.to_owned() + &format::bytes(bytes)), count)
    };
    let about = figures::about(site.error.as_ref());
    let plain = |role, title, bytes, count| marked(about, role, title, bytes, count);
    let off_by = |error: Option<Amount>| match error {
        Some(Amount { bytes, count }) => marked("± ", Role::Muted, "", bytes, count),
        None => line("", Row::of(Role::Muted, "± ?"), Row::of(Role::Muted, "± ?")),
    };
    let mut rows = vec![
        plain(Role::Strong, "outstanding", site.outstanding_bytes, site.outstanding_count),
        plain(Role::Text, "acquired", site.acquired_bytes, site.acquired_count),
        plain(Role::Text, "released", site.released_bytes, site.released_count),
    ];
    if site.inherited.count > 0 {
        let Amount { bytes, count } = site.inherited;
        rows.insert(2, plain(Role::Text, "inherited", bytes, count));
    }
    if let Some(error) = site.error {
        rows.insert(2, off_by(error.acquired));
        rows.insert(1, off_by(error.outstanding));
    }
    rows.push(line(
        "growth",
        rate(site.growth_bytes_per_s, format::bytes_per_s),
        rate(site.growth_count_per_s, format::count_per_s),
    ));
    if let Some(mark) = &state.baseline {
        let then = mark.amount(site.id);
        let bytes = figures::bytes_change(site.outstanding_bytes, then.bytes);
        let count = figures::count_change(site.outstanding_count, then.count);
        rows.push(line("since mark", Row::of(Role::Strong, bytes), Row::of(Role::Strong, count)));
    }
    if let Some(orphans) = site.orphans.filter(|orphans| orphans.count > 0) {
        rows.push(plain(Role::Bad, "orphans", orphans.bytes, orphans.count));
        let lines = left_behind::lines(site, state, BESIDE - 4).into_iter();
        rows.extend(lines.map(|line| Row::of(Role::Muted, "   ").with(Role::Text, line)));
    }
    if let Some(arena) = &site.arena {
        let lines = names::wrapped(&arena.sentence(), BESIDE - 2).into_iter();
        rows.extend(lines.map(|line| Row::of(Role::Text, format!(" {line}"))));
    }
    if let Some(threads) = site.threads {
        let count = |number| Row::of(Role::Text, format::count(number));
        rows.push(line("alive", Row::new(), count(threads.alive)));
        rows.push(line("not joined", Row::new(), count(threads.ended)));
        let resident = format::bytes(site.resident_bytes.unwrap_or_default());
        let stacks = format!("{resident} of {}", format::bytes(threads.stack_bytes));
        rows.push(Row::of(Role::Muted, " stacks      ").with(Role::Text, stacks));
    }
    if let Some(lost) = site.lost {
        rows.push(plain(Role::Bad, "lost blocks", lost.bytes, lost.count));
    }
    rows
}

fn since_mark(site: &Site, state: &ViewState) -> Option<Row> {
    let then = state.baseline.as_ref()?.amount(site.id);
    let bytes = figures::bytes_change(site.outstanding_bytes, then.bytes);
    let count = figures::count_change(site.outstanding_count, then.count);
    let row = Row::of(Role::Muted, "since mark ");
    Some(row.with(Role::Strong, format!("{bytes}, {count}")))
}
