//! Which call sites are shown, and in which order.
//!
//! Pure: takes a report, the sorting, the filter and the baseline; hands on indices into the report's
//! call sites. Runs once per report, sorting or filter, never per draw.

use std::cmp::Ordering;

use super::{
    columns::{self, Rank, Sort},
    state::Baseline,
};
use crate::report::{Frame, Report, Site};

/// Indices of the call sites that pass the filter, in order. Unknown values stand last either way;
/// equals keep the report's order, worst first.
pub fn of(report: &Report, sort: Sort, filter: &str, baseline: Option<&Baseline>) -> Vec<usize> {
    let words: Vec<String> = filter.split_whitespace().map(str::to_lowercase).collect();
    let column = columns::column(sort.by);
    let descending = column.largest_first != sort.reversed;
    let mut ranked: Vec<(Rank<'_>, usize)> = report
        .sites
        .iter()
        .enumerate()
        .filter(|(_, site)| words.iter().all(|word| has(site, word)))
        .map(|(at, site)| ((column.rank)(site, at, baseline), at))
        .collect();
    ranked.sort_unstable_by(|(left, left_at), (right, right_at)| {
        compare(left, right, descending).then(left_at.cmp(right_at))
    });
    ranked.into_iter().map(|(_, at)| at).collect()
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

/// Whether a lower-case word is in the kind, the acquiring function or any frame.
fn has(site: &Site, word: &str) -> bool {
    contains(site.kind.name(), word)
        || contains(&site.acquired_by, word)
        || site.frames.iter().any(|frame| frame_has(frame, word))
}

fn frame_has(frame: &Frame, word: &str) -> bool {
    let texts = [&frame.symbol, &frame.file, &frame.module];
    texts.into_iter().flatten().any(|text| contains(text, word))
        || frame.symbol.is_none() && contains(&frame.label(), word)
}

/// Whether `text` contains the lower-case `word`, whatever the case in `text`.
fn contains(text: &str, word: &str) -> bool {
    let (Some(first), true) = (word.bytes().next(), word.is_ascii()) else {
        return word.is_empty() || text.to_lowercase().contains(word);
    };
    let upper = first.to_ascii_uppercase();
    let text = text.as_bytes();
    let starts = text.len().saturating_sub(word.len() - 1);
    text.iter().take(starts).enumerate().any(|(at, byte)| {
        (*byte == first || *byte == upper)
            && text
                .get(at..at + word.len())
                .is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::{
        columns::By,
        sample::{self, site},
    };

    fn ids(filter: &str, by: By, reversed: bool) -> Vec<u32> {
        let report = sample::report();
        let order = of(&report, Sort { by, reversed }, filter, None);
        order.into_iter().map(|at| report.sites[at].id).collect()
    }

    #[test]
    fn the_default_order_is_that_of_the_report() {
        assert_eq!(ids("", By::Verdict, false), [1, 2, 3, 4, 5, 6]);
        assert_eq!(ids("", By::Verdict, true), [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn unknown_growth_stands_last_either_way() {
        assert_eq!(ids("", By::Growth, false), [1, 2, 3, 5, 4, 6]);
        assert_eq!(ids("", By::Growth, true), [4, 3, 5, 2, 1, 6]);
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
            ("no such thing", vec![]),
        ] {
            assert_eq!(ids(filter, By::Verdict, false), found, "{filter}");
        }
    }

    #[test]
    fn words_beyond_ascii_are_found_too() {
        let mut late = site(9);
        late.acquired_by = "Öffnen".to_owned();
        assert!(has(&late, "öff"));
        assert!(!has(&late, "aus"));
    }
}
