//! Filters and sorts the items of a list.
//!
//! Pure: takes the items, the sorting, the filter and the baseline; returns indexes in the report. Runs once per
//! report, sorting or filter, never per draw.

use std::{cmp::Ordering, collections::HashSet};

use super::{
    columns::TableContext,
    lists::{Listed, column, contains},
    model::{Rank, SortOrder},
};
use crate::report::{Frame, Site};

/// Indexes of the items that pass the filter, in order. Unknown values sort last in either direction; equal items
/// keep the report's order.
pub fn of<T: Listed>(context: &TableContext<'_>, sort: SortOrder, filter: &str) -> Vec<usize> {
    let words: Vec<Term> = filter.split_whitespace().map(|word| Term::new(context, word)).collect();
    let column = column::<T>(sort.by);
    let descending = column.is_some_and(|column| column.largest_first != sort.reversed);
    let ranked = |at: usize| {
        let entry = context.entry::<T>(at)?;
        let passes = words.iter().all(|word| word.is_in(entry.item));
        passes.then(|| (column.map_or(Rank::Unknown, |column| (column.rank)(&entry)), at))
    };
    let mut ranked: Vec<(Rank<'_>, usize)> = (0..T::number(context)).filter_map(ranked).collect();
    ranked.sort_unstable_by(|(left, left_at), (right, right_at)| {
        compare(left, right, descending).then(left_at.cmp(right_at))
    });
    ranked.into_iter().map(|(_, at)| at).collect()
}

/// Prefix of a filter word: the full name of a kind.
pub const KIND: &str = "kind:";
/// Prefix of a filter word: the number of a call site, or several with commas between.
pub const SITE: &str = "site:";

/// A word of the filter, and the call sites that contain it: searched once, not for each of their items.
struct Term {
    text: String,
    sites: HashSet<u32>,
    /// Whether it is a full kind name: `kind:evbuffer`.
    is_kind: bool,
    /// Whether it is the numbers of call sites: `site:12`, `site:3,12`.
    is_site: bool,
}

impl Term {
    fn new(context: &TableContext<'_>, word: &str) -> Self {
        let text = word.to_lowercase();
        let all = || context.report.sites.iter();
        let of = |text: &str, is_kind, is_site, sites| Self {
            text: text.to_owned(),
            sites,
            is_kind,
            is_site,
        };
        if let Some(kind) = text.strip_prefix(KIND) {
            let same = |name: &str| name.to_lowercase() == kind;
            let sites = all().filter(|site| same(site.kind.name()) || same(site.kind_name()));
            return of(kind, true, false, sites.map(|site| site.id).collect());
        }
        if let Some(number) = text.strip_prefix(SITE) {
            let numbers = number.split(',').filter_map(|number| number.parse().ok());
            return of(number, false, true, numbers.collect());
        }
        let with_it = all().filter(|site| has(site, &text));
        of(&text, false, false, with_it.map(|site| site.id).collect())
    }

    fn is_in(&self, item: &impl Listed) -> bool {
        match item.type_name() {
            // The report may lack its call site.
            Some(kind) if self.is_kind => kind.to_lowercase() == self.text,
            _ if self.is_kind || self.is_site => item.is_of(&self.sites),
            _ => item.is_of(&self.sites) || item.has(&self.text),
        }
    }
}

fn compare(left: &Rank<'_>, right: &Rank<'_>, descending: bool) -> Ordering {
    let known = match (left, right) {
        (Rank::Unknown, Rank::Unknown) => return Ordering::Equal,
        (Rank::Unknown, _) => return Ordering::Greater,
        (_, Rank::Unknown) => return Ordering::Less,
        (Rank::Number(left), Rank::Number(right)) => left.total_cmp(right),
        (Rank::Text(left), Rank::Text(right)) => left.cmp(right),
        (Rank::Number(_), Rank::Text(_)) => Ordering::Less,
        (Rank::Text(_), Rank::Number(_)) => Ordering::Greater,
    };
    if descending { known.reverse() } else { known }
}

/// Whether the kind, the acquiring function or any frame contains a lower-case word.
fn has(site: &Site, word: &str) -> bool {
    contains(site.kind.name(), word)
        || site.fd_type.as_ref().is_some_and(|fd_type| contains(fd_type.name(), word))
        || contains(&site.acquired_by, word)
        || site.frames.iter().any(|frame| frame_has(frame, word))
}

fn frame_has(frame: &Frame, word: &str) -> bool {
    let texts = [&frame.symbol, &frame.file, &frame.module];
    texts.into_iter().flatten().any(|text| contains(text, word))
        || frame.symbol.is_none() && contains(&frame.label(), word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::{
        model::ColumnId,
        sample::{self, site},
        summary::Summary,
    };

    fn ids(filter: &str, by: ColumnId, reversed: bool) -> Vec<u32> {
        let report = sample::report();
        let summary = Summary::of(&report);
        let context = TableContext { report: &report, summary: &summary, baseline: None };
        let order = of::<Site>(&context, SortOrder { by, reversed }, filter);
        order.into_iter().map(|at| report.sites[at].id).collect()
    }

    #[test]
    fn the_default_order_is_that_of_the_report() {
        assert_eq!(ids("", ColumnId::Verdict, false), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ids("", ColumnId::Verdict, true), [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn unknown_growth_stands_last_either_way() {
        assert_eq!(ids("", ColumnId::Growth, false), [1, 2, 3, 5, 4, 6]);
        assert_eq!(ids("", ColumnId::Growth, true), [4, 3, 5, 2, 1, 6]);
    }

    #[test]
    fn filters_look_at_kind_function_file_and_module_in_any_case() {
        for (filter, found) in [
            ("", vec![1, 2, 3, 4, 5, 6]),
            ("MMAP", vec![3]),
            ("Make_Session", vec![1]),
            ("bus.CPP", vec![2]),
            ("libssl", vec![5]),
            ("libssl.so.3+0x", vec![5]),
            ("heap bus", vec![2]),
            ("kind:Mmap", vec![3]),
            ("kind:map", vec![]),
            ("site:4", vec![4]),
            ("site:4,2,77", vec![2, 4]),
            ("site:x", vec![]),
            ("no such thing", vec![]),
        ] {
            assert_eq!(ids(filter, ColumnId::Verdict, false), found, "{filter}");
        }
    }

    #[test]
    fn non_ascii_words_are_found() {
        let mut late = site(9);
        late.acquired_by = "Öffnen".to_owned();
        assert!(has(&late, "öff"));
        assert!(!has(&late, "aus"));
    }
}
