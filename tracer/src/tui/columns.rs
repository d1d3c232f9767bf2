//! The columns of the table of call sites: the one list of title, width, order and cell.
//!
//! Pure: takes a call site and the baseline, hands on a cell's text with its role. The table, the
//! sorting keys and the help page all read [`COLUMNS`].

use super::{
    figures, names,
    rows::{Role, Row},
    state::Baseline,
};
use crate::{
    format,
    report::{Site, VerdictClass},
};
use tracer_common::kind::Kind;

/// Which column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The judgement; its order is the report's own, worst first.
    Verdict,
    /// The target's process id.
    Pid,
    /// What sort of resource.
    Kind,
    /// The function that asked.
    Site,
    /// Outstanding bytes.
    Bytes,
    /// Outstanding resources.
    Count,
    /// Bytes since the mark.
    BytesChange,
    /// Resources since the mark.
    CountChange,
    /// Bytes per second.
    Growth,
    /// Resources per second.
    CountGrowth,
    /// Median age.
    Median,
    /// Greatest age.
    Oldest,
    /// Resources acquired since the start.
    Acquired,
    /// The curve of outstanding bytes.
    Trend,
}

/// Which column orders the table, and whether the other way around than it usually does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column.
    pub by: By,
    /// Turned around.
    pub reversed: bool,
}

/// What a call site is ordered by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rank<'a> {
    /// Not known: last in either direction.
    Unknown,
    /// By number.
    Number(f64),
    /// By text.
    Text(&'a str),
}

/// When there is such a column at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Always.
    Nothing,
    /// A marked baseline.
    Baseline,
    /// A judgement on some call site.
    Judgement,
    /// More than one target.
    ManyTargets,
}

/// One row of the column table.
#[derive(Debug)]
pub struct Column {
    /// Which.
    pub by: By,
    /// Its title.
    pub title: &'static str,
    /// What it says, for the help page.
    pub help: &'static str,
    /// When it exists.
    pub needs: Needs,
    /// Cells it takes on a screen of this width; 0 is "what is left".
    pub width: fn(usize) -> usize,
    /// Whether the text stands at the left; figures stand at the right.
    pub left: bool,
    /// Cells that must be left for the call site when it is shown: the smaller, the more important.
    pub leave: usize,
    /// Whether the largest comes first, unless turned around.
    pub largest_first: bool,
    /// What a call site, at its place in the report, is ordered by.
    pub rank: for<'a> fn(&'a Site, usize, Option<&Baseline>) -> Rank<'a>,
    /// The cell in a given width.
    pub cell: fn(&Site, Option<&Baseline>, usize) -> Row,
}

/// What stands for a figure that is not known.
const UNKNOWN: &str = "–";

/// Every column, from left to right.
#[rustfmt::skip]
pub const COLUMNS: &[Column] = &[
    Column { by: By::Verdict, title: "verdict", help: "the judgement; sorted by it: worst first",
        needs: Needs::Judgement, width: |screen| if screen < 100 { 1 } else { 8 }, left: true,
        leave: 18, largest_first: true, rank: |_, at, _| Rank::Number(-(at as f64)), cell: verdict },
    Column { by: By::Pid, title: "pid", help: "process id of the target",
        needs: Needs::ManyTargets, width: |_| 7, left: false, leave: 18, largest_first: false,
        rank: |site, _, _| Rank::Number(f64::from(site.pid)),
        cell: |site, _, _| Row::of(Role::Muted, site.pid.to_string()) },
    Column { by: By::Kind, title: "kind", help: "what sort of resource",
        needs: Needs::Nothing, width: |_| KIND_WIDTH, left: true, leave: 18, largest_first: false,
        rank: |site, _, _| Rank::Text(site.kind.name()),
        cell: |site, _, cells| Row::of(Role::Muted, names::start_of(site.kind.name(), cells)) },
    Column { by: By::Site, title: "call site", help: "the function that asked, its source, who called it",
        needs: Needs::Nothing, width: |_| 0, left: true, leave: 0, largest_first: false,
        rank: |site, _, _| text(site.asked().and_then(|frame| frame.symbol.as_deref())),
        cell: |site, _, cells| super::rows::table::call_site(site, cells) },
    Column { by: By::Bytes, title: "bytes", help: "outstanding: acquired, release not seen",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 18, largest_first: true,
        rank: |site, _, _| Rank::Number(site.outstanding_bytes as f64),
        cell: |site, _, _| Row::of(Role::Strong, bytes(site)) },
    Column { by: By::Count, title: "count", help: "outstanding resources",
        needs: Needs::Nothing, width: |_| 7, left: false, leave: 18, largest_first: true,
        rank: |site, _, _| Rank::Number(site.outstanding_count as f64),
        cell: |site, _, _| Row::of(Role::Text, count(site, site.outstanding_count)) },
    Column { by: By::BytesChange, title: "Δ bytes", help: "change of outstanding bytes since the mark",
        needs: Needs::Baseline, width: |_| 9, left: false, leave: 19, largest_first: true,
        rank: |site, _, mark| change(site.outstanding_bytes, mark.map(|mark| mark.amount(site.id).bytes)),
        cell: |site, mark, _| signed(site.outstanding_bytes,
            mark.map(|mark| mark.amount(site.id).bytes), figures::bytes_change) },
    Column { by: By::CountChange, title: "Δ count", help: "change of outstanding resources since the mark",
        needs: Needs::Baseline, width: |_| 8, left: false, leave: 19, largest_first: true,
        rank: |site, _, mark| change(site.outstanding_count, mark.map(|mark| mark.amount(site.id).count)),
        cell: |site, mark, _| signed(site.outstanding_count,
            mark.map(|mark| mark.amount(site.id).count), figures::count_change) },
    Column { by: By::Growth, title: "growth", help: "bytes per second over the recent past; – too young to tell",
        needs: Needs::Nothing, width: |_| 11, left: false, leave: 19, largest_first: true,
        rank: |site, _, _| number(site.growth_bytes_per_s),
        cell: |site, _, _| rate(site.growth_bytes_per_s, format::bytes_per_s) },
    Column { by: By::CountGrowth, title: "count/s", help: "resources per second",
        needs: Needs::Nothing, width: |_| 9, left: false, leave: 54, largest_first: true,
        rank: |site, _, _| number(site.growth_count_per_s),
        cell: |site, _, _| rate(site.growth_count_per_s, format::count_per_s) },
    Column { by: By::Median, title: "median", help: "half of what is outstanding is older",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 34, largest_first: true,
        rank: |site, _, _| number(site.age_s.map(|age| age.median)),
        cell: |site, _, _| age(site.age_s.map(|age| age.median)) },
    Column { by: By::Oldest, title: "oldest", help: "age of the oldest that is outstanding",
        needs: Needs::Nothing, width: |_| 6, left: false, leave: 22, largest_first: true,
        rank: |site, _, _| number(site.age_s.map(|age| age.max)),
        cell: |site, _, _| age(site.age_s.map(|age| age.max)) },
    Column { by: By::Acquired, title: "acquired", help: "resources acquired since the start",
        needs: Needs::Nothing, width: |_| 8, left: false, leave: 64, largest_first: true,
        rank: |site, _, _| Rank::Number(site.acquired_count as f64),
        cell: |site, _, _| Row::of(Role::Muted, count(site, site.acquired_count)) },
    Column { by: By::Trend, title: "trend", help: "outstanding bytes at the last refreshes, from zero",
        needs: Needs::Nothing, width: trend_width, left: true, leave: 24, largest_first: true,
        rank: |site, _, _| risen(&site.trend_bytes),
        cell: |site, _, cells| Row::of(Role::Accent, figures::spark(&site.trend_bytes, cells)) },
];

/// The longest name of a kind, within bounds.
const KIND_WIDTH: usize = {
    let mut longest = 4;
    let mut at = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
    while at < Kind::ALL.len() {
        let length = Kind::ALL[at].name().len();
        if length > longest {
            longest = length;
        }
        at += 1;
    }
    if longest > 10 { 10 } else { longest }
};

/// The row of the table for a column.
pub fn column(by: By) -> &'static Column {
    // `COLUMNS` has a row for each; a test sees to it.
    const FIRST: &Column = {
        let [first, ..] = COLUMNS else { unreachable!() };
        first
    };
    COLUMNS.iter().find(|column| column.by == by).unwrap_or(FIRST)
}

/// Mark and word of a verdict, and what it is.
pub const fn verdict_words(class: VerdictClass) -> (&'static str, &'static str, Role) {
    match class {
        VerdictClass::Leak => ("✖", "leak", Role::Bad),
        VerdictClass::Suspect => ("●", "suspect", Role::Bad),
        VerdictClass::Growing => ("▲", "growing", Role::Doubtful),
        VerdictClass::Steady => ("=", "steady", Role::Good),
        VerdictClass::Settling => ("▼", "settling", Role::Good),
        VerdictClass::Unknown => (" ", "", Role::Muted),
    }
}

fn trend_width(screen: usize) -> usize {
    match screen {
        0..100 => 8,
        100..140 => 12,
        _ => 20,
    }
}

fn verdict(site: &Site, _: Option<&Baseline>, cells: usize) -> Row {
    let (mark, word, role) = verdict_words(site.verdict.class);
    Row::of(role, if cells < word.len() { mark } else { word })
}

/// A figure with the mark of an estimate, where it is one.
fn bytes(site: &Site) -> String {
    figures::about(site.error.as_ref()).to_owned() + &format::bytes(site.outstanding_bytes)
}

fn count(site: &Site, number: u64) -> String {
    if site.error.is_some() { figures::estimated_count(number) } else { figures::count(number) }
}

fn text(text: Option<&str>) -> Rank<'_> {
    text.map_or(Rank::Unknown, Rank::Text)
}

fn number<'a>(number: Option<f64>) -> Rank<'a> {
    number.map_or(Rank::Unknown, Rank::Number)
}

fn change<'a>(now: u64, then: Option<u64>) -> Rank<'a> {
    number(then.map(|then| now as f64 - then as f64))
}

fn risen<'a>(trend: &[u64]) -> Rank<'a> {
    match (trend.first(), trend.last()) {
        (Some(first), Some(last)) => Rank::Number(*last as f64 - *first as f64),
        _ => Rank::Unknown,
    }
}

fn signed(now: u64, then: Option<u64>, write: fn(u64, u64) -> String) -> Row {
    let Some(then) = then else { return Row::of(Role::Muted, UNKNOWN) };
    Row::of(direction(now as f64 - then as f64), write(now, then))
}

/// A rate with its sign, or that it is not known.
pub fn rate(rate: Option<f64>, write: fn(f64) -> String) -> Row {
    let Some(rate) = rate else { return Row::of(Role::Muted, UNKNOWN) };
    let text = write(rate);
    let role = if text.starts_with(['+', '-']) { direction(rate) } else { Role::Muted };
    Row::of(role, text)
}

fn direction(change: f64) -> Role {
    if change > 0.0 {
        Role::Rising
    } else if change < 0.0 {
        Role::Falling
    } else {
        Role::Muted
    }
}

fn age(seconds: Option<f64>) -> Row {
    match seconds {
        Some(seconds) => Row::of(Role::Text, format::seconds(seconds)),
        None => Row::of(Role::Muted, UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::sample;

    #[test]
    fn every_column_has_one_row_and_a_sentence() {
        for (at, row) in COLUMNS.iter().enumerate() {
            assert_eq!(column(row.by).title, row.title);
            assert!(!row.help.is_empty());
            assert!(COLUMNS[at + 1..].iter().all(|other| other.by != row.by));
        }
    }

    #[test]
    fn cells_and_titles_fit_their_width() {
        for screen in [80, 100, 200] {
            for column in COLUMNS.iter().filter(|column| column.by != By::Site) {
                let cells = (column.width)(screen);
                assert!(cells == 1 || column.title.chars().count() <= cells, "{}", column.title);
                for site in sample::report().sites {
                    let cell = (column.cell)(&site, None, cells);
                    assert!(cell.width() <= cells, "{} {:?}", column.title, cell.text());
                }
            }
        }
    }
}
