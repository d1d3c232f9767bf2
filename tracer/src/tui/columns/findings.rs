//! The columns of the table of findings.

use super::{
    Column, ColumnId, Entry, Needs, Rank, UNKNOWN, call_site::function, counted, number, rate,
    signed, text, verdict_words, word,
};
use crate::{
    format,
    report::{Amount, Finding, FindingPart},
    tui::{
        figures, names,
        text::{Role, Row},
    },
};

/// Every column, from left to right.
#[rustfmt::skip]
pub const FINDINGS: &[Column<Finding>] = &[
    Column { by: ColumnId::Verdict, title: "verdict", help: "leak, suspect or growing; sorts worst first",
        needs: Needs::Nothing, width: |screen| if screen < 80 { 7 } else { 8 }, left: true,
        leave: 18, largest_first: true, rank: |one| Rank::Number(-(one.at as f64)), cell: |one, _| verdict(one.item) },
    Column { by: ColumnId::Confidence, title: "sure", help: "confidence in the verdict",
        needs: Needs::Nothing, width: |_| 5, left: false, leave: 18, largest_first: true,
        rank: |one| Rank::Number(one.item.confidence),
        cell: |one, _| Row::of(Role::Text, format!("{:.0} %", one.item.confidence * 100.0)) },
    Column { by: ColumnId::Site, title: "function", help: "the function to look at, its source, its callers",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(one.item.asked().and_then(|frame| frame.symbol.as_deref())),
        cell: |one, cells| function(&one.item.frames, one.item.headline,
            one.context.summary.alike_findings.get(&one.at).map(|difference| (*difference, "")), cells) },
    Column { by: ColumnId::Parts, title: "what", help: "kinds of what leaks, and how much of it each time",
        needs: Needs::Nothing, width: what_width, left: true, leave: 26, largest_first: false,
        rank: |one| Rank::Text(one.item.kind.name()),
        cell: |one, cells| Row::of(Role::Text, what(one.item, cells)) },
    Column { by: ColumnId::Growth, title: "rate", help: "growth in bytes per second; resources without a size: number per second",
        needs: Needs::Nothing, width: |_| 11, left: false, leave: 18, largest_first: true,
        rank: |one| number(one.item.rate.map(|rate| rate.bytes_per_s)), cell: |one, _| growth(one.item) },
    Column { by: ColumnId::CountGrowth, title: "count/s", help: "growth in resources per second",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 54, largest_first: true,
        rank: |one| number(one.item.rate.map(|rate| rate.count_per_s)),
        cell: |one, _| rate(one.item.rate.map(|rate| rate.count_per_s), format::count_per_s) },
    Column { by: ColumnId::Bytes, title: "amount", help: "outstanding bytes; resources without a size: their number",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 18, largest_first: true,
        rank: |one| counted(one.item.outstanding.bytes), cell: |one, _| amount(one) },
    Column { by: ColumnId::Count, title: "count", help: "outstanding resources",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 44, largest_first: true,
        rank: |one| counted(one.item.outstanding.count),
        cell: |one, _| Row::of(Role::Text, count(one)) },
    Column { by: ColumnId::BytesChange, title: "Δ bytes", help: "change of outstanding bytes since the mark",
        needs: Needs::Baseline, width: |_| 9, left: false, leave: 19, largest_first: true,
        rank: |one| change(one, |amount| amount.bytes),
        cell: |one, _| signed(one.item.outstanding.bytes, then(one).map(|then| then.bytes), figures::bytes_change) },
    Column { by: ColumnId::CountChange, title: "Δ count", help: "change of outstanding resources since the mark",
        needs: Needs::Baseline, width: |_| 8, left: false, leave: 19, largest_first: true,
        rank: |one| change(one, |amount| amount.count),
        cell: |one, _| signed(one.item.outstanding.count, then(one).map(|then| then.count), figures::count_change) },
    Column { by: ColumnId::Since, title: "since", help: "when it began, on the clock of the header; – before the attach, or not known",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 28, largest_first: false,
        rank: |one| number(one.item.since),
        cell: |one, _| super::known(Role::Text, one.item.since.map(format::clock)) },
    Column { by: ColumnId::Fault, title: "fault", help: "whose mistake: program (never calls the release) or library (keeps it although released)",
        needs: Needs::Faults, width: |_| 7, left: true, leave: 30, largest_first: false,
        rank: |one| word(one.item.fault.as_ref()),
        cell: |one, cells| one.item.fault.as_ref().map_or_else(|| Row::of(Role::Muted, UNKNOWN),
            |fault| Row::of(Role::Text, names::start_of(fault.name(), cells))) },
    Column { by: ColumnId::Processes, title: "procs", help: "number of processes that have it",
        needs: Needs::ManyProcesses, width: |_| 5, left: false, leave: 22, largest_first: true,
        rank: |one| counted(one.item.processes),
        cell: |one, _| Row::of(Role::Text, figures::count(one.item.processes)) },
    Column { by: ColumnId::FromClients, title: "clients", help: "number of clients that it comes from; the details list them",
        needs: Needs::FindingClients, width: |_| 7, left: false, leave: 50, largest_first: true,
        rank: |one| counted(one.item.clients.len() as u64), cell: |one, _| clients(one.item) },
    Column { by: ColumnId::Trend, title: "trend", help: "outstanding bytes over the last refreshes; the axis starts at zero",
        needs: Needs::Nothing, width: |screen| if screen < 140 { 12 } else { 20 }, left: true, leave: 40, largest_first: true,
        rank: |one| super::risen(trend(one)),
        cell: |one, cells| Row::of(Role::Accent, figures::spark(trend(one), cells)) },
];

fn what_width(screen: usize) -> usize {
    match screen {
        0..100 => 13,
        100..120 => 16,
        120..140 => 22,
        140..180 => 30,
        _ => 44,
    }
}

fn verdict(finding: &Finding) -> Row {
    let (_, word, role) = verdict_words(finding.class);
    Row::of(role, word)
}

/// What leaks, in the most telling form that fits: `12.0 KiB and a socket per closed connection`, `heap + socket`.
fn what(finding: &Finding, cells: usize) -> String {
    let kinds: Vec<&str> = finding.parts.iter().map(|part| part.kind.name()).collect();
    let short = kinds.join(" + ");
    let mut forms = Vec::new();
    if let Some(per) = &finding.per {
        let sized = finding.parts.iter().any(|part| part.bytes > 0);
        let bytes = sized.then(|| magnitude(per.bytes));
        let others = finding.parts.iter().filter(|part| part.kind.is_descriptor());
        let others = others.map(|part| part.kind.name().to_owned());
        let all: Vec<String> = bytes.into_iter().chain(others).collect();
        forms.push(format!("{} per {}", all.join(" and "), per.what));
        forms.push(format!("{} per conn.", all.join(" + ")));
    } else if let [FindingPart { count: count @ 1.., bytes: bytes @ 1.., .. }] =
        finding.parts.as_slice()
    {
        forms.push(format!("{short}, {} each", format::bytes(bytes / count)));
    }
    let fits = forms.into_iter().find(|form| names::width(form) <= cells);
    names::start_of(&fits.unwrap_or(short), cells)
}

/// A mean of bytes, rounded.
fn magnitude(bytes: f64) -> String {
    format::bytes_per_s(bytes).trim_start_matches('+').trim_end_matches("/s").to_owned()
}

/// Bytes per second; for resources without a size, their number.
fn growth(finding: &Finding) -> Row {
    if finding.outstanding.bytes == 0 {
        rate(finding.rate.map(|rate| rate.count_per_s), format::count_per_s)
    } else {
        rate(finding.rate.map(|rate| rate.bytes_per_s), format::bytes_per_s)
    }
}

/// Bytes; for resources without a size, their number.
fn amount(one: &Entry<'_, Finding>) -> Row {
    let Amount { bytes, .. } = one.item.outstanding;
    let text = if bytes == 0 { count(one) } else { about(one).to_owned() + &format::bytes(bytes) };
    Row::of(Role::Strong, text)
}

fn count(one: &Entry<'_, Finding>) -> String {
    let Amount { count, .. } = one.item.outstanding;
    if one.context.report.accounting.estimated {
        figures::estimated_count(count)
    } else {
        figures::count(count)
    }
}

/// The prefix of an estimate.
const fn about(one: &Entry<'_, Finding>) -> &'static str {
    if one.context.report.accounting.estimated { "~" } else { "" }
}

fn then(one: &Entry<'_, Finding>) -> Option<Amount> {
    one.context.baseline.map(|mark| mark.finding(one.item))
}

fn change<'a>(one: &Entry<'_, Finding>, of: fn(Amount) -> u64) -> Rank<'a> {
    number(then(one).map(|then| of(one.item.outstanding) as f64 - of(then) as f64))
}

fn clients(finding: &Finding) -> Row {
    match finding.clients.len() {
        0 => Row::of(Role::Muted, UNKNOWN),
        number => Row::of(Role::Text, figures::count(number as u64)),
    }
}

fn trend<'a>(one: &Entry<'a, Finding>) -> &'a [u64] {
    one.context.summary.finding_trends.get(one.at).map_or(&[], Vec::as_slice)
}
