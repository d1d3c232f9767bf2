//! Merges executable ranges so that they fit into a bounded list.
//!
//! Takes executable ranges in ascending order, passes on fewer. Pure.

use std::collections::HashSet;

use tracer_common::state::CodeRange;

/// Merges adjacent ranges of the same table and, if more than `most` remain, ranges without a table across the
/// smallest gaps. The gaps then count as code, which only weakens a check. More than `most` can remain.
pub(super) fn merged(ranges: impl Iterator<Item = CodeRange>, most: usize) -> Vec<CodeRange> {
    let mut all: Vec<CodeRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if continues(last, &range) => last.end = range.end,
            _ => all.push(range),
        }
    }
    let excess = all.len().saturating_sub(most);
    if excess > 0 { across_gaps(&all, excess) } else { all }
}

/// Whether `next` starts where `last` ends, with the same table and the same origin.
fn continues(last: &CodeRange, next: &CodeRange) -> bool {
    last.end == next.start && CodeRange { start: next.start, end: next.end, ..*last } == *next
}

/// Merges ranges without tables across the `count` smallest gaps.
fn across_gaps(ranges: &[CodeRange], count: usize) -> Vec<CodeRange> {
    let has_no_table = |range: &CodeRange| range.levels == 0 && range.flags == 0;
    let mut gaps: Vec<(u64, u64)> = ranges
        .windows(2)
        .filter_map(|pair| match pair {
            [low, high] if has_no_table(low) && has_no_table(high) => {
                Some((high.start - low.end, high.start))
            }
            _ => None,
        })
        .collect();
    gaps.sort_unstable();
    let closed: HashSet<u64> = gaps.into_iter().take(count).map(|(_, start)| start).collect();
    let mut merged: Vec<CodeRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if closed.contains(&range.start) => last.end = range.end,
            _ => merged.push(*range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64, levels: u32) -> CodeRange {
        CodeRange { start, end, levels, ..CodeRange::default() }
    }

    #[test]
    fn adjacent_ranges_of_one_table_are_merged_and_those_of_two_tables_are_not() {
        let all = [range(0, 10, 5), range(10, 20, 5), range(20, 30, 0), range(30, 40, 0)];
        let expected = [range(0, 20, 5), range(20, 40, 0)];
        assert_eq!(merged(all.into_iter(), 9), expected);
    }

    #[test]
    fn only_ranges_without_tables_are_merged_across_gaps_smallest_first() {
        let all =
            [range(0, 1, 0), range(5, 6, 0), range(8, 9, 0), range(9, 10, 7), range(11, 12, 0)];
        assert_eq!(merged(all.into_iter(), 4)[1], range(5, 9, 0));
        assert_eq!(merged(all.into_iter(), 1), [range(0, 9, 0), all[3], all[4]]);
    }
}
