//! The columns of the table of call sites.

use tracer_common::kind::ResourceKind;

use super::{
    Column, ColumnId, Entry, Needs, Rank, age, call_site::distinct, counted, known, number, rate,
    risen, signed, text, verdict_words,
};
use crate::{
    format,
    report::Site,
    tui::{
        figures, names,
        text::{Role, Row},
    },
};

/// Every column, from left to right.
#[rustfmt::skip]
pub const SITES: &[Column<Site>] = &[
    Column { by: ColumnId::Verdict, title: "verdict", help: "verdict; sorts worst first",
        needs: Needs::Verdict, width: |screen| if screen < 100 { 1 } else { 8 }, left: true,
        leave: 18, largest_first: true, rank: |one| Rank::Number(-(one.at as f64)), cell: verdict },
    Column { by: ColumnId::Pid, title: "pid", help: "process id of the target",
        needs: Needs::ManyTargets, width: |_| 7, left: false, leave: 18, largest_first: false,
        rank: |one| number(one.item.pid.map(f64::from)),
        cell: |one, _| known(Role::Muted, one.item.pid.map(|pid| pid.to_string())) },
    Column { by: ColumnId::Kind, title: "kind", help: "kind of resource; for descriptors, their type",
        needs: Needs::Nothing, width: kind_width, left: true, leave: 18, largest_first: false,
        rank: |one| Rank::Text(kind(one.item)),
        cell: |one, cells| Row::of(Role::Muted, names::start_of(kind(one.item), cells)) },
    Column { by: ColumnId::Site, title: "call site", help: "the function that allocated, its source, its callers",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |one| text(one.item.asked().and_then(|frame| frame.symbol.as_deref())),
        cell: |one, cells| distinct(one.item, one.context.summary.alike_sites.get(&one.at).copied(), cells) },
    Column { by: ColumnId::Bytes, title: "bytes", help: "outstanding bytes: acquired and not released; none for descriptors",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 18, largest_first: true,
        rank: |one| sized(one.item, |site| counted(site.outstanding_bytes)),
        cell: |one, _| of_bytes(one.item, |site| Row::of(Role::Strong, bytes(site))) },
    Column { by: ColumnId::Count, title: "count", help: "outstanding resources",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 18, largest_first: true,
        rank: |one| counted(one.item.outstanding_count),
        cell: |one, _| Row::of(Role::Text, count(one.item, one.item.outstanding_count)) },
    Column { by: ColumnId::BytesChange, title: "Δ bytes", help: "change of outstanding bytes since the mark",
        needs: Needs::Baseline, width: |_| 9, left: false, leave: 19, largest_first: true,
        rank: |one| change(one.item.outstanding_bytes, bytes_then(one)),
        cell: |one, _| of_bytes(one.item, |site| signed(site.outstanding_bytes,
            bytes_then(one), figures::bytes_change)) },
    Column { by: ColumnId::CountChange, title: "Δ count", help: "change of outstanding resources since the mark",
        needs: Needs::Baseline, width: |_| 8, left: false, leave: 19, largest_first: true,
        rank: |one| change(one.item.outstanding_count, count_then(one)),
        cell: |one, _| signed(one.item.outstanding_count, count_then(one), figures::count_change) },
    Column { by: ColumnId::Growth, title: "growth", help: "recent growth in bytes per second (descriptors: number per second); – not enough data yet",
        needs: Needs::Nothing, width: |_| 11, left: false, leave: 19, largest_first: true,
        rank: |one| sized(one.item, |site| number(site.growth_bytes_per_s)),
        cell: |one, _| growth(one.item) },
    Column { by: ColumnId::CountGrowth, title: "count/s", help: "recent growth in resources per second",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 54, largest_first: true,
        rank: |one| number(one.item.growth_count_per_s),
        cell: |one, _| rate(one.item.growth_count_per_s, format::count_per_s) },
    Column { by: ColumnId::Median, title: "median", help: "median age of what is outstanding",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 34, largest_first: true,
        rank: |one| number(one.item.age_s.map(|age| age.median)),
        cell: |one, _| age(one.item.age_s.map(|age| age.median)) },
    Column { by: ColumnId::Oldest, title: "oldest", help: "age of the oldest outstanding resource",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 22, largest_first: true,
        rank: |one| number(one.item.age_s.map(|age| age.max)),
        cell: |one, _| age(one.item.age_s.map(|age| age.max)) },
    Column { by: ColumnId::Acquired, title: "acquired", help: "resources acquired since the start",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 64, largest_first: true,
        rank: |one| counted(one.item.acquired_count),
        cell: |one, _| Row::of(Role::Muted, count(one.item, one.item.acquired_count)) },
    Column { by: ColumnId::OrphanCount, title: "orphans", help: "how many were acquired for a connection that has since closed",
        needs: Needs::Orphans, width: |_| 7, left: false, leave: 23, largest_first: true,
        rank: |one| number(orphans(one.item).map(|number| number as f64)), cell: |one, _| orphaned(one.item) },
    Column { by: ColumnId::Trend, title: "trend", help: "outstanding bytes over the last refreshes; the axis starts at zero",
        needs: Needs::Nothing, width: trend_width, left: true, leave: 24, largest_first: true,
        rank: |one| risen(&one.item.trend_bytes),
        cell: |one, cells| Row::of(Role::Accent, figures::spark(&one.item.trend_bytes, cells)) },
];

/// The longest name of a built-in kind, within bounds.
const KIND_WIDTH: usize = {
    let mut longest = 4;
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
    while at < ResourceKind::ALL.len() {
        let length = ResourceKind::ALL[at].name().len();
        if length > longest {
            longest = length;
        }
        at += 1;
    }
    if longest > 10 { 10 } else { longest }
};

/// Descriptor types have longer names: `eventfd`, `directory`.
fn kind_width(screen: usize) -> usize {
    match screen {
        0..100 => KIND_WIDTH,
        100..140 => KIND_WIDTH.max(7),
        _ => KIND_WIDTH.max(9),
    }
}

fn trend_width(screen: usize) -> usize {
    match screen {
        0..100 => 8,
        100..140 => 12,
        _ => 20,
    }
}

/// The kind of resource; for descriptors, their type.
fn kind(site: &Site) -> &str {
    site.kind_name()
}

fn verdict(one: &Entry<'_, Site>, cells: usize) -> Row {
    let (mark, word, role) = verdict_words(one.item.verdict.class);
    Row::of(role, if cells < word.len() { mark } else { word })
}

/// A cell about bytes: empty for resources without a size.
fn of_bytes(site: &Site, cell: impl FnOnce(&Site) -> Row) -> Row {
    if site.kind.has_bytes() { cell(site) } else { Row::new() }
}

fn orphans(site: &Site) -> Option<u64> {
    Some(site.orphans?.count)
}

/// Zero is muted.
fn orphaned(site: &Site) -> Row {
    let number = orphans(site);
    let role = if number == Some(0) { Role::Muted } else { Role::Bad };
    known(role, number.map(figures::count))
}

/// Bytes per second; for resources without a size, their number.
fn growth(site: &Site) -> Row {
    if site.kind.has_bytes() {
        rate(site.growth_bytes_per_s, format::bytes_per_s)
    } else {
        rate(site.growth_count_per_s, format::count_per_s)
    }
}

/// The same as a sort key.
fn sized<'a>(site: &'a Site, rank: impl FnOnce(&'a Site) -> Rank<'a>) -> Rank<'a> {
    if site.kind.has_bytes() { rank(site) } else { Rank::Unknown }
}

/// A figure, with the estimate mark if it is one.
fn bytes(site: &Site) -> String {
    figures::about(site.error.as_ref()).to_owned() + &format::bytes(site.outstanding_bytes)
}

fn count(site: &Site, number: u64) -> String {
    if site.error.is_some() { figures::estimated_count(number) } else { figures::count(number) }
}

fn bytes_then(one: &Entry<'_, Site>) -> Option<u64> {
    one.context.baseline.map(|mark| mark.amount(one.item.id).bytes)
}

fn count_then(one: &Entry<'_, Site>) -> Option<u64> {
    one.context.baseline.map(|mark| mark.amount(one.item.id).count)
}

fn change<'a>(now: u64, then: Option<u64>) -> Rank<'a> {
    number(then.map(|then| now as f64 - then as f64))
}
