//! Columns as data: title, width, order and cell of each, for every table.
//!
//! Pure: takes an item of a report and its context, returns a cell's text with its role. The tables, the sorting keys
//! and the help page all read the same lists: one for each type of item.

mod call_site;
mod connections;
mod descriptors;
mod findings;
mod leaving;
mod objects;
mod sites;

use super::{
    model::{Baseline, ColumnId, Needs, Rank},
    summary::Summary,
    text::{Role, Row},
};
use crate::{
    format,
    report::{Named, Report, VerdictClass, Word},
};

pub use connections::{CLIENTS, CONNECTIONS};
pub use descriptors::{FDS, TYPES};
pub use findings::FINDINGS;
pub use leaving::LEAVING;
pub use objects::{OBJECT_TYPES, OBJECTS};
pub use sites::SITES;

/// The context of an item.
#[derive(Clone, Copy, Debug)]
pub struct TableContext<'a> {
    /// The report it is from.
    pub report: &'a Report,
    /// Totals of the report.
    pub summary: &'a Summary,
    /// The baseline figures.
    pub baseline: Option<&'a Baseline>,
}

/// An item of a report with its context.
#[derive(Debug)]
pub struct Entry<'a, T> {
    /// The item.
    pub item: &'a T,
    /// Its index in the report.
    pub at: usize,
    /// Its context.
    pub context: TableContext<'a>,
}

/// One column of a table of `T`s.
#[derive(Debug)]
pub struct Column<T: 'static> {
    /// Which.
    pub by: ColumnId,
    /// Its title.
    pub title: &'static str,
    /// Its meaning, for the help page.
    pub help: &'static str,
    /// When it exists.
    pub needs: Needs,
    /// Its width in cells on a screen of this width; 0 means the remaining width, which one column of a table has.
    pub width: fn(usize) -> usize,
    /// Whether the text is left-aligned; figures are right-aligned.
    pub left: bool,
    /// Cells that must be left for the widest column if it is shown: the smaller, the more important.
    pub leave: usize,
    /// Whether the largest comes first, unless reversed.
    pub largest_first: bool,
    /// The sort key of an item.
    pub rank: for<'a> fn(&Entry<'a, T>) -> Rank<'a>,
    /// The cell in a given width.
    pub cell: fn(&Entry<'_, T>, usize) -> Row,
}

impl<T> Column<T> {
    /// Whether the column exists now.
    pub fn is_available(&self, context: &TableContext<'_>) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Baseline => context.baseline.is_some(),
            Needs::Known => context.summary.known.contains(&self.by),
            needs => context.summary.met.contains(&needs),
        }
    }

    /// Its width in cells on a screen of this width. Names of object types need more space than the built-in kinds.
    pub fn cells(&self, context: &TableContext<'_>, screen: usize) -> usize {
        let most = match screen {
            0..80 => 8,
            80..100 => 11,
            100..140 => 14,
            _ => 24,
        };
        match self.by {
            ColumnId::Kind | ColumnId::ObjectType => {
                (self.width)(screen).max(context.summary.longest_type_name.min(most))
            }
            _ => (self.width)(screen),
        }
    }

    /// Whether the table may be sorted by it now.
    pub fn may_sort(&self, context: &TableContext<'_>) -> bool {
        // The order "worst first" exists even before any rule has given a verdict.
        self.needs == Needs::Verdict || self.is_available(context)
    }
}

/// Shown for an unknown figure.
const UNKNOWN: &str = "–";

/// Mark and word of a verdict, and its role.
pub const fn verdict_words(class: VerdictClass) -> (&'static str, &'static str, Role) {
    let (mark, role) = match class {
        VerdictClass::Leak => ("✖", Role::Bad),
        VerdictClass::Suspect => ("●", Role::Doubtful),
        VerdictClass::Growing => ("▲", Role::Text),
        VerdictClass::Steady => ("=", Role::Good),
        VerdictClass::Settling => ("▼", Role::Good),
        VerdictClass::Unknown => return (" ", "", Role::Muted),
    };
    (mark, class.name(), role)
}

fn text(text: Option<&str>) -> Rank<'_> {
    text.map_or(Rank::Unknown, Rank::Text)
}

fn number<'a>(number: Option<f64>) -> Rank<'a> {
    number.map_or(Rank::Unknown, Rank::Number)
}

/// A word of a fixed list as a sort key, by its name.
fn word<T: Named>(word: Option<&Word<T>>) -> Rank<'_> {
    text(word.map(Word::name))
}

/// A count as a sort key.
fn counted<'a>(number: u64) -> Rank<'a> {
    Rank::Number(number as f64)
}

/// A cell for a value that may be unknown.
fn known(role: Role, text: Option<String>) -> Row {
    text.map_or_else(|| Row::of(Role::Muted, UNKNOWN), |text| Row::of(role, text))
}

/// A rate with its sign, or the mark for unknown.
pub fn rate(rate: Option<f64>, write: fn(f64) -> String) -> Row {
    let Some(rate) = rate else { return Row::of(Role::Muted, UNKNOWN) };
    let text = write(rate);
    let role = if text.starts_with(['+', '-']) { direction(rate) } else { Role::Muted };
    Row::of(role, text)
}

/// A rate that is never negative, so without a sign.
pub fn per_second(rate: Option<f64>) -> Row {
    known(Role::Text, rate.map(|rate| format::count_per_s(rate).trim_start_matches('+').to_owned()))
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

/// The rise of a trend as a sort key.
fn risen<'a>(trend: &[u64]) -> Rank<'a> {
    match (trend.first(), trend.last()) {
        (Some(first), Some(last)) => Rank::Number(*last as f64 - *first as f64),
        _ => Rank::Unknown,
    }
}

/// A change since the mark, or the mark for unknown.
fn signed(now: u64, then: Option<u64>, write: fn(u64, u64) -> String) -> Row {
    let Some(then) = then else { return Row::of(Role::Muted, UNKNOWN) };
    Row::of(direction(now as f64 - then as f64), write(now, then))
}

fn age(seconds: Option<f64>) -> Row {
    known(Role::Text, seconds.map(format::seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{
            Client, Connection, Fd, Finding, Leaving, LibraryObject, ObjectType, Site,
            fixtures as reports,
        },
        tui::{
            lists::{Listed, column},
            sample,
            summary::TypeRow,
        },
    };

    fn check_columns<T: Listed>(report: &Report) {
        let summary = Summary::of(report);
        let context = TableContext { report, summary: &summary, baseline: None };
        for (at, row) in T::COLUMNS.iter().enumerate() {
            assert_eq!(column::<T>(row.by).unwrap().title, row.title);
            assert!(!row.help.is_empty());
            assert!(T::COLUMNS[at + 1..].iter().all(|other| other.by != row.by));
        }
        let rest = T::COLUMNS.iter().filter(|column| (column.width)(80) == 0).count();
        assert_eq!(rest, 1, "one column takes what is left");
        for screen in [62, 80, 100, 200] {
            for column in T::COLUMNS.iter().filter(|column| (column.width)(screen) > 0) {
                let cells = column.cells(&context, screen);
                assert!(cells == 1 || column.title.chars().count() <= cells, "{}", column.title);
                for at in 0..T::number(&context) {
                    let item = T::get(&context, at).unwrap();
                    let cell = (column.cell)(&Entry { item, at, context }, cells);
                    assert!(cell.width() <= cells, "{} {:?}", column.title, cell.text());
                }
            }
        }
    }

    #[test]
    fn every_column_has_one_row_and_a_sentence_and_cells_fit() {
        check_columns::<Site>(&sample::report());
        check_columns::<Finding>(&reports::sample());
        let served = reports::served();
        check_columns::<Site>(&served);
        check_columns::<Fd>(&served);
        check_columns::<TypeRow>(&served);
        check_columns::<Connection>(&served);
        check_columns::<Client>(&served);
        check_columns::<Leaving>(&served);
        let objects = reports::objects();
        check_columns::<Site>(&objects);
        check_columns::<ObjectType>(&objects);
        check_columns::<LibraryObject>(&objects);
    }
}
