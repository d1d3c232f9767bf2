//! When the resources of a finding were acquired, and how many of them are still there.
//!
//! Pure; takes cohorts, returns rows of [`BESIDE`] cells. A leak has some left in every row; what is only in use has them
//! in the last ones.

use super::beside::BESIDE;
use crate::{
    format,
    report::FindingCohort,
    tui::text::{Role, Row},
};

/// Rows, at most: cohorts next to each other share one.
const ROWS: usize = 8;

/// A title, and a line for some cohorts each; nothing without cohorts.
pub(super) fn rows(cohorts: &[FindingCohort]) -> Vec<Row> {
    if cohorts.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![line(Role::Muted, "acquired", "in all", "still there")];
    let each = cohorts.len().div_ceil(ROWS);
    rows.extend(cohorts.chunks(each).filter_map(|some| {
        let (first, last) = (some.first()?, some.last()?);
        let [from, to] = [first.from_s, last.to_s].map(format::clock);
        let acquired = format::count(some.iter().map(|one| one.acquired).sum());
        let left = format::count(some.iter().map(|one| one.outstanding).sum());
        let time = if from == to { from } else { format!("{from} to {to}") };
        Some(line(Role::Text, &time, &acquired, &left))
    }));
    rows
}

fn line(role: Role, time: &str, acquired: &str, left: &str) -> Row {
    const TIME: usize = 20;
    const LEFT: usize = 12;
    let middle = BESIDE - TIME - LEFT - 2;
    Row::of(Role::Muted, format!(" {time:<TIME$}"))
        .with(role, format!("{acquired:>middle$}{left:>LEFT$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cohorts_share_rows_and_keep_their_sums() {
        let cohort = |number: u32| FindingCohort {
            from_s: f64::from(number),
            to_s: f64::from(number) + 0.9,
            acquired: 1_000,
            outstanding: u64::from(number),
        };
        let all: Vec<_> = (0..17).map(cohort).collect();
        let rows = rows(&all);
        assert_eq!(rows.len(), 1 + 6, "three cohorts a row, the last one two");
        let text = |row: &Row| row.text();
        assert!(text(&rows[1]).starts_with(" 00:00:00 to 00:00:02"), "{}", text(&rows[1]));
        assert!(text(&rows[1]).ends_with("       3,000           3"), "{}", text(&rows[1]));
        assert!(text(&rows[6]).ends_with("       2,000          31"), "{}", text(&rows[6]));
        assert!(rows.iter().all(|row| row.width() <= BESIDE));
        assert!(super::rows(&[]).is_empty());
    }
}
