//! Fewer ranges that say the same.
//!
//! Takes executable ranges in ascending order, hands on fewer. Pure.

use std::collections::HashSet;

use tracer_common::state::CodeRange;

/// Ranges with neighbors joined: those that go on with the same table, and, when there are more than
/// `most`, those without a table across the smallest gaps. Too much is then taken for code, which
/// only weakens a check. More than `most` can remain.
pub(super) fn joined(ranges: impl Iterator<Item = CodeRange>, most: usize) -> Vec<CodeRange> {
    let mut all: Vec<CodeRange> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if continues(last, &range) => last.end = range.end,
            _ => all.push(range),
        }
    }
    let excess = all.len().saturating_sub(most);
    if excess > 0 { without_gaps(&all, excess) } else { all }
}

/// Whether `next` goes on where `last` ends, with the same table counted from the same origin.
fn continues(last: &CodeRange, next: &CodeRange) -> bool {
    last.end == next.start && CodeRange { start: next.start, end: next.end, ..*last } == *next
}

/// Without the `count` smallest gaps between ranges that have no tables.
fn without_gaps(ranges: &[CodeRange], count: usize) -> Vec<CodeRange> {
    let bare = |range: &CodeRange| range.levels == 0 && range.flags == 0;
    let mut gaps: Vec<(u64, u64)> = ranges
        .windows(2)
        .filter_map(|pair| match pair {
            [low, high] if bare(low) && bare(high) => Some((high.start - low.end, high.start)),
            _ => None,
        })
        .collect();
    gaps.sort_unstable();
    let swallowed: HashSet<u64> = gaps.into_iter().take(count).map(|(_, start)| start).collect();
    let mut kept: Vec<CodeRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match kept.last_mut() {
            Some(last) if swallowed.contains(&range.start) => last.end = range.end,
            _ => kept.push(*range),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64, levels: u32) -> CodeRange {
        CodeRange { start, end, levels, ..CodeRange::default() }
    }

    #[test]
    fn a_table_that_goes_on_is_one_range_and_another_table_is_not() {
        let all = [range(0, 10, 5), range(10, 20, 5), range(20, 30, 0), range(30, 40, 0)];
        let expected = [range(0, 20, 5), range(20, 40, 0)];
        assert_eq!(joined(all.into_iter(), 9), expected);
    }

    #[test]
    fn only_ranges_without_tables_are_joined_across_gaps_the_smallest_first() {
        let all =
            [range(0, 1, 0), range(5, 6, 0), range(8, 9, 0), range(9, 10, 7), range(11, 12, 0)];
        assert_eq!(joined(all.into_iter(), 4)[1], range(5, 9, 0));
        assert_eq!(joined(all.into_iter(), 1), [range(0, 9, 0), all[3], all[4]]);
    }
}
