//! The selected finding: what leaks, why leaktrace says so, what to look at first, its history and its stack.
//!
//! Pure; takes a finding and the state, returns rows. Wide screens have sentences and stack at the left, figures at the
//! right; narrow ones have everything in one column.

use super::{
    beside::{BESIDE, WIDE, curve, side_by_side},
    cohorts,
    stack::{self, Stack},
    table::amount,
};
use crate::{
    format,
    report::{Amount, Fault, Finding, Frame},
    tui::{
        columns::{rate, verdict_words},
        figures, names,
        state::ViewState,
        text::{Role, Row, Segment, packed, spread},
    },
};

/// Its function and source.
pub(super) fn title(finding: &Finding, width: usize) -> Vec<Segment> {
    let part = |rank, role, text| Segment { rank, row: Row::of(role, text) };
    let label = finding.asked().map_or_else(|| "unknown stack".to_owned(), Frame::label);
    let source = finding.asked().and_then(Frame::source).unwrap_or_default();
    vec![
        part(0, Role::Strong, names::function(&label, width * 3 / 5)),
        part(1, Role::Muted, names::clean(&source)),
    ]
}

/// Its lines; the whole stack and all figures if it is shown in full.
pub(super) fn content(finding: &Finding, state: &ViewState, width: usize, full: bool) -> Vec<Row> {
    if width >= WIDE {
        let cells = width - BESIDE - 2;
        let mut left = sentences(finding, cells);
        left.push(Row::new());
        let stack = Stack::of_finding(finding, state.site());
        left.extend(if full {
            stack::full(&stack, super::modules(state), cells)
        } else {
            stack::short(&stack, cells)
        });
        return side_by_side(&left, &beside(finding, state), cells);
    }
    let mut rows = vec![verdict(finding, state).fitted(width)];
    rows.extend(sentences(finding, width));
    rows.push(brief(finding, state, width));
    let stack = Stack::of_finding(finding, state.site());
    if full {
        rows.push(Row::new());
        rows.extend(stack::full(&stack, super::modules(state), width));
        rows.push(Row::new());
        rows.extend(beside(finding, state).into_iter().skip(1));
    } else {
        rows.extend(stack::from_headline(&stack, width));
    }
    rows
}

/// ` ✖ leak  98 % sure  since 00:03:00, 9m41s ago`
fn verdict(finding: &Finding, state: &ViewState) -> Row {
    let (mark, word, role) = verdict_words(finding.class);
    let mut row = Row::of(role, format!(" {mark} {word}"))
        .with(Role::Text, format!("  {:.0} % sure", finding.confidence * 100.0));
    if let Some(since) = since(finding, state) {
        row = row.with(Role::Muted, format!("  since {since}"));
    }
    row
}

/// On the clock of the header, and how long ago.
fn since(finding: &Finding, state: &ViewState) -> Option<String> {
    let (since, now) = (finding.since?, state.shown.as_deref()?.window.duration_s);
    Some(format!("{}, {} ago", format::clock(since), format::seconds((now - since).max(0.0))))
}

/// Title, reasons, whose mistake, and what to look at first.
fn sentences(finding: &Finding, width: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |first: Row, role, text: &str| {
        let indent = first.width();
        let lines = names::wrapped(text, width.saturating_sub(indent + 1));
        let mut begin = Some(first);
        rows.extend(lines.into_iter().map(|line| {
            let blank = || Row::of(Role::Text, " ".repeat(indent));
            begin.take().unwrap_or_else(blank).with(role, line)
        }));
    };
    add(Row::of(Role::Text, " "), Role::Strong, &finding.title);
    for reason in &finding.reasons {
        add(Row::of(Role::Muted, " · "), Role::Text, reason);
    }
    if let Some(fault) = &finding.fault {
        let text = match fault.known() {
            Some(known) => sentence(known),
            None => fault.name(),
        };
        add(Row::of(Role::Muted, " · "), Role::Text, text);
    }
    if let Some(look_at) = &finding.look_at {
        add(Row::of(Role::Accent, " look first: "), Role::Text, look_at);
    }
    rows
}

const fn sentence(fault: Fault) -> &'static str {
    match fault {
        Fault::Program => "the program never calls the release",
        Fault::Library => "the program calls the release, and the resource remains",
    }
}

/// The most important figures in one line.
fn brief(finding: &Finding, state: &ViewState, width: usize) -> Row {
    let part = |rank, title: &str, row: Row| Segment {
        rank,
        row: Row::of(Role::Muted, format!("{title} ")).and(row),
    };
    let Amount { bytes, count } = finding.outstanding;
    let left = if bytes == 0 { format::count(count) } else { amount(bytes, count) };
    let mut segments =
        vec![part(0, "outstanding", Row::of(Role::Strong, about(state).to_owned() + &left))];
    if let Some(found) = finding.rate {
        let mut row = Row::new();
        if found.bytes_per_s != 0.0 {
            row = rate(Some(found.bytes_per_s), format::bytes_per_s).with(Role::Text, ", ");
        }
        let row = row.and(rate(Some(found.count_per_s), figures::count_rate));
        segments.push(part(1, "growth", row));
    }
    let left = Row::of(Role::Text, " ").and(packed(segments, width.saturating_sub(2), 3));
    let cells = width.saturating_sub(left.width() + 4).min(24);
    let curve = Row::of(Role::Accent, figures::spark(trend(state), cells));
    spread(left, curve.with(Role::Text, " "), width)
}

/// The prefix of an estimate.
fn about(state: &ViewState) -> &'static str {
    if state.shown.as_deref().is_some_and(|report| report.accounting.estimated) { "~" } else { "" }
}

fn trend(state: &ViewState) -> &[u64] {
    let at = state.at.order.get(state.at.cursor);
    at.and_then(|at| state.summary.finding_trends.get(*at)).map_or(&[], Vec::as_slice)
}

/// Verdict, figures, curve, parts and clients in a column of [`BESIDE`] cells.
fn beside(finding: &Finding, state: &ViewState) -> Vec<Row> {
    let mut rows = vec![verdict(finding, state), Row::new()];
    let line = |title: &str, bytes: Row, count: Row| {
        let blanks = |row: &Row, cells: usize| " ".repeat(cells.saturating_sub(row.width()));
        Row::of(Role::Muted, format!(" {:<12}{}", names::start_of(title, 12), blanks(&bytes, 11)))
            .and(bytes)
            .with(Role::Text, blanks(&count, 12))
            .and(count)
    };
    let about = about(state);
    let figure = |role, title: &str, bytes: u64, count: u64| {
        let bytes = match bytes {
            0 => Row::new(),
            _ => Row::of(role, about.to_owned() + &format::bytes(bytes)),
        };
        line(title, bytes, Row::of(role, about.to_owned() + &format::count(count)))
    };
    let Amount { bytes, count } = finding.outstanding;
    rows.push(figure(Role::Strong, "outstanding", bytes, count));
    if finding.parts.len() > 1 {
        let part = |part: &crate::report::FindingPart| {
            figure(Role::Text, &format!("  {}", part.kind.name()), part.bytes, part.count)
        };
        rows.extend(finding.parts.iter().map(part));
    }
    if let Some(found) = finding.rate {
        let bytes = match found.bytes_per_s {
            0.0 => Row::new(),
            _ => rate(Some(found.bytes_per_s), format::bytes_per_s),
        };
        rows.push(line("growth", bytes, rate(Some(found.count_per_s), figures::count_rate)));
        let [low, high] = [found.low, found.high].map(figures::count_rate);
        let interval = Row::of(Role::Muted, format!("{low} to {high}"));
        rows.push(line("  95 %", Row::new(), interval));
    }
    if let Some(mark) = &state.baseline {
        let then = mark.finding(finding);
        let bytes = figures::bytes_change(bytes, then.bytes);
        let count = figures::count_change(count, then.count);
        rows.push(line("since mark", Row::of(Role::Strong, bytes), Row::of(Role::Strong, count)));
    }
    let curve = curve(trend(state), 4);
    if trend(state).iter().any(|bytes| *bytes > 0) {
        rows.push(Row::new());
        rows.extend(curve);
    }
    if !finding.cohorts.is_empty() {
        rows.push(Row::new());
        rows.extend(cohorts::rows(&finding.cohorts));
    }
    if let Some(per) = &finding.per {
        rows.push(Row::new());
        let share = format::percent(per.share);
        let text = format!("{share} of {}s leave {} each", per.what, rounded(per.bytes));
        let lines = names::wrapped(&text, BESIDE - 2).into_iter();
        rows.extend(lines.map(|line| Row::of(Role::Text, format!(" {line}"))));
    }
    if !finding.clients.is_empty() {
        rows.push(Row::of(Role::Muted, " clients"));
    }
    for client in &finding.clients {
        // IPv6 addresses are longer than the title of a figure.
        let address = names::middle(&client.address, 24);
        let count = format::count(client.count);
        let text = if client.bytes == 0 { count } else { amount(client.bytes, client.count) };
        let right = Row::of(Role::Text, text);
        rows.push(spread(Row::of(Role::Text, format!("   {address}")), right, BESIDE - 1));
    }
    let mut of = vec![plural(finding.sites.len() as u64, "call site")];
    if finding.processes > 1 {
        of.push(plural(finding.processes, "process"));
    }
    rows.push(Row::new());
    rows.push(
        Row::of(Role::Muted, format!(" {}: ", of.join(" in ")))
            .with(Role::Accent, "e")
            .with(Role::Muted, " lists them"),
    );
    rows
}

fn rounded(bytes: f64) -> String {
    format::bytes_per_s(bytes).trim_start_matches('+').trim_end_matches("/s").to_owned()
}

fn plural(number: u64, noun: &str) -> String {
    let end = match (number, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {noun}{end}", format::count(number))
}
