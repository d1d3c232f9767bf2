//! The header's row of file descriptors, connections and objects.
//!
//! Pure; on a narrow screen the least important part is dropped first.

use crate::{
    format,
    report::{Connections, Fds, Report},
    tui::{
        columns, figures, lists,
        state::ViewState,
        summary::Summary,
        text::{Role, Row, Segment, packed},
    },
};

/// From this width on, there is more space between the parts.
const WIDE: usize = 100;

/// One row, or none if none of them is traced.
pub(super) fn rows(report: &Report, state: &ViewState, width: usize) -> Option<Row> {
    if !lists::has_other_lists(report) {
        return None;
    }
    // A limit that is near has a line of its own.
    let limit = !super::limits::is_near(report);
    let mut segments = report.fds.as_ref().map(|all| fds(all, limit)).unwrap_or_default();
    segments.extend(report.connections.iter().flat_map(|all| connections(all, width)));
    segments.extend(objects(report, &state.summary));
    let gap = if width < WIDE { 2 } else { 3 };
    Some(Row::of(Role::Text, " ").and(packed(segments, width.saturating_sub(2), gap)))
}

fn segment(rank: u8, row: Row) -> Segment {
    Segment { rank, row }
}

/// `fds 713/1,024 ▲ 0.4/s  limit reached in 13 min`
fn fds(fds: &Fds, with_limit: bool) -> Vec<Segment> {
    let limit = fds.limit.map_or_else(String::new, |limit| format!("/{}", format::count(limit)));
    let open = Row::of(Role::Muted, "fds ")
        .with(Role::Strong, figures::count(fds.open))
        .with(Role::Text, limit);
    let full = fds.seconds_to_limit.filter(|_| with_limit).map(|left| {
        segment(1, Row::of(Role::Doubtful, format!("limit reached in {}", format::roughly(left))))
    });
    [Some(segment(0, open.and(growth(fds.growth_per_s, format::count_per_s)))), full]
        .into_iter()
        .flatten()
        .collect()
}

/// ` ▲ 0.4/s`; empty while it is unknown, and when nothing changes.
fn growth(per_s: Option<f64>, write: fn(f64) -> String) -> Row {
    let row = columns::rate(per_s, write);
    let text = row.text();
    let arrow = match text.chars().next() {
        Some('+') => "▲",
        Some('-') => "▼",
        _ => return Row::new(),
    };
    let role = row.parts.first().map_or(Role::Text, |part| part.role);
    Row::of(role, format!(" {arrow} {}", text.trim_start_matches(['+', '-'])))
}

/// `conns 402 open  new/s 210`
fn connections(connections: &Connections, width: usize) -> Vec<Segment> {
    let open = Row::of(Role::Muted, "conns ")
        .with(Role::Strong, figures::count(connections.open))
        .with(Role::Text, if width < 80 { "" } else { " open" });
    let mut segments = vec![segment(2, open)];
    if connections.opened_per_s.is_some() {
        let rate = columns::per_second(connections.opened_per_s).text();
        let new = Row::of(Role::Muted, "new/s ").with(Role::Text, rate.trim_end_matches("/s"));
        segments.push(segment(4, new));
    }
    if connections.with_orphans > 0 {
        let left = format!("{} left memory behind", figures::count(connections.with_orphans));
        segments.push(segment(3, Row::of(Role::Bad, left)));
    }
    segments
}

/// `objects 5,200 (1.1 MiB) ▲ 3.4 KiB/s`; empty before the first object.
fn objects(report: &Report, summary: &Summary) -> Vec<Segment> {
    let (mut number, mut held, mut made) = (0, 0, 0);
    for (_, total) in report.totals.iter().filter(|(kind, _)| kind.is_object()) {
        number += total.outstanding_count;
        held += total.outstanding_bytes;
        made += total.acquired_count + total.inherited_count;
    }
    if made == 0 {
        return Vec::new();
    }
    let there = Row::of(Role::Muted, "objects ")
        .with(Role::Strong, figures::count(number))
        .with(Role::Text, format!(" ({})", format::bytes(held)));
    let rates = summary.growth.iter().filter(|(kind, _)| kind.is_object()).map(|(_, rate)| *rate);
    let rate = rates.reduce(|sum, rate| sum + rate);
    let mut segments = vec![segment(1, there)];
    let rate = growth(rate, format::bytes_per_s);
    if let Some(first) = rate.parts.first() {
        let row = Row::of(first.role, rate.text().trim_start());
        segments.push(segment(4, row));
    }
    segments
}
